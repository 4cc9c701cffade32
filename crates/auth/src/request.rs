//! A provider call with its credentials in it (proxy §4, §5): what the proxy and the credential test send.
//!
//! Hot path: the definition's templates are compiled when the catalogue is loaded, credentials are read where they
//! lie, and only a caller's path that itself contains a placeholder is parsed here. Where the contract marks a quirk,
//! this does the better thing: headers whose placeholders have no value are left out instead of sent literally, a
//! base URL without its values is refused by name, and connection values cannot move a request to a foreign host.

mod variables;

use std::borrow::Cow;

use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::template::{
    Mode, NamedTemplate, OnUnresolved, RenderUrlError, Scope, SignableRequest, Template,
};
use patchbay_types::credentials::Derived;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use url::Url;

use crate::aws_sigv4::Signing;
use crate::encode;
use crate::fields::{access_token, field};
use crate::message::ClientCertificate;
use crate::oauth1::{self, SignatureMethod, Signer, Stamp};
pub(crate) use variables::Variables;

/// On whose behalf.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The operator's app: OAuth client, `custom` values.
    pub secrets: &'a IntegrationSecrets,
    /// The connection's credentials.
    pub credentials: &'a Credentials,
    /// The connection's parameters.
    pub connection_config: &'a JsonMap,
    /// The connection's public id; empty for one that is only being tested.
    pub connection_id: &'a str,
    /// The connection's metadata.
    pub metadata: Option<&'a JsonMap>,
}

/// What the caller wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path and query as the caller wrote them, or a whole URL that begins with the base URL.
    pub endpoint: &'a str,
    /// Instead of the provider's base URL. The caller has checked that overriding is allowed.
    pub base_url_override: Option<&'a str>,
    /// Header templates over the definition's own: those of a credential test.
    pub templates: &'a [NamedTemplate],
    /// Headers that override all others, each name once.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// The caller's content type, for signatures.
    pub content_type: Option<&'a str>,
    /// The final body, for signatures; empty if there is none or it streams.
    pub body: &'a [u8],
}

/// Ready to be sent.
#[derive(Debug)]
pub struct BuiltRequest<'a> {
    /// Where to.
    pub url: Url,
    /// Where the base of the URL came from.
    pub base: BaseUrl,
    /// Headers, each name once, in lower case.
    pub headers: Vec<BuiltHeader>,
    /// Query parameters that carry credentials, by name: masked in logs.
    pub secret_query: Vec<Cow<'a, str>>,
}

/// One header. Its value's `Debug` is masked when it is a credential.
#[derive(Clone, Debug)]
pub struct BuiltHeader {
    /// Name.
    pub name: HeaderName,
    /// Value, free of line breaks by its type.
    pub value: HeaderValue,
    /// Who put it there.
    pub origin: HeaderOrigin,
}

/// Who put a header into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderOrigin {
    /// We did, and it is made of secrets: never sent to another origin, never logged.
    Credential,
    /// The definition, as fixed text.
    Definition,
    /// The caller.
    Caller,
}

/// Where a base URL came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseUrl {
    /// The caller named it.
    Override,
    /// `connection_config.base_url` of an AWS connection.
    Connection,
    /// The integration's `custom.baseUrl`.
    Integration,
    /// The definition.
    Definition,
}

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The provider has no base URL.
    #[error("this provider has no base URL: name one with the request")]
    NoBaseUrl,
    /// The base URL needs values the connection does not have.
    #[error("the connection has no value for {}", .0.join(", "))]
    MissingConfig(Vec<String>),
    /// No URL came out.
    #[error("base URL and path do not make a valid URL")]
    InvalidUrl,
    /// A value of the connection leads to a host the definition does not allow.
    #[error("the connection's values lead to a host outside {0}")]
    ForeignHost(String),
    /// The credentials cannot be put into a request.
    #[error("{0}")]
    UnsupportedAuth(&'static str),
    /// A credential contains a line break or another control character, or a name is no header's name.
    #[error("the value for header {0} cannot be sent: it has characters a header may not have")]
    UnusableHeader(String),
}

