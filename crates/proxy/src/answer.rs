//! The upstream's body on its way to the caller.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use patchbay_outbound::{Error, ResponseBody};

use crate::record::{CallLog, Ending, Kept};

/// The upstream's body as it arrives. Dropping it ends the exchange with the upstream. When it ends, however it ends,
/// the call's log entry is written.
#[derive(Debug)]
pub struct RelayBody {
    /// Read before it was known that the answer stands.
    ahead: Option<Bytes>,
    incoming: ResponseBody,
    /// Why it broke off, where the caller has yet to see it.
    broken: Option<Error>,
    told: Told,
}

#[derive(Debug)]
struct Told {
    log: CallLog,
    status: StatusCode,
    headers: HeaderMap,
    kept: Option<Kept>,
    received: u64,
    is_over: bool,
}

impl RelayBody {
    pub(crate) fn new(
        ahead: Option<Bytes>,
        incoming: ResponseBody,
        status: StatusCode,
        headers: HeaderMap,
        kept: Option<Kept>,
        log: CallLog,
    ) -> Self {
        Self {
            ahead: ahead.filter(|ahead| !ahead.is_empty()),
            incoming,
            broken: None,
            told: Told {
                log,
                status,
                headers,
                kept,
                received: 0,
                is_over: false,
            },
        }
    }
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(ahead) = self.ahead.take() {
            self.told.piece(&ahead);
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.told.piece(data);
                }
            }
            Poll::Ready(Some(Err(error))) => {
                self.told.broken(error);
                // A transport writes what it holds when it has to wait, and drops it when a body fails. The caller is
                // to get the head and every piece that came before the break.
                self.broken = Some(error.clone());
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None) => self.told.complete(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.broken.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        if let Some(ahead) = &self.ahead {
            let more = ahead.len() as u64;
            let upper = hint.upper().map(|upper| upper.saturating_add(more));
            hint.set_lower(0);
            if let Some(upper) = upper {
                hint.set_upper(upper);
                hint.set_lower(self.incoming.size_hint().lower().saturating_add(more).min(upper));
            }
        }
        hint
    }
}

impl Told {
    fn piece(&mut self, data: &Bytes) {
        self.received += data.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.add(data);
        }
    }

    fn complete(&mut self) {
        self.end(|told| Ending::Answered {
            status: told.status,
            headers: std::mem::take(&mut told.headers),
            body: told.kept.take(),
        });
    }

    fn broken(&mut self, error: &Error) {
        let message = error.to_string();
        self.end(|told| Ending::Broken {
            status: told.status,
            message,
        });
    }

    fn end(&mut self, ending: impl FnOnce(&mut Self) -> Ending) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let ending = ending(self);
        self.log.end(ending);
        metrics::counter!("patchbay_proxy_response_bytes_total").increment(self.received);
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        // A server does not ask on after the announced length has come.
        if self.is_end_stream() {
            self.told.complete();
        } else {
            self.told.end(|_| Ending::Abandoned);
        }
    }
}
