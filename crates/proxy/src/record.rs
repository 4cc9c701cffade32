//! What a call leaves behind for the logs (proxy §9): gathered while it runs at next to no cost, handed to the
//! journal when it ends, however it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use patchbay_connections::Context;
use patchbay_connections::journal::{self, Weight};
use patchbay_types::connections::Connection;
use patchbay_types::integrations::Integration;
use patchbay_types::{EnvironmentId, OperationId, Timestamp};
use url::Url;

use crate::ProxyError;

/// A call being recorded. Dropped before its end, it says that the caller went away.
pub(crate) struct CallLog {
    context: Arc<Context>,
    /// None in a dry run, and once the end is told.
    record: Option<Box<CallRecord>>,
}

/// Everything known of a call. Holds secrets until it is rendered.
#[derive(Debug)]
pub(crate) struct CallRecord {
    pub(crate) id: OperationId,
    pub(crate) attach: Option<OperationId>,
    pub(crate) environment: EnvironmentId,
    pub(crate) method: Method,
    /// Path and query behind `/proxy`.
    pub(crate) target: String,
    /// The caller's headers.
    pub(crate) headers: HeaderMap,
    pub(crate) integration: Option<Arc<Integration>>,
    /// One, and one more after a refresh.
    pub(crate) connections: Vec<Arc<Connection>>,
    pub(crate) lines: Vec<Line>,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) ending: Ending,
}

/// A message in the making.
#[derive(Debug)]
pub(crate) enum Line {
    /// An exchange with the provider.
    Attempt(Box<Attempt>),
    /// Words, without secrets.
    Note {
        level: &'static str,
        text: String,
        at: Timestamp,
    },
}

/// One attempt, redirects included.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) method: Method,
    /// Of the last hop.
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// Headers and query parameters made of credentials.
    pub(crate) secret_headers: Vec<HeaderName>,
    pub(crate) secret_query: Vec<String>,
    /// Hops before the last.
    pub(crate) redirects: Vec<(StatusCode, Url)>,
    pub(crate) outcome: Result<(StatusCode, HeaderMap), AttemptFailure>,
    /// From 0.
    pub(crate) number: u8,
    pub(crate) most: u8,
    pub(crate) waited: Duration,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
}

/// No response came.
#[derive(Debug)]
pub(crate) struct AttemptFailure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// How a call ended.
#[derive(Debug, Default)]
pub(crate) enum Ending {
    /// The caller went away.
    #[default]
    Abandoned,
    /// The whole answer was passed on.
    Answered {
        status: StatusCode,
        headers: HeaderMap,
        body: Option<Kept>,
    },
    /// The answer broke off.
    Broken { status: StatusCode, message: String },
    /// There is no answer of the provider.
    Refused { code: &'static str, message: String },
}

/// The beginning of a body.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) size: usize,
    /// Whether that is not all of it.
    pub(crate) is_cut: bool,
}

impl Kept {
    /// Bytes of a body that are kept for the logs.
    const MOST: usize = 8 * 1024;

    pub(crate) fn add(&mut self, piece: &Bytes) {
        let room = Self::MOST - self.size;
        if piece.len() > room {
            self.is_cut = true;
        }
        if room > 0 {
            // A copy: a slice would keep the transport's whole buffer alive for as long as the log waits.
            let piece = Bytes::copy_from_slice(&piece[..piece.len().min(room)]);
            self.size += piece.len();
            self.pieces.push(piece);
        }
    }
}

impl CallLog {
    /// A call that begins now.
    pub(crate) fn begin(context: &Arc<Context>, record: CallRecord) -> Self {
        Self {
            context: context.clone(),
            record: Some(Box::new(record)),
        }
    }

    /// A call that leaves nothing behind.
    pub(crate) fn silent(context: &Arc<Context>) -> Self {
        Self {
            context: context.clone(),
            record: None,
        }
    }

    /// The record, where there is one.
    pub(crate) fn record(&mut self) -> Option<&mut CallRecord> {
        self.record.as_deref_mut()
    }

    pub(crate) fn note(&mut self, level: &'static str, text: impl FnOnce() -> String) {
        if let Some(record) = &mut self.record {
            let at = self.context.ambient.now();
            record.lines.push(Line::Note {
                level,
                text: text(),
                at,
            });
        }
    }

    /// Tells the end and hands the record over.
    pub(crate) fn end(&mut self, ending: Ending) {
        let outcome = ending.outcome();
        metrics::counter!("patchbay_proxy_calls_total", "outcome" => outcome).increment(1);
        let Some(mut record) = self.record.take() else {
            return;
        };
        let now = self.context.ambient.now();
        let weight = if outcome == "success" {
            Weight::Routine
        } else {
            Weight::Telling
        };
        if !journal::admits(&self.context, weight, now) {
            return;
        }
        record.id = OperationId(self.context.ambient.time_ordered_uuid().to_string());
        record.ended_at = now;
        record.ending = ending;
        journal::submit(&self.context, record);
    }

    pub(crate) fn refused(&mut self, error: &ProxyError) {
        self.end(Ending::Refused {
            code: error.code(),
            message: error.to_string(),
        });
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.end(Ending::Abandoned);
        }
    }
}

impl std::fmt::Debug for CallLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallLog").finish_non_exhaustive()
    }
}

impl Ending {
    /// As metrics name it.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Answered { status, .. } if status.as_u16() < 400 => "success",
            Self::Answered { .. } => "upstream_error",
            Self::Broken { .. } => "broken",
            Self::Refused { .. } => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}
