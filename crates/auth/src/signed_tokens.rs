//! Tokens we sign ourselves, from a definition's `token` and `signature`: the JWT mode, and TWO_STEP providers that
//! exchange one (auth-flows §18.1, §19 step 2).

use data_encoding::HEXLOWER_PERMISSIVE;
use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::{HmacEncoding, Signature, SignatureProtocol, TokenTemplate};
use patchbay_catalog::template::{Mode, OnUnresolved, Scope, Template, TemplateMap, TemplateValue};
use patchbay_types::{Credentials, JsonMap, Secret};
use serde_json::{Value, json};

use crate::jwt::{self, SigningKey};
use crate::obtain::{Applicant, ObtainError, Obtained, with_token};
use crate::wsse::without_type;

/// The provider's fields; `type` and what we would overwrite anyway are dropped.
pub fn form(body: &JsonMap) -> JsonMap {
    let mut fields = without_type(body);
    for made in ["token", "expires_at"] {
        fields.remove(made);
    }
    // An early client split an `id:secret` key before sending it.
    for value in fields.values_mut() {
        if let Some((id, secret)) = halves(value) {
            *value = format!("{id}:{secret}").into();
        }
    }
    fields
}

fn halves(value: &Value) -> Option<(&str, &str)> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    Some((object.get("id")?.as_str()?, object.get("secret")?.as_str()?))
}

/// A fresh token. Nobody is asked.
pub fn obtain(applicant: &Applicant<'_>, ambient: &Ambient) -> Result<Obtained, ObtainError> {
    let signed = sign(
        applicant.definition,
        applicant.fields,
        applicant.connection_config,
        ambient,
    )?;
    let derived = with_token(applicant.typed(), signed.token.expose(), signed.expires_at);
    Ok(Obtained::of(Credentials::Jwt(derived)))
}

/// A token and its end.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) token: Secret,
    pub(crate) expires_at: Timestamp,
}

/// Signs the definition's token for these values.
pub(crate) fn sign(
    definition: &Definition,
    fields: &JsonMap,
    connection_config: &JsonMap,
    ambient: &Ambient,
) -> Result<Signed, ObtainError> {
    let missing_body = || {
        ObtainError::unusable(
            "missing_token_body",
            "the provider's definition does not say what its token is made of",
        )
    };
    let template = definition.token.as_ref().ok_or_else(missing_body)?;
    let key_template = template.signing_key.as_ref().ok_or_else(missing_body)?;
    let Some(signature) = definition.signature else {
        return Err(ObtainError::unusable(
            "missing_signature_type",
            "the provider's definition does not say how its token is signed",
        ));
    };
    let fields = with_halves(template, key_template, fields);
    let scope = Scope::new(ambient)
        .credentials(&fields)
        .connection_config(connection_config);

    let now = ambient.now();
    let life_ms = template
        .expires_in_ms
        .and_then(|life| i64::try_from(life).ok())
        .unwrap_or(0);
    let end = now
        .checked_add(SignedDuration::from_millis(life_ms))
        .unwrap_or(Timestamp::MAX);
    let mut claims = entries(&template.payload, &scope);
    claims.insert("iat".to_owned(), now.as_second().into());
    claims.insert("exp".to_owned(), (now.as_second() + life_ms / 1000).into());
    let mut header = entries(&template.header, &scope);
    if !header.contains_key("alg") {
        header.insert("alg".to_owned(), json!(default_algorithm(signature.protocol)));
    }

    let key = key_template
        .render(&scope, Mode::Text)
        .map_err(|unresolved| ObtainError::unusable("failed_to_generate", unresolved.to_string()))?;
    let key = signing_key(signature, &Secret::new(key))?;
    let token = jwt::sign(&header, &claims, &key)
        .map_err(|error| ObtainError::unusable("failed_to_sign", error.to_string()))?;
    Ok(Signed {
        token,
        expires_at: end,
    })
}

fn default_algorithm(protocol: SignatureProtocol) -> &'static str {
    match protocol {
        SignatureProtocol::Rsa | SignatureProtocol::Wsse => "RS256",
        SignatureProtocol::Ec => "ES256",
        SignatureProtocol::Hmac => "HS256",
    }
}

