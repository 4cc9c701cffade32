use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Background tasks that shutdown waits for.
///
/// Two kinds: work that must finish once begun (a token exchange whose caller went away) is [`Tasks::spawn`]ed;
/// loops that run for the life of the server watch [`Tasks::stopping`] and return when it fires.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Every task ended by itself.
    Drained,
    /// The time ran out with this many tasks still running; they end with the process.
    TimedOut(usize),
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` to its end even if whoever asked for it goes away.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that spawns, so that every task is tracked"
    )]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(future))
    }

    /// Fires when shutdown begins. Loops select on it; work in progress ignores it.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whether shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells loops to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops the loops and waits up to `limit` (real time) for every task to end.
    pub async fn shut_down(&self, limit: Duration) -> Shutdown {
        self.stop.cancel();
        self.tracker.close();
        match tokio::time::timeout(limit, self.tracker.wait()).await {
            Ok(()) => Shutdown::Drained,
            Err(_) => Shutdown::TimedOut(self.tracker.len()),
        }
    }
}
