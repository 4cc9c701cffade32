//! Two servers on one Postgres: what one does, the other knows, and nothing is done twice.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use patchbay_sample::{Gate, Grant};
use patchbay_store::testing::TestDb;
use serde_json::json;

use crate::common::{TestServer, World, until};

async fn pair() -> (World, TestServer, TestServer) {
    let world = World::on(TestDb::postgres().await).await;
    let (one, two) = (world.server().start().await, world.server().start().await);
    one.integrations().await;
    (world, one, two)
}

mod each_webhook_is_sent_once {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let (world, one, two) = pair().await;
        let made = (0..30).map(|index| {
            let server = if index % 2 == 0 { &one } else { &two };
            async move { server.import_key(&format!("c{index}"), &json!({})).await }
        });
        join_all(made).await;
        world.webhook("main", 30).await;
        one.finish().await;
        two.finish().await;
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for received in world.sample.received("main") {
            *seen
                .entry(received.headers["webhook-id"].to_str().unwrap().to_owned())
                .or_default() += 1;
        }
        assert_eq!(seen.len(), 30);
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    }
}

mod a_definition_set_on_one_node_is_used_by_the_other_and_after_a_restart {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let (world, one, two) = pair().await;
        let key = one.operator.json("keys create --account --json").await;
        let admin = one.api.with_key(key["api_key"].as_str().unwrap());
        let definition = json!({
            "display_name": "Acme Robots", "auth_mode": "NONE", "docs": "https://docs.acme.example",
            "categories": ["other"], "proxy": {"base_url": "https://api.acme.example"}
        });
        let put = admin.request("PUT", "/provider-overrides/acme-robots");
        put.json(&definition).send().await.expect(200);
        one.api.get("/providers/acme-robots").await.expect(200);
        until("the other node to know the provider", async || {
            (two.api.get("/providers/acme-robots").await.status == 200).then_some(())
        })
        .await;
        one.finish().await;
        two.finish().await;
        let again = world.server().start().await;
        again.api.get("/providers/acme-robots").await.expect(200);
        again.finish().await;
    }
}

mod a_change_on_one_node_is_seen_on_the_other {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let (_world, one, two) = pair().await;
        one.import("c1", &json!({"tags": {"step": "0"}})).await;
        for step in 1..10 {
            // Both hold it in their caches.
            one.connection("c1").await.expect(200);
            two.connection("c1").await.expect(200);
            let (writer, reader) = if step % 2 == 0 { (&one, &two) } else { (&two, &one) };
            let tags = json!({"step": step.to_string()});
            let path = "/connections/c1?provider_config_key=sample-oauth";
            writer.api.patch(path, &json!({"tags": tags})).await.expect(200);
            assert_eq!(
                writer.connection("c1").await.expect(200)["tags"],
                tags,
                "who answered has it"
            );
            until("the other node to see it", async || {
                (reader.connection("c1").await.expect(200)["tags"] == tags).then_some(())
            })
            .await;
        }
        one.api
            .delete("/connections/c1?provider_config_key=sample-oauth")
            .await
            .expect(200);
        until("the deletion to be seen", async || {
            (two.connection("c1").await.status == 404).then_some(())
        })
        .await;
        let key = one.operator.json("keys create --env dev --json").await;
        let other = two.api.with_key(key["api_key"].as_str().unwrap());
        assert_eq!(other.get("/connections").await.status, 200);
        one.operator.ok(&format!("keys revoke {}", key["id"])).await;
        until("the key to be refused", async || {
            (other.get("/connections").await.status == 401).then_some(())
        })
        .await;
        one.finish().await;
        two.finish().await;
    }
}

