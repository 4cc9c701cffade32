use std::collections::HashSet;
use std::time::Duration;

use patchbay_store::deliveries::{self, Attempt, AttemptOutcome, AttemptRecorded};
use patchbay_types::deliveries::{Delivery, DeliveryFilter, DeliveryStats, DeliveryStatus};
use patchbay_types::{ConnectionRowId, DeliveryId, EnvironmentId};

use crate::world::{World, commit, story};

fn delivery(world: &World, number: u32) -> Delivery {
    Delivery {
        id: DeliveryId(format!("d{number:05}")),
        environment_id: EnvironmentId(1),
        connection: Some(ConnectionRowId(i64::from(number % 2))),
        kind: if number.is_multiple_of(3) { "sync" } else { "auth" }.to_owned(),
        url: "https://app.example.com/hook".to_owned(),
        body: format!("{{\"n\":{number},\"nul\":\"\0\"}}"),
        operation_id: None,
        status: DeliveryStatus::Pending,
        attempts: 0,
        next_attempt_at: world.now(),
        last_status: None,
        last_error: None,
        created_at: world.now(),
        finished_at: None,
    }
}

async fn enqueue(world: &World, numbers: std::ops::Range<u32>) -> Vec<Delivery> {
    let rows: Vec<_> = numbers.map(|number| delivery(world, number)).collect();
    let stored = rows.clone();
    commit!(world, |tx| { deliveries::enqueue(tx, &stored).await? });
    rows
}

async fn claim(world: &World, holder: &'static str, limit: u32) -> Vec<Delivery> {
    let until = world.now() + Duration::from_secs(30);
    commit!(world, |tx| {
        deliveries::claim_due(tx, limit, holder, until).await?
    })
}

async fn record(
    world: &World,
    id: &DeliveryId,
    holder: &'static str,
    outcome: AttemptOutcome,
) -> AttemptRecorded {
    let id = id.clone();
    commit!(world, |tx| {
        let attempt = Attempt {
            id: &id,
            holder,
            outcome,
            status: Some(500),
            error: Some("no\0luck"),
            duration_ms: 12,
        };
        deliveries::record_attempt(tx, &attempt).await?
    })
}

async fn get(world: &World, id: &DeliveryId) -> Delivery {
    let id = id.clone();
    commit!(world, |tx| { deliveries::get(tx, &id).await?.unwrap().0 })
}

