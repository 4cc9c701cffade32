//! What a call's templates may mention (catalog-format §6.4, proxy §5.2).

use std::borrow::Cow;

use http::Method;
use patchbay_catalog::template::Lookup;
use patchbay_types::{Credentials, Secret};
use serde_json::Value;
use url::Url;

use super::{Subject, Wanted};
use crate::encode::{component, scalar};
use crate::fields::{access_token, field};

/// Variables computed when asked for: the request's, the token under its common name, the OAuth client, and the
/// credential's fields with or without the prefix `credentials.`. The protocol's first implementation offers each
/// credential type a subset; offering all of them changes no template that resolved there.
pub(crate) struct Variables<'a> {
    subject: &'a Subject<'a>,
    request: Option<(&'a Wanted<'a>, &'a Url)>,
}

impl<'a> Variables<'a> {
    pub(crate) fn of(subject: &'a Subject<'a>) -> Self {
        Self {
            subject,
            request: None,
        }
    }

    pub(super) fn with_request(subject: &'a Subject<'a>, wanted: &'a Wanted<'a>, url: &'a Url) -> Self {
        Self {
            subject,
            request: Some((wanted, url)),
        }
    }
}

impl Lookup for Variables<'_> {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        let from_request = self
            .request
            .and_then(|(wanted, url)| of_request(name, wanted, url));
        if from_request.is_some() {
            return from_request;
        }
        let credentials = self.subject.credentials;
        match (name, credentials) {
            ("accessToken", _) => {
                if let Some(token) = access_token(credentials) {
                    return Some(Cow::Borrowed(token));
                }
            }
            ("clientId", Credentials::OAuth2(_) | Credentials::App(_)) => {
                return self.subject.secrets.client_id.as_deref().map(Cow::Borrowed);
            }
            ("clientSecret", Credentials::OAuth2(_) | Credentials::App(_)) => {
                return self
                    .subject
                    .secrets
                    .client_secret
                    .as_ref()
                    .map(Secret::expose)
                    .map(Cow::Borrowed);
            }
            ("connection_id", _) if !self.subject.connection_id.is_empty() => {
                return Some(Cow::Borrowed(self.subject.connection_id));
            }
            _ => {}
        }
        field(credentials, name.strip_prefix("credentials.").unwrap_or(name))
    }
}

fn of_request<'a>(name: &str, wanted: &'a Wanted<'_>, url: &'a Url) -> Option<Cow<'a, str>> {
    let body_counts = matches!(*wanted.method, Method::POST | Method::PUT | Method::PATCH);
    let query = || url.query_pairs().into_owned().collect();
    Some(match name {
        "method" => Cow::Borrowed(wanted.method.as_str()),
        "endpoint" => Cow::Borrowed(wanted.endpoint),
        "host" => {
            let host = url.host_str().unwrap_or_default();
            match url.port() {
                Some(port) => Cow::Owned(format!("{host}:{port}")),
                None => Cow::Borrowed(host),
            }
        }
        "path" => Cow::Borrowed(url.path()),
        "params" if body_counts => Cow::Owned(canonical(body_pairs(wanted.body))),
        "params" | "urlCanonicalParams" => Cow::Owned(canonical(query())),
        "bodyCanonicalParams" if body_counts => {
            let text = String::from_utf8_lossy(wanted.body);
            match text.strip_prefix('?') {
                Some(rest) => Cow::Owned(rest.to_owned()),
                None => text,
            }
        }
        "bodyCanonicalParams" => Cow::Borrowed(""),
        "contentType" => Cow::Borrowed(wanted.content_type?),
        _ => return None,
    })
}

/// A JSON object's members, or the fields of a form.
fn body_pairs(body: &[u8]) -> Vec<(String, String)> {
    if let Ok(Value::Object(object)) = serde_json::from_slice(body) {
        return object
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), scalar(value)?.into_owned())))
            .collect();
    }
    url::form_urlencoded::parse(body.strip_prefix(b"?").unwrap_or(body))
        .into_owned()
        .collect()
}

/// Sorted by name, then value; encoded by RFC 3986.
fn canonical(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort();
    let mut text = String::new();
    for (name, value) in &pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(&component(name));
        text.push('=');
        text.push_str(&component(value));
    }
    text
}
