//! When a failed delivery is tried again.

use std::time::Duration;

use patchbay_ambient::Entropy;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Waits after the first, second, … failed attempt unless configured otherwise: quick at first, as the receiver may
/// just be restarting, then for about three days.
pub const WAITS: [Duration; 13] = {
    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    [
        s(3),
        s(6),
        s(30),
        s(2 * MINUTE),
        s(10 * MINUTE),
        s(30 * MINUTE),
        s(HOUR),
        s(2 * HOUR),
        s(4 * HOUR),
        s(8 * HOUR),
        s(12 * HOUR),
        s(18 * HOUR),
        s(24 * HOUR),
    ]
};

/// Longest wait a receiver may ask for by `Retry-After`.
const LONGEST: Duration = Duration::from_secs(24 * HOUR);

/// The wait of `waits` after attempt number `attempt` (from 1) failed; `None` gives up. A tenth of jitter either way
/// keeps deliveries that failed together from coming back together; `Retry-After` lengthens a wait, never shortens it.
pub fn wait_after(
    waits: &[Duration],
    attempt: u32,
    retry_after: Option<Duration>,
    entropy: &dyn Entropy,
) -> Option<Duration> {
    let index = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX);
    let base = *waits.get(index)?;
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
        for (index, base) in WAITS.iter().enumerate() {
            let wait = wait_after(&WAITS, u32::try_from(index).unwrap() + 1, None, &entropy).unwrap();
            assert!(
                wait >= base.mul_f64(0.9) && wait <= base.mul_f64(1.1),
                "{index}: {wait:?}"
            );
            total += wait;
        }
        assert!(total > Duration::from_secs(2 * 24 * HOUR));
        assert_eq!(
            wait_after(&WAITS, u32::try_from(WAITS.len()).unwrap() + 1, None, &entropy),
            None
        );
        assert_eq!(wait_after(&[], 1, None, &entropy), None);
    }

    #[test]
    fn retry_after_lengthens_and_is_capped() {
        let entropy = SeededEntropy::new(1);
        let asked = |seconds| wait_after(&WAITS, 1, Some(Duration::from_secs(seconds)), &entropy).unwrap();
        assert_eq!(asked(100), Duration::from_secs(100));
        assert!(asked(1) > Duration::from_secs(2));
        assert_eq!(asked(30 * 24 * HOUR), LONGEST);
    }
}
