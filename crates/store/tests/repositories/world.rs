//! What a story stands on: a fresh database of either kind, a clock that only moves when told, repeated randomness.

use aws_lc_rs::digest::{SHA256, digest};
use patchbay_ambient::{Ambient, Clock, TestClock};
use patchbay_store::db::Value;
use patchbay_store::environments::NewEnvironment;
use patchbay_store::integrations::NewIntegration;
use patchbay_store::testing::TestDb;
use patchbay_store::{Store, accounts, connections, environments, integrations};
use patchbay_types::connections::{Change, Connection, ConnectionUpsert};
use patchbay_types::environments::{Environment, EnvironmentSettings};
use patchbay_types::integrations::{Integration, IntegrationSecrets};
use patchbay_types::{
    AccountId, Credentials, EnvironmentId, IntegrationId, JsonMap, Secret, Tags, Timestamp,
};
use uuid::Uuid;

/// Defines each story once and runs it on both databases.
macro_rules! story {
    ($(async fn $name:ident($world:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn tell($world: World) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                tell(World::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                tell(World::postgres().await).await;
            }
        }
    )+};
}
pub(crate) use story;

/// Runs a block in one write transaction; `?` passes database errors on, which fail the test.
macro_rules! commit {
    ($world:expr, |$tx:ident| $body:block) => {
        $world
            .store
            .write(move |$tx| {
                Box::pin(async move {
                    let answer = $body;
                    Ok::<_, patchbay_store::db::DbError>(answer)
                })
            })
            .await
            .unwrap()
    };
}
pub(crate) use commit;

