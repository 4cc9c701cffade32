use std::time::Duration;

use patchbay_sample::{Gate, Grant};
use serde_json::{Value, json};

use super::wire::Wire;
use crate::common::{Sending, missing};

impl Wire {
    /// A proxied request of connection `c` of `integration`.
    fn proxied(&self, method: &str, integration: &str, path: &str) -> Sending<'_> {
        self.api
            .send(method, format!("/proxy{path}"))
            .header("provider-config-key", integration)
            .header("connection-id", "c")
    }
}

/// A header of an echoed request.
fn echoed<'a>(echo: &'a Value, name: &str) -> Option<&'a str> {
    let headers = echo["headers"].as_array().unwrap();
    headers
        .iter()
        .find(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().unwrap())
}

patchbay_store::both_backends! {
    async fn a_call_carries_fresh_credentials(db: TestDb) {
        let wire = Wire::on(db).await;
        let issued = wire.connect("c").await;
        let me = wire.proxied("GET", "sample", "/whoami").expect(200).await;
        assert_eq!(me["authenticated_by"], "oauth2", "{me}");
        let echo = wire.proxied("GET", "sample", "/echo").expect(200).await;
        let bearer = format!("Bearer {}", issued["access_token"].as_str().unwrap());
        assert_eq!(echoed(&echo, "authorization"), Some(bearer.as_str()), "and not the caller's key");
        wire.advance(Duration::from_hours(1));
        wire.proxied("GET", "sample", "/whoami").expect(200).await;
        assert_eq!(wire.sample.counts().token_refresh, 1);
    }

    async fn a_401_is_answered_with_one_refresh_and_one_more_call(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.connect("c").await;
        // Just connected: a refusal is not about the token's age.
        wire.sample.expire_access_tokens();
        wire.proxied("GET", "sample", "/whoami").expect(401).await;
        assert_eq!((wire.sample.counts().whoami, wire.sample.counts().token_refresh), (1, 0));
        wire.advance(Duration::from_mins(1));
        let me = wire.proxied("GET", "sample", "/whoami").expect(200).await;
        assert_eq!(me["authenticated_by"], "oauth2");
        assert_eq!((wire.sample.counts().whoami, wire.sample.counts().token_refresh), (3, 1));
        // Everything is revoked: the provider's own answer, after one try to refresh.
        wire.advance(Duration::from_mins(3));
        wire.sample.revoke_all();
        wire.proxied("GET", "sample", "/whoami").expect(401).await;
        assert_eq!((wire.sample.counts().whoami, wire.sample.counts().token_refresh), (4, 2));
        wire.proxied("GET", "sample", "/whoami").expect(401).await;
        assert_eq!((wire.sample.counts().whoami, wire.sample.counts().token_refresh), (5, 2));
    }

    async fn credentials_that_cannot_be_made_ready_are_named(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.connect("c").await;
        wire.sample.behave_for(Grant::RefreshToken, |it| it.failure = Some(patchbay_sample::Failure::InvalidGrant));
        for day in 1..=4 {
            wire.advance(Duration::from_hours(24));
            wire.proxied("GET", "sample", "/whoami").fails(400, "server_error").await;
            let again = wire.proxied("GET", "sample", "/whoami");
            match day {
                4 => again.fails(424, "server_error").await,
                _ => again.fails(424, "connection_refresh_backoff").await,
            };
        }
        assert_eq!((wire.sample.counts().whoami, wire.sample.counts().token_refresh), (0, 4));
    }

    async fn unknown_names_are_told_apart(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.open("c", json!({})).await;
        wire.proxied("GET", "nope", "/echo").fails(404, "unknown_provider_config").await;
        wire.proxied("GET", "sample", "/echo").fails(404, "unknown_connection").await;
        let foreign = wire.proxied("GET", "open", "/echo").bearer(&wire.api.prod_key);
        foreign.fails(404, "unknown_provider_config").await;
        let key = wire.api.key_with(&["environment:connections:read"]).await;
        wire.proxied("GET", "open", "/echo").bearer(&key).fails(403, "forbidden").await;
        assert_eq!(wire.sample.counts().probe, 0);
    }
}

