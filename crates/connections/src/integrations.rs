//! Integrations: providers configured in an environment (api-core §8).

use std::collections::BTreeMap;
use std::sync::Arc;

use patchbay_auth::driver::{self, ClientProfile};
use patchbay_catalog::Provider;
use patchbay_catalog::definition::ClientRegistration;
use patchbay_catalog::integration_config::{self, Stage};
use patchbay_store::db::DbError;
use patchbay_store::integrations;
use patchbay_types::integrations::{Integration, IntegrationSecrets};
use patchbay_types::{AuthMode, EnvironmentId, IntegrationKey, ProviderName, Secret};

use crate::caches::{Changed, Entry};
use crate::context::Context;
use crate::{client_metadata, environments};

/// `custom` key that holds the secret a provider signs its webhooks with.
pub const WEBHOOK_SECRET: &str = "webhookSecret";

/// Why an integration could not be made, changed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum IntegrationError {
    /// The catalogue has no such provider.
    #[error("the provider is not in the catalogue")]
    UnknownProvider,
    /// No such integration in this environment.
    #[error("no such integration")]
    Unknown,
    /// The credentials' type is not the provider's auth mode.
    #[error("the provider takes credentials of type {expected}, not {given}")]
    WrongCredentials {
        /// The provider's mode.
        expected: AuthMode,
        /// What was sent.
        given: AuthMode,
    },
    /// The provider cannot be used without the operator's app.
    #[error("this provider needs `credentials` of type {0}")]
    CredentialsRequired(AuthMode),
    /// A live integration has the key.
    #[error("an integration with this unique key exists")]
    KeyTaken,
    /// A live connection would lose its name.
    #[error("the unique key cannot change while connections exist")]
    InUse,
    /// `integration_config` or `custom` does not fit; all problems in words.
    #[error("{0}")]
    Config(String),
    /// Only redirect modes can use a shared developer app.
    #[error("providers of type {0} have no shared developer apps")]
    NotShareable(AuthMode),
    /// No shared developer app is configured for the provider.
    #[error("no shared developer app is configured for this provider")]
    NoSharedApp,
    /// The provider did not take us as a client.
    #[error("{0}")]
    NotRegistered(String),
    /// The store failed.
    #[error(transparent)]
    Store(DbError),
}

impl From<DbError> for IntegrationError {
    /// Of two requests for one key, one may get as far as the unique index.
    fn from(error: DbError) -> Self {
        match error {
            DbError::Conflict { constraint } if constraint == "integration_live_key" => Self::KeyTaken,
            error => Self::Store(error),
        }
    }
}

/// The operator's app as the wire sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppCredentials {
    /// OAUTH1, OAUTH2, OAUTH2_CC, TBA, MCP_OAUTH2.
    OAuth {
        /// Which of them.
        mode: AuthMode,
        /// Client id.
        client_id: Option<String>,
        /// Client secret.
        client_secret: Option<Secret>,
        /// Comma-separated; blank takes the provider's defaults.
        scopes: Option<String>,
        /// Secret of incoming webhooks.
        webhook_secret: Option<String>,
    },
    /// APP.
    App {
        /// App id.
        app_id: String,
        /// Public page.
        app_link: String,
        /// PEM.
        private_key: Secret,
    },
    /// CUSTOM.
    Custom {
        /// OAuth client id.
        client_id: String,
        /// OAuth client secret.
        client_secret: Secret,
        /// App id.
        app_id: String,
        /// Public page.
        app_link: String,
        /// PEM.
        private_key: Secret,
    },
    /// INSTALL_PLUGIN.
    Plugin {
        /// Page from which the plugin is installed.
        app_link: String,
        /// What the plugin authenticates with.
        username: String,
        /// See `username`.
        password: Secret,
    },
}

impl AppCredentials {
    /// The auth mode they belong to.
    pub fn mode(&self) -> AuthMode {
        match self {
            Self::OAuth { mode, .. } => *mode,
            Self::App { .. } => AuthMode::App,
            Self::Custom { .. } => AuthMode::Custom,
            Self::Plugin { .. } => AuthMode::InstallPlugin,
        }
    }
}

/// What a new integration is.
#[derive(Clone, Debug, PartialEq)]
pub struct NewIntegration {
    /// Catalogue entry.
    pub provider: String,
    /// Unique among the environment's live integrations.
    pub unique_key: IntegrationKey,
    /// Own name.
    pub display_name: Option<String>,
    /// Forward provider webhooks to the app.
    pub forward_webhooks: bool,
    /// The operator's app.
    pub credentials: Option<AppCredentials>,
    /// Values of the provider's `integration_config`.
    pub integration_config: Option<BTreeMap<String, String>>,
    /// Free values, for providers without `integration_config`.
    pub custom: Option<BTreeMap<String, String>>,
}

