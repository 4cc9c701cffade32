//! The sample provider behind the demo and the tests, with switches for misbehaviour.
//!
//! A small company's API on loopback: OAuth 2 with PKCE and rotating refresh tokens, client credentials, an API key,
//! Basic authentication, paginated data that can be changed, endpoints that echo, stream and stall, and a mailbox for
//! webhooks. Everything it does is counted and logged, and everything a real provider gets wrong can be switched on,
//! through [`SampleHandle`] or `PUT /admin/…`. Time and randomness are the given [`patchbay_ambient::Ambient`]'s.
//!
//! Nothing here is meant to be reachable from anywhere but the same machine.

mod admin;
mod api;
mod behaviour;
mod counts;
mod data;
mod hooks;
mod logins;
mod oauth;
mod probe;
mod server;
mod token;
mod tokens;

pub use behaviour::{
    Behaviours, Consent, EarlyRefresh, Expiry, Failure, Gate, Grant, OldToken, RefreshField, Rotation, Shape,
    TokenBehaviour,
};
pub use counts::{Counts, TokenRequest};
pub use hooks::{HookAnswer, Received};
pub use server::{Options, RegisteredClient, SampleHandle, serve};

/// The registered OAuth client.
pub const CLIENT_ID: &str = "sample-client";
/// Its secret.
pub const CLIENT_SECRET: &str = "sample-client-secret-4f1d9c";
/// The key of the API-key API, sent as `x-api-key` or `?api_key=`.
pub const API_KEY: &str = "sample-key-7b3e52a0";
/// The user name of the Basic API.
pub const BASIC_USER: &str = "ada";
/// Its password.
pub const BASIC_PASSWORD: &str = "sample-password-c81a";
