//! A provider whose apps are installed from its own side: the code comes by webhook.

use aws_lc_rs::hmac;
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use serde_json::json;

use super::{Seen, Simulated, refuse};

pub const CLIENT: &str = "integration-1";
pub const SECRET: &str = "planted-sentry-secret";

pub const DEFINITIONS: &str = r"
outbound:
  display_name: Outbound
  categories: [other]
  auth_mode: OAUTH2
  installation: outbound
  authorization_code_param_in_webhook: data.installation.code
  webhook_response_metadata: [installation.uuid]
  token_url: BASE/sentry/installations/${connectionConfig.installation.uuid}/authorizations
  webhook_routing_script: sentryOauthWebhookRouting
  proxy:
    base_url: BASE/sentry/api
  docs: BASE/
  connection_config:
    actor:
      type: string
      title: User
      description: Who installs.
      pattern: '^\d+$'
    installation.uuid:
      type: string
      title: Installation
      description: What was installed.
      automated: true
";

pub fn signature(body: &[u8]) -> String {
    let mac = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    HEXLOWER.encode(hmac::sign(&mac, body).as_ref())
}

pub fn answer(_simulated: &Simulated, seen: &Seen) -> Response {
    let field = |name: &str| seen.form(name).unwrap_or_default();
    match seen.path() {
        "/sentry/installations/u-1/authorizations" => {
            if field("client_id") != CLIENT || field("client_secret") != SECRET {
                return refuse(401, "invalid_client");
            }
            let n = match field("grant_type").as_str() {
                "authorization_code" if field("code") == "c-1" => 1,
                "refresh_token" if field("refresh_token") == "planted-sr-1" => 2,
                _ => return refuse(400, "invalid_grant"),
            };
            let body = json!({
                "access_token": format!("planted-sa-{n}"), "refresh_token": format!("planted-sr-{n}"), "expires_in": 3600,
            });
            axum::Json(body).into_response()
        }
        "/sentry/api/whoami" if seen.header("authorization").starts_with("Bearer planted-sa-") => {
            axum::Json(json!({"ok": true})).into_response()
        }
        _ => refuse(404, "no such path"),
    }
}
