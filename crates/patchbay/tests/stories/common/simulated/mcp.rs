//! MCP servers and their authorization server: clients register themselves, PKCE is demanded, tokens are for one
//! resource, refresh tokens rotate.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Seen, Simulated, redirect, refuse};

/// Provider definitions: a server whose clients register when the integration is made, one whose client the operator
/// registered, one that reads metadata documents, and any server.
pub const DEFINITIONS: &str = r"
registers:
  display_name: Registers
  categories: [mcp]
  auth_mode: MCP_OAUTH2
  client_registration: dynamic
  registration_url: BASE/id/register
  registration_params:
    response_types: [code]
    grant_types: [authorization_code, refresh_token]
    contacts: [nobody]
  authorization_url: BASE/id/authorize
  authorization_params:
    resource: BASE/server/mcp
    state: fixed
  authorization_url_skip_encode: [scopes]
  scope_separator: '+'
  default_scopes: ['read:all', 'write:all']
  token_url: BASE/id/token
  token_params:
    resource: BASE/server/mcp
  proxy:
    base_url: BASE/server
  docs: BASE/
given:
  display_name: Given
  categories: [mcp]
  auth_mode: MCP_OAUTH2
  client_registration: static
  authorization_url: BASE/id/authorize
  authorization_params:
    resource: BASE/server/mcp
  token_url: BASE/id/token
  token_params:
    resource: BASE/server/mcp
  proxy:
    base_url: BASE/server
  docs: BASE/
documented:
  display_name: Documented
  categories: [mcp]
  auth_mode: MCP_OAUTH2
  client_registration: cimd
  authorization_url: BASE/id/authorize
  token_url: BASE/id/token
  proxy:
    base_url: BASE/server
  docs: BASE/
any-server:
  display_name: Any server
  categories: [mcp]
  auth_mode: MCP_OAUTH2_GENERIC
  proxy:
    base_url: ${connectionConfig.mcp_server_url}
  docs: BASE/
  connection_config:
    mcp_server_url:
      type: string
      title: Address
      description: The server.
";

/// What it knows.
#[derive(Default)]
pub struct Registry {
    issued: u32,
    /// Clients and their secrets, empty for public ones.
    pub clients: BTreeMap<String, String>,
    /// Whether new clients get a secret.
    pub confidential: bool,
    /// Members of the authorization server's metadata to add or replace; null removes one.
    pub metadata: BTreeMap<String, Value>,
    /// Codes: client, challenge, resource, redirect URI.
    codes: BTreeMap<String, [String; 4]>,
    refresh_tokens: BTreeMap<String, [String; 2]>,
    access_tokens: BTreeMap<String, String>,
}

pub fn answer(simulated: &Simulated, seen: &Seen) -> Response {
    let base = &simulated.base_url;
    match seen.path() {
        "/.well-known/oauth-protected-resource/server/mcp" => axum::Json(json!({
            "resource": format!("{base}/server/mcp"),
            "authorization_servers": [format!("{base}/id")],
            "scopes_supported": ["tools", "offline_access"],
        }))
        .into_response(),
        // RFC 8414's place is empty: OpenID Connect's has it.
        "/.well-known/openid-configuration/id" => metadata(simulated),
        "/id/register" => register(simulated, seen),
        "/id/authorize" => authorize(simulated, seen),
        "/id/token" => token(simulated, seen),
        "/server/mcp/whoami" | "/server/whoami" => whoami(simulated, seen),
        _ => refuse(404, "no such path"),
    }
}

