//! The demonstration: a guided page, and the few endpoints that play the part of a product's backend.
//!
//! They ask for no key, so they answer only to the machine they run on: the name in `Host` must be a loopback name,
//! or the configured one (a page of another site may resolve its own name to 127.0.0.1, but cannot change what it
//! is called), and other sites' scripts are refused by `Origin` and `Sec-Fetch-Site`.

use std::fmt;
use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use patchbay_api::cors::Cors;
use patchbay_api::route::Empty;
use patchbay_api::schema::{object, string};
use patchbay_api::{ApiError, Auth, Call, Endpoint, Rate, Reply, Route, codes};
use patchbay_connections::caches::ConnectionName;
use patchbay_connections::refresh::{self, Freshness, ReadError};
use patchbay_connections::{connect_sessions, connections, environments};
use patchbay_proxy::{Controls, ProxyRequest};
use patchbay_types::connect_sessions::ConnectSessionSpec;
use patchbay_types::connections::ConnectionFilter;
use patchbay_types::{
    AccountId, Credentials, EnvironmentId, IntegrationKey, JsonMap, Secret, Tags, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Site;
use crate::assets::Files;
use crate::page::{html_with, json_block};

/// Most of the sample API's answer that is read.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// What the demonstration shows and with whose key.
#[derive(Clone)]
pub struct Demo {
    /// The account.
    pub account: AccountId,
    /// The environment it plays in.
    pub environment: EnvironmentId,
    /// A key of that environment, shown in the commands to copy.
    pub api_key: Secret,
    /// The OAuth integration that is connected.
    pub integration: IntegrationKey,
    /// Name of the sample provider.
    pub provider_name: String,
    /// Where it is, without a trailing slash.
    pub provider_url: String,
    /// What the provider has seen so far.
    pub observe: Arc<dyn Fn() -> Observed + Send + Sync>,
}

/// What the sample provider has seen.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Observed {
    /// Refreshes of access tokens.
    pub refreshes: u64,
    /// Requests to its API.
    pub requests: u64,
    /// Deliveries to the environment's webhook URL, oldest first.
    pub webhooks: Vec<ObservedWebhook>,
}

/// A delivery as it arrived.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ObservedWebhook {
    /// When, RFC 3339.
    pub at: String,
    /// The headers that identify and sign it.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: String,
    /// Whether the signature fits key and body.
    pub genuine: bool,
}

impl fmt::Debug for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demo")
            .field("environment", &self.environment)
            .field("integration", &self.integration)
            .field("provider_url", &self.provider_url)
            .finish_non_exhaustive()
    }
}

#[derive(Template)]
#[template(path = "demo.html")]
struct DemoPage<'a> {
    files: Files,
    version: &'static str,
    provider: &'a str,
    person: Person,
    base: &'a str,
    provider_url: &'a str,
    key: &'a str,
    integration: &'a str,
    settings: String,
}

/// The end user whose account is connected.
#[derive(Clone, Copy, Debug)]
struct Person {
    id: &'static str,
    name: &'static str,
    email: &'static str,
}

const PERSON: Person = Person {
    id: "customer-17",
    name: "Ada Eklund",
    email: "ada.eklund@kestrel-finch.example",
};

pub(crate) fn page(site: &Site, demo: &Demo, parts: &Parts) -> Result<Response<Body>, ApiError> {
    only_from_here(site, parts)?;
    let settings = &site.context.settings;
    let path = settings.websockets_path.trim_start_matches('/');
    let told = json!({ "integration": demo.integration, "socket": format!("./{path}") });
    let page = DemoPage {
        files: Files::from(parts.uri.path()),
        version: env!("CARGO_PKG_VERSION"),
        provider: &demo.provider_name,
        person: PERSON,
        base: settings.public_url.as_str().trim_end_matches('/'),
        provider_url: &demo.provider_url,
        key: demo.api_key.expose(),
        integration: demo.integration.as_str(),
        settings: json_block(&told)?,
    };
    html_with(StatusCode::OK, &page, policy(&parts.headers)?)
}

/// The pages' policy, and connections to where the page came from, WebSockets included: older browsers do not count
/// those as `'self'`.
fn policy(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let text = format!(
        "{}; connect-src 'self' ws://{host} wss://{host}",
        crate::page::POLICY
    );
    HeaderValue::try_from(text).map_err(ApiError::unexpected)
}

