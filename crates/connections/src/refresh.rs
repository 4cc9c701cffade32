//! Reading credentials, and keeping them alive (auth-flows §24; DESIGN invariant 8: a refresh token is never lost).
//!
//! A credential read is a cache look-up until the credential nears its end. Then exactly one caller, of all callers
//! on all nodes, asks the provider:
//!
//! 1. **In process**, callers share a *flight*: a tracked task that runs to its end even if every caller goes away.
//! 2. **Across nodes**, the flight takes the connection's *lease*. Losers wait for the winner's commit and read it.
//! 3. With the lease comes, in the same transaction, the *intent*: a row saying that this generation of credentials
//!    is about to be used up. It is removed by the transaction that saves the answer. An intent found later means
//!    that somebody was killed, or cut off, in between: the old token is tried again, and if the provider no longer
//!    honours it the outcome is `refresh_interrupted`, not the end user's revocation.
//! 4. The answer is saved by *compare-and-set* on the generation: a reconnect that happened meanwhile wins. A save
//!    that fails because the database is away is tried again until it is back; the new token is not dropped.
//!
//! Failures have an owner ([`RefreshCause`]). While the stored token is still good, a failed refresh is recorded and
//! announced but the caller gets the good token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use patchbay_auth::driver::{self, RenewError, Renewal};
use patchbay_auth::renewal;
use patchbay_store::connections::{FailureSaved, RefreshSaved};
use patchbay_store::db::{DbError, Topic, Tx};
use patchbay_store::leases::Lease;
use patchbay_store::{connections, leases, operations, refreshes};
use patchbay_types::connections::{
    AuthOperation, Connection, FailureWeight, RefreshCause, RefreshFailure, RefreshedCredentials,
};
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::operations::{Operation, OperationState};
use patchbay_types::refreshes::{RefreshEvent, RefreshIntent};
use patchbay_types::{ConnectionRowId, DeliveryId, OperationId, Timestamp};

use crate::caches::{Changed, ConnectionName, Entry};
use crate::connections::expiry_to_check;
use crate::context::Context;
use crate::outbox::{AuthEvent, enqueue_auth};
use crate::{environments, integrations};

/// After a failed refresh, how long callers are answered from the failure instead of asking again (§24.2).
pub const COOLDOWN: Duration = Duration::from_secs(30);
/// Life of the lease. Longer than [`driver::TIMEOUT`] plus the time a save may take.
const LEASE: Duration = Duration::from_secs(30);
/// How long a caller waits for a flight, its own or another node's: longer than the lease, so that whoever waits
/// behind a node that died takes over instead of giving up.
const PATIENCE: Duration = Duration::from_secs(35);
/// How long the token before the last rotation is worth a try.
const GRACE: Duration = Duration::from_mins(10);
/// Fallback when the notice of the winner's commit is lost.
const POLL: Duration = Duration::from_millis(100);

/// What a credential read asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Refresh only what nears its end.
    #[default]
    Usual,
    /// Refresh now (`force_refresh`).
    Forced,
}

/// Why credentials could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// No such integration.
    #[error("no such integration")]
    UnknownIntegration,
    /// No such connection.
    #[error("no such connection")]
    UnknownConnection,
    /// Refused on [`MAX_REFRESH_ATTEMPTS`](patchbay_types::connections::MAX_REFRESH_ATTEMPTS) days: the end user must reconnect.
    #[error("refreshing this connection has been given up after repeated failures")]
    Exhausted(Arc<Connection>),
    /// The last refresh failed less than [`COOLDOWN`] ago.
    #[error("a recent refresh failed, wait before trying again")]
    Backoff(Arc<Connection>),
    /// The refresh failed.
    #[error("the credentials could not be refreshed: {detail}")]
    Failed {
        /// The connection with its failure recorded.
        connection: Arc<Connection>,
        /// Who is to blame.
        cause: RefreshCause,
        /// In words, without secrets.
        detail: String,
    },
    /// The store failed: our fault, says nothing about the credentials.
    #[error("the store failed")]
    Store(#[source] Arc<DbError>),
}

