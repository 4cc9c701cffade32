//! A call's record as it is stored: noise left out, secrets masked (proxy §9). Runs in the background.
//!
//! Three nets, because each alone has holes: what we put in ourselves is known by name; what the connection and the
//! integration hold is searched for as text; and whatever is called like a secret is taken for one.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use patchbay_connections::journal::{Entry, Record};
use patchbay_types::operations::{Message, Operation, OperationState};
use patchbay_types::{OperationId, Timestamp};
use serde_json::{Map, Value, json};
use url::Url;

use crate::record::{Attempt, CallRecord, Ending, Kept, Line};

const REDACTED: &str = "REDACTED";
/// Longest title, in bytes.
const TITLE: usize = 300;
/// Shorter texts are not searched for: they would be found everywhere.
const SHORTEST: usize = 4;

impl Record for CallRecord {
    fn entry(self: Box<Self>) -> Entry {
        let secrets = Secrets::of(&self);
        let (state, answer) = match &self.ending {
            Ending::Answered { status, .. } if status.as_u16() < 400 => {
                (OperationState::Success, status.as_u16().to_string())
            }
            Ending::Answered { status, .. } => (OperationState::Failed, status.as_u16().to_string()),
            Ending::Broken { message, .. } | Ending::Refused { message, .. } => {
                (OperationState::Failed, message.clone())
            }
            Ending::Abandoned => (OperationState::Failed, "the caller went away".to_owned()),
        };
        let called = self.lines.iter().rev().find_map(|line| match line {
            Line::Attempt(attempt) => Some(secrets.url(&attempt.url, &attempt.secret_query)),
            Line::Note { .. } => None,
        });
        let target = secrets.target(&self.target);
        let mut title = format!(
            "{} {}: {}",
            self.method,
            called.as_deref().unwrap_or(&target),
            secrets.text(&answer)
        );
        title.truncate(title.floor_char_boundary(TITLE));
        let operation = Operation {
            id: self.id.clone(),
            environment_id: self.environment,
            kind: "proxy".to_owned(),
            action: "call".to_owned(),
            state,
            integration: self.integration.as_ref().map(|integration| integration.id),
            connection: self.connections.last().map(|connection| connection.id),
            title,
            started_at: self.started_at,
            ended_at: Some(self.ended_at),
        };
        let mut messages = Vec::with_capacity(self.lines.len() + 2);
        for line in &self.lines {
            messages.push(match line {
                Line::Attempt(attempt) => exchange(&self.id, attempt, &secrets),
                Line::Note { level, text, at } => plain(&self.id, level, secrets.text(text), None, *at),
            });
        }
        self.conclude(&secrets, &target, &mut messages);
        Entry {
            operation,
            messages,
            attach: self.attach.clone(),
        }
    }
}

impl CallRecord {
    /// The caller's side of it, as the last messages.
    fn conclude(&self, secrets: &Secrets, target: &str, messages: &mut Vec<Message>) {
        let mut meta = json!({
            "request": {
                "method": self.method.as_str(),
                "url": format!("/proxy{target}"),
                "headers": secrets.headers(&self.headers, &[]),
            },
            "durationMs": millis(self.started_at, self.ended_at),
        });
        let (level, text) = match &self.ending {
            Ending::Answered {
                status,
                headers,
                body,
            } => {
                if let Some(body) = body.as_ref().filter(|body| body.size > 0) {
                    let (level, text) = if status.as_u16() < 400 {
                        ("info", "The beginning of the response body")
                    } else {
                        ("error", "Failed with this body")
                    };
                    let meta = json!({ "body": secrets.body(body) });
                    messages.push(plain(&self.id, level, text.into(), Some(meta), self.ended_at));
                }
                let response = json!({ "code": status.as_u16(), "headers": secrets.headers(headers, &[]) });
                meta["response"] = response;
                let level = if status.as_u16() < 400 { "info" } else { "error" };
                (level, Cow::Owned(format!("Answered {}", status.as_u16())))
            }
            Ending::Broken { status, message } => {
                meta["response"] = json!({ "code": status.as_u16() });
                meta["error"] = json!({ "name": "Broken", "message": secrets.text(message) });
                ("error", Cow::Borrowed("The answer broke off"))
            }
            Ending::Refused { code, message } => {
                let message = secrets.text(message);
                meta["error"] = json!({ "name": "Refused", "message": message, "payload": { "code": code } });
                ("error", message)
            }
            Ending::Abandoned => (
                "warn",
                Cow::Borrowed("The caller went away before the answer was complete"),
            ),
        };
        messages.push(plain(&self.id, level, text, Some(meta), self.ended_at));
    }
}

