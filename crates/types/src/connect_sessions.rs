//! Connect sessions: a product's permission for one end user to connect, 30 minutes (api-core §10).

use serde::{Deserialize, Serialize};

use crate::end_users::{EndUserInput, OrganizationInput};
use crate::{
    AccountId, ConnectSessionId, ConnectionRowId, EnvironmentId, IntegrationKey, JsonMap, OperationId, Tags,
    Timestamp,
};

/// A connect session. Its token is stored only as a SHA-256.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectSession {
    /// Row.
    pub id: ConnectSessionId,
    /// Account.
    pub account_id: AccountId,
    /// Environment it acts in.
    pub environment_id: EnvironmentId,
    /// Everything the product asked for.
    pub spec: ConnectSessionSpec,
    /// The connection a reconnect session is bound to.
    pub connection: Option<ConnectionRowId>,
    /// The log operation of the session.
    pub operation_id: Option<OperationId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its token stops working.
    pub expires_at: Timestamp,
}

/// A connect session to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewConnectSession {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// See [`ConnectSession::account_id`].
    pub account_id: AccountId,
    /// See [`ConnectSession::environment_id`].
    pub environment_id: EnvironmentId,
    /// See [`ConnectSession::spec`].
    pub spec: ConnectSessionSpec,
    /// See [`ConnectSession::connection`].
    pub connection: Option<ConnectionRowId>,
    /// See [`ConnectSession::operation_id`].
    pub operation_id: Option<OperationId>,
    /// See [`ConnectSession::expires_at`].
    pub expires_at: Timestamp,
}

/// The product's wishes, stored as one encrypted JSON document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectSessionSpec {
    /// Deprecated end user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_user: Option<EndUserInput>,
    /// Deprecated organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationInput>,
    /// Tags of the connection to be; none keeps a reconnected connection's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// Only these; none or empty allows all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_integrations: Option<Vec<IntegrationKey>>,
    /// Presets by integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrations_config_defaults: Option<std::collections::BTreeMap<String, IntegrationDefaults>>,
    /// `docs_connect` by integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<std::collections::BTreeMap<String, SessionOverride>>,
    /// Webhooks of the connection go here; empty text clears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url_override: Option<String>,
}

/// Presets of one integration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IntegrationDefaults {
    /// Slack's user scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_scopes: Option<String>,
    /// Parameters of the authorization URL; replace the browser's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_params: Option<std::collections::BTreeMap<String, String>>,
    /// Overlays the browser's `params`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_config: Option<JsonMap>,
}

/// Overrides of one integration's presentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionOverride {
    /// Guide linked from the Connect UI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs_connect: Option<String>,
}
