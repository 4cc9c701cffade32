//! A host of apps: installed from a page of its own, asked for tokens with the app's JWT; with a user's consent beside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use axum::response::{IntoResponse, Response};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Seen, Simulated, redirect, refuse};

pub const APP_ID: &str = "4711";
pub const CLIENT: &str = "Iv1.client";
pub const SECRET: &str = "planted-hub-secret";
pub const LOGIN: &str = "octo";

/// Provider definitions: an app, and an app with user access.
pub const DEFINITIONS: &str = r"
hub-app:
  display_name: Hub App
  categories: [other]
  auth_mode: APP
  authorization_url: ${connectionConfig.appPublicLink}/installations/new
  authorization_url_skip_encode: [base_url]
  token_url: BASE/github/app/installations/${connectionConfig.installation_id}/access_tokens
  webhook_routing_script: githubAppWebhookRouting
  proxy:
    base_url: BASE/github/api
  docs: BASE/
  connection_config:
    appPublicLink:
      type: string
      title: Link
      description: The page.
      automated: true
    installation_id:
      type: string
      title: Installation
      description: The installation.
      automated: true
hub-app-oauth:
  display_name: Hub App with users
  categories: [other]
  auth_mode: CUSTOM
  authorization_url: ${connectionConfig.appPublicLink}/installations/new
  authorization_url_skip_encode: [base_url]
  token_url:
    OAUTH2: BASE/github/login/oauth/access_token
    APP: BASE/github/app/installations/${connectionConfig.installation_id}/access_tokens
  webhook_routing_script: githubAppOauthWebhookRouting
  proxy:
    base_url: BASE/github/api
  docs: BASE/
  connection_config:
    appPublicLink:
      type: string
      title: Link
      description: The page.
      automated: true
    installation_id:
      type: string
      title: Installation
      description: The installation.
      automated: true
";

/// What it knows.
#[derive(Default)]
pub struct Hub {
    /// Where a browser is sent after the installation, without query.
    pub setup_url: String,
    /// What is added to that query: `code=…` excepted, which comes by itself if `with_code`.
    pub answer: String,
    pub with_code: bool,
    pub installed: BTreeSet<String>,
    issued: u32,
    app_tokens: BTreeMap<String, String>,
    codes: BTreeSet<String>,
    user_tokens: BTreeSet<String>,
    refresh_tokens: BTreeSet<String>,
}

/// The app's key pair, and its private half as PEM.
pub fn key() -> &'static (RsaKeyPair, String) {
    static KEY: OnceLock<(RsaKeyPair, String)> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = BASE64.encode(key.as_der().unwrap().as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----");
        (key, pem)
    })
}

/// `x-hub-signature-256` of a webhook, the secret being what the app's id, key and page make.
pub fn signature(link: &str, body: &[u8]) -> String {
    let text = format!("{APP_ID}{}{link}", key().1);
    let secret =
        HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref());
    let mac = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("sha256={}", HEXLOWER.encode(hmac::sign(&mac, body).as_ref()))
}

pub fn answer(simulated: &Simulated, seen: &Seen) -> Response {
    let path = seen.path();
    if let Some(id) = path
        .strip_prefix("/github/app/installations/")
        .and_then(|rest| rest.strip_suffix("/access_tokens"))
    {
        return mint(simulated, seen, id);
    }
    match path {
        "/github/apps/x/installations/new" => install(simulated, seen),
        "/github/login/oauth/access_token" => user_token(simulated, seen),
        "/github/api/user" => user(simulated, seen),
        "/github/api/whoami" => whoami(simulated, seen),
        _ => refuse(404, "no such path"),
    }
}

fn install(simulated: &Simulated, seen: &Seen) -> Response {
    let mut ledger = simulated.ledger();
    let hub = &mut ledger.github;
    let mut target = format!("{}?{}", hub.setup_url, hub.answer);
    if hub.with_code {
        hub.issued += 1;
        let code = format!("code-{}", hub.issued);
        target = format!("{target}&code={code}");
        hub.codes.insert(code);
    }
    redirect(&format!(
        "{target}&state={}",
        seen.query("state").unwrap_or_default()
    ))
}

