//! Repositories over SQLite and Postgres: migrations, encryption at rest, outbox, leases.

pub mod accounts;
pub mod api_keys;
pub mod auth_attempts;
pub mod auth_outcomes;
pub mod backup;
mod columns;
pub mod connect_sessions;
pub mod connections;
pub mod db;
pub mod deliveries;
pub mod end_users;
pub mod environments;
pub mod inbound_events;
pub mod integrations;
pub mod leases;
mod migrate;
pub mod operations;
pub mod provider_overrides;
pub mod provider_steps;
pub mod rate_windows;
pub mod refreshes;
pub mod retention;
pub mod settings;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vault;

pub use store::{Migrations, OpenError, Rotation, Store, StoreConfig, StoreStats};
