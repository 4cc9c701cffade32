//! The pooled client.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use metrics::Histogram;
use patchbay_ambient::Clock;

use crate::body::{Body, Outgoing, ProducerFailed, Progress, ResponseBody};
use crate::connector::{Connector, find, innermost_kind, target_of};
use crate::dns::{GuardedResolver, Resolve, SystemResolver};
use crate::error::{Error, InvalidUrl, Phase, TlsFailure};
use crate::policy::Policy;
use crate::pool::{Failure, Pool};
use crate::tls::{Handshake, Identity, InvalidIdentity, Trust};

/// The pooled HTTP client of one policy. Cheap to clone; clones share the pools.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    policy: Policy,
    settings: Settings,
    resolver: GuardedResolver,
    auto: Pool,
    http1: Pool,
    response_seconds: [OnceLock<Histogram>; CLASSES.len()],
    // Most recently used last.
    special: Mutex<Vec<(PoolKey, Pool)>>,
}

/// Connections are never shared between identities, nor between kinds of TLS.
type PoolKey = (Option<[u8; 32]>, Protocol, Tls);

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names the client in metrics (`proxy`, `oauth`, `webhooks`).
    pub name: &'static str,
    /// Limits of every call that brings none of its own.
    pub timeouts: Timeouts,
    /// Whom to believe.
    pub trust: Trust,
    /// Sent by [`Client::fetch`] when the request names no user agent; [`Client::send`] adds nothing.
    pub user_agent: Option<HeaderValue>,
}

impl Settings {
    /// Defaults with the system's trust store, which is read from disk here.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            timeouts: Timeouts::default(),
            trust: Trust::system(),
            user_agent: None,
        }
    }
}

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS together. Fixed per client, because connections are shared by calls.
    pub connect: Duration,
    /// From the start of the call, or the last piece of request body the transport took, to the response's head.
    pub response: Duration,
    /// Between two pieces of the response body.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// Generous: 30 s to connect, 15 min for slow reports and long polls.
    fn default() -> Self {
        let quarter = Duration::from_mins(15);
        Self {
            connect: Duration::from_secs(30),
            response: quarter,
            idle: quarter,
        }
    }
}

/// Which HTTP version to speak over TLS. Plain http is always HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/2 where the server offers it (ALPN).
    #[default]
    Auto,
    /// HTTP/1.1 only, for servers whose HTTP/2 is broken.
    Http1,
}

/// Which TLS to accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tls {
    /// 1.2 and 1.3 with forward secrecy.
    #[default]
    Modern,
    /// Anything from 1.0, for servers that know nothing better; always HTTP/1.1. Takes a build with the feature
    /// `legacy-tls` and is [`Tls::Modern`] in others.
    Legacy,
}

/// What one call asks for beyond the request.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Our certificate, if the server asks for one.
    pub identity: Option<Identity>,
    /// HTTP version.
    pub protocol: Protocol,
    /// TLS version.
    pub tls: Tls,
    /// Limits instead of the client's; `connect` is not used.
    pub timeouts: Option<Timeouts>,
}

/// Pools kept for client certificates and old TLS.
const SPECIAL: usize = 64;

impl Client {
    /// A client with the system's resolver. Connects to nothing yet.
    pub fn new(policy: Policy, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self::with_resolver(policy, settings, clock, Arc::new(SystemResolver))
    }

    /// A client whose names are resolved by `resolver`, for tests.
    pub fn with_resolver(
        policy: Policy,
        settings: Settings,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolve>,
    ) -> Self {
        let resolver = GuardedResolver::new(policy.clone(), resolver, clock);
        let pool = |protocol| {
            let handshake = Handshake::rustls(settings.trust.anonymous());
            Pool::new(Connector::new(
                policy.clone(),
                resolver.clone(),
                handshake,
                protocol,
                settings.timeouts.connect,
            ))
        };
        let (auto, http1) = (pool(Protocol::Auto), pool(Protocol::Http1));
        Self(Arc::new(Inner {
            policy,
            settings,
            resolver,
            auto,
            http1,
            response_seconds: Default::default(),
            special: Mutex::default(),
        }))
    }

