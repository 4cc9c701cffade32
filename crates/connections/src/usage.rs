//! Last-used times of keys and last-fetched times of connections: collected in memory, written in batches.
//!
//! A durable write on every credential read would be the most expensive part of it. These times feed the
//! background refresher and people's curiosity; losing the last few seconds of them in a crash harms neither.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchbay_store::{api_keys, connections};
use patchbay_types::{ApiKeyId, ConnectionRowId, Timestamp};

use crate::context::Context;

/// How often batches are written.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// A key's last use is written at most once in this time (api-core §2.1).
const KEY_RESOLUTION: Duration = Duration::from_mins(1);

/// What was used since the last flush.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    fetched: Mutex<HashMap<ConnectionRowId, Timestamp>>,
    keys: Mutex<HashMap<ApiKeyId, Timestamp>>,
    written_keys: Mutex<HashMap<ApiKeyId, Timestamp>>,
}

impl Usage {
    pub(crate) fn connection_fetched(&self, id: ConnectionRowId, at: Timestamp) {
        lock(&self.fetched).insert(id, at);
    }

    pub(crate) fn key_used(&self, id: ApiKeyId, at: Timestamp) {
        lock(&self.keys).insert(id, at);
    }

    /// Writes what has gathered. On failure the batch is kept for the next flush.
    pub(crate) async fn flush(&self, context: &Context) {
        let fetched: Vec<_> = std::mem::take(&mut *lock(&self.fetched)).into_iter().collect();
        let keys: Vec<_> = {
            let mut written = lock(&self.written_keys);
            std::mem::take(&mut *lock(&self.keys))
                .into_iter()
                .filter(|(id, at)| match written.get(id) {
                    Some(last)
                        if at.duration_since(*last) < KEY_RESOLUTION.try_into().unwrap_or_default() =>
                    {
                        false
                    }
                    _ => {
                        written.insert(*id, *at);
                        true
                    }
                })
                .collect()
        };
        if fetched.is_empty() && keys.is_empty() {
            return;
        }
        let (batch, key_batch) = (fetched.clone(), keys);
        let written = context
            .store
            .write(move |tx| {
                Box::pin(async move {
                    connections::touch_fetched(tx, &batch).await?;
                    api_keys::touch_last_used(tx, &key_batch).await
                })
            })
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, "last-used times were not written, trying again with the next batch");
            let mut pending = lock(&self.fetched);
            for (id, at) in fetched {
                pending.entry(id).or_insert(at);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Flushes on a timer until shutdown, and once more then.
pub(crate) fn start(context: &Arc<Context>) {
    let weak = Arc::downgrade(context);
    let clock = context.ambient.clock.clone();
    let stopping = context.ambient.tasks.stopping();
    context.ambient.tasks.spawn(async move {
        loop {
            let last = tokio::select! {
                () = clock.sleep(FLUSH_EVERY) => false,
                () = stopping.cancelled() => true,
            };
            let Some(context) = weak.upgrade() else { return };
            context.usage.flush(&context).await;
            if last {
                return;
            }
        }
    });
}
