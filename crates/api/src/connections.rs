//! `/connections`: list, read, import, patch, delete (api-core §9).

use std::sync::Arc;

use http::StatusCode;
use patchbay_connections::Context;
use patchbay_connections::caches::ConnectionName;
use patchbay_connections::connections::{self, ConnectionError, Import, Patch, Verification};
use patchbay_connections::refresh::{self, Freshness, ReadError};
use patchbay_types::connections::{Change, Connection, ConnectionFilter, ConnectionSummary, RefreshCause};
use patchbay_types::end_users::EndUserInput;
use patchbay_types::tags::TagIssue;
use patchbay_types::{AuthMode, ConnectionId, Credentials, IntegrationKey, JsonMap, Tags, Timestamp, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::codes;
use crate::error::{ApiError, Layer};
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{
    Issue, Object, Pattern, Schema, SchemaExt, coerced_number, date, discriminated, object, patterns,
    query_boolean, string, tags,
};

/// Rows of a list without `limit`.
const DEFAULT_LIMIT: u32 = 10_000;
/// Largest `limit`.
const MAX_LIMIT: f64 = 2000.0;
/// Longest OAuth token that can be imported, in characters.
const MAX_TOKEN: usize = 16_384;
/// Longest API key, user name or password that can be imported, in characters.
const MAX_LOGIN: usize = 1024;

const LIST: &[&str] = &[
    "environment:connections:list",
    "environment:connections:list_credentials",
];
const READ: &[&str] = &[
    "environment:connections:read",
    "environment:connections:read_credentials",
];
const READ_CREDENTIALS: &str = "environment:connections:read_credentials";

/// The routes of this resource.
pub fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/connections")
            .alias("/connection")
            .tag("connections")
            .summary("List connections, newest first")
            .scopes(LIST)
            .query::<ListQuery>(list_query())
            .responds::<List>(200)
            .handler(context, list),
        Route::get("/connections/{connectionId}")
            .alias("/connection/{connectionId}")
            .tag("connections")
            .summary("Read a connection with fresh credentials")
            .scopes(READ)
            .params::<ById>(by_id())
            .query::<ReadQuery>(read_query())
            .order(&[Layer::Query, Layer::Params])
            .responds::<Shown>(200)
            .errors(&[
                &codes::UNKNOWN_PROVIDER_CONFIG,
                &codes::NOT_FOUND,
                &codes::INVALID_CREDENTIALS,
                &codes::REFRESH_INTERRUPTED,
                &codes::SERVER_ERROR,
            ])
            .handler(context, read),
        Route::post("/connections")
            .tag("connections")
            .summary("Import a connection from existing credentials")
            .scopes(&["environment:connections:create"])
            .body::<ImportBody>(import_body())
            .responds::<Shown>(201)
            .errors(&[
                &codes::NOT_FOUND,
                &codes::RESOURCE_CAPPED,
                &codes::CONNECTION_TEST_FAILED,
                &codes::CONNECTION_VALIDATION_FAILED,
                &codes::FEATURE_NOT_BUILT,
                &codes::SERVER_ERROR,
            ])
            .handler(context, import),
        Route::patch("/connections/{connectionId}")
            .tag("connections")
            .summary("Change tags, end user, metadata or webhook URL of a connection")
            .scopes(&["environment:connections:update"])
            .params::<ById>(by_id())
            .query::<KeyQuery>(key_query())
            .body::<PatchBody>(patch_body())
            .order(&[Layer::Query, Layer::Body, Layer::Params])
            .responds::<Success>(200)
            .errors(&[
                &codes::UNKNOWN_PROVIDER_CONFIG,
                &codes::NOT_FOUND,
                &codes::SERVER_ERROR,
            ])
            .handler(context, patch),
        Route::delete("/connections/{connectionId}")
            .alias("/connection/{connectionId}")
            .tag("connections")
            .summary("Delete a connection")
            .scopes(&["environment:connections:delete"])
            .params::<ById>(by_id())
            .query::<KeyQuery>(key_query())
            .order(&[Layer::Params, Layer::Query])
            .responds::<Success>(200)
            .errors(&[&codes::UNKNOWN_CONNECTION])
            .handler(context, delete),
    ]
}

