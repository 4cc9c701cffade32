//! The whole server in process: a fresh store, the sample provider, a clock that moves when told, and a tiny client.
//!
//! Everything these tests log is searched for planted secrets as it is written.

pub mod chaos;
pub mod client;
pub mod collector;
pub mod forms;
pub mod lifecycle;
pub mod popup;
pub mod process;
pub mod raw;
pub mod simulated;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use clap::Parser as _;
use data_encoding::{BASE64, HEXLOWER};
use patchbay::app::{self, Role, Running};
use patchbay::cli::{self, Cli, Exit, Output};
use patchbay::config::{Config, ConfigFile, LogFormat, Problems, Sources};
use patchbay_ambient::{Ambient, Shutdown, TestClock};
use patchbay_sample::{Received, SampleHandle};
use patchbay_store::deliveries;
use patchbay_store::testing::{TEST_KEY, TestDb};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

pub use client::{Answer, Client};

/// The key of `dev` in every server made here.
pub const DEV_KEY: &str = "3f2b8b56-7b1a-4d70-9a3e-0d5f4a0c1b2e";
/// What the sample provider's access tokens live.
pub const TOKEN_LIFE: Duration = Duration::from_mins(1);
/// Nothing that is waited for takes this long, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a test's servers share: the database, the clock, the provider.
pub struct World {
    pub clock: TestClock,
    pub sample: SampleHandle,
    pub db: TestDb,
    pub folder: TempDir,
    provider: Ambient,
    nodes: AtomicU64,
}

impl World {
    pub async fn on(db: TestDb) -> Self {
        watch_logs();
        // Ahead of the system's, by which commands beside the server go: what they make due is due.
        let clock = TestClock::at(Ambient::system().now() + Duration::from_hours(1));
        let provider = Ambient::test(clock.clone(), 7);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = patchbay_sample::Options {
            token_life: TOKEN_LIFE,
            ..patchbay_sample::Options::default()
        };
        let sample = patchbay_sample::serve(listener, &provider, options).unwrap();
        sample.behave(|all| all.consent = patchbay_sample::Consent::Approve);
        let folder = tempfile::tempdir().unwrap();
        let entries = patchbay::demo::catalogue_text(&sample.base_url);
        std::fs::write(folder.path().join("providers.yaml"), entries).unwrap();
        Self {
            clock,
            sample,
            db,
            folder,
            provider,
            nodes: AtomicU64::new(0),
        }
    }

    /// A server to be started on this world's database: loopback open, no rate limit, `dev` with [`DEV_KEY`] and its
    /// webhooks sent to the provider's `/hooks/main`.
    pub fn server(&self) -> Starting<'_> {
        let node = self.nodes.fetch_add(1, Ordering::Relaxed);
        let flags = [
            ("listen", "127.0.0.1:0".to_owned()),
            ("database_url", self.db.url().to_owned()),
            (
                "data_dir",
                self.folder
                    .path()
                    .join(format!("node{node}"))
                    .display()
                    .to_string(),
            ),
            ("encryption_key", BASE64.encode(&TEST_KEY)),
            ("catalog", self.catalogue().display().to_string()),
            ("allow_private_networks", "127.0.0.0/8".to_owned()),
            ("rate_limit_per_min", "0".to_owned()),
            ("api_key", format!("dev={DEV_KEY}")),
        ];
        Starting {
            world: self,
            sources: Sources {
                flags: flags
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), vec![value]))
                    .collect(),
                file: Some(config_file(&format!(
                    "[environments.dev]\nwebhooks.primary_url = \"{}\"\n",
                    self.sample.url("/hooks/main")
                ))),
                ..Sources::default()
            },
            ambient: Ambient::test(self.clock.clone(), 100 + node),
        }
    }

    /// The file with the sample provider's definitions.
    pub fn catalogue(&self) -> PathBuf {
        self.folder.path().join("providers.yaml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits for the `count`-th webhook in a mailbox and gives it with its verified body.
    pub async fn webhook(&self, mailbox: &str, count: usize) -> (Received, Value) {
        let wanted = until(format!("webhook {count} in {mailbox}"), async || {
            let received = self.sample.received(mailbox);
            received.get(count - 1).cloned()
        })
        .await;
        let body = serde_json::from_slice(&wanted.body).unwrap();
        (wanted, body)
    }

    /// Tasks that end with the world.
    pub fn provider_tasks(&self) -> patchbay_ambient::Tasks {
        self.provider.tasks.clone()
    }

    pub fn now(&self) -> jiff::Timestamp {
        patchbay_ambient::Clock::now(&self.clock)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.provider.tasks.stop();
    }
}

/// A server about to be started.
pub struct Starting<'a> {
    world: &'a World,
    pub sources: Sources,
    pub ambient: Ambient,
}

