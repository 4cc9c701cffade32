//! The way to a socket: host rules, guarded look-up, TCP, TLS, all within one time limit. Every connection of a
//! client is made here, so this is where the policy holds.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
#[cfg(not(feature = "legacy-tls"))]
use hyper_rustls::MaybeHttpsStream;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::body::BoxError;
use crate::client::Protocol;
use crate::dns::GuardedResolver;
use crate::error::{ConnectFailure, Error, InvalidUrl, Phase, TlsFailure};
#[cfg(feature = "legacy-tls")]
use crate::legacy_tls::LegacyConnector;
use crate::policy::Policy;
use crate::socket::Socket;
use crate::tls::Handshake;

#[derive(Clone, Debug)]
pub(crate) struct Connector {
    way: Way,
    resolver: GuardedResolver,
    policy: Policy,
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(
        policy: Policy,
        resolver: GuardedResolver,
        handshake: Handshake,
        protocol: Protocol,
        limit: Duration,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Notices peers that vanished without a word.
        tcp.set_keepalive(Some(Duration::from_mins(1)));
        // Spread over a name's addresses, so that one dead address does not use up the time of the others.
        tcp.set_connect_timeout(Some(limit));
        let tcp = Tcp(tcp);
        let way = match handshake {
            Handshake::Rustls(tls) => {
                let builder = HttpsConnectorBuilder::new().with_tls_config(*tls).https_or_http();
                Way::Rustls(match protocol {
                    Protocol::Auto => builder.enable_all_versions().wrap_connector(tcp),
                    Protocol::Http1 => builder.enable_http1().wrap_connector(tcp),
                })
            }
            #[cfg(feature = "legacy-tls")]
            Handshake::OpenSsl(tls) => Way::OpenSsl(LegacyConnector::new(tcp, tls)),
        };
        Self {
            way,
            resolver,
            policy,
            limit,
        }
    }
}

/// By which TLS.
#[derive(Clone, Debug)]
enum Way {
    Rustls(HttpsConnector<Tcp>),
    #[cfg(feature = "legacy-tls")]
    OpenSsl(LegacyConnector),
}

impl Way {
    async fn connect(self, uri: Uri) -> Result<Stream, BoxError> {
        match self {
            Self::Rustls(mut https) => {
                let connected = https.call(uri).await;
                #[cfg(feature = "legacy-tls")]
                let connected = connected.map(Stream::Rustls);
                connected
            }
            #[cfg(feature = "legacy-tls")]
            Self::OpenSsl(legacy) => legacy.connect(uri).await,
        }
    }
}

/// A connected socket, with TLS or without.
#[cfg(not(feature = "legacy-tls"))]
pub(crate) type Stream = MaybeHttpsStream<Socket<TokioIo<TcpStream>>>;
#[cfg(feature = "legacy-tls")]
pub(crate) use crate::legacy_tls::Stream;

/// Connects without TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tcp(HttpConnector<GuardedResolver>);

impl Service<Uri> for Tcp {
    type Response = Socket<TokioIo<TcpStream>>;
    type Error = <HttpConnector<GuardedResolver> as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { connecting.await.map(Socket::new) })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Both connectors underneath are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let checked = match uri.host() {
            // Literal addresses never reach the resolver, so they are judged here.
            Some(host) => self.policy.check_host(host),
            None => Err(Error::InvalidUrl(InvalidUrl::Host)),
        };
        if let Err(error) = checked {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (resolver, limit) = (self.resolver.clone(), self.limit);
        let connecting = self.way.clone().connect(uri.clone());
        Box::pin(async move {
            let error = match tokio::time::timeout(limit, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => classify(&uri, error),
                Err(_) => Error::Timeout {
                    target: target_of(&uri),
                    phase: Phase::Connect,
                    after: limit,
                },
            };
            if let Some(host) = uri.host() {
                resolver.forget(host);
            }
            Err(error)
        })
    }
}

/// Host and port, as errors name a target.
pub(crate) fn target_of(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    format!("{host}:{}", uri.port_u16().unwrap_or(default))
}

fn classify(uri: &Uri, error: BoxError) -> Error {
    let error: Arc<dyn StdError + Send + Sync> = error.into();
    if let Some(ours) = find::<Error>(&*error) {
        return ours.clone();
    }
    let target = target_of(uri);
    if let Some(tls) = find::<rustls::Error>(&*error) {
        return Error::Tls {
            target,
            failure: TlsFailure::of(tls),
            source: error,
        };
    }
    let failure = find::<io::Error>(&*error).map_or(ConnectFailure::Other, |error| {
        ConnectFailure::of(innermost_kind(error))
    });
    Error::Connect {
        target,
        failure,
        source: error,
    }
}

/// The first `T` in a chain of causes, also inside I/O errors, which hide what they wrap from `source`.
pub(crate) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

pub(crate) fn innermost_kind(error: &io::Error) -> io::ErrorKind {
    let inner = error.get_ref().and_then(|inner| find::<io::Error>(inner));
    inner.map_or_else(|| error.kind(), innermost_kind)
}
