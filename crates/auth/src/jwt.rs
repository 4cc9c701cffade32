//! Signing JSON Web Tokens (RFC 7515, RFC 7518) with keys as people paste them.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use data_encoding::BASE64URL_NOPAD;
use patchbay_types::{JsonMap, Secret, Timestamp};
use serde::Deserialize;
use serde_json::Value;

/// A key that signs tokens.
pub enum SigningKey {
    /// RS256 or PS256, as the header says.
    Rsa(Box<RsaKeyPair>),
    /// ES256.
    Ec(Box<EcdsaKeyPair>),
    /// HS256.
    Hmac(Box<hmac::Key>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "SigningKey::Rsa(***)",
            Self::Ec(_) => "SigningKey::Ec(***)",
            Self::Hmac(_) => "SigningKey::Hmac(***)",
        })
    }
}

/// Why a token could not be signed. Never repeats the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Neither PEM nor what it stands for.
    #[error("the private key is not a readable PEM key")]
    Pem,
    /// Not an RSA private JWK with its primes (RFC 7518 §6.3).
    #[error("the private key is not a complete RSA key in JWK form")]
    Jwk,
    /// `alg` does not go with the key.
    #[error("the signature algorithm does not fit the key")]
    Algorithm,
}

impl SigningKey {
    /// An RSA or P-256 key in PEM: PKCS #8, PKCS #1 or SEC 1. Missing line breaks, literal `\n` and missing armour
    /// are accepted, because that is how keys arrive through forms.
    pub fn from_pem(pem: &Secret) -> Result<Self, JwtError> {
        let der = patchbay_catalog::pem::decode(pem.expose())
            .ok_or(JwtError::Pem)?
            .der;
        if let Ok(key) = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der)) {
            return Ok(Self::Rsa(Box::new(key)));
        }
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_pkcs8(algorithm, &der)
            .or_else(|_| EcdsaKeyPair::from_private_key_der(algorithm, &der))
            .map(|key| Self::Ec(Box::new(key)))
            .map_err(|_| JwtError::Pem)
    }

    /// An HMAC key from its bytes.
    pub fn hmac(secret: &[u8]) -> Self {
        Self::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Result<Vec<u8>, JwtError> {
        let random = SystemRandom::new();
        match (self, algorithm) {
            (Self::Rsa(key), "RS256" | "PS256") => {
                let padding = if algorithm == "RS256" {
                    &RSA_PKCS1_SHA256
                } else {
                    &RSA_PSS_SHA256
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut signature)
                    .map_err(|_| JwtError::Algorithm)?;
                Ok(signature)
            }
            (Self::Ec(key), "ES256") => key
                .sign(&random, message)
                .map(|s| s.as_ref().to_vec())
                .map_err(|_| JwtError::Algorithm),
            (Self::Hmac(key), "HS256") => Ok(hmac::sign(key, message).as_ref().to_vec()),
            _ => Err(JwtError::Algorithm),
        }
    }
}

/// An RSA private key in JWK form (RFC 7518 §6.3) with its `kid`.
#[derive(Debug)]
pub struct PrivateJwk {
    /// Names the key to the provider.
    pub key_id: String,
    /// The key.
    pub key: SigningKey,
}

impl PrivateJwk {
    /// Reads a JWK. All CRT members and `kid` are required.
    pub fn parse(text: &Secret) -> Result<Self, JwtError> {
        #[derive(Deserialize)]
        struct Members<'a> {
            kty: &'a str,
            kid: String,
            n: &'a str,
            e: &'a str,
            d: &'a str,
            p: &'a str,
            q: &'a str,
            dp: &'a str,
            dq: &'a str,
            qi: &'a str,
        }
        let members: Members<'_> = serde_json::from_str(text.expose()).map_err(|_| JwtError::Jwk)?;
        if members.kty != "RSA" {
            return Err(JwtError::Jwk);
        }
        let number = |text: &str| {
            let bytes = BASE64URL_NOPAD
                .decode(text.trim_end_matches('=').as_bytes())
                .map_err(|_| JwtError::Jwk)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Ok::<_, JwtError>(bytes[zeros..].to_vec())
        };
        let components = KeyPairComponents {
            public_key: PublicKeyComponents {
                n: number(members.n)?,
                e: number(members.e)?,
            },
            d: number(members.d)?,
            p: number(members.p)?,
            q: number(members.q)?,
            dP: number(members.dp)?,
            dQ: number(members.dq)?,
            qInv: number(members.qi)?,
        };
        let key = RsaKeyPair::from_components(&components).map_err(|_| JwtError::Jwk)?;
        Ok(Self {
            key_id: members.kid,
            key: SigningKey::Rsa(Box::new(key)),
        })
    }
}

