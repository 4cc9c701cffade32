//! When a failed delivery is tried again.

use std::time::Duration;

use patchbay_ambient::Entropy;

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Waits after the first, second, … failed attempt, in seconds: quick at first, as the receiver may just be
/// restarting, then for about three days.
const WAITS: [u64; 13] = [
    3 * SECOND,
    6 * SECOND,
    30 * SECOND,
    2 * MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    12 * HOUR,
    18 * HOUR,
    24 * HOUR,
];

/// Longest wait a receiver may ask for by `Retry-After`.
const LONGEST: Duration = Duration::from_secs(24 * HOUR);

/// Attempts before a delivery is given up, the first included.
pub const ATTEMPTS: usize = WAITS.len() + 1;

/// The wait after attempt number `attempt` (from 1) failed; `None` gives up. A tenth of jitter either way keeps
/// deliveries that failed together from coming back together; `Retry-After` lengthens a wait, never shortens it.
pub fn wait_after(attempt: u32, retry_after: Option<Duration>, entropy: &dyn Entropy) -> Option<Duration> {
    let index = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX);
    let base = Duration::from_secs(*WAITS.get(index)?);
    let spread = u64::try_from(base.as_millis() / 5).unwrap_or(u64::MAX);
    let jittered = base.mul_f64(0.9) + Duration::from_millis(entropy.below(spread.max(1)));
    Some(jittered.max(retry_after.unwrap_or_default().min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::SeededEntropy;

    use super::*;

    #[test]
    fn waits_grow_for_days_then_end() {
        let entropy = SeededEntropy::new(1);
        let mut total = Duration::ZERO;
        for attempt in 1..u32::try_from(ATTEMPTS).unwrap() {
            let wait = wait_after(attempt, None, &entropy).unwrap();
            let base = Duration::from_secs(WAITS[attempt as usize - 1]);
            assert!(
                wait >= base.mul_f64(0.9) && wait <= base.mul_f64(1.1),
                "{attempt}: {wait:?}"
            );
            total += wait;
        }
        assert!(total > Duration::from_secs(2 * 24 * HOUR));
        assert_eq!(wait_after(u32::try_from(ATTEMPTS).unwrap(), None, &entropy), None);
    }

    #[test]
    fn retry_after_lengthens_and_is_capped() {
        let entropy = SeededEntropy::new(1);
        let asked = |seconds| wait_after(1, Some(Duration::from_secs(seconds)), &entropy).unwrap();
        assert_eq!(asked(100), Duration::from_secs(100));
        assert!(asked(1) > Duration::from_secs(2));
        assert_eq!(asked(30 * 24 * HOUR), LONGEST);
    }
}
