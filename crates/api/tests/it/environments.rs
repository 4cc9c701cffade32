//! `/environments`, its keys, variables and signing key (api-core §6).

use crate::common::{TestApi, missing, unrecognized};
use patchbay_connections::environments::set_variables;
use patchbay_store::testing::TestDb;
use serde_json::{Value, json};

patchbay_store::both_backends! {
    async fn an_environment_is_made_listed_and_deleted(db: TestDb) {
        let api = TestApi::on(db).await;
        let admin = &api.account_key;
        let made = api.post("/environments", json!({"name": "staging"})).bearer(admin).expect(200).await;
        let (id, uuid) = (made["data"]["id"].clone(), made["data"]["uuid"].clone());
        assert_eq!(made, json!({"data": {"id": id, "uuid": uuid, "name": "staging"}}));
        let error = api.post("/environments", json!({"name": "staging"})).bearer(admin);
        error.fails(409, "conflict").await;

        let list = api.get("/environments").bearer(admin).expect(200).await;
        let names: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["dev", "prod", "staging"]);
        let one = api.get("/environments?name=staging").bearer(admin).expect(200).await;
        assert_eq!(one["data"], json!([{"id": id, "uuid": uuid, "name": "staging", "is_production": false}]));
        assert_eq!(api.get("/environments?name=none").bearer(admin).expect(200).await["data"], json!([]));

        let by_uuid = format!("/environments/{}", uuid.as_str().unwrap());
        let gone = api.delete(by_uuid.clone()).bearer(admin).send().await;
        assert_eq!((gone.status, gone.text.as_str()), (204, ""));
        api.delete(by_uuid).bearer(admin).fails(404, "not_found").await;
        api.delete(format!("/environments/{id}")).bearer(admin).fails(404, "not_found").await;

        let again = api.post("/environments", json!({"name": "staging"})).bearer(admin).expect(200).await;
        let by_number = format!("/environments/{}", again["data"]["id"]);
        api.delete(by_number).bearer(admin).expect(204).await;
    }

    async fn keys_are_made_read_and_revoked(db: TestDb) {
        let api = TestApi::on(db).await;
        let admin = &api.account_key;
        for base in [api.dev.uuid.to_string(), api.dev.id.to_string()] {
            let keys = format!("/environments/{base}/api-keys");
            let made = api.post(&keys, json!({"display_name": "ci"})).bearer(admin).expect(200).await;
            let data = &made["data"];
            assert_eq!(data["scopes"], json!(["environment:*"]));
            assert_eq!(data["created_at"], "2026-01-02T03:04:05.678Z");
            let secret = data["secret"].as_str().unwrap();
            api.get("/environment-variables").bearer(secret).expect(200).await;

            api.post(&keys, json!({"display_name": "ci"})).bearer(admin).fails(409, "conflict").await;
            let list = api.get(format!("{keys}?display_name=ci")).bearer(admin).expect(200).await;
            assert_eq!(list["data"].as_array().unwrap().len(), 1);
            assert_eq!(list["data"][0]["uuid"], data["uuid"]);
            assert_eq!(list["data"][0].get("secret"), None);
            for key in [data["uuid"].as_str().unwrap().to_owned(), data["id"].to_string()] {
                let shown = api.get(format!("{keys}/{key}")).bearer(admin).expect(200).await;
                assert_eq!(shown["data"]["secret"], secret);
                assert_eq!(shown["data"]["last_used_at"], Value::Null);
            }
            let one = format!("{keys}/{}", data["uuid"].as_str().unwrap());
            assert_eq!(api.delete(&one).bearer(admin).expect(200).await, json!({"success": true}));
            api.delete(&one).bearer(admin).fails(404, "not_found").await;
            api.get(&one).bearer(admin).fails(404, "not_found").await;
            api.get("/environment-variables").bearer(secret).fails(401, "unknown_account").await;
        }
        let nowhere = "/environments/11111111-1111-4111-8111-111111111111/api-keys";
        api.get(nowhere).bearer(admin).fails(404, "not_found").await;
        api.post(nowhere, json!({"display_name": "x"})).bearer(admin).fails(404, "not_found").await;
    }

    async fn keys_by_number_still_work(db: TestDb) {
        let api = TestApi::on(db).await;
        let admin = &api.account_key;
        let path = "/environment/api-keys";
        let body = json!({"environment_id": api.dev.id.to_string(), "display_name": "old"});
        let made = api.post(path, body.clone()).bearer(admin).expect(200).await;
        let id = &made["data"]["id"];
        api.post(path, body).bearer(admin).fails(409, "conflict").await;
        let body = json!({"environment_id": 999_999, "display_name": "old"});
        api.post(path, body).bearer(admin).fails(404, "not_found").await;
        let delete = |environment: Value, key: Value| {
            api.delete(path).bearer(admin).json(json!({"environment_id": environment, "key_id": key}))
        };
        delete(json!(999_999), id.clone()).fails(404, "not_found").await;
        delete(json!(api.prod.id), id.clone()).fails(404, "not_found").await;
        let done = delete(json!(api.dev.id), id.clone()).expect(200).await;
        assert_eq!(done, json!({"success": true}));
        delete(json!(api.dev.id), id.clone()).fails(404, "not_found").await;
        let zero = delete(json!(0), json!("x"));
        let small = json!(["too_small", "Too small: expected number to be >0", "environment_id"]);
        let nan = json!(["invalid_type", "Invalid input: expected number, received NaN", "key_id"]);
        zero.invalid("invalid_body", json!([small, nan])).await;
    }

    async fn an_environment_has_at_most_fifty_keys(db: TestDb) {
        let api = TestApi::on(db).await;
        let keys = format!("/environments/{}/api-keys", api.dev.uuid);
        // One was there from the start.
        for number in 0..49 {
            let body = json!({"display_name": format!("k{number}")});
            api.post(&keys, body).bearer(&api.account_key).expect(200).await;
        }
        let one_more = api.post(&keys, json!({"display_name": "more"})).bearer(&api.account_key);
        one_more.fails(400, "resource_capped").await;
    }

    async fn variables_and_signing_key(db: TestDb) {
        let api = TestApi::on(db).await;
        assert_eq!(api.get("/environment-variables").expect(200).await, json!([]));
        let changes = [("Y", "2"), ("X", "1")].map(|(name, value)| (name.to_owned(), Some(value.into())));
        set_variables(&api.context, api.dev.id, changes.into()).await.unwrap();
        let variables = api.get("/environment-variables").header("content-type", "application/json");
        let expected = json!([{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]);
        assert_eq!(variables.expect(200).await, expected);
        assert_eq!(api.get("/environment-variables").bearer(&api.prod_key).expect(200).await, json!([]));
        api.get("/environment-variables?a=1").invalid("invalid_query_params", json!([unrecognized("a")])).await;
        let body = api.get("/environment-variables").json(json!({"b": 1}));
        body.invalid("invalid_body", json!([unrecognized("b")])).await;

        let path = "/environment/webhook-signing-key/rotate";
        let rotated = api.post(path, json!({"ignored": true})).expect(200).await;
        let fresh = rotated["data"]["webhook_signing_key"].as_str().unwrap();
        assert_ne!(fresh, api.key);
        let dev = patchbay_connections::environments::get(&api.context, api.dev.id).await.unwrap().unwrap();
        assert_eq!(dev.signing_key.expose(), fresh);
        let valid: Vec<_> = dev.signing_keys(api.context.ambient.now()).map(|key| key.expose().to_owned()).collect();
        assert_eq!(valid, [fresh, &api.key], "both are valid during the grace period");
        api.send("POST", path).fails(409, "multiple_webhook_signing_keys").await;
        api.clock.advance(std::time::Duration::from_hours(24));
        let again = api.send("POST", path).expect(200).await;
        assert_ne!(again["data"]["webhook_signing_key"], fresh);
        api.send("POST", "/environment/webhook-signing-key/rotate?x=1")
            .invalid("invalid_query_params", json!([unrecognized("x")]))
            .await;
    }

    async fn a_key_outlives_its_environment_and_opens_nothing(db: TestDb) {
        let api = TestApi::on(db).await;
        let made = api.environment("gone").await;
        let key = made.secret.expose().to_owned();
        api.get("/integrations").bearer(&key).expect(200).await;
        let path = format!("/environments/{}", made.environment.uuid);
        api.delete(path).bearer(&api.account_key).expect(204).await;
        api.get("/integrations").bearer(&key).fails(403, "forbidden").await;
    }
}