impl BuildError {
    /// Code on the wire, HTTP 400.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoBaseUrl => "unsupported_provider",
            Self::MissingConfig(_) => "missing_connection_config",
            Self::InvalidUrl | Self::ForeignHost(_) => "invalid_url",
            Self::UnsupportedAuth(_) => "unsupported_auth",
            Self::UnusableHeader(_) => "invalid_header_value",
        }
    }
}

impl From<RenderUrlError> for BuildError {
    fn from(error: RenderUrlError) -> Self {
        match error {
            RenderUrlError::ForeignHost { suffix } => Self::ForeignHost(suffix),
            RenderUrlError::Unresolved(unresolved) => Self::MissingConfig(unresolved.names),
            RenderUrlError::Invalid => Self::InvalidUrl,
        }
    }
}

/// Builds the request.
pub fn build<'a>(
    subject: &Subject<'a>,
    wanted: &Wanted<'_>,
    ambient: &Ambient,
) -> Result<BuiltRequest<'a>, BuildError> {
    let (mut url, base) = target(subject, wanted, ambient)?;
    let key = OperatorKey::of(subject);
    let secret_query = set_query(subject, key.as_ref(), &mut url, ambient);
    let headers = headers(subject, wanted, key.as_ref(), &url, ambient)?;
    Ok(BuiltRequest {
        url,
        base,
        headers,
        secret_query,
    })
}

/// What the definition merges into the bodies of POST, PUT, PATCH and DELETE, where its leaves have values. Computed
/// before [`build`], so that signatures cover the merged body.
pub fn injected_body(subject: &Subject<'_>, method: &Method, ambient: &Ambient) -> Option<JsonMap> {
    let map = &subject.definition.proxy.body;
    if map.is_empty()
        || !matches!(
            *method,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE
        )
    {
        return None;
    }
    let variables = Variables::of(subject);
    let scope = Scope::new(ambient)
        .computed(&variables)
        .connection_config(subject.connection_config);
    map.render(&scope, OnUnresolved::Omit)
        .ok()
        .filter(|rendered| !rendered.is_empty())
}

/// Whether the mode or the definition's headers sign or repeat the request's body, which then has to be at hand whole.
pub fn reads_body(definition: &Definition) -> bool {
    definition.auth_mode == AuthMode::AwsSigV4 || definition.proxy.headers_read_body
}

/// The certificate calls of this connection are made with, where the provider asks for one.
pub fn client_certificate(definition: &Definition, credentials: &Credentials) -> Option<ClientCertificate> {
    match credentials {
        Credentials::OAuth2Cc(c) if definition.require_client_certificate => Some(ClientCertificate {
            certificate: c.client_certificate.clone()?,
            private_key: c.client_private_key.clone()?,
        }),
        _ => None,
    }
}

// --- URL ---

fn target(
    subject: &Subject<'_>,
    wanted: &Wanted<'_>,
    ambient: &Ambient,
) -> Result<(Url, BaseUrl), BuildError> {
    let declared = subject.definition.proxy.base_url.as_ref();
    let (source, base) = match wanted.base_url_override.filter(|text| !text.is_empty()) {
        Some(text) => (Source::Text(text), BaseUrl::Override),
        None => match (connection_base(subject), custom(subject, "baseUrl"), declared) {
            (Some(text), ..) => (Source::Text(text), BaseUrl::Connection),
            (None, Some(text), _) => (Source::Text(text), BaseUrl::Integration),
            (None, None, Some(template)) => (Source::Template(template), BaseUrl::Definition),
            (None, None, None) => return Err(BuildError::NoBaseUrl),
        },
    };
    let variables = Variables::of(subject);
    let scope = || {
        let scope = Scope::new(ambient)
            .computed(&variables)
            .connection_config(subject.connection_config);
        match subject.metadata {
            Some(metadata) => scope.object("metadata", metadata),
            None => scope,
        }
    };
    let endpoint = match declared
        .map(Template::source)
        .filter(|text| base != BaseUrl::Override && !text.is_empty())
    {
        Some(literal) if wanted.endpoint.contains(literal) => {
            Cow::Owned(wanted.endpoint.replacen(literal, "", 1))
        }
        _ => Cow::Borrowed(wanted.endpoint),
    };
    let endpoint = endpoint_values(&endpoint, &scope);

    let parsed;
    let template = match source {
        Source::Text(text) if !text.contains("${") => {
            // On its own: or the path would lend it a host.
            Url::parse(text).map_err(|_| BuildError::InvalidUrl)?;
            let url = Url::parse(&join(text, &endpoint)).map_err(|_| BuildError::InvalidUrl)?;
            return web(url).map(|url| (url, base));
        }
        Source::Text(text) => {
            parsed = Template::parse_with_fallback(text);
            &parsed
        }
        Source::Template(template) => template,
    };
    if let Some(literal) = template.as_literal() {
        let url = Url::parse(&join(literal, &endpoint)).map_err(|_| BuildError::InvalidUrl)?;
        return web(url).map(|url| (url, base));
    }
    let scope = scope();
    let rendered = template
        .render(&scope, Mode::UrlRaw)
        .map_err(|unresolved| BuildError::MissingConfig(unresolved.names))?;
    let url = web(Url::parse(&join(rendered.trim(), &endpoint)).map_err(|_| BuildError::InvalidUrl)?)?;
    template.confine(&scope, &url)?;
    Ok((url, base))
}

