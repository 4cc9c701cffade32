//! Signatures of outbound webhooks (webhooks §B4, Standard Webhooks 1.0).

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use patchbay_types::Secret;

/// The signature headers of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures {
    /// `X-Nango-Signature`: hex SHA-256 of the key followed by the body.
    pub legacy: String,
    /// `X-Nango-Hmac-Sha256`: hex HMAC-SHA256 of the body.
    pub hmac: String,
    /// `webhook-signature`: `v1,` and base64 HMAC-SHA256 of `id.timestamp.body`, once for each key, separated by
    /// spaces.
    pub standard: String,
}

/// Signs `body`. `timestamp` is in Unix seconds and goes into the `webhook-timestamp` header.
///
/// Of several keys (a rotation's grace period) the first signs everything; the others sign only
/// `webhook-signature`, the one header that can hold several signatures.
///
/// All three use the bytes of the key's text; a Standard Webhooks library wants them as `whsec_` plus their base64.
pub fn sign<'k>(
    keys: impl IntoIterator<Item = &'k Secret>,
    id: &str,
    timestamp: i64,
    body: &str,
) -> Signatures {
    let mut signatures = Signatures::default();
    for (index, key) in keys.into_iter().enumerate() {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
        if index == 0 {
            let mut legacy = Context::new(&SHA256);
            legacy.update(key.expose().as_bytes());
            legacy.update(body.as_bytes());
            signatures.legacy = HEXLOWER.encode(legacy.finish().as_ref());
            signatures.hmac = HEXLOWER.encode(hmac::sign(&mac, body.as_bytes()).as_ref());
        } else {
            signatures.standard.push(' ');
        }
        let mut standard = hmac::Context::with_key(&mac);
        standard.update(format!("{id}.{timestamp}.").as_bytes());
        standard.update(body.as_bytes());
        signatures.standard.push_str("v1,");
        BASE64.encode_append(standard.sign().as_ref(), &mut signatures.standard);
    }
    signatures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_s_vectors() {
        let auth = r#"{"authMode":"OAUTH2","connectionId":"conn-1","environment":"dev","from":"nango","operation":"creation","provider":"github","providerConfigKey":"github-dev","success":true,"tags":{"end_user_id":"u1"},"type":"auth"}"#;
        for (key, body, legacy, hmac) in [
            (
                "secret",
                "payload",
                "22439a879b090cd05e5b51c5b5d7e4a205830e6ab4f54b90f5a822b7c7110934",
                "b82fcb791acec57859b989b430a826488ce2e479fdf92326bd0a2e8375a42ba4",
            ),
            (
                "test-signing-key",
                auth,
                "11622983de6f854c8d1a31cb1c8ce5088feec05fff3f2da2324e1a5267a7c956",
                "e6a040f6a14c0f84723c4f999e7a6040e8aa4b00f2a0ca85f4e41692d566e815",
            ),
        ] {
            let signed = sign([&Secret::from(key)], "id", 0, body);
            assert_eq!(signed.legacy, legacy);
            assert_eq!(signed.hmac, hmac);
        }
    }

    #[test]
    fn standard_webhooks_sign_id_and_time_too() {
        let key = Secret::from("k");
        let one = sign([&key], "msg_1", 1_700_000_000, "{}");
        assert!(one.standard.starts_with("v1,"));
        assert_ne!(one.standard, sign([&key], "msg_2", 1_700_000_000, "{}").standard);
        assert_ne!(one.standard, sign([&key], "msg_1", 1_700_000_001, "{}").standard);
    }

    #[test]
    fn of_two_keys_the_first_signs_all_and_the_second_where_there_is_room() {
        let (new, old) = (Secret::from("new"), Secret::from("old"));
        let alone = |key| sign([key], "msg_1", 1_700_000_000, "{}");
        let both = sign([&new, &old], "msg_1", 1_700_000_000, "{}");
        assert_eq!((both.legacy, both.hmac), (alone(&new).legacy, alone(&new).hmac));
        let separate = [alone(&new).standard, alone(&old).standard];
        assert_eq!(both.standard, separate.join(" "));
    }
}
