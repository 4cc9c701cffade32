//! What holds for every provider, whatever its snapshot says.

use std::fmt::Write as _;

use patchbay_catalog::Provider;
use patchbay_types::AuthMode;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::Url;

use crate::scenario::{Exchange, Part, Planted, Story, Told};

/// Keys whose texts are for people.
const PROSE: [&str; 8] = [
    "docs",
    "docs_connect",
    "setup_guide_url",
    "description",
    "title",
    "example",
    "pattern",
    "prefix",
];

/// What is wrong with a story; `provider` is as it ships.
pub(crate) fn broken(story: &Story, provider: &Provider) -> Vec<String> {
    let mut faults = Vec::new();
    let wire = Value::Object(provider.wire.clone());
    for url in plain_urls(&wire) {
        faults.push(format!("{url} is not https"));
    }
    for (part, told) in &story.tells {
        match told {
            Told::Not(why) => faults.push(format!("{part:?} comes to nothing: {why}")),
            Told::Sent(exchange) => {
                let found = exchange_faults(*part, exchange, story, &wire);
                faults.extend(found.into_iter().map(|fault| format!("{part:?} {fault}")));
            }
        }
    }
    faults.extend(missing_parts(story, provider));
    faults.extend(renewal_faults(story, provider));
    faults
}

/// Addresses in the definition that go unprotected, whoever the host is.
fn plain_urls(wire: &Value) -> Vec<&str> {
    match wire {
        Value::String(text) if text.starts_with("http://") => vec![text],
        Value::Array(items) => items.iter().flat_map(plain_urls).collect(),
        Value::Object(object) => object
            .iter()
            .filter(|(key, _)| !PROSE.contains(&key.as_str()))
            .flat_map(|(_, value)| plain_urls(value))
            .collect(),
        _ => Vec::new(),
    }
}

fn exchange_faults(part: Part, exchange: &Exchange, story: &Story, wire: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let everything = exchange.everything();
    if ["${", "%24%7B", "$%7B"]
        .iter()
        .any(|sign| everything.contains(sign))
    {
        faults.push("sends a placeholder without its value".to_owned());
    }
    if !exchange.url.starts_with("https://") {
        faults.push(format!("goes to {}", exchange.url));
    }
    if everything.contains("PRIVATE KEY") {
        faults.push("sends a private key".to_owned());
    }
    let url = Url::parse(&exchange.url).unwrap();
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    for secret in &story.secrets {
        let in_query: Vec<_> = url
            .query_pairs()
            .filter(|(_, value)| value.contains(&secret.value))
            .map(|(name, _)| name.into_owned())
            .collect();
        let in_url = path.contains(&secret.value) || !in_query.is_empty();
        if in_url && !is_declared(wire, secret, &in_query) {
            faults.push(format!("has {} in its address", secret.value));
        }
        // A browser's address bar and history, and what every call carries, are no place for these at all.
        let is_clients = secret.variables.iter().any(|name| name == "clientSecret");
        let is_lasting = secret.variables.iter().any(|name| name == "refresh_token");
        let shows = everything.contains(&secret.value);
        let where_not = match part {
            Part::Call | Part::Verify => is_lasting || (is_clients && !mentions(wire, "clientSecret")),
            Part::Authorize | Part::Register | Part::Discover => true,
            Part::Obtain => is_lasting,
            Part::Renew => false,
        };
        if shows && where_not {
            faults.push(format!("shows {}", secret.value));
        }
    }
    faults
}

/// Whether the definition itself puts the secret into an address: it names it in a template of one, or says that
/// parameters travel there.
fn is_declared(wire: &Value, secret: &Planted, parameters: &[String]) -> bool {
    let named = secret
        .variables
        .iter()
        .any(|variable| templates_of_urls(wire).iter().any(|text| text.contains(variable)));
    named
        || (!parameters.is_empty()
            && parameters
                .iter()
                .all(|name| query_parameters(wire).contains(name)))
}

