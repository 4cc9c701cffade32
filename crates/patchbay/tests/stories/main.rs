//! The server as its users meet it: over HTTP, beside it on the command line, and when things go wrong. Each story
//! runs on SQLite and on Postgres.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod connect;
mod limits;
mod nodes;
mod outages;
mod process;
mod settings;
mod trust;
mod webhooks;
mod wire;
