//! Credentials typed by an end user.

use crate::common::World;
use patchbay_sample::{API_KEY, BASIC_PASSWORD, BASIC_USER, CLIENT_ID, CLIENT_SECRET};
use serde_json::json;

#[tokio::test]
async fn every_form_that_is_served_stores_a_connection() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let table = [
        ("/api-auth/api-key/key", "", json!({"apiKey": API_KEY})),
        (
            "/api-auth/basic/basic",
            "&params%5Btenant%5D=acme",
            json!({"username": BASIC_USER, "password": BASIC_PASSWORD}),
        ),
        (
            "/oauth2/auth/client",
            "",
            json!({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}),
        ),
        ("/auth/unauthenticated/nothing", "", json!({})),
    ];
    for (path, more, body) in &table {
        let answer = world
            .post(&format!("{path}?connect_session_token={token}{more}"), body)
            .await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let made = answer.json();
        assert_eq!(made["providerConfigKey"], path.rsplit('/').next().unwrap());
        let stored = world.connections().await;
        assert_eq!(made["connectionId"], stored[0].connection_id.as_str());
        assert_eq!(stored[0].tags.get("end_user_email"), Some("grace@example.com"));
    }
    // Clients send no body where there is nothing to say.
    let target = format!("/auth/unauthenticated/nothing?connect_session_token={token}");
    let bare = world
        .send("POST", &target, &[("content-type", "application/json")], "")
        .await;
    assert_eq!(bare.status, 200, "{}", bare.text);
}

#[tokio::test]
async fn every_refusal_has_its_code() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let narrow = world.session(&["basic"]).await;
    let good = json!({"apiKey": API_KEY});
    let client = json!({"client_id": CLIENT_ID, "client_secret": "wrong"});
    let with = |path: &str| format!("{path}?connect_session_token={token}");
    let table = [
        (
            "/api-auth/api-key/key".to_owned(),
            &good,
            "401 missing_public_key",
        ),
        (
            "/api-auth/api-key/key?connect_session_token=x".to_owned(),
            &good,
            "401 invalid_connect_session_token_format",
        ),
        (
            with("/api-auth/api-key/nobody"),
            &good,
            "404 unknown_provider_config",
        ),
        (
            with("/oauth2/auth/nobody"),
            &client,
            "400 unknown_provider_config",
        ),
        (with("/api-auth/api-key/b%21d"), &good, "400 invalid_uri_params"),
        (with("/api-auth/api-key/oauth"), &good, "400 invalid_auth_mode"),
        (
            format!("/api-auth/api-key/key?connect_session_token={narrow}"),
            &good,
            "400 integration_not_allowed",
        ),
        (
            with("/api-auth/api-key/key") + "&connection_id=c",
            &good,
            "400 invalid_query_params",
        ),
        (
            with("/api-auth/api-key/key"),
            &json!({"apiKey": "wrong"}),
            "400 connection_test_failed",
        ),
        (with("/api-auth/api-key/key"), &json!({}), "400 invalid_body"),
        (with("/api-auth/api-key/key"), &json!([]), "400 invalid_body"),
        (with("/oauth2/auth/client"), &json!({}), "400 missing_client_id"),
        (
            with("/oauth2/auth/client"),
            &json!({"client_id": "x"}),
            "400 missing_client_secret",
        ),
        (
            with("/oauth2/auth/client"),
            &client,
            "400 client_credentials_fetch_error",
        ),
        (
            with("/auth/two-step/two-step"),
            &json!({"username": "u"}),
            "400 two_step_credentials_fetch_error",
        ),
        (with("/auth/two-step/key"), &json!({}), "400 invalid_auth_mode"),
        (
            with("/auth/jwt/nobody"),
            &json!({}),
            "404 unknown_provider_config",
        ),
    ];
    for (target, body, code) in table {
        let answer = world.post(&target, body).await;
        assert_eq!(answer.code(), code, "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{target}");
    }
    assert_eq!(world.connections().await.len(), 0);
}

#[tokio::test]
async fn a_field_that_breaks_its_rule_is_named() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let body = json!({"username": BASIC_USER, "password": BASIC_PASSWORD});
    for (value, path) in [
        ("ACME", json!(["params", "tenant"])),
        ("", json!(["params", "tenant"])),
    ] {
        let target = format!("/api-auth/basic/basic?connect_session_token={token}&params[tenant]={value}");
        let answer = world.post(&target, &body).await;
        assert_eq!(answer.code(), "400 invalid_body");
        let issue = &answer.json()["error"]["errors"][0];
        assert_eq!((&issue["code"], &issue["path"]), (&json!("custom"), &path));
    }
}
