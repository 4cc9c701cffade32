//! Commands beside the server, on both databases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Parser as _;
use data_encoding::BASE64;
use patchbay::cli::{self, Cli, Exit, Output};
use patchbay::config::{Config, Sources};
use patchbay::house::{self, Clients};
use patchbay::provision::{self, Provisions};
use patchbay_ambient::Ambient;
use patchbay_connections::{Context, api_keys};
use patchbay_outbound::Trust;
use patchbay_store::testing::{TEST_KEY, TestDb};
use patchbay_store::{Store, deliveries};
use patchbay_types::DeliveryId;
use patchbay_types::deliveries::{Delivery, DeliveryStatus};
use serde_json::Value;
use tempfile::TempDir;

const API_KEY: &str = "3f2b8b56-7b1a-4d70-9a3e-0d5f4a0c1b2e";

/// A set-up of one test.
struct Setup {
    database: String,
    folder: TempDir,
    keys: Vec<[u8; 32]>,
    _db: TestDb,
}

impl Setup {
    fn new(db: TestDb) -> Self {
        Self {
            database: db.url().to_owned(),
            folder: tempfile::tempdir().unwrap(),
            keys: vec![TEST_KEY],
            _db: db,
        }
    }

    fn flags(&self) -> BTreeMap<String, Vec<String>> {
        let keys = self.keys.iter().map(|key| BASE64.encode(key)).collect();
        BTreeMap::from([
            ("database_url".to_owned(), vec![self.database.clone()]),
            (
                "data_dir".to_owned(),
                vec![self.folder.path().display().to_string()],
            ),
            ("encryption_key".to_owned(), keys),
        ])
    }

    fn config(&self, file: &str) -> Config {
        let file = patchbay::config::ConfigFile {
            path: "patchbay.toml".into(),
            text: file.to_owned(),
        };
        Config::load(&Sources {
            flags: self.flags(),
            file: Some(file),
            ..Sources::default()
        })
        .unwrap()
    }

    /// What a start does before it listens, with this config file.
    async fn start(&self, file: &str) -> (Arc<Context>, Provisions) {
        let config = self.config(file);
        let ambient = Ambient::system();
        let (store, _) = house::open_or_make(&config, &ambient).await.unwrap();
        let clients = Clients::new(&config, &Trust::nobody(), &ambient);
        let (catalogue, public) = (house::catalogue(&config), house::public_url(&config, 3003));
        let context = house::domain(&config, store, catalogue, &clients, &ambient, &public);
        let provisions = provision::provision(&context, &config.environments)
            .await
            .unwrap();
        (context, provisions)
    }

    /// Runs a command line and gives its exit and output; an error's text counts as output.
    async fn run(&self, words: &str) -> (Exit, String) {
        let mut line: Vec<String> = format!("patchbay {words}")
            .split(' ')
            .map(str::to_owned)
            .collect();
        for (key, values) in self.flags() {
            for value in values {
                line.push(format!("--{}={value}", key.replace('_', "-")));
            }
        }
        tokio::task::spawn_blocking(move || {
            let cli = Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{error}"));
            let mut buffer = Vec::new();
            match cli::run(&cli, &mut Output::new(&mut buffer)) {
                Ok(exit) => (exit, String::from_utf8(buffer).unwrap()),
                Err(error) => (Exit::Failed, format!("{error:#}")),
            }
        })
        .await
        .unwrap()
    }

    async fn ok(&self, words: &str) -> String {
        let (exit, text) = self.run(words).await;
        assert_eq!(exit, Exit::Done, "{words}: {text}");
        text
    }

    async fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(words).await).unwrap()
    }

    async fn fails(&self, words: &str) -> String {
        let (exit, text) = self.run(words).await;
        assert_eq!(exit, Exit::Failed, "{words}: {text}");
        text
    }
}

async fn opens(context: &Context, secret: &str) -> bool {
    api_keys::authenticate(context, secret).await.unwrap().is_some()
}

