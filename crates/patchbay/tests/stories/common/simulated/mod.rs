//! Providers of the redirect modes, as strict as the real ones: each checks what it is sent with code of its own and
//! refuses anything that does not follow its protocol.

pub mod crisp;
pub mod github;
pub mod mcp;
pub mod oauth1;
pub mod sentry;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use patchbay_ambient::{Ambient, TestClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Starting, World};

/// A running provider.
#[derive(Clone)]
pub struct Simulated {
    pub base_url: String,
    clock: TestClock,
    state: Arc<Mutex<Ledger>>,
}

/// What it remembers.
#[derive(Default)]
pub struct Ledger {
    /// Every request, oldest first.
    pub calls: Vec<Seen>,
    pub github: github::Hub,
    pub mcp: mcp::Registry,
    pub oauth1: oauth1::Tokens,
    /// Answers to give instead of the right one, by path, each once.
    pub instead: Vec<(String, StatusCode, Value)>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<String> {
        pick(self.uri.query().unwrap_or_default().as_bytes(), name)
    }

    /// A field of a form.
    pub fn form(&self, name: &str) -> Option<String> {
        pick(&self.body, name)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

fn pick(encoded: &[u8], name: &str) -> Option<String> {
    url::form_urlencoded::parse(encoded)
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
}

impl Simulated {
    /// Starts it beside a world; it ends with the system's tasks of the test process.
    pub async fn start(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let simulated = Self {
            base_url,
            clock: world.clock.clone(),
            state: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(simulated.clone());
        Ambient::system()
            .tasks
            .spawn(async move { axum::serve(listener, router).await.unwrap() });
        simulated
    }

    pub fn now(&self) -> jiff::Timestamp {
        patchbay_ambient::Clock::now(&self.clock)
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests to `path`, oldest first.
    pub fn calls(&self, path: &str) -> Vec<Seen> {
        let ledger = self.ledger();
        ledger
            .calls
            .iter()
            .filter(|seen| seen.path() == path)
            .cloned()
            .collect()
    }

    /// Answers the next request to `path` like this.
    pub fn answer_once(&self, path: &str, status: u16, body: Value) {
        let status = StatusCode::from_u16(status).unwrap();
        self.ledger().instead.push((path.to_owned(), status, body));
    }

    /// A server that knows these provider definitions too, `BASE` being this provider. It tells the provider before it
    /// deletes a connection, by a call of the provider's `/whoami`.
    pub fn server<'a>(&self, world: &'a World, definitions: &str) -> Starting<'a> {
        let path = world.path("simulated.yaml");
        let proxy = "  proxy:\n    base_url:";
        let revoke = "  revoke:\n    - request: {method: DELETE, endpoint: /whoami}\n";
        let definitions = definitions.replace(proxy, &format!("{revoke}{proxy}"));
        std::fs::write(&path, definitions.replace("BASE", &self.base_url)).unwrap();
        let mut starting = world.server();
        let catalogs = starting.sources.flags.entry("catalog".to_owned()).or_default();
        catalogs.push(path.display().to_string());
        starting
    }
}

async fn answer(State(simulated): State<Simulated>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let seen = Seen {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
        body,
    };
    {
        let mut ledger = simulated.ledger();
        ledger.calls.push(seen.clone());
        if let Some(at) = ledger.instead.iter().position(|(path, ..)| path == seen.path()) {
            let (_, status, body) = ledger.instead.remove(at);
            return (status, axum::Json(body)).into_response();
        }
    }
    let first = seen.path().split('/').nth(1).unwrap_or_default().to_owned();
    match first.as_str() {
        "github" => github::answer(&simulated, &seen),
        ".well-known" | "id" | "server" => mcp::answer(&simulated, &seen),
        "sentry" => sentry::answer(&simulated, &seen),
        "plugin" => crisp::answer(&simulated, &seen),
        "oauth1" => oauth1::answer(&simulated, &seen),
        _ => (
            StatusCode::NOT_FOUND,
            axum::Json(json!({"error": "no such path"})),
        )
            .into_response(),
    }
}

pub fn redirect(target: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, target.to_owned())]).into_response()
}

pub fn refuse(status: u16, words: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, axum::Json(json!({"error": words}))).into_response()
}
