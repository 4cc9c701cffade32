//! The popup flow: redirect to the provider, callback, connection (auth-flows §5 to §8).
//!
//! States of an attempt: *begun* (row written, browser redirected) -> *taken* (row deleted by the callback, before
//! anything else, so that a second callback finds nothing) -> connection stored, or refused. The exchange runs in a
//! tracked task: a browser that closes the window does not lose a grant that the provider already gave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use patchbay_auth::driver;
use patchbay_auth::metadata;
use patchbay_auth::oauth2::authorize;
use patchbay_store::db::DbError;
use patchbay_store::{auth_attempts, connect_sessions, connections, integrations};
use patchbay_types::auth_attempts::AuthAttempt;
use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::connections::{AuthOperation, Change, ConnectionUpsert};
use patchbay_types::operations::OperationState;
use patchbay_types::{AuthAttemptId, AuthMode, DeliveryId, JsonMap, OperationId};
use serde_json::Value;
use url::Url;

use crate::admission::{Admission, Refusal, Wish, admit};
use crate::connections::{NewConnection, expiry_to_check, store};
use crate::context::{Context, StateCookie};
use crate::logbook::{Conclusion, conclude};
use crate::outbox::{AuthEvent, enqueue_auth};
use crate::results::AuthResult;

/// How long the end user may take at the provider.
pub const LIFETIME: Duration = Duration::from_hours(1);

/// Query parameters by which providers report an error to the callback (auth-flows §6.3).
pub const PROVIDER_ERRORS: [&str; 6] = [
    "error",
    "error_description",
    "error_reason",
    "error_uri",
    "status_code",
    "error_message",
];

/// Where the browser goes next.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// The provider's authorization page.
    pub url: Url,
    /// The `state`, which also names the cookie to set.
    pub state: String,
}

/// Why the popup cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// See [`Refusal`].
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The provider's page cannot be addressed: client missing, parameter missing, unsupported grant.
    #[error(transparent)]
    Authorize(#[from] authorize::AuthorizeError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

impl BeginError {
    /// `error_type` of the WebSocket frame (auth-flows §25.1).
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::UnknownEnvironment => "account_or_environment_retrieval_err",
                Refusal::UnknownIntegration => "provider_config_err",
                Refusal::UnknownProvider => "unknown_config_key",
                Refusal::WrongMode(_) => "auth_mode_err",
                Refusal::NotBuilt(mode) => mode.code(),
                Refusal::NotAllowed => "integration_not_allowed",
                Refusal::ConnectionGone => "invalid_connection",
                Refusal::Fields(_) => "url_param_err",
                Refusal::Store(_) => "server_error",
            },
            Self::Authorize(error) => error.code(),
            Self::Store(_) => "server_error",
        }
    }
}

/// Starts an attempt: checks the wish, remembers what the callback will need, answers where to send the browser.
pub async fn begin(
    context: &Arc<Context>,
    session: ConnectSession,
    wish: Wish,
    ws_client_id: Option<String>,
) -> Result<Redirect, BeginError> {
    let serves = |mode| {
        matches!(
            mode,
            AuthMode::OAuth1
                | AuthMode::OAuth2
                | AuthMode::App
                | AuthMode::Custom
                | AuthMode::McpOAuth2
                | AuthMode::McpOAuth2Generic
                | AuthMode::InstallPlugin
        )
    };
    let admission = admit(context, session, wish, serves).await?;
    let mut random = [0; 32];
    context.ambient.entropy.fill(&mut random);
    let state = BASE64URL_NOPAD.encode(&random);
    let callback_url = context.callback_url(&admission.environment);
    let authorization = authorize::authorize(
        &authorize::AuthorizeInput {
            provider: &admission.provider,
            secrets: &admission.integration.secrets,
            connection_config: &admission.connection_config,
            authorization_params: &admission.authorization_params,
            user_scopes: admission.user_scopes.as_deref(),
            client_override: &admission.client_override,
            state: &state,
            callback_url: &callback_url,
        },
        &context.ambient,
    )?;
    let attempt = AuthAttempt {
        environment_id: admission.environment.id,
        integration_id: admission.integration.id,
        integration_key: admission.integration.unique_key.clone(),
        provider: admission.integration.provider.clone(),
        auth_mode: admission.mode(),
        connection_id: admission.connection_id,
        callback_url,
        code_verifier: authorization.code_verifier,
        request_token_secret: None,
        connection_config: admission.connection_config,
        client_override: admission.client_override,
        connect_session: Some(admission.session.id),
        ws_client_id,
        operation_id: admission.session.operation_id.clone(),
        created_at: context.ambient.now(),
    };
    let id = AuthAttemptId(state.clone());
    context
        .store
        .write(move |tx| Box::pin(async move { auth_attempts::put(tx, &id, &attempt).await }))
        .await?;
    Ok(Redirect {
        url: authorization.url,
        state,
    })
}

