//! A retry budget per upstream: retries may be a fraction of the requests, so that a failing provider is not also
//! trampled. The idea is Finagle's and linkerd's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use patchbay_ambient::Clock;

/// How many retries an upstream may see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetSettings {
    /// Retries allowed per request sent, in percent.
    pub percent: u32,
    /// Retries allowed per window whatever the traffic, so that a quiet upstream can be retried at all.
    pub reserve: u32,
    /// How long a request counts.
    pub window: Duration,
}

impl Default for BudgetSettings {
    /// A fifth of the requests of the last ten seconds, and a hundred.
    fn default() -> Self {
        Self {
            percent: 20,
            reserve: 100,
            window: Duration::from_secs(10),
        }
    }
}

/// Retry budgets, one per upstream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budgets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: BudgetSettings,
    clock: Arc<dyn Clock>,
    upstreams: Mutex<HashMap<String, Counts>>,
}

/// Two half windows: the one being filled and the one before it.
#[derive(Clone, Copy, Debug)]
struct Counts {
    since: Timestamp,
    current: Slot,
    previous: Slot,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    retries: u64,
}

/// Upstreams remembered; the map is thinned when it grows beyond.
const CAPACITY: usize = 10_000;

impl Budgets {
    /// No traffic yet.
    pub fn new(settings: BudgetSettings, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            settings,
            clock,
            upstreams: Mutex::default(),
        }))
    }

    /// Notes a first attempt to `upstream` (host and port).
    pub fn deposit(&self, upstream: &str) {
        self.with(upstream, |counts, _| counts.current.requests += 1);
    }

    /// Takes one retry, if there is one left.
    pub fn withdraw(&self, upstream: &str) -> bool {
        self.with(upstream, |counts, settings| {
            let requests = counts.current.requests + counts.previous.requests;
            let retries = counts.current.retries + counts.previous.retries;
            let allowed = u64::from(settings.reserve) + requests * u64::from(settings.percent) / 100;
            let granted = retries < allowed;
            counts.current.retries += u64::from(granted);
            granted
        })
    }

    fn with<T>(&self, upstream: &str, act: impl FnOnce(&mut Counts, &BudgetSettings) -> T) -> T {
        let Inner {
            settings,
            clock,
            upstreams,
        } = &*self.0;
        let now = clock.now();
        let mut upstreams = upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        if !upstreams.contains_key(upstream) {
            if upstreams.len() >= CAPACITY {
                upstreams.retain(|_, counts| !counts.is_stale(now, settings.window));
            }
            if upstreams.len() >= CAPACITY {
                upstreams.clear();
            }
        }
        let fresh = || Counts {
            since: now,
            current: Slot::default(),
            previous: Slot::default(),
        };
        let counts = match upstreams.get_mut(upstream) {
            Some(counts) => counts,
            None => upstreams.entry(upstream.to_owned()).or_insert_with(fresh),
        };
        counts.turn(now, settings.window);
        act(counts, settings)
    }
}

impl Counts {
    fn turn(&mut self, now: Timestamp, window: Duration) {
        // A clock stepped backwards must not freeze the counts: age is taken as none.
        let age = Duration::try_from(now.duration_since(self.since)).unwrap_or_default();
        if age < window / 2 {
            return;
        }
        self.previous = if age < window {
            self.current
        } else {
            Slot::default()
        };
        self.current = Slot::default();
        self.since = now;
    }

    fn is_stale(&self, now: Timestamp, window: Duration) -> bool {
        Duration::try_from(now.duration_since(self.since)).is_ok_and(|age| age > window)
    }
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::TestClock;

    use super::*;

    fn budgets() -> (Budgets, TestClock) {
        let clock = TestClock::default();
        let settings = BudgetSettings {
            percent: 20,
            reserve: 5,
            window: Duration::from_secs(10),
        };
        (Budgets::new(settings, Arc::new(clock.clone())), clock)
    }

    fn granted(budgets: &Budgets, upstream: &str) -> usize {
        (0..1000).take_while(|_| budgets.withdraw(upstream)).count()
    }

    #[test]
    fn retries_are_a_fraction_of_requests_plus_a_reserve() {
        let (budgets, _) = budgets();
        assert_eq!(granted(&budgets, "quiet:443"), 5);
        (0..100).for_each(|_| budgets.deposit("busy:443"));
        assert_eq!(granted(&budgets, "busy:443"), 25);
        assert_eq!(granted(&budgets, "other:443"), 5, "upstreams do not share");
    }

    #[test]
    fn the_budget_comes_back_with_time() {
        let (budgets, clock) = budgets();
        assert_eq!(granted(&budgets, "a"), 5);
        clock.advance(Duration::from_secs(5));
        assert_eq!(granted(&budgets, "a"), 0, "still within the window");
        clock.advance(Duration::from_secs(10));
        assert_eq!(granted(&budgets, "a"), 5);
    }

    #[test]
    fn memory_is_bounded() {
        let (budgets, _) = budgets();
        for index in 0..CAPACITY + 10 {
            budgets.deposit(&index.to_string());
        }
        assert!(budgets.0.upstreams.lock().unwrap().len() <= CAPACITY);
    }
}
