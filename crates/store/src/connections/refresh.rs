//! What refreshes write, and which connections the background refresher looks at.

use patchbay_types::connections::{
    FailureWeight, MAX_REFRESH_ATTEMPTS, RefreshFailure, RefreshedCredentials,
};
use patchbay_types::{
    ConnectionId, ConnectionRowId, EnvironmentId, IntegrationId, IntegrationKey, JsonMap, ProviderName,
    Timestamp,
};

use super::rows::{Seal, open_credentials};
use super::write::merged;
use super::{close_error, open_error};
use crate::columns::{Binds, Columns, for_update, open_json, params, seal_json, seal_secret};
use crate::db::{DbError, Row, Tx};

/// What became of the answer to a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshSaved {
    /// It is stored.
    Saved {
        /// The new generation.
        generation: i64,
        /// An active `auth` failure ended with it.
        recovered: bool,
    },
    /// The credentials were replaced, or the connection deleted, since the provider was asked. Nothing was written:
    /// read again.
    Lost,
}

/// Stores refreshed credentials if the connection still is at `generation`. The refresh token they replace is kept
/// until `previous_until`; failures, counters and the intent go.
pub async fn save_refreshed(
    tx: &mut Tx,
    id: ConnectionRowId,
    generation: i64,
    refreshed: &RefreshedCredentials,
) -> Result<RefreshSaved, DbError> {
    let sql = format!(
        "SELECT environment_id, integration_id, connection_id, credentials, connection_config FROM connection \
         WHERE id = $1 AND generation = $2 AND deleted_at IS NULL{}",
        for_update(tx.dialect())
    );
    let Some(row) = tx.query_opt(&sql, &params![id, generation]).await? else {
        return Ok(RefreshSaved::Lost);
    };
    let mut columns = Columns::of(&row);
    let environment: EnvironmentId = columns.next()?;
    let integration: IntegrationId = columns.next()?;
    let seal = Seal::new(integration, &columns.next::<ConnectionId>()?);
    let stored = open_credentials(tx, environment, &seal, &columns.bytes()?).await?;
    let sealed_config = columns.bytes()?;

    let now = tx.now();
    let mut binds = Binds::default();
    let at = binds.bind(now);
    let credentials = seal_json(
        tx,
        environment,
        &seal.credentials,
        &refreshed.credentials.to_json(),
    )
    .await?;
    let mut sets = vec![
        format!("credentials = {}", binds.bind(credentials)),
        format!(
            "credentials_expires_at = {}",
            binds.bind(refreshed.credentials_expires_at)
        ),
        format!("last_fetched_at = {at}, last_refresh_success = {at}, updated_at = {at}"),
        "last_refresh_failure = NULL, refresh_cause = NULL, refresh_attempts = 0, refresh_exhausted = 0"
            .to_owned(),
        format!("refresh_not_before = {}", binds.bind(refreshed.not_before)),
        "generation = generation + 1".to_owned(),
    ];
    if let Some(old) = stored.refresh_token()
        && refreshed.credentials.refresh_token().as_ref() != Some(&old)
    {
        let sealed = seal_secret(tx, environment, &seal.previous_refresh_token, &old).await?;
        sets.push(format!("previous_refresh_token = {}", binds.bind(sealed)));
        sets.push(format!(
            "previous_refresh_token_until = {}",
            binds.bind(refreshed.previous_until)
        ));
    }
    if !refreshed.connection_config.is_empty() {
        let config: JsonMap = open_json(tx, environment, &seal.connection_config, &sealed_config).await?;
        let config = merged(config, &refreshed.connection_config);
        let sealed = seal_json(tx, environment, &seal.connection_config, &config).await?;
        sets.push(format!("connection_config = {}", binds.bind(sealed)));
    }
    let sql = format!(
        "UPDATE connection SET {} WHERE id = {} AND generation = {}",
        sets.join(", "),
        binds.bind(id),
        binds.bind(generation)
    );
    if tx.execute(&sql, binds.values()).await? == 0 {
        return Ok(RefreshSaved::Lost);
    }
    let recovered = close_error(tx, id, "auth", "").await?;
    tx.execute("DELETE FROM refresh_intent WHERE connection = $1", &params![id])
        .await?;
    Ok(RefreshSaved::Saved {
        generation: generation + 1,
        recovered,
    })
}

/// What became of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureSaved {
    /// It is stored.
    Saved {
        /// Days with failures so far.
        attempts: i32,
        /// Whether the connection is given up.
        exhausted: bool,
        /// The `auth` failure is newly active: the connection worked until now.
        opened: bool,
    },
    /// The credentials were replaced, or the connection deleted, since the provider was asked: the failure says
    /// nothing about them. Nothing was written.
    Lost,
}

