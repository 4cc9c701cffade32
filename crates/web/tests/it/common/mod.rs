//! A server with pages, protocol and sample provider, on a clock of the test's own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use futures_util::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_api::authenticator::ContextAuthenticator;
use patchbay_api::body::BodyLimits;
use patchbay_api::client::TrustedProxies;
use patchbay_api::cors::CorsHeaders;
use patchbay_api::openapi::Info;
use patchbay_api::rate_limit::{RateLimiter, RateLimits};
use patchbay_api::server::{ServerOptions, serve};
use patchbay_api::{Service, ServiceOptions, authorize_forms};
use patchbay_catalog::{Catalogue, CatalogueHandle};
use patchbay_connections::environments::{CreatedEnvironment, NewEnvironment};
use patchbay_connections::integrations::{AppCredentials, NewIntegration};
use patchbay_connections::{
    Context, Settings, StateCookie, api_keys, connect_sessions, connections, environments, integrations,
};
use patchbay_outbound::{Client, Policy, PrivateNetworks, Settings as ClientSettings, Timeouts, Trust};
use patchbay_sample::SampleHandle;
use patchbay_store::testing::TestDb;
use patchbay_types::connect_sessions::ConnectSessionSpec;
use patchbay_types::connections::{ConnectionFilter, ConnectionSummary};
use patchbay_types::environments::EnvironmentSettings;
use patchbay_types::{AccountId, AuthMode, EnvironmentName, IntegrationKey, JsonMap, ScopeSet, Tags};
use patchbay_web::{ConnectUiOptions, Demo, Observed, Options};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use url::Url;

const CATALOGUE: &str = r"
oauth:
  display_name: Oauth
  categories: [other]
  auth_mode: OAUTH2
  authorization_url: BASE/oauth/authorize
  token_url: BASE/oauth/token
  proxy:
    base_url: BASE
  docs: BASE/
key:
  display_name: Key
  categories: [other]
  auth_mode: API_KEY
  proxy:
    base_url: BASE
    headers:
      x-api-key: ${apiKey}
    verification:
      method: GET
      endpoints: [/whoami]
  docs: BASE/
  credentials:
    apiKey:
      type: string
      title: API key
      description: The key.
basic:
  display_name: Basic
  categories: [other]
  auth_mode: BASIC
  proxy:
    base_url: BASE
    headers:
      x-tenant: ${connectionConfig.tenant}
    verification:
      method: GET
      endpoints: [/whoami]
  docs: BASE/
  connection_config:
    tenant:
      type: string
      title: Tenant
      description: Lower-case letters.
      pattern: '^[a-z]+$'
  credentials:
    username:
      type: string
      title: User
      description: The user.
    password:
      type: string
      title: Password
      description: The password.
client:
  display_name: Client
  categories: [other]
  auth_mode: OAUTH2_CC
  token_url: BASE/oauth/token
  token_params:
    grant_type: client_credentials
  proxy:
    base_url: BASE
  docs: BASE/
  credentials:
    client_id:
      type: string
      title: Client
      description: The client.
    client_secret:
      type: string
      title: Secret
      description: The secret.
nothing:
  display_name: Nothing
  categories: [other]
  auth_mode: NONE
  proxy:
    base_url: BASE
  docs: BASE/
two-step:
  display_name: Two step
  categories: [other]
  auth_mode: TWO_STEP
  token_url: BASE/oauth/token
  token_response:
    token: token
  proxy:
    base_url: BASE
  docs: BASE/
  credentials:
    username:
      type: string
      title: User
      description: The user.
";

pub(crate) struct World {
    pub(crate) context: Arc<Context>,
    pub(crate) service: Service,
    pub(crate) sample: SampleHandle,
    pub(crate) clock: TestClock,
    pub(crate) account: AccountId,
    pub(crate) dev: CreatedEnvironment,
    pub(crate) address: SocketAddr,
    _db: TestDb,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) websockets_path: &'static str,
    pub(crate) public_url: &'static str,
    pub(crate) demo: bool,
    pub(crate) per_minute: u32,
    /// Of the Connect UI: an API it may be pointed at, and a site that may embed it.
    pub(crate) elsewhere: Option<(&'static str, &'static str)>,
}