    /// A client like this one that also keeps what `change` adds to the policy. It has pools of its own: connections
    /// are never shared between policies.
    #[must_use]
    pub fn with_policy(&self, change: impl FnOnce(Policy) -> Policy) -> Self {
        let Inner {
            policy,
            settings,
            resolver,
            ..
        } = &*self.0;
        let (resolver, clock) = resolver.parts();
        Self::with_resolver(change(policy.clone()), settings.clone(), clock, resolver)
    }

    /// The policy that every connection of this client obeys.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// What the client was made of.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Sends a request with an absolute URI and gives the response as soon as its head has arrived.
    ///
    /// Streams both ways. Adds `host` and the body's framing, nothing else; follows no redirect; repeats nothing.
    /// Dropping the future or the body aborts the exchange.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<ResponseBody>, Error> {
        self.send_with(request, &Call::default()).await
    }

    /// As [`Client::send`], with this call's wishes.
    pub async fn send_with(
        &self,
        request: Request<Body>,
        call: &Call,
    ) -> Result<Response<ResponseBody>, Error> {
        let progress = Progress::start();
        let result = self.exchange(request, call, Arc::clone(&progress)).await;
        let seconds = progress.elapsed().as_secs_f64();
        match &result {
            Ok(response) => self.response_seconds(response.status()).record(seconds),
            Err(error) => seconds_histogram(self.0.settings.name, error.code()).record(seconds),
        }
        result
    }

    /// Looked up once for each class of statuses: finding a metric by its labels costs more than recording it.
    fn response_seconds(&self, status: StatusCode) -> &Histogram {
        let class = usize::from(status.as_u16() / 100).min(CLASSES.len()) - 1;
        self.0.response_seconds[class].get_or_init(|| seconds_histogram(self.0.settings.name, CLASSES[class]))
    }

    async fn exchange(
        &self,
        request: Request<Body>,
        call: &Call,
        progress: Arc<Progress>,
    ) -> Result<Response<ResponseBody>, Error> {
        check_request(&request)?;
        let timeouts = call.timeouts.unwrap_or(self.0.settings.timeouts);
        let uri = request.uri().clone();
        let mut request = request.map(|body| Outgoing {
            body,
            progress: Arc::clone(&progress),
        });
        announce_nothing(&mut request);
        // The version a caller copied from its own client must not decide ours; ALPN does.
        *request.version_mut() = Version::HTTP_11;
        let special;
        let pool = match (&call.identity, call.protocol, call.tls) {
            (None, Protocol::Auto, Tls::Modern) => &self.0.auto,
            (None, Protocol::Http1, Tls::Modern) => &self.0.http1,
            (identity, protocol, tls) => {
                special = self.special_pool(identity.as_ref(), protocol, tls)?;
                &special
            }
        };
        let mut responding = std::pin::pin!(pool.request(request));
        let Some(response) = wait_for_response(&mut responding, &progress, timeouts.response).await else {
            let (target, after) = (target_of(&uri), timeouts.response);
            return Err(Error::Timeout {
                target,
                phase: Phase::Response,
                after,
            });
        };
        let response = response.map_err(|failure| match failure {
            Failure::Connect(error) => error,
            Failure::Exchange(error) => transport_error(Arc::new(error), target_of(&uri), false),
        })?;
        Ok(response.map(|incoming| ResponseBody::new(incoming, uri, timeouts.idle)))
    }

    fn special_pool(
        &self,
        identity: Option<&Identity>,
        protocol: Protocol,
        tls: Tls,
    ) -> Result<Pool, InvalidIdentity> {
        let Inner {
            policy,
            settings,
            resolver,
            ..
        } = &*self.0;
        let key = (identity.map(Identity::fingerprint), protocol, tls);
        let mut pools = self.0.special.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = if let Some(index) = pools.iter().position(|(known, _)| *known == key) {
            pools.remove(index).1
        } else {
            let handshake = settings.trust.handshake(identity, tls)?;
            let (policy, resolver) = (policy.clone(), resolver.clone());
            Pool::new(Connector::new(
                policy,
                resolver,
                handshake,
                protocol,
                settings.timeouts.connect,
            ))
        };
        if pools.len() >= SPECIAL {
            pools.remove(0);
        }
        pools.push((key, pool.clone()));
        Ok(pool)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("policy", &self.0.policy)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

/// Waits for `responding` until `limit` has passed since the request body last moved; `None` if it did.
async fn wait_for_response<F: Future + Unpin>(
    mut responding: F,
    progress: &Progress,
    limit: Duration,
) -> Option<F::Output> {
    loop {
        let deadline = progress.last() + limit;
        match tokio::time::timeout_at(deadline, &mut responding).await {
            Ok(response) => return Some(response),
            // The body moved on since the deadline was set: the server is not the slow one.
            Err(_) if progress.last() + limit > deadline => {}
            Err(_) => return None,
        }
    }
}

fn check_request(request: &Request<Body>) -> Result<(), Error> {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return Err(Error::InvalidUrl(InvalidUrl::Connect));
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(Error::InvalidUrl(InvalidUrl::Scheme));
    }
    let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
        return Err(Error::InvalidUrl(InvalidUrl::Host));
    };
    if authority.as_str().contains('@') {
        return Err(Error::InvalidUrl(InvalidUrl::Userinfo));
    }
    Ok(())
}