patchbay_store::both_backends! {
    async fn a_first_start_makes_dev_and_prod_once(db: TestDb) {
        let setup = Setup::new(db);
        let (context, first) = setup.start("").await;
        let names: Vec<&str> = first.created.iter().map(|made| made.environment.name.as_str()).collect();
        assert_eq!(names, ["dev", "prod"]);
        assert!(first.created[1].environment.is_production);
        assert!(opens(&context, first.created[0].secret.expose()).await);
        let (_, second) = setup.start("").await;
        assert!(second.created.is_empty());
    }

    async fn configured_environments_are_made_and_kept_as_the_file_says(db: TestDb) {
        let setup = Setup::new(db);
        setup.start("").await;
        let file = format!(
            "[environments.dev]\napi_key = \"{API_KEY}\"\nwebhooks.primary_url = \"https://a.example/hooks\"\n\
             [environments.staging]\nproduction = true\nvariables.TOKEN = \"planted-variable\"\n"
        );
        for _ in 0..2 {
            let (context, _) = setup.start(&file).await;
            let dev = setup.json("env show dev --json").await;
            assert_eq!(dev["webhooks.primary_url"], "https://a.example/hooks");
            assert!(opens(&context, API_KEY).await);
            let environments = setup.json("env list --json").await;
            assert_eq!(environments[2]["name"], "staging");
            assert_eq!(environments[2]["is_production"], true);
            let staging = setup.ok("env show staging").await;
            assert!(staging.contains("variables.TOKEN") && !staging.contains("planted-"), "{staging}");
        }
        let keys = setup.json("keys list --env dev --json").await;
        assert_eq!(keys.as_array().unwrap().len(), 2, "the first key stays beside the configured one: {keys}");
    }

    async fn environments_are_made_changed_and_deleted(db: TestDb) {
        let setup = Setup::new(db);
        let (context, _) = setup.start("").await;
        let made = setup.json("env create staging --json").await;
        assert!(opens(&context, made["api_key"].as_str().unwrap()).await);
        assert!(setup.fails("env create staging").await.contains("exists"));
        assert!(setup.fails("env create Staging").await.contains("lower-case"));
        assert!(setup.fails("env show stagin").await.contains("did you mean `staging`?"));

        setup.ok("env set staging webhooks.primary_url=https://a.example/h connect_ui.theme.dark.primary=teal").await;
        setup.ok("env set staging webhooks.on_auth_creation=false variables.A=planted-a hmac_key=planted-k").await;
        let shown = setup.json("env show staging --json").await;
        assert_eq!(shown["webhooks.primary_url"], "https://a.example/h");
        assert_eq!(shown["webhooks.on_auth_creation"], "false");
        assert_eq!(shown["connect_ui.theme.dark.primary"], "teal");
        assert_eq!(shown["variables.A"], "***");
        assert_eq!(shown["hmac_key"], "***");
        setup.ok("env set staging webhooks.primary_url= variables.A=").await;
        let shown = setup.json("env show staging --json").await;
        assert_eq!(shown["webhooks.primary_url"], Value::Null);
        assert!(shown.get("variables.A").is_none());

        let refused = setup.fails("env set staging webhooks.primary_url=https://b.example hmac_kye=planted-x").await;
        assert!(refused.contains("Nothing was changed") && refused.contains("`hmac_key`"), "{refused}");
        assert!(!refused.contains("planted-"), "{refused}");
        assert_eq!(setup.json("env show staging --json").await["webhooks.primary_url"], Value::Null);

        assert!(setup.fails("env delete staging --confirm dev").await.contains("nothing was deleted"));
        setup.ok("env delete staging --confirm staging").await;
        assert!(setup.fails("env show staging").await.contains("no environment"));
        assert!(setup.fails("env delete prod --confirm prod").await.contains("prod"));
    }

    async fn keys_are_made_listed_and_revoked(db: TestDb) {
        let setup = Setup::new(db);
        let (context, _) = setup.start("").await;
        let made = setup.json("keys create --env dev --name ci --scope environment:proxy --json").await;
        let secret = made["api_key"].as_str().unwrap().to_owned();
        assert!(opens(&context, &secret).await);
        let account = setup.json("keys create --account --name admin --json").await;
        let keys = setup.json("keys list --json").await;
        let ci = keys.as_array().unwrap().iter().find(|key| key["display_name"] == "ci").unwrap();
        assert_eq!(ci["scopes"], serde_json::json!(["environment:proxy"]));
        assert!(!keys.to_string().contains(&secret));
        assert!(setup.fails("keys create --env dev --scope account:environments:create").await.contains("environment:"));
        assert!(setup.fails("keys create --env dev --scope environment:nonsense").await.contains("not a scope"));

        setup.ok(&format!("keys revoke {}", made["id"])).await;
        setup.ok(&format!("keys revoke {}", account["uuid"].as_str().unwrap())).await;
        assert!(setup.fails(&format!("keys revoke {}", made["id"])).await.contains("no key"));
        let (fresh, _) = setup.start("").await;
        assert!(!opens(&fresh, &secret).await);
    }

    async fn the_encryption_key_is_rotated_and_a_wrong_one_refused(db: TestDb) {
        let mut setup = Setup::new(db);
        setup.start("").await;
        setup.ok("env set dev hmac_key=planted-k").await;
        setup.keys = vec![[9; 32], TEST_KEY];
        let done = setup.json("keys rotate-encryption --json").await;
        assert!(done["rewrapped"].as_u64().unwrap() > 0, "{done}");
        setup.keys = vec![[9; 32]];
        assert!(setup.ok("env show dev").await.contains("hmac_key"));
        setup.keys = vec![TEST_KEY];
        assert!(setup.fails("env list").await.contains("wrong encryption key"));
    }

    async fn deliveries_are_listed_shown_and_retried(db: TestDb) {
        let setup = Setup::new(db);
        let (context, _) = setup.start("").await;
        dead_delivery(&context.store, "0190c0de-0000-7000-8000-000000000001").await;
        let listed = setup.json("deliveries list --status dead --json").await;
        assert_eq!(listed[0]["status"], "dead");
        assert_eq!(listed[0]["environment"], "dev");
        let shown = setup.ok("deliveries show 0190c0de-0000-7000-8000-000000000001").await;
        assert!(shown.contains("https://a.example/hooks") && shown.contains("{\"type\":\"auth\"}"), "{shown}");
        assert!(setup.ok("deliveries retry --dead --env dev").await.starts_with("1 "));
        assert_eq!(setup.json("deliveries list --status pending --json").await.as_array().unwrap().len(), 1);
        setup.ok("deliveries retry 0190c0de-0000-7000-8000-000000000001").await;
        assert!(setup.fails("deliveries retry nope").await.contains("no delivery"));
    }

    async fn migrations_are_told_before_and_applied_once(db: TestDb) {
        let setup = Setup::new(db);
        if setup.database.starts_with("sqlite") {
            assert!(setup.fails("env list").await.contains("no database yet"));
            setup.ok("migrate").await;
        }
        assert!(setup.ok("migrate").await.starts_with("0 "));
        assert!(setup.ok("migrate --check").await.starts_with("0 "));
        assert_eq!(setup.ok("env list").await, "There is no environment.\n");
    }

    async fn a_backup_is_restored_whole_or_refused_with_words(db: TestDb) {
        let mut setup = Setup::new(db);
        setup.start("").await;
        setup.ok("env set dev webhooks.primary_url=https://a.example/before").await;
        let file = setup.folder.path().join("backup.db").display().to_string();
        if setup.database.starts_with("postgres") {
            assert!(setup.fails(&format!("backup {file}")).await.contains("pg_dump"));
            assert!(setup.fails(&format!("restore {file}")).await.contains("pg_restore"));
            return;
        }
        setup.ok(&format!("backup {file}")).await;
        assert!(setup.fails(&format!("backup {file}")).await.contains("exists"));
        setup.ok("env set dev webhooks.primary_url=https://a.example/after").await;
        assert!(setup.fails(&format!("restore {file}")).await.contains("--force"));

        let whole = std::mem::replace(&mut setup.keys, vec![[9; 32]]);
        assert!(setup.fails(&format!("restore {file} --force")).await.contains("wrong encryption key"));
        setup.keys = whole;
        let shown = setup.json("env show dev --json").await;
        assert_eq!(shown["webhooks.primary_url"], "https://a.example/after", "a refused restore changes nothing");

        assert!(setup.ok(&format!("restore {file} --force")).await.contains("is kept as"));
        let shown = setup.json("env show dev --json").await;
        assert_eq!(shown["webhooks.primary_url"], "https://a.example/before");

        setup.database = format!("sqlite:{}", setup.folder.path().join("elsewhere/new.db").display());
        setup.ok(&format!("restore {file}")).await;
        assert_eq!(setup.json("env list --json").await.as_array().unwrap().len(), 2);
    }

    async fn doctor_finds_what_is_wrong_and_says_what_to_do(db: TestDb) {
        let mut setup = Setup::new(db);
        setup.start("").await;
        let text = setup.ok("doctor --public-url https://connect.example.com").await;
        assert!(text.contains("schema up to date") && text.contains("1 keys fit"), "{text}");
        assert!(setup.ok("doctor --public-url http://connect.example.com").await.contains("is not https"));
        let (exit, text) = setup.run("doctor --catalog /no/such/file --json").await;
        assert_eq!(exit, Exit::Findings, "{text}");
        setup.keys = vec![[9; 32]];
        let (exit, text) = setup.run("doctor").await;
        assert_eq!(exit, Exit::Findings, "{text}");
        assert!(text.contains("PROBLEM") && text.contains("wrong encryption key"), "{text}");
    }

    async fn logs_say_when_there_is_nothing(db: TestDb) {
        let setup = Setup::new(db);
        setup.start("").await;
        assert_eq!(setup.ok("logs --env dev --since 1h").await, "Nothing has happened.\n");
        assert!(setup.fails("logs --since soon").await.contains("not a duration"));
        assert!(setup.fails("logs --integration github").await.contains("--env"));
        assert!(setup.fails("logs nope").await.contains("no operation"));
    }
}

