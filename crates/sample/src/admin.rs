//! The switches from outside the process: `GET` and `PUT /admin/behaviours`, `GET /admin/state`,
//! `GET` and `PUT /admin/clients/<id>` (`{"secret", "behaviours"}`, and what it asked), `POST /admin/revoke-all`, `POST /admin/expire-access-tokens`, `POST /admin/gates/<hold|release>/<gate>`.

use std::sync::Arc;

use axum::extract::{Path, State as Injected};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;

use crate::behaviour::{Behaviours, Gate, Grant};
use crate::server::{RegisteredClient, State};

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/admin/behaviours", get(show).put(set))
        .route("/admin/clients/{id}", get(show_client).put(set_client))
        .route("/admin/state", get(observe))
        .route("/admin/revoke-all", post(revoke_all))
        .route("/admin/expire-access-tokens", post(expire))
        .route("/admin/gates/{action}/{gate}", post(gate))
}

async fn show(Injected(state): Injected<Arc<State>>) -> Response {
    Json(&*state.behaviours()).into_response()
}

async fn set(Injected(state): Injected<Arc<State>>, body: bytes::Bytes) -> Response {
    match serde_json::from_slice::<Behaviours>(&body) {
        Ok(behaviours) => {
            *state.behaviours() = behaviours;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn show_client(Injected(state): Injected<Arc<State>>, Path(id): Path<String>) -> Response {
    if !state.has_client(&id) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let behaviours = state.with_behaviours(Some(&id), |behaviours| behaviours.clone());
    let log = state.log();
    let requests: Vec<_> = log
        .iter()
        .filter(|request| request.client.as_deref() == Some(&*id))
        .collect();
    Json(json!({ "behaviours": behaviours, "token_requests": requests })).into_response()
}

async fn set_client(
    Injected(state): Injected<Arc<State>>,
    Path(id): Path<String>,
    body: bytes::Bytes,
) -> Response {
    match serde_json::from_slice::<RegisteredClient>(&body) {
        Ok(client) => {
            state.register(&id, client);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn observe(Injected(state): Injected<Arc<State>>) -> Response {
    Json(json!({ "counts": state.counts(), "token_requests": &*state.log() })).into_response()
}

async fn revoke_all(Injected(state): Injected<Arc<State>>) -> StatusCode {
    state.tokens().revoke_all();
    StatusCode::NO_CONTENT
}

async fn expire(Injected(state): Injected<Arc<State>>) -> StatusCode {
    state.tokens().expire_access(jiff::Timestamp::MIN);
    StatusCode::NO_CONTENT
}

/// Gates: `token_request:<grant>`, `token_answer:<grant>`, `slow`, `stream`, `hook:<name>`; `release/all` opens all.
async fn gate(
    Injected(state): Injected<Arc<State>>,
    Path((action, gate)): Path<(String, String)>,
) -> StatusCode {
    let open = match action.as_str() {
        "hold" => false,
        "release" => true,
        _ => return StatusCode::NOT_FOUND,
    };
    if open && gate == "all" {
        state.open_all_gates();
        return StatusCode::NO_CONTENT;
    }
    match named(&gate) {
        Some(gate) => {
            state.set_gate(gate, open);
            StatusCode::NO_CONTENT
        }
        None => StatusCode::NOT_FOUND,
    }
}

fn named(text: &str) -> Option<Gate> {
    match text.split_once(':') {
        None if text == "slow" => Some(Gate::Slow),
        None if text == "stream" => Some(Gate::Stream),
        Some(("token_request", grant)) => Grant::parse(grant).map(Gate::TokenRequest),
        Some(("token_answer", grant)) => Grant::parse(grant).map(Gate::TokenAnswer),
        Some(("hook", name)) => Some(Gate::Hook(name.to_owned())),
        _ => None,
    }
}
