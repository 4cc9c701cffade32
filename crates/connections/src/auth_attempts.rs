//! The popup flow: redirect to the provider, callback, connection (auth-flows §5 to §8).
//!
//! States of an attempt: *begun* (row written, browser redirected) -> *taken* (row deleted by the callback, before
//! anything else, so that a second callback finds nothing) -> connection stored, or refused. The exchange runs in a
//! tracked task: a browser that closes the window does not lose a grant that the provider already gave.
//!
//! What differs by auth mode, where the browser goes and what its return means, is in one module a mode.

mod app;
mod mcp;
mod oauth1;
mod oauth2;
mod plugin;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use patchbay_auth::app::AppError;
use patchbay_auth::driver::{DiscoveryError, ExchangeInput};
use patchbay_auth::modes::{self, Entry};
use patchbay_auth::oauth1::handshake::HandshakeError;
use patchbay_auth::oauth2::authorize;
use patchbay_catalog::Definition;
use patchbay_store::db::DbError;
use patchbay_store::{auth_attempts, connect_sessions, integrations};
use patchbay_types::auth_attempts::{AuthAttempt, ConnectUiPage, ReturnToPage};
use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::connections::{Change, Connection, ConnectionUpsert};
use patchbay_types::integrations::Integration;
use patchbay_types::{AuthAttemptId, AuthMode, ConnectionId, Credentials, JsonMap, Secret};
use serde_json::Value;
use url::Url;

use crate::admission::{Admission, Refusal, Wish, admit};
use crate::auth_outcomes::{self, Awaited};
use crate::connections::{Ended, NewConnection, expiry_to_check, store};
use crate::context::{Context, StateCookie};
use crate::failed_attempts::{self, FailedAttempt};
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
    /// OAuth 1: the provider gave no request token.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// APP and CUSTOM: the page on which to install cannot be addressed.
    #[error(transparent)]
    App(#[from] AppError),
    /// MCP_OAUTH2_GENERIC: the server does not say how to sign in.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
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
                Refusal::NotAllowed => "integration_not_allowed",
                Refusal::ConnectionGone => "invalid_connection",
                Refusal::Fields(_) => "url_param_err",
                Refusal::Store(_) => "server_error",
            },
            Self::Authorize(error) => error.code(),
            Self::Handshake(error) => error.code(),
            Self::App(error) => error.code(),
            Self::Discovery(error) => error.code(),
            Self::Store(_) => "server_error",
        }
    }
}

/// Who waits for the outcome of an attempt.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// The WebSocket.
    pub ws_client_id: Option<String>,
    /// The page of the Connect UI.
    pub connect_ui: Option<ConnectUiPage>,
}

/// Starts an attempt: checks the wish, remembers what the callback will need, answers where to send the browser.
pub async fn begin(
    context: &Arc<Context>,
    session: ConnectSession,
    wish: Wish,
    waiting: Waiting,
) -> Result<Redirect, BeginError> {
    let serves = |mode| modes::mode(mode).entry == Entry::Popup;
    let admission = admit(context, session, wish, serves).await?;
    let mut random = [0; 32];
    context.ambient.entropy.fill(&mut random);
    let state = BASE64URL_NOPAD.encode(&random);
    let callback_url = context.callback_url(&admission.environment);
    let departing = Departing {
        context,
        admission: &admission,
        state: &state,
        callback_url: &callback_url,
    };
    let departure = match admission.mode() {
        AuthMode::OAuth1 => oauth1::depart(&departing).await?,
        AuthMode::App | AuthMode::Custom => app::depart(&departing)?,
        AuthMode::McpOAuth2Generic => mcp::depart(&departing).await?,
        AuthMode::InstallPlugin => plugin::depart(&departing)?,
        _ => oauth2::depart(&departing)?,
    };
    let attempt = AuthAttempt {
        environment_id: admission.environment.id,
        integration_id: admission.integration.id,
        integration_key: admission.integration.unique_key.clone(),
        provider: admission.integration.provider.clone(),
        auth_mode: admission.mode(),
        connection_id: admission.connection_id,
        callback_url,
        code_verifier: departure.code_verifier,
        request_token_secret: departure.request_token_secret,
        connection_config: departure.connection_config.unwrap_or(admission.connection_config),
        client_override: departure.client_override.unwrap_or(admission.client_override),
        connect_session: Some(admission.session.id),
        ws_client_id: waiting.ws_client_id,
        connect_ui: waiting.connect_ui,
        operation_id: admission.session.operation_id.clone(),
        created_at: context.ambient.now(),
    };
    let id = AuthAttemptId(state.clone());
    context
        .store
        .write(move |tx| Box::pin(async move { auth_attempts::put(tx, &id, &attempt).await }))
        .await?;
    Ok(Redirect {
        url: departure.url,
        state,
    })
}

