//! A plugin host: an end user installs the operator's plugin, whose one pair of credentials then works.

use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use serde_json::json;

use super::{Seen, Simulated, redirect, refuse};

pub const USER: &str = "plugin-id";
pub const PASSWORD: &str = "planted-plugin-key";

pub const DEFINITIONS: &str = r"
plugin:
  display_name: Plugin
  categories: [other]
  auth_mode: INSTALL_PLUGIN
  auth_type: BASIC
  redirect_uri_metadata: [website_id]
  proxy:
    base_url: BASE/plugin/api
    verification:
      method: GET
      endpoints: [/whoami]
  docs: BASE/
";

pub fn answer(_simulated: &Simulated, seen: &Seen) -> Response {
    match seen.path() {
        "/plugin/install" => {
            let back = seen.query("back").unwrap_or_default();
            let state = seen.query("payload").unwrap_or_default();
            redirect(&format!("{back}/oauth/callback?website_id=w1&payload={state}"))
        }
        "/plugin/api/whoami" => {
            let right = format!("Basic {}", BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes()));
            if seen.header("authorization") == right {
                axum::Json(json!({"plugin": USER})).into_response()
            } else {
                refuse(401, "wrong key")
            }
        }
        _ => refuse(404, "no such path"),
    }
}
