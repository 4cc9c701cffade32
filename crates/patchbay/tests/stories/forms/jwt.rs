//! JWT: tokens we sign with the customer's key.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::World;
use crate::common::forms::Companies;
use crate::common::forms::publisher::{self, ID, SECRET};

const FORM: &str = "/auth/jwt/form-jwt?params[site]=acme&params[scope]=GET /a, GET /b";

fn key() -> Value {
    json!({"type": "JWT", "privateKey": format!("{ID}:{SECRET}")})
}

patchbay_store::both_backends! {
    async fn a_signed_token_is_made_used_renewed_and_deleted(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-jwt", &json!({})).await;
        let id = server.connect(&FORM.replace(' ', "%20"), &key()).await;
        assert_eq!(companies.seen("/publisher/acme/users").len(), 1, "it was tried before it was stored");

        let stored = server.read_connection("form-jwt", &id, "").await.expect(200);
        let token = stored["credentials"]["token"].as_str().unwrap().to_owned();
        let now = world.now().as_second();
        let claims = publisher::claims(companies.office(), &token).unwrap();
        assert_eq!(claims, json!({
            "aud": "/admin/", "site": "acme", "scope": ["GET /a", "GET /b"], "iat": now, "exp": now + 3600,
        }));
        assert_eq!(stored["credentials"]["privateKey"], format!("{ID}:{SECRET}"));
        assert_eq!(stored["connection_config"]["site"], "acme");
        assert_eq!(server.relay("form-jwt", &id, "GET", "/posts", None).await.expect(200), claims);

        server.quiet().await;
        world.clock.advance(Duration::from_mins(44));
        let same = server.read_connection("form-jwt", &id, "").await.expect(200);
        assert_eq!(same["credentials"]["token"], token, "it has sixteen minutes to live");
        server.quiet().await;
        world.clock.advance(Duration::from_mins(2));
        let fresh = server.relay("form-jwt", &id, "GET", "/posts", None).await.expect(200);
        assert_eq!(fresh["iat"], now + 46 * 60);
        let forced = server.read_connection("form-jwt", &id, "&force_refresh=true").await.expect(200);
        assert_ne!(forced["credentials"]["token"], token);

        // An early client sent the halves of the key.
        let halves = json!({"privateKey": {"id": ID, "secret": SECRET}});
        server.reconnect("form-jwt", &id, "/auth/jwt/form-jwt?params[site]=beta", &halves).await.expect(200);
        let claims = server.relay("form-jwt", &id, "GET", "/posts", None).await.expect(200);
        assert_eq!((&claims["site"], &claims["scope"]), (&json!("beta"), &Value::Null));
        server.remove("form-jwt", &id).await;
        server.finish().await;
    }

    async fn a_token_that_cannot_be_signed_is_told_in_words(db: TestDb) {
        let world = World::on(db).await;
        let _companies = Companies::open(&world).await;
        let server = world.server().start().await;
        for provider in ["form-jwt", "form-jwt-no-token", "form-jwt-rsa"] {
            server.integrate(provider, &json!({})).await;
        }
        let wrong = json!({"type": "JWT", "privateKey": format!("{ID}:{}", "00".repeat(32))});
        server.fill("/auth/jwt/form-jwt?params[site]=acme", &wrong).await.fails(400, "connection_test_failed");
        let odd = json!({"type": "JWT", "privateKey": format!("{ID}:abc")});
        server.fill("/auth/jwt/form-jwt?params[site]=acme", &odd).await.fails(400, "failed_to_sign");
        for (provider, body, code) in [
            ("form-jwt-no-token", key(), "missing_token_body"),
            ("form-jwt-rsa", json!({"type": "JWT"}), "failed_to_generate"),
            ("form-jwt-rsa", json!({"privateKey": "planted-nonsense"}), "failed_to_sign"),
        ] {
            let error = server.fill(&format!("/auth/jwt/{provider}"), &body).await.fails(400, code);
            assert!(!error.to_string().contains("planted-"), "{error}");
        }
        let error = server.fill("/auth/jwt/form-jwt?params[site]=Acme!", &json!({"privateKey": "x"})).await;
        let error = error.fails(400, "invalid_body");
        let paths: Vec<_> = error["errors"].as_array().unwrap().iter().map(|one| &one["path"]).collect();
        assert_eq!(paths, [&json!(["credentials", "privateKey"]), &json!(["params", "site"])]);
        server.finish().await;
    }

    async fn an_imported_key_is_signed_with_and_a_token_is_kept(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-jwt", &json!({})).await;
        let import = json!({
            "provider_config_key": "form-jwt", "connection_id": "j1", "credentials": key(),
            "connection_config": {"site": "acme"},
        });
        let made = server.api.post("/connections", &import).await.expect(201);
        let token = made["credentials"]["token"].as_str().unwrap();
        assert!(publisher::claims(companies.office(), token).is_some());
        let mut bad = import.clone();
        bad["connection_config"] = json!({"site": "Acme!"});
        let error = server.api.post("/connections", &bad).await.fails(400, "invalid_body");
        assert_eq!(error["errors"][0]["path"], json!(["connection_config", "site"]));

        let mut moved = import;
        moved["connection_id"] = json!("j2");
        moved["credentials"]["token"] = json!(token);
        moved["credentials"]["expires_at"] = json!(made["credentials"]["expires_at"]);
        let kept = server.api.post("/connections", &moved).await.expect(201);
        assert_eq!(kept["credentials"], made["credentials"]);
        server.relay("form-jwt", "j2", "GET", "/posts", None).await.expect(200);
        server.finish().await;
    }
}
