//! One refresh by the holder of the lease: ask, then save what came of it.

use std::sync::Arc;
use std::time::Duration;

use patchbay_auth::driver::{self, RenewError, Renewal};
use patchbay_auth::renewal;
use patchbay_store::connections::{FailureSaved, RefreshSaved};
use patchbay_store::db::{DbError, Tx};
use patchbay_store::leases::Lease;
use patchbay_store::{connections, leases, operations, refreshes};
use patchbay_types::connections::{
    AuthOperation, Connection, FailureWeight, RefreshCause, RefreshFailure, RefreshedCredentials,
};
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::operations::{Operation, OperationState};
use patchbay_types::refreshes::{RefreshEvent, RefreshReason};
use patchbay_types::{AuthMode, ConnectionRowId, DeliveryId, OperationId, Timestamp};

use super::policy::{self, error_type, later};
use crate::caches::{Changed, ConnectionName};
use crate::connections::expiry_to_check;
use crate::context::Context;
use crate::outbox::{AuthEvent, enqueue_auth};

/// How long the token before the last rotation is worth a try.
const GRACE: Duration = Duration::from_hours(24);

/// One refresh by the holder of the lease.
pub(super) struct Attempt<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) environment: Arc<Environment>,
    pub(super) integration: Arc<Integration>,
    pub(super) connection: Connection,
    pub(super) lease: Lease,
    pub(super) interrupted: bool,
    pub(super) reason: RefreshReason,
}

/// What is recorded of a failure.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: RefreshCause,
    pub(super) detail: String,
    retry_after: Option<Duration>,
    /// The provider may have acted on the request: the intent stays.
    outcome_unknown: bool,
}

impl From<&RenewError> for Failure {
    fn from(error: &RenewError) -> Self {
        Self {
            cause: error.cause(),
            detail: error.to_string(),
            retry_after: error.retry_after(),
            outcome_unknown: error.outcome_unknown(),
        }
    }
}

