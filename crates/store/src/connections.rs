//! Connections: credentials and connection config sealed, tags as rows beside it for indexed filters.
//!
//! Every write of credentials bumps `generation`, which is what a refresh compares before it saves: a newer
//! credential is never overwritten by the answer to an older question. Times of use are written in batches
//! ([`touch_fetched`]).

mod list;
mod refresh;
mod rows;
mod write;

use patchbay_types::connections::{AuthOperation, Change, Connection, ConnectionPatch, ConnectionUpsert};
use patchbay_types::{
    ConnectionId, ConnectionRowId, EnvironmentId, IntegrationId, JsonMap, OperationId, Timestamp,
};

pub use list::list;
pub use refresh::{
    FailureSaved, RefreshSaved, StaleConnection, StaleCursor, TestSaved, failing_page,
    forget_expired_previous_tokens, remember_reminder, save_refresh_failure, save_refreshed, save_tested,
    stale_page, unrefreshed_page,
};

use crate::columns::{
    Binds, Columns, for_update, open_json, padded, params, seal_json, text, text_opt, to_json,
};
use crate::db::{DbError, Tx, Value};
pub(crate) use rows::read_cause;
use rows::{Seal, find_where};
use write::{STORED, Stored, insert, lock_by_name, merged, replace, replace_tag_rows, search};

/// Most rows one statement names.
const CHUNK: usize = 512;

/// A live connection by the names the wire uses, with its credentials. One statement.
pub async fn find(
    tx: &mut Tx,
    environment: EnvironmentId,
    integration_key: &str,
    connection_id: &str,
) -> Result<Option<Connection>, DbError> {
    let params = [environment.into(), text(integration_key), text(connection_id)];
    let condition = "i.environment_id = $1 AND i.unique_key = $2 AND i.deleted_at IS NULL \
                     AND c.connection_id = $3 AND c.deleted_at IS NULL";
    find_where(tx, condition, &params).await
}

/// A live connection by its row, with its credentials.
pub async fn find_by_row(tx: &mut Tx, id: ConnectionRowId) -> Result<Option<Connection>, DbError> {
    find_where(tx, "c.id = $1 AND c.deleted_at IS NULL", &params![id]).await
}

/// A page of an integration's live connections with what their `connection_config` says, oldest row first, those after
/// `after`. For the rare question that only a sealed setting answers.
pub async fn configs(
    tx: &mut Tx,
    integration: IntegrationId,
    after: ConnectionRowId,
    limit: u32,
) -> Result<Vec<(ConnectionRowId, JsonMap)>, DbError> {
    let rows = tx
        .query(
            "SELECT id, environment_id, connection_id, connection_config FROM connection
             WHERE integration_id = $1 AND id > $2 AND deleted_at IS NULL ORDER BY id LIMIT $3",
            &params![integration, after, limit],
        )
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        let (id, environment) = (columns.next()?, columns.next::<EnvironmentId>()?);
        let seal = Seal::new(integration, &columns.next::<ConnectionId>()?);
        let config = open_json(tx, environment, &seal.connection_config, &columns.bytes()?).await?;
        found.push((id, config));
    }
    Ok(found)
}

/// The row of a live connection of an integration.
pub async fn find_row(
    tx: &mut Tx,
    integration: IntegrationId,
    connection_id: &str,
) -> Result<Option<ConnectionRowId>, DbError> {
    let row = tx
        .query_opt(
            "SELECT id FROM connection WHERE integration_id = $1 AND connection_id = $2 AND deleted_at IS NULL",
            &[integration.into(), text(connection_id)],
        )
        .await?;
    row.map(|row| row.get(0)).transpose()
}

/// Makes a connection, or replaces the live one of that id: its row, its `created_at` and what the upsert says to
/// keep stay; failure counters, active `auth` errors, a pending refresh intent and the previous refresh token go.
/// Credentials of mode NONE leave stored ones alone.
pub async fn upsert(
    tx: &mut Tx,
    environment: EnvironmentId,
    upsert: &ConnectionUpsert,
) -> Result<(Connection, AuthOperation), DbError> {
    let (id, operation) = if let Some(stored) = lock_by_name(tx, upsert).await? {
        (
            replace(tx, environment, stored, upsert).await?,
            AuthOperation::Override,
        )
    } else if let Some(id) = insert(tx, environment, upsert).await? {
        (id, AuthOperation::Creation)
    } else {
        // Another transaction made it after we looked.
        let stored = lock_by_name(tx, upsert).await?;
        let stored = stored.ok_or_else(|| DbError::internal("a connection came and went while upserted"))?;
        (
            replace(tx, environment, stored, upsert).await?,
            AuthOperation::Override,
        )
    };
    let connection = find_by_row(tx, id).await?;
    let connection =
        connection.ok_or_else(|| DbError::internal("the connection just written is not there"))?;
    Ok((connection, operation))
}

