//! The OAuth server and its misbehaviour.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{Method, StatusCode};
use patchbay_sample::{
    CLIENT_ID, CLIENT_SECRET, Consent, EarlyRefresh, Expiry, Failure, Gate, Grant, OldToken, RefreshField,
    Rotation, Shape,
};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::support::{CALLBACK, World};

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
async fn each_client_is_treated_as_it_is_switched() {
    let world = World::new().await;
    let spoilt = json!({
        "secret": "spoilt-secret",
        "behaviours": {"refresh_token": {"next_failures": [{"kind": "html", "status": 200}, {"kind": "garbage"}]}},
    });
    let path = "/admin/clients/spoilt";
    assert_eq!(world.get(path, &[]).await.status, StatusCode::NOT_FOUND);
    let put = world.send(Method::PUT, path, &[], spoilt.to_string()).await;
    assert_eq!(put.status, StatusCode::NO_CONTENT);

    let (own, usual) = (
        world.sample.issue_to("spoilt", "read"),
        world.sample.issue("read"),
    );
    let ask = async |refresh: &Value, secret: &str| {
        let refresh = refresh["refresh_token"].as_str().unwrap();
        let body = format!(
            "grant_type=refresh_token&refresh_token={refresh}&client_id=spoilt&client_secret={secret}"
        );
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        world.send(Method::POST, "/oauth/token", &kind, body).await
    };
    assert_eq!(
        world.refresh(&usual).await.status,
        StatusCode::OK,
        "others are served"
    );
    let page = ask(&own, "spoilt-secret").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let garbage = ask(&own, "spoilt-secret").await;
    assert_eq!(garbage.status, StatusCode::OK);
    assert!(serde_json::from_slice::<Value>(&garbage.body).is_err());
    // A wrong secret says nothing about whose fault anything is.
    assert_eq!(ask(&own, "wrong").await.error(), "401 invalid_client");
    assert_eq!(
        ask(&usual, "spoilt-secret").await.error(),
        "400 invalid_grant",
        "another client's token"
    );
    assert_eq!(ask(&own, "spoilt-secret").await.status, StatusCode::OK);

    let seen = world.get(path, &[]).await.json();
    let outcomes: Vec<_> = seen["token_requests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["outcome"])
        .collect();
    assert_eq!(
        outcomes,
        ["html", "garbage", "invalid_client", "invalid_grant", "ok"]
    );
    assert_eq!(world.sample.requests_of("spoilt").len(), 5);

    world
        .sample
        .behave_to("spoilt", |behaviours| behaviours.clock_skew_seconds = 61);
    assert_eq!(
        world.whoami(&own).await,
        StatusCode::UNAUTHORIZED,
        "the skew is the client's own too"
    );
    assert_eq!(world.whoami(&world.sample.issue("read")).await, StatusCode::OK);
}

#[tokio::test]
async fn a_slow_answer_comes_and_a_hanging_one_does_not() {
    let world = World::new().await;
    world.sample.fail_next(
        Grant::ClientCredentials,
        [Failure::Slow { seconds: 10 }, Failure::Hang],
    );
    for comes in [true, false] {
        let seen = world.sample.counts().token_client_credentials;
        let mut asking = std::pin::pin!(world.token(&[("grant_type", "client_credentials")]));
        tokio::select! {
            _ = &mut asking => panic!("not yet"),
            _ = world.sample.wait_for(|counts| counts.token_client_credentials > seen) => {}
        }
        for _ in 0..100 {
            world.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
        if comes {
            assert_eq!(asking.await.status, StatusCode::OK);
        } else {
            assert!(futures_util::poll!(&mut asking).is_pending());
        }
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
