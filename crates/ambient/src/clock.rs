use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

/// Wall time and timers.
pub trait Clock: Send + Sync + Debug {
    /// The current wall time, microsecond precision.
    fn now(&self) -> Timestamp;

    /// Completes once [`Clock::now`] has reached `deadline`. Cancel-safe.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;

    /// Completes after `duration` of this clock's time. Cancel-safe.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let deadline = self.now().checked_add(duration).unwrap_or(Timestamp::MAX);
        self.sleep_until(deadline)
    }
}

/// The operating system's clock, timers by tokio.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // Stored times have microsecond precision; a finer value would not survive a round trip.
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Wall time may be stepped (NTP, suspend) while we sleep: look again in bounded naps.
            loop {
                let left = deadline.duration_since(SystemClock.now());
                let Ok(left) = Duration::try_from(left) else {
                    return;
                };
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Duration::from_mins(1))).await;
            }
        })
    }
}

/// A clock that moves only when told; sleepers wake as it passes their deadline.
#[derive(Clone, Debug)]
pub struct TestClock {
    now: watch::Sender<Timestamp>,
    awaited: Arc<Mutex<Vec<Timestamp>>>,
}

impl TestClock {
    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self {
            now: watch::Sender::new(start),
            awaited: Arc::default(),
        }
    }

    /// The instants somebody is waiting for: a test that moves time waits for its sleeper first.
    pub fn awaited(&self) -> Vec<Timestamp> {
        self.awaited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Moves time forward and wakes who waited for it.
    pub fn advance(&self, by: Duration) {
        self.now
            .send_modify(|now| *now = now.checked_add(by).unwrap_or(Timestamp::MAX));
    }

    /// Jumps to `to`, also backwards (a stepped system clock).
    pub fn set(&self, to: Timestamp) {
        self.now.send_replace(to);
    }
}

impl Default for TestClock {
    /// 2026-01-02T03:04:05.678Z, so that every digit of a formatted time is told apart.
    fn default() -> Self {
        Self::at(Timestamp::from_microsecond(1_767_323_045_678_000).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let mut changes = self.now.subscribe();
        let sleeper = Sleeper::new(&self.awaited, deadline);
        Box::pin(async move {
            let _sleeper = sleeper;
            // An error means the clock is gone: nobody can move it any more, so the sleep never ends.
            if changes.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Somebody who waits, for as long as it does.
struct Sleeper {
    awaited: Arc<Mutex<Vec<Timestamp>>>,
    deadline: Timestamp,
}

impl Sleeper {
    fn new(awaited: &Arc<Mutex<Vec<Timestamp>>>, deadline: Timestamp) -> Self {
        awaited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(deadline);
        Self {
            awaited: Arc::clone(awaited),
            deadline,
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = awaited.iter().position(|deadline| *deadline == self.deadline) {
            awaited.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_test_clock_wakes_sleepers_only_when_it_passes_their_deadline() {
        let clock = TestClock::default();
        let mut sleep = clock.sleep(Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        assert_eq!(clock.awaited(), [clock.now() + Duration::from_secs(1)]);
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.awaited(), []);
    }
}