enum Source<'a> {
    Text(&'a str),
    Template(&'a Template),
}

fn web(url: Url) -> Result<Url, BuildError> {
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(BuildError::InvalidUrl)
    }
}

fn connection_base<'a>(subject: &Subject<'a>) -> Option<&'a str> {
    match subject.credentials {
        Credentials::AwsSigV4(_) => subject
            .connection_config
            .get("base_url")?
            .as_str()
            .filter(|url| !url.is_empty()),
        _ => None,
    }
}

/// A value the operator entered, for providers that ask the operator for any.
fn custom<'a>(subject: &Subject<'a>, name: &str) -> Option<&'a str> {
    if !subject.definition.has_integration_config() {
        return None;
    }
    subject
        .secrets
        .custom
        .get(name)
        .map(Secret::expose)
        .filter(|value| !value.is_empty())
}

/// Base and path with exactly one `/` between them. A path that repeats the base loses it, at a boundary only: a host
/// that merely begins alike is another host.
fn join(base: &str, endpoint: &str) -> String {
    let base = base.strip_suffix('/').unwrap_or(base);
    let mut endpoint = endpoint.trim_start_matches('/');
    if !base.is_empty()
        && let Some(rest) = endpoint.strip_prefix(base)
        && (rest.is_empty() || rest.starts_with(['/', '?', '#']))
    {
        endpoint = rest.trim_start_matches('/');
    }
    if endpoint.is_empty() {
        base.to_owned()
    } else {
        format!("{base}/{endpoint}")
    }
}

/// Placeholders in the caller's own path. Clients that encode braces are understood; what has no value stays.
fn endpoint_values<'e, 's>(endpoint: &'e str, scope: &dyn Fn() -> Scope<'s>) -> Cow<'e, str> {
    let encoded = |text: &str| {
        let bytes = text.as_bytes();
        bytes
            .windows(6)
            .any(|window| window.eq_ignore_ascii_case(b"%24%7B"))
            || bytes
                .windows(4)
                .any(|window| window.eq_ignore_ascii_case(b"$%7B"))
    };
    if encoded(endpoint) {
        let plain = decode_placeholders(endpoint);
        return Cow::Owned(Template::parse(&plain).render_lossy(&scope(), Mode::UrlRaw));
    }
    if endpoint.contains("${") {
        return Cow::Owned(Template::parse(endpoint).render_lossy(&scope(), Mode::UrlRaw));
    }
    Cow::Borrowed(endpoint)
}

