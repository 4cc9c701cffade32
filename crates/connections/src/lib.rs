//! Environments, keys, integrations, connections and connect sessions: their rules.
//!
//! Domain functions take a [`Context`], know no HTTP status, and end in one transaction that holds the change and
//! everything it causes (outbox rows, notices). Handlers to the right of this room call them and shape the answer.

pub mod admission;
pub mod api_keys;
pub mod auth_attempts;
pub mod auth_outcomes;
pub mod caches;
pub mod client_metadata;
pub mod connect_forms;
pub mod connect_sessions;
pub mod connections;
pub mod context;
pub mod deliveries;
pub mod environments;
mod failed_attempts;
pub mod inbound_events;
pub mod installations;
pub mod integrations;
mod introspection;
pub mod journal;
mod logbook;
pub mod maintenance;
mod notices;
pub mod outbound_installations;
mod outbox;
pub mod provider_overrides;
pub mod rate_limits;
pub mod refresh;
pub mod results;
mod retest;
pub mod steps;
pub mod submissions;
mod usage;

pub use context::{Context, Settings, StateCookie};