/// The compact serialization of `header` and `claims`. `header.alg` chooses the algorithm.
pub fn sign(header: &JsonMap, claims: &JsonMap, key: &SigningKey) -> Result<Secret, JwtError> {
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .ok_or(JwtError::Algorithm)?;
    let part =
        |object: &JsonMap| BASE64URL_NOPAD.encode(Value::Object(object.clone()).to_string().as_bytes());
    let mut token = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(algorithm, token.as_bytes())?;
    token.push('.');
    BASE64URL_NOPAD.encode_append(&signature, &mut token);
    Ok(Secret::new(token))
}

/// When a token ends by its own word (`exp`, RFC 7519 §4.1.4), unverified; none if it is no JWT or does not say.
pub fn expiry_of(token: &str) -> Option<Timestamp> {
    let payload = token.split('.').nth(1)?;
    let payload = BASE64URL_NOPAD
        .decode(payload.trim_end_matches('=').as_bytes())
        .ok()?;
    let claims: JsonMap = serde_json::from_slice(&payload).ok()?;
    Timestamp::from_second(claims.get("exp")?.as_i64()?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::json;

    use super::*;

    /// A fresh key as a JWK, and the key itself to verify with.
    pub(crate) fn fresh_jwk() -> (Secret, RsaKeyPair) {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8 = key.as_der().unwrap();
        // PKCS #8 wraps PKCS #1: version, then nine integers n e d p q dP dQ qInv.
        let pkcs1 = {
            let mut outer = Der(pkcs8.as_ref()).enter();
            outer.skip();
            outer.skip();
            outer.value().to_vec()
        };
        let mut numbers = Der(&pkcs1).enter();
        numbers.skip();
        let mut member = || BASE64URL_NOPAD.encode(numbers.value());
        let jwk = json!({"kty": "RSA", "kid": "key-1", "n": member(), "e": member(), "d": member(), "p": member(),
            "q": member(), "dp": member(), "dq": member(), "qi": member()});
        (Secret::new(jwk.to_string()), key)
    }

    struct Der<'a>(&'a [u8]);

    impl<'a> Der<'a> {
        fn value(&mut self) -> &'a [u8] {
            let (length, header) = match self.0[1] {
                short @ 0..0x80 => (usize::from(short), 2),
                long => {
                    let n = usize::from(long & 0x7f);
                    (
                        self.0[2..2 + n]
                            .iter()
                            .fold(0, |sum, b| sum << 8 | usize::from(*b)),
                        2 + n,
                    )
                }
            };
            let value = &self.0[header..header + length];
            self.0 = &self.0[header + length..];
            let zeros = value
                .iter()
                .take_while(|b| **b == 0)
                .count()
                .min(value.len().saturating_sub(1));
            &value[zeros..]
        }
        fn skip(&mut self) {
            self.value();
        }
        fn enter(&mut self) -> Der<'a> {
            Der(self.value())
        }
    }

    fn object(value: Value) -> JsonMap {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn rfc_7515_appendix_a_1() {
        // The example's exact bytes contain line breaks, so the signing input is given, not built.
        let key = BASE64URL_NOPAD
            .decode(b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let input = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = SigningKey::hmac(&key).sign("HS256", input).unwrap();
        assert_eq!(
            BASE64URL_NOPAD.encode(&signature),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
    }

    #[test]
    fn rfc_7515_appendix_a_2() {
        let jwk = json!({
            "kty": "RSA", "kid": "a-2", "e": "AQAB",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yR\
                  T-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS\
                  -UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2et\
                  hFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            "d": "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46su\
                  i395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdG\
                  copV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2S\
                  R_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
            "p": "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8\
                  cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
            "q": "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t\
                  62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
            "dp": "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCj\
                   n12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
            "dq": "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnw\
                   gjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
            "qi": "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93\
                   IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
        });
        let parsed = PrivateJwk::parse(&jwk.to_string().into()).unwrap();
        let input = b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = parsed.key.sign("RS256", input).unwrap();
        assert_eq!(
            BASE64URL_NOPAD.encode(&signature),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb\
             F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383\
             LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy\
             wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
    }

    /// The example of RFC 7523 §4: its header and claims, as far as they are printed.
    #[test]
    fn rfc_7523_section_4() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let pem = data_encoding::BASE64.encode(der.as_ref());
        let key = SigningKey::from_pem(
            &format!("-----BEGIN PRIVATE KEY-----{pem}-----END PRIVATE KEY-----").into(),
        );
        let claims = json!({
            "iss": "https://jwt-idp.example.com", "sub": "mailto:mike@example.com", "aud": "https://jwt-rp.example.net",
            "nbf": 1_300_815_780, "exp": 1_300_819_380, "http://claims.example.com/member": true,
        });
        let token = sign(
            &object(json!({"alg": "ES256", "kid": "16"})),
            &object(claims.clone()),
            &key.unwrap(),
        )
        .unwrap();
        let (input, signature) = token.expose().rsplit_once('.').unwrap();
        let (header, payload) = input.split_once('.').unwrap();
        assert_eq!(header, "eyJhbGciOiJFUzI1NiIsImtpZCI6IjE2In0");
        let payload = BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), claims);
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
            .verify(input.as_bytes(), &signature)
            .unwrap();
    }

    #[test]
    fn a_jwk_signs_what_its_public_half_verifies() {
        let (jwk, key) = fresh_jwk();
        let parsed = PrivateJwk::parse(&jwk).unwrap();
        assert_eq!(parsed.key_id, "key-1");
        let token = sign(
            &object(json!({"alg": "RS256"})),
            &object(json!({"iss": "me"})),
            &parsed.key,
        )
        .unwrap();
        let (input, signature) = token.expose().rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
            .verify(
                input.as_bytes(),
                &BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap(),
            )
            .unwrap();
        for broken in [
            "{}",
            "no json",
            r#"{"kty":"EC"}"#,
            &jwk.expose().replace("\"qi\"", "\"zz\""),
        ] {
            assert_eq!(
                PrivateJwk::parse(&broken.into()).unwrap_err(),
                JwtError::Jwk,
                "{broken}"
            );
        }
    }

    #[test]
    fn pems_are_read_however_they_were_pasted() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let body = data_encoding::BASE64.encode(key.as_der().unwrap().as_ref());
        let one_line = format!("-----BEGIN PRIVATE KEY-----{body}-----END PRIVATE KEY-----");
        let escaped = format!("-----BEGIN PRIVATE KEY-----\\n{body}\\n-----END PRIVATE KEY-----\\n");
        let spaced = format!(
            "  -----BEGIN PRIVATE KEY-----\r\n{}\r\n-----END PRIVATE KEY-----",
            body.replace('A', "A \n")
        );
        for text in [&one_line, &escaped, &spaced, &body] {
            assert!(
                matches!(
                    SigningKey::from_pem(&text.as_str().into()),
                    Ok(SigningKey::Rsa(_))
                ),
                "{text}"
            );
        }
        assert!(SigningKey::from_pem(&"nonsense".into()).is_err());
    }

    #[test]
    fn the_algorithm_must_fit_the_key() {
        let key = SigningKey::hmac(b"k");
        for alg in [json!({}), json!({"alg": "none"}), json!({"alg": "RS256"})] {
            assert_eq!(
                sign(&object(alg), &JsonMap::new(), &key).unwrap_err(),
                JwtError::Algorithm
            );
        }
    }
}