impl From<DbError> for ReadError {
    fn from(error: DbError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// The flights of this process.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<ConnectionRowId, Flight>>);

type Flight = Shared<BoxFuture<'static, Result<Landed, ReadError>>>;

/// How a flight ended well.
#[derive(Clone, Debug)]
struct Landed {
    connection: Arc<Connection>,
}

/// The connection without looking at its credentials' age: for callers that may not read them.
pub async fn find(context: &Context, name: &ConnectionName) -> Result<Option<Arc<Connection>>, DbError> {
    if let Some(connection) = context.caches.connection(name) {
        return Ok(Some(connection));
    }
    let epoch = context.caches.epoch(name);
    let wanted = name.clone();
    let found = context
        .store
        .read(move |tx| {
            Box::pin(async move {
                connections::find(tx, wanted.environment, &wanted.integration, &wanted.connection).await
            })
        })
        .await?;
    let Some(connection) = found.map(Arc::new) else {
        return Ok(None);
    };
    context
        .caches
        .fill(epoch, Entry::Connection(name.clone(), connection.clone()));
    Ok(Some(connection))
}

/// The connection with credentials fit for use.
pub async fn read(
    context: &Arc<Context>,
    name: &ConnectionName,
    freshness: Freshness,
) -> Result<Arc<Connection>, ReadError> {
    let connection = match find(context, name).await? {
        Some(connection) => connection,
        None if integrations::get(context, name.environment, &name.integration)
            .await?
            .is_none() =>
        {
            return Err(ReadError::UnknownIntegration);
        }
        None => return Err(ReadError::UnknownConnection),
    };
    let now = context.ambient.now();
    context.usage.connection_fetched(connection.id, now);
    if !needs_refresh(context, &connection, freshness, now) {
        return Ok(connection);
    }
    if freshness == Freshness::Usual
        && let Some(refusal) = gate(&connection, now)
    {
        return still_good(&connection, freshness, now).ok_or(refusal);
    }
    match join(context, name, connection.id, freshness, connection.generation).await {
        Ok(landed) => Ok(landed.connection),
        Err(error @ (ReadError::Store(_) | ReadError::UnknownConnection | ReadError::UnknownIntegration)) => {
            Err(error)
        }
        Err(error) => still_good(&connection, freshness, now).ok_or(error),
    }
}

/// While a token is good, a failed refresh is our worry and not the caller's.
fn still_good(connection: &Arc<Connection>, freshness: Freshness, now: Timestamp) -> Option<Arc<Connection>> {
    let good = connection.credentials.expires_at().is_some_and(|end| end > now);
    (good && freshness == Freshness::Usual).then(|| connection.clone())
}

fn needs_refresh(context: &Context, connection: &Connection, freshness: Freshness, now: Timestamp) -> bool {
    let Some(provider) = context.catalogue.get(connection.provider.as_str()) else {
        return false;
    };
    renewal::is_due(
        &provider.definition,
        &connection.credentials,
        &connection.connection_config,
        freshness == Freshness::Forced,
        now,
    )
}

fn gate(connection: &Connection, now: Timestamp) -> Option<ReadError> {
    if connection.refresh.exhausted {
        return Some(ReadError::Exhausted(Arc::new(connection.clone())));
    }
    let failed = connection.refresh.last_failure?;
    let cooling = failed.checked_add(COOLDOWN).unwrap_or(Timestamp::MAX) > now;
    cooling.then(|| ReadError::Backoff(Arc::new(connection.clone())))
}

/// Joins the flight of this connection, or starts one. `seen` is the generation the caller knows: who forces a
/// refresh wants a later one, whoever made it.
async fn join(
    context: &Arc<Context>,
    name: &ConnectionName,
    row: ConnectionRowId,
    freshness: Freshness,
    seen: i64,
) -> Result<Landed, ReadError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let flight = {
            let mut flights = context.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
            flights
                .entry(row)
                .or_insert_with(|| launch(context, name.clone(), row, freshness, seen))
                .clone()
        };
        let landed = tokio::time::timeout_at(deadline, flight)
            .await
            .unwrap_or_else(|_| {
                Err(ReadError::from(DbError::unavailable(
                    "a refresh in progress did not end in time",
                )))
            })?;
        // An unforced flight may have found the credentials fresh; a forced caller wants newer ones.
        let done = freshness == Freshness::Usual
            || landed.connection.generation > seen
            || !needs_refresh(context, &landed.connection, freshness, context.ambient.now());
        if done {
            return Ok(landed);
        }
    }
}

