//! Variables: what a template names must come from somewhere.

use std::collections::HashSet;

use patchbay_types::AuthMode;

use super::{Rules, keys};
use crate::definition::{
    AssertionKind, Condition, Definition, ExtraTokenPlace, Fields, ProviderStep, Step, Target, TokenClient,
    TokenUrl, condition_path, filled_by_steps, step_path,
};
use crate::finding::Severity;
use crate::forms;
use crate::template::{NamedTemplate, Template, TemplateMap, TemplateValue};

/// Settings of a connection that we or the callback write ourselves.
const OWN_SETTINGS: &[&str] = &[
    "oauth_scopes",
    "oauth_scopes_override",
    "authorization_params",
    "oauth_client_id",
    "oauth_client_secret",
    "installation_id",
    "app_id",
    "webhook_url",
    "mcp_server_url",
];

/// Variables of a proxied request.
const REQUEST: &[&str] = &[
    "endpoint",
    "host",
    "path",
    "params",
    "urlCanonicalParams",
    "bodyCanonicalParams",
    "contentType",
    "method",
    "accessToken",
    "clientId",
    "clientSecret",
];

/// Variables of requests to a token endpoint that are written out (`token_client`).
const TOKEN_CLIENT: &[&str] = &[
    "accessToken",
    "body",
    "callbackHost",
    "clientAssertion",
    "clientId",
    "clientSecret",
    "code",
    "codeVerifier",
    "previousRefreshToken",
    "redirectUri",
    "refreshToken",
    "scopes",
    "state",
];
/// Objects whose members such requests name.
const TOKEN_CLIENT_ROOTS: &[&str] = &["answer", "claims", "raw"];

/// A template and where it is.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: &'p [Step],
    template: &'p Template,
}

impl Place<'_> {
    /// Warns at the first place the template names the variable.
    fn warn(self, rules: &mut Rules<'_>, name: &str, message: String) {
        let source = self.template.source();
        let before = source
            .find(name)
            .map_or(0, |offset| source[..offset].chars().count());
        let note = super::note(
            Severity::Warning,
            "variable",
            self.path.to_vec(),
            Target::Value(before),
            message,
        );
        rules.notes.push(note);
    }
}

pub(super) fn check(rules: &mut Rules<'_>) {
    let definition = rules.definition;
    let mut used: HashSet<String> = HashSet::new();
    for (path, template) in templates(definition) {
        for name in template.names() {
            let at = Place {
                path: &path,
                template,
            };
            let (root, rest) = name.split_once('.').unwrap_or((name, ""));
            match root {
                "connectionConfig" | "connection_config" => {
                    used.insert(rest.to_owned());
                    setting(rules, at, name, rest);
                }
                "credentials" => credential(rules, at, name, rest),
                "assertionOption" => {
                    let known = definition
                        .assertion_option
                        .iter()
                        .map(|field| field.name.as_str());
                    undeclared(rules, at, name, rest, known, "assertion_option");
                }
                "metadata" => {}
                "answer" | "item" | "claims" | "scopes" if in_steps(&path) => {}
                _ if is_step(root) && in_steps(&path) => earlier_step(rules, at, name, root),
                _ if in_token_client(&path) => token_client(rules, at, name, root),
                _ if is_step(root) => step(rules, at, name, root),
                _ => flat(rules, at, name),
            }
        }
        secret_in_query(rules, &path, template);
    }
    unused(rules, &used);
}

fn setting(rules: &mut Rules<'_>, at: Place<'_>, name: &str, key: &str) {
    let definition = rules.definition;
    let filled = [
        &definition.token_response_metadata,
        &definition.redirect_uri_metadata,
        &definition.webhook_response_metadata,
        &definition.connection_configuration,
    ];
    let mut known: Vec<&str> = definition
        .connection_config
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    known.extend(filled.into_iter().flatten().map(String::as_str));
    known.extend(OWN_SETTINGS);
    known.extend(filled_by_steps(&definition.post_connection));
    let extra = definition
        .token_client
        .iter()
        .flat_map(|client| &client.extra_tokens);
    known.extend(extra.filter_map(|extra| match &extra.into {
        ExtraTokenPlace::ConnectionConfig(key) => Some(key.as_str()),
        ExtraTokenPlace::Raw(_) => None,
    }));
    // AWS: the role's settings are copied to the connection.
    known.extend(
        definition
            .integration_config
            .iter()
            .map(|field| field.name.as_str()),
    );
    undeclared(rules, at, name, key, known, "connection_config");
}

