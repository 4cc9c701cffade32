//! `/connect/…`: connect sessions, made by the product's backend, used by its end user's browser (api-core §10).

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use patchbay_connections::Context;
use patchbay_connections::connect_sessions::{self, ConnectSessionError, CreatedSession, ReconnectTarget};
use patchbay_types::connect_sessions::{ConnectSession, ConnectSessionSpec};
use patchbay_types::environments::default_connect_ui;
use patchbay_types::{JsonMap, time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::authenticate::Auth;
use crate::codes;
use crate::connections::{
    EndUser, check_webhook_url, connection_id, end_user, integration_key, tag_issue, webhook_url,
};
use crate::cors::Cors;
use crate::error::{ApiError, Layer};
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{Issue, Object, Schema, SchemaExt, array, choice, date, object, record, string, tags};

const WRITE: &[&str] = &["environment:connect_sessions:write"];

/// How far a telemetry timestamp may be from ours, in seconds.
const TELEMETRY_WINDOW: i64 = 2 * 60 * 60;

const TELEMETRY_EVENTS: &[&str] = &[
    "open",
    "view:list",
    "view:integration",
    "view:unknown_error",
    "view:credentials_error",
    "view:success",
    "click:integration",
    "click:doc",
    "click:doc_section",
    "click:connect",
    "click:close",
    "click:finish",
    "click:outside",
    "popup:blocked_by_browser",
    "popup:closed_early",
];

/// The routes of this resource.
pub fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::post("/connect/sessions")
            .tag("connect")
            .summary("Make a connect session for an end user")
            .scopes(WRITE)
            .body::<ConnectSessionSpec>(create_body())
            .responds::<Created>(201)
            .errors(&[&codes::RESOURCE_CAPPED, &codes::SERVER_ERROR])
            .handler(context, create),
        Route::post("/connect/sessions/reconnect")
            .tag("connect")
            .summary("Make a connect session that re-authorizes a connection")
            .scopes(WRITE)
            .body::<ReconnectBody>(reconnect_body())
            .responds::<Created>(201)
            .errors(&[&codes::SERVER_ERROR])
            .handler(context, reconnect),
        Route::get("/connect/session")
            .tag("connect")
            .summary("Read the session behind a token")
            .auth(Auth::Session)
            .empty_body()
            .responds::<Session>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(context, read),
        Route::delete("/connect/session")
            .tag("connect")
            .summary("End a session")
            .auth(Auth::Session)
            .empty_body()
            .responds_empty(204)
            .errors(&[&codes::SERVER_ERROR])
            .handler(context, delete),
        Route::post("/connect/telemetry")
            .tag("connect")
            .summary("Report a step of the Connect UI")
            .auth(Auth::None)
            .cors(Cors::ConnectUi)
            .body::<Telemetry>(telemetry_body())
            .responds_empty(204)
            .errors(&[
                &codes::INVALID_CONNECT_SESSION_TOKEN_FORMAT,
                &codes::UNKNOWN_CONNECT_SESSION_TOKEN,
            ])
            .handler(context, telemetry),
    ]
}

// --- create ---