fn launch(
    context: &Arc<Context>,
    name: ConnectionName,
    row: ConnectionRowId,
    freshness: Freshness,
    seen: i64,
) -> Flight {
    let flying = context.clone();
    let task = context.ambient.tasks.spawn(async move {
        let outcome = fly(&flying, &name, row, freshness, seen).await;
        flying
            .flights
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&row);
        outcome
    });
    let broken = context.clone();
    async move {
        task.await.unwrap_or_else(|error| {
            broken
                .flights
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&row);
            tracing::error!(%error, connection = %row, "a refresh panicked");
            Err(ReadError::from(DbError::internal("a refresh ended unexpectedly")))
        })
    }
    .boxed()
    .shared()
}

/// What the transaction that wanted the lease found.
enum Claim {
    /// Somebody else already did it, or it is not due: here is the connection.
    Done(Connection),
    /// The gate is closed.
    Refused(Connection),
    /// Somebody else holds the lease.
    Wait,
    /// Ours: ask the provider.
    Won {
        connection: Box<Connection>,
        lease: Lease,
        interrupted: bool,
    },
    /// Gone.
    Unknown,
}

async fn fly(
    context: &Arc<Context>,
    name: &ConnectionName,
    row: ConnectionRowId,
    freshness: Freshness,
    seen: i64,
) -> Result<Landed, ReadError> {
    let holder = format!("{}/{}", context.settings.node, context.ambient.entropy.uuid());
    let mut notices = context.store.subscribe();
    let key = Changed::Connection(name.clone()).notice().key;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (connection, lease, interrupted) = loop {
        match claim(context, row, freshness, seen, &holder).await? {
            Claim::Won {
                connection,
                lease,
                interrupted,
            } => break (*connection, lease, interrupted),
            Claim::Unknown => return Err(ReadError::UnknownConnection),
            Claim::Done(connection) => return Ok(landed(context, name, connection)),
            Claim::Refused(connection) => {
                let connection = landed(context, name, connection).connection;
                return Err(
                    gate(&connection, context.ambient.now()).unwrap_or(ReadError::Backoff(connection))
                );
            }
            Claim::Wait => {
                let elsewhere = async {
                    while let Ok(notice) = notices.recv().await {
                        if notice.topic == Topic::Connections && notice.key == key {
                            return;
                        }
                    }
                };
                let _ = tokio::time::timeout(POLL, elsewhere).await;
                if tokio::time::Instant::now() >= deadline {
                    return Err(DbError::unavailable("another node's refresh did not end in time").into());
                }
            }
        }
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
        freshness,
    };
    let outcome = attempt.ask().await;
    let connection = attempt.save(outcome.as_ref().map_err(Failure::from)).await;
    context.caches.forget(&Changed::Connection(name.clone()));
    let landed = landed(context, name, connection?);
    metrics::counter!("patchbay_refreshes_total", "outcome" => if outcome.is_ok() { "success" } else { "failure" })
        .increment(1);
    match outcome {
        Ok(_) => Ok(landed),
        Err(error) => {
            let failure = Failure::from(&error);
            Err(ReadError::Failed {
                cause: attempt.blame(&failure),
                detail: failure.detail,
                connection: landed.connection,
            })
        }
    }
}