mod one_refresh_for_all_readers_of_both {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let (world, one, two) = pair().await;
        one.import("c1", &json!({})).await;
        let before = one.token("c1").await;
        assert_eq!(two.token("c1").await, before);
        one.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        // Held until everybody has asked.
        world.sample.hold(Gate::TokenRequest(Grant::RefreshToken));
        let readers = join_all((0..40).map(|index| {
            let server = if index % 2 == 0 { &one } else { &two };
            server.token("c1")
        }));
        let sample = world.sample.clone();
        let release = async {
            sample.wait_for(|counts| counts.token_refresh >= 1).await;
            sample.release(Gate::TokenRequest(Grant::RefreshToken));
        };
        let (tokens, ()) = tokio::join!(readers, release);
        assert!(
            tokens.iter().all(|token| *token == tokens[0] && *token != before),
            "{tokens:?}"
        );
        assert_eq!(world.sample.counts().token_refresh, 1);
        one.finish().await;
        two.finish().await;
    }
}

mod both_share_an_accounts_allowance {
    use super::*;

    const LIMIT: u64 = 400;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let limited = || world.server().set("rate_limit_per_min", LIMIT.to_string());
        let (one, two) = (limited().start().await, limited().start().await);
        for _window in 0..2 {
            let ends = (world.now() + Duration::from_mins(1)).as_second().to_string();
            let before = one.writes() + two.writes();
            let mut passed = [0, 0];
            let mut refused = [false, false];
            // Unevenly: the second node asks three times as often until it is refused.
            for server in [1, 0, 1, 1].into_iter().cycle() {
                if refused == [true, true] {
                    break;
                }
                if refused[server] {
                    continue;
                }
                let answer = [&one, &two][server].api.get("/providers/sample-oauth").await;
                if answer.status == 200 {
                    passed[server] += 1;
                } else {
                    answer.fails(429, "too_many_request");
                    assert_eq!(answer.header("retry-after"), "60");
                    refused[server] = true;
                }
                assert_eq!(answer.header("x-ratelimit-limit"), LIMIT.to_string());
                assert_eq!(answer.header("x-ratelimit-reset"), ends);
            }
            assert_eq!(
                passed[0] + passed[1],
                LIMIT,
                "the limit is that of both: {passed:?}"
            );
            assert!(passed[0] > 50 && passed[1] > 50, "{passed:?}");
            let writes = one.writes() + two.writes() - before;
            assert!(writes < LIMIT / 3, "{writes} transactions for {LIMIT} requests");
            world.clock.advance(Duration::from_mins(1));
        }
        one.finish().await;
        two.finish().await;
    }
}

mod a_popup_begun_on_one_node_ends_on_the_other {
    use super::*;
    use futures_util::StreamExt as _;
    use tokio_tungstenite::tungstenite::Message;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let (_world, one, two) = pair().await;
        let url = format!("ws://127.0.0.1:{}/", one.port());
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut frame = async || {
            loop {
                if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
                    return serde_json::from_str::<serde_json::Value>(&text).unwrap();
                }
            }
        };
        let id = frame().await["ws_client_id"].as_str().unwrap().to_owned();
        let session = one.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        two.authorize(&format!("{session}&ws_client_id={id}"), "sample-oauth")
            .await;
        let told = frame().await;
        assert_eq!(told["message_type"], "success", "{told}");
        drop(socket);
        one.finish().await;
        two.finish().await;
    }
}

mod polling_is_enough_behind_a_transaction_pooler {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let one = world.server().set("database_pooler", "transaction").start().await;
        let two = world
            .server()
            .set("database_pooler", "transaction")
            .set("database_max_connections", "2")
            .start()
            .await;
        one.integrations().await;
        one.import("c1", &json!({})).await;
        two.connection("c1").await.expect(200);
        let path = "/connections/c1?provider_config_key=sample-oauth";
        one.api
            .patch(path, &json!({"tags": {"a": "b"}}))
            .await
            .expect(200);
        until("the other node to see it", async || {
            (two.connection("c1").await.expect(200)["tags"] == json!({"a": "b"})).then_some(())
        })
        .await;
        one.finish().await;
        two.finish().await;
    }
}
