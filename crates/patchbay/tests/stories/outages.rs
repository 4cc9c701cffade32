//! The database goes away, fills up or turns read-only: what can be answered is, nothing acknowledged is lost, and it
//! all goes on by itself afterwards.

use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::time::Duration;

use patchbay_store::Store;
use patchbay_store::db::DbError;
use patchbay_store::testing::TestDb;
use serde_json::json;
use url::Url;

use crate::common::chaos::{ChaosProxy, Upstream};
use crate::common::{TestServer, World, until};

/// The proxied database: its URL goes through the proxy.
async fn through_proxy(url: &str) -> (ChaosProxy, String) {
    let parsed: Url = url.parse().unwrap();
    let host = percent_encoding::percent_decode_str(parsed.host_str().unwrap())
        .decode_utf8()
        .unwrap()
        .into_owned();
    let port = parsed.port().unwrap_or(5432);
    let upstream = if host.starts_with('/') {
        Upstream::Unix(PathBuf::from(host).join(format!(".s.PGSQL.{port}")))
    } else {
        Upstream::Tcp((host.as_str(), port).to_socket_addrs().unwrap().next().unwrap())
    };
    let proxy = ChaosProxy::to(upstream).await;
    let (before, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let user = authority
        .rsplit_once('@')
        .map_or(String::new(), |(user, _)| format!("{user}@"));
    let through = format!("{before}://{user}{}/{path}", proxy.address);
    (proxy, through)
}

mod nobody_is_refused_while_nobody_can_count {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let (proxy, url) = through_proxy(world.db.url()).await;
        let limited = world
            .server()
            .set("database_url", &url)
            .set("rate_limit_per_min", "2");
        let server = limited.start().await;
        let ask = async || server.api.get("/providers/sample-oauth").await.status;
        assert_eq!((ask().await, ask().await, ask().await), (200, 200, 429));
        proxy.cut();
        until("/ready to say so", async || {
            (server.api.ready().await == 503).then_some(())
        })
        .await;
        assert_eq!(
            ask().await,
            429,
            "what is known of the window is known without the database"
        );
        world.clock.advance(Duration::from_mins(1));
        for _ in 0..4 {
            assert_eq!(ask().await, 200);
        }
        proxy.mend();
        until("/ready to say so", async || {
            (server.api.ready().await == 200).then_some(())
        })
        .await;
        world.clock.advance(Duration::from_secs(1));
        assert_eq!((ask().await, ask().await, ask().await), (200, 200, 429));
        server.finish().await;
    }
}

/// Imports until it is answered 503, then everything acknowledged so far.
async fn import_until_refused(server: &TestServer) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for index in 0..10_000 {
        let id = format!("filler-{index}");
        let body = json!({
            "provider_config_key": "sample-api-key", "connection_id": id,
            "credentials": {"type": "API_KEY", "apiKey": patchbay_sample::API_KEY},
            "metadata": {"filler": "x".repeat(20_000)},
        });
        let answer = server.api.post("/connections", &body).await;
        match answer.status {
            201 => acknowledged.push(id),
            503 => {
                answer.fails(503, "service_unavailable");
                assert!(!answer.header("retry-after").is_empty());
                return acknowledged;
            }
            _ => panic!("{}: {}", answer.status, answer.text),
        }
    }
    panic!("the disk never fills");
}

async fn all_there(server: &TestServer, acknowledged: &[String]) {
    let listed = server.api.get("/connections?limit=2000").await.expect(200);
    let there: Vec<_> = listed["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["connection_id"].as_str().unwrap())
        .collect();
    for id in acknowledged {
        assert!(there.contains(&id.as_str()), "{id} was acknowledged and is gone");
    }
}

async fn execute(store: &Store, sql: &'static str) {
    let done = store
        .write(move |tx| Box::pin(async move { tx.query(sql, &[]).await.map(|_| ()) }))
        .await;
    done.unwrap_or_else(|error: DbError| panic!("{sql}: {error}"));
}

mod a_database_that_goes_away_and_comes_back {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let (proxy, url) = through_proxy(world.db.url()).await;
        let server = world.server().set("database_url", &url).start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let token = server.token("c1").await;
        assert_eq!(server.api.ready().await, 200);

        proxy.cut();
        until("/ready to say so", async || {
            (server.api.ready().await == 503).then_some(())
        })
        .await;
        let said = server.api.anonymous().get("/ready").await;
        assert_eq!(said.expect(503), json!({"result": "not ready"}));
        assert_eq!(
            server.api.anonymous().get("/health").await.status,
            200,
            "the process lives"
        );
        let written = server
            .api
            .patch(
                "/connections/c1?provider_config_key=sample-oauth",
                &json!({"tags": {"a": "b"}}),
            )
            .await;
        written.fails(503, "service_unavailable");
        assert!(!written.header("retry-after").is_empty());
        let read = server.api.get("/connections").await;
        read.fails(503, "service_unavailable");
        let unknown = server
            .api
            .with_key("00000000-0000-4000-8000-000000000000")
            .get("/connections")
            .await;
        assert_eq!(
            unknown.status, 503,
            "a key that cannot be looked up is not a wrong key: {}",
            unknown.text
        );
        assert_eq!(server.api.anonymous().get("/openapi.json").await.status, 200);

        proxy.mend();
        until("/ready to say so", async || {
            (server.api.ready().await == 200).then_some(())
        })
        .await;
        assert_eq!(server.token("c1").await, token);
        server
            .api
            .patch(
                "/connections/c1?provider_config_key=sample-oauth",
                &json!({"tags": {"a": "b"}}),
            )
            .await
            .expect(200);
        // Claims made before the cut end.
        world.clock.advance(Duration::from_mins(1));
        server.finish().await;
    }
}