#[tokio::test]
async fn every_method_and_target_passes() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "REPORT"] {
        let echo = wire
            .proxied(method, "open", "/echo/a%20b/c?x=1&y=%20+z&z")
            .expect(200)
            .await;
        assert_eq!(echo["method"], method);
        assert_eq!(echo["target"], "/echo/a%20b/c?x=1&y=%20+z&z", "as it came");
    }
    let head = wire.proxied("HEAD", "open", "/download?bytes=1234").send().await;
    assert_eq!(
        (head.status, head.text.as_str(), head.header("content-length")),
        (200, "", Some("1234"))
    );
    for path in ["", "/", "?x=1"] {
        assert!(
            wire.proxied("GET", "open", path).expect(200).await["company"].is_string(),
            "{path}"
        );
    }
    let upper = wire
        .api
        .get("/PROXY/echo/UP")
        .header("provider-config-key", "open")
        .header("connection-id", "c");
    assert_eq!(upper.expect(200).await["target"], "/echo/UP");
    wire.api
        .send("OPTIONS", "/proxy/echo")
        .anonymous()
        .expect(204)
        .await;
}

#[tokio::test]
async fn headers_go_by_their_prefix() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    let echo = wire
        .proxied("GET", "open", "/echo")
        .header("Nango-Proxy-X-Custom", "one")
        .header("nango-proxy-empty", "")
        .header("nango-proxy-connection", "x-custom")
        .header("nango-proxy-host", "elsewhere.example")
        .header("nango-proxy-transfer-encoding", "chunked")
        .header("x-own", "stays")
        .header("cookie", "stays=1")
        .header("nango-activity-log-id", "")
        .header("base-url-override", "")
        .expect(200)
        .await;
    assert_eq!(echoed(&echo, "x-custom"), Some("one"));
    assert_eq!(echoed(&echo, "empty"), Some(""));
    for name in [
        "x-own",
        "cookie",
        "connection-id",
        "provider-config-key",
        "authorization",
        "transfer-encoding",
        "base-url-override",
    ] {
        assert_eq!(echoed(&echo, name), None, "{name}");
    }
    let host = wire.sample.base_url.strip_prefix("http://").unwrap();
    assert_eq!(echoed(&echo, "host"), Some(host));
    assert!(echoed(&echo, "user-agent").unwrap().starts_with("Patchbay/"));

    let bare = wire.api.get("/proxy/echo").invalid(
        "invalid_headers",
        json!([
            missing("provider-config-key", "string"),
            missing("connection-id", "string")
        ]),
    );
    bare.await;
    let pattern = "Invalid string: must match pattern /^\\d+(,\\d+)*$/";
    let option = "Invalid option: expected one of \"true\"|\"false\"";
    wire.proxied("GET", "open", "/echo")
        .header("nango-is-dry-run", "x")
        .header("retry-on", "4xx")
        .header("decompress", "1")
        .header("retries", "many")
        .header("base-url-override", "nowhere")
        .invalid(
            "invalid_headers",
            json!([
                [
                    "invalid_type",
                    "Invalid input: expected number, received NaN",
                    "retries"
                ],
                ["invalid_format", "Invalid URL", "base-url-override"],
                ["invalid_value", option, "decompress"],
                ["invalid_format", pattern, "retry-on"],
                ["invalid_value", option, "nango-is-dry-run"],
            ]),
        )
        .await;
    assert_eq!(wire.sample.counts().probe, 1);
}

