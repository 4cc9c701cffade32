//! `POST /connection`: the first form of importing a connection, flat and unverified (api-core §9.4). Kept for
//! applications that still call it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use patchbay_connections::Context;
use patchbay_connections::connections::{self, ConnectionError, Import, Installation, Verification};
use patchbay_types::connections::Change;
use patchbay_types::credentials::{ApiKey, Basic, ConfigOverride, OAuth1, OAuth2, OAuth2Cc, Raw, Tba};
use patchbay_types::{AuthMode, ConnectionId, Credentials, JsonMap, Secret, Timestamp};
use serde_json::Value;

use crate::codes::{self, Code};
use crate::connections::{check_webhook_url, names_an_account};
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{SchemaExt, date, object, string};

/// How long an imported client credentials token is believed in when nothing is said about it.
const CLIENT_TOKEN_LIFE: Duration = Duration::from_mins(55);

/// The route.
pub fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::post("/connection")
            .tag("connections")
            .summary("Import a connection, oldest form")
            .deprecated()
            .scopes(&["environment:connections:create"])
            .any_query()
            .body::<JsonMap>(object().loose())
            .responds::<JsonMap>(201)
            .errors(&[
                &codes::MISSING_PROVIDER_CONFIG,
                &codes::UNKNOWN_PROVIDER_CONFIG,
                &codes::UNKNOWN_PROVIDER_TEMPLATE,
                &codes::MISSING_ACCESS_TOKEN,
                &codes::MISSING_EXPIRES_AT,
                &codes::INVALID_EXPIRES_AT,
                &codes::MISSING_OAUTH_TOKEN,
                &codes::MISSING_OAUTH_TOKEN_SECRET,
                &codes::MISSING_BASIC_USERNAME,
                &codes::MISSING_API_KEY,
                &codes::MISSING_APP_ID,
                &codes::MISSING_INSTALLATION_ID,
                &codes::MISSING_ACCOUNT_ID,
                &codes::UNKNOWN_OAUTH_TYPE,
                &codes::SERVER_ERROR,
                &codes::RESOURCE_CAPPED,
            ])
            .handler(context, import),
    ]
}

async fn import(context: Arc<Context>, call: Call<Empty, Empty, JsonMap>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.clone();
    let body = call.body;
    let Some(key) = text(&body, "provider_config_key") else {
        return Err(refusal(
            &codes::MISSING_PROVIDER_CONFIG,
            "`provider_config_key` is missing",
        ));
    };
    let webhook_url_override = webhook_url(&context, &body)?;
    let connection_id = connection_id(&body)?;
    let metadata = member(&body, "metadata")?;
    let target = connections::import_target(&context, environment.id, key)
        .await
        .map_err(refused)?;
    let mut config = member(&body, "connection_config")?.unwrap_or_default();
    let credentials = match target.auth_mode() {
        AuthMode::App => {
            let installation = installation(&body).map_err(ApiError::legacy)?;
            connections::installed(&context, &target, &installation, &mut config)
                .await
                .map_err(refused)?
        }
        mode => credentials(mode, &body, &mut config, context.ambient.now()).map_err(ApiError::legacy)?,
    };
    let stored = connections::import(
        &context,
        &environment,
        &target,
        Import {
            connection_id,
            credentials,
            assertion_option: JsonMap::new(),
            connection_config: config,
            metadata: metadata.map_or(Change::Keep, |metadata| Change::Set(Some(metadata))),
            tags: Change::Keep,
            end_user: None,
            webhook_url_override,
            verification: Verification::Skipped,
        },
    )
    .await
    .map_err(refused)?;
    let mut echo = body;
    echo.insert(
        "connection_id".to_owned(),
        Value::from(stored.connection_id.as_str()),
    );
    Reply::json_with(StatusCode::CREATED, &echo)
}

fn refusal(code: &'static Code, message: impl Into<String>) -> ApiError {
    ApiError::new(code).legacy().message(message.into())
}

