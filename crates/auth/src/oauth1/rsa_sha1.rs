//! RSASSA-PKCS1-v1_5 with SHA-1 (RFC 8017 §8.2.1), for OAuth 1 alone: our cryptographic library verifies such
//! signatures but rightly makes none.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use zeroize::Zeroizing;

/// `DigestInfo` of SHA-1 up to the digest (RFC 8017 §9.2, note 1).
const DIGEST_INFO: [u8; 15] = [
    0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14,
];
/// Smallest and largest modulus, in bytes: 1024 to 8192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 128..=1024;

/// The signature of `message` with an RSA private key in PEM (PKCS #8 or PKCS #1); none if it is no such key.
/// The exponentiation takes the same time whatever the key's bits are.
pub(super) fn sign(pem: &str, message: &[u8]) -> Option<Vec<u8>> {
    let der = patchbay_catalog::pem::decode(pem)?.der;
    let key = PrivateKey::read(&der)?;
    let length = key.modulus.len();
    if !MODULUS.contains(&length) {
        return None;
    }
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, message);
    let mut encoded = vec![0xff; length];
    let tail = length - DIGEST_INFO.len() - hash.as_ref().len();
    encoded[..2].copy_from_slice(&[0, 1]);
    encoded[tail - 1] = 0;
    encoded[tail..tail + DIGEST_INFO.len()].copy_from_slice(&DIGEST_INFO);
    encoded[tail + DIGEST_INFO.len()..].copy_from_slice(hash.as_ref());

    let bits = u32::try_from(length * 8).ok()?;
    let number = |bytes: &[u8]| BoxedUint::from_be_slice(bytes, bits).ok();
    let modulus = Odd::new(number(key.modulus)?).into_option()?;
    let params = BoxedMontyParams::new(modulus);
    let exponent = Zeroizing::new(number(key.exponent)?);
    let signature = BoxedMontyForm::new(number(&encoded)?, &params)
        .pow(&exponent)
        .retrieve();
    Some(signature.to_be_bytes().to_vec())
}

/// The two numbers of an `RSAPrivateKey` (RFC 8017 §A.1.2) that a signature needs, without leading zeros.
struct PrivateKey<'a> {
    modulus: &'a [u8],
    exponent: &'a [u8],
}

impl<'a> PrivateKey<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        const INTEGER: u8 = 0x02;
        const OCTETS: u8 = 0x04;
        const SEQUENCE: u8 = 0x30;
        let mut outer = Reader(Reader(der).take(SEQUENCE)?);
        outer.take(INTEGER)?;
        // PKCS #8 goes on with the algorithm, PKCS #1 with the modulus.
        let mut numbers = match outer.0.first()? {
            &SEQUENCE => {
                outer.take(SEQUENCE)?;
                let mut inner = Reader(Reader(outer.take(OCTETS)?).take(SEQUENCE)?);
                inner.take(INTEGER)?;
                inner
            }
            _ => outer,
        };
        let modulus = numbers.take(INTEGER)?;
        numbers.take(INTEGER)?;
        let exponent = numbers.take(INTEGER)?;
        Some(Self {
            modulus: without_zeros(modulus),
            exponent: without_zeros(exponent),
        })
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// DER elements in a row (X.690 §8.1).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(count)?;
            length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        (found == tag).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        KeyPair as _, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RsaKeyPair, UnparsedPublicKey,
    };
    use data_encoding::BASE64;

    use super::*;

    #[test]
    fn what_is_signed_verifies() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pem = BASE64.encode(key.as_der().unwrap().as_ref());
        let signature = sign(&pem, b"base string").unwrap();
        let public = UnparsedPublicKey::new(
            &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            key.public_key().as_ref(),
        );
        assert!(public.verify(b"base string", &signature).is_ok());
        assert!(public.verify(b"other", &signature).is_err());
    }

    #[test]
    fn what_is_no_rsa_key_signs_nothing() {
        for text in ["", "secret", "MAA=", "MIIB", "MAMCAQA="] {
            assert_eq!(sign(text, b"x"), None, "{text}");
        }
    }
}
