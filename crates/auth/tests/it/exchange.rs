//! auth-flows §8.2 to §8.6.

use std::collections::BTreeMap;

use patchbay_auth::message::Call;
use patchbay_auth::oauth2::token::{
    ExchangeError, ExchangeInput, Exchanged, Second, exchange_request, read_exchange,
};
use patchbay_catalog::Provider;
use patchbay_types::{JsonMap, Secret};
use serde_json::{Value, json};

use crate::support::{ambient, answer, body_of, object, provider, secrets, text_answer};

fn definition(extra: Value) -> std::sync::Arc<Provider> {
    let mut definition = object(json!({
        "auth_mode": "OAUTH2",
        "authorization_url": "https://id.example.com/authorize",
        "token_url": "https://id.example.com/token?dropped=1",
    }));
    definition.extend(object(extra));
    provider("acme", Value::Object(definition))
}

struct Given {
    provider: std::sync::Arc<Provider>,
    config: JsonMap,
    overrides: BTreeMap<String, Secret>,
    verifier: Option<Secret>,
}

impl Given {
    fn new(extra: Value) -> Self {
        Self {
            provider: definition(extra),
            config: JsonMap::new(),
            overrides: BTreeMap::new(),
            verifier: Some("planted-verifier".into()),
        }
    }

