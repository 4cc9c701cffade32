//! Refreshes against a provider that rotates its refresh tokens, and everything that goes wrong with them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod matrix;
mod modes;
mod rig;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use patchbay_auth::driver;
use patchbay_connections::maintenance;
use patchbay_connections::refresh::{self, COOLDOWN, Freshness, ReadError};
use patchbay_sample::{Failure, Gate, Grant, OldToken, Rotation};
use patchbay_store::db::DbError;
use patchbay_store::refreshes;
use patchbay_store::testing::TestDb;
use patchbay_types::connections::RefreshCause;
use patchbay_types::refreshes::{RefreshIntent, RefreshReason};
use world::{CONNECTION, DUE, TOKEN_LIFE, World, token};

const DAY: Duration = Duration::from_hours(24);
const DOWN: Failure = Failure::Status {
    status: 500,
    retry_after: None,
};

fn cause(outcome: Result<String, ReadError>) -> RefreshCause {
    match outcome {
        Err(ReadError::Failed { cause, .. }) => cause,
        other => panic!("not a failed refresh: {other:?}"),
    }
}

/// What the newest entry of the timeline says: reason, and cause if it failed.
async fn last_entry(world: &World) -> (RefreshReason, Option<RefreshCause>) {
    let row = world.stored().await.id;
    let timeline = world
        .node
        .store
        .read(move |tx| Box::pin(async move { refreshes::timeline(tx, row).await }))
        .await
        .unwrap();
    let newest = timeline.first().unwrap();
    assert_eq!(newest.success, newest.cause.is_none());
    (newest.reason, newest.cause)
}

async fn intent(world: &World) -> Option<RefreshIntent> {
    let row = world.stored().await.id;
    let found: Result<_, DbError> = world
        .node
        .store
        .read(move |tx| Box::pin(async move { refreshes::find_intent(tx, row).await }))
        .await;
    found.unwrap()
}

/// [`world::die_in_the_middle`] of the one connection.
async fn die_in_the_middle(world: &World) {
    world::die_in_the_middle(&world.node, &world.clock, &world.name()).await;
}

