//! Outcomes of popup flows on their way to the browser that waits on a WebSocket (auth-flows §6.1).
//!
//! The callback may land on another node than the socket: the result is delivered here if the socket is here, else
//! published with the store's notices. Nothing is buffered: a browser whose socket died never asks again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use patchbay_ambient::Entropy;
use patchbay_store::Store;
use patchbay_store::db::{DbError, Notice, Topic};
use patchbay_types::connections::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Characters of `error_desc` that other nodes hear: providers' words are as long as they like, and a notice has 8,000
/// bytes, of which an escaped character takes twelve at most.
const LONGEST_DESCRIPTION: usize = 500;

/// The one frame a waiting browser receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
pub enum AuthResult {
    /// The connection is stored.
    Success {
        /// Integration.
        provider_config_key: String,
        /// Connection.
        connection_id: String,
        /// Waiting for an approval at the provider.
        is_pending: bool,
    },
    /// The attempt failed.
    Error {
        /// Integration, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_config_key: Option<String>,
        /// Connection, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection_id: Option<String>,
        /// A code of auth-flows §25.1, or the HTTP error code.
        error_type: String,
        /// In words.
        error_desc: String,
    },
}

impl AuthResult {
    /// What is said of a connection that was stored.
    pub(crate) fn success(connection: &Connection, is_pending: bool) -> Self {
        Self::Success {
            provider_config_key: connection.integration_key.to_string(),
            connection_id: connection.connection_id.to_string(),
            is_pending,
        }
    }

    /// With words that fit into a notice to the other nodes.
    fn brief(mut self) -> Self {
        if let Self::Error { error_desc, .. } = &mut self
            && let Some((end, _)) = error_desc.char_indices().nth(LONGEST_DESCRIPTION)
        {
            error_desc.truncate(end);
        }
        self
    }
}

/// The sockets of this node.
#[derive(Debug)]
pub struct AuthResults {
    store: Store,
    waiting: Mutex<HashMap<String, oneshot::Sender<AuthResult>>>,
}

impl AuthResults {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            waiting: Mutex::default(),
        }
    }

    /// A new `ws_client_id` and where its result will arrive.
    pub fn register(&self, entropy: &dyn Entropy) -> (String, oneshot::Receiver<AuthResult>) {
        let id = entropy.uuid().to_string();
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(id.clone(), sender);
        (id, receiver)
    }

    /// Call when the socket closes.
    pub fn unregister(&self, ws_client_id: &str) {
        self.lock().remove(ws_client_id);
    }

    /// Sends `result` to the socket, wherever it is.
    pub async fn publish(&self, ws_client_id: &str, result: AuthResult) {
        let Err(result) = self.deliver_here(ws_client_id, result) else {
            return;
        };
        let key = match serde_json::to_string(&result.brief()) {
            Ok(json) => format!("{ws_client_id}\n{json}"),
            Err(error) => return tracing::error!(%error, "an auth result did not serialize"),
        };
        let published: Result<(), DbError> = self
            .store
            .write(move |tx| {
                Box::pin(async move {
                    tx.notify(Notice {
                        topic: Topic::AuthAttempts,
                        key,
                    });
                    Ok(())
                })
            })
            .await;
        if let Err(error) = published {
            tracing::warn!(%error, "an auth result could not be passed to the other nodes");
        }
    }

    /// A notice of another node.
    pub(crate) fn receive(&self, key: &str) {
        let Some((ws_client_id, json)) = key.split_once('\n') else {
            return;
        };
        if let Ok(result) = serde_json::from_str(json) {
            // Not ours: some other node has the socket.
            let _ = self.deliver_here(ws_client_id, result);
        }
    }

    fn deliver_here(&self, ws_client_id: &str, result: AuthResult) -> Result<(), AuthResult> {
        match self.lock().remove(ws_client_id) {
            Some(sender) => sender.send(result),
            None => Err(result),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<AuthResult>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
