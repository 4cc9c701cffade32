//! Connections to upstreams, kept for reuse.
//!
//! An HTTP/1 connection is driven by whoever uses it: the request's own task polls it while it waits for the response
//! and reads the body. No second task has to be woken, on perhaps another processor, for each piece; on a small
//! exchange those wake-ups cost more than the exchange itself. Three rules make it work:
//!
//! - A connection has one waker of its own for its whole life, its [`Bell`]. While somebody polls the connection, what
//!   the connection says to itself is noted and not passed on; otherwise the bell wakes the task in charge.
//! - A connection in the pool has nobody in charge. When its socket stirs, the *sweeper* has a look; it also drops what
//!   has been idle for too long. Who takes a connection out looks again before using it.
//! - Where the response does not end the exchange, because the upload still runs, the connection gets a task after all;
//!   where the protocol may change, it has one from the start.
//!
//! HTTP/2 connections are shared by requests and have a task each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use http::header::{HOST, HeaderValue, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Notify;
use tokio::time::Instant;
use tower::Service as _;

use crate::body::Outgoing;
use crate::connector::{Connector, Stream};
use crate::error::{Error, InvalidUrl};

/// Idle connections are dropped before servers do it (60 s is a common limit): a request sent into a closing
/// connection cannot be told from one that was processed.
const IDLE: Duration = Duration::from_secs(50);
const IDLE_PER_ORIGIN: usize = 256;
/// Most bytes of a response, its head included, that are read ahead of its reader.
const BUFFER: usize = 128 * 1024;
/// How often the sweeper looks without being asked.
const SWEEP: Duration = Duration::from_secs(5);
/// How often a connection is polled again for its own sake before other tasks get a turn.
const ROUNDS: usize = 8;

/// The connections of one policy and one client identity. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    connector: Connector,
    state: Mutex<State>,
    stirred: Arc<Notify>,
}

#[derive(Default)]
struct State {
    origins: HashMap<Origin, Kept>,
    is_swept: bool,
}

#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "links are large and move in and out with every request"
)]
struct Kept {
    // Most recently used last, and used first: what is not needed ages.
    idle: Vec<Box<Link>>,
    shared: Option<Http2>,
}

#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<Outgoing>,
    used: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Origin(Scheme, Authority);

enum Lane {
    Http1(Box<Link>),
    Http2(http2::SendRequest<Outgoing>),
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection came about.
    Connect(Error),
    /// The exchange broke.
    Exchange(hyper::Error),
}

impl Pool {
    pub(crate) fn new(connector: Connector) -> Self {
        Self(Arc::new(Shared {
            connector,
            state: Mutex::default(),
            stirred: Arc::default(),
        }))
    }

