//! MCP_OAUTH2 is OAuth 2 at a catalogued server and shares its module; this is MCP_OAUTH2_GENERIC, where the end user
//! names the server and all else is discovered (auth-flows §12.2).
//!
//! Names come from end users and strangers here. So every call goes out with the client of proxied requests, for which
//! private networks are closed unless the operator opened them, not with that of catalogued token endpoints.

use std::collections::BTreeMap;

use patchbay_auth::driver::{self, Becoming, DiscoveryError};
use patchbay_auth::mcp::generic::{self, Known};
use patchbay_auth::metadata;
use patchbay_auth::oauth2::{authorize, pkce};
use patchbay_types::{JsonMap, Secret};
use serde_json::Value;

use super::{Arrival, Arriving, Departing, Departure, Failure};
use crate::client_metadata;

pub(super) async fn depart(departing: &Departing<'_>) -> Result<Departure, DiscoveryError> {
    let (context, admission) = (departing.context, departing.admission);
    let named = admission
        .connection_config
        .get(generic::SERVER_URL)
        .and_then(Value::as_str);
    let fixed = admission.provider.definition.mcp_server_url.as_deref();
    let address = fixed
        .or(named)
        .filter(|address| !address.is_empty())
        .ok_or(DiscoveryError::MissingServer)?;
    let client = &context.proxy_client;
    let server = generic::guard("server address", address, client.policy())?;
    let becoming = Becoming {
        profile: client_metadata::profile(&admission.integration),
        document: client_metadata::address(context, &admission.environment, &admission.integration),
        callback: departing.callback_url,
    };
    let discovered = driver::discover(client, &server, &becoming, &context.ambient).await?;
    let verifier = pkce::new_verifier(context.ambient.entropy.as_ref());
    let secrets = &admission.integration.secrets;
    let scopes = authorize::scopes(secrets, &admission.connection_config);
    let url = discovered.authorization_page(&scopes, departing.callback_url, departing.state, &verifier)?;
    let mut connection_config = admission.connection_config.clone();
    connection_config.extend(discovered.config());
    // The secret of a client that was registered for this connection is kept with its credentials.
    let mut own = BTreeMap::new();
    if let Some(secret) = discovered.client_secret {
        let id = Secret::new(discovered.client.client_id);
        own.insert("oauth_client_id_override".to_owned(), id);
        own.insert("oauth_client_secret_override".to_owned(), secret);
    }
    Ok(Departure {
        code_verifier: Some(verifier),
        connection_config: Some(connection_config),
        client_override: Some(own),
        ..Departure::to(url)
    })
}

pub(super) async fn arrive(arriving: &Arriving<'_>) -> Result<Arrival, Failure> {
    let (context, attempt) = (arriving.context, arriving.attempt);
    let known = Known::read(&attempt.connection_config).map_err(|error| Failure::unknown(&error))?;
    // RFC 9207: an answer of another server must not be exchanged at this one.
    if let (Some(said), Some(issuer)) = (arriving.param("iss"), &known.server.issuer)
        && said.trim_end_matches('/') != issuer.trim_end_matches('/')
    {
        return Err(Failure::new(
            "callback_err",
            "invalid_callback",
            "The answer came from another authorization server than was asked.",
        ));
    }
    let code = arriving
        .param("code")
        .ok_or_else(|| arriving.incomplete("code"))?;
    let input = arriving.exchange(code, &attempt.connection_config);
    let exchanged = driver::exchange_discovered(&context.proxy_client, &input, &context.ambient)
        .await
        .map_err(|error| Failure::new("unknown_err", error.webhook_type(), error.to_string()))?;
    let config = metadata::merge_config(
        exchanged.token_metadata,
        JsonMap::new(),
        &attempt.connection_config,
    );
    Ok(Arrival::new(exchanged.credentials, config))
}
