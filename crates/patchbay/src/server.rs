//! The listener: accepts connections, drives HTTP/1 and HTTP/2 on them, drains them at shutdown.
//!
//! axum's own `serve` offers neither a time limit for request heads nor the original case of header names, which
//! the proxy passes on, so the connections are driven here.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use patchbay_ambient::Ambient;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::Listen;

/// Longest time for a request's head to arrive; also how long an idle connection is kept. Clients pool connections
/// and expect about a minute (api-core §1.1).
const HEAD_TIMEOUT: Duration = Duration::from_secs(62);

/// Pause after an accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The name has no address.
    #[error("cannot listen on {listen}: {source}")]
    Resolve {
        /// What was configured.
        listen: Listen,
        /// Why.
        source: std::io::Error,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {listen}: {source}; set --listen, or stop what uses the port")]
    Bind {
        /// What was configured.
        listen: Listen,
        /// Why.
        source: std::io::Error,
    },
}

/// Binds the configured address.
///
/// # Errors
/// See [`ListenError`].
pub async fn bind(listen: &Listen) -> Result<TcpListener, ListenError> {
    let addresses = tokio::net::lookup_host((listen.host.as_str(), listen.port))
        .await
        .map_err(|source| ListenError::Resolve {
            listen: listen.clone(),
            source,
        })?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let bound = bind_any(&addresses).await;
    bound.map_err(|source| ListenError::Bind {
        listen: listen.clone(),
        source,
    })
}

async fn bind_any(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A listener at work. Dropping it changes nothing; it ends by [`Server::close`].
#[derive(Debug)]
pub struct Server {
    close: CancellationToken,
}

impl Server {
    /// Serves `router` on `listener`. The loop and every connection are tasks of `ambient`, which a shutdown drains.
    pub fn start(listener: TcpListener, router: Router, ambient: &Ambient) -> Self {
        let close = CancellationToken::new();
        ambient
            .tasks
            .spawn(accept(listener, router, ambient.clone(), close.clone()));
        Self { close }
    }

    /// Closes the listener and idle connections; requests in flight end by themselves.
    pub fn close(&self) {
        self.close.cancel();
    }
}

async fn accept(listener: TcpListener, router: Router, ambient: Ambient, close: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = close.run_until_cancelled(listener.accept()).await;
        let Some(accepted) = accepted else { break };
        match accepted {
            Ok((stream, peer)) => connection(stream, peer, router.clone(), &ambient, &graceful),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                if !is_of_one_connection(&error) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    ambient: &Ambient,
    graceful: &GracefulShutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .preserve_header_case(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(HEAD_TIMEOUT));
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .into_owned();
    let connection = graceful.watch(connection);
    ambient.tasks.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %peer, "a connection ended badly");
        }
    });
}

/// Errors that concern the connection that was to be accepted, not the listener.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}
