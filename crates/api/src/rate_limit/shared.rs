//! Counters shared by the nodes of one database.
//!
//! Points are taken from the database an allotment at a time ([`patchbay_connections::rate_limits`]) and spent in
//! memory. A request waits for the database only when its node has nothing left: usually once a window, because the
//! next allotment is fetched in the background before this one ends.
//!
//! The limit holds for all nodes together, exactly, as far as their clocks agree. The error is on the other side: a
//! node may be refused the last few points while another holds them unspent, and what a node holds when it stops is
//! lost to its window. `X-RateLimit-Remaining` counts what other nodes hold as spent.
//!
//! When the database is away requests pass uncounted, and it is asked again a second later.
//!
//! Addresses are counted by each node for itself: an unauthenticated stranger must not cause writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use jiff::Timestamp;
use patchbay_connections::Context;
use patchbay_connections::rate_limits::{self, Allotment};
use patchbay_store::db::DbError;

use super::{Bucket, Counters, MemoryCounters, Taken, WINDOW_MICROS, Window};

/// How long a request waits for the database before it passes uncounted, and requests after it do not ask.
const PATIENCE: Duration = Duration::from_secs(1);
/// Ledgers beyond this number are looked through for windows that are over.
const MANY: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct SharedCounters {
    context: Arc<Context>,
    accounts: Arc<Ledgers>,
    addresses: MemoryCounters,
}

#[derive(Debug, Default)]
struct Ledgers(Mutex<HashMap<Bucket, Ledger>>);

/// What this node knows of a bucket. Times are microseconds; one that is past says that nothing is known.
#[derive(Debug, Default)]
struct Ledger {
    ends: i64,
    /// Points all nodes have taken, as last heard.
    used: u32,
    /// Points of ours not spent.
    left: u32,
    /// Points of our last allotment.
    size: u32,
    /// The least cost that this window cannot pay any more.
    denied: Option<u32>,
    /// The next allotment, on its way.
    asking: Option<Asking>,
    /// The database did not answer: until then requests pass uncounted.
    uncounted_until: i64,
}

type Asking = Shared<BoxFuture<'static, ()>>;

impl SharedCounters {
    /// Counters in the database of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            accounts: Arc::default(),
            addresses: MemoryCounters::default(),
        }
    }

    /// The window after taking `cost`, or what to wait for.
    fn try_take(&self, bucket: Bucket, cost: u32, limit: u32, now: i64) -> Result<Window, Asking> {
        let mut ledgers = self.accounts.lock();
        if ledgers.len() > MANY {
            ledgers.retain(|_, ledger| ledger.ends > now || ledger.asking.is_some());
        }
        let ledger = ledgers.entry(bucket).or_default();
        if ledger.ends <= now {
            ledger.close();
        }
        if cost <= ledger.left {
            ledger.left -= cost;
            let low = ledger.size >= 4 && ledger.left <= ledger.size / 4;
            if low && ledger.asking.is_none() && ledger.denied.is_none() {
                ledger.asking = Some(self.ask(bucket, 1, limit));
            }
            return Ok(ledger.window(now, limit, true));
        }
        if ledger.denied.is_some_and(|denied| cost >= denied) {
            return Ok(ledger.window(now, limit, false));
        }
        if now < ledger.uncounted_until {
            return Ok(ledger.window(now, limit, true));
        }
        let asking = ledger.asking.get_or_insert_with(|| self.ask(bucket, cost, limit));
        Err(asking.clone())
    }

    /// Asks for an allotment, in a task that runs to its end even if the request that began it goes away.
    fn ask(&self, bucket: Bucket, points: u32, limit: u32) -> Asking {
        let (context, accounts) = (self.context.clone(), self.accounts.clone());
        let task = self.context.ambient.tasks.spawn(async move {
            let answer = rate_limits::allot(&context, bucket.to_string(), points, limit).await;
            accounts.receive(bucket, points, &answer, context.ambient.now());
        });
        let (context, accounts) = (self.context.clone(), self.accounts.clone());
        let ended = async move {
            if task.await.is_err() {
                let answer = Err(DbError::internal("taking an allotment panicked"));
                accounts.receive(bucket, points, &answer, context.ambient.now());
            }
        };
        ended.boxed().shared()
    }
}

impl Counters for SharedCounters {
    fn take(&self, bucket: Bucket, cost: u32, limit: u32, now: Timestamp) -> Taken<'_> {
        if matches!(bucket, Bucket::Address(_)) {
            return self.addresses.take(bucket, cost, limit, now);
        }
        let mut asking = match self.try_take(bucket, cost, limit, now.as_microsecond()) {
            Ok(window) => return Taken::Now(window),
            Err(asking) => asking,
        };
        Taken::Later(Box::pin(async move {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                if tokio::time::timeout_at(deadline, asking).await.is_err() {
                    self.accounts.pass_uncounted(bucket, self.context.ambient.now());
                }
                let now = self.context.ambient.now().as_microsecond();
                asking = match self.try_take(bucket, cost, limit, now) {
                    Ok(window) => return Ok(window),
                    Err(asking) => asking,
                };
            }
        }))
    }
}

impl Ledgers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Bucket, Ledger>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, bucket: Bucket, asked: u32, answer: &Result<Allotment, DbError>, now: Timestamp) {
        if let Err(error) = answer {
            tracing::warn!(%error, %bucket, "requests pass uncounted");
            self.pass_uncounted(bucket, now);
        }
        let mut ledgers = self.lock();
        let ledger = ledgers.entry(bucket).or_default();
        ledger.asking = None;
        let Ok(allotment) = answer else { return };
        let ends = allotment.ends_at.as_microsecond();
        if ends != ledger.ends {
            ledger.close();
            ledger.ends = ends;
        }
        ledger.used = allotment.used;
        if allotment.points == 0 {
            let least = ledger.denied.map_or(asked, |denied| denied.min(asked));
            ledger.denied = Some(least);
        } else {
            ledger.left += allotment.points;
            ledger.size = allotment.points;
        }
    }

    fn pass_uncounted(&self, bucket: Bucket, now: Timestamp) {
        let until = now.checked_add(PATIENCE).unwrap_or(Timestamp::MAX);
        self.lock().entry(bucket).or_default().uncounted_until = until.as_microsecond();
    }
}

impl Ledger {
    /// Forgets a window. What is being asked for belongs to the next.
    fn close(&mut self) {
        *self = Self {
            asking: self.asking.take(),
            uncounted_until: self.uncounted_until,
            ..Self::default()
        };
    }

    fn window(&self, now: i64, limit: u32, accepted: bool) -> Window {
        let ends = if self.ends > now {
            self.ends
        } else {
            now.saturating_add(WINDOW_MICROS)
        };
        Window {
            used: if accepted {
                self.used.saturating_sub(self.left).min(limit)
            } else {
                limit
            },
            accepted,
            ends: Timestamp::from_microsecond(ends).unwrap_or(Timestamp::MAX),
        }
    }
}
