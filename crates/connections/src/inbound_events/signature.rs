//! Signatures of providers' webhooks.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER_PERMISSIVE;

/// Whether `given` is the HMAC-SHA256 of `body` in hexadecimal, perhaps after `sha256=`. Compared in constant time; a
/// signature of another length is wrong and nothing worse.
pub(super) fn is_hex_hmac(given: &str, secret: &[u8], body: &[u8]) -> bool {
    let hex = given.trim();
    let hex = hex.strip_prefix("sha256=").unwrap_or(hex);
    let Ok(signature) = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()) else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::verify(&key, body, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 §4.3.
    #[test]
    fn the_published_case_and_what_is_not_it() {
        let right = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let (key, body) = (b"Jefe", b"what do ya want for nothing?");
        assert!(is_hex_hmac(right, key, body));
        assert!(is_hex_hmac(
            &format!("sha256={}", right.to_uppercase()),
            key,
            body
        ));
        for wrong in ["", "sha256=", "zz", "5bdc", &right[1..], &format!("{right}00")] {
            assert!(!is_hex_hmac(wrong, key, body), "{wrong}");
        }
        assert!(!is_hex_hmac(right, b"other", body));
    }
}
