//! INSTALL_PLUGIN: the operator's plugin is installed for an end user's account; the credentials are the operator's
//! (auth-flows §13).

use patchbay_auth::driver::AppError;
use patchbay_auth::verification::{self, Candidate};
use patchbay_auth::{metadata, plugin};
use patchbay_types::JsonMap;

use super::{Arrival, Arriving, Departing, Departure, Failure};

pub(super) fn depart(departing: &Departing<'_>) -> Result<Departure, AppError> {
    let admission = departing.admission;
    let definition = &admission.provider.definition;
    plugin::installation_page(definition, &admission.integration.secrets, departing.state).map(Departure::to)
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
    let credentials = plugin::credentials(definition, secrets).ok_or_else(|| {
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
