//! A span, a line and a count for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use patchbay_ambient::Clock;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{metrics, otlp, redact};

/// Target of the lines and spans of requests, for log filters.
pub const TARGET: &str = "patchbay::http";

/// What [`observe`] needs.
#[derive(Clone, Debug)]
pub struct Observer {
    /// Measures durations.
    pub clock: Arc<dyn Clock>,
    /// Whether spans are exported, and so need their conventional attributes.
    pub exports_traces: bool,
}

/// Middleware around every route: opens the span, counts, and logs the end at debug, 5xx at warn.
pub async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let method = known_method(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let span = span(&observer, &request, method, &route);
    let started = observer.clock.now();
    let in_progress = InProgress::begin();

    let response = next.run(request).instrument(span.clone()).await;

    drop(in_progress);
    let elapsed = Duration::try_from(observer.clock.now().duration_since(started)).unwrap_or_default();
    let status = response.status();
    record(&span, &observer, status);
    metrics_of(method, &route, status, elapsed);
    log(&span, status, elapsed);
    response
}

fn span(observer: &Observer, request: &Request, method: &'static str, route: &str) -> Span {
    let path = request.uri().path();
    // Built only if the span is wanted: tracing evaluates fields after the level check.
    let target = || redact::target(path, request.uri().query());
    let span = if observer.exports_traces {
        tracing::info_span!(
            target: TARGET, "request", method, path = target(), trace_id = field::Empty,
            otel.name = format!("{method} {route}"), otel.kind = "server", otel.status_code = field::Empty,
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
    if observer.exports_traces {
        // Fails only without the exporting layer, and then there is nobody to tell.
        let _ = span.set_parent(otlp::parent(request.headers()));
        span.set_attribute("http.request.method", method);
        span.set_attribute("http.route", route.to_owned());
        span.set_attribute("url.path", redact::target(path, None));
        if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
            span.set_attribute("network.peer.address", peer.ip().to_string());
        }
    }
    span
}

fn record(span: &Span, observer: &Observer, status: StatusCode) {
    if observer.exports_traces {
        span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
}

fn metrics_of(method: &'static str, route: &str, status: StatusCode, elapsed: Duration) {
    let route = route.to_owned();
    ::metrics::counter!(
        metrics::REQUESTS,
        "method" => method, "route" => route.clone(), "status" => status.as_str().to_owned(),
    )
    .increment(1);
    ::metrics::histogram!(metrics::DURATION, "route" => route).record(elapsed.as_secs_f64());
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

/// Counts down again also when the client goes away and the handler is dropped.
struct InProgress(::metrics::Gauge);

impl InProgress {
    fn begin() -> Self {
        let gauge = ::metrics::gauge!(metrics::IN_PROGRESS);
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use patchbay_ambient::SystemClock;
    use tower::ServiceExt as _;

    use super::super::capture::Capture;
    use super::*;
    use crate::config::LogFormat;

    async fn ask(target: &str, status: StatusCode) {
        let observer = Observer {
            clock: Arc::new(SystemClock),
            exports_traces: false,
        };
        let router = Router::new()
            .route("/oauth/callback", get(async move || status))
            .layer(axum::middleware::from_fn_with_state(observer, observe));
        let request = Request::get(target)
            .header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )
            .body(Body::empty())
            .unwrap();
        assert_eq!(router.oneshot(request).await.unwrap().status(), status);
    }

    #[tokio::test]
    async fn a_request_is_one_line_without_its_secrets_and_one_count() {
        metrics::recorder();
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
        let page = metrics::render();
        let count = r#"patchbay_http_requests_total{method="GET",route="/oauth/callback",status="200"} 1"#;
        assert!(page.contains(count), "{page}");
        assert!(page.contains("patchbay_http_requests_in_progress"), "{page}");
        assert!(
            page.contains("patchbay_http_request_duration_seconds_bucket"),
            "{page}"
        );
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