/// One story's world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: TestClock,
    pub(crate) account: AccountId,
    ambient: Ambient,
    _db: TestDb,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        Self::on(TestDb::sqlite().await).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::on(TestDb::postgres().await).await
    }

    async fn on(db: TestDb) -> Self {
        let clock = TestClock::default();
        let ambient = Ambient::test(clock.clone(), 1);
        let store = db.open(ambient.clone()).await;
        let uuid = ambient.entropy.uuid();
        let account = store
            .write(move |tx| Box::pin(async move { accounts::ensure_default(tx, uuid).await }))
            .await
            .unwrap();
        Self {
            store,
            clock,
            account,
            ambient,
            _db: db,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn uuid(&self) -> Uuid {
        self.ambient.entropy.uuid()
    }

    pub(crate) fn environment_draft(&self, name: &str) -> NewEnvironment {
        NewEnvironment {
            uuid: self.uuid(),
            account_id: self.account,
            name: name.parse().unwrap(),
            is_production: name == "prod",
            settings: EnvironmentSettings::default(),
            signing_key: Secret::new(format!("signing-key-of-{name}")),
        }
    }

    pub(crate) async fn environment(&self, name: &str) -> Environment {
        let new = self.environment_draft(name);
        commit!(self, |tx| { environments::create(tx, &new).await? })
    }

    /// An integration of the provider of the same name.
    pub(crate) async fn integration(&self, environment: EnvironmentId, key: &str) -> Integration {
        self.integration_of(environment, key, key).await
    }

    pub(crate) async fn integration_of(
        &self,
        environment: EnvironmentId,
        key: &str,
        provider: &str,
    ) -> Integration {
        let new = integration_draft(environment, key, provider);
        commit!(self, |tx| { integrations::insert(tx, &new).await? })
    }

    pub(crate) async fn integration_by_id(&self, id: IntegrationId) -> Integration {
        commit!(self, |tx| { integrations::find_by_id(tx, id).await?.unwrap() })
    }

    /// A connection with a static key and these tags.
    pub(crate) async fn connection(
        &self,
        integration: IntegrationId,
        id: &str,
        labels: &[(&str, &str)],
    ) -> Connection {
        let integration = self.integration_by_id(integration).await;
        let new = ConnectionUpsert {
            tags: Change::Set(tags(labels)),
            ..upsert(&integration, id)
        };
        let environment = integration.environment_id;
        commit!(self, |tx| { connections::upsert(tx, environment, &new).await?.0 })
    }

    /// Connections `c0`, `c1`, …, each a microsecond younger than the one before, without credentials.
    pub(crate) async fn bulk_connections(
        &self,
        integration: &Integration,
        count: u32,
        labels: impl Fn(u32) -> Vec<(&'static str, &'static str)>,
    ) {
        let start = self.now();
        let (environment, integration) = (integration.environment_id, integration.id);
        let mut rows = Vec::new();
        let mut tag_rows = Vec::new();
        for n in 0..count {
            let at = start + std::time::Duration::from_micros(n.into());
            let labels = labels(n);
            let document = serde_json::to_string(&tags(&labels)).unwrap();
            rows.push(vec![
                Value::from(environment),
                integration.into(),
                format!("c{n}").into(),
                Vec::<u8>::new().into(),
                document.into(),
                at.into(),
            ]);
            for (key, value) in labels {
                tag_rows.push(vec![
                    Value::from(environment),
                    integration.into(),
                    format!("c{n}").into(),
                    key.into(),
                    value.into(),
                ]);
            }
        }
        commit!(self, |tx| {
            tx.execute_many(
                "INSERT INTO connection (environment_id, integration_id, connection_id, credentials,
                   connection_config, tags, generation, refresh_attempts, refresh_exhausted, last_fetched_at, search,
                   created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $4, $5, 1, 0, 0, $6, $3, $6, $6)",
                &rows,
            )
            .await?;
            tx.execute_many(
                "INSERT INTO connection_tag (connection, key, value, environment_id, created_at)
                 SELECT id, $4, $5, $1, created_at FROM connection
                 WHERE integration_id = $2 AND connection_id = $3 AND deleted_at IS NULL",
                &tag_rows,
            )
            .await?;
        });
    }

    /// Everything a table holds, bytes read as text where they are, to look for what must not be there.
    pub(crate) async fn dump(&self, table: &'static str) -> String {
        let rows = commit!(self, |tx| {
            tx.query(&format!("SELECT * FROM {table}"), &[]).await?
        });
        assert!(!rows.is_empty(), "nothing to look at in {table}");
        let mut dump = String::new();
        for row in &rows {
            for column in 0..row.len() {
                match row.get::<Value>(column).unwrap() {
                    Value::Text(text) => dump.push_str(&text),
                    Value::Blob(bytes) => dump.push_str(&String::from_utf8_lossy(&bytes)),
                    _ => {}
                }
                dump.push('\n');
            }
        }
        dump
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        commit!(self, |tx| { tx.query_one(sql, &[]).await?.get(0)? })
    }
}

pub(crate) fn integration_draft(environment: EnvironmentId, key: &str, provider: &str) -> NewIntegration {
    NewIntegration {
        environment_id: environment,
        unique_key: key.parse().unwrap(),
        provider: provider.parse().unwrap(),
        display_name: Some("Shown name".to_owned()),
        forward_webhooks: true,
        secrets: IntegrationSecrets {
            client_id: Some("id".to_owned()),
            client_secret: Some("planted-secret".into()),
            ..Default::default()
        },
    }
}

/// A connection to be, with a static key, keeping whatever can be kept.
pub(crate) fn upsert(integration: &Integration, id: &str) -> ConnectionUpsert {
    ConnectionUpsert {
        integration_id: integration.id,
        connection_id: id.parse().unwrap(),
        credentials: Credentials::from_json(object(serde_json::json!({"type": "API_KEY", "apiKey": "k"})))
            .unwrap(),
        connection_config: JsonMap::new(),
        metadata: Change::Keep,
        tags: Change::Keep,
        webhook_url_override: Change::Keep,
        end_user: Change::Keep,
        credentials_expires_at: None,
    }
}

pub(crate) fn tags(labels: &[(&str, &str)]) -> Tags {
    let object = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    Tags::parse(&object).unwrap()
}

pub(crate) fn object(value: serde_json::Value) -> JsonMap {
    let serde_json::Value::Object(object) = value else {
        panic!("{value} is no object");
    };
    object
}

pub(crate) fn hash(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap()
}
