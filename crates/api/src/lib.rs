//! The wire protocol: routes, validation, envelopes, OpenAPI.
//!
//! A [`route::Route`] says what a route accepts and answers, beside its handler. [`service::Service`] takes the
//! table of them and answers requests in the one order that decides which error wins; [`server::serve`] drives
//! the connections. Error envelopes are built in [`error`] and nowhere else, from the codes in [`codes`].

pub mod api_keys;
pub mod auth_outcomes;
pub mod authenticate;
pub mod authenticator;
pub mod authorize_forms;
pub mod body;
pub mod client;
mod client_metadata;
pub mod codes;
pub mod config;
pub mod connect_forms;
pub mod connect_sessions;
pub mod connections;
pub mod cors;
pub mod environments;
pub mod error;
pub mod guard;
mod inbound_events;
pub mod integrations;
pub mod legacy_import;
mod matcher;
pub mod metadata;
pub mod openapi;
mod provider_overrides;
pub mod providers;
pub mod proxy;
pub mod query;
pub mod rate_limit;
pub mod reply;
pub mod route;
pub mod routes;
pub mod schema;
pub mod server;
pub mod service;
pub mod status;

pub use authenticate::{Auth, Authenticator, Principal};
pub use error::{ApiError, Layer};
pub use matcher::DuplicateRoute;
pub use reply::Reply;
pub use route::{Call, Endpoint, Rate, Route};
pub use service::{Service, ServiceOptions};
