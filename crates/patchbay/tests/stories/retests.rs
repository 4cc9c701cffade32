//! The daily look at credentials that nobody reads: API keys are tested, because nobody else would notice.

use std::sync::Arc;
use std::time::Duration;

use patchbay_connections::{Context, maintenance};
use patchbay_sample::Failure;
use patchbay_store::leases;
use serde_json::{Value, json};

use crate::common::{TestServer, World};

const DAY: Duration = Duration::from_hours(25);

fn context(server: &TestServer) -> &Arc<Context> {
    &server.running().context
}

/// A server whose job runs when the test says so: on its own timer another node seems to be at it.
async fn start(world: &World) -> TestServer {
    let server = world.server().start().await;
    let held = context(&server).store.write(|tx| {
        Box::pin(async move { leases::acquire(tx, "idle-refresh", "the test", 1000 * DAY).await })
    });
    assert!(held.await.unwrap().is_some());
    server.integrations().await;
    server
}

/// A day later, the job has run. What was on its way has arrived, so that the leap in time sends nothing twice.
async fn next_day(world: &World, server: &TestServer) {
    server.quiet().await;
    world.clock.advance(DAY);
    maintenance::look_after(context(server)).await.unwrap();
}

fn refused() -> Failure {
    Failure::Status {
        status: 401,
        retry_after: None,
    }
}

async fn errors(server: &TestServer) -> Value {
    let listed = server.api.get("/connections?connectionId=c1").await.expect(200);
    listed["connections"][0]["errors"].clone()
}

fn tests(server: &TestServer) -> u64 {
    server.sample.counts().whoami
}

patchbay_store::both_backends! {
    async fn a_key_the_provider_no_longer_takes_is_found_out_announced_once_and_given_up_on_the_fourth_day(db: TestDb) {
        let world = World::on(db).await;
        let server = start(&world).await;
        server.import_key("c1", &json!({})).await;
        world.webhook("main", 1).await;
        assert_eq!(tests(&server), 1, "when it was stored");

        maintenance::look_after(context(&server)).await.unwrap();
        assert_eq!(tests(&server), 1, "not before a day has passed");
        next_day(&world, &server).await;
        assert_eq!((tests(&server), errors(&server).await), (2, json!([])));

        let path = "/connections/c1?provider_config_key=sample-api-key";
        for day in 1..=4 {
            world.sample.behave(|all| all.api_failures = vec![refused()]);
            next_day(&world, &server).await;
            assert_eq!(errors(&server).await[0]["type"], "auth", "day {day}");
            if day < 4 {
                let read = server.api.get("/connections?connectionId=c1").await;
                assert_eq!(read.status, 200);
            }
        }
        let (_, announced) = world.webhook("main", 2).await;
        assert_eq!(
            (&announced["operation"], &announced["success"], &announced["error"]["type"]),
            (&json!("refresh"), &json!(false), &json!("connection_test_failed"))
        );
        server.quiet().await;
        assert_eq!(world.sample.received("main").len(), 2, "once, when it began");
        let logged = server.operator.ok("logs").await;
        assert!(logged.contains("connection_test"), "{logged}");

        server.api.get(path).await.fails(424, "invalid_credentials");
        let before = tests(&server);
        next_day(&world, &server).await;
        assert_eq!(tests(&server), before, "given up: nobody asks any more");
        // Connecting anew with a good key ends it.
        server.import_key("c1", &json!({})).await;
        server.api.get(path).await.expect(200);
        assert_eq!(errors(&server).await, json!([]));
        server.finish().await;
    }

    async fn a_test_that_passes_again_ends_the_failure_and_says_so(db: TestDb) {
        let world = World::on(db).await;
        let server = start(&world).await;
        server.import_key("c1", &json!({})).await;
        world.sample.behave(|all| all.api_failures = vec![refused()]);
        next_day(&world, &server).await;
        assert_eq!(world.webhook("main", 2).await.1["success"], false);
        next_day(&world, &server).await;
        assert_eq!(errors(&server).await, json!([]));
        let (_, recovered) = world.webhook("main", 3).await;
        assert_eq!((&recovered["operation"], &recovered["success"]), (&json!("refresh"), &json!(true)));
        server.finish().await;
    }

    async fn a_provider_that_is_down_proves_nothing_about_a_key(db: TestDb) {
        let world = World::on(db).await;
        let server = start(&world).await;
        server.import_key("c1", &json!({})).await;
        for failure in [Failure::Status { status: 503, retry_after: None }, Failure::Cut] {
            world.sample.behave(|all| all.api_failures = vec![failure; 8]);
            next_day(&world, &server).await;
            assert_eq!(errors(&server).await, json!([]));
        }
        let path = "/connections/c1?provider_config_key=sample-api-key";
        server.api.get(path).await.expect(200);
        server.finish().await;
        assert_eq!(world.sample.received("main").len(), 1, "only that it was made");
    }

    async fn tokens_that_nobody_reads_are_refreshed_instead(db: TestDb) {
        let world = World::on(db).await;
        let server = start(&world).await;
        server.import("c1", &json!({})).await;
        next_day(&world, &server).await;
        assert_eq!(world.sample.counts().token_refresh, 1);
        server.finish().await;
    }
}
