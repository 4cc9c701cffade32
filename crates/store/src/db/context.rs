use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use patchbay_ambient::{Ambient, Entropy as _, SystemEntropy};
use tokio::sync::broadcast;

use super::{Notice, Topic};
use crate::vault::Vault;

/// Notices a slow subscriber may fall behind before it is told that it lagged.
const BACKLOG: usize = 1024;
/// Longest key that is published as it is.
const MAX_KEY: usize = 1024;

/// What every transaction of a store shares.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) vault: Vault,
    pub(crate) ambient: Ambient,
    pub(crate) hub: Hub,
    /// Commits made by the database, see [`crate::StoreStats`].
    pub(crate) commits: AtomicU64,
    /// Write transactions acknowledged.
    pub(crate) writes: AtomicU64,
}

impl Context {
    pub(crate) fn new(vault: Vault, ambient: Ambient) -> Arc<Self> {
        Arc::new(Self {
            vault,
            ambient,
            hub: Hub::new(),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        })
    }

    pub(crate) fn count_commit(&self, writes: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(writes, Ordering::Relaxed);
    }
}

/// Notices to the subscribers in this process, and this process's name among the nodes.
#[derive(Debug)]
pub(crate) struct Hub {
    node: String,
    local: broadcast::Sender<Notice>,
}

impl Hub {
    fn new() -> Self {
        // Two nodes with the same name would ignore each other's notices, so this is never a seeded value.
        Self {
            node: SystemEntropy.uuid().to_string(),
            local: broadcast::Sender::new(BACKLOG),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.local.subscribe()
    }

    pub(crate) fn publish(&self, notices: impl IntoIterator<Item = Notice>) {
        for notice in notices {
            // No subscriber is no error.
            self.local.send(bounded(notice)).ok();
        }
    }

    /// The form between nodes.
    pub(crate) fn encode(&self, notice: &Notice) -> String {
        let notice = bounded(notice.clone());
        format!("{}\n{}\n{}", self.node, notice.topic.as_str(), notice.key)
    }

    /// A notice of another node; `None` for our own, which was published when it was committed.
    pub(crate) fn decode(&self, payload: &str) -> Option<Notice> {
        let mut parts = payload.splitn(3, '\n');
        let node = parts.next()?;
        if node == self.node {
            return None;
        }
        let topic = Topic::parse(parts.next()?);
        Some(Notice {
            topic,
            key: parts.next().unwrap_or_default().to_owned(),
        })
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }
}

fn bounded(notice: Notice) -> Notice {
    if notice.key.len() > MAX_KEY {
        Notice::everything()
    } else {
        notice
    }
}
