//! AWS Signature Version 4 for one `Authorization` header, signing `host`, `x-amz-date` and `content-type`.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::SignableRequest;

/// What AWS leaves alone: the unreserved characters of RFC 3986.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

pub(super) struct Credential<'a> {
    pub(super) access_key: &'a str,
    pub(super) secret: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The value of `Authorization`; the request must carry `x-amz-date` of the same instant.
pub(super) fn authorization(
    credential: &Credential<'_>,
    host: &str,
    request: &SignableRequest<'_>,
    now: Timestamp,
) -> String {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &stamp[..8];
    let scope = format!("{day}/{}/{}/aws4_request", credential.region, credential.service);
    let content_type = request
        .content_type
        .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
    let (content_type_line, signed) = match &content_type {
        Some(value) => (format!("content-type:{value}\n"), "content-type;host;x-amz-date"),
        None => (String::new(), "host;x-amz-date"),
    };
    // Every service but S3 signs the path as sent, encoded once more.
    let path = match credential.service {
        "s3" => request.path.to_owned(),
        _ => utf8_percent_encode(request.path, PATH).to_string(),
    };
    let canonical = format!(
        "{}\n{path}\n{}\n{content_type_line}host:{host}\nx-amz-date:{stamp}\n\n{signed}\n{}",
        request.method,
        canonical_query(request.query),
        sha256_hex(request.body),
    );
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

fn sha256_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

fn mac(key: &[u8], message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes())
}
