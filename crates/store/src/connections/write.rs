//! Writing a connection: a new row, a row replaced, and the rows of its tags.

use patchbay_types::connections::{Change, ConnectionUpsert};
use patchbay_types::{ConnectionId, ConnectionRowId, EnvironmentId, JsonMap, Tags, Timestamp};

use super::close_error;
use super::rows::Seal;
use crate::columns::{Binds, Columns, for_update, params, seal_json, search_column, text, text_opt, to_json};
use crate::db::{DbError, Row, Tx, Value};

/// What replacing needs to know of the stored row.
pub(super) struct Stored {
    pub(super) id: ConnectionRowId,
    pub(super) environment: EnvironmentId,
    pub(super) connection_id: ConnectionId,
    pub(super) tags: Tags,
    pub(super) created_at: Timestamp,
}

pub(super) const STORED: &str = "id, environment_id, connection_id, tags, created_at";

impl Stored {
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        let mut columns = Columns::of(row);
        Ok(Self {
            id: columns.next()?,
            environment: columns.next()?,
            connection_id: columns.next()?,
            tags: columns.json()?,
            created_at: columns.next()?,
        })
    }
}

pub(super) async fn lock_by_name(tx: &mut Tx, upsert: &ConnectionUpsert) -> Result<Option<Stored>, DbError> {
    let sql = format!(
        "SELECT {STORED} FROM connection \
         WHERE integration_id = $1 AND connection_id = $2 AND deleted_at IS NULL{}",
        for_update(tx.dialect())
    );
    let row = tx
        .query_opt(&sql, &params![upsert.integration_id, &upsert.connection_id])
        .await?;
    row.as_ref().map(Stored::read).transpose()
}

