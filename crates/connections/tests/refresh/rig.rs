//! A rig that leads one connection after another through a provider's misbehaviour, on one node or two.
//!
//! An auth mode is one [`Mode`]: how its entry in a catalogue looks, and what is stored. A misbehaviour is one
//! [`Case`]. Their cross product is the matrix that `docs/refresh.md` publishes.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use patchbay_ambient::{Ambient, Clock as _, TestClock};
use patchbay_auth::driver;
use patchbay_connections::caches::ConnectionName;
use patchbay_connections::connections::{self, Import, Verification};
use patchbay_connections::environments::{self, NewEnvironment};
use patchbay_connections::integrations::{self, AppCredentials, NewIntegration};
use patchbay_connections::refresh::{self, COOLDOWN, Freshness, ReadError};
use patchbay_connections::{Context, api_keys};
use patchbay_sample::{Behaviours, Gate, Grant, Options, RegisteredClient, SampleHandle};
use patchbay_store::db::{DbError, Notice, Topic};
use patchbay_store::testing::TestDb;
use patchbay_types::connections::{Change, Connection, ConnectionUpsert, RefreshCause};
use patchbay_types::environments::{Environment, EnvironmentSettings, WebhookSettings};
use patchbay_types::{ConnectionId, Credentials, EnvironmentName, IntegrationKey, JsonMap, Timestamp};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::world::{announced, die_in_the_middle, node, stored};

/// The client of an app's users.
pub(crate) fn user_of(client: &str) -> String {
    format!("{client}-user")
}

/// Life of the provider's access tokens.
pub(crate) const LIFE: Duration = Duration::from_hours(1);
/// Callers who read at once.
pub(crate) const READERS: usize = 6;
const CONNECTION: &str = "ada";
pub(crate) const SECRET: &str = "planted-secret-of-a-client";

/// What a renewal spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spends {
    /// A refresh token, which a provider may replace.
    RefreshToken,
    /// Nothing: a secret that lasts is shown again.
    Secret,
    /// Nothing, and nobody is asked: a token is signed here.
    Nobody,
}

/// An auth mode: a table.
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    /// What the provider sees when credentials are renewed.
    pub(crate) grant: Grant,
    pub(crate) spends: Spends,
    /// How long Patchbay takes credentials to live, unless the provider says otherwise.
    pub(crate) life: Duration,
    /// Lines of the definition, after the common ones; `BASE` is the provider, `EXPIRY` where and how it announces a
    /// token's life.
    pub(crate) definition: &'static str,
    /// What the operator enters.
    pub(crate) app: fn(&Newcomer<'_>) -> Option<AppCredentials>,
    /// More of what the operator enters.
    pub(crate) settings: fn(&Newcomer<'_>) -> Option<BTreeMap<String, String>>,
    /// How the provider behaves when it behaves.
    pub(crate) manners: fn() -> Behaviours,
    /// The secret that the provider knows the client by.
    pub(crate) secret: fn() -> String,
    /// What is stored of a connection just made: credentials and `connection_config`.
    pub(crate) connect: fn(&Newcomer<'_>) -> (Value, Value),
    /// The token that the API is shown.
    pub(crate) token: fn(&Credentials) -> String,
    /// Whether the API takes it.
    pub(crate) accepts: fn(&Newcomer<'_>, token: &str) -> bool,
}

/// A client, and where it is one.
pub(crate) struct Newcomer<'a> {
    pub(crate) sample: &'a SampleHandle,
    pub(crate) client: &'a str,
    pub(crate) secret: &'a str,
    /// When credentials made now end.
    pub(crate) end: Timestamp,
}

/// What the provider, or the world, does wrong.
pub(crate) struct Case {
    /// Names the client, and the entry in the catalogue.
    pub(crate) id: &'static str,
    /// In the published table.
    pub(crate) words: &'static str,
    pub(crate) act: Act,
    /// More lines of the definition.
    pub(crate) definition: &'static str,
    /// How long callers wait after a failure before they ask again; the cool-down if the provider names nothing longer.
    pub(crate) pause: Duration,
    /// Expected where a refresh token is spent, where a lasting secret is shown, and where nobody is asked; none: the
    /// case does not exist.
    pub(crate) refresh_token: Option<Expected>,
    pub(crate) secret: Option<Expected>,
    pub(crate) nobody: Option<Expected>,
    /// Whether it is about how a provider says when a token ends.
    pub(crate) about_expiry: bool,
}

/// The four readings, and the webhooks.
pub(crate) type Expected = (&'static str, &'static str);

/// How it is brought about.
pub(crate) enum Act {
    /// By the provider's switches.
    Switch(fn(&mut Behaviours, Grant)),
    /// The same, and every answer takes so long.
    Slow(Duration),
    /// The same, and nobody ever answers.
    Hang(fn(&mut Behaviours, Grant)),
    /// The operator's secret is no longer the client's.
    WrongSecret,
    /// The end user takes the grant back after the first half hour.
    Revoke,
    /// A node asks, is answered and dies before it has saved the answer, when the token has ended.
    Kill(fn(&mut Behaviours, Grant)),
}

/// What a reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A token that the API takes, newer than at the reading before.
    Fresh,
    /// The same, after the API had rejected the one that was handed out.
    FreshAfterRejection,
    /// The token of the reading before, and the API takes it.
    Old,
    /// A token that the API does not take.
    Useless,
    Failed(RefreshCause),
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::FreshAfterRejection => "401, fresh",
            Self::Old => "old",
            Self::Useless => "useless",
            Self::Failed(RefreshCause::ProviderRefused) => "refused",
            Self::Failed(RefreshCause::ProviderDown) => "down",
            Self::Failed(RefreshCause::Ours) => "ours",
            Self::Failed(RefreshCause::RefreshInterrupted) => "interrupted",
        })
    }
}

