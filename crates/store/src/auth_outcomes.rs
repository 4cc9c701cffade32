//! How attempts of the Connect UI ended, for pages that cannot be told: their WebSocket is blocked, or they went to the
//! provider themselves and came back.

use patchbay_types::ConnectSessionId;

use crate::columns::params;
use crate::db::{DbError, Tx};

/// Remembers how an attempt of a session ended; the last word counts.
pub async fn put(
    tx: &mut Tx,
    session: ConnectSessionId,
    attempt: &str,
    outcome: &str,
) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO auth_outcome (connect_session, attempt, outcome, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (connect_session, attempt)
         DO UPDATE SET outcome = excluded.outcome, created_at = excluded.created_at",
        &params![session, attempt, outcome, tx.now()],
    )
    .await?;
    Ok(())
}

/// How an attempt of a session ended; none while it has not.
pub async fn find(tx: &mut Tx, session: ConnectSessionId, attempt: &str) -> Result<Option<String>, DbError> {
    let row = tx
        .query_opt(
            "SELECT outcome FROM auth_outcome WHERE connect_session = $1 AND attempt = $2",
            &params![session, attempt],
        )
        .await?;
    row.map(|row| row.get(0)).transpose()
}