/// Decodes `%24%7B…%7D` into `${…}`, where what is between is a name, and nothing else.
fn decode_placeholders(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let opening = rest.char_indices().find_map(|(at, _)| {
            ["%24%7B", "$%7B", "%24{", "${"].iter().find_map(|form| {
                let found = rest
                    .get(at..at + form.len())
                    .is_some_and(|part| part.eq_ignore_ascii_case(form));
                found.then_some((at, form.len()))
            })
        });
        let Some((at, length)) = opening else { break };
        let inner = &rest[at + length..];
        let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')));
        let close = end.and_then(|end| {
            let tail = &inner[end..];
            if tail.starts_with('}') {
                Some((end, 1))
            } else {
                tail.get(..3)
                    .is_some_and(|t| t.eq_ignore_ascii_case("%7D"))
                    .then_some((end, 3))
            }
        });
        if let Some((end, width)) = close {
            out.push_str(&rest[..at]);
            out.push_str("${");
            out.push_str(&inner[..end]);
            out.push('}');
            rest = &inner[end + width..];
        } else {
            out.push_str(&rest[..at + length]);
            rest = inner;
        }
    }
    out.push_str(rest);
    out
}

// --- query ---

/// Sets the definition's and the operator's parameters, replacing the caller's of the same name. Gives their names.
fn set_query<'a>(
    subject: &Subject<'a>,
    key: Option<&OperatorKey<'a>>,
    url: &mut Url,
    ambient: &Ambient,
) -> Vec<Cow<'a, str>> {
    let declared = &subject.definition.proxy.query;
    let key = key.filter(|key| key.placement == Placement::Query);
    if declared.is_empty() && key.is_none() {
        return Vec::new();
    }
    let variables = Variables::of(subject);
    let scope = Scope::new(ambient)
        .computed(&variables)
        .connection_config(subject.connection_config);
    let mut values: Vec<(&str, String, bool)> = declared
        .iter()
        .filter_map(|entry| {
            let value = entry.template.render(&scope, Mode::Text).ok()?;
            Some((entry.name.as_str(), value, entry.template.as_literal().is_none()))
        })
        .collect();
    if let Some(key) = key
        && let Some(value) = key.value(subject, &scope)
    {
        values.retain(|(name, ..)| *name != key.name);
        values.push((key.name, value, true));
    }
    if values.is_empty() {
        return Vec::new();
    }
    let before: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let mut pairs = url.query_pairs_mut();
    pairs.clear();
    let mut placed = vec![false; values.len()];
    for (name, value) in &before {
        match values.iter().position(|(set, ..)| set == name) {
            None => {
                pairs.append_pair(name, value);
            }
            Some(index) if !placed[index] => {
                placed[index] = true;
                pairs.append_pair(name, &values[index].1);
            }
            Some(_) => {}
        }
    }
    for ((name, value, _), _) in values.iter().zip(&placed).filter(|(_, placed)| !**placed) {
        pairs.append_pair(name, value);
    }
    drop(pairs);
    values
        .into_iter()
        .filter(|(.., secret)| *secret)
        .map(|(name, ..)| Cow::Borrowed(name))
        .collect()
}

// --- headers ---

fn headers(
    subject: &Subject<'_>,
    wanted: &Wanted<'_>,
    key: Option<&OperatorKey<'_>>,
    url: &Url,
    ambient: &Ambient,
) -> Result<Vec<BuiltHeader>, BuildError> {
    let declared = &subject.definition.proxy.headers;
    let mut headers = Vec::with_capacity(1 + declared.len() + wanted.headers.len());
    if let Some(value) = default_authorization(subject, wanted.method, url, ambient)? {
        set(
            &mut headers,
            AUTHORIZATION,
            credential(value, AUTHORIZATION.as_str())?,
            HeaderOrigin::Credential,
        );
    }
    let key = key.filter(|key| key.placement == Placement::Header);
    if !declared.is_empty() || !wanted.templates.is_empty() || key.is_some() {
        let variables = Variables::with_request(subject, wanted, url);
        let scope = Scope::new(ambient)
            .shared()
            .computed(&variables)
            .connection_config(subject.connection_config)
            .request(SignableRequest {
                method: wanted.method.as_str(),
                path: url.path(),
                query: url.query().unwrap_or_default(),
                body: wanted.body,
                content_type: wanted.content_type,
            });
        for entry in declared.iter().chain(wanted.templates) {
            let unusable = || BuildError::UnusableHeader(entry.name.clone());
            let name = HeaderName::from_bytes(entry.name.as_bytes()).map_err(|_| unusable())?;
            if let Some(text) = entry.template.as_literal() {
                let value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| unusable())?;
                set(&mut headers, name, value, HeaderOrigin::Definition);
                continue;
            }
            let Ok(text) = entry.template.render(&scope, Mode::Text) else {
                continue;
            };
            let optional =
                entry.template.mentions("connectionConfig") || entry.template.mentions("connection_config");
            if optional && text.is_empty() {
                continue;
            }
            let value = credential(text, &entry.name)?;
            set(&mut headers, name, value, HeaderOrigin::Credential);
        }
        if let Some(key) = key
            && let Some(text) = key.value(subject, &scope)
        {
            let name = HeaderName::from_bytes(key.name.to_ascii_lowercase().as_bytes())
                .map_err(|_| BuildError::UnusableHeader(key.name.to_owned()))?;
            let value = credential(text, key.name)?;
            set(&mut headers, name, value, HeaderOrigin::Credential);
        }
    }
    for (name, value) in wanted.headers {
        let declared_agent = *name == USER_AGENT && headers.iter().any(|header| header.name == USER_AGENT);
        if !declared_agent {
            set(&mut headers, name.clone(), value.clone(), HeaderOrigin::Caller);
        }
    }
    if let Credentials::AwsSigV4(stored) = subject.credentials {
        sign_for_aws(stored, wanted, url, &mut headers, ambient)?;
    }
    Ok(headers)
}

