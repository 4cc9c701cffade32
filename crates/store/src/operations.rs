//! Operations and their messages: what happened, for people. Written in batches, off the path of requests.

use patchbay_types::operations::{Message, Operation, OperationFilter, OperationOrder, OperationState};
use patchbay_types::{EnvironmentId, OperationId, Timestamp};

use crate::columns::{Binds, Columns, corrupt, padded, params, search_column, search_pattern, text, to_json};
use crate::db::{DbError, Row, Tx, Value};

const COLUMNS: &str =
    "id, environment_id, kind, action, state, integration, connection, title, started_at, ended_at";

/// Longest stored text of a message, and of its `meta` as JSON, in bytes (dashboard-and-observability §2.2).
pub const MAX_MESSAGE: usize = 99_000;

/// Writes an operation, running or already ended.
pub async fn insert(tx: &mut Tx, operation: &Operation) -> Result<(), DbError> {
    save_many(tx, std::slice::from_ref(operation)).await
}

/// Writes operations as they stand now; those that exist take the new state, end, title, integration and
/// connection.
pub async fn save_many(tx: &mut Tx, operations: &[Operation]) -> Result<(), DbError> {
    let rows: Vec<Vec<Value>> = operations
        .iter()
        .map(|operation| {
            vec![
                (&operation.id).into(),
                operation.environment_id.into(),
                operation.kind.as_str().into(),
                operation.action.as_str().into(),
                operation.state.as_str().into(),
                operation.integration.into(),
                operation.connection.into(),
                text(&operation.title),
                search_column([Some(operation.title.as_str())]).into(),
                operation.started_at.into(),
                operation.ended_at.into(),
            ]
        })
        .collect();
    tx.execute_many(
        "INSERT INTO operation (id, environment_id, kind, action, state, integration, connection, title, search,
           started_at, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (id) DO UPDATE SET
           state = excluded.state, integration = excluded.integration, connection = excluded.connection,
           title = excluded.title, search = excluded.search, ended_at = excluded.ended_at",
        &rows,
    )
    .await?;
    Ok(())
}

/// Ends a running operation now. Whether there was one.
pub async fn finish(tx: &mut Tx, id: &OperationId, state: OperationState) -> Result<bool, DbError> {
    let finished = tx
        .execute(
            "UPDATE operation SET state = $2, ended_at = $3 WHERE id = $1 AND state = 'running'",
            &params![id, state.as_str(), tx.now()],
        )
        .await?;
    Ok(finished > 0)
}

/// Says which connection a running operation turned out to be about.
pub async fn set_subject(
    tx: &mut Tx,
    id: &OperationId,
    integration: Option<patchbay_types::IntegrationId>,
    connection: Option<patchbay_types::ConnectionRowId>,
) -> Result<(), DbError> {
    tx.execute(
        "UPDATE operation SET integration = COALESCE($2, integration), connection = COALESCE($3, connection)
         WHERE id = $1",
        &params![id, integration, connection],
    )
    .await?;
    Ok(())
}

/// Adds messages, in order. A text or `meta` beyond [`MAX_MESSAGE`] is cut, and says so.
pub async fn append_messages(tx: &mut Tx, messages: &[Message]) -> Result<(), DbError> {
    let mut rows = Vec::with_capacity(messages.len());
    for message in messages {
        let meta = message.meta.as_ref().map(to_json).transpose()?;
        let meta = meta.map(|meta| {
            if meta.len() > MAX_MESSAGE {
                cut_meta(meta.len())
            } else {
                meta
            }
        });
        rows.push(vec![
            (&message.operation_id).into(),
            message.level.as_str().into(),
            text(cut(&message.text)),
            meta.into(),
            message.at.into(),
        ]);
    }
    tx.execute_many(
        "INSERT INTO message (operation_id, level, text, meta, at) VALUES ($1, $2, $3, $4, $5)",
        &rows,
    )
    .await?;
    Ok(())
}

/// One operation.
pub async fn get(tx: &mut Tx, id: &OperationId) -> Result<Option<Operation>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM operation WHERE id = $1");
    let row = tx.query_opt(&sql, &[text(&id.0)]).await?;
    row.as_ref().map(read).transpose()
}

