//! A span and a line for each request. Counts and durations are kept by the service, per route.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use patchbay_ambient::Clock;
use patchbay_api::server::Handler;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{otlp, redact};

/// Target of the lines and spans of requests, for log filters.
pub const TARGET: &str = "patchbay::http";

/// A handler with a span and a line around each request: the end at debug, 5xx at warn.
#[derive(Clone, Debug)]
pub struct Observed<H> {
    /// What answers.
    pub handler: H,
    /// Measures durations.
    pub clock: Arc<dyn Clock>,
    /// Whether spans are exported, and so need their conventional attributes.
    pub exports_traces: bool,
}

impl<H: Handler> Handler for Observed<H> {
    async fn handle(&self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        let span = span(self.exports_traces, &request, peer);
        let started = self.clock.now();
        let response = self.handler.handle(request, peer).instrument(span.clone()).await;
        let elapsed = Duration::try_from(self.clock.now().duration_since(started)).unwrap_or_default();
        let status = response.status();
        if self.exports_traces {
            record(&span, status);
        }
        log(&span, status, elapsed);
        response
    }
}

fn span(exports_traces: bool, request: &Request<Body>, peer: SocketAddr) -> Span {
    let (method, path) = (known_method(request.method()), request.uri().path());
    // Built only if the span is wanted: tracing evaluates fields after the level check.
    let target = || redact::target(path, request.uri().query());
    let span = if exports_traces {
        tracing::info_span!(
            target: TARGET, "request", method, path = target(), trace_id = field::Empty,
            otel.name = method, otel.kind = "server", otel.status_code = field::Empty,
        )
    } else {
        tracing::info_span!(target: TARGET, "request", method, path = target(), trace_id = field::Empty)
    };
    if span.is_disabled() {
        return span;
    }
    if let Some(trace_id) = trace_id(request.headers()) {
        span.record("trace_id", trace_id);
    }
    if exports_traces {
        // Fails only without the exporting layer, and then there is nobody to tell.
        let _ = span.set_parent(otlp::parent(request.headers()));
        span.set_attribute("http.request.method", method);
        span.set_attribute("url.path", redact::target(path, None));
        span.set_attribute("network.peer.address", peer.ip().to_string());
    }
    span
}

fn record(span: &Span, status: StatusCode) {
    span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

fn log(span: &Span, status: StatusCode, elapsed: Duration) {
    let (status, micros) = (
        status.as_u16(),
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
    );
    if status >= 500 {
        tracing::warn!(target: TARGET, parent: span, status, micros, "request failed");
    } else {
        tracing::debug!(target: TARGET, parent: span, status, micros, "request");
    }
}

/// The caller's trace id (W3C Trace Context), so that its logs and ours can be put side by side.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get("traceparent")?.to_str().ok()?;
    let id = header.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// A bounded set, so that callers cannot grow the metrics.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::SystemClock;

    use super::super::capture::Capture;
    use super::*;
    use crate::config::LogFormat;

    #[derive(Clone, Debug)]
    struct Answers(StatusCode);

    impl Handler for Answers {
        async fn handle(&self, _: Request<Body>, _: SocketAddr) -> Response<Body> {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = self.0;
            response
        }
    }

    async fn ask(target: &str, status: StatusCode) {
        let observed = Observed {
            handler: Answers(status),
            clock: Arc::new(SystemClock),
            exports_traces: false,
        };
        let request = Request::get(target)
            .header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )
            .body(Body::empty())
            .unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(observed.handle(request, peer).await.status(), status);
    }

    #[tokio::test]
    async fn a_request_is_one_line_without_its_secrets() {
        let (capture, _guard) = Capture::start(LogFormat::Text);
        ask(
            "/oauth/callback?state=planted-state&code=planted-code",
            StatusCode::OK,
        )
        .await;
        let text = capture.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("DEBUG") && text.contains("status=200"), "{text}");
        assert!(text.contains("/oauth/callback?state=***&code=***"), "{text}");
        assert!(
            text.contains("trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\""),
            "{text}"
        );
        assert!(!text.contains("planted-"), "{text}");
    }

    #[tokio::test]
    async fn a_failure_is_a_warning_in_json_too() {
        let (capture, _guard) = Capture::start(LogFormat::Json);
        ask("/oauth/callback", StatusCode::SERVICE_UNAVAILABLE).await;
        let line: serde_json::Value = serde_json::from_str(&capture.text()).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["status"], 503);
        assert_eq!(line["target"], TARGET);
        assert_eq!(line["span"]["path"], "/oauth/callback");
    }
}