/// Records that refreshing or testing the credentials of `generation` failed (auth-flows §24.5, days in UTC). The
/// intent is left to the caller, who knows whether the provider's answer was seen. What else is written, the weight
/// says.
pub async fn save_refresh_failure(
    tx: &mut Tx,
    id: ConnectionRowId,
    generation: i64,
    failure: &RefreshFailure,
) -> Result<FailureSaved, DbError> {
    let sql = format!(
        "SELECT refresh_attempts, refresh_exhausted, last_refresh_failure FROM connection \
         WHERE id = $1 AND generation = $2 AND deleted_at IS NULL{}",
        for_update(tx.dialect())
    );
    let Some(row) = tx.query_opt(&sql, &params![id, generation]).await? else {
        return Ok(FailureSaved::Lost);
    };
    let stored: i32 = row.get(0)?;
    let was_exhausted: bool = row.get(1)?;
    let last_failure: Option<Timestamp> = row.get(2)?;
    let now = tx.now();
    if matches!(failure.weight, FailureWeight::CoolDown | FailureWeight::Uncounted) {
        tx.execute(
            "UPDATE connection SET last_refresh_failure = $2, refresh_cause = $3, refresh_not_before = $4
             WHERE id = $1",
            &params![id, now, failure.cause.as_str(), failure.not_before],
        )
        .await?;
        let opened = failure.weight == FailureWeight::Uncounted
            && open_error(tx, id, "auth", "", &failure.operation_id).await?;
        return Ok(FailureSaved::Saved {
            attempts: stored,
            exhausted: was_exhausted,
            opened,
        });
    }
    // A failure that did not count does not make the first that does the second.
    let another_day = stored > 0 && last_failure.is_some_and(|last| utc_day(last) < utc_day(now));
    let counted = stored.max(1) + i32::from(another_day);
    let attempts = if failure.weight == FailureWeight::Final {
        counted.max(MAX_REFRESH_ATTEMPTS)
    } else {
        counted
    };
    let exhausted = was_exhausted || attempts >= MAX_REFRESH_ATTEMPTS;
    tx.execute(
        "UPDATE connection SET last_refresh_failure = $2, last_refresh_success = NULL, refresh_cause = $3,
           refresh_attempts = $4, refresh_exhausted = $5, refresh_not_before = $6
         WHERE id = $1",
        &params![
            id,
            now,
            failure.cause.as_str(),
            attempts,
            exhausted,
            failure.not_before
        ],
    )
    .await?;
    let opened = open_error(tx, id, "auth", "", &failure.operation_id).await?;
    Ok(FailureSaved::Saved {
        attempts,
        exhausted,
        opened,
    })
}

/// What became of a test that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestSaved {
    /// It is stored.
    Saved {
        /// An active `auth` failure ended with it.
        recovered: bool,
    },
    /// The credentials were replaced, or the connection deleted, since. Nothing was written.
    Lost,
}

/// Records that the credentials of `generation` passed a test: failures and counters go, the next look is at `next`.
pub async fn save_tested(
    tx: &mut Tx,
    id: ConnectionRowId,
    generation: i64,
    next: Option<Timestamp>,
) -> Result<TestSaved, DbError> {
    let saved = tx
        .execute(
            "UPDATE connection SET credentials_expires_at = $3, last_refresh_success = $4,
               last_refresh_failure = NULL, refresh_cause = NULL, refresh_attempts = 0, refresh_exhausted = 0,
               refresh_not_before = NULL
             WHERE id = $1 AND generation = $2 AND deleted_at IS NULL",
            &params![id, generation, next, tx.now()],
        )
        .await?;
    if saved == 0 {
        return Ok(TestSaved::Lost);
    }
    let recovered = close_error(tx, id, "auth", "").await?;
    Ok(TestSaved::Saved { recovered })
}

/// A connection that the background looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleConnection {
    /// Row.
    pub id: ConnectionRowId,
    /// Environment.
    pub environment_id: EnvironmentId,
    /// Integration.
    pub integration_key: IntegrationKey,
    /// Catalogue entry.
    pub provider: ProviderName,
    /// Public id.
    pub connection_id: ConnectionId,
    /// Last credential read; when it was made, in pages that do not go by that.
    pub last_fetched_at: Timestamp,
}