#[derive(Debug, Serialize, JsonSchema)]
struct Created {
    data: CreatedData,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CreatedData {
    token: String,
    connect_link: String,
    expires_at: String,
}

impl From<CreatedSession> for Created {
    fn from(session: CreatedSession) -> Self {
        Self {
            data: CreatedData {
                token: session.token.expose().to_owned(),
                connect_link: session.connect_link,
                expires_at: time::millis_z(session.expires_at),
            },
        }
    }
}

fn common(body: Object) -> Object {
    body.field("integrations_config_defaults", defaults().optional())
        .field("overrides", overrides().optional())
        .field("webhook_url_override", webhook_url().optional())
}

fn create_body() -> Schema {
    let body = object()
        .field("end_user", end_user().optional().describe("Deprecated: use tags"))
        .field(
            "organization",
            organization().optional().describe("Deprecated: use tags"),
        )
        .field("allowed_integrations", array(integration_key()).optional())
        .field("tags", tags().optional());
    common(body).refine(|value, found| {
        if value.get("end_user").is_none() && value.get("tags").is_none() {
            found.report(Issue::missing(&["end_user"], "object"));
        }
    })
}

fn organization() -> Object {
    object()
        .field("id", string().max(255))
        .field("display_name", string().max(255).optional())
}

fn defaults() -> Schema {
    let of_one = object()
        .field("user_scopes", string().optional())
        .field("authorization_params", record(string(), string()).optional())
        .field(
            "connection_config",
            object()
                .field("oauth_scopes_override", string().optional())
                .field(
                    "webhook_url",
                    webhook_url()
                        .optional()
                        .describe("Deprecated: use webhook_url_override"),
                )
                .loose()
                .optional(),
        );
    record(string(), of_one).into()
}

fn overrides() -> Schema {
    record(
        string(),
        object().field("docs_connect", string().optional()).strip(),
    )
    .into()
}

async fn create(
    context: Arc<Context>,
    call: Call<Empty, Empty, ConnectSessionSpec>,
) -> Result<Reply, ApiError> {
    let account = call.principal()?.account_id;
    let environment = call.environment()?.id;
    check_urls(&context, &call.body)?;
    let session = connect_sessions::create(&context, account, environment, call.body)
        .await
        .map_err(refused)?;
    Reply::json_with(StatusCode::CREATED, &Created::from(session))
}

#[derive(Debug, Deserialize)]
struct ReconnectBody {
    connection_id: String,
    integration_id: String,
    #[serde(flatten)]
    spec: ConnectSessionSpec,
}

fn reconnect_body() -> Object {
    common(
        object()
            .field("connection_id", connection_id())
            .field("integration_id", integration_key())
            .field("end_user", end_user().optional().describe("Deprecated: use tags"))
            .field(
                "organization",
                organization().optional().describe("Deprecated: use tags"),
            )
            .field("tags", tags().optional()),
    )
}

async fn reconnect(
    context: Arc<Context>,
    call: Call<Empty, Empty, ReconnectBody>,
) -> Result<Reply, ApiError> {
    let account = call.principal()?.account_id;
    let environment = call.environment()?.id;
    let ReconnectBody {
        connection_id,
        integration_id,
        spec,
    } = call.body;
    check_urls(&context, &spec)?;
    let target = ReconnectTarget {
        integration: integration_id,
        connection: connection_id,
    };
    let session = connect_sessions::reconnect(&context, account, environment, spec, target)
        .await
        .map_err(refused)?;
    Reply::json_with(StatusCode::CREATED, &Created::from(session))
}

fn check_urls(context: &Context, spec: &ConnectSessionSpec) -> Result<(), ApiError> {
    if let Some(url) = &spec.webhook_url_override {
        check_webhook_url(context, url, &["webhook_url_override"])?;
    }
    for (key, defaults) in spec.integrations_config_defaults.iter().flatten() {
        let older = defaults
            .connection_config
            .as_ref()
            .and_then(|config| config.get("webhook_url"));
        if let Some(url) = older.and_then(Value::as_str) {
            let path = [
                "integrations_config_defaults",
                key,
                "connection_config",
                "webhook_url",
            ];
            check_webhook_url(context, url, &path)?;
        }
    }
    Ok(())
}

fn refused(error: ConnectSessionError) -> ApiError {
    match error {
        ConnectSessionError::UnknownIntegrations(unknown) => {
            let issues = unknown.into_iter().map(|reference| {
                let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
                Issue::custom(
                    &path,
                    format!("There is no integration {:?}", reference.integration),
                )
            });
            ApiError::invalid(Layer::Body, issues.collect())
        }
        ConnectSessionError::Tags(issue) => tag_issue(&issue),
        ConnectSessionError::UnknownConnection => ApiError::new(&codes::INVALID_BODY)
            .message("There is no connection with this id under this integration"),
        ConnectSessionError::Store(error) => error.into(),
    }
}

// --- read ---

#[derive(Debug, Serialize, JsonSchema)]
struct Session {
    data: SessionData,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SessionData {
    #[serde(rename = "endUser")]
    end_user: Option<EndUser>,
    #[serde(rename = "connectUISettings")]
    connect_ui_settings: JsonMap,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_integrations: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    integrations_config_defaults: Option<BTreeMap<String, Presets>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overrides: Option<BTreeMap<String, Overrides>>,
    #[serde(rename = "isReconnecting", skip_serializing_if = "Option::is_none")]
    is_reconnecting: Option<bool>,
    #[serde(rename = "websocketsPath")]
    websockets_path: String,
    /// For how many seconds the token still works.
    #[serde(rename = "expiresIn")]
    expires_in: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Presets {
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_params: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_config: Option<JsonMap>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    docs_connect: Option<String>,
}

async fn read(context: Arc<Context>, call: Call) -> Result<Reply, ApiError> {
    let session = session(&call)?;
    let bound = connect_sessions::bound_connection(&context, session).await?;
    if session.connection.is_some() && bound.is_none() {
        return Err(ApiError::new(&codes::NOT_FOUND)
            .message("The connection this session re-authorizes no longer exists"));
    }
    let spec = &session.spec;
    let end_user = match &bound {
        Some(connection) => connection.end_user.as_ref().map(EndUser::from),
        None => spec
            .end_user
            .as_ref()
            .map(|user| EndUser::of(user, spec.organization.as_ref())),
    };
    let presets = connect_sessions::shown_presets(&context, session).await?;
    let presets = presets.map(|presets| {
        let shown = presets.into_iter().map(|(key, preset)| {
            let shown = Presets {
                authorization_params: preset.authorization_params,
                connection_config: preset.connection_config,
            };
            (key, shown)
        });
        shown.collect()
    });
    let data = SessionData {
        end_user,
        connect_ui_settings: connect_ui_settings(call.environment()?.settings.connect_ui.as_ref()),
        allowed_integrations: spec
            .allowed_integrations
            .as_ref()
            .filter(|allowed| !allowed.is_empty())
            .map(|allowed| allowed.iter().map(ToString::to_string).collect()),
        integrations_config_defaults: presets,
        overrides: spec.overrides.as_ref().map(|overrides| {
            let shown = overrides.iter().map(|(key, shown)| {
                (
                    key.clone(),
                    Overrides {
                        docs_connect: shown.docs_connect.clone(),
                    },
                )
            });
            shown.collect()
        }),
        is_reconnecting: session.connection.is_some().then_some(true),
        websockets_path: context.settings.websockets_path.clone(),
        expires_in: session
            .expires_at
            .duration_since(context.ambient.now())
            .as_secs()
            .max(0),
    };
    Reply::json(&Session { data })
}

/// The environment's settings over the defaults.
fn connect_ui_settings(own: Option<&JsonMap>) -> JsonMap {
    let mut settings = default_connect_ui();
    settings.extend(
        own.into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    settings
}

fn session<P, Q, B>(call: &Call<P, Q, B>) -> Result<&Arc<ConnectSession>, ApiError> {
    call.principal()?
        .session()
        .ok_or_else(|| ApiError::unexpected("the route takes session tokens only"))
}

async fn delete(context: Arc<Context>, call: Call) -> Result<Reply, ApiError> {
    connect_sessions::delete(&context, session(&call)?.id).await?;
    Ok(Reply::no_content())
}

// --- telemetry ---

#[derive(Debug, Deserialize)]
struct Telemetry {
    token: String,
    event: String,
    timestamp: patchbay_types::Timestamp,
    #[serde(default)]
    dimensions: Option<Dimensions>,
}

#[derive(Debug, Deserialize)]
struct Dimensions {
    integration: Option<String>,
}

fn telemetry_body() -> Object {
    object()
        .field("token", string())
        .field("event", choice(TELEMETRY_EVENTS))
        .field("timestamp", date())
        .field(
            "dimensions",
            object().field("integration", string().optional()).optional(),
        )
}

async fn telemetry(context: Arc<Context>, call: Call<Empty, Empty, Telemetry>) -> Result<Reply, ApiError> {
    let Telemetry {
        token,
        event,
        timestamp,
        dimensions,
    } = call.body;
    if !connect_sessions::is_token(&token) {
        return Err(ApiError::new(&codes::INVALID_CONNECT_SESSION_TOKEN_FORMAT)
            .legacy()
            .message("The token is no connect session token"));
    }
    let distance = timestamp.duration_since(context.ambient.now()).as_secs().abs();
    if distance > TELEMETRY_WINDOW {
        let issue = Issue::custom(&["timestamp"], "The timestamp is more than two hours away");
        return Err(ApiError::invalid(Layer::Body, vec![issue]));
    }
    let session = connect_sessions::authenticate(&context, &token)
        .await?
        .ok_or_else(|| {
            ApiError::new(&codes::UNKNOWN_CONNECT_SESSION_TOKEN)
                .legacy()
                .message("The session is unknown, expired or deleted")
        })?;
    let integration = dimensions.and_then(|dimensions| dimensions.integration);
    connect_sessions::record_step(&context, &session, &event, integration.as_deref(), timestamp).await?;
    Ok(Reply::no_content())
}
