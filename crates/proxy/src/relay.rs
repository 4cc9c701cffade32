//! One proxied call, from the caller's request to the upstream's response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use patchbay_auth::request::{self, BuildError, HeaderOrigin, Subject, Wanted};
use patchbay_connections::caches::ConnectionName;
use patchbay_connections::refresh::{self, Freshness, ReadError};
use patchbay_connections::{Context, integrations};
use patchbay_outbound::redirect::{self, AcrossOrigins, Credentials as Hidden, Hop, Next, Rules};
use patchbay_outbound::replay::Replay;
use patchbay_outbound::{Body, Call, Identity, ResponseBody, backoff, uri_of};
use patchbay_types::connections::Connection;
use patchbay_types::integrations::Integration;
use patchbay_types::{EnvironmentId, Timestamp};
use serde_json::Value;
use url::Url;

use crate::body::{Conversion, conversion, form_to_json, json_to_form, lacks_boundary};
use crate::headers::{is_framing, relayed};

/// Longest body that is kept for another attempt; longer ones are sent once.
const REPLAY_LIMIT: usize = 1024 * 1024;
/// Longest body that is converted or merged, which takes it whole.
const CONVERT_LIMIT: usize = 75 * 1024 * 1024;
/// Redirects followed.
const MAX_REDIRECTS: u8 = 5;
/// Most attempts after the first.
pub const MAX_RETRIES: u8 = 10;
/// Longest wait a provider may impose between attempts; beyond it the caller hears the provider's answer.
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// A 401 soon after a refresh is not about the token's age: do not refresh again.
const SETTLED: Duration = Duration::from_secs(30);

/// A caller's request.
#[derive(Debug)]
pub struct ProxyRequest {
    /// Environment of the caller's key.
    pub environment: EnvironmentId,
    /// Method, passed on.
    pub method: Method,
    /// Path and query after `/proxy`, as they came, beginning with `/`.
    pub target: String,
    /// The caller's own headers.
    pub headers: HeaderMap,
    /// The caller's body.
    pub body: Body,
    /// What the control headers say.
    pub controls: Controls,
}

/// The control headers (proxy §2), validated.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// Integration.
    pub provider_config_key: String,
    /// Connection.
    pub connection_id: String,
    /// Attempts after the first, at most [`MAX_RETRIES`].
    pub retries: u8,
    /// Further statuses to retry on.
    pub retry_on: Vec<u16>,
    /// Instead of the provider's base URL.
    pub base_url_override: Option<Url>,
    /// Whether credentials follow a redirect to another origin; none asks the definition.
    pub forward_headers_on_redirect: RedirectHeaders,
    /// `Nango-Proxy-*` headers, prefix removed, each name once.
    pub forwarded: Vec<(HeaderName, HeaderValue)>,
}

/// Whether credentials follow a redirect to another origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectHeaders {
    /// As the provider's definition says.
    #[default]
    AsDefined,
    /// They do.
    Forward,
    /// They do not.
    Withhold,
}

/// Why there is no upstream response.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No such integration.
    #[error("no such integration")]
    UnknownIntegration,
    /// The integration's provider is not in the catalogue.
    #[error("the integration's provider is not in the catalogue")]
    UnknownProvider,
    /// No such connection.
    #[error("no such connection")]
    UnknownConnection,
    /// The credentials are not fit for use.
    #[error(transparent)]
    Credentials(ReadError),
    /// The request cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The body must be converted and is not what its type says.
    #[error("the body is not valid JSON: {0}")]
    InvalidJson(String),
    /// The body must be converted and is too large for it.
    #[error("the body is larger than {CONVERT_LIMIT} bytes")]
    BodyTooLarge,
    /// The target may not be reached.
    #[error("{0}")]
    Blocked(patchbay_outbound::Error),
    /// The upstream did not answer.
    #[error("{0}")]
    Upstream(patchbay_outbound::Error),
}

impl From<ReadError> for ProxyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownIntegration => Self::UnknownIntegration,
            ReadError::UnknownConnection => Self::UnknownConnection,
            other => Self::Credentials(other),
        }
    }
}

impl From<patchbay_outbound::Error> for ProxyError {
    fn from(error: patchbay_outbound::Error) -> Self {
        if error.is_blocked() {
            Self::Blocked(error)
        } else {
            Self::Upstream(error)
        }
    }
}

