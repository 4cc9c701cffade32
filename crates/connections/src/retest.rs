//! The daily test of credentials that have no end of their own: API keys, passwords, token pairs (auth-flows §21,
//! §24.6).
//!
//! Nobody is told when such a credential stops working, so the background job asks the provider again once a day,
//! with the request that verified it when it was stored. A refusal is booked like a refused refresh (§24.5): an
//! active `auth` failure, an `auth` webhook when it begins, given up on the fourth day, over when a later test or
//! reconnect succeeds. An outage, the provider's or ours, says nothing about the credential and opens nothing.

use std::sync::Arc;

use patchbay_auth::verification::{self, Candidate, VerifyError};
use patchbay_store::connections::{FailureSaved, TestSaved};
use patchbay_store::db::DbError;
use patchbay_store::{connections, operations, refreshes};
use patchbay_types::connections::{AuthOperation, Connection, FailureWeight, RefreshCause, RefreshFailure};
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::operations::{Operation, OperationState};
use patchbay_types::refreshes::{RefreshEvent, RefreshReason};
use patchbay_types::{AuthMode, Credentials, DeliveryId, OperationId};

use crate::caches::{Changed, ConnectionName};
use crate::connections::expiry_to_check;
use crate::context::Context;
use crate::outbox::{AuthEvent, enqueue_auth};
use crate::refresh::{self, ReadError};
use crate::{environments, integrations};

/// Whether a test is all that can be done for credentials like these.
pub(crate) fn concerns(credentials: &Credentials) -> bool {
    matches!(
        credentials,
        Credentials::ApiKey(_) | Credentials::Basic(_) | Credentials::Tba(_)
    )
}

/// Tests the stored credentials with the provider and records what came of it. Nothing happens during the cooldown
/// after a failure.
pub(crate) async fn retest(context: &Arc<Context>, name: &ConnectionName) -> Result<(), ReadError> {
    let Some(connection) = refresh::find(context, name).await? else {
        return Err(ReadError::UnknownConnection);
    };
    let now = context.ambient.now();
    context.usage.connection_fetched(connection.id, now);
    if let Some(refusal) = refresh::gate(&connection, now) {
        return Err(refusal);
    }
    let environment = environments::get(context, name.environment).await?;
    let integration = integrations::get(context, name.environment, &name.integration).await?;
    let (Some(environment), Some(integration)) = (environment, integration) else {
        return Err(ReadError::UnknownIntegration);
    };
    let Some(provider) = context.catalogue.get(connection.provider.as_str()) else {
        // Somebody took the definition away: nothing to test with, and no fault of the credential.
        return Ok(());
    };
    let candidate = Candidate {
        definition: &provider.definition,
        secrets: &integration.secrets,
        credentials: &connection.credentials,
        connection_config: &connection.connection_config,
    };
    let tested = verification::verify(&context.proxy_client, &candidate, &context.ambient).await;
    let test = Test {
        context,
        environment,
        integration,
        auth_mode: provider.definition.auth_mode,
        connection: &connection,
        name,
    };
    let outcome = if tested.is_ok() { "success" } else { "failure" };
    metrics::counter!("patchbay_credential_tests_total", "outcome" => outcome).increment(1);
    match &tested {
        Ok(()) => test.passed().await?,
        Err(error) => test.failed(error).await?,
    }
    context.caches.forget(&Changed::Connection(name.clone()));
    match tested {
        Ok(()) => Ok(()),
        Err(error) => Err(ReadError::Failed {
            cause: error.cause(),
            detail: error.to_string(),
            connection,
        }),
    }
}

/// A test that has been made.
struct Test<'a> {
    context: &'a Arc<Context>,
    environment: Arc<Environment>,
    integration: Arc<Integration>,
    auth_mode: AuthMode,
    connection: &'a Arc<Connection>,
    name: &'a ConnectionName,
}

impl Test<'_> {
    async fn passed(&self) -> Result<(), DbError> {
        let (tested, name, auth_mode) = (self.connection.clone(), self.name.clone(), self.auth_mode);
        let (environment, ambient) = (self.environment.clone(), self.context.ambient.clone());
        let saved = self.context.store.write(move |tx| {
            Box::pin(async move {
                let now = tx.now();
                let next = expiry_to_check(&tested.credentials, now);
                let saved = connections::save_tested(tx, tested.id, tested.generation, next).await?;
                if saved != (TestSaved::Saved { recovered: true }) {
                    return Ok(());
                }
                let event = RefreshEvent {
                    at: now,
                    reason: RefreshReason::Test,
                    success: true,
                    cause: None,
                    detail: None,
                };
                refreshes::append_event(tx, tested.id, &event).await?;
                if let Some(connection) = connections::find_by_row(tx, tested.id).await? {
                    let event = AuthEvent::of(&environment, &connection, auth_mode, AuthOperation::Refresh);
                    enqueue_auth(tx, &event, || DeliveryId(ambient.time_ordered_uuid().to_string())).await?;
                }
                tx.notify(Changed::Connection(name).notice());
                Ok(())
            })
        });
        saved.await
    }

    async fn failed(&self, error: &VerifyError) -> Result<(), DbError> {
        let (tested, name, auth_mode) = (self.connection.clone(), self.name.clone(), self.auth_mode);
        let (environment, ambient) = (self.environment.clone(), self.context.ambient.clone());
        let (integration, cause, code) = (self.integration.id, error.cause(), error.code());
        let detail = error.to_string();
        let saved = self.context.store.write(move |tx| {
            Box::pin(async move {
                let now = tx.now();
                let failure = RefreshFailure {
                    cause,
                    operation_id: OperationId(ambient.time_ordered_uuid().to_string()),
                    weight: weight(cause),
                    not_before: None,
                };
                let saved =
                    connections::save_refresh_failure(tx, tested.id, tested.generation, &failure).await?;
                let FailureSaved::Saved { opened, .. } = saved else {
                    return Ok(());
                };
                let operation = Operation {
                    id: failure.operation_id.clone(),
                    environment_id: environment.id,
                    kind: "auth".to_owned(),
                    action: "connection_test".to_owned(),
                    state: OperationState::Failed,
                    integration: Some(integration),
                    connection: Some(tested.id),
                    title: detail.clone(),
                    started_at: now,
                    ended_at: Some(now),
                };
                operations::insert(tx, &operation).await?;
                let event = RefreshEvent {
                    at: now,
                    reason: RefreshReason::Test,
                    success: false,
                    cause: Some(cause),
                    detail: Some(detail.clone()),
                };
                refreshes::append_event(tx, tested.id, &event).await?;
                let current = connections::find_by_row(tx, tested.id).await?;
                if let Some(connection) = current.filter(|_| opened) {
                    let mut event =
                        AuthEvent::of(&environment, &connection, auth_mode, AuthOperation::Refresh);
                    event.error = Some((code, &detail));
                    event.log = Some(&failure.operation_id);
                    enqueue_auth(tx, &event, || DeliveryId(ambient.time_ordered_uuid().to_string())).await?;
                }
                tx.notify(Changed::Connection(name).notice());
                Ok(())
            })
        });
        saved.await
    }
}

fn weight(cause: RefreshCause) -> FailureWeight {
    match cause {
        RefreshCause::ProviderRefused | RefreshCause::RefreshInterrupted => FailureWeight::Counted,
        RefreshCause::ProviderDown | RefreshCause::Ours => FailureWeight::CoolDown,
    }
}