pub(crate) fn routes(site: &Site) -> Vec<Endpoint> {
    let by_id = || object().field("connection_id", string().min(1).max(255));
    let errors = [
        &codes::FORBIDDEN,
        &codes::UNKNOWN_CONNECTION,
        &codes::INVALID_CREDENTIALS,
        &codes::SERVER_ERROR,
        &codes::SERVICE_UNAVAILABLE,
    ];
    vec![
        Route::get("/demo/state")
            .tag("demo")
            .summary("Demonstration only: what has happened so far")
            .auth(Auth::None)
            .cors(Cors::SameOrigin)
            .rate(Rate::Free)
            .any_query()
            .responds::<State>(200)
            .errors(&errors)
            .handler(site, state),
        Route::post("/demo/session")
            .tag("demo")
            .summary("Demonstration only: a connect session for the end user")
            .auth(Auth::None)
            .cors(Cors::SameOrigin)
            .rate(Rate::Free)
            .any_query()
            .responds::<Session>(200)
            .errors(&errors)
            .handler(site, session),
        Route::post("/demo/token")
            .tag("demo")
            .summary("Demonstration only: the connection's token, masked")
            .auth(Auth::None)
            .cors(Cors::SameOrigin)
            .rate(Rate::Free)
            .any_query()
            .body::<ById>(by_id())
            .responds::<Token>(200)
            .errors(&errors)
            .handler(site, token),
        Route::post("/demo/contacts")
            .tag("demo")
            .summary("Demonstration only: a proxied call with the connection")
            .auth(Auth::None)
            .cors(Cors::SameOrigin)
            .rate(Rate::Free)
            .any_query()
            .body::<ById>(by_id())
            .responds::<Fetched>(200)
            .errors(&errors)
            .handler(site, contacts),
    ]
}

#[derive(Debug, Deserialize)]
struct ById {
    connection_id: String,
}

#[derive(Serialize, JsonSchema)]
struct Session {
    token: String,
}

#[derive(Serialize, JsonSchema)]
struct Token {
    /// Beginning and end; the middle is nobody's business.
    masked: String,
    /// RFC 3339.
    expires_at: Option<String>,
    /// So far, at the provider.
    refreshes: u64,
}

#[derive(Serialize, JsonSchema)]
struct Fetched {
    status: u16,
    contacts: Vec<Contact>,
    milliseconds: i64,
}

#[derive(Serialize, JsonSchema)]
struct Contact {
    name: String,
    email: String,
}

#[derive(Serialize, JsonSchema)]
struct State {
    connections: Vec<Connected>,
    provider: Observed,
}

#[derive(Serialize, JsonSchema)]
struct Connected {
    connection_id: String,
    tags: std::collections::BTreeMap<String, String>,
    created_at: String,
}

/// Refuses whoever is not this machine's own browser or shell.
pub(crate) fn only_from_here(site: &Site, parts: &Parts) -> Result<(), ApiError> {
    let text = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let host = text(header::HOST)
        .or_else(|| parts.uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let configured = site.context.settings.public_url.host_str();
    let known = matches!(name, "localhost" | "127.0.0.1" | "[::1]") || configured == Some(name);
    let own_origin = text(header::ORIGIN)
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, rest)| rest == host));
    let site_of = text(http::HeaderName::from_static("sec-fetch-site"));
    // A link from elsewhere may open the page; its script may not read anything.
    let opened = parts.method == Method::GET
        && text(http::HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
    let own_site = opened || site_of.is_none_or(|site| matches!(site, "same-origin" | "none"));
    if known && own_origin && own_site {
        return Ok(());
    }
    Err(ApiError::new(&codes::FORBIDDEN)
        .message("The demonstration answers only to this machine's own pages"))
}

fn running<P, Q, B>(site: &Site, call: &Call<P, Q, B>) -> Result<Arc<Demo>, ApiError> {
    only_from_here(site, &call.parts)?;
    let demo = site.options.demo.clone();
    demo.ok_or_else(|| ApiError::unexpected("a route of the demonstration on a server without one"))
}

async fn state(site: Site, call: Call) -> Result<Reply, ApiError> {
    let demo = running(&site, &call)?;
    let filter = ConnectionFilter {
        integration_keys: Some(vec![demo.integration.to_string()]),
        limit: 5,
        ..ConnectionFilter::default()
    };
    let found = connections::list(&site.context, demo.environment, filter).await?;
    let connections = found.into_iter().map(|row| Connected {
        tags: row
            .tags
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        connection_id: row.connection_id.into(),
        created_at: row.created_at.to_string(),
    });
    Reply::json(&State {
        connections: connections.collect(),
        provider: (demo.observe)(),
    })
}

