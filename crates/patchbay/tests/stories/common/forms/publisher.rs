//! A key `id:secret` signs short-lived tokens (JWT).

use aws_lc_rs::hmac;
use axum::response::Response;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};

use super::{Office, Seen, ok, refuse};

/// The key's halves.
pub const ID: &str = "0123456789abcdef01234567";
pub const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

pub const DEFINITION: &str = r"
form-jwt:
    display_name: Publisher
    categories: [cms]
    auth_mode: JWT
    signature:
        protocol: HMAC
    token:
        signing_key: ${credentials.privateKey.secret}
        expires_in_ms: 3600000
        header:
            alg: HS256
            typ: JWT
            kid: ${credentials.privateKey.id}
        payload:
            aud: /admin/
            site: ${connectionConfig.site}
            absent: ${connectionConfig.absent}
            scope: ['${connectionConfig.scope}']
    docs: https://docs.example.com
    proxy:
        base_url: BASE/publisher/${connectionConfig.site}
        headers:
            authorization: Publisher ${accessToken}
        verification:
            method: GET
            endpoints: [/users]
    connection_config:
        site:
            type: string
            title: Site
            description: Your site.
            pattern: '^[a-z]+$'
        scope:
            type: string
            title: Scope
            description: What for.
            optional: true
        absent:
            type: string
            title: Nothing
            description: Nobody fills this in.
            automated: true
    credentials:
        privateKey:
            type: string
            title: Key
            description: An admin key.
            pattern: '^[a-f0-9]{24}:[a-f0-9]+$'
            secret: true
form-jwt-no-token:
    display_name: Publisher
    categories: [cms]
    auth_mode: JWT
    signature:
        protocol: HMAC
    token:
        expires_in_ms: 1
    docs: https://docs.example.com
    credentials:
        privateKey:
            type: string
            title: Key
            description: A key.
form-jwt-rsa:
    display_name: Publisher
    categories: [cms]
    auth_mode: JWT
    signature:
        protocol: RSA
    token:
        signing_key: ${credentials.privateKey}
        expires_in_ms: 1
    docs: https://docs.example.com
    credentials:
        privateKey:
            type: string
            title: Key
            description: A key.
            optional: true
";

/// The claims of a token, if it is good.
pub fn claims(office: &Office, token: &str) -> Option<Value> {
    let (input, signature) = token.rsplit_once('.')?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &HEXLOWER.decode(SECRET.as_bytes()).unwrap());
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
    hmac::verify(&key, input.as_bytes(), &signature).ok()?;
    let (header, claims) = input.split_once('.')?;
    let part =
        |text: &str| serde_json::from_slice::<Value>(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok();
    let (header, claims) = (part(header)?, part(claims)?);
    let now = patchbay_ambient::Clock::now(&office.clock).as_second();
    let good = header == json!({"alg": "HS256", "typ": "JWT", "kid": ID})
        && claims["aud"] == "/admin/"
        && claims["iat"].as_i64()? <= now
        && claims["exp"].as_i64()? > now;
    good.then_some(claims)
}

pub fn answer(office: &Office, seen: &Seen) -> Response {
    let token = seen
        .header("authorization")
        .strip_prefix("Publisher ")
        .unwrap_or_default();
    match claims(office, token) {
        Some(claims) => ok(&claims),
        None => refuse(401, "bad token"),
    }
}
