//! One proxied call, from the caller's request to the upstream's response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER, USER_AGENT};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use patchbay_auth::request::{self, BaseUrl, HeaderOrigin, Subject, Wanted};
use patchbay_catalog::Definition;
use patchbay_catalog::definition::{HttpVersion, TlsVersions};
use patchbay_connections::caches::ConnectionName;
use patchbay_connections::refresh::{self, Freshness, ReadError};
use patchbay_connections::{Context, integrations};
use patchbay_outbound::budget::{BudgetSettings, Budgets};
use patchbay_outbound::redirect::{AcrossOrigins, Credentials as Hidden, Rules};
use patchbay_outbound::replay::Replay;
use patchbay_outbound::{Body, Call, Client, Identity, Protocol, ResponseBody, Tls};
use patchbay_types::OperationId;
use patchbay_types::connections::Connection;
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use url::Url;

use crate::answer::RelayBody;
use crate::body::{Conversion, conversion, lacks_boundary};
use crate::call::{Controls, Logging, MAX_RETRIES, ProxyError, ProxyRequest, RedirectHeaders};
use crate::egress::Egress;
use crate::headers::{all, is_framing, relayed, wishes};
use crate::hops::{Trace, follow};
use crate::payload::{self, Payload};
use crate::record::{Attempt, AttemptFailure, CallLog, CallRecord, Ending, Kept, Line};
use crate::{retry, upgrade};

/// Longest body that is kept for another attempt; longer ones are sent once.
const REPLAY_LIMIT: usize = 1024 * 1024;
/// How much of a failed answer is read for the wait it may name.
const WAIT_IN_BODY: usize = 64 * 1024;

/// Sends callers' requests on with their connections' credentials.
#[derive(Debug)]
pub struct Proxy {
    context: Arc<Context>,
    settings: Settings,
    egress: Egress,
    budgets: Budgets,
}

/// What the operator decides about proxied calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether a base URL other than the provider's may be called.
    pub base_url_override: BaseUrlOverride,
    /// Longest body that is read whole, because it must be converted or signed, in bytes.
    pub body_limit: usize,
    /// Longest wait between attempts; a provider that asks for more has its answer passed on.
    pub longest_wait: Duration,
}

/// Whether a base URL other than the provider's may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseUrlOverride {
    /// By `Base-Url-Override`, an integration's own base URL, or an AWS connection's.
    Allowed,
    /// Not at all.
    Refused,
}

impl Default for Settings {
    /// Overrides allowed, 75 MiB, 10 minutes.
    fn default() -> Self {
        Self {
            base_url_override: BaseUrlOverride::Allowed,
            body_limit: 75 * 1024 * 1024,
            longest_wait: Duration::from_mins(10),
        }
    }
}

impl Proxy {
    /// A proxy over this domain.
    pub fn new(context: Arc<Context>, settings: Settings) -> Arc<Self> {
        let clock = context.ambient.clock.clone();
        Arc::new(Self {
            egress: Egress::new(context.proxy_client.clone()),
            budgets: Budgets::new(BudgetSettings::default(), clock),
            context,
            settings,
        })
    }

