//! The functions of the template language.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};

use super::{Scope, sigv4};
use crate::pem;

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
        }
    }

    /// The function of that name; names are case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|function| function.name() == name)
    }

    pub(super) const fn arity(self) -> Arity {
        match self {
            Self::Base64 | Self::Sha256Hex | Self::Sha256Base64 | Self::Fingerprint => Arity::One,
            Self::HmacSha1Hex | Self::Ed25519Sign => Arity::LastComma,
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
            Self::Base64 | Self::Sha256Hex | Self::Sha256Base64 | Self::Fingerprint => "one argument",
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
            sigv4::authorization(&credential, &host, &scope.signable(), scope.now())
        }
        _ => return None,
    })
}
