//! Bodies of the form modes into candidate credentials (auth-flows §15, §16). Nothing is checked with the provider
//! here: that is [`crate::verification`].

use patchbay_types::credentials::{ApiKey, Basic};
use patchbay_types::{Credentials, JsonMap, Secret};
use serde_json::Value;

/// Longest API key, in UTF-16 code units as ECMAScript counts. Longer than the 1,024 of the protocol's first
/// implementation: keys that are signed tokens exceed that.
pub const MAX_API_KEY: usize = 16_384;
/// Longest user name and password.
pub const MAX_BASIC: usize = 1024;
/// Longest client id, and secret, of the client credentials grant.
pub const MAX_CLIENT_FIELD: usize = 16_384;

/// One broken rule of a body, in the words of the wire (api-core §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// `invalid_type`, `too_small`, `too_big`, `unrecognized_keys` or `custom`.
    pub code: &'static str,
    /// In words; never repeats a value.
    pub message: String,
    /// Where: empty for the body itself.
    pub path: Vec<String>,
}

/// Why a form was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Fields break their rules.
    #[error("the request body is not valid")]
    Invalid(Vec<Issue>),
    /// OAUTH2_CC without `client_id`.
    #[error("client_id is missing")]
    MissingClientId,
    /// OAUTH2_CC with neither `client_secret` nor `client_private_key`.
    #[error("client_secret is missing")]
    MissingClientSecret,
}

impl FormError {
    /// Code on the wire, HTTP 400.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_body",
            Self::MissingClientId => "missing_client_id",
            Self::MissingClientSecret => "missing_client_secret",
        }
    }
}

/// `{apiKey}`, strict.
pub fn api_key(body: &JsonMap) -> Result<Credentials, FormError> {
    let mut form = Form::new(body);
    let api_key = form.text("apiKey", 1, MAX_API_KEY);
    form.refuse_unknown(&["apiKey"]);
    form.finish()?;
    Ok(Credentials::ApiKey(ApiKey {
        api_key: Secret::new(api_key),
    }))
}

/// `{username, password}`, strict; both required, both may be empty.
pub fn basic(body: &JsonMap) -> Result<Credentials, FormError> {
    let mut form = Form::new(body);
    let username = form.text("username", 0, MAX_BASIC);
    let password = form.text("password", 0, MAX_BASIC);
    form.refuse_unknown(&["username", "password"]);
    form.finish()?;
    Ok(Credentials::Basic(Basic {
        username: username.to_owned(),
        password: Secret::new(password),
    }))
}

/// NONE: no body, or `{}`.
pub fn none(body: Option<&JsonMap>) -> Result<Credentials, FormError> {
    if let Some(body) = body {
        let mut form = Form::new(body);
        form.refuse_unknown(&[]);
        form.finish()?;
    }
    Ok(Credentials::None {})
}

/// What an end user hands over for the client credentials grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientForm {
    /// Client id, never empty.
    pub client_id: String,
    /// Client secret; empty when a private key stands for it.
    pub client_secret: Secret,
    /// PEM certificate for mutual TLS.
    pub client_certificate: Option<Secret>,
    /// PEM key for mutual TLS, or a JWK for `private_key_jwt`.
    pub client_private_key: Option<Secret>,
}

/// OAUTH2_CC: `{client_id, client_secret | client_private_key, client_certificate?}`; other keys are ignored.
pub fn client_credentials(body: &JsonMap) -> Result<ClientForm, FormError> {
    let mut form = Form::new(body);
    let client_id = form.optional("client_id", MAX_CLIENT_FIELD);
    let client_secret = form.optional("client_secret", MAX_CLIENT_FIELD);
    let client_certificate = form.optional("client_certificate", MAX_CLIENT_FIELD);
    let client_private_key = form.optional("client_private_key", MAX_CLIENT_FIELD);
    form.finish()?;
    let client_id = client_id.ok_or(FormError::MissingClientId)?;
    if client_secret.is_none() && client_private_key.is_none() {
        return Err(FormError::MissingClientSecret);
    }
    Ok(ClientForm {
        client_id: client_id.to_owned(),
        client_secret: Secret::new(client_secret.unwrap_or_default()),
        client_certificate: client_certificate.map(Secret::new),
        client_private_key: client_private_key.map(Secret::new),
    })
}

/// Collects issues field by field, so that all are reported together.
pub(crate) struct Form<'a> {
    body: &'a JsonMap,
    issues: Vec<Issue>,
}

impl<'a> Form<'a> {
    pub(crate) fn new(body: &'a JsonMap) -> Self {
        Self {
            body,
            issues: Vec::new(),
        }
    }

    pub(crate) fn issue(&mut self, code: &'static str, message: String, name: &str) {
        self.issues.push(Issue {
            code,
            message,
            path: vec![name.to_owned()],
        });
    }