    /// The domain it works on.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Sends the request with the connection's credentials and hands back the upstream's response: status, end-to-end
    /// headers and body as they are. Dropping the future, or the body it gives, ends the exchange with the upstream.
    pub async fn relay(&self, request: ProxyRequest) -> Result<Response<RelayBody>, ProxyError> {
        let context = &self.context;
        let ProxyRequest {
            environment,
            method,
            target,
            headers,
            body,
            controls,
            upgrade,
        } = request;
        let mut log = match controls.logging {
            Logging::Off => CallLog::silent(context),
            Logging::On => {
                let now = context.ambient.now();
                CallLog::begin(
                    context,
                    CallRecord {
                        id: OperationId(String::new()),
                        attach: controls.operation.clone(),
                        environment: environment.id,
                        method: method.clone(),
                        target: target.clone(),
                        headers: HeaderMap::new(),
                        integration: None,
                        connections: Vec::new(),
                        lines: Vec::new(),
                        started_at: now,
                        ended_at: now,
                        ending: Ending::Abandoned,
                    },
                )
            }
        };
        let wish = Wish {
            environment,
            method,
            target,
            body,
            controls,
            upgrade,
        };
        let logs_bodies = wish.environment.settings.proxy.log_bodies;
        let outcome = self.attempt(wish, headers, &mut log).await;
        let (response, ahead) = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                log.refused(&error);
                return Err(error);
            }
        };
        let (mut parts, incoming) = response.into_parts();
        let shown = parts.headers.clone();
        parts.headers = if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let mut headers = HeaderMap::new();
            upgrade::copy_handshake(&parts.headers, &mut headers);
            headers
        } else {
            relayed(std::mem::take(&mut parts.headers))
        };
        let status = parts.status;
        let kept = (status.as_u16() >= 400 || logs_bodies).then(Kept::default);
        let body = RelayBody::new(ahead, incoming, status, shown, kept, log);
        Ok(Response::from_parts(parts, body))
    }

    /// Finds everything the call needs, then attempts until an answer stands.
    async fn attempt(
        &self,
        wish: Wish,
        headers: HeaderMap,
        log: &mut CallLog,
    ) -> Result<(Response<ResponseBody>, Option<Bytes>), ProxyError> {
        let context = &self.context;
        let client = self.egress.client(&wish.environment);
        if let Some(base) = &wish.controls.base_url_override {
            self.permit_override(&wish.environment)?;
            client.policy().check_url(base).map_err(ProxyError::Blocked)?;
        }
        let name = ConnectionName {
            environment: wish.environment.id,
            integration: wish.controls.provider_config_key.clone(),
            connection: wish.controls.connection_id.clone(),
        };
        let integration = integrations::get(context, name.environment, &name.integration)
            .await
            .map_err(ReadError::from)?
            .ok_or(ProxyError::UnknownIntegration)?;
        if let Some(record) = log.record() {
            record.integration = Some(integration.clone());
        }
        let connection = refresh::read(context, &name, Freshness::Usual).await?;
        let provider = context
            .catalogue
            .get(integration.provider.as_str())
            .ok_or(ProxyError::UnknownProvider)?;
        let mut call = Relay {
            proxy: self,
            client,
            name,
            integration,
            definition: &provider.definition,
            log,
            environment: wish.environment,
            method: wish.method,
            target: wish.target,
            controls: wish.controls,
            defaults: Vec::new(),
            content_type: None,
            whole: Bytes::new(),
            body_has_secrets: false,
            upgrade: wish.upgrade.filter(|_| upgrade::is_asked_for(&headers)),
            handshake: HeaderMap::new(),
        };
        call.note_connection(&connection);
        let payload = call.prepare(&headers, wish.body, &connection).await?;
        if let Some(record) = call.log.record() {
            record.headers = headers;
        }
        call.run(connection, payload).await
    }

    fn permit_override(&self, environment: &Environment) -> Result<(), ProxyError> {
        let refused = self.settings.base_url_override == BaseUrlOverride::Refused
            || !environment.settings.proxy.base_url_override;
        if refused {
            Err(ProxyError::OverrideDisabled)
        } else {
            Ok(())
        }
    }
}

/// What the caller asks for, without its headers.
struct Wish {
    environment: Arc<Environment>,
    method: Method,
    target: String,
    body: Body,
    controls: Controls,
    upgrade: Option<OnUpgrade>,
}

/// A call whose body is decided.
struct Relay<'a> {
    proxy: &'a Proxy,
    client: Client,
    name: ConnectionName,
    integration: Arc<Integration>,
    definition: &'a Definition,
    log: &'a mut CallLog,
    environment: Arc<Environment>,
    method: Method,
    target: String,
    controls: Controls,
    /// Caller's headers that serve as defaults upstream.
    defaults: Vec<(HeaderName, HeaderValue)>,
    content_type: Option<HeaderValue>,
    /// The whole body if it is at hand, for signatures.
    whole: Bytes,
    /// Whether the definition added to the body: perhaps credentials.
    body_has_secrets: bool,
    /// The caller's connection, if it asks for another protocol.
    upgrade: Option<OnUpgrade>,
    /// Its handshake.
    handshake: HeaderMap,
}

