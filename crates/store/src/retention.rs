//! Every table, who owns it, how long its rows stay and what removes them.
//!
//! | table | owner | rows stay | removed by |
//! |---|---|---|---|
//! | `account` | [`crate::accounts`] | for good | nobody: a self-hosted server has one |
//! | `setting` | [`crate::settings`] | for good | nobody: a handful of names |
//! | `data_key`, `key_check`, `schema_migration` | [`crate::vault`], [`crate::db`] | with what they seal, for good | a purged environment's data key goes with it |
//! | `environment` | [`crate::environments`] | 31 days after deletion, and until nothing refers to them; a previous signing key until its grace period ends | [`sweep`] |
//! | `environment_variable` | [`crate::environments`] | with their environment | [`sweep`] |
//! | `api_key` | [`crate::api_keys`] | 31 days after they or their environment are deleted | [`sweep`] |
//! | `integration` | [`crate::integrations`] | 31 days after deletion, and until no connection is left | [`sweep`] |
//! | `connection` | [`crate::connections`] | 31 days after deletion; a previous refresh token until its grace period ends | [`sweep`] |
//! | `connection_tag`, `connection_error` | [`crate::connections`] | until their connection is deleted | the deletion |
//! | `end_user` | [`crate::end_users`] | 31 days after their last change, and as long as a connection refers to them | [`sweep`] |
//! | `connect_session` | [`crate::connect_sessions`] | 2 days after their token expired (an authorization under way still reads them) | [`sweep`] |
//! | `auth_attempt` | [`crate::auth_attempts`] | until their callback, at most 2 days | the callback, [`sweep`] |
//! | `auth_outcome` | [`crate::auth_outcomes`] | 2 days | [`sweep`] |
//! | `refresh_intent` | [`crate::refreshes`] | until the answer is saved or the connection deleted | the save, the deletion |
//! | `provider_step` | [`crate::provider_steps`] | until the steps are done or given up, or the connection deleted | the save, the deletion |
//! | `refresh_event` | [`crate::refreshes`] | the last 50 of a connection | every append, the purge of the connection |
//! | `lease` | [`crate::leases`] | one row a name: a fence must never repeat; those of refreshes go with their connection | the purge of the connection |
//! | `delivery`, `delivery_attempt` | [`crate::deliveries`] | delivered: 7 days, given up: 30 days after the end | [`sweep`] |
//! | `operation`, `message` | [`crate::operations`] | 15 days | [`sweep`] |
//! | `inbound_event` | [`crate::inbound_events`] | until it took effect, at most as long as there are attempts | the attempt, the purge of the environment |
//! | `provider_override` | [`crate::provider_overrides`] | the last 50 versions of a provider | every append |
//! | `rate_window` | [`crate::rate_windows`] | until a window is over | [`sweep`], an hour later at most |
//! | `audit_entry` | [`retention`](self) until the audit trail is written | 400 days | [`sweep`] |
//!
//! [`sweep`] does one bounded batch a table and says what it did; a caller with much to remove calls it again, each
//! time in a transaction of its own, so that nobody waits for a long one.

use std::time::Duration;

use patchbay_types::{ConnectionRowId, EnvironmentId, Timestamp};

use crate::columns::{Binds, earlier, padded, params};
use crate::db::{DbError, Tx, Value};
use crate::{connections, environments, leases};

const DAY: Duration = Duration::from_hours(24);

/// How long rows stay. The defaults are the module's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Deleted environments, keys, integrations, connections; end users nobody refers to.
    pub deleted: Duration,
    /// Expired connect sessions.
    pub sessions: Duration,
    /// Authorization attempts, and how they ended.
    pub attempts: Duration,
    /// Delivered deliveries.
    pub delivered: Duration,
    /// Deliveries given up.
    pub dead: Duration,
    /// Operations and their messages.
    pub logs: Duration,
    /// Audit entries.
    pub audit: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            deleted: 31 * DAY,
            sessions: 2 * DAY,
            attempts: 2 * DAY,
            delivered: 7 * DAY,
            dead: 30 * DAY,
            logs: 15 * DAY,
            audit: 400 * DAY,
        }
    }
}

/// What a sweep removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Rows by table, those with none left out.
    pub rows: Vec<(&'static str, u64)>,
    /// A batch was full: there may be more.
    pub more: bool,
}

