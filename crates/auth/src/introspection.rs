//! Asking a provider whether a token is still good (RFC 7662; auth-flows §11, Salesforce), where tokens name no end.

use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_catalog::template::Scope;
use patchbay_types::{Credentials, JsonMap};
use serde_json::Value;

use crate::endpoint::{self, EndpointError};
use crate::message::{Answer, BodyFormat, Call};
use crate::renewal::RenewInput;
use crate::request::{Subject, Variables};

/// What a provider says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It is good until then.
    Alive {
        /// Its end.
        until: Timestamp,
    },
    /// It is not, or the answer does not say until when.
    Ended,
}

/// Whether the provider has to be asked: it can be, and the credentials name no end themselves.
pub fn is_needed(definition: &patchbay_catalog::Definition, credentials: &Credentials) -> bool {
    let asks = definition
        .token_client
        .as_deref()
        .is_some_and(|client| client.introspection.is_some());
    asks && credentials.expires_at().is_none() && crate::fields::access_token(credentials).is_some()
}

/// The request; none if the definition has no such endpoint.
pub fn request(input: &RenewInput<'_>, ambient: &Ambient) -> Result<Option<Call>, EndpointError> {
    let client = input.definition.token_client.as_deref();
    let Some(introspection) = client.and_then(|client| client.introspection.as_ref()) else {
        return Ok(None);
    };
    let subject = Subject {
        definition: input.definition,
        secrets: input.secrets,
        credentials: input.credentials,
        connection_config: input.connection_config,
        connection_id: "",
        metadata: None,
    };
    let variables = Variables::of(&subject);
    let scope = Scope::new(ambient)
        .computed(&variables)
        .connection_config(input.connection_config);
    let url = endpoint::url(
        "introspection url",
        &introspection.url,
        endpoint::values(true),
        &scope,
    )?;
    let params: JsonMap = endpoint::params(input.definition, &introspection.params, &scope)?;
    Ok(Some(Call::post(url, &params, BodyFormat::Form)))
}

/// What the answer means: anything but a clear yes is a no.
pub fn read(answer: &Answer) -> TokenState {
    let object = answer
        .object()
        .filter(|_| answer.is_success())
        .unwrap_or_default();
    let active = object.get("active").and_then(Value::as_bool).unwrap_or(false);
    let end = object
        .get("exp")
        .and_then(Value::as_i64)
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    match end.filter(|_| active) {
        Some(until) => TokenState::Alive { until },
        None => TokenState::Ended,
    }
}
