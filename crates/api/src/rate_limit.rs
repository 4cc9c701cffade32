//! Rate limits (api-core §4): a fixed window of a minute per bucket, begun by the bucket's first request.
//!
//! A refused request neither counts nor prolongs the window. When the counters cannot be asked, requests pass.
//! One node counts in memory ([`MemoryCounters`]); several share their limits ([`SharedCounters`]).

mod shared;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use patchbay_ambient::Clock;
use patchbay_types::AccountId;

use crate::codes;
use crate::error::ApiError;

pub use shared::SharedCounters;

static HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];
const WINDOW_MICROS: i64 = 60_000_000;

/// Who shares an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// An account's callers.
    Account {
        /// The account.
        id: AccountId,
        /// Which of its callers.
        kind: Kind,
        /// Whether the caller said it is a function (`Nango-Is-Script: true`).
        script: bool,
    },
    /// Unauthenticated callers of one address; of an IPv6 network of 64 bits, because one host has them all.
    Address(IpAddr),
}

/// The callers of an account that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// API keys, all environments together.
    Secret,
    /// Connect sessions and public keys.
    Global,
}

impl Bucket {
    /// The bucket of an unauthenticated caller.
    pub fn address(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V6(v6) => Self::Address(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => Self::Address(v4),
        }
    }
}

impl fmt::Display for Bucket {
    /// The key under which nodes share the counter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { id, kind, script } => {
                let kind = if *kind == Kind::Secret { "secret" } else { "global" };
                let script = if *script { "-script" } else { "" };
                write!(f, "{kind}{script}:{id}")
            }
            Self::Address(ip) => write!(f, "ip:{ip}"),
        }
    }
}

/// Requests a minute; 0 = unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Per account, for API keys.
    pub secret: u32,
    /// Per account, for connect sessions and public keys.
    pub global: u32,
    /// Per account, for callers that say they are functions.
    pub script: u32,
    /// Per address, for unauthenticated routes that are limited.
    pub address: u32,
}

impl RateLimits {
    /// The same for every bucket.
    pub fn uniform(per_minute: u32) -> Self {
        Self {
            secret: per_minute,
            global: per_minute,
            script: per_minute,
            address: per_minute,
        }
    }

    fn of(&self, bucket: Bucket) -> u32 {
        match bucket {
            Bucket::Account { script: true, .. } => self.script,
            Bucket::Account {
                kind: Kind::Secret, ..
            } => self.secret,
            Bucket::Account {
                kind: Kind::Global, ..
            } => self.global,
            Bucket::Address(_) => self.address,
        }
    }
}

/// Where a bucket stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Points used, this request included if it was accepted.
    pub used: u32,
    /// Whether this request was accepted.
    pub accepted: bool,
    /// When the window ends.
    pub ends: Timestamp,
}

/// The counters could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("rate limit counters are unavailable")]
pub struct CountersUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// An answer that is there at once, or one to wait for.
pub enum Taken<'a> {
    /// From memory.
    Now(Window),
    /// From another machine.
    Later(BoxFuture<'a, Result<Window, CountersUnavailable>>),
}

impl fmt::Debug for Taken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(window) => window.fmt(f),
            Self::Later(_) => f.write_str("Later(..)"),
        }
    }
}

/// Counters of windows. In memory for one node; several nodes share theirs through their database.
pub trait Counters: Send + Sync + fmt::Debug {
    /// Takes `cost` points from `bucket` if `limit` allows, at `now`.
    fn take(&self, bucket: Bucket, cost: u32, limit: u32, now: Timestamp) -> Taken<'_>;
}

/// Decides whether a request may pass.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    limits: RateLimits,
    counters: Arc<dyn Counters>,
    clock: Arc<dyn Clock>,
}

/// What a counted response says of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    limit: u32,
    remaining: u32,
    reset: i64,
}

impl RateLimiter {
    /// Limits with counters of this process.
    pub fn in_memory(limits: RateLimits, clock: Arc<dyn Clock>) -> Self {
        Self::new(limits, Arc::new(MemoryCounters::default()), clock)
    }

    /// Limits with any counters.
    pub fn new(limits: RateLimits, counters: Arc<dyn Counters>, clock: Arc<dyn Clock>) -> Self {
        Self {
            limits,
            counters,
            clock,
        }
    }

