//! The URL an end user's browser is sent to (auth-flows §7).

use std::collections::BTreeMap;

use patchbay_ambient::Ambient;
use patchbay_catalog::template::{OnUnresolved, Scope, Template, TemplateMap};
use patchbay_catalog::{Definition, Provider};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, JsonMap, Secret};
use serde_json::Value;
use url::Url;

use super::{ClientOverride, MissingClient, OAuthClient, pkce};
use crate::endpoint::{self, EndpointError};
use crate::{encode, mcp};

/// Parameters that hold the flow together: no caller may change them.
const FIXED: &[&str] = &[
    "state",
    "redirect_uri",
    "client_id",
    "code_challenge",
    "code_challenge_method",
];
/// As a caller's value, removes the parameter.
const REMOVE: &str = "undefined";

/// Everything the URL depends on.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizeInput<'a> {
    /// Provider.
    pub provider: &'a Provider,
    /// The integration's OAuth client and scopes.
    pub secrets: &'a IntegrationSecrets,
    /// The connection's parameters; `oauth_scopes_override` in it replaces the integration's scopes.
    pub connection_config: &'a JsonMap,
    /// Extra query parameters of the session or the browser; the value `undefined` removes one.
    pub authorization_params: &'a BTreeMap<String, String>,
    /// Slack's user scopes, comma-separated.
    pub user_scopes: Option<&'a str>,
    /// `oauth_client_id_override` and its siblings.
    pub client_override: &'a BTreeMap<String, Secret>,
    /// The attempt's `state`.
    pub state: &'a str,
    /// Where the provider sends the browser back.
    pub callback_url: &'a str,
}

/// Where to send the browser, and what the callback will need.
#[derive(Clone, Debug)]
pub struct Authorization {
    /// The provider's page.
    pub url: Url,
    /// PKCE verifier to present with the code; none if the provider's definition disables PKCE.
    pub code_verifier: Option<Secret>,
}

/// Why there is no authorization URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// No OAuth client.
    #[error(transparent)]
    MissingClient(#[from] MissingClient),
    /// The definition asks for a grant that has no authorization page.
    #[error("the provider's definition wants grant {0}, which has no authorization page")]
    UnsupportedGrant(String),
    /// A placeholder without a value, or no URL.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The values make no URL.
    #[error("the parameters do not make a valid authorization URL")]
    Invalid,
    /// The caller wants to change a parameter that holds the flow together.
    #[error("authorization_params may not set {0}")]
    FixedParam(&'static str),
    /// An app that is installed from the provider's side has no page to send anybody to.
    #[error("the app of {0} is installed from the provider's side: connect with POST /auth/oauth-outbound")]
    InstalledElsewhere(String),
}

impl AuthorizeError {
    /// `error_type` of the WebSocket frame.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingClient(_) => "provider_config_err",
            Self::UnsupportedGrant(_) => "grant_type_err",
            Self::Endpoint(error) => error.code(),
            Self::Invalid | Self::FixedParam(_) => "url_param_err",
            Self::InstalledElsewhere(_) => "auth_mode_err",
        }
    }
}

/// Builds the URL.
pub fn authorize(input: &AuthorizeInput<'_>, ambient: &Ambient) -> Result<Authorization, AuthorizeError> {
    let definition = &input.provider.definition;
    let name = input.provider.name.as_str();
    if definition.is_outbound_installation {
        return Err(AuthorizeError::InstalledElsewhere(name.to_owned()));
    }
    let own = ClientOverride::read(input.client_override);
    let client = OAuthClient::choose(definition, input.secrets, own.as_ref().map(|own| &own.client))?;
    let grant = definition
        .token_params
        .literal("grant_type")
        .unwrap_or("authorization_code");
    if grant != "authorization_code" {
        return Err(AuthorizeError::UnsupportedGrant(grant.to_owned()));
    }
    let (base, declared) = resolve(input, ambient)?;
    let is_mcp = definition.auth_mode == AuthMode::McpOAuth2;
    let wants_pkce = is_mcp || !definition.disable_pkce;
    let code_verifier = wants_pkce.then(|| pkce::new_verifier(ambient.entropy.as_ref()));
    let mut scopes = scopes(input.secrets, input.connection_config);
    let encoded: Vec<_> = scopes.iter().map(|scope| encode::component(scope)).collect();
    if is_mcp && definition.authorization_url_takes_raw_scopes() {
        // Only what is between them goes unencoded.
        scopes = encoded.iter().map(AsRef::as_ref).collect();
    }
    let scopes = scopes.join(&definition.scope_separator);

    let mut query = Query::default();
    query.set("response_type", "code");
    query.set("client_id", client.id);
    query.set("redirect_uri", input.callback_url);
    query.set("scope", &scopes);
    query.set("state", input.state);
    for (name, value) in &declared {
        if is_mcp && mcp::RESERVED.contains(&name.as_str()) {
            continue;
        }
        if let Some(text) = encode::scalar(value) {
            query.set(name, &text);
        }
    }
    if let Some(verifier) = &code_verifier {
        query.set("code_challenge", &pkce::challenge(verifier));
        query.set("code_challenge_method", "S256");
    }
    if name == "slack"
        && let Some(scopes) = input.user_scopes.filter(|scopes| !scopes.is_empty())
    {
        query.set("user_scope", scopes);
    }
    if !is_mcp {
        overlay(&mut query, input.authorization_params)?;
    }
    let url = assemble(definition, &base, query)?;
    Ok(Authorization { url, code_verifier })
}