impl Attempt<'_> {
    pub(super) async fn ask(&self) -> Result<Renewal, RenewError> {
        let provider = self
            .context
            .catalogue
            .get(self.connection.provider.as_str())
            .ok_or_else(|| RenewError::ours("the provider is no longer in the catalogue"))?;
        let callback_url = self.context.callback_url(&self.environment);
        let input = driver::RenewInput {
            definition: &provider.definition,
            secrets: &self.integration.secrets,
            credentials: &self.connection.credentials,
            connection_config: &self.connection.connection_config,
            callback_url: &callback_url,
        };
        let ambient = &self.context.ambient;
        let client = self.context.token_client_of(&provider.definition);
        let first = driver::renew(client, &input, ambient).await;
        let Err(error) = &first else { return first };
        // The token it gave last, refused twice with a cool-down between: perhaps its rotation never took hold there.
        // Not at the first refusal: where a used token coming back ends the grant, a hiccup must not lead to that.
        let known = self.connection.refresh.cause == Some(RefreshCause::ProviderRefused);
        let refused = known && error.cause() == RefreshCause::ProviderRefused;
        let previous = self.connection.refresh.previous_refresh_token.as_ref();
        match previous.filter(|(_, until)| refused && *until > ambient.now()) {
            Some((token, _)) => {
                let credentials = renewal::with_refresh_token(&self.connection.credentials, token);
                let input = driver::RenewInput {
                    credentials: &credentials,
                    ..input
                };
                driver::renew(client, &input, ambient).await.or(first)
            }
            None => first,
        }
    }

    pub(super) fn blame(&self, failure: &Failure) -> RefreshCause {
        match failure.cause {
            // Still the refusal that the interruption brought about.
            RefreshCause::ProviderRefused
                if self.interrupted
                    || self.connection.refresh.cause == Some(RefreshCause::RefreshInterrupted) =>
            {
                RefreshCause::RefreshInterrupted
            }
            cause => cause,
        }
    }

    /// Commits the outcome; as long as the database is away, again and again.
    pub(super) async fn save(&self, outcome: Result<&Renewal, Failure>) -> Result<Connection, DbError> {
        let mut pause = Duration::from_millis(50);
        loop {
            let saved = match &outcome {
                Ok(renewal) => self.save_success((*renewal).clone()).await,
                Err(failure) => self.save_failure(failure.clone()).await,
            };
            match saved {
                Err(error)
                    if error.is_transient()
                        && outcome.is_ok()
                        && !self.context.ambient.tasks.is_stopping() =>
                {
                    tracing::error!(%error, connection = %self.connection.id, "refreshed credentials are not saved yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                saved => return saved,
            }
        }
    }

    fn reason(&self) -> RefreshReason {
        if self.interrupted {
            RefreshReason::Recovery
        } else {
            self.reason
        }
    }

    async fn save_success(&self, renewal: Renewal) -> Result<Connection, DbError> {
        let row = self.connection.id;
        let (generation, lease, reason) = (self.connection.generation, self.lease.clone(), self.reason());
        let (environment, auth_mode, ambient) = (
            self.environment.clone(),
            self.auth_mode(),
            self.context.ambient.clone(),
        );
        let name = self.name();
        let provider = self.context.catalogue.get(self.connection.provider.as_str());
        let config = self.connection.connection_config.clone();
        self.context
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now();
                    let not_before = provider.as_ref().and_then(|provider| {
                        policy::pause_after_success(&provider.definition, &renewal.credentials, &config, now)
                    });
                    let grace = later(now, GRACE);
                    let refreshed = RefreshedCredentials {
                        credentials_expires_at: expiry_to_check(&renewal.credentials, now),
                        credentials: renewal.credentials,
                        connection_config: renewal.config_updates,
                        previous_until: grace,
                        not_before,
                    };
                    let saved = connections::save_refreshed(tx, row, generation, &refreshed).await?;
                    settle(tx, row, &lease, IntentAfter::Removed).await?;
                    let current = connections::find_by_row(tx, row).await?;
                    let connection = current.ok_or_else(|| DbError::internal("a connection vanished"))?;
                    if let RefreshSaved::Saved { recovered, .. } = saved {
                        let event = RefreshEvent {
                            at: now,
                            reason,
                            success: true,
                            cause: None,
                            detail: None,
                        };
                        refreshes::append_event(tx, row, &event).await?;
                        if recovered {
                            let event =
                                AuthEvent::of(&environment, &connection, auth_mode, AuthOperation::Refresh);
                            enqueue_auth(tx, &event, || delivery_id(&ambient)).await?;
                        }
                    }
                    tx.notify(Changed::Connection(name).notice());
                    Ok(connection)
                })
            })
            .await
    }

    async fn save_failure(&self, failure: Failure) -> Result<Connection, DbError> {
        let row = self.connection.id;
        let cause = self.blame(&failure);
        let (lease, reason) = (self.lease.clone(), self.reason());
        let before = self.connection.clone();
        let (environment, auth_mode, ambient) = (
            self.environment.clone(),
            self.auth_mode(),
            self.context.ambient.clone(),
        );
        let operation_id = OperationId(ambient.time_ordered_uuid().to_string());
        let integration = self.integration.id;
        let name = self.name();
        self.context
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now();
                    let intent = if failure.outcome_unknown {
                        IntentAfter::Kept
                    } else {
                        IntentAfter::Removed
                    };
                    settle(tx, row, &lease, intent).await?;
                    let operation = Operation {
                        id: operation_id.clone(),
                        environment_id: environment.id,
                        kind: "auth".to_owned(),
                        action: "refresh_token".to_owned(),
                        state: OperationState::Failed,
                        integration: Some(integration),
                        connection: Some(row),
                        title: failure.detail.clone(),
                        started_at: now,
                        ended_at: Some(now),
                    };
                    operations::insert(tx, &operation).await?;
                    let weight = policy::weight(cause, &before, now);
                    let recorded = RefreshFailure {
                        cause,
                        operation_id: operation_id.clone(),
                        weight,
                        not_before: Some(policy::pause_after_failure(failure.retry_after, now)),
                    };
                    let saved =
                        connections::save_refresh_failure(tx, row, before.generation, &recorded).await?;
                    let event = RefreshEvent {
                        at: now,
                        reason,
                        success: false,
                        cause: Some(cause),
                        detail: Some(failure.detail.clone()),
                    };
                    refreshes::append_event(tx, row, &event).await?;
                    let current = connections::find_by_row(tx, row).await?;
                    let connection = current.ok_or_else(|| DbError::internal("a connection vanished"))?;
                    let opened = matches!(saved, FailureSaved::Saved { opened: true, .. });
                    let turned_final = saved != FailureSaved::Lost
                        && before.refresh.cause.is_some_and(|known| known != cause)
                        && weight == FailureWeight::Counted;
                    if opened || turned_final {
                        let mut event =
                            AuthEvent::of(&environment, &connection, auth_mode, AuthOperation::Refresh);
                        event.error = Some((error_type(cause), &failure.detail));
                        event.log = Some(&operation_id);
                        enqueue_auth(tx, &event, || delivery_id(&ambient)).await?;
                    }
                    tx.notify(Changed::Connection(name).notice());
                    Ok(connection)
                })
            })
            .await
    }

    fn auth_mode(&self) -> AuthMode {
        auth_mode(self.context, &self.connection)
    }

    fn name(&self) -> ConnectionName {
        ConnectionName {
            environment: self.connection.environment_id,
            integration: self.connection.integration_key.to_string(),
            connection: self.connection.connection_id.to_string(),
        }
    }
}

