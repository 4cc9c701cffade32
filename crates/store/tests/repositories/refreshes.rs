use std::time::Duration;

use patchbay_store::connections::{self, FailureSaved, RefreshSaved, StaleCursor};
use patchbay_store::refreshes;
use patchbay_types::connections::{
    Connection, ConnectionUpsert, FailureWeight, RefreshCause, RefreshFailure, RefreshedCredentials,
};
use patchbay_types::refreshes::{RefreshEvent, RefreshIntent, RefreshReason};
use patchbay_types::{ConnectionRowId, Credentials, JsonMap, OperationId, Secret};
use serde_json::json;

use crate::world::{World, commit, object, story, upsert};

const DAY: Duration = Duration::from_hours(24);

fn token(access: &str, refresh: Option<&str>) -> Credentials {
    let mut value = json!({"type": "OAUTH2", "access_token": access, "raw": {}});
    if let Some(refresh) = refresh {
        value["refresh_token"] = json!(refresh);
    }
    Credentials::from_json(object(value)).unwrap()
}

async fn setup(world: &World) -> Connection {
    let environment = world.environment("dev").await.id;
    let integration = world.integration(environment, "github").await;
    let new = ConnectionUpsert {
        credentials: token("a1", Some("planted-r1")),
        ..upsert(&integration, "c")
    };
    commit!(world, |tx| {
        connections::upsert(tx, environment, &new).await?.0
    })
}

fn refreshed(world: &World, access: &str, refresh: Option<&str>) -> RefreshedCredentials {
    RefreshedCredentials {
        credentials: token(access, refresh),
        credentials_expires_at: Some(world.now() + Duration::from_hours(1)),
        connection_config: JsonMap::new(),
        previous_until: world.now() + DAY,
        not_before: None,
    }
}

async fn save(
    world: &World,
    id: ConnectionRowId,
    generation: i64,
    new: RefreshedCredentials,
) -> RefreshSaved {
    commit!(world, |tx| {
        connections::save_refreshed(tx, id, generation, &new).await?
    })
}

async fn fail(world: &World, id: ConnectionRowId, generation: i64, weight: FailureWeight) -> FailureSaved {
    let failure = RefreshFailure {
        cause: RefreshCause::ProviderDown,
        operation_id: OperationId("op".into()),
        weight,
        not_before: None,
    };
    commit!(world, |tx| {
        connections::save_refresh_failure(tx, id, generation, &failure).await?
    })
}

async fn read(world: &World, id: ConnectionRowId) -> Connection {
    commit!(world, |tx| { connections::find_by_row(tx, id).await?.unwrap() })
}

fn saved(attempts: i32, exhausted: bool, opened: bool) -> FailureSaved {
    FailureSaved::Saved {
        attempts,
        exhausted,
        opened,
    }
}

