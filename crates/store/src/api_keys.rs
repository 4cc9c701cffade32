//! API keys. A key is found by the SHA-256 of its secret: 122 random bits need no password hash.

use patchbay_types::api_keys::{ApiKey, ApiKeyWithSecret};
use patchbay_types::{AccountId, ApiKeyId, EnvironmentId, Timestamp};

use crate::columns::{Columns, open_secret, params, seal_secret, text, to_json};
use crate::db::{DbError, Row, Tx, Value};
use crate::vault::KeyScope;

pub use patchbay_types::api_keys::NewApiKey;

const COLUMNS: &str =
    "k.id, k.uuid, k.account_id, k.environment_id, k.display_name, k.scopes, k.last_used_at, k.created_at";

/// Makes a key. A live one of that name in the same place is a conflict on `api_key_live_environment_name` or
/// `api_key_live_account_name`, one with the same secret anywhere a conflict on `api_key_live_secret`.
pub async fn create(tx: &mut Tx, new: &NewApiKey) -> Result<ApiKey, DbError> {
    let scope = scope(new.account_id, new.environment_id);
    let secret = seal_secret(tx, scope, &secret_aad(new.uuid), &new.secret).await?;
    let now = tx.now();
    let row = tx
        .query_one(
            "INSERT INTO api_key
               (uuid, account_id, environment_id, display_name, scopes, secret_hash, secret, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
            &[
                new.uuid.to_string().into(),
                new.account_id.into(),
                new.environment_id.into(),
                text(&new.display_name),
                to_json(&new.scopes)?.into(),
                new.secret_hash.into(),
                secret.into(),
                now.into(),
            ],
        )
        .await?;
    Ok(ApiKey {
        id: row.get(0)?,
        uuid: new.uuid,
        account_id: new.account_id,
        environment_id: new.environment_id,
        display_name: new.display_name.clone(),
        scopes: new.scopes.clone(),
        last_used_at: None,
        created_at: now,
    })
}

/// What [`provision`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioned {
    /// The key was made.
    Created,
    /// The environment has had this key.
    Unchanged,
}

/// Makes sure that the environment has a key with exactly this secret (`PATCHBAY_API_KEY_<ENV>`). Another live
/// key of the given name makes way: provisioning a new secret replaces the one provisioned before. The same
/// secret in another environment is a conflict on `api_key_live_secret`.
pub async fn provision(tx: &mut Tx, key: &NewApiKey) -> Result<(ApiKey, Provisioned), DbError> {
    if let Some(found) = find_by_hash(tx, &key.secret_hash).await?
        && found.environment_id == key.environment_id
        && found.account_id == key.account_id
    {
        return Ok((found, Provisioned::Unchanged));
    }
    let named = list(tx, key.account_id, key.environment_id)
        .await?
        .into_iter()
        .find(|other| other.display_name == key.display_name);
    if let Some(named) = named {
        soft_delete(tx, named.id).await?;
    }
    Ok((create(tx, key).await?, Provisioned::Created))
}

/// The live key of a secret. A key whose environment was deleted still says whose account is calling;
/// `environment_id` is `None` then.
pub async fn find_by_hash(tx: &mut Tx, secret_hash: &[u8; 32]) -> Result<Option<ApiKey>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS}, e.id FROM api_key k
         LEFT JOIN environment e ON e.id = k.environment_id AND e.deleted_at IS NULL
         WHERE k.secret_hash = $1 AND k.deleted_at IS NULL"
    );
    let Some(row) = tx.query_opt(&sql, &params![secret_hash]).await? else {
        return Ok(None);
    };
    let mut key = read(&row)?;
    key.environment_id = row.get(COLUMN_COUNT)?;
    Ok(Some(key))
}

/// The live keys of an environment, or the account keys, oldest first.
pub async fn list(
    tx: &mut Tx,
    account: AccountId,
    environment: Option<EnvironmentId>,
) -> Result<Vec<ApiKey>, DbError> {
    let place = if environment.is_some() {
        "k.environment_id = $2"
    } else {
        "k.environment_id IS NULL"
    };
    let mut params = vec![account.into()];
    params.extend(environment.map(Value::from));
    let sql = format!(
        "SELECT {COLUMNS} FROM api_key k
         WHERE k.account_id = $1 AND {place} AND k.deleted_at IS NULL ORDER BY k.id"
    );
    let rows = tx.query(&sql, &params).await?;
    rows.iter().map(read).collect()
}

/// A live key with its secret.
pub async fn get_with_secret(tx: &mut Tx, id: ApiKeyId) -> Result<Option<ApiKeyWithSecret>, DbError> {
    let sql = format!("SELECT {COLUMNS}, k.secret FROM api_key k WHERE k.id = $1 AND k.deleted_at IS NULL");
    let Some(row) = tx.query_opt(&sql, &params![id]).await? else {
        return Ok(None);
    };
    let key = read(&row)?;
    let sealed: Vec<u8> = row.get(COLUMN_COUNT)?;
    let scope = scope(key.account_id, key.environment_id);
    let secret = open_secret(tx, scope, &secret_aad(key.uuid), &sealed).await?;
    Ok(Some(ApiKeyWithSecret { key, secret }))
}

/// Revokes a key. Whether there was a live one.
pub async fn soft_delete(tx: &mut Tx, id: ApiKeyId) -> Result<bool, DbError> {
    let deleted = tx
        .execute(
            "UPDATE api_key SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
            &params![id, tx.now()],
        )
        .await?;
    Ok(deleted > 0)
}

/// Records last uses; a time earlier than the stored one changes nothing.
pub async fn touch_last_used(tx: &mut Tx, uses: &[(ApiKeyId, Timestamp)]) -> Result<(), DbError> {
    let mut rows: Vec<_> = uses.to_vec();
    // One order on every node, or two batches could lock each other's rows.
    rows.sort_unstable();
    let rows: Vec<Vec<Value>> = rows
        .into_iter()
        .map(|(id, at)| params![id, at].to_vec())
        .collect();
    tx.execute_many(
        "UPDATE api_key SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
        &rows,
    )
    .await?;
    Ok(())
}

/// How many columns [`read`] reads.
const COLUMN_COUNT: usize = 8;

fn read(row: &Row) -> Result<ApiKey, DbError> {
    let mut columns = Columns::of(row);
    Ok(ApiKey {
        id: columns.next()?,
        uuid: columns.uuid()?,
        account_id: columns.next()?,
        environment_id: columns.next()?,
        display_name: columns.next()?,
        scopes: columns.json()?,
        last_used_at: columns.next()?,
        created_at: columns.next()?,
    })
}

fn scope(account: AccountId, environment: Option<EnvironmentId>) -> KeyScope {
    environment.map_or(KeyScope::Account(account), KeyScope::Environment)
}

fn secret_aad(uuid: uuid::Uuid) -> String {
    format!("api_key.secret:{uuid}")
}
