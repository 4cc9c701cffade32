//! A request body that can be sent again: what the first attempt streamed is kept, up to a limit.
//!
//! The first attempt streams from the source while its pieces are kept. A later attempt sends the kept pieces and goes
//! on streaming where the source was left. Beyond the limit the pieces are let go and the body is sent once only.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BoxError};

/// The memory of a body. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Replay(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    hint: SizeHint,
    limit: usize,
}

#[derive(Debug)]
struct State {
    source: Body,
    kept: Vec<Bytes>,
    size: usize,
    trailers: Option<HeaderMap>,
    progress: SourceState,
    /// The attempt that may read; older ones are cut off.
    attempt: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceState {
    /// Everything read so far is kept.
    Open,
    /// Everything is kept.
    Ended,
    /// More than the limit was read: some of it is gone.
    Overflowed,
    /// The source itself failed.
    Failed,
}

impl Replay {
    /// Keeps up to `limit` bytes of `source`.
    pub fn new(source: Body, limit: usize) -> Self {
        let hint = source.size_hint();
        let state = State {
            source,
            kept: Vec::new(),
            size: 0,
            trailers: None,
            progress: SourceState::Open,
            attempt: 0,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            hint,
            limit,
        }))
    }

    /// The body from its beginning, for the next attempt; `None` if it can no longer be sent again. Cuts off the body
    /// of the attempt before.
    pub fn body(&self) -> Option<Body> {
        let mut state = self.state();
        if matches!(state.progress, SourceState::Overflowed | SourceState::Failed) {
            return None;
        }
        state.attempt += 1;
        let attempt = Attempt {
            replay: self.clone(),
            number: state.attempt,
            next: 0,
            sent: 0,
            trailers_sent: false,
        };
        Some(Body::stream(attempt))
    }

    /// Whether another attempt could be made now.
    pub fn is_replayable(&self) -> bool {
        matches!(self.state().progress, SourceState::Open | SourceState::Ended)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Attempt {
    replay: Replay,
    number: u64,
    next: usize,
    sent: u64,
    trailers_sent: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("another attempt has taken over this body")]
struct Superseded;

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let replay = self.replay.clone();
        let mut state = replay.state();
        if state.attempt != self.number {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(kept) = state.kept.get(self.next) {
            self.next += 1;
            self.sent += kept.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if state.progress == SourceState::Ended {
            if self.trailers_sent {
                return Poll::Ready(None);
            }
            self.trailers_sent = true;
            return Poll::Ready(
                state
                    .trailers
                    .clone()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            );
        }
        let frame = match ready!(Pin::new(&mut state.source).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                state.progress = SourceState::Failed;
                return Poll::Ready(Some(Err(error)));
            }
            None => {
                state.end();
                self.trailers_sent = true;
                return Poll::Ready(None);
            }
        };
        match frame.into_data() {
            Ok(data) => {
                self.sent += data.len() as u64;
                state.keep(&data, replay.0.limit);
                self.next = state.kept.len();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => {
                state.trailers = frame.trailers_ref().cloned();
                state.end();
                self.trailers_sent = true;
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Known without asking only if the length is: a server that sees no chunk may otherwise wait for one.
        self.replay.0.hint.exact() == Some(self.sent)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = &self.replay.0.hint;
        let mut left = SizeHint::new();
        if let Some(upper) = hint.upper() {
            left.set_upper(upper.saturating_sub(self.sent));
        }
        left.set_lower(hint.lower().saturating_sub(self.sent));
        left
    }
}

impl State {
    fn keep(&mut self, data: &Bytes, limit: usize) {
        if self.progress != SourceState::Open {
            return;
        }
        self.size += data.len();
        if self.size > limit {
            self.progress = SourceState::Overflowed;
            self.kept = Vec::new();
        } else {
            self.kept.push(data.clone());
        }
    }

    fn end(&mut self) {
        if self.progress == SourceState::Open {
            self.progress = SourceState::Ended;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn source(pieces: &[&'static str]) -> Body {
        let frames: Vec<Result<_, BoxError>> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        Body::stream(StreamBody::new(stream::iter(frames)))
    }

    async fn text(body: Body) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap()
    }

    #[tokio::test]
    async fn every_attempt_sends_the_whole_body() {
        let replay = Replay::new(source(&["one ", "two ", "three"]), 100);
        for _ in 0..3 {
            assert_eq!(text(replay.body().unwrap()).await, "one two three");
        }
    }

    #[tokio::test]
    async fn an_attempt_after_a_half_sent_one_goes_on_where_the_source_was_left() {
        let replay = Replay::new(source(&["one ", "two ", "three"]), 100);
        let mut first = replay.body().unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "one ");
        let second = replay.body().unwrap();
        assert!(
            first.frame().await.unwrap().is_err(),
            "the first attempt is cut off"
        );
        assert_eq!(text(second).await, "one two three");
    }

    #[tokio::test]
    async fn above_the_limit_the_body_is_sent_once() {
        let replay = Replay::new(source(&["0123456789", "x"]), 10);
        assert_eq!(text(replay.body().unwrap()).await, "0123456789x");
        assert!(!replay.is_replayable());
        assert!(replay.body().is_none());

        let replay = Replay::new(source(&["0123456789"]), 10);
        assert_eq!(text(replay.body().unwrap()).await, "0123456789");
        assert!(replay.body().is_some(), "exactly the limit is kept");
    }

    #[tokio::test]
    async fn a_known_length_stays_known_and_an_empty_body_empty() {
        let replay = Replay::new(Body::from("four"), 100);
        for _ in 0..2 {
            let body = replay.body().unwrap();
            assert_eq!(body.size_hint().exact(), Some(4));
            assert_eq!(text(body).await, "four");
        }
        assert!(Replay::new(Body::empty(), 100).body().unwrap().is_end_stream());
    }

    #[tokio::test]
    async fn trailers_are_sent_again_and_a_failing_source_is_not() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        let frames: Vec<Result<_, BoxError>> = vec![
            Ok(Frame::data(Bytes::from_static(b"data"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let replay = Replay::new(Body::stream(StreamBody::new(stream::iter(frames))), 100);
        for _ in 0..2 {
            let collected = replay.body().unwrap().collect().await.unwrap();
            assert_eq!(collected.trailers(), Some(&trailers));
        }

        let frames: Vec<Result<Frame<Bytes>, BoxError>> = vec![Err("gone".into())];
        let replay = Replay::new(Body::stream(StreamBody::new(stream::iter(frames))), 100);
        assert!(replay.body().unwrap().collect().await.is_err());
        assert!(replay.body().is_none());
    }
}
