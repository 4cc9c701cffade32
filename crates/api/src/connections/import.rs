//! `POST /connections`: a connection from credentials that exist already (api-core §9.3).

use std::sync::Arc;

use http::StatusCode;
use patchbay_connections::Context;
use patchbay_connections::connections::{self, Import, Installation, Verification};
use patchbay_types::connections::Change;
use patchbay_types::end_users::EndUserInput;
use patchbay_types::{AuthMode, ConnectionId, Credentials, JsonMap, Tags, time};
use serde::Deserialize;
use serde_json::Value;

use super::shape::{Reveal, shown};
use super::{check_webhook_url, end_user, refused, webhook_url};
use crate::codes;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Empty};
use crate::schema::{
    Object, Pattern, Schema, SchemaExt, date, discriminated, object, patterns, string, tags,
};

/// Longest OAuth token that can be imported, in characters.
const MAX_TOKEN: usize = 16_384;
/// Longest API key, user name or password that can be imported, in characters.
const MAX_LOGIN: usize = 1024;

#[derive(Debug, Deserialize)]
pub(super) struct ImportBody {
    provider_config_key: String,
    credentials: JsonMap,
    connection_id: Option<String>,
    metadata: Option<JsonMap>,
    connection_config: Option<JsonMap>,
    webhook_url_override: Option<String>,
    end_user: Option<EndUserInput>,
    tags: Option<Tags>,
}

pub(super) fn import_body() -> Object {
    object()
        .field("provider_config_key", string())
        .field("credentials", import_credentials())
        .field(
            "connection_id",
            string()
                .pattern(CONNECTION_ID_OR_NONE)
                .max(ConnectionId::MAX)
                .optional(),
        )
        .field("metadata", object().loose().optional())
        .field(
            "connection_config",
            object()
                .field("oauth_scopes_override", crate::schema::array(string()).optional())
                .loose()
                .optional(),
        )
        .field("webhook_url_override", webhook_url().optional())
        .field("end_user", end_user().optional())
        .field("tags", tags().optional())
}

/// Empty text asks for a generated id, as no text does.
const CONNECTION_ID_OR_NONE: Pattern = Pattern {
    matches: |text| text.is_empty() || (patterns::CONNECTION_ID.matches)(text),
    ..patterns::CONNECTION_ID
};

fn import_credentials() -> Schema {
    let client = || {
        object()
            .field("client_id", string().min(1).max(255).optional())
            .field("client_secret", string().min(1).max(2048).optional())
    };
    let kind = |name| object().field("type", crate::schema::literal(name));
    let token = || string().min(1).max(MAX_TOKEN);
    discriminated("type")
        .branch(
            "OAUTH2",
            kind("OAUTH2")
                .field("access_token", token())
                .field("refresh_token", token().optional())
                .field("expires_at", date().null_is_absent())
                .field("config_override", client().optional()),
        )
        .branch(
            "OAUTH2_CC",
            kind("OAUTH2_CC")
                .field("token", string().min(1).max(4096))
                .field("client_id", string().min(1).max(255))
                .field("client_secret", string().min(1).max(2048))
                .field("client_certificate", string().min(1).max(10_000).optional())
                .field("client_private_key", string().min(1).max(10_000).optional())
                .field("expires_at", date().null_is_absent()),
        )
        .branch(
            "OAUTH1",
            kind("OAUTH1")
                .field("oauth_token", string().min(1).max(2048))
                .field("oauth_token_secret", string().min(1).max(2048)),
        )
        .branch(
            "API_KEY",
            kind("API_KEY").field("apiKey", string().min(1).max(MAX_LOGIN)),
        )
        .branch(
            "BASIC",
            kind("BASIC")
                .field("username", string().max(MAX_LOGIN))
                .field("password", string().max(MAX_LOGIN)),
        )
        .branch("NONE", kind("NONE"))
        .branch(
            "TBA",
            kind("TBA")
                .field("token_id", string().min(1))
                .field("token_secret", string().min(1))
                .field("config_override", client().optional()),
        )
        .branch("JWT", made("JWT", "token"))
        .branch("TWO_STEP", made("TWO_STEP", "token"))
        .branch("SIGNATURE", made("SIGNATURE", "token"))
        .branch("BILL", made("BILL", "session_id"))
        .branch("AWS_SIGV4", made("AWS_SIGV4", "access_key_id"))
        .branch(
            "APP",
            kind("APP")
                .field("app_id", string().min(1).max(255))
                .field("installation_id", string().min(1).max(255)),
        )
        .branch(
            "CUSTOM",
            kind("CUSTOM")
                .field("app_id", string().min(1).max(255))
                .field("installation_id", string().min(1).max(255)),
        )
        .into()
}

