//! MCP_OAUTH2 and MCP_OAUTH2_GENERIC: we become a client ourselves, and find out where.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::popup::{Popup, state_of};
use crate::common::simulated::{Simulated, mcp};
use crate::common::{Answer, TestServer, World};

async fn read(server: &TestServer, key: &str, id: &str, more: &str) -> Value {
    server
        .api
        .get(&format!("/connections/{id}?provider_config_key={key}{more}"))
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

async fn only(server: &TestServer) -> String {
    let listed = server.api.get("/connections").await.expect(200);
    assert_eq!(listed["connections"].as_array().unwrap().len(), 1, "{listed}");
    listed["connections"][0]["connection_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Refresh, proxy, reconnect, delete: alike for all of them.
async fn lives_and_dies(world: &World, server: &TestServer, key: &str, params: &str) {
    let id = only(server).await;
    let stored = read(server, key, &id, "&refresh_token=true").await;
    assert_eq!(stored["credentials"]["type"], "OAUTH2");
    let resource = proxied(server, key, &id).await.expect(200)["resource"].clone();
    assert!(resource.as_str().unwrap().ends_with("/server/mcp"), "{resource}");
    server.quiet().await;
    world.clock.advance(Duration::from_mins(46));
    let renewed = read(server, key, &id, "&refresh_token=true").await;
    for name in ["access_token", "refresh_token"] {
        assert_ne!(
            renewed["credentials"][name], stored["credentials"][name],
            "{name}"
        );
    }
    proxied(server, key, &id).await.expect(200);
    server.reauthorize(key, &id, params).await;
    let after = read(server, key, &id, "").await;
    assert_eq!(
        (&after["id"], &after["tags"]),
        (&stored["id"], &json!({"end_user_id": "u1"}))
    );
    let forced = read(server, key, &id, "&force_refresh=true").await;
    assert_ne!(
        forced["credentials"]["access_token"],
        after["credentials"]["access_token"]
    );
    server.remove(key, &id).await;
}

async fn session(server: &TestServer) -> String {
    server.session(&json!({"tags": {"end_user_id": "u1"}})).await
}

patchbay_store::both_backends! {
    async fn a_client_is_registered_with_the_integration(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, mcp::DEFINITIONS).start().await;
        provider.answer_once("/id/register", 400, json!({"error": "invalid_redirect_uri"}));
        let body = json!({"provider": "registers", "unique_key": "mcp"});
        server.api.post("/integrations", &body).await.fails(502, "server_error");
        assert_eq!(server.api.get("/integrations").await.expect(200)["data"], json!([]));
        server.api.post("/integrations", &body).await.expect(200);
        let asked = provider.calls("/id/register")[1].json();
        assert_eq!(asked["token_endpoint_auth_method"], "none");
        assert_eq!(asked["grant_types"], json!(["authorization_code", "refresh_token"]));
        assert_eq!(asked["contacts"], Value::Null, "only response and grant types are passed on");
        assert!(asked["redirect_uris"][0].as_str().unwrap().ends_with("/oauth/callback"));

        // What a browser wants to add counts for nothing here.
        let session = session(&server).await;
        server.authorize(&format!("{session}&authorization_params[resource]=other"), "mcp").await;
        let shown = provider.calls("/id/authorize").pop().unwrap();
        let query = shown.uri.query().unwrap();
        assert!(query.contains("scope=read%3Aall+write%3Aall"), "{query}");
        assert!(!query.contains("state=fixed"), "{query}");
        lives_and_dies(&world, &server, "mcp", "").await;
        server.finish().await;
    }

    async fn a_client_may_be_the_operators(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, mcp::DEFINITIONS).start().await;
        provider.ledger().mcp.clients.insert("mine".to_owned(), "planted-mine".to_owned());
        let credentials = json!({"type": "MCP_OAUTH2", "client_id": "mine", "client_secret": "planted-mine"});
        let body = json!({"provider": "given", "unique_key": "mcp", "credentials": credentials});
        server.api.post("/integrations", &body).await.expect(200);
        let session = session(&server).await;
        server.authorize(&session, "mcp").await;
        lives_and_dies(&world, &server, "mcp", "").await;
        server.finish().await;
    }

    async fn a_client_may_be_a_document(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, mcp::DEFINITIONS).start().await;
        let body = json!({"provider": "documented", "unique_key": "mcp"});
        // Without an https address there is nothing to publish.
        server.api.post("/integrations", &body).await.fails(400, "invalid_body");
        server.finish().await;

        let server = provider.server(&world, mcp::DEFINITIONS).set("public_url", "https://connect.example").start().await;
        let body = json!({"provider": "documented", "unique_key": "my mcp"});
        server.api.post("/integrations", &body).await.expect(200);
        let popup = Popup::open(&server).await;
        let session = session(&server).await;
        let (redirect, _) = popup.begin(&server, &session, "my%20mcp").await;
        let sent: url::Url = redirect.header("location").parse().unwrap();
        let id = sent.query_pairs().find(|(name, _)| name == "client_id").unwrap().1.into_owned();
        let path = id.strip_prefix("https://connect.example").unwrap();
        assert!(path.starts_with("/oauth/client-metadata/") && path.ends_with("/my%20mcp"), "{id}");
        let document = server.api.anonymous().get(path).await;
        assert_eq!(document.header("cache-control"), "public, max-age=300");
        let document = document.expect(200);
        assert_eq!(document["client_id"], id);
        assert_eq!(document["redirect_uris"], json!(["https://connect.example/oauth/callback"]));
        assert_eq!(document["token_endpoint_auth_method"], "none");
        let stranger = path.replace("my%20mcp", "other");
        server.api.anonymous().get(&stranger).await.fails(404, "unknown_provider_config");
        let nowhere = "/oauth/client-metadata/00000000-0000-4000-8000-000000000000/x";
        server.api.anonymous().get(nowhere).await.fails(404, "unknown_environment");
        server.finish().await;
    }

    async fn a_server_is_discovered_by_its_address(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, mcp::DEFINITIONS).start().await;
        let custom = json!({"oauth_client_name": "Acme", "oauth_client_uri": "https://acme.example"});
        let body = json!({"provider": "any-server", "unique_key": "mcp", "custom": custom});
        server.api.post("/integrations", &body).await.expect(200);
        provider.ledger().mcp.confidential = true;
        let params = format!("&params[mcp_server_url]={}/server/mcp", provider.base_url);
        let session = session(&server).await;
        server.authorize(&format!("{session}{params}"), "mcp").await;
        let asked = provider.calls("/id/register")[0].json();
        assert_eq!((&asked["client_name"], &asked["client_uri"]), (&json!("Acme"), &json!("https://acme.example")));
        let shown = provider.calls("/id/authorize").pop().unwrap();
        assert_eq!(shown.query("scope").as_deref(), Some("tools offline_access"));
        assert_eq!(shown.query("prompt").as_deref(), Some("consent"));
        assert_eq!(shown.query("resource"), Some(format!("{}/server/mcp", provider.base_url)));
        let id = only(&server).await;
        let stored = read(&server, "mcp", &id, "").await;
        let config = stored["connection_config"].as_object().unwrap();
        for name in ["mcp_server_url", "oauth_metadata", "oauth_client_info", "oauth_resource_url"] {
            assert!(config[name].is_string(), "{name}");
        }
        assert_eq!(config.len(), 4, "neither verifier nor secret: {config:?}");
        assert!(stored["credentials"]["config_override"]["client_secret"].is_string());
        lives_and_dies(&world, &server, "mcp", &params).await;
        server.finish().await;
    }

    async fn a_server_that_cannot_be_signed_in_to_is_told(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, mcp::DEFINITIONS).start().await;
        let body = json!({"provider": "any-server", "unique_key": "mcp"});
        server.api.post("/integrations", &body).await.expect(200);
        let session = session(&server).await;
        let base = provider.base_url.clone();
        let whole = format!("{base}/server/mcp");
        let remove = |name: &str| (name.to_owned(), Value::Null);
        for (address, change, kind, words) in [
            (String::new(), None, "url_param_err", ""),
            ("http://mcp.example.com/x".to_owned(), None, "url_param_err", "https"),
            ("https://8.8.8.8/x".to_owned(), None, "url_param_err", "https"),
            (format!("{base}/nothing"), None, "unknown_err", "no authorization server"),
            (whole.clone(), Some(remove("registration_endpoint")), "unknown_err", "neither"),
            (whole.clone(), Some(("code_challenge_methods_supported".to_owned(), json!(["plain"]))), "unknown_err", "PKCE"),
            (whole.clone(), Some(("token_endpoint".to_owned(), json!("https://169.254.169.254/t"))), "unknown_err", "token endpoint"),
        ] {
            provider.ledger().mcp.metadata = change.clone().into_iter().collect();
            let mut popup = Popup::open(&server).await;
            let (page, _) = popup.begin(&server, &format!("{session}&params[mcp_server_url]={address}"), "mcp").await;
            assert_eq!(page.status, 400, "{address} {change:?}");
            let told = popup.outcome().await;
            assert_eq!(told["error_type"], kind, "{address} {change:?} {told}");
            assert!(told["error_desc"].as_str().unwrap().contains(words), "{address} {change:?} {told}");
        }
        // An answer of another authorization server than was asked.
        provider.ledger().mcp.metadata.clear();
        let mut popup = Popup::open(&server).await;
        let (_, cookie) = popup.begin(&server, &format!("{session}&params[mcp_server_url]={whole}"), "mcp").await;
        let back = format!("/oauth/callback?code=x&iss=https://evil.example&state={}", state_of(&cookie));
        let browser = server.api.anonymous();
        assert_eq!(browser.request("GET", &back).header("cookie", &cookie).send().await.status, 400);
        assert_eq!(popup.outcome().await["error_type"], "callback_err");
        assert_eq!(provider.calls("/id/token").len(), 0);
        server.finish().await;
    }
}
