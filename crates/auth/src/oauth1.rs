//! Signing requests with OAuth 1.0 (RFC 5849), and NetSuite's token-based variant of it. How an end user's token is
//! obtained is in [`handshake`].

pub mod handshake;
mod rsa_sha1;

use std::borrow::Cow;

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use http::Method;
use jiff::Timestamp;
use patchbay_ambient::Entropy;
use patchbay_catalog::definition::SignatureMethod as Declared;
use url::{Position, Url};

use crate::encode::component;

/// RFC 5849 §3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureMethod {
    /// RFC 5849 §3.4.2.
    HmacSha1,
    /// NetSuite's.
    HmacSha256,
    /// RFC 5849 §3.4.3: the consumer secret is the private key in PEM.
    RsaSha1,
    /// RFC 5849 §3.4.4: the key itself.
    Plaintext,
}

impl SignatureMethod {
    /// Its name in `oauth_signature_method`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "HMAC-SHA1",
            Self::HmacSha256 => "HMAC-SHA256",
            Self::RsaSha1 => "RSA-SHA1",
            Self::Plaintext => "PLAINTEXT",
        }
    }
}

impl From<Declared> for SignatureMethod {
    fn from(declared: Declared) -> Self {
        match declared {
            Declared::HmacSha1 => Self::HmacSha1,
            Declared::RsaSha1 => Self::RsaSha1,
            Declared::Plaintext => Self::Plaintext,
        }
    }
}

/// RSA-SHA1 with a consumer secret that is no RSA private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RSA-SHA1 needs an RSA private key in PEM as the client secret")]
pub struct NotAKey;

/// Who signs.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// Client identifier.
    pub consumer_key: &'a str,
    /// Client secret.
    pub consumer_secret: &'a str,
    /// Token, none before there is one.
    pub token: Option<&'a str>,
    /// Token secret, empty before there is one.
    pub token_secret: &'a str,
    /// How.
    pub method: SignatureMethod,
    /// `realm`, not part of the signature.
    pub realm: Option<&'a str>,
}

impl std::fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("consumer_key", &self.consumer_key)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// What makes each request different.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Never used twice with the same timestamp.
    pub nonce: String,
    /// Seconds since the epoch.
    pub timestamp: i64,
}

impl Stamp {
    /// 32 random alphanumerics at `now`.
    pub fn new(entropy: &dyn Entropy, now: Timestamp) -> Self {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut nonce = String::with_capacity(32);
        let mut bytes = [0_u8; 64];
        while nonce.len() < 32 {
            entropy.fill(&mut bytes);
            // 248 is the largest multiple of 62 in a byte: what lies above would favour the first letters.
            nonce.extend(
                bytes
                    .iter()
                    .filter(|b| **b < 248)
                    .map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()]))
                    .take(32 - nonce.len()),
            );
        }
        Self {
            nonce,
            timestamp: now.as_second(),
        }
    }
}

/// The `Authorization` header of a request. The URL's query is signed; `extra` are further signed parameters
/// (`oauth_callback`, `oauth_verifier`, form fields), of which those called `oauth_…` also go into the header.
pub fn authorization(
    signer: &Signer<'_>,
    method: &Method,
    url: &Url,
    extra: &[(&str, &str)],
    stamp: &Stamp,
) -> Result<String, NotAKey> {
    let timestamp = stamp.timestamp.to_string();
    let mut oauth = vec![
        ("oauth_consumer_key", signer.consumer_key),
        ("oauth_nonce", stamp.nonce.as_str()),
        ("oauth_signature_method", signer.method.as_str()),
        ("oauth_timestamp", timestamp.as_str()),
        ("oauth_version", "1.0"),
    ];
    oauth.extend(signer.token.map(|token| ("oauth_token", token)));
    oauth.extend(extra.iter().filter(|(name, _)| name.starts_with("oauth_")));

    let others = extra.iter().filter(|(name, _)| !name.starts_with("oauth_"));
    let params = oauth
        .iter()
        .chain(others)
        .map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)))
        .chain(url.query_pairs());
    let signature = sign(signer, &base_string(method, url, params))?;

    oauth.push(("oauth_signature", &signature));
    oauth.sort_unstable_by_key(|(name, _)| *name);
    let mut header = String::from("OAuth ");
    let realm = signer.realm.map(|realm| ("realm", realm));
    for (index, (name, value)) in realm.iter().chain(&oauth).enumerate() {
        if index > 0 {
            header.push_str(", ");
        }
        header.push_str(name);
        header.push_str("=\"");
        header.push_str(&component(value));
        header.push('"');
    }
    Ok(header)
}

