//! The WebSocket on which a popup's outcome arrives (auth-flows §6.1).
//!
//! Acknowledged before anything else is done, because clients wait for that without a limit and hear of nothing
//! that happens before. One result, then it closes. Pings keep proxies from taking the silence for death.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use axum::extract::{FromRequestParts, WebSocketUpgrade};
use axum::response::IntoResponse;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use patchbay_api::{ApiError, codes};
use patchbay_connections::Context;
use patchbay_connections::results::AuthResult;
use serde::Serialize;

use crate::Site;

/// Shorter than the idle limit of every proxy in use (connect-ui §5).
const PING: Duration = Duration::from_secs(25);
/// Pings without any sign of life after which the peer is gone.
const PATIENCE: u32 = 3;
/// When to try again after being refused for want of a place: popups take about so long.
const AGAIN: Duration = Duration::from_secs(10);
/// Clients send nothing of interest.
const LARGEST_MESSAGE: usize = 4096;

#[derive(Serialize)]
struct Ack<'a> {
    message_type: &'static str,
    ws_client_id: &'a str,
}

/// Whether a request wants to become a WebSocket.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Becomes one, whatever the `Origin`: pages of every product wait here, and hear only of their own popup. Anybody
/// may open one without a credential, so their number is bounded.
pub(crate) async fn upgrade(site: &Site, mut parts: Parts) -> Result<Response<Body>, ApiError> {
    let Ok(place) = site.sockets.clone().try_acquire_owned() else {
        let limit = site.options.websocket_limit;
        tracing::warn!(
            limit,
            "a popup's WebSocket was refused: websocket_limit is reached"
        );
        return Err(ApiError::new(&codes::SERVICE_UNAVAILABLE)
            .message(format!(
                "This server holds {limit} WebSockets already, its websocket_limit"
            ))
            .retry_after(AGAIN));
    };
    let context = Arc::clone(&site.context);
    Ok(
        match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade
                .max_message_size(LARGEST_MESSAGE)
                .on_upgrade(move |socket| async move {
                    metrics::gauge!("patchbay_websockets").increment(1.0);
                    serve(socket, context).await;
                    metrics::gauge!("patchbay_websockets").decrement(1.0);
                    drop(place);
                }),
            Err(refused) => refused.into_response(),
        },
    )
}

/// The answer to an upgrade where there is no WebSocket.
pub(crate) fn refuse() -> Response<Body> {
    let mut response = Response::new(Body::from("There is no WebSocket at this path"));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// Forgets the socket however it ends.
struct Registration {
    context: Arc<Context>,
    id: String,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.context.results.unregister(&self.id);
    }
}

async fn serve(mut socket: WebSocket, context: Arc<Context>) {
    let (id, mut result) = context.results.register(&*context.ambient.entropy);
    let registration = Registration { context, id };
    let ambient = &registration.context.ambient;
    let ack = Ack {
        message_type: "connection_ack",
        ws_client_id: &registration.id,
    };
    if send(&mut socket, &ack).await.is_err() {
        return;
    }
    let stopping = ambient.tasks.stopping();
    let mut unanswered = 0;
    loop {
        tokio::select! {
            result = &mut result => {
                if let Ok(result) = result {
                    deliver(&mut socket, &result).await;
                }
                return;
            }
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => unanswered = 0,
            },
            () = ambient.clock.sleep(PING) => {
                unanswered += 1;
                let ping = Message::Ping(bytes::Bytes::new());
                if unanswered > PATIENCE || socket.send(ping).await.is_err() {
                    return;
                }
            }
            () = stopping.cancelled() => return close(&mut socket, close_code::AWAY).await,
        }
    }
}

async fn deliver(socket: &mut WebSocket, result: &AuthResult) {
    if send(socket, result).await.is_ok() {
        close(socket, close_code::NORMAL).await;
    }
}

async fn close(socket: &mut WebSocket, code: u16) {
    let frame = CloseFrame {
        code,
        reason: "".into(),
    };
    // Whoever is gone needs no goodbye.
    let _ = socket.send(Message::Close(Some(frame))).await;
}

async fn send(socket: &mut WebSocket, message: &impl Serialize) -> Result<(), axum::Error> {
    let text = serde_json::to_string(message).map_err(axum::Error::new)?;
    socket.send(Message::Text(text.into())).await
}
