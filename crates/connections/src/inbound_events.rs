//! Webhooks of providers, as far as they complete connections that wait for one (webhooks §A1, §A2; auth-flows §10.2,
//! §14): an owner agreed to an app's installation, or an app was installed from the provider's side.
//!
//! An event that is accepted and has work to do is written down before it is answered, so that a crash loses nothing:
//! whoever accepted it does the work at once, and [`work_off`] what was left undone. Completing twice does no harm,
//! for the second time nobody waits any more.

mod signature;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use patchbay_auth::app::{AppKeys, INSTALLATION_ID, USER_CREDENTIALS};
use patchbay_auth::driver::{self, ExchangeInput};
use patchbay_auth::metadata;
use patchbay_catalog::Definition;
use patchbay_store::connections::find_by_row;
use patchbay_store::db::DbError;
use patchbay_store::inbound_events::{self, InboundEvent};
use patchbay_store::{integrations, operations};
use patchbay_types::connections::{AuthOperation, Change, Connection, ConnectionUpsert};
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::operations::{Operation, OperationState};
use patchbay_types::{AuthMode, Credentials, JsonMap, OperationId, Secret};
use serde_json::Value;
use uuid::Uuid;

use crate::connections::{Announce, NewConnection, expiry_to_check, store_and};
use crate::context::Context;
use crate::installations;

/// How long one attempt may take before somebody else tries.
const CLAIM: Duration = Duration::from_mins(2);
/// After so many attempts the event is given up.
const MAX_ATTEMPTS: i64 = 20;
/// How many events are worked off in one go.
const BATCH: u32 = 20;

/// A webhook as it came.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The exact bytes: signatures are over them.
    pub body: &'a [u8],
    /// Headers by their lower-case names.
    pub headers: &'a BTreeMap<String, String>,
}

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Its provider routes no webhooks here.
    NoHandler,
    /// Accepted, whether or not anybody waited for it.
    Accepted,
}

/// Why a webhook was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// No such environment.
    #[error("no such environment")]
    UnknownEnvironment,
    /// No such integration.
    #[error("no such integration")]
    UnknownIntegration,
    /// The body is no JSON object.
    #[error("the body is no JSON: {0}")]
    Json(String),
    /// It should be signed and is not.
    #[error("Missing webhook signature")]
    MissingSignature,
    /// It is signed by somebody else.
    #[error("Invalid webhook signature")]
    InvalidSignature,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

/// Who is meant to do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    App,
    AppWithUsers,
    Outbound,
}

impl Handler {
    fn of(definition: &Definition) -> Option<Self> {
        match definition.webhook_routing_script.as_deref()? {
            "githubAppWebhookRouting" => Some(Self::App),
            "githubAppOauthWebhookRouting" => Some(Self::AppWithUsers),
            "sentryOauthWebhookRouting" => Some(Self::Outbound),
            _ => None,
        }
    }
}

/// Takes a webhook: checks it, writes down what it is to do, does it.
pub async fn receive(
    context: &Arc<Context>,
    environment: Uuid,
    integration: &str,
    received: &Received<'_>,
) -> Result<Reception, InboundError> {
    let environment = crate::environments::by_uuid(context, environment)
        .await?
        .ok_or(InboundError::UnknownEnvironment)?;
    let integration = crate::integrations::get(context, environment.id, integration)
        .await?
        .ok_or(InboundError::UnknownIntegration)?;
    let provider = context.catalogue.get(integration.provider.as_str());
    let Some((handler, provider)) = provider.and_then(|found| Some((Handler::of(&found.definition)?, found)))
    else {
        return Ok(Reception::NoHandler);
    };
    let signed = verify(handler, &provider.definition, &integration, received)?;
    let body: JsonMap = match serde_json::from_slice(received.body) {
        Ok(Value::Object(body)) => body,
        Ok(_) => return Err(InboundError::Json("an object is expected".to_owned())),
        Err(error) => return Err(InboundError::Json(error.to_string())),
    };
    let completes = match handler {
        Handler::App => false,
        Handler::AppWithUsers => {
            text(&body, "action") == Some("created") && text(&body, "requester.login").is_some()
        }
        Handler::Outbound => {
            let resource = received.headers.get("sentry-hook-resource");
            text(&body, "action") == Some("created")
                && resource.is_some_and(|resource| resource == "installation")
                && scalar(&body, "actor.id").is_some()
        }
    };
    if completes && !signed {
        // Anybody could attach an installation of theirs to somebody else's connection.
        return Err(InboundError::MissingSignature);
    }
    let event = InboundEvent {
        id: context.ambient.time_ordered_uuid().to_string(),
        environment_id: environment.id,
        integration_id: integration.id,
        document: body,
        attempts: 1,
    };
    let written = event.clone();
    let operation = Operation {
        id: OperationId(event.id.clone()),
        environment_id: environment.id,
        kind: "webhook".to_owned(),
        action: "incoming".to_owned(),
        state: OperationState::Success,
        integration: Some(integration.id),
        connection: None,
        title: "A webhook of the provider came in".to_owned(),
        started_at: context.ambient.now(),
        ended_at: Some(context.ambient.now()),
    };
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                operations::insert(tx, &operation).await?;
                if completes {
                    inbound_events::put(tx, &written, CLAIM).await?;
                }
                Ok::<_, DbError>(())
            })
        })
        .await?;
    if completes {
        let working = context.clone();
        let task = context
            .ambient
            .tasks
            .spawn(async move { Box::pin(work(&working, event)).await });
        // What is not done now is done later: the provider need not know.
        let _ = task.await;
    }
    Ok(Reception::Accepted)
}