/// Where an attempt stands among the others.
#[derive(Clone, Copy)]
struct Turn {
    number: u8,
    waited: Duration,
}

impl Relay<'_> {
    fn note_connection(&mut self, connection: &Arc<Connection>) {
        if let Some(record) = self.log.record() {
            record.connections.push(connection.clone());
        }
    }

    /// Decides what becomes of the body, and which of the caller's headers go along.
    async fn prepare(
        &mut self,
        headers: &HeaderMap,
        body: Body,
        connection: &Connection,
    ) -> Result<Payload, ProxyError> {
        let ambient = &self.proxy.context.ambient;
        self.controls.forwarded.retain(|(name, _)| !is_framing(name));
        let given = headers.get(CONTENT_TYPE);
        let wanted = self
            .controls
            .forwarded
            .iter()
            .find(|(name, _)| *name == CONTENT_TYPE)
            .map(|(_, value)| value);
        let text = |value: Option<&HeaderValue>| {
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (given_text, wanted_text) = (text(given), text(wanted));
        // An encoded body is passed on as it is: what it says cannot be read here.
        let forwarded = self.controls.forwarded.iter();
        let is_encoded = forwarded
            .filter(|(name, _)| *name == CONTENT_ENCODING)
            .map(|(_, coding)| coding)
            .chain(headers.get_all(CONTENT_ENCODING))
            .any(|coding| coding != "identity");
        let conversion = match conversion(given_text.as_deref(), wanted_text.as_deref()) {
            _ if is_encoded => Conversion::Pass,
            conversion => conversion,
        };
        // A form with parts is unreadable without the boundary it was written with.
        let readable = !lacks_boundary(wanted_text.as_deref()) || lacks_boundary(given_text.as_deref());
        let wanted = wanted.filter(|_| readable).cloned();
        let content_type = wanted.clone().or_else(|| given.cloned());
        let subject = subject(self.definition, &self.integration, connection);
        let injected = request::injected_body(&subject, &self.method, ambient).filter(|_| !is_encoded);
        self.body_has_secrets = injected.is_some();
        // GET and HEAD have no body here (proxy §1); every other method keeps what it was given.
        let (payload, content_type) = if self.method == Method::GET || self.method == Method::HEAD {
            (Payload::Nothing, wanted)
        } else if conversion == Conversion::Pass
            && injected.is_none()
            && !request::reads_body(self.definition)
        {
            self.defaults.extend(all(headers, TRAILER));
            (Payload::Stream(Replay::new(body, REPLAY_LIMIT)), content_type)
        } else {
            let limit = self.proxy.settings.body_limit;
            let (bytes, content_type) =
                payload::convert(body, conversion, injected, content_type, limit, ambient).await?;
            (Payload::Whole(bytes), content_type)
        };
        self.whole = payload.whole();
        self.defaults.extend(wishes(headers));
        if !matches!(payload, Payload::Nothing) {
            self.defaults.extend(all(headers, CONTENT_ENCODING));
        }
        if let Some(content_type) = &content_type {
            self.defaults.push((CONTENT_TYPE, content_type.clone()));
        }
        self.content_type = content_type;
        self.controls.forwarded.retain(|(name, _)| *name != CONTENT_TYPE);
        if self.upgrade.is_some() {
            upgrade::copy_handshake(headers, &mut self.handshake);
        }
        Ok(payload)
    }

    /// Attempts until an answer stands. With it comes what was read of its body to find that out.
    async fn run(
        &mut self,
        mut connection: Arc<Connection>,
        payload: Payload,
    ) -> Result<(Response<ResponseBody>, Option<Bytes>), ProxyError> {
        let mut turn = Turn {
            number: 0,
            waited: Duration::ZERO,
        };
        let mut renewed = false;
        loop {
            let Some(body) = payload.next() else {
                return Err(ProxyError::BodyTooLarge(REPLAY_LIMIT));
            };
            let outcome = self.send(&connection, body, &payload, turn).await;
            if let Ok(response) = &outcome
                && response.status() == StatusCode::UNAUTHORIZED
                && !renewed
                && self.environment.settings.proxy.refresh_on_unauthorized
                && payload.can_repeat()
                && let Some(fresh) =
                    refresh::force_after_rejection(&self.proxy.context, &self.name, connection.generation)
                        .await
            {
                self.log.note("warn", || {
                    "The provider answered 401: the credentials were refreshed, calling once more".to_owned()
                });
                self.note_connection(&fresh);
                connection = fresh;
                renewed = true;
                continue;
            }
            let (outcome, ahead, wait) = self.next_wait(outcome, turn.number, &payload).await;
            let Some(wait) = wait else {
                let response = outcome?;
                return Ok((self.switched(response), ahead));
            };
            drop((outcome, ahead));
            turn = Turn {
                number: turn.number + 1,
                waited: wait,
            };
            self.proxy.context.ambient.clock.sleep(wait).await;
            let fresh = refresh::read(&self.proxy.context, &self.name, Freshness::Usual).await?;
            if fresh.generation != connection.generation {
                self.note_connection(&fresh);
            }
            connection = fresh;
        }
    }

    /// Whether another attempt follows, and after what wait (proxy §8).
    async fn next_wait(
        &mut self,
        outcome: Result<Response<ResponseBody>, ProxyError>,
        attempt: u8,
        payload: &Payload,
    ) -> (
        Result<Response<ResponseBody>, ProxyError>,
        Option<Bytes>,
        Option<Duration>,
    ) {
        let most = self.controls.retries.min(MAX_RETRIES);
        let ambient = &self.proxy.context.ambient;
        let now = ambient.now();
        let declared = &self.definition.proxy.retry;
        let (reason, mut asked) = match &outcome {
            _ if most == 0 => return (outcome, None, None),
            Ok(response) => {
                let headers = response.headers();
                match retry::reason(declared, &self.controls.retry_on, response.status(), headers) {
                    Some(reason) => (reason, retry::asked_by_headers(declared, headers, now)),
                    None => return (outcome, None, None),
                }
            }
            Err(ProxyError::Upstream(error)) if error.is_retryable() => (retry::Reason::Network, None),
            Err(_) => return (outcome, None, None),
        };
        let skip = |log: &mut CallLog, why: &str| {
            log.note("warn", || {
                format!("Skipping retry HTTP call (reason: {reason}, {why}) [{attempt}/{most}]")
            });
        };
        if attempt >= most {
            skip(self.log, "no attempt is left");
            return (outcome, None, None);
        }
        if !payload.can_repeat() {
            skip(self.log, "the request body is too large to be sent again");
            return (outcome, None, None);
        }
        let (outcome, ahead) = match (outcome, &declared.in_body) {
            (Ok(response), Some(in_body)) if asked.is_none() => match read_ahead(response).await {
                Ok((response, ahead)) => {
                    let wait = retry::asked_by_body(in_body, &ahead, now);
                    asked = wait.map(|wait| (wait, retry::Source::InBody));
                    (Ok(response), Some(ahead))
                }
                Err(error) => (Err(error.into()), None),
            },
            (outcome, _) => (outcome, None),
        };
        let longest = self.proxy.settings.longest_wait;
        let (wait, source) = match asked {
            Some((wait, _)) if wait > longest => {
                skip(self.log, "the provider asks for a longer wait than is made");
                return (outcome, ahead, None);
            }
            Some((wait, source)) => (wait, source.to_string()),
            None => {
                let wait = retry::BACKOFF.half_jittered(u32::from(attempt), ambient.entropy.as_ref());
                (wait.min(longest), String::new())
            }
        };
        if !self.proxy.budgets.withdraw(&self.upstream()) {
            skip(self.log, "too many retries of this upstream");
            return (outcome, ahead, None);
        }
        self.log.note("warn", || {
            let source = if source.is_empty() {
                source
            } else {
                format!(", {source}")
            };
            format!(
                "Retrying HTTP call (reason: {reason}{source}). Waiting for {}ms [{}/{most}]",
                wait.as_millis(),
                attempt + 1
            )
        });
        (outcome, ahead, Some(wait))
    }

    /// Under which name retries are budgeted: the definition and, where callers choose the host, the host.
    fn upstream(&self) -> String {
        let chosen = self.controls.base_url_override.as_ref().and_then(Url::host_str);
        match chosen {
            Some(host) => host.to_owned(),
            None => format!("{}:{}", self.integration.provider, self.integration.id),
        }
    }

    /// Joins the connections after a 101.
    fn switched(&mut self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(caller) = self.upgrade.take()
            && let Some(upstream) = response.extensions_mut().remove::<OnUpgrade>()
        {
            upgrade::join(&self.proxy.context.ambient, caller, upstream);
        }
        response
    }

    /// One attempt, redirects followed.
    async fn send(
        &mut self,
        connection: &Connection,
        body: Body,
        payload: &Payload,
        turn: Turn,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let context = &self.proxy.context;
        let definition = self.definition;
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
            &context.ambient,
        )?;
        if matches!(built.base, BaseUrl::Connection | BaseUrl::Integration) {
            self.proxy.permit_override(&self.environment)?;
        }
        if self.controls.retries > 0 && turn.number == 0 {
            self.proxy.budgets.deposit(&self.upstream());
        }
        let mut headers = HeaderMap::with_capacity(built.headers.len() + self.defaults.len() + 1);
        for (name, value) in &self.defaults {
            headers.append(name.clone(), value.clone());
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
        let mut call = Call {
            identity,
            ..Call::default()
        };
        if self.upgrade.is_some() {
            headers.extend(self.handshake.clone());
        }
        if definition.proxy.tls == TlsVersions::Legacy {
            call.tls = Tls::Legacy;
        }
        if self.upgrade.is_some() || definition.proxy.http_version == HttpVersion::Http1 {
            call.protocol = Protocol::Http1;
        }
        let forward = match self.controls.forward_headers_on_redirect {
            RedirectHeaders::Forward => AcrossOrigins::Send,
            RedirectHeaders::AsDefined if definition.proxy.forward_headers_on_redirect => AcrossOrigins::Send,
            RedirectHeaders::AsDefined | RedirectHeaders::Withhold => AcrossOrigins::Withhold,
        };
        let mut trace = Trace {
            method: self.method.clone(),
            url: built.url,
            headers,
            has_body: !matches!(payload, Payload::Nothing),
            redirects: Vec::new(),
        };
        let started_at = context.ambient.now();
        let rules = Rules {
            credentials: Hidden::Named(&secret),
            headers: forward,
            body: if self.body_has_secrets {
                forward
            } else {
                AcrossOrigins::Send
            },
        };
        let outcome = follow(&self.client, &mut trace, body, payload, call, &rules).await;
        let most = self.controls.retries.min(MAX_RETRIES);
        let secret_query = built.secret_query;
        let ended_at = context.ambient.now();
        if let Some(record) = self.log.record() {
            record.lines.push(Line::Attempt(Box::new(Attempt {
                method: trace.method,
                url: trace.url,
                headers: trace.headers,
                secret_headers: secret,
                secret_query: secret_query
                    .into_iter()
                    .map(std::borrow::Cow::into_owned)
                    .collect(),
                redirects: trace.redirects,
                outcome: match &outcome {
                    Ok(response) => Ok((response.status(), response.headers().clone())),
                    Err(error) => Err(AttemptFailure {
                        code: error.code(),
                        message: error.to_string(),
                    }),
                },
                number: turn.number,
                most,
                waited: turn.waited,
                started_at,
                ended_at,
            })));
        }
        outcome
    }
}

/// Reads the beginning of a failed answer, for what it says about waiting.
async fn read_ahead(
    response: Response<ResponseBody>,
) -> Result<(Response<ResponseBody>, Bytes), patchbay_outbound::Error> {
    let (parts, mut body) = response.into_parts();
    let mut read = Vec::new();
    while read.len() < WAIT_IN_BODY {
        let Some(frame) = body.frame().await.transpose()? else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
    }
    Ok((Response::from_parts(parts, body), read.into()))
}

fn subject<'a>(
    definition: &'a Definition,
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
