//! Stories of the repositories, each told on SQLite and on Postgres.

mod api_keys;
mod connection_list;
mod connections;
mod deliveries;
mod environments;
mod integrations;
mod leases;
mod operations;
mod refreshes;
mod retention;
mod sessions;
mod world;
