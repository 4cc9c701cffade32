//! Environments, keys, integrations, connections and connect sessions: their rules.
//!
//! Domain functions take a [`Context`], know no HTTP status, and end in one transaction that holds the change and
//! everything it causes (outbox rows, notices). Handlers to the right of this room call them and shape the answer.

pub mod admission;
pub mod api_keys;
pub mod auth_attempts;
pub mod caches;
pub mod connect_sessions;
pub mod connections;
pub mod context;
pub mod deliveries;
pub mod environments;
pub mod integrations;
mod logbook;
pub mod maintenance;
mod outbox;
pub mod provider_overrides;
pub mod refresh;
pub mod results;
pub mod submissions;
mod usage;

pub use context::{Context, Settings, StateCookie};
