//! Refreshes: intents that survive a crash, and the timeline a connection keeps.

use serde::{Deserialize, Serialize};

use crate::connections::RefreshCause;
use crate::{ConnectionRowId, Timestamp};

/// Written before the provider is asked, removed in the transaction that saves its answer. One found at the next
/// refresh says that we were killed in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshIntent {
    /// Connection.
    pub connection: ConnectionRowId,
    /// Generation of the credentials that were about to be replaced.
    pub generation: i64,
    /// Fencing token of the lease that was held.
    pub fence: i64,
    /// When the provider was about to be asked.
    pub started_at: Timestamp,
}

/// Why a refresh was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshReason {
    /// Somebody read credentials that near their end.
    Expiring,
    /// Somebody asked for it.
    Forced,
    /// The upstream rejected the credentials.
    Unauthorized,
    /// Nobody had read the credentials for a while, and they near their end.
    Background,
    /// The provider lets refresh tokens die that are not used every so often.
    KeepAlive,
    /// The credentials do not end by themselves and were tested.
    Test,
    /// The refresh before was cut off: its token is tried again.
    Recovery,
}

impl RefreshReason {
    const ALL: [Self; 7] = [
        Self::Expiring,
        Self::Forced,
        Self::Unauthorized,
        Self::Background,
        Self::KeepAlive,
        Self::Test,
        Self::Recovery,
    ];

    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::Forced => "forced",
            Self::Unauthorized => "unauthorized",
            Self::Background => "background",
            Self::KeepAlive => "keep_alive",
            Self::Test => "test",
            Self::Recovery => "recovery",
        }
    }

    /// As stored and shown.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// One entry of a connection's refresh timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshEvent {
    /// When.
    pub at: Timestamp,
    /// Why it was tried.
    pub reason: RefreshReason,
    /// Whether it worked.
    pub success: bool,
    /// Who is to blame if not.
    pub cause: Option<RefreshCause>,
    /// In words, without secrets.
    pub detail: Option<String>,
}
