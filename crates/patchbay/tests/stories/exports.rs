//! Operations of an environment on their way to its own collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use patchbay_sample::{Failure, Grant};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::common::collector::{answering, collector};
use crate::common::{TestServer, World, until};

const ROUND: Duration = Duration::from_secs(16);

async fn exporting(world: &World, endpoint: &str) -> TestServer {
    let file = format!(
        "[environments.dev]\notlp_endpoint = \"{endpoint}/otlp/\"\notlp_headers.x-key = \"planted-otlp-key\"\n"
    );
    let server = world.server().file(&file).start().await;
    server.integrations().await;
    server
}

/// Head and spans of the next request, after as many rounds as it takes.
async fn next(world: &World, received: &mut UnboundedReceiver<Vec<u8>>) -> (String, Vec<Value>) {
    let request = until("an export", async || {
        world.clock.advance(ROUND);
        let wait = Duration::from_millis(500);
        tokio::time::timeout(wait, received.recv()).await.ok().flatten()
    })
    .await;
    let request = String::from_utf8(request).unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let resource = &body["resourceSpans"][0];
    let service = json!([{"key": "service.name", "value": {"stringValue": "nango-otlp"}}]);
    assert_eq!(resource["resource"]["attributes"], service);
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    (head.to_owned(), spans)
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str()
}

patchbay_store::both_backends! {
    async fn each_operation_that_ends_is_one_span(db: TestDb) {
        let world = World::on(db).await;
        let (endpoint, mut received) = collector().await;
        let server = exporting(&world, &endpoint).await;
        server.import("c1", &json!({})).await;
        let (head, spans) = next(&world, &mut received).await;
        assert!(head.starts_with("POST /otlp/v1/traces HTTP/1.1"), "{head}");
        assert!(head.contains("x-key: planted-otlp-key") && head.contains("content-type: application/json"), "{head}");
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(span["name"], "nango.auth.create_connection");
        assert_eq!((span["traceId"].as_str().unwrap().len(), span["spanId"].as_str().unwrap().len()), (32, 16));
        assert_eq!(span["status"], json!({"code": 1}));
        for (key, value) in [
            ("nango.operation.type", "auth"), ("nango.operation.action", "create_connection"),
            ("nango.operation.status", "success"), ("nango.environment", "dev"), ("nango.provider", "sample-oauth"),
            ("nango.integration", "sample-oauth"), ("nango.connection", "c1"),
        ] {
            assert_eq!(attribute(span, key), Some(value), "{key}");
        }
        assert_eq!(attribute(span, "nango.error.message"), None);

        world.clock.advance(Duration::from_secs(45));
        world.sample.fail_next(Grant::RefreshToken, [Failure::InvalidGrant]);
        server.connection("c1").await.fails(400, "invalid_credentials");
        let (_, spans) = next(&world, &mut received).await;
        let [span] = &spans[..] else { panic!("the first is not sent again: {spans:?}") };
        assert_eq!(span["name"], "nango.auth.refresh_token");
        assert_eq!(span["status"]["code"], 2);
        assert!(attribute(span, "nango.error.message").is_some_and(|text| text.contains("invalid_grant")), "{span}");
        server.finish().await;
    }

    async fn a_collector_that_was_down_gets_what_it_missed_and_what_it_refuses_is_not_sent_again(db: TestDb) {
        let world = World::on(db).await;
        let status = Arc::new(AtomicU16::new(503));
        let (endpoint, mut received) = answering(status.clone()).await;
        let server = exporting(&world, &endpoint).await;
        server.import_key("c1", &json!({})).await;
        let (_, missed) = next(&world, &mut received).await;
        let of = |spans: &[Value], id: &str| {
            let found = spans.iter().find(|span| attribute(span, "nango.connection") == Some(id));
            found.cloned()
        };
        let c1 = of(&missed, "c1").unwrap();
        server.import_key("c2", &json!({})).await;
        status.store(200, Ordering::SeqCst);
        let mut spans = Vec::new();
        while of(&spans, "c2").is_none() {
            spans.extend(next(&world, &mut received).await.1);
        }
        assert_eq!(of(&spans, "c1"), Some(c1), "with the same ids");

        status.store(400, Ordering::SeqCst);
        server.import_key("c3", &json!({})).await;
        assert!(of(&next(&world, &mut received).await.1, "c3").is_some());
        status.store(200, Ordering::SeqCst);
        server.import_key("c4", &json!({})).await;
        let (_, spans) = next(&world, &mut received).await;
        assert!(of(&spans, "c4").is_some() && of(&spans, "c3").is_none(), "{spans:?}");
        server.finish().await;
    }
}
