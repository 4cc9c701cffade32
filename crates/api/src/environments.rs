//! `/environments`, the environment's variables and signing key (api-core §6).

use std::sync::Arc;

use patchbay_connections::Context;
use patchbay_connections::environments::{
    self, EnvironmentError, EnvironmentRef, KeyRotation, NewEnvironment,
};
use patchbay_store::db::DbError;
use patchbay_types::environments::{EnvironmentSettings, OtlpHeader};
use patchbay_types::{EnvironmentId, EnvironmentName, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::authenticate::{Auth, Principal};
use crate::codes;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{
    Object, Schema, SchemaExt, any_of, array, boolean, coerced_number, object, patterns, string,
};

const CREATE: &[&str] = &["account:environments:create"];
const SET_PRODUCTION: &str = "account:environments:set_production";

pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/environments")
            .tag("environments")
            .summary("List the account's environments, oldest first")
            .auth(Auth::AccountKey)
            .scopes(&["account:environments:list"])
            .query::<ByName>(object().field("name", name().optional().describe("Only the one of this name")))
            .responds::<Listed>(200)
            .handler(context, list),
        Route::post("/environments")
            .tag("environments")
            .summary("Make an environment with its first key")
            .auth(Auth::AccountKey)
            .scopes(CREATE)
            .body::<Create>(create_body())
            .responds::<Made>(200)
            .errors(&[&codes::INVALID_IS_PROD_FLAG, &codes::CONFLICT])
            .handler(context, create),
        Route::delete("/environments/{environmentUuid}")
            .tag("environments")
            .summary("Delete an environment with its integrations and connections")
            .auth(Auth::AccountKey)
            .scopes(&["account:environments:delete"])
            .params::<ByEnvironment>(by_environment())
            .responds_empty(204)
            .errors(&[&codes::NOT_FOUND, &codes::CANNOT_DELETE_PROD_ENVIRONMENT])
            .handler(context, delete),
        Route::post("/environment/webhook-signing-key/rotate")
            .tag("environments")
            .summary("Replace the key that signs webhooks")
            .scopes(&["environment:webhook_signing_key:rotate"])
            .responds::<Rotated>(200)
            .errors(&[
                &codes::NOT_FOUND,
                &codes::MULTIPLE_WEBHOOK_SIGNING_KEYS,
                &codes::ROTATION_FAILED,
            ])
            .handler(context, rotate),
        Route::get("/environment-variables")
            .tag("environments")
            .summary("Read the environment's variables")
            .scopes(&["environment:variables:read"])
            .empty_body()
            .responds::<Vec<Variable<'static>>>(200)
            .handler(context, variables),
        Route::get("/api/v1/environments")
            .tag("environments")
            .summary("Names of the account's environments, for the command line's prompt")
            .auth(Auth::AccountKey)
            .any_query()
            .responds::<Names>(200)
            .handler(context, names),
    ]
}

// --- shapes ---

/// An environment in a path: by UUID or, as older callers do, by number.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum EnvironmentParam {
    Id(i64),
    Uuid(Uuid),
}

impl From<EnvironmentParam> for EnvironmentRef {
    fn from(param: EnvironmentParam) -> Self {
        match param {
            EnvironmentParam::Id(id) => Self::Id(EnvironmentId(id)),
            EnvironmentParam::Uuid(uuid) => Self::Uuid(uuid),
        }
    }
}

/// A UUID, or a positive number.
pub(crate) fn uuid_or_number() -> Schema {
    any_of([string().uuid().into(), coerced_number().int().positive().into()])
}

fn by_environment() -> Object {
    object().field("environmentUuid", uuid_or_number())
}

fn name() -> crate::schema::Text {
    string().min(1).max(255).pattern(patterns::ENVIRONMENT_NAME)
}

fn create_body() -> Object {
    let header = object()
        .field("name", string().min(1).max(256))
        .field("value", string().min(1).max(4000))
        .strip();
    object()
        .field("name", name())
        .field("is_production", boolean().optional())
        .field("callback_url", string().url().optional())
        .field("hmac_key", string().max(1000).optional())
        .field("hmac_enabled", boolean().optional())
        .field("slack_notifications", boolean().optional())
        .field("otlp_endpoint", string().url_or_empty().optional())
        .field("otlp_headers", array(header).max(100).optional())
}

#[derive(Deserialize)]
struct ByEnvironment {
    #[serde(rename = "environmentUuid")]
    environment: EnvironmentParam,
}

#[derive(Deserialize)]
struct ByName {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Create {
    name: EnvironmentName,
    is_production: Option<bool>,
    callback_url: Option<String>,
    hmac_key: Option<Secret>,
    #[serde(default)]
    hmac_enabled: bool,
    #[serde(default)]
    slack_notifications: bool,
    otlp_endpoint: Option<String>,
    #[serde(default)]
    otlp_headers: Vec<OtlpHeader>,
}

/// The account's environments.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EnvironmentList")]
struct Listed {
    data: Vec<ListedEnvironment>,
}

/// An environment in a list.
#[derive(Serialize, JsonSchema)]
struct ListedEnvironment {
    id: i64,
    uuid: String,
    name: String,
    is_production: bool,
}

/// An environment just made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EnvironmentMade")]
struct Made {
    data: MadeEnvironment,
}

/// Names an environment just made.
#[derive(Serialize, JsonSchema)]
struct MadeEnvironment {
    id: i64,
    uuid: String,
    name: String,
}

/// A new signing key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SigningKeyRotated")]
struct Rotated {
    data: RotatedKey,
}

/// The key that signs webhooks from now on.
#[derive(Serialize, JsonSchema)]
struct RotatedKey {
    webhook_signing_key: String,
}

/// A variable of an environment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EnvironmentVariable")]
struct Variable<'a> {
    name: &'a str,
    value: &'a str,
}

