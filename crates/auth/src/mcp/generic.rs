//! MCP_OAUTH2_GENERIC: a server of which only the address is known (auth-flows §12.2).
//!
//! Everything else is discovered: the server's protected resource metadata (RFC 9728) names its authorization server,
//! whose own metadata (RFC 8414, or OpenID Connect discovery) names the endpoints; there we become a client by our
//! metadata document, or by registering (RFC 7591). Tokens are asked for with the server as their resource
//! (RFC 8707), so that no other server can use them.
//!
//! The address comes from an end user, and what is discovered from whoever is there: every URL passes [`guard`], and
//! the connector checks what the names resolve to.

use std::net::IpAddr;

use patchbay_outbound::{Policy, Range, classify};
use patchbay_types::{JsonMap, Secret};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Host, Url};

use super::{ClientProfile, RegisteredClient, RegistrationError};
use crate::encode;
use crate::message::{BodyFormat, Call};
use crate::oauth2::pkce;

/// `connection_config` key of the server's address.
pub const SERVER_URL: &str = "mcp_server_url";
/// `connection_config` key of [`Server`], as JSON text.
pub const METADATA: &str = "oauth_metadata";
/// `connection_config` key of [`ClientInfo`], as JSON text.
pub const CLIENT_INFO: &str = "oauth_client_info";
/// `connection_config` key of the resource tokens are for.
pub const RESOURCE: &str = "oauth_resource_url";

/// Why there is no way to sign in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// No address.
    #[error("the address of the MCP server is missing: set mcp_server_url")]
    MissingServer,
    /// An address that may not be called.
    #[error("the {0} is not usable: it must be an https address with a public host name")]
    Address(&'static str),
    /// No metadata at any of the well-known addresses.
    #[error("the server does not say how to sign in: no authorization server metadata was found")]
    NoMetadata,
    /// The metadata contradict what they are for.
    #[error("the server's metadata are not usable: {0}")]
    Unusable(&'static str),
    /// Neither way of becoming a client.
    #[error(
        "the server takes neither a client id metadata document (for which Patchbay needs a public https address) nor \
         registrations"
    )]
    NoClient,
    /// See [`RegistrationError`].
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// No answer.
    #[error("the server could not be asked how to sign in: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
}

impl DiscoveryError {
    /// `error_type` of the popup's WebSocket frame.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingServer | Self::Address("server address") => "url_param_err",
            _ => "unknown_err",
        }
    }
}

/// Checks an address: https, a host name that is neither an address nor this machine. Where the operator opened
/// loopback or private networks, plain and literal addresses in them are fine.
pub fn guard(what: &'static str, text: &str, policy: &Policy) -> Result<Url, DiscoveryError> {
    let refused = DiscoveryError::Address(what);
    let Ok(url) = Url::parse(text) else {
        return Err(refused);
    };
    if !url.username().is_empty() || url.password().is_some() || policy.check_url(&url).is_err() {
        return Err(refused);
    }
    let literal = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let local =
                name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain";
            // The policy let a name of this machine pass: the operator opened it.
            return if local || url.scheme() == "https" {
                Ok(url)
            } else {
                Err(refused)
            };
        }
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        None => return Err(refused),
    };
    if classify(literal) == Range::Global {
        return Err(refused);
    }
    Ok(url)
}

/// Where a resource's metadata may be, nearest first (RFC 9728 §3.1).
pub fn resource_metadata_urls(server: &Url) -> Vec<Url> {
    well_known(server, "oauth-protected-resource")
}

/// Where an authorization server's metadata may be, nearest first (RFC 8414 §3.1, OpenID Connect Discovery §4).
pub fn server_metadata_urls(issuer: &Url) -> Vec<Url> {
    let mut urls = well_known(issuer, "oauth-authorization-server");
    urls.truncate(1);
    urls.extend(well_known(issuer, "openid-configuration").into_iter().take(1));
    let path = issuer.path().trim_end_matches('/');
    if !path.is_empty() {
        let mut url = bare(issuer);
        url.set_path(&format!("{path}/.well-known/openid-configuration"));
        urls.push(url);
    }
    urls
}