// --- shapes ---

/// `{"success": true}`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Success {
    success: bool,
}

impl Success {
    pub(crate) const YES: Self = Self { success: true };
}

#[derive(Debug, Serialize, JsonSchema)]
struct List {
    connections: Vec<Listed>,
}

/// A connection in a list: no credentials.
#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    id: i64,
    connection_id: String,
    provider_config_key: String,
    provider: String,
    errors: Vec<ActiveError>,
    end_user: Option<EndUser>,
    tags: std::collections::BTreeMap<String, String>,
    metadata: Option<JsonMap>,
    created: String,
}

/// A connection with its credentials.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Shown {
    id: i64,
    connection_id: String,
    provider_config_key: String,
    provider: String,
    errors: Vec<ActiveError>,
    end_user: Option<EndUser>,
    tags: std::collections::BTreeMap<String, String>,
    metadata: Option<JsonMap>,
    connection_config: JsonMap,
    webhook_url_override: Option<String>,
    created_at: String,
    updated_at: String,
    last_fetched_at: Option<String>,
    credentials: JsonMap,
}

/// An active failure.
#[derive(Debug, Serialize, JsonSchema)]
struct ActiveError {
    /// `auth` or `sync`.
    #[serde(rename = "type")]
    kind: String,
    /// The operation that failed.
    log_id: String,
}

/// The deprecated end user.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EndUser {
    id: String,
    display_name: Option<String>,
    email: Option<String>,
    tags: Option<std::collections::BTreeMap<String, String>>,
    organization: Option<Organization>,
}

/// The end user's organization.
#[derive(Debug, Serialize, JsonSchema)]
struct Organization {
    id: String,
    display_name: Option<String>,
}

impl From<&patchbay_types::end_users::EndUser> for EndUser {
    fn from(stored: &patchbay_types::end_users::EndUser) -> Self {
        Self::of(&stored.user, stored.organization.as_ref())
    }
}

impl EndUser {
    pub(crate) fn of(
        user: &EndUserInput,
        organization: Option<&patchbay_types::end_users::OrganizationInput>,
    ) -> Self {
        Self {
            id: user.id.clone(),
            display_name: user.display_name.clone(),
            email: user.email.clone(),
            tags: user.tags.clone(),
            organization: organization.map(|organization| Organization {
                id: organization.id.clone(),
                display_name: organization.display_name.clone(),
            }),
        }
    }
}

fn errors(errors: &[patchbay_types::connections::ConnectionError]) -> Vec<ActiveError> {
    errors
        .iter()
        .map(|error| ActiveError {
            kind: error.kind.clone(),
            log_id: error.log_id.0.clone(),
        })
        .collect()
}

fn tag_map(tags: &Tags) -> std::collections::BTreeMap<String, String> {
    tags.iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

impl From<ConnectionSummary> for Listed {
    fn from(row: ConnectionSummary) -> Self {
        Self {
            id: row.id.0,
            errors: errors(&row.errors),
            end_user: row.end_user.as_ref().map(EndUser::from),
            tags: tag_map(&row.tags),
            metadata: row.metadata,
            created: time::micros_offset(row.created_at),
            connection_id: row.connection_id.into(),
            provider_config_key: row.integration_key.into(),
            provider: row.provider.into(),
        }
    }
}

/// What of the credentials is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reveal {
    /// `{}`: the key may not read credentials.
    Nothing,
    /// All but refresh tokens.
    WithoutRefreshTokens,
    /// Everything.
    All,
}

/// How timestamps are written: reading says `+00:00`, importing says `Z`.
type Clock = fn(Timestamp) -> String;

