//! The wire protocol: routes, validation, envelopes, OpenAPI.

pub mod schema;
