//! Private keys as people paste them: PEM with its line breaks lost or written `\n`, or the bare base64.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use data_encoding::BASE64;
use zeroize::Zeroizing;

/// A decoded PEM block. Wiped when dropped.
pub struct Block {
    /// Between `-----BEGIN` and `-----`; empty for bare base64.
    pub label: String,
    /// The bytes.
    pub der: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({:?}, ***)", self.label)
    }
}

/// The first PEM block of `text`, or `text` as bare base64. Literal `\n`, missing and additional white space are
/// accepted.
pub fn decode(text: &str) -> Option<Block> {
    let (label, body) = match text.split_once("-----BEGIN ") {
        Some((_, rest)) => {
            let (label, rest) = rest.split_once("-----")?;
            (label, rest.split_once("-----END")?.0)
        }
        None => ("", text),
    };
    let body = body.replace("\\r", "").replace("\\n", "");
    let body: Zeroizing<Vec<u8>> =
        Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    let der = BASE64.decode(&body).ok().filter(|der| !der.is_empty())?;
    Some(Block {
        label: label.to_owned(),
        der: Zeroizing::new(der),
    })
}

/// An Ed25519 key in PKCS #8.
pub(crate) fn ed25519_private_key(text: &str) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&decode(text)?.der).ok()
}

/// The public half of an RSA, EC or Ed25519 private key as SubjectPublicKeyInfo (RFC 5280 §4.1).
pub(crate) fn public_half(text: &str) -> Option<Vec<u8>> {
    let der = decode(text)?.der;
    if let Ok(key) = rsa::KeyPair::from_pkcs8(&der).or_else(|_| rsa::KeyPair::from_der(&der)) {
        return spki(key.public_key());
    }
    for algorithm in [
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &ECDSA_P384_SHA384_ASN1_SIGNING,
        &ECDSA_P521_SHA512_ASN1_SIGNING,
    ] {
        if let Ok(key) = EcdsaKeyPair::from_private_key_der(algorithm, &der) {
            return spki(key.public_key());
        }
    }
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok()?;
    spki(key.public_key())
}

fn spki<K: AsDer<PublicKeyX509Der<'static>>>(key: &K) -> Option<Vec<u8>> {
    Some(key.as_der().ok()?.as_ref().to_vec())
}
