//! When a refresh is tried, what a failure counts for, and what it is called.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use patchbay_auth::renewal;
use patchbay_catalog::Definition;
use patchbay_types::connections::{Connection, FailureWeight, RefreshCause};
use patchbay_types::refreshes::RefreshReason;
use patchbay_types::{ConnectionRowId, Credentials, JsonMap, Timestamp};

use super::ReadError;
use crate::context::Context;

/// After a failed refresh, how long callers are answered from the failure instead of asking again (§24.2).
pub const COOLDOWN: Duration = Duration::from_secs(30);
/// Longest pause that a provider's `Retry-After` can impose: a mistake there must not take a connection away for days.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Credentials younger than this were good when they were made: a 401 is not about their age.
pub(super) const SETTLED: Duration = Duration::from_secs(30);
/// How long an upstream is believed that rejected refreshed credentials, first and at most.
const BELIEVED: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));

/// What a flight is for, and what its caller knows already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Why.
    pub(crate) reason: RefreshReason,
    /// The generation the caller knows. Who insists on a refresh wants a later one, whoever made it.
    pub(crate) seen: i64,
}

impl Wish {
    /// Whether credentials far from their end are refreshed too.
    pub(super) fn insists(self) -> bool {
        match self.reason {
            RefreshReason::Forced | RefreshReason::Unauthorized | RefreshReason::KeepAlive => true,
            RefreshReason::Expiring
            | RefreshReason::Background
            | RefreshReason::Test
            | RefreshReason::Recovery => false,
        }
    }

    /// Whether the cool-down and giving up apply: only an explicit order is above them.
    pub(super) fn heeds_gate(self) -> bool {
        self.reason != RefreshReason::Forced
    }

    /// Whether the old token, while it is good, is an answer when no newer one can be had.
    pub(super) fn is_content_with_old(self) -> bool {
        !matches!(self.reason, RefreshReason::Forced | RefreshReason::Unauthorized)
    }
}

/// Whether this wish asks for a refresh of this connection.
pub(super) fn is_wanted(context: &Context, connection: &Connection, wish: Wish, now: Timestamp) -> bool {
    let Some(provider) = context.catalogue.get(connection.provider.as_str()) else {
        return false;
    };
    if wish.insists() && connection.generation > wish.seen {
        return false;
    }
    // The provider had nothing better to give a moment ago.
    let pausing = connection.refresh.last_failure.is_none()
        && connection.refresh.not_before.is_some_and(|end| end > now)
        && connection.credentials.expires_at().is_some_and(|end| end > now);
    if pausing && !wish.insists() {
        return false;
    }
    renewal::is_due(
        &provider.definition,
        &connection.credentials,
        &connection.connection_config,
        wish.insists(),
        now,
    )
}

/// Why no refresh is tried now, if so.
pub(crate) fn gate(connection: &Connection, now: Timestamp) -> Option<ReadError> {
    if connection.refresh.exhausted {
        return Some(ReadError::Exhausted(Arc::new(connection.clone())));
    }
    let failed = connection.refresh.last_failure?;
    let end = connection
        .refresh
        .not_before
        .unwrap_or_else(|| later(failed, COOLDOWN));
    (end > now).then(|| ReadError::Backoff(Arc::new(connection.clone())))
}

/// When the next refresh that nobody forces may be tried after a failed one.
pub(super) fn pause_after_failure(retry_after: Option<Duration>, now: Timestamp) -> Timestamp {
    let asked = retry_after.unwrap_or_default().min(LONGEST_PAUSE);
    later(now, asked.max(COOLDOWN))
}

/// When the next refresh that nobody forces may be tried after one that brought credentials which already near their
/// end: some providers give the same token until it ends, others tokens that live for minutes. Half of what is left,
/// so that reads do not become token requests; `None` where there is no need.
pub(super) fn pause_after_success(
    definition: &Definition,
    renewed: &Credentials,
    config: &JsonMap,
    now: Timestamp,
) -> Option<Timestamp> {
    // Made here and not given by a provider: making them again costs nothing, and their receivers want each once.
    if matches!(renewed, Credentials::Signature(_) | Credentials::Jwt(_)) {
        return None;
    }
    if !renewal::is_due(definition, renewed, config, false, now) {
        return None;
    }
    let left = Duration::try_from(renewed.expires_at()?.duration_since(now)).ok()?;
    Some(later(now, COOLDOWN.min(left / 2)))
}

