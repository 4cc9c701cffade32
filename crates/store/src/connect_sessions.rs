//! Connect sessions, found by the SHA-256 of their token. What they preset may hold an OAuth client's secret, so
//! the document is sealed.

use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::{AccountId, ConnectSessionId, EnvironmentId};

use crate::columns::{Columns, open_json, params, seal_json};
use crate::db::{DbError, Row, Tx};

pub use patchbay_types::connect_sessions::NewConnectSession;

const COLUMNS: &str =
    "id, account_id, environment_id, token_hash, spec, connection, operation_id, created_at, expires_at";

/// Makes a session.
pub async fn create(tx: &mut Tx, new: &NewConnectSession) -> Result<ConnectSession, DbError> {
    let spec = seal_json(tx, new.environment_id, &spec_aad(&new.token_hash), &new.spec).await?;
    let now = tx.now();
    let row = tx
        .query_one(
            "INSERT INTO connect_session
               (account_id, environment_id, token_hash, spec, connection, operation_id, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
            &params![
                new.account_id,
                new.environment_id,
                new.token_hash,
                spec,
                new.connection,
                new.operation_id.clone(),
                now,
                new.expires_at,
            ],
        )
        .await?;
    Ok(ConnectSession {
        id: row.get(0)?,
        account_id: new.account_id,
        environment_id: new.environment_id,
        spec: new.spec.clone(),
        connection: new.connection,
        operation_id: new.operation_id.clone(),
        created_at: now,
        expires_at: new.expires_at,
    })
}

/// The session of a token, if it has not expired and its environment is live.
pub async fn find_by_token_hash(
    tx: &mut Tx,
    token_hash: &[u8; 32],
) -> Result<Option<ConnectSession>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM connect_session s WHERE token_hash = $1 AND expires_at > $2
           AND EXISTS (SELECT 1 FROM environment e WHERE e.id = s.environment_id AND e.deleted_at IS NULL)"
    );
    let row = tx.query_opt(&sql, &params![token_hash, tx.now()]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// The session by its row, expired or not: what an authorization that it allowed still needs when it completes.
pub async fn find(tx: &mut Tx, id: ConnectSessionId) -> Result<Option<ConnectSession>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM connect_session WHERE id = $1");
    let row = tx.query_opt(&sql, &params![id]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// Ends a session, if it is there.
pub async fn delete(tx: &mut Tx, id: ConnectSessionId) -> Result<(), DbError> {
    tx.execute("DELETE FROM connect_session WHERE id = $1", &params![id])
        .await?;
    Ok(())
}

async fn read(tx: &mut Tx, row: &Row) -> Result<ConnectSession, DbError> {
    let mut columns = Columns::of(row);
    let id = columns.next()?;
    let account_id: AccountId = columns.next()?;
    let environment_id: EnvironmentId = columns.next()?;
    let token_hash: [u8; 32] = columns.next()?;
    Ok(ConnectSession {
        id,
        account_id,
        environment_id,
        spec: open_json(tx, environment_id, &spec_aad(&token_hash), &columns.bytes()?).await?,
        connection: columns.next()?,
        operation_id: columns.next()?,
        created_at: columns.next()?,
        expires_at: columns.next()?,
    })
}

fn spec_aad(token_hash: &[u8; 32]) -> String {
    format!(
        "connect_session.spec:{}",
        data_encoding::HEXLOWER.encode(token_hash)
    )
}
