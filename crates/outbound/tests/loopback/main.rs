//! The client against real servers on loopback: plain, TLS, and raw sockets that misbehave.

#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation ends the test, also in its helpers"
)]

mod exchange;
mod fetch;
mod support;
mod tls;
