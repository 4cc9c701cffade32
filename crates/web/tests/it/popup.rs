//! The popup flow against the sample provider: socket, redirect, consent, callback, outcome.

use std::time::Duration;

use crate::common::{Setup, World, frame};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE64URL_NOPAD;
use futures_util::{SinkExt, StreamExt};
use patchbay_sample::Consent;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};
use url::Url;

const STRANGER: &str =
    "nango_connect_session_0000000000000000000000000000000000000000000000000000000000000000";

#[tokio::test]
async fn a_customer_connects() {
    let world = World::new().await;
    let (mut socket, id) = world.socket("/").await;
    let token = world.session(&["oauth"]).await;
    let target = format!("/oauth/connect/oauth?connect_session_token={token}&ws_client_id={id}");
    let redirect = world.get(&target).await;
    assert_eq!(redirect.status, 302);
    assert_eq!(redirect.header("cache-control"), "no-store");
    assert_eq!(redirect.header("referrer-policy"), "no-referrer");
    assert_eq!(redirect.header("cross-origin-opener-policy"), "");
    let location = Url::parse(redirect.header("location")).unwrap();
    let asked: std::collections::HashMap<_, _> = location.query_pairs().into_owned().collect();
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["redirect_uri"], "http://localhost:3003/oauth/callback");
    assert_eq!(
        redirect.header("set-cookie"),
        format!(
            "oauth2-{}=1; Max-Age=3600; HttpOnly; Path=/; SameSite=Lax",
            asked["state"]
        )
    );

    let back = crate::common::provider_sends_to(&location).await;
    let cookie = format!("other=2; oauth2-{}=1", asked["state"]);
    let page = world.send("GET", &back, &[("cookie", &cookie)], "").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("cross-origin-opener-policy"), "");
    assert!(page.header("set-cookie").ends_with("=; Max-Age=0; Path=/"));
    assert_eq!(
        page.orders(),
        json!({"message": {"type": "nango_oauth_callback_success"}, "close_after": 500, "debug": false})
    );

    let stored = world.connections().await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].tags.get("end_user_display_name"), Some("Grace"));
    let outcome = json!({
        "message_type": "success",
        "provider_config_key": "oauth",
        "connection_id": stored[0].connection_id.as_str(),
        "is_pending": false,
    });
    assert_eq!(frame(&mut socket).await, outcome);
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));

    let exchange = &world.sample.token_requests()[0];
    assert_eq!(exchange.outcome, "ok");
    let verifier = exchange.parameter("code_verifier").unwrap();
    let challenge = BASE64URL_NOPAD.encode(digest(&SHA256, verifier.as_bytes()).as_ref());
    assert_eq!(challenge, asked["code_challenge"]);

    // The attempt is spent.
    let again = world.send("GET", &back, &[("cookie", &cookie)], "").await;
    assert_eq!(again.status, 400);
    assert_eq!(again.orders()["message"]["type"], "nango_oauth_callback_error");
    assert_eq!(world.sample.token_requests().len(), 1);
}

#[tokio::test]
async fn behind_tls_the_cookie_is_for_cross_site_popups() {
    let world = World::with(Setup {
        public_url: "https://connect.example.com/base",
        ..Setup::default()
    })
    .await;
    let token = world.session(&[]).await;
    let redirect = world
        .get(&format!("/oauth/connect/oauth?connect_session_token={token}"))
        .await;
    assert!(
        redirect
            .header("set-cookie")
            .ends_with("HttpOnly; Path=/; Secure; SameSite=None")
    );
    assert!(
        redirect
            .header("location")
            .contains("https%3A%2F%2Fconnect.example.com%2Fbase%2Foauth%2Fcallback")
    );
}

#[tokio::test]
async fn a_customer_declines() {
    let world = World::new().await;
    world.sample.behave(|all| all.consent = Consent::Deny);
    let (mut socket, id) = world.socket("/").await;
    let token = world.session(&[]).await;
    let (back, cookie) = world.to_provider(&token, &format!("&ws_client_id={id}")).await;
    let page = world.send("GET", &back, &[("cookie", &cookie)], "").await;
    assert_eq!(page.status, 400);
    let orders = page.orders();
    assert_eq!(orders["close_after"], Value::Null);
    let posted = &orders["message"];
    assert_eq!(posted["type"], "nango_oauth_callback_error");
    assert_eq!(posted["payload"]["errorType"], "connection_validation_failed");
    let said: Value = serde_json::from_str(posted["payload"]["message"].as_str().unwrap()).unwrap();
    assert_eq!(
        said,
        json!({"error": "access_denied", "error_description": "The person denied the request"})
    );
    let told = frame(&mut socket).await;
    assert_eq!(told["message_type"], "error");
    assert_eq!(told["error_type"], "callback_err");
    assert!(told["error_desc"].as_str().unwrap().contains("access_denied"));
    assert_eq!(world.connections().await.len(), 0);
}