    /// Sends a request with an absolute URI. Repeats it only if a kept connection closed before it took a byte of it.
    pub(crate) async fn request(
        &self,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Receiving>, Failure> {
        let uri = request.uri().clone();
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(Failure::Connect(Error::InvalidUrl(InvalidUrl::Host)));
        };
        let origin = Origin(scheme.clone(), authority.clone());
        loop {
            let kept = self.0.take(&origin);
            let is_kept = kept.is_some();
            let lane = match kept {
                Some(lane) => lane,
                // Apart, because its state is large and seldom needed.
                None => Box::pin(self.connect(&uri, &origin))
                    .await
                    .map_err(Failure::Connect)?,
            };
            let sent = match lane {
                Lane::Http1(link) => {
                    to_origin_form(&mut request, &uri);
                    self.exchange(link, request).await
                }
                Lane::Http2(mut sender) => sender
                    .try_send_request(request)
                    .await
                    .map(|response| response.map(Receiving::shared)),
            };
            match sent {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if is_kept => {
                        request = unsent;
                        *request.uri_mut() = uri.clone();
                    }
                    _ => return Err(Failure::Exchange(error.into_error())),
                },
            }
        }
    }

    async fn connect(&self, uri: &Uri, origin: &Origin) -> Result<Lane, Error> {
        let stream = self.0.connector.clone().call(uri.clone()).await?;
        let failed = |error: hyper::Error| Error::Reset {
            target: crate::connector::target_of(uri),
            in_body: false,
            source: Arc::new(error),
        };
        if !stream.connected().is_negotiated_h2() {
            let (sender, connection) = http1::Builder::new()
                // Applies when a request carries the case its own sender used (the server keeps it in the extensions).
                .preserve_header_case(true)
                .max_buf_size(BUFFER)
                .handshake(stream)
                .await
                .map_err(failed)?;
            return Ok(Lane::Http1(Box::new(Link::new(
                origin.clone(),
                sender,
                connection,
                Arc::clone(&self.0.stirred),
            ))));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(Some(Duration::from_secs(30)))
            .handshake(stream)
            .await
            .map_err(failed)?;
        // Several callers may have found none: one connection stays, the others are never used.
        let (sender, is_first) = self.0.share(origin, sender);
        if is_first {
            TokioExecutor::new().execute(async move {
                // Its end is told to whoever waits for a response.
                let _ = connection.await;
            });
        }
        Ok(Lane::Http2(sender))
    }

    async fn exchange(
        &self,
        mut link: Box<Link>,
        request: Request<Outgoing>,
    ) -> Result<Response<Receiving>, TrySendError<Request<Outgoing>>> {
        if request.headers().contains_key(UPGRADE) {
            // Only a connection that has had its own task from the start can be handed over.
            if let Some(connection) = link.connection.take() {
                TokioExecutor::new().execute(async move {
                    let _ = connection.with_upgrades().await;
                });
            }
            let response = link.sender.try_send_request(request).await?;
            return Ok(response.map(Receiving::shared));
        }
        let progress = Arc::clone(&request.body().progress);
        let mut responding = pin!(link.sender.try_send_request(request));
        let response = std::future::poll_fn(|cx| link.drive(cx, |cx| responding.as_mut().poll(cx))).await?;
        if !progress.is_sent() {
            let pool = Arc::downgrade(&self.0);
            TokioExecutor::new().execute(link.finish(pool));
            return Ok(response.map(Receiving::shared));
        }
        Ok(response.map(|incoming| Receiving::alone(incoming, link, Arc::clone(&self.0))))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, origin: &Origin) -> Option<Lane> {
        loop {
            let mut link = {
                let mut state = self.state();
                let kept = state.origins.get_mut(origin)?;
                if let Some(shared) = &mut kept.shared {
                    if !shared.sender.is_closed() {
                        shared.used = Instant::now();
                        return Some(Lane::Http2(shared.sender.clone()));
                    }
                    kept.shared = None;
                }
                kept.idle.pop()?
            };
            if link.is_fit() {
                return Some(Lane::Http1(link));
            }
        }
    }

    /// Keeps a connection whose exchange is over.
    fn keep(self: &Arc<Self>, mut link: Box<Link>) {
        link.bell.leave_alone();
        link.used = Instant::now();
        let mut state = self.state();
        let idle = match state.origins.entry(link.origin.clone()) {
            Entry::Occupied(kept) => &mut kept.into_mut().idle,
            Entry::Vacant(vacant) => &mut vacant.insert(Kept::default()).idle,
        };
        if idle.len() < IDLE_PER_ORIGIN {
            idle.push(link);
        }
        self.have_swept(&mut state);
    }

    /// The connection that requests of `origin` share: `sender`'s, unless there is one already.
    fn share(
        self: &Arc<Self>,
        origin: &Origin,
        sender: http2::SendRequest<Outgoing>,
    ) -> (http2::SendRequest<Outgoing>, bool) {
        let mut state = self.state();
        let kept = state.origins.entry(origin.clone()).or_default();
        if let Some(shared) = kept.shared.as_ref().filter(|shared| !shared.sender.is_closed()) {
            return (shared.sender.clone(), false);
        }
        kept.shared = Some(Http2 {
            sender: sender.clone(),
            used: Instant::now(),
        });
        self.have_swept(&mut state);
        (sender, true)
    }

    fn have_swept(self: &Arc<Self>, state: &mut State) {
        if !std::mem::replace(&mut state.is_swept, true) {
            let sweeper = sweep(Arc::downgrade(self), Arc::clone(&self.stirred));
            TokioExecutor::new().execute(sweeper);
        }
    }

    /// Drops what is closed or has been idle for too long; whether anything is left.
    fn sweep(&self) -> bool {
        let mut dropped = Vec::new();
        let mut state = self.state();
        let now = Instant::now();
        state.origins.retain(|_, kept| {
            // Oldest first.
            let aged = kept.idle.partition_point(|link| now - link.used >= IDLE);
            dropped.extend(kept.idle.drain(..aged));
            dropped.extend(
                kept.idle
                    .extract_if(.., |link| link.bell.is_rung() && !link.is_fit()),
            );
            let shared = kept.shared.as_ref();
            if shared.is_some_and(|shared| shared.sender.is_closed() || now - shared.used >= IDLE) {
                kept.shared = None;
            }
            !kept.idle.is_empty() || kept.shared.is_some()
        });
        state.is_swept = !state.origins.is_empty();
        let is_swept = state.is_swept;
        // Closing sockets takes its time; nobody has to wait for it.
        drop(state);
        drop(dropped);
        is_swept
    }
}

