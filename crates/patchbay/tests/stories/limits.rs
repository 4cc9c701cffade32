//! Rate limits, and who counts as the caller.

use std::time::Duration;

use serde_json::json;

use crate::common::{Answer, World};

fn number(answer: &Answer, header: &str) -> i64 {
    answer
        .header(header)
        .parse()
        .unwrap_or_else(|_| panic!("{header}: {:?}", answer.headers))
}

patchbay_store::both_backends! {
    async fn the_fourth_call_of_a_minute_waits_for_the_next(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().set("rate_limit_per_min", "3").start().await;
        let began = world.now().as_second();
        for left in [2, 1, 0] {
            let answer = server.api.get("/connections").await;
            assert_eq!(answer.status, 200);
            assert_eq!(number(&answer, "x-ratelimit-limit"), 3);
            assert_eq!(number(&answer, "x-ratelimit-remaining"), left);
            assert_eq!(number(&answer, "x-ratelimit-reset"), began + 60);
        }
        let refused = server.api.get("/connections?limit=1").await;
        let error = refused.fails(429, "too_many_request");
        assert_eq!((&error["method"], &error["path"]), (&json!("GET"), &json!("/connections")));
        assert_eq!(number(&refused, "retry-after"), 60);
        assert_eq!(number(&refused, "x-ratelimit-remaining"), 0);
        world.clock.advance(Duration::from_secs(40));
        assert_eq!(number(&server.api.get("/connections").await, "retry-after"), 20);
        for free in ["/health", "/ready", "/metrics"] {
            assert_eq!(server.api.get(free).await.status, 200, "{free}");
        }
        world.clock.advance(Duration::from_secs(20));
        let again = server.api.get("/connections").await;
        assert_eq!((again.status, number(&again, "x-ratelimit-remaining")), (200, 2));
        server.finish().await;
    }

    async fn forwarded_addresses_count_from_trusted_proxies_only(db: TestDb) {
        let world = World::on(db).await;
        let from = async |server: &crate::common::TestServer, address: &str| {
            let request = server.api.anonymous().request("GET", "/providers.json");
            request.header("x-forwarded-for", address).send().await.status
        };
        let server = world.server().set("rate_limit_per_min", "2").start().await;
        assert_eq!(from(&server, "203.0.113.1").await, 200);
        assert_eq!(from(&server, "203.0.113.2").await, 200);
        assert_eq!(from(&server, "203.0.113.3").await, 429, "anyone can write the header");
        server.finish().await;

        let starting = world.server().set("rate_limit_per_min", "2").set("trusted_proxies", "127.0.0.0/8");
        let server = starting.start().await;
        for _ in 0..2 {
            assert_eq!(from(&server, "203.0.113.1").await, 200);
            assert_eq!(from(&server, "198.51.100.7, 203.0.113.2").await, 200);
        }
        assert_eq!(from(&server, "203.0.113.1").await, 429);
        assert_eq!(from(&server, "1.2.3.4, 203.0.113.2").await, 429, "the nearest untrusted hop counts");
        assert_eq!(from(&server, "203.0.113.3").await, 200);
        server.finish().await;
    }

    async fn one_popup_too_many_is_refused_until_another_ends(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().set("websocket_limit", "2").start().await;
        let open = async || {
            let url = format!("ws://127.0.0.1:{}/", server.port());
            tokio_tungstenite::connect_async(url).await
        };
        let (one, _two) = (open().await.unwrap().0, open().await.unwrap().0);
        let Err(tokio_tungstenite::tungstenite::Error::Http(refused)) = open().await else {
            panic!("a third was let in");
        };
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "10");
        let body = String::from_utf8(refused.body().clone().unwrap()).unwrap();
        assert!(body.contains("service_unavailable") && body.contains("websocket_limit"), "{body}");
        let metrics = server.api.anonymous().get("/metrics").await.text;
        assert!(metrics.contains("\npatchbay_websockets "), "{metrics}");
        drop(one);
        crate::common::until("its place to be free", async || open().await.ok()).await;
        server.finish().await;
    }

    async fn no_limit_is_no_header(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().set("rate_limit_per_min", "0").start().await;
        let answer = server.api.get("/connections").await;
        assert_eq!((answer.status, answer.header("x-ratelimit-limit")), (200, ""));
        server.finish().await;
    }
}