/// Sends the request with the connection's credentials and hands back the upstream's response: status, end-to-end
/// headers and body as they are.
pub async fn relay(
    context: &Arc<Context>,
    request: ProxyRequest,
) -> Result<Response<ResponseBody>, ProxyError> {
    let name = ConnectionName {
        environment: request.environment,
        integration: request.controls.provider_config_key.clone(),
        connection: request.controls.connection_id.clone(),
    };
    let connection = refresh::read(context, &name, Freshness::Usual).await?;
    let integration = integrations::get(context, name.environment, &name.integration)
        .await
        .map_err(ReadError::from)?
        .ok_or(ProxyError::UnknownIntegration)?;
    let (call, body) = Relay::prepare(context, request, name, integration, &connection).await?;
    let response = call.run(connection, body).await?;
    let (mut parts, body) = response.into_parts();
    parts.headers = relayed(std::mem::take(&mut parts.headers));
    Ok(Response::from_parts(parts, body))
}

/// A call whose body is decided.
struct Relay<'a> {
    context: &'a Arc<Context>,
    name: ConnectionName,
    integration: Arc<Integration>,
    method: Method,
    target: String,
    controls: Controls,
    /// Caller's headers that serve as defaults upstream.
    defaults: Vec<(HeaderName, HeaderValue)>,
    content_type: Option<HeaderValue>,
    /// The whole body if it is at hand, for signatures.
    whole: Bytes,
}

/// A request body that may be sent more than once, or not.
enum Payload {
    Nothing,
    Whole(Bytes),
    Stream(Replay),
}

impl Payload {
    /// The body of the next attempt; `None` once what was streamed is gone.
    fn next(&self) -> Option<Body> {
        match self {
            Self::Nothing => Some(Body::empty()),
            Self::Whole(bytes) => Some(bytes.clone().into()),
            Self::Stream(replay) => replay.body(),
        }
    }

    fn can_repeat(&self) -> bool {
        match self {
            Self::Nothing | Self::Whole(_) => true,
            Self::Stream(replay) => replay.is_replayable(),
        }
    }
}

