//! Deliveries: outbound webhooks in the outbox (webhooks part B).

use serde::{Deserialize, Serialize};

use crate::{ConnectionRowId, DeliveryId, EnvironmentId, OperationId, Timestamp};

/// One body for one target. Written in the transaction of its cause; sent at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// `webhook-id` header, the same on every attempt.
    pub id: DeliveryId,
    /// Environment whose key signs it.
    pub environment_id: EnvironmentId,
    /// Connection it is about.
    pub connection: Option<ConnectionRowId>,
    /// `auth`, `sync`, `async_action`, `forward`.
    pub kind: String,
    /// Where it goes.
    pub url: String,
    /// Exact bytes that are signed and sent.
    pub body: String,
    /// Log operation that collects its attempts.
    pub operation_id: Option<OperationId>,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Attempts made.
    pub attempts: i32,
    /// When the next attempt is due.
    pub next_attempt_at: Timestamp,
    /// Status of the last answer.
    pub last_status: Option<i32>,
    /// What went wrong last, in words.
    pub last_error: Option<String>,
    /// When its cause was committed.
    pub created_at: Timestamp,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
}

/// One attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// From 1, over the whole life of the delivery, retries by hand included.
    pub number: i32,
    /// When its outcome was recorded.
    pub at: Timestamp,
    /// Status of the answer; none if there was none.
    pub status: Option<i32>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: i64,
}

/// What a list of deliveries filters by; all present filters apply together. Newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Environment.
    pub environment_id: Option<EnvironmentId>,
    /// Where they stand.
    pub status: Option<DeliveryStatus>,
    /// `auth`, `sync`, ….
    pub kind: Option<String>,
    /// Connection they are about.
    pub connection: Option<ConnectionRowId>,
    /// The last id of the previous page; only older ones follow.
    pub before: Option<DeliveryId>,
    /// Rows to answer.
    pub limit: u32,
}

/// The outbox in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStats {
    /// Waiting for an attempt.
    pub pending: i64,
    /// Given up.
    pub dead: i64,
    /// When the longest waiting one was written.
    pub oldest_pending: Option<Timestamp>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// Waiting for its next attempt.
    Pending,
    /// Answered with 2xx.
    Delivered,
    /// Given up after the last attempt; can be retried by hand.
    Dead,
}

impl DeliveryStatus {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    /// As stored.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Dead]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}