fn signing_key(signature: Signature, key: &Secret) -> Result<SigningKey, ObtainError> {
    let failed = |message: &str| ObtainError::unusable("failed_to_sign", message);
    match (signature.protocol, signature.hmac_secret_encoding) {
        (SignatureProtocol::Rsa | SignatureProtocol::Ec, _) => {
            SigningKey::from_pem(key).map_err(|error| failed(&error.to_string()))
        }
        (SignatureProtocol::Hmac, HmacEncoding::Utf8) => Ok(SigningKey::hmac(key.expose().as_bytes())),
        (SignatureProtocol::Hmac, HmacEncoding::Hex) => {
            let bytes = HEXLOWER_PERMISSIVE.decode(key.expose().trim().as_bytes());
            let bytes = bytes.map_err(|_| failed("the secret is not written in hexadecimal digits"))?;
            Ok(SigningKey::hmac(&bytes))
        }
        (SignatureProtocol::Wsse, _) => Err(failed("WSSE signs no token")),
    }
}

/// Claims and header entries. What has no value is left out; the elements of a list may each hold several values
/// separated by commas.
fn entries(map: &TemplateMap, scope: &Scope<'_>) -> JsonMap {
    let text = |template: &Template| {
        let text = template.render(scope, Mode::Text).ok()?;
        (!text.is_empty() || template.as_literal().is_some()).then_some(text)
    };
    let mut rendered = JsonMap::new();
    for (name, value) in map.iter() {
        let value = match value {
            TemplateValue::Scalar(value) => Some(value.clone()),
            TemplateValue::Text(template) => text(template).map(Value::String),
            TemplateValue::List(items) => {
                let mut list = Vec::new();
                for item in items {
                    match item {
                        TemplateValue::Text(template) => {
                            let joined = text(template).unwrap_or_default();
                            let parts = joined.split(',').map(str::trim).filter(|part| !part.is_empty());
                            list.extend(parts.map(Value::from));
                        }
                        other => list.extend(other.render(scope, OnUnresolved::Omit).ok().flatten()),
                    }
                }
                (!list.is_empty()).then_some(Value::Array(list))
            }
            TemplateValue::Map(_) => value.render(scope, OnUnresolved::Omit).ok().flatten(),
        };
        if let Some(value) = value {
            rendered.insert(name.to_owned(), value);
        }
    }
    rendered
}

/// Fields of which the definition wants the halves (`${credentials.key.id}`, `${credentials.key.secret}`) are split
/// at the colon.
fn with_halves(template: &TokenTemplate, key: &Template, fields: &JsonMap) -> JsonMap {
    let mut fields = fields.clone();
    let mut templates = template.payload.templates();
    templates.extend(template.header.templates());
    templates.push(key);
    for name in templates.iter().flat_map(|template| template.names()) {
        let name = name.strip_prefix("credentials.").unwrap_or(name);
        let Some((field, "id" | "secret")) = name.split_once('.') else {
            continue;
        };
        if let Some(value) = fields.get_mut(field)
            && let Some((id, secret)) = value.as_str().and_then(|text| text.split_once(':'))
        {
            *value = json!({"id": id, "secret": secret});
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::TestClock;
    use patchbay_catalog::Catalogue;

    use super::*;

    fn object(value: &Value) -> JsonMap {
        value.as_object().cloned().unwrap_or_default()
    }

    /// The catalogue lets no JWT provider without a signature pass; a TWO_STEP one may only lack it.
    #[test]
    fn a_token_without_signature_is_refused() {
        let text = "acme:\n  display_name: A\n  auth_mode: TWO_STEP\n  docs: https://docs.example.com\n  \
                    token_url: https://example.com\n  token_response: {token: t}\n  \
                    token: {signing_key: k, expires_in_ms: 1}\n";
        let (catalogue, _) = Catalogue::from_text("test.yaml", text);
        let definition = &catalogue.get("acme").unwrap().definition;
        let ambient = Ambient::test(TestClock::default(), 7);
        let error = sign(definition, &JsonMap::new(), &JsonMap::new(), &ambient).unwrap_err();
        assert_eq!(error.code(), "missing_signature_type");
    }

    #[test]
    fn halves_are_joined_where_a_client_split_them() {
        let body = object(
            &json!({"type": "JWT", "token": "x", "key": {"id": "a", "secret": "b"}, "other": {"id": 1}}),
        );
        assert_eq!(
            Value::Object(form(&body)),
            json!({"key": "a:b", "other": {"id": 1}})
        );
    }
}
