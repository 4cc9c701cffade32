//! How long to wait before trying again.

use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use patchbay_ambient::Entropy;

/// Exponential backoff: the wait before retry `n` (from 0) is at most `base · 2ⁿ`, never more than `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait at all.
    pub cap: Duration,
}

impl Backoff {
    /// The upper bound of the wait before retry `attempt`.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 2_u32.checked_pow(attempt).unwrap_or(u32::MAX);
        self.base.checked_mul(factor).unwrap_or(self.cap).min(self.cap)
    }

    /// A random wait between nothing and the ceiling ("full jitter"), so that clients that failed together do not
    /// come back together.
    pub fn jittered(&self, attempt: u32, entropy: &dyn Entropy) -> Duration {
        random_up_to(self.ceiling(attempt), entropy)
    }

    /// A random wait in the upper half of the ceiling, where a wait that is too short is as bad as one too long.
    pub fn half_jittered(&self, attempt: u32, entropy: &dyn Entropy) -> Duration {
        let half = self.ceiling(attempt) / 2;
        half + random_up_to(half, entropy)
    }

    /// The wait before retry `attempt`: what the server asked for, if it did, else jittered; `None` if the server
    /// asks for more than `patience`.
    pub fn wait(
        &self,
        attempt: u32,
        asked: Option<Duration>,
        patience: Duration,
        entropy: &dyn Entropy,
    ) -> Option<Duration> {
        match asked {
            Some(asked) => (asked <= patience).then_some(asked),
            None => Some(self.jittered(attempt, entropy)),
        }
    }
}

fn random_up_to(most: Duration, entropy: &dyn Entropy) -> Duration {
    let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(entropy.below(micros.saturating_add(1)))
}

/// The wait a response asks for in `retry-after`.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// Reads a `retry-after` value: seconds (fractions are seen in the wild), or an HTTP date in any of the three forms
/// of RFC 9110 §5.6.7. A date in the past is no wait; what is neither is `None`. At most a year, so that sums stay sane.
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let seconds: f64 = value.parse().ok()?;
        return Some(Duration::try_from_secs_f64(seconds).map_or(YEAR, |wait| wait.min(YEAR)));
    }
    let wait = parse_http_date(value)?.duration_since(now);
    Some(Duration::try_from(wait).map_or(Duration::ZERO, |wait| wait.min(YEAR)))
}

/// Reads an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or
/// `Sun Nov  6 08:49:37 1994`.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = jiff::fmt::rfc2822::parse(text) {
        return Some(time.timestamp());
    }
    let forms = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let civil = forms.iter().find_map(|form| {
        strtime::parse(form, text)
            .and_then(|time| time.to_datetime())
            .ok()
    });
    civil.and_then(|civil: DateTime| TimeZone::UTC.to_timestamp(civil).ok())
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff {
        base: Duration::from_secs(3),
        cap: Duration::from_mins(10),
    };

    fn now() -> Timestamp {
        "1994-11-06T08:49:00Z".parse().unwrap()
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let seconds = |attempt| BACKOFF.ceiling(attempt).as_secs();
        assert_eq!([seconds(0), seconds(1), seconds(2), seconds(7)], [3, 6, 12, 384]);
        assert_eq!([seconds(8), seconds(40), seconds(u32::MAX)], [600, 600, 600]);
    }

    #[test]
    fn jitter_uses_the_whole_range_and_repeats_with_its_seed() {
        let entropy = SeededEntropy::new(7);
        let waits: Vec<_> = (0..200).map(|_| BACKOFF.jittered(0, &entropy)).collect();
        assert!(waits.iter().all(|wait| *wait <= BACKOFF.base));
        assert!(waits.iter().any(|wait| *wait < BACKOFF.base / 4));
        assert!(waits.iter().any(|wait| *wait > BACKOFF.base * 3 / 4));
        let again = SeededEntropy::new(7);
        assert_eq!(waits[0], BACKOFF.jittered(0, &again));
        assert!((0..50).all(|_| BACKOFF.half_jittered(1, &entropy) >= BACKOFF.base));
    }

    #[test]
    fn a_server_that_asks_for_more_than_our_patience_ends_the_retries() {
        let entropy = SeededEntropy::new(1);
        let patience = Duration::from_mins(1);
        let wait = |asked: u64| BACKOFF.wait(0, Some(Duration::from_secs(asked)), patience, &entropy);
        assert_eq!(wait(60), Some(patience));
        assert_eq!(wait(61), None);
        assert!(BACKOFF.wait(0, None, patience, &entropy).unwrap() <= BACKOFF.base);
    }

    #[test]
    fn retry_after_in_every_form() {
        let check = |text: &str, expect: Option<u64>| {
            let found = parse_retry_after(text, now());
            assert_eq!(found, expect.map(Duration::from_millis), "{text:?}");
        };
        check("0", Some(0));
        check("120", Some(120_000));
        check(" 3 ", Some(3000));
        check("1.5", Some(1500));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(37_000));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(37_000));
        check("Sun Nov  6 08:49:37 1994", Some(37_000));
        check("Sun, 06 Nov 1994 08:48:00 GMT", Some(0));
        check("Sun, 06 Nov 1994 03:49:37 -0500", Some(37_000));
        check("99999999999999999999", Some(31_536_000_000));
        for garbage in [
            "",
            ".",
            "1.2.3",
            "-1",
            "+5",
            "soon",
            "1e3",
            "0x10",
            "NaN",
            "inf",
            "Sun, 32 Nov 1994 08:49:37 GMT",
        ] {
            check(garbage, None);
        }
    }

    proptest! {
        #[test]
        fn whole_seconds_are_taken_as_they_are(seconds in 0_u32..31_536_000) {
            let wait = parse_retry_after(&seconds.to_string(), now());
            prop_assert_eq!(wait, Some(Duration::from_secs(seconds.into())));
        }

        #[test]
        fn a_date_is_the_distance_from_now(seconds in 0_i64..31_536_000) {
            let at = now().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
            let date = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let wait = parse_retry_after(&date, now());
            prop_assert_eq!(wait, Some(Duration::from_secs(seconds.unsigned_abs())));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _ = parse_retry_after(&text, now());
        }
    }
}
