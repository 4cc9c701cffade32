//! Traces reach a collector, with the caller's trace continued and no secret in them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use http::HeaderValue;
use patchbay::config::{Config, Sources};
use patchbay::server::Server;
use patchbay::telemetry::Telemetry;
use patchbay::telemetry::http::{Observer, observe};
use patchbay_ambient::Ambient;
use patchbay_outbound::{Client, FetchRequest, Policy, PrivateNetworks, Settings, Trust};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use url::Url;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

type Posts = mpsc::UnboundedSender<(HeaderMap, Bytes)>;

async fn collect(State(posts): State<Posts>, headers: HeaderMap, body: Bytes) {
    posts.send((headers, body)).unwrap();
}

async fn serve(router: Router, ambient: &Ambient) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    Server::start(listener, router, ambient);
    url
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_becomes_a_span_of_the_callers_trace() {
    let ambient = Ambient::system();
    let (posts, mut received) = mpsc::unbounded_channel();
    let collector = Router::new().route("/v1/traces", post(collect)).with_state(posts);
    let collector = serve(collector, &ambient).await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
    ];
    let config = Config::load(&Sources {
        variables: BTreeMap::from(variables.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        ..Sources::default()
    })
    .unwrap();
    let telemetry = Telemetry::install(&config.log, &config.otel, &ambient, Trust::nobody).unwrap();
    assert!(telemetry.exports_traces());

    let observer = Observer {
        clock: ambient.clock.clone(),
        exports_traces: true,
    };
    let router = Router::new()
        .route("/connections/{id}", get(async || "ok"))
        .layer(axum::middleware::from_fn_with_state(observer, observe));
    let api = serve(router, &ambient).await;
    let client = Client::new(
        Policy::public(&PrivateNetworks::loopback()),
        Settings::new("test"),
        ambient.clock.clone(),
    );
    let request = FetchRequest::get(
        api.join("connections/c1?connect_session_token=planted-token")
            .unwrap(),
    )
    .header(
        "traceparent",
        HeaderValue::from_str(&format!("00-{TRACE}-{SPAN}-01")).unwrap(),
    );
    assert_eq!(client.fetch(request).await.unwrap().status, 200);

    telemetry.flush(Duration::from_secs(10)).await;
    let (headers, body) = received.recv().await.unwrap();
    assert_eq!(headers["authorization"], "Bearer token");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let bytes = |hex: &str| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    assert!(contains(&body, &bytes(TRACE)), "the caller's trace is continued");
    assert!(contains(&body, &bytes(SPAN)), "the caller's span is the parent");
    for text in [
        "GET /connections/{id}",
        "patchbay",
        "deployment.environment",
        "http.response.status_code",
    ] {
        assert!(contains(&body, text.as_bytes()), "{text}");
    }
    assert!(!contains(&body, b"planted-"));
    ambient.tasks.stop();
}