async fn dead_delivery(store: &Store, id: &str) {
    let id = DeliveryId(id.to_owned());
    store
        .write(move |tx| {
            Box::pin(async move {
                let account = patchbay_store::accounts::find_default(tx).await?.unwrap();
                let dev = patchbay_store::environments::find_by_name(tx, account, "dev")
                    .await?
                    .unwrap();
                let now = tx.now();
                let delivery = Delivery {
                    id,
                    environment_id: dev.id,
                    connection: None,
                    kind: "auth".to_owned(),
                    url: "https://a.example/hooks".to_owned(),
                    body: "{\"type\":\"auth\"}".to_owned(),
                    operation_id: None,
                    status: DeliveryStatus::Dead,
                    attempts: 14,
                    next_attempt_at: now,
                    last_status: Some(500),
                    last_error: None,
                    created_at: now,
                    finished_at: Some(now),
                };
                deliveries::enqueue(tx, &[delivery]).await
            })
        })
        .await
        .unwrap();
}

#[test]
fn the_catalogue_is_checked_listed_shown_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &str| {
        let cli = Cli::try_parse_from(format!("patchbay {words}").split(' ')).unwrap();
        let mut buffer = Vec::new();
        let exit = cli::run(&cli, &mut Output::new(&mut buffer));
        (
            exit.map_err(|error| error.to_string()),
            String::from_utf8(buffer).unwrap(),
        )
    };
    let (exit, text) = run("catalog list github");
    assert_eq!(exit, Ok(Exit::Done));
    assert!(text.contains("github "), "{text}");
    assert!(run("catalog show github").1.contains("\"auth_mode\": \"OAUTH2\""));
    assert!(
        run("catalog show githb")
            .0
            .unwrap_err()
            .contains("did you mean `github`?")
    );

    let good = folder.path().join("acme.yaml");
    let definition = "display_name: Acme\ncategories: [dev-tools]\nauth_mode: API_KEY\nproxy:\n  base_url: https://api.acme.example\n";
    std::fs::write(&good, definition).unwrap();
    let bad = folder.path().join("bad.yaml");
    std::fs::write(&bad, "display_name: Bad\nauth_mode: OATH2\n").unwrap();
    let (exit, text) = run(&format!("catalog check {}", bad.display()));
    assert_eq!(exit, Ok(Exit::Findings), "{text}");
    assert!(text.contains("bad.yaml:2") && text.contains("OAUTH2"), "{text}");
    let (exit, text) = run(&format!("catalog diff {} --json", good.display()));
    assert_eq!(exit, Ok(Exit::Done));
    let rows: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rows[0]["provider"], "acme", "{text}");
    assert_eq!(rows[0]["change"], "added");

    // A file with many entries, in the order and with the aliases somebody else gave it.
    let theirs = folder.path().join("providers.yaml");
    let text = "acme-sandbox:\n  alias: acme\n  display_name: Acme (sandbox)\nacme:\n  display_name: Acme\n  auth_mode: NONE\n  \
                docs: https://docs.acme.example\nstripe-api-key:\n  display_name: Stripe\n  categories: [payment]\n  \
                auth_mode: API_KEY\n  docs: https://docs.stripe.com\n";
    std::fs::write(&theirs, text).unwrap();
    let rows = |options: &str| -> Vec<Value> {
        let (exit, text) = run(&format!("catalog diff {} --json{options}", theirs.display()));
        assert_eq!(exit, Ok(Exit::Done), "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let overlaid = rows("");
    let names = |rows: &[Value]| rows.iter().map(|row| row["provider"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&overlaid), ["acme", "acme-sandbox", "stripe-api-key"]);
    let values = overlaid[2]["values"].as_array().unwrap();
    let mode = values.iter().find(|value| value["path"] == "auth_mode").unwrap();
    assert_eq!(
        *mode,
        serde_json::json!({"path": "auth_mode", "before": "BASIC", "after": "API_KEY"})
    );
    assert!(values.iter().any(|value| value["path"] == "proxy"), "{values:?}");
    let alone = rows(" --whole");
    let github = alone.iter().find(|row| row["provider"] == "github").unwrap();
    assert_eq!(github["change"], "missing");

    let (exit, text) = run("catalog check");
    assert_eq!(exit, Ok(Exit::Done), "{text}");
    assert!(
        text.contains("0 errors, 0 warnings.") && text.contains("By auth mode: "),
        "{text}"
    );
}
