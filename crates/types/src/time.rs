//! Instants and how the wire writes them (api-core §1.7). All times are UTC with microsecond precision.

/// An instant, UTC.
pub use jiff::Timestamp;

/// `2026-08-21T10:00:00.123Z`: integrations, environments, keys, sessions, `credentials.expires_at`.
pub fn millis_z(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// `2026-08-21T10:00:00.123+00:00`: one connection's own timestamps.
pub fn millis_offset(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3f+00:00").to_string()
}

/// `2026-08-21T10:00:00.123456+00:00`, trailing zeros of the fraction trimmed: connections in a list.
pub fn micros_offset(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.f+00:00").to_string()
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
}
