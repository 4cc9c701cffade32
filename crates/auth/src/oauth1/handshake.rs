//! Obtaining an end user's OAuth 1.0a token in three legs (RFC 5849 §2; auth-flows §9).
//!
//! A leg is signed for one URL. Where its endpoint has moved (301, 302, 307, 308), it is signed anew for the new
//! address by [`Leg::moved`]: a signature covers the address it was made for.

use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::template::{OnUnresolved, Scope};
use patchbay_types::credentials::{OAuth1, Raw};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, JsonMap, Secret};
use serde_json::Value;
use url::Url;

use super::{NotAKey, SignatureMethod, Signer, Stamp, authorization};
use crate::encode;
use crate::endpoint::{self, EndpointError};
use crate::message::{Answer, Call};
use crate::oauth2::authorize::scopes;
use crate::oauth2::{MissingClient, OAuthClient};
use crate::rejection::Rejection;

/// What all three legs depend on.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeInput<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The integration's consumer key and secret.
    pub secrets: &'a IntegrationSecrets,
    /// Parameters of the attempt.
    pub connection_config: &'a JsonMap,
}

/// Temporary credentials (RFC 5849 §2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestToken {
    /// Shown to the end user's browser.
    pub token: String,
    /// Signs the last leg.
    pub secret: Secret,
}

/// Why a leg led nowhere.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// No consumer key and secret.
    #[error(transparent)]
    MissingClient(#[from] MissingClient),
    /// An endpoint or its parameters cannot be built.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The consumer secret does not sign.
    #[error(transparent)]
    Key(#[from] NotAKey),
    /// No answer.
    #[error("the provider's token endpoint could not be asked: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// The endpoint has moved to where its request may not follow.
    #[error("the provider's token endpoint has moved to an address that is not usable")]
    Moved,
    /// The provider refused.
    #[error(transparent)]
    Rejected(Rejection),
    /// Success without a token in it.
    #[error("no token found: {0}")]
    NoToken(Rejection),
}

impl HandshakeError {
    /// `error_type` of the popup's WebSocket frame, where the first leg failed.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingClient(_) => "provider_config_err",
            Self::Endpoint(error) => error.code(),
            _ => "token_err",
        }
    }

    /// `error.type` of the `auth` webhook.
    pub fn webhook_type(&self) -> &'static str {
        match self {
            Self::NoToken(_) => "unable_to_parse_token_response",
            _ => "unknown",
        }
    }
}

/// One signed request, repeatable for other addresses.
#[derive(Clone)]
pub struct Leg<'a> {
    method: Method,
    url: Url,
    signer: Signer<'a>,
    /// Go into the header.
    oauth: Vec<(&'static str, String)>,
    /// Go into the form, or the query of a GET.
    params: Vec<(String, String)>,
}

impl<'a> Leg<'a> {
    /// The first: asks for temporary credentials. `callback` is where the browser comes back to.
    pub fn request_token(
        input: &HandshakeInput<'a>,
        callback: &str,
        ambient: &Ambient,
    ) -> Result<Self, HandshakeError> {
        let definition = input.definition;
        let scope = Scope::new(ambient).connection_config(input.connection_config);
        let template = definition
            .request_url
            .as_ref()
            .ok_or(EndpointError::Missing("request_url"))?;
        let url = endpoint::url("request_url", template, endpoint::values(false), &scope)?;
        let params = endpoint::params(definition, &definition.request_params, &scope)?;
        Ok(Self {
            method: method(&definition.request_http_method),
            url,
            signer: signer(input, None, "")?,
            oauth: vec![("oauth_callback", callback.to_owned())],
            params: texts(&params),
        })
    }

    /// The last: exchanges them for the end user's token.
    pub fn access_token(
        input: &HandshakeInput<'a>,
        token: &'a str,
        token_secret: &'a Secret,
        verifier: &str,
        ambient: &Ambient,
    ) -> Result<Self, HandshakeError> {
        let definition = input.definition;
        let scope = Scope::new(ambient).connection_config(input.connection_config);
        let url = endpoint::token_url(definition, AuthMode::OAuth1, &scope)?;
        let params = endpoint::params(definition, &definition.token_params, &scope)?;
        Ok(Self {
            method: method(&definition.token_http_method),
            url,
            signer: signer(input, Some(token), token_secret.expose())?,
            oauth: vec![("oauth_verifier", verifier.to_owned())],
            params: texts(&params),
        })
    }

    /// The request as it goes to the leg's present address, with a nonce of its own.
    pub fn call(&self, ambient: &Ambient) -> Result<Call, HandshakeError> {
        let mut url = self.url.clone();
        let in_query = self.method == Method::GET;
        if in_query && !self.params.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.params);
        }
        let mut extra: Vec<(&str, &str)> = self.oauth.iter().map(|(n, v)| (*n, v.as_str())).collect();
        if !in_query {
            extra.extend(self.params.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        }
        let stamp = Stamp::new(ambient.entropy.as_ref(), ambient.now());
        let header = authorization(&self.signer, &self.method, &url, &extra, &stamp)?;
        let mut headers = vec![
            (ACCEPT, HeaderValue::from_static("*/*")),
            (USER_AGENT, HeaderValue::from_static("Patchbay")),
        ];
        let mut body = bytes::Bytes::new();
        if !in_query && !self.params.is_empty() {
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.push((CONTENT_TYPE, kind));
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            body = form.extend_pairs(&self.params).finish().into();
        }
        let mut call = Call {
            method: self.method.clone(),
            url,
            headers,
            body,
            client_certificate: None,
        };
        call.authorize(&header);
        Ok(call)
    }

    /// The same leg at `location`, as its present address answered. A PLAINTEXT signature is the secret itself and
    /// never leaves the origin it was meant for; no leg follows from https to http.
    pub fn moved(mut self, location: &str) -> Result<Self, HandshakeError> {
        let target = self.url.join(location).map_err(|_| HandshakeError::Moved)?;
        let plain = self.signer.method == SignatureMethod::Plaintext;
        let refused = !matches!(target.scheme(), "http" | "https")
            || (self.url.scheme() == "https" && target.scheme() != "https")
            || !target.username().is_empty()
            || target.password().is_some()
            || (plain && target.origin() != self.url.origin());
        if refused {
            return Err(HandshakeError::Moved);
        }
        self.url = target;
        Ok(self)
    }
}