async fn sweep(pool: Weak<Shared>, stirred: Arc<Notify>) {
    loop {
        let _ = tokio::time::timeout(SWEEP, stirred.notified()).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep() {
            return;
        }
    }
}

/// An HTTP/1 connection and what is needed to drive it.
struct Link {
    origin: Origin,
    sender: http1::SendRequest<Outgoing>,
    /// None once it has ended.
    connection: Option<http1::Connection<Stream, Outgoing>>,
    bell: Arc<Bell>,
    waker: Waker,
    used: Instant,
}

impl Link {
    fn new(
        origin: Origin,
        sender: http1::SendRequest<Outgoing>,
        connection: http1::Connection<Stream, Outgoing>,
        stirred: Arc<Notify>,
    ) -> Self {
        let bell = Arc::new(Bell {
            attendant: Mutex::default(),
            is_attended: AtomicBool::new(false),
            is_rung: AtomicBool::new(false),
            stirred,
        });
        Self {
            origin,
            sender,
            connection: Some(connection),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            used: Instant::now(),
        }
    }

    /// Polls `wanted`, and the connection for as long as that brings it further.
    fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let attending = self.bell.attend(cx.waker());
        let mut inner = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            attending.quieten();
            if let Poll::Ready(ready) = wanted(&mut inner) {
                return Poll::Ready(ready);
            }
            let ended = match &mut self.connection {
                Some(connection) => Pin::new(connection).poll(&mut inner).is_ready(),
                None => false,
            };
            if ended {
                // Dropping it tells those who wait for it. Its error, if any, they have got from it.
                self.connection = None;
            } else if !self.bell.is_rung() {
                break;
            }
        }
        Poll::Pending
    }

    /// Whether another request can be sent. Looks at the socket if that has not been done since it stirred.
    fn is_fit(&mut self) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        self.bell.quieten();
        let Some(connection) = &mut self.connection else {
            return false;
        };
        if Pin::new(connection).poll(&mut cx).is_ready() {
            self.connection = None;
            return false;
        }
        self.sender.is_ready()
    }

    /// Drives the connection until it can be kept or is done.
    async fn finish(mut self: Box<Self>, pool: Weak<Shared>) {
        let is_ready = std::future::poll_fn(|cx| {
            let Self {
                sender, connection, ..
            } = &mut *self;
            if let Some(driven) = connection
                && Pin::new(driven).poll(cx).is_ready()
            {
                *connection = None;
                return Poll::Ready(false);
            }
            sender.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await;
        // Looking again makes the bell its waker.
        if is_ready
            && let Some(pool) = pool.upgrade()
            && self.is_fit()
        {
            pool.keep(self);
        }
    }
}

/// A connection's waker.
struct Bell {
    attendant: Mutex<Option<Waker>>,
    /// Somebody is polling the connection and will look at the bell afterwards.
    is_attended: AtomicBool,
    is_rung: AtomicBool,
    stirred: Arc<Notify>,
}

impl Bell {
    /// From now on `waker` is in charge, and while the guard lives it need not be woken.
    fn attend<'a>(self: &'a Arc<Self>, waker: &'a Waker) -> Attending<'a> {
        let mut attendant = self.attendant();
        if !attendant.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *attendant = Some(waker.clone());
        }
        drop(attendant);
        self.is_attended.store(true, Ordering::SeqCst);
        Attending { bell: self, waker }
    }

    /// From now on nobody is in charge.
    fn leave_alone(&self) {
        *self.attendant() = None;
    }

    fn quieten(&self) {
        self.is_rung.store(false, Ordering::SeqCst);
    }

    fn is_rung(&self) -> bool {
        self.is_rung.load(Ordering::SeqCst)
    }

    fn attendant(&self) -> MutexGuard<'_, Option<Waker>> {
        self.attendant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before looking for an attendant: one who is just leaving then sees it.
        self.is_rung.store(true, Ordering::SeqCst);
        if self.is_attended.load(Ordering::SeqCst) {
            return;
        }
        match &*self.attendant() {
            Some(waker) => waker.wake_by_ref(),
            None => self.stirred.notify_one(),
        }
    }
}

