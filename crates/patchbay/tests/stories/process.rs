//! The binary itself: signals, log lines, traces, and the commands that run for long.

use std::collections::BTreeMap;

use patchbay_ambient::Ambient;
use patchbay_sample::{Gate, HookAnswer};
use patchbay_store::testing::{TEST_KEY, TestDb};
use serde_json::{Value, json};

use crate::common::collector::collector;
use crate::common::process::Process;
use crate::common::{Client, DEV_KEY, World, until};

/// The variables under which a process serves this world, in real time.
pub(crate) fn variables<'a>(world: &World) -> BTreeMap<&'a str, String> {
    BTreeMap::from([
        ("PATCHBAY_LISTEN", "127.0.0.1:0".to_owned()),
        ("PATCHBAY_DATABASE_URL", world.db.url().to_owned()),
        ("PATCHBAY_DATA_DIR", world.path("process").display().to_string()),
        ("PATCHBAY_ENCRYPTION_KEY", data_encoding::BASE64.encode(&TEST_KEY)),
        ("PATCHBAY_CATALOG", world.catalogue().display().to_string()),
        ("PATCHBAY_ALLOW_PRIVATE_NETWORKS", "127.0.0.0/8".to_owned()),
        ("PATCHBAY_API_KEY_DEV", DEV_KEY.to_owned()),
    ])
}

/// Makes the integration and the connection `c1` in a server of the test's own.
async fn prepared(db: TestDb) -> World {
    let world = World::on(db).await;
    let server = world.server().start().await;
    server.integrations().await;
    let body = json!({
        "provider_config_key": "sample-oauth", "connection_id": "c1",
        "credentials": {"type": "OAUTH2", "access_token": "planted-access"},
    });
    server.api.post("/connections", &body).await.expect(201);
    server.finish().await;
    world
}

/// A proxied request that the provider holds.
async fn held(world: &World, api: &Client) -> tokio::task::JoinHandle<u16> {
    let before = world.sample.counts().probe;
    let request = api
        .request("GET", "/proxy/slow")
        .header("connection-id", "c1")
        .header("provider-config-key", "sample-oauth");
    let asking = Ambient::system()
        .tasks
        .spawn(async move { request.try_send().await.map_or(0, |answer| answer.status) });
    world.sample.wait_for(|counts| counts.probe > before).await;
    asking
}

