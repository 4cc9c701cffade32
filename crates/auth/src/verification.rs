//! Asking the provider whether credentials are good, before they are stored (auth-flows §21).

mod builtin;

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::Verification;
use patchbay_catalog::template::{Mode, OnUnresolved, Scope, UrlValues};
use patchbay_outbound::{Client, FetchRequest, FetchResponse, Identity, Limits};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{Credentials, JsonMap};
use serde_json::Value;
use url::Url;

use crate::metadata::lookup;
use crate::request::{self, BuildError, BuiltRequest, Subject, Wanted};

/// Longest one endpoint is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer read, in bytes. Answers of tests are small; a list endpoint's may be less so.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;

/// Credentials that are not stored yet.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The operator's app.
    pub secrets: &'a IntegrationSecrets,
    /// The credentials.
    pub credentials: &'a Credentials,
    /// The connection's parameters.
    pub connection_config: &'a JsonMap,
}

/// Why credentials were not accepted. The code on the wire is `connection_test_failed`, HTTP 400.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The provider answered, but not with a yes.
    #[error("the provider did not accept the credentials: it answered {status} to the test request")]
    Refused {
        /// HTTP status of the last endpoint tried.
        status: u16,
    },
    /// The provider answered 2xx, and the body says no.
    #[error("the provider did not accept the credentials")]
    Unexpected,
    /// No answer.
    #[error("the credentials could not be tested: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// The test request cannot be built from these values.
    #[error("the credentials could not be tested: {0}")]
    Request(#[from] BuildError),
    /// The definition names a check this build does not have. Refused rather than stored untested.
    #[error("the credentials could not be tested: this version of Patchbay has no check called {0}")]
    UnknownCheck(String),
}

impl VerifyError {
    /// Code on the wire.
    pub fn code(&self) -> &'static str {
        "connection_test_failed"
    }
}

