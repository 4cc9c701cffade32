//! Proxied requests: building, credential injection, streaming relay (proxy contract).
//!
//! [`relay`] takes a caller's request, reads the connection's credentials (refreshing them if due), builds the
//! upstream request with `auth::request`, sends it through `outbound` and hands the upstream's response back as it
//! arrives. Bodies stream both ways and are parsed only where the contract demands a conversion ([`body`]).
//! The caller going away drops the future, and with it the upstream exchange.

pub mod body;
mod headers;
pub mod pagination;
mod relay;

pub use relay::{Controls, MAX_RETRIES, ProxyError, ProxyRequest, RedirectHeaders, relay};
