//! Leases: one node at a time, across all of them.
//!
//! A lease ends by itself, so a node that stalls may go on believing it holds one that another node has taken.
//! Each acquisition therefore gets a *fence*, a number that only grows: what the holder writes must be guarded by
//! it ([`is_current`] in the same transaction) or by something as strong, such as a generation.
//!
//! Ends are compared with the transaction's time, which every node takes from its own clock: a clock that is ahead
//! by more than a lease's length takes leases too early, and the fence is what keeps that harmless.

use std::time::Duration;

use patchbay_types::{ConnectionRowId, Timestamp};

use crate::columns::{for_update, later, params};
use crate::db::{DbError, Tx};

/// A lease that was held when it was acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub name: String,
    /// Who holds it: unique to one acquirer, never reused by another.
    pub holder: String,
    /// Greater than that of every earlier lease of the name.
    pub fence: i64,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

/// The lease under which a connection's credentials are refreshed.
pub fn refresh_of(connection: ConnectionRowId) -> String {
    format!("refresh:{connection}")
}

/// Takes a lease that is free or has ended; `None` while somebody, `holder` included, holds it.
pub async fn acquire(
    tx: &mut Tx,
    name: &str,
    holder: &str,
    length: Duration,
) -> Result<Option<Lease>, DbError> {
    let now = tx.now();
    let expires_at = later(now, length);
    let row = tx
        .query_opt(
            "INSERT INTO lease (name, holder, fence, expires_at) VALUES ($1, $2, 1, $3)
             ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, fence = lease.fence + 1, expires_at = excluded.expires_at
             WHERE lease.expires_at <= $4
             RETURNING fence",
            &params![name, holder, expires_at, now],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(Lease {
        name: name.to_owned(),
        holder: holder.to_owned(),
        fence: row.get(0)?,
        expires_at,
    }))
}

/// Prolongs a lease from now. `None` if somebody else has taken it since; one that ended with nobody taking it is
/// renewed, since nothing can have happened under it.
pub async fn renew(tx: &mut Tx, lease: &Lease, length: Duration) -> Result<Option<Lease>, DbError> {
    let expires_at = later(tx.now(), length);
    let renewed = tx
        .execute(
            "UPDATE lease SET expires_at = $4 WHERE name = $1 AND holder = $2 AND fence = $3",
            &params![
                lease.name.as_str(),
                lease.holder.as_str(),
                lease.fence,
                expires_at
            ],
        )
        .await?;
    Ok((renewed > 0).then(|| Lease {
        expires_at,
        ..lease.clone()
    }))
}

/// Gives a lease back. Nothing happens if it is somebody else's by now.
pub async fn release(tx: &mut Tx, lease: &Lease) -> Result<(), DbError> {
    // The row stays: the fence of the next lease must be greater.
    tx.execute(
        "UPDATE lease SET holder = '', expires_at = 0 WHERE name = $1 AND holder = $2 AND fence = $3",
        &params![lease.name.as_str(), lease.holder.as_str(), lease.fence],
    )
    .await?;
    Ok(())
}

/// Ends every lease. For a process that knows it is alone, as the one server of a SQLite file does when it starts:
/// whoever held one is dead, and nobody need wait for it to end.
pub async fn end_all(tx: &mut Tx) -> Result<(), DbError> {
    tx.execute(
        "UPDATE lease SET holder = '', expires_at = 0 WHERE expires_at > 0",
        &[],
    )
    .await?;
    Ok(())
}

/// Whether nobody has taken the lease since. Nobody can until the transaction ends, so what it writes is fenced.
pub async fn is_current(tx: &mut Tx, lease: &Lease) -> Result<bool, DbError> {
    let sql = format!(
        "SELECT fence FROM lease WHERE name = $1 AND holder = $2 AND fence = $3{}",
        for_update(tx.dialect())
    );
    let row = tx
        .query_opt(
            &sql,
            &params![lease.name.as_str(), lease.holder.as_str(), lease.fence],
        )
        .await?;
    Ok(row.is_some())
}

/// The lease of a name, if somebody holds it now.
pub async fn find(tx: &mut Tx, name: &str) -> Result<Option<Lease>, DbError> {
    let row = tx
        .query_opt(
            "SELECT holder, fence, expires_at FROM lease WHERE name = $1 AND expires_at > $2",
            &params![name, tx.now()],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(Lease {
        name: name.to_owned(),
        holder: row.get(0)?,
        fence: row.get(1)?,
        expires_at: row.get(2)?,
    }))
}
