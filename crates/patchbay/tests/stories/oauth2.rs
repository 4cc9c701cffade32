//! OAUTH2's variations: a client of the connection's own, what answers leave in `connection_config`, and what nobody may
//! put there.

use std::time::Duration;

use patchbay_sample::{Behaviours, Consent, RegisteredClient};
use serde_json::{Value, json};

use crate::common::simulated::Simulated;
use crate::common::{TestServer, World};

const DEFINITIONS: &str = "
varied:
    display_name: Varied
    categories: [other]
    docs: https://docs.example.com
    auth_mode: OAUTH2
    authorization_url: BASE/oauth/authorize
    token_url: BASE/oauth/token
    refresh_url: BASE/oauth/token
    refresh_params:
        audience: ${connectionConfig.audience}
    token_expiration_buffer: 10
    token_response_metadata: [token_type, expires_in, scope, absent]
    redirect_uri_metadata: [code]
    proxy:
        base_url: BASE
    connection_config:
        audience:
            type: string
            title: Audience
            description: Yours.
            pattern: '^[a-z]+$'
        scope:
            type: string
            title: Scope
            description: Blank for the provider's.
            optional: true
# Where it exchanges codes, the callback says.
roaming:
    display_name: Roaming
    categories: [other]
    docs: https://docs.example.com
    auth_mode: OAUTH2
    authorization_url: BASE/oauth/authorize
    token_url: ${connectionConfig.home}/oauth/token
    redirect_uri_metadata: [home]
    proxy:
        base_url: BASE
    connection_config:
        home:
            type: string
            title: Home
            description: The customer's server.
            pattern: '^BASE$'
            automated: true
";

async fn start(world: &World) -> TestServer {
    let path = world.path("varied.yaml");
    std::fs::write(&path, DEFINITIONS.replace("BASE", &world.sample.base_url)).unwrap();
    let mut starting = world.server();
    let catalogs = starting.sources.flags.get_mut("catalog").unwrap();
    catalogs.push(path.display().to_string());
    let server = starting.start().await;
    let credentials = json!({
        "type": "OAUTH2", "client_id": patchbay_sample::CLIENT_ID, "client_secret": patchbay_sample::CLIENT_SECRET,
        "scopes": "read,write",
    });
    let body = json!({"provider": "varied", "unique_key": "varied", "credentials": credentials});
    server.api.post("/integrations", &body).await.expect(200);
    world.sample.behave(|all| all.consent = Consent::Approve);
    world.sample.register(
        "own-client",
        RegisteredClient {
            secret: Some("planted-own-secret".to_owned()),
            behaviours: Behaviours::default(),
        },
    );
    server
}

async fn connect(server: &TestServer, world: &World, count: usize, more: &str) -> (String, Value) {
    let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
    server
        .authorize(&format!("{session}&params[audience]=acme{more}"), "varied")
        .await;
    let (_, told) = world.webhook("main", count).await;
    let id = told["connectionId"].as_str().unwrap().to_owned();
    let read = server
        .read_connection("varied", &id, "&refresh_token=true")
        .await
        .expect(200);
    (id, read)
}

