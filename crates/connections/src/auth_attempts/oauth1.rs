//! OAUTH1 (auth-flows §9).

use patchbay_auth::driver::{self, HandshakeError, HandshakeInput};
use patchbay_auth::metadata;
use patchbay_auth::oauth1::handshake;
use patchbay_types::{Credentials, JsonMap, Secret};

use super::{Arrival, Arriving, Departing, Departure, Failure};

pub(super) async fn depart(departing: &Departing<'_>) -> Result<Departure, HandshakeError> {
    let (context, admission) = (departing.context, departing.admission);
    let input = HandshakeInput {
        definition: &admission.provider.definition,
        secrets: &admission.integration.secrets,
        connection_config: &admission.connection_config,
    };
    let callback = handshake::callback_with_state(departing.callback_url, departing.state);
    let token = driver::request_token(&context.token_client, &input, &callback, &context.ambient).await?;
    let url = handshake::authorization_page(
        &input,
        &token,
        &callback,
        &admission.authorization_params,
        &context.ambient,
    )?;
    Ok(Departure {
        request_token_secret: Some(token.secret),
        ..Departure::to(url)
    })
}

pub(super) async fn arrive(arriving: &Arriving<'_>) -> Result<Arrival, Failure> {
    let (context, attempt) = (arriving.context, arriving.attempt);
    let (Some(token), Some(verifier)) = (arriving.param("oauth_token"), arriving.param("oauth_verifier"))
    else {
        return Err(arriving.incomplete("oauth_token and oauth_verifier"));
    };
    let nothing = Secret::default();
    let input = HandshakeInput {
        definition: arriving.definition,
        secrets: &arriving.integration.secrets,
        connection_config: &attempt.connection_config,
    };
    let secret = attempt.request_token_secret.as_ref().unwrap_or(&nothing);
    let credentials = driver::access_token(
        &context.token_client,
        &input,
        token,
        secret,
        verifier,
        &context.ambient,
    )
    .await
    .map_err(|error| Failure::new("unknown_err", error.webhook_type(), error.to_string()))?;
    let connection_config = metadata::merge_config(
        JsonMap::new(),
        arriving.callback_metadata(),
        &attempt.connection_config,
    );
    Ok(Arrival::new(Credentials::OAuth1(credentials), connection_config))
}
