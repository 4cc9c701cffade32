//! Requests and answers of token endpoints that have their own way (`token_client` of a definition; auth-flows §11).
//!
//! Pure: a request is made of the definition's templates and the values of [`Values`], an answer is read by the
//! definition's paths. Where the definition says nothing, the functions of [`super::token`] do what RFC 6749 says.

use data_encoding::BASE64URL_NOPAD;
use http::{HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::{
    BodyFormat as Declared, ClientAssertion, ExtraToken, ExtraTokenPlace, TokenCall, TokenClient,
};
use patchbay_catalog::template::{Mode, OnUnresolved, Scope};
use patchbay_types::credentials::OAuth2;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{Credentials, JsonMap, Secret};
use serde_json::{Value, json};
use url::Url;

use super::{OAuthClient, authorize};
use crate::endpoint::{self, EndpointError};
use crate::expiry;
use crate::jwt::{self, SigningKey};
use crate::message::{Answer, BodyFormat, Call};
use crate::metadata::lookup;

/// Variables that a request may go without: parameters made of them are left out.
const OPTIONAL: &[&str] = &[
    "code",
    "codeVerifier",
    "state",
    "clientSecret",
    "refreshToken",
    "scopes",
];

/// What RFC 6749 would ask, for the parts a definition does not write itself.
pub(super) struct Usual {
    pub(super) url: Url,
    pub(super) params: JsonMap,
    /// `Authorization`, where the client authenticates by it.
    pub(super) authorization: Option<String>,
}

/// What requests are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) definition: &'a Definition,
    pub(super) client: OAuthClient<'a>,
    pub(super) connection_config: &'a JsonMap,
    pub(super) callback_url: &'a str,
    pub(super) scopes: &'a str,
    pub(super) code: Option<&'a str>,
    pub(super) code_verifier: Option<&'a Secret>,
    pub(super) state: Option<&'a str>,
    /// The tokens there are: none before an exchange.
    pub(super) tokens: Option<&'a OAuth2>,
    /// The refresh token before this refresh.
    pub(super) previous_refresh_token: Option<&'a Secret>,
    /// What the request before this one brought.
    pub(super) answer: Option<&'a JsonMap>,
}

static NOTHING: std::sync::LazyLock<JsonMap> = std::sync::LazyLock::new(JsonMap::new);

impl<'a> Values<'a> {
    fn scope(&self, ambient: &'a Ambient, claims: &'a JsonMap) -> Scope<'a> {
        let tokens = self.tokens;
        let refresh_token = tokens.and_then(|tokens| tokens.refresh_token.as_ref());
        Scope::new(ambient)
            .shared()
            .connection_config(self.connection_config)
            .text("clientId", self.client.id)
            .text_opt(
                "clientSecret",
                Some(self.client.secret).filter(|secret| !secret.is_empty()),
            )
            .text("redirectUri", self.callback_url)
            .text_opt("callbackHost", host_of(self.callback_url))
            .text_opt("scopes", Some(self.scopes).filter(|scopes| !scopes.is_empty()))
            .text_opt("code", self.code)
            .text_opt("codeVerifier", self.code_verifier.map(Secret::expose))
            .text_opt("state", self.state)
            .text_opt("accessToken", tokens.map(|tokens| tokens.access_token.expose()))
            .text_opt("refreshToken", refresh_token.map(Secret::expose))
            .text_opt(
                "previousRefreshToken",
                self.previous_refresh_token.map(Secret::expose),
            )
            .object("raw", tokens.map_or(&NOTHING, |tokens| &tokens.raw.0))
            .object("answer", self.answer.unwrap_or(&NOTHING))
            .object("claims", claims)
    }

    /// The claims of the access token, if it is a JWT.
    fn claims(&self) -> JsonMap {
        self.tokens
            .and_then(|tokens| claims(tokens.access_token.expose()))
            .unwrap_or_default()
    }
}

fn host_of(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// The claims of a JWT, not verified: it came from its issuer.
pub(crate) fn claims(token: &str) -> Option<JsonMap> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = BASE64URL_NOPAD
        .decode(payload.trim_end_matches('=').as_bytes())
        .ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(claims) => Some(claims),
        _ => None,
    }
}

