//! Telling of a connection that did not come about (auth-flows §23): the log operation ends badly, the product gets an
//! `auth` webhook, and the page that waits reads why, all in one transaction.

use std::sync::Arc;

use patchbay_store::db::DbError;
use patchbay_store::{connect_sessions, connections};
use patchbay_types::connections::AuthOperation;
use patchbay_types::environments::Environment;
use patchbay_types::operations::OperationState;
use patchbay_types::{
    AuthMode, ConnectSessionId, ConnectionId, DeliveryId, IntegrationId, IntegrationKey, OperationId,
    ProviderName,
};

use crate::auth_outcomes::Awaited;
use crate::context::Context;
use crate::logbook::{Conclusion, conclude};
use crate::outbox::{AuthEvent, enqueue_auth};
use crate::results::AuthResult;

/// An attempt to connect.
#[derive(Clone, Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) environment: Arc<Environment>,
    pub(crate) integration: IntegrationId,
    pub(crate) integration_key: IntegrationKey,
    pub(crate) provider: ProviderName,
    pub(crate) auth_mode: AuthMode,
    /// The id the connection would have had.
    pub(crate) connection_id: ConnectionId,
    pub(crate) session: Option<ConnectSessionId>,
    /// The operation begun with it.
    pub(crate) operation: Option<OperationId>,
    /// The page that waits for it, and what it reads.
    pub(crate) ends: Option<(Awaited, AuthResult)>,
}

/// Tells that `attempt` failed: as a `creation`, or as an `override` if an existing connection was to be authorized
/// again. A failure to tell is logged and no more: the end user has their answer either way.
pub(crate) async fn announce(context: &Context, attempt: FailedAttempt, error_type: &str, message: &str) {
    let ambient = context.ambient.clone();
    let (error_type, message) = (error_type.to_owned(), message.to_owned());
    let written: Result<(), DbError> = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                if let Some((awaited, result)) = &attempt.ends {
                    awaited.put(tx, result).await?;
                }
                let session = match attempt.session {
                    Some(id) => connect_sessions::find(tx, id).await?,
                    None => None,
                };
                let spec = session.as_ref().map(|session| &session.spec);
                let bound = match session.as_ref().and_then(|session| session.connection) {
                    Some(row) => connections::find_by_row(tx, row).await?,
                    None => None,
                };
                let conclusion = Conclusion {
                    environment: attempt.environment.id,
                    integration: attempt.integration,
                    connection: bound.as_ref().map(|connection| connection.id),
                    state: OperationState::Failed,
                    text: &message,
                };
                let fresh = OperationId(ambient.time_ordered_uuid().to_string());
                let log = conclude(tx, attempt.operation, fresh, &conclusion).await?;
                let own_tags = bound.as_ref().map(|connection| &connection.tags);
                let own_url = bound
                    .as_ref()
                    .and_then(|connection| connection.webhook_url_override.as_deref());
                let event = AuthEvent {
                    environment: &attempt.environment,
                    operation: match bound {
                        Some(_) => AuthOperation::Override,
                        None => AuthOperation::Creation,
                    },
                    connection_id: attempt.connection_id.as_str(),
                    row: bound.as_ref().map(|connection| connection.id),
                    provider_config_key: attempt.integration_key.as_str(),
                    provider: attempt.provider.as_str(),
                    auth_mode: attempt.auth_mode,
                    tags: spec.and_then(|spec| spec.tags.as_ref()).or(own_tags),
                    end_user: None,
                    webhook_url_override: spec
                        .and_then(|spec| spec.webhook_url_override.as_deref())
                        .or(own_url),
                    error: Some((&error_type, &message)),
                    log: Some(&log),
                    not_before: None,
                };
                enqueue_auth(tx, &event, || DeliveryId(ambient.time_ordered_uuid().to_string())).await
            })
        })
        .await;
    if let Err(error) = written {
        tracing::warn!(%error, "a failed attempt could not be announced");
    }
}
