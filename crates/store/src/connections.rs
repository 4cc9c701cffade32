//! Connections: credentials and connection config sealed, tags as rows beside it for indexed filters.
//!
//! Every write of credentials bumps `generation`, which is what a refresh compares before it saves: a newer
//! credential is never overwritten by the answer to an older question. Times of use are written in batches
//! ([`touch_fetched`]).

mod list;
mod refresh;

use patchbay_types::connections::{
    AuthOperation, Change, Connection, ConnectionError, ConnectionPatch, ConnectionUpsert, RefreshCause,
    RefreshState,
};
use patchbay_types::{
    ConnectionId, ConnectionRowId, Credentials, EnvironmentId, IntegrationId, JsonMap, OperationId, Tags,
    Timestamp,
};

pub use list::list;
pub use refresh::{
    FailureSaved, RefreshSaved, StaleConnection, StaleCursor, forget_expired_previous_tokens,
    save_refresh_failure, save_refreshed, stale_page,
};

use crate::columns::{
    Binds, Columns, corrupt, for_update, open_json, open_secret, padded, params, seal_json, search_column,
    text, text_opt, to_json,
};
use crate::db::{DbError, Row, Tx, Value};
use crate::end_users;

/// Most rows one statement names.
const CHUNK: usize = 512;

const COLUMNS: &str = "c.id, c.environment_id, c.integration_id, i.unique_key, i.provider, c.connection_id, \
                       c.credentials, c.connection_config, c.metadata, c.tags, c.webhook_url_override, \
                       c.generation, c.credentials_expires_at, c.last_refresh_success, c.last_refresh_failure, \
                       c.refresh_attempts, c.refresh_exhausted, c.refresh_cause, c.previous_refresh_token, \
                       c.previous_refresh_token_until, c.last_fetched_at, c.created_at, c.updated_at";

const JOINS: &str = "JOIN integration i ON i.id = c.integration_id \
                     LEFT JOIN end_user u ON u.id = c.end_user \
                     LEFT JOIN connection_error x ON x.connection = c.id";

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

/// Merges `changes` over the connection config of a live connection, key by key, and answers the result; `None`
/// if there is no such connection.
pub async fn merge_connection_config(
    tx: &mut Tx,
    id: ConnectionRowId,
    changes: &JsonMap,
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
    let config = merged(stored, changes);
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
const DEPENDENTS: [&str; 3] = ["connection_tag", "connection_error", "refresh_intent"];

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

async fn find_where(tx: &mut Tx, condition: &str, params: &[Value]) -> Result<Option<Connection>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS}, {}, x.kind, x.log_id FROM connection c {JOINS} WHERE {condition} \
         ORDER BY x.kind, x.subject",
        end_users::COLUMNS
    );
    let rows = tx.query(&sql, params).await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let mut connection = read(tx, first).await?;
    for row in &rows {
        connection
            .errors
            .extend(read_error(&mut Columns::at(row, ERROR))?);
    }
    Ok(Some(connection))
}

/// Where [`COLUMNS`] end and the end user's begin.
const END_USER: usize = 23;
/// Where the failure's columns begin.
const ERROR: usize = END_USER + end_users::COLUMN_COUNT;