fn credential(rules: &mut Rules<'_>, at: Place<'_>, name: &str, key: &str) {
    let definition = rules.definition;
    let first = key.split('.').next().unwrap_or(key);
    if matches!(
        first,
        "raw" | "token" | "access_token" | "refresh_token" | "expires_at" | "assertion" | "_cookies"
    ) {
        return;
    }
    let known = credential_names(definition);
    let captured = definition
        .token_response_headers
        .iter()
        .any(|header| header == first)
        || definition
            .token_response_headers
            .iter()
            .any(|header| header == "set-cookie");
    if !captured {
        undeclared(rules, at, name, first, known.iter().copied(), "credentials");
    }
}

fn credential_names(definition: &Definition) -> Vec<&str> {
    let mut known: Vec<&str> = forms::base_names(definition.auth_mode).to_vec();
    known.extend(definition.credentials.iter().map(|field| field.name.as_str()));
    known.extend(
        definition
            .integration_config
            .iter()
            .map(|field| field.name.as_str()),
    );
    if definition.auth_type == Some(AuthMode::Basic) {
        known.extend(["username", "password"]);
    }
    // The answer to the login call.
    if definition.auth_mode == AuthMode::Bill {
        known.extend(["session_id", "user_id"]);
    }
    known
}

fn step(rules: &mut Rules<'_>, at: Place<'_>, name: &str, root: &str) {
    let number: usize = root[4..].parse().unwrap_or_default();
    let step = at.path.iter().find_map(|step| match step {
        Step::Index(index) => Some(*index),
        Step::Key(_) => None,
    });
    // Step N+1 of `additional_steps[N]` sees the answers before it.
    let available = step.map_or(0, |index| index + 1);
    if number == 0 || number > available {
        let message = format!("`{name}` is the answer of a step that has not run yet");
        at.warn(rules, name, message);
    }
}

fn in_steps(path: &[Step]) -> bool {
    matches!(path.first(), Some(Step::Key(key)) if key == "post_connection" || key == "revoke")
}

/// Steps are counted from 1; one knows the answers before it.
fn earlier_step(rules: &mut Rules<'_>, at: Place<'_>, name: &str, root: &str) {
    let number: usize = root[4..].parse().unwrap_or_default();
    let own = at.path.iter().find_map(|step| match step {
        Step::Index(index) => Some(index + 1),
        Step::Key(_) => None,
    });
    if number == 0 || own.is_some_and(|own| number > own) {
        let message = format!("`{name}` is the answer of a step that has not run yet");
        at.warn(rules, name, message);
    }
}

fn in_token_client(path: &[Step]) -> bool {
    matches!(path.first(), Some(Step::Key(key)) if key == "token_client")
}

fn token_client(rules: &mut Rules<'_>, at: Place<'_>, name: &str, root: &str) {
    if TOKEN_CLIENT.contains(&name) || TOKEN_CLIENT_ROOTS.contains(&root) {
        return;
    }
    at.warn(
        rules,
        name,
        format!("a token request knows nothing called `{name}`"),
    );
    let known = TOKEN_CLIENT.iter().chain(TOKEN_CLIENT_ROOTS).copied();
    let nearest = crate::suggest::nearest(name, known.chain(["now", "random"])).map(str::to_owned);
    rules.suggest(nearest.as_deref());
}

/// A name without a root: a request variable, a credential without its prefix, a value of the token exchange.
fn flat(rules: &mut Rules<'_>, at: Place<'_>, name: &str) {
    let definition = rules.definition;
    let mut known = credential_names(definition);
    known.extend(REQUEST);
    known.extend(["token", "assertion", "refresh_token", "access_token", "apiKey"]);
    // Old templates name settings without their prefix.
    known.extend(
        definition
            .connection_config
            .iter()
            .map(|field| field.name.as_str()),
    );
    known.extend(definition.token_response_headers.iter().map(String::as_str));
    let first = name.split('.').next().unwrap_or(name);
    if known.contains(&name) || matches!(first, "raw" | "_cookies") {
        return;
    }
    let message = format!("nothing is called `{name}` here");
    at.warn(rules, name, message);
    let rooted = known.iter().copied().chain(["now", "random"]);
    let nearest = crate::suggest::nearest(name, rooted).map(str::to_owned);
    rules.suggest(nearest.as_deref());
}

fn undeclared<'k>(
    rules: &mut Rules<'_>,
    at: Place<'_>,
    name: &str,
    key: &str,
    known: impl IntoIterator<Item = &'k str>,
    group: &str,
) {
    let known: Vec<&str> = known.into_iter().collect();
    let first = key.split('.').next().unwrap_or(key);
    if known.contains(&key) || known.contains(&first) {
        return;
    }
    at.warn(rules, name, format!("`{name}` is not declared in `{group}`"));
    let root = name.strip_suffix(key).unwrap_or_default();
    let nearest = crate::suggest::nearest(key, known).map(|nearest| format!("{root}{nearest}"));
    rules.suggest(nearest.as_deref());
}

