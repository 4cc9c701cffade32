//! Authorization attempts between the redirect to a provider and its callback: sealed, used once.

use aws_lc_rs::digest::{SHA256, digest};
use patchbay_types::auth_attempts::AuthAttempt;
use patchbay_types::{AuthAttemptId, EnvironmentId};

use crate::columns::{open_json, params, seal_json};
use crate::db::{DbError, Tx};

/// Remembers an attempt under its `state`.
pub async fn put(tx: &mut Tx, state: &AuthAttemptId, attempt: &AuthAttempt) -> Result<(), DbError> {
    let hash = state_hash(state);
    let document = seal_json(tx, attempt.environment_id, &aad(&hash), attempt).await?;
    tx.execute(
        "INSERT INTO auth_attempt (state_hash, environment_id, document, created_at) VALUES ($1, $2, $3, $4)",
        &params![hash, attempt.environment_id, document, tx.now()],
    )
    .await?;
    Ok(())
}

/// Takes the attempt of a `state` away. Of any number of callers, one gets it. Its age is the caller's to judge.
pub async fn take(tx: &mut Tx, state: &AuthAttemptId) -> Result<Option<AuthAttempt>, DbError> {
    let hash = state_hash(state);
    let row = tx
        .query_opt(
            "DELETE FROM auth_attempt WHERE state_hash = $1 RETURNING environment_id, document",
            &params![hash],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let (environment, document): (EnvironmentId, Vec<u8>) = (row.get(0)?, row.get(1)?);
    open_json(tx, environment, &aad(&hash), &document).await.map(Some)
}

fn state_hash(state: &AuthAttemptId) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, state.0.as_bytes()).as_ref());
    hash
}

fn aad(state_hash: &[u8; 32]) -> String {
    format!(
        "auth_attempt.document:{}",
        data_encoding::HEXLOWER.encode(state_hash)
    )
}