/// Whether the credentials are so young that renewing them would change nothing.
pub(super) fn is_settling(connection: &Connection, now: Timestamp) -> bool {
    let made = connection.refresh.last_success.unwrap_or(connection.created_at);
    later(made, SETTLED) >= now
}

/// Upstreams' rejections that a refresh did not cure. Kept in memory: it only spares the provider's token endpoint.
#[derive(Debug)]
pub(crate) struct Rejections(Cache<ConnectionRowId, Rejection>);

#[derive(Clone, Copy, Debug)]
struct Rejection {
    /// The newest generation that was rejected.
    generation: i64,
    /// How many in a row.
    times: u32,
    at: Timestamp,
}

impl Rejections {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(10_000).build())
    }

    /// Whether a refresh is worth a try after this rejection; notes it if so.
    fn admit_after(previous: Option<Rejection>, generation: i64, now: Timestamp) -> Option<Rejection> {
        let Some(previous) = previous else {
            return Some(Rejection {
                generation,
                times: 1,
                at: now,
            });
        };
        // Reported by many at once: all join the one flight.
        if previous.generation == generation {
            return Some(previous);
        }
        let (first, most) = BELIEVED;
        let believed = first
            .saturating_mul(2_u32.saturating_pow(previous.times))
            .min(most);
        if later(previous.at, believed) > now {
            return None;
        }
        // A long peace in between: the refresh did cure it.
        let peace = later(previous.at, believed.saturating_mul(4)) <= now;
        let times = if peace {
            1
        } else {
            previous.times.saturating_add(1)
        };
        Some(Rejection {
            generation,
            times,
            at: now,
        })
    }

    pub(super) fn admit(&self, connection: ConnectionRowId, generation: i64, now: Timestamp) -> bool {
        let admitted = Self::admit_after(self.0.get(&connection), generation, now);
        if let Some(rejection) = admitted {
            self.0.insert(connection, rejection);
        }
        admitted.is_some()
    }
}

/// `error.type` of the `auth` webhook and code of the failure (auth-flows §24.5, DESIGN invariant 8).
pub fn error_type(cause: RefreshCause) -> &'static str {
    match cause {
        RefreshCause::ProviderRefused => "refresh_token_external_error",
        RefreshCause::ProviderDown => "refresh_provider_unavailable",
        RefreshCause::Ours => "refresh_internal_error",
        RefreshCause::RefreshInterrupted => "refresh_interrupted",
    }
}

/// Only refusals use up patience: an outage, theirs or ours, says nothing about the grant. It is an active failure
/// once the token it should have replaced is over.
pub(super) fn weight(cause: RefreshCause, connection: &Connection, now: Timestamp) -> FailureWeight {
    let over = connection.credentials.expires_at().is_some_and(|end| end <= now);
    match cause {
        RefreshCause::ProviderRefused | RefreshCause::RefreshInterrupted => FailureWeight::Counted,
        RefreshCause::ProviderDown | RefreshCause::Ours if over => FailureWeight::Uncounted,
        RefreshCause::ProviderDown | RefreshCause::Ours => FailureWeight::CoolDown,
    }
}

pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_rejects_fresh_credentials_is_believed_for_longer_each_time() {
        let start = Timestamp::UNIX_EPOCH;
        let at = |minutes: u64| later(start, Duration::from_mins(minutes));
        let rejections = Rejections::new();
        let connection = ConnectionRowId(1);
        for (minute, generation, expect) in [
            (0, 1, true),
            // The same rejection, told by others.
            (0, 1, true),
            (1, 2, false),
            (2, 2, true),
            (5, 3, false),
            (6, 3, true),
            (13, 4, false),
            (14, 4, true),
            // A long peace makes it forget.
            (14 + 64, 5, true),
            (14 + 64 + 1, 6, false),
            (14 + 64 + 2, 6, true),
        ] {
            assert_eq!(
                rejections.admit(connection, generation, at(minute)),
                expect,
                "minute {minute}"
            );
        }
    }
}
