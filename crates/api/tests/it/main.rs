//! The API as its callers meet it, in process: every route over both databases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "one program: everything is as private as can be")]

mod auth_errors;
mod common;
mod conformance;
mod connections;
mod environments;
mod error_pages;
mod integrations;
mod provider_overrides;
mod providers;
mod status;