/// Changes to an integration; absent fields stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntegrationPatch {
    /// New key; refused while connections exist.
    pub unique_key: Option<IntegrationKey>,
    /// New name.
    pub display_name: Option<String>,
    /// Forward provider webhooks to the app.
    pub forward_webhooks: Option<bool>,
    /// New app.
    pub credentials: Option<AppCredentials>,
    /// Submitted values only; empty text clears an optional one.
    pub integration_config: Option<BTreeMap<String, String>>,
    /// Merged over the stored values.
    pub custom: Option<BTreeMap<String, String>>,
}

/// Makes an integration.
pub async fn create(
    context: &Context,
    environment: EnvironmentId,
    new: NewIntegration,
) -> Result<Integration, IntegrationError> {
    let provider = context
        .catalogue
        .get(&new.provider)
        .ok_or(IntegrationError::UnknownProvider)?;
    let mode = provider.definition.auth_mode;
    let mut secrets = IntegrationSecrets::default();
    match &new.credentials {
        Some(credentials) => {
            check_mode(credentials, mode)?;
            apply(&mut secrets, credentials, &provider);
        }
        None if needs_app(mode) => return Err(IntegrationError::CredentialsRequired(mode)),
        None => {}
    }
    merge_config(
        &mut secrets,
        &provider,
        new.integration_config.as_ref(),
        new.custom.as_ref(),
        Stage::Create,
    )?;
    become_client(context, environment, &provider, &new.unique_key, &mut secrets).await?;
    insert(context, environment, &provider, new, secrets).await
}

/// Makes an integration on a developer app shared by the operator. Only redirect modes have such apps; none is
/// configured on a self-hosted server unless the operator adds one.
pub async fn create_quickstart(
    context: &Context,
    environment: EnvironmentId,
    provider: &str,
    unique_key: &IntegrationKey,
) -> Result<Integration, IntegrationError> {
    let provider = context
        .catalogue
        .get(provider)
        .ok_or(IntegrationError::UnknownProvider)?;
    let mode = provider.definition.auth_mode;
    if !matches!(mode, AuthMode::OAuth1 | AuthMode::OAuth2 | AuthMode::App) {
        return Err(IntegrationError::NotShareable(mode));
    }
    if get(context, environment, unique_key.as_str()).await?.is_some() {
        return Err(IntegrationError::KeyTaken);
    }
    Err(IntegrationError::NoSharedApp)
}

/// The live integrations of an environment, by provider, then by age.
pub async fn list(context: &Context, environment: EnvironmentId) -> Result<Vec<Integration>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { integrations::list(tx, environment).await }))
        .await
}

/// One live integration, cached.
pub async fn get(
    context: &Context,
    environment: EnvironmentId,
    key: &str,
) -> Result<Option<Arc<Integration>>, DbError> {
    if let Some(integration) = context.caches.integration(environment, key) {
        return Ok(Some(integration));
    }
    let epoch = context.caches.epoch(&(environment, key));
    let owned = key.to_owned();
    let found = context
        .store
        .read(move |tx| Box::pin(async move { integrations::find_by_key(tx, environment, &owned).await }))
        .await?;
    let Some(integration) = found.map(Arc::new) else {
        return Ok(None);
    };
    context
        .caches
        .fill(epoch, Entry::Integration(integration.clone()));
    Ok(Some(integration))
}

