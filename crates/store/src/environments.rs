//! Environments, their settings, signing key and variables.

use patchbay_types::environments::{
    Environment, EnvironmentSettings, EnvironmentVariable, PreviousSigningKey,
};
use patchbay_types::{AccountId, EnvironmentId, Secret, Timestamp};
use uuid::Uuid;

use crate::columns::{Columns, clean, open_json, open_secret, params, seal_json, seal_secret, text};
use crate::db::{DbError, Row, Tx};
use crate::{connections, integrations};

pub use patchbay_types::environments::NewEnvironment;

const COLUMNS: &str = "id, uuid, account_id, name, is_production, settings, signing_key, previous_signing_key, \
     previous_signing_key_until, created_at, deleted_at";

/// Makes an environment. A live one of that name in the account is a conflict on `environment_live_name`.
pub async fn create(tx: &mut Tx, new: &NewEnvironment) -> Result<Environment, DbError> {
    // Sealed by the account's key: the environment's own begins with the number it is about to get.
    let settings = seal_json(tx, new.account_id, &settings_aad(new.uuid), &new.settings).await?;
    let signing_key = seal_secret(tx, new.account_id, &signing_key_aad(new.uuid), &new.signing_key).await?;
    let now = tx.now();
    let row = tx
        .query_one(
            "INSERT INTO environment (uuid, account_id, name, is_production, settings, signing_key, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
            &params![
                new.uuid.to_string(),
                new.account_id,
                &new.name,
                new.is_production,
                settings,
                signing_key,
                now,
            ],
        )
        .await?;
    Ok(Environment {
        id: row.get(0)?,
        uuid: new.uuid,
        account_id: new.account_id,
        name: new.name.clone(),
        is_production: new.is_production,
        settings: new.settings.clone(),
        signing_key: new.signing_key.clone(),
        previous_signing_key: None,
        created_at: now,
        deleted_at: None,
    })
}