/// Servers may insist on a length where a method means the request to have a body (RFC 9110 §8.6, status 411).
fn announce_nothing(request: &mut Request<Outgoing>) {
    if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH)
        && request.body().is_end_stream()
    {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn seconds_histogram(client: &'static str, outcome: &'static str) -> Histogram {
    metrics::histogram!("patchbay_outbound_response_seconds", "client" => client, "outcome" => outcome)
}

/// A response body that broke off.
pub(crate) fn body_error(error: hyper::Error, uri: &Uri) -> Error {
    transport_error(Arc::new(error), target_of(uri), true)
}

fn transport_error(source: Arc<dyn StdError + Send + Sync>, target: String, in_body: bool) -> Error {
    if find::<ProducerFailed>(&*source).is_some() {
        return Error::Aborted { source };
    }
    // TLS 1.3 servers refuse a client certificate only after the handshake looked complete to us. Any other TLS error
    // this late is a broken stream whose request may have been read.
    if certificate_refused(&*source) {
        let failure = TlsFailure::ClientCertificate;
        return Error::Tls {
            target,
            failure,
            source,
        };
    }
    if let Some(hyper) = find::<hyper::Error>(&*source)
        && (hyper.is_parse() || hyper.is_parse_too_large() || hyper.is_parse_status())
    {
        return Error::Protocol { target, source };
    }
    if let Some(error) = find::<io::Error>(&*source)
        && innermost_kind(error) == io::ErrorKind::InvalidData
    {
        return Error::Protocol { target, source };
    }
    Error::Reset {
        target,
        in_body,
        source,
    }
}

fn certificate_refused(error: &(dyn StdError + 'static)) -> bool {
    if let Some(tls) = find::<rustls::Error>(error) {
        return TlsFailure::of(tls) == TlsFailure::ClientCertificate;
    }
    // The HTTP/2 library keeps only the text of an I/O error.
    let text = find::<io::Error>(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    let alerts = [
        "CertificateRequired",
        "BadCertificate",
        "CertificateUnknown",
        "UnknownCA",
        "AccessDenied",
    ];
    text.strip_prefix("received fatal alert: ")
        .is_some_and(|alert| alerts.contains(&alert))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_long_upload_is_not_a_slow_response() {
        let progress = Progress::start();
        let uploading = async {
            for _ in 0..30 {
                tokio::time::sleep(LIMIT * 9 / 10).await;
                progress.mark();
            }
            tokio::time::sleep(LIMIT / 2).await;
        };
        let done = wait_for_response(std::pin::pin!(uploading), &progress, LIMIT).await;
        assert!(done.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_the_upload_is() {
        let progress = Progress::start();
        let silent = async {
            tokio::time::sleep(LIMIT / 2).await;
            progress.mark();
            std::future::pending::<()>().await;
        };
        let done = wait_for_response(std::pin::pin!(silent), &progress, LIMIT).await;
        assert!(done.is_none());
        assert_eq!(progress.elapsed(), LIMIT * 3 / 2);
    }
}
