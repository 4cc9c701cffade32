//! auth-flows §21.

use patchbay_ambient::Ambient;
use patchbay_auth::verification::{Candidate, VerifyError, verify};
use serde_json::{Value, json};

use crate::support::{Reply, Seen, Upstream, ambient, client, credentials, object, provider, secrets};

/// Runs a test of `given` against an upstream that answers `replies`; `BASE` in the definition is its origin.
async fn check(
    definition: Value,
    given: Value,
    config: Value,
    replies: Vec<Reply>,
) -> (Result<(), VerifyError>, Vec<Seen>) {
    let ambient: Ambient = ambient();
    let upstream = Upstream::start(&ambient, replies).await;
    let mut whole =
        object(json!({"credentials": {"apiKey": {"type": "string", "title": "", "description": ""}}}));
    whole.extend(object(definition));
    let text = Value::Object(whole).to_string().replace("BASE", &upstream.origin);
    let entry = provider("acme", serde_json::from_str(&text).unwrap());
    let (secrets, credentials, config) = (secrets(), credentials(given), object(config));
    let candidate = Candidate {
        definition: &entry.definition,
        secrets: &secrets,
        credentials: &credentials,
        connection_config: &config,
    };
    let result = verify(&client(&ambient), &candidate, &ambient).await;
    (result, upstream.seen())
}

fn key() -> Value {
    json!({"type": "API_KEY", "apiKey": "planted-key"})
}

fn with(verification: Value) -> Value {
    json!({"auth_mode": "API_KEY", "proxy": {"base_url": "BASE/api", "headers": {"x-key": "${apiKey}"}, "query": {"v": "2"},
        "body": {"auth": "${apiKey}"}, "verification": verification}})
}

