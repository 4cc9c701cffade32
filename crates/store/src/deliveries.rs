//! Deliveries: the outbox of webhooks. Rows are written in the transaction of their cause and sent at least once.
//!
//! Nodes share the queue by claims. A claimed delivery is not due until its claim ends, so a node that dies gives
//! its deliveries back by doing nothing. A delivery may then be sent twice, never be sent by two at once by design,
//! and receivers tell repeats by the `webhook-id`.

use patchbay_types::deliveries::{Delivery, DeliveryAttempt, DeliveryFilter, DeliveryStats, DeliveryStatus};
use patchbay_types::{ConnectionRowId, DeliveryId, Timestamp};

use crate::columns::{Binds, Columns, corrupt, for_update, params, skip_locked, text, text_opt};
use crate::db::{DbError, Row, Tx, Value};

const COLUMNS: &str = "id, environment_id, connection, kind, url, body, operation_id, status, attempts, \
                       next_attempt_at, last_status, last_error, created_at, finished_at";

/// Writes deliveries.
pub async fn enqueue(tx: &mut Tx, deliveries: &[Delivery]) -> Result<(), DbError> {
    let rows: Vec<Vec<Value>> = deliveries
        .iter()
        .map(|delivery| {
            vec![
                (&delivery.id).into(),
                delivery.environment_id.into(),
                delivery.connection.into(),
                delivery.kind.as_str().into(),
                text(&delivery.url),
                delivery.body.as_bytes().into(),
                delivery.operation_id.clone().into(),
                delivery.status.as_str().into(),
                delivery.attempts.into(),
                delivery.next_attempt_at.into(),
                delivery.last_status.into(),
                text_opt(delivery.last_error.as_deref()),
                delivery.created_at.into(),
                delivery.finished_at.into(),
            ]
        })
        .collect();
    let sql = format!(
        "INSERT INTO delivery ({COLUMNS}, due_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $10)"
    );
    tx.execute_many(&sql, &rows).await?;
    Ok(())
}

/// Claims up to `limit` due deliveries for `holder` until `until`, longest due first. Two holders never get the
/// same one at a time.
pub async fn claim_due(
    tx: &mut Tx,
    limit: u32,
    holder: &str,
    until: Timestamp,
) -> Result<Vec<Delivery>, DbError> {
    let sql = format!(
        "WITH due AS MATERIALIZED (
           SELECT id AS due_id FROM delivery WHERE status = 'pending' AND due_at <= $1
           ORDER BY due_at, id LIMIT $2{})
         UPDATE delivery SET due_at = $3, claimed_by = $4 FROM due WHERE id = due_id RETURNING {COLUMNS}",
        skip_locked(tx.dialect())
    );
    let rows = tx.query(&sql, &params![tx.now(), limit, until, holder]).await?;
    let mut claimed: Vec<Delivery> = rows.iter().map(read).collect::<Result<_, _>>()?;
    claimed.sort_by(|a, b| (a.next_attempt_at, &a.id).cmp(&(b.next_attempt_at, &b.id)));
    Ok(claimed)
}

/// When the next delivery is due, a claim's end included: how long a worker may sleep.
pub async fn next_due(tx: &mut Tx) -> Result<Option<Timestamp>, DbError> {
    let row = tx
        .query_opt(
            "SELECT due_at FROM delivery WHERE status = 'pending' ORDER BY due_at LIMIT 1",
            &[],
        )
        .await?;
    row.map(|row| row.get(0)).transpose()
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Answered with 2xx.
    Delivered,
    /// Try again then.
    RetryAt(Timestamp),
    /// Give up.
    Dead,
}

/// An attempt to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Delivery.
    pub id: &'a DeliveryId,
    /// Who claimed it.
    pub holder: &'a str,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// Status of the answer, if there was one.
    pub status: Option<i32>,
    /// What went wrong, in words.
    pub error: Option<&'a str>,
    /// How long it took.
    pub duration_ms: i64,
}

