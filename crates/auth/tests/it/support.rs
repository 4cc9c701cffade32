//! Definitions, clocks and answers for the tests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_auth::message::{Answer, Call};
use patchbay_catalog::{Catalogue, Provider};
use patchbay_outbound::{Client, Policy, PrivateNetworks, Settings};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{Credentials, JsonMap};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Stands at 2026-01-02T03:04:05.678Z.
pub(crate) fn ambient() -> Ambient {
    Ambient::test(TestClock::default(), 7)
}

/// A catalogue entry; `definition` in the catalogue's format (JSON is YAML).
pub(crate) fn provider(name: &str, definition: Value) -> Arc<Provider> {
    let mut entry =
        json!({"display_name": "Test", "docs": "https://docs.example.com", "categories": ["other"]});
    entry.as_object_mut().unwrap().extend(object(definition));
    let text = json!({ name: entry }).to_string();
    let (catalogue, findings) = Catalogue::from_text("test.yaml", &text);
    let found = catalogue.get(name).cloned();
    found.unwrap_or_else(|| panic!("refused: {findings:?}"))
}

pub(crate) fn object(value: Value) -> JsonMap {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

pub(crate) fn credentials(value: Value) -> Credentials {
    Credentials::from_json(object(value)).unwrap()
}

pub(crate) fn secrets() -> IntegrationSecrets {
    IntegrationSecrets {
        client_id: Some("the-client".to_owned()),
        client_secret: Some("planted-client-secret".into()),
        scopes: Some("read, write".to_owned()),
        ..IntegrationSecrets::default()
    }
}

pub(crate) fn answer(status: u16, body: Value) -> Answer {
    text_answer(status, "application/json", &body.to_string())
}

pub(crate) fn text_answer(status: u16, kind: &str, body: &str) -> Answer {
    Answer {
        status,
        content_type: Some(kind.to_owned()),
        retry_after: None,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// The form or JSON body of a call as an object.
pub(crate) fn body_of(call: &Call) -> Value {
    if call.header("content-type") == Some("application/json") {
        return serde_json::from_slice(&call.body).unwrap();
    }
    let pairs = url::form_urlencoded::parse(&call.body);
    Value::Object(
        pairs
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect(),
    )
}

/// A provider in this process: records what it is asked, answers what it was told.
pub(crate) struct Upstream {
    pub(crate) origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// How an upstream answers its next request.
#[derive(Clone)]
pub(crate) enum Reply {
    Json(u16, Value),
    With(u16, Vec<(&'static str, &'static str)>, String),
}

impl Upstream {
    /// Gives `replies` one after the other, then 599.
    pub(crate) async fn start(ambient: &Ambient, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (recorded, replies) = (seen.clone(), Arc::new(Mutex::new(VecDeque::from(replies))));
        let router = Router::new().fallback(move |request: Request| {
            let (recorded, replies) = (recorded.clone(), replies.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                recorded.lock().unwrap().push(Seen {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    headers: parts.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                });
                let reply = replies.lock().unwrap().pop_front();
                let (status, headers, body) = match reply {
                    Some(Reply::Json(status, body)) => (
                        status,
                        vec![("content-type", "application/json")],
                        body.to_string(),
                    ),
                    Some(Reply::With(status, headers, body)) => (status, headers, body),
                    None => (599, Vec::new(), String::new()),
                };
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(body)).unwrap()
            }
        });
        ambient
            .tasks
            .spawn(async move { axum::serve(listener, router).await });
        Self { origin, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A client that may reach the loopback.
pub(crate) fn client(ambient: &Ambient) -> Client {
    let policy = Policy::public(&PrivateNetworks::loopback());
    Client::new(policy, Settings::new("test"), ambient.clock.clone())
}
