//! `/connections`: list, read, import, patch, delete (api-core §9).

mod import;
mod shape;

use std::sync::Arc;

use http::StatusCode;
use patchbay_catalog::forms::{FieldError, Group};
use patchbay_connections::Context;
use patchbay_connections::caches::ConnectionName;
use patchbay_connections::connections::{self, ConnectionError, Patch};
use patchbay_connections::installations;
use patchbay_connections::refresh::{self, Freshness, ReadError};
use patchbay_types::connections::{Connection, ConnectionFilter, RefreshCause};
use patchbay_types::end_users::EndUserInput;
use patchbay_types::tags::TagIssue;
use patchbay_types::{ConnectionId, IntegrationKey, JsonMap, Tags, Timestamp, time};
use serde::Deserialize;
use serde_json::json;

pub(crate) use self::import::names_an_account;
use self::import::{ImportBody, import, import_body};
pub(crate) use self::shape::{EndUser, Shown, Success};
use self::shape::{List, Listed, Reveal, shown};
use crate::codes;
use crate::error::{ApiError, Layer};
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{
    Issue, Object, Schema, SchemaExt, coerced_number, object, patterns, query_boolean, string, tags,
};

/// Rows of a list without `limit`.
const DEFAULT_LIMIT: u32 = 10_000;
/// Largest `limit`.
const MAX_LIMIT: f64 = 2000.0;

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
                &codes::SERVER_ERROR,
            ])
            .errors(&crate::authorize_forms::not_obtained_codes())
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
    let mut connection = refresh::read(&context, &name, freshness)
        .await
        .map_err(|error| unreadable(&error, context.ambient.now()))?;
    if call.query.refresh_github_app_jwt_token {
        connection = installations::with_fresh_jwt(&context, connection).await?;
    }
    let now = Some(context.ambient.now());
    Reply::json(&shown(&connection, reveal, now, time::millis_offset))
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

// --- what the handlers share ---

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
        ConnectionError::Fields(errors) => {
            let issue = |error: &FieldError| {
                let group = match error.group {
                    Group::Credentials => &["credentials", &error.name][..],
                    Group::ConnectionConfig => &["connection_config", &error.name],
                    Group::AssertionOption => &["credentials", "assertionOption", &error.name],
                };
                Issue::custom(group, error.to_string())
            };
            ApiError::invalid(Layer::Body, errors.iter().map(issue).collect())
        }
        ConnectionError::NotObtained(error) => crate::authorize_forms::not_obtained(&error),
        ConnectionError::NotMinted(words) => ApiError::new(&codes::SERVER_ERROR).message(words),
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
