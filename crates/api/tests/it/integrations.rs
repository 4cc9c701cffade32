//! `/integrations` and `/config` (api-core §8).

use std::time::Duration;

use crate::common::{PUBLIC_URL, TestApi, missing, unrecognized};
use patchbay_catalog::Catalogue;
use patchbay_store::testing::TestDb;
use patchbay_types::IntegrationKey;
use patchbay_types::connect_sessions::ConnectSessionSpec;
use serde_json::{Value, json};

fn oauth(kind: &str) -> Value {
    json!({"type": kind, "client_id": "id", "client_secret": "secret"})
}

fn keys(list: &Value) -> Vec<&str> {
    let all = list["data"].as_array().unwrap();
    all.iter()
        .map(|one| one["unique_key"].as_str().unwrap())
        .collect()
}

async fn connect(api: &TestApi, integration: &str) {
    let import = json!({
        "provider_config_key": integration,
        "credentials": {"type": "API_KEY", "apiKey": "k"},
        "connection_config": {"a": "b"},
    });
    api.post("/connections", import).expect(201).await;
}

patchbay_store::both_backends! {
    async fn an_integration_is_made_read_changed_and_deleted(db: TestDb) {
        let api = TestApi::on(db).await;
        let body = json!({"provider": "plain-oauth", "unique_key": "a b@c", "credentials": oauth("OAUTH2")});
        let made = api.post("/integrations", body.clone()).expect(200).await;
        let expected = json!({
            "unique_key": "a b@c", "provider": "plain-oauth", "display_name": "Plain OAuth",
            "logo": format!("{PUBLIC_URL}/images/template-logos/plain-oauth.svg"), "forward_webhooks": true,
            "created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:05.678Z",
        });
        assert_eq!(made, json!({"data": expected}));
        assert_eq!(api.get("/integrations/a%20b@c").expect(200).await, made);
        let taken = api.post("/integrations", body).fails(400, "invalid_body").await;
        assert_eq!((&taken["errors"][0]["code"], &taken["errors"][0]["path"]), (&json!("invalid_string"), &json!(["uniqueKey"])));

        let both = api.get("/integrations/a%20b@c?include=webhook&include=credentials").expect(200).await;
        let url = format!("{PUBLIC_URL}/webhook/{}/a%20b%40c", api.dev.uuid);
        assert_eq!(both["data"]["webhook_url"], url);
        assert_eq!(both["data"]["credentials"], json!({
            "type": "OAUTH2", "client_id": "id", "client_secret": "secret", "scopes": "read,write", "webhook_secret": null,
        }));

        api.clock.advance(Duration::from_secs(1));
        let patch = json!({
            "unique_key": "renamed", "display_name": "Mine", "forward_webhooks": false,
            "credentials": {"type": "OAUTH2", "client_id": "id2", "client_secret": "s2", "scopes": "a:b,c/*", "webhook_secret": "w"},
            "custom": {"x": "1"},
        });
        let changed = api.patch("/integrations/a%20b@c", patch).expect(200).await;
        assert_eq!(changed["data"]["display_name"], "Mine");
        assert_eq!(changed["data"]["forward_webhooks"], false);
        assert_eq!(changed["data"]["updated_at"], "2026-01-02T03:04:06.678Z");
        api.get("/integrations/a%20b@c").fails(404, "not_found").await;
        let secret = |answer: Value| answer["data"]["credentials"]["webhook_secret"].clone();
        let path = "/integrations/renamed?include[]=credentials";
        let shown = api.get(path).expect(200).await;
        assert_eq!(shown["data"]["credentials"]["scopes"], "a:b,c/*");
        assert_eq!(secret(shown), "w");
        let same = api.patch("/integrations/renamed", json!({})).expect(200).await;
        assert_eq!(same["data"]["display_name"], "Mine");
        let mut cleared = oauth("OAUTH2");
        cleared["webhook_secret"] = json!("");
        api.patch("/integrations/renamed", json!({"credentials": cleared})).expect(200).await;
        assert_eq!(secret(api.get(path).expect(200).await), Value::Null);

        api.get("/integrations/renamed").bearer(&api.prod_key).fails(404, "not_found").await;
        api.delete("/integrations/renamed").bearer(&api.prod_key).fails(404, "not_found").await;
        assert_eq!(api.delete("/integrations/renamed").expect(200).await, json!({"success": true}));
        api.delete("/integrations/renamed").fails(404, "not_found").await;
        api.get("/integrations/renamed").fails(404, "not_found").await;
        api.patch("/integrations/renamed", json!({})).fails(404, "not_found").await;
    }

    async fn the_list_is_ordered_and_a_session_sees_what_it_may(db: TestDb) {
        let api = TestApi::on(db).await;
        for (provider, key) in [("plain-oauth", "z"), ("keyed", "y"), ("plain-oauth", "a"), ("keyed", "b")] {
            api.integration(provider, key).await;
            api.clock.advance(Duration::from_secs(1));
        }
        api.integration_in(&api.prod, "keyed", "elsewhere").await;
        let list = api.get("/integrations").expect(200).await;
        assert_eq!(keys(&list), ["y", "b", "z", "a"]);
        let everything = api.session(ConnectSessionSpec::default()).await;
        assert_eq!(api.get("/integrations").bearer(&everything).expect(200).await, list);
        let allowed_integrations = Some(vec![IntegrationKey::parse("a").unwrap(), IntegrationKey::parse("y").unwrap()]);
        let some = api.session(ConnectSessionSpec { allowed_integrations, ..ConnectSessionSpec::default() }).await;
        assert_eq!(keys(&api.get("/integrations").bearer(&some).expect(200).await), ["y", "a"]);
        api.get("/integrations?include=credentials").invalid("invalid_query_params", json!([unrecognized("include")])).await;
    }

    async fn a_key_is_not_changed_under_live_connections(db: TestDb) {
        let api = TestApi::on(db).await;
        api.integration("keyed", "used").await;
        api.integration("keyed", "other").await;
        connect(&api, "used").await;
        let rename = |to: &str| api.patch("/integrations/used", json!({"unique_key": to}));
        let in_use = rename("free").fails(400, "invalid_body").await;
        assert!(in_use["message"].is_string());
        assert_eq!(rename("other").fails(400, "invalid_body").await["errors"][0]["path"], json!(["uniqueKey"]));
        rename("used").expect(200).await;

        let brief = api.get("/config/used?anything=1").expect(200).await;
        assert_eq!(brief, json!({"config": {"unique_key": "used", "provider": "keyed", "syncs": [], "actions": []}}));
        let full = api.get("/config/used?include_creds=true").expect(200).await;
        let config = &full["config"];
        assert_eq!(config["connection_count"], 1);
        assert_eq!(config["connections"][0]["connection_config"], json!({"a": "b"}));
        assert_eq!(config["connections"][0]["environment_id"], json!(api.dev.id));
        assert_eq!((&config["auth_mode"], &config["webhook_url"]), (&json!("API_KEY"), &Value::Null));
        let limited = api.key_with(&["environment:integrations:read"]).await;
        api.get("/config/used").bearer(&limited).expect(200).await;
        api.get("/config/used?include_creds=1").bearer(&limited).expect(200).await;
        api.get("/config/used?include_creds=true").bearer(&limited).fails(403, "forbidden").await;
        let unknown = api.get("/config/none").fails(400, "unknown_provider_config").await;
        assert_eq!(unknown["payload"], json!({}));
    }

    async fn one_bad_row_does_not_break_the_list(db: TestDb) {
        let api = TestApi::on(db).await;
        api.integration("keyed", "good").await;
        // As after an upgrade that dropped a provider.
        let (catalogue, _) = Catalogue::from_text("gone.yaml", "display_name: Gone\nauth_mode: NONE\ndocs: https://d.example\n");
        let gone = patchbay_store::integrations::NewIntegration {
            environment_id: api.dev.id,
            unique_key: IntegrationKey::parse("bad").unwrap(),
            provider: catalogue.get("gone").unwrap().name.parse().unwrap(),
            display_name: None,
            forward_webhooks: true,
            secrets: patchbay_types::integrations::IntegrationSecrets::default(),
        };
        let store = &api.context.store;
        store
            .write(move |tx| Box::pin(async move { patchbay_store::integrations::insert(tx, &gone).await }))
            .await
            .unwrap();
        assert_eq!(keys(&api.get("/integrations").expect(200).await), ["good"]);
        api.get("/integrations/bad").fails(404, "not_found").await;
        api.patch("/integrations/bad", json!({})).fails(404, "not_found").await;
        api.get("/config/bad").fails(400, "unknown_provider_template").await;
        api.delete("/integrations/bad").expect(200).await;
    }

    async fn the_operators_form_is_checked(db: TestDb) {
        let api = TestApi::on(db).await;
        let create = |key: &str, config: Value| {
            api.post("/integrations", json!({"provider": "two-step", "unique_key": key, "integration_config": config}))
        };
        create("a", json!({"nope": "1"})).fails(400, "invalid_body").await;
        create("a", json!({})).fails(400, "invalid_body").await;
        create("a", json!({"clientId": "ABC"})).fails(400, "invalid_body").await;
        create("a", json!({"clientId": "abc", "region": "mars"})).fails(400, "invalid_body").await;
        create("a", json!({"clientId": "abc", "endpoint": "ftp://x"})).fails(400, "invalid_body").await;
        let long = json!([["too_big", "Too big: expected string to have <=8192 characters", "integration_config", "keyLabel"]]);
        create("a", json!({"clientId": "abc", "keyLabel": "k".repeat(8193)})).invalid("invalid_body", long).await;
        let made = create("a", json!({"clientId": "abc", "keyLabel": "k".repeat(8192)})).expect(200).await;
        assert_eq!(made["data"]["preconfigured_credentials"], json!(["clientId", "region", "keyLabel"]));
        assert_eq!(made["data"]["credentials_label"]["apiKey"].as_str().unwrap().len(), 8192);
        let patch = |config: Value| api.patch("/integrations/a", json!({"integration_config": config}));
        let cleared = patch(json!({"keyLabel": ""})).expect(200).await;
        assert_eq!(cleared["data"].get("credentials_label"), None);
        patch(json!({"clientId": ""})).fails(400, "invalid_body").await;
        api.patch("/integrations/a", json!({"custom": {"x": "1"}})).fails(400, "invalid_body").await;
        let foreign = json!({"provider": "keyed", "unique_key": "k", "integration_config": {"a": "1"}});
        api.post("/integrations", foreign).fails(400, "invalid_body").await;
        let shown = api.get("/integrations/a?include=credentials").expect(200).await;
        assert_eq!(shown["data"]["credentials"], Value::Null);
        assert!(shown["data"].as_object().unwrap().contains_key("credentials"));
    }
}

