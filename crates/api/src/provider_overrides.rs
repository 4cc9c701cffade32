//! `/provider-overrides`: provider definitions added or corrected while the server runs. Ours, not the reference's.

use std::sync::Arc;

use patchbay_catalog::Finding;
use patchbay_connections::Context;
use patchbay_connections::provider_overrides::{self, OverrideError, ProviderOverride, Set};
use patchbay_types::JsonMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authenticate::Auth;
use crate::codes;
use crate::error::{ApiError, Layer};
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{Issue, Object, object, patterns, string};

const READ: &[&str] = &["account:providers:read"];
const WRITE: &[&str] = &["account:providers:write"];

pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/provider-overrides")
            .tag("providers")
            .summary("List the provider definitions set while the server runs")
            .auth(Auth::AccountKey)
            .scopes(READ)
            .responds::<Listed>(200)
            .handler(context, list),
        Route::get("/provider-overrides/export")
            .tag("providers")
            .summary("Read them as a catalogue file, to be kept or given to another server with --catalog")
            .auth(Auth::AccountKey)
            .scopes(READ)
            .responds::<std::collections::BTreeMap<String, Definition>>(200)
            .handler(context, export),
        Route::get("/provider-overrides/{provider}/versions")
            .tag("providers")
            .summary("List the versions of a provider's definition, newest first")
            .auth(Auth::AccountKey)
            .scopes(READ)
            .params::<ByProvider>(by_provider())
            .responds::<Listed>(200)
            .handler(context, versions),
        Route::put("/provider-overrides/{provider}")
            .tag("providers")
            .summary("Add a provider, or replace what the catalogue says of one")
            .auth(Auth::AccountKey)
            .scopes(WRITE)
            .params::<ByProvider>(by_provider())
            .body::<JsonMap>(object().loose())
            .responds::<Made>(200)
            .errors(&[&codes::CONFLICT])
            .handler(context, put),
        Route::patch("/provider-overrides/{provider}")
            .tag("providers")
            .summary("Change some of what the catalogue says of a provider (RFC 7396)")
            .auth(Auth::AccountKey)
            .scopes(WRITE)
            .params::<ByProvider>(by_provider())
            .body::<JsonMap>(object().loose())
            .responds::<Made>(200)
            .errors(&[&codes::NOT_FOUND, &codes::CONFLICT])
            .handler(context, patch),
        Route::delete("/provider-overrides/{provider}")
            .tag("providers")
            .summary("Return a provider to what the catalogue says")
            .auth(Auth::AccountKey)
            .scopes(WRITE)
            .params::<ByProvider>(by_provider())
            .responds_empty(204)
            .errors(&[&codes::NOT_FOUND, &codes::CONFLICT])
            .handler(context, delete),
    ]
}

// --- shapes ---

fn by_provider() -> Object {
    object().field(
        "provider",
        string().min(1).max(255).pattern(patterns::PROVIDER_NAME),
    )
}

#[derive(Deserialize)]
struct ByProvider {
    provider: String,
}

/// A provider's definition, in the catalogue's format.
#[derive(JsonSchema)]
#[schemars(rename = "ProviderDefinition", transparent)]
#[expect(dead_code, reason = "describes what is passed on as it is")]
struct Definition(JsonMap);

/// Definitions set while the server runs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ProviderOverrideList")]
struct Listed {
    data: Vec<Shown>,
}

/// One version of a definition.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ProviderOverride")]
struct Shown {
    provider: String,
    /// Counts from 1, of each provider for itself.
    version: i64,
    /// Null in a version that removed the definition.
    definition: Option<JsonMap>,
    created_at: String,
}

/// A definition now in use.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ProviderOverrideSet")]
struct Made {
    data: Shown,
    /// What looks wrong but does not keep it from being used.
    warnings: Vec<String>,
}

impl From<ProviderOverride> for Shown {
    fn from(stored: ProviderOverride) -> Self {
        Self {
            provider: stored.provider,
            version: stored.version,
            definition: stored.definition,
            created_at: stored.created_at.to_string(),
        }
    }
}

// --- handlers ---

async fn list(context: Arc<Context>, _: Call) -> Result<Reply, ApiError> {
    let stored = provider_overrides::list(&context).await?;
    Reply::json(&Listed {
        data: stored.into_iter().map(Shown::from).collect(),
    })
}

async fn export(context: Arc<Context>, _: Call) -> Result<Reply, ApiError> {
    let stored = provider_overrides::list(&context).await?;
    let file: serde_json::Map<_, _> = stored
        .into_iter()
        .filter_map(|one| Some((one.provider, one.definition?.into())))
        .collect();
    Reply::json(&file)
}

async fn versions(context: Arc<Context>, call: Call<ByProvider>) -> Result<Reply, ApiError> {
    let versions = provider_overrides::versions(&context, &call.params.provider).await?;
    Reply::json(&Listed {
        data: versions.into_iter().map(Shown::from).collect(),
    })
}

async fn put(context: Arc<Context>, call: Call<ByProvider, Empty, JsonMap>) -> Result<Reply, ApiError> {
    let set = provider_overrides::set(&context, &call.params.provider, call.body).await;
    made(set)
}

async fn patch(context: Arc<Context>, call: Call<ByProvider, Empty, JsonMap>) -> Result<Reply, ApiError> {
    let set = provider_overrides::patch(&context, &call.params.provider, call.body).await;
    made(set)
}

async fn delete(context: Arc<Context>, call: Call<ByProvider>) -> Result<Reply, ApiError> {
    provider_overrides::remove(&context, &call.params.provider)
        .await
        .map_err(refused)?;
    Ok(Reply::no_content())
}

fn made(set: Result<Set, OverrideError>) -> Result<Reply, ApiError> {
    let set = set.map_err(refused)?;
    Reply::json(&Made {
        data: set.current.into(),
        warnings: set.warnings.iter().map(ToString::to_string).collect(),
    })
}

fn refused(error: OverrideError) -> ApiError {
    match error {
        OverrideError::Invalid(findings) => {
            ApiError::invalid(Layer::Body, findings.iter().map(issue).collect())
        }
        OverrideError::Unknown => ApiError::new(&codes::NOT_FOUND)
            .message("No definition of this provider can be changed or removed"),
        OverrideError::Store(error) => error.into(),
    }
}

fn issue(finding: &Finding) -> Issue {
    let path: Vec<&str> = finding.path.split('.').filter(|step| !step.is_empty()).collect();
    let message = match &finding.suggestion {
        Some(near) => format!("{}; did you mean `{near}`?", finding.message),
        None => finding.message.clone(),
    };
    Issue::custom(&path, message)
}