/// Changes an integration.
pub async fn update(
    context: &Context,
    environment: EnvironmentId,
    key: &str,
    patch: IntegrationPatch,
) -> Result<Integration, IntegrationError> {
    let owned = key.to_owned();
    let catalogue = context.catalogue.clone();
    let renamed_client = match &patch.unique_key {
        Some(new_key) => {
            let found = environments::get(context, environment).await?;
            found.and_then(|found| client_metadata::address_of(context, &found, new_key.as_str()))
        }
        None => None,
    };
    let updated = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut integration = integrations::find_by_key(tx, environment, &owned)
                    .await?
                    .ok_or(IntegrationError::Unknown)?;
                let provider = catalogue
                    .get(integration.provider.as_str())
                    .ok_or(IntegrationError::UnknownProvider)?;
                if let Some(credentials) = &patch.credentials {
                    check_mode(credentials, provider.definition.auth_mode)?;
                    apply(&mut integration.secrets, credentials, &provider);
                }
                if let Some(new_key) = patch.unique_key
                    && new_key != integration.unique_key
                {
                    if integrations::find_by_key(tx, environment, new_key.as_str())
                        .await?
                        .is_some()
                    {
                        return Err(IntegrationError::KeyTaken);
                    }
                    if integrations::count_live_connections(tx, integration.id).await? > 0 {
                        return Err(IntegrationError::InUse);
                    }
                    if provider.definition.client_registration == Some(ClientRegistration::Cimd) {
                        // The document's address has the key in it.
                        integration.secrets.client_id = renamed_client;
                    }
                    integration.unique_key = new_key;
                }
                merge_config(
                    &mut integration.secrets,
                    &provider,
                    patch.integration_config.as_ref(),
                    patch.custom.as_ref(),
                    Stage::Update,
                )?;
                if let Some(name) = patch.display_name {
                    integration.display_name = Some(name);
                }
                if let Some(forward) = patch.forward_webhooks {
                    integration.forward_webhooks = forward;
                }
                integration.updated_at = tx.now();
                integrations::update(tx, &integration).await?;
                tx.notify(Changed::Everything.notice());
                Ok(integration)
            })
        })
        .await?;
    context.caches.forget(&Changed::Everything);
    Ok(updated)
}

/// Deletes an integration and its connections, without per-connection hooks or webhooks.
pub async fn delete(
    context: &Context,
    environment: EnvironmentId,
    key: &str,
) -> Result<(), IntegrationError> {
    let owned = key.to_owned();
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let integration = integrations::find_by_key(tx, environment, &owned)
                    .await?
                    .ok_or(IntegrationError::Unknown)?;
                integrations::soft_delete(tx, integration.id).await?;
                tx.notify(Changed::Everything.notice());
                Ok::<_, IntegrationError>(())
            })
        })
        .await?;
    context.caches.forget(&Changed::Everything);
    Ok(())
}

/// Modes that cannot work without the operator's app (api-core §8.4).
fn needs_app(mode: AuthMode) -> bool {
    matches!(
        mode,
        AuthMode::OAuth1 | AuthMode::OAuth2 | AuthMode::App | AuthMode::Custom
    )
}

fn check_mode(credentials: &AppCredentials, expected: AuthMode) -> Result<(), IntegrationError> {
    let given = credentials.mode();
    if given == expected {
        Ok(())
    } else {
        Err(IntegrationError::WrongCredentials { expected, given })
    }
}

fn apply(secrets: &mut IntegrationSecrets, credentials: &AppCredentials, provider: &Provider) {
    match credentials {
        AppCredentials::OAuth {
            mode,
            client_id,
            client_secret,
            scopes,
            webhook_secret,
        } => {
            if client_id.is_some() {
                secrets.client_id.clone_from(client_id);
            }
            if client_secret.is_some() {
                secrets.client_secret.clone_from(client_secret);
            }
            match scopes.as_deref() {
                Some(scopes) if !scopes.is_empty() => secrets.scopes = Some(scopes.to_owned()),
                Some(_) => secrets.scopes = default_scopes(provider),
                None if secrets.scopes.is_none() => secrets.scopes = default_scopes(provider),
                None => {}
            }
            match webhook_secret.as_deref() {
                Some("") if *mode == AuthMode::OAuth2 => {
                    secrets.custom.remove(WEBHOOK_SECRET);
                }
                Some(secret) if !secret.is_empty() => {
                    secrets.custom.insert(WEBHOOK_SECRET.to_owned(), secret.into());
                }
                _ => {}
            }
        }
        AppCredentials::App {
            app_id,
            app_link,
            private_key,
        } => {
            secrets.client_id = Some(app_id.clone());
            secrets.client_secret = Some(private_key.clone());
            secrets.app_link = Some(app_link.clone());
        }
        AppCredentials::Custom {
            client_id,
            client_secret,
            app_id,
            app_link,
            private_key,
        } => {
            secrets.client_id = Some(client_id.clone());
            secrets.client_secret = Some(client_secret.clone());
            secrets.app_id = Some(app_id.clone());
            secrets.app_link = Some(app_link.clone());
            secrets.private_key = Some(private_key.clone());
        }
        AppCredentials::Plugin {
            app_link,
            username,
            password,
        } => {
            secrets.app_link = Some(app_link.clone());
            let custom = &mut secrets.custom;
            custom.insert("username".to_owned(), username.as_str().into());
            custom.insert("password".to_owned(), password.clone());
        }
    }
}

