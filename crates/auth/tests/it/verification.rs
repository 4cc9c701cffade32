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
    let config = serde_json::from_str(&config.to_string().replace("BASE", &upstream.origin)).unwrap();
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
        (json!({"status": ["2xx", 400]}), Reply::Json(400, json!({})), true),
        (
            json!({"status": ["2xx", 400]}),
            Reply::Json(401, json!({})),
            false,
        ),
        (
            json!({"json_path": "data", "is": "array"}),
            Reply::Json(200, json!({"data": {}})),
            false,
        ),
        (
            json!({"lacks": ["authentication error"]}),
            Reply::Json(200, json!({"m": "Authentication Error"})),
            false,
        ),
        (
            json!({"lacks_pattern": "<error[\\s>]"}),
            Reply::With(200, vec![], "<x><error>no</error></x>".to_owned()),
            false,
        ),
        (
            json!({"lacks_pattern": "<error[\\s>]"}),
            Reply::With(200, vec![], "<x><errors/></x>".to_owned()),
            true,
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
async fn named_checks_are_what_the_shipped_definition_of_the_name_says() {
    let named = |name: &str| json!({"auth_mode": "API_KEY", "proxy": {"base_url": "BASE"}, "credentials_verification_script": name});
    for name in ["apolloCredentialsVerification", "apollo"] {
        for (logged_in, good) in [(true, true), (false, false)] {
            let replies = vec![Reply::Json(200, json!({"is_logged_in": logged_in}))];
            let (result, seen) = check(named(name), key(), json!({}), replies).await;
            assert_eq!(result.is_ok(), good, "{result:?}");
            assert_eq!(seen[0].target, "/v1/auth/health");
        }
    }
    let (result, seen) = check(named("nobodyCredentialsVerification"), key(), json!({}), vec![]).await;
    assert!(
        matches!(result, Err(VerifyError::UnknownCheck(_))) && seen.is_empty(),
        "{result:?}"
    );
    let (result, _) = check(named(""), key(), json!({}), vec![]).await;
    result.unwrap();
}

/// Definition of a shipped provider whose requests go to `BASE`, the host they are for in front of the path.
fn shipped(name: &str) -> Value {
    let catalogue = patchbay_catalog::Catalogue::built_in();
    let mut wire = catalogue.get(name).unwrap().wire.clone();
    let proxy = wire.get_mut("proxy").unwrap();
    *proxy = serde_json::from_str(&proxy.to_string().replace("https://", "BASE/")).unwrap();
    Value::Object(wire)
}

#[tokio::test]
async fn every_shipped_check_that_needs_more_than_a_status() {
    let basic = || json!({"type": "BASIC", "username": "planted-user", "password": "planted-password"});
    let text = |body: &str| Reply::With(200, vec![], body.to_owned());
    for (name, given, config, yes, no, request, body) in [
        (
            "apollo",
            key(),
            json!({}),
            Reply::Json(200, json!({"is_logged_in": true})),
            Reply::Json(200, json!({"is_logged_in": false})),
            "GET /app.apollo.io/api/v1/auth/health",
            "",
        ),
        (
            "apple-calendar",
            basic(),
            json!({}),
            Reply::With(207, vec![], "<x/>".to_owned()),
            Reply::Json(401, json!({})),
            "PROPFIND /caldav.icloud.com",
            r#"<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>"#,
        ),
        (
            "aws-iam",
            basic(),
            json!({"region": "eu-west-1"}),
            text("<x/>"),
            Reply::Json(403, json!({})),
            "GET /sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
            "",
        ),
        (
            "azure-devops",
            basic(),
            json!({"organizationUrl": "dev.azure.com/acme"}),
            Reply::Json(200, json!({})),
            Reply::Json(203, json!({})),
            "GET /dev.azure.com/acme/_apis/projects",
            "",
        ),
        (
            "bitdefender",
            basic(),
            json!({"ACCESS_URL": "BASE"}),
            Reply::Json(200, json!({"result": {}})),
            Reply::Json(200, json!({"error": {}})),
            "POST /v1.0/jsonrpc/general",
            r#"{"id":"patchbay","jsonrpc":"2.0","method":"getApiKeyDetails","params":[]}"#,
        ),
        (
            "expensify",
            basic(),
            json!({}),
            Reply::Json(200, json!({"responseCode": 200})),
            Reply::Json(200, json!({"responseMessage": "Authentication error"})),
            "POST /integrations.expensify.com/Integration-Server/ExpensifyIntegrations",
            "requestJobDescription=",
        ),
        (
            "lastpass",
            basic(),
            json!({}),
            Reply::Json(200, json!({"Users": {}})),
            text("Authorization Error"),
            "POST /lastpass.com/enterpriseapi.php",
            r#"{"cid":"planted-user","provhash":"planted-password","cmd":"getuserdata"}"#,
        ),
        (
            "pushpay-chms-v1",
            basic(),
            json!({"subdomain": "acme"}),
            text("<ccb_api><response/></ccb_api>"),
            text("<ccb_api><errors><error number=\"5\">Denied</error></errors></ccb_api>"),
            "GET /acme.ccbchurch.com/api.php?srv=api_status",
            "",
        ),
        (
            "skio",
            key(),
            json!({}),
            Reply::Json(200, json!({"data": {"Orders": []}})),
            Reply::Json(200, json!({"errors": []})),
            "POST /graphql.skio.com/v1/graphql",
            r#"{"query":"query { Orders(limit: 1) { id } }"}"#,
        ),
        (
            "snipe-it",
            key(),
            json!({"hostname": "acme.snipe-it.io"}),
            Reply::Json(200, json!({"total": 0, "rows": []})),
            Reply::Json(200, json!({"status": "error"})),
            "GET /acme.snipe-it.io/api/v1/users?limit=1",
            "",
        ),
    ] {
        for (reply, good) in [(yes, true), (no, false)] {
            let (result, seen) = check(shipped(name), given.clone(), config.clone(), vec![reply]).await;
            assert_eq!(result.is_ok(), good, "{name}: {result:?}");
            assert_eq!(
                format!("{} {}", seen[0].method, seen[0].target),
                request,
                "{name}"
            );
            assert!(seen[0].body.starts_with(body), "{name}: {}", seen[0].body);
        }
    }
}

#[tokio::test]
async fn a_key_that_fits_no_header_is_refused_before_anything_is_sent() {
    let given = json!({"type": "API_KEY", "apiKey": "planted\nx"});
    let (result, seen) = check(with(json!({"endpoints": ["/one"]})), given, json!({}), vec![]).await;
    let error = result.unwrap_err();
    assert!(matches!(error, VerifyError::Request(_)) && seen.is_empty());
    assert!(!error.to_string().contains("planted"));
}
