//! A stage: the sample provider in this process, a database, one or two servers as child processes.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use patchbay_ambient::Ambient;
use patchbay_sample::{Behaviours, CLIENT_ID, CLIENT_SECRET, Consent, Options, SampleHandle};
use patchbay_store::db::Dialect;
use patchbay_store::testing::TestDb;
use patchbay_types::Secret;
use patchbay_types::integrations::IntegrationSecrets;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::Setting;
use crate::process::{Server, Spec, free_address};
use crate::seed::{self, API_KEY, House};
use crate::wire::{Answer, Wire, request};

/// Key of the integration of the sample provider.
pub(super) const SAMPLE: &str = "sample";
/// The mailbox of the application's webhooks.
pub(super) const MAILBOX: &str = "app";

/// Databases and servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server on a SQLite file.
    Sqlite,
    /// One server on Postgres.
    Postgres,
    /// Two servers on one Postgres.
    PostgresTwice,
}

impl Topology {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite, one process",
            Self::Postgres => "Postgres, one process",
            Self::PostgresTwice => "Postgres, two processes",
        }
    }
}

/// See the module's documentation.
pub(super) struct Stage {
    pub(super) sample: SampleHandle,
    pub(super) ambient: Ambient,
    specs: Vec<Spec>,
    servers: Vec<Option<Server>>,
    _directory: TempDir,
    _db: TestDb,
}

impl Stage {
    /// Sets it up and starts the servers.
    pub(super) async fn set(setting: &Setting, topology: Topology) -> anyhow::Result<Self> {
        let ambient = setting.ambient.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let options = Options {
            // Longer than the margin at which tokens are renewed, so that one refresh is enough.
            token_life: Duration::from_hours(2),
            behaviours: Behaviours {
                consent: Consent::Approve,
                ..Behaviours::default()
            },
            ..Options::default()
        };
        let sample = patchbay_sample::serve(listener, &ambient, options)?;
        let directory = tempfile::Builder::new().prefix("patchbay-prove-").tempdir()?;
        let catalog = directory.path().join("catalog");
        let definition = seed::oauth_provider(&sample.base_url);
        seed::write_catalogue(&catalog, &BTreeMap::from([(SAMPLE, definition)]))?;

        let db = match topology {
            Topology::Sqlite => TestDb::sqlite().await,
            Topology::Postgres | Topology::PostgresTwice => TestDb::postgres().await,
        };
        ensure!((db.dialect() == Dialect::Sqlite) == (topology == Topology::Sqlite));
        let mailbox = sample.url(&format!("/hooks/{MAILBOX}"));
        let house = House::build(db.url(), Some(mailbox), &ambient).await?;
        let secrets = IntegrationSecrets {
            client_id: Some(CLIENT_ID.to_owned()),
            client_secret: Some(Secret::new(CLIENT_SECRET)),
            scopes: Some("read".to_owned()),
            ..IntegrationSecrets::default()
        };
        house.integration(SAMPLE, secrets).await?;
        house.close().await;

        let count = if topology == Topology::PostgresTwice { 2 } else { 1 };
        let mut specs = Vec::new();
        for number in 0..count {
            specs.push(Spec {
                program: setting.program.clone(),
                address: free_address()?,
                database_url: db.url().to_owned(),
                data_dir: directory.path().join(format!("data-{number}")),
                catalog: catalog.clone(),
                settings: seed::settings(),
                log: directory.path().join(format!("server-{number}.log")),
            });
        }
        let mut stage = Self {
            sample,
            ambient,
            specs,
            servers: Vec::new(),
            _directory: directory,
            _db: db,
        };
        for number in 0..count {
            stage.servers.push(None);
            stage.start(number).await?;
        }
        Ok(stage)
    }

    /// Starts server `number`, which is not running.
    pub(super) async fn start(&mut self, number: usize) -> anyhow::Result<Duration> {
        let (server, took) = self.specs[number].start().await?;
        self.servers[number] = Some(server);
        Ok(took)
    }

