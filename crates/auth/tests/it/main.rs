//! The room from outside: definitions in, requests out, answers in, credentials out.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![expect(
    clippy::needless_pass_by_value,
    reason = "cases are written with json! in place"
)]

mod authorize;
mod catalogue;
mod client_credentials;
mod driver;
mod exchange;
mod injection;
mod renewal;
mod steps;
mod support;
mod token_client;
mod verification;