/// Removes what has outlived its time, at most `batch` rows a table, in the order of references.
pub async fn sweep(tx: &mut Tx, retention: &Retention, batch: u32) -> Result<Swept, DbError> {
    let now = tx.now();
    let deleted = earlier(now, retention.deleted);
    let mut swept = Swept::default();
    let mut note = |table: &'static str, rows: u64| {
        if rows > 0 {
            swept.rows.push((table, rows));
            swept.more |= rows >= u64::from(batch);
        }
    };
    note(
        "connect_session",
        connect_sessions(tx, earlier(now, retention.sessions), batch).await?,
    );
    note(
        "auth_attempt",
        auth_attempts(tx, earlier(now, retention.attempts), batch).await?,
    );
    note(
        "auth_outcome",
        auth_outcomes(tx, earlier(now, retention.attempts), batch).await?,
    );
    note(
        "delivery",
        deliveries(tx, "delivered", earlier(now, retention.delivered), batch).await?,
    );
    note(
        "delivery",
        deliveries(tx, "dead", earlier(now, retention.dead), batch).await?,
    );
    note(
        "message",
        messages(tx, earlier(now, retention.logs), batch).await?,
    );
    note(
        "operation",
        operations(tx, earlier(now, retention.logs), batch).await?,
    );
    note(
        "audit_entry",
        audit_entries(tx, earlier(now, retention.audit), batch).await?,
    );
    note("rate_window", rate_windows(tx, now, batch).await?);
    note(
        "previous_refresh_token",
        connections::forget_expired_previous_tokens(tx, batch).await?,
    );
    note(
        "previous_signing_key",
        environments::forget_expired_signing_keys(tx, batch).await?,
    );
    note("connection", connections(tx, deleted, batch).await?);
    note("end_user", end_users(tx, deleted, batch).await?);
    note("integration", integrations(tx, deleted, batch).await?);
    note("api_key", api_keys(tx, deleted, batch).await?);
    note("environment", environments(tx, deleted, batch).await?);
    Ok(swept)
}

/// Removes connect sessions that expired before `before`.
pub async fn connect_sessions(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    delete_oldest(tx, "connect_session", "id", "expires_at", before, batch).await
}

/// Removes authorization attempts begun before `before`.
pub async fn auth_attempts(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    delete_oldest(tx, "auth_attempt", "state_hash", "created_at", before, batch).await
}

/// Removes outcomes of attempts that ended before `before`.
pub async fn auth_outcomes(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    // Two columns make the key, which `delete_oldest` does not know; there are few of them.
    tx.execute(
        "DELETE FROM auth_outcome WHERE (connect_session, attempt) IN
           (SELECT connect_session, attempt FROM auth_outcome WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
        &params![before, batch],
    )
    .await
}

/// Removes deliveries of a final status that finished before `before`, with their attempts.
pub async fn deliveries(tx: &mut Tx, status: &str, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    let rows = tx
        .query(
            "SELECT id FROM delivery WHERE finished_at IS NOT NULL AND finished_at < $1 AND status = $2
             ORDER BY finished_at LIMIT $3",
            &params![before, status, batch],
        )
        .await?;
    let ids: Vec<Value> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    delete_in(tx, "delivery_attempt", "delivery_id", &ids).await?;
    delete_in(tx, "delivery", "id", &ids).await
}

/// Removes messages written before `before`.
pub async fn messages(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    delete_oldest(tx, "message", "id", "at", before, batch).await
}

/// Removes operations begun before `before`.
pub async fn operations(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    delete_oldest(tx, "operation", "id", "started_at", before, batch).await
}

/// Removes audit entries made before `before`.
pub async fn audit_entries(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    delete_oldest(tx, "audit_entry", "id", "at", before, batch).await
}

/// Removes rate limit windows that ended before `before`.
pub async fn rate_windows(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    delete_oldest(tx, "rate_window", "bucket", "ends_at", before, batch).await
}

/// Removes connections deleted before `before`, with everything that is theirs.
pub async fn connections(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    let ids: Vec<ConnectionRowId> = deleted_ids(tx, "connection", "1 = 1", before, batch).await?;
    let values: Vec<Value> = ids.iter().map(Value::from).collect();
    let leases: Vec<Value> = ids.iter().map(|id| leases::refresh_of(*id).into()).collect();
    for table in [
        "connection_tag",
        "connection_error",
        "refresh_intent",
        "refresh_event",
    ] {
        delete_in(tx, table, "connection", &values).await?;
    }
    delete_in(tx, "lease", "name", &leases).await?;
    delete_in(tx, "connection", "id", &values).await
}

/// Removes end users unchanged since `before` that no connection refers to.
pub async fn end_users(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    tx.execute(
        "DELETE FROM end_user WHERE id IN (
           SELECT u.id FROM end_user u WHERE u.updated_at < $1
             AND NOT EXISTS (SELECT 1 FROM connection c WHERE c.end_user = u.id)
           LIMIT $2)",
        &params![before, batch],
    )
    .await
}