patchbay_store::both_backends! {
    async fn answers_leave_what_the_definition_names_and_refreshes_send_it(db: TestDb) {
        let world = World::on(db).await;
        let server = start(&world).await;
        // A blank field does not mask what was found; a filled one does.
        let (id, read) = connect(&server, &world, 1, "&params[scope]=").await;
        let config = &read["connection_config"];
        assert_eq!(
            (&config["audience"], &config["token_type"], &config["expires_in"], &config["scope"], &config["absent"]),
            (&json!("acme"), &json!("Bearer"), &json!("60"), &json!("read write"), &Value::Null)
        );
        assert!(config["code"].as_str().unwrap().starts_with("sample_code_"), "{config}");
        let (_, other) = connect(&server, &world, 2, "&params[scope]=mine").await;
        assert_eq!(other["connection_config"]["scope"], "mine");

        server.quiet().await;
        world.clock.advance(Duration::from_secs(51));
        let renewed = server.read_connection("varied", &id, "").await.expect(200);
        assert_ne!(renewed["credentials"]["access_token"], read["credentials"]["access_token"]);
        let asked = world.sample.token_requests().pop().unwrap();
        assert_eq!(asked.parameter("grant_type"), Some("refresh_token"));
        assert_eq!(asked.parameter("audience"), Some("acme"), "refresh_params, with their values");
        assert_eq!(renewed["connection_config"]["audience"], "acme");
        server.finish().await;
    }

    async fn a_connection_may_bring_its_own_client(db: TestDb) {
        let world = World::on(db).await;
        let server = start(&world).await;
        let own = "&credentials[oauth_client_id_override]=own-client\
                   &credentials[oauth_client_secret_override]=planted-own-secret";
        let (id, read) = connect(&server, &world, 1, own).await;
        let override_ = json!({"client_id": "own-client", "client_secret": "planted-own-secret"});
        assert_eq!(read["credentials"]["config_override"], override_);
        assert!(!read["connection_config"].to_string().contains("own-client"), "{read}");
        assert_eq!(world.sample.requests_of("own-client").len(), 1, "exchanged by the client that was authorized");
        server.quiet().await;
        world.clock.advance(Duration::from_secs(51));
        let renewed = server.read_connection("varied", &id, "").await.expect(200);
        assert_eq!(renewed["credentials"]["config_override"], override_);
        assert_eq!(world.sample.requests_of("own-client").len(), 2, "and renewed by it");

        // Of the session's defaults it counts for both steps too; of a browser's parameters never.
        let defaults = json!({"varied": {"connection_config": {
            "oauth_client_id_override": "own-client", "oauth_client_secret_override": "planted-own-secret",
        }}});
        let body = json!({"tags": {"end_user_id": "u2"}, "integrations_config_defaults": defaults});
        let session = server.session(&body).await;
        server.authorize(&format!("{session}&params[audience]=acme"), "varied").await;
        world.webhook("main", 2).await;
        assert_eq!(world.sample.requests_of("own-client").len(), 3);
        let typed = "&params[oauth_client_id_override]=own-client&params[oauth_client_secret_override]=planted-own-secret";
        let (_, read) = connect(&server, &world, 3, typed).await;
        assert_eq!(read["credentials"]["config_override"], Value::Null);
        assert_eq!(world.sample.requests_of("own-client").len(), 3);
        server.finish().await;
    }

    async fn what_is_ours_in_connection_config_cannot_be_sent_in(db: TestDb) {
        let world = World::on(db).await;
        let server = start(&world).await;
        let ours = [
            "webhook_url", "oauth_refresh_token_override", "pending", "pendingLog", "userCredentials", "jwtToken",
            "oauth_metadata", "oauth_client_info", "oauth_code_verifier", "sharepointAccessToken",
            "botFrameworkAccessToken", "overrideTokenRefresh",
        ];
        let more = format!("&params[{}]=planted-mine&params[free]=kept", ours.join("]=planted-mine&params["));
        let (_, read) = connect(&server, &world, 1, &more).await;
        assert_eq!(read["connection_config"]["free"], "kept");
        assert!(!read.to_string().contains("planted-mine"), "{read}");

        // A field's pattern holds on the server, whoever fills it in.
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let target = format!("/oauth/connect/varied?connect_session_token={session}&params[audience]=Not!");
        let refused = server.api.anonymous().get(&target).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.text.contains("Audience"), "{}", refused.text);
        server.finish().await;
    }
    async fn secrets_go_nowhere_but_where_the_definition_lets_them(db: TestDb) {
        let world = World::on(db).await;
        let elsewhere = Simulated::start(&world).await;
        let server = start(&world).await;
        let credentials = json!({
            "type": "OAUTH2", "client_id": patchbay_sample::CLIENT_ID, "client_secret": patchbay_sample::CLIENT_SECRET,
        });
        let body = json!({"provider": "roaming", "unique_key": "roaming", "credentials": credentials});
        server.api.post("/integrations", &body).await.expect(200);
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;

        // Neither the page that begins nor the browser that comes back may name another server.
        let named = format!("{session}&params[home]={}", elsewhere.base_url);
        for (session, more) in [
            (named.as_str(), String::new()),
            (&session, format!("&home={}", elsewhere.base_url)),
            (&session, format!("&home={}.evil.example", world.sample.base_url)),
        ] {
            let page = server.popup_bringing(session, "roaming", &more).await;
            assert_eq!(page.status, 400, "{more}: {}", page.text);
            assert_eq!(elsewhere.calls("/oauth/token").len(), 0, "{more}");
        }
        assert_eq!(world.sample.token_requests().len(), 0);

        let home = format!("&home={}", world.sample.base_url);
        let page = server.popup_bringing(&session, "roaming", &home).await;
        assert_eq!(page.status, 200, "{}", page.text);
        server.finish().await;
    }
}