fn shown(connection: &Connection, reveal: Reveal, last_fetched_at: Option<Timestamp>, at: Clock) -> Shown {
    let mut credentials = match reveal {
        Reveal::Nothing => JsonMap::new(),
        Reveal::WithoutRefreshTokens | Reveal::All => connection.credentials.to_json(),
    };
    let mut connection_config = connection.connection_config.clone();
    if reveal != Reveal::All {
        strip_refresh_tokens(&mut credentials);
        strip_refresh_tokens(&mut connection_config);
    }
    Shown {
        id: connection.id.0,
        connection_id: connection.connection_id.to_string(),
        provider_config_key: connection.integration_key.to_string(),
        provider: connection.provider.to_string(),
        errors: errors(&connection.errors),
        end_user: connection.end_user.as_ref().map(EndUser::from),
        tags: tag_map(&connection.tags),
        metadata: connection.metadata.clone(),
        connection_config,
        webhook_url_override: connection.webhook_url_override.clone(),
        created_at: at(connection.created_at),
        updated_at: at(connection.updated_at),
        last_fetched_at: last_fetched_at.map(at),
        credentials,
    }
}

/// Removes, at any depth, every member whose name reduces to `refreshtoken` (letters only, any case).
fn strip_refresh_tokens(object: &mut JsonMap) {
    object.retain(|name, _| !names_a_refresh_token(name));
    object.values_mut().for_each(strip_value);
}

