//! Each setting's effect on a server.

use std::time::Duration;

use patchbay_sample::HookAnswer;
use patchbay_store::testing::TEST_KEY;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::common::{Client, DEV_KEY, World, assert_signed, bytes_of, run_line, until};

const OTHER_KEY: &str = "7c1d1a52-3a0b-4f1e-8d57-6a1b9c0f2e11";

patchbay_store::both_backends! {
    async fn a_key_from_the_environment_opens_and_signs(db: TestDb) {
        let world = World::on(db).await;
        let starting = world.server().unset("api_key").variable("PATCHBAY_API_KEY_DEV", DEV_KEY);
        let server = starting.variable("PATCHBAY_API_KEY_STAGING", OTHER_KEY).start().await;
        assert_eq!(server.api.get("/connections").await.status, 200);
        let staging = server.api.with_key(OTHER_KEY);
        assert_eq!(staging.get("/connections").await.status, 200);
        server.integrations().await;
        server.import_key("c1", &json!({})).await;
        assert_signed(&world.webhook("main", 1).await.0, DEV_KEY);
        assert!(server.operator.ok("env list").await.contains("staging"));
        server.finish().await;
        // Without the variable the key stays: it was provisioned, not lent.
        let server = world.server().start().await;
        assert_eq!(server.api.with_key(OTHER_KEY).get("/connections").await.status, 200);
        server.finish().await;
    }

    async fn private_networks_are_closed_unless_opened(db: TestDb) {
        let world = World::on(db).await;
        let closed = world.server().unset("allow_private_networks").start().await;
        closed.integrations().await;
        let body = json!({
            "provider_config_key": "sample-oauth", "connection_id": "c1",
            "credentials": {"type": "OAUTH2", "access_token": "a"},
        });
        closed.api.post("/connections", &body).await.expect(201);
        let proxied = closed.proxied("c1", "/echo").await;
        proxied.fails(400, "base_url_override_not_allowed");
        let dead = closed.delivery("was given up", |row| row["status"] == "dead").await;
        assert!(dead["last_error"].is_string(), "{dead}");
        closed.finish().await;
        assert_eq!(world.sample.counts().probe + world.sample.counts().hooks, 0, "nothing was reached");

        let open = world.server().set("allow_private_networks", "true").start().await;
        open.proxied("c1", "/echo").await.expect(200);
        let metadata = open.api.request("GET", "/proxy/latest/meta-data").header("connection-id", "c1");
        let metadata = metadata.header("provider-config-key", "sample-oauth");
        let answer = metadata.header("base-url-override", "http://169.254.169.254").send().await;
        answer.fails(400, "base_url_override_not_allowed");
        open.finish().await;

        let elsewhere = world.server().set("allow_private_networks", "10.0.0.0/8").start().await;
        elsewhere.proxied("c1", "/echo").await.fails(400, "base_url_override_not_allowed");
        elsewhere.finish().await;
    }

    async fn bodies_beyond_the_limit_are_refused_and_proxied_ones_stream(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().set("body_limit", "4kb").start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let fits = json!({"tags": {}, "padding": "x".repeat(3000)});
        assert_eq!(server.api.post("/connect/sessions", &fits).await.status, 400, "read, and its field unknown");
        let large = json!({"tags": {}, "padding": "x".repeat(5000)});
        assert_eq!(server.api.post("/connect/sessions", &large).await.status, 413);
        let upload = server.api.request("POST", "/proxy/upload").header("connection-id", "c1");
        let upload = upload.header("provider-config-key", "sample-oauth").body("text/plain", vec![b'x'; 1 << 20]);
        assert_eq!(upload.send().await.expect(200)["length"], 1 << 20);
        server.finish().await;
    }

    async fn waits_and_patience_of_webhooks_are_configured(db: TestDb) {
        let world = World::on(db).await;
        let mut starting = world.server().set("webhook_timeout", "100ms");
        let waits = ["1h".to_owned(), "2h".to_owned()];
        starting.sources.flags.insert("webhook_retries".to_owned(), waits.to_vec());
        let server = starting.start().await;
        server.integrations().await;
        world.sample.script_hook("main", vec![HookAnswer::Status { status: 500, retry_after: None }; 3]);
        server.import_key("c1", &json!({})).await;
        for (attempt, wait) in [(1, 3700), (2, 8000)] {
            server.delivery("was tried", |row| row["attempts"] == attempt).await;
            world.clock.advance(Duration::from_secs(wait));
        }
        server.delivery("was given up", |row| row["status"] == "dead" && row["attempts"] == 3).await;
        // A receiver that does not answer is not waited for.
        world.sample.script_hook("main", [HookAnswer::Hang]);
        server.import_key("c2", &json!({})).await;
        world.webhook("main", 4).await;
        let late = async {
            until("the attempt to be given up", async || {
                world.clock.advance(Duration::from_millis(50));
                let rows = server.operator.json("deliveries list --status pending --json").await;
                rows[0]["last_error"].is_string().then_some(())
            })
            .await;
        };
        late.await;
        world.clock.advance(Duration::from_secs(3700));
        server.finish().await;
    }

    async fn links_and_callbacks_carry_the_public_urls_path(db: TestDb) {
        let world = World::on(db).await;
        let proxy = StrippingProxy::start("/patchbay").await;
        let public = format!("http://127.0.0.1:{}/patchbay", proxy.port);
        let server = world.server().set("public_url", &public).set("websockets_path", "/ws").start().await;
        proxy.to(server.port());
        let outside = Client::new(&public, DEV_KEY);
        server.integrations().await;
        assert_eq!(outside.get("/connections").await.status, 200);
        let made = outside.post("/connect/sessions", &json!({"tags": {"end_user_id": "u1"}})).await.expect(201);
        let link = made["data"]["connect_link"].as_str().unwrap();
        assert!(link.starts_with(&format!("{public}/connect-ui/?session_token=")), "{link}");

        let session = made["data"]["token"].as_str().unwrap();
        let redirect = outside.anonymous().get(&format!("/oauth/connect/sample-oauth?connect_session_token={session}")).await;
        let cookie = redirect.header("set-cookie").split(';').next().unwrap().to_owned();
        let approved = Client::anonymous_at(redirect.header("location")).get("").await;
        let back = approved.header("location");
        assert!(back.starts_with(&format!("{public}/oauth/callback?")), "{back}");
        let page = Client::anonymous_at(back).request("GET", "").header("cookie", &cookie).send().await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(!page.text.contains("src=\"/") && !page.text.contains("href=\"/"), "assets below the prefix: {}", page.text);
        assert_eq!(outside.get("/connections").await.expect(200)["connections"].as_array().unwrap().len(), 1);
        let document = outside.anonymous().get("/openapi.json").await.expect(200);
        assert!(document["servers"][0]["url"].as_str().unwrap().starts_with(&public));

        let url = format!("ws://127.0.0.1:{}/ws", server.port());
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let Message::Text(first) = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap() else {
            panic!("no text");
        };
        assert_eq!(serde_json::from_str::<Value>(&first).unwrap()["message_type"], "connection_ack");
        drop(socket);
        server.finish().await;
    }

    async fn the_connect_ui_may_live_elsewhere(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().set("connect_ui_url", "https://connect-ui.example.com/a").start().await;
        let made = server.api.post("/connect/sessions", &json!({"tags": {}})).await.expect(201);
        let link = made["data"]["connect_link"].as_str().unwrap();
        assert!(link.starts_with("https://connect-ui.example.com/a/?session_token="), "{link}");
        server.finish().await;
        // What a link could not carry is refused, and not dropped unseen.
        for wrong in ["https://connect-ui.example.com/?b=c", "https://connect-ui.example.com/#d"] {
            let problems = world.server().set("connect_ui_url", wrong).config().unwrap_err();
            assert!(problems.to_string().contains("connect_ui_url"), "{problems}");
        }
    }

    async fn branding_reaches_the_connect_ui(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.operator.ok("env set dev connect_ui.theme.dark.primary=#112233 connect_ui.show_watermark=false connect_ui.default_theme=dark").await;
        let session = server.session(&json!({"tags": {}})).await;
        let look = until("the new look", async || {
            let told = server.api.with_key(&session).get("/connect/session").await.expect(200);
            let look = told["data"]["connectUISettings"].clone();
            (look["defaultTheme"] == "dark").then_some(look)
        })
        .await;
        assert_eq!(look["theme"]["dark"]["primary"], "#112233");
        assert_eq!(look["theme"]["light"]["primary"], "#14746f");
        assert_eq!(look["showWatermark"], false);
        server.finish().await;
    }

    async fn a_callback_without_its_cookie_counts_only_where_allowed(db: TestDb) {
        let world = World::on(db).await;
        let callback = async |server: &crate::common::TestServer| {
            let session = server.session(&json!({"tags": {}})).await;
            let target = format!("/oauth/connect/sample-oauth?connect_session_token={session}");
            let redirect = server.api.anonymous().get(&target).await;
            let approved = Client::anonymous_at(redirect.header("location")).get("").await;
            let back: url::Url = approved.header("location").parse().unwrap();
            server.api.anonymous().get(&back[url::Position::BeforePath..]).await.status
        };
        let server = world.server().start().await;
        server.integrations().await;
        assert_eq!(callback(&server).await, 400);
        server.finish().await;
        let server = world.server().set("state_cookie", "ignored").start().await;
        assert_eq!(callback(&server).await, 200);
        server.finish().await;
    }

    async fn a_wrong_encryption_key_refuses_to_start_and_touches_nothing(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        server.finish().await;
        let sqlite = world.db.url().strip_prefix("sqlite:").map(std::path::PathBuf::from);
        let before = sqlite.as_deref().map(bytes_of);
        let starting = world.server().set("encryption_key", data_encoding::BASE64.encode(&[1; 32]));
        let error = format!("{:#}", starting.try_start().await.err().expect("the key is wrong"));
        assert!(error.contains("wrong encryption key") && error.contains("Nothing was changed"), "{error}");
        assert_eq!(before, sqlite.as_deref().map(bytes_of));
        // A key file made for a database that has another key is taken back.
        let starting = world.server().unset("encryption_key");
        let directory = std::path::PathBuf::from(&starting.sources.flags["data_dir"][0]);
        assert!(starting.try_start().await.is_err());
        assert!(!directory.join("encryption.key").exists());
        let server = world.server().start().await;
        server.connection("c1").await.expect(200);
        server.finish().await;
    }

    async fn a_newer_database_is_refused_with_words(db: TestDb) {
        let world = World::on(db).await;
        world.server().start().await.finish().await;
        let store = world.db.store().await;
        store
            .write(|tx| {
                Box::pin(async move {
                    let sql = "INSERT INTO schema_migration (version, name, checksum, applied_at) VALUES (9000, 'later', 'x', 0)";
                    tx.execute(sql, &[]).await
                })
            })
            .await
            .unwrap_or_else(|error: patchbay_store::db::DbError| panic!("{error}"));
        store.close().await;
        let error = format!("{:#}", world.server().try_start().await.err().expect("it is newer"));
        assert!(error.contains("newer than this program") && error.contains("9000"), "{error}");
        let (exit, text) = world.server().operator().run("doctor").await;
        assert_eq!(exit, patchbay::cli::Exit::Findings);
        assert!(text.contains("newer than this program"), "{text}");
    }

    async fn a_key_file_holds_the_keys(db: TestDb) {
        let world = World::on(db).await;
        let file = world.path("keys");
        let text = format!("# the only one\n{}\n", data_encoding::BASE64.encode(&TEST_KEY));
        std::fs::write(&file, text).unwrap();
        let starting = world.server().unset("encryption_key").set("encryption_key_file", file.display().to_string());
        let server = starting.start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        server.finish().await;
        let server = world.server().start().await;
        server.connection("c1").await.expect(200);
        server.finish().await;
    }

    async fn the_file_wins_over_what_was_set_before_and_the_rest_stays(db: TestDb) {
        let world = World::on(db).await;
        let text = "[environments.dev]\nwebhooks.primary_url = \"https://a.example/file\"\n\
                    connect_ui.theme.light.primary = \"#123456\"\nvariables.REGION = \"eu\"\n";
        let server = world.server().file(text).start().await;
        server.operator.ok("env set dev webhooks.primary_url=https://a.example/command hmac_enabled=true").await;
        server.finish().await;
        let server = world.server().file(text).start().await;
        let shown = server.operator.json("env show dev --json").await;
        assert_eq!(shown["webhooks.primary_url"], "https://a.example/file");
        assert_eq!(shown["hmac_enabled"], "true");
        assert_eq!(shown["connect_ui.theme.light.primary"], "#123456");
        let served = server.api.get("/environment-variables").await.expect(200);
        assert_eq!(served, json!([{"name": "REGION", "value": "eu"}]));
        server.finish().await;
    }

    async fn metrics_count_what_was_done(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        server.quiet().await;
        world.clock.advance(Duration::from_secs(61));
        assert_eq!(server.proxied("c1", "/whoami").await.status, 200);
        let text = until("the webhook to be counted", async || {
            let answer = server.api.anonymous().get("/metrics").await;
            assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
            let sent = answer.text.lines().find(|line| line.starts_with("patchbay_webhook_attempts_total{outcome=\"delivered\"}"));
            sent.is_some_and(|line| !line.ends_with(" 0")).then_some(answer.text)
        })
        .await;
        // What the page promises; rows are purged by the hour, which has not passed.
        let page = include_str!("../../../../docs/operate/observability.md");
        let promised = page.lines().filter_map(|line| line.strip_prefix("| `patchbay_")?.split('`').next());
        for metric in promised.filter(|metric| *metric != "purged_rows_total") {
            let typed = format!("# TYPE patchbay_{metric} ");
            assert!(text.contains(&typed), "{typed}: {text}");
            assert!(text.contains(&format!("# HELP patchbay_{metric} ")), "{metric} is described: {text}");
        }
        let requests = "patchbay_http_requests_total{method=\"POST\",route=\"/connections\",status=\"2xx\"}";
        assert!(text.contains(requests), "{text}");
        assert!(!text.contains("c1"), "no ids in labels: {text}");
        for (method, path) in [("GET", "/nowhere/1"), ("GET", "/nowhere/2"), ("PUT", "/connections"), ("LINK", "/x")] {
            assert!(server.api.request(method, path).send().await.status >= 404);
        }
        let text = server.api.anonymous().get("/metrics").await.text;
        for counted in ["method=\"GET\"", "method=\"PUT\"", "method=\"other\""] {
            let line = format!("patchbay_http_requests_total{{{counted},route=\"unmatched\",status=\"4xx\"}} ");
            assert!(text.contains(&line), "{line}: {text}");
        }
        assert!(!text.contains("nowhere"), "no paths in labels: {text}");
        server.finish().await;
    }
}

