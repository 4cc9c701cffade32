//! INSTALL_PLUGIN: the operator's plugin is installed for an end user's account at the provider; the credentials are
//! the operator's (auth-flows §13).

use patchbay_catalog::Definition;
use patchbay_types::credentials::{ApiKey, Basic};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, Credentials, Secret};
use url::Url;

use crate::app::{AppError, MissingApp};
use crate::endpoint::EndpointError;

/// The page on which an end user installs the plugin. Whoever comes back brings `state` as `payload`. Refused while
/// the integration has no credentials for what would come of it.
pub fn installation_page(
    definition: &Definition,
    secrets: &IntegrationSecrets,
    state: &str,
) -> Result<Url, AppError> {
    credentials(definition, secrets).ok_or(MissingApp)?;
    let link = secrets
        .app_link
        .as_deref()
        .or_else(|| custom(secrets, "app_link"));
    let link = link.filter(|link| !link.is_empty()).ok_or(MissingApp)?;
    let mut url = Url::parse(link)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or(EndpointError::Missing("app_link"))?;
    url.query_pairs_mut().append_pair("payload", state);
    Ok(url)
}

/// The operator's credentials, of the type that the definition names; none if the integration lacks them.
pub fn credentials(definition: &Definition, secrets: &IntegrationSecrets) -> Option<Credentials> {
    if definition.auth_type == Some(AuthMode::ApiKey) {
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