async fn read(tx: &mut Tx, row: &Row) -> Result<Connection, DbError> {
    let mut columns = Columns::of(row);
    let id = columns.next()?;
    let environment_id: EnvironmentId = columns.next()?;
    let integration_id: IntegrationId = columns.next()?;
    let integration_key = columns.next()?;
    let provider = columns.next()?;
    let connection_id: ConnectionId = columns.next()?;
    let seal = Seal::new(integration_id, &connection_id);
    let credentials = open_credentials(tx, environment_id, &seal, &columns.bytes()?).await?;
    let connection_config = open_json(tx, environment_id, &seal.connection_config, &columns.bytes()?).await?;
    let metadata = columns.json_opt()?;
    let tags = columns.json()?;
    let webhook_url_override = columns.next()?;
    let generation = columns.next()?;
    let mut refresh = RefreshState {
        credentials_expires_at: columns.next()?,
        last_success: columns.next()?,
        last_failure: columns.next()?,
        attempts: columns.next()?,
        exhausted: columns.next()?,
        cause: read_cause(columns.next()?)?,
        previous_refresh_token: None,
    };
    let previous: Option<Vec<u8>> = columns.next()?;
    let previous_until: Option<Timestamp> = columns.next()?;
    if let (Some(sealed), Some(until)) = (previous, previous_until) {
        let token = open_secret(tx, environment_id, &seal.previous_refresh_token, &sealed).await?;
        refresh.previous_refresh_token = Some((token, until));
    }
    Ok(Connection {
        id,
        environment_id,
        integration_id,
        integration_key,
        provider,
        connection_id,
        credentials,
        connection_config,
        metadata,
        tags,
        end_user: end_users::read_joined(&mut Columns::at(row, END_USER))?,
        webhook_url_override,
        errors: Vec::new(),
        refresh,
        generation,
        last_fetched_at: columns.next()?,
        created_at: columns.next()?,
        updated_at: columns.next()?,
    })
}

fn read_error(columns: &mut Columns<'_>) -> Result<Option<ConnectionError>, DbError> {
    let kind: Option<String> = columns.next()?;
    let log_id: Option<OperationId> = columns.next()?;
    Ok(kind
        .zip(log_id)
        .map(|(kind, log_id)| ConnectionError { kind, log_id }))
}

pub(crate) fn read_cause(text: Option<String>) -> Result<Option<RefreshCause>, DbError> {
    text.map(|text| RefreshCause::parse(&text).ok_or_else(|| corrupt("an unknown refresh cause")))
        .transpose()
}

async fn open_credentials(
    tx: &mut Tx,
    environment: EnvironmentId,
    seal: &Seal,
    sealed: &[u8],
) -> Result<Credentials, DbError> {
    let object: JsonMap = open_json(tx, environment, &seal.credentials, sealed).await?;
    Credentials::from_json(object).map_err(|_| corrupt("credentials of no known shape"))
}

/// What the sealed columns of one connection are bound to. A deleted connection and a later one of the same name
/// share it; a column moved to any other connection does not open.
struct Seal {
    credentials: String,
    connection_config: String,
    previous_refresh_token: String,
}

impl Seal {
    fn new(integration: IntegrationId, connection: &ConnectionId) -> Self {
        let name = |column: &str| format!("connection.{column}:{integration}:{connection}");
        Self {
            credentials: name("credentials"),
            connection_config: name("connection_config"),
            previous_refresh_token: name("previous_refresh_token"),
        }
    }
}

/// What replacing needs to know of the stored row.
struct Stored {
    id: ConnectionRowId,
    environment: EnvironmentId,
    connection_id: ConnectionId,
    tags: Tags,
    created_at: Timestamp,
}

const STORED: &str = "id, environment_id, connection_id, tags, created_at";

impl Stored {
    fn read(row: &Row) -> Result<Self, DbError> {
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

async fn lock_by_name(tx: &mut Tx, upsert: &ConnectionUpsert) -> Result<Option<Stored>, DbError> {
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
async fn insert(
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

async fn replace(
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
        "last_refresh_failure = NULL, refresh_cause = NULL, refresh_attempts = 0, refresh_exhausted = 0"
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

async fn replace_tag_rows(tx: &mut Tx, stored: &Stored, tags: &Tags) -> Result<(), DbError> {
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

fn search(connection_id: &ConnectionId, tags: &Tags) -> String {
    search_column([
        Some(connection_id.as_str()),
        tags.get("end_user_display_name"),
        tags.get("end_user_email"),
    ])
}

fn merged(mut stored: JsonMap, changes: &JsonMap) -> JsonMap {
    for (key, value) in changes {
        stored.insert(key.clone(), value.clone());
    }
    stored
}

fn given<T>(change: &Change<T>) -> Option<&T> {
    match change {
        Change::Set(value) => Some(value),
        Change::Keep => None,
    }
}