async fn session(site: Site, call: Call) -> Result<Reply, ApiError> {
    let demo = running(&site, &call)?;
    let tags: JsonMap = [
        ("end_user_id", PERSON.id),
        ("end_user_display_name", PERSON.name),
        ("end_user_email", PERSON.email),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())))
    .collect();
    let tags = Tags::parse(&tags).map_err(|issues| ApiError::unexpected(format!("{issues:?}")))?;
    let spec = ConnectSessionSpec {
        tags: Some(tags),
        allowed_integrations: Some(vec![demo.integration.clone()]),
        ..ConnectSessionSpec::default()
    };
    let made = connect_sessions::create(&site.context, demo.account, demo.environment, spec).await;
    let made = made.map_err(ApiError::unexpected)?;
    Reply::json(&Session {
        token: made.token.expose().to_owned(),
    })
}

async fn token(site: Site, call: Call<Empty, Empty, ById>) -> Result<Reply, ApiError> {
    let demo = running(&site, &call)?;
    let name = ConnectionName {
        environment: demo.environment,
        integration: demo.integration.to_string(),
        connection: call.body.connection_id,
    };
    let connection = refresh::read(&site.context, &name, Freshness::Usual)
        .await
        .map_err(unreadable)?;
    let Credentials::OAuth2(credentials) = &connection.credentials else {
        return Err(ApiError::unexpected(
            "the demonstration's connection holds no OAuth token",
        ));
    };
    Reply::json(&Token {
        masked: mask(credentials.access_token.expose()),
        expires_at: credentials.expires_at.as_ref().map(Timestamp::to_string),
        refreshes: (demo.observe)().refreshes,
    })
}

async fn contacts(site: Site, call: Call<Empty, Empty, ById>) -> Result<Reply, ApiError> {
    let demo = running(&site, &call)?;
    let began = site.context.ambient.now();
    let environment = environments::get(&site.context, demo.environment)
        .await
        .map_err(ApiError::unexpected)?
        .ok_or_else(|| ApiError::unexpected("the demonstration's environment is gone"))?;
    let request = ProxyRequest {
        environment,
        method: Method::GET,
        target: "/contacts?limit=5".to_owned(),
        headers: HeaderMap::new(),
        body: patchbay_outbound::Body::empty(),
        controls: Controls {
            provider_config_key: demo.integration.to_string(),
            connection_id: call.body.connection_id,
            ..Controls::default()
        },
        upgrade: None,
    };
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        ApiError::new(&codes::SERVER_ERROR)
            .status(StatusCode::BAD_GATEWAY)
            .message(error.to_string())
            .cause(error)
    };
    let response = site
        .proxy
        .relay(request)
        .await
        .map_err(|error| failed(error.into()))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), LARGEST_ANSWER);
    let bytes = body.collect().await.map_err(failed)?.to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = answer["contacts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let contacts = rows.iter().map(|row| Contact {
        name: format!("{} {}", text(row, "first_name"), text(row, "last_name")),
        email: text(row, "email"),
    });
    let took = site.context.ambient.now().duration_since(began);
    Reply::json(&Fetched {
        status,
        contacts: contacts.collect(),
        milliseconds: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
    })
}

fn unreadable(error: ReadError) -> ApiError {
    match error {
        ReadError::UnknownIntegration | ReadError::UnknownConnection => {
            ApiError::new(&codes::UNKNOWN_CONNECTION).message(error.to_string())
        }
        ReadError::Store(_) => ApiError::unexpected(error),
        ReadError::Exhausted(_) | ReadError::Backoff(_) | ReadError::Failed { .. } => {
            ApiError::new(&codes::INVALID_CREDENTIALS).message(error.to_string())
        }
    }
}

fn mask(token: &str) -> String {
    let characters: Vec<char> = token.chars().collect();
    if characters.len() < 16 {
        return "••••".to_owned();
    }
    let (head, tail) = (&characters[..6], &characters[characters.len() - 4..]);
    format!(
        "{}••••••••{}",
        head.iter().collect::<String>(),
        tail.iter().collect::<String>()
    )
}