fn landed(context: &Context, name: &ConnectionName, connection: Connection) -> Landed {
    let connection = Arc::new(connection);
    let epoch = context.caches.epoch(name);
    context
        .caches
        .fill(epoch, Entry::Connection(name.clone(), connection.clone()));
    Landed { connection }
}

async fn claim(
    context: &Arc<Context>,
    row: ConnectionRowId,
    freshness: Freshness,
    seen: i64,
    holder: &str,
) -> Result<Claim, DbError> {
    let (context_in, holder) = (context.clone(), holder.to_owned());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let now = tx.now();
                let verdict = |connection: &Connection| {
                    let answered = freshness == Freshness::Forced && connection.generation > seen;
                    if answered || !needs_refresh(&context_in, connection, freshness, now) {
                        return Some(Claim::Done(connection.clone()));
                    }
                    (freshness == Freshness::Usual && gate(connection, now).is_some())
                        .then(|| Claim::Refused(connection.clone()))
                };
                let Some(connection) = connections::find_by_row(tx, row).await? else {
                    return Ok(Claim::Unknown);
                };
                if let Some(claim) = verdict(&connection) {
                    return Ok(claim);
                }
                let Some(lease) = leases::acquire(tx, &leases::refresh_of(row), &holder, LEASE).await? else {
                    return Ok(Claim::Wait);
                };
                // Again, now that nobody else can: the winner may have saved and gone since the first look.
                let Some(connection) = connections::find_by_row(tx, row).await? else {
                    return Ok(Claim::Unknown);
                };
                if let Some(claim) = verdict(&connection) {
                    leases::release(tx, &lease).await?;
                    return Ok(claim);
                }
                let left = refreshes::find_intent(tx, row).await?;
                let interrupted = left.is_some_and(|intent| intent.generation == connection.generation);
                let intent = RefreshIntent {
                    connection: row,
                    generation: connection.generation,
                    fence: lease.fence,
                    started_at: now,
                };
                refreshes::put_intent(tx, &intent).await?;
                Ok(Claim::Won {
                    connection: Box::new(connection),
                    lease,
                    interrupted,
                })
            })
        })
        .await
}

/// One refresh by the holder of the lease.
struct Attempt<'a> {
    context: &'a Arc<Context>,
    environment: Arc<Environment>,
    integration: Arc<Integration>,
    connection: Connection,
    lease: Lease,
    interrupted: bool,
    freshness: Freshness,
}

/// What is recorded of a failure.
#[derive(Clone, Debug)]
struct Failure {
    cause: RefreshCause,
    detail: String,
    /// The provider may have acted on the request: the intent stays.
    outcome_unknown: bool,
}

impl From<&RenewError> for Failure {
    fn from(error: &RenewError) -> Self {
        Self {
            cause: error.cause(),
            detail: error.to_string(),
            outcome_unknown: error.outcome_unknown(),
        }
    }
}

