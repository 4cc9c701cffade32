//! What other programs take from thin air and Patchbay takes as an argument: time, randomness, background tasks.
//!
//! Everything that needs the hour, a random number or a task in the background receives it from here, so that a
//! test can own all three: a [`TestClock`] that only moves when told, a [`SeededEntropy`] that repeats, and
//! [`Tasks`] that are drained and counted at the end. `clippy.toml` bans the ambient originals.

mod clock;
mod entropy;
mod tasks;

pub use clock::{Clock, SystemClock, TestClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use tasks::{Shutdown, Tasks};

use std::sync::Arc;

/// The three injected sources in one cheap handle.
#[derive(Clone, Debug)]
pub struct Ambient {
    /// Wall time and timers.
    pub clock: Arc<dyn Clock>,
    /// Random bytes for ids, tokens, nonces and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Tracked background tasks.
    pub tasks: Tasks,
}

impl Ambient {
    /// The real thing: system clock, the operating system's randomness.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            tasks: Tasks::new(),
        }
    }

    /// A world for one test: the given clock, randomness repeated from `seed`.
    pub fn test(clock: TestClock, seed: u64) -> Self {
        Self {
            clock: Arc::new(clock),
            entropy: Arc::new(SeededEntropy::new(seed)),
            tasks: Tasks::new(),
        }
    }

    /// Wall time, see [`Clock::now`].
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// A UUID v7 (RFC 9562 §5.7): sorts by the time it was made, millisecond precision.
    pub fn time_ordered_uuid(&self) -> uuid::Uuid {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}