/// Fields as the provider's form asks for them; with `token` they are taken as they are, without it one is made.
fn made(kind: &'static str, token: &'static str) -> Object {
    object()
        .field("type", crate::schema::literal(kind))
        .field(token, string().min(1).max(MAX_TOKEN).optional())
        .field("expires_at", date().null_is_absent())
        .field("assertionOption", object().loose().optional())
        .loose()
}

pub(super) async fn import(
    context: Arc<Context>,
    call: Call<Empty, Empty, ImportBody>,
) -> Result<Reply, ApiError> {
    let environment = call.environment()?.clone();
    let body = call.body;
    let target = connections::import_target(&context, environment.id, &body.provider_config_key)
        .await
        .map_err(refused)?;
    let mut connection_config = body.connection_config.unwrap_or_default();
    let mut given = body.credentials;
    let assertion_option = match given.remove("assertionOption") {
        Some(Value::Object(option)) => option,
        _ => JsonMap::new(),
    };
    let credentials = match imported(&given, &connection_config, target.auth_mode())? {
        Imported::Ready(credentials) => credentials,
        Imported::Installation(installation) => {
            connections::installed(&context, &target, &installation, &mut connection_config)
                .await
                .map_err(refused)?
        }
    };
    let connection_id = match body.connection_id.filter(|id| !id.is_empty()) {
        Some(id) => Some(ConnectionId::parse(&id).map_err(|error| ApiError::unexpected(error.to_string()))?),
        None => None,
    };
    if let Some(url) = &body.webhook_url_override {
        check_webhook_url(&context, url, &["webhook_url_override"])?;
    }
    let stored = connections::import(
        &context,
        &environment,
        &target,
        Import {
            connection_id,
            credentials,
            assertion_option,
            connection_config,
            metadata: Change::Set(Some(body.metadata.unwrap_or_default())),
            tags: Change::Set(body.tags.unwrap_or_default()),
            end_user: body.end_user,
            webhook_url_override: Change::Set(body.webhook_url_override),
            verification: Verification::Required,
        },
    )
    .await
    .map_err(refused)?;
    let body = shown(&stored, Reveal::All, stored.last_fetched_at, time::millis_z);
    Reply::json_with(StatusCode::CREATED, &body)
}

/// What an import's `credentials` hold.
enum Imported {
    /// The credentials to store.
    Ready(Credentials),
    /// What their token is minted for.
    Installation(Installation),
}

/// The credentials to store. OAuth imports keep what was submitted as `raw`.
fn imported(given: &JsonMap, connection_config: &JsonMap, auth_mode: AuthMode) -> Result<Imported, ApiError> {
    let mut object = given.clone();
    let kind = given.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != auth_mode.as_str() {
        return Err(ApiError::new(&codes::INVALID_BODY).message(format!(
            "This integration takes credentials of type {auth_mode}, not {kind}"
        )));
    }
    match auth_mode {
        AuthMode::None => return Ok(Imported::Ready(Credentials::None {})),
        AuthMode::OAuth1 | AuthMode::OAuth2 | AuthMode::OAuth2Cc => {
            let mut raw = given.clone();
            if let Some(at) = raw.get_mut("expires_at")
                && let Some(Ok(instant)) = at.as_str().map(str::parse)
            {
                *at = Value::from(time::millis_z(instant));
            }
            object.insert("raw".to_owned(), Value::Object(raw));
        }
        AuthMode::Jwt | AuthMode::TwoStep | AuthMode::Signature | AuthMode::Bill | AuthMode::AwsSigV4 => {
            if let Some(at) = object.get_mut("expires_at")
                && let Some(Ok(instant)) = at.as_str().map(str::parse)
            {
                *at = Value::from(time::millis_z(instant));
            }
        }
        AuthMode::Tba if !names_an_account(connection_config) => {
            return Err(ApiError::new(&codes::INVALID_BODY)
                .message("Connections of this type need `connection_config.accountId`"));
        }
        AuthMode::App | AuthMode::Custom => {
            let text = |name: &str| {
                let value = given.get(name).and_then(Value::as_str);
                value.unwrap_or_default().to_owned()
            };
            return Ok(Imported::Installation(Installation {
                app_id: text("app_id"),
                installation_id: text("installation_id"),
            }));
        }
        _ => {}
    }
    Credentials::from_json(object)
        .map(Imported::Ready)
        .map_err(ApiError::unexpected)
}

/// Whether `connection_config` says which TBA account it is.
pub(crate) fn names_an_account(connection_config: &JsonMap) -> bool {
    connection_config
        .get("accountId")
        .is_some_and(|account| match account {
            Value::String(text) => !text.is_empty(),
            Value::Number(_) => true,
            _ => false,
        })
}