#[tokio::test]
async fn production_takes_a_further_scope() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let limited = api.account_key_with(&["account:environments:create"]).await;
    let body = |name: &str, production: Value| json!({"name": name, "is_production": production});
    let create = |body: Value| api.post("/environments", body);
    create(body("live", json!(true)))
        .bearer(&limited)
        .fails(403, "forbidden")
        .await;
    create(body("test", json!(false)))
        .bearer(&limited)
        .expect(200)
        .await;
    create(body("live", json!(true)))
        .bearer(&api.account_key)
        .expect(200)
        .await;
    let listed = api
        .get("/environments?name=live")
        .bearer(&api.account_key)
        .expect(200)
        .await;
    assert_eq!(listed["data"][0]["is_production"], true);
    let prod = create(body("prod", json!(false))).bearer(&limited);
    prod.fails(400, "invalid_is_prod_flag").await;
    create(json!({"name": "prod"}))
        .bearer(&limited)
        .fails(403, "forbidden")
        .await;
    create(json!({"name": "prod"}))
        .bearer(&api.account_key)
        .fails(409, "conflict")
        .await;
    let prod = api
        .delete(format!("/environments/{}", api.prod.uuid))
        .bearer(&api.account_key);
    prod.fails(400, "cannot_delete_prod_environment").await;
}

