//! How attempts of our own Connect UI ended, kept for pages that ask (connect-ui §17): a WebSocket may be blocked, and a
//! page that went to the provider itself comes back without any memory.

use patchbay_store::auth_outcomes;
use patchbay_store::db::{DbError, Tx};
use patchbay_types::ConnectSessionId;

use crate::context::Context;
use crate::results::AuthResult;

/// An attempt whose page may ask how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The page's session.
    pub session: ConnectSessionId,
    /// The name that the page gave the attempt.
    pub attempt: String,
}

impl Awaited {
    /// Remembers the outcome together with what else the transaction changes.
    pub(crate) async fn put(&self, tx: &mut Tx, result: &AuthResult) -> Result<(), DbError> {
        let json = serde_json::to_string(result)
            .map_err(|error| DbError::internal(format!("an auth result does not serialize: {error}")))?;
        auth_outcomes::put(tx, self.session, &self.attempt, &json).await
    }
}

/// Remembers the outcome of an attempt that changed nothing else. A failure is logged and otherwise nobody's: whoever
/// waits on a WebSocket hears of it there.
pub async fn note(context: &Context, awaited: Awaited, result: AuthResult) {
    let written: Result<(), DbError> = context
        .store
        .write(move |tx| Box::pin(async move { awaited.put(tx, &result).await }))
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
