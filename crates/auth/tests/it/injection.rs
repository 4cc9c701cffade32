//! proxy §4 and §5.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Method};
use patchbay_auth::request::{
    BaseUrl, BuildError, BuiltRequest, HeaderOrigin, Subject, Wanted, build, injected_body, reads_body,
};
use patchbay_catalog::Provider;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{Credentials, JsonMap, Secret};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{ambient, credentials, object, provider, secrets};

struct Given {
    provider: std::sync::Arc<Provider>,
    secrets: IntegrationSecrets,
    credentials: Credentials,
    config: JsonMap,
    metadata: JsonMap,
}

/// What came out, in comparable form.
struct Sent {
    url: String,
    headers: Vec<(String, String, HeaderOrigin)>,
    base: BaseUrl,
    secret_query: Vec<String>,
}

impl Given {
    fn new(credentials_given: Value, proxy: Value) -> Self {
        Self::of(
            json!({"auth_mode": mode_of(&credentials_given), "proxy": proxy}),
            credentials_given,
        )
    }

    fn of(definition: Value, credentials_given: Value) -> Self {
        let mut whole = object(json!({
            "credentials": {"apiKey": {"type": "string", "title": "", "description": ""}},
            "token_url": "https://id.example.com/t", "authorization_url": "https://id.example.com/a",
        }));
        whole.extend(object(definition));
        Self {
            provider: provider("acme", Value::Object(whole)),
            secrets: secrets(),
            credentials: credentials(credentials_given),
            config: JsonMap::new(),
            metadata: JsonMap::new(),
        }
    }

    fn config(mut self, config: Value) -> Self {
        self.config = object(config);
        self
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            definition: &self.provider.definition,
            secrets: &self.secrets,
            credentials: &self.credentials,
            connection_config: &self.config,
            connection_id: "conn-1",
            metadata: Some(&self.metadata),
        }
    }

    fn send(&self, method: &Method, endpoint: &str, caller: &[(&str, &str)]) -> Result<Sent, BuildError> {
        self.send_with(method, endpoint, None, caller, b"")
    }

    fn send_with(
        &self,
        method: &Method,
        endpoint: &str,
        base_url_override: Option<&str>,
        caller: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Sent, BuildError> {
        let headers: Vec<_> = caller
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let wanted = Wanted {
            method,
            endpoint,
            base_url_override,
            templates: &[],
            headers: &headers,
            content_type: Some("application/json"),
            body,
        };
        let BuiltRequest {
            url,
            base,
            headers,
            secret_query,
        } = build(&self.subject(), &wanted, &ambient())?;
        let headers = headers
            .into_iter()
            .map(|h| {
                (
                    h.name.to_string(),
                    String::from_utf8(h.value.as_bytes().to_vec()).unwrap(),
                    h.origin,
                )
            })
            .collect();
        Ok(Sent {
            url: url.into(),
            headers,
            base,
            secret_query: secret_query.into_iter().map(Cow::into_owned).collect(),
        })
    }

    fn get(&self, endpoint: &str) -> Sent {
        self.send(&Method::GET, endpoint, &[]).unwrap()
    }
}

impl Sent {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, ..)| known == name)
            .map(|(_, value, _)| value.as_str())
    }
}

fn mode_of(credentials: &Value) -> Value {
    credentials.get("type").cloned().unwrap_or_else(|| json!("NONE"))
}

fn key() -> Value {
    json!({"type": "API_KEY", "apiKey": "planted-key"})
}

fn token() -> Value {
    json!({"type": "OAUTH2", "access_token": "planted-token", "raw": {}})
}

