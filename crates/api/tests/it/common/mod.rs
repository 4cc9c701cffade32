//! The whole API over a throw-away database, called in process. Every answer is held against the OpenAPI document,
//! read strictly: a field, status or error code that it does not list fails the test.

mod contract;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_api::authenticator::ContextAuthenticator;
use patchbay_api::body::BodyLimits;
use patchbay_api::client::TrustedProxies;
use patchbay_api::cors::CorsHeaders;
use patchbay_api::openapi::Info;
use patchbay_api::rate_limit::{RateLimiter, RateLimits};
use patchbay_api::routes::routes;
use patchbay_api::status::Readiness;
use patchbay_api::{Service, ServiceOptions};
use patchbay_catalog::{Catalogue, CatalogueHandle};
use patchbay_connections::environments::{CreatedEnvironment, NewEnvironment};
use patchbay_connections::integrations::{AppCredentials, NewIntegration};
use patchbay_connections::{
    Context, Settings, StateCookie, api_keys, connect_sessions, environments, integrations,
};
use patchbay_outbound::{Client, Policy, PrivateNetworks, Settings as ClientSettings, Timeouts, Trust};
use patchbay_proxy::Proxy;
use patchbay_store::testing::TestDb;
use patchbay_types::connect_sessions::ConnectSessionSpec;
use patchbay_types::environments::{Environment, EnvironmentSettings};
use patchbay_types::integrations::Integration;
use patchbay_types::{AccountId, AuthMode, EnvironmentId, EnvironmentName, IntegrationKey, ScopeSet};
use serde_json::{Value, json};

use contract::Contract;

/// A well-formed key that nobody has.
pub const UNKNOWN_KEY: &str = "00000000-0000-4000-8000-000000000000";
/// A well-formed session token that nobody has.
pub const UNKNOWN_SESSION: &str =
    "nango_connect_session_0000000000000000000000000000000000000000000000000000000000000000";
/// Origin of the server under test.
pub const PUBLIC_URL: &str = "http://localhost:3003";

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let (catalogue, findings) = Catalogue::from_text("providers.yaml", include_str!("catalogue.yaml"));
    assert_eq!(findings, [], "the test catalogue is well-formed");
    catalogue
});

/// The server of one test, with the environments `dev` and `prod`.
pub struct TestApi {
    pub service: Service,
    pub context: Arc<Context>,
    pub clock: TestClock,
    pub account: AccountId,
    pub dev: Environment,
    /// A key of `dev` that may do everything there.
    pub key: String,
    pub prod: Environment,
    pub prod_key: String,
    /// A key that may do everything with the account.
    pub account_key: String,
    contract: Contract,
    _db: TestDb,
}

/// A request being written.
#[must_use]
pub struct Sending<'a> {
    api: &'a TestApi,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Body,
}

/// A response, already held against the OpenAPI document.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// The body if it is JSON, else null.
    pub json: Value,
    request: String,
}

impl TestApi {
    /// A server with the test catalogue, without rate limits.
    pub async fn on(db: TestDb) -> Self {
        Self::with(db, CATALOGUE.clone(), 0).await
    }

