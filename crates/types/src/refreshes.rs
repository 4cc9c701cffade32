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

/// One entry of a connection's refresh timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshEvent {
    /// When.
    pub at: Timestamp,
    /// Why it was tried: `expiring`, `forced`, `unauthorized`, `background`, `recovery`.
    pub reason: String,
    /// Whether it worked.
    pub success: bool,
    /// Who is to blame if not.
    pub cause: Option<RefreshCause>,
    /// In words, without secrets.
    pub detail: Option<String>,
}