#[tokio::test]
async fn an_answer_in_another_browser_is_refused() {
    let world = World::new().await;
    let (mut socket, id) = world.socket("/").await;
    let token = world.session(&[]).await;
    let (back, _) = world.to_provider(&token, &format!("&ws_client_id={id}")).await;
    let page = world
        .send("GET", &back, &[("cookie", "oauth2-something=1")], "")
        .await;
    assert_eq!(page.status, 400);
    assert_eq!(frame(&mut socket).await["error_type"], "state_cookie_err");
    assert_eq!(world.sample.token_requests().len(), 0);
}

#[tokio::test]
async fn an_answer_after_an_hour_is_too_late() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let (back, cookie) = world.to_provider(&token, "").await;
    world.clock.advance(Duration::from_mins(61));
    let page = world.send("GET", &back, &[("cookie", &cookie)], "").await;
    assert_eq!(page.status, 400);
    assert!(page.text.contains("too old"), "{}", page.text);
    assert_eq!(world.sample.token_requests().len(), 0);
}

#[tokio::test]
async fn looking_does_not_use_an_attempt_up() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let (back, cookie) = world.to_provider(&token, "").await;
    assert_eq!(world.send("HEAD", &back, &[], "").await.status, 200);
    assert_eq!(
        world.send("GET", &back, &[("cookie", &cookie)], "").await.status,
        200
    );
}

#[tokio::test]
async fn a_provider_error_beside_a_code_is_a_failure_with_status_200() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let (back, cookie) = world.to_provider(&token, "").await;
    let page = world
        .send(
            "GET",
            &format!("{back}&error_reason=odd"),
            &[("cookie", &cookie)],
            "",
        )
        .await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.orders()["message"]["payload"]["message"],
        r#"{"error_reason":"odd"}"#
    );
}