#[test]
fn the_default_authorization_of_each_credential_type() {
    let base = json!({"base_url": "https://api.example.com"});
    for (given, expect) in [
        (token(), Some("Bearer planted-token")),
        (
            json!({"type": "APP", "access_token": "a", "raw": {}}),
            Some("Bearer a"),
        ),
        (
            json!({"type": "OAUTH2_CC", "token": "t", "client_id": "i", "raw": {}}),
            Some("Bearer t"),
        ),
        (json!({"type": "JWT", "token": "t"}), Some("Bearer t")),
        (json!({"type": "SIGNATURE", "token": "t"}), Some("Bearer t")),
        (json!({"type": "TWO_STEP", "token": "t"}), Some("Bearer t")),
        (
            json!({"type": "BASIC", "username": "Aladdin", "password": "open sesame"}),
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
        (json!({"type": "BASIC", "username": "u"}), Some("Basic dTo=")),
        (key(), None),
        (json!({"type": "BILL", "session_id": "s"}), None),
        (json!({}), None),
    ] {
        let mut given_all = Given::of(json!({"auth_mode": "NONE", "proxy": base}), given.clone());
        given_all.config = JsonMap::new();
        let sent = given_all.get("/x");
        assert_eq!(sent.header("authorization"), expect, "{given}");
        assert!(
            sent.headers
                .iter()
                .all(|(.., origin)| *origin == HeaderOrigin::Credential)
        );
    }
}

#[test]
fn a_two_step_definition_may_place_the_token_itself() {
    let two_step = json!({"type": "TWO_STEP", "token": "t", "_cookies": "a=1; b=2"});
    let sent = |headers: Value| {
        Given::of(json!({"auth_mode": "NONE", "proxy": {"base_url": "https://api.example.com", "headers": headers}}), two_step.clone()).get("/")
    };
    let moved = sent(json!({"x-token": "${accessToken}"}));
    assert_eq!(
        (moved.header("authorization"), moved.header("x-token")),
        (None, Some("t"))
    );
    let cookies = sent(json!({"cookie": "${credentials._cookies}"}));
    assert_eq!(
        (cookies.header("authorization"), cookies.header("cookie")),
        (None, Some("a=1; b=2"))
    );
    assert_eq!(
        sent(json!({"accept": "x"})).header("authorization"),
        Some("Bearer t")
    );
}

#[test]
fn oauth_1_requests_are_signed_over_the_final_url() {
    let signed = json!({"type": "OAUTH1", "oauth_token": "tk", "oauth_token_secret": "ts", "raw": {}});
    let mut given = Given::of(
        json!({"auth_mode": "NONE", "proxy": {"base_url": "https://api.x.com", "query": {"v": "2"}}}),
        signed,
    );
    let header = given
        .get("/a?b=2&a=1")
        .header("authorization")
        .unwrap()
        .to_owned();
    assert!(
        header.starts_with("OAuth oauth_consumer_key=\"the-client\", oauth_nonce=\""),
        "{header}"
    );
    given.secrets.client_secret = None;
    assert_eq!(
        given.send(&Method::GET, "/a", &[]).err().unwrap().code(),
        "unsupported_auth"
    );

    let tba = json!({"type": "TBA", "token_id": "i", "token_secret": "s", "config_override": {"client_id": "own", "client_secret": "x"}});
    let given = Given::of(
        json!({"auth_mode": "NONE", "proxy": {"base_url": "https://api.x.com"}}),
        tba,
    )
    .config(json!({"accountId": "123-sb1"}));
    let header = given.get("/a").header("authorization").unwrap().to_owned();
    assert!(
        header.starts_with("OAuth realm=\"123_SB1\", oauth_consumer_key=\"own\""),
        "{header}"
    );
    assert!(
        header.contains("oauth_signature_method=\"HMAC-SHA256\""),
        "{header}"
    );
}

#[test]
fn base_and_path_are_joined_as_the_contract_says() {
    let given = Given::new(key(), json!({"base_url": "https://api.example.com/v1/"}));
    for (endpoint, expect) in [
        ("/users", "https://api.example.com/v1/users"),
        ("users", "https://api.example.com/v1/users"),
        ("//users", "https://api.example.com/v1/users"),
        ("", "https://api.example.com/v1"),
        ("/", "https://api.example.com/v1"),
        (
            "/users?a=b+c&d=%20%7E",
            "https://api.example.com/v1/users?a=b+c&d=%20%7E",
        ),
        ("/a%2Fb", "https://api.example.com/v1/a%2Fb"),
        ("/?x=1", "https://api.example.com/v1/?x=1"),
        (
            "/https://api.example.com/v1/users",
            "https://api.example.com/v1/users",
        ),
        ("/https://api.example.com/v1", "https://api.example.com/v1"),
        (
            "/https://api.example.com/v10",
            "https://api.example.com/v1/https://api.example.com/v10",
        ),
        (
            "/https://other.example.com/x",
            "https://api.example.com/v1/https://other.example.com/x",
        ),
    ] {
        assert_eq!(given.get(endpoint).url, expect, "{endpoint}");
    }
    let bare = Given::new(key(), json!({"base_url": "https://api.example.com"}));
    for (endpoint, expect) in [
        ("/https://api.example.com", "https://api.example.com/"),
        ("/https://api.example.com?x=1", "https://api.example.com/?x=1"),
        (
            "/https://api.example.com.evil.com/x",
            "https://api.example.com/.evil.com/x",
        ),
        ("/@evil.com/x", "https://api.example.com/@evil.com/x"),
    ] {
        assert_eq!(bare.get(endpoint).url, expect, "{endpoint}");
    }
}

#[test]
fn the_base_url_by_precedence() {
    let definition = json!({"auth_mode": "API_KEY", "proxy": {"base_url": "https://api.example.com"},
        "integration_config": {"baseUrl": {"type": "string", "title": "", "description": "", "optional": true}}});
    let mut given = Given::of(definition, key());
    assert_eq!(given.get("/x").base, BaseUrl::Definition);
    given
        .secrets
        .custom
        .insert("baseUrl".to_owned(), Secret::new("https://own.example.com/api"));
    let sent = given.get("/x");
    assert_eq!(
        (sent.url.as_str(), sent.base),
        ("https://own.example.com/api/x", BaseUrl::Integration)
    );
    let sent = given
        .send_with(&Method::GET, "/x", Some("https://over.example.com/"), &[], b"")
        .unwrap();
    assert_eq!(
        (sent.url.as_str(), sent.base),
        ("https://over.example.com/x", BaseUrl::Override)
    );
    // An empty override is none: the Node client always sends the header.
    assert_eq!(
        given
            .send_with(&Method::GET, "/x", Some(""), &[], b"")
            .unwrap()
            .base,
        BaseUrl::Integration
    );

    let nowhere = Given::new(key(), json!({}));
    assert_eq!(
        nowhere.send(&Method::GET, "/x", &[]).err().unwrap().code(),
        "unsupported_provider"
    );
    for bad in ["ftp://example.com", "no url", "https://", "javascript:alert(1)"] {
        assert_eq!(
            nowhere
                .send_with(&Method::GET, "/x", Some(bad), &[], b"")
                .err()
                .unwrap(),
            BuildError::InvalidUrl,
            "{bad}"
        );
    }
}

#[test]
fn placeholders_in_base_and_path() {
    let given = |config: Value| {
        Given::new(key(), json!({"base_url": "https://${connectionConfig.sub}.example.com/${connectionConfig.v} || https://api.example.com"}))
            .config(config)
    };
    assert_eq!(
        given(json!({"sub": "eu", "v": 2})).get("/x").url,
        "https://eu.example.com/2/x"
    );
    assert_eq!(
        given(json!({"sub": "eu"})).get("/x").url,
        "https://api.example.com/x"
    );
    assert_eq!(
        given(json!({"sub": "", "v": "2"})).get("/x").url,
        "https://api.example.com/x"
    );

    let mut required = Given::new(
        key(),
        json!({"base_url": "https://${connectionConfig.sub}.example.com"}),
    );
    let error = required.send(&Method::GET, "/x", &[]).err().unwrap();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (
            "missing_connection_config",
            "the connection has no value for connectionConfig.sub"
        )
    );
    for hostile in [
        "evil.com/",
        "evil.com#",
        "evil.com?",
        "u:p@evil.com/",
        "evil.com\\",
    ] {
        required.config = object(json!({"sub": hostile}));
        let error = required.send(&Method::GET, "/x", &[]).err().unwrap();
        assert_eq!(error.code(), "invalid_url", "{hostile}");
    }

    let mut path =
        Given::new(key(), json!({"base_url": "https://api.example.com"})).config(json!({"cloud": "c1"}));
    path.metadata = object(json!({"team": "t1"}));
    for (endpoint, expect) in [
        ("/${connectionConfig.cloud}/x", "https://api.example.com/c1/x"),
        ("/${connection_config.cloud}/x", "https://api.example.com/c1/x"),
        (
            "/%24%7BconnectionConfig.cloud%7D/x?y=$%7BconnectionConfig.cloud%7D",
            "https://api.example.com/c1/x?y=c1",
        ),
        (
            "/${metadata.team}/${connection_id}",
            "https://api.example.com/t1/conn-1",
        ),
        ("/k/${apiKey}", "https://api.example.com/k/planted-key"),
        ("/%24%7Bnot closed", "https://api.example.com/%24%7Bnot%20closed"),
        ("/${unknown}", "https://api.example.com/$%7Bunknown%7D"),
    ] {
        assert_eq!(path.get(endpoint).url, expect, "{endpoint}");
    }
}

