//! Each command's effect on the server that runs beside it.

use std::time::Duration;

use clap::CommandFactory as _;
use data_encoding::BASE64;
use patchbay::cli::{Cli, Exit};
use patchbay_sample::{Failure, Grant};
use patchbay_store::testing::TEST_KEY;
use serde_json::{Value, json};

use crate::common::{DEV_KEY, TOKEN_LIFE, World, assert_signed, run_line, until};

const NEW_KEY: [u8; 32] = [9; 32];

patchbay_store::both_backends! {
    async fn an_environment_made_set_and_deleted_is_seen_by_the_running_server(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        let made = server.operator.json("env create staging --json").await;
        let secret = made["api_key"].as_str().unwrap();
        let staging = server.api.with_key(secret);
        until("the new key to open", async || (staging.get("/connections").await.status == 200).then_some(())).await;
        server.integrations().await;

        let key = json!({"provider": "sample-api-key", "unique_key": "sample-api-key"});
        staging.post("/integrations", &key).await.expect(200);
        let hook = world.sample.url("/hooks/staging");
        let set = format!("env set staging webhooks.primary_url={hook} variables.REGION=eu callback_url=https://a.example/cb");
        server.operator.ok(&set).await;
        until("the variable to be served", async || {
            let found = staging.get("/environment-variables").await.expect(200);
            (found == json!([{"name": "REGION", "value": "eu"}])).then_some(())
        })
        .await;
        let body = json!({
            "provider_config_key": "sample-api-key", "connection_id": "c1",
            "credentials": {"type": "API_KEY", "apiKey": patchbay_sample::API_KEY},
        });
        staging.post("/connections", &body).await.expect(201);
        // A new environment signs with its first API key.
        assert_signed(&world.webhook("staging", 1).await.0, secret);
        let shown = server.operator.json("env show staging --json").await;
        assert_eq!(shown["webhooks.primary_url"], hook);
        assert_eq!(shown["callback_url"], "https://a.example/cb");
        let listed = server.operator.ok("env list").await;
        assert!(listed.contains("staging") && listed.contains(&hook), "{listed}");

        server.operator.ok("env delete staging --confirm staging").await;
        until("the key to be refused", async || (staging.get("/connections").await.status == 403).then_some(())).await;
        assert!(!server.operator.ok("env list").await.contains("staging"));
        server.finish().await;
    }

    async fn how_a_connection_was_kept_alive_can_be_looked_up(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        server.import("c2", &json!({})).await;
        assert!(server.operator.ok("connections show c1").await.contains("never refreshed"));
        world.clock.advance(TOKEN_LIFE);
        world.sample.fail_next(Grant::RefreshToken, [Failure::InvalidGrant]);
        server.connection("c1").await.expect(400);
        let text = server.operator.ok("connections show c1 --env dev --integration sample-oauth").await;
        assert!(text.starts_with("c1 of sample-oauth (sample-oauth), environment dev: failing\n"), "{text}");
        assert!(text.contains("expiring: provider_refused: the provider answered 400 (invalid_grant)"), "{text}");
        let failing = server.operator.json("connections list --failing --json").await;
        assert_eq!((failing.as_array().unwrap().len(), &failing[0]["connection_id"]), (1, &json!("c1")));
        let basic = BASE64.encode(format!(":{DEV_KEY}").as_bytes());
        let browser = server.api.anonymous();
        let header = format!("Basic {basic}");
        let page = browser.request("GET", "/overview").header("authorization", &header).send().await;
        assert!(page.text.contains("near its end: <strong>the provider refused</strong>"), "{}", page.text);

        world.clock.advance(Duration::from_secs(30));
        let read = server.connection("c1").await.expect(200);
        let shown = server.operator.json("connections show c1 --json").await;
        let timeline = &shown[0]["timeline"];
        assert_eq!((&timeline[0]["success"], &timeline[1]["cause"]), (&json!(true), &json!("provider_refused")));
        assert!(!shown.to_string().contains(read["credentials"]["access_token"].as_str().unwrap()));
        assert_eq!(server.operator.json("connections list --failing --json").await, json!([]));
        assert_eq!(server.operator.json("connections list --json").await.as_array().unwrap().len(), 2);
        server.finish().await;
    }

    async fn the_callback_url_of_an_environment_is_sent_to_the_provider(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.operator.ok("env set dev callback_url=https://app.example.com/oauth/callback").await;
        let session = server.session(&json!({"tags": {}})).await;
        let target = format!("/oauth/connect/sample-oauth?connect_session_token={session}");
        until("the callback URL to be used", async || {
            let redirect = server.api.anonymous().get(&target).await;
            let sent = redirect.header("location").contains("redirect_uri=https%3A%2F%2Fapp.example.com%2Foauth%2Fcallback");
            sent.then_some(())
        })
        .await;
        server.finish().await;
    }

    async fn keys_are_limited_by_their_scopes_and_end_at_once(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import_key("c1", &json!({})).await;
        let made = server.operator.json("keys create --env dev --name ci --scope environment:proxy --json").await;
        let ci = server.api.with_key(made["api_key"].as_str().unwrap());
        let proxied = ci.request("GET", "/proxy/whoami").header("connection-id", "c1");
        proxied.header("provider-config-key", "sample-api-key").send().await.expect(200);
        let refused = ci.get("/connections").await;
        assert_eq!(refused.status, 403, "{}", refused.text);

        server.operator.ok(&format!("keys revoke {}", made["id"])).await;
        until("the key to be refused", async || {
            let proxied = ci.request("GET", "/proxy/whoami").header("connection-id", "c1");
            let answer = proxied.header("provider-config-key", "sample-api-key").send().await;
            (answer.status == 401).then_some(())
        })
        .await;
        server.api.get("/connections").await.expect(200);
        let listed = server.operator.ok("keys list --env dev").await;
        assert!(!listed.contains("ci "), "{listed}");
        server.finish().await;
    }

    async fn an_account_key_makes_environments_and_their_keys(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        let made = server.operator.json("keys create --account --name platform --json").await;
        let account = server.api.with_key(made["api_key"].as_str().unwrap());
        let environment = account.post("/environments", &json!({"name": "tenant-a"})).await.expect(200);
        let uuid = environment["data"]["uuid"].as_str().unwrap().to_owned();
        let path = format!("/environments/{uuid}/api-keys");
        let key = account.post(&path, &json!({"display_name": "first"})).await.expect(200);
        let tenant = server.api.with_key(key["data"]["secret"].as_str().unwrap());
        assert_eq!(tenant.get("/connections").await.expect(200), json!({"connections": []}));
        assert!(server.operator.ok("env list").await.contains("tenant-a"));
        assert_eq!(account.delete(&format!("/environments/{uuid}")).await.status, 204);
        // The key is known, its environment is not (api-core §2.2).
        assert_eq!(tenant.get("/connections").await.status, 403);
        server.finish().await;
    }

    async fn the_encryption_key_is_rotated_under_a_reading_server(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let token = server.token("c1").await;
        server.finish().await;

        // 1. Every node gets the new key first and the old one second.
        let mut starting = world.server();
        let keys = [NEW_KEY, TEST_KEY].map(|key| data_encoding::BASE64.encode(&key));
        starting.sources.flags.insert("encryption_key".to_owned(), keys.to_vec());
        let server = starting.start().await;
        // 2. Re-wrapped while it reads and writes.
        let reading = async {
            for round in 0..20 {
                assert_eq!(server.token("c1").await, token);
                server.import_key(&format!("k{round}"), &json!({})).await;
            }
        };
        let rotating = server.operator.json("keys rotate-encryption --json");
        let ((), done) = tokio::join!(reading, rotating);
        assert!(done["rewrapped"].as_u64().unwrap() > 0, "{done}");
        let again = server.operator.json("keys rotate-encryption --json").await;
        assert_eq!(again["rewrapped"], 0, "{again}");
        server.finish().await;

        // 3. The old key is taken out.
        let new = data_encoding::BASE64.encode(&NEW_KEY);
        let server = world.server().set("encryption_key", new).start().await;
        assert_eq!(server.token("c1").await, token);
        server.api.get("/connections/k19?provider_config_key=sample-api-key").await.expect(200);
        server.finish().await;
        let error = world.server().try_start().await.err().expect("the old key alone does not fit");
        assert!(format!("{error:#}").contains("wrong encryption key"), "{error:#}");
    }

    async fn a_backup_of_a_running_server_is_restored_into_a_fresh_directory(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({"tags": {"plan": "pro"}, "metadata": {"a": 1}})).await;
        let token = server.token("c1").await;
        let file = world.path("backup.db").display().to_string();
        if world.db.url().starts_with("postgres") {
            assert!(server.operator.fails(&format!("backup {file}")).await.contains("pg_dump"));
            assert!(server.operator.fails(&format!("restore {file}")).await.contains("pg_restore"));
            return server.finish().await;
        }
        let writing = async {
            for round in 0..20 {
                server.import_key(&format!("k{round}"), &json!({})).await;
            }
        };
        let command = format!("backup {file}");
        let ((), said) = tokio::join!(writing, server.operator.ok(&command));
        assert!(said.contains("encryption key"), "{said}");
        server.import_key("after", &json!({})).await;
        let refused = server.operator.fails(&format!("restore {file} --force")).await;
        assert!(refused.contains("in use") || refused.contains("running") || refused.contains("stop"), "{refused}");
        server.finish().await;

        let fresh = world.path("fresh");
        let url = format!("sqlite:{}", fresh.join("patchbay.db").display());
        let starting = world.server().set("data_dir", fresh.display().to_string()).set("database_url", url);
        starting.operator().ok(&format!("restore {file}")).await;
        let restored = starting.start().await;
        let found = restored.connection("c1").await.expect(200);
        assert_eq!((&found["tags"], &found["metadata"]), (&json!({"plan": "pro"}), &json!({"a": 1})));
        assert_eq!(found["credentials"]["access_token"], token);
        assert_eq!(restored.proxied("c1", "/whoami").await.status, 200);
        let after = restored.api.get("/connections/after?provider_config_key=sample-api-key").await;
        assert_eq!(after.status, 404);
        // A webhook that was on its way when the copy was made is sent again once its claim has ended.
        world.clock.advance(Duration::from_mins(1));
        restored.finish().await;
    }

    async fn migrate_says_what_it_would_do_and_does_it(db: TestDb) {
        let world = World::on(db).await;
        let operator = world.server().operator();
        if world.db.url().starts_with("sqlite") {
            assert!(operator.fails("migrate --check").await.contains("no database yet"));
        }
        operator.ok("migrate").await;
        assert!(operator.ok("migrate --check").await.starts_with("0 "));
        let server = world.server().start().await;
        assert_eq!(server.api.ready().await, 200);
        assert!(server.operator.ok("migrate --check").await.starts_with("0 "), "beside a running server");
        server.finish().await;
    }

    async fn doctor_tells_good_from_bad(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        let (exit, text) = server.operator.run("doctor --public-url https://connect.example.com").await;
        assert_eq!(exit, Exit::Done, "{text}");
        for part in ["schema up to date", "1 keys fit", "0 deliveries are waiting", "catalogue"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        std::fs::write(world.path("bad.yaml"), "broken:\n  display_name: Broken\n  auth_mode: OATH2\n").unwrap();
        let bad = server.operator.clone().with("catalog", &world.path("bad.yaml").display().to_string());
        let (exit, text) = bad.run("doctor --json").await;
        assert_eq!(exit, Exit::Findings, "{text}");
        let wrong = server.operator.clone().with_keys(&[NEW_KEY]);
        let (exit, text) = wrong.run("doctor").await;
        assert_eq!(exit, Exit::Findings, "{text}");
        assert!(text.contains("wrong encryption key"), "{text}");
        let away = server.operator.clone().with("database_url", "postgres://127.0.0.1:1/none");
        let (exit, text) = away.run("doctor").await;
        assert_eq!(exit, Exit::Findings, "{text}");
        server.finish().await;
    }

    async fn what_happened_is_in_the_logs(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        server.authorize(&session, "sample-oauth").await;
        let rows = until("an operation that succeeded", async || {
            let rows = server.operator.json("logs --env dev --type auth --state success --json").await;
            (!rows.as_array().unwrap().is_empty()).then_some(rows)
        })
        .await;
        let id = rows[0]["id"].as_str().unwrap();
        assert_eq!(rows[0]["environment"], "dev");
        assert_eq!(rows[0]["integration"], "sample-oauth");
        let shown = server.operator.json(&format!("logs {id} --json")).await;
        assert_eq!(shown["operation"]["id"], id);
        assert!(!shown["messages"].as_array().unwrap().is_empty(), "{shown}");
        let none = server.operator.ok("logs --env prod").await;
        assert_eq!(none, "Nothing has happened.\n");
        let by_integration = server.operator.json("logs --env dev --integration sample-oauth --json").await;
        assert!(!by_integration.as_array().unwrap().is_empty());
        server.finish().await;
    }

    async fn a_catalogue_file_is_followed_while_running(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        assert_eq!(server.api.get("/providers/acme").await.status, 404);
        let mut text = std::fs::read_to_string(world.catalogue()).unwrap();
        text.push_str("acme:\n  display_name: Acme\n  categories: [dev-tools]\n  auth_mode: API_KEY\n  \
                       proxy:\n    base_url: https://api.acme.example\n  docs: https://acme.example/docs\n");
        // An override of an embedded provider, and one that cannot be used.
        text.push_str("github:\n  display_name: Our GitHub\n  categories: [dev-tools]\n  auth_mode: API_KEY\n  \
                       proxy:\n    base_url: https://github.internal.example\n  docs: https://acme.example/docs\n");
        text.push_str("faulty:\n  display_name: Faulty\n  auth_mode: OATH2\n");
        std::fs::write(world.catalogue(), &text).unwrap();
        let acme = until("the new provider", async || {
            // What the file system says, or the clock's half minute where it says nothing.
            world.clock.advance(Duration::from_secs(1));
            let found = server.api.get("/providers/acme").await;
            (found.status == 200).then(|| found.json())
        })
        .await;
        assert_eq!(acme["data"]["display_name"], "Acme");
        assert_eq!(server.api.get("/providers/github").await.expect(200)["data"]["display_name"], "Our GitHub");
        assert_eq!(server.api.get("/providers/faulty").await.status, 404);
        let (exit, text) = server.operator.run("catalog check").await;
        assert_eq!(exit, Exit::Findings);
        assert!(text.contains("faulty") && text.contains("OAUTH2"), "{text}");
        let diff = server.operator.json("catalog diff --json").await;
        let changes: Vec<_> = diff.as_array().unwrap().iter().map(|row| (row["provider"].as_str(), row["change"].as_str())).collect();
        assert!(changes.contains(&(Some("acme"), Some("added"))), "{diff}");
        assert!(changes.contains(&(Some("github"), Some("changed"))), "{diff}");
        assert!(server.operator.ok("catalog list acme").await.contains("Acme"));
        assert!(server.operator.ok("catalog show github").await.contains("github.internal.example"));
        server.finish().await;
    }

    async fn the_printed_document_is_the_served_one(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        let mut served = server.api.anonymous().get("/openapi.json").await.expect(200);
        let (exit, text) = run_line(vec!["patchbay".to_owned(), "openapi".to_owned()]).await;
        assert_eq!(exit, Exit::Done, "{text}");
        let mut printed: Value = serde_json::from_str(&text).unwrap();
        assert!(printed["openapi"].as_str().unwrap().starts_with("3.1"));
        assert!(printed["paths"].as_object().unwrap().len() > 20);
        assert_eq!(served["servers"][0]["url"], format!("http://localhost:{}/", server.port()));
        served["servers"] = Value::Null;
        printed["servers"] = Value::Null;
        assert!(served == printed, "the documents differ");
        server.finish().await;
    }

    async fn a_second_server_on_one_sqlite_file_is_refused(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        let second = world.server().try_start().await;
        if world.db.url().starts_with("sqlite") {
            let words = format!("{:#}", second.err().expect("it is in use"));
            assert!(words.contains(&std::process::id().to_string()), "{words}");
        } else {
            second.unwrap().finish().await;
        }
        server.api.with_key(DEV_KEY).get("/connections").await.expect(200);
        server.finish().await;
    }
}

#[tokio::test]
async fn every_error_code_is_explained() {
    let explain =
        async |code: &str| run_line(vec!["patchbay".to_owned(), "explain".to_owned(), code.to_owned()]).await;
    for code in patchbay_api::codes::ALL {
        let (exit, text) = explain(code.name).await;
        assert_eq!(exit, Exit::Done, "{}", code.name);
        assert!(text.contains(code.name), "{}: {text}", code.name);
        assert!(
            text.lines().count() > 3,
            "{}: cause and fix belong on the page: {text}",
            code.name
        );
    }
    let (exit, text) = explain("invalid_credentails").await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("`invalid_credentials`"), "{text}");
}

/// A command without a story is a promise nobody keeps watch over.
#[test]
fn every_command_is_told_about_here() {
    let stories = concat!(
        include_str!("commands.rs"),
        include_str!("settings.rs"),
        include_str!("process.rs"),
        include_str!("webhooks.rs"),
    );
    let mut command = Cli::command();
    command.build();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = sub.get_name();
        let told = [format!("\"{name} "), format!("\"{name}\""), format!("({name:?}")];
        assert!(
            told.iter().any(|words| stories.contains(words)),
            "{name} has no story"
        );
    }
}
