//! What runs by itself: old rows are purged, credentials nobody reads are kept alive, and accepted webhooks that were
//! interrupted take effect.
//!
//! Each job is one node's at a time, by a lease that outlives a crash by minutes and no more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use patchbay_store::connections::{self, StaleConnection};
use patchbay_store::db::DbError;
use patchbay_store::leases::{self, Lease};
use patchbay_store::retention::{self, Retention};
use patchbay_types::refreshes::RefreshReason;
use patchbay_types::{ConnectionRowId, EnvironmentId, IntegrationKey, Timestamp};
use tokio::sync::Semaphore;

use crate::caches::ConnectionName;
use crate::context::Context;
use crate::inbound_events;
use crate::refresh::{self, ReadError};
use crate::retest;
use crate::{api_keys, environments};

/// How often old rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_hours(1);
/// Rows a table gives up in one transaction: small enough not to be felt by writers.
const SWEEP_BATCH: u32 = 500;
/// How often idle credentials are looked at (auth-flows §24.6).
const REFRESH_EVERY: Duration = Duration::from_mins(10);
/// How often accepted webhooks are looked for that have yet to take effect.
const INBOUND_EVERY: Duration = Duration::from_mins(1);
/// How often steps that a crash or an outage left behind are looked for.
const STEPS_EVERY: Duration = Duration::from_secs(30);
/// Credentials unread for this long are looked at, at the latest.
const IDLE: Duration = Duration::from_hours(24);
/// Sooner by up to so much, each connection by its own share: what came at once does not fall due at once.
const IDLE_SPREAD: Duration = Duration::from_hours(4);
/// A round ends before its lease does.
const ROUND: Duration = Duration::from_mins(9);
/// Connections of one page of idle ones.
const PAGE: u32 = 100;
/// Connections looked after at once, by one node.
const AT_ONCE: usize = 8;
/// Of those, of one integration: its provider has other things to do.
const AT_ONCE_OF_ONE: usize = 2;