#[test]
fn the_definitions_query_replaces_the_callers() {
    let given = Given::new(
        key(),
        json!({"base_url": "https://api.example.com", "query": {"api_key": "${apiKey}", "v": "2", "gone": "${connectionConfig.gone}"}}),
    );
    let sent = given.get("/x?a=1&api_key=mine&b=%20&api_key=twice");
    assert_eq!(
        sent.url,
        "https://api.example.com/x?a=1&api_key=planted-key&b=+&v=2"
    );
    assert_eq!(sent.secret_query, ["api_key"]);
    let untouched = Given::new(
        key(),
        json!({"base_url": "https://api.example.com", "query": {"gone": "${connectionConfig.gone}"}}),
    );
    assert_eq!(untouched.get("/x?a=%20").url, "https://api.example.com/x?a=%20");
}

#[test]
fn header_templates_by_credential_type() {
    let headers = json!({
        "x-literal": "fixed", "x-key": "Key ${apiKey}", "x-cred": "${credentials.apiKey}", "x-user": "${username}",
        "x-token": "${accessToken}", "x-client": "${clientId}:${clientSecret}", "x-tenant": "${connectionConfig.tenant}",
        "x-method": "${method}", "x-path": "${path}|${host}|${endpoint}", "x-either": "${apiKey} || ${accessToken}"});
    let proxy = json!({"base_url": "https://api.example.com:8443", "headers": headers});
    let of_key = Given::new(key(), proxy.clone())
        .config(json!({"tenant": ""}))
        .get("/x?y=1");
    assert_eq!(
        of_key.headers,
        [
            ("x-literal", "fixed", HeaderOrigin::Definition),
            ("x-key", "Key planted-key", HeaderOrigin::Credential),
            ("x-cred", "planted-key", HeaderOrigin::Credential),
            ("x-method", "GET", HeaderOrigin::Credential),
            (
                "x-path",
                "/x|api.example.com:8443|/x?y=1",
                HeaderOrigin::Credential
            ),
            ("x-either", "planted-key", HeaderOrigin::Credential),
        ]
        .map(|(name, value, origin)| (name.to_owned(), value.to_owned(), origin))
    );
    let of_token = Given::new(token(), proxy)
        .config(json!({"tenant": "t1"}))
        .get("/");
    assert_eq!(of_token.header("x-token"), Some("planted-token"));
    assert_eq!(
        of_token.header("x-client"),
        Some("the-client:planted-client-secret")
    );
    assert_eq!(of_token.header("x-tenant"), Some("t1"));
    assert_eq!(of_token.header("x-key"), None);
    assert_eq!(of_token.header("x-either"), Some("planted-token"));
}