/// Tries the definition's endpoints in order; the first that accepts is enough. Nothing is repeated. Credential types
/// that are proven by how they were obtained, and definitions without a test, are accepted untested.
///
/// A named check (`credentials_verification_script`) runs as its built-in declarative equivalent.
pub async fn verify(
    client: &Client,
    candidate: &Candidate<'_>,
    ambient: &Ambient,
) -> Result<(), VerifyError> {
    let tested = matches!(
        candidate.credentials,
        Credentials::ApiKey(_)
            | Credentials::Basic(_)
            | Credentials::Tba(_)
            | Credentials::Jwt(_)
            | Credentials::Signature(_)
    );
    if !tested {
        return Ok(());
    }
    let named;
    let verification = match candidate.definition.credentials_verification_script.as_deref() {
        Some(name) if !name.is_empty() => {
            named = builtin::check(name).ok_or_else(|| VerifyError::UnknownCheck(name.to_owned()))?;
            &named
        }
        _ => match &candidate.definition.proxy.verification {
            Some(verification) => verification,
            None => return Ok(()),
        },
    };
    let mut failure = None;
    for endpoint in 0..verification.endpoints.len() {
        match try_endpoint(client, candidate, verification, endpoint, ambient).await {
            Ok(()) => return Ok(()),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn try_endpoint(
    client: &Client,
    candidate: &Candidate<'_>,
    verification: &Verification,
    endpoint: usize,
    ambient: &Ambient,
) -> Result<(), VerifyError> {
    let request = test_request(candidate, verification, endpoint, ambient)?;
    let response = client.fetch(request).await?;
    judge(&response, verification.expect.as_ref())
}

/// The test request of one endpoint.
fn test_request(
    candidate: &Candidate<'_>,
    verification: &Verification,
    endpoint: usize,
    ambient: &Ambient,
) -> Result<FetchRequest, VerifyError> {
    let subject = Subject {
        definition: candidate.definition,
        secrets: candidate.secrets,
        credentials: candidate.credentials,
        connection_config: candidate.connection_config,
        connection_id: "",
        metadata: None,
    };
    let method = Method::from_bytes(verification.method.as_bytes()).unwrap_or(Method::GET);
    let fields = candidate.credentials.to_json();
    let scope = Scope::new(ambient)
        .shared()
        .connection_config(candidate.connection_config)
        .credentials(&fields);

    let injected = request::injected_body(&subject, &method, ambient);
    let data = verification
        .data
        .as_ref()
        .and_then(|data| data.render(&scope, OnUnresolved::Omit).ok().flatten());
    let body = match (data, injected) {
        (None, None) => Vec::new(),
        (None, Some(injected)) => Value::Object(injected).to_string().into_bytes(),
        (Some(Value::Object(mut data)), injected) => {
            data.extend(injected.unwrap_or_default());
            Value::Object(data).to_string().into_bytes()
        }
        (Some(Value::String(text)), _) => text.into_bytes(),
        (Some(other), _) => other.to_string().into_bytes(),
    };
    let is_json = body.first().is_some_and(|byte| matches!(byte, b'{' | b'['));

    let base = match &verification.base_url_override {
        Some(template) => Some(
            template
                .render_url(&scope, UrlValues::Raw)
                .map_err(BuildError::from)?,
        ),
        None => None,
    };
    let path = verification
        .endpoints
        .get(endpoint)
        .map(|template| template.render_lossy(&scope, Mode::UrlRaw));
    let declaring = verification
        .headers
        .iter()
        .chain(&candidate.definition.proxy.headers);
    let declared_type = declaring
        .filter(|entry| entry.name == "content-type")
        .find_map(|e| e.template.as_literal());
    let wanted = Wanted {
        method: &method,
        endpoint: path.as_deref().unwrap_or_default(),
        base_url_override: base.as_ref().map(Url::as_str),
        templates: &verification.headers,
        headers: &[],
        content_type: declared_type.or(is_json.then_some("application/json")),
        body: &body,
    };
    let BuiltRequest { url, headers, .. } = request::build(&subject, &wanted, ambient)?;

    let mut request = FetchRequest::new(method.clone(), url);
    request.limits = Limits {
        body: LARGEST_ANSWER,
        total: TIMEOUT,
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
    if is_json && !request.headers.contains_key(CONTENT_TYPE) {
        request
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request.body = body.into();
    if let Some(material) = request::client_certificate(candidate.definition, candidate.credentials) {
        let identity = Identity::from_pem(material.certificate.expose(), material.private_key.expose());
        request.identity = Some(identity.map_err(patchbay_outbound::Error::from)?);
    }
    Ok(request)
}

/// 2xx is a yes. `expect` may demand more: `status` that exact status, `json_path` a value at that dotted path of the
/// body, equal to `equals` where that is given.
fn judge(response: &FetchResponse, expect: Option<&Value>) -> Result<(), VerifyError> {
    let refused = VerifyError::Refused {
        status: response.status.as_u16(),
    };
    let expect = expect.and_then(Value::as_object);
    match expect
        .and_then(|expect| expect.get("status"))
        .and_then(Value::as_u64)
    {
        Some(status) if status != u64::from(response.status.as_u16()) => return Err(refused),
        None if !response.status.is_success() => return Err(refused),
        Some(_) | None => {}
    }
    let Some(path) = expect
        .and_then(|expect| expect.get("json_path"))
        .and_then(Value::as_str)
    else {
        return Ok(());
    };
    let body: Value = serde_json::from_slice(&response.body).map_err(|_| VerifyError::Unexpected)?;
    let found = body.as_object().and_then(|object| lookup(object, path));
    let good = match expect.and_then(|expect| expect.get("equals")) {
        Some(wanted) => found == Some(wanted),
        None => found.is_some_and(|value| !value.is_null()),
    };
    if good {
        Ok(())
    } else {
        Err(VerifyError::Unexpected)
    }
}
