//! Reading credentials, and keeping them alive (auth-flows §24; DESIGN invariant 8: a refresh token is never lost).
//!
//! A credential read is a cache look-up until the credential nears its end. Then exactly one caller, of all callers
//! on all nodes, asks the provider:
//!
//! 1. **In process**, callers share a *flight* (`flight`): a tracked task that runs to its end even if every caller
//!    goes away.
//! 2. **Across nodes**, the flight takes the connection's *lease* (`claim`). Losers wait for the winner's commit and
//!    read it.
//! 3. With the lease comes, in the same transaction, the *intent*: a row saying that this generation of credentials
//!    is about to be used up. It is removed by the transaction that saves the answer. An intent found later means
//!    that somebody was killed, or cut off, in between: the old token is tried again, and if the provider no longer
//!    honours it the outcome is `refresh_interrupted`, not the end user's revocation.
//! 4. The answer is saved by *compare-and-set* on the generation (`attempt`): a reconnect that happened meanwhile
//!    wins. A save that fails because the database is away is tried again until it is back; the new token is not
//!    dropped.
//!
//! Failures have an owner ([`RefreshCause`]); what each leads to is in `policy`. While the stored token is still
//! good, a failed refresh is recorded and announced but the caller gets the good token.

mod attempt;
mod claim;
mod flight;
mod policy;

use std::sync::Arc;

use patchbay_store::db::DbError;
use patchbay_store::{connections, refreshes};
use patchbay_types::connections::{Connection, RefreshCause};
use patchbay_types::refreshes::{RefreshEvent, RefreshReason};
use patchbay_types::{ConnectionRowId, Timestamp};

pub(crate) use attempt::remind;
pub(crate) use flight::Flights;
pub(crate) use policy::gate;
pub use policy::{COOLDOWN, error_type};
pub(crate) use policy::{Rejections, Wish};

use crate::caches::{ConnectionName, Entry};
use crate::context::Context;
use crate::{integrations, retest};

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
    /// The last refresh failed less than [`COOLDOWN`] ago, or the provider asked for a longer pause.
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
    let reason = match freshness {
        Freshness::Usual => RefreshReason::Expiring,
        Freshness::Forced => RefreshReason::Forced,
    };
    read_because(context, name, reason).await
}

/// [`read`], with the reason that the timeline will name.
pub(crate) async fn read_because(
    context: &Arc<Context>,
    name: &ConnectionName,
    reason: RefreshReason,
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
    if reason != RefreshReason::KeepAlive {
        context.usage.connection_fetched(connection.id, now);
    }
    let wish = Wish {
        reason,
        seen: connection.generation,
    };
    if !policy::is_wanted(context, &connection, wish, now) {
        // A key that the provider has refused on day after day has no end that would make anybody ask again.
        let given_up = connection.refresh.exhausted && retest::concerns(&connection.credentials);
        if given_up && wish.heeds_gate() {
            return Err(ReadError::Exhausted(connection));
        }
        if !crate::introspection::is_over(context, name, &connection).await {
            return Ok(connection);
        }
        let newer = force_after_rejection(context, name, connection.generation).await;
        return Ok(newer.unwrap_or(connection));
    }
    if wish.heeds_gate()
        && let Some(refusal) = policy::gate(&connection, now)
    {
        return still_good(&connection, wish, now).ok_or(refusal);
    }
    match flight::join(context, name, connection.id, wish).await {
        Err(error @ (ReadError::Exhausted(_) | ReadError::Backoff(_) | ReadError::Failed { .. })) => {
            still_good(&connection, wish, now).ok_or(error)
        }
        outcome => outcome,
    }
}

/// What happened to a connection's credentials, newest first: the last
/// [`TIMELINE`](patchbay_store::refreshes::TIMELINE) refreshes.
pub async fn timeline(context: &Context, connection: ConnectionRowId) -> Result<Vec<RefreshEvent>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { refreshes::timeline(tx, connection).await }))
        .await
}

/// While a token is good, a failed refresh is our worry and not the caller's.
fn still_good(connection: &Arc<Connection>, wish: Wish, now: Timestamp) -> Option<Arc<Connection>> {
    let good = connection.credentials.expires_at().is_some_and(|end| end > now);
    (good && wish.is_content_with_old()).then(|| connection.clone())
}

/// After the upstream answered 401 to credentials of generation `rejected`: newer ones to try once more with, or
/// `None` if there are none to be had and the upstream's answer is the truth.
///
/// However many callers report the same generation, on however many nodes, the provider is asked once; who comes later
/// gets what the first brought. Nobody is asked while the gate is closed (given up, cooling down), nor when the
/// rejected credentials are younger than `SETTLED`: their age is not what the upstream minds. An
/// upstream that rejects refreshed credentials again and again is believed for longer each time, up to an hour.
///
/// Failures are recorded like any refresh's and are not the caller's: the 401 is at hand.
pub async fn force_after_rejection(
    context: &Arc<Context>,
    name: &ConnectionName,
    rejected: i64,
) -> Option<Arc<Connection>> {
    match after_rejection(context, name, rejected).await {
        Ok(newer) => newer,
        Err(error) => {
            tracing::debug!(%error, "rejected credentials could not be refreshed");
            None
        }
    }
}

async fn after_rejection(
    context: &Arc<Context>,
    name: &ConnectionName,
    rejected: i64,
) -> Result<Option<Arc<Connection>>, ReadError> {
    let Some(connection) = find(context, name).await? else {
        return Ok(None);
    };
    if connection.generation > rejected {
        return Ok(Some(connection));
    }
    let now = context.ambient.now();
    let wish = Wish {
        reason: RefreshReason::Unauthorized,
        seen: rejected,
    };
    let hopeless = !policy::is_wanted(context, &connection, wish, now)
        || policy::gate(&connection, now).is_some()
        || policy::is_settling(&connection, now)
        || !context.rejections.admit(connection.id, rejected, now);
    if hopeless {
        return Ok(None);
    }
    let newer = flight::join(context, name, connection.id, wish).await?;
    Ok((newer.generation > rejected).then_some(newer))
}
