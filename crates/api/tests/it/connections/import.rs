use patchbay_sample::API_KEY;
use serde_json::{Value, json};

use super::wire::Wire;
use crate::common::{missing, unrecognized};

async fn import(wire: &Wire, integration: &str, credentials: Value) -> Value {
    let body = json!({"provider_config_key": integration, "connection_id": "c", "credentials": credentials});
    wire.api.post("/connections", body).expect(201).await
}

fn body(credentials: impl Into<Value>) -> Value {
    json!({"provider_config_key": "oauth", "credentials": credentials.into()})
}

patchbay_store::both_backends! {
    async fn every_type_is_stored_as_it_came(db: TestDb) {
        let wire = Wire::on(db).await;
        for (provider, given, stored) in [
            ("plain-oauth", json!({"type": "OAUTH2", "access_token": "t", "config_override": {"client_id": "i"}}),
             json!({"type": "OAUTH2", "access_token": "t", "config_override": {"client_id": "i"},
                    "raw": {"type": "OAUTH2", "access_token": "t", "config_override": {"client_id": "i"}}})),
            ("machine", json!({"type": "OAUTH2_CC", "token": "t", "client_id": "i", "client_secret": "s"}),
             json!({"type": "OAUTH2_CC", "token": "t", "client_id": "i", "client_secret": "s",
                    "raw": {"type": "OAUTH2_CC", "token": "t", "client_id": "i", "client_secret": "s"}})),
            ("old-oauth", json!({"type": "OAUTH1", "oauth_token": "t", "oauth_token_secret": "s"}),
             json!({"type": "OAUTH1", "oauth_token": "t", "oauth_token_secret": "s",
                    "raw": {"type": "OAUTH1", "oauth_token": "t", "oauth_token_secret": "s"}})),
            ("keyed", json!({"type": "API_KEY", "apiKey": "k"}), json!({"type": "API_KEY", "apiKey": "k"})),
            ("userpass", json!({"type": "BASIC", "username": "", "password": ""}),
             json!({"type": "BASIC", "username": "", "password": ""})),
            ("nothing", json!({"type": "NONE"}), json!({})),
        ] {
            wire.api.integration(provider, provider).await;
            let shown = import(&wire, provider, given).await;
            assert_eq!(shown["credentials"], stored);
            assert_eq!(wire.get("c", provider).await["credentials"], stored);
        }
        wire.api.integration("netsuite-like", "tba").await;
        let tba = json!({"type": "TBA", "token_id": "i", "token_secret": "s"});
        let bare = json!({"provider_config_key": "tba", "credentials": tba});
        wire.api.post("/connections", bare).fails(400, "invalid_body").await;
        let whole = json!({
            "provider_config_key": "tba", "credentials": tba, "connection_config": {"accountId": "7"},
        });
        let shown = wire.api.post("/connections", whole).expect(201).await;
        assert_eq!(shown["connection_config"], json!({"accountId": "7"}), "and nothing of the integration's");
        for (provider, kind) in [("some-app", "APP"), ("app-and-oauth", "CUSTOM")] {
            wire.api.integration(provider, provider).await;
            let credentials = json!({"type": kind, "app_id": "1", "installation_id": "2"});
            let given = json!({"provider_config_key": provider, "credentials": credentials});
            // Whole-server stories mint a token; here the integration has no app to mint it with.
            wire.api.post("/connections", given).fails(500, "server_error").await;
        }
    }

    async fn an_import_replaces_everything(db: TestDb) {
        let wire = Wire::on(db).await;
        let first = wire.open("c", json!({
            "metadata": {"a": 1}, "tags": {"a": "1"}, "connection_config": {"x": "1"},
            "webhook_url_override": "https://93.184.216.34/hook", "end_user": {"id": "u"},
        })).await;
        assert_eq!(first["metadata"], json!({"a": 1}));
        assert_eq!(first["tags"], json!({"a": "1", "end_user_id": "u"}));
        assert_eq!(first["webhook_url_override"], "https://93.184.216.34/hook");
        assert_eq!((&first["created_at"], &first["errors"]), (&json!("2026-01-02T03:04:05.678Z"), &json!([])));
        wire.advance(std::time::Duration::from_secs(1));
        let second = wire.open("c", json!({})).await;
        assert_eq!((&second["id"], &second["created_at"]), (&first["id"], &first["created_at"]));
        assert_eq!(second["updated_at"], "2026-01-02T03:04:06.678Z");
        for (member, value) in [
            ("metadata", json!({})), ("tags", json!({})), ("connection_config", json!({})),
            ("webhook_url_override", Value::Null),
        ] {
            assert_eq!(second[member], value, "{member}");
        }
        let read = wire.get("c", "open").await;
        assert_eq!((&read["tags"], &read["metadata"]), (&json!({}), &json!({})));
    }

    async fn an_id_is_unique_under_its_integration_and_free_under_another(db: TestDb) {
        let wire = Wire::on(db).await;
        let first = wire.open("c", json!({"tags": {"a": "1"}})).await;
        let key = json!({
            "provider_config_key": "sample-key", "connection_id": "c",
            "credentials": {"type": "API_KEY", "apiKey": API_KEY},
        });
        let second = wire.api.post("/connections", key).expect(201).await;
        assert_ne!(second["id"], first["id"]);
        assert_eq!(wire.open("c", json!({})).await["id"], first["id"]);
        let page = wire.api.get("/connections?connectionId=c").expect(200).await;
        assert_eq!(page["connections"].as_array().unwrap().len(), 2);
        let gone = wire.api.send("DELETE", "/connections/c?provider_config_key=open").expect(200).await;
        assert_eq!(gone, json!({"success": true}));
        assert_eq!(wire.get("c", "sample-key").await["id"], second["id"]);
    }

    async fn unverified_credentials_are_not_stored(db: TestDb) {
        let wire = Wire::on(db).await;
        let with = |key: &str| json!({
            "provider_config_key": "sample-key", "connection_id": "c",
            "credentials": {"type": "API_KEY", "apiKey": key},
        });
        wire.api.post("/connections", with("wrong")).fails(400, "connection_test_failed").await;
        let page = wire.api.get("/connections").expect(200).await;
        assert_eq!(page, json!({"connections": []}));
        wire.api.post("/connections", with(API_KEY)).expect(201).await;
        wire.api.post("/connections", with("wrong")).fails(400, "connection_test_failed").await;
        assert_eq!(wire.get("c", "sample-key").await["credentials"]["apiKey"], API_KEY, "the old one stays");
        assert_eq!(wire.sample.counts().whoami, 3);
    }
}

