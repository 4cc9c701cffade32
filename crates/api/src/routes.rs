//! Every route of the wire protocol, resource by resource.

use std::sync::Arc;

use patchbay_connections::Context;
use patchbay_proxy::Proxy;

use crate::route::Endpoint;
use crate::status::Readiness;
use crate::{
    api_keys, auth_outcomes, authorize_forms, client_metadata, config, connect_forms, connect_sessions,
    connections, environments, inbound_events, integrations, legacy_import, metadata, provider_overrides,
    providers, proxy, status,
};

/// The routes over `context`; `readiness` is asked by `GET /ready`, proxied calls go by `proxy`.
pub fn routes(context: &Arc<Context>, calls: &Arc<Proxy>, readiness: &Readiness) -> Vec<Endpoint> {
    [
        status::routes(context, readiness),
        environments::routes(context),
        api_keys::routes(context),
        providers::routes(context),
        provider_overrides::routes(context),
        integrations::routes(context),
        config::routes(context),
        connections::routes(context),
        legacy_import::routes(context),
        metadata::routes(context),
        connect_sessions::routes(context),
        connect_forms::routes(context),
        auth_outcomes::routes(context),
        proxy::routes(calls),
        authorize_forms::routes(context),
        client_metadata::routes(context),
        inbound_events::routes(context),
    ]
    .into_iter()
    .flatten()
    .collect()
}
