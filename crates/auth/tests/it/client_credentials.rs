//! auth-flows §15.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use patchbay_auth::client_credentials::{MintError, MintInput, Minted, read, request};
use patchbay_auth::message::{Answer, Call};
use patchbay_auth::oauth2::token::Second;
use patchbay_auth::renewal::{self, RenewInput};
use patchbay_catalog::Provider;
use patchbay_types::{JsonMap, Secret};
use serde_json::{Value, json};

use crate::support::{ambient, answer, body_of, object, provider, secrets};

struct Given {
    provider: std::sync::Arc<Provider>,
    config: JsonMap,
    params: BTreeMap<String, String>,
    secret: Option<Secret>,
    certificate: Option<Secret>,
    private_key: Option<Secret>,
}

impl Given {
    fn new(extra: Value) -> Self {
        let mut definition = object(json!({
            "auth_mode": "OAUTH2_CC",
            "token_url": "https://id.example.com/token?kept=1",
            "token_params": {"grant_type": "client_credentials"},
            "credentials": {"client_id": {"type": "string", "title": "", "description": ""}},
        }));
        definition.extend(object(extra));
        Self {
            provider: provider("acme", Value::Object(definition)),
            config: JsonMap::new(),
            params: BTreeMap::new(),
            secret: Some("planted-secret".into()),
            certificate: None,
            private_key: None,
        }
    }

    fn with<T>(&self, run: impl FnOnce(&MintInput<'_>) -> T) -> T {
        run(&MintInput {
            definition: &self.provider.definition,
            secrets: &secrets(),
            connection_config: &self.config,
            authorization_params: &self.params,
            client_id: "their-client",
            client_secret: self.secret.as_ref(),
            client_certificate: self.certificate.as_ref(),
            client_private_key: self.private_key.as_ref(),
        })
    }

    fn request(&self) -> Call {
        self.with(|input| request(input, &ambient()).unwrap())
    }

    fn read(&self, answer: &Answer) -> Result<Minted, MintError> {
        self.with(|input| read(input, answer, ambient().now()))
    }
}

#[test]
fn the_client_authenticates_in_four_ways_and_three_formats() {
    let plain = Given::new(json!({})).request();
    assert_eq!(plain.url.as_str(), "https://id.example.com/token?kept=1");
    assert_eq!(
        body_of(&plain),
        json!({"client_id": "their-client", "client_secret": "planted-secret", "grant_type": "client_credentials",
            "scope": "read write"})
    );
    let basic = Given::new(json!({"token_request_auth_method": "basic", "body_format": "json"})).request();
    let expect = format!(
        "Basic {}",
        data_encoding::BASE64.encode(b"their-client:planted-secret")
    );
    assert_eq!(basic.header("authorization"), Some(expect.as_str()));
    assert_eq!(
        body_of(&basic),
        json!({"grant_type": "client_credentials", "scope": "read write"})
    );
    let custom = Given::new(json!({"token_request_auth_method": "custom", "body_format": "query"})).request();
    assert_eq!(
        custom.url.query(),
        Some(
            "kept=1&username=their-client&password=planted-secret&grant_type=client_credentials&scope=read+write"
        )
    );
    assert!(custom.body.is_empty() && custom.header("content-type").is_none());
}

#[test]
fn an_assertion_is_signed_with_the_jwk() {
    let mut given = Given::new(json!({"token_request_auth_method": "private_key_jwt"}));
    given.secret = None;
    given.private_key = Some("{}".into());
    let error = given.with(|input| request(input, &ambient())).unwrap_err();
    assert_eq!(error.code(), "invalid_body");

    given.private_key = Some(jwk());
    let body = body_of(&given.request());
    assert_eq!(
        body["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    assert!(body.get("client_secret").is_none());
    let parts: Vec<Value> = body["client_assertion"]
        .as_str()
        .unwrap()
        .split('.')
        .take(2)
        .map(|part| {
            serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        })
        .collect();
    assert_eq!(parts[0], json!({"alg": "RS256", "typ": "JWT", "kid": "test-key"}));
    let (claims, now) = (&parts[1], ambient().now().as_second());
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("their-client"), &json!("their-client"))
    );
    assert_eq!(claims["aud"], "https://id.example.com/token?kept=1");
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(now), &json!(now + 300)));
    assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
}

#[test]
fn certificate_and_key_go_with_the_call() {
    let mut given = Given::new(json!({"require_client_certificate": true}));
    assert!(given.request().client_certificate.is_none());
    given.certificate = Some("planted-certificate".into());
    given.private_key = Some("planted-key".into());
    let call = given.request();
    assert_eq!(
        call.client_certificate.as_ref().unwrap().private_key.expose(),
        "planted-key"
    );
    assert!(!format!("{call:?}").contains("planted"));
}

#[test]
fn scopes_and_parameters_by_precedence() {
    let mut given =
        Given::new(json!({"scope_separator": ",", "token_params": {"a": "definition", "b": "definition"}}));
    given.config =
        object(json!({"oauth_scopes": "x, y", "authorization_params": {"b": "stored", "c": "stored"}}));
    given.params = [("c".to_owned(), "session".to_owned())].into();
    let body = body_of(&given.request());
    assert_eq!(
        (&body["scope"], &body["a"], &body["b"], &body["c"]),
        (
            &json!("x,y"),
            &json!("definition"),
            &json!("stored"),
            &json!("session")
        )
    );
    let minted = given.read(&answer(200, json!({"access_token": "t"}))).unwrap();
    assert_eq!(
        minted.config_updates,
        object(json!({"authorization_params": {"c": "session"}}))
    );
    let first = Given::new(json!({}))
        .read(&answer(200, json!({"access_token": "t"})))
        .unwrap();
    assert_eq!(
        first.config_updates,
        object(json!({"oauth_scopes": "read,write"}))
    );
}

