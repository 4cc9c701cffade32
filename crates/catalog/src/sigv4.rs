//! AWS Signature Version 4: canonical request, string to sign, signature. Who sends what is the callers' business.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What AWS leaves alone: the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Whose signature, and for what.
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    /// Access key id.
    pub access_key: &'a str,
    /// Secret access key.
    pub secret: &'a str,
    /// Region, such as `eu-west-1`.
    pub region: &'a str,
    /// Service, such as `s3`.
    pub service: &'a str,
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Upper-case method.
    pub method: &'a str,
    /// Path as sent, `/` at least.
    pub path: &'a str,
    /// Query as sent, without `?`.
    pub query: &'a str,
    /// Names in lower case, each once, in any order. `host` and `x-amz-date` are among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// [`sha256_hex`] of the body as sent.
    pub payload_hash: &'a str,
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("access_key", &self.access_key)
            .field("region", &self.region)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// `x-amz-date` of an instant.
pub fn stamp(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Lower-case hexadecimal SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

/// The value of `Authorization`; the request must carry [`stamp`] of the same instant as `x-amz-date`.
pub fn authorization(credential: &Credential<'_>, request: &Request<'_>, now: Timestamp) -> String {
    let stamp = stamp(now);
    let day = &stamp[..8];
    let scope = format!("{day}/{}/{}/aws4_request", credential.region, credential.service);
    let (canonical, signed) = canonical_request(credential.service, request);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
        sha256_hex(canonical.as_bytes())
    );
    let mut key = mac(format!("AWS4{}", credential.secret).as_bytes(), day);
    for step in [credential.region, credential.service, "aws4_request"] {
        key = mac(key.as_ref(), step);
    }
    let signature = HEXLOWER.encode(mac(key.as_ref(), &to_sign).as_ref());
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
        credential.access_key
    )
}

/// The canonical request and the names of the headers in it.
fn canonical_request(service: &str, request: &Request<'_>) -> (String, String) {
    let mut headers: Vec<(&str, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (*name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    headers.sort_unstable();
    let signed: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let signed = signed.join(";");
    let mut lines = String::new();
    for (name, value) in &headers {
        lines.extend([*name, ":", value, "\n"]);
    }
    // Every service but S3 signs the path as sent, made simple and encoded once more.
    let path = match service {
        "s3" => request.path.to_owned(),
        _ => utf8_percent_encode(&simple(request.path), PATH).to_string(),
    };
    let canonical = format!(
        "{}\n{path}\n{}\n{lines}\n{signed}\n{}",
        request.method,
        canonical_query(request.query),
        request.payload_hash,
    );
    (canonical, signed)
}

/// The path without empty, `.` and `..` segments (RFC 3986 §5.2.4, and repeated slashes are one).
fn simple(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let is_folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    match segments.as_slice() {
        [] => "/".to_owned(),
        segments => format!("/{}{}", segments.join("/"), if is_folder { "/" } else { "" }),
    }
}

fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (recoded(name), recoded(value))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn recoded(text: &str) -> String {
    let bytes: Vec<u8> = percent_decode_str(&text.replace('+', " ")).collect();
    percent_encoding::percent_encode(&bytes, UNRESERVED).to_string()
}

fn mac(key: &[u8], message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's Signature Version 4 test suite, by the names of its cases.
    #[test]
    fn the_suite_of_aws() {
        let date = ("x-amz-date", "20150830T123600Z");
        let host = ("host", "example.amazonaws.com");
        let form = "application/x-www-form-urlencoded";
        let check = |case: &str,
                     method: &str,
                     target: &str,
                     more: &[(&str, &str)],
                     body: &str,
                     expect: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut headers = vec![date, host];
            headers.extend(more);
            let credential = Credential {
                access_key: "AKIDEXAMPLE",
                secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
                region: "us-east-1",
                service: "service",
            };
            let request = Request {
                method,
                path,
                query,
                headers: &headers,
                payload_hash: &sha256_hex(body.as_bytes()),
            };
            let now = "2015-08-30T12:36:00Z".parse().unwrap();
            let made = authorization(&credential, &request, now);
            let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            let expect = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={}, \
                 Signature={expect}",
                names.join(";")
            );
            assert_eq!(made, expect, "{case}");
        };
        let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        check("get-vanilla", "GET", "/", &[], "", vanilla);
        check("get-vanilla-query", "GET", "/?", &[], "", vanilla);
        for (case, path) in [
            ("get-slash", "//"),
            ("get-relative", "/example/.."),
            ("get-relative-relative", "/example1/example2/../.."),
            ("get-slash-dot-slash", "/./"),
        ] {
            check(case, "GET", path, &[], "", vanilla);
        }
        for (case, target, expect) in [
            (
                "get-vanilla-query-order-key-case",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-vanilla-empty-query-key",
                "/?Param1=value1",
                "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            ),
            (
                "get-vanilla-utf8-query",
                "/?\u{1234}=bar",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "get-slashes",
                "//example//",
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            ),
            (
                "get-space",
                "/example space/",
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            ),
            (
                "get-unreserved",
                "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            (
                "get-utf8",
                "/\u{1234}",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
        ] {
            check(case, "GET", target, &[], "", expect);
        }
        check(
            "get-header-value-trim",
            "GET",
            "/",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        );
        check(
            "post-vanilla",
            "POST",
            "/",
            &[],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        );
        let session = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTfl\
                       fKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvl\
                       Rd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx\
                       3iSIlTJabIQwj2ICCR/oLxBA==";
        check(
            "post-sts-header-before",
            "POST",
            "/",
            &[("x-amz-security-token", session)],
            "",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        );
        check(
            "post-header-key-sort",
            "POST",
            "/",
            &[("my-header1", "value1")],
            "",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        );
        check(
            "post-x-www-form-urlencoded",
            "POST",
            "/",
            &[("content-type", form)],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
        check(
            "post-x-www-form-urlencoded-parameters",
            "POST",
            "/",
            &[("content-type", &format!("{form}; charset=utf8"))],
            "Param1=value1",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        );
    }

    /// S3's documented example, whose path is encoded once: GET Object.
    #[test]
    fn the_documented_request_of_s3() {
        let empty = sha256_hex(b"");
        let request = Request {
            method: "GET",
            path: "/test.txt",
            query: "",
            headers: &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", &empty),
                ("x-amz-date", "20130524T000000Z"),
            ],
            payload_hash: &empty,
        };
        let credential = Credential {
            access_key: "AKIAIOSFODNN7EXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
            service: "s3",
        };
        let made = authorization(&credential, &request, "2013-05-24T00:00:00Z".parse().unwrap());
        assert!(
            made.ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            "{made}"
        );
    }
}