fn auth_mode(context: &Context, connection: &Connection) -> AuthMode {
    let provider = context.catalogue.get(connection.provider.as_str());
    provider.map_or(AuthMode::None, |provider| provider.definition.auth_mode)
}

/// Tells the product again of a failure that it was last told of before `before`, if it still is one.
pub(crate) async fn remind(
    context: &Arc<Context>,
    environment: &Arc<Environment>,
    row: ConnectionRowId,
    before: Timestamp,
) -> Result<(), DbError> {
    let (inside, environment) = (context.clone(), environment.clone());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(connection) = connections::find_by_row(tx, row).await? else {
                    return Ok(());
                };
                if !connections::remember_reminder(tx, row, before).await? {
                    return Ok(());
                }
                let timeline = refreshes::timeline(tx, row).await?;
                let detail = timeline
                    .into_iter()
                    .find(|event| !event.success)
                    .and_then(|event| event.detail)
                    .unwrap_or_else(|| "the credentials cannot be refreshed".to_owned());
                let mode = auth_mode(&inside, &connection);
                let mut event = AuthEvent::of(&environment, &connection, mode, AuthOperation::Refresh);
                let cause = connection.refresh.cause.unwrap_or(RefreshCause::ProviderRefused);
                event.error = Some((error_type(cause), &detail));
                event.log = connection
                    .errors
                    .iter()
                    .find(|error| error.kind == "auth")
                    .map(|error| &error.log_id);
                enqueue_auth(tx, &event, || delivery_id(&inside.ambient)).await
            })
        })
        .await
}

enum IntentAfter {
    Removed,
    Kept,
}

/// Ends what [`claim`] began.
async fn settle(
    tx: &mut Tx,
    row: ConnectionRowId,
    lease: &Lease,
    intent: IntentAfter,
) -> Result<(), DbError> {
    // A later holder's intent is not ours to remove.
    if matches!(intent, IntentAfter::Removed) && leases::is_current(tx, lease).await? {
        refreshes::take_intent(tx, row).await?;
    }
    leases::release(tx, lease).await
}

fn delivery_id(ambient: &patchbay_ambient::Ambient) -> DeliveryId {
    DeliveryId(ambient.time_ordered_uuid().to_string())
}