/// Does what was left undone; the next call comes round anyway.
pub async fn work_off(context: &Arc<Context>) -> Result<(), DbError> {
    loop {
        let due = context
            .store
            .write(|tx| Box::pin(async move { inbound_events::claim_due(tx, CLAIM, BATCH).await }))
            .await?;
        if due.is_empty() || context.ambient.tasks.is_stopping() {
            return Ok(());
        }
        for event in due {
            Box::pin(work(context, event)).await;
        }
    }
}

/// Whether it is signed; an error if it is signed wrongly.
fn verify(
    handler: Handler,
    definition: &Definition,
    integration: &Integration,
    received: &Received<'_>,
) -> Result<bool, InboundError> {
    let secrets = &integration.secrets;
    let (header, secret) = match handler {
        Handler::App | Handler::AppWithUsers => {
            let keys = AppKeys::of(definition.auth_mode, secrets).ok();
            ("x-hub-signature-256", keys.map(|keys| keys.webhook_secret()))
        }
        Handler::Outbound => {
            let secret = secrets.client_secret.as_ref().map(Secret::expose);
            ("sentry-hook-signature", secret.map(str::to_owned))
        }
    };
    let Some(given) = received.headers.get(header) else {
        return Ok(false);
    };
    let secret = secret.filter(|secret| !secret.is_empty());
    let right = secret.is_some_and(|secret| signature::is_hex_hmac(given, secret.as_bytes(), received.body));
    if right {
        Ok(true)
    } else {
        Err(InboundError::InvalidSignature)
    }
}

/// One attempt at an event, and what is to become of it.
async fn work(context: &Arc<Context>, event: InboundEvent) {
    let done = match complete(context, &event).await {
        Ok(()) => true,
        Err(Incomplete::Later(words)) if event.attempts < MAX_ATTEMPTS => {
            tracing::warn!(%words, event = %event.id, "an installation could not be completed yet");
            false
        }
        Err(Incomplete::Later(words) | Incomplete::Never(words)) => {
            tracing::warn!(%words, event = %event.id, "an installation could not be completed");
            true
        }
    };
    if !done {
        return;
    }
    let id = event.id;
    let removed: Result<(), DbError> = context
        .store
        .write(move |tx| Box::pin(async move { inbound_events::remove(tx, &id).await }))
        .await;
    if let Err(error) = removed {
        tracing::warn!(%error, "a finished inbound event comes round again");
    }
}

/// Why an event did not take effect.
enum Incomplete {
    /// Try again.
    Later(String),
    /// It never will.
    Never(String),
}

impl From<DbError> for Incomplete {
    fn from(error: DbError) -> Self {
        Self::Later(error.to_string())
    }
}

async fn complete(context: &Arc<Context>, event: &InboundEvent) -> Result<(), Incomplete> {
    let id = event.integration_id;
    let integration = context
        .store
        .read(move |tx| Box::pin(async move { integrations::find_by_id(tx, id).await }))
        .await?;
    let environment = crate::environments::get(context, event.environment_id).await?;
    let (Some(integration), Some(environment)) = (integration, environment) else {
        return Ok(());
    };
    let Some(provider) = context.catalogue.get(integration.provider.as_str()) else {
        return Ok(());
    };
    let waiting = Waiting {
        context,
        environment,
        definition: &provider.definition,
        integration: &integration,
    };
    match Handler::of(&provider.definition) {
        Some(Handler::AppWithUsers) => waiting.owner_agreed(&event.document).await,
        Some(Handler::Outbound) => waiting.installed(&event.document).await,
        Some(Handler::App) | None => Ok(()),
    }
}

/// Connections that wait.
struct Waiting<'a> {
    context: &'a Arc<Context>,
    environment: Arc<Environment>,
    definition: &'a Definition,
    integration: &'a Integration,
}