/// A place in the list of stale connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleCursor {
    /// [`StaleConnection::last_fetched_at`].
    pub last_fetched_at: Timestamp,
    /// [`StaleConnection::id`].
    pub id: ConnectionRowId,
}

impl StaleConnection {
    /// Where the next page begins.
    pub fn cursor(&self) -> StaleCursor {
        StaleCursor {
            last_fetched_at: self.last_fetched_at,
            id: self.id,
        }
    }
}

/// A page of the live connections last read before `before` and not given up, longest unread first.
pub async fn stale_page(
    tx: &mut Tx,
    before: Timestamp,
    after: Option<StaleCursor>,
    limit: u32,
) -> Result<Vec<StaleConnection>, DbError> {
    let after = after.unwrap_or(StaleCursor {
        last_fetched_at: Timestamp::MIN,
        id: ConnectionRowId(0),
    });
    let rows = tx
        .query(
            "SELECT c.id, c.environment_id, i.unique_key, i.provider, c.connection_id, c.last_fetched_at
             FROM connection c JOIN integration i ON i.id = c.integration_id
             WHERE c.deleted_at IS NULL AND c.refresh_exhausted = 0 AND c.last_fetched_at < $1
               AND (c.last_fetched_at, c.id) > ($2, $3)
             ORDER BY c.last_fetched_at, c.id LIMIT $4",
            &params![before, after.last_fetched_at, after.id, limit],
        )
        .await?;
    rows.iter().map(read_stale).collect()
}

/// A page of the live connections of one provider whose credentials were last renewed before `before`, or failed to be
/// since, and that are not given up: in the order of their rows, after `after`.
pub async fn unrefreshed_page(
    tx: &mut Tx,
    provider: &str,
    before: Timestamp,
    after: ConnectionRowId,
    limit: u32,
) -> Result<Vec<StaleConnection>, DbError> {
    let rows = tx
        .query(
            "SELECT c.id, c.environment_id, i.unique_key, i.provider, c.connection_id, c.created_at
             FROM connection c JOIN integration i ON i.id = c.integration_id
             WHERE i.provider = $1 AND c.deleted_at IS NULL AND c.refresh_exhausted = 0 AND c.id > $2
               AND (c.last_refresh_success IS NULL OR c.last_refresh_success < $3)
             ORDER BY c.id LIMIT $4",
            &params![provider, after, before, limit],
        )
        .await?;
    rows.iter().map(read_stale).collect()
}

/// Live connections of an environment whose `auth` failure began, or was last told again, before `before`.
pub async fn failing_page(
    tx: &mut Tx,
    environment: EnvironmentId,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<ConnectionRowId>, DbError> {
    let rows = tx
        .query(
            "SELECT c.id FROM connection_error x JOIN connection c ON c.id = x.connection
             WHERE c.environment_id = $1 AND c.deleted_at IS NULL AND x.kind = 'auth' AND x.subject = ''
               AND COALESCE(x.reminded_at, x.created_at) <= $2
             ORDER BY c.id LIMIT $3",
            &params![environment, before, limit],
        )
        .await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// Notes that the product is told now again of a failure last told of before `before`. Whether it was to be told, and
/// not by somebody else meanwhile.
pub async fn remember_reminder(tx: &mut Tx, id: ConnectionRowId, before: Timestamp) -> Result<bool, DbError> {
    let noted = tx
        .execute(
            "UPDATE connection_error SET reminded_at = $2
             WHERE connection = $1 AND kind = 'auth' AND subject = '' AND COALESCE(reminded_at, created_at) <= $3",
            &params![id, tx.now(), before],
        )
        .await?;
    Ok(noted > 0)
}

fn read_stale(row: &Row) -> Result<StaleConnection, DbError> {
    let mut columns = Columns::of(row);
    Ok(StaleConnection {
        id: columns.next()?,
        environment_id: columns.next()?,
        integration_key: columns.next()?,
        provider: columns.next()?,
        connection_id: columns.next()?,
        last_fetched_at: columns.next()?,
    })
}

/// Forgets previous refresh tokens whose grace period is over, at most `limit`. How many.
pub async fn forget_expired_previous_tokens(tx: &mut Tx, limit: u32) -> Result<u64, DbError> {
    let now = tx.now();
    tx.execute(
        "UPDATE connection SET previous_refresh_token = NULL, previous_refresh_token_until = NULL
         WHERE id IN (SELECT id FROM connection WHERE previous_refresh_token_until <= $1
                      ORDER BY previous_refresh_token_until LIMIT $2)",
        &params![now, limit],
    )
    .await
}

fn utc_day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(24 * 60 * 60)
}