/// Settings people are asked for and nothing uses.
fn unused(rules: &mut Rules<'_>, used: &HashSet<String>) {
    let definition = rules.definition;
    let generic = matches!(
        definition.auth_mode,
        AuthMode::McpOAuth2Generic | AuthMode::AwsSigV4 | AuthMode::Tba
    );
    // Bespoke exchanges read settings by name.
    let scripted =
        definition.post_connection_script.is_some() || definition.credentials_verification_script.is_some();
    let filled =
        !definition.redirect_uri_metadata.is_empty() || !definition.token_response_metadata.is_empty();
    if generic || scripted || filled || definition.connection_config.is_empty() || !used.is_empty() {
        return;
    }
    let asked = |fields: &Fields| fields.iter().any(|field| !field.automated && !field.hidden);
    if asked(&definition.connection_config) {
        let message = "people are asked for settings that no template uses";
        rules.warn_key("unused-setting", keys(["connection_config"]), message);
    }
}

/// URLs end up in logs of every hop; `proxy.query` is where an API that knows no better is served, and
/// `secrets_in_url` says that it is meant.
fn secret_in_query(rules: &mut Rules<'_>, path: &[Step], template: &Template) {
    let is_url = match path.last() {
        Some(Step::Key(key)) => key.ends_with("_url") || key == "base_url_override",
        Some(Step::Index(_)) => {
            matches!(path.iter().rev().nth(1), Some(Step::Key(key)) if key == "endpoints")
        }
        None => false,
    };
    let Some((_, query)) = template.source().split_once('?').filter(|_| is_url) else {
        return;
    };
    let secret = |name: &str| {
        let key = name.strip_prefix("credentials.").unwrap_or(name);
        if rules
            .definition
            .secrets_in_url
            .iter()
            .any(|declared| declared == key)
        {
            return false;
        }
        matches!(
            key,
            "accessToken" | "apiKey" | "password" | "client_secret" | "clientSecret" | "token"
        ) || rules
            .definition
            .credentials
            .get(key)
            .is_some_and(|field| field.secret)
    };
    let found = Template::parse(query)
        .names()
        .into_iter()
        .find(|name| secret(name))
        .map(str::to_owned);
    if let Some(name) = found {
        let message = format!(
            "`{name}` is a secret and would be written to logs as part of the URL; use a header, or declare it in `secrets_in_url`"
        );
        rules.warn("secret-in-url", path.to_vec(), message);
    }
}

fn is_step(root: &str) -> bool {
    root.strip_prefix("step")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Every template of a definition and its place.
fn templates(definition: &Definition) -> Vec<(Vec<Step>, &Template)> {
    let mut all = Collector(Vec::new());
    for (key, template) in [
        ("authorization_url", &definition.authorization_url),
        ("request_url", &definition.request_url),
        ("access_token_url", &definition.access_token_url),
        ("refresh_url", &definition.refresh_url),
    ] {
        all.one(keys([key]), template.as_ref());
    }
    match &definition.token_url {
        Some(TokenUrl::One(template)) => all.one(keys(["token_url"]), Some(template)),
        Some(TokenUrl::ByMode(templates)) => {
            for (mode, template) in templates {
                all.one(keys(["token_url", mode.as_str()]), Some(template));
            }
        }
        None => {}
    }
    for (key, map) in [
        ("authorization_params", &definition.authorization_params),
        ("request_params", &definition.request_params),
        ("token_params", &definition.token_params),
        ("refresh_params", &definition.refresh_params),
        ("refresh_token_params", &definition.refresh_token_params),
    ] {
        all.map(&keys([key]), map);
    }
    all.named(&keys(["token_headers"]), &definition.token_headers);
    all.named(
        &keys(["refresh_token_headers"]),
        &definition.refresh_token_headers,
    );
    for (index, step) in definition.additional_steps.iter().enumerate() {
        let mut path = keys(["additional_steps"]);
        path.push(Step::Index(index));
        all.one(with(&path, "token_url"), Some(&step.token_url));
        all.map(&with(&path, "token_params"), &step.token_params);
        all.named(&with(&path, "token_headers"), &step.token_headers);
    }
    if let Some(token) = &definition.token {
        all.one(keys(["token", "signing_key"]), token.signing_key.as_ref());
        all.map(&keys(["token", "header"]), &token.header);
        all.map(&keys(["token", "payload"]), &token.payload);
    }
    if let Some(assertion) = &definition.assertion {
        all.one(keys(["assertion", "key"]), assertion.key.as_ref());
        match &assertion.kind {
            AssertionKind::Jwt { header, payload } => {
                all.map(&keys(["assertion", "header"]), header);
                all.map(&keys(["assertion", "payload"]), payload);
            }
            AssertionKind::Saml { fields } => all.map(&keys(["assertion"]), fields),
        }
    }
    if let Some(client) = &definition.token_client {
        all.token_client(client);
    }
    for (key, steps) in [
        ("post_connection", &definition.post_connection),
        ("revoke", &definition.revoke),
    ] {
        for (index, step) in steps.iter().enumerate() {
            all.step(&step_path(key, index), step);
        }
    }
    let proxy = &definition.proxy;
    all.one(keys(["proxy", "base_url"]), proxy.base_url.as_ref());
    all.named(&keys(["proxy", "headers"]), &proxy.headers);
    all.named(&keys(["proxy", "query"]), &proxy.query);
    all.map(&keys(["proxy", "body"]), &proxy.body);
    if let Some(verification) = &proxy.verification {
        let path = keys(["proxy", "verification"]);
        for (index, endpoint) in verification.endpoints.iter().enumerate() {
            let mut path = with(&path, "endpoints");
            path.push(Step::Index(index));
            all.one(path, Some(endpoint));
        }
        all.one(
            with(&path, "base_url_override"),
            verification.base_url_override.as_ref(),
        );
        all.named(&with(&path, "headers"), &verification.headers);
        if let Some(data) = &verification.data {
            all.value(with(&path, "data"), data);
        }
    }
    all.0
}

struct Collector<'d>(Vec<(Vec<Step>, &'d Template)>);

