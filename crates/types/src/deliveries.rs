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
