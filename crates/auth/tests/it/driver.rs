//! The cores over a real socket.

use std::collections::BTreeMap;
use std::time::Duration;

use patchbay_ambient::Ambient;
use patchbay_auth::driver::{
    self, ExchangeError, ExchangeInput, Exchanged, MintInput, RenewError, RenewInput, Renewal,
};
use patchbay_outbound::{Client, Error, Phase, Policy, PrivateNetworks, Settings};
use patchbay_types::connections::RefreshCause;
use patchbay_types::{Credentials, JsonMap, Secret};
use serde_json::{Value, json};

use crate::support::{Reply, Upstream, ambient, client, credentials, provider, secrets};

fn definition(origin: &str) -> std::sync::Arc<patchbay_catalog::Provider> {
    provider(
        "acme",
        json!({"auth_mode": "OAUTH2", "authorization_url": format!("{origin}/authorize"), "token_url": format!("{origin}/token")}),
    )
}

async fn exchange(origin: &str, client: &Client, ambient: &Ambient) -> Result<Exchanged, ExchangeError> {
    let provider = definition(origin);
    let (secrets, config, overrides) = (secrets(), JsonMap::new(), BTreeMap::new());
    let input = ExchangeInput {
        definition: &provider.definition,
        secrets: &secrets,
        connection_config: &config,
        client_override: &overrides,
        code: "planted-code",
        code_verifier: None,
        state: "the-state",
        callback_url: "https://connect.example.com/oauth/callback",
    };
    driver::exchange_code(client, &input, ambient).await
}

fn stored() -> Credentials {
    credentials(json!({"type": "OAUTH2", "access_token": "a", "refresh_token": "planted-refresh", "raw": {}}))
}

async fn renew(origin: &str, client: &Client, ambient: &Ambient) -> Result<Renewal, RenewError> {
    let provider = definition(origin);
    let (secrets, config, stored) = (secrets(), JsonMap::new(), stored());
    let input = RenewInput {
        definition: &provider.definition,
        secrets: &secrets,
        credentials: &stored,
        connection_config: &config,
        callback_url: "https://connect.example.com/oauth/callback",
    };
    driver::renew(client, &input, ambient).await
}

#[tokio::test]
async fn a_code_becomes_credentials() {
    let ambient = ambient();
    let upstream = Upstream::start(
        &ambient,
        vec![Reply::Json(200, json!({"access_token": "a", "expires_in": 60}))],
    )
    .await;
    let exchanged = exchange(&upstream.origin, &client(&ambient), &ambient)
        .await
        .unwrap();
    assert_eq!(
        exchanged.credentials.to_json()["expires_at"],
        "2026-01-02T03:05:05.678Z"
    );
    let seen = &upstream.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/token"));
    assert_eq!(seen.header("user-agent"), Some("Patchbay"));
    assert!(seen.body.contains("code=planted-code"));
}

#[tokio::test]
async fn each_outcome_of_a_renewal_is_told_apart() {
    let ambient = ambient();
    let busy = vec![("retry-after", "7"), ("content-type", "application/json")];
    let upstream = Upstream::start(
        &ambient,
        vec![
            Reply::Json(200, json!({"access_token": "b", "refresh_token": "next"})),
            Reply::Json(400, json!({"error": "invalid_grant"})),
            Reply::Json(500, json!({"error": "invalid_grant"})),
            Reply::With(429, busy, "{}".to_owned()),
            Reply::With(200, vec![("content-type", "text/html")], "<html>".to_owned()),
        ],
    )
    .await;
    let client = client(&ambient);
    let renewed = renew(&upstream.origin, &client, &ambient).await.unwrap();
    assert_eq!(renewed.credentials.to_json()["refresh_token"], "next");
    for (cause, unknown, wait) in [
        (RefreshCause::ProviderRefused, false, None),
        (RefreshCause::ProviderDown, false, None),
        (RefreshCause::ProviderDown, false, Some(Duration::from_secs(7))),
        (RefreshCause::ProviderDown, true, None),
    ] {
        let error = renew(&upstream.origin, &client, &ambient).await.unwrap_err();
        assert_eq!(
            (error.cause(), error.outcome_unknown(), error.retry_after()),
            (cause, unknown, wait),
            "{error}"
        );
    }
    // Each was asked exactly once.
    assert_eq!(upstream.seen().len(), 5);
}

