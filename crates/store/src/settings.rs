//! Settings of the whole server that outlive a process: small texts by name.

use crate::columns::params;
use crate::db::{DbError, Tx};

/// The value of `key`.
pub async fn get(tx: &mut Tx, key: &str) -> Result<Option<String>, DbError> {
    let row = tx
        .query_opt("SELECT value FROM setting WHERE key = $1", &params![key])
        .await?;
    row.map(|row| row.get(0)).transpose()
}

/// Sets `key`. Not for secrets: values are not encrypted.
pub async fn set(tx: &mut Tx, key: &str, value: &str) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO setting (key, value, updated_at) VALUES ($1, $2, $3)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        &params![key, value, tx.now()],
    )
    .await?;
    Ok(())
}
