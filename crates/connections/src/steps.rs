//! A definition's steps at the provider: after a connection was made, and before it is deleted (auth-flows §23,
//! catalog-format §7.2 and §7.4).
//!
//! **After connecting.** The transaction that stores the connection writes down that steps wait. They run at once, before
//! the caller is answered, but hold nobody up for longer than [`PATIENCE`] and never spoil the connection. What they
//! found is saved in one transaction with their removal from the list. Steps that could not be carried out because
//! the provider was away, or because the process died, are tried again from the list, [`ATTEMPTS`] times in all. Another
//! connecting replaces the list's row, and whoever still works on the old one saves nothing.
//!
//! **Before deletion.** Best effort: the provider is told within [`PATIENCE`], with credentials renewed if they near their
//! end; the deletion happens whatever it says.
//!
//! Each outcome is an operation in the logs.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use patchbay_auth::request::Subject;
use patchbay_auth::steps::{Carried, carry_out};
use patchbay_store::connections::MetadataChange;
use patchbay_store::db::{DbError, Notice, Topic, Tx};
use patchbay_store::provider_steps::{self, PendingSteps};
use patchbay_store::{connections, deliveries, operations};
use patchbay_types::connections::Connection;
use patchbay_types::operations::{Message, Operation, OperationState};
use patchbay_types::{OperationId, Timestamp};

use crate::caches::Changed;
use crate::connections::name_of;
use crate::context::Context;
use crate::refresh::{self, Freshness};

/// Longest a caller waits for steps.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How often steps are tried before they are given up.
pub const ATTEMPTS: u32 = 5;
/// How long whoever carries steps out has them to itself: well beyond [`PATIENCE`].
const CLAIM: SignedDuration = SignedDuration::from_secs(30);
/// The pause before the second attempt; each further one is four times as long.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// Steps claimed at once.
const BATCH: u32 = 20;

/// In the transaction that stores a connection: writes down that its provider's steps wait, if it has any.
pub(crate) async fn note(
    tx: &mut Tx,
    context: &NoteContext,
    connection: &Connection,
) -> Result<Option<PendingSteps>, DbError> {
    let has_steps = context
        .catalogue
        .get(connection.provider.as_str())
        .is_some_and(|provider| !provider.definition.post_connection.is_empty());
    if !has_steps {
        return Ok(None);
    }
    let pending = PendingSteps {
        connection: connection.id,
        run: context.run.clone(),
        attempts: 0,
        due_at: tx.now().checked_add(CLAIM).unwrap_or(Timestamp::MAX),
    };
    provider_steps::put(tx, &pending).await?;
    Ok(Some(pending))
}

/// What [`note`] needs inside a transaction.
#[derive(Clone, Debug)]
pub(crate) struct NoteContext {
    catalogue: patchbay_catalog::CatalogueHandle,
    run: String,
}

impl NoteContext {
    pub(crate) fn of(context: &Context) -> Self {
        Self {
            catalogue: context.catalogue.clone(),
            run: context.ambient.time_ordered_uuid().to_string(),
        }
    }
}

/// Carries out what [`note`] wrote down; the connection with what they changed. Whatever goes wrong is for later, and
/// for the logs.
pub(crate) async fn after_connecting(
    context: &Context,
    connection: Connection,
    pending: Option<PendingSteps>,
) -> Connection {
    let Some(pending) = pending else {
        return connection;
    };
    match attempt(context, &connection, &pending).await {
        Ok(Some(changed)) => changed,
        Ok(None) => connection,
        Err(error) => {
            tracing::warn!(%error, connection = %connection.id, "steps after connecting could not be noted as done");
            connection
        }
    }
}

/// Carries out what is due on the list: steps that a crash cut off, or whose provider was away.
pub async fn catch_up(context: &Arc<Context>) -> Result<(), DbError> {
    while !context.ambient.tasks.is_stopping() {
        let claimed = context
            .store
            .write(|tx| {
                Box::pin(async move {
                    let until = tx.now().checked_add(CLAIM).unwrap_or(Timestamp::MAX);
                    provider_steps::claim_due(tx, until, BATCH).await
                })
            })
            .await?;
        if claimed.is_empty() {
            return Ok(());
        }
        for pending in claimed {
            let row = pending.connection;
            let found = context
                .store
                .read(move |tx| Box::pin(async move { connections::find_by_row(tx, row).await }))
                .await?;
            match found {
                Some(connection) => {
                    attempt(context, &connection, &pending).await?;
                }
                None => {
                    context
                        .store
                        .write(move |tx| Box::pin(async move { provider_steps::finish(tx, &pending).await }))
                        .await?;
                }
            }
        }
    }
    Ok(())
}

/// One try. The connection as it is afterwards; none if another connecting has replaced these steps.
async fn attempt(
    context: &Context,
    connection: &Connection,
    pending: &PendingSteps,
) -> Result<Option<Connection>, DbError> {
    let Some(carried) = carry(context, connection, Moment::AfterConnecting).await? else {
        // The provider, or its steps, are gone from the catalogue.
        let pending = pending.clone();
        context
            .store
            .write(move |tx| Box::pin(async move { provider_steps::finish(tx, &pending).await }))
            .await?;
        return Ok(None);
    };
    let later = carried
        .failure
        .as_ref()
        .is_some_and(|failure| failure.error.is_transient())
        && pending.attempts + 1 < ATTEMPTS;
    let saved = save(context, connection, pending, carried, later).await?;
    context.caches.forget(&Changed::Connection(name_of(connection)));
    Ok(saved)
}

