//! TWO_STEP: typed fields are exchanged for a token.

use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::common::World;
use crate::common::forms::Companies;
use crate::common::forms::publisher::{ID, SECRET};

const JSON: &str = "/auth/two-step/form-json?params[tenant]=acme";

fn login() -> Value {
    json!({"type": "TWO_STEP", "key": "ada", "secret": "planted-gate", "note": ""})
}

fn operator() -> Value {
    json!({"integration_config": {"appKey": "planted-app"}})
}

/// A private key as people paste it; its public half goes to the company.
fn key(companies: &Companies) -> String {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    companies
        .office()
        .keep("public-key", BASE64.encode(pair.public_key().as_ref()));
    let der = BASE64.encode(pair.as_der().unwrap().as_ref());
    format!("-----BEGIN PRIVATE KEY-----\\n{der}\\n-----END PRIVATE KEY-----")
}

patchbay_store::both_backends! {
    async fn fields_become_a_token_that_is_refreshed_and_if_need_be_exchanged_anew(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-json", &operator()).await;
        let shown = server.api.get("/integrations/form-json").await.expect(200);
        assert_eq!(shown["data"]["preconfigured_credentials"], json!(["appKey"]));
        let id = server.connect(JSON, &login()).await;

        let stored = server.read_connection("form-json", &id, "").await.expect(200);
        let end = |minutes: u64| {
            let end = world.now().checked_add(Duration::from_mins(minutes)).unwrap();
            end.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
        };
        assert_eq!(stored["credentials"], json!({
            "type": "TWO_STEP", "key": "ada", "secret": "planted-gate", "note": "", "token": "planted-token-1",
            "expires_at": end(60), "raw": {"data": {"token": "planted-token-1", "ttl": 3600, "account": 42}},
        }), "neither the operator's value nor the refresh token, under any name");
        assert_eq!(stored["connection_config"], json!({"tenant": "acme", "data.account": "42"}));
        let all = server.read_connection("form-json", &id, "&refresh_token=true").await.expect(200);
        let renewal = "planted-renewal-planted-token-1";
        assert_eq!(all["credentials"]["refresh_token"], renewal);
        assert_eq!(all["credentials"]["raw"]["data"]["renewal"], renewal);
        server.relay("form-json", &id, "GET", "/things", None).await.expect(200);

        server.quiet().await;
        world.clock.advance(Duration::from_mins(46));
        server.relay("form-json", &id, "GET", "/things", None).await.expect(200);
        assert_eq!(companies.seen("/gate/refresh").len(), 1);
        assert_eq!(companies.seen("/gate/json").len(), 1);

        // The refresh token is refused: what was typed still buys a token, and nobody is asked.
        server.quiet().await;
        world.clock.advance(Duration::from_mins(46));
        companies.office().keep("renewal", "another");
        server.relay("form-json", &id, "GET", "/things", None).await.expect(200);
        assert_eq!((companies.seen("/gate/refresh").len(), companies.seen("/gate/json").len()), (2, 2));

        // An answer without a token is the provider's trouble.
        server.quiet().await;
        world.clock.advance(Duration::from_mins(61));
        let before = world.sample.received("main").len();
        companies.fail_next("gate", 200, "application/json", r#"{"data":{}}"#);
        let error = server.read_connection("form-json", &id, "").await.fails(502, "invalid_credentials");
        assert!(!error.to_string().contains("planted-"), "{error}");
        world.webhook("main", before + 1).await;

        server.quiet().await;
        world.clock.advance(Duration::from_secs(31));
        server.reconnect("form-json", &id, JSON, &login()).await.expect(200);
        server.relay("form-json", &id, "GET", "/things", None).await.expect(200);
        server.remove("form-json", &id).await;
        server.finish().await;
    }

    async fn a_refused_exchange_is_told_in_words(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-json", &operator()).await;
        let mut wrong = login();
        wrong["secret"] = json!("planted-wrong");
        let error = server.fill(JSON, &wrong).await.fails(400, "two_step_credentials_fetch_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("invalid_login") && !message.contains("planted-"), "{error}");
        for (status, body, code) in [
            (204, "", "invalid_two_step_credentials"),
            (200, "{}", "invalid_two_step_credentials"),
            (200, r#"{"data":{"token":"planted-t","ttl":"soon"}}"#, "invalid_two_step_credentials"),
            (503, "<html>", "two_step_credentials_fetch_error"),
        ] {
            companies.fail_next("gate", status, "application/json", body);
            server.fill(JSON, &login()).await.fails(400, code);
        }
        let odd = json!({"type": "TWO_STEP", "key": "Not A Key", "secret": ["x"]});
        let error = server.fill("/auth/two-step/form-json?params[tenant]=Acme!", &odd).await.fails(400, "invalid_body");
        let paths: Vec<&Value> = error["errors"].as_array().unwrap().iter().map(|one| &one["path"]).collect();
        let wanted = [json!(["credentials", "key"]), json!(["credentials", "secret"]), json!(["params", "tenant"])];
        assert_eq!(paths, wanted.iter().collect::<Vec<_>>());
        // Without the operator's value the end user is asked for it.
        server.integrate("form-json", &json!({"unique_key": "bare"})).await;
        let error = server.fill("/auth/two-step/bare?params[tenant]=acme", &login()).await.fails(400, "invalid_body");
        assert_eq!(error["errors"][0]["path"], json!(["credentials", "appKey"]));
        let mut own = login();
        own["appKey"] = json!("planted-app");
        server.fill("/auth/two-step/bare?params[tenant]=acme", &own).await.expect(200);
        server.fill("/auth/two-step/nobody", &login()).await.fails(404, "unknown_provider_config");
        server.fill("/auth/jwt/form-json", &json!({})).await.fails(400, "invalid_auth_mode");
        server.finish().await;
    }

    /// Conformance 9: additional steps, captured cookies, an XML body.
    async fn item_9_xml_cookies_and_several_calls(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        for provider in ["form-xml", "form-cookie", "form-steps"] {
            server.integrate(provider, &json!({})).await;
        }
        let body = json!({"type": "TWO_STEP", "user": "ada", "password": "planted-<&>"});
        let id = server.connect("/auth/two-step/form-xml?params[company]=A%26B", &body).await;
        let stored = server.read_connection("form-xml", &id, "").await.expect(200);
        assert_eq!(stored["credentials"]["raw"]["response"]["session"]["id"], "planted-token-1");
        server.relay("form-xml", &id, "GET", "/things", None).await.expect(200);
        server.quiet().await;
        world.clock.advance(Duration::from_mins(16));
        server.relay("form-xml", &id, "GET", "/things", None).await.expect(200);
        assert_eq!(companies.seen("/gate/xml").len(), 2, "exchanged anew before its end");
        server.reconnect("form-xml", &id, "/auth/two-step/form-xml?params[company]=A%26B", &body).await.expect(200);
        server.remove("form-xml", &id).await;
        let wrong = json!({"type": "TWO_STEP", "user": "ada", "password": "planted-wrong"});
        let error = server.fill("/auth/two-step/form-xml?params[company]=A%26B", &wrong).await;
        error.fails(400, "two_step_credentials_fetch_error");

        let id = server.connect("/auth/two-step/form-cookie", &json!({"type": "TWO_STEP", "user": "ada"})).await;
        let stored = server.read_connection("form-cookie", &id, "").await.expect(200);
        assert_eq!(stored["credentials"]["user"], "ada", "a cookie does not take a field's place");
        assert_eq!(stored["credentials"]["ROUTE"], "n1");
        server.relay("form-cookie", &id, "GET", "/things", None).await.expect(200);
        server.read_connection("form-cookie", &id, "&force_refresh=true").await.expect(200);
        server.relay("form-cookie", &id, "GET", "/things", None).await.expect(200);
        let body = json!({"type": "TWO_STEP", "user": "ada"});
        server.reconnect("form-cookie", &id, "/auth/two-step/form-cookie", &body).await.expect(200);
        server.remove("form-cookie", &id).await;

        let id = server.connect("/auth/two-step/form-steps", &json!({"type": "TWO_STEP", "user": "ada l"})).await;
        server.relay("form-steps", &id, "GET", "/things", None).await.expect(200);
        let targets: Vec<String> = companies.seen("/gate/steps").into_iter().map(|one| one.target).collect();
        assert_eq!(targets, ["/gate/steps/1?user=ada%20l", "/gate/steps/2", "/gate/steps/3"]);
        let refused = server.fill("/auth/two-step/form-steps", &json!({"type": "TWO_STEP", "user": "eve"})).await;
        refused.fails(400, "two_step_credentials_fetch_error");
        server.quiet().await;
        world.clock.advance(Duration::from_mins(46));
        server.relay("form-steps", &id, "GET", "/things", None).await.expect(200);
        assert_eq!(companies.seen("/gate/steps/3").len(), 2, "all calls are made again before its end");
        let body = json!({"type": "TWO_STEP", "user": "ada l"});
        server.reconnect("form-steps", &id, "/auth/two-step/form-steps", &body).await.expect(200);
        server.remove("form-steps", &id).await;
        server.finish().await;
    }

    /// Conformance 9: SAML and JWT assertions, each checked with code of the company's own.
    async fn item_9_assertions_are_signed_kept_and_made_anew(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        for provider in ["form-jwt-assertion", "form-saml", "form-signed"] {
            server.integrate(provider, &json!({})).await;
        }
        let private = key(&companies);
        let body = json!({"type": "TWO_STEP", "user": "ada", "privateKey": private, "assertion": "forged"});
        let id = server.connect("/auth/two-step/form-jwt-assertion", &body).await;
        server.relay("form-jwt-assertion", &id, "GET", "/things", None).await.expect(200);
        server.read_connection("form-jwt-assertion", &id, "&force_refresh=true").await.expect(200);
        let sent = companies.office().kept("assertions");
        assert_eq!(sent[0], sent[1], "one that is still good is sent again");
        server.quiet().await;
        world.clock.advance(Duration::from_mins(5));
        server.read_connection("form-jwt-assertion", &id, "&force_refresh=true").await.expect(200);
        assert_ne!(companies.office().newest("assertions"), sent[0]);
        server.reconnect("form-jwt-assertion", &id, "/auth/two-step/form-jwt-assertion", &body).await.expect(200);
        server.remove("form-jwt-assertion", &id).await;
        let mut broken = body.clone();
        broken["privateKey"] = json!("planted-nonsense");
        server.fill("/auth/two-step/form-jwt-assertion", &broken).await.fails(400, "failed_to_sign");

        let mut body = json!({
            "type": "TWO_STEP", "apiKey": "k-1", "assertionOption": {"privateKey": private, "user": "ada"},
        });
        let id = server.connect("/auth/two-step/form-saml", &body).await;
        let stored = server.read_connection("form-saml", &id, "").await.expect(200);
        assert!(!stored.to_string().contains("PRIVATE KEY"), "used once, never stored");
        assert_eq!(stored["credentials"]["assertion"], companies.office().newest("assertions"));
        server.relay("form-saml", &id, "GET", "/things", None).await.expect(200);
        server.quiet().await;
        world.clock.advance(Duration::from_hours(1));
        server.relay("form-saml", &id, "GET", "/things", None).await.expect(200);
        server.quiet().await;
        world.clock.advance(Duration::from_hours(24));
        let error = server.read_connection("form-saml", &id, "").await.fails(500, "invalid_credentials");
        assert!(error["message"].as_str().unwrap().contains("key is missing"), "{error}");
        server.reconnect("form-saml", &id, "/auth/two-step/form-saml", &body).await.expect(200);
        server.relay("form-saml", &id, "GET", "/things", None).await.expect(200);
        server.remove("form-saml", &id).await;
        body["assertionOption"] = json!({"user": "ada"});
        let error = server.fill("/auth/two-step/form-saml", &body).await.fails(400, "invalid_body");
        assert_eq!(error["errors"][0]["path"], json!(["assertionOption", "privateKey"]));

        let body = json!({"type": "TWO_STEP", "id": ID, "secret": SECRET});
        let id = server.connect("/auth/two-step/form-signed", &body).await;
        let stored = server.read_connection("form-signed", &id, "").await.expect(200);
        assert_eq!(stored["credentials"]["raw"], stored["credentials"]["token"], "the answer is the token");
        server.relay("form-signed", &id, "GET", "/things", None).await.expect(200);
        server.read_connection("form-signed", &id, "&force_refresh=true").await.expect(200);
        server.reconnect("form-signed", &id, "/auth/two-step/form-signed", &body).await.expect(200);
        server.remove("form-signed", &id).await;
        server.finish().await;
    }

    async fn exchanged_connections_are_imported_with_fields_or_with_their_token(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        server.integrate("form-json", &operator()).await;
        let mut import = json!({
            "provider_config_key": "form-json", "connection_id": "i1", "credentials": login(),
            "connection_config": {"tenant": "acme"},
        });
        let made = server.api.post("/connections", &import).await.expect(201);
        assert_eq!(made["credentials"]["token"], "planted-token-1");
        assert_eq!(made["credentials"]["refresh_token"], "planted-renewal-planted-token-1");
        server.relay("form-json", "i1", "GET", "/things", None).await.expect(200);

        import["connection_id"] = json!("i2");
        import["credentials"] = made["credentials"].clone();
        let moved = server.api.post("/connections", &import).await.expect(201);
        assert_eq!(moved["credentials"], made["credentials"]);
        assert_eq!(companies.seen("/gate/json").len(), 1, "nobody was asked");
        server.read_connection("form-json", "i2", "&force_refresh=true").await.expect(200);
        assert_eq!(companies.seen("/gate/refresh").len(), 1);

        import["credentials"] = json!({"type": "TWO_STEP", "key": "ada", "secret": "planted-wrong"});
        server.api.post("/connections", &import).await.fails(400, "two_step_credentials_fetch_error");
        import["credentials"] = json!({"type": "TWO_STEP", "key": "ada"});
        let error = server.api.post("/connections", &import).await.fails(400, "invalid_body");
        assert_eq!(error["errors"][0]["path"], json!(["credentials", "secret"]));
        server.finish().await;
    }
}
