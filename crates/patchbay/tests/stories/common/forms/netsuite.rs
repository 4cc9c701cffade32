//! Requests signed with OAuth 1 and HMAC-SHA256 (TBA).

use aws_lc_rs::hmac;
use axum::response::Response;
use data_encoding::BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;

use super::{Office, Seen, ok, refuse};

pub const DEFINITION: &str = r"
form-tba:
    display_name: Suite
    categories: [erp]
    auth_mode: TBA
    docs: https://docs.example.com
    proxy:
        base_url: BASE/netsuite
        verification:
            method: GET
            endpoints: ['/record?limit=1&q=a b']
    connection_config:
        accountId:
            type: string
            title: Account
            description: Your account.
            pattern: '^[A-Za-z0-9-]+$'
";

/// Consumers and their secrets: the integration's, and one of a connection's own.
const CONSUMERS: [(&str, &str); 2] = [("operator", "planted-operator"), ("own", "planted-own")];

pub fn answer(office: &Office, seen: &Seen) -> Response {
    let header = seen.header("authorization");
    let Some(list) = header.strip_prefix("OAuth ") else {
        return refuse(401, "not signed");
    };
    let mut params = Vec::new();
    let mut signature = String::new();
    let mut realm = String::new();
    for pair in list.split(',') {
        let (name, value) = pair.trim().split_once('=').unwrap();
        let value = percent_decode_str(value.trim_matches('"'))
            .decode_utf8()
            .unwrap()
            .into_owned();
        match name {
            "realm" => realm = value,
            "oauth_signature" => signature = value,
            name => params.push((name.to_owned(), value)),
        }
    }
    let param = |name: &str| {
        let found = params.iter().find(|(known, _)| known == name);
        found.map_or(String::new(), |(_, value)| value.clone())
    };
    let Some((_, secret)) = CONSUMERS
        .iter()
        .find(|(key, _)| *key == param("oauth_consumer_key"))
    else {
        return refuse(401, "unknown consumer");
    };
    let stamp = format!("{} {}", param("oauth_timestamp"), param("oauth_nonce"));
    if office.kept("netsuite").contains(&stamp) {
        return refuse(401, "used before");
    }
    office.keep("netsuite", stamp);
    let mut all: Vec<(String, String)> = params
        .iter()
        .cloned()
        .chain(url::form_urlencoded::parse(seen.query().as_bytes()).into_owned())
        .map(|(name, value)| (encoded(&name), encoded(&value)))
        .collect();
    all.sort();
    let all: Vec<String> = all
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let url = format!("http://{}{}", seen.header("host"), seen.path());
    let base = format!("{}&{}&{}", seen.method, encoded(&url), encoded(&all.join("&")));
    let key = format!("{}&{}", encoded(secret), encoded("planted-token-secret"));
    let mac = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
        base.as_bytes(),
    );
    let good = realm == "1234567_SB1"
        && param("oauth_signature_method") == "HMAC-SHA256"
        && param("oauth_token") == "planted-token"
        && signature == BASE64.encode(mac.as_ref());
    if good {
        ok(&json!({"items": [], "consumer": param("oauth_consumer_key")}))
    } else {
        refuse(401, "bad signature")
    }
}

fn encoded(text: &str) -> String {
    const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, UNRESERVED).to_string()
}
