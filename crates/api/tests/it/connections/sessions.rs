use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Wire;
use crate::common::{UNKNOWN_SESSION, missing, unrecognized};

async fn create(wire: &Wire, body: Value) -> String {
    let made = wire.api.post("/connect/sessions", body).expect(201).await;
    made["data"]["token"].as_str().unwrap().to_owned()
}

async fn shown(wire: &Wire, token: &str) -> Value {
    let mut answer = wire.api.get("/connect/session").bearer(token).expect(200).await;
    let settings = answer["data"]
        .as_object_mut()
        .unwrap()
        .remove("connectUISettings")
        .unwrap();
    assert!(settings["theme"]["light"]["primary"].is_string(), "{settings}");
    answer["data"].take()
}

/// Connects `sample-key` as a browser does.
async fn connect(wire: &Wire, token: &str) -> Value {
    let target = format!("/api-auth/api-key/sample-key?connect_session_token={token}");
    let form = wire
        .api
        .post(target, json!({"apiKey": patchbay_sample::API_KEY}))
        .anonymous();
    form.expect(200).await
}

patchbay_store::both_backends! {
    async fn a_session_lives_half_an_hour(db: TestDb) {
        let wire = Wire::on(db).await;
        let made = wire.api.post("/connect/sessions", json!({"tags": {}})).expect(201).await;
        let token = made["data"]["token"].as_str().unwrap();
        let hex = token.strip_prefix("nango_connect_session_").unwrap();
        assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_eq!(made, json!({"data": {
            "token": token, "expires_at": "2026-01-02T03:34:05.678Z",
            "connect_link": format!("http://localhost:3009/?session_token={token}"),
        }}));
        // Using it does not use it up.
        for _ in 0..2 {
            let connected = connect(&wire, token).await;
            assert_eq!(connected["providerConfigKey"], "sample-key");
        }
        wire.advance(Duration::from_mins(30) - Duration::from_millis(1));
        wire.api.get("/connect/session").bearer(token).expect(200).await;
        wire.advance(Duration::from_millis(1));
        let late = wire.api.get("/connect/session").bearer(token);
        late.fails(401, "unknown_connect_session_token").await;
    }

    async fn a_deleted_session_is_unknown(db: TestDb) {
        let wire = Wire::on(db).await;
        let token = create(&wire, json!({"tags": {}})).await;
        wire.api.delete("/connect/session?x=1").bearer(&token).fails(400, "invalid_query_params").await;
        let gone = wire.api.delete("/connect/session").bearer(&token).send().await;
        assert_eq!((gone.status, gone.text.as_str()), (204, ""));
        wire.api.get("/connect/session").bearer(&token).fails(401, "unknown_connect_session_token").await;
        wire.api.get("/connect/session").fails(401, "invalid_connect_session_token_format").await;
        wire.api.get("/connect/session").bearer(UNKNOWN_SESSION).fails(401, "unknown_connect_session_token").await;
    }

    async fn its_wishes_reach_the_browser_and_the_connection(db: TestDb) {
        let wire = Wire::on(db).await;
        let hook = "https://93.184.216.34/old";
        let token = create(&wire, json!({
            "end_user": {"id": "u1", "email": "a@b.co", "tags": {"Plan": "pro"}}, "organization": {"id": "o1"},
            "tags": {"x": "1"}, "allowed_integrations": ["sample-key"],
            "integrations_config_defaults": {"sample-key": {
                "user_scopes": "a", "authorization_params": {"p": "q"},
                "connection_config": {"subdomain": "acme", "webhook_url": hook, "oauth_client_secret_override": "s"},
            }},
            "overrides": {"sample-key": {"docs_connect": "https://docs.example.com", "unknown": 1}},
        })).await;
        assert_eq!(shown(&wire, &token).await, json!({
            "endUser": {"id": "u1", "display_name": null, "email": "a@b.co", "tags": {"Plan": "pro"},
                "organization": {"id": "o1", "display_name": null}},
            "allowed_integrations": ["sample-key"],
            "integrations_config_defaults": {"sample-key": {
                "authorization_params": {"p": "q"},
                "connection_config": {"subdomain": "acme", "oauth_client_secret_override": "***"},
            }},
            "overrides": {"sample-key": {"docs_connect": "https://docs.example.com"}},
            "websocketsPath": "/ws", "expiresIn": 1800,
        }));
        let listed = wire.api.get("/integrations").bearer(&token).expect(200).await;
        let keys: Vec<_> = listed["data"].as_array().unwrap().iter().map(|row| row["unique_key"].clone()).collect();
        assert_eq!(keys, ["sample-key"]);
        let connected = connect(&wire, &token).await;
        let id = connected["connectionId"].as_str().unwrap();
        let read = wire.get(id, "sample-key").await;
        assert_eq!(read["tags"], json!({
            "end_user_id": "u1", "end_user_email": "a@b.co", "organization_id": "o1", "plan": "pro", "x": "1",
        }));
        assert_eq!(read["end_user"]["organization"]["id"], "o1");
        assert_eq!(read["webhook_url_override"], hook, "hoisted");
        assert_eq!(read["connection_config"]["subdomain"], "acme");
        assert!(read["connection_config"].get("webhook_url").is_none());
    }

    async fn whoever_waits_for_a_tags_only_connection_finds_it(db: TestDb) {
        let wire = Wire::on(db).await;
        let token = create(&wire, json!({"tags": {"end_user_id": "u1"}})).await;
        assert_eq!(shown(&wire, &token).await, json!({"endUser": null, "websocketsPath": "/ws", "expiresIn": 1800}));
        let before = wire.api.get("/connections?endUserId=u1").expect(200).await;
        assert_eq!(before, json!({"connections": []}));
        let connected = connect(&wire, &token).await;
        let after = wire.api.get("/connections?endUserId=u1").expect(200).await;
        assert_eq!(after["connections"][0]["connection_id"], connected["connectionId"]);
        assert_eq!(after["connections"][0]["end_user"], Value::Null);
    }

    async fn a_reconnect_keeps_what_it_does_not_name(db: TestDb) {
        let wire = Wire::on(db).await;
        let import = json!({
            "provider_config_key": "sample-key", "connection_id": "c", "metadata": {"m": 1},
            "credentials": {"type": "API_KEY", "apiKey": patchbay_sample::API_KEY}, "end_user": {"id": "u1"},
        });
        let first = wire.api.post("/connections", import).expect(201).await;
        let reconnect = |more: Value| {
            let mut body = json!({"connection_id": "c", "integration_id": "sample-key"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            wire.api.post("/connect/sessions/reconnect", body)
        };
        let made = reconnect(json!({})).expect(201).await;
        let token = made["data"]["token"].as_str().unwrap();
        assert_eq!(shown(&wire, token).await, json!({
            "endUser": {"id": "u1", "display_name": null, "email": null, "tags": null, "organization": null},
            "allowed_integrations": ["sample-key"], "isReconnecting": true, "websocketsPath": "/ws", "expiresIn": 1800,
        }));
        assert_eq!(connect(&wire, token).await["connectionId"], "c");
        let read = wire.get("c", "sample-key").await;
        assert_eq!(read["id"], first["id"]);
        assert_eq!((&read["tags"], &read["metadata"]), (&json!({"end_user_id": "u1"}), &json!({"m": 1})));

        let made = reconnect(json!({"organization": {"id": "o1"}})).expect(201).await;
        connect(&wire, made["data"]["token"].as_str().unwrap()).await;
        assert_eq!(wire.get("c", "sample-key").await["tags"], json!({"organization_id": "o1"}));
        let made = reconnect(json!({"tags": {}})).expect(201).await;
        connect(&wire, made["data"]["token"].as_str().unwrap()).await;
        assert_eq!(wire.get("c", "sample-key").await["tags"], json!({}));

        for (connection, integration) in [("d", "sample-key"), ("c", "open"), ("c", "nope")] {
            let error = reconnect(json!({"connection_id": connection, "integration_id": integration}));
            let error = error.fails(400, "invalid_body").await;
            assert!(error.get("errors").is_none() && error["message"].is_string(), "{error}");
        }
        let made = reconnect(json!({})).expect(201).await;
        wire.api.delete("/connections/c?provider_config_key=sample-key").expect(200).await;
        let orphan = wire.api.get("/connect/session").bearer(made["data"]["token"].as_str().unwrap());
        orphan.fails(404, "not_found").await;
    }
}

#[tokio::test]
async fn fields_are_checked() {
    let wire = Wire::sqlite().await;
    let post = |body: Value| wire.api.post("/connect/sessions", body);
    post(json!({}))
        .invalid("invalid_body", json!([missing("end_user", "object")]))
        .await;
    post(json!({"organization": {"id": ""}, "x": 1}))
        .invalid("invalid_body", json!([unrecognized("x")]))
        .await;
    post(json!({"end_user": {}})).fails(400, "invalid_body").await;
    post(json!({"end_user": {"id": "u"}, "organization": {"id": ""}, "allowed_integrations": []}))
        .expect(201)
        .await;
    let unknown = json!({
        "tags": {}, "allowed_integrations": ["open", "no", "nope"],
        "integrations_config_defaults": {"no": {}}, "overrides": {"nope": {}},
    });
    let error = post(unknown).fails(400, "invalid_body").await;
    let found: Vec<_> = error["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["code"].clone(), it["path"].clone()))
        .collect();
    let custom = |path: Value| (json!("custom"), path);
    assert_eq!(
        found,
        [
            custom(json!(["allowed_integrations", "1"])),
            custom(json!(["allowed_integrations", "2"])),
            custom(json!(["integrations_config_defaults", "no"])),
            custom(json!(["overrides", "nope"])),
        ]
    );
    let defaults = |of_one: Value| json!({"tags": {}, "integrations_config_defaults": {"open": of_one}});
    for (body, path) in [
        (
            defaults(json!({"x": 1})),
            json!(["integrations_config_defaults", "open"]),
        ),
        (
            defaults(json!({"authorization_params": {"p": 1}})),
            json!([
                "integrations_config_defaults",
                "open",
                "authorization_params",
                "p"
            ]),
        ),
        (
            defaults(json!({"connection_config": {"oauth_scopes_override": []}})),
            json!([
                "integrations_config_defaults",
                "open",
                "connection_config",
                "oauth_scopes_override"
            ]),
        ),
        (
            defaults(json!({"connection_config": {"webhook_url": "nowhere"}})),
            json!([
                "integrations_config_defaults",
                "open",
                "connection_config",
                "webhook_url"
            ]),
        ),
        (
            defaults(json!({"connection_config": {"webhook_url": "http://10.0.0.1/"}})),
            json!([
                "integrations_config_defaults",
                "open",
                "connection_config",
                "webhook_url"
            ]),
        ),
        (
            json!({"tags": {}, "webhook_url_override": "http://localhost:3003/"}),
            json!(["webhook_url_override"]),
        ),
        (
            json!({"tags": {}, "allowed_integrations": "open"}),
            json!(["allowed_integrations"]),
        ),
        (
            json!({"tags": {}, "organization": {"id": "o", "display_name": "n".repeat(256)}}),
            json!(["organization", "display_name"]),
        ),
        (json!({"end_user": {"id": "u", "x": 1}}), json!(["end_user"])),
    ] {
        let error = post(body).fails(400, "invalid_body").await;
        assert_eq!(error["errors"][0]["path"], path);
    }
    let error = wire
        .api
        .post("/connect/sessions/reconnect", json!({"allowed_integrations": []}));
    error
        .invalid(
            "invalid_body",
            json!([
                missing("connection_id", "string"),
                missing("integration_id", "string"),
                unrecognized("allowed_integrations")
            ]),
        )
        .await;
}

#[tokio::test]
async fn the_browser_reports_its_steps() {
    let wire = Wire::sqlite().await;
    let token = create(&wire, json!({"tags": {}})).await;
    let report = |token: &str, event: &str, at: &str| {
        let body =
            json!({"token": token, "event": event, "timestamp": at, "dimensions": {"integration": "open"}});
        wire.api.post("/connect/telemetry", body).anonymous()
    };
    let now = "2026-01-02T03:04:05Z";
    for event in [
        "open",
        "view:success",
        "view:credentials_error",
        "popup:closed_early",
    ] {
        let answer = report(&token, event, now).send().await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    report(&token, "dance", now).fails(400, "invalid_body").await;
    report(&token, "open", "2026-01-02T05:04:05Z").expect(204).await;
    report(&token, "open", "2026-01-02T05:04:07Z")
        .fails(400, "invalid_body")
        .await;
    report(&token, "open", "2026-01-02T01:04:04Z")
        .fails(400, "invalid_body")
        .await;
    report("x", "open", now)
        .fails(401, "invalid_connect_session_token_format")
        .await;
    report(UNKNOWN_SESSION, "open", now)
        .fails(401, "unknown_connect_session_token")
        .await;
}
