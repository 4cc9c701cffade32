//! APP and CUSTOM: an app is installed, mints tokens, and in CUSTOM acts for a user too.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::popup::{Popup, state_of};
use crate::common::simulated::{Simulated, github};
use crate::common::{Answer, TestServer, World};

/// A world whose provider sends browsers back to `path` of the server.
async fn hub(world: &World, path: &str) -> (Simulated, TestServer) {
    let provider = Simulated::start(world).await;
    let server = provider.server(world, github::DEFINITIONS).start().await;
    {
        let mut ledger = provider.ledger();
        ledger.github.setup_url = format!("{}{path}", server.api.base());
        ledger.github.installed.insert("12".to_owned());
        "installation_id=12&setup_action=install".clone_into(&mut ledger.github.answer);
    }
    (provider, server)
}

fn link(provider: &Simulated) -> String {
    format!("{}/github/apps/x", provider.base_url)
}

async fn app(server: &TestServer, provider: &Simulated) {
    let credentials = json!({
        "type": "APP", "app_id": github::APP_ID, "app_link": link(provider), "private_key": github::key().1,
    });
    let body = json!({"provider": "hub-app", "unique_key": "app", "credentials": credentials});
    server.api.post("/integrations", &body).await.expect(200);
}

async fn app_with_users(server: &TestServer, provider: &Simulated) {
    provider.ledger().github.with_code = true;
    let credentials = json!({
        "type": "CUSTOM", "client_id": github::CLIENT, "client_secret": github::SECRET,
        "app_id": github::APP_ID, "app_link": link(provider), "private_key": github::key().1,
    });
    let body = json!({"provider": "hub-app-oauth", "unique_key": "app", "credentials": credentials});
    server.api.post("/integrations", &body).await.expect(200);
}

async fn read(server: &TestServer, id: &str, more: &str) -> Value {
    server
        .api
        .get(&format!("/connections/{id}?provider_config_key=app{more}"))
        .await
        .expect(200)
}

async fn proxied(server: &TestServer, id: &str) -> Answer {
    let request = server.api.request("GET", "/proxy/whoami");
    request
        .header("connection-id", id)
        .header("provider-config-key", "app")
        .send()
        .await
}

