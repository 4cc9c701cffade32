//! INSTALL_PLUGIN: the operator's plugin is installed for an end user's account.

use serde_json::{Value, json};

use crate::common::popup::Popup;
use crate::common::simulated::{Simulated, crisp};
use crate::common::{TestServer, World};

async fn integration(server: &TestServer, provider: &Simulated, password: &str) {
    let link = format!("{}/plugin/install?back={}", provider.base_url, server.api.base());
    let credentials = json!({
        "type": "INSTALL_PLUGIN", "app_link": link, "username": crisp::USER, "password": password,
    });
    let body = json!({"provider": "plugin", "unique_key": "plugin", "credentials": credentials});
    server.api.post("/integrations", &body).await.expect(200);
}

patchbay_store::both_backends! {
    async fn a_plugin_is_installed_used_and_removed(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, crisp::DEFINITIONS).start().await;
        integration(&server, &provider, crisp::PASSWORD).await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        server.authorize(&session, "plugin").await;
        let (_, told) = world.webhook("main", 1).await;
        assert_eq!((&told["authMode"], &told["tags"]), (&json!("INSTALL_PLUGIN"), &json!({"end_user_id": "u1"})));
        let id = told["connectionId"].as_str().unwrap();
        let target = format!("/connections/{id}?provider_config_key=plugin");
        let stored = server.api.get(&target).await.expect(200);
        assert_eq!(
            stored["credentials"],
            json!({"type": "BASIC", "username": crisp::USER, "password": crisp::PASSWORD})
        );
        assert_eq!(stored["connection_config"], json!({"website_id": "w1"}));
        let call = server.api.request("GET", "/proxy/whoami").header("connection-id", id);
        let used = call.header("provider-config-key", "plugin").send().await.expect(200);
        assert_eq!(used["plugin"], crisp::USER);

        // Nothing to renew: forcing asks nobody and changes nothing.
        let asked = provider.calls("/plugin/api/whoami").len();
        let forced = server.api.get(&format!("{target}&force_refresh=true")).await.expect(200);
        assert_eq!(forced["credentials"], stored["credentials"]);
        assert_eq!(provider.calls("/plugin/api/whoami").len(), asked);

        server.reauthorize("plugin", id, "").await;
        let after = server.api.get(&target).await.expect(200);
        assert_eq!((&after["id"], &after["tags"]), (&stored["id"], &stored["tags"]));
        server.remove("plugin", id).await;
        server.finish().await;
    }

    async fn a_plugin_that_does_not_work_is_told(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, crisp::DEFINITIONS).start().await;
        integration(&server, &provider, "planted-wrong").await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let mut popup = Popup::open(&server).await;
        let with_socket = format!("{session}&ws_client_id={}", popup.id);
        let page = server.popup(&with_socket, "plugin").await;
        assert_eq!((page.status, page.header("content-type")), (400, "text/html; charset=utf-8"));
        assert_eq!(popup.outcome().await["error_type"], "connection_test_failed");
        let (_, told) = world.webhook("main", 1).await;
        assert_eq!((&told["success"], &told["error"]["type"]), (&json!(false), &json!("connection_test_failed")));

        let bare = json!({"provider": "plugin", "unique_key": "bare"});
        server.api.post("/integrations", &bare).await.expect(200);
        let mut popup = Popup::open(&server).await;
        assert_eq!(popup.begin(&server, &session, "bare").await.0.status, 400);
        let told: Value = popup.outcome().await;
        assert_eq!(told["error_type"], "provider_config_err", "{told}");
        server.finish().await;
    }
}
