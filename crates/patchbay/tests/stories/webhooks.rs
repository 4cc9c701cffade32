//! Webhooks on their way: retries over days, dead letters, targets and switches.

use std::time::Duration;

use patchbay_sample::{Gate, HookAnswer, Received};
use serde_json::{Value, json};

use crate::common::{DEV_KEY, World, assert_signed, until};

/// The default waits in seconds.
const WAITS: [u64; 13] = [
    3, 6, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200, 64_800, 86_400,
];

fn broken(status: u16, retry_after: Option<u32>) -> HookAnswer {
    HookAnswer::Status { status, retry_after }
}

/// What `webhook-signature` holds.
fn standard_signatures(received: &Received) -> Vec<String> {
    let header = received.headers["webhook-signature"].to_str().unwrap();
    header.split(' ').map(str::to_owned).collect()
}

/// What it must hold for a key.
fn standard(received: &Received, key: &str) -> String {
    let header = |name: &str| received.headers[name].to_str().unwrap();
    let at = header("webhook-timestamp").parse().unwrap();
    let body = std::str::from_utf8(&received.body).unwrap();
    patchbay_webhooks::sign::sign([&key.into()], header("webhook-id"), at, body).standard
}

fn attempts(row: &Value) -> u64 {
    row["attempts"].as_u64().unwrap()
}

