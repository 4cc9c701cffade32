//! Operations and their messages: what happened, for people (dashboard-and-observability).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ConnectionRowId, EnvironmentId, IntegrationId, OperationId, Timestamp};

/// A logged operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// UUID v7.
    pub id: OperationId,
    /// Environment.
    pub environment_id: EnvironmentId,
    /// `auth`, `proxy`, `webhook`, ….
    pub kind: String,
    /// `create_connection`, `refresh_token`, `call`, ….
    pub action: String,
    /// How it ended.
    pub state: OperationState,
    /// Integration it concerns.
    pub integration: Option<IntegrationId>,
    /// Connection it concerns.
    pub connection: Option<ConnectionRowId>,
    /// One line for people.
    pub title: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Not yet.
    Running,
    /// Well.
    Success,
    /// Badly.
    Failed,
}

impl OperationState {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    /// As stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Success, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A line of an operation. Secrets are redacted before one is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Operation.
    pub operation_id: OperationId,
    /// `debug`, `info`, `warn`, `error`.
    pub level: String,
    /// In words.
    pub text: String,
    /// Request, response and the like.
    pub meta: Option<Value>,
    /// When.
    pub at: Timestamp,
}

/// What a list of operations filters by; all present filters apply together. Empty lists filter nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Environment.
    pub environment_id: Option<EnvironmentId>,
    /// Any of these kinds.
    pub kinds: Vec<String>,
    /// Any of these states.
    pub states: Vec<OperationState>,
    /// Integration they concern.
    pub integration: Option<IntegrationId>,
    /// Connection they concern.
    pub connection: Option<ConnectionRowId>,
    /// Begun at or after.
    pub since: Option<Timestamp>,
    /// Begun before.
    pub until: Option<Timestamp>,
    /// Case-insensitive part of the title.
    pub search: Option<String>,
    /// Newest or oldest first.
    pub order: OperationOrder,
    /// The last operation of the previous page in that order.
    pub cursor: Option<OperationCursor>,
    /// Rows to answer.
    pub limit: u32,
}

/// The order of a list of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OperationOrder {
    /// For looking back.
    #[default]
    NewestFirst,
    /// For following.
    OldestFirst,
}

/// A place in a list of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationCursor {
    /// [`Operation::started_at`].
    pub started_at: Timestamp,
    /// [`Operation::id`].
    pub id: OperationId,
}

impl Operation {
    /// Where a list continues after this one.
    pub fn cursor(&self) -> OperationCursor {
        OperationCursor {
            started_at: self.started_at,
            id: self.id.clone(),
        }
    }
}
