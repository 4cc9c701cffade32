//! OAUTH1: three legs, each signed; what the token signs afterwards.

use serde_json::{Value, json};

use crate::common::popup::{Popup, state_of};
use crate::common::simulated::{Simulated, oauth1};
use crate::common::{Answer, TestServer, World};

async fn integration(server: &TestServer, provider: &str) {
    let credentials = json!({
        "type": "OAUTH1", "client_id": oauth1::KEY, "client_secret": oauth1::SECRET, "scopes": "read,write",
    });
    let body = json!({"provider": provider, "unique_key": provider, "credentials": credentials});
    server.api.post("/integrations", &body).await.expect(200);
}

async fn proxied(server: &TestServer, id: &str, path: &str) -> Answer {
    let request = server.api.request("GET", &format!("/proxy{path}"));
    let request = request
        .header("connection-id", id)
        .header("provider-config-key", "signed");
    request.send().await
}

async fn read(server: &TestServer, key: &str, id: &str) -> Value {
    let target = format!("/connections/{id}?provider_config_key={key}");
    server.api.get(&target).await.expect(200)
}

patchbay_store::both_backends! {
    async fn an_oauth1_connection_lives_and_dies(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, oauth1::DEFINITIONS).start().await;
        integration(&server, "signed").await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let page = popup(&server, &session, "signed", "params[tenant]=acme").await;
        assert_eq!(page.status, 200, "{}", page.text);
        let asked = &provider.calls("/oauth1/request")[0];
        assert_eq!(asked.form("tenant").as_deref(), Some("acme"));
        let shown = &provider.calls("/oauth1/authorize")[0];
        assert_eq!(shown.query("scope").as_deref(), Some("read,write"));
        assert_eq!(shown.query("expiration").as_deref(), Some("never"));
        assert!(shown.query("oauth_callback").unwrap().contains("/oauth/callback?state="));

        let (_, told) = world.webhook("main", 1).await;
        assert_eq!((&told["authMode"], &told["success"]), (&json!("OAUTH1"), &json!(true)));
        let id = told["connectionId"].as_str().unwrap();
        let stored = read(&server, "signed", id).await;
        let credentials = &stored["credentials"];
        assert_eq!(credentials["type"], "OAUTH1");
        assert!(credentials["oauth_token"].as_str().unwrap().starts_with("granted-"));
        assert_eq!(credentials["raw"]["user_id"], "7");
        assert_eq!(stored["connection_config"], json!({"tenant": "acme", "account": "a 1"}));
        let used = proxied(&server, id, "/whoami?b=2&a=%C3%A4%20x").await.expect(200);
        assert_eq!(used["token"], credentials["oauth_token"]);
        // Nothing to refresh: forcing changes nothing.
        let forced = format!("/connections/{id}?provider_config_key=signed&force_refresh=true");
        assert_eq!(server.api.get(&forced).await.expect(200)["credentials"], *credentials);

        server.reauthorize("signed", id, "&params[tenant]=acme").await;
        let after = read(&server, "signed", id).await;
        assert_eq!((&after["id"], &after["tags"]), (&stored["id"], &json!({"end_user_id": "u1"})));
        assert_ne!(after["credentials"]["oauth_token"], credentials["oauth_token"]);
        let (_, told) = world.webhook("main", 2).await;
        assert_eq!(told["operation"], "override");
        server.remove("signed", id).await;
        server.finish().await;
    }

    async fn plaintext_signatures_follow_endpoints_that_moved(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, oauth1::DEFINITIONS).start().await;
        integration(&server, "plain").await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        assert_eq!(server.popup(&session, "plain").await.status, 200);
        for path in ["/oauth1/moved/request", "/oauth1/request", "/oauth1/moved/access", "/oauth1/access"] {
            assert_eq!(provider.calls(path).len(), 1, "{path}");
        }
        server.finish().await;
    }

    async fn a_refused_request_token_is_told_at_once(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, oauth1::DEFINITIONS).start().await;
        integration(&server, "plain").await;
        provider.answer_once("/oauth1/moved/request", 401, json!({"error": "no such consumer"}));
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let mut popup = Popup::open(&server).await;
        assert_eq!(popup.begin(&server, &session, "plain").await.0.status, 400);
        assert_eq!(popup.outcome().await["error_type"], "token_err");
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));

        // A callback without the verifier names what the provider says.
        let mut popup = Popup::open(&server).await;
        let (_, cookie) = popup.begin(&server, &session, "plain").await;
        let denied = format!("/oauth/callback?state={}&error=denied", state_of(&cookie));
        let browser = server.api.anonymous();
        let page = browser.request("GET", &denied).header("cookie", &cookie).send().await;
        assert_eq!(page.status, 400);
        let told = popup.outcome().await;
        assert_eq!(told["error_type"], "callback_err");
        assert!(told["error_desc"].as_str().unwrap().contains("error: denied"), "{told}");
        server.finish().await;
    }
}

/// The popup with parameters of the browser's.
async fn popup(server: &TestServer, session: &str, key: &str, params: &str) -> Answer {
    server.popup(&format!("{session}&{params}"), key).await
}