impl Setup {
    fn connect_ui(&self) -> ConnectUiOptions {
        let given = self.elsewhere;
        ConnectUiOptions {
            api_urls: given.iter().map(|(api, _)| api.parse().unwrap()).collect(),
            frame_ancestors: given.iter().map(|(_, site)| (*site).to_owned()).collect(),
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            websockets_path: "/",
            public_url: "http://localhost:3003",
            demo: false,
            per_minute: 0,
            elsewhere: None,
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let clock = TestClock::default();
        let ambient = Ambient::test(clock.clone(), 7);
        let db = TestDb::sqlite().await;
        let store = db.open(ambient.clone()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sample = patchbay_sample::serve(listener, &ambient, patchbay_sample::Options::default()).unwrap();
        sample.behave(|all| all.consent = patchbay_sample::Consent::Approve);
        let text = CATALOGUE.replace("BASE", &sample.base_url);
        let (catalogue, _) = Catalogue::from_text("test.yaml", &text);
        assert_eq!(catalogue.len(), 6);
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
        let context = Context::start(
            store,
            CatalogueHandle::new(catalogue),
            client("oauth", Policy::oauth(&networks)),
            client("proxy", Policy::public(&networks)),
            ambient.clone(),
            Settings {
                public_url: setup.public_url.parse().unwrap(),
                connect_url: "http://localhost:3003/connect-ui/".parse().unwrap(),
                websockets_path: setup.websockets_path.to_owned(),
                state_cookie: StateCookie::Required,
                signing_key_grace: std::time::Duration::from_hours(24),
                node: "test".to_owned(),
                journal: patchbay_connections::journal::JournalSettings::default(),
            },
        );
        let account = api_keys::default_account(&context).await.unwrap();
        let new = NewEnvironment {
            account,
            name: EnvironmentName::parse("dev").unwrap(),
            is_production: None,
            settings: EnvironmentSettings::default(),
        };
        let dev = environments::create(&context, new).await.unwrap();
        for name in ["oauth", "key", "basic", "client", "nothing", "two-step"] {
            integrate(&context, &dev, name).await;
        }
        let limits = RateLimits::uniform(setup.per_minute);
        let limiter = RateLimiter::in_memory(limits, ambient.clock.clone());
        let demo = setup.demo.then(|| Arc::new(demo(account, &dev, &sample)));
        let options = Options {
            limiter: Some(limiter.clone()),
            connect_ui: setup.connect_ui(),
            demo,
            websocket_limit: 100,
        };
        let mut endpoints = patchbay_web::routes(&context, options);
        endpoints.extend(patchbay_api::connect_forms::routes(&context));
        endpoints.extend(patchbay_api::auth_outcomes::routes(&context));
        endpoints.extend(authorize_forms::routes(&context));
        let service = Service::new(
            endpoints,
            ServiceOptions {
                authenticator: Arc::new(ContextAuthenticator::new(context.clone())),
                limiter,
                body: BodyLimits::default(),
                cors: CorsHeaders::new("http://localhost:3003"),
                proxies: TrustedProxies::default(),
                fallback: None,
                info: Info {
                    version: "0.0.0".to_owned(),
                    server_url: "http://localhost:3003".to_owned(),
                },
                ambient: ambient.clone(),
            },
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = serve(
            listener,
            service.clone(),
            ambient.clone(),
            ServerOptions::default(),
        );
        ambient.tasks.spawn(serving);
        Self {
            context,
            service,
            sample,
            clock,
            account,
            dev,
            address,
            _db: db,
        }
    }

    /// A session for the customer Grace, limited to `allowed` unless that is empty.
    pub(crate) async fn session(&self, allowed: &[&str]) -> String {
        self.session_named("Grace", allowed).await
    }

    pub(crate) async fn session_named(&self, name: &str, allowed: &[&str]) -> String {
        let tags: JsonMap = [
            ("end_user_display_name", name),
            ("end_user_email", "grace@example.com"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::String(value.to_owned())))
        .collect();
        let allowed: Vec<_> = allowed
            .iter()
            .map(|key| IntegrationKey::parse(key).unwrap())
            .collect();
        let spec = ConnectSessionSpec {
            tags: Some(Tags::parse(&tags).unwrap()),
            allowed_integrations: (!allowed.is_empty()).then_some(allowed),
            ..ConnectSessionSpec::default()
        };
        let made = connect_sessions::create(&self.context, self.account, self.dev.environment.id, spec).await;
        made.unwrap().token.expose().to_owned()
    }

    pub(crate) async fn key_with(&self, scopes: &[&str]) -> String {
        let new = api_keys::NewApiKey {
            account: self.account,
            environment: Some(self.dev.environment.id),
            display_name: scopes.join(" "),
            scopes: ScopeSet::parse(scopes.iter().copied()).unwrap(),
        };
        let made = api_keys::create(&self.context, new).await.unwrap();
        made.secret.expose().to_owned()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.service.handle(request, "127.0.0.1:1".parse().unwrap()).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], "").await
    }

    pub(crate) async fn post(&self, target: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send("POST", target, &headers, &body.to_string()).await
    }

    /// An open socket and the id it was given.
    pub(crate) async fn socket(&self, path: &str) -> (Socket, String) {
        let url = format!("ws://{}{path}", self.address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let ack = frame(&mut socket).await;
        assert_eq!(ack["message_type"], "connection_ack");
        (socket, ack["ws_client_id"].as_str().unwrap().to_owned())
    }

    /// Goes to the provider: where the popup is sent back to, and the cookie it got.
    pub(crate) async fn to_provider(&self, token: &str, more: &str) -> (String, String) {
        let target = format!("/oauth/connect/oauth?connect_session_token={token}{more}");
        let redirect = self.get(&target).await;
        assert_eq!(redirect.status, 302, "{}", redirect.text);
        let location = Url::parse(redirect.header("location")).unwrap();
        let cookie = redirect
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        (provider_sends_to(&location).await, cookie)
    }

    pub(crate) async fn connections(&self) -> Vec<ConnectionSummary> {
        let filter = ConnectionFilter {
            limit: 10,
            ..ConnectionFilter::default()
        };
        connections::list(&self.context, self.dev.environment.id, filter)
            .await
            .unwrap()
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Status and code of an error.
    pub(crate) fn code(&self) -> String {
        format!(
            "{} {}",
            self.status,
            self.json()["error"]["code"].as_str().unwrap()
        )
    }

    /// What the page's script is told.
    pub(crate) fn orders(&self) -> Value {
        let (_, rest) = self
            .text
            .split_once(r#"id="orders">"#)
            .expect("a page with orders");
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }
}

/// The next text frame as JSON.
pub(crate) async fn frame(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Opens the provider's page, which decides at once: path and query of where it sends the browser.
pub(crate) async fn provider_sends_to(location: &Url) -> String {
    let host = format!("127.0.0.1:{}", location.port().unwrap());
    let mut stream = TcpStream::connect(&host).await.unwrap();
    let target = &location[url::Position::BeforePath..];
    let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let header = answer.lines().find_map(|line| line.strip_prefix("location: "));
    let back = Url::parse(header.unwrap_or_else(|| panic!("{answer}"))).unwrap();
    back[url::Position::BeforePath..].to_owned()
}

async fn integrate(context: &Context, dev: &CreatedEnvironment, name: &str) {
    let config = None;
    let new = NewIntegration {
        provider: name.to_owned(),
        unique_key: IntegrationKey::parse(name).unwrap(),
        display_name: None,
        forward_webhooks: false,
        credentials: (name == "oauth").then(|| AppCredentials::OAuth {
            mode: AuthMode::OAuth2,
            client_id: Some(patchbay_sample::CLIENT_ID.to_owned()),
            client_secret: Some(patchbay_sample::CLIENT_SECRET.into()),
            scopes: None,
            webhook_secret: None,
        }),
        integration_config: config,
        custom: None,
    };
    integrations::create(context, dev.environment.id, new)
        .await
        .unwrap();
}

fn demo(account: AccountId, dev: &CreatedEnvironment, sample: &SampleHandle) -> Demo {
    let seen = sample.clone();
    Demo {
        account,
        environment: dev.environment.id,
        api_key: dev.secret.clone(),
        integration: IntegrationKey::parse("oauth").unwrap(),
        provider_name: "Sample & Co".to_owned(),
        provider_url: sample.base_url.clone(),
        observe: Arc::new(move || Observed {
            refreshes: seen.counts().token_refresh,
            requests: seen.counts().api,
            webhooks: Vec::new(),
        }),
    }
}
