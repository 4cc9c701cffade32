//! The company's API: who am I, and three paginated collections that can be changed.
//!
//! | path | pages by |
//! |---|---|
//! | `/contacts` | cursor: `?limit=&cursor=`, answer `{"contacts":[…],"next_cursor":…}` |
//! | `/issues` | link: `?per_page=&page=`, answer `[…]` with a `link` header |
//! | `/invoices` | offset: `?limit=&offset=`, answer `{"data":[…],"total":…}` |
//!
//! `/cursor/<collection>`, `/link/<collection>` and `/offset/<collection>` page any collection in that style. Lists take
//! `updated_after`. `POST /<collection>` adds, `POST`, `PATCH` and `DELETE /<collection>/<id>` change.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State as Injected};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, LINK, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::behaviour::Failure;
use crate::data::{COMPANY, Collection};
use crate::oauth::{cut, failed, halved, parse, text, value};
use crate::server::State;
use crate::token::{garbage, page};
use crate::tokens::Bearer;
use crate::{API_KEY, BASIC_PASSWORD, BASIC_USER};

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(index))
        .route("/whoami", get(whoami))
        .route("/{collection}", get(list_default).post(create))
        .route(
            "/{style}/{collection}",
            get(list_styled).post(change).patch(change).delete(delete),
        )
}

async fn index(Injected(state): Injected<Arc<State>>) -> Response {
    Json(json!({
        "company": COMPANY,
        "whoami": format!("{}/whoami", state.base_url),
        "collections": ["/contacts", "/issues", "/invoices"],
        "authorization_url": format!("{}/oauth/authorize", state.base_url),
        "token_url": format!("{}/oauth/token", state.base_url),
    }))
    .into_response()
}

async fn whoami(
    Injected(state): Injected<Arc<State>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    state.count(|counts| counts.whoami += 1);
    match enter(&state, &headers, query.as_deref()) {
        Err(response) => *response,
        Ok(Caller { via, scope }) => Json(json!({
            "company": COMPANY,
            "name": state.options.person,
            "email": state.options.email,
            "authenticated_by": via,
            "scope": scope,
        }))
        .into_response(),
    }
}

#[derive(Clone, Copy)]
enum Style {
    Cursor,
    Link,
    Offset,
}

async fn list_default(
    Injected(state): Injected<Arc<State>>,
    Path(collection): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let style = match collection.as_str() {
        "issues" => Style::Link,
        "invoices" => Style::Offset,
        _ => Style::Cursor,
    };
    let path = format!("/{collection}");
    list(&state, style, &path, &collection, &headers, query.as_deref())
}