#[test]
fn who_wins_a_header() {
    let given = Given::new(
        token(),
        json!({"base_url": "https://api.example.com", "headers": {"authorization": "Token ${accessToken}", "accept": "a/b", "user-agent": "Acme"}}),
    );
    let sent = given.get("/");
    assert_eq!(sent.header("authorization"), Some("Token planted-token"));
    let sent = given
        .send(
            &Method::GET,
            "/",
            &[
                ("Authorization", "mine"),
                ("accept", "c/d"),
                ("user-agent", "curl"),
                ("x-new", ""),
            ],
        )
        .unwrap();
    assert_eq!(
        sent.headers,
        [
            ("authorization", "mine", HeaderOrigin::Caller),
            ("accept", "c/d", HeaderOrigin::Caller),
            ("user-agent", "Acme", HeaderOrigin::Definition),
            ("x-new", "", HeaderOrigin::Caller),
        ]
        .map(|(name, value, origin)| (name.to_owned(), value.to_owned(), origin))
    );
}

#[test]
fn signatures_see_one_moment_and_the_request() {
    let given = Given::new(
        key(),
        json!({"base_url": "https://api.example.com", "headers": {
            "x-nonce": "${random}", "x-when": "${now:X}",
            "x-signed": "${random}.${now:X}.${method}.${params}.${urlCanonicalParams}.${bodyCanonicalParams}.${contentType}"}}),
    );
    let sent = given
        .send_with(&Method::POST, "/x?q=1", None, &[], br#"{"b":"x y","a":2}"#)
        .unwrap();
    let (nonce, when) = (sent.header("x-nonce").unwrap(), sent.header("x-when").unwrap());
    assert_eq!(
        sent.header("x-signed").unwrap(),
        format!(r#"{nonce}.{when}.POST.a=2&b=x%20y.q=1.{{"b":"x y","a":2}}.application/json"#)
    );
    let sent = given.get("/x?b=2&a=1%20");
    assert!(
        sent.header("x-signed")
            .unwrap()
            .ends_with(".GET.a=1%20&b=2.a=1%20&b=2..application/json")
    );
}

#[test]
fn only_signatures_need_the_body_at_hand() {
    for (template, needs) in [
        ("${apiKey}", false),
        ("${urlCanonicalParams}", false),
        ("${base64(${method}${bodyCanonicalParams})}", true),
        ("${params}", true),
        ("${awsSigV4(${apiKey}, ${apiKey}, eu-west-1, s3)}", true),
    ] {
        let given = Given::new(
            key(),
            json!({"base_url": "https://api.example.com", "headers": {"x-sign": template}}),
        );
        assert_eq!(reads_body(&given.provider.definition), needs, "{template}");
    }
}

#[test]
fn the_operator_places_the_key() {
    let definition = json!({"auth_mode": "API_KEY", "proxy": {}, "integration_config": {
        "baseUrl": {"type": "string", "title": "", "description": ""},
        "keyName": {"type": "string", "title": "", "description": ""},
        "keyPlacement": {"type": "string", "title": "", "description": ""},
        "valueTemplate": {"type": "string", "title": "", "description": ""}}});
    let mut given = Given::of(definition, key());
    let mut with = |values: &[(&str, &str)]| {
        given.secrets.custom = values
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Secret::new(*v)))
            .collect();
        given.get("/x?a=1")
    };
    let base = ("baseUrl", "https://own.example.com");
    let sent = with(&[base, ("keyName", "X-Own-Key")]);
    assert_eq!(sent.header("x-own-key"), Some("planted-key"));
    let sent = with(&[
        base,
        ("keyName", "authorization"),
        ("keyPlacement", "header"),
        ("valueTemplate", "Bearer ${apiKey}"),
    ]);
    assert_eq!(sent.header("authorization"), Some("Bearer planted-key"));
    let sent = with(&[base, ("keyName", "Key"), ("keyPlacement", "query")]);
    assert_eq!(
        (sent.url.as_str(), sent.secret_query.as_slice()),
        (
            "https://own.example.com/x?a=1&Key=planted-key",
            &["Key".to_owned()][..]
        )
    );
    assert!(sent.headers.is_empty());
}

