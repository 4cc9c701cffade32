//! Every route of the wire protocol, resource by resource.

use std::sync::Arc;

use patchbay_connections::Context;

use crate::route::Endpoint;
use crate::status::Readiness;
use crate::{api_keys, config, environments, integrations, providers, status};

/// The routes over `context`; `readiness` is asked by `GET /ready`.
pub fn routes(context: &Arc<Context>, readiness: &Readiness) -> Vec<Endpoint> {
    [
        status::routes(context, readiness),
        environments::routes(context),
        api_keys::routes(context),
        providers::routes(context),
        integrations::routes(context),
        config::routes(context),
    ]
    .into_iter()
    .flatten()
    .collect()
}
