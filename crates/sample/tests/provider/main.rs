//! The sample provider over HTTP, as its clients see it.

#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation ends the test, also in its helpers"
)]

mod oauth;
mod resources;
mod support;
