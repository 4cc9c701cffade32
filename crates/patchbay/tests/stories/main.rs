//! The server as its users meet it: over HTTP, beside it on the command line, and when things go wrong. Each story
//! runs on SQLite and on Postgres.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "one program: everything is as private as can be")]

mod apps;
mod chaos;
mod commands;
mod common;
mod conformance;
mod connect;
mod exports;
mod forms;
mod installations;
mod limits;
mod mcp;
mod nodes;
mod oauth1;
mod oauth2;
mod outages;
mod plugins;
mod popups;
mod process;
mod proxy;
mod retests;
mod settings;
mod steps;
mod transparency;
mod trust;
mod webhooks;
mod wire;
