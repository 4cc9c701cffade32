//! A call of our own with a connection's credentials: tests of credentials, steps after connecting, revocations.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use patchbay_ambient::Ambient;
use patchbay_catalog::template::NamedTemplate;
use patchbay_outbound::{FetchRequest, Identity, Limits};
use serde_json::Value;

use crate::encode;
use crate::request::{self, BuildError, BuiltRequest, Subject, Wanted};

/// Largest answer read, in bytes. Answers of tests are small; a list endpoint's may be less so.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;

/// What is to be sent.
pub(crate) struct OwnCall<'a> {
    pub(crate) method: &'a Method,
    /// Path below the base URL.
    pub(crate) endpoint: &'a str,
    /// Instead of the provider's base URL.
    pub(crate) base: Option<&'a str>,
    /// Header templates over the definition's own.
    pub(crate) templates: &'a [NamedTemplate],
    /// Headers over all others.
    pub(crate) headers: &'a [(HeaderName, HeaderValue)],
    /// Body.
    pub(crate) body: OwnBody,
    /// Longest it is waited for.
    pub(crate) timeout: Duration,
}

/// A body and its type.
pub(crate) enum OwnBody {
    None,
    /// JSON, unless a header says otherwise.
    Json(Value),
    /// A form, likewise.
    Form(patchbay_types::JsonMap),
    /// As it is; its type is a header's business.
    Text(String),
}

/// Why it cannot be sent.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum OwnCallError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Identity(#[from] patchbay_outbound::Error),
}

/// Builds the request, the connection's credentials in it as in a proxied one.
pub(crate) fn assemble(
    subject: &Subject<'_>,
    call: OwnCall<'_>,
    ambient: &Ambient,
) -> Result<FetchRequest, OwnCallError> {
    let injected = request::injected_body(subject, call.method, ambient).unwrap_or_default();
    let (body, kind) = match call.body {
        OwnBody::None if injected.is_empty() => (Vec::new(), None),
        OwnBody::None => json(&Value::Object(injected)),
        OwnBody::Json(Value::Object(mut object)) => {
            object.extend(injected);
            json(&Value::Object(object))
        }
        OwnBody::Json(other) => json(&other),
        OwnBody::Form(mut fields) => {
            fields.extend(injected);
            let kind = "application/x-www-form-urlencoded";
            (encode::form(&fields).into_bytes(), Some(kind))
        }
        OwnBody::Text(text) => {
            let is_json = text.starts_with(['{', '[']);
            (text.into_bytes(), is_json.then_some("application/json"))
        }
    };
    let given = call.headers.iter().find(|(name, _)| *name == CONTENT_TYPE);
    let declared = call
        .templates
        .iter()
        .chain(&subject.definition.proxy.headers)
        .filter(|entry| entry.name == "content-type")
        .find_map(|entry| entry.template.as_literal());
    let content_type = given
        .and_then(|(_, value)| value.to_str().ok())
        .or(declared)
        .or(kind);
    let wanted = Wanted {
        method: call.method,
        endpoint: call.endpoint,
        base_url_override: call.base,
        templates: call.templates,
        headers: call.headers,
        content_type,
        body: &body,
    };
    let BuiltRequest { url, headers, .. } = request::build(subject, &wanted, ambient)?;

    let mut request = FetchRequest::new(call.method.clone(), url);
    request.limits = Limits {
        body: LARGEST_ANSWER,
        total: call.timeout,
        ..Limits::default()
    };
    for header in headers {
        request.headers.insert(header.name, header.value);
    }
    if !request.headers.contains_key(ACCEPT) {
        request.headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/plain, */*"),
        );
    }
    if let Some(kind) = kind.filter(|_| !request.headers.contains_key(CONTENT_TYPE)) {
        request
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    request.body = body.into();
    if let Some(material) = request::client_certificate(subject.definition, subject.credentials) {
        let identity = Identity::from_pem(material.certificate.expose(), material.private_key.expose());
        request.identity = Some(identity.map_err(patchbay_outbound::Error::from)?);
    }
    Ok(request)
}

fn json(value: &Value) -> (Vec<u8>, Option<&'static str>) {
    (value.to_string().into_bytes(), Some("application/json"))
}