    /// Counts a request; where its bucket stands (nothing if unlimited), or 429.
    pub async fn check(
        &self,
        bucket: Bucket,
        cost: u32,
        method: &Method,
        path: &str,
    ) -> Result<Option<Standing>, (Standing, ApiError)> {
        let limit = self.limits.of(bucket);
        if limit == 0 {
            return Ok(None);
        }
        let now = self.clock.now();
        let window = match self.counters.take(bucket, cost, limit, now) {
            Taken::Now(window) => window,
            Taken::Later(answer) => match answer.await {
                Ok(window) => window,
                Err(error) => {
                    tracing::warn!(%error, "a request was not counted");
                    return Ok(None);
                }
            },
        };
        let standing = Standing {
            limit,
            remaining: limit.saturating_sub(window.used),
            reset: window.ends.as_second(),
        };
        if window.accepted {
            return Ok(Some(standing));
        }
        let wait = window.ends.duration_since(now).try_into().unwrap_or_default();
        let refused = ApiError::new(&codes::TOO_MANY_REQUEST)
            .member("method", method.as_str())
            .member("path", path)
            .retry_after(wait);
        Err((standing, refused))
    }
}

impl Standing {
    /// Writes `X-RateLimit-*`, unless a relayed response brings its provider's: those are what its reader is
    /// after, and a mixture of both would be neither's.
    pub fn apply(self, headers: &mut HeaderMap) {
        if HEADERS.iter().any(|name| headers.contains_key(name)) {
            return;
        }
        let [limit, remaining, reset] = &HEADERS;
        headers.insert(limit, HeaderValue::from(self.limit));
        headers.insert(remaining, HeaderValue::from(self.remaining));
        headers.insert(reset, HeaderValue::from(self.reset));
    }
}

/// Counters of one process, bounded in number.
#[derive(Debug)]
pub struct MemoryCounters {
    accounts: Mutex<Generations<Bucket>>,
    addresses: Mutex<Generations<Bucket>>,
}

impl Default for MemoryCounters {
    fn default() -> Self {
        Self::bounded(100_000)
    }
}

impl MemoryCounters {
    /// At most about twice `buckets` of accounts and of addresses, about 100 bytes each. Beyond, the buckets that
    /// have been quiet longest begin a new window early.
    pub fn bounded(buckets: usize) -> Self {
        let generations = || Mutex::new(Generations::new(buckets));
        Self {
            accounts: generations(),
            addresses: generations(),
        }
    }
}

impl Counters for MemoryCounters {
    fn take(&self, bucket: Bucket, cost: u32, limit: u32, now: Timestamp) -> Taken<'_> {
        let generations = match bucket {
            Bucket::Account { .. } => &self.accounts,
            Bucket::Address(_) => &self.addresses,
        };
        let mut generations = generations.lock().unwrap_or_else(PoisonError::into_inner);
        Taken::Now(generations.take(bucket, cost, limit, now.as_microsecond()))
    }
}

/// Two maps: live windows move to the young one when touched, and the old one is dropped whole when the young
/// one is full or a window old. Nothing is ever scanned.
#[derive(Debug)]
struct Generations<K> {
    young: HashMap<K, Count>,
    old: HashMap<K, Count>,
    turned: i64,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    used: u32,
    began: i64,
}

