//! APP and CUSTOM: an app is installed at the provider (auth-flows §10).
//!
//! In CUSTOM the end user is asked too, so that the app also knows on whose behalf it was installed. Without the right
//! to install, an end user can only ask an owner: the connection then is *pending*, holds the user's own token, and
//! the provider's webhook completes it once the owner agreed.

use patchbay_auth::app::{self, AppKeys, INSTALLATION_ID, USER_CREDENTIALS};
use patchbay_auth::driver::{self, AppError};
use patchbay_auth::metadata;
use patchbay_auth::request::Subject;
use patchbay_catalog::Definition;
use patchbay_store::connections;
use patchbay_types::connections::Connection;
use patchbay_types::integrations::Integration;
use patchbay_types::{Credentials, JsonMap};
use serde_json::Value;

use super::{Arrival, Arriving, Departing, Departure, Failure};
use crate::context::Context;
use crate::installations;

pub(super) fn depart(departing: &Departing<'_>) -> Result<Departure, AppError> {
    let admission = departing.admission;
    let keys = AppKeys::of(admission.mode(), &admission.integration.secrets)?;
    let params: JsonMap = admission
        .authorization_params
        .iter()
        .filter(|(_, value)| value.as_str() != "undefined")
        .map(|(name, value)| (name.clone(), Value::String(value.clone())))
        .collect();
    let definition = &admission.provider.definition;
    let ambient = &departing.context.ambient;
    let url = app::installation_page(definition, &keys, &params, departing.state, ambient)?;
    Ok(Departure {
        // An installation has no parameters of the browser's.
        connection_config: Some(admission.presets.clone()),
        ..Departure::to(url)
    })
}

/// APP: the app was installed, and that is all.
pub(super) async fn arrive(arriving: &Arriving<'_>) -> Result<Arrival, Failure> {
    if arriving.param("setup_action") == Some("request") {
        return Err(Failure::new(
            "wrong_auth_mode",
            "invalid_callback",
            "The installation awaits an owner's approval at the provider. Connect again once it is approved.",
        ));
    }
    let installation = installation(arriving)?.ok_or_else(|| missing_installation(arriving))?;
    let mut config = JsonMap::new();
    config.insert(INSTALLATION_ID.to_owned(), installation.into());
    let credentials = mint(arriving, &mut config).await?;
    let config = metadata::merge_config(config, JsonMap::new(), &arriving.attempt.connection_config);
    Ok(Arrival::new(credentials, config))
}

/// CUSTOM: the app was installed, or an owner was asked, or an installation was changed; mostly with a code.
pub(super) async fn arrive_with_user(arriving: &Arriving<'_>) -> Result<Arrival, Failure> {
    let installation = installation(arriving)?;
    let code = arriving.param("code");
    let known = match installation {
        Some(id) => find(arriving.context, arriving.integration, id).await?,
        None => None,
    };
    if let Some(connection) = known {
        return update(arriving, connection).await;
    }
    if code.is_none() && arriving.param("setup_action") == Some("update") {
        let mut arrival = arrive(arriving).await?;
        arrival.existing = None;
        return Ok(arrival);
    }
    let code = code.ok_or_else(|| arriving.incomplete("code"))?;
    let user = exchange(arriving, code).await?;
    let mut config = JsonMap::new();
    let handle = handle(arriving.context, arriving.definition, arriving.integration, &user).await;
    if let Some(handle) = handle {
        config.insert("handle".to_owned(), handle.into());
    }
    let attempt = arriving.attempt;
    let Some(installation) = installation else {
        let keys = AppKeys::of(attempt.auth_mode, &arriving.integration.secrets).map_err(AppError::from);
        let app_id = keys.map_err(|error| refused(&error))?.id.to_owned();
        config.insert("app_id".to_owned(), app_id.into());
        config.insert("pending".to_owned(), true.into());
        if let Some(operation) = &attempt.operation_id {
            config.insert("pendingLog".to_owned(), operation.0.clone().into());
        }
        let config = metadata::merge_config(config, JsonMap::new(), &attempt.connection_config);
        return Ok(Arrival {
            is_pending: true,
            ..Arrival::new(user, config)
        });
    };
    config.insert(INSTALLATION_ID.to_owned(), installation.into());
    config.insert(USER_CREDENTIALS.to_owned(), user.to_json().into());
    let credentials = mint(arriving, &mut config).await?;
    let config = metadata::merge_config(config, JsonMap::new(), &attempt.connection_config);
    Ok(Arrival::new(credentials, config))
}