impl Starting<'_> {
    /// Sets a setting by flag.
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.sources.flags.insert(key.to_owned(), vec![value.into()]);
        self
    }

    /// Takes a setting's flag away.
    pub fn unset(mut self, key: &str) -> Self {
        self.sources.flags.remove(key);
        self
    }

    /// Sets an environment variable.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.sources.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Replaces the config file.
    pub fn file(mut self, text: &str) -> Self {
        self.sources.file = Some(config_file(text));
        self
    }

    /// Runs on the system's clock instead of the world's.
    pub fn in_real_time(mut self) -> Self {
        self.ambient = Ambient::system();
        self
    }

    pub fn config(&self) -> Result<Config, Problems> {
        Config::load(&self.sources)
    }

    /// Starts it.
    pub async fn start(self) -> TestServer {
        self.try_start().await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Starts it, or says why not.
    pub async fn try_start(self) -> anyhow::Result<TestServer> {
        let config = self.config().unwrap_or_else(|problems| panic!("{problems}"));
        let running = app::start(config, self.ambient.clone(), Role::All, false).await?;
        let address = running.address.expect("a server listens");
        Ok(TestServer {
            api: Client::new(&format!("http://{address}"), DEV_KEY),
            clock: self.world.clock.clone(),
            sample: self.world.sample.clone(),
            operator: Operator {
                flags: self.sources.flags,
            },
            running: Some(running),
        })
    }

    /// The command line on the same set-up.
    pub fn operator(&self) -> Operator {
        Operator {
            flags: self.sources.flags.clone(),
        }
    }
}

/// A server at work. End it with [`TestServer::finish`].
pub struct TestServer {
    /// Calls it with the key of `dev`.
    pub api: Client,
    pub clock: TestClock,
    pub sample: SampleHandle,
    /// Types commands beside it.
    pub operator: Operator,
    running: Option<Running>,
}