/// `/.well-known/<name>` before the path of `base`, then without it.
fn well_known(base: &Url, name: &str) -> Vec<Url> {
    let path = base.path().trim_end_matches('/');
    let mut paths = vec![format!("/.well-known/{name}{path}")];
    if !path.is_empty() {
        paths.push(format!("/.well-known/{name}"));
    }
    let at = |path: &String| {
        let mut url = bare(base);
        url.set_path(path);
        url
    };
    paths.iter().map(at).collect()
}

fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url
}

/// What a resource says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its authorization server.
    pub authorization_server: Url,
    /// Its name; none if it says nothing.
    pub resource: Option<String>,
    /// What can be asked for.
    pub scopes: Vec<String>,
}

impl Resource {
    /// A server without metadata: its origin is its authorization server.
    pub fn undescribed(server: &Url) -> Self {
        let mut origin = bare(server);
        origin.set_path("/");
        Self {
            authorization_server: origin,
            resource: None,
            scopes: Vec::new(),
        }
    }

    /// Reads RFC 9728 metadata. A resource of another origin, or one that the server is not part of, is somebody
    /// else's (§3.3).
    pub fn read(server: &Url, metadata: &JsonMap, policy: &Policy) -> Result<Self, DiscoveryError> {
        let named = metadata.get("resource").and_then(Value::as_str);
        if let Some(named) = named {
            let named = Url::parse(named).map_err(|_| DiscoveryError::Unusable("the resource is no URL"))?;
            let (part, whole) = (server.path(), named.path().trim_end_matches('/'));
            let within = part
                .strip_prefix(whole)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if named.origin() != server.origin() || !within {
                return Err(DiscoveryError::Unusable("they describe another resource"));
            }
        }
        let servers = metadata.get("authorization_servers").and_then(Value::as_array);
        let first = servers
            .and_then(|servers| servers.first())
            .and_then(Value::as_str);
        let authorization_server = match first {
            Some(text) => guard("authorization server", text, policy)?,
            None => Self::undescribed(server).authorization_server,
        };
        Ok(Self {
            authorization_server,
            resource: named.map(str::to_owned),
            scopes: texts(metadata, "scopes_supported").unwrap_or_default(),
        })
    }
}

/// What an authorization server says about itself, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name, which it may repeat in callbacks (RFC 9207).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where end users consent.
    pub authorization_endpoint: String,
    /// Where codes become tokens.
    pub token_endpoint: String,
    /// Where clients register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_endpoint: Option<String>,
    /// What can be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes_supported: Vec<String>,
    /// How clients may authenticate; none if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether a client may name itself by the address of its metadata.
    #[serde(default)]
    pub client_id_metadata_document_supported: bool,
}

impl Server {
    /// Reads RFC 8414 metadata. A registration endpoint that may not be called counts as none.
    pub fn read(metadata: &JsonMap, policy: &Policy) -> Result<Self, DiscoveryError> {
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
        let authorization = guard("authorization endpoint", text("authorization_endpoint"), policy)?;
        let token = guard("token endpoint", text("token_endpoint"), policy)?;
        let registration = guard("registration endpoint", text("registration_endpoint"), policy).ok();
        if texts(metadata, "response_types_supported").is_some_and(|all| !all.iter().any(|one| one == "code"))
        {
            return Err(DiscoveryError::Unusable("authorization codes are not offered"));
        }
        let methods = texts(metadata, "code_challenge_methods_supported");
        if methods.is_some_and(|all| !all.iter().any(|one| one == "S256")) {
            return Err(DiscoveryError::Unusable("PKCE with S256 is not offered"));
        }
        let cimd = metadata.get("client_id_metadata_document_supported");
        Ok(Self {
            issuer: Some(text("issuer").to_owned()).filter(|issuer| !issuer.is_empty()),
            authorization_endpoint: authorization.into(),
            token_endpoint: token.into(),
            registration_endpoint: registration.map(Into::into),
            scopes_supported: texts(metadata, "scopes_supported").unwrap_or_default(),
            token_endpoint_auth_methods_supported: texts(metadata, "token_endpoint_auth_methods_supported"),
            client_id_metadata_document_supported: cimd == Some(&Value::Bool(true)),
        })
    }
}