/// The integration's scopes, or those of `oauth_scopes_override`.
pub fn scopes<'a>(secrets: &'a IntegrationSecrets, connection_config: &'a JsonMap) -> Vec<&'a str> {
    let split = |text: &'a str| {
        text.split(',')
            .map(str::trim)
            .filter(|scope| !scope.is_empty())
            .collect()
    };
    match connection_config.get("oauth_scopes_override") {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) if !text.is_empty() => split(text),
        _ => split(secrets.scopes.as_deref().unwrap_or_default()),
    }
}

/// Renders every template the flow needs, so that a missing parameter is told now and all at once, not after the
/// end user has granted access. Gives the page's URL without query, and the definition's parameters.
fn resolve(input: &AuthorizeInput<'_>, ambient: &Ambient) -> Result<(Url, JsonMap), EndpointError> {
    let definition = &input.provider.definition;
    let scope = Scope::new(ambient).connection_config(input.connection_config);
    let template = definition
        .authorization_url
        .as_ref()
        .ok_or(EndpointError::Missing("authorization_url"))?;
    let values = endpoint::values(definition.authorization_url_takes_raw_values());
    let url = endpoint::url("authorization_url", template, values, &scope);
    let declared = definition
        .authorization_params
        .render(&scope, OnUnresolved::Fail)
        .map_err(|unresolved| EndpointError::Unresolved(unresolved.names));
    let exchange = endpoint::params(definition, &definition.token_params, &scope);
    let mut missing = Vec::new();
    let mut other = None;
    let errors = [
        url.as_ref().err(),
        declared.as_ref().err(),
        exchange.as_ref().err(),
    ];
    for error in errors.into_iter().flatten() {
        match error {
            EndpointError::Unresolved(names) => missing.extend(names.iter().cloned()),
            error => other = Some(error.clone()),
        }
    }
    missing.extend(missing_for_exchange(definition, &scope));
    if !missing.is_empty() {
        missing.sort_unstable();
        missing.dedup();
        return Err(EndpointError::Unresolved(missing));
    }
    if let Some(error) = other {
        return Err(error);
    }
    let mut url = url?;
    url.set_query(None);
    url.set_fragment(None);
    Ok((url, declared?))
}

/// Parameters of the connection that the exchange will need, that it lacks, and that the callback does not bring.
fn missing_for_exchange(definition: &Definition, scope: &Scope<'_>) -> Vec<String> {
    let Some(client) = definition.token_client.as_deref() else {
        return Vec::new();
    };
    let call = &client.exchange;
    let params = call.params.iter().flat_map(TemplateMap::templates);
    let others = call
        .headers
        .iter()
        .chain(&call.query)
        .map(|entry| &entry.template);
    let names = params.chain(others).chain(&call.url).flat_map(Template::names);
    names
        .filter(|name| {
            let brought = name
                .split_once('.')
                .filter(|(root, _)| *root == "connectionConfig")
                .is_none_or(|(_, key)| definition.redirect_uri_metadata.iter().any(|known| known == key));
            !brought && !endpoint::is_optional(definition, name) && scope.get(name).is_none()
        })
        .map(str::to_owned)
        .collect()
}

fn overlay(query: &mut Query, params: &BTreeMap<String, String>) -> Result<(), AuthorizeError> {
    for (name, value) in params {
        if let Some(fixed) = FIXED.iter().find(|fixed| *fixed == name) {
            // Repeating what is sent anyway harms nobody.
            if query.get(name) == Some(value) {
                continue;
            }
            return Err(AuthorizeError::FixedParam(fixed));
        }
        if value == REMOVE {
            query.remove(name);
        } else {
            query.set(name, value);
        }
    }
    Ok(())
}

fn assemble(definition: &Definition, base: &Url, mut query: Query) -> Result<Url, AuthorizeError> {
    let raw_scope = if definition.authorization_url_takes_raw_scopes() {
        query.remove("scope")
    } else {
        None
    };
    if definition.authorization_url_skip_empty {
        query.0.retain(|(_, value)| !value.is_empty());
    }
    let mut encoded = query.encode();
    if let Some(scope) = raw_scope.filter(|scope| !scope.is_empty()) {
        encoded.push_str("&scope=");
        encoded.push_str(&scope);
    }
    let mut text = match &definition.authorization_url_fragment {
        Some(fragment) => format!("{base}#{fragment}?{encoded}"),
        None => format!("{base}?{encoded}"),
    };
    for (from, to) in &definition.authorization_url_replacements {
        text = text.replacen(from.as_str(), to, 1);
    }
    let url = Url::parse(&text).map_err(|_| AuthorizeError::Invalid)?;
    // A textual replacement or a raw scope must not move the browser elsewhere.
    if url.origin() == base.origin() {
        Ok(url)
    } else {
        Err(AuthorizeError::Invalid)
    }
}

/// Query parameters in order, each name once; setting one again keeps its place.
#[derive(Debug, Default)]
struct Query(Vec<(String, String)>);

impl Query {
    fn get(&self, name: &str) -> Option<&String> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn remove(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(index).1)
    }

    /// A space is `%20`, which every reader of queries understands; `+` is not understood by all.
    fn encode(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            if !text.is_empty() {
                text.push('&');
            }
            text.push_str(&encode::component(name));
            text.push('=');
            text.push_str(&encode::component(value));
        }
        text
    }
}
