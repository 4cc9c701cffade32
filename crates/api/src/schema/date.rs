use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, tz};
use serde_json::Value;

use super::issue::{Issues, Path};

/// Most milliseconds from the epoch an ECMAScript `Date` holds.
const MAX_MILLIS: f64 = 8.64e15;

pub(super) fn check(input: Option<&Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
    let instant = match input {
        Some(Value::String(text)) => parse(text),
        Some(Value::Number(number)) => number.as_f64().and_then(from_millis),
        _ => None,
    };
    let Some(instant) = instant else {
        // The reference turns everything into a `Date` first, so that is what it says it received.
        issues.wrong_type(at, "date", "Date");
        return None;
    };
    Some(instant.to_string().into())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "within ±8.64e15, and fractions of a millisecond are dropped as ECMAScript does"
)]
fn from_millis(millis: f64) -> Option<Timestamp> {
    if millis.abs() > MAX_MILLIS {
        return None;
    }
    Timestamp::from_millisecond(millis as i64).ok()
}

/// ISO 8601 as ECMAScript reads it (a date alone is UTC midnight; a time without an offset, UTC), or RFC 2822.
fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant);
    }
    let utc = |at: DateTime| tz::Offset::UTC.to_timestamp(at).ok();
    if let Ok(at) = text.parse::<DateTime>() {
        return utc(at);
    }
    if let Some(day) = year_or_month(text) {
        return utc(day.to_datetime(jiff::civil::Time::midnight()));
    }
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp())
}

/// `2026` or `2026-08`.
fn year_or_month(text: &str) -> Option<Date> {
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    let (year, month) = text.split_once('-').unwrap_or((text, "01"));
    if !digits(year, 4) || !digits(month, 2) {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_clients_send() {
        for (text, instant) in [
            ("2026-08-21T10:00:00.123Z", "2026-08-21T10:00:00.123Z"),
            ("2026-08-21T10:00:00+02:00", "2026-08-21T08:00:00Z"),
            ("2026-08-21T10:00", "2026-08-21T10:00:00Z"),
            ("2026-08-21", "2026-08-21T00:00:00Z"),
            ("2026-08", "2026-08-01T00:00:00Z"),
            ("2026", "2026-01-01T00:00:00Z"),
            ("Fri, 21 Aug 2026 10:00:00 GMT", "2026-08-21T10:00:00Z"),
        ] {
            assert_eq!(
                parse(text).map(|at| at.to_string()).as_deref(),
                Some(instant),
                "{text}"
            );
        }
        for text in ["", "nope", "2026-13", "2026-02-30", "tomorrow"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(from_millis(1.0).map(Timestamp::as_millisecond), Some(1));
        assert_eq!(from_millis(1e18), None);
    }
}