patchbay_store::both_backends! {
    async fn sigterm_lets_a_slow_request_end_and_takes_no_more(db: TestDb) {
        let world = prepared(db).await;
        let mut serve = Process::start(&["serve"], &variables(&world), world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        let slow = held(&world, &api).await;
        serve.signal("TERM");
        serve.says("stopping").await;
        until("the listener to close", async || (api.ready().await == 0).then_some(())).await;
        assert!(!slow.is_finished());
        world.sample.release(Gate::Slow);
        assert_eq!(slow.await.unwrap(), 200);
        assert_eq!(serve.ended().await.code(), Some(0), "{}", serve.stderr());
        assert!(!serve.stderr().contains("planted-"), "{}", serve.stderr());
    }

    async fn a_second_signal_ends_at_once(db: TestDb) {
        let world = prepared(db).await;
        let mut serve = Process::start(&["serve", "--shutdown-grace", "1h"], &variables(&world), world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        let slow = held(&world, &api).await;
        serve.signal("TERM");
        serve.says("stopping").await;
        serve.signal("TERM");
        assert_eq!(serve.ended().await.code(), Some(0), "{}", serve.stderr());
        assert_eq!(slow.await.unwrap(), 0);
        // Nothing is left locked or half-written.
        let server = world.server().start().await;
        server.api.get("/connections/c1?provider_config_key=sample-oauth").await.expect(200);
        server.finish().await;
    }

    async fn the_grace_is_bounded(db: TestDb) {
        let world = prepared(db).await;
        let mut serve = Process::start(&["serve", "--shutdown-grace", "100ms"], &variables(&world), world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        let slow = held(&world, &api).await;
        serve.signal("TERM");
        assert_eq!(serve.ended().await.code(), Some(0), "{}", serve.stderr());
        assert_eq!(slow.await.unwrap(), 0);
    }

    async fn balancers_are_told_before_the_listener_closes(db: TestDb) {
        let world = prepared(db).await;
        let mut serve = Process::start(&["serve", "--shutdown-delay", "1h"], &variables(&world), world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        assert_eq!(api.ready().await, 200);
        serve.signal("TERM");
        until("/ready to say so", async || (api.ready().await == 503).then_some(())).await;
        assert_eq!(api.get("/connections").await.status, 200, "still served meanwhile");
        serve.signal("TERM");
        assert_eq!(serve.ended().await.code(), Some(0));
    }

    async fn lines_are_json_and_hold_no_secret(db: TestDb) {
        let world = prepared(db).await;
        let mut variables = variables(&world);
        variables.insert("PATCHBAY_LOG_FORMAT", "json".to_owned());
        variables.insert("PATCHBAY_LOG", "info,patchbay::http=debug".to_owned());
        variables.insert("PATCHBAY_LOGG", "x".to_owned());
        let mut serve = Process::start(&["serve"], &variables, world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        api.get("/connections/c1?provider_config_key=sample-oauth").await.expect(200);
        api.anonymous().get("/oauth/callback?state=planted-state&code=planted-code").await;
        serve.says("/oauth/callback").await;
        serve.signal("TERM");
        assert_eq!(serve.ended().await.code(), Some(0));
        serve.says("stopping").await;
        let text = serve.stderr();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
        let request = lines.iter().find(|line| line["span"]["path"].as_str().is_some_and(|path| path.starts_with("/connections/c1")));
        let request = request.unwrap_or_else(|| panic!("{text}"));
        assert_eq!((&request["status"], &request["target"]), (&json!(200), &json!("patchbay::http")));
        assert_eq!(request["level"], "DEBUG");
        assert!(lines.iter().any(|line| line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("PATCHBAY_LOGG"))), "{text}");
        assert!(!text.contains("planted-") && !text.contains(DEV_KEY), "{text}");
    }

    async fn traces_reach_a_collector(db: TestDb) {
        let world = prepared(db).await;
        let (collector, mut received) = collector().await;
        let mut variables = variables(&world);
        variables.insert("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        variables.insert("OTEL_SERVICE_NAME", "our-patchbay".to_owned());
        variables.insert("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token".to_owned());
        let mut serve = Process::start(&["serve"], &variables, world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let request = api.request("GET", "/connections/c1?provider_config_key=sample-oauth");
        request.header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")).send().await.expect(200);
        serve.signal("TERM");
        assert_eq!(serve.ended().await.code(), Some(0), "what is queued leaves before the end");
        let mut all = Vec::new();
        while let Ok(post) = received.try_recv() {
            all.extend(post);
        }
        let contains = |needle: &[u8]| all.windows(needle.len()).any(|window| window == needle);
        assert!(contains(&data_encoding::HEXLOWER.decode(trace.as_bytes()).unwrap()), "the caller's trace is continued");
        for text in ["POST /v1/traces", "our-patchbay", "http.response.status_code", "Bearer token"] {
            assert!(contains(text.as_bytes()), "{text}: {}", serve.stderr());
        }
        assert!(!contains(b"planted-") && !contains(DEV_KEY.as_bytes()));
    }

    async fn a_worker_delivers_without_a_listener(db: TestDb) {
        let world = World::on(db).await;
        world.clock.set(Ambient::system().now());
        let server = world.server().start().await;
        server.integrations().await;
        world.sample.script_hook("main", [HookAnswer::Status { status: 500, retry_after: None }]);
        server.import_key("c1", &json!({})).await;
        server.delivery("was tried", |row| row["attempts"] == 1).await;
        server.stop().await;
        let mut worker = Process::start(&["worker"], &variables(&world), world.folder.path());
        world.webhook("main", 2).await;
        assert!(!worker.stdout().contains("API "), "{}", worker.stdout());
        worker.signal("TERM");
        assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.stderr());
    }

    async fn logs_are_followed_while_the_server_runs(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let mut follow = Process::start(&["logs", "--follow", "--env", "dev", "--json"], &variables(&world), world.folder.path());
        server.import_key("c1", &json!({})).await;
        let session = server.session(&json!({"tags": {}})).await;
        server.authorize(&session, "sample-oauth").await;
        until("the operation to be printed", async || follow.stdout().contains("\"type\":\"auth\"").then_some(())).await;
        follow.signal("INT");
        follow.ended().await;
        server.finish().await;
    }
}

/// Files of the process may grow no further, which is what a full disk is to it: a real write fails half-way.
#[cfg(target_os = "linux")]
mod a_disk_that_is_really_full {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        let world = prepared(TestDb::sqlite().await).await;
        let binary = env!("CARGO_BIN_EXE_patchbay");
        let script = format!("trap '' XFSZ; ulimit -S -f 4000; exec {binary} serve");
        let mut serve = Process::run("sh", &["-c", &script], &variables(&world), world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        let mut acknowledged = Vec::new();
        let make = async |index: usize| {
            let body = json!({
                "provider_config_key": "sample-oauth", "connection_id": format!("filler-{index}"),
                "credentials": {"type": "OAUTH2", "access_token": "planted-access"},
                "metadata": {"filler": "x".repeat(20_000)},
            });
            api.post("/connections", &body).await
        };
        for index in 0..10_000 {
            let answer = make(index).await;
            if answer.status == 201 {
                acknowledged.push(format!("filler-{index}"));
                continue;
            }
            answer.fails(503, "service_unavailable");
            break;
        }
        assert!(acknowledged.len() > 10, "{}", acknowledged.len());
        assert_eq!(make(20_000).await.status, 503);
        api.get("/connections/c1?provider_config_key=sample-oauth")
            .await
            .expect(200);

        let id = serve.id().to_string();
        let raised = std::process::Command::new("prlimit")
            .args(["--fsize=unlimited:", "--pid", &id])
            .status();
        assert!(raised.unwrap().success());
        until("a write to be taken", async || {
            (make(30_000).await.status == 201).then_some(())
        })
        .await;
        serve.signal("KILL");
        serve.ended().await;

        let mut serve = Process::start(&["serve"], &variables(&world), world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        let listed = api.get("/connections?limit=2000").await.expect(200);
        let there: Vec<_> = listed["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["connection_id"].as_str().unwrap())
            .collect();
        for id in acknowledged
            .iter()
            .map(String::as_str)
            .chain(["filler-30000", "c1"])
        {
            assert!(there.contains(&id), "{id} was acknowledged and is gone");
        }
        assert!(!there.contains(&"filler-20000"), "what was refused is not there");
        serve.signal("TERM");
        assert_eq!(serve.ended().await.code(), Some(0));
    }
}

/// Offline, with nothing but the binary: the guided page answers, and so does the provider behind it.
#[tokio::test]
async fn the_demonstration_starts_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Process::start(
        &["demo", "--listen", "127.0.0.1:0"],
        &BTreeMap::new(),
        folder.path(),
    );
    let url = until("the page's address", async || {
        let text = demo.stdout();
        let (_, rest) = text.split_once("Open ")?;
        text.contains("Data ").then(|| {
            rest.split_whitespace()
                .next()
                .unwrap()
                .replace("localhost", "127.0.0.1")
        })
    })
    .await;
    let page = Client::anonymous_at(url.trim_end_matches('/'))
        .request("GET", "/")
        .header("accept", "text/html")
        .send()
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(folder.path().join("patchbay-data/demo/patchbay.db").exists());
    demo.signal("TERM");
    assert_eq!(demo.ended().await.code(), Some(0), "{}", demo.stderr());
}