/// RFC 5849 §3.4.1.
fn base_string<'a>(
    method: &Method,
    url: &Url,
    params: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
) -> String {
    let mut encoded: Vec<(String, String)> = params
        .map(|(name, value)| (component(&name).into_owned(), component(&value).into_owned()))
        .collect();
    encoded.sort_unstable();
    let normalized = encoded
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&");
    // `Url` has already lower-cased scheme and host and dropped the default port.
    let host = format!(
        "{}://{}",
        url.scheme(),
        &url[Position::BeforeHost..Position::BeforePath]
    );
    let uri = format!("{host}{}", url.path());
    format!(
        "{}&{}&{}",
        method.as_str().to_ascii_uppercase(),
        component(&uri),
        component(&normalized)
    )
}

fn sign(signer: &Signer<'_>, base: &str) -> Result<String, NotAKey> {
    let key = || {
        let (consumer, token) = (component(signer.consumer_secret), component(signer.token_secret));
        format!("{consumer}&{token}")
    };
    let algorithm = match signer.method {
        SignatureMethod::Plaintext => return Ok(key()),
        SignatureMethod::RsaSha1 => {
            let signature = rsa_sha1::sign(signer.consumer_secret, base.as_bytes()).ok_or(NotAKey)?;
            return Ok(BASE64.encode(&signature));
        }
        SignatureMethod::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        SignatureMethod::HmacSha256 => hmac::HMAC_SHA256,
    };
    let key = hmac::Key::new(algorithm, key().as_bytes());
    Ok(BASE64.encode(hmac::sign(&key, base.as_bytes()).as_ref()))
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::SeededEntropy;

    use super::*;

    fn pairs<'a>(list: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        list.iter().map(|(n, v)| (Cow::Borrowed(*n), Cow::Borrowed(*v)))
    }

    #[test]
    fn rfc_5849_section_3_4_1_1() {
        let url = Url::parse("http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b").unwrap();
        let rest = [
            ("oauth_consumer_key", "9djdj82h48djs9d2"),
            ("oauth_token", "kkk9d7dh3k39sjv7"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131201"),
            ("oauth_nonce", "7d8f3e4a"),
            ("c2", ""),
            ("a3", "2 q"),
        ];
        assert_eq!(
            base_string(&Method::POST, &url, pairs(&rest).chain(url.query_pairs())),
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540\
             %3D%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method\
             %3DHMAC-SHA1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
        );
    }

    #[test]
    fn oauth_core_1_0_appendix_a() {
        let signer = Signer {
            consumer_key: "dpf43f3p2l4k3l03",
            consumer_secret: "kd94hf93k423kf44",
            token: Some("nnch734d00sl2jdk"),
            token_secret: "pfkkdhi9sl3r4s00",
            method: SignatureMethod::HmacSha1,
            realm: None,
        };
        let url = Url::parse("http://photos.example.net/photos?file=vacation.jpg&size=original").unwrap();
        let stamp = Stamp {
            nonce: "kllo9940pd9333jh".to_owned(),
            timestamp: 1_191_242_096,
        };
        let header = authorization(&signer, &Method::GET, &url, &[], &stamp).unwrap();
        assert!(
            header.contains(r#"oauth_signature="tR3%2BTy81lMeYAr%2FFid0kMTYa%2FWM%3D""#),
            "{header}"
        );
    }

    #[test]
    fn the_contracts_vector() {
        let mut signer = Signer {
            consumer_key: "ck",
            consumer_secret: "cs",
            token: Some("tk"),
            token_secret: "ts",
            method: SignatureMethod::HmacSha1,
            realm: None,
        };
        let url = Url::parse("https://api.x.com/a?b=2&a=1").unwrap();
        let stamp = Stamp {
            nonce: "nonce32".to_owned(),
            timestamp: 1_700_000_000,
        };
        assert_eq!(
            authorization(&signer, &Method::POST, &url, &[], &stamp).unwrap(),
            "OAuth oauth_consumer_key=\"ck\", oauth_nonce=\"nonce32\", oauth_signature=\"xdnqFrG6Ac2gqAmcFazfeuWq3k0%3D\", \
             oauth_signature_method=\"HMAC-SHA1\", oauth_timestamp=\"1700000000\", oauth_token=\"tk\", oauth_version=\"1.0\""
        );
        signer.method = SignatureMethod::Plaintext;
        signer.realm = Some("1234567_SB1");
        let header = authorization(
            &signer,
            &Method::POST,
            &url,
            &[("oauth_callback", "oob"), ("x", "y")],
            &stamp,
        )
        .unwrap();
        assert!(
            header.starts_with("OAuth realm=\"1234567_SB1\", oauth_callback=\"oob\", "),
            "{header}"
        );
        assert!(
            header.contains("oauth_signature=\"cs%26ts\"") && !header.contains("x=\"y\""),
            "{header}"
        );
    }

    /// The RSA-SHA1 case of the OAuth community's published test cases: the photos request of OAuth Core 1.0,
    /// appendix A, signed with a key that was published with it.
    #[test]
    fn the_published_rsa_sha1_case() {
        const KEY: &str = "MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBALRiMLAh9iimur8VA7qVvdqxevEuUkW4K+2KdMXmnQbG9Aa7k7eBjK1S+0LYmVjPKlJGNXHDGuy5Fw/d7rjVJ0BLB+ubPK8iA/Tw3hLQgXMRRGRXXCn8ikfuQfjUS1uZSatdLB81mydBETlJhI6GH4twrbDJCR2Bwy/XWXgqgGRzAgMBAAECgYBYWVtleUzavkbrPjy0T5FMou8HX9u2AC2ry8vD/l7cqedtwMPp9k7TubgNFo+NGvKsl2ynyprOZR1xjQ7WgrgVB+mmuScOM/5HVceFuGRDhYTCObE+y1kxRloNYXnx3ei1zbeYLPCHdhxRYW7T0qcynNmwrn05/KO2RLjgQNalsQJBANeA3Q4Nugqy4QBUCEC09SqylT2K9FrrItqL2QKc9v0ZzO2uwllCbg0dwpVuYPYXYvikNHHg+aCWF+VXsb9rpPsCQQDWR9TT4ORdzoj+NccnqkMsDmzt0EfNaAOwHOmVJ2RVBspPcxt5iN4HI7HNeG6U5YsFBb+/GZbgfBT3kpNGWPTpAkBI+gFhjfJvRw38n3g/+UeAkwMI2TJQS4n8+hid0uus3/zOjDySH3XHCUnocn1xOJAyZODBo47E+67R4jV1/gzbAkEAklJaspRPXP877NssM5nAZMU0/O/NGCZ+3jPgDUno6WbJn5cqm8MqWhW1xGkImgRk+fkDBquiq4gPiT898jusgQJAd5Zrr6Q8AO/0isr/3aa6O6NLQxISLKcPDk2NOccAfS/xOtfOz4sJYM3+Bs4Io9+dZGSDCA54Lw03eHTNQghS0A==";
        let mut signer = Signer {
            consumer_key: "dpf43f3p2l4k3l03",
            consumer_secret: KEY,
            token: None,
            token_secret: "",
            method: SignatureMethod::RsaSha1,
            realm: None,
        };
        let url = Url::parse("http://photos.example.net/photos").unwrap();
        let stamp = Stamp {
            nonce: "13917289812797014437".to_owned(),
            timestamp: 1_196_666_512,
        };
        let extra = [("file", "vacaction.jpg"), ("size", "original")];
        let header = authorization(&signer, &Method::GET, &url, &extra, &stamp).unwrap();
        let expected = "jvTp/wX1TYtByB1m+Pbyo0lnCOLIsyGCH7wke8AUs3BpnwZJtAuEJkvQL2/9n4s5wUmUl4aCI4BwpraNx4RtEXMe5qg5T1LVTGliMRpKasKsW//e+RinhejgCuzoH26dyF8iY2ZZ/5D1ilgeijhV/vBka5twt399mXwaYdCwFYE=";
        let sent = format!("oauth_signature=\"{}\"", component(expected));
        assert!(header.contains(&sent), "{header}");
        signer.consumer_secret = "not a key";
        assert_eq!(
            authorization(&signer, &Method::GET, &url, &extra, &stamp),
            Err(NotAKey)
        );
    }

    #[test]
    fn nonces_are_alphanumeric() {
        let stamp = Stamp::new(&SeededEntropy::new(3), Timestamp::UNIX_EPOCH);
        assert_eq!(stamp.nonce.len(), 32);
        assert!(stamp.nonce.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}
