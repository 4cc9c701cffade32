//! Connections, metadata, connect sessions and the proxy over the wire (api-core §9, §10; proxy contract).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod import;
mod legacy_import;
mod list;
mod metadata;
mod patch;
mod proxy;
mod read;
mod sessions;
mod tags;
mod wire;
