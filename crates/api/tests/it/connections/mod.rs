//! Connections, metadata, connect sessions and the proxy over the wire (api-core §9, §10; proxy contract).

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
