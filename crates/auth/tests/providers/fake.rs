//! One server that is every provider: it answers every request with an object that has whatever the provider's
//! definition looks for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use futures_util::future::BoxFuture;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_catalog::definition::{Expect, JsonKind};
use patchbay_catalog::{Catalogue, Provider};
use patchbay_outbound::{Client, DnsFailure, Policy, PrivateNetworks, Resolve, Settings};
use patchbay_types::AuthMode;
use regress::Regex;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::scenario::Exchange;

pub(crate) struct Fake {
    port: u16,
    seen: Arc<Mutex<Vec<Exchange>>>,
    answer: Arc<Mutex<Answer>>,
    /// Real time drives nothing here.
    pub(crate) clock: TestClock,
}

#[derive(Clone, Default)]
struct Answer {
    status: u16,
    kind: &'static str,
    text: String,
    headers: Vec<(String, String)>,
}

/// Every name is this machine.
#[derive(Debug)]
struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsFailure>> {
        Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) })
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(Mutex::new(Answer::default()));
        let (recorded, given) = (Arc::clone(&seen), Arc::clone(&answer));
        let router = Router::new().fallback(move |request: Request| {
            let (recorded, given) = (Arc::clone(&recorded), Arc::clone(&given));
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let host = parts.headers["host"].to_str().unwrap();
                let mut headers: Vec<(String, String)> = parts
                    .headers
                    .iter()
                    .filter(|(name, _)| !["host", "content-length"].contains(&name.as_str()))
                    .map(|(name, value)| {
                        (
                            name.to_string(),
                            String::from_utf8_lossy(value.as_bytes()).into_owned(),
                        )
                    })
                    .collect();
                headers.sort();
                recorded.lock().unwrap().push(Exchange {
                    method: parts.method.to_string(),
                    url: format!("http://{host}{}", parts.uri),
                    headers,
                    body: String::from_utf8_lossy(&body).into_owned(),
                });
                let answer = given.lock().unwrap().clone();
                let mut response = Response::builder()
                    .status(answer.status)
                    .header("content-type", answer.kind);
                for (name, value) in answer.headers {
                    response = response.header(name, value);
                }
                response.body(Body::from(answer.text)).unwrap()
            }
        });
        let fake = Self {
            port,
            seen,
            answer,
            clock: TestClock::default(),
        };
        fake.ambient()
            .tasks
            .spawn(async move { axum::serve(listener, router).await });
        fake
    }

    /// The same clock and the same randomness for every provider.
    pub(crate) fn ambient(&self) -> Ambient {
        Ambient::test(self.clock.clone(), 7)
    }

    pub(crate) fn client(&self) -> Client {
        let policy = Policy::public(&PrivateNetworks::loopback());
        let ambient = self.ambient();
        Client::with_resolver(
            policy,
            Settings::new("test"),
            ambient.clock.clone(),
            Arc::new(Here),
        )
    }

    /// Definitions whose hosts are asked here: plain HTTP at this port.
    pub(crate) fn lead_here(&self, catalogue: &Catalogue) -> Catalogue {
        let all: Map<String, Value> = catalogue
            .iter()
            .map(|provider| {
                let mut wire = Value::Object(provider.wire.clone());
                if provider.definition.auth_mode == AuthMode::AwsSigV4 {
                    // Which is where it would ask anyway, so that it can be led here.
                    wire["token_url"] = "https://sts.${connectionConfig.region}.amazonaws.com/".into();
                }
                self.lead(&mut wire);
                (provider.name.clone(), wire)
            })
            .collect();
        let (led, findings) = Catalogue::from_text("led.json", &Value::Object(all).to_string());
        let errors: Vec<_> = findings
            .iter()
            .filter(|finding| finding.severity == patchbay_catalog::Severity::Error)
            .map(ToString::to_string)
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        led
    }

    fn lead(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.lead_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.lead(item)),
            Value::Object(object) => {
                for (key, value) in object.iter_mut() {
                    // What people read, and what values are compared with, stays.
                    if ![
                        "pattern",
                        "docs",
                        "docs_connect",
                        "setup_guide_url",
                        "prefix",
                        "description",
                    ]
                    .contains(&key.as_str())
                    {
                        self.lead(value);
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn lead_text(&self, text: &str) -> String {
        let authority = Regex::new(r"https://((?:\$\{[^}]*\}|[^/?#\s|$])+)").unwrap();
        replaced(&authority, text, |groups| {
            let host = groups[1];
            // A value that is the whole authority may have a path behind it: it brings the port itself.
            if host.starts_with("${") && host.find('}') == Some(host.len() - 1) {
                format!("http://{host}")
            } else {
                format!("http://{host}:{}", self.port)
            }
        })
    }

    /// An address here for what an end user or a server names: a name of this machine, which may do without TLS.
    pub(crate) fn local(&self, name: &str, path: &str) -> String {
        format!("http://{name}.localhost:{}{path}", self.port)
    }

    /// A value of the connection for `name`, as the definition uses it: where it is a whole URL or a whole authority,
    /// it leads here.
    pub(crate) fn value_of(&self, provider: &Provider, name: &str, value: &str) -> String {
        let wire = Value::Object(provider.wire.clone()).to_string();
        let used = |before: &str| {
            ["connectionConfig", "credentials"]
                .iter()
                .any(|root| wire.contains(&format!("{before}${{{root}.{name}}}")))
        };
        if used("\"") || used("|| ") {
            let url = if value.contains("://") {
                value
            } else {
                "https://the-host.example.com"
            };
            // A template that is nothing but this value says nothing about a URL: only its use as a base does.
            let is_base = wire.contains(&format!("url\":\"${{connectionConfig.{name}}}"))
                || wire.contains(&format!("|| ${{connectionConfig.{name}}}"));
            return if is_base || value.contains("://") {
                self.lead_text(url)
            } else {
                value.to_owned()
            };
        }
        let whole = ["/", "\"", " ", "?"]
            .iter()
            .any(|after| wire.contains(&format!("http://${{connectionConfig.{name}}}{after}")));
        if !whole {
            return value.to_owned();
        }
        // A port of its own cannot be kept.
        let (authority, path) = match value.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (value, String::new()),
        };
        let host = authority.split(':').next().unwrap_or_default();
        format!("{host}:{}{path}", self.port)
    }

    /// The text as it would have been without [`Self::lead_here`].
    pub(crate) fn lead_back(&self, text: &str) -> String {
        let port = self.port;
        text.replace(&format!(":{port}"), "")
            .replace(&format!("%3A{port}"), "")
            .replace("http://", "https://")
            .replace("http%3A%2F%2F", "https%3A%2F%2F")
            .replace(".localhost", ".example.com")
            // Names of XML algorithms only look like addresses.
            .replace("https://www.w3.org/", "http://www.w3.org/")
    }

    /// What has been asked since the last time.
    pub(crate) fn take(&self) -> Vec<Exchange> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.into_iter().map(|exchange| self.tidy(exchange)).collect()
    }

    /// The request as it would have been, what is signed in words.
    pub(crate) fn tidy(&self, exchange: Exchange) -> Exchange {
        let tidy = |text: &str| self.lead_back(&legible(text));
        Exchange {
            url: tidy(&exchange.url),
            headers: exchange
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), tidy(value)))
                .collect(),
            body: tidy(&exchange.body),
            ..exchange
        }
    }

    /// From now on every request is answered with what this provider's definition looks for.
    pub(crate) fn be(&self, provider: &Provider) {
        let definition = &provider.definition;
        let mut body = json!({
            "access_token": "the-access-token", "refresh_token": "the-refresh-token", "expires_in": 3600,
            "token_type": "bearer", "ok": true, "sessionId": "the-session", "userId": "the-user",
            "organizationId": "the-organization",
        });
        match definition.auth_mode {
            AuthMode::McpOAuth2 => set(&mut body, "client_id", "the-client".into()),
            AuthMode::McpOAuth2Generic => self.describe_servers(&mut body),
            AuthMode::App | AuthMode::Custom => {
                set(&mut body, "token", "the-token".into());
                set(&mut body, "expires_at", "2026-01-02T05:04:05Z".into());
            }
            AuthMode::AwsSigV4 => {
                set(
                    &mut body,
                    "AssumeRoleResponse.AssumeRoleResult.Credentials",
                    json!({"AccessKeyId": "the-access-key", "SecretAccessKey": "the-secret-key",
                        "SessionToken": "the-session-token", "Expiration": "2026-01-02T05:04:05Z"}),
                );
                set(
                    &mut body,
                    "GetCallerIdentityResponse.GetCallerIdentityResult.Arn",
                    "arn:aws:sts::123456789012:assumed-role/acme-integration/the-session".into(),
                );
            }
            _ => {}
        }
        let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
        if let Some(path) = &definition.alternate_access_token_response_path {
            wanted.insert(path.clone(), "the-access-token".into());
        }
        for path in &definition.token_response_metadata {
            wanted.insert(path.clone(), self.value_of(provider, path, "the-metadata").into());
        }
        if let Some(response) = &definition.token_response {
            let texts = serde_json::to_value(provider.wire.get("token_response")).unwrap();
            let path = |key: &str| texts.get(key).and_then(Value::as_str).map(str::to_owned);
            let _ = response;
            if let Some(path) = path("token") {
                wanted.insert(path, "the-token".into());
            }
            if let Some(path) = path("refresh_token") {
                wanted.entry(path).or_insert("the-refresh-token".into());
            }
            if let Some(path) = path("token_expiration") {
                let at = match path_strategy(&texts) {
                    "expireIn" => json!(3600),
                    _ => json!("2026-01-02T05:04:05Z"),
                };
                wanted.insert(path, at);
            }
        }
        // What later steps refer to.
        let steps = Regex::new(r"step\d+\.([A-Za-z0-9_.\[\]$@:-]+)").unwrap();
        let wire = Value::Object(provider.wire.clone()).to_string();
        for found in steps.find_iter(&wire) {
            let path = wire[found.group(1).unwrap()].to_owned();
            let is_address = wire.contains(&format!("url\":\"${{{}}}", &wire[found.range()]));
            let value = if is_address {
                self.lead_text("https://the-step.example.com")
            } else {
                "the-step".to_owned()
            };
            wanted.entry(path).or_insert_with(|| value.into());
        }
        if let Some(expect) = definition
            .proxy
            .verification
            .as_ref()
            .and_then(|v| v.expect.as_ref())
            && let Some(path) = &expect.json_path
        {
            wanted.insert(path.clone(), satisfying(expect));
        }
        if let Some(client) = provider.wire.get("token_client") {
            answers_of(client, &mut wanted);
        }
        let whole = wanted.remove("").is_some();
        let format = |of: &Value| of.get("body_format").and_then(Value::as_str) == Some("xml");
        let exchange = provider
            .wire
            .get("token_client")
            .and_then(|client| client.get("exchange"));
        let xml = format(&Value::Object(provider.wire.clone())) || exchange.is_some_and(format);
        if xml {
            // A document has one root.
            body = json!({});
        }
        for (path, value) in wanted {
            set(&mut body, &path, value);
        }
        let form = provider.definition.auth_mode == AuthMode::OAuth1;
        let (kind, text) = if form {
            (
                "application/x-www-form-urlencoded",
                "oauth_token=the-token&oauth_token_secret=the-token-secret&oauth_callback_confirmed=true"
                    .to_owned(),
            )
        } else if whole {
            ("text/plain", "the-token".to_owned())
        } else if xml {
            ("text/xml", format!("<?xml version=\"1.0\"?>{}", elements(&body)))
        } else {
            ("application/json", body.to_string())
        };
        let headers = definition
            .token_response_headers
            .iter()
            .map(|name| {
                let value = match name.as_str() {
                    "set-cookie" => "sid=the-cookie; Path=/; HttpOnly",
                    _ => "the-header",
                };
                (name.clone(), value.to_owned())
            })
            .collect();
        let expected = definition.proxy.verification.as_ref().and_then(|verification| {
            let expect = verification.expect.as_ref()?;
            (200..600).find(|status| expect.accepts_status(*status))
        });
        *self.answer.lock().unwrap() = Answer {
            status: status_of(provider.wire.get("token_client"))
                .or(expected)
                .unwrap_or(200),
            kind,
            text,
            headers,
        };
    }
}