/// How a callback ended, for the page that tells the end user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// The connection is stored.
    Connected {
        /// Integration.
        provider_config_key: String,
        /// Connection.
        connection_id: String,
    },
    /// Not.
    Failed {
        /// A code of auth-flows §25.1.
        error_type: &'static str,
        /// In words, without secrets.
        message: String,
    },
}

/// What the provider sent the browser back with.
#[derive(Clone, Debug, Default)]
pub struct CallbackQuery {
    /// Query parameters, last value of each name.
    pub params: BTreeMap<String, String>,
    /// Whether the browser has the cookie of this state.
    pub has_state_cookie: bool,
}

/// Finishes an attempt: takes it, exchanges the code, stores the connection, tells the waiting browser.
pub async fn callback(context: &Arc<Context>, query: CallbackQuery) -> CallbackOutcome {
    let failed = |error_type, message: &str| CallbackOutcome::Failed {
        error_type,
        message: message.to_owned(),
    };
    let named = ["state", "payload", "customField"];
    let state = named
        .iter()
        .find_map(|name| query.params.get(*name))
        .filter(|state| !state.is_empty());
    let Some(state) = state else {
        return failed(
            "state_err",
            "The provider sent no state, so this answer belongs to no attempt.",
        );
    };
    if state.len() > 128
        || !state
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    {
        return failed("invalid_oauth_state", "The state is malformed.");
    }
    let id = AuthAttemptId(state.clone());
    let taken = context
        .store
        .write(move |tx| Box::pin(async move { auth_attempts::take(tx, &id).await }))
        .await;
    let attempt = match taken {
        Ok(Some(attempt)) => attempt,
        Ok(None) => {
            return failed(
                "state_err",
                "This attempt is unknown, already used, or too old. Please start again.",
            );
        }
        Err(error) => {
            tracing::error!(%error, "an attempt could not be read");
            return failed(
                "server_error",
                "We could not read this attempt. Please start again.",
            );
        }
    };
    // The browser may close while the provider is asked; the grant must not be lost with it.
    let finishing = context.clone();
    let task = context
        .ambient
        .tasks
        .spawn(async move { finish(&finishing, attempt, query).await });
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a callback ended unexpectedly");
        failed(
            "unknown_err",
            "Something unexpected happened. Please start again.",
        )
    })
}

async fn finish(context: &Arc<Context>, attempt: AuthAttempt, query: CallbackQuery) -> CallbackOutcome {
    let (ws_client_id, key, connection) = (
        attempt.ws_client_id.clone(),
        attempt.integration_key.to_string(),
        attempt.connection_id.to_string(),
    );
    let outcome = match complete(context, &attempt, &query).await {
        Ok(()) => CallbackOutcome::Connected {
            provider_config_key: key.clone(),
            connection_id: connection.clone(),
        },
        Err(failure) => {
            announce_failure(context, &attempt, &failure).await;
            CallbackOutcome::Failed {
                error_type: failure.error_type,
                message: failure.message,
            }
        }
    };
    if let Some(ws_client_id) = ws_client_id {
        let result = match &outcome {
            CallbackOutcome::Connected { .. } => AuthResult::Success {
                provider_config_key: key,
                connection_id: connection,
                is_pending: false,
            },
            CallbackOutcome::Failed { error_type, message } => AuthResult::Error {
                provider_config_key: Some(key),
                connection_id: Some(connection),
                error_type: (*error_type).to_owned(),
                error_desc: message.clone(),
            },
        };
        context.results.publish(&ws_client_id, result).await;
    }
    outcome
}

/// A refused callback: what the browser hears, and what the product's webhook says.
struct Failure {
    error_type: &'static str,
    webhook_type: &'static str,
    message: String,
}

impl Failure {
    fn new(error_type: &'static str, webhook_type: &'static str, message: impl Into<String>) -> Self {
        Self {
            error_type,
            webhook_type,
            message: message.into(),
        }
    }

    fn unknown(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a callback failed");
        Self::new(
            "unknown_err",
            "unknown",
            "Something unexpected happened on our side. Please start again.",
        )
    }
}

