//! Companies whose customers connect by filling in a form: a small API for each such auth mode, which checks
//! what it is sent with code of its own and remembers it.

pub mod bill;
pub mod clients;
pub mod cloud;
pub mod gate;
pub mod keys;
pub mod netsuite;
pub mod publisher;
pub mod wsse;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use patchbay_ambient::TestClock;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Answer, TestServer, World};

/// All of them behind one address.
pub struct Companies {
    pub base: String,
    office: Arc<Office>,
}

/// What the companies share.
pub struct Office {
    pub clock: TestClock,
    seen: Mutex<Vec<Seen>>,
    /// What a company keeps between requests, by a name of its own.
    drawers: Mutex<BTreeMap<String, Vec<String>>>,
    /// Companies that answer their next token request like this instead.
    failures: Mutex<BTreeMap<&'static str, (u16, &'static str, String)>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query, undecoded.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body, JSON or a form, as JSON.
    pub fn fields(&self) -> Value {
        if let Ok(value) = serde_json::from_slice(&self.body) {
            return value;
        }
        let pairs = url::form_urlencoded::parse(&self.body);
        Value::Object(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
                .collect(),
        )
    }
}

impl Office {
    /// Puts something into a drawer and says how many are in it now.
    pub fn keep(&self, drawer: &str, what: impl Into<String>) -> usize {
        let mut drawers = self.drawers.lock().unwrap();
        let drawer = drawers.entry(drawer.to_owned()).or_default();
        drawer.push(what.into());
        drawer.len()
    }

    pub fn kept(&self, drawer: &str) -> Vec<String> {
        self.drawers
            .lock()
            .unwrap()
            .get(drawer)
            .cloned()
            .unwrap_or_default()
    }

    /// The newest thing in a drawer.
    pub fn newest(&self, drawer: &str) -> String {
        self.kept(drawer).pop().unwrap_or_default()
    }

    /// The failure a company was told to have.
    pub fn failure(&self, company: &str) -> Option<Response> {
        let (status, kind, body) = self.failures.lock().unwrap().remove(company)?;
        let response = Response::builder().status(status).header("content-type", kind);
        Some(response.body(Body::from(body)).unwrap())
    }
}

impl Companies {
    /// Opens them, and adds their definitions to the world's catalogue.
    pub async fn open(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let office = Arc::new(Office {
            clock: world.clock.clone(),
            seen: Mutex::default(),
            drawers: Mutex::default(),
            failures: Mutex::default(),
        });
        let router = Router::new().fallback(receive).with_state(office.clone());
        let serving = world.provider_tasks();
        serving.spawn(async move { axum::serve(listener, router).await });
        let definitions = [
            bill::DEFINITION,
            clients::DEFINITION,
            cloud::DEFINITION,
            gate::DEFINITION,
            keys::DEFINITION,
            netsuite::DEFINITION,
            publisher::DEFINITION,
            wsse::DEFINITION,
        ];
        let mut catalogue = std::fs::read_to_string(world.catalogue()).unwrap();
        for definition in definitions {
            catalogue.push_str(&with_revocation(definition).replace("BASE", &base));
        }
        std::fs::write(world.catalogue(), catalogue).unwrap();
        Self { base, office }
    }

    pub fn office(&self) -> &Office {
        &self.office
    }

    /// Requests to one company since the beginning.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.office.seen.lock().unwrap();
        seen.iter()
            .filter(|one| one.path().starts_with(path))
            .cloned()
            .collect()
    }

    pub fn last(&self, path: &str) -> Seen {
        self.seen(path)
            .pop()
            .unwrap_or_else(|| panic!("nobody asked {path}"))
    }

    /// Has a company answer its next token request otherwise.
    pub fn fail_next(&self, company: &'static str, status: u16, kind: &'static str, body: &str) {
        self.office
            .failures
            .lock()
            .unwrap()
            .insert(company, (status, kind, body.to_owned()));
    }
}

async fn receive(State(office): State<Arc<Office>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
    };
    office.seen.lock().unwrap().push(seen.clone());
    let company = seen.path().split('/').nth(1).unwrap_or_default();
    match company {
        "bill" => bill::answer(&office, &seen),
        "clients" => clients::answer(&office, &seen),
        "cloud" => cloud::answer(&office, &seen),
        "gate" => gate::answer(&office, &seen),
        "keys" => keys::answer(&seen),
        "netsuite" => netsuite::answer(&office, &seen),
        "publisher" => publisher::answer(&office, &seen),
        "wsse" => wsse::answer(&office, &seen),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Every company is told before a connection is deleted, by a call of its API with the connection's credentials.
fn with_revocation(definition: &str) -> String {
    let proxy = "    proxy:\n        base_url:";
    let revoke = "    revoke:\n        - request: {method: DELETE, endpoint: /revoked}\n";
    definition.replace(proxy, &format!("{revoke}{proxy}"))
}

pub fn ok(body: &Value) -> Response {
    Json(body).into_response()
}

pub fn refuse(status: u16, why: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, Json(json!({"error": why}))).into_response()
}

/// What a browser and an application do with a connection made by a form.
impl TestServer {
    /// Makes an integration called like its provider.
    pub async fn integrate(&self, provider: &str, more: &Value) {
        let mut body = json!({"provider": provider, "unique_key": provider});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.api.post("/integrations", &body).await.expect(200);
    }

    /// Fills in a form in a fresh session. `target` is the route with the integration and, if need be, `params`.
    pub async fn fill(&self, target: &str, body: &Value) -> Answer {
        let session = self.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        self.fill_as(&session, target, body).await
    }

    pub async fn fill_as(&self, session: &str, target: &str, body: &Value) -> Answer {
        let separator = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{separator}connect_session_token={session}");
        self.api.anonymous().post(&target, body).await
    }

    /// Fills in a form that is accepted; the new connection's id.
    pub async fn connect(&self, target: &str, body: &Value) -> String {
        let made = self.fill(target, body).await.expect(200);
        made["connectionId"].as_str().unwrap().to_owned()
    }

    /// Fills in a form again for a connection that exists, and sees that its labels outlive that.
    pub async fn reconnect(&self, integration: &str, id: &str, target: &str, body: &Value) -> Answer {
        let (session, before) = self.begin_reconnect(integration, id).await;
        let answer = self.fill_as(&session, target, body).await;
        self.assert_same_connection(integration, id, &before).await;
        answer
    }
}
