//! When a token ends, in the many ways providers say it (auth-flows §8.3).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::Value;

/// First millisecond of 1972: a number that lands past it when read as milliseconds is milliseconds.
const YEAR_1972_MS: f64 = 63_072_000_000.0;

/// `expires_at`: a number (milliseconds if that lands after 1971, else seconds), an ISO 8601 or RFC 2822 date (UTC
/// when it names no zone), or `D:HH:MM` from `now`. Falsy and unreadable values say nothing.
pub(crate) fn at(value: &Value, now: Timestamp) -> Option<Timestamp> {
    match value {
        Value::Number(number) => epoch(number.as_f64()?),
        Value::String(text) => {
            let text = text.trim();
            if text.is_empty() {
                return None;
            }
            if let Ok(number) = text.parse::<f64>() {
                return epoch(number);
            }
            relative(text, now).or_else(|| date(text))
        }
        _ => None,
    }
}

/// `expires_in`: seconds from `now`, as a number or a text that begins with one. Zero and less say nothing: providers
/// use them for tokens that do not end.
pub(crate) fn within(value: &Value, now: Timestamp) -> Option<Timestamp> {
    after_millis(leading_number(value)?.checked_mul(1000)?, now)
}

/// As [`within`], in milliseconds (`expires_in_unit: milliseconds`).
pub(crate) fn within_millis(value: &Value, now: Timestamp) -> Option<Timestamp> {
    after_millis(leading_number(value)?, now)
}

fn after_millis(millis: i64, now: Timestamp) -> Option<Timestamp> {
    let later = now.as_millisecond().checked_add(millis)?;
    Some(Timestamp::from_millisecond(later).unwrap_or(Timestamp::MAX))
}

fn leading_number(value: &Value) -> Option<i64> {
    let number = match value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates and the fraction is to be cut"
        )]
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|n| n as i64))?,
        Value::String(text) => {
            let text = text.trim();
            let end = text
                .bytes()
                .position(|b| !b.is_ascii_digit())
                .unwrap_or(text.len());
            text[..end].parse().ok()?
        }
        _ => return None,
    };
    (number > 0).then_some(number)
}

fn epoch(number: f64) -> Option<Timestamp> {
    if !number.is_finite() || number <= 0.0 {
        return None;
    }
    let millis = if number >= YEAR_1972_MS {
        number
    } else {
        number * 1000.0
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates; out-of-range instants become the last one"
    )]
    let millis = millis as i64;
    Some(Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX))
}

/// `D:HH:MM`.
fn relative(text: &str, now: Timestamp) -> Option<Timestamp> {
    let mut parts = text.split(':');
    let (days, hours, minutes) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &str, longest: usize| {
        (!part.is_empty() && part.len() <= longest && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<i64>().ok())
            .flatten()
    };
    let (days, hours, minutes) = (number(days, 6)?, number(hours, 2)?, number(minutes, 2)?);
    if parts.next().is_some() {
        return None;
    }
    let span = Span::new().hours(days * 24 + hours).minutes(minutes);
    Some(now.checked_add(span).unwrap_or(Timestamp::MAX))
}

fn date(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(civil) = text.parse::<DateTime>() {
        return civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    }
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-08-21T10:00:00Z";

    #[test]
    fn expires_at_in_every_form() {
        let now: Timestamp = NOW.parse().unwrap();
        for (value, expect) in [
            (json!(1_787_310_000_000_i64), Some("2026-08-21T11:00:00Z")),
            (json!(1_787_310_000), Some("2026-08-21T11:00:00Z")),
            (json!(1_787_310_000.5), Some("2026-08-21T11:00:00.5Z")),
            (json!("1787310000"), Some("2026-08-21T11:00:00Z")),
            (json!("1787310000000"), Some("2026-08-21T11:00:00Z")),
            (json!("2026-08-21T11:00:00.000Z"), Some("2026-08-21T11:00:00Z")),
            (json!("2026-08-21T13:00:00+02:00"), Some("2026-08-21T11:00:00Z")),
            (json!("2026-08-21 11:00:00"), Some("2026-08-21T11:00:00Z")),
            (json!("2026-08-22"), Some("2026-08-22T00:00:00Z")),
            (
                json!("Fri, 21 Aug 2026 11:00:00 GMT"),
                Some("2026-08-21T11:00:00Z"),
            ),
            (json!("1:02:30"), Some("2026-08-22T12:30:00Z")),
            (json!("0:01:00"), Some("2026-08-21T11:00:00Z")),
            (json!(0), None),
            (json!(""), None),
            (json!(null), None),
            (json!(-5), None),
            (json!("soon"), None),
            (json!("1:2:3:4"), None),
            (json!(true), None),
        ] {
            let expect = expect.map(|text| text.parse::<Timestamp>().unwrap());
            assert_eq!(at(&value, now), expect, "{value}");
        }
    }

    #[test]
    fn expires_in_counts_from_now() {
        let now: Timestamp = NOW.parse().unwrap();
        for (value, expect) in [
            (json!(3600), Some("2026-08-21T11:00:00Z")),
            (json!("3600"), Some("2026-08-21T11:00:00Z")),
            (json!("3600s"), Some("2026-08-21T11:00:00Z")),
            (json!(3600.9), Some("2026-08-21T11:00:00Z")),
            (json!(0), None),
            (json!(-1), None),
            (json!("abc"), None),
            (json!(null), None),
        ] {
            let expect = expect.map(|text| text.parse::<Timestamp>().unwrap());
            assert_eq!(within(&value, now), expect, "{value}");
        }
        assert_eq!(within_millis(&json!(3_600_000), now), within(&json!(3600), now));
        assert_eq!(within(&json!(i64::MAX), now), None);
        assert_eq!(within(&json!(400_000_000_000_i64), now), Some(Timestamp::MAX));
    }
}
