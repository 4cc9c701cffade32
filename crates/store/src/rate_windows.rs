//! How much of a window's points the nodes have taken between them.
//!
//! A row a bucket, locked by who takes from it until the transaction ends. Nodes take many points at a time and
//! spend them in memory; the rule of how many is the caller's.

use std::time::Duration;

use patchbay_types::Timestamp;

use crate::columns::{later, params};
use crate::db::{DbError, Tx};

/// A bucket's current window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateWindow {
    /// Points taken by all nodes.
    pub used: u32,
    /// When it ends.
    pub ends_at: Timestamp,
}

/// The window of `bucket`, locked until the transaction ends; a new one of `length` if there is none or it is over.
pub async fn open(tx: &mut Tx, bucket: &str, length: Duration) -> Result<RateWindow, DbError> {
    let now = tx.now();
    let row = tx
        .query_one(
            "INSERT INTO rate_window (bucket, used, ends_at) VALUES ($1, 0, $2)
             ON CONFLICT (bucket) DO UPDATE SET
               used = CASE WHEN rate_window.ends_at > $3 THEN rate_window.used ELSE 0 END,
               ends_at = CASE WHEN rate_window.ends_at > $3 THEN rate_window.ends_at ELSE excluded.ends_at END
             RETURNING used, ends_at",
            &params![bucket, later(now, length), now],
        )
        .await?;
    let used: i64 = row.get(0)?;
    Ok(RateWindow {
        used: u32::try_from(used).unwrap_or(u32::MAX),
        ends_at: row.get(1)?,
    })
}

/// Takes points from a window just opened.
pub async fn take(tx: &mut Tx, bucket: &str, points: u32) -> Result<(), DbError> {
    tx.execute(
        "UPDATE rate_window SET used = used + $2 WHERE bucket = $1",
        &params![bucket, i64::from(points)],
    )
    .await?;
    Ok(())
}