/// The request of `call`; `usual` stands in for what it does not say.
pub(super) fn request(
    call: &TokenCall,
    values: &Values<'_>,
    usual: impl FnOnce(&Scope<'_>) -> Result<Usual, EndpointError>,
    ambient: &Ambient,
) -> Result<Call, EndpointError> {
    let definition = values.definition;
    let claims = values.claims();
    let assertion = match definition
        .token_client
        .as_deref()
        .and_then(|client| client.assertion.as_ref())
    {
        Some(declared) => Some(client_assertion(
            declared,
            &values.scope(ambient, &claims),
            ambient,
        )?),
        None => None,
    };
    let assertion = assertion.as_ref().map(Secret::expose);
    let scope = values
        .scope(ambient, &claims)
        .text_opt("clientAssertion", assertion);
    let own_url = match &call.url {
        Some(template) => {
            let encoding = endpoint::values(definition.token_url_takes_raw_values());
            Some(endpoint::url("token_client url", template, encoding, &scope)?)
        }
        None => None,
    };
    let own_params = match &call.params {
        Some(map) => Some(endpoint::params_with(definition, map, &scope, OPTIONAL)?),
        None => None,
    };
    let (mut url, params, authorization) = match (own_url, own_params) {
        (Some(url), Some(params)) => (url, params, None),
        (url, params) => {
            let usual = usual(&scope)?;
            let authorization = usual.authorization.filter(|_| params.is_none());
            (
                url.unwrap_or(usual.url),
                params.unwrap_or(usual.params),
                authorization,
            )
        }
    };
    for entry in &call.query {
        let text = entry.template.render(&scope, Mode::Text);
        let text = text.map_err(|unresolved| EndpointError::Unresolved(unresolved.names))?;
        url.query_pairs_mut().append_pair(&entry.name, &text);
    }
    let format = match call.body_format.unwrap_or_else(|| definition.body_format()) {
        Declared::Json => BodyFormat::Json,
        Declared::Query => BodyFormat::Query,
        Declared::Form => BodyFormat::Form,
        Declared::Xml => BodyFormat::Xml,
    };
    let mut request = if params.is_empty() {
        // A body of nothing has no type either.
        Call::post(url, &params, BodyFormat::Query)
    } else {
        Call::post(url, &params, format)
    };
    if let Some(authorization) = authorization {
        request.authorize(&authorization);
    }
    if let Some(method) = &call.method {
        request.method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::POST);
    }
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let scope = scope.text("body", body);
    for entry in &call.headers {
        let text = entry.template.render(&scope, Mode::Text);
        let text = text.map_err(|unresolved| EndpointError::Unresolved(unresolved.names))?;
        let (Ok(name), Ok(mut value)) = (
            HeaderName::from_bytes(entry.name.as_bytes()),
            HeaderValue::from_str(&text),
        ) else {
            return Err(EndpointError::Unresolved(vec![format!("header {}", entry.name)]));
        };
        value.set_sensitive(entry.template.as_literal().is_none());
        request.headers.retain(|(known, _)| *known != name);
        request.headers.push((name, value));
    }
    Ok(request)
}

/// RFC 7523 §2.2, signed with the key the definition points at.
fn client_assertion(
    declared: &ClientAssertion,
    scope: &Scope<'_>,
    ambient: &Ambient,
) -> Result<Secret, EndpointError> {
    let unusable = |what: &str| EndpointError::Unresolved(vec![format!("client assertion: {what}")]);
    let unresolved =
        |unresolved: patchbay_catalog::template::Unresolved| EndpointError::Unresolved(unresolved.names);
    let key = declared.key.render(scope, Mode::Text).map_err(unresolved)?;
    let mut claims = declared
        .claims
        .render(scope, OnUnresolved::Fail)
        .map_err(unresolved)?;
    let now = ambient.now().as_second();
    let life = i64::try_from(declared.lifetime_s).unwrap_or(i64::MAX);
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), now.saturating_add(life).into());
    let header = match json!({"alg": "RS256", "typ": "JWT"}) {
        Value::Object(header) => header,
        _ => JsonMap::new(),
    };
    let key = SigningKey::from_pem(&Secret::new(key)).map_err(|error| unusable(&error.to_string()))?;
    jwt::sign(&header, &claims, &key).map_err(|error| unusable(&error.to_string()))
}

/// What asks for extra tokens, if the definition has any, with the tokens to ask with and the client they are of.
pub(super) fn asks_for_extras<'d, 'c>(
    definition: &'d Definition,
    secrets: &'c IntegrationSecrets,
    credentials: &'c Credentials,
) -> Option<(&'d TokenClient, &'c OAuth2, OAuthClient<'c>)>
where
    'd: 'c,
{
    let token_client = definition.token_client.as_deref()?;
    let Credentials::OAuth2(tokens) = credentials else {
        return None;
    };
    if token_client.extra_tokens.is_empty() {
        return None;
    }
    let oauth_client = OAuthClient::choose(definition, secrets, tokens.config_override.as_ref()).ok()?;
    Some((token_client, tokens, oauth_client))
}

/// The extra tokens that are to be had, with their requests.
pub(super) fn extra_requests<'d>(
    client: &'d TokenClient,
    values: &Values<'_>,
    ambient: &Ambient,
) -> Vec<(&'d ExtraToken, Call)> {
    let claims = values.claims();
    let scope = values.scope(ambient, &claims);
    client
        .extra_tokens
        .iter()
        .filter(|extra| extra.when.iter().all(|condition| condition.holds(&scope)))
        .filter_map(|extra| {
            let usual = |_: &Scope<'_>| Err(EndpointError::Missing("params"));
            match request(&extra.call, values, usual, ambient) {
                Ok(call) => Some((extra, call)),
                Err(error) => {
                    tracing::warn!(%error, "an extra token cannot be asked for");
                    None
                }
            }
        })
        .collect()
}

