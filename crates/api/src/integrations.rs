//! `/integrations` (api-core §8).

mod credentials;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use patchbay_catalog::Provider;
use patchbay_connections::Context;
use patchbay_connections::integrations::{self, IntegrationError, IntegrationPatch, NewIntegration};
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::{AuthMode, IntegrationKey, time};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authenticate::Auth;
use crate::codes;
use crate::connections::Success;
use crate::error::{ApiError, Layer};
use crate::providers::logo_url;
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{
    Issue, Object, SchemaExt, Text, array, boolean, choice, object, patterns, record, string,
};

use credentials::{GivenCredentials, ShownCredentials};

const READ: &[&str] = &[
    "environment:integrations:read",
    "environment:integrations:read_credentials",
];
const READ_CREDENTIALS: &str = "environment:integrations:read_credentials";
/// Longest value of `integration_config`, in characters.
const MAX_CONFIG_VALUE: usize = 8192;
/// What `encodeURIComponent` leaves alone.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/integrations")
            .tag("integrations")
            .summary("List integrations by provider, then by age")
            .auth(Auth::KeyOrSession)
            .scopes(&[
                "environment:integrations:list",
                "environment:integrations:list_credentials",
            ])
            .responds::<Listed<'_>>(200)
            .handler(context, list),
        Route::post("/integrations")
            .tag("integrations")
            .summary("Configure a provider")
            .scopes(&["environment:integrations:create"])
            .body::<Create>(create_body())
            .responds::<One<'_>>(200)
            .errors(&[&codes::SERVER_ERROR])
            .handler(context, create),
        Route::post("/integrations/quickstart")
            .tag("integrations")
            .summary("Configure a provider with a developer app the operator shares")
            .scopes(&["environment:integrations:create"])
            .body::<Quickstart>(new_integration())
            .responds::<One<'_>>(200)
            .handler(context, quickstart),
        Route::get("/integrations/{uniqueKey}")
            .tag("integrations")
            .summary("Read an integration")
            .scopes(READ)
            .params::<ByKey>(by_key())
            .query::<Include>(
                object().field(
                    "include",
                    array(choice(&["webhook", "credentials"]))
                        .or_alone()
                        .optional()
                        .describe("What to add; `credentials` takes the scope to read them"),
                ),
            )
            .responds::<One<'_>>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(context, read),
        Route::patch("/integrations/{uniqueKey}")
            .tag("integrations")
            .summary("Change an integration")
            .scopes(&["environment:integrations:update"])
            .params::<ByKey>(by_key())
            .body::<Patch>(patch_body())
            .responds::<One<'_>>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(context, patch),
        Route::delete("/integrations/{uniqueKey}")
            .tag("integrations")
            .summary("Delete an integration and its connections")
            .scopes(&["environment:integrations:delete"])
            .params::<ByKey>(by_key())
            .responds::<Success>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(context, delete),
    ]
}

// --- shapes ---

fn integration_key() -> Text {
    string().min(1).max(255).pattern(patterns::INTEGRATION_KEY)
}

fn display_name() -> Text {
    string().min(1).max(255)
}

fn by_key() -> Object {
    object().field("uniqueKey", integration_key())
}

fn new_integration() -> Object {
    object()
        .field(
            "provider",
            string().min(1).max(255).pattern(patterns::PROVIDER_NAME),
        )
        .field("unique_key", integration_key())
        .field("display_name", display_name().optional())
        .field("forward_webhooks", boolean().optional())
}

fn create_body() -> Object {
    new_integration()
        .field("credentials", credentials::schema().optional())
        .field("integration_config", config_values().optional())
        .field("custom", record(string(), string()).optional())
}

fn patch_body() -> Object {
    object()
        .field("unique_key", integration_key().optional())
        .field("display_name", display_name().optional())
        .field("credentials", credentials::schema().optional())
        .field("forward_webhooks", boolean().optional())
        .field("integration_config", config_values().optional())
        .field("custom", record(string(), string()).optional())
}

fn config_values() -> crate::schema::Record {
    record(string(), string().max(MAX_CONFIG_VALUE))
}

#[derive(Deserialize)]
struct ByKey {
    #[serde(rename = "uniqueKey")]
    key: String,
}

