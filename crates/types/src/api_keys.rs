//! API keys: UUID v4 secrets that identify an environment, or an account (api-core §2).

use uuid::Uuid;

use crate::{AccountId, ApiKeyId, EnvironmentId, ScopeSet, Secret, Timestamp};

/// A key, its secret apart.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKey {
    /// Number on the wire.
    pub id: ApiKeyId,
    /// UUID on the wire (not the secret).
    pub uuid: Uuid,
    /// Owner.
    pub account_id: AccountId,
    /// The one environment it opens; none for an account key.
    pub environment_id: Option<EnvironmentId>,
    /// Unique among the live keys of its environment (or account).
    pub display_name: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Last use, at most one update a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key with its secret, as `GET …/api-keys/:uuid` and creation answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeyWithSecret {
    /// The key.
    pub key: ApiKey,
    /// UUID v4 text.
    pub secret: Secret,
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewApiKey {
    /// See [`ApiKey::uuid`].
    pub uuid: Uuid,
    /// See [`ApiKey::account_id`].
    pub account_id: AccountId,
    /// See [`ApiKey::environment_id`].
    pub environment_id: Option<EnvironmentId>,
    /// See [`ApiKey::display_name`].
    pub display_name: String,
    /// See [`ApiKey::scopes`].
    pub scopes: ScopeSet,
    /// UUID v4 text.
    pub secret: Secret,
    /// SHA-256 of the secret: what it is found by.
    pub secret_hash: [u8; 32],
}