story! {
    async fn a_delivery_is_claimed_once_retried_and_delivered(world) {
        let rows = enqueue(&world, 0..1).await;
        let id = &rows[0].id;
        assert_eq!(claim(&world, "a", 10).await, rows);
        assert_eq!(claim(&world, "b", 10).await, []);
        let due = world.now() + Duration::from_mins(1);
        assert_eq!(record(&world, id, "a", AttemptOutcome::RetryAt(due)).await, AttemptRecorded::Recorded);
        assert_eq!(claim(&world, "a", 10).await, []);
        assert_eq!(commit!(world, |tx| { deliveries::next_due(tx).await? }), Some(due));
        world.clock.advance(Duration::from_mins(1));
        let again = claim(&world, "b", 10).await;
        assert_eq!((again[0].attempts, again[0].last_status), (1, Some(500)));
        assert_eq!(again[0].last_error.as_deref(), Some("no\u{fffd}luck"));
        assert_eq!(record(&world, id, "b", AttemptOutcome::Delivered).await, AttemptRecorded::Recorded);
        let id = id.clone();
        let (found, attempts) = commit!(world, |tx| { deliveries::get(tx, &id).await?.unwrap() });
        assert_eq!((found.status, found.attempts), (DeliveryStatus::Delivered, 2));
        assert_eq!(found.finished_at, Some(world.now()));
        assert_eq!(attempts.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(attempts[0].duration_ms, 12);
        assert_eq!(commit!(world, |tx| { deliveries::next_due(tx).await? }), None);
    }

    async fn a_claim_that_ended_gives_the_delivery_to_the_next(world) {
        let id = enqueue(&world, 0..1).await.remove(0).id;
        claim(&world, "a", 1).await;
        world.clock.advance(Duration::from_secs(31));
        assert_eq!(claim(&world, "b", 1).await.len(), 1);
        let later = world.now() + Duration::from_mins(5);
        assert_eq!(record(&world, &id, "a", AttemptOutcome::RetryAt(later)).await, AttemptRecorded::Late);
        assert_eq!(record(&world, &id, "a", AttemptOutcome::Dead).await, AttemptRecorded::Late);
        assert_eq!(get(&world, &id).await.status, DeliveryStatus::Pending);
        // A success is a success, whoever had it.
        assert_eq!(record(&world, &id, "a", AttemptOutcome::Delivered).await, AttemptRecorded::Recorded);
        assert_eq!(record(&world, &id, "b", AttemptOutcome::Dead).await, AttemptRecorded::Late);
        assert_eq!(get(&world, &id).await.status, DeliveryStatus::Delivered);
        let unknown = DeliveryId("nope".into());
        assert_eq!(record(&world, &unknown, "a", AttemptOutcome::Delivered).await, AttemptRecorded::Gone);
    }

    async fn two_holders_claiming_at_once_never_get_the_same(world) {
        enqueue(&world, 0..200).await;
        let until = world.now() + Duration::from_secs(30);
        let claims = (0..8).map(|n| {
            let store = world.store.clone();
            async move {
                let mut got = Vec::new();
                loop {
                    let page = store
                        .write_retry(move |tx| {
                            Box::pin(async move {
                                deliveries::claim_due(tx, 7, &format!("holder {n}"), until).await
                            })
                        })
                        .await
                        .unwrap();
                    if page.is_empty() {
                        return got;
                    }
                    got.extend(page.into_iter().map(|delivery| delivery.id));
                }
            }
        });
        let got: Vec<_> = futures_util::future::join_all(claims).await.into_iter().flatten().collect();
        let distinct: HashSet<_> = got.iter().collect();
        assert_eq!((got.len(), distinct.len()), (200, 200));
    }

    async fn deliveries_are_listed_newest_first_in_pages_and_by_every_filter(world) {
        enqueue(&world, 0..10).await;
        record(&world, &DeliveryId("d00000".into()), "x", AttemptOutcome::Delivered).await;
        for (filter, expected) in [
            (DeliveryFilter { limit: 3, ..Default::default() }, "d00009 d00008 d00007"),
            (
                DeliveryFilter { limit: 3, before: Some(DeliveryId("d00007".into())), ..Default::default() },
                "d00006 d00005 d00004",
            ),
            (
                DeliveryFilter { limit: 9, status: Some(DeliveryStatus::Delivered), ..Default::default() },
                "d00000",
            ),
            (
                DeliveryFilter { limit: 9, kind: Some("sync".into()), ..Default::default() },
                "d00009 d00006 d00003 d00000",
            ),
            (
                DeliveryFilter {
                    limit: 9,
                    kind: Some("sync".into()),
                    connection: Some(ConnectionRowId(0)),
                    ..Default::default()
                },
                "d00006 d00000",
            ),
            (DeliveryFilter { limit: 9, environment_id: Some(EnvironmentId(2)), ..Default::default() }, ""),
        ] {
            let listed = commit!(world, |tx| { deliveries::list(tx, &filter).await? });
            let ids: Vec<_> = listed.iter().map(|delivery| delivery.id.0.as_str()).collect();
            assert_eq!(ids.join(" "), expected);
        }
    }

    async fn dead_ones_are_counted_and_retried_one_by_one_or_all(world) {
        let rows = enqueue(&world, 0..4).await;
        claim(&world, "a", 4).await;
        for row in &rows[1..] {
            record(&world, &row.id, "a", AttemptOutcome::Dead).await;
        }
        let stats = commit!(world, |tx| { deliveries::stats(tx).await? });
        let created = rows[0].created_at;
        assert_eq!(stats, DeliveryStats { pending: 1, dead: 3, oldest_pending: Some(created) });
        world.clock.advance(Duration::from_secs(1));
        let (first, second, rest, none) = commit!(world, |tx| {
            let syncs = DeliveryFilter { kind: Some("sync".into()), ..Default::default() };
            (
                deliveries::retry(tx, &DeliveryId("d00001".into())).await?,
                deliveries::retry_dead(tx, &syncs).await?,
                deliveries::retry_dead(tx, &DeliveryFilter::default()).await?,
                deliveries::retry(tx, &DeliveryId("nope".into())).await?,
            )
        });
        assert_eq!((first, second, rest, none), (true, 1, 1, false));
        let again = get(&world, &DeliveryId("d00001".into())).await;
        assert_eq!((again.status, again.attempts, again.finished_at), (DeliveryStatus::Pending, 0, None));
        assert_eq!(again.next_attempt_at, world.now());
        assert_eq!(claim(&world, "b", 10).await.len(), 3, "the fourth is still claimed");
    }
}
