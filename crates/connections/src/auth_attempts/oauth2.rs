//! OAUTH2 (auth-flows §7, §8).

use patchbay_auth::driver;
use patchbay_auth::metadata;
use patchbay_auth::oauth2::authorize::{AuthorizeError, AuthorizeInput, authorize};

use super::{Arrival, Arriving, Departing, Departure, Failure};

pub(super) fn depart(departing: &Departing<'_>) -> Result<Departure, AuthorizeError> {
    let admission = departing.admission;
    let authorization = authorize(
        &AuthorizeInput {
            provider: &admission.provider,
            secrets: &admission.integration.secrets,
            connection_config: &admission.connection_config,
            authorization_params: &admission.authorization_params,
            user_scopes: admission.user_scopes.as_deref(),
            client_override: &admission.client_override,
            state: departing.state,
            callback_url: departing.callback_url,
        },
        &departing.context.ambient,
    )?;
    Ok(Departure {
        code_verifier: authorization.code_verifier,
        ..Departure::to(authorization.url)
    })
}

pub(super) async fn arrive(arriving: &Arriving<'_>) -> Result<Arrival, Failure> {
    let (context, attempt, definition) = (arriving.context, arriving.attempt, arriving.definition);
    let code_name = definition.authorization_code_param_in_callback.as_str();
    let code = arriving
        .param(code_name)
        .ok_or_else(|| arriving.incomplete(code_name))?;
    // Some token endpoints want what the callback brought, and the state again.
    let from_callback = arriving.callback_metadata();
    let known = metadata::merge_config(
        patchbay_types::JsonMap::new(),
        from_callback.clone(),
        &attempt.connection_config,
    );
    let exchanged = driver::exchange_code(
        &context.token_client,
        &arriving.exchange(code, &known),
        &context.ambient,
    )
    .await
    .map_err(|error| Failure::new("unknown_err", error.webhook_type(), error.to_string()))?;
    let connection_config = metadata::merge_config(
        exchanged.token_metadata,
        from_callback,
        &attempt.connection_config,
    );
    Ok(Arrival::new(exchanged.credentials, connection_config))
}