/// A well-formed `installation_id`, if there is one.
fn installation<'a>(arriving: &'a Arriving<'_>) -> Result<Option<&'a str>, Failure> {
    match arriving.param(INSTALLATION_ID) {
        Some(id) if !app::is_installation_id(id) => Err(missing_installation(arriving)),
        found => Ok(found),
    }
}

fn missing_installation(arriving: &Arriving<'_>) -> Failure {
    Failure {
        error_type: "url_param_err",
        ..arriving.incomplete("installation_id that can be used")
    }
}

/// The app was changed or installed again where it was: the same connection, with a new token.
async fn update(arriving: &Arriving<'_>, connection: Connection) -> Result<Arrival, Failure> {
    let mut config = connection.connection_config;
    config.remove("pending");
    config.remove("pendingLog");
    let credentials = mint(arriving, &mut config).await?;
    Ok(Arrival {
        existing: Some(connection.connection_id),
        ..Arrival::new(credentials, config)
    })
}

/// A token for the installation that `config` names; `config` gains what goes with it.
async fn mint(arriving: &Arriving<'_>, config: &mut JsonMap) -> Result<Credentials, Failure> {
    installations::mint(
        arriving.context,
        arriving.definition,
        arriving.integration,
        config,
    )
    .await
    .map_err(|error| refused(&error))
}

fn refused(error: &AppError) -> Failure {
    Failure::new(error.code(), error.webhook_type(), error.to_string())
}

async fn exchange(arriving: &Arriving<'_>, code: &str) -> Result<Credentials, Failure> {
    let (context, attempt) = (arriving.context, arriving.attempt);
    let input = arriving.exchange(code, &attempt.connection_config);
    driver::exchange_code(&context.token_client, &input, &context.ambient)
        .await
        .map(|exchanged| exchanged.credentials)
        .map_err(|error| Failure::new("unknown_err", error.webhook_type(), error.to_string()))
}

/// Who the user is at the provider: by that name an owner's approval is matched later. Not knowing it costs only that.
async fn handle(
    context: &Context,
    definition: &Definition,
    integration: &Integration,
    user: &Credentials,
) -> Option<String> {
    let nothing = JsonMap::new();
    let subject = Subject {
        definition,
        secrets: &integration.secrets,
        credentials: user,
        connection_config: &nothing,
        connection_id: "",
        metadata: None,
    };
    match driver::get_object(&context.proxy_client, &subject, "/user", &context.ambient).await {
        Ok(found) => found?.get("login")?.as_str().map(str::to_owned),
        Err(error) => {
            tracing::warn!(%error, "the user of an app could not be asked for");
            None
        }
    }
}

/// The connection of an installation.
async fn find(
    context: &Context,
    integration: &Integration,
    installation: &str,
) -> Result<Option<Connection>, Failure> {
    let wanted = Value::String(installation.to_owned());
    let found = installations::find(context, integration.id, move |config| {
        config.get(INSTALLATION_ID) == Some(&wanted)
    })
    .await
    .map_err(|error| Failure::unknown(&error))?;
    let Some(row) = found else { return Ok(None) };
    let read = context
        .store
        .read(move |tx| Box::pin(async move { connections::find_by_row(tx, row).await }));
    read.await.map_err(|error| Failure::unknown(&error))
}
