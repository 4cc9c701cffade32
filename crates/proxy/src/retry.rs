//! When a failed attempt is repeated, and after what wait (proxy §8). Pure decisions.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use patchbay_catalog::definition::{Retry, RetryInBody, RetryStrategy};
use patchbay_outbound::backoff::{Backoff, parse_http_date, parse_retry_after};
use patchbay_types::Timestamp;
use serde_json::Value;

/// Waits nobody asked for: 3 s, 6 s, 12 s, …, at most 10 min, each shortened by up to half at random.
pub(crate) const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(3),
    cap: Duration::from_mins(10),
};

/// What makes an attempt worth repeating. `Display` is the reason as logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The network failed.
    Network,
    /// A status that is retried by default.
    Status(u16),
    /// A status the definition names.
    ProviderCode(u16),
    /// A status the caller named.
    RetryOn(u16),
    /// The provider says that nothing is left of a quota.
    Remaining,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str("network_error"),
            Self::Status(status) => write!(f, "status_code_{status}"),
            Self::ProviderCode(status) => write!(f, "provider_error_code_{status}"),
            Self::RetryOn(status) => write!(f, "retry_on_{status}"),
            Self::Remaining => f.write_str("provider_remaining"),
        }
    }
}

/// Why a response is worth another attempt; `None` if it stands. A success always stands.
pub(crate) fn reason(
    declared: &Retry,
    retry_on: &[u16],
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Reason> {
    if status.is_success() {
        return None;
    }
    let code = status.as_u16();
    let usual = match &declared.error_codes {
        Some(codes) => codes
            .iter()
            .any(|wanted| wanted.matches(code))
            .then_some(Reason::ProviderCode(code)),
        None => (code >= 500 || code == 429 || code == 401).then_some(Reason::Status(code)),
    };
    usual
        .or_else(|| retry_on.contains(&code).then_some(Reason::RetryOn(code)))
        .or_else(|| {
            let left = headers.get(declared.remaining.as_deref()?)?;
            (left.as_bytes().trim_ascii() == b"0").then_some(Reason::Remaining)
        })
}

/// Where a wait came from. `Display` is the reason as logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An instant in a header the definition names.
    At(String),
    /// Seconds in a header the definition names.
    After(String),
    /// The body, as the definition says.
    InBody,
    /// The standard `Retry-After`.
    RetryAfter,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(name) => write!(f, "preconfigured_at:{name}"),
            Self::After(name) => write!(f, "preconfigured_after:{name}"),
            Self::InBody => f.write_str("preconfigured_in_body"),
            Self::RetryAfter => f.write_str("retry_after"),
        }
    }
}

/// The wait the provider's headers ask for: the longest its definition's `at` headers name, else the longest of its
/// `after` headers, else the standard `Retry-After`.
pub(crate) fn asked_by_headers(
    declared: &Retry,
    headers: &HeaderMap,
    now: Timestamp,
) -> Option<(Duration, Source)> {
    longest(&declared.at, headers, |text| at(text, now))
        .map(|(wait, name)| (wait, Source::At(name)))
        .or_else(|| {
            longest(&declared.after, headers, |text| after(text, now))
                .map(|(wait, name)| (wait, Source::After(name)))
        })
        .or_else(|| {
            let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
            Some((parse_retry_after(text, now)?, Source::RetryAfter))
        })
}

/// The wait a JSON body asks for.
pub(crate) fn asked_by_body(declared: &RetryInBody, body: &[u8], now: Timestamp) -> Option<Duration> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let mut found = &value;
    for step in declared.path.split('.').filter(|step| !step.is_empty()) {
        found = match step.parse::<usize>() {
            Ok(index) if found.is_array() => found.get(index)?,
            _ => found.get(step)?,
        };
    }
    let text = match found {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Number(number) => Cow::Owned(number.to_string()),
        _ => return None,
    };
    let found = declared.value.regex()?.find(&text)?;
    let captured = text.get(found.group(1)?)?;
    match declared.strategy {
        RetryStrategy::At => at(captured, now),
        RetryStrategy::After => after(captured, now),
    }
}

fn longest(
    names: &[String],
    headers: &HeaderMap,
    read: impl Fn(&str) -> Option<Duration>,
) -> Option<(Duration, String)> {
    names
        .iter()
        .filter_map(|name| {
            let text = headers.get(name.as_str()).map(HeaderValue::to_str)?.ok()?;
            Some((read(text)?, name))
        })
        .max_by_key(|(wait, _)| *wait)
        .map(|(wait, name)| (wait, name.clone()))
}

/// Epoch seconds, or milliseconds where that reads as an instant after 1971, or a date. The past is no wait; a wait
/// is rounded up to whole seconds, because a request a moment too early is one too many.
fn at(text: &str, now: Timestamp) -> Option<Duration> {
    const YEAR_1971_MS: f64 = 31_536_000_000.0;
    let text = text.trim();
    let instant = match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => {
            let millis = if number > YEAR_1971_MS {
                number
            } else {
                number * 1000.0
            };
            #[expect(
                clippy::cast_possible_truncation,
                reason = "saturates, and out of range is refused"
            )]
            Timestamp::from_millisecond(millis as i64).ok()?
        }
        Ok(_) => return None,
        Err(_) => text.parse::<Timestamp>().ok().or_else(|| parse_http_date(text))?,
    };
    let wait = Duration::try_from(instant.duration_since(now)).ok()?;
    let whole = Duration::from_secs(wait.as_secs());
    Some(if whole < wait {
        whole + Duration::from_secs(1)
    } else {
        whole
    })
    .filter(|wait| !wait.is_zero())
}

