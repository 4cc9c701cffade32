//! What a server finds when it starts: an environment, integrations, connections, written through the store.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use data_encoding::BASE64;
use patchbay_ambient::Ambient;
use patchbay_store::db::DbError;
use patchbay_store::testing::TEST_KEY;
use patchbay_store::{Store, StoreConfig, accounts, connections, environments, integrations};
use patchbay_types::connections::{Change, ConnectionUpsert};
use patchbay_types::environments::{EnvironmentSettings, NewEnvironment};
use patchbay_types::integrations::{IntegrationSecrets, NewIntegration};
use patchbay_types::{
    ConnectionId, Credentials, EnvironmentId, EnvironmentName, IntegrationId, IntegrationKey, JsonMap,
    ProviderName, Secret, Tags,
};
use serde_json::json;

/// The provider, and its integration, whose upstream speaks plain HTTP.
pub const PLAIN: &str = "plain";
/// The one whose upstream speaks HTTPS.
pub const SECURE: &str = "secure";
/// The environment's API key.
pub const API_KEY: &str = "7f3c2a10-5b8e-4d6f-9a1c-0e2d4b6f8a90";

/// A set-up that does not serve yet.
#[derive(Debug)]
pub struct House {
    store: Store,
    environment: EnvironmentId,
}

/// Settings by which a server opens what was written here.
pub fn settings() -> Vec<(String, String)> {
    vec![
        ("PATCHBAY_ENCRYPTION_KEY".to_owned(), BASE64.encode(&TEST_KEY)),
        ("PATCHBAY_API_KEY_DEV".to_owned(), API_KEY.to_owned()),
    ]
}

impl House {
    /// Opens the database, migrates it and makes `dev`, with webhooks to `webhooks`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn build(url: &str, webhooks: Option<String>, ambient: &Ambient) -> anyhow::Result<Self> {
        let store = Store::open(StoreConfig::new(url, [TEST_KEY]), ambient.clone()).await?;
        let mut settings = EnvironmentSettings::default();
        settings.webhooks.primary_url = webhooks;
        let (account, uuid) = (ambient.entropy.uuid(), ambient.entropy.uuid());
        let name = EnvironmentName::parse("dev").context("a valid name")?;
        let environment = store
            .write(move |tx| {
                Box::pin(async move {
                    let account_id = accounts::ensure_default(tx, account).await?;
                    let new = NewEnvironment {
                        uuid,
                        account_id,
                        name,
                        is_production: false,
                        settings,
                        signing_key: Secret::new(API_KEY),
                    };
                    Ok::<_, DbError>(environments::create(tx, &new).await?.id)
                })
            })
            .await?;
        Ok(Self { store, environment })
    }

    /// Makes an integration whose key is its provider's name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn integration(
        &self,
        provider: &str,
        secrets: IntegrationSecrets,
    ) -> anyhow::Result<IntegrationId> {
        let new = NewIntegration {
            environment_id: self.environment,
            unique_key: IntegrationKey::parse(provider).map_err(|error| anyhow!("{error}"))?,
            provider: ProviderName::parse(provider).map_err(|error| anyhow!("{error}"))?,
            display_name: None,
            forward_webhooks: true,
            secrets,
        };
        let made = self
            .store
            .write(move |tx| Box::pin(async move { integrations::insert(tx, &new).await }))
            .await?;
        Ok(made.id)
    }

    /// Makes API-key connections `c0`, `c1` …, with three tags each: `team` names a run of 200, `plan` takes turns
    /// between two, `region` between four.
    ///
    /// # Errors
    /// The store failed.
    pub async fn connections(&self, integration: IntegrationId, count: usize) -> anyhow::Result<()> {
        let environment = self.environment;
        let numbers: Vec<usize> = (0..count).collect();
        for batch in numbers.chunks(1000) {
            let upserts: Vec<ConnectionUpsert> = batch
                .iter()
                .map(|number| upsert(integration, *number))
                .collect::<anyhow::Result<_>>()?;
            self.store
                .write(move |tx| {
                    Box::pin(async move {
                        for upsert in &upserts {
                            connections::upsert(tx, environment, upsert).await?;
                        }
                        Ok::<_, DbError>(())
                    })
                })
                .await?;
        }
        Ok(())
    }

    /// Closes the store, so that a server may open it.
    pub async fn close(self) {
        self.store.close().await;
    }
}

fn upsert(integration: IntegrationId, number: usize) -> anyhow::Result<ConnectionUpsert> {
    let credentials = json!({ "type": "API_KEY", "apiKey": format!("key-{number}-0123456789abcdef") });
    Ok(ConnectionUpsert {
        integration_id: integration,
        connection_id: ConnectionId::parse(&format!("c{number}")).map_err(|error| anyhow!("{error}"))?,
        credentials: serde_json::from_value::<Credentials>(credentials)?,
        connection_config: JsonMap::new(),
        metadata: Change::Keep,
        tags: Change::Set(tags(number)?),
        webhook_url_override: Change::Keep,
        end_user: Change::Keep,
        credentials_expires_at: None,
    })
}

fn tags(number: usize) -> anyhow::Result<Tags> {
    let plan = if number.is_multiple_of(2) { "free" } else { "pro" };
    let object = json!({
        "team": format!("team-{}", number / 200),
        "plan": plan,
        "region": format!("region-{}", number / 2 % 4),
    });
    let object = object.as_object().context("an object")?;
    Tags::parse(object).map_err(|issues| anyhow!("{issues:?}"))
}

/// Writes provider definitions, one file each.
///
/// # Errors
/// The directory cannot be written.
pub fn write_catalogue(directory: &Path, definitions: &BTreeMap<&str, String>) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, text) in definitions {
        std::fs::write(directory.join(format!("{name}.yaml")), text)?;
    }
    Ok(())
}

/// A provider with API keys at `base_url`.
pub fn api_key_provider(base_url: &str) -> String {
    format!(
        "display_name: Plain\ncategories: [dev-tools]\nauth_mode: API_KEY\ndocs: https://example.com/docs\n\
         proxy:\n    base_url: {base_url}\n    headers:\n        authorization: 'Bearer ${{apiKey}}'\n\
         credentials:\n    apiKey:\n        type: string\n        title: API key\n        description: Any.\n        \
         secret: true\n"
    )
}

/// The sample provider at `base_url`, by OAuth 2.
pub fn oauth_provider(base_url: &str) -> String {
    format!(
        "display_name: Sample\ncategories: [dev-tools]\nauth_mode: OAUTH2\ndocs: https://example.com/docs\n\
         authorization_url: {base_url}/oauth/authorize\ntoken_url: {base_url}/oauth/token\n\
         default_scopes: [read]\nproxy:\n    base_url: {base_url}\n"
    )
}
