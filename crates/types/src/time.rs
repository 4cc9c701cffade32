//! Instants and how the wire writes them (api-core §1.7). All times are UTC with microsecond precision.

use jiff::tz::TimeZone;

/// An instant, UTC.
pub use jiff::Timestamp;

/// `2026-08-21T10:00:00.123Z`: integrations, environments, keys, sessions, `credentials.expires_at`.
pub fn millis_z(at: Timestamp) -> String {
    written(at, Fraction::Millis, "Z")
}

/// `2026-08-21T10:00:00.123+00:00`: one connection's own timestamps.
pub fn millis_offset(at: Timestamp) -> String {
    written(at, Fraction::Millis, "+00:00")
}

/// `2026-08-21T10:00:00.123456+00:00`, trailing zeros of the fraction trimmed: connections in a list.
pub fn micros_offset(at: Timestamp) -> String {
    written(at, Fraction::Trimmed, "+00:00")
}

#[derive(Clone, Copy)]
enum Fraction {
    Millis,
    Trimmed,
}

/// Digit by digit: lists write thousands of these, and a formatter that reads its format costs ten times as much.
fn written(at: Timestamp, fraction: Fraction, offset: &str) -> String {
    let civil = TimeZone::UTC.to_datetime(at);
    let mut text = String::with_capacity("2026-08-21T10:00:00.123456789+00:00".len());
    let number = |text: &mut String, value: i32, digits: u32| {
        for place in (0..digits).rev() {
            let digit = value / 10_i32.pow(place) % 10;
            text.push(char::from_digit(digit.unsigned_abs(), 10).unwrap_or('0'));
        }
    };
    let year = i32::from(civil.year());
    if year < 0 {
        text.push('-');
    }
    number(&mut text, year, 4);
    for (before, value) in [
        ('-', civil.month()),
        ('-', civil.day()),
        ('T', civil.hour()),
        (':', civil.minute()),
        (':', civil.second()),
    ] {
        text.push(before);
        number(&mut text, i32::from(value), 2);
    }
    let nanos = civil.subsec_nanosecond();
    match fraction {
        Fraction::Millis => {
            text.push('.');
            number(&mut text, nanos / 1_000_000, 3);
        }
        Fraction::Trimmed if nanos != 0 => {
            text.push('.');
            number(&mut text, nanos, 9);
            text.truncate(text.trim_end_matches('0').len());
        }
        Fraction::Trimmed => {}
    }
    text.push_str(offset);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_wire_forms() {
        let at = Timestamp::from_microsecond(1_787_306_400_123_400).unwrap();
        assert_eq!(millis_z(at), "2026-08-21T10:00:00.123Z");
        assert_eq!(millis_offset(at), "2026-08-21T10:00:00.123+00:00");
        assert_eq!(micros_offset(at), "2026-08-21T10:00:00.1234+00:00");
        let whole = Timestamp::from_microsecond(1_787_306_400_000_000).unwrap();
        assert_eq!(millis_z(whole), "2026-08-21T10:00:00.000Z");
        assert_eq!(micros_offset(whole), "2026-08-21T10:00:00+00:00");
    }
    #[test]
    fn they_are_what_the_calendar_library_writes() {
        for micros in [
            i64::MIN / 1_000,
            -62_135_596_800_000_000,
            -1,
            0,
            1,
            999_999,
            1_787_306_400_100_000,
            1_709_164_799_999_999,
            253_402_300_799_999_999,
        ] {
            let Ok(at) = Timestamp::from_microsecond(micros) else {
                continue;
            };
            let by = |format| at.strftime(format).to_string();
            assert_eq!(millis_z(at), by("%Y-%m-%dT%H:%M:%S.%3fZ"));
            assert_eq!(millis_offset(at), by("%Y-%m-%dT%H:%M:%S.%3f+00:00"));
            assert_eq!(micros_offset(at), by("%Y-%m-%dT%H:%M:%S%.f+00:00"));
        }
    }
}
