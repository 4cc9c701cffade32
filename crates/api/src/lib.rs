//! The wire protocol: routes, validation, envelopes, OpenAPI.
