//! Accounts: the tenants. A self-hosted server has one.

use patchbay_types::AccountId;
use uuid::Uuid;

use crate::columns::params;
use crate::db::{DbError, Tx};

/// The slug of the account a self-hosted server makes for itself.
const DEFAULT: &str = "default";

/// The account of a self-hosted server; made, with this UUID, if there is none yet. Safe to race.
pub async fn ensure_default(tx: &mut Tx, uuid: Uuid) -> Result<AccountId, DbError> {
    if let Some(id) = find_default(tx).await? {
        return Ok(id);
    }
    tx.execute(
        "INSERT INTO account (uuid, slug, created_at) VALUES ($1, $2, $3) ON CONFLICT (slug) DO NOTHING",
        &params![uuid.to_string(), DEFAULT, tx.now()],
    )
    .await?;
    find_default(tx)
        .await?
        .ok_or_else(|| DbError::internal("the account just made is not there"))
}

/// The account of a self-hosted server.
pub async fn find_default(tx: &mut Tx) -> Result<Option<AccountId>, DbError> {
    let row = tx
        .query_opt("SELECT id FROM account WHERE slug = $1", &params![DEFAULT])
        .await?;
    row.map(|row| row.get(0)).transpose()
}