impl TestServer {
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("not stopped yet")
    }

    pub fn port(&self) -> u16 {
        self.running().address.unwrap().port()
    }

    /// Waits until every webhook has been sent and noted as sent. Before that, a clock that leaps lets claims end and
    /// webhooks come twice.
    pub async fn quiet(&self) {
        let store = self.running().context.store.clone();
        until("every webhook to be sent", async || {
            let stats = store.read(|tx| Box::pin(deliveries::stats(tx))).await.unwrap();
            (stats.pending == 0).then_some(())
        })
        .await;
    }

    /// Stops it: everything was sent, every task ended, and no secret was logged.
    pub async fn finish(self) {
        self.quiet().await;
        let intents = self.running().context.store.read(|tx| {
            Box::pin(patchbay_store::refreshes::stale_intents(
                tx,
                jiff::Timestamp::MAX,
                10,
            ))
        });
        assert_eq!(
            intents.await.unwrap().len(),
            0,
            "a refresh was begun and not ended"
        );
        self.stop().await;
    }

    /// Transactions it has written.
    pub fn writes(&self) -> u64 {
        self.running().context.store.stats().writes
    }

    /// Stops it with work left for the next one.
    pub async fn stop(mut self) {
        let running = self.running.take().expect("not stopped yet");
        assert_eq!(running.stop().await, Shutdown::Drained);
        assert_no_secret_was_logged();
    }

    /// Makes the integrations `sample-oauth` and `sample-api-key`.
    pub async fn integrations(&self) {
        let credentials = json!({
            "type": "OAUTH2", "client_id": patchbay_sample::CLIENT_ID, "client_secret": patchbay_sample::CLIENT_SECRET,
        });
        let oauth =
            json!({"provider": "sample-oauth", "unique_key": "sample-oauth", "credentials": credentials});
        self.api.post("/integrations", &oauth).await.expect(200);
        let key = json!({"provider": "sample-api-key", "unique_key": "sample-api-key"});
        self.api.post("/integrations", &key).await.expect(200);
    }

    /// A connect session's token.
    pub async fn session(&self, body: &Value) -> String {
        let made = self.api.post("/connect/sessions", body).await.expect(201);
        made["data"]["token"].as_str().unwrap().to_owned()
    }

    /// Goes through the popup as a browser does, and ends well.
    pub async fn authorize(&self, session: &str, integration: &str) {
        let page = self.popup(session, integration).await;
        assert_eq!(page.status, 200, "{}", page.text);
    }

    /// Goes through the popup as a browser does: the last page.
    pub async fn popup(&self, session: &str, integration: &str) -> Answer {
        self.popup_bringing(session, integration, "").await
    }

    /// As [`Self::popup`], with more behind the callback's query.
    pub async fn popup_bringing(&self, session: &str, integration: &str, more: &str) -> Answer {
        let browser = self.api.anonymous();
        let target = format!("/oauth/connect/{integration}?connect_session_token={session}");
        let redirect = browser.get(&target).await;
        assert_eq!(redirect.status, 302, "{}", redirect.text);
        let cookie = redirect.header("set-cookie").split(';').next().unwrap();
        let decided = Client::anonymous_at(redirect.header("location")).get("").await;
        let back = decided.header("location");
        let back: url::Url = back.parse().unwrap_or_else(|_| panic!("{}", decided.text));
        let callback = &back[url::Position::BeforePath..];
        browser
            .request("GET", &format!("{callback}{more}"))
            .header("cookie", cookie)
            .send()
            .await
    }

    /// Imports an OAuth connection with tokens fresh from the provider.
    pub async fn import(&self, id: &str, more: &Value) -> Value {
        let issued = self.sample.issue("contacts:read invoices:read");
        let now = patchbay_ambient::Clock::now(&self.clock);
        let mut body = json!({
            "provider_config_key": "sample-oauth",
            "connection_id": id,
            "credentials": {
                "type": "OAUTH2",
                "access_token": issued["access_token"],
                "refresh_token": issued["refresh_token"],
                "expires_at": now.checked_add(TOKEN_LIFE).unwrap().to_string(),
            },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.api.post("/connections", &body).await.expect(201)
    }

    /// Imports an API-key connection.
    pub async fn import_key(&self, id: &str, more: &Value) -> Value {
        let mut body = json!({
            "provider_config_key": "sample-api-key",
            "connection_id": id,
            "credentials": { "type": "API_KEY", "apiKey": patchbay_sample::API_KEY },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.api.post("/connections", &body).await.expect(201)
    }

    /// The connection with its credentials.
    pub async fn connection(&self, id: &str) -> Answer {
        self.api
            .get(&format!("/connections/{id}?provider_config_key=sample-oauth"))
            .await
    }

    /// The access token as an application reads it.
    pub async fn token(&self, id: &str) -> String {
        let connection = self.connection(id).await.expect(200);
        connection["credentials"]["access_token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A proxied `GET` with the credentials of an OAuth connection.
    pub async fn proxied(&self, id: &str, path: &str) -> Answer {
        let request = self.api.request("GET", &format!("/proxy{path}"));
        request
            .header("connection-id", id)
            .header("provider-config-key", "sample-oauth")
            .send()
            .await
    }

    /// The one delivery of the outbox, once `ready` says so.
    pub async fn delivery(&self, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
        until(format!("a delivery that {what}"), async || {
            let listed = self.operator.json("deliveries list --json").await;
            listed.as_array()?.iter().find(|row| ready(row)).cloned()
        })
        .await
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        assert!(
            self.running.is_none() || std::thread::panicking(),
            "a server was not stopped: end the test with finish() or stop()"
        );
    }
}

/// Somebody at a terminal beside the server.
#[derive(Clone)]
pub struct Operator {
    pub flags: BTreeMap<String, Vec<String>>,
}

impl Operator {
    /// Other keys than the server's.
    pub fn with_keys(mut self, keys: &[[u8; 32]]) -> Self {
        let keys = keys.iter().map(|key| BASE64.encode(key)).collect();
        self.flags.insert("encryption_key".to_owned(), keys);
        self
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.flags.insert(key.to_owned(), vec![value.to_owned()]);
        self
    }

    /// Runs a command line and gives its exit and output; an error's text counts as output.
    pub async fn run(&self, words: &str) -> (Exit, String) {
        let mut line: Vec<String> = format!("patchbay {words}")
            .split(' ')
            .map(str::to_owned)
            .collect();
        for (key, values) in &self.flags {
            for value in values {
                line.push(format!("--{}={value}", key.replace('_', "-")));
            }
        }
        run_line(line).await
    }

    pub async fn ok(&self, words: &str) -> String {
        let (exit, text) = self.run(words).await;
        assert_eq!(exit, Exit::Done, "{words}: {text}");
        text
    }

    pub async fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(words).await).unwrap()
    }

    pub async fn fails(&self, words: &str) -> String {
        let (exit, text) = self.run(words).await;
        assert_eq!(exit, Exit::Failed, "{words}: {text}");
        text
    }
}

/// Runs a whole command line.
pub async fn run_line(line: Vec<String>) -> (Exit, String) {
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

/// Asks again and again until there is an answer.
pub async fn until<T>(what: impl Into<String>, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, asking).await;
    found.unwrap_or_else(|_| panic!("waited in vain for {}", what.into()))
}

/// Checks a webhook's signatures as a receiver does, each way there is.
#[track_caller]
pub fn assert_signed(received: &Received, key: &str) {
    let header = |name: &str| received.headers[name].to_str().unwrap().to_owned();
    let mut legacy = digest::Context::new(&digest::SHA256);
    legacy.update(key.as_bytes());
    legacy.update(&received.body);
    assert_eq!(
        header("x-nango-signature"),
        HEXLOWER.encode(legacy.finish().as_ref())
    );
    let mac = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let expected = HEXLOWER.encode(hmac::sign(&mac, &received.body).as_ref());
    assert_eq!(header("x-nango-hmac-sha256"), expected);
    let mut signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&received.body);
    let expected = format!("v1,{}", BASE64.encode(hmac::sign(&mac, &signed).as_ref()));
    let signatures = header("webhook-signature");
    assert!(signatures.split(' ').any(|one| one == expected), "{signatures}");
}

pub fn config_file(text: &str) -> ConfigFile {
    ConfigFile {
        path: "patchbay.toml".into(),
        text: text.to_owned(),
    }
}

/// Lines that hold a planted secret.
static LEAKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Looks at every line this process logs. Only the first test of a process installs it.
fn watch_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = "trace,h2=info,hyper=info,tokio_postgres=debug,notify=info,mio=info,rustls=info";
        let log = patchbay::config::Log {
            filter: filter.to_owned(),
            format: LogFormat::Json,
        };
        let lines = patchbay::telemetry::lines(&log, patchbay::telemetry::Colour::Off, || Watch);
        // Fails where `make test` captures the lines itself and looks through them at its end.
        let _ = tracing::subscriber::set_global_default(Registry::default().with(lines));
    });
}

struct Watch;

impl Write for Watch {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.windows(8).any(|window| window == b"planted-") {
            let line = String::from_utf8_lossy(buffer).into_owned();
            LEAKS.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[track_caller]
pub fn assert_no_secret_was_logged() {
    let leaks = LEAKS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(leaks.is_empty(), "secrets were logged: {leaks:#?}");
}

/// A file's bytes, to see that nothing touched it.
pub fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}