/// MCP_OAUTH2: makes us a client of the provider, unless the operator did (auth-flows §12.1).
async fn become_client(
    context: &Context,
    environment: EnvironmentId,
    provider: &Provider,
    key: &IntegrationKey,
    secrets: &mut IntegrationSecrets,
) -> Result<(), IntegrationError> {
    let definition = &provider.definition;
    if definition.auth_mode != AuthMode::McpOAuth2 {
        return Ok(());
    }
    if secrets.scopes.is_none() {
        secrets.scopes = default_scopes(provider);
    }
    let environment = environments::get(context, environment)
        .await?
        .ok_or(IntegrationError::Unknown)?;
    match definition.client_registration {
        Some(ClientRegistration::Dynamic) if secrets.client_id.is_none() => {
            let endpoint = definition.registration_url.as_deref().unwrap_or_default();
            let profile = ClientProfile {
                name: format!("Patchbay - {} - {}", environment.name, definition.display_name),
                ..ClientProfile::default()
            };
            let client = driver::register_client(
                &context.token_client,
                endpoint,
                &context.callback_url(&environment),
                &profile,
                &definition.registration_params,
                &context.ambient,
            )
            .await
            .map_err(|error| IntegrationError::NotRegistered(error.to_string()))?;
            secrets.client_id = Some(client.id);
            secrets.client_secret = client.secret;
        }
        Some(ClientRegistration::Cimd) => {
            let address = client_metadata::address_of(context, &environment, key.as_str());
            secrets.client_id = Some(address.ok_or_else(|| {
                IntegrationError::Config(
                    "this provider reads our client id metadata document: set the public URL to an https address"
                        .to_owned(),
                )
            })?);
            secrets.client_secret = None;
        }
        _ => {}
    }
    Ok(())
}

fn default_scopes(provider: &Provider) -> Option<String> {
    let scopes = &provider.definition.default_scopes;
    if scopes.is_empty() {
        None
    } else {
        Some(scopes.join(","))
    }
}

fn merge_config(
    secrets: &mut IntegrationSecrets,
    provider: &Provider,
    config: Option<&BTreeMap<String, String>>,
    custom: Option<&BTreeMap<String, String>>,
    stage: Stage,
) -> Result<(), IntegrationError> {
    let config = config.filter(|config| !config.is_empty());
    let declares = !provider.definition.integration_config.is_empty();
    if config.is_some() && !declares {
        return Err(IntegrationError::Config(
            "this provider takes no integration_config".to_owned(),
        ));
    }
    if custom.is_some_and(|custom| !custom.is_empty()) && declares {
        return Err(IntegrationError::Config(
            "this provider takes integration_config instead of custom".to_owned(),
        ));
    }
    if declares && (config.is_some() || stage == Stage::Create) {
        let empty = BTreeMap::new();
        let submitted = config.unwrap_or(&empty);
        integration_config::resolve(
            &provider.definition.integration_config,
            submitted,
            &secrets.custom,
            stage,
        )
        .map_err(|invalid| IntegrationError::Config(invalid.to_string()))?
        .apply_to(&mut secrets.custom);
    }
    for (name, value) in custom.into_iter().flatten() {
        secrets.custom.insert(name.clone(), value.as_str().into());
    }
    Ok(())
}

async fn insert(
    context: &Context,
    environment: EnvironmentId,
    provider: &Provider,
    new: NewIntegration,
    secrets: IntegrationSecrets,
) -> Result<Integration, IntegrationError> {
    let provider = ProviderName::parse(&provider.name)
        .map_err(|error| IntegrationError::Config(format!("the provider's name {error}")))?;
    let created = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                if integrations::find_by_key(tx, environment, new.unique_key.as_str())
                    .await?
                    .is_some()
                {
                    return Err(IntegrationError::KeyTaken);
                }
                let integration = integrations::insert(
                    tx,
                    &integrations::NewIntegration {
                        environment_id: environment,
                        unique_key: new.unique_key,
                        provider,
                        display_name: new.display_name,
                        forward_webhooks: new.forward_webhooks,
                        secrets,
                    },
                )
                .await?;
                tx.notify(Changed::Integration(environment, integration.unique_key.clone()).notice());
                Ok(integration)
            })
        })
        .await?;
    context
        .caches
        .forget(&Changed::Integration(environment, created.unique_key.clone()));
    Ok(created)
}
