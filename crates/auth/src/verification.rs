//! Asking the provider whether credentials are good, before they are stored (auth-flows §21).

use std::time::Duration;

use http::Method;
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::{Expect, Verification};
use patchbay_catalog::template::{Mode, Scope, UrlValues};
use patchbay_outbound::{Client, FetchRequest, FetchResponse};
use patchbay_types::connections::RefreshCause;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{Credentials, JsonMap};
use serde_json::Value;
use url::Url;

use crate::own_call::{OwnCall, OwnCallError, assemble};
use crate::request::{BuildError, Subject};
use crate::steps;

/// Longest one endpoint is waited for.
const TIMEOUT: Duration = Duration::from_secs(20);

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

    /// Who is to blame. A provider that is down, overloaded or out of reach has not judged the credentials.
    pub fn cause(&self) -> RefreshCause {
        match self {
            Self::Refused {
                status: 408 | 425 | 429 | 500..,
            } => RefreshCause::ProviderDown,
            Self::Refused { .. } | Self::Unexpected => RefreshCause::ProviderRefused,
            Self::NoAnswer(error) if error.is_blocked() => RefreshCause::Ours,
            Self::NoAnswer(_) => RefreshCause::ProviderDown,
            Self::Request(_) | Self::UnknownCheck(_) => RefreshCause::Ours,
        }
    }
}

/// Tries the definition's endpoints in order; the first that accepts is enough. Nothing is repeated. Credential types
/// that are proven by how they were obtained, and definitions without a test, are accepted untested.
///
/// A named check (`credentials_verification_script`) is what the shipped definition of that name says.
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
    let definition = candidate.definition;
    let verification = match (
        &definition.proxy.verification,
        &definition.credentials_verification_script,
    ) {
        (Some(verification), _) => verification,
        (None, Some(name)) => return Err(VerifyError::UnknownCheck(name.clone())),
        (None, None) => return Ok(()),
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
    let call = OwnCall {
        method: &method,
        endpoint: path.as_deref().unwrap_or_default(),
        base: base.as_ref().map(Url::as_str),
        templates: &verification.headers,
        headers: &[],
        body: steps::body(verification.data.as_ref(), verification.body_format, &scope),
        timeout: TIMEOUT,
    };
    assemble(&subject, call, ambient).map_err(|error| match error {
        OwnCallError::Build(error) => VerifyError::Request(error),
        OwnCallError::Identity(error) => VerifyError::NoAnswer(error),
    })
}

/// 2xx is a yes, unless the definition expects something else.
fn judge(response: &FetchResponse, expect: Option<&Expect>) -> Result<(), VerifyError> {
    let status = response.status.as_u16();
    let accepted = match expect {
        Some(expect) => expect.accepts_status(status),
        None => response.status.is_success(),
    };
    if !accepted {
        return Err(VerifyError::Refused { status });
    }
    let Some(expect) = expect else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(&response.body);
    let body: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
    if expect.accepts_body(&text, |path| steps::at(&body, path)) {
        Ok(())
    } else {
        Err(VerifyError::Unexpected)
    }
}