    /// Kills server `number`.
    pub(super) async fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let server = self.servers[number].take();
        server.context("the server is not running")?.kill().await
    }

    /// Ends everything in order: a server that does not end well is an error too.
    pub(super) async fn strike(mut self) -> anyhow::Result<()> {
        for server in self.servers.iter_mut().filter_map(Option::take) {
            server.stop().await?;
        }
        self.sample.stop();
        Ok(())
    }

    pub(super) fn address(&self, number: usize) -> SocketAddr {
        self.specs[number % self.specs.len()].address
    }

    /// Imports a connection whose access token has ended; its refresh token is the provider's. That refresh token.
    pub(super) async fn expired(&self, connection: &str) -> anyhow::Result<String> {
        let issued = self.sample.issue("read");
        let ended = self.ambient.now() - jiff::SignedDuration::from_hours(1);
        let refresh = issued["refresh_token"]
            .as_str()
            .context("a refresh token")?
            .to_owned();
        let body = json!({
            "provider_config_key": SAMPLE,
            "connection_id": connection,
            "credentials": {
                "type": "OAUTH2",
                "access_token": issued["access_token"],
                "refresh_token": refresh,
                "expires_at": ended.to_string(),
            },
        });
        let answer = call(self.address(0), "POST", "/connections", Some(&body)).await?;
        ensure!(answer.status == 201, "import: {answer:?}");
        Ok(refresh)
    }

    /// Whether the provider takes this access token.
    pub(super) async fn is_honoured(&self, token: &str) -> anyhow::Result<bool> {
        let address: SocketAddr = self.sample.base_url.trim_start_matches("http://").parse()?;
        let authorization = format!("Authorization: Bearer {token}");
        let mut wire = Wire::connect(address).await?;
        wire.send(&request("GET", "/whoami", "sample", &[authorization], b""))
            .await?;
        Ok(wire.status().await? == 200)
    }

    /// Reads a connection until the answer is not "try again" (503).
    pub(super) async fn settled(&self, server: usize, connection: &str) -> anyhow::Result<Answer> {
        let until = Instant::now() + Duration::from_mins(2);
        loop {
            let answer = call(self.address(server), "GET", &path_of(connection), None).await?;
            if answer.status != 503 || Instant::now() > until {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The bodies of `auth` webhooks that arrived, by connection.
    pub(super) fn webhooks(&self) -> anyhow::Result<HashMap<String, Vec<Value>>> {
        let mut all: HashMap<String, Vec<Value>> = HashMap::new();
        for received in self.sample.received(MAILBOX) {
            let body: Value = serde_json::from_slice(&received.body)?;
            let connection = body["connectionId"].as_str().unwrap_or_default().to_owned();
            all.entry(connection).or_default().push(body);
        }
        Ok(all)
    }

    /// Waits until the webhooks satisfy a condition; whether they did within `patience`.
    pub(super) async fn webhooks_satisfy(
        &self,
        patience: Duration,
        condition: impl Fn(&HashMap<String, Vec<Value>>) -> bool,
    ) -> anyhow::Result<bool> {
        let until = Instant::now() + patience;
        loop {
            let hooks = self.webhooks()?;
            if condition(&hooks) {
                return Ok(true);
            }
            let more = self.sample.received(MAILBOX).len() + 1;
            let next = self.sample.wait_for_received(MAILBOX, more);
            if tokio::time::timeout_at(until, next).await.is_err() {
                return Ok(condition(&self.webhooks()?));
            }
        }
    }

    /// `n` requests for one connection, spread over the servers, written before any is answered. The connections.
    pub(super) async fn crowd(&self, connection: &str, n: usize) -> anyhow::Result<Vec<Wire>> {
        let mut wires = Vec::with_capacity(n);
        for number in 0..n {
            wires.push(Wire::connect(self.address(number)).await?);
        }
        let bytes = read_request(connection);
        for wire in &mut wires {
            wire.send(&bytes).await?;
        }
        Ok(wires)
    }
}

/// `GET /connections/:id`.
pub(super) fn read_request(connection: &str) -> Vec<u8> {
    request("GET", &path_of(connection), "localhost", &[authorization()], b"")
}

pub(super) fn path_of(connection: &str) -> String {
    format!("/connections/{connection}?provider_config_key={SAMPLE}")
}

fn authorization() -> String {
    format!("Authorization: Bearer {API_KEY}")
}

/// One request to a server on a connection of its own.
pub(super) async fn call(
    address: SocketAddr,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> anyhow::Result<Answer> {
    let mut headers = vec![authorization()];
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        headers.push("Content-Type: application/json".to_owned());
    }
    let mut wire = Wire::connect(address).await?;
    wire.send(&request(method, target, "localhost", &headers, body.as_bytes()))
        .await?;
    Ok(wire.answer().await?)
}

/// The answers of a crowd.
pub(super) async fn answers(wires: Vec<Wire>) -> anyhow::Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(wires.len());
    for mut wire in wires {
        answers.push(wire.answer().await?);
    }
    Ok(answers)
}

/// The access token in an answer of 200.
pub(super) fn token_of(answer: &Answer) -> Option<String> {
    let body = answer.json().ok()?;
    (answer.status == 200).then(|| {
        body["credentials"]["access_token"]
            .as_str()
            .map(ToOwned::to_owned)
    })?
}

/// How often each status and error code was answered, in words.
pub(super) fn tally(answers: &[Answer]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for answer in answers {
        let code = answer
            .error_code()
            .map(|code| format!(" `{code}`"))
            .unwrap_or_default();
        *counts.entry(format!("{}{code}", answer.status)).or_default() += 1;
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(what, count)| format!("{count} × {what}"))
        .collect();
    words.join(", ")
}
