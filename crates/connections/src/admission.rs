//! What every way of connecting checks first (auth-flows §4): session, integration, provider, mode, parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use patchbay_catalog::Provider;
use patchbay_catalog::forms::{FieldError, Submission as Values};
use patchbay_store::db::DbError;
use patchbay_types::connect_sessions::{ConnectSession, IntegrationDefaults};
use patchbay_types::connections::{Change, Connection};
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::{AuthMode, ConnectionId, JsonMap, Secret, Tags};
use serde_json::Value;

use crate::context::Context;
use crate::{connect_forms, connect_sessions, connections, environments, integrations};

/// Keys of `params` that a browser may not set: they steer the server (auth-flows §8.6).
const RESERVED: &[&str] = &[
    "webhook_url",
    "oauth_client_id_override",
    "oauth_client_secret_override",
    "oauth_refresh_token_override",
    "pending",
    "pendingLog",
    "userCredentials",
    "jwtToken",
    "oauth_metadata",
    "oauth_client_info",
    "oauth_code_verifier",
    "sharepointAccessToken",
    "botFrameworkAccessToken",
    "overrideTokenRefresh",
    "oauth_scopes_override",
];

/// Why an end user may not connect like this.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The environment is gone.
    #[error("the environment of this session no longer exists")]
    UnknownEnvironment,
    /// No such integration.
    #[error("no such integration")]
    UnknownIntegration,
    /// The integration's provider is not in the catalogue.
    #[error("the integration's provider is not in the catalogue")]
    UnknownProvider,
    /// The provider does not authenticate this way.
    #[error("this provider authenticates by {0}, which this endpoint does not serve")]
    WrongMode(AuthMode),
    /// The session does not allow the integration.
    #[error("this session does not allow the integration")]
    NotAllowed,
    /// The connection to re-authorize is gone.
    #[error("the connection to re-authorize no longer exists")]
    ConnectionGone,
    /// Parameters or credentials break the provider's field rules.
    #[error("some fields are not valid")]
    Fields(Vec<FieldError>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

/// What a browser asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Integration.
    pub provider_config_key: String,
    /// `params[…]`, strings only.
    pub params: BTreeMap<String, String>,
    /// `authorization_params[…]`; the text `undefined` removes one.
    pub authorization_params: BTreeMap<String, String>,
    /// `credentials[oauth_…_override]`.
    pub client_override: BTreeMap<String, Secret>,
    /// Credentials of a form; empty for a popup.
    pub credentials: JsonMap,
    /// `assertionOption` of a form: used once, never stored.
    pub assertion_option: JsonMap,
}

/// A wish that was granted.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) session: ConnectSession,
    pub(crate) environment: Arc<Environment>,
    pub(crate) integration: Arc<Integration>,
    pub(crate) provider: Arc<Provider>,
    /// New, or the one a reconnect session is bound to.
    pub(crate) connection_id: ConnectionId,
    /// The connection a reconnect session is bound to.
    pub(crate) bound: Option<Connection>,
    /// Browser's `params` under the session's presets.
    pub(crate) connection_config: JsonMap,
    /// The session's presets alone.
    pub(crate) presets: JsonMap,
    pub(crate) authorization_params: BTreeMap<String, String>,
    pub(crate) client_override: BTreeMap<String, Secret>,
    /// Credentials of a form, as they are to be used.
    pub(crate) credentials: JsonMap,
    /// Values of a form used once, never stored.
    pub(crate) assertion_option: JsonMap,
    /// Slack's.
    pub(crate) user_scopes: Option<String>,
}

impl Admission {
    pub(crate) fn mode(&self) -> AuthMode {
        self.provider.definition.auth_mode
    }

    /// Tags of the stored connection: the session's, or what is there.
    pub(crate) fn tags(session: &ConnectSession) -> Change<Tags> {
        session.spec.tags.clone().map_or(Change::Keep, Change::Set)
    }

    /// Webhook override of the stored connection: the session's, or what is there.
    pub(crate) fn webhook_url_override(session: &ConnectSession) -> Change<Option<String>> {
        match &session.spec.webhook_url_override {
            Some(url) if url.is_empty() => Change::Set(None),
            Some(url) => Change::Set(Some(url.clone())),
            None => Change::Keep,
        }
    }
}

/// Checks a wish in the contract's order and merges the session's presets into it ("session always wins").
pub(crate) async fn admit(
    context: &Context,
    session: ConnectSession,
    wish: Wish,
    serves: impl Fn(AuthMode) -> bool + Send,
) -> Result<Admission, Refusal> {
    let environment = environments::get(context, session.environment_id)
        .await?
        .ok_or(Refusal::UnknownEnvironment)?;
    let integration = integrations::get(context, session.environment_id, &wish.provider_config_key)
        .await?
        .ok_or(Refusal::UnknownIntegration)?;
    let provider = context
        .catalogue
        .get(integration.provider.as_str())
        .ok_or(Refusal::UnknownProvider)?;
    let mode = provider.definition.auth_mode;
    if !serves(mode) {
        return Err(Refusal::WrongMode(mode));
    }
    let allowed = session.spec.allowed_integrations.as_deref().unwrap_or_default();
    if !allowed.is_empty() && !allowed.contains(&integration.unique_key) {
        return Err(Refusal::NotAllowed);
    }
    let bound = match session.connection {
        Some(_) => {
            let bound = connect_sessions::bound_connection(context, &session).await?;
            Some(bound.ok_or(Refusal::ConnectionGone)?)
        }
        None => None,
    };
    let connection_id = match &bound {
        Some(bound) => bound.connection_id.clone(),
        None => connections::fresh_id(context),
    };
    let defaults = session
        .spec
        .integrations_config_defaults
        .as_ref()
        .and_then(|defaults| defaults.get(integration.unique_key.as_str()))
        .cloned()
        .unwrap_or_default();
    let IntegrationDefaults {
        user_scopes,
        authorization_params,
        connection_config: presets,
    } = defaults;
    let mut presets = presets.unwrap_or_default();
    let mut connection_config: JsonMap = wish
        .params
        .into_iter()
        .filter(|(name, _)| !RESERVED.contains(&name.as_str()))
        // What the provider or the operator fills in; a token URL may be made of it.
        .filter(|(name, _)| {
            let field = provider.definition.connection_config.get(name);
            field.is_none_or(|field| !field.automated)
        })
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    connection_config.extend(presets.clone());
    let form = connect_forms::derive(&integration, &provider.definition, Some(&presets), None);
    let values = Values {
        credentials: wish.credentials,
        connection_config,
        assertion_option: wish.assertion_option,
    };
    let Values {
        credentials,
        mut connection_config,
        assertion_option,
    } = form.accept(&values).map_err(Refusal::Fields)?;
    let mut client_override = wish.client_override;
    for (name, value) in &presets {
        let overrides =
            name.starts_with("oauth_") && name.ends_with("_override") && name != "oauth_scopes_override";
        if overrides && let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
            client_override
                .entry(name.clone())
                .or_insert_with(|| value.into());
        }
    }
    let is_setting = |name: &str| {
        !matches!(
            name,
            "oauth_client_id_override" | "oauth_client_secret_override" | "oauth_refresh_token_override"
        )
    };
    connection_config.retain(|name, _| is_setting(name));
    presets.retain(|name, _| is_setting(name));
    Ok(Admission {
        authorization_params: authorization_params.unwrap_or(wish.authorization_params),
        session,
        environment,
        integration,
        provider,
        connection_id,
        bound,
        connection_config,
        presets,
        client_override,
        credentials,
        assertion_option,
        user_scopes,
    })
}
