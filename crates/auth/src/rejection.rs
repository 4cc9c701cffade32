//! What a provider said when it refused, fit to be logged and shown: no secret survives.

use std::fmt;
use std::time::Duration;

use patchbay_types::JsonMap;
use serde_json::Value;

use crate::message::Answer;

/// Longest excerpt of a provider's error body, in characters.
const LONGEST_DETAIL: usize = 600;
/// Values shorter than this are not searched for: they would blank out ordinary words.
const SHORTEST_SECRET: usize = 4;
const MASK: &str = "***";

/// A provider's refusal, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider answered {status}{}: {detail}", OAuthError(self.oauth_error.as_deref()))]
pub struct Rejection {
    /// HTTP status.
    pub status: u16,
    /// `error` of RFC 6749 §5.2, or the provider's nearest equivalent.
    pub oauth_error: Option<String>,
    /// The body in short: JSON with secret members masked, or its size and kind.
    pub detail: String,
    /// When the provider wants to be asked again.
    pub retry_after: Option<Duration>,
    /// The body is one an API writes, not a page.
    pub is_structured: bool,
}

struct OAuthError<'a>(Option<&'a str>);

impl fmt::Display for OAuthError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |code| write!(f, " ({code})"))
    }
}

impl Rejection {
    /// Reads a refusal. `secrets` are the values that were sent: a provider may echo them.
    pub fn read(answer: &Answer, secrets: &[&str]) -> Self {
        let object = answer.object();
        Self {
            status: answer.status,
            oauth_error: object
                .as_ref()
                .and_then(oauth_error)
                .map(|code| mask(code, secrets)),
            is_structured: object.is_some() || answer.is_xml(),
            detail: detail(answer, object, secrets),
            retry_after: answer.retry_after,
        }
    }
}

/// The machine-readable error of a token endpoint's body: `error`, or where well-known providers put it instead.
pub(crate) fn oauth_error(object: &JsonMap) -> Option<&str> {
    let nested = object.get("error").and_then(Value::as_object);
    let candidates = [
        object.get("error"),
        nested.and_then(|error| error.get("code")),
        nested.and_then(|error| error.get("type")),
        object.get("error_code"),
        object.get("errorCode"),
        object.get("code"),
        object.get("status"),
    ];
    candidates
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|text| {
            !text.is_empty()
                && text.len() <= 64
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
        })
}

fn detail(answer: &Answer, object: Option<JsonMap>, secrets: &[&str]) -> String {
    let text = match object {
        Some(object) => {
            let mut value = Value::Object(object);
            mask_members(&mut value, secrets);
            value.to_string()
        }
        None if answer.body.is_empty() => "no body".to_owned(),
        None => {
            let kind = answer.content_type.as_deref().unwrap_or("unknown type");
            match std::str::from_utf8(&answer.body) {
                Ok(text) if kind.starts_with("text/plain") => mask(text, secrets).trim().to_owned(),
                _ => format!("{} bytes of {kind}", answer.body.len()),
            }
        }
    };
    match text.char_indices().nth(LONGEST_DETAIL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn mask_members(value: &mut Value, secrets: &[&str]) {
    match value {
        Value::String(text) => *text = mask(text, secrets),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_members(item, secrets)),
        Value::Object(object) => {
            for (name, member) in object.iter_mut() {
                let harmless = matches!(member, Value::Null | Value::Bool(_) | Value::Number(_));
                if !harmless && names_a_secret(name) {
                    *member = Value::String(MASK.to_owned());
                } else {
                    mask_members(member, secrets);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn names_a_secret(name: &str) -> bool {
    const PARTS: &[&str] = &[
        "token",
        "secret",
        "password",
        "passwd",
        "apikey",
        "privatekey",
        "assertion",
        "authorization",
        "cookie",
        "credential",
        "session",
        "signature",
        "jwt",
    ];
    let letters: String = name
        .chars()
        .filter(char::is_ascii_alphabetic)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    PARTS.iter().any(|part| letters.contains(part))
}

fn mask(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET) {
        if text.contains(secret) {
            text = text.replace(secret, MASK);
        }
        let encoded = crate::encode::component(secret);
        if encoded != *secret && text.contains(encoded.as_ref()) {
            text = text.replace(encoded.as_ref(), MASK);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn answer(kind: &str, body: &str) -> Answer {
        Answer {
            status: 400,
            content_type: Some(kind.to_owned()),
            retry_after: None,
            headers: http::HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn the_reason_stays_and_the_secrets_go() {
        let body = r#"{"error":"invalid_grant","error_description":"Token planted-refresh was revoked","access_token":"unknown-one","n":1}"#;
        let rejection = Rejection::read(&answer("application/json", body), &["planted-refresh"]);
        assert_eq!(rejection.oauth_error.as_deref(), Some("invalid_grant"));
        assert_eq!(
            rejection.to_string(),
            r#"the provider answered 400 (invalid_grant): {"error":"invalid_grant","error_description":"Token *** was revoked","access_token":"***","n":1}"#
        );
    }

    #[test]
    fn the_error_is_found_where_providers_put_it() {
        for (body, expect) in [
            (r#"{"error":"invalid_client"}"#, Some("invalid_client")),
            (
                r#"{"error":{"type":"OAuthException","code":190}}"#,
                Some("OAuthException"),
            ),
            (
                r#"{"status":"BAD_REFRESH_TOKEN","message":"x"}"#,
                Some("BAD_REFRESH_TOKEN"),
            ),
            (r#"{"error":"a sentence, no code"}"#, None),
            (r#"{"message":"no"}"#, None),
            ("<html>", None),
        ] {
            let rejection = Rejection::read(&answer("application/json", body), &[]);
            assert_eq!(rejection.oauth_error.as_deref(), expect, "{body}");
        }
    }

    #[test]
    fn unreadable_bodies_are_only_measured() {
        assert_eq!(
            Rejection::read(&answer("text/html", "<b>x</b>"), &[]).detail,
            "8 bytes of text/html"
        );
        assert_eq!(
            Rejection::read(&answer("text/plain", "busy planted"), &["planted"]).detail,
            "busy ***"
        );
        assert_eq!(Rejection::read(&answer("text/html", ""), &[]).detail, "no body");
    }

    proptest! {
        #[test]
        fn no_sent_secret_is_ever_shown(
            secret in "[a-zA-Z0-9/+=_ &-]{6,24}", name in "[a-z_]{1,12}", around in "[ -~]{0,30}", kind in 0..4usize,
        ) {
            // A secret that is part of the fixed frame would be "shown" by the frame itself.
            prop_assume!(!"the provider answered 400 no body bytes of text/html text/plain".contains(&secret));
            prop_assume!(!around.contains(&secret) && !name.contains(&secret));
            let body = match kind {
                0 => serde_json::json!({ name.as_str(): format!("{around}{secret}{around}") }).to_string(),
                1 => serde_json::json!({ "error": secret.as_str(), "list": [{ name.as_str(): secret.as_str() }] }).to_string(),
                2 => format!("{around}{secret}"),
                _ => format!("{name}={}", crate::encode::component(&secret)),
            };
            let label = ["application/json", "application/json", "text/plain", "application/x-www-form-urlencoded"][kind];
            let rejection = Rejection::read(&answer(label, &body), &[secret.as_str()]);
            let shown = format!("{rejection} {rejection:?}");
            prop_assert!(secret.trim().len() < 4 || !shown.contains(secret.trim()), "{}", shown);
        }
    }
}