/// What a mode makes its redirect of.
struct Departing<'a> {
    context: &'a Context,
    admission: &'a Admission,
    state: &'a str,
    callback_url: &'a str,
}

/// Where the browser goes, and what the callback will need beside the admission.
struct Departure {
    url: Url,
    code_verifier: Option<Secret>,
    request_token_secret: Option<Secret>,
    /// Instead of the admission's.
    connection_config: Option<JsonMap>,
    /// Instead of the admission's.
    client_override: Option<BTreeMap<String, Secret>>,
}

impl Departure {
    fn to(url: Url) -> Self {
        Self {
            url,
            code_verifier: None,
            request_token_secret: None,
            connection_config: None,
            client_override: None,
        }
    }
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
        /// An owner has yet to approve the installation.
        is_pending: bool,
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

impl CallbackQuery {
    /// The attempt's `state`, under the names providers give it.
    fn state(&self) -> Option<&str> {
        ["state", "payload", "customField"]
            .iter()
            .find_map(|name| self.params.get(*name))
            .filter(|state| !state.is_empty())
            .map(String::as_str)
    }
}

/// A finished attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// How it ended.
    pub outcome: CallbackOutcome,
    /// The page of the Connect UI that waits for the browser, with the name it gave the attempt.
    pub back: Option<(String, ReturnToPage)>,
}

/// Finishes an attempt: takes it, exchanges the code, stores the connection, tells the waiting browser.
pub async fn callback(context: &Arc<Context>, query: CallbackQuery) -> Finished {
    let failed = |error_type, message: &str| Finished {
        outcome: CallbackOutcome::Failed {
            error_type,
            message: message.to_owned(),
        },
        back: None,
    };
    let Some(state) = query.state() else {
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
    let id = AuthAttemptId(state.to_owned());
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
    // Only the browser that began the attempt gets back what it brought.
    let back = attempt.connect_ui.clone().filter(|_| query.has_state_cookie);
    let back = back.and_then(|page| Some((page.attempt, page.back?)));
    // The browser may close while the provider is asked; the grant must not be lost with it.
    let finishing = context.clone();
    let task = context
        .ambient
        .tasks
        .spawn(async move { Box::pin(finish(&finishing, attempt, query)).await });
    let outcome = task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a callback ended unexpectedly");
        CallbackOutcome::Failed {
            error_type: "unknown_err",
            message: "Something unexpected happened. Please start again.".to_owned(),
        }
    });
    Finished { outcome, back }
}

async fn finish(context: &Arc<Context>, attempt: AuthAttempt, query: CallbackQuery) -> CallbackOutcome {
    let (outcome, result) = match complete(context, &attempt, &query).await {
        Ok(Connected { stored, is_pending }) => (
            CallbackOutcome::Connected {
                provider_config_key: stored.integration_key.to_string(),
                connection_id: stored.connection_id.to_string(),
                is_pending,
            },
            AuthResult::success(&stored, is_pending),
        ),
        Err(failure) => {
            let result = AuthResult::Error {
                provider_config_key: Some(attempt.integration_key.to_string()),
                connection_id: Some(attempt.connection_id.to_string()),
                error_type: failure.error_type.to_owned(),
                error_desc: failure.message.clone(),
            };
            announce_failure(context, &attempt, &failure, &result).await;
            let outcome = CallbackOutcome::Failed {
                error_type: failure.error_type,
                message: failure.message,
            };
            (outcome, result)
        }
    };
    if let Some(ws_client_id) = &attempt.ws_client_id {
        context.results.publish(ws_client_id, result).await;
    }
    outcome
}

/// The page that waits for the attempt, if it is our own.
fn awaited(attempt: &AuthAttempt) -> Option<Awaited> {
    Some(Awaited {
        session: attempt.connect_session?,
        attempt: attempt.connect_ui.as_ref()?.attempt.clone(),
    })
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

/// A callback whose attempt is known, with all that it needs.
struct Arriving<'a> {
    context: &'a Arc<Context>,
    attempt: &'a AuthAttempt,
    query: &'a CallbackQuery,
    definition: &'a Definition,
    integration: &'a Integration,
}

/// What a callback brought.
struct Arrival {
    credentials: Credentials,
    connection_config: JsonMap,
    /// A connection that was there before, instead of the attempt's. Its labels are its own.
    existing: Option<ConnectionId>,
    /// An owner has yet to approve.
    is_pending: bool,
}

impl Arrival {
    fn new(credentials: Credentials, connection_config: JsonMap) -> Self {
        Self {
            credentials,
            connection_config,
            existing: None,
            is_pending: false,
        }
    }
}