async fn save(
    context: &Context,
    connection: &Connection,
    pending: &PendingSteps,
    carried: Carried,
    later: bool,
) -> Result<Option<Connection>, DbError> {
    let (pending, connection, ambient) = (pending.clone(), connection.clone(), context.ambient.clone());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let ours = if later {
                    let pause = (0..pending.attempts).fold(PAUSE, |pause, _| pause * 4);
                    let due = tx.now().checked_add(pause).unwrap_or(Timestamp::MAX);
                    provider_steps::postpone(tx, &pending, due).await?
                } else {
                    provider_steps::finish(tx, &pending).await?
                };
                if !ours {
                    return Ok(None);
                }
                let effects = &carried.effects;
                if !effects.config.is_empty() || !effects.unset.is_empty() {
                    connections::change_connection_config(tx, connection.id, &effects.config, &effects.unset)
                        .await?;
                }
                if !effects.metadata.is_empty() {
                    let ids = [connection.connection_id.clone()];
                    let change = MetadataChange::Merge(&effects.metadata);
                    connections::set_metadata(tx, connection.integration_id, &ids, change).await?;
                }
                let words = match &carried.failure {
                    None => "The provider's steps after connecting were carried out".to_owned(),
                    Some(failure) if later => format!("{failure}; it will be tried again"),
                    Some(failure) => failure.to_string(),
                };
                let id = OperationId(ambient.time_ordered_uuid().to_string());
                log(
                    tx,
                    id,
                    &connection,
                    "post_connection",
                    carried.failure.is_none(),
                    &words,
                )
                .await?;
                // Whoever is told of the connection should find it complete.
                deliveries::hasten(tx, connection.id).await?;
                tx.notify(Notice::new(Topic::Deliveries, ""));
                tx.notify(Changed::Connection(name_of(&connection)).notice());
                connections::find_by_row(tx, connection.id).await
            })
        })
        .await
}

/// Tells the provider that a connection is about to be deleted.
pub(crate) async fn before_deleting(context: &Arc<Context>, connection: Arc<Connection>) {
    let provider = context.catalogue.get(connection.provider.as_str());
    if provider.is_none_or(|provider| provider.definition.revoke.is_empty()) {
        return;
    }
    let connection = &usable(context, connection).await;
    let carried = match carry(context, connection, Moment::BeforeDeletion).await {
        Ok(Some(carried)) => carried,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, connection = %connection.id, "the provider could not be told of a deletion");
            return;
        }
    };
    let words = match &carried.failure {
        None => "The provider was told that the connection is deleted".to_owned(),
        Some(failure) => failure.to_string(),
    };
    let (connection, id) = (
        Connection::clone(connection),
        OperationId(context.ambient.time_ordered_uuid().to_string()),
    );
    let succeeded = carried.failure.is_none();
    let logged = context
        .store
        .write(move |tx| {
            Box::pin(
                async move { log(tx, id, &connection, "pre_connection_deletion", succeeded, &words).await },
            )
        })
        .await;
    if let Err(error) = logged {
        tracing::warn!(%error, "a revocation could not be logged");
    }
}

/// The connection with credentials that the provider takes: a token that has ended revokes nothing. As it was, if fresh
/// ones are not to be had in time.
async fn usable(context: &Arc<Context>, connection: Arc<Connection>) -> Arc<Connection> {
    let name = name_of(&connection);
    let read = refresh::read(context, &name, Freshness::Usual);
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(fresh)) => fresh,
        Ok(Err(error)) => {
            tracing::debug!(%error, connection = %connection.id, "told of a deletion with the credentials there are");
            connection
        }
        Err(_) => connection,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    AfterConnecting,
    BeforeDeletion,
}

/// Carries out the steps of that moment; none if there are none.
async fn carry(
    context: &Context,
    connection: &Connection,
    moment: Moment,
) -> Result<Option<Carried>, DbError> {
    let Some(provider) = context.catalogue.get(connection.provider.as_str()) else {
        return Ok(None);
    };
    let definition = &provider.definition;
    let steps = match moment {
        Moment::AfterConnecting => &definition.post_connection,
        Moment::BeforeDeletion => &definition.revoke,
    };
    if steps.is_empty() {
        return Ok(None);
    }
    let key = connection.integration_key.as_str();
    let Some(integration) = crate::integrations::get(context, connection.environment_id, key).await? else {
        return Ok(None);
    };
    let subject = Subject {
        definition,
        secrets: &integration.secrets,
        credentials: &connection.credentials,
        connection_config: &connection.connection_config,
        connection_id: connection.connection_id.as_str(),
        metadata: connection.metadata.as_ref(),
    };
    Ok(Some(
        carry_out(&context.proxy_client, steps, &subject, PATIENCE, &context.ambient).await,
    ))
}

async fn log(
    tx: &mut Tx,
    id: OperationId,
    connection: &Connection,
    action: &str,
    succeeded: bool,
    words: &str,
) -> Result<(), DbError> {
    let now = tx.now();
    let operation = Operation {
        id: id.clone(),
        environment_id: connection.environment_id,
        kind: "auth".to_owned(),
        action: action.to_owned(),
        state: if succeeded {
            OperationState::Success
        } else {
            OperationState::Failed
        },
        integration: Some(connection.integration_id),
        connection: Some(connection.id),
        title: words.to_owned(),
        started_at: now,
        ended_at: Some(now),
    };
    operations::insert(tx, &operation).await?;
    let message = Message {
        operation_id: id,
        level: if succeeded { "info" } else { "error" }.to_owned(),
        text: words.to_owned(),
        meta: None,
        at: now,
    };
    operations::append_messages(tx, &[message]).await
}