    fn with<T>(&self, run: impl FnOnce(&ExchangeInput<'_>) -> T) -> T {
        run(&ExchangeInput {
            definition: &self.provider.definition,
            secrets: &secrets(),
            connection_config: &self.config,
            client_override: &self.overrides,
            code: "planted-code",
            code_verifier: self.verifier.as_ref(),
            callback_url: "https://connect.example.com/oauth/callback",
            state: "the-state",
        })
    }

    fn request(&self) -> Call {
        self.with(|input| exchange_request(input, &ambient()).unwrap())
    }

    fn read(&self, answer: &patchbay_auth::message::Answer) -> Result<Exchanged, ExchangeError> {
        self.with(|input| read_exchange(input, answer, Second::None, ambient().now()))
    }
}

#[test]
fn the_request_in_every_variant() {
    let basic = |text: &str| format!("Basic {}", data_encoding::BASE64.encode(text.as_bytes()));
    let whole = json!({"grant_type": "authorization_code", "code": "planted-code",
        "redirect_uri": "https://connect.example.com/oauth/callback", "code_verifier": "planted-verifier",
        "client_id": "the-client", "client_secret": "planted-client-secret"});
    let mut bare = object(whole.clone());
    bare.remove("client_id");
    bare.remove("client_secret");

    let plain = Given::new(json!({})).request();
    assert_eq!(plain.url.as_str(), "https://id.example.com/token");
    assert_eq!(plain.header("accept"), Some("application/json"));
    assert_eq!(
        plain.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(plain.header("authorization"), None);
    assert_eq!(body_of(&plain), whole);

    let json_body = Given::new(json!({"body_format": "json"})).request();
    assert_eq!(json_body.header("content-type"), Some("application/json"));
    assert_eq!(body_of(&json_body), whole);

    let header = Given::new(json!({"authorization_method": "header"})).request();
    assert_eq!(
        header.header("authorization"),
        Some(basic("the-client:planted-client-secret").as_str())
    );
    assert_eq!(body_of(&header), Value::Object(bare));

    let both = Given::new(json!({"token_request_auth_method": "basic"})).request();
    assert_eq!(
        both.header("authorization"),
        Some(basic("the-client:planted-client-secret").as_str())
    );
    assert_eq!(body_of(&both), whole);
}

#[test]
fn parameters_of_the_definition_are_interpolated_and_keep_their_types() {
    let mut given = Given::new(json!({"body_format": "json", "token_params": {
        "grant_type": "authorization_code", "expiring": 1, "session": false, "shop": "${connectionConfig.shop}",
        "deep": {"a": ["${connectionConfig.shop}"]}, "opt": "${connectionConfig.opt}"},
        "connection_config": {"shop": {"type": "string", "title": "", "description": ""},
                              "opt": {"type": "string", "title": "", "description": "", "optional": true}}}));
    given.verifier = None;
    let missing = given
        .with(|input| exchange_request(input, &ambient()))
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        "no value for connectionConfig.shop, connectionConfig.shop"
    );
    given.config = object(json!({"shop": "s"}));
    let body = body_of(&given.request());
    assert_eq!(
        (&body["expiring"], &body["session"], &body["shop"], &body["deep"]),
        (&json!(1), &json!(false), &json!("s"), &json!({"a": ["s"]}))
    );
    assert!(body.get("opt").is_none() && body.get("code_verifier").is_none());
}

#[test]
fn tokens_metadata_and_overrides_are_kept() {
    let mut given = Given::new(json!({"token_response_metadata": ["team.id", "n"]}));
    let told =
        json!({"access_token": "a", "refresh_token": "r", "expires_in": 60, "team": {"id": "T1"}, "n": 5});
    let exchanged = given.read(&answer(200, told.clone())).unwrap();
    assert_eq!(
        exchanged.token_metadata,
        object(json!({"team.id": "T1", "n": "5"}))
    );
    assert_eq!(
        Value::Object(exchanged.credentials.to_json()),
        json!({"type": "OAUTH2", "access_token": "a", "refresh_token": "r", "expires_at": "2026-01-02T03:05:05.678Z",
            "raw": {"access_token": "a", "refresh_token": "r", "expires_in": 60, "team": {"id": "T1"}, "n": 5,
                    "expires_at": "2026-01-02T03:05:05.678Z"}})
    );

    given.overrides = [
        ("oauth_client_id_override", "own-id"),
        ("oauth_client_secret_override", "own-secret"),
        ("oauth_refresh_token_override", "own-refresh"),
    ]
    .map(|(name, value)| (name.to_owned(), Secret::new(value)))
    .into();
    assert_eq!(body_of(&given.request())["client_id"], "own-id");
    assert_eq!(body_of(&given.request())["client_secret"], "own-secret");
    let exchanged = given.read(&answer(200, told)).unwrap();
    let stored = exchanged.credentials.to_json();
    assert_eq!(
        stored["config_override"],
        json!({"client_id": "own-id", "client_secret": "own-secret"})
    );
    assert_eq!(
        (&stored["refresh_token"], &stored["raw"]["refresh_token"]),
        (&json!("own-refresh"), &json!("own-refresh"))
    );
    assert_eq!(exchanged.token_metadata["overrideTokenRefresh"], true);
}

#[test]
fn refusals_say_why_without_secrets() {
    let given = Given::new(json!({}));
    let cases = [
        (
            answer(
                400,
                json!({"error": "invalid_grant", "error_description": "code planted-code is used"}),
            ),
            "unknown",
        ),
        (
            answer(200, json!({"error": "bad_verification_code", "access_token": ""})),
            "unknown",
        ),
        (
            answer(200, json!({"ok": false})),
            "unable_to_parse_token_response",
        ),
        (
            text_answer(200, "text/html", "<p>planted-client-secret</p>"),
            "unable_to_parse_token_response",
        ),
        (text_answer(500, "text/plain", "planted-verifier"), "unknown"),
        (
            answer(
                201,
                json!({"access_token": null, "echo": {"secret": "planted-client-secret"}}),
            ),
            "unable_to_parse_token_response",
        ),
    ];
    for (answer, webhook_type) in cases {
        let error = given.read(&answer).unwrap_err();
        assert_eq!(
            (error.code(), error.webhook_type()),
            ("unknown_err", webhook_type)
        );
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("planted"), "{shown}");
    }
    let error = given
        .read(&answer(401, json!({"error": "invalid_client"})))
        .unwrap_err();
    assert!(error.to_string().contains("401 (invalid_client)"), "{error}");
}
