//! Integrations: a provider configured in an environment, the operator's app at the provider sealed.

use patchbay_types::integrations::Integration;
use patchbay_types::{EnvironmentId, IntegrationId, IntegrationKey};

use crate::columns::{Columns, open_json, params, seal_json, text, text_opt};
use crate::connections;
use crate::db::{DbError, Row, Tx};

pub use patchbay_types::integrations::NewIntegration;

const COLUMNS: &str = "id, environment_id, unique_key, provider, display_name, forward_webhooks, secrets, \
                       created_at, updated_at, deleted_at";

/// Makes an integration. A live one of that key in the environment is a conflict on `integration_live_key`.
pub async fn insert(tx: &mut Tx, new: &NewIntegration) -> Result<Integration, DbError> {
    let now = tx.now();
    let row = tx
        .query_one(
            "INSERT INTO integration
               (environment_id, unique_key, provider, display_name, forward_webhooks, secrets, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING id",
            &[
                new.environment_id.into(),
                (&new.unique_key).into(),
                (&new.provider).into(),
                text_opt(new.display_name.as_deref()),
                new.forward_webhooks.into(),
                Vec::<u8>::new().into(),
                now.into(),
            ],
        )
        .await?;
    let id: IntegrationId = row.get(0)?;
    // The key may be renamed, so the seal is bound to the row, whose number exists only now.
    let secrets = seal_json(tx, new.environment_id, &secrets_aad(id), &new.secrets).await?;
    tx.execute(
        "UPDATE integration SET secrets = $2 WHERE id = $1",
        &params![id, secrets],
    )
    .await?;
    Ok(Integration {
        id,
        environment_id: new.environment_id,
        unique_key: new.unique_key.clone(),
        provider: new.provider.clone(),
        display_name: new.display_name.clone(),
        forward_webhooks: new.forward_webhooks,
        secrets: new.secrets.clone(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    })
}

/// A live integration by its key.
pub async fn find_by_key(
    tx: &mut Tx,
    environment: EnvironmentId,
    key: &str,
) -> Result<Option<Integration>, DbError> {
    let sql = select("WHERE environment_id = $1 AND unique_key = $2 AND deleted_at IS NULL");
    let row = tx.query_opt(&sql, &[environment.into(), text(key)]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// A live integration by its row.
pub async fn find_by_id(tx: &mut Tx, id: IntegrationId) -> Result<Option<Integration>, DbError> {
    let sql = select("WHERE id = $1 AND deleted_at IS NULL");
    let row = tx.query_opt(&sql, &params![id]).await?;
    match row {
        Some(row) => read(tx, &row).await.map(Some),
        None => Ok(None),
    }
}

/// The live integrations of an environment, by provider, then oldest first.
pub async fn list(tx: &mut Tx, environment: EnvironmentId) -> Result<Vec<Integration>, DbError> {
    let sql = select("WHERE environment_id = $1 AND deleted_at IS NULL ORDER BY created_at, id");
    let rows = tx.query(&sql, &params![environment]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        found.push(read(tx, row).await?);
    }
    // Sorted here, by bytes: a database sorts text by its locale.
    found.sort_by(|a, b| a.provider.cmp(&b.provider));
    Ok(found)
}

/// Writes every changeable field of a live integration and moves `updated_at`; answers it as stored, `None` if
/// there is no such live one. A key that is taken is a conflict on `integration_live_key`. Whether a rename is
/// allowed is the caller's to decide, see [`count_live_connections`].
pub async fn update(tx: &mut Tx, integration: &Integration) -> Result<Option<Integration>, DbError> {
    let scope = integration.environment_id;
    let secrets = seal_json(tx, scope, &secrets_aad(integration.id), &integration.secrets).await?;
    let now = tx.now();
    let updated = tx
        .execute(
            "UPDATE integration
             SET unique_key = $2, display_name = $3, forward_webhooks = $4, secrets = $5, updated_at = $6
             WHERE id = $1 AND deleted_at IS NULL",
            &[
                integration.id.into(),
                (&integration.unique_key).into(),
                text_opt(integration.display_name.as_deref()),
                integration.forward_webhooks.into(),
                secrets.into(),
                now.into(),
            ],
        )
        .await?;
    Ok((updated > 0).then(|| Integration {
        updated_at: now,
        ..integration.clone()
    }))
}

/// Whether a live integration of the environment has the key.
pub async fn is_key_taken(
    tx: &mut Tx,
    environment: EnvironmentId,
    key: &IntegrationKey,
) -> Result<bool, DbError> {
    let row = tx
        .query_opt(
            "SELECT id FROM integration WHERE environment_id = $1 AND unique_key = $2 AND deleted_at IS NULL",
            &params![environment, key],
        )
        .await?;
    Ok(row.is_some())
}

/// How many live connections it has.
pub async fn count_live_connections(tx: &mut Tx, id: IntegrationId) -> Result<i64, DbError> {
    let row = tx
        .query_one(
            "SELECT COUNT(*) FROM connection WHERE integration_id = $1 AND deleted_at IS NULL",
            &params![id],
        )
        .await?;
    row.get(0)
}

/// Whether it has any live connection, without counting them all.
pub async fn has_live_connections(tx: &mut Tx, id: IntegrationId) -> Result<bool, DbError> {
    let row = tx
        .query_opt(
            "SELECT id FROM connection WHERE integration_id = $1 AND deleted_at IS NULL LIMIT 1",
            &params![id],
        )
        .await?;
    Ok(row.is_some())
}

/// Deletes an integration and its connections, softly. Whether there was a live one.
pub async fn soft_delete(tx: &mut Tx, id: IntegrationId) -> Result<bool, DbError> {
    let deleted = tx
        .execute(
            "UPDATE integration SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
            &params![id, tx.now()],
        )
        .await?;
    if deleted == 0 {
        return Ok(false);
    }
    connections::soft_delete_of_integration(tx, id).await?;
    Ok(true)
}

/// Deletes all integrations of an environment softly; their connections are the caller's.
pub(crate) async fn soft_delete_of_environment(
    tx: &mut Tx,
    environment: EnvironmentId,
) -> Result<(), DbError> {
    tx.execute(
        "UPDATE integration SET deleted_at = $2 WHERE environment_id = $1 AND deleted_at IS NULL",
        &params![environment, tx.now()],
    )
    .await?;
    Ok(())
}

fn select(rest: &str) -> String {
    format!("SELECT {COLUMNS} FROM integration {rest}")
}

async fn read(tx: &mut Tx, row: &Row) -> Result<Integration, DbError> {
    let mut columns = Columns::of(row);
    let id = columns.next()?;
    let environment_id: EnvironmentId = columns.next()?;
    Ok(Integration {
        id,
        environment_id,
        unique_key: columns.next()?,
        provider: columns.next()?,
        display_name: columns.next()?,
        forward_webhooks: columns.next()?,
        secrets: open_json(tx, environment_id, &secrets_aad(id), &columns.bytes()?).await?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
        deleted_at: columns.next()?,
    })
}

fn secrets_aad(id: IntegrationId) -> String {
    format!("integration.secrets:{id}")
}
