//! API_KEY, BASIC, NONE: what was typed is what is sent.

use serde_json::{Value, json};

use crate::common::World;
use crate::common::forms::{Companies, keys};

/// The form, where its integration is, what is typed, and what is stored of it.
fn forms() -> [(&'static str, &'static str, Value, Value); 3] {
    let basic = json!({"username": "ada", "password": "planted-pass:w\u{f6}rd"});
    [
        (
            "form-key",
            "/api-auth/api-key/form-key?params[site]=acme",
            json!({"apiKey": keys::key()}),
            json!({"type": "API_KEY", "apiKey": keys::key()}),
        ),
        (
            "form-basic",
            "/api-auth/basic/form-basic",
            basic.clone(),
            json!({"type": "BASIC", "username": basic["username"], "password": basic["password"]}),
        ),
        (
            "form-none",
            "/auth/unauthenticated/form-none",
            json!({}),
            json!({}),
        ),
    ]
}

patchbay_store::both_backends! {
    async fn typed_credentials_are_stored_used_kept_and_revoked(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        for (integration, target, typed, stored) in forms() {
            server.integrate(integration, &json!({})).await;
            let id = server.connect(target, &typed).await;
            let read = server.read_connection(integration, &id, "").await.expect(200);
            assert_eq!(read["credentials"], stored, "{integration}");
            server.relay(integration, &id, "GET", "/things?a=b", None).await.expect(200);

            // There is nothing to renew: whoever insists gets what there is, and nobody is asked.
            let asked = companies.seen("/keys").len();
            let forced = server.read_connection(integration, &id, "&force_refresh=true").await.expect(200);
            assert_eq!((&forced["credentials"], companies.seen("/keys").len()), (&stored, asked), "{integration}");

            server.reconnect(integration, &id, target, &typed).await.expect(200);
            server.relay(integration, &id, "POST", "/things", Some(&json!({"n": 1}))).await.expect(200);
            server.remove(integration, &id).await;
        }
        server.finish().await;
    }

    /// Conformance 10: the first of two verification endpoints says no, the second yes.
    async fn item_10_one_endpoint_that_agrees_is_enough(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-key", &json!({})).await;
        let (_, target, typed, _) = &forms()[0];
        server.connect(target, typed).await;
        let asked: Vec<String> = companies.seen("/keys").iter().map(|seen| seen.path().to_owned()).collect();
        assert_eq!(asked, ["/keys/acme/abandoned/me", "/keys/acme/me"]);
        server.finish().await;
    }

    async fn what_is_typed_wrong_is_told_field_by_field(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        for (integration, ..) in forms() {
            server.integrate(integration, &json!({})).await;
        }
        let at = |site: &str| format!("/api-auth/api-key/form-key?params[site]={site}");
        for (target, body, paths) in [
            (at("ACME"), json!({"apiKey": "x"}), json!([["credentials", "apiKey"], ["params", "site"]])),
            ("/api-auth/api-key/form-key".to_owned(), json!({"apiKey": keys::key()}), json!([["params", "site"]])),
            (at("acme"), json!({"apiKey": 1}), json!([["apiKey"]])),
            (at("acme"), json!({"apiKey": "planted-x", "more": 1}), json!([[]])),
            ("/api-auth/basic/form-basic".to_owned(), json!({"username": "ada"}), json!([["password"]])),
            ("/auth/unauthenticated/form-none".to_owned(), json!({"x": 1}), json!([[]])),
        ] {
            let error = server.fill(&target, &body).await.fails(400, "invalid_body");
            let found: Vec<&Value> = error["errors"].as_array().unwrap().iter().map(|one| &one["path"]).collect();
            assert_eq!(json!(found), paths, "{target} {error}");
        }
        assert_eq!(companies.seen("/keys").len(), 0, "nobody was asked");
        let wrong = json!({"apiKey": "planted-wrong"});
        server.fill(&at("acme"), &wrong).await.fails(400, "connection_test_failed");
        let wrong = json!({"username": "", "password": ""});
        server.fill("/api-auth/basic/form-basic", &wrong).await.fails(400, "connection_test_failed");
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        server.finish().await;
    }
}
