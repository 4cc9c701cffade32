//! API keys of environments: `/environments/{uuid}/api-keys`, and the older `/environment/api-keys`
//! (api-core §6.3 to §6.5).

use std::sync::Arc;

use patchbay_connections::Context;
use patchbay_connections::api_keys::{self, ApiKeyError, KeyRef, NewApiKey};
use patchbay_connections::environments::{self, EnvironmentError, EnvironmentRef};
use patchbay_types::api_keys::{ApiKey, ApiKeyWithSecret};
use patchbay_types::{AccountId, ApiKeyId, EnvironmentId, ScopeSet, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::authenticate::Auth;
use crate::codes;
use crate::connections::Success;
use crate::environments::{EnvironmentParam, uuid_or_number};
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{Object, SchemaExt, Text, coerced_number, object, string};

const CREATE: &[&str] = &["account:environments:api_keys:create"];
const DELETE: &[&str] = &["account:environments:api_keys:delete"];

pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    let name_filter = || {
        object().field(
            "display_name",
            display_name().optional().describe("Only the one of this name"),
        )
    };
    vec![
        Route::get("/environments/{environmentUuid}/api-keys")
            .tag("api keys")
            .summary("List the keys of an environment, without secrets")
            .auth(Auth::AccountKey)
            .scopes(&["account:environments:api_keys:list"])
            .params::<ByEnvironment>(by_environment())
            .query::<ByName>(name_filter())
            .responds::<Listed>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(context, list),
        Route::post("/environments/{environmentUuid}/api-keys")
            .tag("api keys")
            .summary("Make a key that may do everything in an environment")
            .auth(Auth::AccountKey)
            .scopes(CREATE)
            .params::<ByEnvironment>(by_environment())
            .body::<Create>(object().field("display_name", display_name()))
            .responds::<Made>(200)
            .errors(&[&codes::NOT_FOUND, &codes::CONFLICT, &codes::RESOURCE_CAPPED])
            .handler(
                context,
                |context: Arc<Context>, call: Call<ByEnvironment, Empty, Create>| async move {
                    let account = call.principal()?.account_id;
                    create(
                        &context,
                        account,
                        call.params.environment.into(),
                        call.body.display_name,
                    )
                    .await
                },
            ),
        Route::get("/environments/{environmentUuid}/api-keys/{keyUuid}")
            .tag("api keys")
            .summary("Read a key with its secret")
            .auth(Auth::AccountKey)
            .scopes(&["account:environments:api_keys:read"])
            .params::<ByKey>(by_key())
            .responds::<Shown>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(context, read),
        Route::delete("/environments/{environmentUuid}/api-keys/{keyUuid}")
            .tag("api keys")
            .summary("Revoke a key")
            .auth(Auth::AccountKey)
            .scopes(DELETE)
            .params::<ByKey>(by_key())
            .responds::<Success>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(context, |context: Arc<Context>, call: Call<ByKey>| async move {
                let account = call.principal()?.account_id;
                revoke(
                    &context,
                    account,
                    call.params.environment.into(),
                    call.params.key.into(),
                )
                .await
            }),
        Route::post("/environment/api-keys")
            .tag("api keys")
            .summary("Make a key that may do everything in an environment")
            .deprecated()
            .auth(Auth::AccountKey)
            .scopes(CREATE)
            .body::<CreateById>(
                object()
                    .field("environment_id", row_id())
                    .field("display_name", display_name()),
            )
            .responds::<Made>(200)
            .errors(&[&codes::NOT_FOUND, &codes::CONFLICT, &codes::RESOURCE_CAPPED])
            .handler(
                context,
                |context: Arc<Context>, call: Call<Empty, Empty, CreateById>| async move {
                    let account = call.principal()?.account_id;
                    let environment = EnvironmentRef::Id(EnvironmentId(call.body.environment_id));
                    create(&context, account, environment, call.body.display_name).await
                },
            ),
        Route::delete("/environment/api-keys")
            .tag("api keys")
            .summary("Revoke a key")
            .deprecated()
            .auth(Auth::AccountKey)
            .scopes(DELETE)
            .body::<DeleteById>(
                object()
                    .field("environment_id", row_id())
                    .field("key_id", row_id()),
            )
            .responds::<Success>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(
                context,
                |context: Arc<Context>, call: Call<Empty, Empty, DeleteById>| async move {
                    let account = call.principal()?.account_id;
                    let environment = EnvironmentRef::Id(EnvironmentId(call.body.environment_id));
                    revoke(
                        &context,
                        account,
                        environment,
                        KeyRef::Id(ApiKeyId(call.body.key_id)),
                    )
                    .await
                },
            ),
    ]
}

// --- shapes ---

fn display_name() -> Text {
    string().min(1).max(255)
}

fn row_id() -> crate::schema::Number {
    coerced_number().int().positive()
}

fn by_environment() -> Object {
    object().field("environmentUuid", uuid_or_number())
}

fn by_key() -> Object {
    by_environment().field("keyUuid", uuid_or_number())
}

#[derive(Deserialize)]
struct ByEnvironment {
    #[serde(rename = "environmentUuid")]
    environment: EnvironmentParam,
}

#[derive(Deserialize)]
struct ByKey {
    #[serde(rename = "environmentUuid")]
    environment: EnvironmentParam,
    #[serde(rename = "keyUuid")]
    key: KeyParam,
}

/// A key in a path.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeyParam {
    Id(i64),
    Uuid(Uuid),
}

