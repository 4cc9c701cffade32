//! Driving connections: HTTP/1.1 and HTTP/2 (prior knowledge) on one port, upgrades, time limits, and an orderly
//! end.

mod linger;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use patchbay_ambient::Ambient;
use tokio::net::{TcpListener, TcpStream};

use crate::service::Service;
use linger::{Lingering, Told};

/// What answers requests: a [`Service`], or something around one.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request that arrived from `peer`.
    fn handle(&self, request: Request<Body>, peer: SocketAddr)
    -> impl Future<Output = Response<Body>> + Send;
}

impl Handler for Service {
    async fn handle(&self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        Self::handle(self, request, peer).await
    }
}

/// Limits of connections. Times are real time: they guard sockets, not business.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// Longest wait for a complete request head, which is also how long an idle connection is kept. Clients pool
    /// connections for a minute: shorter, and they run into resets. Default 62 s.
    pub head: Duration,
    /// Most bytes of a request head. Default 128 KiB.
    pub head_bytes: usize,
    /// Longest wait at shutdown for requests in flight. Default 20 s.
    pub drain: Duration,
    /// Concurrent requests of one HTTP/2 connection. Default 250.
    pub streams: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(62),
            head_bytes: 128 * 1024,
            drain: Duration::from_secs(20),
            streams: 250,
        }
    }
}

/// Serves until shutdown begins, then lets requests in flight finish (their tasks are `ambient`'s).
pub async fn serve<H: Handler>(listener: TcpListener, handler: H, ambient: Ambient, options: ServerOptions) {
    let builder = Arc::new(builder(options));
    let stopping = ambient.tasks.stopping();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(
                    stream,
                    peer,
                    Arc::clone(&builder),
                    handler.clone(),
                    ambient.clone(),
                    options,
                );
                ambient.tasks.spawn(connection);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                // Out of file descriptors, most likely: others have to finish first.
                tracing::error!(%error, "connections cannot be accepted");
                ambient.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn builder(options: ServerOptions) -> auto::Builder<TokioExecutor> {
    // The case of header names is not asked of requests; a relayed response brings that of its upstream along.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head)
        .max_buf_size(options.head_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_header_list_size(u32::try_from(options.head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(options.streams);
    builder
}

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    builder: Arc<auto::Builder<TokioExecutor>>,
    handler: H,
    ambient: Ambient,
    options: ServerOptions,
) {
    let stopping = ambient.tasks.stopping();
    // Answers are written whole; waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let spoke = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&spoke);
    let unread = Arc::new(AtomicBool::new(false));
    let stream = Lingering::new(stream, Arc::clone(&unread));
    let answer = service_fn(move |request: Request<Incoming>| {
        heard.store(true, Ordering::Relaxed);
        let handler = handler.clone();
        let request = match request.version() {
            Version::HTTP_2 => request.map(Body::new),
            _ => request.map(|body| Body::new(Told::new(body, &unread))),
        };
        async move { Ok::<_, Infallible>(handler.handle(request, peer).await) }
    });
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    let mut serving = std::pin::pin!(serving);
    // Until the first request hyper does not know which protocol it is and no time limit of either applies.
    let silence = async {
        tokio::time::sleep(options.head).await;
        if spoke.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = silence => Some(Ok(())),
        () = stopping.cancelled() => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        serving.as_mut().graceful_shutdown();
        tokio::time::timeout(options.drain, serving)
            .await
            .unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &*error, "a connection broke");
    }
}

/// Errors of one client's connection attempt, not of ours.
fn is_the_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

#[cfg(test)]
mod tests;