/// Whether an attempt moved its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptRecorded {
    /// It did.
    Recorded,
    /// It is in the history, but the claim had ended and somebody else decides: only a success counts then, and
    /// only if the delivery was not finished.
    Late,
    /// There is no such delivery any more.
    Gone,
}

/// Records an attempt and moves its delivery on.
pub async fn record_attempt(tx: &mut Tx, attempt: &Attempt<'_>) -> Result<AttemptRecorded, DbError> {
    let sql = format!(
        "SELECT status, claimed_by FROM delivery WHERE id = $1{}",
        for_update(tx.dialect())
    );
    let Some(row) = tx.query_opt(&sql, &params![attempt.id]).await? else {
        return Ok(AttemptRecorded::Gone);
    };
    let pending = row.get::<String>(0)? == DeliveryStatus::Pending.as_str();
    let claimed_by: Option<String> = row.get(1)?;
    let now = tx.now();
    tx.execute(
        "INSERT INTO delivery_attempt (delivery_id, number, at, status, error, duration_ms)
         VALUES ($1, 1 + COALESCE((SELECT MAX(number) FROM delivery_attempt WHERE delivery_id = $1), 0),
           $2, $3, $4, $5)",
        &[
            attempt.id.into(),
            now.into(),
            attempt.status.into(),
            text_opt(attempt.error),
            attempt.duration_ms.into(),
        ],
    )
    .await?;
    let (status, next, finished) = match attempt.outcome {
        AttemptOutcome::Delivered => (DeliveryStatus::Delivered, now, Some(now)),
        AttemptOutcome::RetryAt(at) => (DeliveryStatus::Pending, at, None),
        AttemptOutcome::Dead => (DeliveryStatus::Dead, now, Some(now)),
    };
    // A success is true whoever holds the claim by now; a failure is not news to its new holder.
    let counts = status == DeliveryStatus::Delivered || claimed_by.as_deref() == Some(attempt.holder);
    if !pending || !counts {
        return Ok(AttemptRecorded::Late);
    }
    tx.execute(
        "UPDATE delivery SET status = $2, next_attempt_at = $3, due_at = $3, finished_at = $4, last_status = $5,
           last_error = $6, attempts = attempts + 1, claimed_by = NULL
         WHERE id = $1",
        &[
            attempt.id.into(),
            status.as_str().into(),
            next.into(),
            finished.into(),
            attempt.status.into(),
            text_opt(attempt.error),
        ],
    )
    .await?;
    Ok(AttemptRecorded::Recorded)
}

/// Deliveries that pass every given filter, newest first.
pub async fn list(tx: &mut Tx, filter: &DeliveryFilter) -> Result<Vec<Delivery>, DbError> {
    let mut binds = Binds::default();
    let mut conditions = vec!["1 = 1".to_owned()];
    if let Some(environment) = filter.environment_id {
        conditions.push(format!("environment_id = {}", binds.bind(environment)));
    }
    if let Some(status) = filter.status {
        conditions.push(format!("status = {}", binds.bind(status.as_str())));
    }
    if let Some(kind) = &filter.kind {
        conditions.push(format!("kind = {}", binds.bind(text(kind))));
    }
    if let Some(connection) = filter.connection {
        conditions.push(format!("connection = {}", binds.bind(connection)));
    }
    if let Some(before) = &filter.before {
        conditions.push(format!("id < {}", binds.bind(before)));
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM delivery WHERE {} ORDER BY id DESC LIMIT {}",
        conditions.join(" AND "),
        binds.bind(filter.limit)
    );
    tx.query(&sql, binds.values()).await?.iter().map(read).collect()
}

