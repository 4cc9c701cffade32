//! The mailbox: receives webhooks and answers as told.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Path, Request, State as Injected};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;

use crate::behaviour::Gate;
use crate::oauth::{cut, failed};
use crate::server::State;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new().route("/hooks/{name}", post(receive).get(list))
}

/// One mailbox.
#[derive(Debug, Default)]
pub(crate) struct Hook {
    pub(crate) received: Vec<Received>,
    pub(crate) answers: VecDeque<HookAnswer>,
}

/// One delivery as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The raw bytes, for checking signatures.
    pub body: Bytes,
}

/// How to answer one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    /// A status, with `retry-after` in seconds if given.
    Status {
        /// The status.
        status: u16,
        /// `retry-after`.
        retry_after: Option<u32>,
    },
    /// The connection ends without an answer.
    Cut,
    /// No answer for as long as the sender stays.
    Hang,
}

impl HookAnswer {
    /// Just a status.
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            retry_after: None,
        }
    }
}

/// Bodies beyond this are not recorded but refused.
const LIMIT: usize = 16 * 1024 * 1024;

async fn receive(
    Injected(state): Injected<Arc<State>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LIMIT).await else {
        return failed(413, None);
    };
    let received = Received {
        at: state.now(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body,
    };
    let mut answer = None;
    state.hooks().send_modify(|hooks| {
        let hook = hooks.entry(name.clone()).or_default();
        hook.received.push(received);
        answer = hook.answers.pop_front();
    });
    state.count(|counts| counts.hooks += 1);
    state.pass(&Gate::Hook(name)).await;
    match answer {
        None => Json(json!({ "received": true })).into_response(),
        Some(HookAnswer::Status {
            status: status @ 200..=299,
            ..
        }) => http::StatusCode::from_u16(status)
            .unwrap_or_default()
            .into_response(),
        Some(HookAnswer::Status { status, retry_after }) => failed(status, retry_after),
        Some(HookAnswer::Cut) => cut(),
        Some(HookAnswer::Hang) => std::future::pending().await,
    }
}

/// What has arrived, for people.
async fn list(Injected(state): Injected<Arc<State>>, Path(name): Path<String>) -> Response {
    let hooks = state.hooks().borrow();
    let received = hooks
        .get(&name)
        .map(|hook| hook.received.as_slice())
        .unwrap_or_default();
    let shown: Vec<_> = received
        .iter()
        .map(|received| {
            let headers: serde_json::Map<_, _> = received
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                .collect();
            let body = String::from_utf8_lossy(&received.body);
            json!({ "at": received.at, "target": received.target, "headers": headers, "body": body })
        })
        .collect();
    Json(json!({ "received": shown })).into_response()
}
