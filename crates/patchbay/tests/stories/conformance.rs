//! The black-box checklist of auth-flows §27, item by item. Items 9 and 10 are with their modes: `forms::two_step` and
//! `forms::keys`; with the published SDK item 1 is in `clients/`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use patchbay_sample::{Consent, Failure, Gate, Grant};
use patchbay_store::leases;
use patchbay_store::testing::TestDb;
use serde_json::{Value, json};

use crate::common::popup::{Popup, state_of};
use crate::common::{Client, TestServer, World};

const READERS: usize = 50;

async fn session(server: &TestServer, more: &Value) -> String {
    let mut body = json!({"tags": {"end_user_id": "u1"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    server.session(&body).await
}

/// Fifty readers of an expired token, spread over the servers.
async fn read_at_once(world: &World, servers: &[&TestServer]) {
    world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
    let readers = (0..READERS).map(|number| servers[number % servers.len()].connection("c1"));
    let let_go = async {
        world.sample.wait_for(|counts| counts.token_refresh == 1).await;
        world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
    };
    let (answers, ()) = futures_util::join!(join_all(readers), let_go);
    let mut tokens: Vec<Value> = answers
        .iter()
        .map(|answer| answer.expect(200)["credentials"]["access_token"].clone())
        .collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    assert_eq!(world.sample.counts().token_refresh, 1);
}

patchbay_store::both_backends! {
    /// Acknowledgement, redirect, callback, success frame, as the SDK goes through them.
    async fn item_1_a_popup_ends_in_a_success_frame(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.behave(|all| all.consent = Consent::Approve);
        let session = session(&server, &json!({})).await;
        let mut popup = Popup::open(&server).await;
        let (redirect, cookie) = popup.begin(&server, &session, "sample-oauth").await;
        assert_eq!(redirect.status, 302, "{}", redirect.text);
        let approved = Client::anonymous_at(redirect.header("location")).get("").await;
        let back: url::Url = approved.header("location").parse().unwrap();
        let callback = &back[url::Position::BeforePath..];
        let page = server.api.anonymous().request("GET", callback).header("cookie", &cookie).send().await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.text.contains("nango_oauth_callback_success"), "{}", page.text);
        let told = popup.outcome().await;
        let listed = server.api.get("/connections").await.expect(200);
        let frame = json!({
            "message_type": "success", "provider_config_key": "sample-oauth", "is_pending": false,
            "connection_id": listed["connections"][0]["connection_id"],
        });
        assert_eq!(told, frame);
        server.finish().await;
    }

    async fn item_2_a_refusal_at_the_provider_is_told_three_times(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.behave(|all| all.consent = Consent::Deny);
        let session = session(&server, &json!({})).await;
        let mut popup = Popup::open(&server).await;
        let page = server.popup(&format!("{session}&ws_client_id={}", popup.id), "sample-oauth").await;
        assert_eq!((page.status, page.header("content-type")), (400, "text/html; charset=utf-8"));
        assert!(page.text.contains("nango_oauth_callback_error"), "{}", page.text);
        assert!(page.text.contains("connection_validation_failed"), "{}", page.text);
        // The message to the opener is the provider's parameters as JSON, and they alone.
        assert!(page.text.contains("access_denied"), "{}", page.text);
        let told = popup.outcome().await;
        assert_eq!((&told["message_type"], &told["error_type"]), (&json!("error"), &json!("callback_err")));
        assert!(told["error_desc"].as_str().unwrap().contains("error: access_denied"), "{told}");
        server.finish().await;
    }

    /// The provider compares challenge and verifier itself.
    async fn item_3_the_verifier_matches_and_a_state_is_used_once(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.behave(|all| all.consent = Consent::Approve);
        let session = session(&server, &json!({})).await;
        let popup = Popup::open(&server).await;
        let (redirect, cookie) = popup.begin(&server, &session, "sample-oauth").await;
        let asked: url::Url = redirect.header("location").parse().unwrap();
        let param = |name: &str| asked.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
        assert_eq!(param("code_challenge_method").as_deref(), Some("S256"));
        assert_eq!(param("state").as_deref(), Some(state_of(&cookie)));
        let approved = Client::anonymous_at(redirect.header("location")).get("").await;
        let back: url::Url = approved.header("location").parse().unwrap();
        let callback = &back[url::Position::BeforePath..];
        let browser = server.api.anonymous();
        let first = browser.request("GET", callback).header("cookie", &cookie).send().await;
        assert_eq!(first.status, 200, "{}", first.text);
        let exchange = &world.sample.token_requests()[0];
        assert_eq!(exchange.outcome, "ok", "the verifier is the challenge's");
        let verifier = exchange.parameter("code_verifier").unwrap();
        assert!((43..=128).contains(&verifier.len()), "{verifier}");
        let second = browser.request("GET", callback).header("cookie", &cookie).send().await;
        assert_eq!(second.status, 400);
        assert_eq!(world.sample.counts().token_code, 1, "nobody asked the provider again");
        server.finish().await;
    }

    async fn item_4_a_session_names_no_connection(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let session = session(&server, &json!({})).await;
        let browser = server.api.anonymous();
        let with_id = |path: &str| format!("{path}?connect_session_token={session}&connection_id=mine");
        let form = browser.post(&with_id("/api-auth/api-key/sample-api-key"), &json!({"apiKey": "x"})).await;
        let popup = browser.get(&with_id("/oauth/connect/sample-oauth")).await;
        for answer in [form, popup] {
            let error = answer.fails(400, "invalid_query_params");
            assert_eq!(error["errors"][0]["code"], "custom");
            assert_eq!(error["errors"][0]["path"], json!(["connection_id"]));
        }
        server.finish().await;
    }

    async fn item_5_an_integration_that_the_session_does_not_allow(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let session = session(&server, &json!({"allowed_integrations": ["sample-oauth"]})).await;
        let form = format!("/api-auth/api-key/sample-api-key?connect_session_token={session}");
        let body = json!({"apiKey": patchbay_sample::API_KEY});
        server.api.anonymous().post(&form, &body).await.fails(400, "integration_not_allowed");
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        server.finish().await;
    }

    async fn item_6_fifty_readers_of_an_expired_token_cause_one_refresh(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        server.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        read_at_once(&world, &[&server]).await;
        server.finish().await;
    }

    async fn item_7_a_refused_refresh_is_left_alone_given_up_and_cured_by_connecting(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        // The daily look at idle credentials would ask too: another node seems to be at it.
        let context = Arc::clone(&server.running().context);
        let held = context.store.write(|tx| {
            Box::pin(async move { leases::acquire(tx, "idle-refresh", "the test", Duration::from_hours(9999)).await })
        });
        assert!(held.await.unwrap().is_some());
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let asked = || world.sample.counts().token_refresh;
        let later = async |by: Duration| {
            server.quiet().await;
            world.clock.advance(by);
        };
        world.sample.behave_for(Grant::RefreshToken, |behaviour| behaviour.failure = Some(Failure::InvalidGrant));
        later(Duration::from_secs(61)).await;
        server.connection("c1").await.fails(400, "invalid_credentials");
        assert_eq!(asked(), 1);
        server.connection("c1").await.fails(424, "invalid_credentials");
        assert_eq!(asked(), 1, "the provider is left alone");
        later(Duration::from_secs(31)).await;
        server.connection("c1").await.fails(400, "invalid_credentials");
        assert_eq!(asked(), 2);
        for day in 2..=4 {
            later(Duration::from_hours(24)).await;
            server.connection("c1").await.fails(400, "invalid_credentials");
            assert_eq!(asked(), 1 + day, "day {day}");
        }
        later(Duration::from_hours(24)).await;
        let error = server.connection("c1").await.fails(424, "invalid_credentials");
        assert_eq!(asked(), 5, "given up: {error}");
        world.sample.behave_for(Grant::RefreshToken, |behaviour| behaviour.failure = None);
        world.sample.behave(|all| all.consent = Consent::Approve);
        let again = json!({"connection_id": "c1", "integration_id": "sample-oauth"});
        let made = server.api.post("/connect/sessions/reconnect", &again).await.expect(201);
        server.authorize(made["data"]["token"].as_str().unwrap(), "sample-oauth").await;
        let whole = server.connection("c1").await.expect(200);
        assert_eq!(whole["errors"], json!([]));
        later(Duration::from_secs(61)).await;
        server.connection("c1").await.expect(200);
        assert_eq!(asked(), 6, "and is refreshed again");
        server.finish().await;
    }

    async fn item_8_a_reconnect_keeps_id_metadata_and_tags_and_says_override(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.behave(|all| all.consent = Consent::Approve);
        server.import("c1", &json!({"tags": {"end_user_id": "u1"}})).await;
        world.webhook("main", 1).await;
        server.reauthorize("sample-oauth", "c1", "").await;
        let (_, told) = world.webhook("main", 2).await;
        assert_eq!((&told["operation"], &told["connectionId"]), (&json!("override"), &json!("c1")));
        assert_eq!((&told["success"], &told["tags"]), (&json!(true), &json!({"end_user_id": "u1"})));
        server.finish().await;
    }
}

mod item_6_two_processes_cause_one_refresh_too {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let (one, two) = (world.server().start().await, world.server().start().await);
        one.integrations().await;
        one.import("c1", &json!({})).await;
        one.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        read_at_once(&world, &[&one, &two]).await;
        one.finish().await;
        two.finish().await;
    }
}