/// The one connection's id.
async fn only(server: &TestServer) -> String {
    let listed = server.api.get("/connections").await.expect(200);
    assert_eq!(listed["connections"].as_array().unwrap().len(), 1, "{listed}");
    listed["connections"][0]["connection_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

patchbay_store::both_backends! {
    async fn an_app_is_installed_used_renewed_and_removed(db: TestDb) {
        let world = World::on(db).await;
        let (provider, server) = hub(&world, "/app-auth/connect").await;
        app(&server, &provider).await;
        let presets = json!({"app": {"connection_config": {"note": "preset"}}});
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}, "integrations_config_defaults": presets})).await;
        // What a browser adds is not the installation's.
        let page = server.popup(&format!("{session}&params[installation_id]=99&params[x]=y"), "app").await;
        assert_eq!(page.status, 200, "{}", page.text);
        let id = only(&server).await;
        let stored = read(&server, &id, "").await;
        let (credentials, config) = (&stored["credentials"], &stored["connection_config"]);
        assert_eq!(credentials["type"], "APP");
        let token = credentials["access_token"].as_str().unwrap();
        assert_eq!(credentials["jwtToken"], config["jwtToken"]);
        assert_eq!(
            (&config["installation_id"], &config["app_id"], &config["note"], &config["x"]),
            (&json!("12"), &json!(github::APP_ID), &json!("preset"), &Value::Null)
        );
        assert_eq!(proxied(&server, &id).await.expect(200)["installation"], "12");
        let (_, told) = world.webhook("main", 1).await;
        assert_eq!((&told["authMode"], &told["operation"]), (&json!("APP"), &json!("creation")));

        // Fifteen minutes before its end the token is replaced, once.
        server.quiet().await;
        world.clock.advance(Duration::from_mins(46));
        let renewed = read(&server, &id, "").await;
        assert_ne!(renewed["credentials"]["access_token"], token);
        assert_ne!(renewed["connection_config"]["jwtToken"], config["jwtToken"]);
        assert_eq!(provider.calls("/github/app/installations/12/access_tokens").len(), 2);
        assert_eq!(proxied(&server, &id).await.expect(200)["installation"], "12");
        let forced = read(&server, &id, "&force_refresh=true").await;
        assert_ne!(forced["credentials"]["access_token"], renewed["credentials"]["access_token"]);
        assert_eq!(provider.calls("/github/app/installations/12/access_tokens").len(), 3);

        // The app's JWT is signed here; the token stays.
        server.quiet().await;
        world.clock.advance(Duration::from_mins(5));
        let plain = read(&server, &id, "").await;
        assert_eq!(plain["connection_config"]["jwtToken"], forced["connection_config"]["jwtToken"]);
        let signed = read(&server, &id, "&refresh_github_app_jwt_token=true").await;
        assert_ne!(signed["connection_config"]["jwtToken"], forced["connection_config"]["jwtToken"]);
        assert_eq!(signed["credentials"]["jwtToken"], signed["connection_config"]["jwtToken"]);
        assert_eq!(signed["credentials"]["access_token"], forced["credentials"]["access_token"]);
        assert_eq!(provider.calls("/github/app/installations/12/access_tokens").len(), 3);

        server.reauthorize("app", &id, "").await;
        let after = read(&server, &id, "").await;
        assert_eq!((&after["id"], &after["tags"]), (&stored["id"], &json!({"end_user_id": "u1"})));
        let (_, told) = world.webhook("main", 2).await;
        assert_eq!(told["operation"], "override");

        // Uninstalled at the provider: the end user has to come back.
        provider.ledger().github.installed.clear();
        let gone = server.api.get(&format!("/connections/{id}?provider_config_key=app&force_refresh=true")).await;
        assert_eq!(gone.fails(400, "invalid_credentials")["payload"]["cause"], "provider_refused");
        provider.ledger().github.installed.insert("12".to_owned());
        server.remove("app", &id).await;
        server.finish().await;
    }

    async fn what_can_go_wrong_with_an_installation_is_told(db: TestDb) {
        let world = World::on(db).await;
        let (provider, server) = hub(&world, "/app-auth/connect").await;
        app(&server, &provider).await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let browser = server.api.anonymous();
        for (query, kind) in [
            ("setup_action=request", "wrong_auth_mode"),
            ("setup_action=install", "url_param_err"),
            ("installation_id=..%2f12&setup_action=install", "url_param_err"),
            ("installation_id=404&setup_action=install", "unknown_err"),
        ] {
            let mut popup = Popup::open(&server).await;
            let (redirect, cookie) = popup.begin(&server, &session, "app").await;
            assert_eq!(redirect.status, 302, "{}", redirect.text);
            let back = format!("/app-auth/connect?{query}&state={}", state_of(&cookie));
            let page = browser.request("GET", &back).header("cookie", &cookie).send().await;
            assert_eq!(page.status, 400, "{query}");
            assert!(page.header("content-type").starts_with("text/html"), "{query}");
            assert_eq!(popup.outcome().await["error_type"], kind, "{query}");
        }
        // Without a state that we know there is nobody to tell but the person.
        let page = browser.get("/app-auth/connect?installation_id=12&state=unknown").await;
        assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));
        let page = browser.get("/app-auth/connect?code=1").await;
        assert_eq!((page.status, page.header("content-type")), (400, "text/html; charset=utf-8"));
        // Changed at the provider, not from here: back to there.
        for action in ["install", "update"] {
            let target = format!("/app-auth/connect?installation_id=12&setup_action={action}");
            assert_eq!(browser.get(&target).await.header("location"), "https://github.com");
            let from = browser.request("GET", &target).header("referer", "https://hub.example/settings");
            assert_eq!(from.send().await.header("location"), "https://hub.example/settings");
        }
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        server.finish().await;
    }

    async fn an_app_with_users_keeps_both_tokens_alive(db: TestDb) {
        let world = World::on(db).await;
        let (provider, server) = hub(&world, "/oauth/callback").await;
        app_with_users(&server, &provider).await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        server.authorize(&session, "app").await;
        let id = only(&server).await;
        let stored = read(&server, &id, "&refresh_token=true").await;
        let config = &stored["connection_config"];
        assert_eq!(stored["credentials"]["type"], "APP");
        assert_eq!(
            (&config["handle"], &config["installation_id"], &config["pending"]),
            (&json!(github::LOGIN), &json!("12"), &Value::Null)
        );
        let user = &config["userCredentials"];
        assert_eq!(user["type"], "OAUTH2");
        let plain = read(&server, &id, "").await;
        assert_eq!(plain["connection_config"]["userCredentials"]["refresh_token"], Value::Null);

        server.quiet().await;
        world.clock.advance(Duration::from_mins(46));
        let renewed = read(&server, &id, "&refresh_token=true").await;
        let renewed_user = &renewed["connection_config"]["userCredentials"];
        assert_ne!(renewed["credentials"]["access_token"], stored["credentials"]["access_token"]);
        assert_ne!(renewed_user["access_token"], user["access_token"]);
        assert_ne!(renewed_user["refresh_token"], user["refresh_token"]);
        // The user's token may fail; the app's may not.
        provider.answer_once("/github/login/oauth/access_token", 500, json!({}));
        let half = read(&server, &id, "&refresh_token=true&force_refresh=true").await;
        assert_ne!(half["credentials"]["access_token"], renewed["credentials"]["access_token"]);
        assert_eq!(half["connection_config"]["userCredentials"], *renewed_user);
        let asked = provider.calls("/github/login/oauth/access_token").len();
        provider.answer_once("/github/app/installations/12/access_tokens", 500, json!({}));
        let failed = server.api.get(&format!("/connections/{id}?provider_config_key=app&force_refresh=true")).await;
        failed.fails(502, "invalid_credentials");
        let now = provider.calls("/github/login/oauth/access_token").len();
        assert_eq!(now, asked, "no refresh token is spent for a renewal that is not saved");
        assert_eq!(proxied(&server, &id).await.expect(200)["installation"], "12");

        server.quiet().await;
        server.reauthorize("app", &id, "").await;
        assert_eq!(proxied(&server, &id).await.expect(200)["installation"], "12");

        // The installation is changed at the provider: the same connection, without another code.
        {
            let mut ledger = provider.ledger();
            ledger.github.with_code = false;
            ledger.github.answer = "installation_id=12&setup_action=update".to_owned();
        }
        server.quiet().await;
        let other = server.session(&json!({"tags": {"end_user_id": "u2"}})).await;
        server.authorize(&other, "app").await;
        assert_eq!(only(&server).await, id);
        let after = read(&server, &id, "").await;
        assert_eq!(after["tags"], json!({"end_user_id": "u1"}), "another session's labels are not this connection's");
        assert_eq!(after["connection_config"]["handle"], github::LOGIN);
        server.remove("app", &id).await;
        server.finish().await;
    }

    async fn installations_are_imported(db: TestDb) {
        let world = World::on(db).await;
        let (provider, server) = hub(&world, "/oauth/callback").await;
        app_with_users(&server, &provider).await;
        let body = |app: &str, installation: &str| json!({
            "provider_config_key": "app", "connection_id": "c1",
            "credentials": {"type": "CUSTOM", "app_id": app, "installation_id": installation},
        });
        server.api.post("/connections", &body("1", "12")).await.fails(400, "invalid_body");
        server.api.post("/connections", &body(github::APP_ID, "../12")).await.fails(400, "invalid_body");
        server.api.post("/connections", &body(github::APP_ID, "404")).await.fails(500, "server_error");
        let made = server.api.post("/connections", &body(github::APP_ID, "12")).await.expect(201);
        assert_eq!(made["credentials"]["type"], "APP");
        assert_eq!(made["connection_config"]["installation_id"], "12");
        assert_eq!(proxied(&server, "c1").await.expect(200)["installation"], "12");
        server.quiet().await;
        world.clock.advance(Duration::from_mins(61));
        assert_eq!(proxied(&server, "c1").await.expect(200)["installation"], "12", "renewed with what was kept");
        server.finish().await;
    }
}