#[test]
fn placeholders_must_have_values_unless_optional() {
    let extra = json!({
        "token_url": "https://${connectionConfig.host}/token",
        "token_params": {"audience": "${connectionConfig.audience}", "organization": "${connectionConfig.organization}"},
        "connection_config": {
            "host": {"type": "string", "title": "", "description": ""},
            "audience": {"type": "string", "title": "", "description": ""},
            "organization": {"type": "string", "title": "", "description": "", "optional": true}}});
    let mut given = Given::new(extra);
    let error = given.with(|input| request(input, &ambient())).unwrap_err();
    assert_eq!(error.code(), "invalid_body");
    given.config = object(json!({"host": "acme.example.com"}));
    let error = given.with(|input| request(input, &ambient())).unwrap_err();
    assert_eq!(error.to_string(), "no value for connectionConfig.audience");
    for organization in [json!({}), json!({"organization": ""})] {
        given.config = object(json!({"host": "acme.example.com", "audience": "api"}));
        given.config.extend(object(organization));
        let call = given.request();
        assert_eq!(call.url.as_str(), "https://acme.example.com/token");
        assert!(body_of(&call).get("organization").is_none());
    }
}

#[test]
fn tokens_are_found_and_always_dated() {
    let usual = Given::new(json!({"token_response_metadata": ["region"]}));
    let millis = Given::new(json!({"expires_in_unit": "milliseconds"}));
    for (given, body, token, end) in [
        (
            &usual,
            json!({"access_token": "a", "expires_in": 3600, "region": "eu"}),
            "a",
            "2026-01-02T04:04:05.678Z",
        ),
        (
            &usual,
            json!({"data": {"token": "d"}, "expires_at": "2026-01-02T05:00:00Z"}),
            "d",
            "2026-01-02T05:00:00.000Z",
        ),
        (&usual, json!({"jwt": "j"}), "j", "2026-01-02T03:59:05.678Z"),
        (
            &usual,
            json!({"jwt": "j", "access_token": "first"}),
            "first",
            "2026-01-02T03:59:05.678Z",
        ),
        (
            &millis,
            json!({"access_token": "a", "expires_in": 60_000}),
            "a",
            "2026-01-02T03:05:05.678Z",
        ),
    ] {
        let minted = given.read(&answer(200, body.clone())).unwrap();
        let stored = minted.credentials.to_json();
        assert_eq!(
            (&stored["token"], &stored["expires_at"]),
            (&json!(token), &json!(end)),
            "{body}"
        );
        assert_eq!(
            (&stored["type"], &stored["client_id"]),
            (&json!("OAUTH2_CC"), &json!("their-client"))
        );
        assert_eq!(stored["raw"], body);
    }
    let minted = usual
        .read(&answer(200, json!({"access_token": "a", "region": "eu"})))
        .unwrap();
    assert_eq!(minted.config_updates["region"], "eu");
}

#[test]
fn refusals_carry_the_code_and_no_secret() {
    let given = Given::new(json!({}));
    for refused in [
        answer(401, json!({"error": "invalid_client", "echo": "planted-secret"})),
        answer(302, json!({})),
        answer(200, json!({"client_secret": "planted-secret"})),
        answer(200, json!({"access_token": ""})),
    ] {
        let error = given.read(&refused).unwrap_err();
        assert_eq!(error.code(), "client_credentials_fetch_error");
        assert!(!format!("{error} {error:?}").contains("planted"), "{error}");
    }
}

#[test]
fn minting_again_repeats_the_first_request() {
    let mut given = Given::new(json!({}));
    given.params = [("resource".to_owned(), "r".to_owned())].into();
    let first = given.request();
    let minted = given.read(&answer(200, json!({"access_token": "t"}))).unwrap();
    let secrets = secrets();
    let input = RenewInput {
        definition: &given.provider.definition,
        secrets: &secrets,
        credentials: &minted.credentials,
        connection_config: &minted.config_updates,
        callback_url: "https://connect.example.com/oauth/callback",
    };
    let again = renewal::request(&input, &ambient()).unwrap();
    assert_eq!((&again.url, body_of(&again)), (&first.url, body_of(&first)));
    let renewed = renewal::read(
        &input,
        &answer(200, json!({"access_token": "next"})),
        Second::None,
        ambient().now(),
    )
    .unwrap();
    assert_eq!(renewed.credentials.to_json()["token"], "next");
    assert_eq!(renewed.credentials.to_json()["client_secret"], "planted-secret");
}

/// A throw-away key as a JWK: taken apart from its PKCS #8 form, which wraps PKCS #1: version, then the nine integers
/// `n e d p q dP dQ qInv`.
pub(crate) fn jwk() -> Secret {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8 = key.as_der().unwrap();
    let mut outer = element(pkcs8.as_ref()).0;
    for _ in 0..2 {
        outer = element(outer).1;
    }
    let mut rest = element(element(outer).0).0;
    rest = element(rest).1;
    let mut jwk = object(json!({"kty": "RSA", "kid": "test-key"}));
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let (number, after) = element(rest);
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        jwk.insert(
            name.to_owned(),
            data_encoding::BASE64URL_NOPAD.encode(number).into(),
        );
        rest = after;
    }
    Secret::new(Value::Object(jwk).to_string())
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match der[1] {
        short @ 0..0x80 => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (
                der[2..2 + count]
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                2 + count,
            )
        }
    };
    der[header..].split_at(length)
}
