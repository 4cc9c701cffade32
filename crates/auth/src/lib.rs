//! Auth modes as sans-I/O cores: forms to credentials, OAuth, refresh, request signing.
//!
//! A core is a pure function: from a provider's definition, the integration's secrets and what was typed or stored it
//! makes a request as data ([`message::Call`], [`request::BuiltRequest`]); from the answer as data it makes
//! credentials, or a small error that carries the contract's code. [`driver`] and [`verification`] put the outbound
//! client between the two. Nothing here stores, retries, or knows status codes of our own API; no error's text and no
//! `Debug` shows a secret.
//!
//! [`modes`] is the table of auth modes; a mode is one file.

pub mod app;
pub mod aws_sigv4;
pub mod bill;
pub mod client_credentials;
pub mod driver;
pub mod endpoint;
pub mod forms;
pub mod introspection;
pub mod jwt;
pub mod mcp;
pub mod message;
pub mod metadata;
pub mod modes;
pub mod oauth1;
pub mod oauth2;
pub mod obtain;
pub mod plugin;
pub mod rejection;
pub mod renewal;
pub mod request;
pub mod signed_tokens;
pub mod steps;
pub mod tba;
pub mod two_step;
pub mod verification;
pub mod wsse;

mod assertions;
mod encode;
mod expiry;
mod fields;
mod own_call;
mod saml;
mod xml;
