//! Installations of apps: their tokens, the app's own JWT, and which connection an installation belongs to
//! (auth-flows §10).

use std::sync::Arc;

use patchbay_auth::app::{self, AppKeys, INSTALLATION_ID, JWT_TOKEN};
use patchbay_auth::driver::{self, AppError, AppInput};
use patchbay_catalog::Definition;
use patchbay_store::connections;
use patchbay_store::db::DbError;
use patchbay_types::connections::{Connection, RefreshedCredentials};
use patchbay_types::integrations::Integration;
use patchbay_types::{AuthMode, ConnectionRowId, Credentials, IntegrationId, JsonMap};

use crate::caches::Changed;
use crate::connections::{expiry_to_check, name_of};
use crate::context::Context;
use crate::integrations;

/// How many connections are looked at with one statement.
const PAGE: u32 = 500;

/// A token for the installation that `config` names; `config` gains what goes with it.
pub(crate) async fn mint(
    context: &Context,
    definition: &Definition,
    integration: &Integration,
    config: &mut JsonMap,
) -> Result<Credentials, AppError> {
    let input = AppInput {
        definition,
        secrets: &integration.secrets,
        connection_config: config,
    };
    let minted = driver::mint_app_token(&context.token_client, &input, &context.ambient).await?;
    config.extend(minted.config);
    Ok(Credentials::App(minted.credentials))
}

/// The first live connection of an integration whose `connection_config` fits. Looks at all of them, as they are
/// sealed: for what happens seldom.
pub(crate) async fn find(
    context: &Context,
    integration: IntegrationId,
    fits: impl Fn(&JsonMap) -> bool,
) -> Result<Option<ConnectionRowId>, DbError> {
    let mut after = ConnectionRowId(0);
    loop {
        let page = context
            .store
            .read(move |tx| Box::pin(async move { connections::configs(tx, integration, after, PAGE).await }))
            .await?;
        let Some((last, _)) = page.last() else {
            return Ok(None);
        };
        after = *last;
        if let Some((row, _)) = page.iter().find(|(_, config)| fits(config)) {
            return Ok(Some(*row));
        }
    }
}

/// The connection with an app JWT that is not about to end (`refresh_github_app_jwt_token`): signs another if need be,
/// and asks nobody. The token of the installation stays. Connections without an app are answered as they are.
pub async fn with_fresh_jwt(
    context: &Arc<Context>,
    connection: Arc<Connection>,
) -> Result<Arc<Connection>, DbError> {
    let provider = context.catalogue.get(connection.provider.as_str());
    let Some(provider) =
        provider.filter(|provider| matches!(provider.definition.auth_mode, AuthMode::App | AuthMode::Custom))
    else {
        return Ok(connection);
    };
    let definition = &provider.definition;
    let config = &connection.connection_config;
    let now = context.ambient.now();
    if !config.contains_key(INSTALLATION_ID)
        || !app::jwt_ends_soon(config, definition.expiration_buffer_s(), now)
    {
        return Ok(connection);
    }
    let environment = connection.environment_id;
    let integration = integrations::get(context, environment, connection.integration_key.as_str()).await?;
    let Some(integration) = integration else {
        return Ok(connection);
    };
    let signed = AppKeys::of(definition.auth_mode, &integration.secrets)
        .ok()
        .and_then(|keys| keys.jwt(now).ok());
    let (Some(jwt), Credentials::App(stored)) = (signed, &connection.credentials) else {
        tracing::warn!(connection = %connection.id, "an app's JWT could not be signed");
        return Ok(connection);
    };
    let mut credentials = stored.clone();
    credentials.jwt_token = Some(jwt.clone());
    let credentials = Credentials::App(credentials);
    let mut updates = JsonMap::new();
    updates.insert(JWT_TOKEN.to_owned(), jwt.expose().into());
    let (row, generation, name) = (connection.id, connection.generation, name_of(&connection));
    let pause = connection.refresh.not_before;
    let changed = Changed::Connection(name.clone());
    let found = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let refreshed = RefreshedCredentials {
                    credentials_expires_at: expiry_to_check(&credentials, now),
                    credentials,
                    connection_config: updates,
                    previous_until: now,
                    not_before: pause,
                };
                // Whoever was faster has signed one as well.
                connections::save_refreshed(tx, row, generation, &refreshed).await?;
                tx.notify(Changed::Connection(name).notice());
                connections::find_by_row(tx, row).await
            })
        })
        .await?;
    context.caches.forget(&changed);
    Ok(found.map_or(connection, Arc::new))
}
