//! Hearing what other nodes, and other parts of this one, have changed.

use std::future::Future;
use std::sync::Arc;

use patchbay_store::db::Notice;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::context::Context;

/// What was heard.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// Something changed.
    Notice(Notice),
    /// Notices were dropped: any of them may have concerned whoever listens.
    Missed,
}

/// Calls `hear` for everything that comes in, one at a time, until shutdown.
///
/// Who must miss nothing subscribes, looks at the database, and follows then.
pub(crate) fn follow<F>(
    context: &Arc<Context>,
    mut notices: Receiver<Notice>,
    hear: impl Fn(Arc<Context>, Heard) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let stopping = context.ambient.tasks.stopping();
    let weak = Arc::downgrade(context);
    context.ambient.tasks.spawn(async move {
        loop {
            let received = tokio::select! {
                received = notices.recv() => received,
                () = stopping.cancelled() => return,
            };
            let heard = match received {
                Ok(notice) => Heard::Notice(notice),
                Err(RecvError::Lagged(_)) => Heard::Missed,
                Err(RecvError::Closed) => return,
            };
            let Some(context) = weak.upgrade() else { return };
            hear(context, heard).await;
        }
    });
}