#[derive(Deserialize)]
struct Include {
    #[serde(default)]
    include: Vec<Part>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Part {
    Webhook,
    Credentials,
}

#[derive(Deserialize)]
struct Create {
    provider: String,
    unique_key: IntegrationKey,
    display_name: Option<String>,
    forward_webhooks: Option<bool>,
    credentials: Option<GivenCredentials>,
    integration_config: Option<BTreeMap<String, String>>,
    custom: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Quickstart {
    provider: String,
    unique_key: IntegrationKey,
}

#[derive(Deserialize)]
struct Patch {
    unique_key: Option<IntegrationKey>,
    display_name: Option<String>,
    credentials: Option<GivenCredentials>,
    forward_webhooks: Option<bool>,
    integration_config: Option<BTreeMap<String, String>>,
    custom: Option<BTreeMap<String, String>>,
}

/// The integrations of the environment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationList")]
struct Listed<'a> {
    data: Vec<Shown<'a>>,
}

/// An integration.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationData")]
struct One<'a> {
    data: Shown<'a>,
}

/// A provider configured in an environment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Integration")]
#[expect(clippy::option_option, reason = "absent and null differ on the wire")]
struct Shown<'a> {
    unique_key: &'a str,
    /// Name in the catalogue.
    provider: &'a str,
    /// Its own name, else the provider's.
    display_name: &'a str,
    logo: String,
    /// Whether webhooks of the provider are forwarded to the app.
    forward_webhooks: bool,
    created_at: String,
    updated_at: String,
    /// What the provider's credentials are called in forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_label: Option<Label<'a>>,
    /// Credentials the operator filled in, which forms skip.
    #[serde(skip_serializing_if = "Option::is_none")]
    preconfigured_credentials: Option<Vec<&'a str>>,
    /// Settings of connections the operator filled in, which forms skip.
    #[serde(skip_serializing_if = "Option::is_none")]
    preconfigured_connection_config: Option<Vec<&'a str>>,
    /// Only on demand: where the provider sends webhooks; null if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_url: Option<Option<String>>,
    /// Only on demand: the operator's app at the provider; null if the mode has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<Option<ShownCredentials<'a>>>,
}

/// Names for form fields.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CredentialsLabel")]
struct Label<'a> {
    #[serde(rename = "apiKey")]
    api_key: &'a str,
}

impl<'a> Shown<'a> {
    fn of(context: &Context, integration: &'a Integration, provider: &'a Provider) -> Self {
        let definition = &provider.definition;
        let custom = &integration.secrets.custom;
        let is_set = |name: &str| custom.get(name).is_some_and(|value| !value.is_empty());
        let preset = || {
            let names = definition
                .integration_config
                .iter()
                .map(|field| field.name.as_str());
            names.filter(|name| is_set(name))
        };
        let label = custom
            .get("keyLabel")
            .filter(|label| !definition.integration_config.is_empty() && !label.is_empty());
        let two_step = definition.auth_mode == AuthMode::TwoStep;
        Self {
            unique_key: integration.unique_key.as_str(),
            provider: integration.provider.as_str(),
            display_name: integration
                .display_name
                .as_deref()
                .unwrap_or(&definition.display_name),
            logo: logo_url(context, integration.provider.as_str()),
            forward_webhooks: integration.forward_webhooks,
            created_at: time::millis_z(integration.created_at),
            updated_at: time::millis_z(integration.updated_at),
            credentials_label: label.map(|label| Label {
                api_key: label.expose(),
            }),
            preconfigured_credentials: some(preset().filter(|_| two_step)),
            preconfigured_connection_config: some(
                preset().filter(|name| definition.connection_config.get(name).is_some()),
            ),
            webhook_url: None,
            credentials: None,
        }
    }
}

/// Absent instead of empty.
fn some<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let names: Vec<&str> = names.collect();
    (!names.is_empty()).then_some(names)
}

/// Where a provider sends webhooks for an integration; none if its definition does not route them.
pub(crate) fn webhook_url(
    context: &Context,
    environment: &Environment,
    integration: &Integration,
    provider: &Provider,
) -> Option<String> {
    let definition = &provider.definition;
    if definition.webhook_routing_script.is_none() && !definition.extensions.contains_key("webhook") {
        return None;
    }
    let key = utf8_percent_encode(integration.unique_key.as_str(), COMPONENT);
    Some(context.public(&format!("webhook/{}/{key}", environment.uuid)))
}

// --- handlers ---

