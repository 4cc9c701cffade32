//! OAuth 1.0a (RFC 5849), server side.

use std::collections::{BTreeMap, HashSet};

use aws_lc_rs::hmac;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;

use super::{Seen, Simulated, redirect, refuse};

pub const KEY: &str = "consumer-1";
pub const SECRET: &str = "consumer secret & more";

/// Provider definitions: one a signature method, and one whose endpoints have moved.
pub const DEFINITIONS: &str = r"
signed:
  display_name: Signed
  categories: [other]
  auth_mode: OAUTH1
  request_url: BASE/oauth1/request
  request_params:
    tenant: ${connectionConfig.tenant}
  authorization_url: BASE/oauth1/authorize
  authorization_params:
    expiration: never
  token_url: BASE/oauth1/access
  scope_separator: ','
  redirect_uri_metadata: [account]
  signature_method: HMAC-SHA1
  proxy:
    base_url: BASE/oauth1/api
  docs: BASE/
  connection_config:
    tenant:
      type: string
      title: Tenant
      description: The tenant.
      pattern: '^[a-z]+$'
plain:
  display_name: Plain
  categories: [other]
  auth_mode: OAUTH1
  request_url: BASE/oauth1/moved/request
  authorization_url: BASE/oauth1/authorize
  token_url: BASE/oauth1/moved/access
  token_http_method: GET
  signature_method: PLAINTEXT
  proxy:
    base_url: BASE/oauth1/api
  docs: BASE/
";

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Tokens and their secrets.
#[derive(Default)]
pub struct Tokens {
    issued: u32,
    /// Temporary tokens: secret and callback.
    temporary: BTreeMap<String, (String, String)>,
    verifiers: BTreeMap<String, String>,
    granted: BTreeMap<String, String>,
    nonces: HashSet<String>,
}

pub fn answer(simulated: &Simulated, seen: &Seen) -> Response {
    match seen.path() {
        "/oauth1/moved/request" => moved("/oauth1/request"),
        "/oauth1/moved/access" => moved("/oauth1/access"),
        "/oauth1/request" => request_token(simulated, seen),
        "/oauth1/authorize" => authorize(simulated, seen),
        "/oauth1/access" => access_token(simulated, seen),
        "/oauth1/api/whoami" => whoami(simulated, seen),
        _ => refuse(404, "no such path"),
    }
}

fn moved(target: &str) -> Response {
    (StatusCode::MOVED_PERMANENTLY, [("location", target.to_owned())]).into_response()
}

fn request_token(simulated: &Simulated, seen: &Seen) -> Response {
    let header = match verified(simulated, seen, |_, _| Some(String::new())) {
        Ok(header) => header,
        Err(response) => return *response,
    };
    let Some(callback) = header.get("oauth_callback").cloned() else {
        return refuse(400, "oauth_callback is missing");
    };
    let mut ledger = simulated.ledger();
    let tokens = &mut ledger.oauth1;
    tokens.issued += 1;
    let (token, secret) = (
        format!("temporary-{}", tokens.issued),
        format!("planted-ts-{}", tokens.issued),
    );
    let body = format!("oauth_token={token}&oauth_token_secret={secret}&oauth_callback_confirmed=true");
    tokens.temporary.insert(token, (secret, callback));
    // As text, the way older providers label it.
    ([("content-type", "text/plain")], body).into_response()
}

fn authorize(simulated: &Simulated, seen: &Seen) -> Response {
    let mut ledger = simulated.ledger();
    let token = seen.query("oauth_token").unwrap_or_default();
    let Some((_, callback)) = ledger.oauth1.temporary.get(&token).cloned() else {
        return refuse(400, "no such token");
    };
    let verifier = format!("verifier-of-{token}");
    ledger.oauth1.verifiers.insert(token.clone(), verifier.clone());
    redirect(&format!(
        "{callback}&oauth_token={token}&oauth_verifier={verifier}&account=a%201"
    ))
}