mod a_token_refreshed_while_the_database_is_away_is_not_lost {
    use super::*;
    use patchbay_sample::{Gate, Grant};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let (proxy, url) = through_proxy(world.db.url()).await;
        let server = world.server().set("database_url", &url).start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let before = server.token("c1").await;
        server.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        // The provider has issued new tokens, the old refresh token is spent, and the answer is on its way.
        world.sample.hold(Gate::TokenAnswer(Grant::RefreshToken));
        let asking = server.connection("c1");
        let meddling = async {
            world.sample.wait_for(|counts| counts.token_refresh == 1).await;
            proxy.cut();
            world.sample.release(Gate::TokenAnswer(Grant::RefreshToken));
            until("/ready to say so", async || {
                (server.api.ready().await == 503).then_some(())
            })
            .await;
            proxy.mend();
        };
        let (_, ()) = tokio::join!(asking, meddling);
        let after = until("the new token", async || {
            world.clock.advance(Duration::from_millis(100));
            let found = server.connection("c1").await;
            (found.status == 200).then(|| {
                found.json()["credentials"]["access_token"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
        })
        .await;
        assert_ne!(after, before);
        assert_eq!(server.proxied("c1", "/whoami").await.status, 200);
        // Claims made before the cut end.
        world.clock.advance(Duration::from_mins(1));
        server.finish().await;
    }
}

mod a_start_without_a_database_says_so {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let (proxy, url) = through_proxy(world.db.url()).await;
        proxy.cut();
        let error = world
            .server()
            .set("database_url", &url)
            .try_start()
            .await
            .err()
            .expect("nobody answers");
        let words = format!("{error:#}");
        assert!(
            words.contains("unavailable") || words.contains("connect"),
            "{words}"
        );
    }
}

mod a_disk_that_is_full {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        let world = World::on(TestDb::sqlite().await).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let token = server.token("c1").await;
        let store = server.running().context.store.clone();
        // A few more pages than there are now: what a full disk says, without filling one.
        execute(&store, "PRAGMA max_page_count = 400").await;
        let acknowledged = import_until_refused(&server).await;
        assert!(!acknowledged.is_empty());
        all_there(&server, &acknowledged).await;
        assert_eq!(server.token("c1").await, token, "reads go on");
        assert_eq!(server.proxied("c1", "/whoami").await.status, 200);

        execute(&store, "PRAGMA max_page_count = 1073741823").await;
        let after = server.import_key("after", &json!({})).await;
        assert_eq!(after["connection_id"], "after");
        all_there(&server, &acknowledged).await;
        until("every webhook", async || {
            world.clock.advance(Duration::from_secs(1));
            (world.sample.received("main").len() >= acknowledged.len() + 2).then_some(())
        })
        .await;
        world.clock.advance(Duration::from_mins(2));
        server.finish().await;
        let server = world.server().start().await;
        all_there(&server, &acknowledged).await;
        server.finish().await;
    }
}

mod a_database_that_turns_read_only {
    use super::*;

    /// What is the same on both: writes are refused as ours, reads go on.
    async fn refused(server: &TestServer) {
        let body = json!({"tags": {"a": "b"}});
        let path = "/connections/c1?provider_config_key=sample-oauth";
        server
            .api
            .patch(path, &body)
            .await
            .fails(503, "service_unavailable");
        server
            .api
            .post("/connect/sessions", &json!({"tags": {}}))
            .await
            .fails(503, "service_unavailable");
        server.connection("c1").await.expect(200);
        assert_eq!(
            server.api.get("/connections").await.expect(200)["connections"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        let world = World::on(TestDb::sqlite().await).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        world.webhook("main", 1).await;
        server
            .delivery("was delivered", |row| row["status"] == "delivered")
            .await;
        execute(&server.running().context.store, "PRAGMA query_only = on").await;
        refused(&server).await;
        server.stop().await;
        let server = world.server().start().await;
        server
            .api
            .patch(
                "/connections/c1?provider_config_key=sample-oauth",
                &json!({"tags": {}}),
            )
            .await
            .expect(200);
        server.finish().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let world = World::on(TestDb::postgres().await).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        world.webhook("main", 1).await;
        server
            .delivery("was delivered", |row| row["status"] == "delivered")
            .await;
        let store = world.db.store().await;
        // As a failover to a replica does: read-only, and every connection ended.
        let switch = async |on: &str| {
            let sql = format!(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {on}', current_database()); END $$"
            );
            let done = store
                .write(move |tx| {
                    Box::pin(async move {
                        // The pool may give a connection made since the database turned read-only.
                        tx.query("SET TRANSACTION READ WRITE", &[]).await?;
                        tx.query(&sql, &[]).await.map(|_| ())
                    })
                })
                .await;
            done.unwrap_or_else(|error: DbError| panic!("{error}"));
            execute(&store, "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
        };
        switch("on").await;
        refused(&server).await;
        switch("off").await;
        until("writes to be taken", async || {
            let path = "/connections/c1?provider_config_key=sample-oauth";
            let written = server.api.patch(path, &json!({"tags": {"a": "b"}})).await;
            (written.status == 200).then_some(())
        })
        .await;
        store.close().await;
        server.finish().await;
    }
}