patchbay_store::both_backends! {
    async fn a_webhook_is_retried_for_days_then_dead_then_sent_by_hand(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.script_hook("main", vec![broken(500, None); 14]);
        server.import_key("c1", &json!({})).await;
        for (index, wait) in WAITS.iter().enumerate() {
            let count = index as u64 + 1;
            let row = server.delivery("was tried", |row| attempts(row) == count).await;
            assert_eq!((&row["status"], &row["last_status"]), (&json!("pending"), &json!(500)));
            assert_eq!(world.sample.received("main").len(), index + 1);
            // A tenth of jitter either way: nothing before nine tenths.
            world.clock.advance(Duration::from_millis(wait * 890));
            let row = server.delivery("waits", |row| attempts(row) == count).await;
            assert_eq!(row["status"], "pending");
            world.clock.advance(Duration::from_millis(wait * 220));
            world.webhook("main", index + 2).await;
        }
        let dead = server.delivery("is dead", |row| row["status"] == "dead").await;
        assert_eq!(attempts(&dead), 14);
        let listed = server.operator.json("deliveries list --status dead --env dev --json").await;
        assert_eq!(listed[0]["id"], dead["id"]);
        let shown = server.operator.json(&format!("deliveries show {} --json", dead["id"].as_str().unwrap())).await;
        assert_eq!(shown["attempts"].as_array().unwrap().len(), 14);
        let doctor = server.operator.run("doctor").await.1;
        assert!(doctor.contains("1 deliveries were given up"), "{doctor}");

        server.operator.ok(&format!("deliveries retry {}", dead["id"].as_str().unwrap())).await;
        let (received, body) = world.webhook("main", 15).await;
        assert_signed(&received, DEV_KEY);
        assert_eq!(body["connectionId"], "c1");
        let ids: std::collections::BTreeSet<_> =
            world.sample.received("main").iter().map(|one| one.headers["webhook-id"].to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 1, "every attempt has the delivery's id");
        server.delivery("was delivered", |row| row["status"] == "delivered").await;
        server.finish().await;
    }

    async fn the_first_retry_comes_after_seconds_and_retry_after_is_honoured(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.script_hook("main", [HookAnswer::Cut, broken(503, Some(7200))]);
        server.import_key("c1", &json!({})).await;
        server.delivery("was tried", |row| attempts(row) == 1).await;
        // Nothing else wakes the deliverer at this time.
        world.clock.advance(Duration::from_millis(3300));
        world.webhook("main", 2).await;
        let row = server.delivery("was tried twice", |row| attempts(row) == 2).await;
        let next: String = row["next_attempt_at"].as_str().unwrap().replace(' ', "T");
        world.clock.advance(Duration::from_secs(7100));
        assert_eq!(server.delivery("waits", |row| attempts(row) == 2).await["status"], "pending", "{next}");
        assert_eq!(world.sample.received("main").len(), 2);
        world.clock.advance(Duration::from_secs(101));
        world.webhook("main", 3).await;
        server.finish().await;
    }

    async fn gone_is_gone_and_all_the_dead_are_sent_again(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.script_hook("main", [broken(410, None), broken(410, None)]);
        server.import_key("c1", &json!({})).await;
        server.import_key("c2", &json!({})).await;
        until("two dead".to_owned(), async || {
            let dead = server.operator.json("deliveries list --status dead --json").await;
            (dead.as_array().unwrap().len() == 2).then_some(())
        })
        .await;
        assert!(server.operator.ok("deliveries retry --dead --env dev").await.starts_with("2 "));
        world.webhook("main", 4).await;
        server.finish().await;
    }

    async fn both_urls_get_everything_and_one_broken_does_not_stop_the_other(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let second = world.sample.url("/hooks/second");
        server.operator.ok(&format!("env set dev webhooks.secondary_url={second}")).await;
        // The command's change has arrived once a call sees it; imports read the environment fresh or cached.
        world.sample.script_hook("main", [broken(500, None)]);
        until("the second URL to be used".to_owned(), async || {
            server.import_key("c1", &json!({})).await;
            (!world.sample.received("second").is_empty()).then_some(())
        })
        .await;
        let (received, body) = world.webhook("second", 1).await;
        assert_signed(&received, DEV_KEY);
        assert_eq!(body["connectionId"], "c1");
        world.clock.advance(Duration::from_secs(10));
        server.finish().await;
    }

    async fn a_connections_own_url_replaces_both(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let own = world.sample.url("/hooks/own");
        server.import_key("c1", &json!({"webhook_url_override": own})).await;
        let (received, _) = world.webhook("own", 1).await;
        assert_signed(&received, DEV_KEY);
        let patch = "/connections/c1?provider_config_key=sample-api-key";
        server.api.patch(patch, &json!({"webhook_url_override": ""})).await.expect(200);
        server.import_key("c1", &json!({})).await;
        let (_, body) = world.webhook("main", 1).await;
        assert_eq!(body["operation"], "override");
        assert_eq!(world.sample.received("own").len(), 1);
        server.finish().await;
    }

    async fn switches_decide_what_is_told(db: TestDb) {
        let world = World::on(db).await;
        let hook = world.sample.url("/hooks/main");
        let file = |more: &str| format!("[environments.dev]\nwebhooks.primary_url = \"{hook}\"\n{more}");
        let quiet = "webhooks.on_auth_creation = false\nwebhooks.on_connection_deletion = false\n";
        let server = world.server().file(&file(quiet)).start().await;
        server.integrations().await;
        server.import_key("quiet", &json!({})).await;
        let gone = server.api.delete("/connections/quiet?provider_config_key=sample-api-key").await;
        gone.expect(200);
        server.finish().await;
        assert_eq!(world.sample.received("main").len(), 0);

        let loud = "webhooks.on_auth_creation = false\nwebhooks.on_connection_deletion = true\n";
        let server = world.server().file(&file(loud)).start().await;
        server.import_key("loud", &json!({})).await;
        server.api.delete("/connections/loud?provider_config_key=sample-api-key").await.expect(200);
        let (received, body) = world.webhook("main", 1).await;
        assert_signed(&received, DEV_KEY);
        assert_eq!((&body["operation"], &body["connectionId"]), (&json!("deletion"), &json!("loud")));
        server.finish().await;
    }

    async fn failed_refreshes_are_told_only_if_wanted(db: TestDb) {
        let world = World::on(db).await;
        let file = format!(
            "[environments.dev]\nwebhooks.primary_url = \"{}\"\nwebhooks.on_auth_refresh_error = false\n",
            world.sample.url("/hooks/main")
        );
        let server = world.server().file(&file).start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        world.webhook("main", 1).await;
        server.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        world.sample.fail_next(patchbay_sample::Grant::RefreshToken, [patchbay_sample::Failure::InvalidGrant]);
        server.connection("c1").await.fails(400, "invalid_credentials");
        world.clock.advance(Duration::from_secs(31));
        server.connection("c1").await.expect(200);
        server.finish().await;
        assert_eq!(world.sample.received("main").len(), 1);
    }

    async fn a_rotated_signing_key_signs_from_then_on(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let rotated = server.api.post("/environment/webhook-signing-key/rotate", &json!({})).await.expect(200);
        let key = rotated["data"]["webhook_signing_key"].as_str().unwrap();
        assert_ne!(key, DEV_KEY);
        server.import_key("c1", &json!({})).await;
        assert_signed(&world.webhook("main", 1).await.0, key);
        server.finish().await;
        // The configured API key is not put back over it by a restart.
        let server = world.server().start().await;
        server.import_key("c2", &json!({})).await;
        assert_signed(&world.webhook("main", 2).await.0, key);
        server.finish().await;
    }

    async fn the_old_signing_key_is_valid_for_a_day_or_until_the_operator_ends_it(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let path = "/environment/webhook-signing-key/rotate";
        let rotated = server.api.post(path, &json!({})).await.expect(200);
        let second = rotated["data"]["webhook_signing_key"].as_str().unwrap();
        server.import_key("c1", &json!({})).await;
        let received = world.webhook("main", 1).await.0;
        assert_signed(&received, second);
        assert_eq!(standard_signatures(&received), [standard(&received, second), standard(&received, DEV_KEY)]);
        let refused = server.api.post(path, &json!({})).await;
        refused.fails(409, "multiple_webhook_signing_keys");
        let said = server.operator.fails("env rotate-signing-key dev").await;
        assert!(said.contains("--now"), "{said}");

        world.clock.advance(Duration::from_hours(24));
        server.import_key("c2", &json!({})).await;
        let received = world.webhook("main", 2).await.0;
        assert_eq!(standard_signatures(&received), [standard(&received, second)]);
        server.api.post(path, &json!({})).await.expect(200);
        let ended = server.operator.json("env rotate-signing-key dev --now --json").await;
        assert_eq!(ended["previous_valid_until"], json!(null));
        let key = ended["signing_key"].as_str().unwrap().to_owned();
        // The command's change arrives by a notice.
        let mut count = 2;
        until("the new key to sign alone", async || {
            count += 1;
            server.import_key(&format!("c{count}"), &json!({})).await;
            let received = world.webhook("main", count).await.0;
            (standard_signatures(&received) == [standard(&received, &key)]).then_some(())
        })
        .await;
        server.finish().await;
    }

    async fn no_grace_is_no_grace(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().set("webhook_signing_key_grace", "0s").start().await;
        server.integrations().await;
        let path = "/environment/webhook-signing-key/rotate";
        server.api.post(path, &json!({})).await.expect(200);
        let rotated = server.api.post(path, &json!({})).await.expect(200);
        server.import_key("c1", &json!({})).await;
        let received = world.webhook("main", 1).await.0;
        let key = rotated["data"]["webhook_signing_key"].as_str().unwrap();
        assert_eq!(standard_signatures(&received), [standard(&received, key)]);
        server.finish().await;
    }

    async fn webhooks_left_behind_by_one_server_are_sent_by_the_next(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.script_hook("main", [broken(500, None)]);
        server.import_key("c1", &json!({})).await;
        server.delivery("was tried", |row| attempts(row) == 1).await;
        server.stop().await;
        world.clock.advance(Duration::from_secs(5));
        let server = world.server().start().await;
        assert_eq!(world.webhook("main", 2).await.1["connectionId"], "c1");
        server.finish().await;
    }

    async fn a_delivery_under_way_is_finished_by_an_orderly_stop(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.hold(Gate::Hook("main".to_owned()));
        server.import_key("c1", &json!({})).await;
        world.webhook("main", 1).await;
        let sample = world.sample.clone();
        let (stopped, ()) = tokio::join!(server.stop(), async move { sample.release(Gate::Hook("main".to_owned())) });
        let () = stopped;
        let server = world.server().start().await;
        server.delivery("was delivered once", |row| row["status"] == "delivered" && attempts(row) == 1).await;
        server.finish().await;
    }
}
