//! MCP_OAUTH2 and what both MCP modes share: becoming a client of a provider that nobody registered us with
//! (auth-flows §12; RFC 7591). Servers that are only known by their address are in [`generic`].

pub mod generic;

use http::StatusCode;
use patchbay_types::{AuthMode, JsonMap, Secret};
use serde_json::{Value, json};
use url::Url;

use crate::message::{Answer, BodyFormat, Call};
use crate::rejection::Rejection;

/// Authorization parameters that a definition may not set.
pub(crate) const RESERVED: &[&str] = &[
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "state",
    "redirect_uri",
    "scope",
    "client_id",
];

/// Whether clients of this mode may do without a secret.
pub(crate) fn allows_public_clients(mode: AuthMode) -> bool {
    matches!(mode, AuthMode::McpOAuth2 | AuthMode::McpOAuth2Generic)
}

/// Whom a registration makes known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientProfile {
    /// Shown to end users when they consent.
    pub name: String,
    /// Its page.
    pub uri: Option<String>,
    /// Its logo.
    pub logo_uri: Option<String>,
}

/// A client that was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredClient {
    /// Client id.
    pub id: String,
    /// Client secret; none for a public client.
    pub secret: Option<Secret>,
    /// How it is to authenticate, as the provider said.
    pub auth_method: Option<String>,
}

/// Why a client could not be registered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The endpoint is no usable URL.
    #[error("the provider's registration endpoint is not usable")]
    Endpoint,
    /// No answer.
    #[error("the provider's registration endpoint could not be asked: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// The provider refused, or answered without a client id.
    #[error("no client was registered: {0}")]
    Rejected(Rejection),
}

/// The registration request. Of `params`, `response_types` and `grant_types` count.
pub fn registration_request(url: Url, callback: &str, profile: &ClientProfile, params: &JsonMap) -> Call {
    let mut body = JsonMap::new();
    body.insert("redirect_uris".to_owned(), json!([callback]));
    body.insert("token_endpoint_auth_method".to_owned(), "none".into());
    body.insert("client_name".to_owned(), profile.name.clone().into());
    let optional = [("client_uri", &profile.uri), ("logo_uri", &profile.logo_uri)];
    for (name, value) in optional {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.clone().into());
        }
    }
    for name in ["response_types", "grant_types"] {
        if let Some(value) = params.get(name) {
            body.insert(name.to_owned(), value.clone());
        }
    }
    Call::post(url, &body, BodyFormat::Json)
}

/// What the answer to [`registration_request`] means.
pub fn read_registration(answer: &Answer) -> Result<RegisteredClient, RegistrationError> {
    let object = answer.object().filter(|_| answer.is_success());
    let text = |name: &str| {
        let value = object
            .as_ref()
            .and_then(|object| object.get(name))
            .and_then(Value::as_str);
        value.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let Some(id) = text("client_id") else {
        return Err(RegistrationError::Rejected(Rejection::read(answer, &[])));
    };
    Ok(RegisteredClient {
        id,
        secret: text("client_secret").map(Secret::new),
        auth_method: text("token_endpoint_auth_method"),
    })
}

/// The client id metadata document, which stands for a registration where servers read it.
pub fn client_metadata_document(client_id: &str, callback: &str, profile: &ClientProfile) -> JsonMap {
    let mut document = JsonMap::new();
    document.insert("client_id".to_owned(), client_id.into());
    document.insert("client_name".to_owned(), profile.name.clone().into());
    let optional = [("client_uri", &profile.uri), ("logo_uri", &profile.logo_uri)];
    for (name, value) in optional {
        if let Some(value) = value {
            document.insert(name.to_owned(), value.clone().into());
        }
    }
    document.insert("redirect_uris".to_owned(), json!([callback]));
    document.insert(
        "grant_types".to_owned(),
        json!(["authorization_code", "refresh_token"]),
    );
    document.insert("response_types".to_owned(), json!(["code"]));
    document.insert("token_endpoint_auth_method".to_owned(), "none".into());
    document
}

/// Whether a discovery answer means: look elsewhere.
pub(crate) fn is_elsewhere(status: u16) -> bool {
    StatusCode::from_u16(status).is_ok_and(|status| status.is_client_error())
}