impl<'d> Collector<'d> {
    fn one(&mut self, path: Vec<Step>, template: Option<&'d Template>) {
        self.0.extend(template.map(|template| (path, template)));
    }

    fn token_client(&mut self, client: &'d TokenClient) {
        let top = keys(["token_client"]);
        if let Some(assertion) = &client.assertion {
            self.one(with(&with(&top, "assertion"), "key"), Some(&assertion.key));
            self.map(&with(&with(&top, "assertion"), "claims"), &assertion.claims);
        }
        for (below, call) in client.calls() {
            let path: Vec<Step> = top.iter().cloned().chain(below).collect();
            self.one(with(&path, "url"), call.url.as_ref());
            self.named(&with(&path, "query"), &call.query);
            self.named(&with(&path, "headers"), &call.headers);
            if let Some(params) = &call.params {
                self.map(&with(&path, "params"), params);
            }
        }
        for (index, extra) in client.extra_tokens.iter().enumerate() {
            let mut path = with(&top, "extra_tokens");
            path.push(Step::Index(index));
            self.conditions(&path, "when", &extra.when);
        }
        if let Some(introspection) = &client.introspection {
            let path = with(&top, "introspection");
            self.one(with(&path, "url"), Some(&introspection.url));
            self.map(&with(&path, "params"), &introspection.params);
        }
    }

    fn step(&mut self, path: &[Step], step: &'d ProviderStep) {
        self.conditions(path, "when", &step.when);
        if let Some(request) = &step.request {
            let path = with(path, "request");
            self.one(with(&path, "url"), request.url.as_ref());
            self.one(with(&path, "endpoint"), request.endpoint.as_ref());
            self.named(&with(&path, "query"), &request.query);
            self.named(&with(&path, "headers"), &request.headers);
            if let Some(data) = &request.data {
                self.value(with(&path, "data"), data);
            }
        }
        if let Some(choice) = &step.choose {
            self.conditions(&with(path, "choose"), "where", &choice.matching);
        }
        self.map(&with(path, "set"), &step.set);
        self.map(&with(path, "metadata"), &step.metadata);
    }

    fn conditions(&mut self, path: &[Step], key: &str, conditions: &'d [Condition]) {
        for (index, condition) in conditions.iter().enumerate() {
            for (part, template) in condition.templates() {
                self.one(condition_path(path, key, index, part), Some(template));
            }
        }
    }

    fn named(&mut self, path: &[Step], named: &'d [NamedTemplate]) {
        for NamedTemplate { name, template } in named {
            self.one(with(path, name), Some(template));
        }
    }

    fn map(&mut self, path: &[Step], map: &'d TemplateMap) {
        for (key, value) in map.iter() {
            self.value(with(path, key), value);
        }
    }

    fn value(&mut self, path: Vec<Step>, value: &'d TemplateValue) {
        match value {
            TemplateValue::Text(template) => self.one(path, Some(template)),
            TemplateValue::Scalar(_) => {}
            TemplateValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let mut path = path.clone();
                    path.push(Step::Index(index));
                    self.value(path, item);
                }
            }
            TemplateValue::Map(map) => self.map(&path, map),
        }
    }
}

fn with(path: &[Step], key: &str) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(Step::Key(key.to_owned()));
    path
}