impl Fake {
    /// What a server says of itself and of the one where its users sign in, in one document.
    fn describe_servers(&self, body: &mut Value) {
        for (name, value) in [
            ("resource", json!(self.local("mcp", "/mcp"))),
            ("authorization_servers", json!([self.local("id", "/")])),
            ("issuer", json!(self.local("id", "/"))),
            ("authorization_endpoint", json!(self.local("id", "/authorize"))),
            ("token_endpoint", json!(self.local("id", "/token"))),
            ("registration_endpoint", json!(self.local("id", "/register"))),
            ("scopes_supported", json!(["one", "two"])),
            ("response_types_supported", json!(["code"])),
            ("code_challenge_methods_supported", json!(["S256"])),
            ("client_id", json!("the-client")),
        ] {
            set(body, name, value);
        }
    }
}

/// What a token client of the definition's own looks for in its answers.
fn answers_of(client: &Value, wanted: &mut BTreeMap<String, Value>) {
    let Value::Object(object) = client else { return };
    for (key, value) in object {
        let path = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        match key.as_str() {
            "response" => {
                let root = path("root").map_or_else(String::new, |root| root + ".");
                for (name, value) in [
                    ("access_token", json!("the-access-token")),
                    ("refresh_token", json!("the-refresh-token")),
                    ("expires_in", json!(3600)),
                    ("expires_at", json!("2026-01-02T05:04:05Z")),
                ] {
                    if let Some(path) = path(name) {
                        wanted.entry(format!("{root}{path}")).or_insert(value);
                    }
                }
            }
            "success" => {
                if let (Some(path), Some(equals)) = (path("path"), value.get("equals")) {
                    wanted.insert(path, equals.clone());
                }
            }
            _ => {}
        }
        answers_of(value, wanted);
    }
}