fn strip_value(value: &mut Value) {
    match value {
        Value::Object(object) => strip_refresh_tokens(object),
        Value::Array(items) => items.iter_mut().for_each(strip_value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn names_a_refresh_token(name: &str) -> bool {
    let letters = name
        .bytes()
        .filter(u8::is_ascii_alphabetic)
        .map(|byte| byte.to_ascii_lowercase());
    letters.eq(b"refreshtoken".iter().copied())
}

// --- list ---

#[derive(Debug, Deserialize)]
struct ListQuery {
    #[serde(rename = "connectionId")]
    connection_id: Option<String>,
    search: Option<String>,
    #[serde(rename = "integrationId")]
    integration_id: Option<String>,
    #[serde(rename = "endUserId")]
    end_user_id: Option<String>,
    #[serde(rename = "endUserOrganizationId")]
    end_user_organization_id: Option<String>,
    tags: Option<Tags>,
    limit: Option<f64>,
    page: f64,
}

fn list_query() -> Object {
    let text = || string().min(1).max(255).optional();
    object()
        .field("connectionId", text().describe("Exact connection id"))
        .field(
            "search",
            text().describe("Part of the id, or of the end user's name or e-mail"),
        )
        .field(
            "integrationId",
            string()
                .min(1)
                .optional()
                .describe("Comma-separated integration ids; any of them"),
        )
        .field("endUserId", text().describe("Deprecated: use tags[end_user_id]"))
        .field(
            "endUserOrganizationId",
            text().describe("Deprecated: use tags[organization_id]"),
        )
        .field(
            "tags",
            tags().optional().describe("Every pair must be on the connection"),
        )
        .field("limit", coerced_number().min(1.0).max(MAX_LIMIT).optional())
        .field("page", coerced_number().min(0.0).default(0))
}

async fn list(context: Arc<Context>, call: Call<Empty, ListQuery>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    let query = call.query;
    // The schema bounds both; a fraction counts as the whole number below it.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the schema"
    )]
    let (limit, page) = (
        query.limit.map_or(DEFAULT_LIMIT, |limit| limit as u32),
        query.page as u64,
    );
    let filter = ConnectionFilter {
        connection_id: query.connection_id,
        search: query.search,
        integration_keys: query.integration_id.map(|keys| {
            keys.split(',')
                .map(str::trim)
                .filter(|key| !key.is_empty())
                .map(str::to_owned)
                .collect()
        }),
        end_user_id: query.end_user_id,
        organization_id: query.end_user_organization_id,
        tags: query.tags.unwrap_or_default(),
        limit,
        offset: page.saturating_mul(u64::from(limit)),
    };
    let rows = connections::list(&context, environment, filter).await?;
    Reply::json(&List {
        connections: rows.into_iter().map(Listed::from).collect(),
    })
}

// --- read ---

#[derive(Debug, Deserialize)]
struct ById {
    #[serde(rename = "connectionId")]
    connection_id: String,
}

fn by_id() -> Object {
    object().field("connectionId", connection_id())
}

pub(crate) fn connection_id() -> Schema {
    string()
        .pattern(patterns::CONNECTION_ID)
        .max(ConnectionId::MAX)
        .into()
}

pub(crate) fn integration_key() -> Schema {
    string()
        .pattern(patterns::INTEGRATION_KEY)
        .max(IntegrationKey::MAX)
        .into()
}

#[derive(Debug, Deserialize)]
struct KeyQuery {
    provider_config_key: String,
}

fn key_query() -> Object {
    object().field(
        "provider_config_key",
        integration_key().describe("The integration"),
    )
}

#[derive(Debug, Deserialize)]
struct ReadQuery {
    provider_config_key: String,
    force_refresh: bool,
    refresh_token: bool,
    refresh_github_app_jwt_token: bool,
}

fn read_query() -> Object {
    key_query()
        .field(
            "force_refresh",
            query_boolean()
                .default(false)
                .describe("Refresh the credentials now"),
        )
        .field(
            "refresh_token",
            query_boolean().default(false).describe("Show refresh tokens"),
        )
        .field(
            "refresh_github_app_jwt_token",
            query_boolean()
                .default(false)
                .describe("GitHub Apps: renew the app's JWT"),
        )
}

async fn read(context: Arc<Context>, call: Call<ById, ReadQuery>) -> Result<Reply, ApiError> {
    let may_read = call.principal()?.may(&[READ_CREDENTIALS]);
    let query = &call.query;
    if !may_read && (query.force_refresh || query.refresh_token || query.refresh_github_app_jwt_token) {
        return Err(ApiError::new(&codes::FORBIDDEN)
            .message(format!("Insufficient scope. Required: {READ_CREDENTIALS}")));
    }
    let name = ConnectionName {
        environment: call.environment()?.id,
        integration: call.query.provider_config_key,
        connection: call.params.connection_id,
    };
    if !may_read {
        let found = refresh::find(&context, &name).await?;
        let Some(connection) = found else {
            return Err(missing(&context, &name).await?);
        };
        let body = shown(
            &connection,
            Reveal::Nothing,
            connection.last_fetched_at,
            time::millis_offset,
        );
        return Reply::json(&body);
    }
    // `refresh_github_app_jwt_token` speaks of the app's own JWT, which only GitHub Apps' connections have; the
    // access token is not its business.
    let freshness = if call.query.force_refresh {
        Freshness::Forced
    } else {
        Freshness::Usual
    };
    let reveal = if call.query.refresh_token {
        Reveal::All
    } else {
        Reveal::WithoutRefreshTokens
    };
    match refresh::read(&context, &name, freshness).await {
        Ok(connection) => Reply::json(&shown(
            &connection,
            reveal,
            Some(context.ambient.now()),
            time::millis_offset,
        )),
        Err(error) => Err(unreadable(&error, context.ambient.now())),
    }
}

/// Which of the two is unknown: the integration or the connection.
async fn missing(context: &Arc<Context>, name: &ConnectionName) -> Result<ApiError, ApiError> {
    let integration =
        patchbay_connections::integrations::get(context, name.environment, &name.integration).await?;
    Ok(if integration.is_none() {
        unknown_integration()
    } else {
        unknown_connection()
    })
}

fn unknown_integration() -> ApiError {
    ApiError::new(&codes::UNKNOWN_PROVIDER_CONFIG)
        .status(StatusCode::BAD_REQUEST)
        .message("There is no integration with this key in this environment")
}

fn unknown_connection() -> ApiError {
    ApiError::new(&codes::NOT_FOUND).message("There is no connection with this id under this integration")
}

/// Why credentials could not be read, with the connection as far as it may be shown.
pub(crate) fn unreadable(error: &ReadError, now: Timestamp) -> ApiError {
    let invalid = |connection: &Connection, status, cause: Option<RefreshCause>| {
        let body = shown(connection, Reveal::Nothing, Some(now), time::millis_offset);
        ApiError::new(&codes::INVALID_CREDENTIALS)
            .status(status)
            .message(error.to_string())
            .payload(json!({"connection": body, "cause": cause}))
    };
    match error {
        ReadError::UnknownIntegration => unknown_integration(),
        ReadError::UnknownConnection => unknown_connection(),
        ReadError::Exhausted(connection) | ReadError::Backoff(connection) => invalid(
            connection,
            StatusCode::FAILED_DEPENDENCY,
            connection.refresh.cause,
        ),
        ReadError::Failed {
            connection, cause, ..
        } => {
            let status = match cause {
                RefreshCause::ProviderRefused => StatusCode::BAD_REQUEST,
                RefreshCause::RefreshInterrupted => StatusCode::FAILED_DEPENDENCY,
                RefreshCause::ProviderDown => StatusCode::BAD_GATEWAY,
                RefreshCause::Ours => StatusCode::INTERNAL_SERVER_ERROR,
            };
            invalid(connection, status, Some(*cause))
        }
        ReadError::Store(cause) if cause.is_transient() => {
            ApiError::unavailable(std::time::Duration::from_secs(1), cause.to_string())
        }
        ReadError::Store(cause) => ApiError::unexpected(cause.to_string()),
    }
}

// --- import ---

#[derive(Debug, Deserialize)]
struct ImportBody {
    provider_config_key: String,
    credentials: JsonMap,
    connection_id: Option<String>,
    metadata: Option<JsonMap>,
    connection_config: Option<JsonMap>,
    webhook_url_override: Option<String>,
    end_user: Option<EndUserInput>,
    tags: Option<Tags>,
}

fn import_body() -> Object {
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

pub(crate) fn webhook_url() -> Schema {
    string().trim().url_or_empty().max(2048).into()
}

pub(crate) fn end_user() -> Object {
    object()
        .field("id", string().min(1).max(255))
        .field("email", string().email().min(5).optional())
        .field("display_name", string().max(255).optional())
        .field("tags", crate::schema::end_user_tags().optional())
}

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

async fn import(context: Arc<Context>, call: Call<Empty, Empty, ImportBody>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.clone();
    let body = call.body;
    let target = connections::import_target(&context, environment.id, &body.provider_config_key)
        .await
        .map_err(refused)?;
    let connection_config = body.connection_config.unwrap_or_default();
    let credentials = imported(&body.credentials, &connection_config, target.auth_mode())?;
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

/// The credentials to store. OAuth imports keep what was submitted as `raw`.
fn imported(
    given: &JsonMap,
    connection_config: &JsonMap,
    auth_mode: AuthMode,
) -> Result<Credentials, ApiError> {
    let mut object = given.clone();
    let kind = given.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind != auth_mode.as_str() {
        return Err(ApiError::new(&codes::INVALID_BODY).message(format!(
            "This integration takes credentials of type {auth_mode}, not {kind}"
        )));
    }
    match auth_mode {
        AuthMode::None => return Ok(Credentials::None {}),
        AuthMode::OAuth1 | AuthMode::OAuth2 | AuthMode::OAuth2Cc => {
            let mut raw = given.clone();
            if let Some(at) = raw.get_mut("expires_at")
                && let Some(Ok(instant)) = at.as_str().map(str::parse)
            {
                *at = Value::from(time::millis_z(instant));
            }
            object.insert("raw".to_owned(), Value::Object(raw));
        }
        AuthMode::Tba if !names_an_account(connection_config) => {
            return Err(ApiError::new(&codes::INVALID_BODY)
                .message("Connections of this type need `connection_config.accountId`"));
        }
        AuthMode::App | AuthMode::Custom => return Err(not_built(auth_mode)),
        _ => {}
    }
    Credentials::from_json(object).map_err(ApiError::unexpected)
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

/// Importing an app's installation means obtaining its first token.
pub(crate) fn not_built(auth_mode: AuthMode) -> ApiError {
    ApiError::new(&codes::FEATURE_NOT_BUILT).message(format!(
        "This version of Patchbay cannot import connections of type {auth_mode} yet"
    ))
}

/// Refuses a webhook URL that could never be delivered to: our own host, or one the address policy blocks.
pub(crate) fn check_webhook_url(context: &Context, url: &str, path: &[&str]) -> Result<(), ApiError> {
    if url.trim().is_empty() {
        return Ok(());
    }
    let refuse = |words: String| Err(ApiError::invalid(Layer::Body, vec![Issue::custom(path, words)]));
    let parsed: url::Url = match url.trim().parse() {
        Ok(parsed) => parsed,
        Err(_) => return refuse("Invalid URL".to_owned()),
    };
    let own = &context.settings.public_url;
    if parsed.host() == own.host() && parsed.port_or_known_default() == own.port_or_known_default() {
        return refuse("This is Patchbay's own address".to_owned());
    }
    match context.proxy_client.policy().check_url(&parsed) {
        Ok(()) => Ok(()),
        Err(error) => refuse(format!("Webhooks cannot be sent there: {error}")),
    }
}

/// A domain refusal of an import, in the import's codes.
fn refused(error: ConnectionError) -> ApiError {
    match error {
        ConnectionError::UnknownIntegration | ConnectionError::UnknownProvider => {
            ApiError::new(&codes::NOT_FOUND).message(error.to_string())
        }
        ConnectionError::UnknownConnection(_) => unknown_connection(),
        ConnectionError::WrongCredentials(words) => ApiError::new(&codes::INVALID_BODY).message(words),
        ConnectionError::Tags(issue) => tag_issue(&issue),
        ConnectionError::TestFailed(words) => ApiError::new(&codes::CONNECTION_TEST_FAILED).message(words),
        ConnectionError::Store(error) => error.into(),
    }
}

/// Tags that break a rule only together with what the deprecated fields add.
pub(crate) fn tag_issue(issue: &TagIssue) -> ApiError {
    let words = match issue {
        TagIssue::TooMany => "Together with the end user's, there are more than 10 tags",
        _ => "The tags and the end user's tags do not fit together",
    };
    ApiError::invalid(Layer::Body, vec![Issue::custom(&["tags"], words)])
}

// --- patch and delete ---

#[derive(Debug, Deserialize)]
struct PatchBody {
    end_user: Option<EndUserInput>,
    tags: Option<Tags>,
    metadata: Option<JsonMap>,
    webhook_url_override: Option<String>,
}

fn patch_body() -> Object {
    object()
        .field("end_user", end_user().optional())
        .field("tags", tags().optional())
        .field("metadata", object().loose().optional())
        .field("webhook_url_override", webhook_url().optional())
}

async fn patch(context: Arc<Context>, call: Call<ById, KeyQuery, PatchBody>) -> Result<Reply, ApiError> {
    let name = ConnectionName {
        environment: call.environment()?.id,
        integration: call.query.provider_config_key,
        connection: call.params.connection_id,
    };
    let body = call.body;
    if let Some(url) = &body.webhook_url_override {
        check_webhook_url(&context, url, &["webhook_url_override"])?;
    }
    let patch = Patch {
        end_user: body.end_user,
        tags: body.tags,
        metadata: body.metadata,
        webhook_url_override: body.webhook_url_override,
    };
    connections::patch(&context, &name, patch)
        .await
        .map_err(|error| match error {
            ConnectionError::UnknownIntegration => unknown_integration(),
            other => refused(other),
        })?;
    Reply::json(&Success::YES)
}

async fn delete(context: Arc<Context>, call: Call<ById, KeyQuery>) -> Result<Reply, ApiError> {
    let environment = call.environment()?.clone();
    let name = ConnectionName {
        environment: environment.id,
        integration: call.query.provider_config_key,
        connection: call.params.connection_id,
    };
    match connections::delete(&context, &environment, &name).await {
        Ok(()) => Reply::json(&Success::YES),
        Err(ConnectionError::Store(error)) => Err(error.into()),
        Err(_) => Err(ApiError::new(&codes::UNKNOWN_CONNECTION).status(StatusCode::BAD_REQUEST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_tokens_are_stripped_at_any_depth_and_spelling() {
        let mut object = json!({
            "access_token": "a", "refresh_token": "r", "raw": {"Refresh-Token": "r", "list": [{"refreshToken": 1, "k": 2}]},
            "refresh_token_expires_in": 5
        });
        strip_value(&mut object);
        assert_eq!(
            object,
            json!({"access_token": "a", "raw": {"list": [{"k": 2}]}, "refresh_token_expires_in": 5})
        );
    }
}