fn exchange(id: &OperationId, attempt: &Attempt, secrets: &Secrets) -> Message {
    let url = secrets.url(&attempt.url, &attempt.secret_query);
    let mut meta = json!({
        "type": "http",
        "context": "proxy",
        "request": {
            "method": attempt.method.as_str(),
            "url": url,
            "headers": secrets.headers(&attempt.headers, &attempt.secret_headers),
        },
        "retry": {
            "attempt": attempt.number,
            "max": attempt.most,
            "waited": u64::try_from(attempt.waited.as_millis()).unwrap_or(u64::MAX),
        },
        "durationMs": millis(attempt.started_at, attempt.ended_at),
    });
    if !attempt.redirects.is_empty() {
        let hops = attempt.redirects.iter().map(|(status, url)| {
            json!({ "code": status.as_u16(), "url": secrets.url(url, &attempt.secret_query) })
        });
        meta["redirects"] = hops.collect();
    }
    let is_well = match &attempt.outcome {
        Ok((status, headers)) => {
            meta["response"] = json!({ "code": status.as_u16(), "headers": secrets.headers(headers, &[]) });
            status.as_u16() < 400
        }
        Err(failure) => {
            let message = secrets.text(&failure.message);
            meta["error"] =
                json!({ "name": "Error", "message": message, "payload": { "code": failure.code } });
            false
        }
    };
    let level = if is_well { "info" } else { "error" };
    let text = format!("{} {url}", attempt.method);
    plain(id, level, text.into(), Some(meta), attempt.ended_at)
}

fn plain(id: &OperationId, level: &str, text: Cow<'_, str>, meta: Option<Value>, at: Timestamp) -> Message {
    Message {
        operation_id: id.clone(),
        level: level.to_owned(),
        text: text.into_owned(),
        meta,
        at,
    }
}

fn millis(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX)
}

/// What must not be shown.
struct Secrets {
    /// Longest first, so that a secret within another does not leave the rest of it standing.
    texts: Vec<String>,
    /// Names rather than keys; masked in headers only, because in a URL they are often the subject.
    names: Vec<String>,
}

impl Secrets {
    fn of(call: &CallRecord) -> Self {
        let mut secrets = Self {
            texts: Vec::new(),
            names: Vec::new(),
        };
        for connection in &call.connections {
            secrets.gather("", &Value::Object(connection.credentials.to_json()));
        }
        if let Some(integration) = &call.integration {
            let own = &integration.secrets;
            secrets.names.extend(own.client_id.clone());
            let values = own
                .client_secret
                .iter()
                .chain(&own.private_key)
                .chain(own.custom.values());
            for value in values {
                secrets.add(value.expose());
            }
        }
        secrets
            .texts
            .sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
        secrets.texts.dedup();
        secrets.names.retain(|name| name.len() >= SHORTEST);
        secrets
    }

    fn gather(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| self.gather(name, value)),
            Value::Array(items) => items.iter().for_each(|value| self.gather(name, value)),
            Value::String(text) => match name {
                "type" | "expires_at" | "expires_in" | "scope" | "scopes" | "token_type" | "region"
                | "service" => {}
                "username" | "user" | "email" | "client_id" | "organization_id" | "accountId" => {
                    self.names.push(text.clone());
                }
                _ => self.add(text),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add(&mut self, text: &str) {
        let text = text.trim();
        if text.len() < SHORTEST {
            return;
        }
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        if encoded != text {
            self.texts.push(encoded);
        }
        self.texts.push(text.to_owned());
    }

    /// Text with every known secret masked.
    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in &self.texts {
            if masked.contains(secret.as_str()) {
                masked = Cow::Owned(masked.replace(secret.as_str(), REDACTED));
            }
        }
        masked
    }