/// Starts the jobs; they end with the server.
pub fn start(context: &Arc<Context>) {
    every(context, SWEEP_EVERY, "retention", |context| {
        Box::pin(async move { sweep(&context).await })
    });
    every(context, INBOUND_EVERY, "inbound-events", |context| {
        Box::pin(async move { inbound_events::work_off(&context).await })
    });
    every(context, STEPS_EVERY, "provider-steps", |context| {
        Box::pin(async move { crate::steps::catch_up(&context).await })
    });
    every(context, REFRESH_EVERY, "idle-refresh", |context| {
        Box::pin(async move { look_after(&context).await })
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

/// Looks after credentials that nobody uses: what many providers let die. Those unread for a day are read, which
/// refreshes them if they near their end, or tests them if they have none; those of providers that want it are refreshed every so many hours.
///
/// Spread out: what became idle at one moment does not fall due at one moment, and at most a few refreshes run at
/// once, fewer still of one integration.
pub async fn look_after(context: &Arc<Context>) -> Result<(), DbError> {
    let round = Round::new(context);
    refresh_idle(context, &round).await?;
    keep_alive(context, &round).await?;
    remind(context).await
}

async fn refresh_idle(context: &Arc<Context>, round: &Round) -> Result<(), DbError> {
    let now = context.ambient.now();
    let before = ago(now, IDLE.saturating_sub(IDLE_SPREAD));
    let mut cursor = None;
    while !round.is_over(context) {
        let page = context
            .store
            .read(move |tx| Box::pin(async move { connections::stale_page(tx, before, cursor, PAGE).await }))
            .await?;
        let Some(last) = page.last() else { break };
        cursor = Some(last.cursor());
        let due = page.into_iter().filter(|stale| {
            stale.last_fetched_at < ago(now, IDLE.saturating_sub(share(stale.id, IDLE_SPREAD)))
        });
        round.tend(context, due, RefreshReason::Background).await;
    }
    Ok(())
}

async fn keep_alive(context: &Arc<Context>, round: &Round) -> Result<(), DbError> {
    let catalogue = context.catalogue.current();
    for provider in catalogue.iter() {
        let Some(hours) = provider.definition.refresh_every_hours.filter(|hours| *hours > 0) else {
            continue;
        };
        // A tenth early, so that the last of a crowd is still in time.
        let every = Duration::from_secs(hours.saturating_mul(60 * 60)).mul_f64(0.9);
        let before = ago(context.ambient.now(), every);
        let mut after = ConnectionRowId(0);
        while !round.is_over(context) {
            let name = provider.name.clone();
            let page = context
                .store
                .read(move |tx| {
                    Box::pin(
                        async move { connections::unrefreshed_page(tx, &name, before, after, PAGE).await },
                    )
                })
                .await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            round.tend(context, page, RefreshReason::KeepAlive).await;
        }
    }
    Ok(())
}

/// Tells the product again of connections that go on failing, where an environment asks for that.
async fn remind(context: &Arc<Context>) -> Result<(), DbError> {
    let account = api_keys::default_account(context).await?;
    for environment in environments::list(context, account).await? {
        let hours = environment.settings.webhooks.refresh_error_reminder_hours;
        if hours == 0 {
            continue;
        }
        let before = ago(context.ambient.now(), Duration::from_hours(hours.into()));
        let id = environment.id;
        let environment = Arc::new(environment);
        loop {
            let page = context
                .store
                .read(move |tx| {
                    Box::pin(async move { connections::failing_page(tx, id, before, PAGE).await })
                })
                .await?;
            for row in &page {
                refresh::remind(context, &environment, *row, before).await?;
            }
            if page.len() < PAGE as usize || context.ambient.tasks.is_stopping() {
                break;
            }
        }
    }
    Ok(())
}

/// How fast a round goes, and when it ends.
struct Round {
    end: Timestamp,
    /// Turns of each integration.
    turns: Mutex<HashMap<(EnvironmentId, IntegrationKey), Arc<Semaphore>>>,
}

impl Round {
    fn new(context: &Context) -> Self {
        Self {
            end: later(context.ambient.now(), ROUND),
            turns: Mutex::default(),
        }
    }

    fn is_over(&self, context: &Context) -> bool {
        context.ambient.tasks.is_stopping() || context.ambient.now() >= self.end
    }

    fn turns(&self, stale: &StaleConnection) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (stale.environment_id, stale.integration_key.clone());
        turns
            .entry(key)
            .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_OF_ONE)))
            .clone()
    }

    async fn tend(
        &self,
        context: &Arc<Context>,
        stale: impl IntoIterator<Item = StaleConnection>,
        reason: RefreshReason,
    ) {
        futures_util::stream::iter(stale)
            .for_each_concurrent(AT_ONCE, |stale| async move {
                let turns = self.turns(&stale);
                let _turn = turns.acquire().await;
                if !self.is_over(context) {
                    tend(context, &stale, reason).await;
                }
            })
            .await;
    }
}

async fn tend(context: &Arc<Context>, stale: &StaleConnection, reason: RefreshReason) {
    let name = ConnectionName {
        environment: stale.environment_id,
        integration: stale.integration_key.to_string(),
        connection: stale.connection_id.to_string(),
    };
    match renew_or_test(context, &name, reason).await {
        Ok(()) => {}
        Err(ReadError::Store(error)) => {
            tracing::warn!(%error, "an idle connection could not be read");
        }
        Err(error) => {
            tracing::debug!(%error, connection = %stale.id, "an idle connection is not well");
        }
    }
}

/// Refreshes credentials that end, and tests those that do not.
async fn renew_or_test(
    context: &Arc<Context>,
    name: &ConnectionName,
    reason: RefreshReason,
) -> Result<(), ReadError> {
    let found = refresh::find(context, name).await?;
    if found.is_some_and(|connection| retest::concerns(&connection.credentials)) {
        return retest::retest(context, name).await;
    }
    refresh::read_because(context, name, reason).await.map(drop)
}

fn ago(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_sub(by).unwrap_or(Timestamp::MIN)
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A connection's own part of `whole`: the same every time, and far from its neighbours'.
fn share(connection: ConnectionRowId, whole: Duration) -> Duration {
    let scattered = connection.0.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    whole.mul_f64(f64::from(u32::try_from(scattered).unwrap_or(u32::MAX)) / f64::from(u32::MAX))
}