fn texts(metadata: &JsonMap, name: &str) -> Option<Vec<String>> {
    let items = metadata.get(name)?.as_array()?;
    Some(
        items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    )
}

/// The client we are there, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Client id.
    pub client_id: String,
    /// How it authenticates, if the registration said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<String>,
}

impl From<&RegisteredClient> for ClientInfo {
    fn from(client: &RegisteredClient) -> Self {
        Self {
            client_id: client.id.clone(),
            token_endpoint_auth_method: client.auth_method.clone(),
        }
    }
}

/// All that was found out about a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovered {
    /// The server's address.
    pub server_url: Url,
    /// How to sign in.
    pub server: Server,
    /// As whom.
    pub client: ClientInfo,
    /// Its secret, if it has one.
    pub client_secret: Option<Secret>,
    /// What tokens are for.
    pub resource: Option<String>,
    /// What is asked for unless somebody says otherwise.
    pub scopes: Vec<String>,
}

impl Discovered {
    /// For `connection_config`.
    pub fn config(&self) -> JsonMap {
        let json = |value: Result<String, serde_json::Error>| Value::String(value.unwrap_or_default());
        let mut config = JsonMap::new();
        config.insert(SERVER_URL.to_owned(), self.server_url.as_str().into());
        config.insert(METADATA.to_owned(), json(serde_json::to_string(&self.server)));
        config.insert(CLIENT_INFO.to_owned(), json(serde_json::to_string(&self.client)));
        if let Some(resource) = &self.resource {
            config.insert(RESOURCE.to_owned(), resource.as_str().into());
        }
        config
    }

    /// The page on which the end user consents. `scopes` are asked for instead of the discovered, if there are any.
    pub fn authorization_page(
        &self,
        scopes: &[&str],
        callback: &str,
        state: &str,
        verifier: &Secret,
    ) -> Result<Url, DiscoveryError> {
        let scope = if scopes.is_empty() {
            self.scopes.join(" ")
        } else {
            scopes.join(" ")
        };
        let mut url = Url::parse(&self.server.authorization_endpoint)
            .map_err(|_| DiscoveryError::Address("authorization endpoint"))?;
        url.set_fragment(None);
        let challenge = pkce::challenge(verifier);
        let mut query = vec![
            ("response_type", "code"),
            ("client_id", &self.client.client_id),
            ("redirect_uri", callback),
            ("state", state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if !scope.is_empty() {
            query.push(("scope", &scope));
        }
        if scope.split(' ').any(|scope| scope == "offline_access") {
            query.push(("prompt", "consent"));
        }
        if let Some(resource) = &self.resource {
            query.push(("resource", resource));
        }
        url.query_pairs_mut().extend_pairs(query);
        Ok(url)
    }
}

/// What a connection knows of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// How to sign in.
    pub server: Server,
    /// As whom.
    pub client: ClientInfo,
    /// What tokens are for.
    pub resource: Option<String>,
}

/// `connection_config` does not hold what was discovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missing_oauth_metadata: the connection does not know its authorization server")]
pub struct MissingMetadata;

impl Known {
    /// Reads [`Discovered::config`] back.
    pub fn read(connection_config: &JsonMap) -> Result<Self, MissingMetadata> {
        let text = |name: &str| connection_config.get(name).and_then(Value::as_str);
        let server = serde_json::from_str(text(METADATA).ok_or(MissingMetadata)?);
        let client = serde_json::from_str(text(CLIENT_INFO).ok_or(MissingMetadata)?);
        Ok(Self {
            server: server.map_err(|_| MissingMetadata)?,
            client: client.map_err(|_| MissingMetadata)?,
            resource: text(RESOURCE).map(str::to_owned),
        })
    }

