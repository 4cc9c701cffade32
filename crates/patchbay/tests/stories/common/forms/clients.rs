//! Tokens for an OAuth client of the customer's own, asked for in unusual ways (OAUTH2_CC).

use axum::response::Response;
use serde_json::json;

use super::{Office, Seen, ok, refuse};

pub const DEFINITION: &str = r"
form-cc-query:
    display_name: Clients
    categories: [crm]
    auth_mode: OAUTH2_CC
    token_url: BASE/clients/query?v=1
    token_request_auth_method: custom
    body_format: query
    expires_in_unit: milliseconds
    token_params: {grant_type: client_credentials}
    docs: https://docs.example.com
    proxy:
        base_url: BASE/clients/api
    credentials:
        client_id: {type: string, title: Client, description: Yours.}
        client_secret: {type: string, title: Secret, description: Yours., secret: true}
form-cc-json:
    display_name: Clients
    categories: [crm]
    auth_mode: OAUTH2_CC
    token_url: BASE/clients/json
    token_request_auth_method: basic
    body_format: json
    token_params: {grant_type: client_credentials}
    token_response_metadata: [tenant.id]
    docs: https://docs.example.com
    proxy:
        base_url: BASE/clients/api
    credentials:
        client_id: {type: string, title: Client, description: Yours.}
        client_secret: {type: string, title: Secret, description: Yours., secret: true}
";

pub fn answer(office: &Office, seen: &Seen) -> Response {
    let issue = || {
        let token = format!("planted-client-token-{}", office.kept("clients").len() + 1);
        office.keep("clients", &token);
        token
    };
    match seen.path() {
        "/clients/query" => {
            let wanted = "v=1&username=ada&password=planted-client&grant_type=client_credentials";
            if seen.query() != wanted || !seen.body.is_empty() {
                return refuse(401, "invalid_client");
            }
            ok(&json!({"access_token": issue(), "expires_in": 3_600_000}))
        }
        "/clients/json" => {
            let basic = format!("Basic {}", data_encoding::BASE64.encode(b"ada:planted-client"));
            if seen.header("authorization") != basic
                || seen.text() != r#"{"grant_type":"client_credentials"}"#
            {
                return refuse(401, "invalid_client");
            }
            ok(&json!({"data": {"token": issue()}, "tenant": {"id": 7}}))
        }
        _ if seen.header("authorization") == format!("Bearer {}", office.newest("clients")) => ok(&json!({})),
        _ => refuse(401, "no token"),
    }
}