#[tokio::test]
async fn nobody_home_and_forbidden_addresses_have_different_owners() {
    let ambient = ambient();
    let vacant = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let error = renew(&vacant, &client(&ambient), &ambient).await.unwrap_err();
    assert_eq!(
        (error.cause(), error.outcome_unknown()),
        (RefreshCause::ProviderDown, false)
    );

    let upstream = Upstream::start(&ambient, vec![]).await;
    let strict = Client::new(
        Policy::oauth(&PrivateNetworks::Deny),
        Settings::new("strict"),
        ambient.clock.clone(),
    );
    let error = renew(&upstream.origin, &strict, &ambient).await.unwrap_err();
    assert_eq!(
        (error.cause(), error.outcome_unknown()),
        (RefreshCause::Ours, false)
    );
    let error = exchange(&upstream.origin, &strict, &ambient).await.unwrap_err();
    assert!(matches!(error, ExchangeError::NoAnswer(_)), "{error}");
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_timeout_is_the_providers_and_leaves_a_doubt_once_the_request_was_sent() {
    for (phase, unknown) in [
        (Phase::Connect, false),
        (Phase::Response, true),
        (Phase::Total, true),
    ] {
        let timeout = Error::Timeout {
            target: "id.example.com:443".to_owned(),
            phase,
            after: driver::TIMEOUT,
        };
        let error = RenewError::from(timeout);
        assert_eq!(
            (error.cause(), error.outcome_unknown()),
            (RefreshCause::ProviderDown, unknown),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_client_is_minted_and_bad_material_is_named() {
    let ambient = ambient();
    let upstream = Upstream::start(&ambient, vec![Reply::Json(200, json!({"access_token": "t"}))]).await;
    let entry = provider(
        "acme",
        json!({"auth_mode": "OAUTH2_CC", "token_url": format!("{}/token", upstream.origin),
        "credentials": {"client_id": {"type": "string", "title": "", "description": ""}},
        "token_params": {"grant_type": "client_credentials"}, "token_request_auth_method": "basic"}),
    );
    let (secrets, config, params) = (secrets(), JsonMap::new(), BTreeMap::new());
    let (secret, junk) = (Secret::new("s"), Secret::new("planted-junk"));
    let mut input = MintInput {
        definition: &entry.definition,
        secrets: &secrets,
        connection_config: &config,
        authorization_params: &params,
        client_id: "i",
        client_secret: Some(&secret),
        client_certificate: None,
        client_private_key: None,
    };
    let minted = driver::mint_client_credentials(&client(&ambient), &input, &ambient)
        .await
        .unwrap();
    assert_eq!(minted.credentials.to_json()["token"], "t");
    let seen = &upstream.seen()[0];
    assert_eq!(
        (seen.header("authorization"), seen.body.as_str()),
        (
            Some("Basic aTpz"),
            "grant_type=client_credentials&scope=read+write"
        )
    );

    input.client_certificate = Some(&junk);
    input.client_private_key = Some(&junk);
    let error = driver::mint_client_credentials(&client(&ambient), &input, &ambient)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "invalid_certificate_or_key_format");
    assert!(!format!("{error} {error:?}").contains("planted"));
}

#[tokio::test]
async fn a_redirect_to_another_origin_gets_no_body() {
    let ambient = ambient();
    let thief = Upstream::start(&ambient, vec![Reply::Json(200, json!({"access_token": "x"}))]).await;
    let location: &'static str = Box::leak(format!("{}/steal", thief.origin).into_boxed_str());
    let upstream = Upstream::start(
        &ambient,
        vec![Reply::With(307, vec![("location", location)], String::new())],
    )
    .await;
    assert!(
        renew(&upstream.origin, &client(&ambient), &ambient)
            .await
            .is_err()
    );
    assert!(
        thief
            .seen()
            .iter()
            .all(|seen| seen.body.is_empty() && seen.header("authorization").is_none())
    );
}

#[tokio::test]
async fn a_refreshed_answer_is_the_stored_answer() {
    let ambient = ambient();
    let upstream = Upstream::start(
        &ambient,
        vec![Reply::Json(
            200,
            json!({"access_token": "b", "x": [1, {"y": null}]}),
        )],
    )
    .await;
    let renewed = renew(&upstream.origin, &client(&ambient), &ambient)
        .await
        .unwrap();
    assert_eq!(
        Value::Object(renewed.credentials.to_json()),
        json!({"type": "OAUTH2", "access_token": "b", "refresh_token": "planted-refresh", "raw": {"access_token": "b", "x": [1, {"y": null}]}})
    );
}