fn access_token(simulated: &Simulated, seen: &Seen) -> Response {
    let secret_of = |tokens: &Tokens, token: &str| tokens.temporary.get(token).map(|(s, _)| s.clone());
    let header = match verified(simulated, seen, secret_of) {
        Ok(header) => header,
        Err(response) => return *response,
    };
    let mut ledger = simulated.ledger();
    let tokens = &mut ledger.oauth1;
    let token = header.get("oauth_token").cloned().unwrap_or_default();
    if tokens.verifiers.remove(&token).as_ref() != header.get("oauth_verifier") {
        return refuse(401, "wrong verifier");
    }
    tokens.temporary.remove(&token);
    tokens.issued += 1;
    let (token, secret) = (
        format!("granted-{}", tokens.issued),
        format!("planted-gs-{}", tokens.issued),
    );
    let body = format!("oauth_token={token}&oauth_token_secret={secret}&user_id=7\n");
    tokens.granted.insert(token, secret);
    ([("content-type", "text/html")], body).into_response()
}

fn whoami(simulated: &Simulated, seen: &Seen) -> Response {
    let secret_of = |tokens: &Tokens, token: &str| tokens.granted.get(token).cloned();
    match verified(simulated, seen, secret_of) {
        Ok(header) => axum::Json(json!({"token": header["oauth_token"]})).into_response(),
        Err(response) => *response,
    }
}

/// The header's parameters, if the signature holds and the nonce is new.
fn verified(
    simulated: &Simulated,
    seen: &Seen,
    secret_of: impl Fn(&Tokens, &str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Box<Response>> {
    let no = |words: &str| Box::new(refuse(401, words));
    let header = seen.header("authorization");
    let list = header
        .strip_prefix("OAuth ")
        .ok_or_else(|| no("no OAuth header"))?;
    let mut params = BTreeMap::new();
    for pair in list.split(',') {
        let (name, value) = pair
            .trim()
            .split_once('=')
            .ok_or_else(|| no("a parameter without value"))?;
        let value = percent_decode_str(value.trim_matches('"')).decode_utf8_lossy();
        params.insert(name.to_owned(), value.into_owned());
    }
    let mut ledger = simulated.ledger();
    let tokens = &mut ledger.oauth1;
    if !tokens
        .nonces
        .insert(params.get("oauth_nonce").cloned().unwrap_or_default())
    {
        return Err(no("the nonce was used before"));
    }
    let token = params.get("oauth_token").map_or("", String::as_str);
    let token_secret = secret_of(tokens, token).ok_or_else(|| no("no such token"))?;
    let key = format!("{}&{}", encode(SECRET), encode(&token_secret));
    let expected = match params.get("oauth_signature_method").map(String::as_str) {
        Some("PLAINTEXT") => key,
        Some("HMAC-SHA1") => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
            BASE64.encode(hmac::sign(&key, base_string(simulated, seen, &params).as_bytes()).as_ref())
        }
        _ => return Err(no("unknown signature method")),
    };
    let right = params.get("oauth_consumer_key").map(String::as_str) == Some(KEY)
        && params.get("oauth_signature") == Some(&expected);
    right.then_some(params).ok_or_else(|| no("wrong signature"))
}

fn base_string(simulated: &Simulated, seen: &Seen, header: &BTreeMap<String, String>) -> String {
    let mut all: Vec<(String, String)> = header
        .iter()
        .filter(|(name, _)| *name != "oauth_signature" && *name != "realm")
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    let form = seen.header("content-type") == "application/x-www-form-urlencoded";
    let parts = [
        seen.uri.query().unwrap_or_default().as_bytes(),
        if form { &seen.body[..] } else { b"" },
    ];
    for part in parts {
        let pairs = url::form_urlencoded::parse(part);
        all.extend(pairs.map(|(name, value)| (encode(&name), encode(&value))));
    }
    all.sort();
    let joined: Vec<String> = all
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let address = format!("{}{}", simulated.base_url, seen.path());
    format!(
        "{}&{}&{}",
        seen.method,
        encode(&address),
        encode(&joined.join("&"))
    )
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}
