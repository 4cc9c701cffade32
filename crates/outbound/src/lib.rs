//! The one HTTP client to the world: pool, TLS, address guard in the connector, retries.
//!
//! Mechanism only: nothing here knows what the requests are for. What an address may be reached is a [`Policy`],
//! checked inside the connector on every address a name resolves to and on literal addresses, so that neither a
//! DNS answer nor a redirect can get around it. A [`Client`] holds the connection pools of one policy;
//! connections are never shared between policies.
//!
//! - [`Client::send`] streams both ways and adds nothing: the proxy's path.
//! - [`Client::fetch`] is for small exchanges (token endpoints, webhooks): whole bodies with a size limit, a total
//!   time limit, redirects followed with every hop checked again.
//! - [`redirect`], [`backoff`], [`budget`] and [`replay`] are the parts of a retrying, redirecting caller.
//!
//! Transport timeouts are tokio's: they measure real sockets. The DNS cache and the retry budget take the
//! injected clock.

mod address;
pub mod backoff;
mod body;
pub mod budget;
mod client;
mod connector;
mod dns;
mod error;
mod fetch;
#[cfg(feature = "legacy-tls")]
mod legacy_tls;
mod policy;
mod pool;
pub mod redirect;
pub mod replay;
mod socket;
mod tls;

pub use address::{Range, classify};
pub use body::{Body, BoxError, ResponseBody};
pub use client::{Call, Client, Protocol, Settings, Timeouts, Tls};
pub use dns::{DnsFailure, Resolve, SystemResolver};
pub use error::{BlockReason, ConnectFailure, Error, InvalidUrl, Phase, TlsFailure};
pub use fetch::{FetchRequest, FetchResponse, Limits, uri_of};
pub use policy::{InvalidNetworks, Policy, PrivateNetworks};
pub use tls::{Identity, InvalidCertificates, InvalidIdentity, Trust, ensure_crypto_provider};