#[tokio::test]
async fn limits_of_a_new_environment_hold_from_both_sides() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let create = |body: Value| api.post("/environments", body).bearer(&api.account_key);
    let full = json!({
        "name": "a".repeat(255), "is_production": false, "callback_url": " https://app.example.com/cb ",
        "hmac_key": "k".repeat(1000), "hmac_enabled": true, "slack_notifications": true, "otlp_endpoint": "",
        "otlp_headers": vec![json!({"name": "n".repeat(256), "value": "v".repeat(4000), "more": 1}); 100],
    });
    let made = create(full).expect(200).await;
    let id = patchbay_types::EnvironmentId(made["data"]["id"].as_i64().unwrap());
    let stored = patchbay_connections::environments::get(&api.context, id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        stored.settings.callback_url.as_deref(),
        Some("https://app.example.com/cb")
    );
    assert_eq!(stored.settings.otlp_endpoint, None);
    assert_eq!(stored.settings.otlp_headers.len(), 100);
    assert!(stored.settings.hmac_enabled && stored.settings.slack_notifications);

    create(json!({}))
        .invalid("invalid_body", json!([missing("name", "string")]))
        .await;
    create(json!({"name": "x", "nope": 1}))
        .invalid("invalid_body", json!([unrecognized("nope")]))
        .await;
    let pattern = "Invalid string: must match pattern /^[a-z0-9_-]+$/";
    create(json!({"name": "Dev"}))
        .invalid("invalid_body", json!([["invalid_format", pattern, "name"]]))
        .await;
    let long = "Too big: expected string to have <=255 characters";
    create(json!({"name": "a".repeat(256)}))
        .invalid("invalid_body", json!([["too_big", long, "name"]]))
        .await;
    let many = json!({
        "name": "x", "is_production": "yes", "callback_url": "nowhere", "hmac_key": "k".repeat(1001),
        "otlp_endpoint": "nowhere", "otlp_headers": [{"name": "", "value": "v".repeat(4001)}],
    });
    create(many)
        .invalid(
            "invalid_body",
            json!([
                [
                    "invalid_type",
                    "Invalid input: expected boolean, received string",
                    "is_production"
                ],
                ["invalid_format", "Invalid URL", "callback_url"],
                [
                    "too_big",
                    "Too big: expected string to have <=1000 characters",
                    "hmac_key"
                ],
                ["invalid_format", "Invalid URL", "otlp_endpoint"],
                [
                    "too_small",
                    "Too small: expected string to have >=1 characters",
                    "otlp_headers",
                    "0",
                    "name"
                ],
                [
                    "too_big",
                    "Too big: expected string to have <=4000 characters",
                    "otlp_headers",
                    "0",
                    "value"
                ],
            ]),
        )
        .await;
    let crowded = vec![json!({"name": "n", "value": "v"}); 101];
    let too_many = create(json!({"name": "x", "otlp_headers": crowded}))
        .fails(400, "invalid_body")
        .await;
    assert_eq!(too_many["errors"][0]["code"], "too_big");
    api.post("/environments?x=1", json!({"name": "x"}))
        .bearer(&api.account_key)
        .invalid("invalid_query_params", json!([unrecognized("x")]))
        .await;
    for id in ["abc", "0", "-1", "1.5"] {
        let bad = api.delete(format!("/environments/{id}")).bearer(&api.account_key);
        bad.fails(400, "invalid_uri_params").await;
    }
    let keys = format!("/environments/{}/api-keys", api.dev.uuid);
    let name = |name: String| {
        api.post(&keys, json!({"display_name": name}))
            .bearer(&api.account_key)
    };
    name("n".repeat(255)).expect(200).await;
    name("n".repeat(256))
        .invalid("invalid_body", json!([["too_big", long, "display_name"]]))
        .await;
    let short = "Too small: expected string to have >=1 characters";
    name(String::new())
        .invalid("invalid_body", json!([["too_small", short, "display_name"]]))
        .await;
}

#[tokio::test]
async fn the_command_line_learns_the_names_with_any_key() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let expected = json!({"data": [
        {"name": "dev", "is_production": false}, {"name": "prod", "is_production": true},
    ]});
    for key in [&api.key, &api.account_key] {
        assert_eq!(
            api.get("/api/v1/environments").bearer(key).expect(200).await,
            expected
        );
    }
    api.get("/api/v1/environments")
        .anonymous()
        .fails(401, "missing_auth_header")
        .await;
}
