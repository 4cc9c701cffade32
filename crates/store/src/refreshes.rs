//! Refreshes: the intent that survives a crash, and the timeline a connection keeps.

use patchbay_types::ConnectionRowId;
use patchbay_types::refreshes::{RefreshEvent, RefreshIntent, RefreshReason};

use crate::columns::{Columns, corrupt, params, text_opt};
use crate::connections::read_cause;
use crate::db::{DbError, Row, Tx};

/// Most entries a connection's timeline keeps; older ones are dropped as new ones come.
pub const TIMELINE: u32 = 50;

const INTENT: &str = "connection, generation, fence, started_at";

/// Writes down that the provider is about to be asked. An older intent of the connection is replaced; look with
/// [`find_intent`] first.
pub async fn put_intent(tx: &mut Tx, intent: &RefreshIntent) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO refresh_intent (connection, generation, fence, started_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (connection) DO UPDATE
         SET generation = excluded.generation, fence = excluded.fence, started_at = excluded.started_at",
        &params![
            intent.connection,
            intent.generation,
            intent.fence,
            intent.started_at
        ],
    )
    .await?;
    Ok(())
}

/// The intent of a connection, if one was left.
pub async fn find_intent(tx: &mut Tx, connection: ConnectionRowId) -> Result<Option<RefreshIntent>, DbError> {
    let sql = format!("SELECT {INTENT} FROM refresh_intent WHERE connection = $1");
    let row = tx.query_opt(&sql, &params![connection]).await?;
    row.as_ref().map(read_intent).transpose()
}

/// Takes the intent of a connection away.
pub async fn take_intent(tx: &mut Tx, connection: ConnectionRowId) -> Result<Option<RefreshIntent>, DbError> {
    let sql = format!("DELETE FROM refresh_intent WHERE connection = $1 RETURNING {INTENT}");
    let row = tx.query_opt(&sql, &params![connection]).await?;
    row.as_ref().map(read_intent).transpose()
}

/// Intents started before `before`, oldest first: what a restart finds of refreshes that were cut off.
pub async fn stale_intents(
    tx: &mut Tx,
    before: patchbay_types::Timestamp,
    limit: u32,
) -> Result<Vec<RefreshIntent>, DbError> {
    let sql = format!(
        "SELECT {INTENT} FROM refresh_intent WHERE started_at < $1 ORDER BY started_at, connection LIMIT $2"
    );
    let rows = tx.query(&sql, &params![before, limit]).await?;
    rows.iter().map(read_intent).collect()
}

/// Adds to a connection's timeline, and drops what is beyond [`TIMELINE`].
pub async fn append_event(
    tx: &mut Tx,
    connection: ConnectionRowId,
    event: &RefreshEvent,
) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO refresh_event (connection, at, reason, success, cause, detail)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            connection.into(),
            event.at.into(),
            event.reason.as_str().into(),
            event.success.into(),
            event
                .cause
                .map(patchbay_types::connections::RefreshCause::as_str)
                .into(),
            text_opt(event.detail.as_deref()),
        ],
    )
    .await?;
    tx.execute(
        "DELETE FROM refresh_event WHERE connection = $1 AND id <=
           (SELECT id FROM refresh_event WHERE connection = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
        &params![connection, TIMELINE],
    )
    .await?;
    Ok(())
}

/// A connection's timeline, newest first.
pub async fn timeline(tx: &mut Tx, connection: ConnectionRowId) -> Result<Vec<RefreshEvent>, DbError> {
    let rows = tx
        .query(
            "SELECT at, reason, success, cause, detail FROM refresh_event WHERE connection = $1 ORDER BY id DESC",
            &params![connection],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(RefreshEvent {
                at: columns.next()?,
                reason: read_reason(&columns.next::<String>()?)?,
                success: columns.next()?,
                cause: read_cause(columns.next()?)?,
                detail: columns.next()?,
            })
        })
        .collect()
}

fn read_reason(text: &str) -> Result<RefreshReason, DbError> {
    RefreshReason::parse(text).ok_or_else(|| corrupt("an unknown reason of a refresh"))
}

fn read_intent(row: &Row) -> Result<RefreshIntent, DbError> {
    let mut columns = Columns::of(row);
    Ok(RefreshIntent {
        connection: columns.next()?,
        generation: columns.next()?,
        fence: columns.next()?,
        started_at: columns.next()?,
    })
}
