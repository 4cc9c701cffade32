//! Every route of the wire protocol, resource by resource.

use std::sync::Arc;

use patchbay_connections::Context;

use crate::route::Endpoint;
use crate::status::Readiness;
use crate::{
    api_keys, authorize_forms, config, connect_sessions, connections, environments, integrations,
    legacy_import, metadata, provider_overrides, providers, proxy, status,
};

/// The routes over `context`; `readiness` is asked by `GET /ready`.
pub fn routes(context: &Arc<Context>, readiness: &Readiness) -> Vec<Endpoint> {
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
        proxy::routes(context),
        authorize_forms::routes(context),
    ]
    .into_iter()
    .flatten()
    .collect()
}
