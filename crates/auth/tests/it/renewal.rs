//! auth-flows §24.3 and §24.4.

use std::time::Duration;

use patchbay_auth::message::{Answer, Call};
use patchbay_auth::oauth2::token::Second;
use patchbay_auth::renewal::{self, RenewError, RenewInput, Renewal, is_due, with_refresh_token};
use patchbay_catalog::Provider;
use patchbay_types::connections::RefreshCause;
use patchbay_types::{Credentials, JsonMap};
use serde_json::{Value, json};

use crate::support::{ambient, answer, body_of, credentials, object, provider, secrets, text_answer};

fn definition(extra: Value) -> std::sync::Arc<Provider> {
    let mut definition = object(json!({
        "auth_mode": "OAUTH2",
        "authorization_url": "https://id.example.com/authorize",
        "token_url": "https://id.example.com/token?dropped=1",
    }));
    definition.extend(object(extra));
    provider("acme", Value::Object(definition))
}

fn stored() -> Credentials {
    credentials(
        json!({"type": "OAUTH2", "access_token": "planted-access", "refresh_token": "planted-refresh",
        "expires_at": "2026-01-02T03:05:00.000Z", "raw": {}}),
    )
}

fn request(provider: &Provider, credentials: &Credentials, config: &Value) -> Result<Call, RenewError> {
    let (secrets, connection_config) = (secrets(), object(config.clone()));
    let definition = &provider.definition;
    renewal::request(
        &RenewInput {
            definition,
            secrets: &secrets,
            credentials,
            connection_config: &connection_config,
            callback_url: "https://connect.example.com/oauth/callback",
        },
        &ambient(),
    )
}

fn read(provider: &Provider, credentials: &Credentials, answer: &Answer) -> Result<Renewal, RenewError> {
    let (secrets, connection_config) = (secrets(), JsonMap::new());
    let definition = &provider.definition;
    let input = RenewInput {
        definition,
        secrets: &secrets,
        credentials,
        connection_config: &connection_config,
        callback_url: "https://connect.example.com/oauth/callback",
    };
    renewal::read(&input, answer, Second::None, ambient().now())
}

#[test]
fn due_within_the_buffer_and_only_if_there_is_a_way() {
    let now = ambient().now();
    let oauth2 = |end: Option<&str>, refresh: Option<&str>| {
        let mut value = object(json!({"type": "OAUTH2", "access_token": "a", "raw": {}}));
        value.extend(end.map(|end| ("expires_at".to_owned(), json!(end))));
        value.extend(refresh.map(|token| ("refresh_token".to_owned(), json!(token))));
        Credentials::from_json(value).unwrap()
    };
    let usual = definition(json!({}));
    let short = definition(json!({"token_expiration_buffer": 30}));
    let none = JsonMap::new();
    // Now is 03:04:05.678; the usual buffer is 15 minutes.
    for (entry, end, refresh, forced, due) in [
        (&usual, Some("2026-01-02T03:19:05.677Z"), Some("r"), false, true),
        (&usual, Some("2026-01-02T03:19:05.678Z"), Some("r"), false, false),
        (&usual, Some("2026-01-02T03:19:05.678Z"), Some("r"), true, true),
        (&short, Some("2026-01-02T03:04:35.677Z"), Some("r"), false, true),
        (&short, Some("2026-01-02T03:04:35.678Z"), Some("r"), false, false),
        (&usual, Some("2020-01-01T00:00:00.000Z"), Some("r"), false, true),
        (&usual, Some("2020-01-01T00:00:00.000Z"), None, false, false),
        (&usual, Some("2020-01-01T00:00:00.000Z"), None, true, false),
        (&usual, Some("2020-01-01T00:00:00.000Z"), Some(""), true, false),
        (&usual, None, Some("r"), false, false),
        (&usual, None, Some("r"), true, true),
    ] {
        let given = oauth2(end, refresh);
        assert_eq!(
            is_due(&entry.definition, &given, &none, forced, now),
            due,
            "{end:?} {refresh:?} {forced}"
        );
    }
    for fixed in [
        json!({"type": "API_KEY", "apiKey": "k"}),
        json!({"type": "BASIC", "username": "u", "password": "p"}),
        json!({}),
        json!({"type": "OAUTH1", "oauth_token": "t", "oauth_token_secret": "s", "raw": {}}),
    ] {
        assert!(!is_due(&usual.definition, &credentials(fixed), &none, true, now));
    }
    let minted = credentials(
        json!({"type": "OAUTH2_CC", "token": "t", "client_id": "i", "client_secret": "s",
        "expires_at": "2026-01-02T03:05:00.000Z", "raw": {}}),
    );
    assert!(is_due(&usual.definition, &minted, &none, false, now));
}

