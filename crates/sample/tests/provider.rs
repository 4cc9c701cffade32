//! The sample provider over HTTP, as its clients see it.

#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation ends the test, also in its helpers"
)]

use std::time::Duration;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use patchbay_ambient::{Ambient, Shutdown, TestClock};
use patchbay_sample::{
    API_KEY, BASIC_PASSWORD, BASIC_USER, Behaviours, CLIENT_ID, CLIENT_SECRET, Consent, EarlyRefresh, Expiry,
    Failure, Gate, Grant, HookAnswer, OldToken, Options, RefreshField, Rotation, SampleHandle, Shape, serve,
};
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

const CALLBACK: &str = "http://localhost:3003/oauth/callback";

struct World {
    sample: SampleHandle,
    clock: TestClock,
    http: Client<HttpConnector, Full<Bytes>>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn error(&self) -> String {
        format!(
            "{} {}",
            self.status.as_u16(),
            self.json()["error"].as_str().unwrap_or("none")
        )
    }
}

impl World {
    async fn new() -> Self {
        let clock = TestClock::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behaviours = Behaviours {
            consent: Consent::Approve,
            ..Behaviours::default()
        };
        let options = Options {
            behaviours,
            ..Options::default()
        };
        let sample = serve(listener, &Ambient::test(clock.clone(), 1), options).unwrap();
        Self {
            sample,
            clock,
            http: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Box<dyn std::error::Error>> {
        let (parts, body) = self.http.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(self.sample.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.try_send(request.body(Full::new(body.into())).unwrap())
            .await
            .unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    fn token_request(&self, parameters: &[(&str, &str)]) -> Request<Full<Bytes>> {
        let credentials = [("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
        let body = Serializer::new(String::new())
            .extend_pairs(parameters.iter().chain(&credentials))
            .finish();
        Request::post(self.sample.url("/oauth/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    }

    async fn token(&self, parameters: &[(&str, &str)]) -> Answer {
        self.try_send(self.token_request(parameters)).await.unwrap()
    }

    async fn refresh(&self, token: &Value) -> Answer {
        let token = token["refresh_token"].as_str().unwrap();
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)])
            .await
    }

    async fn whoami(&self, token: &Value) -> StatusCode {
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        self.get("/whoami", &[("authorization", &bearer)]).await.status
    }

    /// Goes to the authorization page and returns the query of the redirect back.
    async fn authorize(&self, extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let common = [
            ("client_id", CLIENT_ID),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("state", "s1"),
        ];
        let query = Serializer::new(String::new())
            .extend_pairs(common.iter().chain(extra))
            .finish();
        let answer = self.get(&format!("/oauth/authorize?{query}"), &[]).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{:?}", answer.body);
        let location = Url::parse(answer.headers["location"].to_str().unwrap()).unwrap();
        assert!(location.as_str().starts_with(CALLBACK));
        location.query_pairs().into_owned().collect()
    }

    async fn code(&self, extra: &[(&str, &str)]) -> String {
        let back = self.authorize(extra).await;
        assert_eq!(back[1], ("state".to_owned(), "s1".to_owned()));
        assert_eq!(back[0].0, "code");
        back[0].1.clone()
    }

    async fn connect(&self) -> Value {
        let code = self.code(&[("scope", "contacts:read issues:read")]).await;
        let answer = self
            .token(&[
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", CALLBACK),
            ])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        answer.json()
    }
}

#[tokio::test]
async fn a_person_approves_on_a_page() {
    let world = World::new().await;
    world
        .sample
        .behave(|behaviours| behaviours.consent = Consent::Ask);
    let path = format!(
        "/oauth/authorize?client_id={CLIENT_ID}&redirect_uri={CALLBACK}&response_type=code&state=%22%3Cb%3E&scope=read%20write"
    );
    let page = world.get(&path, &[]).await;
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    for expect in [
        "Ada Eklund",
        "Kestrel &#38; Finch",
        "<li>read</li><li>write</li>",
        "value=\"approve\"",
        "value=\"deny\"",
    ] {
        assert!(html.contains(expect), "{expect} in {html}");
    }
    assert!(!html.contains("\"<b>"), "what came from outside is escaped");
    let form = |decision| {
        Serializer::new(String::new())
            .extend_pairs([
                ("client_id", CLIENT_ID),
                ("redirect_uri", CALLBACK),
                ("response_type", "code"),
                ("state", "s2"),
                ("decision", decision),
            ])
            .finish()
    };
    let approved = world
        .send(Method::POST, "/oauth/authorize", &[], form("approve"))
        .await;
    let location = approved.headers["location"].to_str().unwrap();
    assert!(
        location.starts_with(&format!("{CALLBACK}?code=sample_code_")) && location.ends_with("&state=s2"),
        "{location}"
    );
    let denied = world
        .send(Method::POST, "/oauth/authorize", &[], form("deny"))
        .await;
    assert!(
        denied.headers["location"]
            .to_str()
            .unwrap()
            .contains("error=access_denied")
    );
}

#[tokio::test]
async fn bad_authorization_requests_are_refused() {
    let world = World::new().await;
    for query in [
        "client_id=other&redirect_uri=http://a.example/&response_type=code".to_owned(),
        format!("client_id={CLIENT_ID}&redirect_uri=javascript:alert(1)&response_type=code"),
        format!("client_id={CLIENT_ID}&response_type=code"),
    ] {
        let answer = world.get(&format!("/oauth/authorize?{query}"), &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
    let back = world
        .authorize(&[("code_challenge_method", "S512"), ("code_challenge", "x")])
        .await;
    assert_eq!(back[0], ("error".to_owned(), "invalid_request".to_owned()));
    world
        .sample
        .behave(|behaviours| behaviours.consent = Consent::Deny);
    assert_eq!(world.authorize(&[]).await[0].1, "access_denied");
}

#[tokio::test]
async fn a_code_is_exchanged_once_and_only_with_its_verifier() {
    let world = World::new().await;
    let verifier = "a-verifier-of-at-least-forty-three-characters-xx";
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    let challenge = BASE64URL_NOPAD.encode(hash.as_ref());
    let code = world
        .code(&[("code_challenge", &challenge), ("code_challenge_method", "S256")])
        .await;
    let exchange = async |code: &str, redirect: &str, verifier: &str| {
        world
            .token(&[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", redirect),
                ("code_verifier", verifier),
            ])
            .await
    };
    assert_eq!(
        exchange(&code, CALLBACK, "wrong").await.error(),
        "400 invalid_grant"
    );
    assert_eq!(
        exchange(&code, "http://elsewhere.example/", verifier)
            .await
            .error(),
        "400 invalid_grant"
    );
    assert_eq!(
        exchange("unknown", CALLBACK, verifier).await.error(),
        "400 invalid_grant"
    );
    let tokens = exchange(&code, CALLBACK, verifier).await.json();
    assert_eq!(tokens["expires_in"], 60);
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(world.whoami(&tokens).await, StatusCode::OK);
    assert_eq!(
        exchange(&code, CALLBACK, verifier).await.error(),
        "400 invalid_grant"
    );
    assert_eq!(
        world.whoami(&tokens).await,
        StatusCode::UNAUTHORIZED,
        "a code used twice revokes its tokens"
    );

    let late = world.code(&[]).await;
    world.clock.advance(Duration::from_mins(1));
    let answer = world
        .token(&[
            ("grant_type", "authorization_code"),
            ("code", &late),
            ("redirect_uri", CALLBACK),
        ])
        .await;
    assert_eq!(answer.error(), "400 invalid_grant");
}

#[tokio::test]
async fn clients_authenticate_by_header_or_body() {
    let world = World::new().await;
    let ask = async |authorization: Option<String>, body: &str| {
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        if let Some(value) = &authorization {
            headers.push(("authorization", value));
        }
        world
            .send(Method::POST, "/oauth/token", &headers, body.to_owned())
            .await
            .status
            .as_u16()
    };
    let basic = |id: &str, secret: &str| {
        Some(format!(
            "Basic {}",
            BASE64.encode(format!("{id}:{secret}").as_bytes())
        ))
    };
    let grant = "grant_type=client_credentials";
    assert_eq!(ask(basic(CLIENT_ID, CLIENT_SECRET), grant).await, 200);
    assert_eq!(ask(basic(CLIENT_ID, "wrong"), grant).await, 401);
    assert_eq!(ask(Some("Basic !".to_owned()), grant).await, 401);
    assert_eq!(ask(None, grant).await, 401);
    let in_body = format!("{grant}&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
    assert_eq!(ask(None, &in_body).await, 200);
    assert_eq!(ask(None, "grant_type=password").await, 400);
    let json =
        json!({"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET});
    let answer = world
        .send(
            Method::POST,
            "/oauth/token",
            &[("content-type", "application/json")],
            json.to_string(),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(world.whoami(&answer.json()).await, StatusCode::OK);
}

#[tokio::test]
async fn tokens_expire_and_refresh_tokens_rotate() {
    let world = World::new().await;
    let first = world.connect().await;
    world.clock.advance(Duration::from_secs(59));
    assert_eq!(world.whoami(&first).await, StatusCode::OK);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.whoami(&first).await, StatusCode::UNAUTHORIZED);
    let second = world.refresh(&first).await.json();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(second["scope"], "contacts:read issues:read");
    assert_eq!(world.whoami(&second).await, StatusCode::OK);
    assert_eq!(world.sample.counts().token_refresh, 1);
}

#[tokio::test]
async fn a_used_refresh_token_revokes_the_family() {
    let world = World::new().await;
    let first = world.connect().await;
    let other = world.connect().await;
    let second = world.refresh(&first).await.json();
    assert_eq!(world.refresh(&first).await.error(), "400 invalid_grant");
    assert_eq!(world.whoami(&second).await, StatusCode::UNAUTHORIZED);
    assert_eq!(world.refresh(&second).await.error(), "400 invalid_grant");
    assert_eq!(
        world.whoami(&other).await,
        StatusCode::OK,
        "other grants are untouched"
    );
}

#[tokio::test]
async fn old_refresh_tokens_are_treated_as_told() {
    let world = World::new().await;
    let switch = |change: &dyn Fn(&mut patchbay_sample::TokenBehaviour)| {
        world.sample.behave_for(Grant::RefreshToken, change);
    };

    switch(&|behaviour| behaviour.honour_old_for_seconds = 10);
    let first = world.connect().await;
    let second = world.refresh(&first).await.json();
    world.clock.advance(Duration::from_secs(9));
    let third = world.refresh(&first).await;
    assert_eq!(third.status, StatusCode::OK);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.refresh(&first).await.error(), "400 invalid_grant");
    assert_eq!(
        world.refresh(&second).await.error(),
        "400 invalid_grant",
        "the family is gone"
    );

    switch(&|behaviour| {
        *behaviour = patchbay_sample::TokenBehaviour {
            old_token: OldToken::Refuse,
            ..Default::default()
        }
    });
    let first = world.connect().await;
    let second = world.refresh(&first).await.json();
    assert_eq!(world.refresh(&first).await.error(), "400 invalid_grant");
    assert_eq!(
        world.refresh(&second).await.status,
        StatusCode::OK,
        "only the old one is refused"
    );

    switch(&|behaviour| behaviour.old_token = OldToken::Honour);
    assert_eq!(world.refresh(&first).await.status, StatusCode::OK);

    switch(&|behaviour| behaviour.rotation = Rotation::Keep);
    let first = world.connect().await;
    for _ in 0..3 {
        assert_eq!(
            world.refresh(&first).await.json()["refresh_token"],
            first["refresh_token"]
        );
    }

    switch(&|behaviour| behaviour.refresh_field = RefreshField::Omitted);
    for _ in 0..2 {
        let answer = world.refresh(&first).await;
        assert_eq!(
            (answer.status, answer.json().get("refresh_token")),
            (StatusCode::OK, None)
        );
    }

    switch(&|behaviour| {
        *behaviour = patchbay_sample::TokenBehaviour {
            early: EarlyRefresh::SameTokens,
            ..Default::default()
        };
    });
    let first = world.connect().await;
    world.clock.advance(Duration::from_secs(20));
    let early = world.refresh(&first).await.json();
    assert_eq!(
        (&early["access_token"], &early["expires_in"]),
        (&first["access_token"], &json!(40))
    );
    world.clock.advance(Duration::from_secs(40));
    assert_ne!(
        world.refresh(&first).await.json()["access_token"],
        first["access_token"]
    );
}

#[tokio::test]
async fn answers_are_written_as_told() {
    let world = World::new().await;
    let ask = async |change: &dyn Fn(&mut patchbay_sample::TokenBehaviour)| {
        world.sample.behave_for(Grant::ClientCredentials, |behaviour| {
            *behaviour = patchbay_sample::TokenBehaviour::default();
            change(behaviour);
        });
        world.token(&[("grant_type", "client_credentials")]).await
    };
    assert_eq!(
        ask(&|behaviour| behaviour.expiry = Expiry::Text).await.json()["expires_in"],
        "60"
    );
    assert_eq!(
        ask(&|behaviour| behaviour.expiry = Expiry::Milliseconds)
            .await
            .json()["expires_in"],
        60_000
    );
    let absolute = ask(&|behaviour| behaviour.expiry = Expiry::Absolute).await.json();
    assert_eq!(absolute["expires_at"], 1_767_323_045 + 60);
    let absent = ask(&|behaviour| behaviour.expiry = Expiry::Absent).await.json();
    assert!(absent.get("expires_in").is_none() && absent.get("expires_at").is_none());
    assert!(
        ask(&|behaviour| behaviour.shape = Shape::Nested).await.json()["data"]["access_token"].is_string()
    );
    let form = ask(&|behaviour| behaviour.shape = Shape::Form).await;
    assert_eq!(form.headers["content-type"], "application/x-www-form-urlencoded");
    assert!(form.body.starts_with(b"access_token=sample_cc_"));
    let malformed = ask(&|behaviour| behaviour.shape = Shape::MalformedJson).await;
    assert!(serde_json::from_slice::<Value>(&malformed.body).is_err());
}

#[tokio::test]
async fn failures_come_in_order_and_then_stop() {
    let world = World::new().await;
    let tokens = world.connect().await;
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let parameters = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
    let limited = Failure::Status {
        status: 429,
        retry_after: Some(7),
    };
    let broken = Failure::Status {
        status: 502,
        retry_after: None,
    };
    world.sample.fail_next(
        Grant::RefreshToken,
        [broken, limited, Failure::InvalidGrant, Failure::Cut],
    );
    assert_eq!(world.token(&parameters).await.status, StatusCode::BAD_GATEWAY);
    let answer = world.token(&parameters).await;
    assert_eq!(
        (answer.status, &answer.headers["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"7".parse().unwrap())
    );
    assert_eq!(world.token(&parameters).await.error(), "400 invalid_grant");
    assert!(world.try_send(world.token_request(&parameters)).await.is_err());
    assert_eq!(
        world.token(&parameters).await.status,
        StatusCode::OK,
        "nothing was issued or revoked meanwhile"
    );

    let outcomes: Vec<_> = world
        .sample
        .token_requests()
        .into_iter()
        .skip(1)
        .map(|entry| entry.outcome)
        .collect();
    assert_eq!(outcomes, ["502", "429", "invalid_grant", "cut", "ok"]);
    let last = world.sample.token_requests().pop().unwrap();
    assert_eq!(last.parameter("refresh_token"), Some(refresh));
    assert_eq!(
        last.content_type.as_deref(),
        Some("application/x-www-form-urlencoded")
    );

    world.sample.behave_for(Grant::ClientCredentials, |behaviour| {
        behaviour.failure = Some(broken);
    });
    for _ in 0..3 {
        let answer = world.token(&[("grant_type", "client_credentials")]).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    }
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_tokens_rotated() {
    let world = World::new().await;
    for failure in [Failure::LostAnswer, Failure::HalfAnswer] {
        let tokens = world.connect().await;
        let refresh = tokens["refresh_token"].as_str().unwrap();
        let parameters = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        world.sample.fail_next(Grant::RefreshToken, [failure]);
        assert!(
            world.try_send(world.token_request(&parameters)).await.is_err(),
            "{failure:?}"
        );
        assert_eq!(
            world.token(&parameters).await.error(),
            "400 invalid_grant",
            "the token was used up"
        );
    }
}

#[tokio::test]
async fn token_requests_wait_at_gates_until_released() {
    let world = World::new().await;
    for gate in [
        Gate::TokenRequest(Grant::ClientCredentials),
        Gate::TokenAnswer(Grant::ClientCredentials),
    ] {
        let seen = world.sample.counts().token_client_credentials;
        world.sample.hold(gate.clone());
        let mut asking = std::pin::pin!(world.token(&[("grant_type", "client_credentials")]));
        tokio::select! {
            _ = &mut asking => panic!("the gate is closed"),
            counts = world.sample.wait_for(|counts| counts.token_client_credentials > seen) => {
                assert_eq!(counts.token_client_credentials, seen + 1);
            }
        }
        assert_eq!(world.sample.token_requests().pop().unwrap().outcome, "pending");
        world.sample.release(gate);
        assert_eq!(asking.await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn revocation_expiry_and_skew_take_tokens_away() {
    let world = World::new().await;
    let tokens = world.connect().await;
    world
        .sample
        .behave(|behaviours| behaviours.clock_skew_seconds = 55);
    assert_eq!(world.whoami(&tokens).await, StatusCode::OK);
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(
        world.whoami(&tokens).await,
        StatusCode::UNAUTHORIZED,
        "55 s early"
    );
    world
        .sample
        .behave(|behaviours| behaviours.clock_skew_seconds = 0);
    assert_eq!(world.whoami(&tokens).await, StatusCode::OK);
    world.sample.expire_access_tokens();
    assert_eq!(world.whoami(&tokens).await, StatusCode::UNAUTHORIZED);
    let tokens = world.refresh(&tokens).await.json();

    let token = tokens["refresh_token"].as_str().unwrap();
    let body = format!("token={token}&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
    assert_eq!(
        world.send(Method::POST, "/oauth/revoke", &[], body).await.status,
        StatusCode::OK
    );
    assert_eq!(world.whoami(&tokens).await, StatusCode::UNAUTHORIZED);

    let tokens = world.sample.issue("read");
    assert_eq!(world.whoami(&tokens).await, StatusCode::OK);
    world.sample.revoke_all();
    assert_eq!(world.whoami(&tokens).await, StatusCode::UNAUTHORIZED);
    assert_eq!(world.refresh(&tokens).await.error(), "400 invalid_grant");
}

#[tokio::test]
async fn the_api_takes_keys_and_passwords_too() {
    let world = World::new().await;
    let via = async |path: &str, headers: &[(&str, &str)]| {
        let answer = world.get(path, headers).await;
        answer.json()["authenticated_by"]
            .as_str()
            .map_or_else(|| answer.status.to_string(), ToOwned::to_owned)
    };
    assert_eq!(via("/whoami", &[("x-api-key", API_KEY)]).await, "api_key");
    assert_eq!(via(&format!("/whoami?api_key={API_KEY}"), &[]).await, "api_key");
    let basic = format!(
        "Basic {}",
        BASE64.encode(format!("{BASIC_USER}:{BASIC_PASSWORD}").as_bytes())
    );
    assert_eq!(via("/whoami", &[("authorization", &basic)]).await, "basic");
    for headers in [
        &[][..],
        &[("x-api-key", "wrong")],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "Bearer x")],
    ] {
        assert_eq!(via("/whoami", headers).await, "401 Unauthorized");
    }
}

#[tokio::test]
async fn collections_page_in_three_styles_and_can_be_changed() {
    let world = World::new().await;
    let key = [("x-api-key", API_KEY)];
    let fetch = async |path: &str| world.get(path, &key).await;

    let mut seen = 0;
    let mut path = "/contacts?limit=20".to_owned();
    loop {
        let page = fetch(&path).await.json();
        seen += page["contacts"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!(
            "/contacts?limit=20&cursor={}",
            cursor.replace('=', "%3D").replace('+', "%2B")
        );
    }
    assert_eq!(seen, 53);
    assert_eq!(fetch("/contacts?cursor=x").await.status, StatusCode::BAD_REQUEST);

    let mut seen = 0;
    let mut next = Some("/issues?per_page=25".to_owned());
    while let Some(path) = next.take() {
        let answer = fetch(&path).await;
        seen += answer.json().as_array().unwrap().len();
        let links = answer.headers["link"].to_str().unwrap().to_owned();
        let link = links.split(", ").find(|link| link.ends_with("rel=\"next\""));
        next = link.map(|link| {
            link.split(['<', '>'])
                .nth(1)
                .unwrap()
                .replace(&world.sample.base_url, "")
        });
    }
    assert_eq!(seen, 57);

    let page = fetch("/invoices?limit=30&offset=30").await.json();
    assert_eq!(
        (page["data"].as_array().unwrap().len(), &page["total"]),
        (11, &json!(41))
    );
    assert_eq!(fetch("/offset/contacts?limit=5").await.json()["total"], 53);

    let made = world
        .send(
            Method::POST,
            "/contacts",
            &key,
            r#"{"first_name":"New","id":"mine"}"#,
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.json()["id"], "con_0054");
    assert_eq!(made.json()["created_at"], "2026-01-02T03:04:05.678Z");
    world.clock.advance(Duration::from_secs(1));
    let changed = world
        .send(Method::PATCH, "/contacts/con_0001", &key, r#"{"vip":false}"#)
        .await
        .json();
    assert_eq!(
        (&changed["vip"], &changed["updated_at"]),
        (&json!(false), &json!("2026-01-02T03:04:06.678Z"))
    );
    let newer = fetch("/contacts?updated_after=2026-01-02T03:04:05.678Z")
        .await
        .json();
    assert_eq!(newer["contacts"].as_array().unwrap().len(), 1);
    assert_eq!(
        world
            .send(Method::DELETE, "/contacts/con_0001", &key, "")
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(fetch("/contacts/con_0001").await.status, StatusCode::NOT_FOUND);
    assert_eq!(fetch("/contacts/con_0002").await.json()["first_name"], "Bruno");
    assert_eq!(fetch("/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        world.send(Method::POST, "/contacts", &key, "[]").await.status,
        StatusCode::BAD_REQUEST
    );

    world.sample.behave(|behaviours| {
        behaviours.api_failures = vec![
            Failure::Status {
                status: 429,
                retry_after: Some(1),
            },
            Failure::None,
        ];
    });
    assert_eq!(fetch("/contacts").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(fetch("/contacts").await.status, StatusCode::OK);
}

#[tokio::test]
async fn probes_show_what_arrived_and_move_bytes() {
    let world = World::new().await;
    let echo = world
        .send(
            Method::PUT,
            "/echo/a%20b?x=%7B",
            &[("X-Many", "1"), ("X-Many", "2")],
            "text",
        )
        .await
        .json();
    assert_eq!(
        (&echo["method"], &echo["target"], &echo["body"]),
        (&json!("PUT"), &json!("/echo/a%20b?x=%7B"), &json!("text"))
    );
    let many = echo["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|header| header[0] == "x-many")
        .count();
    assert_eq!(many, 2);
    assert_eq!(
        echo["body_sha256"],
        "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
    );

    let download = world.get("/download?bytes=1000000", &[]).await;
    assert_eq!(
        (download.body.len(), &download.body[249..253]),
        (1_000_000, &[249, 250, 0, 1][..])
    );
    let upload = world
        .send(Method::POST, "/upload", &[], download.body.clone())
        .await
        .json();
    assert_eq!(upload["length"], 1_000_000);
    let again = world
        .send(Method::POST, "/upload", &[], download.body)
        .await
        .json();
    assert_eq!(upload["sha256"], again["sha256"]);

    assert_eq!(world.get("/stream?chunks=4&size=5", &[]).await.body.len(), 20);
    let status = world.get("/status/503?retry_after=9", &[]).await;
    assert_eq!(
        (status.status.as_u16(), &status.headers["retry-after"]),
        (503, &"9".parse().unwrap())
    );
    let moved = world.get("/redirect?status=307&to=/echo", &[]).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.headers["location"]),
        (307, &"/echo".parse().unwrap())
    );

    let mut slow = std::pin::pin!(world.get("/slow", &[]));
    let seen = world.sample.counts().probe;
    tokio::select! {
        _ = &mut slow => panic!("slow until released"),
        _ = world.sample.wait_for(|counts| counts.probe > seen) => {}
    }
    world.sample.release(Gate::Slow);
    assert_eq!(slow.await.status, StatusCode::OK);
}

#[tokio::test]
async fn webhooks_are_recorded_and_answered_as_told() {
    let world = World::new().await;
    let limited = HookAnswer::Status {
        status: 429,
        retry_after: Some(3),
    };
    world.sample.script_hook(
        "a",
        [
            HookAnswer::status(500),
            limited,
            HookAnswer::status(204),
            HookAnswer::Cut,
        ],
    );
    let deliver = || {
        let request = Request::post(world.sample.url("/hooks/a?x=1")).header("x-signature", "s");
        world.try_send(
            request
                .body(Full::new(Bytes::from_static(b"{\"raw\": 1}")))
                .unwrap(),
        )
    };
    let statuses = [
        deliver().await.unwrap(),
        deliver().await.unwrap(),
        deliver().await.unwrap(),
    ];
    assert_eq!(
        statuses.each_ref().map(|answer| answer.status.as_u16()),
        [500, 429, 204]
    );
    assert_eq!(statuses[1].headers["retry-after"], "3");
    assert!(deliver().await.is_err());
    assert_eq!(deliver().await.unwrap().status, StatusCode::OK);
    let received = world.sample.wait_for_received("a", 5).await;
    assert_eq!(received.len(), 5);
    assert_eq!(
        (&received[0].body[..], &received[0].target[..]),
        (&b"{\"raw\": 1}"[..], "/hooks/a?x=1")
    );
    assert_eq!(received[4].headers["x-signature"], "s");
    assert_eq!(world.sample.received("b"), []);
    assert_eq!(
        world.get("/hooks/a", &[]).await.json()["received"]
            .as_array()
            .unwrap()
            .len(),
        5
    );

    world.sample.script_hook("b", [HookAnswer::Hang]);
    let mut hanging = std::pin::pin!(world.send(Method::POST, "/hooks/b", &[], ""));
    tokio::select! {
        _ = &mut hanging => panic!("it hangs"),
        received = world.sample.wait_for_received("b", 1) => assert_eq!(received.len(), 1),
    }
}

#[tokio::test]
async fn the_switches_are_reachable_over_http() {
    let world = World::new().await;
    let put = async |body: &str| {
        world
            .send(Method::PUT, "/admin/behaviours", &[], body.to_owned())
            .await
            .status
    };
    let body = r#"{"consent":"approve","refresh_token":{"rotation":"keep","next_failures":[{"kind":"status","status":500}]}}"#;
    assert_eq!(put(body).await, StatusCode::NO_CONTENT);
    let shown = world.get("/admin/behaviours", &[]).await.json();
    assert_eq!(shown["refresh_token"]["rotation"], "keep");
    assert_eq!(
        put(r#"{"refresh_token":{"rotat":"keep"}}"#).await,
        StatusCode::BAD_REQUEST
    );
    let tokens = world.connect().await;
    assert_eq!(
        world.refresh(&tokens).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        world.refresh(&tokens).await.json()["refresh_token"],
        tokens["refresh_token"]
    );
    let state = world.get("/admin/state", &[]).await.json();
    assert_eq!(state["counts"]["token_refresh"], 2);
    assert_eq!(state["token_requests"].as_array().unwrap().len(), 3);
    let post = async |path: &str| world.send(Method::POST, path, &[], "").await.status;
    assert_eq!(post("/admin/gates/release/slow").await, StatusCode::NO_CONTENT);
    assert_eq!(world.get("/slow", &[]).await.status, StatusCode::OK);
    assert_eq!(
        post("/admin/gates/hold/token_answer:refresh_token").await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(post("/admin/gates/release/all").await, StatusCode::NO_CONTENT);
    assert_eq!(post("/admin/gates/hold/elsewhere").await, StatusCode::NOT_FOUND);
    assert_eq!(post("/admin/expire-access-tokens").await, StatusCode::NO_CONTENT);
    assert_eq!(world.whoami(&tokens).await, StatusCode::UNAUTHORIZED);
    assert_eq!(post("/admin/revoke-all").await, StatusCode::NO_CONTENT);
    assert_eq!(world.refresh(&tokens).await.error(), "400 invalid_grant");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_tokens_and_shutdown_drains() {
    let tokens = async || {
        let world = World::new().await;
        world.connect().await
    };
    assert_eq!(tokens().await, tokens().await);

    let ambient = Ambient::test(TestClock::default(), 1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sample = serve(listener, &ambient, Options::default()).unwrap();
    let world = World {
        sample,
        clock: TestClock::default(),
        http: Client::builder(TokioExecutor::new()).build_http(),
    };
    assert_eq!(world.get("/", &[]).await.status, StatusCode::OK);
    assert_eq!(
        ambient.tasks.shut_down(Duration::from_secs(30)).await,
        Shutdown::Drained
    );
}
