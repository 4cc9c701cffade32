//! The transaction that decides who asks the provider, and whether anybody does.

use std::sync::Arc;
use std::time::Duration;

use patchbay_store::db::DbError;
use patchbay_store::leases::Lease;
use patchbay_store::{connections, leases, refreshes};
use patchbay_types::connections::{Connection, RefreshCause};
use patchbay_types::refreshes::RefreshIntent;
use patchbay_types::{ConnectionRowId, Timestamp};

use super::policy::{self, Wish};
use crate::context::Context;

/// Life of the lease. Longer than [`TIMEOUT`](patchbay_auth::driver::TIMEOUT) plus the time a save may take.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// What the transaction that wanted the lease found.
pub(super) enum Claim {
    /// Somebody else already did it, or it is not due: here is the connection.
    Done(Connection),
    /// The gate is closed.
    Refused(Connection),
    /// Somebody else tried while this caller waited, and failed: asking again would ask twice.
    Failed(Connection, RefreshCause),
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

/// Takes the lease and writes the intent, if there is anything to ask for. `waiting_since`: when the caller found the
/// lease taken, if it did.
pub(super) async fn claim(
    context: &Arc<Context>,
    row: ConnectionRowId,
    wish: Wish,
    holder: &str,
    waiting_since: Option<Timestamp>,
) -> Result<Claim, DbError> {
    let (context_in, holder) = (context.clone(), holder.to_owned());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let now = tx.now();
                let Some(connection) = connections::find_by_row(tx, row).await? else {
                    return Ok(Claim::Unknown);
                };
                if let Some(claim) = settled(&context_in, &connection, wish, now, waiting_since) {
                    return Ok(claim);
                }
                let Some(lease) = leases::acquire(tx, &leases::refresh_of(row), &holder, LEASE).await? else {
                    return Ok(Claim::Wait);
                };
                // Again, now that nobody else can: the winner may have saved and gone since the first look.
                let Some(connection) = connections::find_by_row(tx, row).await? else {
                    return Ok(Claim::Unknown);
                };
                if let Some(claim) = settled(&context_in, &connection, wish, now, waiting_since) {
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

/// What there is to say without asking the provider, if anything.
fn settled(
    context: &Context,
    connection: &Connection,
    wish: Wish,
    now: Timestamp,
    waiting_since: Option<Timestamp>,
) -> Option<Claim> {
    if !policy::is_wanted(context, connection, wish, now) {
        return Some(Claim::Done(connection.clone()));
    }
    if wish.heeds_gate() {
        return policy::gate(connection, now).map(|_| Claim::Refused(connection.clone()));
    }
    let failed_meanwhile = connection.refresh.last_failure >= Some(waiting_since?);
    let cause = connection.refresh.cause?;
    failed_meanwhile.then(|| Claim::Failed(connection.clone(), cause))
}
