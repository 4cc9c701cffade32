//! Proxied requests: building, credential injection, streaming relay (proxy contract).
//!
//! [`Proxy::relay`] takes a caller's request, reads the connection's credentials (refreshing them if due), builds the
//! upstream request with `auth::request`, sends it through `outbound` and hands the upstream's response back as it
//! arrives. Bodies stream both ways and are parsed only where the contract demands a conversion ([`body`]).
//! The caller going away drops the future, and with it the upstream exchange.
//!
//! - `relay` runs a call: attempts and waits. `hops` follows redirects, `retry` decides, `payload` holds what can be
//!   sent again.
//! - `egress` chooses the client whose policy is the environment's.
//! - `record` gathers what the logs will say while the call runs; `redact` writes it, in the background.
//! - `answer` is the body on its way to the caller; `upgrade` joins connections that change their protocol.

mod answer;
pub mod body;
mod call;
mod egress;
mod headers;
mod hops;
pub mod pagination;
mod payload;
mod record;
mod redact;
mod relay;
mod retry;
mod upgrade;

pub use answer::RelayBody;
pub use call::{Controls, Logging, MAX_RETRIES, ProxyError, ProxyRequest, RedirectHeaders};
pub use relay::{BaseUrlOverride, Proxy, Settings};
