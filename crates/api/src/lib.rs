//! The wire protocol: routes, validation, envelopes, OpenAPI.

pub mod authenticate;
pub mod body;
pub mod client;
pub mod codes;
pub mod cors;
pub mod error;
pub mod guard;
mod matcher;
pub mod query;
pub mod rate_limit;
pub mod reply;
pub mod schema;
