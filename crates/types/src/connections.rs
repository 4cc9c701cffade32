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
    /// Until when refreshes that nobody forces wait.
    pub not_before: Option<Timestamp>,
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

impl RefreshCause {
    const ALL: [Self; 4] = [
        Self::ProviderRefused,
        Self::ProviderDown,
        Self::Ours,
        Self::RefreshInterrupted,
    ];

    /// As stored and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProviderRefused => "provider_refused",
            Self::ProviderDown => "provider_down",
            Self::Ours => "ours",
            Self::RefreshInterrupted => "refresh_interrupted",
        }
    }

    /// As stored and on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
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

/// What `PATCH /connections/:id` writes; `updated_at` stays (api-core §9.5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionPatch {
    /// Replaces all tags.
    pub tags: Change<Tags>,
    /// Links or unlinks.
    pub end_user: Change<Option<EndUserId>>,
    /// Sets or clears.
    pub webhook_url_override: Change<Option<String>>,
}

/// What a refresh that worked writes.
#[derive(Clone, Debug, PartialEq)]
pub struct RefreshedCredentials {
    /// The new credentials.
    pub credentials: Credentials,
    /// See [`RefreshState::credentials_expires_at`].
    pub credentials_expires_at: Option<Timestamp>,
    /// Merged over the stored connection config, key by key; empty changes nothing.
    pub connection_config: JsonMap,
    /// Until when a rotated-out refresh token is kept for another try.
    pub previous_until: Timestamp,
    /// See [`RefreshState::not_before`].
    pub not_before: Option<Timestamp>,
}

/// What a refresh that failed writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshFailure {
    /// Who is to blame.
    pub cause: RefreshCause,
    /// The operation that failed.
    pub operation_id: OperationId,
    /// What it counts for.
    pub weight: FailureWeight,
    /// See [`RefreshState::not_before`].
    pub not_before: Option<Timestamp>,
}

/// What a failed refresh counts for (auth-flows §24.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureWeight {
    /// Starts the cool-down and nothing else: neither is the credential to blame, nor does anybody miss it yet.
    CoolDown,
    /// Starts the cool-down and opens the `auth` failure, but counts for nothing: the connection does not work, and
    /// the credential is not to blame.
    Uncounted,
    /// One more day with failures; the fourth exhausts the connection.
    Counted,
    /// Exhausts the connection at once.
    Final,
}

/// Distinct UTC days with failures at which a connection is given up.
pub const MAX_REFRESH_ATTEMPTS: i32 = 4;

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
