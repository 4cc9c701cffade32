//! INSTALL_PLUGIN: the operator's plugin is installed for an end user's account; the credentials are the operator's
//! (auth-flows §13).

use patchbay_auth::app::MissingApp;
use patchbay_auth::driver::AppError;
use patchbay_auth::endpoint::EndpointError;
use patchbay_auth::metadata;
use patchbay_auth::verification::{self, Candidate};
use patchbay_types::credentials::{ApiKey, Basic};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use url::Url;

use super::{Arrival, Arriving, Departing, Departure, Failure};

pub(super) fn depart(departing: &Departing<'_>) -> Result<Departure, AppError> {
    let admission = departing.admission;
    let secrets = &admission.integration.secrets;
    credentials(admission.provider.definition.auth_type, secrets).ok_or(MissingApp)?;
    let link = secrets
        .app_link
        .as_deref()
        .or_else(|| custom(secrets, "app_link"));
    let link = link.filter(|link| !link.is_empty()).ok_or(MissingApp)?;
    let mut url = Url::parse(link)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or(EndpointError::Missing("app_link"))?;
    url.query_pairs_mut().append_pair("payload", departing.state);
    Ok(Departure::to(url))
}

pub(super) async fn arrive(arriving: &Arriving<'_>) -> Result<Arrival, Failure> {
    let (context, attempt, definition) = (arriving.context, arriving.attempt, arriving.definition);
    let secrets = &arriving.integration.secrets;
    if let Some(told) = super::PROVIDER_ERRORS
        .iter()
        .find(|name| arriving.param(name).is_some())
    {
        return Err(arriving.incomplete(&format!("installation but {told}")));
    }
    let credentials = credentials(definition.auth_type, secrets).ok_or_else(|| {
        Failure::new(
            "provider_config_err",
            "unknown",
            "The integration has no user name and password for the plugin.",
        )
    })?;
    let connection_config = metadata::merge_config(
        JsonMap::new(),
        arriving.callback_metadata(),
        &attempt.connection_config,
    );
    let candidate = Candidate {
        definition,
        secrets,
        credentials: &credentials,
        connection_config: &connection_config,
    };
    verification::verify(&context.proxy_client, &candidate, &context.ambient)
        .await
        .map_err(|error| Failure::new(error.code(), error.code(), error.to_string()))?;
    Ok(Arrival::new(credentials, connection_config))
}

/// The operator's credentials, of the type that the definition names.
fn credentials(kind: Option<AuthMode>, secrets: &IntegrationSecrets) -> Option<Credentials> {
    if kind == Some(AuthMode::ApiKey) {
        let key = custom(secrets, "apiKey")?;
        return Some(Credentials::ApiKey(ApiKey {
            api_key: Secret::new(key),
        }));
    }
    Some(Credentials::Basic(Basic {
        username: custom(secrets, "username")?.to_owned(),
        password: Secret::new(custom(secrets, "password")?),
    }))
}

fn custom<'a>(secrets: &'a IntegrationSecrets, name: &str) -> Option<&'a str> {
    let value = secrets.custom.get(name).map(Secret::expose);
    value.filter(|value| !value.is_empty())
}