/// The account's environments by name.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EnvironmentNames")]
struct Names {
    data: Vec<NamedEnvironment>,
}

/// An environment's name.
#[derive(Serialize, JsonSchema)]
struct NamedEnvironment {
    name: String,
    is_production: bool,
}

// --- handlers ---

async fn list(context: Arc<Context>, call: Call<Empty, ByName>) -> Result<Reply, ApiError> {
    let account = call.principal()?.account_id;
    let wanted = call.query.name.as_deref();
    let found = environments::list(&context, account).await?.into_iter();
    let data = found
        .filter(|environment| wanted.is_none_or(|name| environment.name.as_str() == name))
        .map(|environment| ListedEnvironment {
            id: environment.id.0,
            uuid: environment.uuid.to_string(),
            name: environment.name.into(),
            is_production: environment.is_production,
        })
        .collect();
    Reply::json(&Listed { data })
}

async fn create(context: Arc<Context>, call: Call<Empty, Empty, Create>) -> Result<Reply, ApiError> {
    let principal = call.principal()?.clone();
    let new = call.body.into_new(&principal);
    if new.production().map_err(refused)? && !principal.may(&[SET_PRODUCTION]) {
        let message = format!("Insufficient scope. Required for a production environment: {SET_PRODUCTION}");
        return Err(ApiError::new(&codes::FORBIDDEN).message(message));
    }
    let made = environments::create(&context, new).await.map_err(refused)?;
    Reply::json(&Made {
        data: MadeEnvironment {
            id: made.environment.id.0,
            uuid: made.environment.uuid.to_string(),
            name: made.environment.name.into(),
        },
    })
}

impl Create {
    fn into_new(self, principal: &Principal) -> NewEnvironment {
        NewEnvironment {
            account: principal.account_id,
            name: self.name,
            is_production: self.is_production,
            settings: EnvironmentSettings {
                callback_url: self.callback_url,
                hmac_enabled: self.hmac_enabled,
                hmac_key: self.hmac_key,
                slack_notifications: self.slack_notifications,
                otlp_endpoint: self.otlp_endpoint.filter(|url| !url.is_empty()),
                otlp_headers: self.otlp_headers,
                ..EnvironmentSettings::default()
            },
        }
    }
}

async fn delete(context: Arc<Context>, call: Call<ByEnvironment>) -> Result<Reply, ApiError> {
    let account = call.principal()?.account_id;
    let by = call.params.environment.into();
    environments::delete(&context, account, by)
        .await
        .map_err(refused)?;
    Ok(Reply::no_content())
}

async fn rotate(context: Arc<Context>, call: Call) -> Result<Reply, ApiError> {
    let id = call.environment()?.id;
    let rotated = environments::rotate_signing_key(&context, id, KeyRotation::Graceful).await;
    let rotated = rotated.map_err(|error| match error {
        EnvironmentError::Store(error @ (DbError::Unavailable(_) | DbError::Retry(_))) => error.into(),
        EnvironmentError::Store(error) => ApiError::new(&codes::ROTATION_FAILED)
            .message("The signing key could not be rotated; the old one still signs")
            .cause(error),
        other => refused(other),
    })?;
    Reply::json(&Rotated {
        data: RotatedKey {
            webhook_signing_key: rotated.signing_key.expose().to_owned(),
        },
    })
}

async fn variables(context: Arc<Context>, call: Call) -> Result<Reply, ApiError> {
    let variables = environments::variables(&context, call.environment()?.id).await?;
    let shown: Vec<Variable<'_>> = variables
        .iter()
        .map(|variable| Variable {
            name: &variable.name,
            value: variable.value.expose(),
        })
        .collect();
    Reply::json(&shown)
}

async fn names(context: Arc<Context>, call: Call) -> Result<Reply, ApiError> {
    let found = environments::list(&context, call.principal()?.account_id).await?;
    let data = found
        .into_iter()
        .map(|environment| NamedEnvironment {
            name: environment.name.into(),
            is_production: environment.is_production,
        })
        .collect();
    Reply::json(&Names { data })
}

fn refused(error: EnvironmentError) -> ApiError {
    let text = error.to_string();
    match error {
        EnvironmentError::Unknown => {
            ApiError::new(&codes::NOT_FOUND).message("The account has no such environment")
        }
        EnvironmentError::NameTaken => {
            ApiError::new(&codes::CONFLICT).message("An environment of this name exists")
        }
        EnvironmentError::InvalidProductionFlag => ApiError::new(&codes::INVALID_IS_PROD_FLAG).message(text),
        EnvironmentError::CannotDeleteProd => {
            ApiError::new(&codes::CANNOT_DELETE_PROD_ENVIRONMENT).message(text)
        }
        EnvironmentError::RotationInGrace(_) => {
            ApiError::new(&codes::MULTIPLE_WEBHOOK_SIGNING_KEYS).message(text)
        }
        EnvironmentError::Store(error) => error.into(),
    }
}
