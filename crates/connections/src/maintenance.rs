//! What runs by itself: old rows are purged, and credentials nobody reads are kept alive.
//!
//! Each job is one node's at a time, by a lease that outlives a crash by minutes and no more.

use std::sync::Arc;
use std::time::Duration;

use patchbay_store::connections;
use patchbay_store::db::DbError;
use patchbay_store::leases::{self, Lease};
use patchbay_store::retention::{self, Retention};
use patchbay_types::Timestamp;

use crate::caches::ConnectionName;
use crate::context::Context;
use crate::refresh::{self, Freshness, ReadError};

/// How often old rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// Rows a table gives up in one transaction: small enough not to be felt by writers.
const SWEEP_BATCH: u32 = 500;
/// How often idle credentials are looked at (auth-flows §24.6).
const REFRESH_EVERY: Duration = Duration::from_mins(10);
/// Credentials unread for this long are looked at.
const IDLE: Duration = Duration::from_hours(24);
/// Connections of one page of idle ones.
const PAGE: u32 = 100;

/// Starts both jobs; they end with the server.
pub fn start(context: &Arc<Context>) {
    every(context, SWEEP_EVERY, "retention", |context| {
        Box::pin(async move { sweep(&context).await })
    });
    every(context, REFRESH_EVERY, "idle-refresh", |context| {
        Box::pin(async move { refresh_idle(&context).await })
    });
}

type Job = futures_util::future::BoxFuture<'static, Result<(), DbError>>;

fn every(context: &Arc<Context>, pause: Duration, name: &'static str, job: fn(Arc<Context>) -> Job) {
    let weak = Arc::downgrade(context);
    let (clock, stopping) = (context.ambient.clock.clone(), context.ambient.tasks.stopping());
    context.ambient.tasks.spawn(async move {
        while stopping.run_until_cancelled(clock.sleep(pause)).await.is_some() {
            let Some(context) = weak.upgrade() else { return };
            if let Err(error) = leased(&context, name, pause, job).await {
                tracing::warn!(%error, job = name, "a maintenance job did not finish, it comes round again");
            }
        }
    });
}

/// Runs `job` if no other node does.
async fn leased(
    context: &Arc<Context>,
    name: &'static str,
    length: Duration,
    job: fn(Arc<Context>) -> Job,
) -> Result<(), DbError> {
    let holder = format!("{}/{}", context.settings.node, context.ambient.entropy.uuid());
    let lease: Option<Lease> = context
        .store
        .write(move |tx| Box::pin(async move { leases::acquire(tx, name, &holder, length).await }))
        .await?;
    let Some(lease) = lease else { return Ok(()) };
    let done = job(context.clone()).await;
    context
        .store
        .write(move |tx| Box::pin(async move { leases::release(tx, &lease).await }))
        .await?;
    done
}

/// Purges what each table's retention rule lets go, batch by batch.
pub async fn sweep(context: &Context) -> Result<(), DbError> {
    while !context.ambient.tasks.is_stopping() {
        let swept = context
            .store
            .write(|tx| {
                Box::pin(async move { retention::sweep(tx, &Retention::default(), SWEEP_BATCH).await })
            })
            .await?;
        for (table, rows) in &swept.rows {
            metrics::counter!("patchbay_purged_rows_total", "table" => *table).increment(*rows);
        }
        if !swept.more {
            break;
        }
    }
    Ok(())
}

/// Reads credentials that nobody has read for a day, which refreshes those near their end: an idle refresh token is
/// what many providers let die.
pub async fn refresh_idle(context: &Arc<Context>) -> Result<(), DbError> {
    let before = context.ambient.now().checked_sub(IDLE).unwrap_or(Timestamp::MIN);
    let mut cursor = None;
    while !context.ambient.tasks.is_stopping() {
        let page = context
            .store
            .read(move |tx| Box::pin(async move { connections::stale_page(tx, before, cursor, PAGE).await }))
            .await?;
        let Some(last) = page.last() else { break };
        cursor = Some(last.cursor());
        for stale in &page {
            let name = ConnectionName {
                environment: stale.environment_id,
                integration: stale.integration_key.to_string(),
                connection: stale.connection_id.to_string(),
            };
            match refresh::read(context, &name, Freshness::Usual).await {
                Ok(_) => {}
                Err(ReadError::Store(error)) => {
                    tracing::warn!(%error, "an idle connection could not be read");
                }
                Err(error) => {
                    tracing::debug!(%error, connection = %stale.id, "an idle connection is not well");
                }
            }
        }
    }
    Ok(())
}