story! {
    async fn a_refresh_is_saved_once_and_the_old_refresh_token_kept(world) {
        let made = setup(&world).await;
        world.clock.advance(Duration::from_mins(1));
        let mut new = refreshed(&world, "a2", Some("planted-r2"));
        new.connection_config = object(json!({"jwt": "x"}));
        let outcome = save(&world, made.id, 1, new.clone()).await;
        assert_eq!(outcome, RefreshSaved::Saved { generation: 2, recovered: false });
        let found = read(&world, made.id).await;
        assert_eq!(found.credentials, new.credentials);
        assert_eq!(found.connection_config["jwt"], json!("x"));
        assert_eq!(found.refresh.credentials_expires_at, new.credentials_expires_at);
        assert_eq!(found.refresh.last_success, Some(world.now()));
        assert_eq!((found.last_fetched_at, found.updated_at), (Some(world.now()), world.now()));
        assert_eq!(found.refresh.previous_refresh_token, Some((Secret::new("planted-r1"), new.previous_until)));
        assert!(!world.dump("connection").await.contains("planted"));

        // The loser of a race asked with the older credentials.
        assert_eq!(save(&world, made.id, 1, refreshed(&world, "late", None)).await, RefreshSaved::Lost);
        assert_eq!(read(&world, made.id).await, found);

        // A provider that does not rotate leaves the kept token alone.
        save(&world, made.id, 2, refreshed(&world, "a3", Some("planted-r2"))).await;
        let found = read(&world, made.id).await;
        assert_eq!(found.refresh.previous_refresh_token.unwrap().0, Secret::new("planted-r1"));

        world.clock.advance(DAY);
        let forgotten = commit!(world, |tx| { connections::forget_expired_previous_tokens(tx, 10).await? });
        assert_eq!(forgotten, 1);
        assert_eq!(read(&world, made.id).await.refresh.previous_refresh_token, None);
    }

    async fn of_many_saves_at_one_generation_one_wins(world) {
        let made = setup(&world).await;
        let saves = (0..10).map(|n| {
            let (store, new) = (world.store.clone(), refreshed(&world, &format!("t{n}"), Some("r")));
            let id = made.id;
            async move {
                store
                    .write_retry(move |tx| {
                        let new = new.clone();
                        Box::pin(async move { connections::save_refreshed(tx, id, 1, &new).await })
                    })
                    .await
                    .unwrap()
            }
        });
        let outcomes = futures_util::future::join_all(saves).await;
        let won = outcomes.iter().filter(|outcome| **outcome != RefreshSaved::Lost).count();
        assert_eq!((won, read(&world, made.id).await.generation), (1, 2));
    }

    async fn a_deleted_or_reauthorized_connection_refuses_the_answer(world) {
        let made = setup(&world).await;
        let new = ConnectionUpsert {
            integration_id: made.integration_id,
            credentials: token("reconnected", None),
            ..upsert(&world.integration_by_id(made.integration_id).await, "c")
        };
        let environment = made.environment_id;
        commit!(world, |tx| { connections::upsert(tx, environment, &new).await? });
        assert_eq!(save(&world, made.id, 1, refreshed(&world, "x", None)).await, RefreshSaved::Lost);
        assert_eq!(fail(&world, made.id, 1, FailureWeight::Final).await, FailureSaved::Lost);
        commit!(world, |tx| { connections::soft_delete(tx, made.id).await? });
        assert_eq!(save(&world, made.id, 2, refreshed(&world, "x", None)).await, RefreshSaved::Lost);
        assert_eq!(fail(&world, made.id, 2, FailureWeight::Counted).await, FailureSaved::Lost);
    }

    async fn failures_count_by_utc_day_and_exhaust_on_the_fourth(world) {
        let made = setup(&world).await;
        assert_eq!(fail(&world, made.id, 1, FailureWeight::Counted).await, saved(1, false, true));
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(fail(&world, made.id, 1, FailureWeight::Counted).await, saved(1, false, false));
        for (attempts, exhausted) in [(2, false), (3, false), (4, true)] {
            world.clock.advance(DAY);
            assert_eq!(fail(&world, made.id, 1, FailureWeight::Counted).await, saved(attempts, exhausted, false));
        }
        let found = read(&world, made.id).await;
        assert!(found.refresh.exhausted);
        assert_eq!(found.refresh.last_failure, Some(world.now()));
        assert_eq!((found.refresh.last_success, found.refresh.cause), (None, Some(RefreshCause::ProviderDown)));
        assert_eq!(found.errors.len(), 1);

        let outcome = save(&world, made.id, 1, refreshed(&world, "a2", None)).await;
        assert_eq!(outcome, RefreshSaved::Saved { generation: 2, recovered: true });
        let found = read(&world, made.id).await;
        assert_eq!((found.refresh.attempts, found.refresh.exhausted, found.refresh.cause), (0, false, None));
        assert_eq!((found.refresh.last_failure, found.errors.len()), (None, 0));
    }

    async fn a_final_failure_exhausts_at_once_and_ours_only_cools_down(world) {
        let made = setup(&world).await;
        assert_eq!(fail(&world, made.id, 1, FailureWeight::CoolDown).await, saved(0, false, false));
        let cooled = read(&world, made.id).await;
        assert_eq!(cooled.refresh.last_failure, Some(world.now()));
        assert!(cooled.errors.is_empty() && cooled.refresh.last_success.is_some());
        assert_eq!(fail(&world, made.id, 1, FailureWeight::Final).await, saved(4, true, true));
        assert_eq!(fail(&world, made.id, 1, FailureWeight::CoolDown).await, saved(4, true, false));
        assert!(read(&world, made.id).await.refresh.exhausted);
    }

    async fn an_outage_is_an_active_failure_that_counts_for_nothing(world) {
        let made = setup(&world).await;
        for opened in [true, false] {
            assert_eq!(fail(&world, made.id, 1, FailureWeight::Uncounted).await, saved(0, false, opened));
            world.clock.advance(DAY);
        }
        let found = read(&world, made.id).await;
        assert_eq!((found.errors.len(), found.refresh.attempts), (1, 0));
        assert!(found.refresh.last_success.is_some());
        // The first refusal is the first, whatever happened on the days before.
        assert_eq!(fail(&world, made.id, 1, FailureWeight::Counted).await, saved(1, false, false));
        world.clock.advance(DAY);
        assert_eq!(fail(&world, made.id, 1, FailureWeight::Uncounted).await, saved(1, false, false));
        let outcome = save(&world, made.id, 1, refreshed(&world, "a2", None)).await;
        assert_eq!(outcome, RefreshSaved::Saved { generation: 2, recovered: true });
    }

    async fn an_intent_is_found_after_a_crash_and_goes_with_the_answer(world) {
        let made = setup(&world).await;
        let id = made.id;
        let intent = RefreshIntent { connection: id, generation: 1, fence: 3, started_at: world.now() };
        let newer = RefreshIntent { fence: 4, ..intent.clone() };
        let stored = newer.clone();
        let (found, none, stale) = commit!(world, |tx| {
            refreshes::put_intent(tx, &intent).await?;
            refreshes::put_intent(tx, &stored).await?;
            let later = tx.now() + Duration::from_secs(1);
            (
                refreshes::find_intent(tx, id).await?,
                refreshes::stale_intents(tx, tx.now(), 10).await?,
                refreshes::stale_intents(tx, later, 10).await?,
            )
        });
        assert_eq!((found, none.len(), stale.len()), (Some(newer.clone()), 0, 1));
        save(&world, id, 1, refreshed(&world, "a2", None)).await;
        let stored = newer.clone();
        let (gone, taken, again) = commit!(world, |tx| {
            let gone = refreshes::find_intent(tx, id).await?;
            refreshes::put_intent(tx, &stored).await?;
            (gone, refreshes::take_intent(tx, id).await?, refreshes::take_intent(tx, id).await?)
        });
        assert_eq!((gone, taken, again), (None, Some(newer.clone()), None));
        commit!(world, |tx| {
            refreshes::put_intent(tx, &newer).await?;
            connections::soft_delete(tx, id).await?;
        });
        assert_eq!(commit!(world, |tx| { refreshes::find_intent(tx, id).await? }), None);
    }

    async fn the_timeline_keeps_the_newest(world) {
        let id = setup(&world).await.id;
        let event = |n: u32| RefreshEvent {
            at: world.now() + Duration::from_secs(n.into()),
            reason: RefreshReason::Forced,
            success: n.is_multiple_of(2),
            cause: (!n.is_multiple_of(2)).then_some(RefreshCause::RefreshInterrupted),
            detail: Some(format!("try {n}")),
        };
        let events: Vec<_> = (0..refreshes::TIMELINE + 5).map(event).collect();
        let stored = events.clone();
        let timeline = commit!(world, |tx| {
            for event in &stored {
                refreshes::append_event(tx, id, event).await?;
            }
            refreshes::append_event(tx, ConnectionRowId(77), &stored[0]).await?;
            refreshes::timeline(tx, id).await?
        });
        let expected: Vec<_> = events.into_iter().skip(5).rev().collect();
        assert_eq!(timeline, expected);
    }

    async fn the_background_refresher_sees_what_nobody_reads(world) {
        let made = setup(&world).await;
        let integration = world.integration_by_id(made.integration_id).await;
        world.clock.advance(Duration::from_secs(1));
        for id in ["d", "e", "f", "g"] {
            world.connection(integration.id, id, &[]).await;
        }
        let row = |id: &'static str| {
            let (environment, key) = (integration.environment_id, integration.unique_key.clone());
            let world = &world;
            async move {
                commit!(world, |tx| { connections::find(tx, environment, key.as_str(), id).await?.unwrap().id })
            }
        };
        let (read_row, given_up, deleted) = (row("d").await, row("e").await, row("f").await);
        fail(&world, given_up, 1, FailureWeight::Final).await;
        world.clock.advance(DAY);
        let now = world.now();
        let (first, second, end) = commit!(world, |tx| {
            connections::touch_fetched(tx, &[(read_row, now)]).await?;
            connections::soft_delete(tx, deleted).await?;
            let first = connections::stale_page(tx, now, None, 1).await?;
            let second = connections::stale_page(tx, now, Some(first[0].cursor()), 10).await?;
            let end: Option<StaleCursor> = second.last().map(connections::StaleConnection::cursor);
            let end = connections::stale_page(tx, now, end, 10).await?;
            (first, second, end)
        });
        assert_eq!(first[0].connection_id.as_str(), "c");
        assert_eq!(first[0].integration_key, integration.unique_key);
        assert_eq!(second.iter().map(|s| s.connection_id.as_str()).collect::<Vec<_>>(), ["g"]);
        assert!(end.is_empty());
    }
}