const RSA: &str = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----";

#[tokio::test]
async fn apps_of_every_mode() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let pkcs8 = RSA.replace("RSA ", "") + "\n\n";
    let app = |key: &str| json!({"type": "APP", "app_id": "1", "app_link": "https://a", "private_key": key});
    let custom = json!({
        "type": "CUSTOM", "client_id": "c", "client_secret": "s", "app_id": "1", "app_link": "l", "private_key": RSA,
    });
    let table = [
        (
            "old-oauth",
            oauth("OAUTH1"),
            json!({
                "type": "OAUTH1", "client_id": "id", "client_secret": "secret", "scopes": null, "webhook_secret": null,
            }),
        ),
        ("some-app", app(RSA), app(RSA)),
        ("some-app", app(&pkcs8), app(pkcs8.trim())),
        ("app-and-oauth", custom.clone(), custom),
        (
            "machine",
            json!({"type": "OAUTH2_CC", "scopes": "a,b"}),
            json!({
                "type": "OAUTH2_CC", "client_id": null, "client_secret": null, "scopes": "a,b", "webhook_secret": null,
            }),
        ),
    ];
    for (index, (provider, credentials, expected)) in table.into_iter().enumerate() {
        let key = format!("k{index}");
        let body = json!({"provider": provider, "unique_key": key, "credentials": credentials});
        let made = api.post("/integrations", body).expect(200).await;
        assert_eq!(
            made["data"].get("credentials"),
            None,
            "credentials are shown on demand only"
        );
        let shown = api
            .get(format!("/integrations/{key}?include=credentials"))
            .expect(200)
            .await;
        assert_eq!(shown["data"]["credentials"], expected, "{provider}");
    }
    for provider in ["machine", "keyed", "nothing"] {
        let key = format!("none-{provider}");
        api.post("/integrations", json!({"provider": provider, "unique_key": key}))
            .expect(200)
            .await;
        let shown = api
            .get(format!("/integrations/{key}?include=credentials&include=webhook"))
            .expect(200)
            .await;
        assert_eq!(
            (&shown["data"]["credentials"], &shown["data"]["webhook_url"]),
            (&Value::Null, &Value::Null)
        );
    }
}