    /// The token request: `grant` is what makes it a code exchange or a refresh.
    pub fn token_request(
        &self,
        grant: &[(&str, &str)],
        secret: Option<&Secret>,
    ) -> Result<Call, MissingMetadata> {
        let url = Url::parse(&self.server.token_endpoint).map_err(|_| MissingMetadata)?;
        let mut params: JsonMap = grant
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        if let Some(resource) = &self.resource {
            params.insert("resource".to_owned(), resource.as_str().into());
        }
        let id = self.client.client_id.as_str();
        let method = self.auth_method(secret);
        if method != "client_secret_basic" {
            params.insert("client_id".to_owned(), id.into());
        }
        let secret = secret.map(Secret::expose).unwrap_or_default();
        if method == "client_secret_post" {
            params.insert("client_secret".to_owned(), secret.into());
        }
        let mut call = Call::post(url, &params, BodyFormat::Form);
        if method == "client_secret_basic" {
            call.authorize(&encode::basic_form(id, secret));
        }
        Ok(call)
    }

    /// As the registration said; else as the server prefers among what our secret allows.
    fn auth_method(&self, secret: Option<&Secret>) -> &str {
        let Some(_) = secret.filter(|secret| !secret.is_empty()) else {
            return "none";
        };
        if let Some(method) = self.client.token_endpoint_auth_method.as_deref()
            && matches!(method, "client_secret_basic" | "client_secret_post" | "none")
        {
            return method;
        }
        match &self.server.token_endpoint_auth_methods_supported {
            None => "client_secret_basic",
            Some(all) if all.iter().any(|one| one == "client_secret_basic") => "client_secret_basic",
            Some(all) if all.iter().any(|one| one == "client_secret_post") => "client_secret_post",
            Some(_) => "none",
        }
    }
}

/// How a client comes to be.
#[derive(Clone, Debug)]
pub struct Becoming<'a> {
    /// Who registers.
    pub profile: ClientProfile,
    /// Address of our metadata document; none without a public https address.
    pub document: Option<String>,
    /// Where browsers come back to.
    pub callback: &'a str,
}

#[cfg(test)]
mod tests {
    use patchbay_outbound::PrivateNetworks;
    use serde_json::json;

    use super::*;

    fn strict() -> Policy {
        Policy::public(&PrivateNetworks::Deny)
    }

