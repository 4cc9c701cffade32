//! OAUTH2_CC: a client of the customer's own, in the less usual ways.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::World;
use crate::common::forms::Companies;

fn client() -> Value {
    json!({"client_id": "ada", "client_secret": "planted-client"})
}

patchbay_store::both_backends! {
    async fn own_clients_get_tokens_by_query_and_by_json(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        for (provider, life) in [("form-cc-query", 60), ("form-cc-json", 55)] {
            server.integrate(provider, &json!({})).await;
            let target = format!("/oauth2/auth/{provider}");
            let id = server.connect(&target, &client()).await;
            let stored = server.read_connection(provider, &id, "").await.expect(200);
            let end = world.now().checked_add(Duration::from_mins(life)).unwrap();
            let end = end.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
            assert_eq!(stored["credentials"]["expires_at"], end, "{provider}");
            server.relay(provider, &id, "GET", "/things", None).await.expect(200);
            let first = companies.office().kept("clients").len();
            server.quiet().await;
            world.clock.advance(Duration::from_mins(46));
            server.relay(provider, &id, "GET", "/things", None).await.expect(200);
            assert_eq!(companies.office().kept("clients").len(), first + 1, "{provider}");
            server.reconnect(provider, &id, &target, &client()).await.expect(200);
            server.relay(provider, &id, "GET", "/things", None).await.expect(200);
            let wrong = json!({"client_id": "ada", "client_secret": "planted-wrong"});
            let error = server.fill(&target, &wrong).await.fails(400, "client_credentials_fetch_error");
            assert!(!error.to_string().contains("planted-"), "{error}");
            if provider == "form-cc-json" {
                assert_eq!(stored["connection_config"]["tenant.id"], "7");
            }
            server.remove(provider, &id).await;
        }
        server.fill("/oauth2/auth/nobody", &client()).await.fails(400, "unknown_provider_config");
        server.finish().await;
    }
}