#[test]
fn bodies_get_what_the_definition_injects() {
    let given = Given::new(
        key(),
        json!({"base_url": "https://api.example.com", "body": {"auth": {"key": "${apiKey}", "gone": "${connectionConfig.gone}"}, "empty": {"x": "${nothing}"}, "n": 1}}),
    );
    let rendered = injected_body(&given.subject(), &Method::POST, &ambient()).unwrap();
    assert_eq!(
        Value::Object(rendered),
        json!({"auth": {"key": "planted-key"}, "n": 1})
    );
    assert!(injected_body(&given.subject(), &Method::GET, &ambient()).is_none());
}

#[test]
fn white_space_around_a_pasted_key_is_no_part_of_it() {
    let given = Given::new(
        json!({"type": "API_KEY", "apiKey": " k\r\n"}),
        json!({"base_url": "https://api.example.com", "headers": {"x-key": "${apiKey}"}}),
    );
    assert_eq!(given.get("/").header("x-key"), Some("k"));
    let inside = Given::new(
        json!({"type": "API_KEY", "apiKey": "planted\r\nx-evil: 1"}),
        json!({"base_url": "https://api.example.com", "headers": {"x-key": "${apiKey}"}}),
    );
    let error = inside.send(&Method::GET, "/", &[]).err().unwrap();
    assert_eq!(
        (error.code(), error.to_string().contains("planted")),
        ("invalid_header_value", false)
    );
}