#[test]
fn the_request_always_asks_for_a_refresh() {
    let whole = json!({"grant_type": "refresh_token", "refresh_token": "planted-refresh",
        "client_id": "the-client", "client_secret": "planted-client-secret"});
    let plain = request(&definition(json!({})), &stored(), &json!({})).unwrap();
    assert_eq!(
        (plain.url.as_str(), body_of(&plain)),
        ("https://id.example.com/token", whole.clone())
    );

    // 22 catalogued providers name the wrong grant in token_params.
    let token_params = definition(
        json!({"token_params": {"grant_type": "authorization_code", "x": "${connectionConfig.x}"}}),
    );
    let mut expect = object(whole.clone());
    expect.insert("x".to_owned(), json!("y"));
    assert_eq!(
        body_of(&request(&token_params, &stored(), &json!({"x": "y"})).unwrap()),
        Value::Object(expect)
    );
    let missing = request(&token_params, &stored(), &json!({})).unwrap_err();
    assert_eq!(
        (missing.cause(), missing.outcome_unknown()),
        (RefreshCause::Ours, false)
    );

    let own_grant = definition(
        json!({"token_params": {"x": 1}, "refresh_params": {"grant_type": "special", "y": 2},
        "refresh_url": "https://${connectionConfig.h}.example.com/refresh?keep=1", "body_format": "json"}),
    );
    let call = request(&own_grant, &stored(), &json!({"h": "eu"})).unwrap();
    assert_eq!(call.url.as_str(), "https://eu.example.com/refresh?keep=1");
    let mut expect = object(whole);
    expect.insert("grant_type".to_owned(), json!("special"));
    expect.insert("y".to_owned(), json!(2));
    assert_eq!(body_of(&call), Value::Object(expect));
}

#[test]
fn the_connections_own_client_refreshes() {
    let mut own = object(
        json!({"type": "OAUTH2", "access_token": "a", "refresh_token": "r", "raw": {},
        "config_override": {"client_id": "own", "client_secret": "own-secret"}}),
    );
    let entry = definition(json!({}));
    let call = request(&entry, &Credentials::from_json(own.clone()).unwrap(), &json!({})).unwrap();
    assert_eq!(body_of(&call)["client_id"], "own");
    let renewed = read(
        &entry,
        &Credentials::from_json(own.clone()).unwrap(),
        &answer(200, json!({"access_token": "b"})),
    );
    assert_eq!(
        renewed.unwrap().credentials.to_json()["config_override"],
        own["config_override"]
    );
    own.insert("config_override".to_owned(), json!({"client_id": "own"}));
    let call = request(&entry, &Credentials::from_json(own).unwrap(), &json!({})).unwrap();
    assert_eq!(body_of(&call)["client_id"], "the-client");
}

#[test]
fn a_refresh_token_is_rotated_or_kept() {
    let entry = definition(json!({"token_response_metadata": ["region"]}));
    let rotated = answer(
        200,
        json!({"access_token": "b", "refresh_token": "next", "expires_in": 60, "region": "eu"}),
    );
    let renewal = read(&entry, &stored(), &rotated).unwrap();
    let new = renewal.credentials.to_json();
    assert_eq!(
        (&new["access_token"], &new["refresh_token"]),
        (&json!("b"), &json!("next"))
    );
    assert_eq!(new["expires_at"], "2026-01-02T03:05:05.678Z");
    assert_eq!(renewal.config_updates, object(json!({"region": "eu"})));
    let kept = read(&entry, &stored(), &answer(200, json!({"access_token": "b"})))
        .unwrap()
        .credentials
        .to_json();
    assert_eq!(kept["refresh_token"], "planted-refresh");
    assert!(!kept.contains_key("expires_at"));
}