patchbay_store::both_backends! {
    async fn two_hundred_readers_ask_once(db: TestDb) {
        let world = World::on(db).await;
        let old = world.read().await.unwrap();
        assert_eq!(world.asked(), 0, "a fresh token is not refreshed");
        world.clock.advance(DUE);
        world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
        let readers: Vec<_> = (0..200)
            .map(|_| {
                let (node, name) = (world.node.clone(), world.name());
                world.node.ambient.tasks.spawn(async move {
                    refresh::read(&node, &name, Freshness::Usual).await.map(|connection| token(&connection))
                })
            })
            .collect();
        world.sample.wait_for(|counts| counts.token_refresh == 1).await;
        world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
        let tokens: Vec<String> =
            join_all(readers).await.into_iter().map(|reader| reader.unwrap().unwrap()).collect();
        assert_eq!(world.asked(), 1);
        assert!(tokens.iter().all(|token| *token == tokens[0]));
        assert_ne!(tokens[0], old);
        let stored = world.stored().await;
        assert_eq!(token(&stored), tokens[0]);
        assert_eq!(stored.generation, 2);
        assert!(stored.refresh.previous_refresh_token.is_some());
        assert_eq!(last_entry(&world).await, (RefreshReason::Expiring, None));
        assert_eq!(intent(&world).await, None);
        assert_eq!(world.announced().await, [] as [&str; 0], "a working connection is no news");
        assert_eq!(world.read().await.unwrap(), tokens[0]);
        assert_eq!(world.asked(), 1);
    }

    async fn a_good_token_is_handed_out_while_the_provider_is_down(db: TestDb) {
        let world = World::on(db).await;
        let old = world.read().await.unwrap();
        world.clock.advance(DUE);
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = Some(DOWN));
        assert_eq!(world.read().await.unwrap(), old);
        assert_eq!(world.asked(), 1);
        let stored = world.stored().await;
        assert_eq!((stored.errors.len(), stored.refresh.attempts), (0, 0), "nobody misses anything yet");
        assert_eq!(world.announced().await, [] as [&str; 0]);
        assert_eq!(last_entry(&world).await, (RefreshReason::Expiring, Some(RefreshCause::ProviderDown)));

        // Cooling down: answered without asking.
        assert_eq!(world.read().await.unwrap(), old);
        assert_eq!(world.asked(), 1);
        world.clock.advance(COOLDOWN);
        assert_eq!(world.read().await.unwrap(), old);
        assert_eq!(world.asked(), 2);

        // The token ends: now it is an active failure, told once, however long it lasts.
        world.clock.advance(TOKEN_LIFE);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderDown);
        assert_eq!(world.asked(), 3);
        assert!(matches!(world.read().await, Err(ReadError::Backoff(_))));
        assert_eq!(world.asked(), 3);
        for _ in 0..6 {
            world.clock.advance(DAY);
            assert_eq!(cause(world.read().await), RefreshCause::ProviderDown);
        }
        let stored = world.stored().await;
        assert_eq!(stored.errors.len(), 1);
        assert_eq!(stored.errors[0].kind, "auth");
        assert_eq!((stored.refresh.attempts, stored.refresh.exhausted), (0, false));
        assert_eq!(world.announced().await, ["refresh_provider_unavailable"]);

        // It is back: told once more.
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = None);
        world.clock.advance(COOLDOWN);
        assert_ne!(world.read().await.unwrap(), old);
        assert_eq!(world.stored().await.errors, []);
        assert_eq!(world.announced().await, ["refresh_provider_unavailable", "ok"]);
    }

    async fn a_refused_grant_cools_down_and_is_given_up_on_the_fourth_day(db: TestDb) {
        let world = World::on(db).await;
        let old = world.read().await.unwrap();
        world.clock.advance(DUE);
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = Some(Failure::InvalidGrant));
        // Known at once, although the old token still works for ten minutes.
        assert_eq!(world.read().await.unwrap(), old);
        let stored = world.stored().await;
        assert_eq!((stored.errors.len(), stored.refresh.attempts), (1, 1));
        assert_eq!(world.announced().await, ["refresh_token_external_error"]);

        world.clock.advance(TOKEN_LIFE);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderRefused);
        assert_eq!(world.asked(), 2);
        world.clock.advance(COOLDOWN.checked_sub(Duration::from_millis(1)).unwrap());
        assert!(matches!(world.read().await, Err(ReadError::Backoff(_))));
        assert_eq!(world.asked(), 2);
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(cause(world.read().await), RefreshCause::ProviderRefused);
        assert_eq!(world.asked(), 3);
        assert_eq!(world.stored().await.refresh.attempts, 1, "the same day counts once");

        for day in 2..=4 {
            world.clock.advance(DAY);
            assert_eq!(cause(world.read().await), RefreshCause::ProviderRefused);
            let refresh = world.stored().await.refresh;
            assert_eq!((refresh.attempts, refresh.exhausted), (day, day == 4));
        }
        assert_eq!(world.asked(), 6);
        world.clock.advance(DAY);
        assert!(matches!(world.read().await, Err(ReadError::Exhausted(_))));
        assert_eq!(world.asked(), 6, "given up: not asked any more");
        assert_eq!(cause(world.force().await), RefreshCause::ProviderRefused);
        assert_eq!(world.asked(), 7, "unless forced");
        assert_eq!(world.announced().await, ["refresh_token_external_error"], "told once");

        // A forced refresh that works revives it.
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = None);
        assert!(world.force().await.is_ok());
        let stored = world.stored().await;
        assert_eq!((stored.refresh.attempts, stored.refresh.exhausted, stored.errors.len()), (0, false, 0));
        assert_eq!(world.announced().await, ["refresh_token_external_error", "ok"]);
    }

    async fn connecting_again_revives_a_connection(db: TestDb) {
        let world = World::on(db).await;
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = Some(Failure::InvalidGrant));
        for _ in 0..4 {
            world.clock.advance(DAY);
            assert_eq!(cause(world.read().await), RefreshCause::ProviderRefused);
        }
        assert!(matches!(world.read().await, Err(ReadError::Exhausted(_))));
        let new = world.import().await;
        assert_eq!(world.read().await.unwrap(), new);
        let stored = world.stored().await;
        assert_eq!((stored.refresh.attempts, stored.refresh.exhausted, stored.errors.len()), (0, false, 0));
        assert_eq!((stored.refresh.cause, stored.refresh.last_failure), (None, None));
    }

    async fn an_outage_before_a_refusal_does_not_count_as_one(db: TestDb) {
        let world = World::on(db).await;
        world.sample.fail_next(Grant::RefreshToken, [DOWN, Failure::InvalidGrant]);
        world.clock.advance(DAY);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderDown);
        world.clock.advance(DAY);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderRefused);
        assert_eq!(world.stored().await.refresh.attempts, 1);
        // The state changed from "down" to "refused": worth telling.
        assert_eq!(world.announced().await, ["refresh_provider_unavailable", "refresh_token_external_error"]);
    }

    async fn silence_ends_after_a_while(db: TestDb) {
        let world = World::on(db).await;
        world.sample.behave_for(Grant::RefreshToken, |it| {
            it.rotation = Rotation::Keep;
            it.old_token = OldToken::Honour;
        });
        world.clock.advance(TOKEN_LIFE);
        world.sample.hold(Gate::TokenRequest(Grant::RefreshToken));
        let (node, name) = (world.node.clone(), world.name());
        let reader = world
            .node
            .ambient
            .tasks
            .spawn(async move { refresh::read(&node, &name, Freshness::Usual).await.map(|it| token(&it)) });
        world.sample.wait_for(|counts| counts.token_refresh == 1).await;
        world.clock.advance(driver::TIMEOUT);
        assert_eq!(cause(reader.await.unwrap()), RefreshCause::ProviderDown);
        assert!(intent(&world).await.is_some(), "the provider may have acted on it");
        assert_eq!(world.announced().await, ["refresh_provider_unavailable"]);
        world.sample.release(Gate::TokenRequest(Grant::RefreshToken));
        world.clock.advance(COOLDOWN);
        assert!(world.read().await.is_ok());
        assert_eq!(last_entry(&world).await, (RefreshReason::Recovery, None));
        assert_eq!(intent(&world).await, None);
    }

    async fn a_lost_answer_is_not_the_end_users_doing(db: TestDb) {
        let world = World::on(db).await;
        world.clock.advance(TOKEN_LIFE);
        world.sample.fail_next(Grant::RefreshToken, [Failure::LostAnswer]);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderDown);
        world.clock.advance(COOLDOWN);
        // The provider saw the old token twice and revokes everything.
        assert_eq!(cause(world.read().await), RefreshCause::RefreshInterrupted);
        assert_eq!(world.announced().await, ["refresh_provider_unavailable", "refresh_interrupted"]);
        world.clock.advance(COOLDOWN);
        assert_eq!(cause(world.read().await), RefreshCause::RefreshInterrupted, "and it stays the reason");
        assert_eq!(world.announced().await.len(), 2);
        assert_eq!(world.asked(), 3);
    }

    async fn a_lost_answer_is_made_good_by_a_lenient_provider(db: TestDb) {
        let world = World::on(db).await;
        world.clock.advance(TOKEN_LIFE);
        world.sample.behave_for(Grant::RefreshToken, |it| it.old_token = OldToken::Honour);
        world.sample.fail_next(Grant::RefreshToken, [Failure::LostAnswer]);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderDown);
        world.clock.advance(COOLDOWN);
        assert!(world.read().await.is_ok());
        assert_eq!(world.announced().await, ["refresh_provider_unavailable", "ok"]);
        assert_eq!(intent(&world).await, None);
    }

    async fn after_a_crash_the_old_token_is_tried(db: TestDb) {
        let world = World::on(db).await;
        world.sample.behave_for(Grant::RefreshToken, |it| it.old_token = OldToken::Honour);
        world.clock.advance(TOKEN_LIFE);
        die_in_the_middle(&world).await;
        assert!(world.read().await.is_ok());
        assert_eq!(last_entry(&world).await, (RefreshReason::Recovery, None));
        assert_eq!(intent(&world).await, None);
        assert_eq!(world.announced().await, [] as [&str; 0]);
    }

    async fn after_a_crash_that_used_the_token_up_the_refusal_is_called_interrupted(db: TestDb) {
        let world = World::on(db).await;
        world.clock.advance(TOKEN_LIFE);
        die_in_the_middle(&world).await;
        assert_eq!(cause(world.read().await), RefreshCause::RefreshInterrupted);
        assert_eq!(world.announced().await, ["refresh_interrupted"]);
        let stored = world.stored().await;
        assert_eq!(stored.refresh.cause, Some(RefreshCause::RefreshInterrupted));
        assert_eq!(intent(&world).await, None);
        let new = world.import().await;
        assert_eq!(world.read().await.unwrap(), new);
    }

    async fn connecting_again_wins_over_a_refresh_in_flight(db: TestDb) {
        let world = World::on(db).await;
        world.clock.advance(TOKEN_LIFE);
        world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
        let (node, name) = (world.node.clone(), world.name());
        let reader = world
            .node
            .ambient
            .tasks
            .spawn(async move { refresh::read(&node, &name, Freshness::Usual).await.map(|it| token(&it)) });
        world.sample.wait_for(|counts| counts.token_refresh == 1).await;
        let new = world.import().await;
        world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
        assert_eq!(reader.await.unwrap().unwrap(), new, "whoever waited gets the newer credentials too");
        let stored = world.stored().await;
        assert_eq!((token(&stored), stored.generation), (new, 2));
        assert_eq!(intent(&world).await, None);
    }

    async fn forcing_refreshes_a_fresh_token_once_for_all_who_force(db: TestDb) {
        let world = World::on(db).await;
        let old = world.read().await.unwrap();
        let first = world.force().await.unwrap();
        assert_ne!(first, old);
        assert_eq!(world.asked(), 1);
        assert_eq!(last_entry(&world).await, (RefreshReason::Forced, None));
        world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
        let readers: Vec<_> = (0..20)
            .map(|_| {
                let (node, name) = (world.node.clone(), world.name());
                world.node.ambient.tasks.spawn(async move {
                    refresh::read(&node, &name, Freshness::Forced).await.map(|it| token(&it))
                })
            })
            .collect();
        world.sample.wait_for(|counts| counts.token_refresh == 2).await;
        world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
        for reader in readers {
            assert_ne!(reader.await.unwrap().unwrap(), first);
        }
        let (asked, second) = (world.asked(), world.read().await.unwrap());
        // A reader that came so late that it saw the second token has forced a third.
        assert!((2..=21).contains(&asked), "{asked}");
        assert_ne!(world.force().await.unwrap(), second);
        assert_eq!(world.asked(), asked + 1);
    }

    async fn many_rejections_of_one_token_cause_one_refresh(db: TestDb) {
        let world = World::on(db).await;
        let rejected = world.stored().await;
        assert_eq!(world.renewed(rejected.generation).await, None, "just made: its age is not the matter");
        world.clock.advance(Duration::from_mins(5));
        world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let (node, name, generation) = (world.node.clone(), world.name(), rejected.generation);
                world.node.ambient.tasks.spawn(async move {
                    let newer = refresh::force_after_rejection(&node, &name, generation).await;
                    newer.map(|newer| token(&newer))
                })
            })
            .collect();
        world.sample.wait_for(|counts| counts.token_refresh == 1).await;
        world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
        let mut newer: Vec<_> = join_all(callers).await.into_iter().map(|caller| caller.unwrap().unwrap()).collect();
        newer.push(world.renewed(rejected.generation).await.unwrap());
        newer.dedup();
        assert_eq!(newer, [token(&world.stored().await)]);
        assert_ne!(newer[0], token(&rejected));
        assert_eq!(world.asked(), 1);
        assert_eq!(last_entry(&world).await, (RefreshReason::Unauthorized, None));
    }

    async fn an_upstream_that_rejects_fresh_tokens_is_not_argued_with(db: TestDb) {
        let world = World::on(db).await;
        world.clock.advance(Duration::from_mins(5));
        assert!(world.renewed(1).await.is_some());
        assert_eq!(world.renewed(2).await, None, "fresh, and rejected all the same");
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(world.renewed(2).await, None);
        world.clock.advance(Duration::from_mins(1));
        assert!(world.renewed(2).await.is_some());
        assert_eq!(world.asked(), 2);

        // The provider refuses: recorded like any failure, and the caller keeps its 401.
        world.clock.advance(Duration::from_mins(10));
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = Some(Failure::InvalidGrant));
        assert_eq!(world.renewed(3).await, None);
        assert_eq!(world.asked(), 3);
        assert_eq!(world.announced().await, ["refresh_token_external_error"]);
        assert_eq!(world.renewed(3).await, None, "cooling down");
        assert_eq!(world.asked(), 3);
    }

    async fn who_forces_is_not_put_off_by_a_cool_down(db: TestDb) {
        let world = World::on(db).await;
        world.sample.fail_next(Grant::RefreshToken, [DOWN]);
        world.clock.advance(TOKEN_LIFE);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderDown);
        let unforced = (0..20).map(|_| world.read());
        let forced = (0..20).map(|_| world.force());
        let (refused, served) = futures_util::future::join(join_all(unforced), join_all(forced)).await;
        assert!(served.iter().all(Result::is_ok), "{served:?}");
        assert!(refused.iter().all(|read| read.is_ok() || matches!(read, Err(ReadError::Backoff(_)))));
    }

    async fn a_hiccup_after_a_rotation_does_not_end_the_grant(db: TestDb) {
        let world = World::on(db).await;
        world.force().await.unwrap();
        world.sample.fail_next(Grant::RefreshToken, [Failure::InvalidGrant]);
        assert_eq!(cause(world.force().await), RefreshCause::ProviderRefused);
        assert_eq!(world.asked(), 2, "the old token would have set off the alarm for reused ones");
        world.clock.advance(TOKEN_LIFE);
        assert!(world.read().await.is_ok());
    }

    async fn a_rotation_that_never_took_hold_is_undone(db: TestDb) {
        let world = World::on(db).await;
        world.sample.behave_for(Grant::RefreshToken, |it| it.old_token = OldToken::Honour);
        world.force().await.unwrap();
        world.sample.forget_newest_refresh_tokens();
        assert_eq!(cause(world.force().await), RefreshCause::ProviderRefused);
        world.clock.advance(TOKEN_LIFE);
        assert!(world.read().await.is_ok());
        assert_eq!(world.asked(), 4);
    }

    async fn credentials_nobody_reads_are_kept_alive(db: TestDb) {
        let world = World::on(db).await;
        let old = token(&world.stored().await);
        world.clock.advance(Duration::from_mins(53));
        maintenance::look_after(&world.node).await.unwrap();
        assert_eq!(world.asked(), 0, "not yet");
        world.clock.advance(Duration::from_mins(2));
        maintenance::look_after(&world.node).await.unwrap();
        assert_eq!(world.asked(), 1, "this provider wants its tokens used every hour");
        assert_eq!(last_entry(&world).await, (RefreshReason::KeepAlive, None));
        assert_ne!(token(&world.stored().await), old);
        maintenance::look_after(&world.node).await.unwrap();
        assert_eq!(world.asked(), 1);

        // An outage ends nothing.
        world.sample.fail_next(Grant::RefreshToken, [DOWN]);
        world.clock.advance(Duration::from_mins(55));
        maintenance::look_after(&world.node).await.unwrap();
        assert_eq!(last_entry(&world).await, (RefreshReason::KeepAlive, Some(RefreshCause::ProviderDown)));
        world.clock.advance(COOLDOWN);
        maintenance::look_after(&world.node).await.unwrap();
        assert_eq!(last_entry(&world).await, (RefreshReason::KeepAlive, None));
        assert_eq!(world.asked(), 3);

        // Unread for a day, and its own share of four hours.
        world.clock.advance(Duration::from_hours(28));
        maintenance::look_after(&world.node).await.unwrap();
        assert_eq!(last_entry(&world).await, (RefreshReason::Background, None));
        assert_eq!(world.asked(), 4);
    }

    async fn a_failure_that_goes_on_is_told_again_every_day(db: TestDb) {
        let world = World::on(db).await;
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = Some(DOWN));
        world.clock.advance(TOKEN_LIFE);
        assert_eq!(cause(world.read().await), RefreshCause::ProviderDown);
        let down = "refresh_provider_unavailable";
        for (hours, told) in [(23, 1), (1, 2), (0, 2), (23, 2), (1, 3)] {
            world.clock.advance(Duration::from_hours(hours));
            maintenance::look_after(&world.node).await.unwrap();
            assert_eq!(world.announced().await, vec![down; told]);
        }
        world.sample.behave_for(Grant::RefreshToken, |it| it.failure = None);
        world.clock.advance(COOLDOWN);
        world.read().await.unwrap();
        world.clock.advance(DAY);
        maintenance::look_after(&world.node).await.unwrap();
        assert_eq!(world.announced().await, [down, down, down, "ok"]);
    }

    async fn nobody_needs_to_wait_for_the_answer(db: TestDb) {
        let world = World::on(db).await;
        world.clock.advance(TOKEN_LIFE);
        world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
        let (node, name) = (world.node.clone(), world.name());
        let reader = world
            .node
            .ambient
            .tasks
            .spawn(async move { refresh::read(&node, &name, Freshness::Usual).await.map(|it| token(&it)) });
        world.sample.wait_for(|counts| counts.token_refresh == 1).await;
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled());
        world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
        // The next reader joins the flight, or finds what it brought.
        let new = world.read().await.unwrap();
        assert_eq!(token(&world.stored().await), new);
        assert_eq!(world.asked(), 1);
    }

    async fn a_token_the_provider_never_renews_is_handed_out_as_it_is(db: TestDb) {
        let world = World::on(db).await;
        let mut connection = world.stored().await;
        if let patchbay_types::Credentials::OAuth2(credentials) = &mut connection.credentials {
            credentials.refresh_token = None;
        }
        world.replace(connection.credentials).await;
        world.clock.advance(TOKEN_LIFE * 2);
        let old = world.read().await.unwrap();
        assert_eq!(world.force().await.unwrap(), old);
        assert_eq!(world.asked(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_ask_once() {
    let world = World::on(TestDb::postgres().await).await;
    let other = world.another_node().await;
    world.clock.advance(DUE);
    world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
    let readers: Vec<_> = [&world.node, &other, &world.node, &other]
        .into_iter()
        .map(|node| {
            let (node, name) = (Arc::clone(node), world.name());
            world.node.ambient.tasks.spawn(async move {
                refresh::read(&node, &name, Freshness::Usual)
                    .await
                    .map(|connection| token(&connection))
            })
        })
        .collect();
    world.sample.wait_for(|counts| counts.token_refresh == 1).await;
    world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
    let tokens: Vec<String> = join_all(readers)
        .await
        .into_iter()
        .map(|reader| reader.unwrap().unwrap())
        .collect();
    assert_eq!(world.asked(), 1);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(token(&world.stored().await), tokens[0]);
    assert_eq!(world.stored().await.connection_id.as_str(), CONNECTION);
}

/// Whether the server lets anybody into the world's database.
async fn admit(world: &World, keeper: &TestDb, allowed: bool) {
    let name = world
        .db
        .url()
        .rsplit('/')
        .next()
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let statements = [
        format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allowed}"),
        format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND NOT {allowed}"
        ),
    ];
    let store = keeper.store().await;
    for statement in statements {
        let done: Result<_, DbError> = store
            .write(move |tx| Box::pin(async move { tx.query(&statement, &[]).await }))
            .await;
        done.unwrap();
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_outlives_an_absent_database() {
    let world = World::on(TestDb::postgres().await).await;
    let keeper = TestDb::postgres().await;
    world.clock.advance(TOKEN_LIFE);
    world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
    let (node, name) = (world.node.clone(), world.name());
    let reader = world.node.ambient.tasks.spawn(async move {
        refresh::read(&node, &name, Freshness::Usual)
            .await
            .map(|it| token(&it))
    });
    world.sample.wait_for(|counts| counts.token_refresh == 1).await;
    admit(&world, &keeper, false).await;
    while world.node.store.ping().await.is_ok() {
        tokio::task::yield_now().await;
    }
    world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
    while world.sample.token_requests()[0].outcome != "ok" {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        assert!(world.node.store.ping().await.is_err());
    }
    assert!(!reader.is_finished(), "nothing is handed out that is not saved");
    admit(&world, &keeper, true).await;
    let new = reader.await.unwrap().unwrap();
    let stored = world.stored().await;
    assert_eq!((token(&stored), stored.generation), (new, 2));
    assert_eq!(intent(&world).await, None);
    assert_eq!(world.asked(), 1);
}
