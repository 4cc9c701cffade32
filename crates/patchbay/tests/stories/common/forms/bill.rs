//! A login with four fields that gives a session (BILL).

use axum::response::Response;
use serde_json::json;

use super::{Office, Seen, ok, refuse};

pub const DEFINITION: &str = r"
form-bill:
    display_name: Ledger
    categories: [accounting]
    auth_mode: BILL
    token_url: BASE/bill/login
    docs: https://docs.example.com
    proxy:
        base_url: BASE/bill/api
        headers:
            devkey: ${credentials.dev_key}
            sessionid: ${credentials.session_id}
";

pub fn answer(office: &Office, seen: &Seen) -> Response {
    if seen.path() == "/bill/login" {
        if let Some(failure) = office.failure("bill") {
            return failure;
        }
        let login = seen.fields();
        let wanted = json!({"username": "ada", "password": "planted-bill", "organizationId": "00801", "devKey": "planted-dev"});
        if login != wanted {
            return refuse(401, "BDC_1102");
        }
        let session = format!("planted-session-{}", office.kept("bill").len() + 1);
        office.keep("bill", &session);
        return ok(&json!({"sessionId": session, "organizationId": "00801-main", "userId": "006"}));
    }
    if seen.header("devkey") != "planted-dev" || seen.header("sessionid") != office.newest("bill") {
        return refuse(401, "no session");
    }
    ok(&json!({"vendors": []}))
}