impl Waiting<'_> {
    /// CUSTOM: an owner agreed to what an end user asked for.
    async fn owner_agreed(&self, body: &JsonMap) -> Result<(), Incomplete> {
        let (Some(installation), Some(app), Some(login)) = (
            scalar(body, "installation.id"),
            scalar(body, "installation.app_id"),
            text(body, "requester.login").map(str::to_owned),
        ) else {
            return Ok(());
        };
        let found = self
            .find(move |config| {
                is_pending(config)
                    && text(config, "handle") == Some(&login)
                    && scalar(config, "app_id").as_ref() == Some(&app)
            })
            .await?;
        let Some(connection) = found else { return Ok(()) };
        let mut config = settled(&connection);
        config.insert(INSTALLATION_ID.to_owned(), installation.into());
        if matches!(connection.credentials, Credentials::OAuth2(_)) {
            let user = connection.credentials.to_json();
            config.insert(USER_CREDENTIALS.to_owned(), user.into());
        }
        let minted = installations::mint(self.context, self.definition, self.integration, &mut config).await;
        let credentials = minted.map_err(|error| Incomplete::Later(error.to_string()))?;
        self.store(connection, credentials, config, Announce::Usual).await
    }

    /// Outbound: the app was installed at the provider; the webhook holds the code.
    async fn installed(&self, body: &JsonMap) -> Result<(), Incomplete> {
        let code = text(body, &self.definition.authorization_code_param_in_webhook).map(str::to_owned);
        let (Some(actor), Some(code)) = (scalar(body, "actor.id"), code) else {
            return Ok(());
        };
        let found = self
            .find(move |config| is_pending(config) && scalar(config, "actor").as_ref() == Some(&actor))
            .await?;
        let Some(connection) = found else { return Ok(()) };
        let paths = self
            .definition
            .webhook_response_metadata
            .iter()
            .map(String::as_str);
        let mut config = settled(&connection);
        config.extend(metadata::capture(body, paths));
        if let Some(installation) = scalar(body, "installation.id") {
            config.entry(INSTALLATION_ID).or_insert(installation.into());
        }
        let callback = self.context.callback_url(&self.environment);
        let own = BTreeMap::new();
        let input = ExchangeInput {
            definition: self.definition,
            secrets: &self.integration.secrets,
            connection_config: &config,
            client_override: &own,
            code: &code,
            code_verifier: None,
            callback_url: &callback,
            state: "",
        };
        // A code works once: another attempt would not find it better.
        let exchanged = driver::exchange_code(&self.context.token_client, &input, &self.context.ambient)
            .await
            .map_err(|error| Incomplete::Never(error.to_string()))?;
        let config = metadata::merge_config(exchanged.token_metadata, JsonMap::new(), &config);
        let announce = Announce::As(AuthOperation::Creation);
        self.store(connection, exchanged.credentials, config, announce)
            .await
    }

    async fn find(&self, fits: impl Fn(&JsonMap) -> bool) -> Result<Option<Connection>, DbError> {
        let Some(row) = installations::find(self.context, self.integration.id, fits).await? else {
            return Ok(None);
        };
        let store = &self.context.store;
        store
            .read(move |tx| Box::pin(async move { find_by_row(tx, row).await }))
            .await
    }

    async fn store(
        &self,
        connection: Connection,
        credentials: Credentials,
        connection_config: JsonMap,
        announce: Announce,
    ) -> Result<(), Incomplete> {
        let begun = text(&connection.connection_config, "pendingLog").map(|id| OperationId(id.to_owned()));
        let new = NewConnection {
            auth_mode: self.definition.auth_mode,
            upsert: ConnectionUpsert {
                integration_id: self.integration.id,
                connection_id: connection.connection_id,
                credentials_expires_at: expiry_to_check(&credentials, self.context.ambient.now()),
                credentials,
                connection_config,
                metadata: Change::Keep,
                tags: Change::Keep,
                webhook_url_override: Change::Keep,
                end_user: Change::Keep,
            },
            end_user: None,
            operation: begun,
            ends: None,
        };
        store_and(self.context, &self.environment, new, announce)
            .await
            .map(drop)
            .map_err(|error| Incomplete::Later(error.to_string()))
    }
}

/// Whether an owner has yet to agree.
fn is_pending(config: &JsonMap) -> bool {
    config.get("pending") == Some(&Value::Bool(true))
}

/// Its settings without what says that it waits.
fn settled(connection: &Connection) -> JsonMap {
    let mut config = connection.connection_config.clone();
    config.remove("pending");
    config.remove("pendingLog");
    config
}

/// The text at a dotted path.
fn text<'a>(object: &'a JsonMap, path: &str) -> Option<&'a str> {
    let value = metadata::lookup(object, path)?.as_str();
    value.filter(|text| !text.is_empty())
}

/// The text or number at a dotted path, as text: providers send ids as either.
fn scalar(object: &JsonMap, path: &str) -> Option<String> {
    match metadata::lookup(object, path)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Outbound installations exist for OAUTH2 alone.
pub(crate) fn is_outbound(definition: &Definition) -> bool {
    definition.auth_mode == AuthMode::OAuth2 && definition.is_outbound_installation
}