fn refused(error: ConnectionError) -> ApiError {
    match error {
        ConnectionError::UnknownIntegration => refusal(
            &codes::UNKNOWN_PROVIDER_CONFIG,
            "There is no integration with this key in this environment",
        ),
        ConnectionError::UnknownProvider => {
            refusal(&codes::UNKNOWN_PROVIDER_TEMPLATE, error.to_string()).status(StatusCode::NOT_FOUND)
        }
        ConnectionError::Store(error) => error.into(),
        ConnectionError::NotMinted(words) => refusal(&codes::SERVER_ERROR, words),
        other => refusal(&codes::INVALID_BODY, other.to_string()),
    }
}

/// A text that is there and not empty: this route never told empty from absent.
fn text<'a>(body: &'a JsonMap, name: &str) -> Option<&'a str> {
    body.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn secret(body: &JsonMap, name: &str) -> Option<Secret> {
    text(body, name).map(Secret::from)
}

/// An object, or nothing.
fn member(body: &JsonMap, name: &str) -> Result<Option<JsonMap>, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object.clone())),
        Some(_) => Err(refusal(
            &codes::INVALID_BODY,
            format!("`{name}` must be an object"),
        )),
    }
}

fn connection_id(body: &JsonMap) -> Result<Option<ConnectionId>, ApiError> {
    match body.get("connection_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.is_empty() => Ok(None),
        Some(Value::String(id)) => ConnectionId::parse(id).map(Some).map_err(|error| {
            refusal(
                &codes::INVALID_BODY,
                format!("`connection_id` is not usable: {error}"),
            )
        }),
        Some(_) => Err(refusal(&codes::INVALID_BODY, "`connection_id` must be a string")),
    }
}

fn webhook_url(context: &Context, body: &JsonMap) -> Result<Change<Option<String>>, ApiError> {
    let given = match body.get("webhook_url_override") {
        None | Some(Value::Null) => return Ok(Change::Keep),
        given => given.cloned(),
    };
    let rules = string().url_or_empty().optional();
    let Ok(Some(Value::String(url))) = rules.validate(given) else {
        return Err(refusal(&codes::INVALID_BODY, "`webhook_url_override` is no URL"));
    };
    check_webhook_url(context, &url, &["webhook_url_override"]).map_err(ApiError::legacy)?;
    Ok(Change::Set(Some(url)))
}