#[tokio::test]
async fn ids_and_expiries_have_several_forms() {
    let wire = Wire::sqlite().await;
    wire.api.integration("plain-oauth", "oauth").await;
    for id in [json!({}), json!({"connection_id": ""})] {
        let made = {
            let mut given = body(json!({"type": "OAUTH2", "access_token": "t"}));
            given
                .as_object_mut()
                .unwrap()
                .extend(id.as_object().unwrap().clone());
            wire.api.post("/connections", given).expect(201).await
        };
        let id = made["connection_id"].as_str().unwrap();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
    }
    for (given, stored) in [
        (json!("2026-08-21T11:00:00Z"), json!("2026-08-21T11:00:00.000Z")),
        (
            json!("2026-08-21T13:00:00.5+02:00"),
            json!("2026-08-21T11:00:00.500Z"),
        ),
        (json!(1_787_310_000_000_i64), json!("2026-08-21T11:00:00.000Z")),
        (Value::Null, Value::Null),
    ] {
        let given = body(json!({"type": "OAUTH2", "access_token": "t", "expires_at": given}));
        let shown = wire.api.post("/connections", given).expect(201).await;
        assert_eq!(shown["credentials"]["expires_at"], stored);
        assert_eq!(shown["credentials"]["raw"]["expires_at"], stored);
    }
    let wrong = body(json!({"type": "OAUTH2", "access_token": "t", "expires_at": "soon"}));
    let issue = json!([
        "invalid_type",
        "Invalid input: expected date, received Date",
        "credentials",
        "expires_at"
    ]);
    wire.api
        .post("/connections", wrong)
        .invalid("invalid_body", json!([issue]))
        .await;
}