async fn complete(
    context: &Arc<Context>,
    attempt: &AuthAttempt,
    query: &CallbackQuery,
) -> Result<(), Failure> {
    let age = context.ambient.now().duration_since(attempt.created_at);
    if age > jiff::SignedDuration::try_from(LIFETIME).unwrap_or(jiff::SignedDuration::MAX) {
        return Err(Failure::new(
            "state_err",
            "invalid_callback",
            "This attempt is too old. Please start again.",
        ));
    }
    if context.settings.state_cookie == StateCookie::Required && !query.has_state_cookie {
        return Err(Failure::new(
            "state_cookie_err",
            "invalid_callback",
            "This answer did not come from the browser that began the attempt.",
        ));
    }
    let provider = context.catalogue.get(attempt.provider.as_str()).ok_or_else(|| {
        Failure::new(
            "unknown_config_key",
            "unknown",
            "The provider is no longer in the catalogue.",
        )
    })?;
    let definition = &provider.definition;
    let code_name = definition.authorization_code_param_in_callback.as_str();
    let Some(code) = query.params.get(code_name).filter(|code| !code.is_empty()) else {
        let told: Vec<String> = PROVIDER_ERRORS
            .iter()
            .filter_map(|name| query.params.get(*name).map(|value| format!("{name}: {value}")))
            .collect();
        let message = format!("The provider sent no {code_name}; {}", told.join("; "));
        return Err(Failure::new(
            "callback_err",
            "invalid_callback",
            message.trim_end_matches("; ").to_owned(),
        ));
    };
    let (integration_id, session_id) = (attempt.integration_id, attempt.connect_session);
    let loaded = context
        .store
        .read(move |tx| {
            Box::pin(async move {
                let integration = integrations::find_by_id(tx, integration_id).await?;
                let session = match session_id {
                    Some(id) => connect_sessions::find(tx, id).await?,
                    None => None,
                };
                Ok::<_, DbError>((integration, session))
            })
        })
        .await
        .map_err(|error| Failure::unknown(&error))?;
    let (Some(integration), session) = loaded else {
        return Err(Failure::new(
            "provider_config_err",
            "unknown",
            "The integration no longer exists.",
        ));
    };
    let environment = crate::environments::get(context, attempt.environment_id)
        .await
        .map_err(|error| Failure::unknown(&error))?
        .ok_or_else(|| {
            Failure::new(
                "account_or_environment_retrieval_err",
                "unknown",
                "The environment no longer exists.",
            )
        })?;
    let exchanged = driver::exchange_code(
        &context.token_client,
        &driver::ExchangeInput {
            definition,
            secrets: &integration.secrets,
            connection_config: &attempt.connection_config,
            client_override: &attempt.client_override,
            code,
            code_verifier: attempt.code_verifier.as_ref(),
            callback_url: &attempt.callback_url,
        },
        &context.ambient,
    )
    .await
    .map_err(|error| Failure::new("unknown_err", error.webhook_type(), error.to_string()))?;
    let from_callback: JsonMap = definition
        .redirect_uri_metadata
        .iter()
        .filter_map(|name| {
            query
                .params
                .get(name)
                .map(|value| (name.clone(), Value::String(value.clone())))
        })
        .collect();
    let connection_config = metadata::merge_config(
        exchanged.token_metadata,
        from_callback,
        &attempt.connection_config,
    );
    let spec = session.as_ref();
    let new = NewConnection {
        auth_mode: attempt.auth_mode,
        upsert: ConnectionUpsert {
            integration_id: integration.id,
            connection_id: attempt.connection_id.clone(),
            credentials_expires_at: expiry_to_check(&exchanged.credentials, context.ambient.now()),
            credentials: exchanged.credentials,
            connection_config,
            metadata: Change::Keep,
            tags: spec.map_or(Change::Keep, Admission::tags),
            webhook_url_override: spec.map_or(Change::Keep, Admission::webhook_url_override),
            end_user: Change::Keep,
        },
        end_user: spec.and_then(|session| {
            session
                .spec
                .end_user
                .clone()
                .map(|user| (user, session.spec.organization.clone()))
        }),
        operation: attempt.operation_id.clone(),
    };
    store(context, &environment, new)
        .await
        .map_err(|error| Failure::unknown(&error))?;
    Ok(())
}

/// Tells the product that an attempt failed: `operation` `creation`, with the id the connection would have had, or
/// `override`, if an existing connection was to be authorized again.
async fn announce_failure(context: &Context, attempt: &AuthAttempt, failure: &Failure) {
    let Ok(Some(environment)) = crate::environments::get(context, attempt.environment_id).await else {
        return;
    };
    let (attempt, ambient) = (attempt.clone(), context.ambient.clone());
    let (webhook_type, message) = (failure.webhook_type, failure.message.clone());
    let written: Result<(), DbError> = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let session = match attempt.connect_session {
                    Some(id) => connect_sessions::find(tx, id).await?,
                    None => None,
                };
                let spec = session.as_ref().map(|session| &session.spec);
                let bound = match session.as_ref().and_then(|session| session.connection) {
                    Some(row) => connections::find_by_row(tx, row).await?,
                    None => None,
                };
                let conclusion = Conclusion {
                    environment: environment.id,
                    integration: attempt.integration_id,
                    connection: bound.as_ref().map(|connection| connection.id),
                    state: OperationState::Failed,
                    text: &message,
                };
                let fresh = OperationId(ambient.time_ordered_uuid().to_string());
                let log = conclude(tx, attempt.operation_id, fresh, &conclusion).await?;
                let own_tags = bound.as_ref().map(|connection| &connection.tags);
                let own_url = bound
                    .as_ref()
                    .and_then(|connection| connection.webhook_url_override.as_deref());
                let event = AuthEvent {
                    environment: &environment,
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
                    error: Some((webhook_type, &message)),
                    log: Some(&log),
                };
                enqueue_auth(tx, &event, || DeliveryId(ambient.time_ordered_uuid().to_string())).await
            })
        })
        .await;
    if let Err(error) = written {
        tracing::warn!(%error, "a failed attempt could not be announced");
    }
}