/// Writes tags, end user and webhook override of a live connection, `updated_at` untouched. Whether there was one.
pub async fn patch(tx: &mut Tx, id: ConnectionRowId, patch: &ConnectionPatch) -> Result<bool, DbError> {
    let sql = format!(
        "SELECT {STORED} FROM connection WHERE id = $1 AND deleted_at IS NULL{}",
        for_update(tx.dialect())
    );
    let Some(row) = tx.query_opt(&sql, &params![id]).await? else {
        return Ok(false);
    };
    let stored = Stored::read(&row)?;
    let mut binds = Binds::default();
    let mut sets = Vec::new();
    if let Change::Set(tags) = &patch.tags {
        sets.push(format!("tags = {}", binds.bind(to_json(tags)?)));
        sets.push(format!(
            "search = {}",
            binds.bind(search(&stored.connection_id, tags))
        ));
    }
    if let Change::Set(end_user) = patch.end_user {
        sets.push(format!("end_user = {}", binds.bind(end_user)));
    }
    if let Change::Set(url) = &patch.webhook_url_override {
        sets.push(format!(
            "webhook_url_override = {}",
            binds.bind(text_opt(url.as_deref()))
        ));
    }
    if !sets.is_empty() {
        let sql = format!(
            "UPDATE connection SET {} WHERE id = {}",
            sets.join(", "),
            binds.bind(id)
        );
        tx.execute(&sql, binds.values()).await?;
    }
    if let Change::Set(tags) = &patch.tags
        && *tags != stored.tags
    {
        replace_tag_rows(tx, &stored, tags).await?;
    }
    Ok(true)
}

