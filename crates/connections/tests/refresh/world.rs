//! One product with one connection to the sample provider, on a throw-away database.

use std::sync::Arc;
use std::time::Duration;

use patchbay_ambient::{Ambient, Clock as _, TestClock};
use patchbay_auth::driver::{self, RenewInput};
use patchbay_catalog::{Catalogue, CatalogueHandle, Severity};
use patchbay_connections::caches::ConnectionName;
use patchbay_connections::connections::{self, Import, Verification};
use patchbay_connections::environments::{self, NewEnvironment};
use patchbay_connections::integrations::{self, AppCredentials, NewIntegration};
use patchbay_connections::{Context, Settings, StateCookie, api_keys, refresh};
use patchbay_outbound::{Client, Policy, PrivateNetworks, Settings as ClientSettings, Timeouts, Trust};
use patchbay_sample::{CLIENT_ID, CLIENT_SECRET, Options, SampleHandle};
use patchbay_store::db::DbError;
use patchbay_store::testing::TestDb;
use patchbay_store::{deliveries, leases, refreshes};
use patchbay_types::connections::{Change, Connection};
use patchbay_types::deliveries::DeliveryFilter;
use patchbay_types::environments::{Environment, EnvironmentSettings, WebhookSettings};
use patchbay_types::refreshes::RefreshIntent;
use patchbay_types::{AuthMode, ConnectionId, Credentials, EnvironmentName, IntegrationKey, JsonMap};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Life of the sample provider's access tokens.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_hours(1);
/// After so long a token is worth refreshing and still good.
pub(crate) const DUE: Duration = Duration::from_mins(50);
/// The one integration.
pub(crate) const INTEGRATION: &str = "sample";
/// The one connection.
pub(crate) const CONNECTION: &str = "ada";

/// A node, and what is around it.
pub(crate) struct World {
    pub(crate) db: TestDb,
    pub(crate) clock: TestClock,
    pub(crate) sample: SampleHandle,
    pub(crate) node: Arc<Context>,
    pub(crate) environment: Arc<Environment>,
}

