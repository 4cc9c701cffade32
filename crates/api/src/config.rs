//! The legacy read of an integration, `/config/{providerConfigKey}` (api-core §8.8).

use std::collections::BTreeMap;
use std::sync::Arc;

use patchbay_connections::integrations::WEBHOOK_SECRET;
use patchbay_connections::{Context, connections, integrations};
use patchbay_types::connections::ConnectionFilter;
use patchbay_types::{JsonMap, Secret, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codes;
use crate::error::ApiError;
use crate::integrations::webhook_url;
use crate::query;
use crate::reply::Reply;
use crate::route::{Call, Endpoint, Route};
use crate::schema::{object, string};

const READ_CREDENTIALS: &str = "environment:integrations:read_credentials";
/// Most connections listed.
const MAX_CONNECTIONS: u32 = 10_000;

pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/config/{providerConfigKey}")
            .tag("integrations")
            .summary("Read an integration; with `include_creds=true`, its app and connections too")
            .deprecated()
            .scopes(&[
                "environment:integrations:read",
                "environment:integrations:read_credentials",
            ])
            .params::<ByKey>(object().field("providerConfigKey", string()))
            .any_query()
            .responds::<One<'_>>(200)
            .errors(&[&codes::UNKNOWN_PROVIDER_CONFIG, &codes::UNKNOWN_PROVIDER_TEMPLATE])
            .handler(context, read),
    ]
}

#[derive(Deserialize)]
struct ByKey {
    #[serde(rename = "providerConfigKey")]
    key: String,
}

/// An integration in the oldest form.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConfigData")]
struct One<'a> {
    config: Shown<'a>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Config")]
enum Shown<'a> {
    Full(Box<Full<'a>>),
    Brief(Brief<'a>),
}

/// Without the operator's app.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConfigBrief")]
struct Brief<'a> {
    unique_key: &'a str,
    provider: &'a str,
    syncs: [String; 0],
    actions: [String; 0],
}

/// With the operator's app and the connections.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConfigFull")]
struct Full<'a> {
    unique_key: &'a str,
    provider: &'a str,
    client_id: Option<&'a str>,
    client_secret: Option<&'a str>,
    custom: Option<BTreeMap<&'a str, &'a str>>,
    scopes: Option<&'a str>,
    app_link: Option<&'a str>,
    auth_mode: &'static str,
    created_at: String,
    syncs: [String; 0],
    actions: [String; 0],
    has_webhook: bool,
    webhook_secret: Option<&'a str>,
    connections: Vec<Connected>,
    docs: Option<&'a str>,
    connection_count: usize,
    has_webhook_user_defined_secret: bool,
    webhook_url: Option<String>,
}

/// A connection of the integration.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConfigConnection")]
struct Connected {
    connection_config: BTreeMap<String, Value>,
    connection_id: String,
    environment_id: i64,
    id: i64,
    provider_config_key: String,
}

async fn read(context: Arc<Context>, call: Call<ByKey>) -> Result<Reply, ApiError> {
    let wants_credentials = query::pairs(call.parts.uri.query().unwrap_or_default())
        .any(|(key, value)| key == "include_creds" && value == "true");
    if wants_credentials && !call.principal()?.may(&[READ_CREDENTIALS]) {
        let message = format!("Insufficient scope. Required: {READ_CREDENTIALS}");
        return Err(ApiError::new(&codes::FORBIDDEN).message(message));
    }
    let environment = call.environment()?;
    let Some(integration) = integrations::get(&context, environment.id, &call.params.key).await? else {
        let error = ApiError::new(&codes::UNKNOWN_PROVIDER_CONFIG).legacy();
        return Err(error.message("The environment has no such integration"));
    };
    let Some(provider) = context.catalogue.get(integration.provider.as_str()) else {
        let error = ApiError::new(&codes::UNKNOWN_PROVIDER_TEMPLATE).legacy();
        return Err(error.message("The integration's provider is not in the catalogue"));
    };
    let (unique_key, name) = (integration.unique_key.as_str(), integration.provider.as_str());
    if !wants_credentials {
        let brief = Brief {
            unique_key,
            provider: name,
            syncs: [],
            actions: [],
        };
        return Reply::json(&One {
            config: Shown::Brief(brief),
        });
    }
    let filter = ConnectionFilter {
        integration_keys: Some(vec![unique_key.to_owned()]),
        limit: MAX_CONNECTIONS,
        ..ConnectionFilter::default()
    };
    let connected: Vec<Connected> = connections::list_with_config(&context, environment.id, filter)
        .await?
        .into_iter()
        .map(|(connection, config): (_, JsonMap)| Connected {
            connection_config: config.into_iter().collect(),
            connection_id: connection.connection_id.into(),
            environment_id: environment.id.0,
            id: connection.id.0,
            provider_config_key: unique_key.to_owned(),
        })
        .collect();
    let secrets = &integration.secrets;
    let custom: BTreeMap<&str, &str> = secrets
        .custom
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    let definition = &provider.definition;
    let full = Full {
        unique_key,
        provider: name,
        client_id: secrets.client_id.as_deref(),
        client_secret: secrets.client_secret.as_ref().map(Secret::expose),
        custom: Some(custom).filter(|custom| !custom.is_empty()),
        scopes: secrets.scopes.as_deref(),
        app_link: secrets.app_link.as_deref(),
        auth_mode: definition.auth_mode.as_str(),
        created_at: time::millis_z(integration.created_at),
        syncs: [],
        actions: [],
        has_webhook: definition.webhook_routing_script.is_some(),
        webhook_secret: secrets.custom.get(WEBHOOK_SECRET).map(Secret::expose),
        connection_count: connected.len(),
        connections: connected,
        docs: definition.docs.as_deref(),
        has_webhook_user_defined_secret: definition.webhook_user_defined_secret,
        webhook_url: webhook_url(&context, environment, &integration, &provider),
    };
    Reply::json(&One {
        config: Shown::Full(Box::new(full)),
    })
}