/// `GET /<style>/<collection>`, or `GET /<collection>/<id>`.
async fn list_styled(
    Injected(state): Injected<Arc<State>>,
    Path((first, second)): Path<(String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let style = match first.as_str() {
        "cursor" => Style::Cursor,
        "link" => Style::Link,
        "offset" => Style::Offset,
        _ => {
            state.count(|counts| counts.api += 1);
            if let Err(response) = enter(&state, &headers, query.as_deref()) {
                return *response;
            }
            let mut data = state.data();
            let found = data
                .collection(&first)
                .and_then(|collection| collection.find(&second));
            return found.map_or_else(not_found, |record| Json(&*record).into_response());
        }
    };
    let path = format!("/{first}/{second}");
    list(&state, style, &path, &second, &headers, query.as_deref())
}

fn list(
    state: &State,
    style: Style,
    path: &str,
    collection: &str,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Response {
    state.count(|counts| counts.api += 1);
    if let Err(response) = enter(state, headers, query) {
        return *response;
    }
    let parameters = parse(query.unwrap_or_default().as_bytes());
    let number = |name: &str| value(&parameters, name).and_then(|text| text.parse::<usize>().ok());
    let size = number("limit")
        .or_else(|| number("per_page"))
        .unwrap_or(10)
        .clamp(1, 100);
    let mut data = state.data();
    let Some(collection) = data.collection(collection) else {
        return not_found();
    };
    let records = updated_after(collection, value(&parameters, "updated_after"));
    let start = match style {
        Style::Offset => number("offset").unwrap_or(0),
        Style::Link => (number("page").unwrap_or(1).max(1) - 1) * size,
        Style::Cursor => match value(&parameters, "cursor").map(decode_cursor) {
            None => 0,
            Some(Some(start)) => start,
            Some(None) => {
                return error(
                    StatusCode::BAD_REQUEST,
                    "invalid_cursor",
                    "This cursor is not ours.",
                );
            }
        },
    };
    let page: Vec<_> = records.iter().skip(start).take(size).collect();
    let end = start + page.len();
    let more = end < records.len();
    match style {
        Style::Offset => {
            Json(json!({ "data": page, "total": records.len(), "offset": start })).into_response()
        }
        Style::Cursor => {
            let next = more.then(|| encode_cursor(end));
            Json(json!({ collection.name: page, "next_cursor": next })).into_response()
        }
        Style::Link => {
            let mut response = Json(page).into_response();
            let at = |page: usize| format!("<{}{path}?per_page={size}&page={page}>", state.base_url);
            let mut links = vec![format!("{}; rel=\"first\"", at(1))];
            if more {
                links.push(format!("{}; rel=\"next\"", at(end / size + 1)));
            }
            if let Ok(links) = HeaderValue::try_from(links.join(", ")) {
                response.headers_mut().insert(LINK, links);
            }
            response
        }
    }
}

async fn create(
    Injected(state): Injected<Arc<State>>,
    Path(collection): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: bytes::Bytes,
) -> Response {
    state.count(|counts| counts.api += 1);
    if let Err(response) = enter(&state, &headers, query.as_deref()) {
        return *response;
    }
    let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return error(StatusCode::BAD_REQUEST, "invalid_json", "Send a JSON object.");
    };
    let now = state.now();
    let mut data = state.data();
    match data.collection(&collection) {
        None => not_found(),
        Some(collection) => (StatusCode::CREATED, Json(collection.add(fields, now))).into_response(),
    }
}

async fn change(
    Injected(state): Injected<Arc<State>>,
    Path((collection, id)): Path<(String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: bytes::Bytes,
) -> Response {
    state.count(|counts| counts.api += 1);
    if let Err(response) = enter(&state, &headers, query.as_deref()) {
        return *response;
    }
    let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return error(StatusCode::BAD_REQUEST, "invalid_json", "Send a JSON object.");
    };
    let now = state.now();
    let mut data = state.data();
    let changed = data
        .collection(&collection)
        .and_then(|collection| collection.change(&id, fields, now));
    changed.map_or_else(not_found, |record| Json(record).into_response())
}

async fn delete(
    Injected(state): Injected<Arc<State>>,
    Path((collection, id)): Path<(String, String)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    state.count(|counts| counts.api += 1);
    if let Err(response) = enter(&state, &headers, query.as_deref()) {
        return *response;
    }
    let removed = state
        .data()
        .collection(&collection)
        .is_some_and(|collection| collection.remove(&id));
    if removed {
        StatusCode::NO_CONTENT.into_response()
    } else {
        not_found()
    }
}

struct Caller {
    via: &'static str,
    scope: Option<String>,
}

/// Who calls, by any of the three ways; the response if nobody known, or if something is to go wrong now.
fn enter(state: &State, headers: &HeaderMap, query: Option<&str>) -> Result<Caller, Box<Response>> {
    let failure = {
        let mut behaviours = state.behaviours();
        let failures = &mut behaviours.api_failures;
        if failures.is_empty() {
            None
        } else {
            Some(failures.remove(0))
        }
    };
    match failure {
        None | Some(Failure::None | Failure::Slow { .. } | Failure::Hang) => {}
        Some(Failure::Html { status }) => return Err(Box::new(page(status))),
        Some(Failure::Garbage) => return Err(Box::new(garbage())),
        Some(Failure::Status { status, retry_after }) => return Err(Box::new(failed(status, retry_after))),
        Some(Failure::InvalidGrant) => return Err(Box::new(unauthorized("refused by order"))),
        Some(Failure::Cut | Failure::LostAnswer) => return Err(Box::new(cut())),
        Some(Failure::HalfAnswer) => {
            return Err(Box::new(halved(json!({ "half": "an answer" }).to_string())));
        }
    }
    let parameters = parse(query.unwrap_or_default().as_bytes());
    let key = text(headers, &HeaderName::from_static("x-api-key"));
    if let Some(key) = key.as_deref().or_else(|| value(&parameters, "api_key")) {
        let caller = Caller {
            via: "api_key",
            scope: None,
        };
        return if key == API_KEY {
            Ok(caller)
        } else {
            Err(Box::new(unauthorized("unknown API key")))
        };
    }
    let header = text(headers, &AUTHORIZATION).unwrap_or_default();
    if let Some(token) = header.strip_prefix("Bearer ") {
        let client = state.tokens().client_of(token);
        let now = state.api_now(client.as_deref());
        return match state.tokens().check(token, now) {
            Ok(Bearer::Person { scope }) => Ok(Caller {
                via: "oauth2",
                scope: Some(scope),
            }),
            Ok(Bearer::Client { scope }) => Ok(Caller {
                via: "client_credentials",
                scope: Some(scope),
            }),
            Err(reason) => Err(Box::new(unauthorized(reason))),
        };
    }
    if header
        == format!(
            "Basic {}",
            BASE64.encode(format!("{BASIC_USER}:{BASIC_PASSWORD}").as_bytes())
        )
    {
        return Ok(Caller {
            via: "basic",
            scope: None,
        });
    }
    Err(Box::new(unauthorized("no valid credentials")))
}

fn updated_after<'a>(collection: &'a Collection, after: Option<&str>) -> Vec<&'a Map<String, Value>> {
    let after: Option<Timestamp> = after.and_then(|text| text.parse().ok());
    let newer = |record: &&Map<String, Value>| {
        let updated = record
            .get("updated_at")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok());
        after.is_none_or(|after| updated.is_some_and(|updated: Timestamp| updated > after))
    };
    collection.records.iter().filter(newer).collect()
}

fn encode_cursor(start: usize) -> String {
    BASE64.encode(format!("after:{start}").as_bytes())
}

fn decode_cursor(cursor: &str) -> Option<usize> {
    let text = String::from_utf8(BASE64.decode(cursor.as_bytes()).ok()?).ok()?;
    text.strip_prefix("after:")?.parse().ok()
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
}

fn unauthorized(reason: &str) -> Response {
    let mut response = error(StatusCode::UNAUTHORIZED, "unauthorized", reason);
    let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        Json(json!({ "error": { "code": code, "message": message } })),
    )
        .into_response()
}