impl World {
    /// With the connection just made.
    pub(crate) async fn on(db: TestDb) -> Self {
        let clock = TestClock::default();
        let ambient = Ambient::test(clock.clone(), 7);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            token_life: TOKEN_LIFE,
            ..Options::default()
        };
        let sample = patchbay_sample::serve(listener, &ambient, options).unwrap();
        let node = node(&db, &clock, &catalogue(&sample), "one", 1).await;
        let account = api_keys::default_account(&node).await.unwrap();
        let settings = EnvironmentSettings {
            webhooks: WebhookSettings {
                primary_url: Some("https://product.example/hooks".to_owned()),
                on_auth_creation: false,
                refresh_error_reminder_hours: 24,
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
        let environment = Arc::new(environments::create(&node, new).await.unwrap().environment);
        let new = NewIntegration {
            provider: INTEGRATION.to_owned(),
            unique_key: IntegrationKey::parse(INTEGRATION).unwrap(),
            display_name: None,
            forward_webhooks: true,
            credentials: Some(AppCredentials::OAuth {
                mode: AuthMode::OAuth2,
                client_id: Some(CLIENT_ID.to_owned()),
                client_secret: Some(CLIENT_SECRET.into()),
                scopes: None,
                webhook_secret: None,
            }),
            integration_config: None,
            custom: None,
        };
        integrations::create(&node, environment.id, new).await.unwrap();
        let world = Self {
            db,
            clock,
            sample,
            node,
            environment,
        };
        world.import().await;
        world
    }

    /// Another node on the same database.
    pub(crate) async fn another_node(&self) -> Arc<Context> {
        node(&self.db, &self.clock, &catalogue(&self.sample), "two", 2).await
    }

    /// Makes or replaces the connection with fresh tokens of the provider; the access token.
    pub(crate) async fn import(&self) -> String {
        token(&self.replace(self.fresh_credentials()).await)
    }

    fn fresh_credentials(&self) -> Credentials {
        let issued = self.sample.issue("read");
        let end = self.clock.now().checked_add(TOKEN_LIFE).unwrap();
        let credentials = json!({
            "type": "OAUTH2", "access_token": issued["access_token"], "refresh_token": issued["refresh_token"],
            "expires_at": end.to_string(), "raw": issued,
        });
        Credentials::from_json(credentials.as_object().unwrap().clone()).unwrap()
    }

    /// Makes or replaces the connection with these credentials.
    pub(crate) async fn replace(&self, credentials: Credentials) -> Connection {
        let target = connections::import_target(&self.node, self.environment.id, INTEGRATION)
            .await
            .unwrap();
        let import = Import {
            connection_id: Some(ConnectionId::parse(CONNECTION).unwrap()),
            credentials,
            assertion_option: JsonMap::new(),
            connection_config: JsonMap::new(),
            metadata: Change::Keep,
            tags: Change::Keep,
            end_user: None,
            webhook_url_override: Change::Keep,
            verification: Verification::Required,
        };
        connections::import(&self.node, &self.environment, &target, import)
            .await
            .unwrap()
    }

    pub(crate) fn name(&self) -> ConnectionName {
        ConnectionName {
            environment: self.environment.id,
            integration: INTEGRATION.to_owned(),
            connection: CONNECTION.to_owned(),
        }
    }

    /// The connection as it is stored.
    pub(crate) async fn stored(&self) -> Connection {
        stored(&self.node, &self.name()).await
    }

    /// How often the provider was asked to refresh.
    pub(crate) fn asked(&self) -> u64 {
        self.sample.counts().token_refresh
    }

    /// `auth` webhooks about refreshes so far, oldest first: `ok`, or the error's type.
    pub(crate) async fn announced(&self) -> Vec<String> {
        announced(&self.node, &self.name()).await
    }

    /// Reads with the usual freshness.
    pub(crate) async fn read(&self) -> Result<String, refresh::ReadError> {
        self.read_as(refresh::Freshness::Usual).await
    }

    /// Forces a refresh.
    pub(crate) async fn force(&self) -> Result<String, refresh::ReadError> {
        self.read_as(refresh::Freshness::Forced).await
    }

    /// What there is to try again with after the upstream rejected that generation.
    pub(crate) async fn renewed(&self, generation: i64) -> Option<String> {
        let newer = refresh::force_after_rejection(&self.node, &self.name(), generation).await?;
        Some(token(&newer))
    }

    async fn read_as(&self, freshness: refresh::Freshness) -> Result<String, refresh::ReadError> {
        let found = refresh::read(&self.node, &self.name(), freshness).await?;
        Ok(token(&found))
    }
}

/// A connection as it is stored.
pub(crate) async fn stored(node: &Context, name: &ConnectionName) -> Connection {
    let name = name.clone();
    let found = node
        .store
        .read(move |tx| {
            Box::pin(async move {
                patchbay_store::connections::find(tx, name.environment, &name.integration, &name.connection)
                    .await
            })
        })
        .await;
    found.unwrap().unwrap()
}

/// `auth` webhooks about refreshes of one connection, oldest first: `ok`, or the error's type.
pub(crate) async fn announced(node: &Context, name: &ConnectionName) -> Vec<String> {
    let filter = DeliveryFilter {
        environment_id: Some(name.environment),
        limit: 1000,
        ..DeliveryFilter::default()
    };
    let sent = node
        .store
        .read(move |tx| Box::pin(async move { deliveries::list(tx, &filter).await }))
        .await
        .unwrap();
    let mut told: Vec<String> = sent
        .iter()
        .map(|delivery| serde_json::from_str::<Value>(&delivery.body).unwrap())
        .filter(|body| body["operation"] == "refresh" && body["providerConfigKey"] == name.integration)
        .map(|body| {
            assert_eq!(body["connectionId"], name.connection);
            assert_eq!(body["success"], body.get("error").is_none());
            body["error"]["type"].as_str().unwrap_or("ok").to_owned()
        })
        .collect();
    told.reverse();
    told
}

/// Does to a connection what a node does that is killed after the provider answered: the request was made, the intent
/// is written, the lease runs out, nothing is saved.
pub(crate) async fn die_in_the_middle(node: &Context, clock: &TestClock, name: &ConnectionName) {
    let connection = stored(node, name).await;
    let provider = node.catalogue.get(connection.provider.as_str()).unwrap();
    let integration = integrations::get(node, name.environment, &name.integration)
        .await
        .unwrap()
        .unwrap();
    let input = RenewInput {
        definition: &provider.definition,
        secrets: &integration.secrets,
        credentials: &connection.credentials,
        connection_config: &connection.connection_config,
        callback_url: "https://connect.example.com/oauth/callback",
    };
    let client = match provider.definition.auth_mode {
        AuthMode::McpOAuth2Generic => &node.proxy_client,
        _ => &node.token_client,
    };
    driver::renew(client, &input, &node.ambient).await.unwrap();
    let (row, generation) = (connection.id, connection.generation);
    let written: Result<(), DbError> = node
        .store
        .write(move |tx| {
            Box::pin(async move {
                let lease = leases::refresh_of(row);
                let lease = leases::acquire(tx, &lease, "the dead", Duration::from_secs(30))
                    .await?
                    .unwrap();
                let intent = RefreshIntent {
                    connection: row,
                    generation,
                    fence: lease.fence,
                    started_at: tx.now(),
                };
                refreshes::put_intent(tx, &intent).await
            })
        })
        .await;
    written.unwrap();
    clock.advance(Duration::from_secs(31));
}

/// The access token.
pub(crate) fn token(connection: &Connection) -> String {
    match &connection.credentials {
        Credentials::OAuth2(credentials) => credentials.access_token.expose().to_owned(),
        other => panic!("not OAuth 2: {other:?}"),
    }
}

/// The one provider of the stories.
fn catalogue(sample: &SampleHandle) -> String {
    format!(
        "sample:
    display_name: Sample
    categories: [test]
    auth_mode: OAUTH2
    authorization_url: {base}/oauth/authorize
    token_url: {base}/oauth/token
    refresh_every_hours: 1
    proxy:
        base_url: {base}
    docs: https://docs.example.com/sample
",
        base = sample.base_url
    )
}

/// A node on this database, which knows these providers.
pub(crate) async fn node(
    db: &TestDb,
    clock: &TestClock,
    catalogue: &str,
    name: &str,
    seed: u64,
) -> Arc<Context> {
    let ambient = Ambient::test(clock.clone(), seed);
    let store = db.open(ambient.clone()).await;
    let networks = PrivateNetworks::loopback();
    let client = |name, policy| {
        let settings = ClientSettings {
            name,
            timeouts: Timeouts::default(),
            trust: Trust::nobody(),
            user_agent: None,
        };
        Client::new(policy, settings, ambient.clock.clone())
    };
    let (catalogue, findings) = Catalogue::from_text("sample.yaml", catalogue);
    assert!(
        !findings.iter().any(|finding| finding.severity == Severity::Error),
        "{findings:?}"
    );
    let settings = Settings {
        public_url: "http://localhost:3003".parse().unwrap(),
        connect_url: "http://localhost:3009/".parse().unwrap(),
        websockets_path: "/".to_owned(),
        state_cookie: StateCookie::Required,
        signing_key_grace: std::time::Duration::from_hours(24),
        node: name.to_owned(),
        journal: patchbay_connections::journal::JournalSettings::default(),
    };
    Context::start(
        store,
        CatalogueHandle::new(catalogue),
        client("oauth", Policy::oauth(&networks)),
        client("proxy", Policy::public(&networks)),
        ambient.clone(),
        settings,
    )
}
