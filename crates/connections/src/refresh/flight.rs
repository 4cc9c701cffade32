//! Single flight: callers of one process share a task, tasks of many processes share a lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use patchbay_store::db::{DbError, Topic};
use patchbay_types::ConnectionRowId;
use patchbay_types::connections::Connection;

use super::ReadError;
use super::attempt::{Attempt, Failure};
use super::claim::{self, Claim};
use super::policy::{self, Wish};
use crate::caches::{Changed, ConnectionName, Entry};
use crate::context::Context;
use crate::{environments, integrations};

/// How long a caller waits for a flight, its own or another node's: longer than the lease, so that whoever waits
/// behind a node that died takes over instead of giving up.
const PATIENCE: Duration = Duration::from_secs(35);
/// Fallback when the notice of the winner's commit is lost.
const POLL: Duration = Duration::from_millis(100);

/// The flights of this process.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<ConnectionRowId, Flight>>);

type Flight = Shared<BoxFuture<'static, Result<Arc<Connection>, ReadError>>>;

impl Flights {
    fn join_or(&self, row: ConnectionRowId, launch: impl FnOnce() -> Flight) -> Flight {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.entry(row).or_insert_with(launch).clone()
    }

    fn remove(&self, row: ConnectionRowId) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&row);
    }
}

/// Joins the flight of this connection, or starts one. A flight with a lesser wish may end without doing what this
/// caller wants: then it starts its own.
pub(super) async fn join(
    context: &Arc<Context>,
    name: &ConnectionName,
    row: ConnectionRowId,
    wish: Wish,
) -> Result<Arc<Connection>, ReadError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let late = || ReadError::from(DbError::unavailable("a refresh in progress did not end in time"));
    loop {
        let flight = context
            .flights
            .join_or(row, || launch(context, name.clone(), row, wish));
        match tokio::time::timeout_at(deadline, flight).await {
            Err(_) => return Err(late()),
            Ok(Ok(connection)) => {
                if !policy::is_wanted(context, &connection, wish, context.ambient.now()) || !wish.insists() {
                    return Ok(connection);
                }
            }
            // The gate was closed to whoever started the flight, and is open to this caller.
            Ok(Err(ReadError::Backoff(_) | ReadError::Exhausted(_))) if !wish.heeds_gate() => {}
            Ok(Err(error)) => return Err(error),
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(late());
        }
    }
}

fn launch(context: &Arc<Context>, name: ConnectionName, row: ConnectionRowId, wish: Wish) -> Flight {
    let flying = context.clone();
    let task = context.ambient.tasks.spawn(async move {
        let outcome = fly(&flying, &name, row, wish).await;
        flying.flights.remove(row);
        outcome
    });
    let broken = context.clone();
    async move {
        task.await.unwrap_or_else(|error| {
            broken.flights.remove(row);
            tracing::error!(%error, connection = %row, "a refresh panicked");
            Err(ReadError::from(DbError::internal("a refresh ended unexpectedly")))
        })
    }
    .boxed()
    .shared()
}

async fn fly(
    context: &Arc<Context>,
    name: &ConnectionName,
    row: ConnectionRowId,
    wish: Wish,
) -> Result<Arc<Connection>, ReadError> {
    let (connection, lease, interrupted) = match take(context, name, row, wish).await? {
        Claim::Won {
            connection,
            lease,
            interrupted,
        } => (*connection, lease, interrupted),
        Claim::Unknown => return Err(ReadError::UnknownConnection),
        Claim::Done(connection) => return Ok(land(context, name, connection)),
        Claim::Refused(connection) => {
            let connection = land(context, name, connection);
            let refusal = policy::gate(&connection, context.ambient.now());
            return Err(refusal.unwrap_or(ReadError::Backoff(connection)));
        }
        Claim::Failed(connection, cause) => {
            return Err(ReadError::Failed {
                connection: land(context, name, connection),
                cause,
                detail: "the refresh that was waited for failed".to_owned(),
            });
        }
        Claim::Wait => return Err(DbError::unavailable("another node's refresh did not end in time").into()),
    };
    let environment = environments::get(context, name.environment)
        .await?
        .ok_or(ReadError::UnknownConnection)?;
    let integration = integrations::get(context, name.environment, &name.integration)
        .await?
        .ok_or(ReadError::UnknownIntegration)?;
    let attempt = Attempt {
        context,
        environment,
        integration,
        connection,
        lease,
        interrupted,
        reason: wish.reason,
    };
    let outcome = attempt.ask().await;
    let connection = attempt.save(outcome.as_ref().map_err(Failure::from)).await;
    context.caches.forget(&Changed::Connection(name.clone()));
    let connection = land(context, name, connection?);
    metrics::counter!("patchbay_refreshes_total", "outcome" => if outcome.is_ok() { "success" } else { "failure" })
        .increment(1);
    match outcome {
        Ok(_) => Ok(connection),
        Err(error) => {
            let failure = Failure::from(&error);
            Err(ReadError::Failed {
                cause: attempt.blame(&failure),
                detail: failure.detail,
                connection,
            })
        }
    }
}

/// Claims the refresh, waiting for another node's to end if need be.
async fn take(
    context: &Arc<Context>,
    name: &ConnectionName,
    row: ConnectionRowId,
    wish: Wish,
) -> Result<Claim, DbError> {
    let holder = format!("{}/{}", context.settings.node, context.ambient.entropy.uuid());
    let mut notices = context.store.subscribe();
    let key = Changed::Connection(name.clone()).notice().key;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut waiting_since = None;
    loop {
        let claim = claim::claim(context, row, wish, &holder, waiting_since).await?;
        if !matches!(claim, Claim::Wait) || tokio::time::Instant::now() >= deadline {
            return Ok(claim);
        }
        waiting_since.get_or_insert_with(|| context.ambient.now());
        let elsewhere = async {
            while let Ok(notice) = notices.recv().await {
                if notice.topic == Topic::Connections && notice.key == key {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(POLL, elsewhere).await;
    }
}

fn land(context: &Context, name: &ConnectionName, connection: Connection) -> Arc<Connection> {
    let connection = Arc::new(connection);
    let epoch = context.caches.epoch(name);
    context
        .caches
        .fill(epoch, Entry::Connection(name.clone(), connection.clone()));
    connection
}