/// All problems at once, each with its origin, and nothing touched.
#[tokio::test]
async fn every_problem_of_a_configuration_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patchbay.toml");
    std::fs::write(
        &file,
        "listne = \"x\"\nlog_format = \"xml\"\n[environments.dev]\nwebhooks.primary_url = \"nowhere\"\n",
    )
    .unwrap();
    let data = folder.path().join("data");
    let mut serve = crate::common::process::Process::start(
        &[
            "serve",
            "--config",
            file.to_str().unwrap(),
            "--data-dir",
            data.to_str().unwrap(),
            "--body-limit",
            "big",
            "--trusted-proxies",
            "10.0.0.0/40",
            "--encryption-key",
            "planted-short",
        ],
        &[
            ("PATCHBAY_PUBLIC_URL", "connect.example.com".to_owned()),
            ("PATCHBAY_API_KEY_DEV", "planted-nokey".to_owned()),
        ]
        .into(),
        folder.path(),
    );
    let status = serve.ended().await;
    assert_eq!(status.code(), Some(3));
    let said = until("all of stderr", async || {
        serve
            .stderr()
            .contains("planted")
            .then(|| "leak".to_owned())
            .or_else(|| (serve.stderr().matches("fix:").count() >= 8).then(|| serve.stderr()))
    })
    .await;
    for part in [
        "8 problems",
        "listne",
        "did you mean `listen`",
        "log_format",
        "patchbay.toml:2",
        "webhooks.primary_url",
        "body_limit",
        "flag --body-limit",
        "trusted_proxies",
        "public_url",
        "environment variable PATCHBAY_PUBLIC_URL",
        "encryption_key",
        "environments.dev.api_key",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!data.exists(), "nothing was made");
    let check = vec![
        "patchbay",
        "config",
        "check",
        "--json",
        "--listen",
        "127.0.0.1:4000",
    ];
    let (exit, text) = run_line(check.into_iter().map(str::to_owned).collect()).await;
    assert_eq!(exit, patchbay::cli::Exit::Done, "{text}");
    assert!(
        text.contains("127.0.0.1:4000") && text.contains("flag --listen"),
        "{text}"
    );
}