fn mint(simulated: &Simulated, seen: &Seen, installation: &str) -> Response {
    if let Err(words) = check_jwt(simulated, seen) {
        return refuse(401, words);
    }
    let mut ledger = simulated.ledger();
    let hub = &mut ledger.github;
    if !hub.installed.contains(installation) {
        return (StatusCode::NOT_FOUND, axum::Json(json!({"message": "Not Found"}))).into_response();
    }
    hub.issued += 1;
    let token = format!("planted-app-{}", hub.issued);
    hub.app_tokens.insert(token.clone(), installation.to_owned());
    let end = simulated.now().checked_add(Duration::from_hours(1)).unwrap();
    let body = json!({"token": token, "expires_at": end.to_string(), "permissions": {"issues": "read"}});
    (StatusCode::CREATED, axum::Json(body)).into_response()
}

fn check_jwt(simulated: &Simulated, seen: &Seen) -> Result<(), &'static str> {
    let jwt = seen
        .header("authorization")
        .strip_prefix("Bearer ")
        .ok_or("no JWT")?;
    let parts: Vec<&str> = jwt.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err("not three parts");
    };
    let decode = |part: &str| {
        BASE64URL_NOPAD
            .decode(part.as_bytes())
            .map_err(|_| "not base64url")
    };
    let signature = decode(signature)?;
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key().0.public_key().as_ref());
    let signed = format!("{header}.{payload}");
    public
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| "wrong signature")?;
    let claims: Value = serde_json::from_slice(&decode(payload)?).map_err(|_| "no claims")?;
    let now = simulated.now().as_second();
    let (issued, end) = (
        claims["iat"].as_i64().ok_or("no iat")?,
        claims["exp"].as_i64().ok_or("no exp")?,
    );
    let timely = issued <= now && now < end && end - now <= 600;
    (timely && claims["iss"] == APP_ID)
        .then_some(())
        .ok_or("wrong time or issuer")
}

fn user_token(simulated: &Simulated, seen: &Seen) -> Response {
    let field = |name: &str| seen.form(name).unwrap_or_default();
    if field("client_id") != CLIENT || field("client_secret") != SECRET {
        return refuse(401, "invalid_client");
    }
    let mut ledger = simulated.ledger();
    let hub = &mut ledger.github;
    let right = match field("grant_type").as_str() {
        "authorization_code" => hub.codes.remove(&field("code")),
        "refresh_token" => hub.refresh_tokens.remove(&field("refresh_token")),
        _ => false,
    };
    if !right {
        return refuse(400, "invalid_grant");
    }
    hub.issued += 1;
    let (token, refresh) = (
        format!("planted-user-{}", hub.issued),
        format!("planted-refresh-{}", hub.issued),
    );
    hub.user_tokens.insert(token.clone());
    hub.refresh_tokens.insert(refresh.clone());
    axum::Json(json!({"access_token": token, "refresh_token": refresh, "expires_in": 28800})).into_response()
}

fn user(simulated: &Simulated, seen: &Seen) -> Response {
    let token = seen
        .header("authorization")
        .strip_prefix("Bearer ")
        .unwrap_or_default();
    if simulated.ledger().github.user_tokens.contains(token) {
        axum::Json(json!({"login": LOGIN})).into_response()
    } else {
        refuse(403, "a user's token is needed")
    }
}

fn whoami(simulated: &Simulated, seen: &Seen) -> Response {
    let token = seen
        .header("authorization")
        .strip_prefix("Bearer ")
        .unwrap_or_default();
    match simulated.ledger().github.app_tokens.get(token) {
        Some(installation) => axum::Json(json!({"installation": installation})).into_response(),
        None => refuse(401, "no such token"),
    }
}