    /// A server with a catalogue of its own and `per_minute` requests in every bucket; 0 = unlimited.
    pub async fn with(db: TestDb, catalogue: Catalogue, per_minute: u32) -> Self {
        let clock = TestClock::default();
        let ambient = Ambient::test(clock.clone(), 1);
        let store = db.open(ambient.clone()).await;
        let networks = PrivateNetworks::loopback();
        let client = |name, policy| {
            let settings = ClientSettings {
                name,
                timeouts: Timeouts::default(),
                trust: Trust::nobody(),
                user_agent: None,
            };
            Client::new(policy, settings, ambient.clock.clone())
        };
        let settings = Settings {
            public_url: PUBLIC_URL.parse().unwrap(),
            connect_url: "http://localhost:3009/".parse().unwrap(),
            websockets_path: "/ws".to_owned(),
            state_cookie: StateCookie::Required,
            signing_key_grace: std::time::Duration::from_hours(24),
            node: "test".to_owned(),
            journal: patchbay_connections::journal::JournalSettings::default(),
        };
        let context = Context::start(
            store,
            CatalogueHandle::new(catalogue),
            client("oauth", Policy::oauth(&networks)),
            client("proxy", Policy::public(&networks)),
            ambient.clone(),
            settings,
        );
        let options = ServiceOptions {
            authenticator: Arc::new(ContextAuthenticator::new(context.clone())),
            limiter: RateLimiter::in_memory(RateLimits::uniform(per_minute), ambient.clock.clone()),
            body: BodyLimits::default(),
            cors: CorsHeaders::new("http://localhost:3009"),
            proxies: TrustedProxies::default(),
            fallback: None,
            info: Info {
                version: "0.0.0".to_owned(),
                server_url: PUBLIC_URL.to_owned(),
            },
            ambient,
        };
        let proxy = Proxy::new(context.clone(), patchbay_proxy::Settings::default());
        let service = Service::new(routes(&context, &proxy, &Readiness::of(&context)), options).unwrap();
        let account = api_keys::default_account(&context).await.unwrap();
        let dev = create_environment(&context, account, "dev").await;
        let prod = create_environment(&context, account, "prod").await;
        let mut api = Self {
            contract: Contract::of(service.document()),
            service,
            context,
            clock,
            account,
            dev: dev.environment,
            key: dev.secret.expose().to_owned(),
            prod: prod.environment,
            prod_key: prod.secret.expose().to_owned(),
            account_key: String::new(),
            _db: db,
        };
        api.account_key = api.make_key(None, &["account:*"]).await;
        api
    }

    /// Another environment.
    pub async fn environment(&self, name: &str) -> CreatedEnvironment {
        create_environment(&self.context, self.account, name).await
    }

    /// A new key of `dev` with these scopes.
    pub async fn key_with(&self, scopes: &[&str]) -> String {
        self.make_key(Some(self.dev.id), scopes).await
    }

    /// A new account key with these scopes.
    pub async fn account_key_with(&self, scopes: &[&str]) -> String {
        self.make_key(None, scopes).await
    }

    async fn make_key(&self, environment: Option<EnvironmentId>, scopes: &[&str]) -> String {
        let new = api_keys::NewApiKey {
            account: self.account,
            environment,
            display_name: format!("test {}", self.context.ambient.entropy.uuid()),
            scopes: ScopeSet::parse(scopes.iter().copied()).unwrap(),
        };
        let made = api_keys::create(&self.context, new).await.unwrap();
        made.secret.expose().to_owned()
    }

    /// The token of a new connect session in `dev`.
    pub async fn session(&self, spec: ConnectSessionSpec) -> String {
        let made = connect_sessions::create(&self.context, self.account, self.dev.id, spec).await;
        made.unwrap().token.expose().to_owned()
    }

    /// A new integration in `dev`, with a developer app if the provider needs one.
    pub async fn integration(&self, provider: &str, unique_key: &str) -> Integration {
        self.integration_in(&self.dev, provider, unique_key).await
    }

    /// A new integration, with a developer app if the provider needs one.
    pub async fn integration_in(
        &self,
        environment: &Environment,
        provider: &str,
        unique_key: &str,
    ) -> Integration {
        let mode = self.context.catalogue.get(provider).unwrap().definition.auth_mode;
        let credentials = match mode {
            AuthMode::OAuth1 | AuthMode::OAuth2 => Some(AppCredentials::OAuth {
                mode,
                client_id: Some("client".to_owned()),
                client_secret: Some("secret".into()),
                scopes: None,
                webhook_secret: None,
            }),
            AuthMode::App => Some(AppCredentials::App {
                app_id: "1".to_owned(),
                app_link: "https://apps.example.com/mine".to_owned(),
                private_key: "key".into(),
            }),
            AuthMode::Custom => Some(AppCredentials::Custom {
                client_id: "client".to_owned(),
                client_secret: "secret".into(),
                app_id: "1".to_owned(),
                app_link: "https://apps.example.com/mine".to_owned(),
                private_key: "key".into(),
            }),
            _ => None,
        };
        let config = (mode == AuthMode::TwoStep)
            .then(|| [("clientId".to_owned(), "abc".to_owned())].into_iter().collect());
        let new = NewIntegration {
            provider: provider.to_owned(),
            unique_key: IntegrationKey::parse(unique_key).unwrap(),
            display_name: None,
            forward_webhooks: true,
            credentials,
            integration_config: config,
            custom: None,
        };
        integrations::create(&self.context, environment.id, new)
            .await
            .unwrap()
    }