/// The credentials of a flat body, by the provider's mode; `config` gains what belongs there.
fn credentials(
    mode: AuthMode,
    body: &JsonMap,
    config: &mut JsonMap,
    now: Timestamp,
) -> Result<Credentials, ApiError> {
    let needed = |name: &str, code: &'static Code| {
        secret(body, name).ok_or_else(|| ApiError::new(code).message(format!("`{name}` is missing")))
    };
    Ok(match mode {
        AuthMode::OAuth2 => {
            let access_token = needed("access_token", &codes::MISSING_ACCESS_TOKEN)?;
            let expires_at = expiry(body, now)?;
            if expires_at.is_none() && body.get("no_expiration") != Some(&Value::Bool(true)) {
                return Err(ApiError::new(&codes::MISSING_EXPIRES_AT).message(
                    "Say when the token expires: `expires_at`, `expires_in`, or `no_expiration: true`",
                ));
            }
            split_scopes(config);
            let own = client(body);
            Credentials::OAuth2(OAuth2 {
                access_token,
                refresh_token: secret(body, "refresh_token"),
                expires_at,
                raw: raw(body),
                config_override: (own != ConfigOverride::default()).then_some(own),
            })
        }
        AuthMode::OAuth2Cc => {
            let ConfigOverride {
                client_id,
                client_secret,
            } = client(body);
            let usual = now.checked_add(CLIENT_TOKEN_LIFE).unwrap_or(Timestamp::MAX);
            Credentials::OAuth2Cc(OAuth2Cc {
                token: needed("access_token", &codes::MISSING_ACCESS_TOKEN)?,
                expires_at: Some(expiry(body, now)?.unwrap_or(usual)),
                client_id: client_id.unwrap_or_default(),
                client_secret: client_secret.unwrap_or_default(),
                client_certificate: None,
                client_private_key: None,
                raw: raw(body),
            })
        }
        AuthMode::OAuth1 => Credentials::OAuth1(OAuth1 {
            oauth_token: needed("oauth_token", &codes::MISSING_OAUTH_TOKEN)?,
            oauth_token_secret: needed("oauth_token_secret", &codes::MISSING_OAUTH_TOKEN_SECRET)?,
            raw: raw(body),
        }),
        AuthMode::Basic => Credentials::Basic(Basic {
            username: needed("username", &codes::MISSING_BASIC_USERNAME)?
                .expose()
                .to_owned(),
            password: secret(body, "password").unwrap_or_default(),
        }),
        AuthMode::ApiKey => Credentials::ApiKey(ApiKey {
            api_key: needed("api_key", &codes::MISSING_API_KEY)?,
        }),
        AuthMode::Tba => {
            if !names_an_account(config) {
                return Err(ApiError::new(&codes::MISSING_ACCOUNT_ID)
                    .message("`connection_config.accountId` is missing"));
            }
            Credentials::Tba(Tba {
                token_id: needed("token_id", &codes::INVALID_BODY)?,
                token_secret: needed("token_secret", &codes::INVALID_BODY)?,
                config_override: client(body),
            })
        }
        AuthMode::None => Credentials::None {},
        other => {
            return Err(ApiError::new(&codes::UNKNOWN_OAUTH_TYPE)
                .message(format!("Connections of auth mode {other} cannot be imported")));
        }
    })
}

/// An app's installation.
fn installation(body: &JsonMap) -> Result<Installation, ApiError> {
    let needed = |name: &str, code: &'static Code| {
        let found = text(body, name).map(str::to_owned);
        found.ok_or_else(|| ApiError::new(code).message(format!("`{name}` is missing")))
    };
    Ok(Installation {
        app_id: needed("app_id", &codes::MISSING_APP_ID)?,
        installation_id: needed("installation_id", &codes::MISSING_INSTALLATION_ID)?,
    })
}

/// `expires_at`, an instant, or `expires_in`, seconds.
fn expiry(body: &JsonMap, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let invalid =
        |name: &str| ApiError::new(&codes::INVALID_EXPIRES_AT).message(format!("`{name}` is no time"));
    if let Some(at) = given("expires_at") {
        let instant = date()
            .parse(Some(at.clone()))
            .map_err(|_| invalid("expires_at"))?;
        return Ok(Some(instant));
    }
    let Some(seconds) = given("expires_in") else {
        return Ok(None);
    };
    let seconds = match seconds {
        Value::String(text) => text.trim().parse::<f64>().ok(),
        other => other.as_f64(),
    };
    let life = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let end = life.and_then(|life| now.checked_add(life).ok());
    end.map(Some).ok_or_else(|| invalid("expires_in"))
}

/// A connection's own OAuth client.
fn client(body: &JsonMap) -> ConfigOverride {
    ConfigOverride {
        client_id: text(body, "oauth_client_id_override").map(str::to_owned),
        client_secret: secret(body, "oauth_client_secret_override"),
    }
}

/// The provider's answer if given, else all that was.
fn raw(body: &JsonMap) -> Raw {
    match body.get("raw") {
        Some(Value::Object(raw)) => Raw(raw.clone()),
        _ => Raw(body.clone()),
    }
}

/// `a,b` becomes `["a", "b"]`.
fn split_scopes(config: &mut JsonMap) {
    let Some(scopes) = config.get_mut("oauth_scopes_override") else {
        return;
    };
    if let Value::String(text) = &*scopes {
        let split = text
            .split(',')
            .map(str::trim)
            .filter(|scope| !scope.is_empty())
            .map(Value::from);
        *scopes = Value::Array(split.collect());
    }
}