/// proxy §5.4. The body was read whole before: see [`reads_body`].
fn sign_for_aws(
    stored: &Derived,
    wanted: &Wanted<'_>,
    url: &Url,
    headers: &mut Vec<BuiltHeader>,
    ambient: &Ambient,
) -> Result<(), BuildError> {
    const MISSING: BuildError = BuildError::UnsupportedAuth("the connection has no AWS keys yet");
    let signing = Signing::of(stored).ok_or(MISSING)?;
    let content_type = wanted
        .content_type
        .and_then(|kind| HeaderValue::from_str(kind).ok());
    let declared = headers.iter().any(|header| header.name == CONTENT_TYPE);
    // On its way a request may be given another agent, or none.
    let is_signed = |name: &HeaderName| *name != USER_AGENT && *name != AUTHORIZATION;
    let mut signed: Vec<(&HeaderName, &HeaderValue)> = headers
        .iter()
        .filter(|header| is_signed(&header.name))
        .map(|header| (&header.name, &header.value))
        .collect();
    if let Some(content_type) = content_type.as_ref().filter(|_| !declared) {
        signed.push((&CONTENT_TYPE, content_type));
    }
    for (name, value) in signing.headers(wanted.method, url, &signed, wanted.body, ambient.now()) {
        let value = credential(value, name.as_str())?;
        set(headers, name, value, HeaderOrigin::Credential);
    }
    Ok(())
}

fn set(headers: &mut Vec<BuiltHeader>, name: HeaderName, value: HeaderValue, origin: HeaderOrigin) {
    let header = BuiltHeader { name, value, origin };
    match headers.iter_mut().find(|known| known.name == header.name) {
        Some(known) => *known = header,
        None => headers.push(header),
    }
}