#[tokio::test]
async fn the_first_endpoint_that_accepts_is_enough() {
    let two = with(json!({"endpoints": ["/one", "/two", "/three"]}));
    let (result, seen) = check(
        two,
        key(),
        json!({}),
        vec![Reply::Json(401, json!({})), Reply::Json(204, json!(null))],
    )
    .await;
    result.unwrap();
    let targets: Vec<_> = seen
        .iter()
        .map(|seen| format!("{} {}", seen.method, seen.target))
        .collect();
    assert_eq!(targets, ["GET /api/one?v=2", "GET /api/two?v=2"]);
    assert!(
        seen.iter()
            .all(|seen| seen.header("x-key") == Some("planted-key") && seen.header("accept").is_some())
    );
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_shows_nothing() {
    let (result, seen) = check(
        with(json!({"endpoints": ["/one"]})),
        key(),
        json!({}),
        vec![Reply::Json(503, json!({"k": "planted-key"}))],
    )
    .await;
    let error = result.unwrap_err();
    assert_eq!((error.code(), seen.len()), ("connection_test_failed", 1));
    assert_eq!(
        error.to_string(),
        "the provider did not accept the credentials: it answered 503 to the test request"
    );
    assert!(!format!("{error:?}").contains("planted"));
}

#[tokio::test]
async fn method_headers_base_and_data_are_the_definitions() {
    let full = with(
        json!({"method": "POST", "endpoints": ["/login/${connectionConfig.team}"], "base_url_override": "BASE/other",
        "headers": {"x-key": "twice ${apiKey}", "x-team": "${connectionConfig.team}"},
        "data": {"team": "${connectionConfig.team}", "gone": "${connectionConfig.gone}", "n": 1}}),
    );
    let (result, seen) = check(
        full,
        key(),
        json!({"team": "t1"}),
        vec![Reply::Json(200, json!({}))],
    )
    .await;
    result.unwrap();
    let seen = &seen[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/other/login/t1?v=2")
    );
    assert_eq!(
        (seen.header("x-key"), seen.header("x-team")),
        (Some("twice planted-key"), Some("t1"))
    );
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(
        serde_json::from_str::<Value>(&seen.body).unwrap(),
        json!({"team": "t1", "n": 1, "auth": "planted-key"})
    );
}

#[tokio::test]
async fn nothing_to_test_is_accepted_untested() {
    let untested = json!({"auth_mode": "API_KEY", "proxy": {"base_url": "BASE"}});
    let (result, seen) = check(untested, key(), json!({}), vec![]).await;
    assert!(result.is_ok() && seen.is_empty());
    // A token that was just obtained needs no test, whatever the definition says.
    let minted = json!({"type": "OAUTH2_CC", "token": "t", "client_id": "i", "raw": {}});
    let (result, seen) = check(with(json!({"endpoints": ["/one"]})), minted, json!({}), vec![]).await;
    assert!(result.is_ok() && seen.is_empty());
    let (result, seen) = check(with(json!({"endpoints": ["/one"]})), json!({}), json!({}), vec![]).await;
    assert!(result.is_ok() && seen.is_empty());
}

#[tokio::test]
async fn an_answer_may_have_to_say_more_than_200() {
    for (expect, reply, good) in [
        (json!({"status": 200}), Reply::Json(203, json!({})), false),
        (json!({"status": 400}), Reply::Json(400, json!({})), true),
        (
            json!({"json_path": "data.ok", "equals": true}),
            Reply::Json(200, json!({"data": {"ok": true}})),
            true,
        ),
        (
            json!({"json_path": "data.ok", "equals": true}),
            Reply::Json(200, json!({"data": {"ok": false}})),
            false,
        ),
        (
            json!({"json_path": "data.ok"}),
            Reply::Json(200, json!({"data": {"ok": null}})),
            false,
        ),
        (
            json!({"json_path": "data.ok"}),
            Reply::With(200, vec![], "<html>".to_owned()),
            false,
        ),
    ] {
        let (result, _) = check(
            with(json!({"endpoints": ["/one"], "expect": expect})),
            key(),
            json!({}),
            vec![reply],
        )
        .await;
        assert_eq!(result.is_ok(), good, "{expect}: {result:?}");
    }
}

#[tokio::test]
async fn named_checks_run_or_are_refused() {
    let named = |name: &str| json!({"auth_mode": "API_KEY", "proxy": {"base_url": "BASE"}, "credentials_verification_script": name});
    let (result, seen) = check(
        named("apolloCredentialsVerification"),
        key(),
        json!({}),
        vec![Reply::Json(200, json!({"is_logged_in": false}))],
    )
    .await;
    assert!(matches!(result, Err(VerifyError::Unexpected)), "{result:?}");
    assert_eq!(seen[0].target, "/v1/auth/health");
    let (result, _) = check(
        named("apollo"),
        key(),
        json!({}),
        vec![Reply::Json(200, json!({"is_logged_in": true}))],
    )
    .await;
    result.unwrap();
    let (result, _) = check(
        named("azureDevops"),
        key(),
        json!({}),
        vec![Reply::Json(203, json!({}))],
    )
    .await;
    assert!(
        matches!(result, Err(VerifyError::Refused { status: 203 })),
        "{result:?}"
    );
    let (result, seen) = check(named("cdwCredentialsVerification"), key(), json!({}), vec![]).await;
    assert!(
        matches!(result, Err(VerifyError::UnknownCheck(_))) && seen.is_empty(),
        "{result:?}"
    );
    let (result, _) = check(named(""), key(), json!({}), vec![]).await;
    result.unwrap();
}

#[tokio::test]
async fn a_key_that_fits_no_header_is_refused_before_anything_is_sent() {
    let given = json!({"type": "API_KEY", "apiKey": "planted\nx"});
    let (result, seen) = check(with(json!({"endpoints": ["/one"]})), given, json!({}), vec![]).await;
    let error = result.unwrap_err();
    assert!(matches!(error, VerifyError::Request(_)) && seen.is_empty());
    assert!(!error.to_string().contains("planted"));
}
