//! Every request carries a fresh WS-Security user name token (SIGNATURE).

use aws_lc_rs::digest;
use axum::response::Response;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::json;

use super::{Office, Seen, ok, refuse};

pub const DEFINITION: &str = r"
form-wsse:
    display_name: Mailer
    categories: [marketing]
    auth_mode: SIGNATURE
    signature:
        protocol: WSSE
    token:
        expires_in_ms: 300000
    docs: https://docs.example.com
    proxy:
        base_url: BASE/wsse
        headers:
            x-wsse: ${accessToken}
        verification:
            method: GET
            endpoints: [/settings]
    credentials:
        username:
            type: string
            title: User
            description: The API user.
            pattern: '^[a-z0-9]+$'
        password:
            type: string
            title: Secret
            description: Its secret.
            secret: true
form-wsse-faulty:
    display_name: Mailer
    categories: [marketing]
    auth_mode: SIGNATURE
    token:
        expires_in_ms: 300000
    docs: https://docs.example.com
    proxy:
        base_url: BASE/wsse
    credentials:
        username:
            type: string
            title: User
            description: The API user.
";

pub fn answer(office: &Office, seen: &Seen) -> Response {
    let token = seen.header("x-wsse");
    let part = |name: &str| {
        let rest = token
            .split_once(&format!("{name}=\""))
            .map_or("", |(_, rest)| rest);
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let (nonce, created) = (part("Nonce"), part("Created"));
    if office.kept("wsse").contains(&nonce) {
        return refuse(401, "this nonce was used before");
    }
    office.keep("wsse", &nonce);
    let now = patchbay_ambient::Clock::now(&office.clock);
    let age = created
        .parse::<jiff::Timestamp>()
        .map(|at| now.duration_since(at).as_secs());
    let text = format!("{nonce}{created}planted-wsse");
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let expected = BASE64.encode(HEXLOWER.encode(sha1.as_ref()).as_bytes());
    let good = token.starts_with("UsernameToken Username=\"acme001\"")
        && part("PasswordDigest") == expected
        && age.is_ok_and(|age| age.abs() < 300);
    if good {
        ok(&json!({"settings": {}}))
    } else {
        refuse(401, "bad token")
    }
}