impl std::fmt::Debug for Leg<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leg")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

/// What the first leg's answer means.
pub fn read_request_token(
    input: &HandshakeInput<'_>,
    answer: &Answer,
) -> Result<RequestToken, HandshakeError> {
    let (token, secret, _) = read(input, answer, &[])?;
    Ok(RequestToken { token, secret })
}

/// What the last leg's answer means. `sent` are the secrets that went along, for masking.
pub fn read_access_token(
    input: &HandshakeInput<'_>,
    answer: &Answer,
    sent: &[&str],
) -> Result<OAuth1, HandshakeError> {
    let (token, secret, raw) = read(input, answer, sent)?;
    Ok(OAuth1 {
        oauth_token: Secret::new(token),
        oauth_token_secret: secret,
        raw: Raw(raw),
    })
}

/// The page on which the end user decides. `extra` are parameters of the session or the browser.
pub fn authorization_page(
    input: &HandshakeInput<'_>,
    request_token: &RequestToken,
    callback: &str,
    extra: &std::collections::BTreeMap<String, String>,
    ambient: &Ambient,
) -> Result<Url, HandshakeError> {
    let definition = input.definition;
    let scope = Scope::new(ambient).connection_config(input.connection_config);
    let template = definition
        .authorization_url
        .as_ref()
        .ok_or(EndpointError::Missing("authorization_url"))?;
    let values = endpoint::values(definition.authorization_url_takes_raw_values());
    let mut url = endpoint::url("authorization_url", template, values, &scope)?;
    let declared = definition
        .authorization_params
        .render(&scope, OnUnresolved::Fail)
        .map_err(|unresolved| EndpointError::Unresolved(unresolved.names))?;
    let mut params: Vec<(String, String)> = texts(&declared);
    for (name, value) in extra {
        params.retain(|(known, _)| known != name);
        if value != "undefined" {
            params.push((name.clone(), value.clone()));
        }
    }
    // These hold the flow together: nobody else sets them.
    params.retain(|(name, _)| !matches!(name.as_str(), "oauth_token" | "oauth_callback"));
    let scopes = scopes(input.secrets, input.connection_config).join(&definition.scope_separator);
    let mut query = vec![("oauth_token".to_owned(), request_token.token.clone())];
    if !params.iter().any(|(name, _)| name == "scope") {
        query.push(("scope".to_owned(), scopes));
    }
    query.extend(params);
    query.push(("oauth_callback".to_owned(), callback.to_owned()));
    let encoded: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode::component(name), encode::component(value)))
        .collect();
    url.set_query(Some(&encoded.join("&")));
    url.set_fragment(None);
    Ok(url)
}

/// The callback of an attempt: providers of OAuth 1 know no `state` of their own.
pub fn callback_with_state(callback: &str, state: &str) -> String {
    let separator = if callback.contains('?') { '&' } else { '?' };
    format!("{callback}{separator}state={state}")
}

fn signer<'a>(
    input: &HandshakeInput<'a>,
    token: Option<&'a str>,
    token_secret: &'a str,
) -> Result<Signer<'a>, MissingClient> {
    let client = OAuthClient::choose(input.definition, input.secrets, None)?;
    Ok(Signer {
        consumer_key: client.id,
        consumer_secret: client.secret,
        token,
        token_secret,
        method: input.definition.signature_method.into(),
        realm: None,
    })
}

fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap_or(Method::POST)
}

fn texts(params: &JsonMap) -> Vec<(String, String)> {
    params
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), encode::scalar(value)?.into_owned())))
        .collect()
}

/// A query string, whatever its content type says: providers label it as HTML, text or form.
fn read(
    input: &HandshakeInput<'_>,
    answer: &Answer,
    sent: &[&str],
) -> Result<(String, Secret, JsonMap), HandshakeError> {
    let mut secrets: Vec<&str> = sent.to_vec();
    secrets.extend(input.secrets.client_secret.as_ref().map(Secret::expose));
    if !answer.is_success() {
        return Err(HandshakeError::Rejected(Rejection::read(answer, &secrets)));
    }
    let fields: JsonMap = url::form_urlencoded::parse(answer.body.trim_ascii())
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect();
    let text = |name: &str| {
        let value = fields.get(name).and_then(Value::as_str);
        value.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    match (text("oauth_token"), text("oauth_token_secret")) {
        (Some(token), Some(secret)) => Ok((token, Secret::new(secret), fields)),
        _ => Err(HandshakeError::NoToken(Rejection::read(answer, &secrets))),
    }
}