#[tokio::test]
async fn credentials_without_the_scope_are_absent() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    api.integration("plain-oauth", "k").await;
    for (scopes, shown) in [
        (&["environment:integrations:read"][..], false),
        (&["environment:integrations:read_credentials"], true),
        (&["environment:integrations:*"], true),
    ] {
        let key = api.key_with(scopes).await;
        let read = api
            .get("/integrations/k?include=credentials")
            .bearer(&key)
            .expect(200)
            .await;
        assert_eq!(
            read["data"].as_object().unwrap().contains_key("credentials"),
            shown,
            "{scopes:?}"
        );
    }
}

#[tokio::test]
async fn bad_input() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let create = |body: Value| api.post("/integrations", body);
    create(json!({}))
        .invalid(
            "invalid_body",
            json!([missing("provider", "string"), missing("unique_key", "string")]),
        )
        .await;
    api.send("POST", "/integrations")
        .invalid(
            "invalid_body",
            json!([[
                "invalid_type",
                "Invalid input: expected object, received undefined"
            ]]),
        )
        .await;
    let unknown = create(json!({"provider": "none", "unique_key": "k"}))
        .fails(400, "invalid_body")
        .await;
    assert_eq!(
        (&unknown["errors"][0]["code"], &unknown["errors"][0]["path"]),
        (&json!("invalid_string"), &json!(["provider"]))
    );
    let with = |provider: &str, credentials: Value| {
        create(json!({"provider": provider, "unique_key": "k", "credentials": credentials}))
    };
    for (provider, credentials) in [
        ("keyed", oauth("OAUTH2")),
        ("plain-oauth", oauth("OAUTH1")),
        ("two-step", oauth("TBA")),
    ] {
        let mismatch = with(provider, credentials).fails(400, "invalid_body").await;
        assert!(mismatch["message"].is_string() && mismatch.get("errors").is_none());
    }
    for provider in ["plain-oauth", "old-oauth", "some-app", "app-and-oauth"] {
        create(json!({"provider": provider, "unique_key": "k"}))
            .fails(400, "invalid_body")
            .await;
    }
    let kind = with("keyed", json!({"type": "API_KEY"}))
        .fails(400, "invalid_body")
        .await;
    assert_eq!(kind["errors"][0]["code"], "invalid_union");
    assert_eq!(kind["errors"][0]["path"], json!(["credentials", "type"]));
    with(
        "plain-oauth",
        json!({
            "type": "OAUTH2", "client_id": "c".repeat(256), "client_secret": "", "scopes": "a, b",
            "webhook_secret": "w".repeat(256), "extra": 1,
        }),
    )
    .invalid(
        "invalid_body",
        json!([
            [
                "too_big",
                "Too big: expected string to have <=255 characters",
                "credentials",
                "client_id"
            ],
            [
                "too_small",
                "Too small: expected string to have >=1 characters",
                "credentials",
                "client_secret"
            ],
            [
                "invalid_format",
                "Invalid string: must match pattern /^[0-9a-zA-Z:/_.*-]+(,[0-9a-zA-Z:/_.*-]+)*$/",
                "credentials",
                "scopes"
            ],
            [
                "too_big",
                "Too big: expected string to have <=255 characters",
                "credentials",
                "webhook_secret"
            ],
            ["unrecognized_keys", "Unrecognized key: \"extra\"", "credentials"],
        ]),
    )
    .await;
    with(
        "some-app",
        json!({"type": "APP", "app_id": "1", "app_link": "l", "private_key": "key"}),
    )
    .invalid(
        "invalid_body",
        json!([
            [
                "invalid_format",
                "Invalid string: must start with \"-----BEGIN RSA PRIVATE KEY----\"",
                "credentials",
                "private_key"
            ],
            [
                "invalid_format",
                "Invalid string: must end with \"-----END RSA PRIVATE KEY-----\"",
                "credentials",
                "private_key"
            ],
        ]),
    )
    .await;
    let long = json!({
        "provider": "keyed", "unique_key": "k".repeat(256), "display_name": "", "forward_webhooks": "yes", "custom": {"a": 1},
    });
    create(long)
        .invalid(
            "invalid_body",
            json!([
                [
                    "too_big",
                    "Too big: expected string to have <=255 characters",
                    "unique_key"
                ],
                [
                    "too_small",
                    "Too small: expected string to have >=1 characters",
                    "display_name"
                ],
                [
                    "invalid_type",
                    "Invalid input: expected boolean, received string",
                    "forward_webhooks"
                ],
                [
                    "invalid_type",
                    "Invalid input: expected string, received number",
                    "custom",
                    "a"
                ],
            ]),
        )
        .await;
    let longest =
        json!({"provider": "keyed", "unique_key": "k".repeat(255), "display_name": "d".repeat(255)});
    create(longest).expect(200).await;
    for include in ["webhook,credentials", "nonsense", ""] {
        api.get(format!("/integrations/k?include={include}"))
            .fails(400, "invalid_query_params")
            .await;
    }
    // Query, then body, then path.
    let all_wrong = |query: &str, body: Value| api.patch(format!("/integrations/a%2Fb{query}"), body);
    all_wrong("?x=1", json!({"y": 1}))
        .invalid("invalid_query_params", json!([unrecognized("x")]))
        .await;
    all_wrong("", json!({"y": 1}))
        .invalid("invalid_body", json!([unrecognized("y")]))
        .await;
    all_wrong("", json!({})).fails(400, "invalid_uri_params").await;
}

#[tokio::test]
async fn a_quickstart_takes_a_shared_app() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let start = |provider: &str, key: &str| {
        api.post(
            "/integrations/quickstart",
            json!({"provider": provider, "unique_key": key}),
        )
    };
    assert_eq!(
        start("none", "k").fails(400, "invalid_body").await["errors"][0]["path"],
        json!(["provider"])
    );
    assert!(
        start("keyed", "k")
            .fails(400, "invalid_body")
            .await
            .get("errors")
            .is_none()
    );
    assert!(
        start("plain-oauth", "k")
            .fails(400, "invalid_body")
            .await
            .get("errors")
            .is_none()
    );
    api.integration("plain-oauth", "k").await;
    assert_eq!(
        start("plain-oauth", "k").fails(400, "invalid_body").await["errors"][0]["path"],
        json!(["uniqueKey"])
    );
    // Only POST is special about that path.
    api.get("/integrations/quickstart").fails(404, "not_found").await;
    let credentials = json!({"provider": "plain-oauth", "unique_key": "x", "credentials": {}});
    api.post("/integrations/quickstart", credentials)
        .invalid("invalid_body", json!([unrecognized("credentials")]))
        .await;
}