#[tokio::test]
async fn bodies_pass_byte_for_byte() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    let post = || wire.proxied("POST", "open", "/echo");
    let precise = r#"{"n":12345678901234567890,"f":1.0,  "a":"\u00e4"}"#;
    for (kind, body) in [
        ("application/json", precise),
        ("application/vnd.api+json", "[]"),
        ("text/xml", "<a/>"),
        ("application/json", "not json at all"),
        (
            "multipart/form-data; boundary=XX",
            "--XX\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--XX--\r\n",
        ),
    ] {
        let echo = post().body(kind, body).expect(200).await;
        assert_eq!(
            (&echo["body"], echoed(&echo, "content-type")),
            (&json!(body), Some(kind))
        );
    }
    let binary: Vec<u8> = (0..=255).collect();
    let echo = post().body("application/octet-stream", binary).expect(200).await;
    assert_eq!((&echo["body_length"], &echo["body"]), (&json!(256), &Value::Null));
    let nothing = post().expect(200).await;
    assert_eq!(
        (&nothing["body_length"], echoed(&nothing, "content-type")),
        (&json!(0), None)
    );

    // What the published client relies on.
    let form = "application/x-www-form-urlencoded";
    let echo = post().body(form, "a=1&b=x+y&a=2").expect(200).await;
    assert_eq!(
        (&echo["body"], echoed(&echo, "content-type")),
        (&json!(r#"{"a":["1","2"],"b":"x y"}"#), Some("application/json"))
    );
    let echo = post().body(form, "").expect(200).await;
    assert_eq!(echo["body"], "{}");
    let echo = post()
        .body(form, "e=x&e=y")
        .header("nango-proxy-content-type", form)
        .expect(200)
        .await;
    assert_eq!(echo["body"], "e=x&e=y");
    let echo = post()
        .json(json!({"a": [1, 2], "o": {"x": 1}, "n": null}))
        .header("nango-proxy-content-type", form);
    let echo = echo.expect(200).await;
    assert_eq!(echo["body"], "a%5B%5D=1&a%5B%5D=2&o%5Bx%5D=1");
    let broken = post()
        .body("application/json", "{")
        .header("nango-proxy-content-type", form);
    broken.fails(400, "invalid_json").await;
    // A form with files: the wanted type does not know the boundary the parts were written with.
    let parts = post()
        .body("multipart/form-data; boundary=XX", "--XX--")
        .header("nango-proxy-content-type", "multipart/form-data");
    assert_eq!(
        echoed(&parts.expect(200).await, "content-type"),
        Some("multipart/form-data; boundary=XX")
    );
    // An encoded form is passed on as it is.
    let encoded = post()
        .body(form, "not really gzip")
        .header("content-encoding", "gzip")
        .expect(200)
        .await;
    assert_eq!(
        (&encoded["body"], echoed(&encoded, "content-encoding")),
        (&json!("not really gzip"), Some("gzip"))
    );

    // Far above what is kept for a second attempt.
    let large = vec![7_u8; 8 * 1024 * 1024];
    let received = wire
        .proxied("PUT", "open", "/upload")
        .body("application/octet-stream", large)
        .expect(200)
        .await;
    assert_eq!(received["length"], 8 * 1024 * 1024);
    let sent = wire
        .proxied("GET", "open", "/download?bytes=5000000")
        .send()
        .await;
    assert_eq!(sent.header("content-length"), Some("5000000"));
    assert_eq!(sent.header("content-type"), Some("application/octet-stream"));
    let all = wire
        .proxied("GET", "open", "/stream?chunks=5&size=1000")
        .send()
        .await;
    assert_eq!((all.status, all.text.len()), (200, 5000));
}

#[tokio::test]
async fn an_answer_begins_before_it_ends() {
    use http_body_util::BodyExt as _;

    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    wire.sample.hold(Gate::Stream);
    let mut request = http::Request::new(axum::body::Body::empty());
    *request.uri_mut() = "/proxy/stream?chunks=2&size=3".parse().unwrap();
    for (name, value) in [("provider-config-key", "open"), ("connection-id", "c")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let bearer = format!("Bearer {}", wire.api.key);
    request
        .headers_mut()
        .insert("authorization", bearer.parse().unwrap());
    let response = wire
        .api
        .service
        .handle(request, ([127, 0, 0, 1], 4000).into())
        .await;
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&first[..], b"xxx", "while the provider still holds the rest back");
    wire.sample.release(Gate::Stream);
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(&rest[..], b"xxx");
}

#[tokio::test]
async fn the_provider_s_answer_is_the_answer() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    for status in [201, 202, 204, 400, 404, 418, 500, 503] {
        let answer = wire
            .proxied("GET", "open", &format!("/status/{status}?retry_after=7"))
            .send()
            .await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, Some("7")));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "ours");
    }
    assert_eq!(wire.sample.counts().probe, 8, "nothing is retried unasked");
    wire.connect("c").await;
    let page = wire.proxied("GET", "sample", "/issues?per_page=2").send().await;
    assert!(page.header("link").unwrap().contains("rel=\"next\""));
}

#[tokio::test]
async fn redirects_lose_credentials_at_the_border() {
    let wire = Wire::sqlite().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = patchbay_sample::serve(
        listener,
        &wire.api.context.ambient,
        patchbay_sample::Options::default(),
    )
    .unwrap();
    let import = json!({
        "provider_config_key": "sample-key", "connection_id": "c",
        "credentials": {"type": "API_KEY", "apiKey": patchbay_sample::API_KEY},
    });
    wire.api.post("/connections", import).expect(201).await;
    let to = |url: &str, status: u16| {
        let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
        format!("/redirect?status={status}&to={url}")
    };
    let near = wire
        .proxied("GET", "sample-key", &to("/echo", 302))
        .expect(200)
        .await;
    assert_eq!(echoed(&near, "x-api-key"), Some(patchbay_sample::API_KEY));
    let far = to(&elsewhere.url("/echo"), 302);
    let echo = wire.proxied("GET", "sample-key", &far).expect(200).await;
    assert_eq!(echoed(&echo, "x-api-key"), None);
    let forwarded = wire
        .proxied("GET", "sample-key", &far)
        .header("forward-headers-on-redirect", "true");
    assert_eq!(
        echoed(&forwarded.expect(200).await, "x-api-key"),
        Some(patchbay_sample::API_KEY)
    );
    for (status, method, body) in [
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", "data"),
        (308, "POST", "data"),
    ] {
        let post = wire
            .proxied("POST", "sample-key", &to("/echo", status))
            .body("text/plain", "data");
        let echo = post.expect(200).await;
        assert_eq!(
            (&echo["method"], &echo["body"]),
            (&json!(method), &json!(body)),
            "{status}"
        );
    }
    let inside = to("http://10.1.2.3/", 302);
    wire.proxied("GET", "sample-key", &inside)
        .fails(400, "base_url_override_not_allowed")
        .await;
    let chain = |hops: usize| (0..hops).fold("/echo".to_owned(), |target, _| to(&target, 302));
    wire.proxied("GET", "sample-key", &chain(5)).expect(200).await;
    let endless = wire.proxied("GET", "sample-key", &chain(6)).expect(500).await;
    assert_eq!(endless["code"], "ERR_FR_TOO_MANY_REDIRECTS");
}