impl<K: Eq + Hash> Generations<K> {
    fn new(most: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            turned: i64::MIN,
            most,
        }
    }

    fn take(&mut self, key: K, cost: u32, limit: u32, now: i64) -> Window {
        let live = |count: &Count| (count.began..count.began.saturating_add(WINDOW_MICROS)).contains(&now);
        if self.young.len() >= self.most || now.saturating_sub(self.turned) >= WINDOW_MICROS {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        let old = &mut self.old;
        let fresh = Count { used: 0, began: now };
        let count = match self.young.entry(key) {
            Entry::Occupied(young) => young.into_mut(),
            Entry::Vacant(vacant) => {
                let carried = old.remove(vacant.key()).unwrap_or(fresh);
                vacant.insert(carried)
            }
        };
        if !live(count) {
            *count = fresh;
        }
        let used = count.used.saturating_add(cost);
        let accepted = used <= limit;
        if accepted {
            count.used = used;
        }
        Window {
            // What is refused for its cost leaves nothing to hope for in this window.
            used: if accepted { used } else { limit },
            accepted,
            ends: Timestamp::from_microsecond(count.began.saturating_add(WINDOW_MICROS))
                .unwrap_or(Timestamp::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use patchbay_ambient::{SeededEntropy, TestClock};
    use proptest::prelude::*;

    use super::*;

    const ACCOUNT: Bucket = Bucket::Account {
        id: AccountId(1),
        kind: Kind::Secret,
        script: false,
    };

    fn limiter(per_minute: u32) -> (RateLimiter, TestClock) {
        let clock = TestClock::default();
        let limits = RateLimits::uniform(per_minute);
        (RateLimiter::in_memory(limits, Arc::new(clock.clone())), clock)
    }

    async fn remaining(limiter: &RateLimiter, bucket: Bucket, cost: u32) -> Result<u32, String> {
        match limiter.check(bucket, cost, &Method::GET, "/connections").await {
            Ok(standing) => Ok(standing.unwrap().remaining),
            Err((_, error)) => {
                let response = error.into_response(&SeededEntropy::new(1));
                Err(response.headers()["retry-after"].to_str().unwrap().to_owned())
            }
        }
    }

    #[tokio::test]
    async fn the_window_begins_with_the_first_request_and_refusals_do_not_prolong_it() {
        let (limiter, clock) = limiter(2);
        assert_eq!(remaining(&limiter, ACCOUNT, 1).await, Ok(1));
        clock.advance(Duration::from_secs(30));
        assert_eq!(remaining(&limiter, ACCOUNT, 1).await, Ok(0));
        assert_eq!(remaining(&limiter, ACCOUNT, 1).await, Err("30".to_owned()));
        clock.advance(Duration::from_millis(29_500));
        assert_eq!(remaining(&limiter, ACCOUNT, 1).await, Err("1".to_owned()));
        clock.advance(Duration::from_millis(500));
        assert_eq!(remaining(&limiter, ACCOUNT, 1).await, Ok(1));
    }

    #[tokio::test]
    async fn buckets_costs_and_off() {
        let (limiter, clock) = limiter(10);
        let script = Bucket::Account {
            id: AccountId(1),
            kind: Kind::Secret,
            script: true,
        };
        let address = |text: &str| Bucket::address(text.parse().unwrap());
        assert_eq!(remaining(&limiter, ACCOUNT, 1).await, Ok(9));
        assert_eq!(remaining(&limiter, script, 1).await, Ok(9));
        assert_eq!(remaining(&limiter, address("2001:db8::1"), 10).await, Ok(0));
        assert_eq!(
            remaining(&limiter, address("2001:db8::2"), 1).await,
            Err("60".to_owned())
        );
        assert_eq!(remaining(&limiter, address("2001:db8:0:1::2"), 1).await, Ok(9));
        assert_eq!(ACCOUNT.to_string(), "secret:1");
        assert_eq!(script.to_string(), "secret-script:1");
        let off = RateLimiter::in_memory(RateLimits::uniform(0), Arc::new(clock));
        assert_eq!(off.check(ACCOUNT, 1, &Method::GET, "/").await.unwrap(), None);
    }

    #[test]
    fn a_providers_own_limits_are_left_alone() {
        let standing = Standing {
            limit: 2,
            remaining: 1,
            reset: 3,
        };
        let mut ours = HeaderMap::new();
        standing.apply(&mut ours);
        assert_eq!(ours.len(), 3);
        let mut relayed = HeaderMap::new();
        relayed.insert("x-ratelimit-remaining", HeaderValue::from(9));
        standing.apply(&mut relayed);
        assert_eq!(
            (relayed.len(), &relayed["x-ratelimit-remaining"]),
            (1, &HeaderValue::from(9))
        );
    }

    #[derive(Debug)]
    struct Broken;

    impl Counters for Broken {
        fn take(&self, _: Bucket, _: u32, _: u32, _: Timestamp) -> Taken<'_> {
            Taken::Later(Box::pin(async { Err(CountersUnavailable("gone".into())) }))
        }
    }

    #[tokio::test]
    async fn requests_pass_when_the_counters_are_away() {
        let limiter = RateLimiter::new(
            RateLimits::uniform(1),
            Arc::new(Broken),
            Arc::new(TestClock::default()),
        );
        for _ in 0..3 {
            assert_eq!(limiter.check(ACCOUNT, 1, &Method::GET, "/").await.unwrap(), None);
        }
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_no_bucket_passes_more_than_its_limit(
            requests in prop::collection::vec((0_u8..40, 0_u32..4, 0_i64..20_000_000), 1..400)
        ) {
            let mut generations = Generations::new(1000);
            let mut tight = Generations::new(8);
            let mut now = 0;
            let mut accepted: HashMap<u8, Vec<(i64, u32)>> = HashMap::new();
            for (key, cost, step) in requests {
                now += step;
                tight.take(key, cost, 5, now);
                prop_assert!(tight.young.len() <= 8 && tight.old.len() <= 8);
                let window = generations.take(key, cost, 5, now);
                let past = accepted.entry(key).or_default();
                if window.accepted {
                    past.push((now, cost));
                }
                let began = window.ends.as_microsecond() - WINDOW_MICROS;
                let spent: u32 = past.iter().filter(|(at, _)| *at >= began).map(|(_, cost)| cost).sum();
                prop_assert!(spent <= 5);
                prop_assert!(window.accepted || spent + cost > 5);
            }
        }
    }
}
