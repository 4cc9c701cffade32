//! SIGNATURE: the header value of a WS-Security user name token (auth-flows §18.2).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::{BASE64, HEXLOWER};
use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::definition::SignatureProtocol;
use patchbay_types::time::millis_z;
use patchbay_types::{Credentials, JsonMap, Secret};

use crate::forms::{Form, FormError, MAX_BASIC};
use crate::obtain::{Applicant, ObtainError, Obtained, with_token};

const CODE: &str = "signature_token_generation_error";

/// `{type, username, password}`, strict; the typed fields without `type`.
pub fn form(body: &JsonMap) -> Result<JsonMap, FormError> {
    let mut form = Form::new(body);
    form.text("type", 1, MAX_BASIC);
    form.text("username", 0, MAX_BASIC);
    form.text("password", 0, MAX_BASIC);
    form.refuse_unknown(&["type", "username", "password"]);
    form.finish()?;
    Ok(without_type(body))
}

pub(crate) fn without_type(body: &JsonMap) -> JsonMap {
    let fields = body.iter().filter(|(name, _)| *name != "type");
    fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A fresh token. Nobody is asked.
pub fn obtain(applicant: &Applicant<'_>, ambient: &Ambient) -> Result<Obtained, ObtainError> {
    let definition = applicant.definition;
    let protocol = definition.signature.map(|signature| signature.protocol);
    if protocol != Some(SignatureProtocol::Wsse) {
        return Err(ObtainError::unusable(
            CODE,
            "the provider's definition does not say that its signature is WSSE",
        ));
    }
    let life = definition.token.as_ref().and_then(|token| token.expires_in_ms);
    let Some(life) = life.and_then(|life| i64::try_from(life).ok()) else {
        return Err(ObtainError::unusable(
            CODE,
            "the provider's definition does not say how long a signature lives",
        ));
    };
    let now = ambient.now();
    let mut nonce = [0; 16];
    ambient.entropy.fill(&mut nonce);
    let token = token(
        applicant.text("username"),
        &applicant.text("password").into(),
        &HEXLOWER.encode(&nonce),
        now,
    );
    let end = now
        .checked_add(SignedDuration::from_millis(life))
        .unwrap_or(Timestamp::MAX);
    let derived = with_token(applicant.typed(), token.expose(), end);
    Ok(Obtained::of(Credentials::Signature(derived)))
}

fn token(username: &str, password: &Secret, nonce: &str, now: Timestamp) -> Secret {
    let created = millis_z(now);
    let text = format!("{nonce}{created}{}", password.expose());
    let sha1 = HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref());
    // The hexadecimal text is encoded, not the digest: what the API that uses this expects.
    let digest = BASE64.encode(sha1.as_bytes());
    Secret::new(format!(
        "UsernameToken Username=\"{username}\", PasswordDigest=\"{digest}\", Nonce=\"{nonce}\", Created=\"{created}\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_an_independent_tool_computes() {
        // printf '%s' 'd36e316282959a9ed4c89851497a717f2026-01-02T03:04:05.678Zsecret' | sha1sum | cut -c-40 |
        //     tr -d '\n' | base64 -w0
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let made = token(
            "acme001",
            &"secret".into(),
            "d36e316282959a9ed4c89851497a717f",
            now,
        );
        assert_eq!(
            made.expose(),
            "UsernameToken Username=\"acme001\", PasswordDigest=\"YzhlZGIxMGM2MjBlZjE3NjJlMjU1N2JhOTcyMTkzYjhkMWRmMTdmZQ==\", \
             Nonce=\"d36e316282959a9ed4c89851497a717f\", Created=\"2026-01-02T03:04:05.678Z\""
        );
    }
}