#[tokio::test]
async fn only_public_hosts_are_called() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    for address in [
        "http://10.0.0.1",
        "http://169.254.169.254",
        "http://[fd00::1]",
        "http://192.168.1.1:8080",
        "ftp://93.184.216.34",
        "http://0x0a000001",
    ] {
        let call = wire
            .proxied("GET", "open", "/echo")
            .header("base-url-override", address);
        let answer = call.send().await;
        assert_eq!(answer.status, 400, "{address}: {}", answer.text);
    }
    let elsewhere = wire
        .proxied("GET", "nothing-here", "/echo")
        .header("base-url-override", &wire.sample.base_url);
    elsewhere.fails(404, "unknown_provider_config").await;
    let over = wire
        .proxied("GET", "open", "/echo")
        .header("base-url-override", &wire.sample.url("/echo/deep"));
    assert_eq!(over.expect(200).await["target"], "/echo/deep/echo");
    assert_eq!(wire.sample.counts().probe, 1);
}

#[tokio::test]
async fn silence_of_the_network_has_the_known_shape() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    let call = wire
        .proxied("PATCH", "open", "/echo")
        .header("base-url-override", &format!("http://{free}"));
    let body = call.expect(500).await;
    assert_eq!(
        body,
        json!({"message": format!("connect ECONNREFUSED {free}"), "code": "ECONNREFUSED", "method": "patch"})
    );
}

#[tokio::test]
async fn retries_are_made_when_asked_for() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    let call = |method: &str, path: &str, retries: &str| {
        wire.proxied(method, "open", path).header("retries", retries)
    };
    let mut probes = 0;
    for (method, path, retries, more, expected) in [
        ("POST", "/status/503?retry_after=0", "2", None, 3),
        ("GET", "/status/429?retry_after=0", "1", None, 2),
        ("GET", "/status/404?retry_after=0", "5", None, 1),
        ("GET", "/status/404?retry_after=0", "1", Some("403,404"), 2),
        ("GET", "/status/500?retry_after=0", "-1", None, 1),
        ("GET", "/status/500?retry_after=0", "", None, 1),
        ("GET", "/status/500?retry_after=0", "99", None, 11),
        // The provider asks for more patience than a caller has.
        ("GET", "/status/503?retry_after=601", "1", None, 1),
    ] {
        let mut call = call(method, path, retries);
        if let Some(statuses) = more {
            call = call.header("retry-on", statuses);
        }
        if method == "POST" {
            call = call.body("text/plain", "again");
        }
        let status = path["/status/".len()..][..3].parse::<u16>().unwrap();
        call.expect(status).await;
        assert_eq!(wire.sample.counts().probe - probes, expected, "{path} {retries}");
        probes = wire.sample.counts().probe;
    }
}

#[tokio::test]
async fn retries_of_one_upstream_have_a_budget() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    let call = async || {
        let failing = wire.proxied("GET", "open", "/status/500?retry_after=0");
        failing.header("retries", "5").expect(500).await;
    };
    for _ in 0..30 {
        call().await;
    }
    // A hundred within ten seconds, and a fifth of the calls; every call is made once whatever is left.
    let probes = wire.sample.counts().probe;
    assert!((30 + 100..=30 + 106).contains(&probes), "{probes}");
    call().await;
    assert_eq!(wire.sample.counts().probe, probes + 1);
    wire.advance(Duration::from_secs(11));
    call().await;
    assert_eq!(wire.sample.counts().probe, probes + 1 + 6);
}
