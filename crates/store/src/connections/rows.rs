//! Reading a connection: its row, what is joined to it, and what is sealed in it.

use patchbay_types::connections::{Connection, ConnectionError, RefreshCause, RefreshState};
use patchbay_types::{
    ConnectionId, Credentials, EnvironmentId, IntegrationId, JsonMap, OperationId, Timestamp,
};

use crate::columns::{Columns, corrupt, open_json, open_secret};
use crate::db::{DbError, Row, Tx, Value};
use crate::end_users;

const COLUMNS: &str = "c.id, c.environment_id, c.integration_id, i.unique_key, i.provider, c.connection_id, \
                       c.credentials, c.connection_config, c.metadata, c.tags, c.webhook_url_override, \
                       c.generation, c.credentials_expires_at, c.last_refresh_success, c.last_refresh_failure, \
                       c.refresh_attempts, c.refresh_exhausted, c.refresh_cause, c.refresh_not_before, c.previous_refresh_token, \
                       c.previous_refresh_token_until, c.last_fetched_at, c.created_at, c.updated_at";

const JOINS: &str = "JOIN integration i ON i.id = c.integration_id \
                     LEFT JOIN end_user u ON u.id = c.end_user \
                     LEFT JOIN connection_error x ON x.connection = c.id";

pub(super) async fn find_where(
    tx: &mut Tx,
    condition: &str,
    params: &[Value],
) -> Result<Option<Connection>, DbError> {
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
const END_USER: usize = 24;
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
        not_before: columns.next()?,
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

pub(super) fn read_error(columns: &mut Columns<'_>) -> Result<Option<ConnectionError>, DbError> {
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

pub(super) async fn open_credentials(
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
pub(super) struct Seal {
    pub(super) credentials: String,
    pub(super) connection_config: String,
    pub(super) previous_refresh_token: String,
}

impl Seal {
    pub(super) fn new(integration: IntegrationId, connection: &ConnectionId) -> Self {
        let name = |column: &str| format!("connection.{column}:{integration}:{connection}");
        Self {
            credentials: name("credentials"),
            connection_config: name("connection_config"),
            previous_refresh_token: name("previous_refresh_token"),
        }
    }
}