fn metadata(simulated: &Simulated) -> Response {
    let base = &simulated.base_url;
    let mut metadata = json!({
        "issuer": format!("{base}/id"),
        "authorization_endpoint": format!("{base}/id/authorize"),
        "token_endpoint": format!("{base}/id/token"),
        "registration_endpoint": format!("{base}/id/register"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    });
    for (name, value) in &simulated.ledger().mcp.metadata {
        metadata[name] = value.clone();
    }
    axum::Json(metadata).into_response()
}

fn register(simulated: &Simulated, seen: &Seen) -> Response {
    let asked = seen.json();
    let uris = asked["redirect_uris"].as_array().map_or(0, Vec::len);
    if uris != 1 || asked["token_endpoint_auth_method"] != "none" || asked["client_name"].as_str().is_none() {
        return refuse(400, "invalid_client_metadata");
    }
    let mut ledger = simulated.ledger();
    let registry = &mut ledger.mcp;
    registry.issued += 1;
    let id = format!("client-{}", registry.issued);
    let mut body = json!({"client_id": id, "redirect_uris": asked["redirect_uris"]});
    let mut secret = String::new();
    if registry.confidential {
        secret = format!("planted-cs-{}", registry.issued);
        body["client_secret"] = json!(secret);
        body["token_endpoint_auth_method"] = json!("client_secret_post");
    }
    registry.clients.insert(id, secret);
    (StatusCode::CREATED, axum::Json(body)).into_response()
}

fn authorize(simulated: &Simulated, seen: &Seen) -> Response {
    let query = |name: &str| seen.query(name).unwrap_or_default();
    let mut ledger = simulated.ledger();
    let registry = &mut ledger.mcp;
    let (client, redirect_uri) = (query("client_id"), query("redirect_uri"));
    if !registry.clients.contains_key(&client) {
        return refuse(400, "invalid_client");
    }
    if query("response_type") != "code" || query("code_challenge_method") != "S256" {
        return refuse(400, "invalid_request");
    }
    registry.issued += 1;
    let code = format!("code-{}", registry.issued);
    let bound = [
        client,
        query("code_challenge"),
        query("resource"),
        redirect_uri.clone(),
    ];
    registry.codes.insert(code.clone(), bound);
    drop(ledger);
    let issuer = format!("{}/id", simulated.base_url);
    redirect(&format!(
        "{redirect_uri}?code={code}&state={}&iss={issuer}",
        query("state")
    ))
}

fn token(simulated: &Simulated, seen: &Seen) -> Response {
    let field = |name: &str| seen.form(name).unwrap_or_default();
    let mut ledger = simulated.ledger();
    let registry = &mut ledger.mcp;
    let client = field("client_id");
    let right = match registry.clients.get(&client) {
        // A public client sends no secret, not even an empty one.
        Some(secret) if secret.is_empty() => seen.form("client_secret").is_none(),
        Some(secret) => field("client_secret") == *secret,
        None => false,
    };
    if !right {
        return refuse(401, "invalid_client");
    }
    let resource = match field("grant_type").as_str() {
        "authorization_code" => {
            let Some([owner, challenge, resource, uri]) = registry.codes.remove(&field("code")) else {
                return refuse(400, "invalid_grant");
            };
            let verifier = digest(&SHA256, field("code_verifier").as_bytes());
            let proven = BASE64URL_NOPAD.encode(verifier.as_ref()) == challenge;
            if owner != client || !proven || uri != field("redirect_uri") {
                return refuse(400, "invalid_grant");
            }
            resource
        }
        "refresh_token" => match registry.refresh_tokens.remove(&field("refresh_token")) {
            Some([owner, resource]) if owner == client => resource,
            _ => return refuse(400, "invalid_grant"),
        },
        _ => return refuse(400, "unsupported_grant_type"),
    };
    if field("resource") != resource {
        return refuse(400, "invalid_target");
    }
    registry.issued += 1;
    let (access, refresh) = (
        format!("planted-at-{}", registry.issued),
        format!("planted-rt-{}", registry.issued),
    );
    registry.access_tokens.insert(access.clone(), resource.clone());
    registry
        .refresh_tokens
        .insert(refresh.clone(), [client, resource]);
    let body =
        json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600});
    axum::Json(body).into_response()
}

fn whoami(simulated: &Simulated, seen: &Seen) -> Response {
    let token = seen
        .header("authorization")
        .strip_prefix("Bearer ")
        .unwrap_or_default();
    match simulated.ledger().mcp.access_tokens.get(token) {
        Some(resource) => axum::Json(json!({"resource": resource})).into_response(),
        None => refuse(401, "no such token"),
    }
}