    /// A request with the key of `dev`.
    pub fn send(&self, method: &str, target: impl Into<String>) -> Sending<'_> {
        Sending {
            api: self,
            method: method.parse().unwrap(),
            target: target.into(),
            headers: HeaderMap::new(),
            body: Body::empty(),
        }
        .bearer(&self.key)
    }

    pub fn get(&self, target: impl Into<String>) -> Sending<'_> {
        self.send("GET", target)
    }

    pub fn post(&self, target: impl Into<String>, body: Value) -> Sending<'_> {
        self.send("POST", target).json(body)
    }

    pub fn put(&self, target: impl Into<String>, body: Value) -> Sending<'_> {
        self.send("PUT", target).json(body)
    }

    pub fn patch(&self, target: impl Into<String>, body: Value) -> Sending<'_> {
        self.send("PATCH", target).json(body)
    }

    pub fn delete(&self, target: impl Into<String>) -> Sending<'_> {
        self.send("DELETE", target)
    }
}

async fn create_environment(context: &Context, account: AccountId, name: &str) -> CreatedEnvironment {
    let new = NewEnvironment {
        account,
        name: EnvironmentName::parse(name).unwrap(),
        is_production: None,
        settings: EnvironmentSettings::default(),
    };
    environments::create(context, new).await.unwrap()
}

impl Sending<'_> {
    /// With this bearer instead.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Without `Authorization`.
    pub fn anonymous(mut self) -> Self {
        self.headers.remove(header::AUTHORIZATION);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).unwrap();
        self.headers.insert(name, HeaderValue::try_from(value).unwrap());
        self
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "tests write the value where they send it"
    )]
    pub fn json(self, body: Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub fn body(mut self, kind: &str, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self.header("content-type", kind)
    }

    /// Sends it; whatever it answers must be documented.
    pub async fn send(self) -> Answer {
        let line = format!("{} {}", self.method, self.target);
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.parse().unwrap();
        *request.headers_mut() = self.headers;
        let path = request.uri().path().to_owned();
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let response = self.api.service.handle(request, peer).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let json = if is_json && !bytes.is_empty() {
            serde_json::from_slice(&bytes).unwrap()
        } else {
            Value::Null
        };
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            json,
            request: line,
        };
        self.api.contract.check(&self.method, &path, &answer);
        answer
    }

    /// Sends it and wants this status; the JSON body.
    pub async fn expect(self, status: u16) -> Value {
        let answer = self.send().await;
        assert_eq!(answer.status, status, "{}: {}", answer.request, answer.text);
        answer.json
    }

    /// Sends it and wants this error; the error object.
    pub async fn fails(self, status: u16, code: &str) -> Value {
        let mut json = self.expect(status).await;
        assert_eq!(json["error"]["code"], code, "{json}");
        json["error"].take()
    }

    /// Sends it and wants validation issues of a layer, each `[code, message, path…]`.
    pub async fn invalid(self, code: &str, issues: Value) {
        let error = self.fails(400, code).await;
        let found: Vec<Value> = error["errors"]
            .as_array()
            .unwrap_or(&Vec::new())
            .iter()
            .map(|issue| {
                let path = issue["path"].as_array().unwrap().iter().cloned();
                let mut flat = vec![issue["code"].clone(), issue["message"].clone()];
                flat.extend(path);
                Value::Array(flat)
            })
            .collect();
        assert_eq!(Value::Array(found), issues);
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// `error.code`.
    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or_default()
    }
}

/// `Invalid input: expected <kind>, received undefined` at a path of one step.
pub fn missing(field: &str, kind: &str) -> Value {
    let message = format!("Invalid input: expected {kind}, received undefined");
    json!(["invalid_type", message, field])
}

/// `Unrecognized key: "<key>"` at the root.
pub fn unrecognized(key: &str) -> Value {
    json!(["unrecognized_keys", format!("Unrecognized key: \"{key}\"")])
}