    fn object(value: Value) -> JsonMap {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn only_public_https_names_pass_the_guard() {
        for text in ["https://mcp.example.com/mcp", "https://mcp.example.com:8443/"] {
            assert!(guard("server address", text, &strict()).is_ok(), "{text}");
        }
        for text in [
            "http://mcp.example.com/mcp",
            "https://localhost/",
            "https://api.localhost/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://8.8.8.8/",
            "https://169.254.169.254/latest",
            "https://0x7f.1/",
            "https://user@mcp.example.com/",
            "https://metadata.google.internal/",
            "ftp://mcp.example.com/",
            "",
        ] {
            let error = guard("server address", text, &strict()).unwrap_err();
            assert_eq!(error.code(), "url_param_err", "{text}");
        }
        let opened = Policy::public(&PrivateNetworks::loopback());
        assert!(guard("server address", "http://127.0.0.1:4000/mcp", &opened).is_ok());
        assert!(guard("server address", "http://localhost:4000/mcp", &opened).is_ok());
        assert!(guard("server address", "http://mcp.example.com/", &opened).is_err());
        assert!(guard("server address", "https://8.8.8.8/", &opened).is_err());
    }

    #[test]
    fn metadata_are_looked_for_nearest_first() {
        let all = |urls: Vec<Url>| urls.into_iter().map(String::from).collect::<Vec<_>>();
        let server = Url::parse("https://a.example/mcp/v1?x=1").unwrap();
        assert_eq!(
            all(resource_metadata_urls(&server)),
            [
                "https://a.example/.well-known/oauth-protected-resource/mcp/v1",
                "https://a.example/.well-known/oauth-protected-resource"
            ]
        );
        let issuer = Url::parse("https://id.example/tenant").unwrap();
        assert_eq!(
            all(server_metadata_urls(&issuer)),
            [
                "https://id.example/.well-known/oauth-authorization-server/tenant",
                "https://id.example/.well-known/openid-configuration/tenant",
                "https://id.example/tenant/.well-known/openid-configuration"
            ]
        );
        let root = Url::parse("https://id.example/").unwrap();
        assert_eq!(
            all(server_metadata_urls(&root)),
            [
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration"
            ]
        );
    }

    #[test]
    fn a_resource_describes_itself_and_nobody_else() {
        let server = Url::parse("https://a.example/mcp").unwrap();
        let read = |value| Resource::read(&server, &object(value), &strict());
        let good = read(
            json!({"resource": "https://a.example/mcp", "authorization_servers": ["https://id.example/t"],
            "scopes_supported": ["a", "b"]}),
        )
        .unwrap();
        assert_eq!(good.authorization_server.as_str(), "https://id.example/t");
        assert_eq!(good.scopes, ["a", "b"]);
        let silent = read(json!({})).unwrap();
        assert_eq!(silent.authorization_server.as_str(), "https://a.example/");
        for wrong in [
            json!({"resource": "https://b.example/mcp"}),
            json!({"resource": "https://a.example/mcp2"}),
            json!({"resource": "nonsense"}),
            json!({"authorization_servers": ["http://id.example/"]}),
            json!({"authorization_servers": ["https://127.0.0.1/"]}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_authorization_server_must_offer_what_we_need() {
        let whole = json!({"issuer": "https://id.example", "authorization_endpoint": "https://id.example/a",
            "token_endpoint": "https://id.example/t", "registration_endpoint": "https://10.0.0.1/r",
            "response_types_supported": ["code"], "code_challenge_methods_supported": ["plain", "S256"]});
        let server = Server::read(&object(whole.clone()), &strict()).unwrap();
        assert_eq!(
            server.registration_endpoint, None,
            "one that may not be called is ignored"
        );
        for (name, value) in [
            ("response_types_supported", json!(["token"])),
            ("code_challenge_methods_supported", json!(["plain"])),
            ("token_endpoint", json!("https://localhost/t")),
            ("authorization_endpoint", json!(null)),
        ] {
            let mut wrong = object(whole.clone());
            wrong.insert(name.to_owned(), value);
            assert!(Server::read(&wrong, &strict()).is_err(), "{name}");
        }
    }

    #[test]
    fn the_client_authenticates_as_registered_or_as_the_server_prefers() {
        let known = |hint: Option<&str>, methods: Option<&[&str]>| Known {
            server: Server {
                token_endpoint: "https://id.example/t".to_owned(),
                token_endpoint_auth_methods_supported: methods
                    .map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
                ..Server::default()
            },
            client: ClientInfo {
                client_id: "c".to_owned(),
                token_endpoint_auth_method: hint.map(str::to_owned),
            },
            resource: Some("https://a.example/mcp".to_owned()),
        };
        let secret = Secret::new("s");
        for (hint, methods, given, header, body) in [
            (None, None, None, false, "client_id=c"),
            (None, None, Some(&secret), true, ""),
            (
                None,
                Some(&["client_secret_post"][..]),
                Some(&secret),
                false,
                "client_id=c&client_secret=s",
            ),
            (
                Some("client_secret_post"),
                None,
                Some(&secret),
                false,
                "client_id=c&client_secret=s",
            ),
            (Some("none"), None, Some(&secret), false, "client_id=c"),
            (Some("client_secret_basic"), None, None, false, "client_id=c"),
        ] {
            let call = known(hint, methods)
                .token_request(&[("grant_type", "x")], given)
                .unwrap();
            assert_eq!(
                call.header("authorization").is_some(),
                header,
                "{hint:?} {methods:?}"
            );
            let expected = format!("grant_type=x&resource=https%3A%2F%2Fa.example%2Fmcp&{body}");
            assert_eq!(call.body, expected.trim_end_matches('&'), "{hint:?} {methods:?}");
        }
    }
}