/// Puts what an extra token's request brought where it belongs: into `config` or the tokens' `raw`. An answer without
/// a token changes nothing; whether it had one.
pub(super) fn keep_extra(
    extra: &ExtraToken,
    answer: &Answer,
    now: Timestamp,
    config: &mut JsonMap,
    tokens: &mut OAuth2,
) -> bool {
    let Some(object) = answer.object().filter(|_| answer.is_success()) else {
        return false;
    };
    let object = rooted(&object, extra.root.as_deref());
    if object
        .get("access_token")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return false;
    }
    let mut kept = object.clone();
    match &extra.into {
        ExtraTokenPlace::ConnectionConfig(key) => {
            let end = object
                .get("expires_in")
                .and_then(|value| expiry::within(value, now));
            if let Some(end) = end {
                kept.insert("expires_at".to_owned(), end.as_millisecond().into());
            }
            config.insert(key.clone(), Value::Object(kept));
        }
        ExtraTokenPlace::Raw(key) => {
            let member = tokens.raw.0.entry(key.clone()).or_insert_with(|| json!({}));
            match member {
                Value::Object(old) => old.extend(kept),
                other => *other = Value::Object(kept),
            }
        }
    }
    true
}

/// The object at the dotted path, or the whole where there is none.
pub(super) fn rooted<'o>(object: &'o JsonMap, root: Option<&str>) -> &'o JsonMap {
    root.and_then(|path| lookup(object, path)?.as_object())
        .unwrap_or(object)
}

/// Member of a kept extra token: not asked for again before this instant, in milliseconds.
const NOT_BEFORE: &str = "not_before";
/// How long an extra token that was refused is left alone.
const EXTRA_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Notes at a kept extra token that it could not be renewed now.
pub(super) fn postpone_extra(extra: &ExtraToken, now: Timestamp, config: &JsonMap, updates: &mut JsonMap) {
    let ExtraTokenPlace::ConnectionConfig(key) = &extra.into else {
        return;
    };
    let Some(Value::Object(old)) = config.get(key) else {
        return;
    };
    let mut kept = old.clone();
    let later = now.checked_add(EXTRA_PAUSE).unwrap_or(Timestamp::MAX);
    kept.insert(NOT_BEFORE.to_owned(), later.as_millisecond().into());
    updates.insert(key.clone(), Value::Object(kept));
}

/// When the first of the extra tokens kept in `connection_config` ends, those left aside that were refused just now.
pub(crate) fn extra_ends(definition: &Definition, config: &JsonMap, now: Timestamp) -> Option<Timestamp> {
    let client = definition.token_client.as_deref()?;
    let ends = client.extra_tokens.iter().filter_map(|extra| match &extra.into {
        ExtraTokenPlace::ConnectionConfig(key) => {
            let kept = config.get(key)?;
            let instant = |name: &str| Timestamp::from_millisecond(kept.get(name)?.as_i64()?).ok();
            instant("expires_at").filter(|_| instant(NOT_BEFORE).is_none_or(|at| at <= now))
        }
        ExtraTokenPlace::Raw(_) => None,
    });
    ends.min()
}

/// Scopes of requests that name them: `oauth_scopes` of the connection replaces the integration's.
pub(super) fn scopes(
    definition: &Definition,
    secrets: &IntegrationSecrets,
    connection_config: &JsonMap,
) -> String {
    let own: Option<Vec<&str>> = match connection_config.get("oauth_scopes") {
        Some(Value::String(text)) if !text.is_empty() => Some(
            text.split(',')
                .map(str::trim)
                .filter(|scope| !scope.is_empty())
                .collect(),
        ),
        Some(Value::Array(items)) if !items.is_empty() => {
            Some(items.iter().filter_map(Value::as_str).collect())
        }
        _ => None,
    };
    own.unwrap_or_else(|| authorize::scopes(secrets, connection_config))
        .join(&definition.scope_separator)
}