impl<'a> Relay<'a> {
    async fn prepare(
        context: &'a Arc<Context>,
        request: ProxyRequest,
        name: ConnectionName,
        integration: Arc<Integration>,
        connection: &Connection,
    ) -> Result<(Self, Payload), ProxyError> {
        let ProxyRequest {
            method,
            target,
            headers,
            body,
            mut controls,
            ..
        } = request;
        controls.forwarded.retain(|(name, _)| !is_framing(name));
        let provider = context
            .catalogue
            .get(integration.provider.as_str())
            .ok_or(ProxyError::UnknownProvider)?;
        let given = headers.get(CONTENT_TYPE).cloned();
        let wanted = controls
            .forwarded
            .iter()
            .find(|(name, _)| *name == CONTENT_TYPE)
            .map(|(_, value)| value.clone());
        let text = |value: &Option<HeaderValue>| {
            value
                .as_ref()
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        // An encoded body is passed on as it is: what it says cannot be read here.
        let is_encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        let conversion = match conversion(text(&given).as_deref(), text(&wanted).as_deref()) {
            _ if is_encoded => Conversion::Pass,
            conversion => conversion,
        };
        // A form with parts is unreadable without the boundary it was written with.
        let readable = !lacks_boundary(text(&wanted).as_deref()) || lacks_boundary(text(&given).as_deref());
        let wanted = wanted.filter(|_| readable);
        let subject = subject(&provider.definition, &integration, connection);
        let injected = request::injected_body(&subject, &method, &context.ambient).filter(|_| !is_encoded);
        // GET and HEAD have no body here (proxy §1); every other method keeps what it was given.
        let (payload, content_type) = if method == Method::GET || method == Method::HEAD {
            (Payload::Nothing, None)
        } else if conversion == Conversion::Pass
            && injected.is_none()
            && !request::reads_body(&provider.definition)
        {
            let payload = Payload::Stream(Replay::new(body, REPLAY_LIMIT));
            (payload, wanted.clone().or(given))
        } else {
            let (bytes, content_type) = convert(body, conversion, injected, wanted.clone().or(given)).await?;
            (Payload::Whole(bytes), content_type)
        };
        let whole = match &payload {
            Payload::Whole(bytes) => bytes.clone(),
            Payload::Nothing | Payload::Stream(_) => Bytes::new(),
        };
        let mut defaults = Vec::new();
        for name in [ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING] {
            // What the caller can read is what the upstream should send: its bytes come back as they are.
            if let Some(value) = headers.get(&name) {
                defaults.push((name, value.clone()));
            }
        }
        if let Some(content_type) = &content_type {
            defaults.push((CONTENT_TYPE, content_type.clone()));
        }
        controls.forwarded.retain(|(name, _)| *name != CONTENT_TYPE);
        let relay = Self {
            context,
            name,
            integration,
            method,
            target,
            controls,
            defaults,
            content_type,
            whole,
        };
        Ok((relay, payload))
    }

    /// Attempts until an answer stands.
    async fn run(
        &self,
        mut connection: Arc<Connection>,
        payload: Payload,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let mut attempt: u8 = 0;
        let mut renewed = false;
        loop {
            let Some(body) = payload.next() else {
                return Err(ProxyError::BodyTooLarge);
            };
            let outcome = self.send(&connection, body, &payload).await;
            if let Ok(response) = &outcome
                && response.status() == StatusCode::UNAUTHORIZED
                && !renewed
                && payload.can_repeat()
                && let Some(fresh) = self.renew(&connection).await
            {
                connection = fresh;
                renewed = true;
                continue;
            }
            if attempt >= self.controls.retries.min(MAX_RETRIES) || !payload.can_repeat() {
                return outcome;
            }
            let Some(wait) = self.wait_before_retry(&outcome, attempt) else {
                return outcome;
            };
            attempt += 1;
            tracing::debug!(attempt, wait_ms = wait.as_millis(), "retrying a proxied call");
            self.context.ambient.clock.sleep(wait).await;
            connection = refresh::read(self.context, &self.name, Freshness::Usual).await?;
        }
    }

    /// One forced refresh after an upstream's 401, if the credentials can be refreshed and were not just now.
    async fn renew(&self, connection: &Connection) -> Option<Arc<Connection>> {
        let now = self.context.ambient.now();
        let settled = |at: Timestamp| at.checked_add(SETTLED).unwrap_or(Timestamp::MAX) < now;
        let last = connection.refresh.last_success.unwrap_or(connection.created_at);
        if connection.refresh.last_failure.is_some_and(|at| !settled(at)) || !settled(last) {
            return None;
        }
        let fresh = refresh::read(self.context, &self.name, Freshness::Forced)
            .await
            .ok()?;
        (fresh.generation != connection.generation).then_some(fresh)
    }

    fn wait_before_retry(
        &self,
        outcome: &Result<Response<ResponseBody>, ProxyError>,
        attempt: u8,
    ) -> Option<Duration> {
        let asked = match outcome {
            Ok(response) if self.is_retryable(response.status()) => {
                backoff::retry_after(response.headers(), self.context.ambient.now())
            }
            Err(ProxyError::Upstream(error)) if error.is_retryable() => None,
            _ => return None,
        };
        let usual = Duration::from_secs(3).saturating_mul(2_u32.saturating_pow(u32::from(attempt)));
        let wait = asked.unwrap_or(usual.min(LONGEST_WAIT));
        (wait <= LONGEST_WAIT).then_some(wait)
    }

    fn is_retryable(&self, status: StatusCode) -> bool {
        status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::UNAUTHORIZED
            || self.controls.retry_on.contains(&status.as_u16())
    }

    /// One attempt, redirects followed.
    async fn send(
        &self,
        connection: &Connection,
        body: Body,
        payload: &Payload,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let provider = self
            .context
            .catalogue
            .get(self.integration.provider.as_str())
            .ok_or(ProxyError::UnknownProvider)?;
        let definition = &provider.definition;
        let built = request::build(
            &subject(definition, &self.integration, connection),
            &Wanted {
                method: &self.method,
                endpoint: &self.target,
                base_url_override: self.controls.base_url_override.as_ref().map(Url::as_str),
                templates: &[],
                headers: &self.controls.forwarded,
                content_type: self.content_type.as_ref().and_then(|value| value.to_str().ok()),
                body: &self.whole,
            },
            &self.context.ambient,
        )?;
        let mut headers = HeaderMap::with_capacity(built.headers.len() + self.defaults.len() + 1);
        for (name, value) in &self.defaults {
            headers.insert(name.clone(), value.clone());
        }
        let mut secret = Vec::new();
        for header in built.headers {
            if header.origin == HeaderOrigin::Credential {
                secret.push(header.name.clone());
            }
            headers.insert(header.name, header.value);
        }
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "Patchbay/",
                env!("CARGO_PKG_VERSION")
            )));
        let identity = request::client_certificate(definition, &connection.credentials)
            .map(|pem| Identity::from_pem(pem.certificate.expose(), pem.private_key.expose()))
            .transpose()
            .map_err(|error| ProxyError::Upstream(error.into()))?;
        let call = Call {
            identity,
            ..Call::default()
        };
        let forward = match self.controls.forward_headers_on_redirect {
            RedirectHeaders::Forward => AcrossOrigins::Send,
            RedirectHeaders::AsDefined if definition.proxy.forward_headers_on_redirect => AcrossOrigins::Send,
            RedirectHeaders::AsDefined | RedirectHeaders::Withhold => AcrossOrigins::Withhold,
        };
        let rules = Rules {
            credentials: Hidden::Named(&secret),
            headers: forward,
            body: AcrossOrigins::Send,
        };
        self.follow(built.url, headers, body, payload, call, &rules).await
    }

    async fn follow(
        &self,
        mut url: Url,
        mut headers: HeaderMap,
        body: Body,
        payload: &Payload,
        mut call: Call,
        rules: &Rules<'_>,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let mut method = self.method.clone();
        let mut has_body = !matches!(payload, Payload::Nothing);
        let mut next_body = Some(body);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(next_body.take().unwrap_or_default());
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri_of(&url)?;
            *request.headers_mut() = headers.clone();
            let response = self.context.proxy_client.send_with(request, &call).await?;
            let hop = Hop {
                method: &method,
                url: &url,
                headers: &headers,
                has_body,
            };
            let follow = match redirect::next(&hop, response.status(), response.headers(), rules) {
                Ok(Next::Follow(follow)) => *follow,
                // What cannot be followed is the answer.
                Ok(Next::Stay) | Err(_) => return Ok(response),
            };
            if follow.keep_body {
                let Some(body) = payload.next() else {
                    return Ok(response);
                };
                next_body = Some(body);
            }
            if !follow.same_origin {
                call.identity = None;
            }
            (method, url, headers, has_body) = (follow.method, follow.url, follow.headers, follow.keep_body);
        }
        Err(patchbay_outbound::Error::TooManyRedirects { limit: MAX_REDIRECTS }.into())
    }
}