#[tokio::test]
async fn fields_are_checked() {
    let wire = Wire::sqlite().await;
    wire.api.integration("plain-oauth", "oauth").await;
    let post = |given: Value| wire.api.post("/connections", given);
    post(json!({}))
        .invalid(
            "invalid_body",
            json!([
                missing("provider_config_key", "string"),
                missing("credentials", "object")
            ]),
        )
        .await;
    let union = json!([["invalid_union", "Invalid input", "credentials", "type"]]);
    for kind in ["MCP_OAUTH2", "INSTALL_PLUGIN", "x"] {
        post(body(json!({"type": kind})))
            .invalid("invalid_body", union.clone())
            .await;
    }
    post(body(json!({}))).invalid("invalid_body", union).await;
    let api_key = body(json!({"type": "API_KEY", "apiKey": "k"}));
    post(api_key).fails(400, "invalid_body").await;
    let unknown = json!({"provider_config_key": "nope", "credentials": {"type": "NONE"}});
    post(unknown).fails(404, "not_found").await;
    let big = |limit: usize| json!(format!("Too big: expected string to have <={limit} characters"));
    let small = json!("Too small: expected string to have >=1 characters");
    let pattern = json!("Invalid string: must match pattern /^[a-zA-Z0-9,.;:=+~[\\]|@${}\"'\\\\/_ -]+$/");
    let oauth = json!({"type": "OAUTH2", "access_token": "t"});
    let more = |name: &str, value: Value| {
        let mut given = body(oauth.clone());
        given[name] = value;
        given
    };
    for (given, issue) in [
        (
            body(json!({"type": "OAUTH2", "access_token": ""})),
            json!(["too_small", small, "credentials", "access_token"]),
        ),
        (
            body(json!({"type": "OAUTH2", "access_token": "t".repeat(16_385)})),
            json!(["too_big", big(16_384), "credentials", "access_token"]),
        ),
        (
            body(json!({"type": "OAUTH2", "access_token": "t", "config_override": {"client_id": ""}})),
            json!(["too_small", small, "credentials", "config_override", "client_id"]),
        ),
        (
            body(
                json!({"type": "OAUTH2", "access_token": "t", "config_override": {"client_secret": "s".repeat(2049)}}),
            ),
            json!([
                "too_big",
                big(2048),
                "credentials",
                "config_override",
                "client_secret"
            ]),
        ),
        (
            body(
                json!({"type": "OAUTH2_CC", "token": "t".repeat(4097), "client_id": "i", "client_secret": "s"}),
            ),
            json!(["too_big", big(4096), "credentials", "token"]),
        ),
        (
            body(json!({"type": "OAUTH1", "oauth_token": "t".repeat(2049), "oauth_token_secret": "s"})),
            json!(["too_big", big(2048), "credentials", "oauth_token"]),
        ),
        (
            body(json!({"type": "API_KEY", "apiKey": "k".repeat(1025)})),
            json!(["too_big", big(1024), "credentials", "apiKey"]),
        ),
        (
            body(json!({"type": "BASIC", "username": "u".repeat(1025), "password": ""})),
            json!(["too_big", big(1024), "credentials", "username"]),
        ),
        (
            body(json!({"type": "BASIC", "username": ""})),
            json!([
                "invalid_type",
                "Invalid input: expected string, received undefined",
                "credentials",
                "password"
            ]),
        ),
        (
            body(json!({"type": "APP", "app_id": "1", "installation_id": ""})),
            json!(["too_small", small, "credentials", "installation_id"]),
        ),
        (
            body(json!({"type": "NONE", "x": 1})),
            json!(["unrecognized_keys", "Unrecognized key: \"x\"", "credentials"]),
        ),
        (
            more("connection_id", json!("a?b")),
            json!(["invalid_format", pattern, "connection_id"]),
        ),
        (
            more("connection_id", json!("x".repeat(256))),
            json!(["too_big", big(255), "connection_id"]),
        ),
        (
            more("metadata", json!([])),
            json!([
                "invalid_type",
                "Invalid input: expected object, received array",
                "metadata"
            ]),
        ),
        (
            more("connection_config", json!({"oauth_scopes_override": "a"})),
            json!([
                "invalid_type",
                "Invalid input: expected array, received string",
                "connection_config",
                "oauth_scopes_override"
            ]),
        ),
        (
            more("webhook_url_override", json!("nowhere")),
            json!(["invalid_format", "Invalid URL", "webhook_url_override"]),
        ),
        (
            more("end_user", json!({"id": ""})),
            json!(["too_small", small, "end_user", "id"]),
        ),
        (
            more("end_user", json!({"id": "u", "email": "a@localhost"})),
            json!(["invalid_format", "Invalid email address", "end_user", "email"]),
        ),
        (
            more("end_user", json!({"id": "u", "display_name": "n".repeat(256)})),
            json!(["too_big", big(255), "end_user", "display_name"]),
        ),
        (more("x", json!(1)), unrecognized("x")),
    ] {
        wire.api
            .post("/connections", given)
            .invalid("invalid_body", json!([issue]))
            .await;
    }
    // The longest that is allowed.
    let token = "t".repeat(16_384);
    post(body(
        json!({"type": "OAUTH2", "access_token": token, "refresh_token": token}),
    ))
    .expect(201)
    .await;
    post(more("connection_id", json!("x".repeat(255))))
        .expect(201)
        .await;
    post(more("webhook_url_override", json!(""))).expect(201).await;
    for address in [
        "http://10.0.0.1/",
        "ftp://93.184.216.34/",
        "http://169.254.169.254/",
        "http://localhost:3003/x",
    ] {
        let error = post(more("webhook_url_override", json!(address)))
            .fails(400, "invalid_body")
            .await;
        assert_eq!(
            error["errors"][0]["path"],
            json!(["webhook_url_override"]),
            "{address}"
        );
    }
}
