use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use patchbay_types::connections::{Connection, RefreshState};
use patchbay_types::integrations::{Integration, IntegrationSecrets};
use patchbay_types::{ConnectionRowId, Credentials, EnvironmentId, IntegrationId, Tags};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn connection(credentials: &Value) -> Arc<Connection> {
    Arc::new(Connection {
        id: ConnectionRowId(7),
        environment_id: EnvironmentId(1),
        integration_id: IntegrationId(3),
        integration_key: "crm".parse().unwrap(),
        provider: "crm".parse().unwrap(),
        connection_id: "c".parse().unwrap(),
        credentials: Credentials::from_json(credentials.as_object().unwrap().clone()).unwrap(),
        connection_config: Map::new(),
        metadata: None,
        tags: Tags::default(),
        end_user: None,
        webhook_url_override: None,
        errors: Vec::new(),
        refresh: RefreshState::default(),
        generation: 1,
        last_fetched_at: None,
        created_at: at(0),
        updated_at: at(0),
    })
}

fn integration() -> Arc<Integration> {
    Arc::new(Integration {
        id: IntegrationId(3),
        environment_id: EnvironmentId(1),
        unique_key: "crm".parse().unwrap(),
        provider: "crm".parse().unwrap(),
        display_name: None,
        forward_webhooks: true,
        secrets: IntegrationSecrets {
            client_id: Some("public-client".to_owned()),
            client_secret: Some("planted-client-secret".into()),
            ..IntegrationSecrets::default()
        },
        created_at: at(0),
        updated_at: at(0),
        deleted_at: None,
    })
}

/// A call whose every corner holds a secret.
fn call(
    ending: Ending,
    outcome: Result<(StatusCode, HeaderMap), crate::record::AttemptFailure>,
) -> CallRecord {
    let credentials = json!({
        "type": "OAUTH2", "access_token": "planted/access+token", "refresh_token": "planted-refresh",
        "raw": {"scope": "read write", "id_token": "planted-id", "expires_in": 3600},
    });
    let attempt = Attempt {
        method: Method::POST,
        url: "https://user:planted-userinfo@api.example.com/v1/planted-refresh?q=1&api_key=planted-q&k=planted-k&x=planted%2Faccess%2Btoken"
            .parse()
            .unwrap(),
        headers: headers(&[
            ("authorization", "Bearer planted/access+token"),
            ("x-company", "planted-client-secret and more"),
            ("x-app", "public-client"),
            ("x-built", "planted-built"),
            ("x-harmless", "stays"),
            ("x-session-thing", "planted-s"),
        ]),
        secret_headers: vec![HeaderName::from_static("x-built")],
        secret_query: vec!["k".to_owned()],
        redirects: vec![(
            StatusCode::FOUND,
            "https://api.example.com/old?k=planted-k".parse().unwrap(),
        )],
        outcome,
        number: 1,
        most: 2,
        waited: std::time::Duration::from_millis(2500),
        started_at: at(1),
        ended_at: at(2),
    };
    CallRecord {
        id: OperationId("o".to_owned()),
        attach: Some(OperationId("other".to_owned())),
        environment: EnvironmentId(1),
        method: Method::POST,
        target: "/v1/x?token=planted-caller&page=2".to_owned(),
        headers: headers(&[
            ("authorization", "Bearer planted-api-key"),
            ("nango-proxy-x-secret", "planted-n"),
            ("provider-config-key", "crm"),
            ("cookie", "planted=1"),
        ]),
        integration: Some(integration()),
        connections: vec![connection(&credentials)],
        lines: vec![
            Line::Note {
                level: "warn",
                text: "Retrying".to_owned(),
                at: at(1),
            },
            Line::Attempt(Box::new(attempt)),
        ],
        started_at: at(0),
        ended_at: at(3),
        ending,
    }
}

fn shown(call: CallRecord) -> (Entry, String) {
    let entry = Box::new(call).entry();
    let text = format!("{entry:?}");
    assert!(!text.contains("planted"), "{text}");
    (entry, text)
}

fn answered(status: u16, body: &str) -> CallRecord {
    let status = StatusCode::from_u16(status).unwrap();
    let fields = headers(&[
        ("content-type", "application/json"),
        ("set-cookie", "planted=1"),
        ("x-auth-token", "planted-x"),
        ("link", "<https://api.example.com/?t=planted-refresh>"),
        ("server", "nginx"),
        ("www-authenticate", "Bearer realm=\"x\""),
    ]);
    let mut kept = Kept::default();
    kept.add(&Bytes::copy_from_slice(body.as_bytes()));
    let ending = Ending::Answered {
        status,
        headers: fields.clone(),
        body: Some(kept),
    };
    call(ending, Ok((status, fields)))
}