impl Attempt<'_> {
    async fn ask(&self) -> Result<Renewal, RenewError> {
        let provider = self
            .context
            .catalogue
            .get(self.connection.provider.as_str())
            .ok_or_else(|| RenewError::ours("the provider is no longer in the catalogue"))?;
        let input = driver::RenewInput {
            definition: &provider.definition,
            secrets: &self.integration.secrets,
            credentials: &self.connection.credentials,
            connection_config: &self.connection.connection_config,
        };
        let ambient = &self.context.ambient;
        let first = driver::renew(&self.context.token_client, &input, ambient).await;
        let Err(error) = &first else { return first };
        // The provider refuses the token it gave last: perhaps its rotation never took hold there.
        let refused = error.cause() == RefreshCause::ProviderRefused;
        let previous = self.connection.refresh.previous_refresh_token.as_ref();
        match previous.filter(|(_, until)| refused && *until > ambient.now()) {
            Some((token, _)) => {
                let credentials = renewal::with_refresh_token(&self.connection.credentials, token);
                let input = driver::RenewInput {
                    credentials: &credentials,
                    ..input
                };
                driver::renew(&self.context.token_client, &input, ambient)
                    .await
                    .or(first)
            }
            None => first,
        }
    }

    fn blame(&self, failure: &Failure) -> RefreshCause {
        match failure.cause {
            // Still the refusal that the interruption brought about.
            RefreshCause::ProviderRefused
                if self.interrupted
                    || self.connection.refresh.cause == Some(RefreshCause::RefreshInterrupted) =>
            {
                RefreshCause::RefreshInterrupted
            }
            cause => cause,
        }
    }

    /// Commits the outcome; as long as the database is away, again and again.
    async fn save(&self, outcome: Result<&Renewal, Failure>) -> Result<Connection, DbError> {
        let mut pause = Duration::from_millis(50);
        loop {
            let saved = match &outcome {
                Ok(renewal) => self.save_success((*renewal).clone()).await,
                Err(failure) => self.save_failure(failure.clone()).await,
            };
            match saved {
                Err(error)
                    if error.is_transient()
                        && outcome.is_ok()
                        && !self.context.ambient.tasks.is_stopping() =>
                {
                    tracing::error!(%error, connection = %self.connection.id, "refreshed credentials are not saved yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                saved => return saved,
            }
        }
    }

    fn reason(&self) -> String {
        match (self.interrupted, self.freshness) {
            (true, _) => "recovery",
            (false, Freshness::Forced) => "forced",
            (false, Freshness::Usual) => "expiring",
        }
        .to_owned()
    }

    async fn save_success(&self, renewal: Renewal) -> Result<Connection, DbError> {
        let row = self.connection.id;
        let (generation, lease, reason) = (self.connection.generation, self.lease.clone(), self.reason());
        let (environment, auth_mode, ambient) = (
            self.environment.clone(),
            self.auth_mode(),
            self.context.ambient.clone(),
        );
        let name = self.name();
        self.context
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now();
                    let grace = now.checked_add(GRACE).unwrap_or(Timestamp::MAX);
                    let refreshed = RefreshedCredentials {
                        credentials_expires_at: expiry_to_check(&renewal.credentials, now),
                        credentials: renewal.credentials,
                        connection_config: renewal.config_updates,
                        previous_until: grace,
                    };
                    let saved = connections::save_refreshed(tx, row, generation, &refreshed).await?;
                    settle(tx, row, &lease, IntentAfter::Removed).await?;
                    let current = connections::find_by_row(tx, row).await?;
                    let connection = current.ok_or_else(|| DbError::internal("a connection vanished"))?;
                    if let RefreshSaved::Saved { recovered, .. } = saved {
                        let event = RefreshEvent {
                            at: now,
                            reason,
                            success: true,
                            cause: None,
                            detail: None,
                        };
                        refreshes::append_event(tx, row, &event).await?;
                        if recovered {
                            let event =
                                AuthEvent::of(&environment, &connection, auth_mode, AuthOperation::Refresh);
                            enqueue_auth(tx, &event, || delivery_id(&ambient)).await?;
                        }
                    }
                    tx.notify(Changed::Connection(name).notice());
                    Ok(connection)
                })
            })
            .await
    }

    async fn save_failure(&self, failure: Failure) -> Result<Connection, DbError> {
        let row = self.connection.id;
        let cause = self.blame(&failure);
        let (lease, reason) = (self.lease.clone(), self.reason());
        let before = self.connection.clone();
        let (environment, auth_mode, ambient) = (
            self.environment.clone(),
            self.auth_mode(),
            self.context.ambient.clone(),
        );
        let operation_id = OperationId(ambient.time_ordered_uuid().to_string());
        let integration = self.integration.id;
        let name = self.name();
        self.context
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now();
                    let intent = if failure.outcome_unknown {
                        IntentAfter::Kept
                    } else {
                        IntentAfter::Removed
                    };
                    settle(tx, row, &lease, intent).await?;
                    let operation = Operation {
                        id: operation_id.clone(),
                        environment_id: environment.id,
                        kind: "auth".to_owned(),
                        action: "refresh_token".to_owned(),
                        state: OperationState::Failed,
                        integration: Some(integration),
                        connection: Some(row),
                        title: failure.detail.clone(),
                        started_at: now,
                        ended_at: Some(now),
                    };
                    operations::insert(tx, &operation).await?;
                    let weight = weight(cause, &before, now);
                    let recorded = RefreshFailure {
                        cause,
                        operation_id: operation_id.clone(),
                        weight,
                    };
                    let saved =
                        connections::save_refresh_failure(tx, row, before.generation, &recorded).await?;
                    let event = RefreshEvent {
                        at: now,
                        reason,
                        success: false,
                        cause: Some(cause),
                        detail: Some(failure.detail.clone()),
                    };
                    refreshes::append_event(tx, row, &event).await?;
                    let current = connections::find_by_row(tx, row).await?;
                    let connection = current.ok_or_else(|| DbError::internal("a connection vanished"))?;
                    let opened = matches!(saved, FailureSaved::Saved { opened: true, .. });
                    let turned_final = saved != FailureSaved::Lost
                        && before.refresh.cause.is_some_and(|known| known != cause)
                        && weight == FailureWeight::Counted;
                    if opened || turned_final {
                        let mut event =
                            AuthEvent::of(&environment, &connection, auth_mode, AuthOperation::Refresh);
                        event.error = Some((error_type(cause), &failure.detail));
                        event.log = Some(&operation_id);
                        enqueue_auth(tx, &event, || delivery_id(&ambient)).await?;
                    }
                    tx.notify(Changed::Connection(name).notice());
                    Ok(connection)
                })
            })
            .await
    }

    fn auth_mode(&self) -> patchbay_types::AuthMode {
        self.context
            .catalogue
            .get(self.connection.provider.as_str())
            .map_or(patchbay_types::AuthMode::None, |provider| {
                provider.definition.auth_mode
            })
    }

    fn name(&self) -> ConnectionName {
        ConnectionName {
            environment: self.connection.environment_id,
            integration: self.connection.integration_key.to_string(),
            connection: self.connection.connection_id.to_string(),
        }
    }
}

