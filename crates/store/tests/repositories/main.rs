//! Stories of the repositories, each told on SQLite and on Postgres.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api_keys;
mod connection_list;
mod connections;
mod deliveries;
mod environments;
mod integrations;
mod leases;
mod operations;
mod provider_steps;
mod refreshes;
mod retention;
mod sessions;
mod world;
