//! How attempts of our own Connect UI ended, kept for pages that ask (connect-ui §17): a WebSocket may be blocked, and a
//! page that went to the provider itself comes back without any memory.

use patchbay_store::auth_outcomes;
use patchbay_store::db::DbError;
use patchbay_types::ConnectSessionId;

use crate::context::Context;
use crate::results::AuthResult;

/// Remembers how an attempt ended. A failure is logged and otherwise nobody's: the connection is stored or refused
/// already, and whoever waits on a WebSocket hears of it there.
pub async fn note(context: &Context, session: ConnectSessionId, attempt: &str, result: &AuthResult) {
    let json = match serde_json::to_string(result) {
        Ok(json) => json,
        Err(error) => return tracing::error!(%error, "an auth result did not serialize"),
    };
    let attempt = attempt.to_owned();
    let written: Result<(), DbError> = context
        .store
        .write(move |tx| Box::pin(async move { auth_outcomes::put(tx, session, &attempt, &json).await }))
        .await;
    if let Err(error) = written {
        tracing::warn!(%error, "the outcome of an attempt could not be kept");
    }
}

/// How an attempt of the session ended; none while it has not.
pub async fn read(
    context: &Context,
    session: ConnectSessionId,
    attempt: &str,
) -> Result<Option<AuthResult>, DbError> {
    let attempt = attempt.to_owned();
    let found = context
        .store
        .read(move |tx| Box::pin(async move { auth_outcomes::find(tx, session, &attempt).await }))
        .await?;
    let Some(json) = found else {
        return Ok(None);
    };
    serde_json::from_str(&json)
        .map(Some)
        .map_err(|error| DbError::internal(format!("an outcome does not parse: {error}")))
}