/// A header value made of credentials. White space around it, as pasted keys have it, is no part of it; a line break
/// or control character inside is refused, so that no credential can add a header.
fn credential(text: String, name: &str) -> Result<HeaderValue, BuildError> {
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
    let value = if trimmed.len() == text.len() {
        HeaderValue::try_from(text)
    } else {
        HeaderValue::from_bytes(trimmed.as_bytes())
    };
    let mut value = value.map_err(|_| BuildError::UnusableHeader(name.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// proxy §5.1.
fn default_authorization(
    subject: &Subject<'_>,
    method: &Method,
    url: &Url,
    ambient: &Ambient,
) -> Result<Option<String>, BuildError> {
    let credentials = subject.credentials;
    let bearer = || Ok(access_token(credentials).map(|token| format!("Bearer {}", token.trim())));
    match credentials {
        Credentials::TwoStep(_) if places_token_itself(subject.definition) => Ok(None),
        Credentials::OAuth2(_)
        | Credentials::App(_)
        | Credentials::OAuth2Cc(_)
        | Credentials::Jwt(_)
        | Credentials::Signature(_)
        | Credentials::TwoStep(_) => bearer(),
        Credentials::Basic(c) => Ok(Some(encode::basic(&c.username, c.password.expose()))),
        Credentials::OAuth1(_) | Credentials::Tba(_) => {
            oauth1_header(subject, method, url, ambient).map(Some)
        }
        // Signed at the end, over all other headers.
        Credentials::AwsSigV4(_)
        | Credentials::ApiKey(_)
        | Credentials::Bill(_)
        | Credentials::Custom(_)
        | Credentials::None {} => Ok(None),
    }
}

/// Whether a TWO_STEP definition says itself where the token goes.
fn places_token_itself(definition: &Definition) -> bool {
    definition.proxy.headers.iter().any(|entry| {
        let source = entry.template.source();
        source.contains("${accessToken}")
            || (entry.name == "cookie" && source.contains("${credentials._cookies}"))
    })
}

/// proxy §5.4.
fn oauth1_header(
    subject: &Subject<'_>,
    method: &Method,
    url: &Url,
    ambient: &Ambient,
) -> Result<String, BuildError> {
    const MISSING: BuildError = BuildError::UnsupportedAuth(
        "OAuth1 requires oauth_client_id and oauth_client_secret in integration config",
    );
    let own = match subject.credentials {
        Credentials::Tba(c) => Some(&c.config_override),
        _ => None,
    };
    let configured = |name: &str| {
        subject
            .connection_config
            .get(name)
            .and_then(|value| value.as_str())
    };
    let consumer_key = own
        .and_then(|own| own.client_id.as_deref())
        .or(subject.secrets.client_id.as_deref())
        .or_else(|| configured("oauth_client_id"))
        .ok_or(MISSING)?;
    let consumer_secret = own
        .and_then(|own| own.client_secret.as_ref())
        .or(subject.secrets.client_secret.as_ref())
        .map(Secret::expose)
        .or_else(|| configured("oauth_client_secret"))
        .ok_or(MISSING)?;
    let realm = configured("accountId").map(|id| id.replacen('-', "_", 1).to_uppercase());
    let declared = SignatureMethod::from(subject.definition.signature_method);
    let (token, token_secret, method_of_signing, realm) = match subject.credentials {
        Credentials::OAuth1(c) => (&c.oauth_token, &c.oauth_token_secret, declared, None),
        Credentials::Tba(c) => (
            &c.token_id,
            &c.token_secret,
            SignatureMethod::HmacSha256,
            realm.as_deref(),
        ),
        _ => {
            return Err(BuildError::UnsupportedAuth(
                "these credentials are not signed with OAuth 1",
            ));
        }
    };
    let signer = Signer {
        consumer_key,
        consumer_secret,
        token: Some(token.expose()),
        token_secret: token_secret.expose(),
        method: method_of_signing,
        realm,
    };
    let stamp = Stamp::new(ambient.entropy.as_ref(), ambient.now());
    oauth1::authorization(&signer, method, url, &[], &stamp)
        .map_err(|_| BuildError::UnsupportedAuth("RSA-SHA1 needs an RSA private key as the client secret"))
}

// --- the operator's key placement ---

/// Where the operator of a generic API puts the key (proxy §4.1).
struct OperatorKey<'a> {
    placement: Placement,
    name: &'a str,
    template: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Placement {
    Header,
    Query,
}

impl<'a> OperatorKey<'a> {
    fn of(subject: &Subject<'a>) -> Option<Self> {
        let name = custom(subject, "keyName")?;
        let placement = match custom(subject, "keyPlacement") {
            Some("query") => Placement::Query,
            _ => Placement::Header,
        };
        Some(Self {
            placement,
            name,
            template: custom(subject, "valueTemplate"),
        })
    }

    fn value(&self, subject: &Subject<'_>, scope: &Scope<'_>) -> Option<String> {
        match self.template {
            None | Some("${apiKey}") => field(subject.credentials, "apiKey").map(Cow::into_owned),
            Some(text) => Template::parse_with_fallback(text).render(scope, Mode::Text).ok(),
        }
    }
}
