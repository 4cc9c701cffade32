//! Proof Key for Code Exchange (RFC 7636), method S256.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use patchbay_ambient::Entropy;
use patchbay_types::Secret;

/// A fresh `code_verifier`: 24 random bytes in hex, 48 characters (RFC 7636 §4.1 wants 43 to 128).
pub fn new_verifier(entropy: &dyn Entropy) -> Secret {
    let mut bytes = [0; 24];
    entropy.fill(&mut bytes);
    Secret::new(HEXLOWER.encode(&bytes))
}

/// `code_challenge`: base64url of the verifier's SHA-256, without padding.
pub fn challenge(verifier: &Secret) -> String {
    BASE64URL_NOPAD.encode(digest(&SHA256, verifier.expose().as_bytes()).as_ref())
}

/// A fresh `state`: 256 random bits, base64url without padding.
pub fn new_state(entropy: &dyn Entropy) -> patchbay_types::AuthAttemptId {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    patchbay_types::AuthAttemptId(BASE64URL_NOPAD.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::SeededEntropy;

    use super::*;

    #[test]
    fn rfc_7636_appendix_b() {
        assert_eq!(
            challenge(&"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into()),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn verifiers_and_states_are_random_and_url_safe() {
        let entropy = SeededEntropy::new(1);
        let (one, two) = (new_verifier(&entropy), new_verifier(&entropy));
        assert_ne!(one, two);
        assert_eq!(one.expose().len(), 48);
        let state = new_state(&entropy).0;
        assert_eq!(state.len(), 43);
        assert!(
            state
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }
}
