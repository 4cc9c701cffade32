//! Authorization attempts: what is remembered between the redirect to a provider and its callback (auth-flows §5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    AuthMode, ConnectSessionId, ConnectionId, EnvironmentId, IntegrationId, IntegrationKey, JsonMap,
    OperationId, ProviderName, Secret, Timestamp,
};

/// One attempt, stored encrypted under the SHA-256 of its `state`; taken (deleted) by the callback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthAttempt {
    /// Environment.
    pub environment_id: EnvironmentId,
    /// Integration.
    pub integration_id: IntegrationId,
    /// Its key at the start.
    pub integration_key: IntegrationKey,
    /// Catalogue entry at the start.
    pub provider: ProviderName,
    /// Mode at the start.
    pub auth_mode: AuthMode,
    /// Connection to create or overwrite.
    pub connection_id: ConnectionId,
    /// The redirect URI sent to the provider.
    pub callback_url: String,
    /// PKCE (RFC 7636); none when the provider disables it.
    #[serde(default)]
    pub code_verifier: Option<Secret>,
    /// OAuth 1 only.
    #[serde(default)]
    pub request_token_secret: Option<Secret>,
    /// Merged parameters so far.
    #[serde(default)]
    pub connection_config: JsonMap,
    /// The connection's own OAuth client.
    #[serde(default)]
    pub client_override: BTreeMap<String, Secret>,
    /// Session that allowed it.
    #[serde(default)]
    pub connect_session: Option<ConnectSessionId>,
    /// WebSocket that waits for the result.
    #[serde(default)]
    pub ws_client_id: Option<String>,
    /// The page of the Connect UI that began it.
    #[serde(default)]
    pub connect_ui: Option<ConnectUiPage>,
    /// Log operation.
    #[serde(default)]
    pub operation_id: Option<OperationId>,
    /// When it began; refused after an hour.
    pub created_at: Timestamp,
}

/// A page of our own Connect UI, which can ask for the outcome of an attempt by the name it gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectUiPage {
    /// The attempt's name, unique within its session.
    pub attempt: String,
    /// Where to send the browser back, if the page itself went to the provider; none for a popup.
    #[serde(default)]
    pub back: Option<ReturnToPage>,
}

/// What the page needs to go on where it left off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReturnToPage {
    /// The session's token, given back to the browser that brought it.
    pub session_token: Secret,
    /// `theme` of its address.
    #[serde(default)]
    pub theme: Option<String>,
    /// `lang` of its address.
    #[serde(default)]
    pub lang: Option<String>,
}