    /// A required string; `""` stands in when it is refused.
    pub(crate) fn text(&mut self, name: &str, min: usize, max: usize) -> &'a str {
        let value = self.body.get(name);
        let Some(text) = value.and_then(Value::as_str) else {
            let kind = value.map_or("undefined", patchbay_types::tags::json_type);
            self.issue(
                "invalid_type",
                format!("Invalid input: expected string, received {kind}"),
                name,
            );
            return "";
        };
        let length = text.encode_utf16().count();
        if length < min {
            self.issue(
                "too_small",
                format!("Too small: expected string to have >={min} characters"),
                name,
            );
        }
        if length > max {
            self.issue(
                "too_big",
                format!("Too big: expected string to have <={max} characters"),
                name,
            );
        }
        text
    }

    /// A string that may be absent, null or empty, which are the same.
    pub(crate) fn optional(&mut self, name: &str, max: usize) -> Option<&'a str> {
        if matches!(self.body.get(name), None | Some(Value::Null)) {
            return None;
        }
        Some(self.text(name, 0, max)).filter(|text| !text.is_empty())
    }

    pub(crate) fn refuse_unknown(&mut self, known: &[&str]) {
        let unknown: Vec<_> = self
            .body
            .keys()
            .filter(|key| !known.contains(&key.as_str()))
            .map(|key| format!("\"{key}\""))
            .collect();
        let message = match unknown.as_slice() {
            [] => return,
            [one] => format!("Unrecognized key: {one}"),
            many => format!("Unrecognized keys: {}", many.join(", ")),
        };
        self.issues.push(Issue {
            code: "unrecognized_keys",
            message,
            path: Vec::new(),
        });
    }

    pub(crate) fn finish(self) -> Result<(), FormError> {
        if self.issues.is_empty() {
            Ok(())
        } else {
            Err(FormError::Invalid(self.issues))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(value: Value) -> JsonMap {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    fn issues(result: Result<Credentials, FormError>) -> Vec<(&'static str, String, String)> {
        match result.unwrap_err() {
            FormError::Invalid(issues) => issues
                .into_iter()
                .map(|i| (i.code, i.message, i.path.join(".")))
                .collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn limits_hold_from_both_sides() {
        let key = |n: usize| api_key(&body(json!({"apiKey": "k".repeat(n)})));
        assert_eq!(
            key(1).unwrap().to_json(),
            body(json!({"type": "API_KEY", "apiKey": "k"}))
        );
        assert!(key(MAX_API_KEY).is_ok());
        assert_eq!(issues(key(0))[0].0, "too_small");
        assert_eq!(
            issues(key(MAX_API_KEY + 1)),
            [(
                "too_big",
                "Too big: expected string to have <=16384 characters".to_owned(),
                "apiKey".to_owned()
            )]
        );
        let pair = |u: usize, p: usize| {
            basic(&body(
                json!({"username": "u".repeat(u), "password": "p".repeat(p)}),
            ))
        };
        assert!(pair(0, 0).is_ok());
        assert!(pair(1024, 1024).is_ok());
        assert_eq!(issues(pair(1025, 1025)).len(), 2);
    }

    #[test]
    fn all_issues_come_together_and_repeat_no_value() {
        assert_eq!(
            issues(basic(&body(json!({"username": 1, "a": "planted", "b": 2})))),
            [
                (
                    "invalid_type",
                    "Invalid input: expected string, received number".to_owned(),
                    "username".to_owned()
                ),
                (
                    "invalid_type",
                    "Invalid input: expected string, received undefined".to_owned(),
                    "password".to_owned()
                ),
                (
                    "unrecognized_keys",
                    "Unrecognized keys: \"a\", \"b\"".to_owned(),
                    String::new()
                ),
            ]
        );
    }

    #[test]
    fn none_takes_nothing() {
        assert!(none(None).is_ok());
        assert_eq!(none(Some(&JsonMap::new())).unwrap().to_json(), JsonMap::new());
        assert_eq!(
            issues(none(Some(&body(json!({"x": 1})))))[0].1,
            "Unrecognized key: \"x\""
        );
    }

    #[test]
    fn client_credentials_need_an_id_and_something_secret() {
        let check = |value: Value| client_credentials(&body(value));
        assert_eq!(
            check(json!({"client_secret": "s"})).unwrap_err().code(),
            "missing_client_id"
        );
        assert_eq!(
            check(json!({"client_id": "", "client_secret": "s"}))
                .unwrap_err()
                .code(),
            "missing_client_id"
        );
        assert_eq!(
            check(json!({"client_id": "i"})).unwrap_err().code(),
            "missing_client_secret"
        );
        assert_eq!(
            check(json!({"client_id": 5, "client_secret": "s"}))
                .unwrap_err()
                .code(),
            "invalid_body"
        );
        let form = check(json!({"client_id": "i", "client_private_key": "k", "extra": 1})).unwrap();
        assert!(form.client_secret.is_empty());
        assert!(check(json!({"client_id": "i", "client_secret": "s", "client_certificate": null})).is_ok());
    }
}