/// A connection that was stored.
struct Connected {
    stored: Connection,
    is_pending: bool,
}

impl Arriving<'_> {
    /// A query parameter that is there and not empty.
    fn param(&self, name: &str) -> Option<&str> {
        let value = self.query.params.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// What the code is exchanged with; `config` is what is known of the connection by now.
    fn exchange<'a>(&'a self, code: &'a str, config: &'a JsonMap) -> ExchangeInput<'a> {
        ExchangeInput {
            definition: self.definition,
            secrets: &self.integration.secrets,
            connection_config: config,
            client_override: &self.attempt.client_override,
            code,
            code_verifier: self.attempt.code_verifier.as_ref(),
            callback_url: &self.attempt.callback_url,
            state: self.query.state().unwrap_or_default(),
        }
    }

    /// The callback lacks what it should bring; with what the provider says about it.
    fn incomplete(&self, lacks: &str) -> Failure {
        let told: Vec<String> = PROVIDER_ERRORS
            .iter()
            .filter_map(|name| Some(format!("{name}: {}", self.query.params.get(*name)?)))
            .collect();
        let message = format!("The provider sent no {lacks}; {}", told.join("; "));
        Failure::new(
            "callback_err",
            "invalid_callback",
            message.trim_end_matches("; ").to_owned(),
        )
    }

    /// `redirect_uri_metadata`, as far as it looks as the definition says: it comes through the end user's browser,
    /// and secrets may be sent to an address made of it.
    fn callback_metadata(&self) -> JsonMap {
        let fields = &self.definition.connection_config;
        let mut found = JsonMap::new();
        for name in &self.definition.redirect_uri_metadata {
            let Some(value) = self.query.params.get(name) else {
                continue;
            };
            let pattern = fields.get(name).and_then(|field| field.pattern.as_ref());
            if pattern.is_some_and(|pattern| !pattern.matches(value)) {
                tracing::warn!(
                    name,
                    "a value of the callback does not look as the definition says"
                );
                continue;
            }
            found.insert(name.clone(), Value::String(value.clone()));
        }
        found
    }
}

async fn complete(
    context: &Arc<Context>,
    attempt: &AuthAttempt,
    query: &CallbackQuery,
) -> Result<Connected, Failure> {
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
    let arriving = Arriving {
        context,
        attempt,
        query,
        definition: &provider.definition,
        integration: &integration,
    };
    let arrival = match attempt.auth_mode {
        AuthMode::OAuth1 => oauth1::arrive(&arriving).await?,
        AuthMode::App => app::arrive(&arriving).await?,
        AuthMode::Custom => app::arrive_with_user(&arriving).await?,
        AuthMode::McpOAuth2Generic => mcp::arrive(&arriving).await?,
        AuthMode::InstallPlugin => plugin::arrive(&arriving).await?,
        _ => oauth2::arrive(&arriving).await?,
    };
    let is_pending = arrival.is_pending;
    // A connection that the session is not bound to keeps its own labels.
    let foreign = arrival
        .existing
        .as_ref()
        .is_some_and(|id| *id != attempt.connection_id);
    let spec = session.as_ref().filter(|_| !foreign);
    let connection_id = arrival.existing.unwrap_or_else(|| attempt.connection_id.clone());
    let new = NewConnection {
        auth_mode: attempt.auth_mode,
        upsert: ConnectionUpsert {
            integration_id: integration.id,
            connection_id,
            credentials_expires_at: expiry_to_check(&arrival.credentials, context.ambient.now()),
            credentials: arrival.credentials,
            connection_config: arrival.connection_config,
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
        ends: awaited(attempt).map(|awaited| Ended { awaited, is_pending }),
    };
    let stored = store(context, &environment, new)
        .await
        .map_err(|error| Failure::unknown(&error))?;
    Ok(Connected { stored, is_pending })
}

async fn announce_failure(context: &Context, attempt: &AuthAttempt, failure: &Failure, result: &AuthResult) {
    let ends = awaited(attempt).map(|awaited| (awaited, result.clone()));
    let Ok(Some(environment)) = crate::environments::get(context, attempt.environment_id).await else {
        if let Some((awaited, result)) = ends {
            auth_outcomes::note(context, awaited, result).await;
        }
        return;
    };
    let failed = FailedAttempt {
        environment,
        integration: attempt.integration_id,
        integration_key: attempt.integration_key.clone(),
        provider: attempt.provider.clone(),
        auth_mode: attempt.auth_mode,
        connection_id: attempt.connection_id.clone(),
        session: attempt.connect_session,
        operation: attempt.operation_id.clone(),
        ends,
    };
    failed_attempts::announce(context, failed, failure.webhook_type, &failure.message).await;
}