/// `error.type` of the `auth` webhook and code of the failure (auth-flows §24.5, DESIGN invariant 8).
pub fn error_type(cause: RefreshCause) -> &'static str {
    match cause {
        RefreshCause::ProviderRefused => "refresh_token_external_error",
        RefreshCause::ProviderDown => "refresh_provider_unavailable",
        RefreshCause::Ours => "refresh_internal_error",
        RefreshCause::RefreshInterrupted => "refresh_interrupted",
    }
}

enum IntentAfter {
    Removed,
    Kept,
}

/// Ends what [`claim`] began.
async fn settle(
    tx: &mut Tx,
    row: ConnectionRowId,
    lease: &Lease,
    intent: IntentAfter,
) -> Result<(), DbError> {
    // A later holder's intent is not ours to remove.
    if matches!(intent, IntentAfter::Removed) && leases::is_current(tx, lease).await? {
        refreshes::take_intent(tx, row).await?;
    }
    leases::release(tx, lease).await
}

/// Only refusals use up patience: an outage, theirs or ours, says nothing about the grant. It is an active failure
/// once the token it should have replaced is over.
fn weight(cause: RefreshCause, connection: &Connection, now: Timestamp) -> FailureWeight {
    let over = connection.credentials.expires_at().is_some_and(|end| end <= now);
    match cause {
        RefreshCause::ProviderRefused | RefreshCause::RefreshInterrupted => FailureWeight::Counted,
        RefreshCause::ProviderDown | RefreshCause::Ours if over => FailureWeight::Uncounted,
        RefreshCause::ProviderDown | RefreshCause::Ours => FailureWeight::CoolDown,
    }
}

fn delivery_id(ambient: &patchbay_ambient::Ambient) -> DeliveryId {
    DeliveryId(ambient.time_ordered_uuid().to_string())
}
