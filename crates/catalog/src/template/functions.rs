//! The functions of the template language.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use url::Url;

use super::{Scope, SignableRequest};
use crate::{pem, sigv4};

/// A function of the template language (catalog-format §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `base64(x)`: standard alphabet, padded.
    Base64,
    /// `sha256Hex(x)`.
    Sha256Hex,
    /// `sha256Base64(x)`.
    Sha256Base64,
    /// `hmacSha1Hex(message, key)`.
    HmacSha1Hex,
    /// `ed25519Sign(message, privateKeyPem)`: base64.
    Ed25519Sign,
    /// `fingerprint(privateKeyPem)`: `SHA256:` and the base64 digest of the public half's SubjectPublicKeyInfo.
    Fingerprint,
    /// `awsSigV4(accessKey, secret, region, service[, host])`: the whole `Authorization` value.
    AwsSigV4,
    /// `hmacSha256Hex(message, key)`.
    HmacSha256Hex,
    /// `first(text, n)`: its first n characters.
    First,
    /// `after(text, separator)`: what follows the separator's first occurrence; no value without one.
    After,
    /// `lower(text)`: lower case, without white space around it.
    Lower,
    /// `lastSegment(url)`: what follows the last `/` of its path.
    LastSegment,
    /// `hostLabel(url)`: the first label of its host.
    HostLabel,
}

/// How the text between the parentheses becomes arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    One,
    /// Two, apart at the last comma.
    LastComma,
    /// That many at most, apart at each comma.
    Commas(usize),
}

impl Function {
    /// Every function.
    pub const ALL: &'static [Self] = &[
        Self::Base64,
        Self::Sha256Hex,
        Self::Sha256Base64,
        Self::HmacSha1Hex,
        Self::Ed25519Sign,
        Self::Fingerprint,
        Self::AwsSigV4,
        Self::HmacSha256Hex,
        Self::First,
        Self::After,
        Self::Lower,
        Self::LastSegment,
        Self::HostLabel,
    ];

    /// As written in a template.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Sha256Hex => "sha256Hex",
            Self::Sha256Base64 => "sha256Base64",
            Self::HmacSha1Hex => "hmacSha1Hex",
            Self::Ed25519Sign => "ed25519Sign",
            Self::Fingerprint => "fingerprint",
            Self::AwsSigV4 => "awsSigV4",
            Self::HmacSha256Hex => "hmacSha256Hex",
            Self::First => "first",
            Self::After => "after",
            Self::Lower => "lower",
            Self::LastSegment => "lastSegment",
            Self::HostLabel => "hostLabel",
        }
    }

    /// The function of that name; names are case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|function| function.name() == name)
    }

    pub(super) const fn arity(self) -> Arity {
        match self {
            Self::Base64
            | Self::Sha256Hex
            | Self::Sha256Base64
            | Self::Fingerprint
            | Self::Lower
            | Self::LastSegment
            | Self::HostLabel => Arity::One,
            Self::HmacSha1Hex | Self::HmacSha256Hex | Self::Ed25519Sign | Self::First | Self::After => {
                Arity::LastComma
            }
            Self::AwsSigV4 => Arity::Commas(5),
        }
    }

    pub(super) const fn accepts(self, count: usize) -> bool {
        match self.arity() {
            Arity::One => count == 1,
            Arity::LastComma => count == 2,
            Arity::Commas(most) => count >= 4 && count <= most,
        }
    }

    pub(super) const fn usage(self) -> &'static str {
        match self {
            Self::HmacSha1Hex => "a message and a key: `hmacSha1Hex(message, key)`",
            Self::Ed25519Sign => "a message and a private key: `ed25519Sign(message, key)`",
            Self::AwsSigV4 => "`awsSigV4(accessKey, secret, region, service[, host])`",
            Self::HmacSha256Hex => "a message and a key: `hmacSha256Hex(message, key)`",
            Self::First => "a text and a number of characters: `first(text, 20)`",
            Self::After => "a text and what to look for: `after(text, separator)`",
            Self::Base64
            | Self::Sha256Hex
            | Self::Sha256Base64
            | Self::Fingerprint
            | Self::Lower
            | Self::LastSegment
            | Self::HostLabel => "one argument",
        }
    }
}

/// The value; none if an argument is unusable (a key that is no key, an empty credential).
pub(super) fn call(function: Function, arguments: &[String], scope: &Scope<'_>) -> Option<String> {
    Some(match (function, arguments) {
        (Function::Base64, [text]) => BASE64.encode(text.as_bytes()),
        (Function::Sha256Hex, [text]) => HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref()),
        (Function::Sha256Base64, [text]) => BASE64.encode(digest(&SHA256, text.as_bytes()).as_ref()),
        (Function::HmacSha1Hex, [message, key]) => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
            HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref())
        }
        (Function::HmacSha256Hex, [message, key]) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            HEXLOWER.encode(hmac::sign(&key, message.as_bytes()).as_ref())
        }
        (Function::First, [text, count]) => text.chars().take(count.trim().parse().ok()?).collect(),
        (Function::After, [text, separator]) => {
            let (_, rest) = text.split_once(separator.trim())?;
            (!rest.is_empty()).then(|| rest.to_owned())?
        }
        (Function::Lower, [text]) => text.trim().to_lowercase(),
        (Function::LastSegment, [text]) => {
            let path = text.split(['?', '#']).next().unwrap_or_default();
            let segment = path.trim_end_matches('/').rsplit('/').next()?;
            (!segment.is_empty()).then(|| segment.to_owned())?
        }
        (Function::HostLabel, [text]) => {
            let host = Url::parse(text.trim()).ok()?;
            host.host_str()?.split('.').next()?.to_owned()
        }
        (Function::Ed25519Sign, [message, key]) => {
            BASE64.encode(pem::ed25519_private_key(key)?.sign(message.as_bytes()).as_ref())
        }
        (Function::Fingerprint, [key]) => {
            let public = pem::public_half(key)?;
            format!("SHA256:{}", BASE64.encode(digest(&SHA256, &public).as_ref()))
        }
        (Function::AwsSigV4, [access_key, secret, region, service, host @ ..]) => {
            if arguments.iter().any(String::is_empty) {
                return None;
            }
            let host = host
                .first()
                .map_or_else(|| format!("{service}.amazonaws.com"), Clone::clone);
            let credential = sigv4::Credential {
                access_key,
                secret,
                region,
                service,
            };
            aws_authorization(&credential, &host, &scope.signable(), scope.now())
        }
        _ => return None,
    })
}

/// Signs `host`, `x-amz-date` and `content-type`.
fn aws_authorization(
    credential: &sigv4::Credential<'_>,
    host: &str,
    request: &SignableRequest<'_>,
    now: Timestamp,
) -> String {
    let stamp = sigv4::stamp(now);
    let mut headers = vec![("host", host), ("x-amz-date", stamp.as_str())];
    headers.extend(request.content_type.map(|value| ("content-type", value)));
    let request = sigv4::Request {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: &headers,
        payload_hash: &sigv4::sha256_hex(request.body),
    };
    sigv4::authorization(credential, &request, now)
}