struct Attending<'a> {
    bell: &'a Bell,
    waker: &'a Waker,
}

impl Attending<'_> {
    fn quieten(&self) {
        self.bell.quieten();
    }
}

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        self.bell.is_attended.store(false, Ordering::SeqCst);
        if self.bell.is_rung() {
            self.waker.wake_by_ref();
        }
    }
}

/// A response body and, over HTTP/1, the connection it comes from.
pub(crate) struct Receiving {
    incoming: Option<Incoming>,
    line: Option<(Box<Link>, Arc<Shared>)>,
}

impl Receiving {
    fn shared(incoming: Incoming) -> Self {
        Self {
            incoming: Some(incoming),
            line: None,
        }
    }

    fn alone(incoming: Incoming, link: Box<Link>, pool: Arc<Shared>) -> Self {
        let mut receiving = Self {
            line: Some((link, pool)),
            incoming: Some(incoming),
        };
        if receiving.is_end_stream() {
            receiving.release();
        }
        receiving
    }

    /// Gives the connection back if it can be used again.
    fn release(&mut self) {
        let Some((mut link, pool)) = self.line.take() else {
            return;
        };
        if link.connection.is_some() && (link.sender.is_ready() || link.is_fit()) {
            pool.keep(link);
        }
    }
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { incoming, line } = &mut *self;
        let Some(incoming) = incoming else {
            return Poll::Ready(None);
        };
        let Some((link, _)) = line else {
            return Pin::new(incoming).poll_frame(cx);
        };
        let polled = link.drive(cx, |cx| Pin::new(&mut *incoming).poll_frame(cx));
        if matches!(polled, Poll::Ready(None)) || polled.is_ready() && incoming.is_end_stream() {
            self.release();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Receiving {
    /// A body that nobody reads to its end costs the connection, unless the rest of it has arrived already.
    fn drop(&mut self) {
        self.incoming = None;
        if let Some((link, _)) = &mut self.line
            && link.is_fit()
        {
            self.release();
        }
    }
}

fn to_origin_form(request: &mut Request<Outgoing>, uri: &Uri) {
    if !request.headers().contains_key(HOST)
        && let Some(host) = host_header(uri)
    {
        request.headers_mut().insert(HOST, host);
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(
        uri.path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    );
    *request.uri_mut() = Uri::from_parts(parts).expect("path and query alone are a valid URI");
}

/// The authority, without the scheme's own port.
fn host_header(uri: &Uri) -> Option<HeaderValue> {
    let authority = uri.authority()?;
    let default = if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    };
    let host = match authority.port_u16() {
        Some(port) if port == default => authority.host(),
        _ => authority.as_str(),
    };
    HeaderValue::from_str(host).ok()
}
