//! SIGNATURE: every request carries a token of its own.

use serde_json::{Value, json};

use crate::common::World;
use crate::common::forms::Companies;

const FORM: &str = "/auth/signature/form-wsse";

fn login() -> Value {
    json!({"type": "SIGNATURE", "username": "acme001", "password": "planted-wsse"})
}

patchbay_store::both_backends! {
    async fn a_signature_is_built_anew_for_each_use(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-wsse", &json!({})).await;
        let id = server.connect(FORM, &login()).await;
        assert_eq!(companies.seen("/wsse/settings").len(), 1, "it was tried before it was stored");

        let first = server.read_connection("form-wsse", &id, "").await.expect(200);
        let second = server.read_connection("form-wsse", &id, "").await.expect(200);
        let token = |read: &Value| read["credentials"]["token"].as_str().unwrap().to_owned();
        assert_ne!(token(&first), token(&second));
        let expiry = world.now().checked_add(std::time::Duration::from_mins(5)).unwrap();
        assert_eq!(second["credentials"], json!({
            "type": "SIGNATURE", "username": "acme001", "password": "planted-wsse", "token": token(&second),
            "expires_at": expiry.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        }));
        // The provider refuses a nonce it has seen.
        for _ in 0..3 {
            server.relay("form-wsse", &id, "GET", "/contacts", None).await.expect(200);
        }
        assert_eq!(companies.seen("/wsse/contacts").len(), 3);
        server.reconnect("form-wsse", &id, FORM, &login()).await.expect(200);
        server.relay("form-wsse", &id, "GET", "/contacts", None).await.expect(200);
        server.remove("form-wsse", &id).await;
        server.finish().await;
    }

    async fn a_signature_that_fails_is_told_in_words(db: TestDb) {
        let world = World::on(db).await;
        let _companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-wsse", &json!({})).await;
        server.integrate("form-wsse-faulty", &json!({})).await;
        let mut wrong = login();
        wrong["password"] = json!("planted-wrong");
        server.fill(FORM, &wrong).await.fails(400, "connection_test_failed");
        server.fill("/auth/signature/form-wsse-faulty", &login()).await.fails(400, "signature_token_generation_error");
        wrong["username"] = json!("Not A Name");
        let error = server.fill(FORM, &wrong).await.fails(400, "invalid_body");
        assert_eq!(error["errors"][0]["path"], json!(["credentials", "username"]));
        let error = server.fill(FORM, &json!({"username": "u", "password": "p"})).await.fails(400, "invalid_body");
        assert_eq!(error["errors"][0]["path"], json!(["type"]));
        let import = json!({"provider_config_key": "form-wsse", "connection_id": "s1", "credentials": login()});
        server.api.post("/connections", &import).await.expect(201);
        server.relay("form-wsse", "s1", "GET", "/contacts", None).await.expect(200);
        server.finish().await;
    }
}
