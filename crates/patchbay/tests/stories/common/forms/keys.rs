//! Keys, passwords, and nothing at all (API_KEY, BASIC, NONE).

use axum::response::Response;
use data_encoding::BASE64;
use serde_json::json;

use super::{Seen, ok, refuse};

pub const DEFINITION: &str = r"
form-key:
    display_name: Locks
    categories: [crm]
    auth_mode: API_KEY
    docs: https://docs.example.com
    proxy:
        base_url: BASE/keys/${connectionConfig.site}
        headers:
            x-key: ${apiKey}
        verification:
            method: GET
            endpoints: [/abandoned/me, /me]
    connection_config:
        site:
            type: string
            title: Site
            description: Yours.
            pattern: '^[a-z]+$'
    credentials:
        apiKey:
            type: string
            title: Key
            description: Yours.
            pattern: '^planted-'
            secret: true
form-basic:
    display_name: Locks
    categories: [crm]
    auth_mode: BASIC
    docs: https://docs.example.com
    proxy:
        base_url: BASE/keys/basic
        verification:
            method: GET
            endpoints: [/me]
form-none:
    display_name: Locks
    categories: [crm]
    auth_mode: NONE
    docs: https://docs.example.com
    proxy:
        base_url: BASE/keys/open
";

/// A key longer than the reference takes: JSON Web Tokens are.
pub fn key() -> String {
    format!("planted-{}", "k".repeat(2000))
}

pub fn answer(seen: &Seen) -> Response {
    let mut parts = seen.path().split('/').skip(2);
    let who = parts.next().unwrap_or_default();
    if parts.next() == Some("abandoned") {
        return refuse(401, "ask elsewhere");
    }
    let good = match who {
        "acme" => seen.header("x-key") == key() && seen.header("authorization").is_empty(),
        "basic" => {
            seen.header("authorization")
                == format!("Basic {}", BASE64.encode("ada:planted-pass:w\u{f6}rd".as_bytes()))
        }
        "open" => seen.header("authorization").is_empty(),
        _ => false,
    };
    if good {
        ok(&json!({"who": who}))
    } else {
        refuse(401, "no")
    }
}