/// What came of a case under a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Half way, near the end, after the end, and once the misbehaviour is over: with the token requests of each.
    pub(crate) readings: [(Reading, usize); 4],
    /// `reason outcome`, oldest first.
    pub(crate) timeline: Vec<String>,
    /// `error.type`, or `ok`, oldest first.
    pub(crate) told: Vec<String>,
    /// Whether it took the end user to make it work again.
    pub(crate) lost: bool,
}

impl Cell {
    /// As [`Expected`] writes it.
    pub(crate) fn summary(&self) -> (String, String) {
        let readings: Vec<String> = self
            .readings
            .iter()
            .map(|(reading, asked)| format!("{reading} {asked}"))
            .collect();
        (readings.join(" | "), self.told.join(", "))
    }
}

/// Nodes on one database, a provider, a clock.
pub(crate) struct Rig {
    clock: TestClock,
    sample: SampleHandle,
    nodes: Vec<Arc<Context>>,
    environment: Arc<Environment>,
    _db: TestDb,
}

/// One connection of one client on its way through a case.
struct Journey<'a> {
    rig: &'a Rig,
    mode: &'a Mode,
    case: &'a Case,
    client: String,
    secret: String,
    last: String,
}

pub(crate) fn client(mode: &Mode, case: &Case) -> String {
    let slug = mode
        .name
        .to_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    format!("{slug}-{}", case.id)
}

/// How a definition of TWO_STEP says where the life of a token is, which the others know by its name.
fn expiry(case: &Case) -> &'static str {
    match case.id {
        "epoch" | "epoch-millis" | "iso" | "relative" | "token-ahead" | "token-behind" => {
            "token_expiration: expires_at"
        }
        _ => "token_expiration: expires_in, token_expiration_strategy: expireIn",
    }
}