/// Removes integrations deleted before `before` that have no connection left.
pub async fn integrations(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    let childless = "NOT EXISTS (SELECT 1 FROM connection c WHERE c.integration_id = p.id)";
    let ids: Vec<Value> = deleted_ids(tx, "integration", childless, before, batch).await?;
    delete_in(tx, "integration", "id", &ids).await
}

/// Removes keys deleted before `before`, and those of environments deleted before.
pub async fn api_keys(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    let ids: Vec<Value> = deleted_ids(tx, "api_key", "1 = 1", before, batch).await?;
    let removed = delete_in(tx, "api_key", "id", &ids).await?;
    let orphans = tx
        .execute(
            "DELETE FROM api_key WHERE id IN (
               SELECT k.id FROM api_key k JOIN environment e ON e.id = k.environment_id
               WHERE e.deleted_at IS NOT NULL AND e.deleted_at < $1 LIMIT $2)",
            &params![before, batch],
        )
        .await?;
    Ok(removed + orphans)
}

/// Removes environments deleted before `before` that have no integration and no key left, with their variables and
/// their data key: whatever was sealed with it is unreadable from then on, in backups too if those lose it.
pub async fn environments(tx: &mut Tx, before: Timestamp, batch: u32) -> Result<u64, DbError> {
    let childless = "NOT EXISTS (SELECT 1 FROM integration i WHERE i.environment_id = p.id) \
                     AND NOT EXISTS (SELECT 1 FROM api_key k WHERE k.environment_id = p.id)";
    let ids: Vec<EnvironmentId> = deleted_ids(tx, "environment", childless, before, batch).await?;
    let values: Vec<Value> = ids.iter().map(Value::from).collect();
    for table in [
        "environment_variable",
        "end_user",
        "connect_session",
        "auth_attempt",
    ] {
        delete_in(tx, table, "environment_id", &values).await?;
    }
    for id in &ids {
        tx.vault().forget(*id).await?;
    }
    delete_in(tx, "environment", "id", &values).await
}

async fn deleted_ids<T: crate::db::FromValue>(
    tx: &mut Tx,
    table: &str,
    condition: &str,
    before: Timestamp,
    batch: u32,
) -> Result<Vec<T>, DbError> {
    let sql = format!(
        "SELECT p.id FROM {table} p WHERE p.deleted_at IS NOT NULL AND p.deleted_at < $1 AND {condition}
         ORDER BY p.deleted_at LIMIT $2"
    );
    let rows = tx.query(&sql, &params![before, batch]).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn delete_oldest(
    tx: &mut Tx,
    table: &str,
    key: &str,
    age: &str,
    before: Timestamp,
    batch: u32,
) -> Result<u64, DbError> {
    let sql = format!(
        "DELETE FROM {table} WHERE {key} IN
           (SELECT {key} FROM {table} WHERE {age} < $1 ORDER BY {age} LIMIT $2)"
    );
    tx.execute(&sql, &params![before, batch]).await
}

async fn delete_in(tx: &mut Tx, table: &str, column: &str, values: &[Value]) -> Result<u64, DbError> {
    const CHUNK: usize = 512;
    let mut deleted = 0;
    for chunk in values.chunks(CHUNK) {
        let mut binds = Binds::default();
        let list = binds.list(padded(chunk).cloned());
        let sql = format!("DELETE FROM {table} WHERE {column} IN ({list})");
        deleted += tx.execute(&sql, binds.values()).await?;
    }
    Ok(deleted)
}