/// One delivery and its attempts, first to last.
pub async fn get(tx: &mut Tx, id: &DeliveryId) -> Result<Option<(Delivery, Vec<DeliveryAttempt>)>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM delivery WHERE id = $1");
    let Some(row) = tx.query_opt(&sql, &[text(&id.0)]).await? else {
        return Ok(None);
    };
    let attempts = tx
        .query(
            "SELECT number, at, status, error, duration_ms FROM delivery_attempt
             WHERE delivery_id = $1 ORDER BY number",
            &params![id],
        )
        .await?
        .iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(DeliveryAttempt {
                number: columns.next()?,
                at: columns.next()?,
                status: columns.next()?,
                error: columns.next()?,
                duration_ms: columns.next()?,
            })
        })
        .collect::<Result<_, DbError>>()?;
    Ok(Some((read(&row)?, attempts)))
}

/// Makes a delivery due now, with all its attempts before it again; its history stays. One that is pending is only
/// brought forward. Whether there is such a delivery.
pub async fn retry(tx: &mut Tx, id: &DeliveryId) -> Result<bool, DbError> {
    let sql = format!("{RETRY} WHERE id = $2");
    Ok(tx.execute(&sql, &[tx.now().into(), text(&id.0)]).await? > 0)
}

/// [`retry`]s the given-up deliveries that pass the filter (its `status`, `before` and `limit` aside). How many.
pub async fn retry_dead(tx: &mut Tx, filter: &DeliveryFilter) -> Result<u64, DbError> {
    let mut binds = Binds::default();
    binds.bind(tx.now());
    let mut conditions = vec!["status = 'dead'".to_owned()];
    if let Some(environment) = filter.environment_id {
        conditions.push(format!("environment_id = {}", binds.bind(environment)));
    }
    if let Some(kind) = &filter.kind {
        conditions.push(format!("kind = {}", binds.bind(text(kind))));
    }
    if let Some(connection) = filter.connection {
        conditions.push(format!("connection = {}", binds.bind(connection)));
    }
    let sql = format!("{RETRY} WHERE {}", conditions.join(" AND "));
    tx.execute(&sql, binds.values()).await
}

/// Makes due now what was held back for a connection and nobody has tried yet.
pub async fn hasten(tx: &mut Tx, connection: ConnectionRowId) -> Result<u64, DbError> {
    let sql = "UPDATE delivery SET next_attempt_at = $1, due_at = $1
               WHERE connection = $2 AND status = 'pending' AND attempts = 0 AND claimed_by IS NULL AND due_at > $1";
    tx.execute(sql, &params![tx.now(), connection]).await
}

const RETRY: &str = "UPDATE delivery SET status = 'pending', attempts = 0, next_attempt_at = $1, due_at = $1, \
                     claimed_by = NULL, finished_at = NULL";

/// The outbox in numbers.
pub async fn stats(tx: &mut Tx) -> Result<DeliveryStats, DbError> {
    let row = tx
        .query_one(
            "SELECT (SELECT COUNT(*) FROM delivery WHERE status = 'pending'),
                    (SELECT COUNT(*) FROM delivery WHERE status = 'dead'),
                    (SELECT MIN(created_at) FROM delivery WHERE status = 'pending')",
            &[],
        )
        .await?;
    Ok(DeliveryStats {
        pending: row.get(0)?,
        dead: row.get(1)?,
        oldest_pending: row.get(2)?,
    })
}

fn read(row: &Row) -> Result<Delivery, DbError> {
    let mut columns = Columns::of(row);
    Ok(Delivery {
        id: columns.next()?,
        environment_id: columns.next()?,
        connection: columns.next()?,
        kind: columns.next()?,
        url: columns.next()?,
        body: String::from_utf8(columns.bytes()?).map_err(|_| corrupt("a delivery's body is not UTF-8"))?,
        operation_id: columns.next()?,
        status: {
            let text: String = columns.next()?;
            DeliveryStatus::parse(&text).ok_or_else(|| corrupt("an unknown delivery status"))?
        },
        attempts: columns.next()?,
        next_attempt_at: columns.next()?,
        last_status: columns.next()?,
        last_error: columns.next()?,
        created_at: columns.next()?,
        finished_at: columns.next()?,
    })
}