    /// A URL without user name, password and secret parameters.
    fn url(&self, url: &Url, secret_query: &[String]) -> String {
        let mut shown = url.clone();
        // Fails for URLs without a host, which have no user name either.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        if let Some(query) = url.query() {
            let query = mask_query(query, secret_query);
            shown.set_query(Some(&query));
        }
        self.text(shown.as_str()).into_owned()
    }

    /// Path and query of the caller's request.
    fn target(&self, target: &str) -> String {
        let Some((path, query)) = target.split_once('?') else {
            return self.text(target).into_owned();
        };
        self.text(&format!("{path}?{}", mask_query(query, &[])))
            .into_owned()
    }

    fn headers(&self, headers: &HeaderMap, secret: &[HeaderName]) -> Value {
        let mut shown = Map::new();
        for (name, value) in headers {
            if is_noise(name.as_str()) {
                continue;
            }
            let text = String::from_utf8_lossy(value.as_bytes());
            let known = || {
                self.texts
                    .iter()
                    .chain(&self.names)
                    .any(|secret| text.contains(secret.as_str()))
            };
            let masked = value.is_sensitive() || secret.contains(name) || is_secret(name.as_str()) || known();
            let text = if masked {
                REDACTED.to_owned()
            } else {
                text.into_owned()
            };
            match shown.get_mut(name.as_str()) {
                None => {
                    shown.insert(name.as_str().to_owned(), Value::String(text));
                }
                Some(Value::String(first)) => {
                    first.push_str(", ");
                    first.push_str(&text);
                }
                Some(_) => {}
            }
        }
        Value::Object(shown)
    }

    /// The beginning of a body: JSON as JSON, text as text, anything else by its size.
    fn body(&self, kept: &Kept) -> Value {
        let bytes = kept.pieces.concat();
        if let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) {
            self.mask(&mut value);
            return value;
        }
        let text = String::from_utf8_lossy(&bytes);
        // The cut may have gone through a character.
        let text = if kept.is_cut {
            text.trim_end_matches(char::REPLACEMENT_CHARACTER)
        } else {
            &text
        };
        let is_text = !text.chars().any(|char| {
            char == char::REPLACEMENT_CHARACTER || char.is_control() && !matches!(char, '\n' | '\r' | '\t')
        });
        // What cannot be taken apart is shown only if nothing in it is called like a secret.
        if !is_text || is_secret(text) {
            return json!({ "bytes": kept.size, "shown": false });
        }
        let mut shown = self.text(text).into_owned();
        if kept.is_cut {
            shown.push('…');
        }
        Value::String(shown)
    }

    fn mask(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members.iter_mut() {
                    if is_secret(name) && !value.is_object() && !value.is_array() && !value.is_null() {
                        *value = Value::from(REDACTED);
                    } else {
                        self.mask(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item)),
            Value::String(text) => {
                if let Cow::Owned(masked) = self.text(text) {
                    *text = masked;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn mask_query(query: &str, secret: &[String]) -> String {
    let mut masked = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            masked.push('&');
        }
        let Some((name, value)) = pair.split_once('=') else {
            masked.push_str(pair);
            continue;
        };
        masked.push_str(name);
        masked.push('=');
        let is_one = is_secret(name) || secret.iter().any(|known| known == name);
        masked.push_str(if is_one { REDACTED } else { value });
    }
    masked
}

/// Whether something of that name is taken for a secret.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 14] = [
        "auth",
        "token",
        "secret",
        "password",
        "passwd",
        "api-key",
        "api_key",
        "apikey",
        "cookie",
        "signature",
        "session",
        "credential",
        "private_key",
        "private-key",
    ];
    let name = name.to_ascii_lowercase();
    name != "www-authenticate" && PARTS.iter().any(|part| name.contains(part))
}

/// Headers that tell nothing about a call.
fn is_noise(name: &str) -> bool {
    const NAMES: [&str; 36] = [
        "accept-ranges",
        "age",
        "alt-svc",
        "cf-cache-status",
        "cf-ray",
        "connection",
        "content-security-policy",
        "content-security-policy-report-only",
        "cookie",
        "cross-origin-embedder-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "expect-ct",
        "keep-alive",
        "nel",
        "origin-agent-cluster",
        "p3p",
        "permissions-policy",
        "pragma",
        "referrer-policy",
        "report-to",
        "reporting-endpoints",
        "server",
        "server-timing",
        "set-cookie",
        "strict-transport-security",
        "vary",
        "via",
        "x-amz-cf-id",
        "x-amz-cf-pop",
        "x-content-type-options",
        "x-dns-prefetch-control",
        "x-download-options",
        "x-frame-options",
        "x-permitted-cross-domain-policies",
        "x-xss-protection",
    ];
    name.starts_with("access-control-") || NAMES.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests;