impl Rig {
    pub(crate) async fn new(db: TestDb, nodes: usize, mode: &Mode, cases: &[Case]) -> Self {
        let clock = TestClock::default();
        let ambient = Ambient::test(clock.clone(), 7);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            token_life: LIFE,
            ..Options::default()
        };
        let sample = patchbay_sample::serve(listener, &ambient, options).unwrap();
        let mut catalogue = String::new();
        for case in cases {
            let name = client(mode, case);
            let common = "categories: [test]\n    docs: https://docs.example.com\n    proxy:\n        base_url: BASE\n";
            let own = [mode.definition, case.definition]
                .concat()
                .replace("EXPIRY", expiry(case));
            write!(
                catalogue,
                "{name}:\n    display_name: {name}\n    {own}    {common}"
            )
            .unwrap();
        }
        let catalogue = catalogue.replace("BASE", &sample.base_url);
        let mut contexts = Vec::new();
        for number in 0..nodes {
            let seed = 1 + u64::try_from(number).unwrap();
            contexts.push(node(&db, &clock, &catalogue, &format!("node {number}"), seed).await);
        }
        let first = &contexts[0];
        let account = api_keys::default_account(first).await.unwrap();
        let settings = EnvironmentSettings {
            webhooks: WebhookSettings {
                primary_url: Some("https://product.example/hooks".to_owned()),
                on_auth_creation: false,
                ..WebhookSettings::default()
            },
            ..EnvironmentSettings::default()
        };
        let new = NewEnvironment {
            account,
            name: EnvironmentName::parse("dev").unwrap(),
            is_production: None,
            settings,
        };
        let environment = environments::create(first, new).await.unwrap().environment;
        Self {
            clock,
            sample,
            nodes: contexts,
            environment: Arc::new(environment),
            _db: db,
        }
    }

    /// Leads a connection through a case.
    pub(crate) async fn run(&self, mode: &Mode, case: &Case) -> Cell {
        let client = client(mode, case);
        let secret = (mode.secret)();
        self.register(&client, &secret, (mode.manners)());
        self.register(&user_of(&client), SECRET, Behaviours::default());
        let newcomer = self.newcomer(mode, &client, &secret);
        let new = NewIntegration {
            provider: client.clone(),
            unique_key: IntegrationKey::parse(&client).unwrap(),
            display_name: None,
            forward_webhooks: true,
            credentials: (mode.app)(&newcomer),
            integration_config: (mode.settings)(&newcomer),
            custom: None,
        };
        integrations::create(&self.nodes[0], self.environment.id, new)
            .await
            .unwrap();
        let mut journey = Journey {
            rig: self,
            mode,
            case,
            client,
            secret,
            last: String::new(),
        };
        journey.go().await
    }

    fn newcomer<'a>(&'a self, mode: &Mode, client: &'a str, secret: &'a str) -> Newcomer<'a> {
        Newcomer {
            sample: &self.sample,
            client,
            secret,
            end: self.clock.now().checked_add(mode.life).unwrap(),
        }
    }

    fn register(&self, client: &str, secret: &str, behaviours: Behaviours) {
        let secret = Some(secret.to_owned());
        self.sample
            .register(client, RegisteredClient { secret, behaviours });
    }
}