impl From<KeyParam> for KeyRef {
    fn from(param: KeyParam) -> Self {
        match param {
            KeyParam::Id(id) => Self::Id(ApiKeyId(id)),
            KeyParam::Uuid(uuid) => Self::Uuid(uuid),
        }
    }
}

#[derive(Deserialize)]
struct ByName {
    display_name: Option<String>,
}

#[derive(Deserialize)]
struct Create {
    display_name: String,
}

#[derive(Deserialize)]
struct CreateById {
    environment_id: i64,
    display_name: String,
}

#[derive(Deserialize)]
struct DeleteById {
    environment_id: i64,
    key_id: i64,
}

/// The keys of an environment.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyList")]
struct Listed {
    data: Vec<ListedKey>,
}

/// A key without its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyListed")]
struct ListedKey {
    id: i64,
    uuid: String,
    display_name: String,
    scopes: Vec<String>,
    last_used_at: Option<String>,
    created_at: String,
}

/// A key just made.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyMadeData")]
struct Made {
    data: MadeKey,
}

/// A key just made, with its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyMade")]
struct MadeKey {
    id: i64,
    uuid: String,
    display_name: String,
    scopes: Vec<String>,
    secret: String,
    created_at: String,
}

/// A key.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKeyData")]
struct Shown {
    data: ShownKey,
}

/// A key with its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKey")]
struct ShownKey {
    id: i64,
    uuid: String,
    display_name: String,
    scopes: Vec<String>,
    secret: String,
    last_used_at: Option<String>,
    created_at: String,
}

fn texts(scopes: &ScopeSet) -> Vec<String> {
    scopes.iter().map(ToString::to_string).collect()
}

// --- handlers ---

async fn list(context: Arc<Context>, call: Call<ByEnvironment, ByName>) -> Result<Reply, ApiError> {
    let account = call.principal()?.account_id;
    let environment = resolve(&context, account, call.params.environment.into()).await?;
    let wanted = call.query.display_name.as_deref();
    let keys = api_keys::list(&context, account, Some(environment)).await?;
    let shown = |key: &ApiKey| ListedKey {
        id: key.id.0,
        uuid: key.uuid.to_string(),
        display_name: key.display_name.clone(),
        scopes: texts(&key.scopes),
        last_used_at: key.last_used_at.map(time::millis_z),
        created_at: time::millis_z(key.created_at),
    };
    let data = keys
        .iter()
        .filter(|key| wanted.is_none_or(|name| key.display_name == name))
        .map(shown)
        .collect();
    Reply::json(&Listed { data })
}

async fn create(
    context: &Context,
    account: AccountId,
    environment: EnvironmentRef,
    display_name: String,
) -> Result<Reply, ApiError> {
    let environment = resolve(context, account, environment).await?;
    let new = NewApiKey {
        account,
        environment: Some(environment),
        display_name,
        scopes: ScopeSet::full_environment(),
    };
    let ApiKeyWithSecret { key, secret } = api_keys::create(context, new).await.map_err(refused)?;
    Reply::json(&Made {
        data: MadeKey {
            id: key.id.0,
            uuid: key.uuid.to_string(),
            scopes: texts(&key.scopes),
            display_name: key.display_name,
            secret: secret.expose().to_owned(),
            created_at: time::millis_z(key.created_at),
        },
    })
}

async fn read(context: Arc<Context>, call: Call<ByKey>) -> Result<Reply, ApiError> {
    let account = call.principal()?.account_id;
    let environment = resolve(&context, account, call.params.environment.into()).await?;
    let found = api_keys::get(&context, account, Some(environment), call.params.key.into()).await;
    let ApiKeyWithSecret { key, secret } = found.map_err(refused)?;
    Reply::json(&Shown {
        data: ShownKey {
            id: key.id.0,
            uuid: key.uuid.to_string(),
            scopes: texts(&key.scopes),
            display_name: key.display_name,
            secret: secret.expose().to_owned(),
            last_used_at: key.last_used_at.map(time::millis_z),
            created_at: time::millis_z(key.created_at),
        },
    })
}

async fn revoke(
    context: &Context,
    account: AccountId,
    environment: EnvironmentRef,
    key: KeyRef,
) -> Result<Reply, ApiError> {
    let environment = resolve(context, account, environment).await?;
    api_keys::revoke(context, account, Some(environment), key)
        .await
        .map_err(refused)?;
    Reply::json(&Success::YES)
}

async fn resolve(
    context: &Context,
    account: AccountId,
    by: EnvironmentRef,
) -> Result<EnvironmentId, ApiError> {
    match environments::find(context, account, by).await {
        Ok(environment) => Ok(environment.id),
        Err(EnvironmentError::Store(error)) => Err(error.into()),
        Err(_) => Err(refused(ApiKeyError::UnknownEnvironment)),
    }
}

fn refused(error: ApiKeyError) -> ApiError {
    match error {
        ApiKeyError::UnknownEnvironment => {
            ApiError::new(&codes::NOT_FOUND).message("The account has no such environment")
        }
        ApiKeyError::UnknownKey => {
            ApiError::new(&codes::NOT_FOUND).message("The environment has no such key")
        }
        ApiKeyError::NameTaken => {
            ApiError::new(&codes::CONFLICT).message("The environment has a key of this name")
        }
        ApiKeyError::TooMany => {
            let message = format!(
                "An environment can have {} keys: revoke one first",
                api_keys::MAX_KEYS
            );
            ApiError::new(&codes::RESOURCE_CAPPED).message(message)
        }
        ApiKeyError::Store(error) => error.into(),
    }
}