#[tokio::test]
async fn whatever_stops_a_popup_is_told_on_its_socket_and_as_a_page() {
    let world = World::new().await;
    let token = world.session(&["key"]).await;
    let any = world.session(&[]).await;
    let long = "x".repeat(256);
    let table = [
        ("oauth", String::new(), 401, "missing_public_key"),
        (
            "oauth",
            "connect_session_token=x".to_owned(),
            401,
            "invalid_connect_session_token_format",
        ),
        (
            "oauth",
            format!("connect_session_token={STRANGER}"),
            401,
            "unknown_connect_session_token",
        ),
        ("oauth", "public_key=x".to_owned(), 401, "invalid_public_key"),
        (
            "oauth",
            "public_key=9d3c1b70-5a3e-4c5d-9e7f-1a2b3c4d5e6f".to_owned(),
            401,
            "deprecated_authentication",
        ),
        (
            "oauth",
            format!("connect_session_token={token}"),
            400,
            "integration_not_allowed",
        ),
        (
            "oauth",
            format!("connect_session_token={any}&connection_id=c"),
            400,
            "invalid_query_params",
        ),
        (
            long.as_str(),
            format!("connect_session_token={any}"),
            400,
            "invalid_uri_params",
        ),
        (
            "nobody",
            format!("connect_session_token={any}"),
            400,
            "provider_config_err",
        ),
        (
            "key",
            format!("connect_session_token={any}"),
            400,
            "auth_mode_err",
        ),
    ];
    for (key, query, status, kind) in table {
        let (mut socket, id) = world.socket("/").await;
        let target = format!("/oauth/connect/{key}?{query}&ws_client_id={id}");
        let page = world.get(&target).await;
        assert_eq!(page.status, status, "{target}");
        assert_eq!(
            page.orders()["message"]["type"],
            "nango_oauth_callback_error",
            "{target}"
        );
        let told = frame(&mut socket).await;
        assert_eq!(told["message_type"], "error", "{target}");
        assert_eq!(told["error_type"], kind, "{target}");
        assert_eq!(told["provider_config_key"], key, "{target}");
        assert!(!told["error_desc"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn without_a_socket_programs_get_json_and_people_a_page() {
    let world = World::new().await;
    let token = world.session(&["key"]).await;
    let not_allowed = format!("/oauth/connect/oauth?connect_session_token={token}");
    assert_eq!(
        world.get(&not_allowed).await.code(),
        "400 integration_not_allowed"
    );
    assert_eq!(
        world.get("/oauth/connect/oauth").await.code(),
        "401 missing_public_key"
    );
    let own_id = world.get(&format!("{not_allowed}&connection_id=x")).await;
    assert_eq!(own_id.code(), "400 invalid_query_params");
    assert_eq!(
        own_id.json()["error"]["errors"][0]["path"],
        json!(["connection_id"])
    );
    let page = world
        .send("GET", &not_allowed, &[("accept", "text/html,*/*")], "")
        .await;
    assert_eq!(page.status, 400);
    assert!(page.text.contains("<h1>"));
    // The types of the WebSocket have no JSON form.
    let any = world.session(&[]).await;
    let unknown = world
        .get(&format!("/oauth/connect/nobody?connect_session_token={any}"))
        .await;
    assert_eq!(unknown.status, 400);
    assert!(unknown.text.contains("provider_config_err"));
}

#[tokio::test]
async fn a_limit_that_is_used_up_is_told_too() {
    let world = World::with(Setup {
        per_minute: 1,
        ..Setup::default()
    })
    .await;
    let token = world.session(&[]).await;
    world.to_provider(&token, "").await;
    let (mut socket, id) = world.socket("/").await;
    let target = format!("/oauth/connect/oauth?connect_session_token={token}&ws_client_id={id}");
    let page = world.get(&target).await;
    assert_eq!(page.status, 429);
    assert_eq!(page.header("retry-after"), "60");
    assert_eq!(frame(&mut socket).await["error_type"], "too_many_request");
}

#[tokio::test]
async fn nothing_of_the_query_becomes_part_of_the_page() {
    let world = World::new().await;
    let hostile = "%3C%2Fscript%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%A8%22'%26";
    for target in [
        format!("/oauth/callback?state=abc&error=access_denied&error_description={hostile}"),
        format!("/oauth/callback?state={hostile}&error={hostile}"),
        format!("/oauth/callback?{hostile}={hostile}&nango_debug=1"),
        format!("/oauth/connect/{hostile}?ws_client_id={hostile}&x={hostile}"),
        format!("/app-auth/connect?error={hostile}"),
    ] {
        let page = world.send("GET", &target, &[("accept", "text/html")], "").await;
        assert!(page.status >= 400, "{target}");
        assert!(!page.text.contains("alert(1)</script>"), "{target}");
        assert!(!page.text.contains("<script>"), "{target}");
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        page.orders();
    }
}

#[tokio::test]
async fn scripts_and_styles_are_found_from_every_depth() {
    let world = World::new().await;
    for (page, up) in [
        ("/", "./"),
        ("/oauth/callback", "../"),
        ("/oauth/callback/x/..", ""),
    ] {
        let page = world.send("GET", page, &[("accept", "text/html")], "").await;
        if up.is_empty() {
            continue;
        }
        let start = format!("\"{up}assets/");
        let files: Vec<&str> = page
            .text
            .split(&start)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(files.len() >= 2, "{}", page.text);
        for file in files {
            let asset = world.get(&format!("/assets/{file}")).await;
            assert_eq!(asset.status, 200, "{file}");
            assert!(asset.header("cache-control").contains("immutable"));
            assert!(!asset.header("content-type").starts_with("application/json"));
        }
    }
    assert_eq!(world.get("/assets/style.css").await.code(), "404 not_found");
}

#[tokio::test]
async fn answers_that_belong_to_no_attempt() {
    let world = World::new().await;
    for target in [
        "/oauth/callback",
        "/oauth/callback?code=x",
        "/oauth/callback?state=unknown&code=x",
        "/oauth/callback?state=%00&code=x",
        "/oauth/callback?payload=unknown",
        "/oauth/callback?customField=unknown",
    ] {
        let page = world.get(target).await;
        assert_eq!(page.status, 400, "{target}");
        assert!(page.text.contains("was not connected"), "{target}");
    }
    let changed = "/oauth/callback?installation_id=1&setup_action=update";
    assert_eq!(world.get(changed).await.header("location"), "https://github.com");
    let from = [("referer", "https://github.com/settings/installations/1")];
    let answer = world.send("GET", changed, &from, "").await;
    assert_eq!((answer.status, answer.header("location")), (302, from[0].1));
    let script = world
        .send("GET", changed, &[("referer", "javascript:alert(1)")], "")
        .await;
    assert_eq!(script.header("location"), "https://github.com");
}

#[tokio::test]
async fn the_socket_is_kept_awake_and_ends_with_the_server() {
    let world = World::new().await;
    let (mut socket, _) = world.socket("/").await;
    world.clock.advance(Duration::from_secs(24));
    socket.send(Message::Ping("a".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("a".into()));
    // The server pings 25 s after it last heard something; it may not have begun to wait when the clock moves.
    let pinged = async {
        loop {
            world.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
            if let Some(message) = futures_util::FutureExt::now_or_never(socket.next()) {
                break message;
            }
        }
    };
    assert!(matches!(pinged.await, Some(Ok(Message::Ping(_)))));
    world.context.ambient.tasks.stop();
    let closed = loop {
        match socket.next().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => break other,
        }
    };
    assert!(matches!(closed, Some(Ok(Message::Close(Some(_))))), "{closed:?}");
}

#[tokio::test]
async fn the_socket_is_at_one_path_only() {
    let world = World::with(Setup {
        websockets_path: "/live",
        ..Setup::default()
    })
    .await;
    world.socket("/live").await;
    for path in ["/", "/overview", "/nowhere"] {
        let url = format!("ws://{}{path}", world.address);
        let refused = tokio_tungstenite::connect_async(url).await;
        assert!(
            matches!(refused, Err(Error::Http(response)) if response.status().as_u16() >= 400),
            "{path}"
        );
    }
    assert_eq!(world.get("/").await.status, 200);
}
