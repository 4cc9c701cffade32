//! What answers of a TWO_STEP provider say.

use http::header::SET_COOKIE;
use jiff::{Span, SpanRelativeTo, Timestamp};
use patchbay_catalog::definition::{ExpirationStrategy, TokenResponse};
use patchbay_types::JsonMap;
use serde_json::Value;

use crate::message::Answer;
use crate::metadata::lookup;
use crate::obtain::MADE;
use crate::{expiry, xml};

/// All cookies as a `Cookie` header takes them.
const COOKIES: &str = "_cookies";

/// The body: JSON, an XML tree, or its text.
pub(super) fn value(answer: &Answer) -> Value {
    if let Ok(value) = serde_json::from_slice(&answer.body) {
        return value;
    }
    let text = String::from_utf8_lossy(&answer.body);
    let is_xml = text.trim_start().starts_with('<');
    match xml::read(text.trim()).filter(|_| is_xml) {
        Some(object) => Value::Object(object),
        None => Value::String(text.trim().to_owned()),
    }
}

/// The text or number at a dotted path; an empty path is the whole answer.
pub(super) fn text_at(raw: &Value, path: &str) -> Option<String> {
    let found = match raw {
        _ if path.is_empty() => raw,
        Value::Object(object) => lookup(object, path)?,
        _ => return None,
    };
    match found {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// When the token ends, if the answer says so; an error if it says something that cannot be understood.
pub(super) fn expiry(raw: &Value, response: &TokenResponse, now: Timestamp) -> Result<Option<Timestamp>, ()> {
    let Some(path) = response
        .token_expiration
        .as_deref()
        .filter(|path| !path.is_empty())
    else {
        return Ok(None);
    };
    let Some(found) = raw.as_object().and_then(|object| lookup(object, path)) else {
        return Ok(None);
    };
    match response.token_expiration_strategy {
        ExpirationStrategy::ExpireAt => Ok(expiry::at(found, now)),
        ExpirationStrategy::ExpireIn => match found {
            Value::Null => Ok(None),
            Value::Number(_) => Ok(expiry::within(found, now)),
            Value::String(text) if text.trim().bytes().all(|b| b.is_ascii_digit()) => {
                Ok(expiry::within(found, now))
            }
            Value::String(text) => in_words(text.trim(), now).map(Some).ok_or(()),
            _ => Err(()),
        },
    }
}

/// `1h`, `90 minutes`, `2 days`.
fn in_words(text: &str, now: Timestamp) -> Option<Timestamp> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    duration
        .is_positive()
        .then(|| now.checked_add(duration).unwrap_or(Timestamp::MAX))
}

/// Keeps the wanted headers of an answer: each cookie under its name and all of them under [`COOKIES`], other headers
/// under their names. Neither may take the place of what was typed or of what we make ourselves.
pub(super) fn capture_headers(
    wanted: &[String],
    answer: &Answer,
    is_typed: &dyn Fn(&str) -> bool,
    kept: &mut JsonMap,
) {
    let taken = |name: &str| MADE.contains(&name) || matches!(name, COOKIES | "assertion") || is_typed(name);
    for name in wanted {
        let values = answer.headers.get_all(name.as_str());
        let values = values.iter().filter_map(|value| value.to_str().ok());
        if name.eq_ignore_ascii_case(SET_COOKIE.as_str()) {
            let mut jar = jar_of(kept);
            for (cookie, value) in values.filter_map(cookie) {
                match jar.iter_mut().find(|(known, _)| *known == cookie) {
                    Some((_, old)) => value.clone_into(old),
                    None => jar.push((cookie.to_owned(), value.to_owned())),
                }
                if !taken(cookie) {
                    kept.insert(cookie.to_owned(), value.into());
                }
            }
            if !jar.is_empty() {
                let all: Vec<String> = jar
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                kept.insert(COOKIES.to_owned(), all.join("; ").into());
            }
            continue;
        }
        for value in values {
            let name = name.to_ascii_lowercase();
            if !taken(&name) {
                kept.insert(name, value.into());
            }
        }
    }
}

fn jar_of(kept: &JsonMap) -> Vec<(String, String)> {
    let jar = kept.get(COOKIES).and_then(Value::as_str).unwrap_or_default();
    let pairs = jar.split("; ").filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Name and value of a `Set-Cookie` (RFC 6265 §5.2); what else it says is the browser's business.
fn cookie(header: &str) -> Option<(&str, &str)> {
    let (name, value) = header.split(';').next()?.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then_some((name, value.trim()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    fn answer(headers: &[(&'static str, &'static str)], body: &'static str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Answer {
            status: 200,
            headers: map,
            body: Bytes::from_static(body.as_bytes()),
            ..Answer::default()
        }
    }

    #[test]
    fn bodies_of_every_kind_have_values() {
        for (body, expect) in [
            (r#"{"a":{"b":"t"}}"#, json!({"a": {"b": "t"}})),
            ("\"bare\"", json!("bare")),
            ("  plain.token\n", json!("plain.token")),
            ("<r><s>1</s></r>", json!({"r": {"s": "1"}})),
            ("<not xml", json!("<not xml")),
        ] {
            assert_eq!(value(&answer(&[], body)), expect, "{body}");
        }
        let raw = json!({"a": {"b": "t"}, "n": 5, "e": "", "x.y": "flat"});
        assert_eq!(text_at(&raw, "a.b").as_deref(), Some("t"));
        assert_eq!(text_at(&raw, "n").as_deref(), Some("5"));
        assert_eq!(text_at(&raw, "x.y").as_deref(), Some("flat"));
        assert_eq!(text_at(&json!("whole"), "").as_deref(), Some("whole"));
        for path in ["e", "a", "absent", ""] {
            assert_eq!(text_at(&raw, path), None, "{path}");
        }
    }

    #[test]
    fn lives_are_numbers_or_words() {
        let now: Timestamp = "2026-08-21T10:00:00Z".parse().unwrap();
        let response = |strategy| TokenResponse {
            token: "t".to_owned(),
            token_expiration: Some("end".to_owned()),
            token_expiration_strategy: strategy,
            refresh_token: None,
        };
        let within = response(ExpirationStrategy::ExpireIn);
        for (end, expect) in [
            (json!(3600), Ok(Some("2026-08-21T11:00:00Z"))),
            (json!("3600"), Ok(Some("2026-08-21T11:00:00Z"))),
            (json!("1h"), Ok(Some("2026-08-21T11:00:00Z"))),
            (json!("90 minutes"), Ok(Some("2026-08-21T11:30:00Z"))),
            (json!("2 days"), Ok(Some("2026-08-23T10:00:00Z"))),
            (json!(null), Ok(None)),
            (json!(0), Ok(None)),
            (json!("soon"), Err(())),
            (json!(true), Err(())),
        ] {
            let expect = expect.map(|end| end.map(|end: &str| end.parse().unwrap()));
            assert_eq!(expiry(&json!({"end": end}), &within, now), expect, "{end}");
        }
        let at = response(ExpirationStrategy::ExpireAt);
        let end = json!({"end": "2026-08-21T11:00:00Z"});
        assert_eq!(
            expiry(&end, &at, now),
            Ok(Some("2026-08-21T11:00:00Z".parse().unwrap()))
        );
        assert_eq!(expiry(&json!({}), &at, now), Ok(None));
    }

    #[test]
    fn cookies_add_up_and_take_nobodys_place() {
        let wanted = ["set-cookie".to_owned(), "X-Session".to_owned()];
        let mut kept = JsonMap::new();
        let first = answer(
            &[
                ("set-cookie", "B1SESSION=a; Path=/; HttpOnly"),
                ("set-cookie", "token=x"),
                ("x-session", "s"),
            ],
            "",
        );
        let typed = |name: &str| name == "password";
        capture_headers(&wanted, &first, &typed, &mut kept);
        let second = answer(
            &[
                ("set-cookie", "B1SESSION=b"),
                ("set-cookie", "password=stolen"),
                ("set-cookie", "no"),
            ],
            "",
        );
        capture_headers(&wanted, &second, &typed, &mut kept);
        assert_eq!(
            Value::Object(kept),
            json!({"B1SESSION": "b", "x-session": "s", "_cookies": "B1SESSION=b; token=x; password=stolen"})
        );
    }
}
