use std::time::Duration;

use http_body_util::BodyExt;
use patchbay_ambient::TestClock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::authenticate::tests::{BROKEN_KEY, KEY, OTHER_KEY, fake};
use crate::authenticate::{Caller, SESSION_PREFIX};
use crate::body::BodyMode;
use crate::rate_limit::RateLimits;
use crate::route::{Call, Empty};
use crate::schema::{SchemaExt, object, patterns, query_boolean, string};

#[derive(Serialize, JsonSchema)]
struct Shown {
    id: String,
    key: String,
    force: bool,
}

#[derive(Deserialize)]
struct ById {
    #[serde(rename = "connectionId")]
    id: String,
}

#[derive(Deserialize)]
struct ReadQuery {
    provider_config_key: String,
    force_refresh: bool,
}

#[derive(Deserialize, Serialize, JsonSchema)]
struct Named {
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct Success {
    success: bool,
}

async fn success<P, Q, B>((): (), _: Call<P, Q, B>) -> Result<Reply, ApiError> {
    Reply::json(&Success { success: true })
}

async fn show((): (), call: Call<ById, ReadQuery>) -> Result<Reply, ApiError> {
    if call.params.id == "missing" {
        return Err(ApiError::new(&codes::NOT_FOUND).message("No such connection"));
    }
    call.environment()?;
    Reply::json(&Shown {
        id: call.params.id,
        key: call.query.provider_config_key,
        force: call.query.force_refresh,
    })
}

async fn websocket(call: Call<Empty, Empty, Empty>) -> Result<Response<Body>, ApiError> {
    use axum::extract::{FromRequestParts, WebSocketUpgrade};
    use axum::response::IntoResponse;
    let mut parts = call.parts;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    Ok(match upgrade {
        Ok(upgrade) => upgrade.on_upgrade(async |mut socket| {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        }),
        Err(refused) => refused.into_response(),
    })
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let state = ();
    let by_id = || {
        object().field(
            "connectionId",
            string().min(1).max(255).pattern(patterns::CONNECTION_ID),
        )
    };
    vec![
        Route::get("/connections/{connectionId}")
            .alias("/connection/{connectionId}")
            .tag("connections")
            .summary("Read a connection")
            .scopes(&[
                "environment:connections:read",
                "environment:connections:read_credentials",
            ])
            .params::<ById>(by_id())
            .query::<ReadQuery>(
                object()
                    .field("provider_config_key", string().min(1).describe("The integration"))
                    .field("force_refresh", query_boolean().default(false)),
            )
            .responds::<Shown>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(&state, show),
        Route::post("/connections")
            .scopes(&["environment:connections:create"])
            .body::<Named>(object().field("name", string().min(1)))
            .responds::<Named>(201)
            .handler(&state, async |(), call: Call<Empty, Empty, Named>| {
                Reply::json_with(StatusCode::CREATED, &call.body)
            }),
        Route::post("/connections/metadata")
            .responds::<Success>(200)
            .handler(&state, success),
        Route::get("/integrations")
            .auth(Auth::KeyOrSession)
            .scopes(&["environment:integrations:list"])
            .responds::<Success>(200)
            .handler(&state, success),
        Route::delete("/connect/session")
            .auth(Auth::Session)
            .empty_body()
            .responds_empty(204)
            .handler(&state, async |(), _: Call| Ok(Reply::no_content())),
        Route::post("/environments")
            .auth(Auth::AccountKey)
            .scopes(&["account:environments:create"])
            .responds::<Success>(200)
            .handler(&state, success),
        Route::post("/connect/telemetry")
            .auth(Auth::None)
            .cors(Cors::ConnectUi)
            .responds_empty(204)
            .handler(&state, async |(), _: Call| Ok(Reply::no_content())),
        Route::get("/health")
            .auth(Auth::None)
            .responds::<Success>(200)
            .handler(&state, success),
        Route::get("/providers.json")
            .auth(Auth::None)
            .rate(Rate::Address(1))
            .responds::<Success>(200)
            .handler(&state, success),
        Route::any("/proxy/{*path}")
            .any_query()
            .payload(BodyMode::Stream, None)
            .responds_with(200, "application/octet-stream")
            .handler(&state, async |(), call: Call| {
                let body = match call.payload {
                    crate::body::Payload::Stream(body) => body,
                    _ => Body::empty(),
                };
                Ok(Response::new(body))
            }),
        Route::get("/ws")
            .auth(Auth::None)
            .any_query()
            .responds_empty(101)
            .handler(&state, |(), call| websocket(call)),
        Route::get("/page")
            .auth(Auth::None)
            .responds_with(200, "text/html")
            .handler(&state, async |(), _: Call| {
                let mut page = Response::new(Body::from("<p>"));
                page.extensions_mut().insert(MayBeFramed);
                page.headers_mut().insert(
                    header::CONTENT_SECURITY_POLICY,
                    HeaderValue::from_static("default-src 'self'"),
                );
                Ok(page)
            }),
        Route::get("/panic")
            .auth(Auth::None)
            .responds_empty(204)
            .handler(&state, async |(), call: Call| {
                assert!(call.parts.uri.path().is_empty(), "on purpose");
                Ok(Reply::no_content())
            }),
        Route::get("/undeclared")
            .auth(Auth::None)
            .responds_empty(204)
            .handler(&state, async |(), _: Call| {
                Err::<Reply, _>(ApiError::new(&codes::CONFLICT))
            }),
    ]
}

pub(crate) fn service_with(scopes: &[&str], per_minute: u32, ambient: &Ambient) -> Service {
    let options = ServiceOptions {
        ambient: ambient.clone(),
        authenticator: Arc::new(fake(scopes)),
        limiter: RateLimiter::in_memory(RateLimits::uniform(per_minute), Arc::clone(&ambient.clock)),
        body: BodyLimits {
            bytes: 1000,
            ..BodyLimits::default()
        },
        cors: CorsHeaders::new("http://localhost:3009"),
        proxies: TrustedProxies::default(),
        fallback: Some(Arc::new(|_| {
            Box::pin(async { Response::new(Body::from("<html>")) })
        })),
        info: Info {
            version: "0.0.0".to_owned(),
            server_url: "http://localhost:3003".to_owned(),
        },
    };
    Service::new(endpoints(), options).unwrap()
}

struct World {
    service: Service,
    clock: TestClock,
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answered {
    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        format!(
            "{} {}",
            self.status,
            body["error"]["code"].as_str().unwrap_or("?")
        )
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl World {
    fn new(scopes: &[&str], per_minute: u32) -> Self {
        let clock = TestClock::default();
        let ambient = Ambient::test(clock.clone(), 1);
        Self {
            service: service_with(scopes, per_minute, &ambient),
            clock,
        }
    }

    async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answered {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_empty() {
            Body::empty()
        } else {
            Body::from(body.to_owned())
        };
        let request = request.body(body).unwrap();
        let response = self
            .service
            .handle(request, "203.0.113.9:1".parse().unwrap())
            .await;
        let (parts, body) = response.into_parts();
        Answered {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        }
    }
}

const ALL: &[&str] = &["environment:*"];
const AUTH: (&str, &str) = ("authorization", "Bearer 9d3c1b70-5a3e-4c5d-9e7f-1a2b3c4d5e6f");
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn the_order_of_checks_decides_which_error_wins() {
    let world = World::new(&["environment:connections:read"], 2);
    let form = ("content-type", "text/plain");
    let bad_key = ("authorization", "Bearer x");
    // 415 before anything the body or the caller says, unknown paths included.
    for target in ["/connections", "/connections/a/b/c", "/CONNECTIONS/"] {
        assert_eq!(
            world.send("PUT", target, &[form, bad_key], "{").await.code(),
            "415 invalid_content_type"
        );
    }
    // 400 for the body before 401.
    assert_eq!(
        world
            .send("POST", "/connections", &[JSON, bad_key], "{")
            .await
            .code(),
        "400 invalid_json"
    );
    let big = format!("{{\"name\":\"{}\"}}", "x".repeat(1000));
    assert_eq!(
        world
            .send("POST", "/connections", &[JSON, bad_key], &big)
            .await
            .code(),
        "413 request_too_large"
    );
    // 401 is not counted.
    let refused = world.send("POST", "/connections", &[JSON, bad_key], "{}").await;
    assert_eq!(refused.code(), "401 invalid_secret_key_format");
    assert_eq!(refused.header("x-ratelimit-limit"), None);
    // 403 before 400, counted.
    let forbidden = world.send("POST", "/connections", &[JSON, AUTH], "{}").await;
    assert_eq!(forbidden.code(), "403 forbidden");
    assert_eq!(forbidden.header("x-ratelimit-remaining"), Some("1"));
    assert_eq!(
        world
            .send("POST", "/connections", &[JSON, AUTH], "{}")
            .await
            .code(),
        "403 forbidden"
    );
    // 429 before 403.
    let limited = world.send("POST", "/connections?x=1", &[JSON, AUTH], "{}").await;
    assert_eq!(limited.status, 429);
    assert_eq!(
        limited.body,
        r#"{"error":{"code":"too_many_request","method":"POST","path":"/connections"}}"#
    );
    assert_eq!(limited.header("retry-after"), Some("60"));
    assert_eq!(limited.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(limited.header("x-ratelimit-reset"), Some("1767323105"));
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(
        world.send("GET", "/connections/x", &[AUTH], "").await.code(),
        "400 invalid_query_params"
    );
}

#[tokio::test]
async fn layers_are_validated_in_order_and_reported_alone() {
    let world = World::new(ALL, 0);
    let bad = world
        .send("GET", "/connections/a%3Fb?force_refresh=x&y=1", &[AUTH], "")
        .await;
    let body: Value = serde_json::from_str(&bad.body).unwrap();
    assert_eq!(body["error"]["code"], "invalid_query_params");
    assert_eq!(body["error"]["errors"].as_array().unwrap().len(), 3);
    let bad = world
        .send("GET", "/connections/a%3Fb?provider_config_key=k", &[AUTH], "")
        .await;
    assert_eq!(bad.code(), "400 invalid_uri_params");
    assert!(bad.body.contains(r#""path":["connectionId"]"#));
    let bad = world.send("GET", "/connections/%zz", &[], "").await;
    assert_eq!(bad.code(), "400 invalid_uri_params");
    let undefined = world.send("POST", "/connections", &[AUTH], "").await;
    assert_eq!(
        undefined.body,
        r#"{"error":{"code":"invalid_body","errors":[{"code":"invalid_type","message":"Invalid input: expected object, received undefined","path":[]}]}}"#
    );
    assert_eq!(
        world.send("POST", "/connections?x=1", &[AUTH], "").await.code(),
        "400 invalid_query_params"
    );
    let empty = world
        .send("POST", "/connections", &[AUTH, JSON, ("content-length", "0")], "")
        .await;
    assert!(empty.body.contains(r#""path":["name"]"#), "{}", empty.body);
    let made = world
        .send("POST", "/connections/", &[AUTH, JSON], r#"{"name":"n"}"#)
        .await;
    assert_eq!((made.status, made.body.as_str()), (201, r#"{"name":"n"}"#));
}

#[tokio::test]
async fn lenient_routing_reads_what_clients_send() {
    let world = World::new(ALL, 0);
    for target in [
        "/connections/a%2Fb?provider_config_key=k+k&force_refresh=true",
        "/Connection/a%2fb/?provider_config_key=k%20k&force_refresh=ON",
    ] {
        let read = world.send("GET", target, &[AUTH, JSON], "").await;
        assert_eq!(read.body, r#"{"id":"a/b","key":"k k","force":true}"#, "{target}");
        assert_eq!(
            read.header("content-type"),
            Some("application/json; charset=utf-8")
        );
    }
    let metadata = world
        .send("GET", "/connections/metadata?provider_config_key=k", &[AUTH], "")
        .await;
    assert!(metadata.body.contains(r#""id":"metadata""#));
    assert_eq!(
        world
            .send("POST", "/connections/metadata", &[AUTH], "")
            .await
            .status,
        200
    );
    let head = world
        .send("HEAD", "/connections/x?provider_config_key=k", &[AUTH], "")
        .await;
    assert_eq!(
        (head.status, head.body.as_str(), head.header("content-length")),
        (200, "", Some("34"))
    );
    let missing = world
        .send("HEAD", "/connections/missing?provider_config_key=k", &[AUTH], "")
        .await;
    assert_eq!((missing.status, missing.body.as_str()), (404, ""));
    let echoed = world
        .send(
            "PROPFIND",
            "/proxy/a//b?x[y]=1",
            &[AUTH, ("content-type", "text/xml")],
            "<a/>",
        )
        .await;
    assert_eq!(echoed.body, "<a/>");
}

#[tokio::test]
async fn a_known_answer_is_304_with_its_headers() {
    let world = World::new(ALL, 0);
    let target = "/connections/x?provider_config_key=k";
    let etag = world
        .send("GET", target, &[AUTH], "")
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let again = world
        .send("GET", target, &[AUTH, ("if-none-match", &etag)], "")
        .await;
    assert_eq!(
        (again.status, again.body.as_str(), again.header("etag")),
        (304, "", Some(etag.as_str()))
    );
    assert_eq!(again.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn unmatched_requests() {
    let world = World::new(ALL, 0);
    assert_eq!(
        world.send("GET", "/nothing", &[], "").await.code(),
        "404 not_found"
    );
    let page = world
        .send("GET", "/nothing", &[("accept", "text/html,*/*")], "")
        .await;
    assert_eq!((page.status, page.body.as_str()), (200, "<html>"));
    assert_eq!(
        world
            .send("POST", "/nothing", &[("accept", "text/html")], "")
            .await
            .code(),
        "404 not_found"
    );
    let wrong = world.send("PUT", "/integrations", &[], "").await;
    assert_eq!(wrong.code(), "405 method_not_allowed");
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, OPTIONS"));
}

#[tokio::test]
async fn cors_and_security_headers_are_on_every_answer() {
    let world = World::new(ALL, 0);
    for (method, target) in [
        ("GET", "/health"),
        ("GET", "/nothing"),
        ("PUT", "/health"),
        ("POST", "/connections"),
        ("GET", "/panic"),
    ] {
        let answer = world.send(method, target, &[JSON], "{").await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("*"),
            "{target}"
        );
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert_eq!(
            exposed,
            "Authorization, Etag, Content-Type, Content-Length, X-Nango-Signature, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"
        );
        for (name, value) in &guard::SECURITY {
            assert_eq!(answer.header(name.as_str()), value.to_str().ok(), "{target}");
        }
        assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
    }
    let page = world.send("GET", "/page", &[], "").await;
    assert_eq!(page.header("x-frame-options"), None);
    assert_eq!(page.header("content-security-policy"), Some("default-src 'self'"));
    for target in ["/health", "/nothing/at/all", "/proxy/x"] {
        let preflight = world
            .send(
                "OPTIONS",
                target,
                &[("access-control-request-method", "POST")],
                "",
            )
            .await;
        assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "GET,HEAD,PUT,PATCH,POST,DELETE"),
            (
                "access-control-allow-headers",
                "Authorization, Content-Type, Accept, Origin, X-Requested-With, Nango-Activity-Log-Id, Nango-Is-Dry-Run, Nango-Is-Sync, Provider-Config-Key, Connection-Id, Sentry-Trace, Baggage",
            ),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(preflight.header(name), Some(value), "{target}");
        }
    }
    let asked = [
        ("access-control-request-method", "POST"),
        ("origin", "http://localhost:3009"),
    ];
    let telemetry = world.send("OPTIONS", "/Connect/Telemetry/", &asked, "").await;
    assert_eq!(
        telemetry.header("access-control-allow-origin"),
        Some("http://localhost:3009")
    );
    assert_eq!(telemetry.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(telemetry.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(telemetry.header("access-control-max-age"), Some("36000"));
}

#[tokio::test]
async fn scopes_sessions_and_account_keys() {
    let session = format!("Bearer {SESSION_PREFIX}{}", "0".repeat(64));
    let session = ("authorization", session.as_str());
    for (scopes, expected) in [
        (&["environment:connections:read"][..], 200),
        (&["environment:connections:read_credentials"], 200),
        (&["environment:connections:*"], 200),
        (&["environment:*"], 200),
        (&["environment:connections:list"], 403),
        (&["environment:integrations:*"], 403),
        (&["account:*"], 403),
    ] {
        let world = World::new(scopes, 0);
        let read = world
            .send("GET", "/connections/x?provider_config_key=k", &[AUTH], "")
            .await;
        assert_eq!(read.status, expected, "{scopes:?}");
        assert_eq!(
            world.send("GET", "/integrations", &[session], "").await.status,
            200
        );
    }
    let world = World::new(ALL, 0);
    assert_eq!(
        world.send("POST", "/environments", &[AUTH], "").await.code(),
        "403 forbidden"
    );
    let account = World::new(&["account:*"], 0);
    assert_eq!(
        account.send("POST", "/environments", &[AUTH], "").await.status,
        200
    );
    assert_eq!(
        world
            .send("DELETE", "/connect/session", &[session], "")
            .await
            .status,
        204
    );
    let with_body = world
        .send("DELETE", "/connect/session", &[session, JSON], r#"{"a":1}"#)
        .await;
    assert_eq!(with_body.code(), "400 invalid_body");
    let key = world.send("DELETE", "/connect/session", &[AUTH], "").await;
    assert_eq!(key.code(), "401 invalid_connect_session_token_format");
    let unknown = format!("Bearer {OTHER_KEY}");
    let unknown = world
        .send("GET", "/integrations", &[("authorization", &unknown)], "")
        .await;
    assert!(
        unknown
            .body
            .ends_with(r#""code":"unknown_account","payload":{}}}"#),
        "{}",
        unknown.body
    );
    let broken = format!("Bearer {BROKEN_KEY}");
    let broken = world
        .send("GET", "/integrations", &[("authorization", &broken)], "")
        .await;
    assert_eq!(broken.code(), "500 generic_error_support");
    assert_ne!(KEY, BROKEN_KEY);
}

#[tokio::test]
async fn callers_are_counted_apart() {
    let world = World::new(ALL, 1);
    let script = ("nango-is-script", "true");
    let session = format!("Bearer {SESSION_PREFIX}{}", "0".repeat(64));
    let session = ("authorization", session.as_str());
    for headers in [&[AUTH][..], &[AUTH, script], &[session]] {
        assert_eq!(
            world.send("GET", "/integrations", headers, "").await.status,
            200,
            "{headers:?}"
        );
        assert_eq!(
            world.send("GET", "/integrations", headers, "").await.status,
            429,
            "{headers:?}"
        );
    }
    assert_eq!(world.send("GET", "/providers.json", &[], "").await.status, 200);
    assert_eq!(world.send("GET", "/providers.json", &[], "").await.status, 429);
    for _ in 0..3 {
        let health = world.send("GET", "/health", &[], "").await;
        assert_eq!((health.status, health.header("x-ratelimit-limit")), (200, None));
    }
}

#[tokio::test]
async fn a_panic_is_an_unexpected_error_of_one_request() {
    let world = World::new(ALL, 0);
    assert_eq!(
        world.send("GET", "/panic", &[], "").await.code(),
        "500 generic_error_support"
    );
    // A code the route does not declare is a bug that tests must not miss.
    assert_eq!(
        world.send("GET", "/undeclared", &[], "").await.code(),
        "500 generic_error_support"
    );
    assert_eq!(world.send("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn router_and_document_list_the_same_routes_and_codes_and_nothing_is_untyped() {
    let world = World::new(ALL, 0);
    let served = world.send("GET", "/openapi.json", &[], "").await;
    let document: Value = serde_json::from_str(&served.body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut listed = 0;
    for endpoint in world.service.endpoints() {
        for path in endpoint.paths() {
            let item = document["paths"][path.replace("{*", "{")].as_object().unwrap();
            let methods = match endpoint.method() {
                Some(method) => vec![method.as_str().to_ascii_lowercase()],
                None => ["get", "post", "put", "patch", "delete"]
                    .map(str::to_owned)
                    .to_vec(),
            };
            for method in methods {
                listed += 1;
                let operation = &item[&method];
                let documented: std::collections::BTreeSet<&str> = operation["responses"]
                    .as_object()
                    .unwrap()
                    .values()
                    .flat_map(|response| {
                        let schema = &response["content"]["application/json"]["schema"]["allOf"][1];
                        schema["properties"]["error"]["properties"]["code"]["enum"]
                            .as_array()
                            .into_iter()
                            .flatten()
                    })
                    .filter_map(Value::as_str)
                    .collect();
                let declared = endpoint.errors().iter().map(|code| code.name).collect();
                assert_eq!(documented, declared, "{method} {path}");
                let success = |status: &String| status.starts_with(['1', '2', '3']);
                assert!(
                    operation["responses"].as_object().unwrap().keys().any(success),
                    "{method} {path}"
                );
            }
        }
    }
    let in_document: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|item| item.as_object().unwrap().len())
        .sum();
    assert_eq!(listed, in_document);
    assert_typed(&document, "");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name}");
    }
}

fn assert_typed(value: &Value, at: &str) {
    match value {
        Value::Object(object) => {
            if let Some(schema) = object.get("schema") {
                let typed = ["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"];
                assert!(
                    typed.iter().any(|key| schema.get(*key).is_some()),
                    "untyped at {at}: {schema}"
                );
            }
            for (key, value) in object {
                assert_typed(value, &format!("{at}/{key}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| assert_typed(item, at)),
        _ => {}
    }
}

#[test]
fn sessions_may_do_what_their_routes_offer() {
    let fake = fake(&[]);
    assert!(fake.session.may(&["environment:integrations:list"]));
    assert!(!fake.principal.may(&["environment:integrations:list"]));
    assert!(matches!(fake.principal.caller, Caller::ApiKey { .. }));
}
