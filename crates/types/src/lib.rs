//! The vocabulary of Patchbay: ids, tags, credentials, scopes and the records of each aggregate.
//!
//! Pure values, validated when they are constructed; no I/O, no clock, no randomness. A value of one of these
//! types that exists is a valid one, so rooms further right do not check again.

pub mod api_keys;
pub mod auth_attempts;
pub mod auth_mode;
pub mod connect_sessions;
pub mod connections;
pub mod credentials;
pub mod deliveries;
pub mod end_users;
pub mod environments;
pub mod ids;
pub mod integrations;
pub mod json;
pub mod operations;
pub mod refreshes;
pub mod scopes;
pub mod secret;
pub mod tags;
pub mod time;

pub use auth_mode::AuthMode;
pub use credentials::Credentials;
pub use ids::{
    AccountId, ApiKeyId, AuthAttemptId, ConnectSessionId, ConnectionId, ConnectionRowId, DeliveryId,
    EndUserId, EnvironmentId, EnvironmentName, IntegrationId, IntegrationKey, InvalidId, OperationId,
    ProviderName,
};
pub use json::JsonMap;
pub use scopes::{Scope, ScopeSet};
pub use secret::Secret;
pub use tags::Tags;
pub use time::Timestamp;
