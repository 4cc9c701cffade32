//! Endpoints that show what arrived and how bytes move: `/echo`, `/slow`, `/stream`, `/download`, `/upload`, `/status`,
//! `/redirect`. They ask for no credentials.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request, State as Injected};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::behaviour::Gate;
use crate::oauth::{failed, parse, value};
use crate::server::State;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/echo", any(echo))
        .route("/echo/{*rest}", any(echo))
        .route("/slow", any(slow))
        .route("/stream", get(streamed))
        .route("/download", get(download))
        .route("/upload", any(upload))
        .route("/status/{code}", any(status))
        .route("/redirect", any(redirect))
}

/// Text of request bodies up to this size is echoed too.
const ECHOED_TEXT: usize = 64 * 1024;
/// Larger bodies go to `/upload`.
const ECHOED_BODY: usize = 64 * 1024 * 1024;

/// `{method, target, headers: [[name, value]…], body_length, body_sha256, body?}`; the body only if it is short UTF-8.
async fn echo(Injected(state): Injected<Arc<State>>, request: Request) -> Response {
    state.count(|counts| counts.probe += 1);
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, ECHOED_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            [
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ]
        })
        .collect();
    let shown = (body.len() <= ECHOED_TEXT)
        .then(|| std::str::from_utf8(&body).ok())
        .flatten();
    Json(json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "body_length": body.len(),
        "body_sha256": sha256([body.clone()]),
        "body": shown,
    }))
    .into_response()
}

/// Answers once [`Gate::Slow`] is opened, which it is not at first.
async fn slow(Injected(state): Injected<Arc<State>>) -> Response {
    state.count(|counts| counts.probe += 1);
    state.pass(&Gate::Slow).await;
    Json(json!({ "slow": true })).into_response()
}

/// `?chunks=&size=`: that many pieces of that many bytes, without a length; waits at [`Gate::Stream`] after the first.
async fn streamed(Injected(state): Injected<Arc<State>>, RawQuery(query): RawQuery) -> Response {
    state.count(|counts| counts.probe += 1);
    let (chunks, size) = (
        number(query.as_deref(), "chunks", 3),
        number(query.as_deref(), "size", 10),
    );
    let piece = Bytes::from(vec![b'x'; size]);
    let pieces = stream::iter(0..chunks).then(move |index| {
        let (state, piece) = (Arc::clone(&state), piece.clone());
        async move {
            if index > 0 {
                state.pass(&Gate::Stream).await;
            }
            Ok::<_, std::convert::Infallible>(piece)
        }
    });
    Body::from_stream(pieces).into_response()
}

/// `?bytes=`: that many bytes, the same every time, with their length.
async fn download(Injected(state): Injected<Arc<State>>, RawQuery(query): RawQuery) -> Response {
    state.count(|counts| counts.probe += 1);
    let total = number(query.as_deref(), "bytes", 1024 * 1024);
    let mut response = Response::new(Body::from_stream(pattern(total)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_LENGTH, total.into());
    response
}

/// Reads a body of any size and answers `{length, sha256}`.
async fn upload(Injected(state): Injected<Arc<State>>, request: Request) -> Response {
    state.count(|counts| counts.probe += 1);
    let mut pieces = request.into_body().into_data_stream();
    let (mut length, mut context) = (0, Context::new(&SHA256));
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        length += piece.len();
        context.update(&piece);
    }
    let sha256 = HEXLOWER.encode(context.finish().as_ref());
    Json(json!({ "length": length, "sha256": sha256 })).into_response()
}

/// Answers that status, with `retry-after` from `?retry_after=`.
async fn status(
    Injected(state): Injected<Arc<State>>,
    Path(code): Path<u16>,
    RawQuery(query): RawQuery,
) -> Response {
    state.count(|counts| counts.probe += 1);
    let parameters = parse(query.unwrap_or_default().as_bytes());
    failed(
        code,
        value(&parameters, "retry_after").and_then(|text| text.parse().ok()),
    )
}

/// `?to=&status=`: redirects there.
async fn redirect(Injected(state): Injected<Arc<State>>, RawQuery(query): RawQuery) -> Response {
    state.count(|counts| counts.probe += 1);
    let parameters = parse(query.unwrap_or_default().as_bytes());
    let status = value(&parameters, "status").and_then(|text| StatusCode::from_bytes(text.as_bytes()).ok());
    let to = value(&parameters, "to").unwrap_or("/").to_owned();
    (status.unwrap_or(StatusCode::FOUND), [(LOCATION, to)]).into_response()
}

/// `total` bytes counting 0 to 250 over and over: a prime period, so that lost or doubled blocks show.
fn pattern(
    total: usize,
) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
    const PERIOD: usize = 251;
    let block: Bytes = (0..=250_u8).cycle().take(PERIOD * 256).collect::<Vec<_>>().into();
    stream::unfold(total, move |left| {
        let piece = block.slice(..left.min(block.len()));
        std::future::ready((left > 0).then(|| (Ok(piece.clone()), left - piece.len())))
    })
}

fn number(query: Option<&str>, name: &str, default: usize) -> usize {
    let parameters = parse(query.unwrap_or_default().as_bytes());
    value(&parameters, name)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

pub(crate) fn sha256(pieces: impl IntoIterator<Item = Bytes>) -> String {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(&piece);
    }
    HEXLOWER.encode(context.finish().as_ref())
}
