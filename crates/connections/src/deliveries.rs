//! Deliveries as people look at them; the `webhooks` room makes the attempts.

use patchbay_store::db::DbError;
use patchbay_store::deliveries;
use patchbay_types::deliveries::{Delivery, DeliveryFilter};

use crate::context::Context;

/// The deliveries that match, newest first.
pub async fn list(context: &Context, filter: DeliveryFilter) -> Result<Vec<Delivery>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { deliveries::list(tx, &filter).await }))
        .await
}
