//! Repositories over SQLite and Postgres: migrations, encryption at rest, outbox, leases.

pub mod db;
mod store;
pub mod vault;

pub use store::{OpenError, Store, StoreConfig};
