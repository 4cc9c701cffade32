//! To come.
use std::sync::Arc;

use patchbay_connections::Context;

use crate::route::Endpoint;

pub(crate) fn routes(_context: &Arc<Context>) -> Vec<Endpoint> {
    Vec::new()
}
