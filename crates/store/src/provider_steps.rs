//! Steps still to be carried out at a provider after a connection was made: written in the transaction that stores the
//! connection, so that a crash before or during them loses none.

use patchbay_types::{ConnectionRowId, Timestamp};

use crate::columns::{Columns, params};
use crate::db::{DbError, Row, Tx};

/// Steps waiting for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSteps {
    /// The connection.
    pub connection: ConnectionRowId,
    /// Which connecting they belong to: another replaces them.
    pub run: String,
    /// How often they were tried.
    pub attempts: u32,
    /// When somebody may try: until then, whoever is at it has them to themselves.
    pub due_at: Timestamp,
}

/// Writes down that steps wait; those of an earlier connecting are replaced.
pub async fn put(tx: &mut Tx, pending: &PendingSteps) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO provider_step (connection, run, attempts, due_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (connection) DO UPDATE
         SET run = excluded.run, attempts = excluded.attempts, due_at = excluded.due_at",
        &params![
            pending.connection,
            pending.run.as_str(),
            i64::from(pending.attempts),
            pending.due_at
        ],
    )
    .await?;
    Ok(())
}

/// Takes what is due until `until`, oldest first: nobody else gets it before.
pub async fn claim_due(tx: &mut Tx, until: Timestamp, limit: u32) -> Result<Vec<PendingSteps>, DbError> {
    let rows = tx
        .query(
            "SELECT connection, run, attempts, due_at FROM provider_step WHERE due_at <= $1
             ORDER BY due_at, connection LIMIT $2",
            &params![tx.now(), limit],
        )
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut pending = read(row)?;
        let won = tx
            .execute(
                "UPDATE provider_step SET due_at = $3 WHERE connection = $1 AND run = $2 AND due_at = $4",
                &params![pending.connection, pending.run.as_str(), until, pending.due_at],
            )
            .await?;
        pending.due_at = until;
        if won > 0 {
            claimed.push(pending);
        }
    }
    Ok(claimed)
}

/// Removes steps that are done or given up; whether they were still the ones of that run.
pub async fn finish(tx: &mut Tx, pending: &PendingSteps) -> Result<bool, DbError> {
    let gone = tx
        .execute(
            "DELETE FROM provider_step WHERE connection = $1 AND run = $2",
            &params![pending.connection, pending.run.as_str()],
        )
        .await?;
    Ok(gone > 0)
}

/// Puts steps off that did not work; whether they were still the ones of that run.
pub async fn postpone(tx: &mut Tx, pending: &PendingSteps, due_at: Timestamp) -> Result<bool, DbError> {
    let changed = tx
        .execute(
            "UPDATE provider_step SET due_at = $3, attempts = attempts + 1 WHERE connection = $1 AND run = $2",
            &params![pending.connection, pending.run.as_str(), due_at],
        )
        .await?;
    Ok(changed > 0)
}

/// The steps waiting for a connection.
pub async fn find(tx: &mut Tx, connection: ConnectionRowId) -> Result<Option<PendingSteps>, DbError> {
    let row = tx
        .query_opt(
            "SELECT connection, run, attempts, due_at FROM provider_step WHERE connection = $1",
            &params![connection],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// For how many connections steps wait.
pub async fn count(tx: &mut Tx) -> Result<u64, DbError> {
    let row = tx.query_one("SELECT COUNT(*) FROM provider_step", &[]).await?;
    let count: i64 = row.get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn read(row: &Row) -> Result<PendingSteps, DbError> {
    let mut columns = Columns::of(row);
    let connection = columns.next()?;
    let run = columns.next()?;
    let attempts: i64 = columns.next()?;
    Ok(PendingSteps {
        connection,
        run,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        due_at: columns.next()?,
    })
}
