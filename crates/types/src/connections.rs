//! Connections: one end user's credentials for one integration (api-core §9).

use serde::{Deserialize, Serialize};

use crate::end_users::EndUser;
use crate::{
    ConnectionId, ConnectionRowId, Credentials, EndUserId, EnvironmentId, IntegrationId, IntegrationKey,
    JsonMap, OperationId, ProviderName, Secret, Tags, Timestamp,
};

/// A connection with its credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Number on the wire.
    pub id: ConnectionRowId,
    /// Environment it belongs to.
    pub environment_id: EnvironmentId,
    /// Integration it belongs to.
    pub integration_id: IntegrationId,
    /// `provider_config_key` of that integration.
    pub integration_key: IntegrationKey,
    /// Catalogue entry of that integration.
    pub provider: ProviderName,
    /// Public id, unique among the integration's live connections.
    pub connection_id: ConnectionId,
    /// The credentials, stored encrypted.
    pub credentials: Credentials,
    /// Provider parameters such as `subdomain`; strings from clients, anything from post-connection steps.
    pub connection_config: JsonMap,
    /// The product's own data; null until set.
    pub metadata: Option<JsonMap>,
    /// The product's labels.
    pub tags: Tags,
    /// Deprecated end-user row.
    pub end_user: Option<EndUser>,
    /// Webhooks go here instead of the environment's URLs.
    pub webhook_url_override: Option<String>,
    /// Active failures.
    pub errors: Vec<ConnectionError>,
    /// How its refreshes went.
    pub refresh: RefreshState,
    /// Bumped by every write of credentials: what compare-and-set compares.
    pub generation: i64,
    /// Last credential read.
    pub last_fetched_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// How the refreshes of a connection went (auth-flows §24).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RefreshState {
    /// When the stored credentials count as expired for the background check.
    pub credentials_expires_at: Option<Timestamp>,
    /// Last refresh that worked.
    pub last_success: Option<Timestamp>,
    /// Last refresh that failed; cleared by success.
    pub last_failure: Option<Timestamp>,
    /// Distinct UTC days with failures since the last success.
    pub attempts: i32,
    /// Given up: only a forced refresh or a reconnect revives it.
    pub exhausted: bool,
    /// Why the last refresh failed.
    pub cause: Option<RefreshCause>,
    /// The refresh token before the last rotation and when it stops being worth a try.
    pub previous_refresh_token: Option<(Secret, Timestamp)>,
}

/// Who is to blame for a failed refresh (DESIGN invariant 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshCause {
    /// The provider refused the grant for good (`invalid_grant`): the end user must reconnect.
    ProviderRefused,
    /// The provider answered 5xx, 429 or nonsense, or did not answer: try again later.
    ProviderDown,
    /// Our own fault (storage, configuration, blocked address): the credential is untouched.
    Ours,
    /// We were killed between asking and saving, and the provider no longer honours the old token.
    RefreshInterrupted,
}

/// An active failure of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionError {
    /// `auth` or `sync`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The operation that failed.
    pub log_id: OperationId,
}

/// A row of `GET /connections`: no credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionSummary {
    /// Number on the wire.
    pub id: ConnectionRowId,
    /// Public id.
    pub connection_id: ConnectionId,
    /// Integration.
    pub integration_key: IntegrationKey,
    /// Catalogue entry.
    pub provider: ProviderName,
    /// Active failures.
    pub errors: Vec<ConnectionError>,
    /// Deprecated end user.
    pub end_user: Option<EndUser>,
    /// Labels.
    pub tags: Tags,
    /// The product's own data.
    pub metadata: Option<JsonMap>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What `GET /connections` filters by; all present filters apply together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionFilter {
    /// Exact public id.
    pub connection_id: Option<String>,
    /// Case-insensitive part of the id, the end user's name or e-mail (row or tags).
    pub search: Option<String>,
    /// Any of these integrations.
    pub integration_keys: Option<Vec<String>>,
    /// End-user id, row or tag.
    pub end_user_id: Option<String>,
    /// Organization id, row or tag.
    pub organization_id: Option<String>,
    /// Every pair, exactly.
    pub tags: Tags,
    /// Rows to answer.
    pub limit: u32,
    /// Rows to pass over.
    pub offset: u64,
}

/// What an upsert writes (auth-flows §22). `Keep` leaves the stored value of an existing connection alone.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionUpsert {
    /// Integration.
    pub integration_id: IntegrationId,
    /// Public id.
    pub connection_id: ConnectionId,
    /// New credentials; none leaves stored ones (mode NONE on override).
    pub credentials: Credentials,
    /// Replaces.
    pub connection_config: JsonMap,
    /// Metadata.
    pub metadata: Change<Option<JsonMap>>,
    /// Tags.
    pub tags: Change<Tags>,
    /// Webhook override.
    pub webhook_url_override: Change<Option<String>>,
    /// End user.
    pub end_user: Change<Option<EndUserId>>,
    /// See [`RefreshState::credentials_expires_at`].
    pub credentials_expires_at: Option<Timestamp>,
}

/// Set a field, or leave what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// Leave it; a new row gets the default.
    #[default]
    Keep,
    /// Write this.
    Set(T),
}

/// Whether an upsert made or replaced a connection: `operation` of the `auth` webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthOperation {
    /// A new connection.
    Creation,
    /// Re-authorized.
    Override,
    /// A refresh.
    Refresh,
    /// Deleted.
    Deletion,
}