/// Operations that pass every given filter, in its order.
pub async fn list(tx: &mut Tx, filter: &OperationFilter) -> Result<Vec<Operation>, DbError> {
    let mut binds = Binds::default();
    let mut conditions = vec!["1 = 1".to_owned()];
    if let Some(environment) = filter.environment_id {
        conditions.push(format!("environment_id = {}", binds.bind(environment)));
    }
    if !filter.kinds.is_empty() {
        let kinds: Vec<Value> = filter.kinds.iter().map(|kind| text(kind)).collect();
        conditions.push(format!("kind IN ({})", binds.list(padded(&kinds).cloned())));
    }
    if !filter.states.is_empty() {
        let states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        conditions.push(format!("state IN ({})", binds.list(padded(&states).copied())));
    }
    if let Some(integration) = filter.integration {
        conditions.push(format!("integration = {}", binds.bind(integration)));
    }
    if let Some(connection) = filter.connection {
        conditions.push(format!("connection = {}", binds.bind(connection)));
    }
    if let Some(since) = filter.since {
        conditions.push(format!("started_at >= {}", binds.bind(since)));
    }
    if let Some(until) = filter.until {
        conditions.push(format!("started_at < {}", binds.bind(until)));
    }
    if let Some(search) = &filter.search {
        conditions.push(format!(
            "search LIKE {} ESCAPE '!'",
            binds.bind(search_pattern(search))
        ));
    }
    let (beyond, order) = match filter.order {
        OperationOrder::NewestFirst => ("<", "DESC"),
        OperationOrder::OldestFirst => (">", "ASC"),
    };
    if let Some(cursor) = &filter.cursor {
        conditions.push(format!(
            "(started_at, id) {beyond} ({}, {})",
            binds.bind(cursor.started_at),
            binds.bind(&cursor.id)
        ));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM operation WHERE {} ORDER BY started_at {order}, id {order} LIMIT {}",
        conditions.join(" AND "),
        binds.bind(filter.limit)
    );
    tx.query(&sql, binds.values()).await?.iter().map(read).collect()
}

/// A place in the order in which operations ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndCursor {
    /// [`Operation::ended_at`].
    pub ended_at: Timestamp,
    /// [`Operation::id`]; empty before all that ended then.
    pub id: String,
}

/// An operation that has ended, with the names of what it concerns.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedOperation {
    /// The operation.
    pub operation: Operation,
    /// Where the order continues after it.
    pub cursor: EndCursor,
    /// Catalogue entry of its integration.
    pub provider: Option<String>,
    /// Its integration.
    pub integration_key: Option<String>,
    /// Its connection.
    pub connection_id: Option<String>,
    /// The last of its error messages.
    pub error: Option<String>,
}

/// Operations of an environment that ended after `after` and not later than `until`, in the order they ended.
pub async fn ended_page(
    tx: &mut Tx,
    environment: EnvironmentId,
    after: &EndCursor,
    until: Timestamp,
    limit: u32,
) -> Result<Vec<EndedOperation>, DbError> {
    let columns: Vec<String> = COLUMNS.split(", ").map(|column| format!("o.{column}")).collect();
    let sql = format!(
        "SELECT {}, i.provider, i.unique_key, c.connection_id,
                (SELECT m.text FROM message m WHERE m.operation_id = o.id AND m.level = 'error'
                 ORDER BY m.id DESC LIMIT 1)
         FROM operation o
         LEFT JOIN integration i ON i.id = o.integration
         LEFT JOIN connection c ON c.id = o.connection
         WHERE o.environment_id = $1 AND o.ended_at IS NOT NULL AND o.ended_at <= $2
           AND (o.ended_at, o.id) > ($3, $4)
         ORDER BY o.ended_at, o.id LIMIT $5",
        columns.join(", ")
    );
    let params = params![environment, until, after.ended_at, after.id.as_str(), limit];
    let rows = tx.query(&sql, &params).await?;
    rows.iter()
        .map(|row| {
            let operation = read(row)?;
            let mut columns = Columns::at(row, COLUMNS.split(", ").count());
            Ok(EndedOperation {
                cursor: EndCursor {
                    ended_at: operation.ended_at.ok_or_else(|| corrupt("an end is none"))?,
                    id: operation.id.0.clone(),
                },
                operation,
                provider: columns.next()?,
                integration_key: columns.next()?,
                connection_id: columns.next()?,
                error: columns.next()?,
            })
        })
        .collect()
}

/// A stored message and its place among all messages.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMessage {
    /// Grows from message to message.
    pub number: i64,
    /// The message.
    pub message: Message,
}

/// Messages of an operation after number `after` (0 for the first), in order.
pub async fn messages(
    tx: &mut Tx,
    id: &OperationId,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredMessage>, DbError> {
    let rows = tx
        .query(
            "SELECT id, operation_id, level, text, meta, at FROM message
             WHERE operation_id = $1 AND id > $2 ORDER BY id LIMIT $3",
            &params![id, after, limit],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(StoredMessage {
                number: columns.next()?,
                message: Message {
                    operation_id: columns.next()?,
                    level: columns.next()?,
                    text: columns.next()?,
                    meta: columns.json_opt()?,
                    at: columns.next()?,
                },
            })
        })
        .collect()
}

fn read(row: &Row) -> Result<Operation, DbError> {
    let mut columns = Columns::of(row);
    Ok(Operation {
        id: columns.next()?,
        environment_id: columns.next()?,
        kind: columns.next()?,
        action: columns.next()?,
        state: {
            let text: String = columns.next()?;
            OperationState::parse(&text).ok_or_else(|| corrupt("an unknown operation state"))?
        },
        integration: columns.next()?,
        connection: columns.next()?,
        title: columns.next()?,
        started_at: columns.next()?,
        ended_at: columns.next()?,
    })
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_MESSAGE)]
}

fn cut_meta(length: usize) -> String {
    format!(r#"{{"truncated":true,"bytes":{length}}}"#)
}
