//! Assertions that TWO_STEP providers exchange for a token: a JWT (RFC 7523) or a SAML document (RFC 7522)
//! (auth-flows §19 step 3).

use data_encoding::{BASE64, BASE64URL_NOPAD};
use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::definition::{Assertion, AssertionKind};
use patchbay_catalog::template::{Mode, OnUnresolved, Scope, TemplateMap};
use patchbay_types::{JsonMap, Secret};
use serde_json::Value;

use crate::jwt::{self, JwtError, SigningKey};
use crate::obtain::ObtainError;
use crate::saml::{self, Statement};

const JWT_LIFE_S: u64 = 3600;
const SAML_LIFE_S: u64 = 300;
/// A stored assertion that ends sooner is not sent any more.
const MARGIN: SignedDuration = SignedDuration::from_mins(1);

/// A fresh assertion of these values.
pub(crate) fn make(
    assertion: &Assertion,
    scope: &Scope<'_>,
    ambient: &Ambient,
) -> Result<Secret, ObtainError> {
    let sign_failed = |error: JwtError| ObtainError::unusable("failed_to_sign", error.to_string());
    let key = match &assertion.key {
        Some(template) => {
            let missing = |names: &str| {
                ObtainError::unusable(
                    "failed_to_generate",
                    format!("the assertion's key is missing: {names}"),
                )
            };
            let text = template
                .render(scope, Mode::Text)
                .map_err(|unresolved| missing(&unresolved.to_string()))?;
            if text.is_empty() {
                return Err(missing("it is empty"));
            }
            Some(signing_key(&Secret::new(text)).map_err(sign_failed)?)
        }
        None => None,
    };
    match &assertion.kind {
        AssertionKind::Jwt { header, payload } => {
            let key = key.ok_or_else(|| {
                ObtainError::unusable(
                    "failed_to_generate",
                    "the provider's definition names no key to sign with",
                )
            })?;
            let life = assertion.lifetime_s.unwrap_or(JWT_LIFE_S);
            let now = ambient.now().as_second();
            let mut claims = JsonMap::new();
            claims.insert("iat".to_owned(), now.into());
            claims.insert("exp".to_owned(), now.saturating_add_unsigned(life).into());
            claims.extend(rendered(payload, scope));
            jwt::sign(&rendered(header, scope), &claims, &key).map_err(sign_failed)
        }
        AssertionKind::Saml { fields } => {
            let statement = statement(&rendered(fields, scope), assertion.lifetime_s);
            saml::make(&statement, key.as_ref(), ambient).map_err(sign_failed)
        }
    }
}

/// Whether a stored assertion can be sent once more.
pub(crate) fn is_good(assertion: &str, now: Timestamp) -> bool {
    let end = jwt_end(assertion).or_else(|| saml_end(assertion));
    end.is_some_and(|end| end.duration_since(now) > MARGIN)
}

/// `exp` of a JWT, unverified.
pub(crate) fn jwt_end(token: &str) -> Option<Timestamp> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims = BASE64URL_NOPAD
        .decode(claims.trim_end_matches('=').as_bytes())
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let end = claims.get("exp")?;
    let seconds = end.as_i64().or_else(|| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates and the fraction is to be cut"
        )]
        end.as_f64().map(|seconds| seconds as i64)
    })?;
    Timestamp::from_second(seconds).ok()
}

fn saml_end(assertion: &str) -> Option<Timestamp> {
    let document = String::from_utf8(BASE64.decode(assertion.as_bytes()).ok()?).ok()?;
    let (_, rest) = document.split_once("NotOnOrAfter=\"")?;
    rest.split('"').next()?.parse().ok()
}

/// PEM, its bare base64, or base64 of either.
fn signing_key(text: &Secret) -> Result<SigningKey, JwtError> {
    SigningKey::from_pem(text).or_else(|error| {
        let packed: Vec<u8> = text
            .expose()
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .collect();
        let inner = BASE64
            .decode(&packed)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        SigningKey::from_pem(&Secret::new(inner.ok_or(error)?))
    })
}

fn rendered(map: &TemplateMap, scope: &Scope<'_>) -> JsonMap {
    map.render(scope, OnUnresolved::Omit).unwrap_or_default()
}

fn statement(fields: &JsonMap, lifetime_s: Option<u64>) -> Statement {
    let text = |value: &Value| crate::encode::scalar(value).unwrap_or_default().into_owned();
    let field = |name: &str| fields.get(name).map(text).unwrap_or_default();
    let audiences = match fields.get("audiences") {
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(one) => vec![text(one)],
        None => Vec::new(),
    };
    let attributes = fields.get("attributes").and_then(Value::as_object);
    let attributes = attributes.into_iter().flatten();
    let life = i64::try_from(lifetime_s.unwrap_or(SAML_LIFE_S)).unwrap_or(i64::MAX);
    Statement {
        issuer: field("issuer"),
        name_identifier: field("nameIdentifier"),
        name_identifier_format: field("nameIdentifierFormat"),
        recipient: field("recipient"),
        in_response_to: field("inResponseTo"),
        audiences,
        session_index: field("sessionIndex"),
        authn_context: field("authnContextClassRef"),
        attributes: attributes
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        lifetime: SignedDuration::from_secs(life),
        certificate: field("cert"),
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    /// The token of RFC 7519 §3.1 ends in 2011.
    #[test]
    fn ends_are_read_from_tokens_and_documents() {
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(
            jwt_end(token),
            Some(Timestamp::from_second(1_300_819_380).unwrap())
        );
        let before = |seconds: i64| Timestamp::from_second(1_300_819_380 - seconds).unwrap();
        assert!(is_good(token, before(61)) && !is_good(token, before(60)));
        let saml = BASE64.encode(b"<a NotOnOrAfter=\"2011-03-22T18:43:00.000Z\"></a>");
        assert!(is_good(&saml, before(61)) && !is_good(&saml, before(60)));
        for odd in ["", "a.b", "a.b.c", "x.y.z.w", &BASE64.encode(b"nothing")] {
            assert!(jwt_end(odd).is_none() && !is_good(odd, before(0)), "{odd}");
        }
    }
}