proptest! {
    /// No credential, however chosen, adds a header or moves the request to another host.
    #[test]
    fn credentials_stay_inside_their_header(secret in "(?s).{0,40}", user in "(?s).{0,20}", config in "(?s).{0,20}") {
        let proxy = json!({"base_url": "https://api.example.com/", "headers": {
            "x-key": "K ${apiKey}", "x-user": "${username}", "x-tenant": "${connectionConfig.tenant}"},
            "query": {"k": "${apiKey}", "t": "${connectionConfig.tenant}"}});
        for given in [
            json!({"type": "API_KEY", "apiKey": secret}),
            json!({"type": "BASIC", "username": user, "password": secret}),
            json!({"type": "OAUTH2", "access_token": secret, "raw": {}}),
        ] {
            let given = Given::of(json!({"auth_mode": "NONE", "proxy": proxy}), given).config(json!({"tenant": config}));
            let Ok(sent) = given.send(&Method::GET, "/path", &[]) else { continue };
            prop_assert!(sent.url.starts_with("https://api.example.com/path"), "{}", sent.url);
            for (name, value, _) in &sent.headers {
                prop_assert!(["authorization", "x-key", "x-user", "x-tenant"].contains(&name.as_str()));
                prop_assert!(!value.contains(['\r', '\n', '\0']));
            }
        }
    }

    /// Whatever path a caller names, the request goes to the base's host, and the path stays as written.
    #[test]
    fn a_path_never_changes_the_host(path in "(?s).{0,60}") {
        let given = Given::new(key(), json!({"base_url": "https://api.example.com"}));
        let Ok(sent) = given.send(&Method::GET, &format!("/{path}"), &[]) else { return Ok(()) };
        let url = url::Url::parse(&sent.url).unwrap();
        prop_assert_eq!(url.host_str(), Some("api.example.com"));
        prop_assert_eq!((url.username(), url.password()), ("", None));
    }
}