#[test]
fn each_failure_has_its_owner() {
    use RefreshCause::{Ours, ProviderDown, ProviderRefused};
    let entry = definition(json!({}));
    let json_error = |status, code: &str| {
        answer(
            status,
            json!({"error": code, "error_description": "planted-refresh"}),
        )
    };
    for (answer, cause, unknown) in [
        (json_error(400, "invalid_grant"), ProviderRefused, false),
        (json_error(401, "invalid_grant"), ProviderRefused, false),
        (json_error(400, "unauthorized_client"), ProviderRefused, false),
        (json_error(200, "bad_refresh_token"), ProviderRefused, false),
        (
            answer(400, json!({"status": "BAD_REFRESH_TOKEN"})),
            ProviderRefused,
            false,
        ),
        (json_error(400, "interaction_required"), ProviderRefused, false),
        (json_error(401, "invalid_client"), Ours, false),
        (json_error(400, "unsupported_grant_type"), Ours, false),
        (json_error(400, "invalid_request"), ProviderDown, false),
        (json_error(400, "temporarily_unavailable"), ProviderDown, false),
        (json_error(429, "invalid_grant"), ProviderDown, false),
        (json_error(500, "invalid_grant"), ProviderDown, false),
        (json_error(503, "server_error"), ProviderDown, false),
        (
            text_answer(502, "text/html", "<h1>Bad gateway</h1>"),
            ProviderDown,
            true,
        ),
        (text_answer(504, "text/html", ""), ProviderDown, true),
        (
            text_answer(403, "text/html", "<h1>Blocked by the firewall</h1>"),
            ProviderDown,
            false,
        ),
        (text_answer(400, "text/plain", "no"), ProviderDown, false),
        (
            text_answer(200, "text/html", "<h1>Maintenance</h1>"),
            ProviderDown,
            true,
        ),
        (answer(200, json!({})), ProviderDown, true),
        (answer(200, json!([1])), ProviderDown, true),
    ] {
        let error = read(&entry, &stored(), &answer).unwrap_err();
        assert_eq!(
            (error.cause(), error.outcome_unknown()),
            (cause, unknown),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("planted"), "{error}");
    }
    let parsing = read(&entry, &stored(), &answer(200, json!({}))).unwrap_err();
    assert_eq!(parsing.code(), "refresh_token_parsing_error");
    let mut busy = json_error(429, "slow_down");
    busy.retry_after = Some(Duration::from_secs(7));
    let busy = read(&entry, &stored(), &busy).unwrap_err();
    assert_eq!(
        (busy.retry_after(), busy.code()),
        (Some(Duration::from_secs(7)), "refresh_token_external_error")
    );
}

#[test]
fn what_cannot_be_renewed_is_our_affair() {
    let entry = definition(json!({}));
    let key = credentials(json!({"type": "API_KEY", "apiKey": "k"}));
    assert_eq!(
        request(&entry, &key, &json!({})).unwrap_err().cause(),
        RefreshCause::Ours
    );
    let mut nobody = secrets();
    nobody.client_secret = None;
    let (config, credentials) = (JsonMap::new(), stored());
    let input = RenewInput {
        definition: &entry.definition,
        secrets: &nobody,
        credentials: &credentials,
        connection_config: &config,
        callback_url: "https://connect.example.com/oauth/callback",
    };
    assert_eq!(
        renewal::request(&input, &ambient()).unwrap_err().cause(),
        RefreshCause::Ours
    );
}

#[test]
fn the_token_before_the_last_rotation_can_be_tried() {
    let older = with_refresh_token(&stored(), &"older".into());
    let call = request(&definition(json!({})), &older, &json!({})).unwrap();
    assert_eq!(body_of(&call)["refresh_token"], "older");
}