/// The new row, or none if a live one of the name exists.
pub(super) async fn insert(
    tx: &mut Tx,
    environment: EnvironmentId,
    upsert: &ConnectionUpsert,
) -> Result<Option<ConnectionRowId>, DbError> {
    let seal = Seal::new(upsert.integration_id, &upsert.connection_id);
    let credentials = seal_json(tx, environment, &seal.credentials, &upsert.credentials.to_json()).await?;
    let config = seal_json(
        tx,
        environment,
        &seal.connection_config,
        &upsert.connection_config,
    )
    .await?;
    let tags = given(&upsert.tags).cloned().unwrap_or_default();
    let metadata = given(&upsert.metadata)
        .and_then(Option::as_ref)
        .map(to_json)
        .transpose()?;
    let url = given(&upsert.webhook_url_override).and_then(Option::as_deref);
    let now = tx.now();
    let row = tx
        .query_opt(
            "INSERT INTO connection
               (environment_id, integration_id, connection_id, credentials, connection_config, metadata, tags,
                end_user, webhook_url_override, generation, credentials_expires_at, last_refresh_success,
                refresh_attempts, refresh_exhausted, last_fetched_at, search, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, 0, 0, $11, $12, $11, $11)
             ON CONFLICT (integration_id, connection_id) WHERE deleted_at IS NULL DO NOTHING
             RETURNING id",
            &[
                environment.into(),
                upsert.integration_id.into(),
                (&upsert.connection_id).into(),
                credentials.into(),
                config.into(),
                metadata.into(),
                to_json(&tags)?.into(),
                given(&upsert.end_user).copied().flatten().into(),
                text_opt(url),
                upsert.credentials_expires_at.into(),
                now.into(),
                search(&upsert.connection_id, &tags).into(),
            ],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let stored = Stored {
        id: row.get(0)?,
        environment,
        connection_id: upsert.connection_id.clone(),
        tags: Tags::default(),
        created_at: now,
    };
    insert_tag_rows(tx, &stored, &tags).await?;
    Ok(Some(stored.id))
}

pub(super) async fn replace(
    tx: &mut Tx,
    environment: EnvironmentId,
    stored: Stored,
    upsert: &ConnectionUpsert,
) -> Result<ConnectionRowId, DbError> {
    let seal = Seal::new(upsert.integration_id, &upsert.connection_id);
    let config = seal_json(
        tx,
        environment,
        &seal.connection_config,
        &upsert.connection_config,
    )
    .await?;
    let mut binds = Binds::default();
    let now = binds.bind(tx.now());
    let mut sets = vec![
        format!("connection_config = {}", binds.bind(config)),
        format!(
            "credentials_expires_at = {}",
            binds.bind(upsert.credentials_expires_at)
        ),
        format!("last_refresh_success = {now}, updated_at = {now}"),
        "last_refresh_failure = NULL, refresh_cause = NULL, refresh_attempts = 0, refresh_exhausted = 0, \
         refresh_not_before = NULL"
            .to_owned(),
        "generation = generation + 1".to_owned(),
    ];
    if upsert.credentials.kind().is_some() {
        let object = upsert.credentials.to_json();
        let credentials = seal_json(tx, environment, &seal.credentials, &object).await?;
        sets.push(format!("credentials = {}", binds.bind(credentials)));
        sets.push("previous_refresh_token = NULL, previous_refresh_token_until = NULL".to_owned());
    }
    if let Change::Set(metadata) = &upsert.metadata {
        sets.push(format!(
            "metadata = {}",
            binds.bind(metadata.as_ref().map(to_json).transpose()?)
        ));
    }
    if let Change::Set(tags) = &upsert.tags {
        sets.push(format!("tags = {}", binds.bind(to_json(tags)?)));
        sets.push(format!(
            "search = {}",
            binds.bind(search(&stored.connection_id, tags))
        ));
    }
    if let Change::Set(end_user) = upsert.end_user {
        sets.push(format!("end_user = {}", binds.bind(end_user)));
    }
    if let Change::Set(url) = &upsert.webhook_url_override {
        sets.push(format!(
            "webhook_url_override = {}",
            binds.bind(text_opt(url.as_deref()))
        ));
    }
    let sql = format!(
        "UPDATE connection SET {} WHERE id = {}",
        sets.join(", "),
        binds.bind(stored.id)
    );
    tx.execute(&sql, binds.values()).await?;
    if let Change::Set(tags) = &upsert.tags
        && *tags != stored.tags
    {
        replace_tag_rows(tx, &stored, tags).await?;
    }
    close_error(tx, stored.id, "auth", "").await?;
    tx.execute(
        "DELETE FROM refresh_intent WHERE connection = $1",
        &params![stored.id],
    )
    .await?;
    Ok(stored.id)
}

pub(super) async fn replace_tag_rows(tx: &mut Tx, stored: &Stored, tags: &Tags) -> Result<(), DbError> {
    tx.execute(
        "DELETE FROM connection_tag WHERE connection = $1",
        &params![stored.id],
    )
    .await?;
    insert_tag_rows(tx, stored, tags).await
}

async fn insert_tag_rows(tx: &mut Tx, stored: &Stored, tags: &Tags) -> Result<(), DbError> {
    let rows: Vec<Vec<Value>> = tags
        .iter()
        .map(|(key, value)| {
            let row = [
                stored.id.into(),
                key.into(),
                text(value),
                stored.environment.into(),
                stored.created_at.into(),
            ];
            row.to_vec()
        })
        .collect();
    tx.execute_many(
        "INSERT INTO connection_tag (connection, key, value, environment_id, created_at)
         VALUES ($1, $2, $3, $4, $5)",
        &rows,
    )
    .await?;
    Ok(())
}

pub(super) fn search(connection_id: &ConnectionId, tags: &Tags) -> String {
    search_column([
        Some(connection_id.as_str()),
        tags.get("end_user_display_name"),
        tags.get("end_user_email"),
    ])
}

pub(super) fn merged(mut stored: JsonMap, changes: &JsonMap) -> JsonMap {
    for (key, value) in changes {
        stored.insert(key.clone(), value.clone());
    }
    stored
}

pub(super) fn given<T>(change: &Change<T>) -> Option<&T> {
    match change {
        Change::Set(value) => Some(value),
        Change::Keep => None,
    }
}