/// Without any flag a server makes everything it needs, tells the key once, and keeps others out of its files.
#[cfg(unix)]
#[tokio::test]
async fn a_first_start_makes_what_it_needs() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let words = ["serve", "--listen", "127.0.0.1:0"];
    let mut first =
        crate::common::process::Process::start(&words, &std::collections::BTreeMap::new(), folder.path());
    let url = first.url().await;
    let key = until("the key", async || {
        let text = first.stdout();
        text.lines()
            .find_map(|line| line.split_once("shown this once: "))
            .map(|(_, key)| key.trim().to_owned())
    })
    .await;
    let api = Client::new(&url, &key);
    assert_eq!(
        api.get("/connections").await.expect(200),
        json!({"connections": []})
    );
    let mode = |path: &str| folder.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("patchbay-data"), 0o700);
    assert_eq!(mode("patchbay-data/encryption.key"), 0o600);
    first.signal("TERM");
    assert_eq!(first.ended().await.code(), Some(0));

    let mut second =
        crate::common::process::Process::start(&words, &std::collections::BTreeMap::new(), folder.path());
    let url = second.url().await;
    assert_eq!(Client::new(&url, &key).get("/connections").await.status, 200);
    assert!(
        !second.stdout().contains("shown this once"),
        "{}",
        second.stdout()
    );
    second.signal("INT");
    assert_eq!(second.ended().await.code(), Some(0));
}

/// Takes `prefix` off each request's path, as `proxy_pass http://patchbay/;` does. One request a connection.
struct StrippingProxy {
    port: u16,
    upstream: tokio::sync::watch::Sender<u16>,
    ambient: patchbay_ambient::Ambient,
}

impl StrippingProxy {
    async fn start(prefix: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (upstream, target) = tokio::sync::watch::channel(0);
        let ambient = patchbay_ambient::Ambient::system();
        let (tasks, stopping) = (ambient.tasks.clone(), ambient.tasks.stopping());
        ambient.tasks.spawn(async move {
            while let Some(Ok((client, _))) = stopping.run_until_cancelled(listener.accept()).await {
                tasks.spawn(strip(client, *target.borrow(), prefix));
            }
        });
        Self {
            port,
            upstream,
            ambient,
        }
    }

    fn to(&self, port: u16) {
        self.upstream.send_replace(port);
    }
}

impl Drop for StrippingProxy {
    fn drop(&mut self) {
        self.ambient.tasks.stop();
    }
}

async fn strip(mut client: TcpStream, upstream: u16, prefix: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if client.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", upstream)).await else {
        return;
    };
    server
        .write_all(head.replacen(&format!(" {prefix}/"), " /", 1).as_bytes())
        .await
        .unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