fn after(text: &str, now: Timestamp) -> Option<Duration> {
    parse_retry_after(text, now)
}

#[cfg(test)]
mod tests {
    use patchbay_catalog::definition::{ErrorCode, Pattern};
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn why(
        declared: &Retry,
        retry_on: &[u16],
        status: u16,
        pairs: &[(&'static str, &str)],
    ) -> Option<String> {
        let status = StatusCode::from_u16(status).unwrap();
        reason(declared, retry_on, status, &headers(pairs)).map(|reason| reason.to_string())
    }

    #[test]
    fn defaults_are_server_errors_429_and_401() {
        let plain = Retry::default();
        for (status, expect) in [
            (200, None),
            (206, None),
            (304, None),
            (400, None),
            (401, Some("status_code_401")),
            (403, None),
            (404, None),
            (429, Some("status_code_429")),
            (500, Some("status_code_500")),
            (599, Some("status_code_599")),
        ] {
            assert_eq!(why(&plain, &[], status, &[]).as_deref(), expect, "{status}");
        }
        assert_eq!(
            why(&plain, &[404, 409], 409, &[]).as_deref(),
            Some("retry_on_409")
        );
        assert_eq!(why(&plain, &[200], 200, &[]), None, "a success stands");
    }

    #[test]
    fn a_definition_s_codes_replace_the_defaults_and_nothing_else() {
        let declared = Retry {
            error_codes: Some(
                ["403", "5xx"]
                    .iter()
                    .filter_map(|code| ErrorCode::parse(code))
                    .collect(),
            ),
            remaining: Some("x-left".to_owned()),
            ..Retry::default()
        };
        let check = |status, pairs: &[(&'static str, &str)]| why(&declared, &[404], status, pairs);
        assert_eq!(check(403, &[]).as_deref(), Some("provider_error_code_403"));
        assert_eq!(check(502, &[]).as_deref(), Some("provider_error_code_502"));
        assert_eq!(check(429, &[]), None);
        assert_eq!(check(404, &[]).as_deref(), Some("retry_on_404"));
        assert_eq!(
            check(400, &[("x-left", "0")]).as_deref(),
            Some("provider_remaining")
        );
        assert_eq!(check(400, &[("x-left", "10")]), None);
        assert_eq!(check(200, &[("x-left", "0")]), None);
    }

    #[test]
    fn waits_are_read_from_the_headers_a_definition_names() {
        let declared = Retry {
            at: vec!["x-reset".to_owned(), "x-other-reset".to_owned()],
            after: vec!["x-after".to_owned()],
            ..Retry::default()
        };
        let seconds = now().as_second() + 30;
        let check = |pairs: &[(&'static str, &str)], expect: Option<(u64, &str)>| {
            let asked = asked_by_headers(&declared, &headers(pairs), now());
            let found = asked.map(|(wait, source)| (wait.as_secs(), source.to_string()));
            assert_eq!(
                found,
                expect.map(|(wait, source)| (wait, source.to_owned())),
                "{pairs:?}"
            );
        };
        check(&[], None);
        check(
            &[("x-reset", &seconds.to_string())],
            Some((30, "preconfigured_at:x-reset")),
        );
        let millis = format!("{seconds}001");
        check(&[("x-reset", &millis)], Some((31, "preconfigured_at:x-reset")));
        check(
            &[("x-reset", "2026-01-01T00:01:00Z")],
            Some((60, "preconfigured_at:x-reset")),
        );
        check(
            &[("x-reset", "Thu, 01 Jan 2026 00:02:00 GMT")],
            Some((120, "preconfigured_at:x-reset")),
        );
        let later = (seconds + 10).to_string();
        check(
            &[("x-reset", &seconds.to_string()), ("x-other-reset", &later)],
            Some((40, "preconfigured_at:x-other-reset")),
        );
        check(
            &[("x-reset", "1000"), ("x-after", "7")],
            Some((7, "preconfigured_after:x-after")),
        );
        check(
            &[("x-reset", "soon"), ("x-after", "-7"), ("retry-after", "5")],
            Some((5, "retry_after")),
        );
        check(
            &[("retry-after", "Thu, 01 Jan 2026 00:00:09 GMT")],
            Some((9, "retry_after")),
        );
        check(
            &[("x-reset", "NaN"), ("x-other-reset", "inf"), ("x-after", "1e9")],
            None,
        );
    }

    #[test]
    fn waits_are_read_from_the_body_a_definition_names() {
        let declared = |strategy| RetryInBody {
            path: "error.details.0.retry".to_owned(),
            value: Pattern::new(r"^(\d+(?:\.\d+)?)s$"),
            strategy,
        };
        let body = br#"{"error":{"details":[{"retry":"12s"}]}}"#;
        let after = declared(RetryStrategy::After);
        assert_eq!(asked_by_body(&after, body, now()), Some(Duration::from_secs(12)));
        assert_eq!(
            asked_by_body(&declared(RetryStrategy::At), body, now()),
            None,
            "1970 is past"
        );
        for nothing in [
            &b"{}"[..],
            b"",
            b"not json",
            br#"{"error":{"details":[{"retry":"soon"}]}}"#,
            b"[1]",
        ] {
            assert_eq!(asked_by_body(&after, nothing, now()), None);
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[ -~]{0,40}", declared_as_at: bool) {
            let names = vec!["x-wait".to_owned()];
            let declared = if declared_as_at {
                Retry { at: names, ..Retry::default() }
            } else {
                Retry { after: names, ..Retry::default() }
            };
            let headers = headers(&[("x-wait", &text)]);
            let _ = asked_by_headers(&declared, &headers, now());
        }
    }
}
