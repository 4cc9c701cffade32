//! BILL: a login gives a session.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::World;
use crate::common::forms::Companies;

const FORM: &str = "/auth/bill/form-bill";

fn login() -> Value {
    json!({"username": "ada", "password": "planted-bill", "organization_id": "00801", "dev_key": "planted-dev"})
}

patchbay_store::both_backends! {
    async fn a_bill_session_is_made_used_renewed_and_deleted(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-bill", &json!({})).await;
        let id = server.connect(FORM, &login()).await;

        let stored = server.read_connection("form-bill", &id, "").await.expect(200);
        let expiry = world.now().checked_add(Duration::from_mins(35)).unwrap();
        assert_eq!(stored["credentials"], json!({
            "type": "BILL", "username": "ada", "password": "planted-bill", "organization_id": "00801-main",
            "dev_key": "planted-dev", "session_id": "planted-session-1", "user_id": "006",
            "expires_at": expiry.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            "raw": {"sessionId": "planted-session-1", "organizationId": "00801-main", "userId": "006"},
        }));
        server.relay("form-bill", &id, "GET", "/vendors", None).await.expect(200);
        let used = companies.last("/bill/api/vendors");
        assert_eq!(used.header("authorization"), "", "the definition says where the session goes");

        // A quarter of an hour before its end the session is replaced.
        server.quiet().await;
        world.clock.advance(Duration::from_mins(21));
        // The organization was answered; the login is still the one that was typed, as far as the provider cares.
        companies.fail_next("bill", 200, "application/json", r#"{"sessionId":"planted-session-2"}"#);
        companies.office().keep("bill", "planted-session-2");
        server.relay("form-bill", &id, "GET", "/vendors", None).await.expect(200);
        let renewed = server.read_connection("form-bill", &id, "").await.expect(200);
        assert_eq!(renewed["credentials"]["session_id"], "planted-session-2");
        assert_eq!(companies.seen("/bill/login").len(), 2);

        let again = server.reconnect("form-bill", &id, FORM, &login()).await.expect(200);
        assert_eq!(again, json!({"providerConfigKey": "form-bill", "connectionId": id}));
        server.relay("form-bill", &id, "GET", "/vendors", None).await.expect(200);
        server.remove("form-bill", &id).await;
        server.finish().await;
    }

    async fn a_refused_bill_login_is_told_in_words(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-bill", &json!({})).await;
        let mut wrong = login();
        wrong["password"] = json!("planted-wrong");
        let error = server.fill(FORM, &wrong).await.fails(400, "connection_test_failed");
        assert!(!error.to_string().contains("planted-"), "{error}");
        companies.fail_next("bill", 200, "application/json", "{}");
        server.fill(FORM, &login()).await.fails(400, "connection_test_failed");
        companies.fail_next("bill", 502, "text/html", "<html>");
        server.fill(FORM, &login()).await.fails(400, "connection_test_failed");

        wrong["password"] = json!("");
        wrong["more"] = json!("x");
        let error = server.fill(FORM, &wrong).await.expect(400);
        let found = error["error"]["errors"].as_array().unwrap();
        let found: Vec<_> = found.iter().map(|one| (one["code"].as_str().unwrap(), &one["path"])).collect();
        assert_eq!(found, [("too_small", &json!(["password"])), ("unrecognized_keys", &json!([]))]);
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        server.finish().await;
    }

    async fn a_bill_login_refused_later_is_the_providers_word(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-bill", &json!({})).await;
        let credentials = {
            let mut login = login();
            login["type"] = json!("BILL");
            login
        };
        let import = json!({"provider_config_key": "form-bill", "connection_id": "b1", "credentials": credentials});
        let made = server.api.post("/connections", &import).await.expect(201);
        assert_eq!(made["credentials"]["session_id"], "planted-session-1");
        server.quiet().await;
        world.clock.advance(Duration::from_mins(36));
        companies.fail_next("bill", 401, "application/json", r#"{"error":"BDC_1109"}"#);
        let error = server.read_connection("form-bill", "b1", "").await.fails(400, "invalid_credentials");
        assert_eq!(error["payload"]["cause"], "provider_refused", "{error}");
        server.quiet().await;
        world.clock.advance(Duration::from_secs(31));
        companies.fail_next("bill", 503, "text/html", "<html>");
        let error = server.read_connection("form-bill", "b1", "").await.fails(502, "invalid_credentials");
        assert_eq!(error["payload"]["cause"], "provider_down", "{error}");
        server.finish().await;
    }
}
