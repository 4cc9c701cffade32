//! Webhooks of providers that were accepted and have yet to take effect. Sealed: they hold authorization codes.

use std::time::Duration;

use patchbay_types::{EnvironmentId, IntegrationId, JsonMap, Timestamp};

use crate::columns::{Columns, open_json, params, seal_json};
use crate::db::{DbError, Tx};

/// An accepted webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundEvent {
    /// Time-ordered.
    pub id: String,
    /// Environment.
    pub environment_id: EnvironmentId,
    /// Integration.
    pub integration_id: IntegrationId,
    /// What is to be done.
    pub document: JsonMap,
    /// How often it was tried.
    pub attempts: i64,
}

/// Writes an event down, claimed for `claim`: whoever accepted it tries first.
pub async fn put(tx: &mut Tx, event: &InboundEvent, claim: Duration) -> Result<(), DbError> {
    let now = tx.now();
    let document = seal_json(tx, event.environment_id, &aad(&event.id), &event.document).await?;
    let later = now.checked_add(claim).unwrap_or(Timestamp::MAX);
    tx.execute(
        "INSERT INTO inbound_event
           (id, environment_id, integration_id, document, attempts, next_attempt_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &params![
            event.id.as_str(),
            event.environment_id,
            event.integration_id,
            document,
            event.attempts,
            later,
            now
        ],
    )
    .await?;
    Ok(())
}

/// Claims up to `limit` due events for `claim` and counts the attempt.
pub async fn claim_due(tx: &mut Tx, claim: Duration, limit: u32) -> Result<Vec<InboundEvent>, DbError> {
    let now = tx.now();
    let later = now.checked_add(claim).unwrap_or(Timestamp::MAX);
    let rows = tx
        .query(
            "UPDATE inbound_event SET attempts = attempts + 1, next_attempt_at = $1
             WHERE id IN (SELECT id FROM inbound_event WHERE next_attempt_at <= $2
                          ORDER BY next_attempt_at LIMIT $3)
             RETURNING id, environment_id, integration_id, document, attempts",
            &params![later, now, limit],
        )
        .await?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        let (id, environment_id) = (columns.next::<String>()?, columns.next::<EnvironmentId>()?);
        let integration_id = columns.next()?;
        let document = open_json(tx, environment_id, &aad(&id), &columns.bytes()?).await?;
        events.push(InboundEvent {
            id,
            environment_id,
            integration_id,
            document,
            attempts: columns.next()?,
        });
    }
    Ok(events)
}

/// The event took effect, or never will.
pub async fn remove(tx: &mut Tx, id: &str) -> Result<(), DbError> {
    tx.execute("DELETE FROM inbound_event WHERE id = $1", &params![id])
        .await?;
    Ok(())
}

fn aad(id: &str) -> String {
    format!("inbound_event.document:{id}")
}