#[test]
fn a_good_call_is_an_operation_with_its_exchange() {
    let (entry, _) = shown(answered(200, ""));
    let operation = &entry.operation;
    assert_eq!(
        (operation.kind.as_str(), operation.action.as_str()),
        ("proxy", "call")
    );
    assert_eq!(operation.state, OperationState::Success);
    assert_eq!(operation.connection, Some(ConnectionRowId(7)));
    assert_eq!(operation.integration, Some(IntegrationId(3)));
    assert_eq!(entry.attach, Some(OperationId("other".to_owned())));
    assert_eq!(
        operation.title,
        "POST https://api.example.com/v1/REDACTED?q=1&api_key=REDACTED&k=REDACTED&x=REDACTED: 200"
    );
    let texts: Vec<_> = entry
        .messages
        .iter()
        .map(|message| (message.level.as_str(), message.text.as_str()))
        .collect();
    assert_eq!(texts[0], ("warn", "Retrying"));
    assert_eq!(texts[1].0, "info");
    assert_eq!(texts[2], ("info", "Answered 200"));
    let http = entry.messages[1].meta.as_ref().unwrap();
    let sent = &http["request"]["headers"];
    assert_eq!(
        (&http["type"], &http["context"]),
        (&json!("http"), &json!("proxy"))
    );
    assert_eq!(http["retry"], json!({"attempt": 1, "max": 2, "waited": 2500}));
    assert_eq!(http["durationMs"], 1000);
    assert_eq!(
        http["redirects"],
        json!([{"code": 302, "url": "https://api.example.com/old?k=REDACTED"}])
    );
    for (name, value) in [
        ("authorization", "REDACTED"),
        ("x-company", "REDACTED"),
        ("x-app", "REDACTED"),
        ("x-built", "REDACTED"),
        ("x-session-thing", "REDACTED"),
        ("x-harmless", "stays"),
    ] {
        assert_eq!(sent[name], value, "{name}");
    }
    let received = &http["response"]["headers"];
    assert_eq!(received["set-cookie"], Value::Null);
    assert_eq!(received["server"], Value::Null);
    assert_eq!(received["content-type"], "application/json");
    assert_eq!(received["link"], "REDACTED");
    assert_eq!(received["www-authenticate"], "Bearer realm=\"x\"");
    let caller = entry.messages[2].meta.as_ref().unwrap();
    assert_eq!(caller["request"]["url"], "/proxy/v1/x?token=REDACTED&page=2");
    assert_eq!(caller["request"]["headers"]["provider-config-key"], "crm");
    assert_eq!(caller["durationMs"], 3000);
}

#[test]
fn a_failed_call_shows_the_beginning_of_its_body_without_secrets() {
    let check = |body: &str, expect: Value| {
        let (entry, _) = shown(answered(422, body));
        assert_eq!(entry.operation.state, OperationState::Failed);
        let message = &entry.messages[2];
        assert_eq!(message.text, "Failed with this body");
        assert_eq!(message.meta.as_ref().unwrap()["body"], expect);
    };
    check(
        r#"{"error":"bad planted-refresh","detail":{"access_token":"planted-y","tokens":[{"n":1}]},"n":1}"#,
        json!({"error": "bad REDACTED", "detail": {"access_token": "REDACTED", "tokens": [{"n": 1}]}, "n": 1}),
    );
    check(
        "<p>it failed for planted-refresh</p>",
        json!("<p>it failed for REDACTED</p>"),
    );
    check("password=planted-unknown", json!({"bytes": 24, "shown": false}));
    check("\u{1}\u{2}planted", json!({"bytes": 9, "shown": false}));
    let long = format!("{}ä", "x".repeat(8191));
    check(&long, json!(format!("{}…", "x".repeat(8191))));
}

#[test]
fn endings_without_an_answer_say_why() {
    let failure = || crate::record::AttemptFailure {
        code: "ECONNRESET",
        message: "the connection to planted-refresh was closed".to_owned(),
    };
    for (ending, level, text) in [
        (
            Ending::Abandoned,
            "warn",
            "The caller went away before the answer was complete",
        ),
        (
            Ending::Refused {
                code: "ECONNRESET",
                message: "it closed".to_owned(),
            },
            "error",
            "it closed",
        ),
        (
            Ending::Broken {
                status: StatusCode::OK,
                message: "cut".to_owned(),
            },
            "error",
            "The answer broke off",
        ),
    ] {
        let (entry, _) = shown(call(ending, Err(failure())));
        assert_eq!(entry.operation.state, OperationState::Failed);
        let last = entry.messages.last().unwrap();
        assert_eq!((last.level.as_str(), last.text.as_str()), (level, text));
        let http = entry.messages[1].meta.as_ref().unwrap();
        assert_eq!(http["error"]["payload"]["code"], "ECONNRESET");
    }
}

#[test]
fn names_of_noise_are_sorted_for_the_search() {
    for name in [
        "accept-ranges",
        "cookie",
        "set-cookie",
        "vary",
        "x-xss-protection",
        "access-control-max-age",
    ] {
        assert!(is_noise(name), "{name}");
    }
    for name in ["content-type", "link", "retry-after", "x-request-id", "etag"] {
        assert!(!is_noise(name), "{name}");
    }
}
