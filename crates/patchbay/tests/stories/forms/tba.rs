//! TBA: each request is signed with the customer's token and a consumer.

use serde_json::{Value, json};

use crate::common::World;
use crate::common::forms::Companies;

const FORM: &str = "/auth/tba/form-tba?params[accountId]=1234567-sb1";

fn token() -> Value {
    json!({"token_id": "planted-token", "token_secret": "planted-token-secret"})
}

fn operator() -> Value {
    json!({"credentials": {"type": "TBA", "client_id": "operator", "client_secret": "planted-operator"}})
}

patchbay_store::both_backends! {
    async fn requests_are_signed_with_the_operators_consumer_or_an_own_one(db: TestDb) {
        let world = World::on(db).await;
        let _companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-tba", &operator()).await;
        let id = server.connect(FORM, &token()).await;

        let stored = server.read_connection("form-tba", &id, "").await.expect(200);
        let shape = json!({"type": "TBA", "token_id": "planted-token", "token_secret": "planted-token-secret", "config_override": {}});
        assert_eq!(stored["credentials"], shape);
        assert_eq!(stored["connection_config"], json!({"accountId": "1234567-sb1"}), "no operator's secret in it");
        let used = server.relay("form-tba", &id, "GET", "/record?b=2&a=1%20x&a=0&empty=", None).await.expect(200);
        assert_eq!(used["consumer"], "operator");
        let body = json!({"name": "planted-name"});
        server.relay("form-tba", &id, "POST", "/record", Some(&body)).await.expect(200);

        let mut own = token();
        own["oauth_client_id_override"] = json!("own");
        own["oauth_client_secret_override"] = json!("planted-own");
        server.reconnect("form-tba", &id, FORM, &own).await.expect(200);
        let used = server.relay("form-tba", &id, "GET", "/record", None).await.expect(200);
        assert_eq!(used["consumer"], "own");
        let stored = server.read_connection("form-tba", &id, "").await.expect(200);
        let own = json!({"client_id": "own", "client_secret": "planted-own"});
        assert_eq!(stored["credentials"]["config_override"], own);
        server.remove("form-tba", &id).await;
        server.finish().await;
    }

    async fn a_wrong_token_is_refused_with_400(db: TestDb) {
        let world = World::on(db).await;
        let _companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-tba", &operator()).await;
        let mut wrong = token();
        wrong["token_secret"] = json!("planted-wrong");
        server.fill(FORM, &wrong).await.fails(400, "connection_test_failed");
        let error = server.fill("/auth/tba/form-tba?params[accountId]=a/b", &token()).await.fails(400, "invalid_body");
        assert_eq!(error["errors"][0]["path"], json!(["params", "accountId"]));
        wrong["more"] = json!(1);
        server.fill(FORM, &wrong).await.fails(400, "invalid_body");
        let import = json!({
            "provider_config_key": "form-tba", "connection_id": "t1", "connection_config": {"accountId": "1234567-sb1"},
            "credentials": {"type": "TBA", "token_id": "planted-token", "token_secret": "planted-token-secret"},
        });
        server.api.post("/connections", &import).await.expect(201);
        server.relay("form-tba", "t1", "GET", "/record", None).await.expect(200);
        server.finish().await;
    }
}