/// The status a token client of the definition's own takes for a yes.
fn status_of(client: Option<&Value>) -> Option<u16> {
    let object = client?.as_object()?;
    let own = object.get("response").and_then(|response| response.get("status"));
    own.and_then(|statuses| statuses.get(0).unwrap_or(statuses).as_str()?.parse().ok())
        .or_else(|| object.values().find_map(|value| status_of(Some(value))))
}

fn path_strategy(texts: &Value) -> &str {
    texts
        .get("token_expiration_strategy")
        .and_then(Value::as_str)
        .unwrap_or("expireAt")
}

/// Signatures cover hosts, and hosts have a port here that differs from run to run; some algorithms sign anew each
/// time. So signed tokens are shown by header and payload, and other signatures by their presence.
fn legible(text: &str) -> String {
    let token = Regex::new(r"(eyJ[A-Za-z0-9_-]+)\.(eyJ[A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+").unwrap();
    let part = |encoded: &str| String::from_utf8(BASE64URL_NOPAD.decode(encoded.as_bytes()).ok()?).ok();
    let text = replaced(&token, text, |groups| match (part(groups[1]), part(groups[2])) {
        (Some(header), Some(payload)) => format!("JWT {header} {payload}"),
        // An example that only looks like one.
        _ => groups[0].to_owned(),
    });
    // The beginning of an XML document or of an `Assertion` element in base64, mostly in a form.
    let assertion = Regex::new(r"((?:PHNhbWw|PD94bWw|PEFzc2)(?:[A-Za-z0-9+/=]|%2B|%2F|%3D)+)").unwrap();
    let text = replaced(&assertion, &text, |groups| {
        let encoded = groups[1]
            .replace("%2B", "+")
            .replace("%2F", "/")
            .replace("%3D", "=");
        match BASE64.decode(encoded.as_bytes()).map(String::from_utf8) {
            Ok(Ok(xml)) => format!("SAML {xml}"),
            _ => groups[0].to_owned(),
        }
    });
    let digests = Regex::new(r"(<(?:ds:)?(?:DigestValue|SignatureValue)>)[^<]+").unwrap();
    let text = replaced(&digests, &text, |groups| format!("{}(signature)", groups[1]));
    let signature = Regex::new(r#"(oauth_signature="|Signature=)[^"&,]+"#).unwrap();
    replaced(&signature, &text, |groups| format!("{}(signature)", groups[1]))
}

/// `text` with every match replaced by what `with` makes of it and its groups.
fn replaced(pattern: &Regex, text: &str, with: impl Fn(&[&str]) -> String) -> String {
    let mut result = String::new();
    let mut done = 0;
    for found in pattern.find_iter(text) {
        let groups: Vec<&str> = found.groups().flatten().map(|range| &text[range]).collect();
        result.push_str(&text[done..found.start()]);
        result.push_str(&with(&groups));
        done = found.end();
    }
    result.push_str(&text[done..]);
    result
}

/// What a verification is content with.
fn satisfying(expect: &Expect) -> Value {
    match (&expect.equals, expect.kind) {
        (Some(value), _) => value.clone(),
        (None, Some(JsonKind::Array)) => json!(["yes"]),
        (None, Some(JsonKind::Object)) => json!({"yes": true}),
        (None, Some(JsonKind::Number)) => json!(1),
        (None, Some(JsonKind::Boolean)) => json!(true),
        (None, Some(JsonKind::String) | None) => json!("yes"),
    }
}

/// Puts `value` at a dotted path, list positions included.
fn set(target: &mut Value, path: &str, value: Value) {
    let steps: Vec<String> = path
        .replace('[', ".")
        .replace(']', "")
        .split('.')
        .filter(|step| !step.is_empty())
        .map(str::to_owned)
        .collect();
    let mut place = target;
    for step in &steps {
        if let Ok(index) = step.parse::<usize>() {
            if !place.is_array() {
                *place = json!([]);
            }
            let items = place.as_array_mut().unwrap();
            while items.len() <= index {
                items.push(json!({}));
            }
            place = &mut items[index];
            continue;
        }
        if !place.is_object() {
            *place = json!({});
        }
        place = place
            .as_object_mut()
            .unwrap()
            .entry(step.as_str())
            .or_insert(Value::Null);
    }
    *place = value;
}

fn elements(value: &Value) -> String {
    match value {
        Value::Object(object) => object.iter().fold(String::new(), |text, (name, value)| {
            text + "<" + name + ">" + &elements(value) + "</" + name + ">"
        }),
        Value::Array(items) => items.iter().map(elements).collect(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