async fn list(context: Arc<Context>, call: Call) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    let mut found = integrations::list(&context, environment).await?;
    let session = call.principal()?.session();
    let allowed = session.and_then(|session| session.spec.allowed_integrations.as_deref());
    if let Some(allowed) = allowed.filter(|allowed| !allowed.is_empty()) {
        found.retain(|integration| allowed.contains(&integration.unique_key));
    }
    let catalogue = context.catalogue.current();
    let data = found
        .iter()
        .filter_map(|integration| {
            let Some(provider) = catalogue.get(integration.provider.as_str()) else {
                // One integration whose provider is gone must not hide the others.
                tracing::warn!(
                    integration = %integration.unique_key,
                    provider = %integration.provider,
                    "an integration is left out of the list: its provider is not in the catalogue"
                );
                return None;
            };
            Some(Shown::of(&context, integration, provider))
        })
        .collect();
    Reply::json(&Listed { data })
}

async fn read(context: Arc<Context>, call: Call<ByKey, Include>) -> Result<Reply, ApiError> {
    let environment = call.environment()?;
    let integration = integrations::get(&context, environment.id, &call.params.key)
        .await?
        .ok_or_else(unknown)?;
    let provider = context
        .catalogue
        .get(integration.provider.as_str())
        .ok_or_else(unknown)?;
    let mut shown = Shown::of(&context, &integration, &provider);
    let include = &call.query.include;
    if include.contains(&Part::Webhook) {
        shown.webhook_url = Some(webhook_url(&context, environment, &integration, &provider));
    }
    if include.contains(&Part::Credentials) && call.principal()?.may(&[READ_CREDENTIALS]) {
        let mode = provider.definition.auth_mode;
        shown.credentials = Some(ShownCredentials::of(mode, &integration.secrets));
    }
    Reply::json(&One { data: shown })
}

async fn create(context: Arc<Context>, call: Call<Empty, Empty, Create>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    let body = call.body;
    let new = NewIntegration {
        provider: body.provider,
        unique_key: body.unique_key,
        display_name: body.display_name,
        forward_webhooks: body.forward_webhooks.unwrap_or(true),
        credentials: body.credentials.map(Into::into),
        integration_config: body.integration_config,
        custom: body.custom,
    };
    let made = integrations::create(&context, environment, new).await;
    one(&context, &made.map_err(refused)?)
}

async fn quickstart(context: Arc<Context>, call: Call<Empty, Empty, Quickstart>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    let Quickstart { provider, unique_key } = call.body;
    let made = integrations::create_quickstart(&context, environment, &provider, &unique_key).await;
    one(&context, &made.map_err(refused)?)
}

async fn patch(context: Arc<Context>, call: Call<ByKey, Empty, Patch>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    let body = call.body;
    let patch = IntegrationPatch {
        unique_key: body.unique_key,
        display_name: body.display_name,
        forward_webhooks: body.forward_webhooks,
        credentials: body.credentials.map(Into::into),
        integration_config: body.integration_config,
        custom: body.custom,
    };
    let updated = integrations::update(&context, environment, &call.params.key, patch).await;
    let updated = updated.map_err(|error| match error {
        // The integration is there, but what it is an integration of is not.
        IntegrationError::UnknownProvider => unknown(),
        error => refused(error),
    })?;
    one(&context, &updated)
}

async fn delete(context: Arc<Context>, call: Call<ByKey>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    integrations::delete(&context, environment, &call.params.key)
        .await
        .map_err(refused)?;
    Reply::json(&Success::YES)
}

fn one(context: &Context, integration: &Integration) -> Result<Reply, ApiError> {
    let provider = context
        .catalogue
        .get(integration.provider.as_str())
        .ok_or_else(unknown)?;
    Reply::json(&One {
        data: Shown::of(context, integration, &provider),
    })
}

fn unknown() -> ApiError {
    ApiError::new(&codes::NOT_FOUND).message("The environment has no such integration")
}

fn refused(error: IntegrationError) -> ApiError {
    let issue = |path: &str, message: String| {
        ApiError::invalid(Layer::Body, vec![Issue::new("invalid_string", &[path], message)])
    };
    let text = error.to_string();
    match error {
        IntegrationError::Unknown => unknown(),
        IntegrationError::UnknownProvider => issue("provider", text),
        // The path is the reference's, which spells the field its own way here.
        IntegrationError::KeyTaken => issue("uniqueKey", text),
        IntegrationError::WrongCredentials { .. }
        | IntegrationError::CredentialsRequired(_)
        | IntegrationError::InUse
        | IntegrationError::Config(_)
        | IntegrationError::NotShareable(_)
        | IntegrationError::NoSharedApp => ApiError::new(&codes::INVALID_BODY).message(text),
        IntegrationError::NotRegistered(_) => ApiError::new(&codes::SERVER_ERROR)
            .status(StatusCode::BAD_GATEWAY)
            .message(text),
        IntegrationError::Store(error) => error.into(),
    }
}
