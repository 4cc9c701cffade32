//! Connections that wait for a provider's webhook: an owner's approval, an installation from the provider's side.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::popup::Popup;
use crate::common::simulated::{Simulated, github, sentry};
use crate::common::{Answer, TestServer, World, until};

/// Sends a webhook as the provider does.
async fn deliver(server: &TestServer, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut request = server.api.anonymous().request("POST", path).json(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await
}

async fn webhook_path(server: &TestServer, key: &str) -> String {
    let shown = server
        .api
        .get(&format!("/integrations/{key}?include=webhook"))
        .await
        .expect(200);
    let url: url::Url = shown["data"]["webhook_url"].as_str().unwrap().parse().unwrap();
    url.path().to_owned()
}

async fn only(server: &TestServer) -> String {
    let listed = server.api.get("/connections").await.expect(200);
    assert_eq!(listed["connections"].as_array().unwrap().len(), 1, "{listed}");
    listed["connections"][0]["connection_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn read(server: &TestServer, key: &str, id: &str) -> Value {
    server
        .api
        .get(&format!(
            "/connections/{id}?provider_config_key={key}&refresh_token=true"
        ))
        .await
        .expect(200)
}

async fn proxied(server: &TestServer, key: &str, id: &str) -> Answer {
    let request = server.api.request("GET", "/proxy/whoami");
    request
        .header("connection-id", id)
        .header("provider-config-key", key)
        .send()
        .await
}

patchbay_store::both_backends! {
    async fn an_owner_approves_what_an_end_user_asked_for(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, github::DEFINITIONS).start().await;
        let link = format!("{}/github/apps/x", provider.base_url);
        {
            let mut ledger = provider.ledger();
            ledger.github.setup_url = format!("{}/oauth/callback", server.api.base());
            ledger.github.with_code = true;
            ledger.github.answer = "setup_action=request".to_owned();
        }
        let credentials = json!({
            "type": "CUSTOM", "client_id": github::CLIENT, "client_secret": github::SECRET,
            "app_id": github::APP_ID, "app_link": link, "private_key": github::key().1,
        });
        let body = json!({"provider": "hub-app-oauth", "unique_key": "app", "credentials": credentials});
        server.api.post("/integrations", &body).await.expect(200);
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let mut popup = Popup::open(&server).await;
        server.authorize(&format!("{session}&ws_client_id={}", popup.id), "app").await;
        let told = popup.outcome().await;
        assert_eq!((&told["message_type"], &told["is_pending"]), (&json!("success"), &json!(true)));
        let id = only(&server).await;
        let pending = read(&server, "app", &id).await;
        assert_eq!(pending["credentials"]["type"], "OAUTH2");
        let config = &pending["connection_config"];
        assert_eq!(
            (&config["pending"], &config["handle"], &config["app_id"]),
            (&json!(true), &json!(github::LOGIN), &json!(github::APP_ID))
        );
        assert!(config["pendingLog"].is_string());
        world.webhook("main", 1).await;

        provider.ledger().github.installed.insert("12".to_owned());
        let event = json!({
            "action": "created", "installation": {"id": 12, "app_id": github::APP_ID.parse::<u32>().unwrap()},
            "requester": {"login": github::LOGIN},
        });
        let path = webhook_path(&server, "app").await;
        let text = event.to_string();
        deliver(&server, &path, &event, &[]).await.fails(401, "webhook_missing_signature");
        let wrong = github::signature("https://other.example", text.as_bytes());
        let short = [("x-hub-signature-256", "sha256=00")];
        deliver(&server, &path, &event, &short).await.fails(401, "webhook_invalid_signature");
        let signed = [("x-hub-signature-256", wrong.as_str())];
        deliver(&server, &path, &event, &signed).await.fails(401, "webhook_invalid_signature");
        assert_eq!(read(&server, "app", &id).await["credentials"]["type"], "OAUTH2");

        let right = github::signature(&link, text.as_bytes());
        let signed = [("x-hub-signature-256", right.as_str()), ("x-github-event", "installation")];
        // The provider's token endpoint is down: the event is not lost with it.
        provider.answer_once("/github/app/installations/12/access_tokens", 500, json!({}));
        let taken = deliver(&server, &path, &event, &signed).await.expect(200);
        assert_eq!(taken, json!({"status": "success"}));
        assert_eq!(read(&server, "app", &id).await["credentials"]["type"], "OAUTH2");
        world.clock.advance(Duration::from_mins(3));
        patchbay_connections::inbound_events::work_off(&server.running().context).await.unwrap();
        // The server's own round may have got there first.
        let whole = until("the installation to be completed", async || {
            let whole = read(&server, "app", &id).await;
            (whole["credentials"]["type"] == "APP").then_some(whole)
        })
        .await;
        let config = &whole["connection_config"];
        assert_eq!(
            (&config["pending"], &config["pendingLog"], &config["installation_id"]),
            (&Value::Null, &Value::Null, &json!("12"))
        );
        assert_eq!(config["userCredentials"]["access_token"], pending["credentials"]["access_token"]);
        assert_eq!(whole["tags"], json!({"end_user_id": "u1"}));
        assert_eq!(proxied(&server, "app", &id).await.expect(200)["installation"], "12");
        let (_, told) = world.webhook("main", 2).await;
        assert_eq!((&told["connectionId"], &told["success"]), (&json!(id), &json!(true)));

        // Nobody waits any more; other events are taken and change nothing.
        deliver(&server, &path, &event, &signed).await.expect(200);
        deliver(&server, &path, &json!({"action": "opened"}), &[]).await.expect(200);
        let logged = server.operator.json("logs --env dev --type webhook --json").await;
        assert_eq!(logged.as_array().unwrap().len(), 3, "{logged}");
        server.finish().await;
    }

    async fn an_app_is_installed_from_the_providers_side(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, sentry::DEFINITIONS).start().await;
        let credentials = json!({"type": "OAUTH2", "client_id": sentry::CLIENT, "client_secret": sentry::SECRET});
        let body = json!({"provider": "outbound", "unique_key": "out", "credentials": credentials});
        server.api.post("/integrations", &body).await.expect(200);
        server.integrations().await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let browser = server.api.anonymous();
        let at = |key: &str, more: &str| format!("/auth/oauth-outbound/{key}?connect_session_token={session}{more}");
        let post = async |target: String| browser.request("POST", &target).send().await;
        post(at("sample-oauth", "")).await.fails(400, "invalid_auth_mode");
        post(at("nothing", "")).await.fails(404, "unknown_provider_config");
        post(at("out", "&params[actor]=x")).await.fails(400, "invalid_body");
        let mut popup = Popup::open(&server).await;
        assert_eq!(popup.begin(&server, &format!("{session}&params[actor]=7"), "out").await.0.status, 400);
        assert_eq!(popup.outcome().await["error_type"], "auth_mode_err");

        let made = post(at("out", "&params[actor]=7")).await.expect(200);
        let id = made["connectionId"].as_str().unwrap();
        assert_eq!(made["providerConfigKey"], "out");
        let waiting = read(&server, "out", id).await;
        assert_eq!(waiting["credentials"], json!({"type": "OAUTH2", "raw": {}}));
        assert_eq!(waiting["connection_config"]["pending"], true);

        let path = webhook_path(&server, "out").await;
        let event = json!({
            "action": "created", "actor": {"id": 7, "type": "user"}, "installation": {"uuid": "u-1"},
            "data": {"installation": {"uuid": "u-1", "code": "c-1"}},
        });
        let resource = ("sentry-hook-resource", "installation");
        deliver(&server, &path, &event, &[resource]).await.fails(401, "webhook_missing_signature");
        let signature = sentry::signature(event.to_string().as_bytes());
        deliver(&server, &path, &event, &[resource, ("sentry-hook-signature", &signature)]).await.expect(200);
        let whole = read(&server, "out", id).await;
        assert_eq!(whole["credentials"]["access_token"], "planted-sa-1");
        assert_eq!(whole["connection_config"], json!({"actor": "7", "installation.uuid": "u-1"}));
        assert_eq!(whole["tags"], json!({"end_user_id": "u1"}));
        proxied(&server, "out", id).await.expect(200);
        let (_, told) = world.webhook("main", 1).await;
        assert_eq!((&told["operation"], &told["connectionId"]), (&json!("creation"), &json!(id)), "told once it works");
        server.quiet().await;
        world.clock.advance(Duration::from_mins(46));
        assert_eq!(read(&server, "out", id).await["credentials"]["access_token"], "planted-sa-2");

        let (session, before) = server.begin_reconnect("out", id).await;
        let again = format!("/auth/oauth-outbound/out?connect_session_token={session}&params[actor]=7");
        assert_eq!(browser.request("POST", &again).send().await.expect(200)["connectionId"], id);
        assert_eq!(read(&server, "out", id).await["connection_config"]["pending"], true);
        deliver(&server, &path, &event, &[resource, ("sentry-hook-signature", &signature)]).await.expect(200);
        server.assert_same_connection("out", id, &before).await;
        proxied(&server, "out", id).await.expect(200);
        server.remove("out", id).await;
        server.finish().await;
    }

    async fn webhooks_of_nobody_are_refused(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, sentry::DEFINITIONS).start().await;
        server.integrations().await;
        let credentials = json!({"type": "OAUTH2", "client_id": sentry::CLIENT, "client_secret": sentry::SECRET});
        let body = json!({"provider": "outbound", "unique_key": "out", "credentials": credentials});
        server.api.post("/integrations", &body).await.expect(200);
        let path = webhook_path(&server, "out").await;
        let (root, _) = path.rsplit_once('/').unwrap();
        let event = json!({});
        let nowhere = "/webhook/00000000-0000-4000-8000-000000000000/out";
        deliver(&server, nowhere, &event, &[]).await.fails(404, "unknown_environment");
        deliver(&server, "/webhook/x/out", &event, &[]).await.fails(400, "invalid_uri_params");
        deliver(&server, &format!("{root}/none"), &event, &[]).await.fails(404, "unknown_provider_config");
        assert_eq!(deliver(&server, &format!("{root}/sample-oauth"), &event, &[]).await.status, 204);
        let browser = server.api.anonymous();
        let broken = browser.request("POST", &path).body("application/json", "{");
        broken.send().await.fails(400, "invalid_json");
        assert_eq!(browser.get(&path).await.status, 405, "no page that a provider could take for a yes");
        server.finish().await;
    }
}
