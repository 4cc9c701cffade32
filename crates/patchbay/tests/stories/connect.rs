//! A customer connects, the credential is read, refreshed and used, and the product is told.

use std::time::Duration;

use patchbay_sample::{Consent, Failure, Grant};
use serde_json::json;

use crate::common::{DEV_KEY, World, assert_signed};

/// The sample provider, told to forget a grant before its connection is deleted (RFC 7009).
const REVOCABLE: &str = "
revocable:
    display_name: Revocable
    categories: [other]
    docs: https://docs.example.com
    auth_mode: OAUTH2
    authorization_url: BASE/oauth/authorize
    token_url: BASE/oauth/token
    token_expiration_buffer: 10
    proxy:
        base_url: BASE
    revoke:
        - request:
              method: POST
              url: BASE/oauth/revoke
              headers:
                  authorization: Basic CLIENT
              data:
                  token: ${credentials.refresh_token}
              body_format: form
";

patchbay_store::both_backends! {
    async fn an_oauth2_connection_lives_and_dies(db: TestDb) {
        let world = World::on(db).await;
        let pair = format!("{}:{}", patchbay_sample::CLIENT_ID, patchbay_sample::CLIENT_SECRET);
        let client = data_encoding::BASE64.encode(pair.as_bytes());
        let text = REVOCABLE.replace("BASE", &world.sample.base_url).replace("CLIENT", &client);
        std::fs::write(world.path("revocable.yaml"), text).unwrap();
        let mut starting = world.server();
        let path = world.path("revocable.yaml").display().to_string();
        starting.sources.flags.get_mut("catalog").unwrap().push(path);
        let server = starting.start().await;
        let credentials = json!({
            "type": "OAUTH2", "client_id": patchbay_sample::CLIENT_ID, "client_secret": patchbay_sample::CLIENT_SECRET,
        });
        let body = json!({"provider": "revocable", "unique_key": "revocable", "credentials": credentials});
        server.api.post("/integrations", &body).await.expect(200);
        world.sample.behave(|all| all.consent = Consent::Approve);
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        server.authorize(&session, "revocable").await;
        let (_, told) = world.webhook("main", 1).await;
        let id = told["connectionId"].as_str().unwrap();
        let first = server.read_connection("revocable", id, "").await.expect(200);
        server.relay("revocable", id, "GET", "/whoami", None).await.expect(200);

        server.quiet().await;
        world.clock.advance(Duration::from_secs(51));
        let renewed = server.read_connection("revocable", id, "").await.expect(200);
        assert_ne!(renewed["credentials"]["access_token"], first["credentials"]["access_token"]);
        server.relay("revocable", id, "GET", "/whoami", None).await.expect(200);
        server.reauthorize("revocable", id, "").await;
        let last = server.read_connection("revocable", id, "").await.expect(200);
        let token = last["credentials"]["access_token"].as_str().unwrap();
        assert!(world.sample.accepts(token));

        server.remove("revocable", id).await;
        assert_eq!(world.sample.counts().revoke, 1);
        assert!(!world.sample.accepts(token), "the grant ended with the connection");
        server.finish().await;
    }

    async fn a_connection_is_made_read_refreshed_and_used(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let tags = json!({"end_user_id": "u1", "end_user_display_name": "Ada Eklund"});
        let session = server.session(&json!({"tags": tags, "allowed_integrations": ["sample-oauth"]})).await;
        server.authorize(&session, "sample-oauth").await;

        let listed = server.api.get("/connections?tags[end_user_id]=u1").await.expect(200);
        let row = &listed["connections"][0];
        assert_eq!(row["provider_config_key"], "sample-oauth");
        assert_eq!(row["tags"], tags);
        let id = row["connection_id"].as_str().unwrap();

        let (received, body) = world.webhook("main", 1).await;
        assert_signed(&received, DEV_KEY);
        let told = json!({
            "from": "nango", "type": "auth", "operation": "creation", "connectionId": id, "provider": "sample-oauth",
            "providerConfigKey": "sample-oauth", "authMode": "OAUTH2", "environment": "dev", "success": true,
            "tags": tags,
        });
        assert_eq!(body, told);

        let first = server.token(id).await;
        assert_eq!(server.token(id).await, first, "a fresh token is not refreshed");
        assert_eq!(server.proxied(id, "/whoami").await.expect(200)["name"], "Ada Eklund");
        assert_eq!(world.sample.counts().token_refresh, 0);

        server.quiet().await;
        world.clock.advance(Duration::from_secs(51));
        let second = server.token(id).await;
        assert_ne!(second, first);
        assert_eq!(world.sample.counts().token_refresh, 1);
        let used = server.proxied(id, "/echo/a?b=c").await.expect(200);
        let sent = json!(["authorization", format!("Bearer {second}")]);
        assert!(used["headers"].as_array().unwrap().contains(&sent), "{used}");

        server.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        server.proxied(id, "/whoami").await.expect(200);
        assert_eq!(world.sample.counts().token_refresh, 2, "a proxied call refreshes too");
        assert_eq!(world.sample.received("main").len(), 1, "a refresh that works is no news");
        server.finish().await;
    }

    async fn a_reconnect_keeps_the_connection_and_says_override(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({"tags": {"end_user_id": "u1"}, "metadata": {"plan": "pro"}})).await;
        let before = server.connection("c1").await.expect(200);
        world.webhook("main", 1).await;
        let again = json!({"connection_id": "c1", "integration_id": "sample-oauth"});
        let made = server.api.post("/connect/sessions/reconnect", &again).await.expect(201);
        server.authorize(made["data"]["token"].as_str().unwrap(), "sample-oauth").await;

        let after = server.connection("c1").await.expect(200);
        for kept in ["id", "tags", "metadata", "created_at"] {
            assert_eq!(after[kept], before[kept], "{kept}");
        }
        assert_ne!(after["credentials"]["access_token"], before["credentials"]["access_token"]);
        let (received, body) = world.webhook("main", 2).await;
        assert_signed(&received, DEV_KEY);
        assert_eq!((&body["operation"], &body["connectionId"]), (&json!("override"), &json!("c1")));
        server.finish().await;
    }

    async fn a_refusal_at_the_provider_makes_no_connection_and_is_told(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.behave(|all| all.consent = Consent::Deny);
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let page = server.popup(&session, "sample-oauth").await;
        assert_eq!(page.status, 400);
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        let (_, body) = world.webhook("main", 1).await;
        assert_eq!((&body["success"], &body["operation"]), (&json!(false), &json!("creation")));
        server.finish().await;
    }

    async fn a_refused_reconnect_leaves_the_connection_and_says_override(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let own = world.sample.url("/hooks/own");
        server.import("c1", &json!({"tags": {"end_user_id": "u1"}, "webhook_url_override": own})).await;
        world.webhook("own", 1).await;
        let before = server.token("c1").await;
        world.sample.behave(|all| all.consent = Consent::Deny);
        let again = json!({"connection_id": "c1", "integration_id": "sample-oauth"});
        let made = server.api.post("/connect/sessions/reconnect", &again).await.expect(201);
        let page = server.popup(made["data"]["token"].as_str().unwrap(), "sample-oauth").await;
        assert_eq!(page.status, 400);
        assert_eq!(server.token("c1").await, before);
        let (_, body) = world.webhook("own", 2).await;
        assert_eq!((&body["operation"], &body["success"]), (&json!("override"), &json!(false)));
        assert_eq!((&body["connectionId"], &body["tags"]), (&json!("c1"), &json!({"end_user_id": "u1"})));
        let failed = server.operator.json("logs --env dev --type auth --state failed --json").await;
        assert_eq!(failed.as_array().unwrap().len(), 1, "{failed}");
        server.finish().await;
    }

    async fn a_wrong_key_in_a_form_is_told_to_its_user_and_to_the_product(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let form = format!("/api-auth/api-key/sample-api-key?connect_session_token={session}");
        let browser = server.api.anonymous();
        browser.post(&form, &json!({"apiKey": "planted-wrong"})).await.fails(400, "connection_test_failed");
        let failed = server.operator.json("logs --env dev --state failed --json").await;
        let id = failed[0]["id"].as_str().unwrap();
        let shown = server.operator.ok(&format!("logs {id}")).await;
        assert!(!shown.contains("planted-"), "{shown}");
        let (received, body) = world.webhook("main", 1).await;
        assert_signed(&received, DEV_KEY);
        assert_eq!(
            (&body["operation"], &body["success"], &body["error"]["type"], &body["tags"]),
            (&json!("creation"), &json!(false), &json!("connection_test_failed"), &json!({"end_user_id": "u1"}))
        );
        assert!(!body["connectionId"].as_str().unwrap().is_empty(), "{body}");
        assert!(!body.to_string().contains("planted-"), "{body}");
        // What the end user typed wrong is between them and the form.
        browser.post(&form, &json!({"apiKey": 1})).await.fails(400, "invalid_body");
        browser.post(&form, &json!({"apiKey": patchbay_sample::API_KEY})).await.expect(200);
        let (_, body) = world.webhook("main", 2).await;
        assert_eq!((&body["success"], &body["authMode"]), (&json!(true), &json!("API_KEY")));
        let well = server.operator.json("logs --env dev --state success --json").await;
        assert_eq!(well[0]["integration"], "sample-api-key");
        server.finish().await;
    }

    async fn failing_and_recovering_are_told_once_each(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        world.webhook("main", 1).await;

        server.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        world.sample.fail_next(Grant::RefreshToken, [Failure::InvalidGrant]);
        let failed = server.connection("c1").await;
        let error = failed.fails(failed.status, "invalid_credentials");
        assert!((400..500).contains(&failed.status), "{error}");
        assert_eq!(error["payload"]["connection"]["credentials"], json!({}));
        let (received, body) = world.webhook("main", 2).await;
        assert_signed(&received, DEV_KEY);
        assert_eq!((&body["operation"], &body["success"]), (&json!("refresh"), &json!(false)));
        assert!(body["error"]["type"].is_string(), "{body}");
        let listed = server.api.get("/connections").await.expect(200);
        assert_eq!(listed["connections"][0]["errors"][0]["type"], "auth");

        server.connection("c1").await.fails(424, "invalid_credentials");
        assert_eq!(world.sample.counts().token_refresh, 1, "the provider is left alone for a while");

        server.quiet().await;
        world.clock.advance(Duration::from_secs(31));
        server.connection("c1").await.expect(200);
        let (_, body) = world.webhook("main", 3).await;
        assert_eq!((&body["operation"], &body["success"]), (&json!("refresh"), &json!(true)));
        let listed = server.api.get("/connections").await.expect(200);
        assert_eq!(listed["connections"][0]["errors"], json!([]));
        server.finish().await;
    }

    async fn a_provider_that_is_down_is_not_the_customers_fault(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        world.webhook("main", 1).await;
        server.quiet().await;
        world.clock.advance(Duration::from_secs(51));
        let broken = Failure::Status { status: 500, retry_after: None };
        world.sample.fail_next(Grant::RefreshToken, [broken; 4]);
        // The stored token is good for nine seconds more: callers get it.
        let good = server.connection("c1").await.expect(200);
        assert!(good["credentials"]["access_token"].is_string());
        server.quiet().await;
        world.clock.advance(Duration::from_secs(31));
        world.sample.behave_for(Grant::RefreshToken, |behaviour| behaviour.next_failures = vec![broken; 4]);
        let failed = server.connection("c1").await;
        assert_ne!(failed.status, 401, "{}", failed.text);
        assert_eq!(failed.json()["error"]["code"], "invalid_credentials", "{}", failed.text);
        world.sample.behave_for(Grant::RefreshToken, |behaviour| behaviour.next_failures.clear());
        server.quiet().await;
        world.clock.advance(Duration::from_secs(31));
        server.connection("c1").await.expect(200);
        server.finish().await;
    }

    async fn secrets_sent_in_are_kept_and_never_logged(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let body = json!({
            "provider_config_key": "sample-oauth", "connection_id": "secret",
            "credentials": {"type": "OAUTH2", "access_token": "planted-access", "refresh_token": "planted-refresh"},
            "connection_config": {"note": "planted-config"},
        });
        server.api.post("/connections", &body).await.expect(201);
        let read = "/connections/secret?provider_config_key=sample-oauth&refresh_token=true";
        let found = server.api.get(read).await.expect(200);
        assert_eq!(found["credentials"]["access_token"], "planted-access");
        assert_eq!(found["credentials"]["refresh_token"], "planted-refresh");
        let plain = server.connection("secret").await;
        assert!(!plain.text.contains("planted-refresh"), "{}", plain.text);
        server.proxied("secret", "/whoami?token=planted-query").await;
        server.api.with_key("planted-key").get("/connections").await;
        server.api.post("/connections", &json!({"credentials": {"type": "OAUTH2", "access_token": ["planted-x"]}})).await;
        server.operator.ok("env set dev variables.TOKEN=planted-variable").await;
        server.api.get("/oauth/callback?state=planted-state&code=planted-code").await;
        server.api.get("/oauth/connect/sample-oauth?connect_session_token=planted-token").await;
        server.quiet().await;
        world.clock.advance(Duration::from_hours(24));
        server.connection("secret").await;
        server.api.request("GET", "/connections/secret?provider_config_key=sample-oauth&force_refresh=true").send().await;
        world.webhook("main", 1).await;
        let file = world.db.url().to_owned();
        if let Some(path) = file.strip_prefix("sqlite:") {
            for suffix in ["", "-wal"] {
                let bytes = crate::common::bytes_of(std::path::Path::new(&format!("{path}{suffix}")));
                for secret in ["planted-access", "planted-refresh", "planted-variable"] {
                    let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                    assert!(!found, "{secret} is in the database file");
                }
            }
        }
        server.finish().await;
    }
}
