//! Credentials by the names templates use, without turning them into JSON first: this is on the proxy's hot path.

use std::borrow::Cow;

use patchbay_types::time::millis_z;
use patchbay_types::{Credentials, JsonMap, Secret, Timestamp};
use serde_json::Value;

use crate::metadata::lookup;

/// The field `path` of `credentials` as text: strings and numbers only, `None` for anything else or absent.
pub(crate) fn field<'a>(credentials: &'a Credentials, path: &str) -> Option<Cow<'a, str>> {
    let secret = |value: &'a Secret| Some(Cow::Borrowed(value.expose()));
    let optional = |value: &'a Option<Secret>| value.as_ref().map(|value| Cow::Borrowed(value.expose()));
    let time = |at: Option<Timestamp>| at.map(|at| Cow::Owned(millis_z(at)));
    let raw = |raw: &'a JsonMap| text(lookup(raw, path.strip_prefix("raw.")?)?);
    match (credentials, path) {
        (Credentials::OAuth2(c), "access_token") => secret(&c.access_token),
        (Credentials::OAuth2(c), "refresh_token") => optional(&c.refresh_token),
        (Credentials::OAuth2(c), "expires_at") => time(c.expires_at),
        (Credentials::OAuth2(c), "config_override.client_id") => c
            .config_override
            .as_ref()?
            .client_id
            .as_deref()
            .map(Cow::Borrowed),
        (Credentials::OAuth2(c), "config_override.client_secret") => {
            optional(&c.config_override.as_ref()?.client_secret)
        }
        (Credentials::OAuth2(c), _) => raw(&c.raw.0),
        (Credentials::OAuth2Cc(c), "token") => secret(&c.token),
        (Credentials::OAuth2Cc(c), "client_id") => Some(Cow::Borrowed(&c.client_id)),
        (Credentials::OAuth2Cc(c), "client_secret") => secret(&c.client_secret),
        (Credentials::OAuth2Cc(c), "client_certificate") => optional(&c.client_certificate),
        (Credentials::OAuth2Cc(c), "client_private_key") => optional(&c.client_private_key),
        (Credentials::OAuth2Cc(c), "expires_at") => time(c.expires_at),
        (Credentials::OAuth2Cc(c), _) => raw(&c.raw.0),
        (Credentials::OAuth1(c), "oauth_token") => secret(&c.oauth_token),
        (Credentials::OAuth1(c), "oauth_token_secret") => secret(&c.oauth_token_secret),
        (Credentials::OAuth1(c), _) => raw(&c.raw.0),
        (Credentials::Basic(c), "username") => Some(Cow::Borrowed(&c.username)),
        (Credentials::Basic(c), "password") => secret(&c.password),
        (Credentials::ApiKey(c), "apiKey") => secret(&c.api_key),
        (Credentials::App(c), "access_token") => secret(&c.access_token),
        (Credentials::App(c), "expires_at") => time(c.expires_at),
        (Credentials::App(c), "jwtToken") => optional(&c.jwt_token),
        (Credentials::App(c), _) => raw(&c.raw.0),
        (Credentials::Tba(c), "token_id") => secret(&c.token_id),
        (Credentials::Tba(c), "token_secret") => secret(&c.token_secret),
        (
            Credentials::Jwt(c)
            | Credentials::TwoStep(c)
            | Credentials::Signature(c)
            | Credentials::Bill(c)
            | Credentials::AwsSigV4(c)
            | Credentials::Custom(c),
            _,
        ) => text(lookup(&c.fields, path)?),
        (Credentials::Basic(_) | Credentials::ApiKey(_) | Credentials::Tba(_) | Credentials::None {}, _) => {
            None
        }
    }
}

/// `accessToken` of the templates: `access_token`, or `token` of the modes that call it so.
pub(crate) fn access_token(credentials: &Credentials) -> Option<&str> {
    match credentials {
        Credentials::OAuth2(c) => Some(c.access_token.expose()),
        Credentials::App(c) => Some(c.access_token.expose()),
        Credentials::OAuth2Cc(c) => Some(c.token.expose()),
        Credentials::Jwt(c) | Credentials::TwoStep(c) | Credentials::Signature(c) => c.text("token"),
        Credentials::Bill(_)
        | Credentials::AwsSigV4(_)
        | Credentials::Custom(_)
        | Credentials::OAuth1(_)
        | Credentials::Basic(_)
        | Credentials::ApiKey(_)
        | Credentials::Tba(_)
        | Credentials::None {} => None,
    }
}

/// A value as a template substitutes it: strings and numbers only.
pub(crate) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_stored_field_is_found_under_its_wire_name() {
        for value in [
            json!({"type":"OAUTH2","access_token":"a","refresh_token":"r","expires_at":"2026-08-21T11:00:00.000Z",
                   "raw":{"team":{"id":5}},"config_override":{"client_id":"i","client_secret":"s"}}),
            json!({"type":"OAUTH2_CC","token":"t","client_id":"i","client_secret":"s","client_certificate":"c",
                   "client_private_key":"k","expires_at":"2026-08-21T11:00:00.000Z","raw":{"x":"y"}}),
            json!({"type":"OAUTH1","oauth_token":"t","oauth_token_secret":"s","raw":{"x":"y"}}),
            json!({"type":"BASIC","username":"u","password":"p"}),
            json!({"type":"API_KEY","apiKey":"k"}),
            json!({"type":"APP","access_token":"a","expires_at":"2026-08-21T11:00:00.000Z","raw":{"x":"y"},"jwtToken":"j"}),
            json!({"type":"TBA","token_id":"i","token_secret":"s","config_override":{}}),
            json!({"type":"TWO_STEP","token":"t","n":3,"nested":{"deep":"d"}}),
        ] {
            let object = value.as_object().unwrap();
            let credentials = Credentials::from_json(object.clone()).unwrap();
            let mut leaves = Vec::new();
            collect(&value, String::new(), &mut leaves);
            for (path, leaf) in leaves.into_iter().filter(|(path, _)| path != "type") {
                assert_eq!(field(&credentials, &path), text(leaf), "{path} of {value}");
            }
            assert_eq!(field(&credentials, "absent"), None);
            assert_eq!(field(&credentials, "raw"), None);
        }
    }

    fn collect<'a>(value: &'a Value, path: String, leaves: &mut Vec<(String, &'a Value)>) {
        match value {
            Value::Object(object) => {
                for (name, member) in object {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    collect(member, path, leaves);
                }
            }
            leaf => leaves.push((path, leaf)),
        }
    }
}
