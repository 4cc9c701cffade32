use serde_json::{Value, json};

use super::wire::Wire;

patchbay_store::both_backends! {
    async fn the_oldest_form_still_imports(db: TestDb) {
        let wire = Wire::on(db).await;
        for (provider, given, credentials) in [
            ("plain-oauth", json!({"access_token": "t", "refresh_token": "r", "expires_in": 60, "raw": {"n": 1}, "oauth_client_id_override": "i"}),
             json!({"type": "OAUTH2", "access_token": "t", "refresh_token": "r", "expires_at": "2026-01-02T03:05:05.678Z", "raw": {"n": 1}, "config_override": {"client_id": "i"}})),
            ("machine", json!({"access_token": "t", "oauth_client_id_override": "i", "oauth_client_secret_override": "s", "raw": {}}),
             json!({"type": "OAUTH2_CC", "token": "t", "client_id": "i", "client_secret": "s", "expires_at": "2026-01-02T03:59:05.678Z", "raw": {}})),
            ("old-oauth", json!({"oauth_token": "t", "oauth_token_secret": "s", "raw": {}}),
             json!({"type": "OAUTH1", "oauth_token": "t", "oauth_token_secret": "s", "raw": {}})),
            ("userpass", json!({"username": "u"}), json!({"type": "BASIC", "username": "u", "password": ""})),
            ("keyed", json!({"api_key": "k"}), json!({"type": "API_KEY", "apiKey": "k"})),
            ("nothing", json!({}), json!({})),
        ] {
            wire.api.integration(provider, provider).await;
            let mut body = given;
            body["provider_config_key"] = json!(provider);
            let answer = wire.api.post("/connection", body.clone()).expect(201).await;
            let id = answer["connection_id"].as_str().unwrap().to_owned();
            assert_eq!(id.len(), 36, "{id}");
            body["connection_id"] = json!(id);
            assert_eq!(answer, body, "the request comes back, with the id");
            let target = format!("/connections/{id}?provider_config_key={provider}&refresh_token=true");
            assert_eq!(wire.api.get(target).expect(200).await["credentials"], credentials);
        }
    }

    async fn what_it_does_not_say_is_kept(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.api.integration("plain-oauth", "oauth").await;
        let body = |more: Value| {
            let mut body = json!({
                "provider_config_key": "oauth", "connection_id": "c", "access_token": "t", "no_expiration": true,
            });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let first = body(json!({
            "metadata": {"a": 1}, "connection_config": {"oauth_scopes_override": "a, b,"},
            "webhook_url_override": "https://93.184.216.34/", "whatever": "else",
        }));
        wire.api.post("/connection?any=1", first).expect(201).await;
        wire.api.post("/connection", body(json!({}))).expect(201).await;
        let read = wire.get("c", "oauth").await;
        assert_eq!(read["metadata"], json!({"a": 1}));
        assert_eq!(read["webhook_url_override"], "https://93.184.216.34/");
        assert_eq!(read["connection_config"], json!({}));
        assert_eq!(read["credentials"]["raw"]["no_expiration"], true, "without `raw` the body is it");
        wire.api.post("/connection", body(json!({"connection_config": {"oauth_scopes_override": "a, b,"}}))).expect(201).await;
        assert_eq!(wire.get("c", "oauth").await["connection_config"], json!({"oauth_scopes_override": ["a", "b"]}));
    }
}

#[tokio::test]
async fn its_errors_are_of_the_old_kind() {
    let wire = Wire::sqlite().await;
    for provider in [
        "plain-oauth",
        "machine",
        "old-oauth",
        "userpass",
        "keyed",
        "some-app",
        "app-and-oauth",
        "two-step",
        "netsuite-like",
    ] {
        wire.api.integration(provider, provider).await;
    }
    let secret = json!({"oauth_token": "t"});
    let app = json!({"app_id": "1"});
    let whole_app = json!({"app_id": "1", "installation_id": "2"});
    let unparsable = json!({"access_token": "t", "expires_at": "soon"});
    let negative = json!({"access_token": "t", "expires_in": -5});
    for (provider, given, status, code) in [
        (None, json!({}), 400, "missing_provider_config"),
        (Some("nope"), json!({}), 400, "unknown_provider_config"),
        (Some("plain-oauth"), json!({}), 400, "missing_access_token"),
        (
            Some("plain-oauth"),
            json!({"access_token": ""}),
            400,
            "missing_access_token",
        ),
        (
            Some("plain-oauth"),
            json!({"access_token": "t"}),
            400,
            "missing_expires_at",
        ),
        (
            Some("plain-oauth"),
            json!({"access_token": "t", "no_expiration": "true"}),
            400,
            "missing_expires_at",
        ),
        (Some("plain-oauth"), unparsable, 400, "invalid_expires_at"),
        (Some("plain-oauth"), negative, 400, "invalid_expires_at"),
        (Some("machine"), json!({}), 400, "missing_access_token"),
        (Some("old-oauth"), json!({}), 400, "missing_oauth_token"),
        (Some("old-oauth"), secret, 400, "missing_oauth_token_secret"),
        (
            Some("userpass"),
            json!({"password": "p"}),
            400,
            "missing_basic_username",
        ),
        (Some("keyed"), json!({"apiKey": "k"}), 400, "missing_api_key"),
        (Some("some-app"), json!({}), 400, "missing_app_id"),
        (Some("some-app"), app, 400, "missing_installation_id"),
        (Some("some-app"), whole_app, 500, "server_error"),
        (
            Some("netsuite-like"),
            json!({"token_id": "i", "token_secret": "s"}),
            400,
            "missing_account_id",
        ),
        (
            Some("netsuite-like"),
            json!({"connection_config": {"accountId": "1"}}),
            400,
            "invalid_body",
        ),
        (Some("two-step"), json!({}), 400, "unknown_oauth_type"),
        (Some("app-and-oauth"), json!({}), 400, "unknown_oauth_type"),
        (
            Some("keyed"),
            json!({"api_key": "k", "webhook_url_override": "nowhere"}),
            400,
            "invalid_body",
        ),
        (
            Some("keyed"),
            json!({"api_key": "k", "webhook_url_override": "http://10.0.0.1/"}),
            400,
            "invalid_body",
        ),
        (
            Some("keyed"),
            json!({"api_key": "k", "connection_id": "a?"}),
            400,
            "invalid_body",
        ),
        (
            Some("keyed"),
            json!({"api_key": "k", "metadata": []}),
            400,
            "invalid_body",
        ),
        (
            Some("keyed"),
            json!({"api_key": "k", "connection_config": 1}),
            400,
            "invalid_body",
        ),
    ] {
        let mut body = given;
        if let Some(provider) = provider {
            body["provider_config_key"] = json!(provider);
        }
        let error = wire.api.post("/connection", body).fails(status, code).await;
        assert_eq!(error["payload"], json!({}), "{error}");
    }
    assert_eq!(
        wire.api.get("/connections").expect(200).await,
        json!({"connections": []})
    );
}