fn subject<'a>(
    definition: &'a patchbay_catalog::Definition,
    integration: &'a Integration,
    connection: &'a Connection,
) -> Subject<'a> {
    Subject {
        definition,
        secrets: &integration.secrets,
        credentials: &connection.credentials,
        connection_config: &connection.connection_config,
        connection_id: connection.connection_id.as_str(),
        metadata: connection.metadata.as_ref(),
    }
}

/// Reads a body whole, converts it, and merges what the definition injects: injected keys win.
async fn convert(
    body: Body,
    conversion: Conversion,
    injected: Option<serde_json::Map<String, Value>>,
    content_type: Option<HeaderValue>,
) -> Result<(Bytes, Option<HeaderValue>), ProxyError> {
    let limited = http_body_util::Limited::new(body, CONVERT_LIMIT);
    let bytes = limited
        .collect()
        .await
        .map_err(|_| ProxyError::BodyTooLarge)?
        .to_bytes();
    let json = HeaderValue::from_static("application/json");
    let parse = |bytes: &[u8]| match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Ok(None),
        Err(_) if bytes.is_empty() => Ok(Some(serde_json::Map::new())),
        Err(error) => Err(ProxyError::InvalidJson(error.to_string())),
    };
    let (bytes, content_type) = match conversion {
        Conversion::Pass => (bytes, content_type),
        Conversion::FormToJson => (form_to_json(&bytes).into(), Some(json.clone())),
        Conversion::JsonToForm => match parse(&bytes)? {
            Some(object) => (json_to_form(&object).into(), content_type),
            None => (bytes, content_type),
        },
    };
    let Some(injected) = injected else {
        return Ok((bytes, content_type));
    };
    let essence = content_type
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/json");
    if essence.starts_with("application/x-www-form-urlencoded") {
        let mut form = String::from_utf8_lossy(&bytes).into_owned();
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(&json_to_form(&injected));
        return Ok((form.into(), content_type));
    }
    if !essence.starts_with("application/json") {
        return Ok((bytes, content_type));
    }
    match parse(&bytes)? {
        Some(mut object) => {
            object.extend(injected);
            Ok((
                Value::Object(object).to_string().into(),
                Some(content_type.unwrap_or(json)),
            ))
        }
        None => Ok((bytes, content_type)),
    }
}