impl Journey<'_> {
    async fn go(&mut self) -> Cell {
        let (clock, life) = (&self.rig.clock, self.mode.life);
        self.connect().await;
        self.begin();
        clock.advance(life / 2);
        let half = self.read().await;
        if matches!(self.case.act, Act::Revoke) {
            let stored = self.stored().await;
            self.rig
                .sample
                .revoke(stored.credentials.refresh_token().unwrap().expose());
        }
        clock.advance(life / 3);
        let near = self.read().await;
        clock.advance(life);
        if matches!(self.case.act, Act::Kill(_)) {
            die_in_the_middle(&self.rig.nodes[0], clock, &self.name()).await;
        }
        let over = self.read().await;
        self.end();
        if matches!(over.0, Reading::Failed(_)) && self.case.pause > COOLDOWN {
            clock.advance(COOLDOWN);
            assert_eq!(
                self.read().await,
                (over.0, 0),
                "{}: the pause is kept",
                self.client
            );
            clock.advance(self.case.pause.checked_sub(COOLDOWN).unwrap());
        } else {
            clock.advance(COOLDOWN);
        }
        let after = self.read().await;
        let (timeline, told) = (
            self.timeline().await,
            announced(&self.rig.nodes[0], &self.name()).await,
        );
        let lost = matches!(after.0, Reading::Failed(_) | Reading::Useless);
        // Whatever happened, connecting again helps.
        self.connect().await;
        assert_eq!(self.read().await, (Reading::Old, 0), "{}", self.client);
        Cell {
            readings: [half, near, over, after],
            timeline,
            told,
            lost,
        }
    }

    fn begin(&self) {
        let (rig, grant) = (self.rig, self.mode.grant);
        match self.case.act {
            Act::Switch(switch) | Act::Hang(switch) | Act::Kill(switch) => {
                rig.sample.behave_to(&self.client, |all| switch(all, grant));
            }
            Act::Slow(_) | Act::Revoke => {}
            Act::WrongSecret => rig.register(&self.client, "another secret", (self.mode.manners)()),
        }
    }

    /// The provider behaves again; what it thinks of used refresh tokens is its character.
    fn end(&self) {
        let grant = self.mode.grant;
        let mut well = (self.mode.manners)();
        self.rig.sample.behave_to(&self.client, |all| {
            well.of(grant).old_token = all.of(grant).old_token;
            well.of(grant).honour_old_for_seconds = all.of(grant).honour_old_for_seconds;
        });
        self.rig.register(&self.client, &self.secret, well);
    }

    fn name(&self) -> ConnectionName {
        ConnectionName {
            environment: self.rig.environment.id,
            integration: self.client.clone(),
            connection: CONNECTION.to_owned(),
        }
    }

    async fn connect(&mut self) {
        let newcomer = self.rig.newcomer(self.mode, &self.client, &self.secret);
        let (credentials, config) = (self.mode.connect)(&newcomer);
        let object = |value: Value| -> JsonMap { value.as_object().unwrap().clone() };
        let credentials = Credentials::from_json(object(credentials)).unwrap();
        let connection = if self.mode.name.starts_with("MCP") {
            self.put(credentials, object(config)).await;
            self.stored().await
        } else {
            self.import(credentials, object(config)).await
        };
        self.last = (self.mode.token)(&connection.credentials);
    }

    async fn import(&self, credentials: Credentials, connection_config: JsonMap) -> Connection {
        let node = &self.rig.nodes[0];
        let target = connections::import_target(node, self.rig.environment.id, &self.client)
            .await
            .unwrap();
        let import = Import {
            connection_id: Some(ConnectionId::parse(CONNECTION).unwrap()),
            credentials,
            connection_config,
            metadata: Change::Keep,
            tags: Change::Keep,
            end_user: None,
            webhook_url_override: Change::Keep,
            verification: Verification::Required,
            assertion_option: JsonMap::new(),
        };
        connections::import(node, &self.rig.environment, &target, import)
            .await
            .unwrap()
    }

    /// As the popup stores what cannot be imported.
    async fn put(&self, credentials: Credentials, connection_config: JsonMap) {
        let node = &self.rig.nodes[0];
        let environment = self.rig.environment.id;
        let integration = integrations::get(node, environment, &self.client)
            .await
            .unwrap()
            .unwrap();
        let upsert = ConnectionUpsert {
            integration_id: integration.id,
            connection_id: ConnectionId::parse(CONNECTION).unwrap(),
            credentials_expires_at: credentials.expires_at(),
            credentials,
            connection_config,
            metadata: Change::Keep,
            tags: Change::Keep,
            webhook_url_override: Change::Keep,
            end_user: Change::Keep,
        };
        let written: Result<(), DbError> = node
            .store
            .write(move |tx| {
                Box::pin(async move {
                    patchbay_store::connections::upsert(tx, environment, &upsert).await?;
                    tx.notify(Notice::new(Topic::Everything, ""));
                    Ok(())
                })
            })
            .await;
        written.unwrap();
    }

    fn accepts(&self, token: &str) -> bool {
        let newcomer = self.rig.newcomer(self.mode, &self.client, &self.secret);
        (self.mode.accepts)(&newcomer, token)
    }

    fn asked(&self) -> usize {
        self.rig.sample.requests_of(&self.client).len()
    }

    /// Many readers, spread over the nodes, who then call the API with what they got.
    async fn read(&mut self) -> (Reading, usize) {
        self.all_nodes_know().await;
        let before = self.asked();
        let gate = Gate::TokenAnswer(self.mode.grant);
        if matches!(self.case.act, Act::Slow(_)) {
            self.rig.sample.hold(gate.clone());
        }
        let readers: Vec<_> = (0..READERS)
            .map(|number| {
                let node = self.rig.nodes[number % self.rig.nodes.len()].clone();
                let name = self.name();
                let tasks = node.ambient.tasks.clone();
                tasks.spawn(async move { refresh::read(&node, &name, Freshness::Usual).await })
            })
            .collect();
        self.let_time_pass(before, &readers, gate).await;
        let mut outcomes = Vec::new();
        for reader in join_all(readers).await {
            outcomes.push(self.judge(reader.unwrap()).await);
        }
        outcomes.dedup();
        let [(reading, token)] = outcomes.as_slice() else {
            panic!("{}: readers disagree: {outcomes:?}", self.client);
        };
        if let Some(token) = token {
            self.last.clone_from(token);
        }
        (*reading, self.asked() - before)
    }

    /// Where the provider takes its time, lets that time pass once it has been asked.
    async fn let_time_pass<T>(&self, before: usize, readers: &[tokio::task::JoinHandle<T>], gate: Gate) {
        let patience = match self.case.act {
            Act::Slow(patience) => patience,
            Act::Hang(_) => driver::TIMEOUT,
            _ => return,
        };
        let asked = self.rig.sample.wait_for_requests_of(&self.client, before + 1);
        let served = async {
            while !readers.iter().all(tokio::task::JoinHandle::is_finished) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = asked => self.rig.clock.advance(patience),
            () = served => {}
        }
        self.rig.sample.release(gate);
    }

    /// What a reader has, and the token it can use from now on.
    async fn judge(&self, read: Result<Arc<Connection>, ReadError>) -> (Reading, Option<String>) {
        let connection = match read {
            Ok(connection) => connection,
            Err(ReadError::Failed { cause, .. }) => return (Reading::Failed(cause), None),
            // Answered from the failure of a moment ago.
            Err(ReadError::Backoff(connection) | ReadError::Exhausted(connection)) => {
                return (Reading::Failed(connection.refresh.cause.unwrap()), None);
            }
            Err(error) => panic!("{}: {error}", self.client),
        };
        let token = (self.mode.token)(&connection.credentials);
        if self.accepts(&token) {
            let reading = if token == self.last {
                Reading::Old
            } else {
                Reading::Fresh
            };
            return (reading, Some(token));
        }
        // What the proxy does with a 401.
        let node = &self.rig.nodes[0];
        let newer = refresh::force_after_rejection(node, &self.name(), connection.generation).await;
        match newer.map(|newer| (self.mode.token)(&newer.credentials)) {
            Some(newer) if self.accepts(&newer) => (Reading::FreshAfterRejection, Some(newer)),
            _ => (Reading::Useless, None),
        }
    }

    /// Waits until what one node wrote has reached the caches of all.
    async fn all_nodes_know(&self) {
        let generation = self.stored().await.generation;
        for node in &self.rig.nodes {
            while refresh::find(node, &self.name())
                .await
                .unwrap()
                .unwrap()
                .generation
                < generation
            {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn stored(&self) -> Connection {
        stored(&self.rig.nodes[0], &self.name()).await
    }

    async fn timeline(&self) -> Vec<String> {
        let row = self.stored().await.id;
        let events = refresh::timeline(&self.rig.nodes[0], row).await.unwrap();
        events
            .iter()
            .rev()
            .map(|event| {
                let outcome = event.cause.map_or("ok", RefreshCause::as_str);
                format!("{} {outcome}", event.reason.as_str())
            })
            .collect()
    }
}
