//! Request and response bodies.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep};

use crate::client::body_error;
use crate::connector::target_of;
use crate::error::{Error, Phase};
use crate::pool::Receiving;

/// Any error a body's producer may raise.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body: nothing, bytes at hand, or a stream that is sent as it comes.
///
/// A known length becomes `content-length`; an unknown one is sent chunked. Trailers are passed on.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// Streams `body`; its length is taken from its size hint.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(Kind::Stream(body.map_err(Into::into).boxed_unsync()))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Whole(bytes) => write!(f, "Body({} bytes)", bytes.as_ref().map_or(0, Bytes::len)),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

/// When the transport last took a piece of the request body, so that a long upload is not mistaken for a slow server.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    micros: AtomicU64,
    sent: AtomicBool,
}

impl Progress {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            micros: AtomicU64::new(0),
            sent: AtomicBool::new(false),
        })
    }

    pub(crate) fn last(&self) -> Instant {
        self.started + Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn mark(&self) {
        let micros = u64::try_from(self.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
    }

    /// Whether the transport is done with the request body.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }
}

/// A request body on its way out: notes progress and marks its producer's errors as such.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Body,
    pub(crate) progress: Arc<Progress>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.progress.sent.store(true, Ordering::Release);
    }
}

/// The producer's error, told apart from the transport's.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed")]
pub(crate) struct ProducerFailed(#[source] pub(crate) BoxError);

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = ProducerFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProducerFailed>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress.mark();
        Poll::Ready(frame.map(|frame| frame.map_err(ProducerFailed)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body as it arrives. Fails with [`Error::Timeout`] when nothing comes for the idle limit and with
/// [`Error::Reset`] when it ends too early. Dropping it closes or resets the exchange.
pub struct ResponseBody {
    incoming: Receiving,
    uri: Uri,
    idle: Duration,
    // Made only when the body first has to wait: most bodies are there at once.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl ResponseBody {
    pub(crate) fn new(incoming: Receiving, uri: Uri, idle: Duration) -> Self {
        Self {
            incoming,
            uri,
            idle,
            alarm: None,
            waiting: false,
        }
    }

    /// Reads everything, at most `limit` bytes.
    pub async fn collect_up_to(mut self, limit: usize) -> Result<Bytes, Error> {
        if self.size_hint().lower() > limit as u64 {
            return Err(Error::TooLarge { limit });
        }
        let mut first = Bytes::new();
        let mut all = Vec::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if first.len() + all.len() + data.len() > limit {
                return Err(Error::TooLarge { limit });
            }
            // The usual small answer is one piece and needs no copy.
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.into() })
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let deadline = Instant::now() + self.idle;
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.waiting {
            alarm.as_mut().reset(deadline);
            self.waiting = true;
        }
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Error::Timeout {
            target: target_of(&self.uri),
            phase: Phase::Body,
            after: self.idle,
        })
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = false;
                let uri = &self.uri;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| body_error(error, uri))))
            }
            Poll::Pending => {
                let error = ready!(self.poll_alarm(cx));
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("target", &target_of(&self.uri))
            .finish_non_exhaustive()
    }
}