/// Texts of the definition that make up addresses.
fn templates_of_urls(wire: &Value) -> Vec<&str> {
    fn texts(value: &Value) -> Vec<&str> {
        match value {
            Value::String(text) => vec![text],
            Value::Array(items) => items.iter().flat_map(texts).collect(),
            Value::Object(object) => object.values().flat_map(texts).collect(),
            _ => Vec::new(),
        }
    }
    match wire {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match key.as_str() {
                "url" | "token_url" | "refresh_url" | "base_url" | "endpoint" | "endpoints" | "query" => {
                    texts(value)
                }
                _ => templates_of_urls(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(templates_of_urls).collect(),
        _ => Vec::new(),
    }
}

/// Query parameters the definition puts values into, of calls and of token requests.
fn query_parameters(wire: &Value) -> Vec<String> {
    fn within(value: &Value, is_query: bool, names: &mut Vec<String>) {
        let Value::Object(object) = value else { return };
        let is_query = is_query || object.get("body_format").and_then(Value::as_str) == Some("query");
        for (key, value) in object {
            match (key.as_str(), value) {
                ("query", Value::Object(query)) => names.extend(query.keys().cloned()),
                ("params", Value::Object(params)) if is_query => names.extend(params.keys().cloned()),
                _ => within(value, is_query, names),
            }
        }
        if is_query {
            names.extend(["client_id", "client_secret"].map(str::to_owned));
        }
    }
    let mut names = Vec::new();
    within(wire, false, &mut names);
    names
}

fn mentions(wire: &Value, variable: &str) -> bool {
    wire.to_string().contains(variable)
}

/// Every way to connect has its parts, and no test of credentials that is written down is left out.
fn missing_parts(story: &Story, provider: &Provider) -> Vec<String> {
    use AuthMode as M;

    let definition = &provider.definition;
    let mut wanted = vec![Part::Call];
    match story.mode {
        M::OAuth2 if definition.is_outbound_installation => wanted.push(Part::Obtain),
        M::OAuth2 | M::McpOAuth2 | M::OAuth1 | M::App | M::Custom => {
            wanted.extend([Part::Authorize, Part::Obtain]);
        }
        M::McpOAuth2Generic => wanted.extend([Part::Discover, Part::Authorize, Part::Obtain]),
        M::InstallPlugin => wanted.push(Part::Authorize),
        M::OAuth2Cc | M::TwoStep | M::Bill | M::AwsSigV4 => wanted.push(Part::Obtain),
        M::None | M::ApiKey | M::Basic | M::Tba | M::Jwt | M::Signature => {}
    }
    let is_tested = matches!(
        story.mode,
        M::ApiKey | M::Basic | M::Tba | M::Jwt | M::Signature | M::InstallPlugin
    );
    if is_tested && definition.proxy.verification.is_some() {
        wanted.push(Part::Verify);
    }
    wanted
        .into_iter()
        .filter(|part| story.exchanges(*part).next().is_none())
        .map(|part| format!("{part:?} is missing"))
        .collect()
}

/// A renewal presents what its mode renews with.
fn renewal_faults(story: &Story, provider: &Provider) -> Vec<String> {
    use AuthMode as M;

    let wire = Value::Object(provider.wire.clone());
    let sent: Vec<String> = story.exchanges(Part::Renew).map(Exchange::everything).collect();
    let any = |text: &str| sent.iter().any(|everything| everything.contains(text));
    let holds = match story.mode {
        M::OAuth2 | M::McpOAuth2 | M::McpOAuth2Generic => {
            match wire.pointer("/token_client/refresh/with").and_then(Value::as_str) {
                // The client speaks for itself.
                Some("nothing") => !sent.is_empty(),
                Some("access_token") => any("the-access-token"),
                // Without an exchange of refresh tokens at all there is nothing to send.
                _ => any("the-refresh-token") || any("grant_type=client_credentials"),
            }
        }
        M::OAuth2Cc => !sent.is_empty() && sent.len() == story.exchanges(Part::Obtain).count(),
        M::TwoStep => {
            let presents = ["refresh_token_params", "refresh_token_headers"]
                .iter()
                .any(|key| wire.get(key).is_some());
            let has_one = wire.pointer("/token_response/refresh_token").is_some();
            !sent.is_empty() && (!(presents && has_one) || any("the-refresh-token") || any("the-token"))
        }
        M::Bill => any("the-password") && !any("the-session"),
        M::AwsSigV4 => any("Action=AssumeRole"),
        M::App => any("Bearer JWT "),
        M::Custom => any("Bearer JWT ") && any("refresh_token=the-refresh-token"),
        // Signed anew, tested, or kept: nobody is asked.
        M::Jwt | M::Signature | M::ApiKey | M::Basic | M::Tba | M::None | M::OAuth1 | M::InstallPlugin => {
            sent.is_empty()
        }
    };
    if holds {
        Vec::new()
    } else {
        vec![format!(
            "a renewal does not present what {} renews with",
            story.mode
        )]
    }
}

impl Story {
    fn exchanges(&self, wanted: Part) -> impl Iterator<Item = &Exchange> {
        self.tells.iter().filter_map(move |(part, told)| match told {
            Told::Sent(exchange) if *part == wanted => Some(exchange),
            _ => None,
        })
    }
}

impl Exchange {
    /// Everything of it that is sent, in one text.
    fn everything(&self) -> String {
        let mut all = format!("{} {}\n", self.method, self.url);
        for (name, value) in &self.headers {
            let _ = writeln!(all, "{name}: {value}");
        }
        all.push_str(&self.body);
        all
    }
}