/// What to do with metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetadataChange<'a> {
    /// Write this instead.
    Replace(&'a JsonMap),
    /// Overlay the stored object, top level only.
    Merge(&'a JsonMap),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataSaved {
    /// All connections have it.
    Saved,
    /// This one, the first in the order asked, does not exist; nothing was changed.
    Missing(ConnectionId),
}

/// Changes the metadata of live connections of one integration, all or none; `updated_at` stays.
pub async fn set_metadata(
    tx: &mut Tx,
    integration: IntegrationId,
    ids: &[ConnectionId],
    change: MetadataChange<'_>,
) -> Result<MetadataSaved, DbError> {
    let mut sorted: Vec<&ConnectionId> = ids.iter().collect();
    // One order on every node, or two of these could wait for each other's rows.
    sorted.sort_unstable();
    sorted.dedup();
    let mut found = Vec::with_capacity(sorted.len());
    for chunk in sorted.chunks(CHUNK) {
        let mut binds = Binds::default();
        let sql = format!(
            "SELECT id, connection_id, metadata FROM connection \
             WHERE integration_id = {} AND connection_id IN ({}) AND deleted_at IS NULL ORDER BY id{}",
            binds.bind(integration),
            binds.list(padded(chunk).copied()),
            for_update(tx.dialect())
        );
        for row in tx.query(&sql, binds.values()).await? {
            let mut columns = Columns::of(&row);
            found.push((
                columns.next::<ConnectionRowId>()?,
                columns.next::<ConnectionId>()?,
                columns.json_opt::<JsonMap>()?,
            ));
        }
    }
    if found.len() < sorted.len() {
        let names: std::collections::HashSet<&str> = found.iter().map(|(_, name, _)| name.as_str()).collect();
        let missing = ids.iter().find(|id| !names.contains(id.as_str()));
        return missing
            .map(|id| MetadataSaved::Missing(id.clone()))
            .ok_or_else(|| DbError::internal("fewer connections than names, and none missing"));
    }
    let mut rows = Vec::with_capacity(found.len());
    for (id, _, stored) in found {
        let document = match change {
            MetadataChange::Replace(new) => to_json(new)?,
            MetadataChange::Merge(new) => to_json(&merged(stored.unwrap_or_default(), new))?,
        };
        rows.push(params![document, id].to_vec());
    }
    tx.execute_many("UPDATE connection SET metadata = $1 WHERE id = $2", &rows)
        .await?;
    Ok(MetadataSaved::Saved)
}

/// Merges `changes` over the connection config of a live connection, key by key, without the keys `removed`, and
/// answers the result; `None` if there is no such connection.
pub async fn change_connection_config(
    tx: &mut Tx,
    id: ConnectionRowId,
    changes: &JsonMap,
    removed: &[String],
) -> Result<Option<JsonMap>, DbError> {
    let sql = format!(
        "SELECT environment_id, integration_id, connection_id, connection_config FROM connection \
         WHERE id = $1 AND deleted_at IS NULL{}",
        for_update(tx.dialect())
    );
    let Some(row) = tx.query_opt(&sql, &params![id]).await? else {
        return Ok(None);
    };
    let mut columns = Columns::of(&row);
    let environment: EnvironmentId = columns.next()?;
    let seal = Seal::new(columns.next()?, &columns.next::<ConnectionId>()?);
    let stored: JsonMap = open_json(tx, environment, &seal.connection_config, &columns.bytes()?).await?;
    let mut config = merged(stored, changes);
    config.retain(|key, _| !removed.contains(key));
    let sealed = seal_json(tx, environment, &seal.connection_config, &config).await?;
    tx.execute(
        "UPDATE connection SET connection_config = $2, updated_at = $3 WHERE id = $1",
        &params![id, sealed, tx.now()],
    )
    .await?;
    Ok(Some(config))
}

/// Records last credential reads; a time earlier than the stored one changes nothing.
pub async fn touch_fetched(tx: &mut Tx, reads: &[(ConnectionRowId, Timestamp)]) -> Result<(), DbError> {
    let mut rows = reads.to_vec();
    // One order on every node, or two batches could lock each other's rows.
    rows.sort_unstable();
    let rows: Vec<Vec<Value>> = rows
        .into_iter()
        .map(|(id, at)| params![id, at].to_vec())
        .collect();
    tx.execute_many(
        "UPDATE connection SET last_fetched_at = $2
         WHERE id = $1 AND (last_fetched_at IS NULL OR last_fetched_at < $2)",
        &rows,
    )
    .await?;
    Ok(())
}

/// Opens an active failure, or points an open one at a newer operation. `subject` tells failures of a kind apart
/// (a sync's name; empty for `auth`). Whether it is newly open.
pub async fn open_error(
    tx: &mut Tx,
    id: ConnectionRowId,
    kind: &str,
    subject: &str,
    log_id: &OperationId,
) -> Result<bool, DbError> {
    let updated = tx
        .execute(
            "UPDATE connection_error SET log_id = $4 WHERE connection = $1 AND kind = $2 AND subject = $3",
            &[id.into(), kind.into(), text(subject), log_id.into()],
        )
        .await?;
    if updated > 0 {
        return Ok(false);
    }
    let inserted = tx
        .execute(
            "INSERT INTO connection_error (connection, kind, subject, log_id, created_at)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (connection, kind, subject) DO NOTHING",
            &[
                id.into(),
                kind.into(),
                text(subject),
                log_id.into(),
                tx.now().into(),
            ],
        )
        .await?;
    Ok(inserted > 0)
}

/// Closes an active failure. Whether it was open.
pub async fn close_error(
    tx: &mut Tx,
    id: ConnectionRowId,
    kind: &str,
    subject: &str,
) -> Result<bool, DbError> {
    let closed = tx
        .execute(
            "DELETE FROM connection_error WHERE connection = $1 AND kind = $2 AND subject = $3",
            &[id.into(), kind.into(), text(subject)],
        )
        .await?;
    Ok(closed > 0)
}

/// Deletes a connection softly: it is gone for everybody, its id is free again, and its row is purged later (see
/// `retention`). Whether there was a live one.
pub async fn soft_delete(tx: &mut Tx, id: ConnectionRowId) -> Result<bool, DbError> {
    let deleted = tx
        .execute(
            "UPDATE connection SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
            &params![id, tx.now()],
        )
        .await?;
    for table in DEPENDENTS {
        tx.execute(
            &format!("DELETE FROM {table} WHERE connection = $1"),
            &params![id],
        )
        .await?;
    }
    Ok(deleted > 0)
}

/// Removes a connection for good, as if it had never been: for a creation that was refused after the fact.
pub async fn hard_delete(tx: &mut Tx, id: ConnectionRowId) -> Result<(), DbError> {
    for table in DEPENDENTS.iter().chain(&["refresh_event"]) {
        tx.execute(
            &format!("DELETE FROM {table} WHERE connection = $1"),
            &params![id],
        )
        .await?;
    }
    tx.execute("DELETE FROM connection WHERE id = $1", &params![id])
        .await?;
    Ok(())
}

/// Deletes the connections of an integration softly.
pub(crate) async fn soft_delete_of_integration(tx: &mut Tx, id: IntegrationId) -> Result<(), DbError> {
    soft_delete_where(tx, "integration_id = $1", id.into()).await
}

/// Deletes the connections of an environment softly.
pub(crate) async fn soft_delete_of_environment(tx: &mut Tx, id: EnvironmentId) -> Result<(), DbError> {
    soft_delete_where(tx, "environment_id = $1", id.into()).await
}

/// Tables whose rows end with the life of their connection.
const DEPENDENTS: [&str; 4] = [
    "connection_tag",
    "connection_error",
    "refresh_intent",
    "provider_step",
];

async fn soft_delete_where(tx: &mut Tx, condition: &str, owner: Value) -> Result<(), DbError> {
    for table in DEPENDENTS {
        let sql = format!(
            "DELETE FROM {table} WHERE connection IN \
             (SELECT id FROM connection WHERE {condition} AND deleted_at IS NULL)"
        );
        tx.execute(&sql, std::slice::from_ref(&owner)).await?;
    }
    let sql = format!("UPDATE connection SET deleted_at = $2 WHERE {condition} AND deleted_at IS NULL");
    tx.execute(&sql, &[owner, tx.now().into()]).await?;
    Ok(())
}