/// A live environment by number.
pub async fn find(tx: &mut Tx, id: EnvironmentId) -> Result<Option<Environment>, DbError> {
    let sql = select("WHERE id = $1 AND deleted_at IS NULL");
    let row = tx.query_opt(&sql, &params![id]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A live environment by UUID.
pub async fn find_by_uuid(tx: &mut Tx, uuid: Uuid) -> Result<Option<Environment>, DbError> {
    let sql = select("WHERE uuid = $1 AND deleted_at IS NULL");
    let row = tx.query_opt(&sql, &params![uuid.to_string()]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A live environment of an account by name.
pub async fn find_by_name(
    tx: &mut Tx,
    account: AccountId,
    name: &str,
) -> Result<Option<Environment>, DbError> {
    let sql = select("WHERE account_id = $1 AND name = $2 AND deleted_at IS NULL");
    let row = tx.query_opt(&sql, &[account.into(), text(name)]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// The live environments of an account, oldest first.
pub async fn list(tx: &mut Tx, account: AccountId) -> Result<Vec<Environment>, DbError> {
    let sql = select("WHERE account_id = $1 AND deleted_at IS NULL ORDER BY id");
    let rows = tx.query(&sql, &params![account]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        found.push(read(tx, row).await?);
    }
    Ok(found)
}

/// The live environments of every account, oldest first.
pub async fn list_all(tx: &mut Tx) -> Result<Vec<Environment>, DbError> {
    let sql = select("WHERE deleted_at IS NULL ORDER BY id");
    let rows = tx.query(&sql, &[]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        found.push(read(tx, row).await?);
    }
    Ok(found)
}

/// Replaces the settings of a live environment; nothing happens if there is none.
pub async fn update_settings(
    tx: &mut Tx,
    id: EnvironmentId,
    settings: &EnvironmentSettings,
) -> Result<(), DbError> {
    let Some((uuid, account)) = live_owner(tx, id).await? else {
        return Ok(());
    };
    let sealed = seal_json(tx, account, &settings_aad(uuid), settings).await?;
    tx.execute(
        "UPDATE environment SET settings = $2 WHERE id = $1",
        &params![id, sealed],
    )
    .await?;
    Ok(())
}

/// Replaces the key that signs outbound webhooks, and ends the grace period of an earlier rotation; nothing happens
/// if there is no such live environment.
pub async fn set_signing_key(tx: &mut Tx, id: EnvironmentId, signing_key: &Secret) -> Result<(), DbError> {
    let Some((uuid, account)) = live_owner(tx, id).await? else {
        return Ok(());
    };
    let sealed = seal_secret(tx, account, &signing_key_aad(uuid), signing_key).await?;
    tx.execute(
        "UPDATE environment
         SET signing_key = $2, previous_signing_key = NULL, previous_signing_key_until = NULL WHERE id = $1",
        &params![id, sealed],
    )
    .await?;
    Ok(())
}

/// Replaces the signing key and keeps the former one until `grace_ends`. Whether it was done: not while an earlier
/// grace period lasts, and not if there is no such live environment.
pub async fn rotate_signing_key(
    tx: &mut Tx,
    id: EnvironmentId,
    fresh: &Secret,
    grace_ends: Timestamp,
) -> Result<bool, DbError> {
    let Some((uuid, account)) = live_owner(tx, id).await? else {
        return Ok(false);
    };
    let sealed = seal_secret(tx, account, &signing_key_aad(uuid), fresh).await?;
    let rotated = tx
        .execute(
            "UPDATE environment
             SET previous_signing_key = signing_key, previous_signing_key_until = $3, signing_key = $2
             WHERE id = $1 AND (previous_signing_key_until IS NULL OR previous_signing_key_until <= $4)",
            &params![id, sealed, grace_ends, tx.now()],
        )
        .await?;
    Ok(rotated > 0)
}

/// Forgets signing keys whose grace period is over, at most `limit`. How many.
pub async fn forget_expired_signing_keys(tx: &mut Tx, limit: u32) -> Result<u64, DbError> {
    let now = tx.now();
    tx.execute(
        "UPDATE environment SET previous_signing_key = NULL, previous_signing_key_until = NULL
         WHERE id IN (SELECT id FROM environment WHERE previous_signing_key_until <= $1
                      ORDER BY previous_signing_key_until LIMIT $2)",
        &params![now, limit],
    )
    .await
}

/// Deletes an environment, its integrations and their connections, softly. Its keys stay: they still say who is
/// calling, but find no environment. Whether there was a live one.
pub async fn soft_delete(tx: &mut Tx, id: EnvironmentId) -> Result<bool, DbError> {
    let deleted = tx
        .execute(
            "UPDATE environment SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
            &params![id, tx.now()],
        )
        .await?;
    if deleted == 0 {
        return Ok(false);
    }
    connections::soft_delete_of_environment(tx, id).await?;
    integrations::soft_delete_of_environment(tx, id).await?;
    Ok(true)
}

/// The variables of an environment, by name.
pub async fn variables(tx: &mut Tx, id: EnvironmentId) -> Result<Vec<EnvironmentVariable>, DbError> {
    let rows = tx
        .query(
            "SELECT name, value FROM environment_variable WHERE environment_id = $1",
            &params![id],
        )
        .await?;
    let mut variables = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: String = row.get(0)?;
        let sealed: Vec<u8> = row.get(1)?;
        let value = open_secret(tx, id, &variable_aad(id, &name), &sealed).await?;
        variables.push(EnvironmentVariable { name, value });
    }
    // Sorted here, by bytes: a database sorts text by its locale.
    variables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(variables)
}

/// One variable.
pub async fn variable(tx: &mut Tx, id: EnvironmentId, name: &str) -> Result<Option<Secret>, DbError> {
    let row = tx
        .query_opt(
            "SELECT value FROM environment_variable WHERE environment_id = $1 AND name = $2",
            &[id.into(), text(name)],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let sealed: Vec<u8> = row.get(0)?;
    open_secret(tx, id, &variable_aad(id, &clean(name)), &sealed)
        .await
        .map(Some)
}

/// Sets one variable.
pub async fn set_variable(tx: &mut Tx, id: EnvironmentId, name: &str, value: &Secret) -> Result<(), DbError> {
    let sealed = seal_secret(tx, id, &variable_aad(id, &clean(name)), value).await?;
    tx.execute(
        "INSERT INTO environment_variable (environment_id, name, value, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (environment_id, name)
         DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        &[id.into(), text(name), sealed.into(), tx.now().into()],
    )
    .await?;
    Ok(())
}

/// Removes one variable, if it is there.
pub async fn unset_variable(tx: &mut Tx, id: EnvironmentId, name: &str) -> Result<(), DbError> {
    tx.execute(
        "DELETE FROM environment_variable WHERE environment_id = $1 AND name = $2",
        &[id.into(), text(name)],
    )
    .await?;
    Ok(())
}

async fn live_owner(tx: &mut Tx, id: EnvironmentId) -> Result<Option<(Uuid, AccountId)>, DbError> {
    let row = tx
        .query_opt(
            "SELECT uuid, account_id FROM environment WHERE id = $1 AND deleted_at IS NULL",
            &params![id],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut columns = Columns::of(&row);
    Ok(Some((columns.uuid()?, columns.next()?)))
}

fn select(rest: &str) -> String {
    format!("SELECT {COLUMNS} FROM environment {rest}")
}

async fn read(tx: &mut Tx, row: &Row) -> Result<Environment, DbError> {
    let mut columns = Columns::of(row);
    let id = columns.next()?;
    let uuid = columns.uuid()?;
    let account_id: AccountId = columns.next()?;
    let (name, is_production) = (columns.next()?, columns.next()?);
    let settings = open_json(tx, account_id, &settings_aad(uuid), &columns.bytes()?).await?;
    let signing_key = open_secret(tx, account_id, &signing_key_aad(uuid), &columns.bytes()?).await?;
    let previous: (Option<Vec<u8>>, Option<Timestamp>) = (columns.next()?, columns.next()?);
    let previous_signing_key = match previous {
        (Some(sealed), Some(valid_until)) => Some(PreviousSigningKey {
            key: open_secret(tx, account_id, &signing_key_aad(uuid), &sealed).await?,
            valid_until,
        }),
        _ => None,
    };
    Ok(Environment {
        id,
        uuid,
        account_id,
        name,
        is_production,
        settings,
        signing_key,
        previous_signing_key,
        created_at: columns.next()?,
        deleted_at: columns.next()?,
    })
}

fn settings_aad(uuid: Uuid) -> String {
    format!("environment.settings:{uuid}")
}

fn signing_key_aad(uuid: Uuid) -> String {
    format!("environment.signing_key:{uuid}")
}

fn variable_aad(id: EnvironmentId, name: &str) -> String {
    format!("environment_variable.value:{id}:{name}")
}
