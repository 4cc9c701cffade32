//! Allotments of a rate limit that nodes share (api-core §4).
//!
//! A node takes points for many requests at a time from the window in the database and spends them in memory, so a
//! request costs no statement and all nodes together never pass more than the limit. The size of an allotment is a
//! twentieth of the limit at first, and an eighth of what is left near the end: at most about 60 transactions a
//! window, bucket and node, and few points idle with a node that has no use for them.

use std::time::Duration;

use patchbay_store::db::DbError;
use patchbay_store::rate_windows;
use patchbay_types::Timestamp;

use crate::context::Context;

/// Length of a window.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Points that a node may spend until the window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// How many; 0 if what is left is less than what was asked for.
    pub points: u32,
    /// What all nodes have taken, this allotment included.
    pub used: u32,
    /// When the window ends, by the clock of the node that opened it.
    pub ends_at: Timestamp,
}

/// Takes at least `points` of what `limit` leaves in the window of `bucket`, or none.
pub async fn allot(context: &Context, bucket: String, points: u32, limit: u32) -> Result<Allotment, DbError> {
    context
        .store
        .write_retry(move |tx| {
            let bucket = bucket.clone();
            Box::pin(async move {
                let window = rate_windows::open(tx, &bucket, WINDOW).await?;
                let share = share(points, limit.saturating_sub(window.used), limit);
                if share > 0 {
                    rate_windows::take(tx, &bucket, share).await?;
                }
                Ok(Allotment {
                    points: share,
                    used: window.used.saturating_add(share),
                    ends_at: window.ends_at,
                })
            })
        })
        .await
}

fn share(wanted: u32, left: u32, limit: u32) -> u32 {
    if wanted > left {
        return 0;
    }
    (limit / 20).min(left / 8).max(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_shrink_and_never_exceed_what_is_left() {
        for limit in [1, 3, 20, 200, 2000, 550_000] {
            let (mut left, mut shares) = (limit, 0);
            while left > 0 {
                let share = share(1, left, limit);
                assert!((1..=left).contains(&share), "{share} of {left}");
                left -= share;
                shares += 1;
            }
            assert!(shares <= 120, "{shares} transactions for {limit} requests");
            assert_eq!(super::share(1, 0, limit), 0);
        }
        assert_eq!(share(10, 9, 2000), 0);
        assert_eq!(share(10, 12, 2000), 10);
    }
}
