//! The API beside the sample provider, whose clock goes with the API's.

use std::time::Duration;

use patchbay_ambient::{Ambient, TestClock};
use patchbay_catalog::Catalogue;
use patchbay_connections::integrations::{self, AppCredentials, NewIntegration};
use patchbay_sample::{CLIENT_ID, CLIENT_SECRET, Options, SampleHandle};
use patchbay_store::testing::TestDb;
use patchbay_types::{AuthMode, IntegrationKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::TestApi;

pub(crate) struct Wire {
    pub(crate) api: TestApi,
    pub(crate) sample: SampleHandle,
    sample_clock: TestClock,
}

impl Wire {
    /// With integrations `sample` (OAuth 2), `sample-key` (verified API key) and `open` (no credentials), all of the
    /// sample provider.
    pub(crate) async fn on(db: TestDb) -> Self {
        let sample_clock = TestClock::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options {
            token_life: Duration::from_hours(1),
            ..Options::default()
        };
        let sample =
            patchbay_sample::serve(listener, &Ambient::test(sample_clock.clone(), 9), options).unwrap();
        let own = include_str!("../common/catalogue.yaml");
        let text = format!(
            "{own}
netsuite-like:
    display_name: Token based
    auth_mode: TBA
    request_url: https://tba.example.com/request
    authorization_url: https://tba.example.com/authorize
    token_url: https://tba.example.com/token
    docs: https://docs.example.com/tba
sample:
    display_name: Sample
    auth_mode: OAUTH2
    authorization_url: {base}/oauth/authorize
    token_url: {base}/oauth/token
    proxy:
        base_url: {base}
    docs: https://docs.example.com/sample
sample-key:
    display_name: Sample with a key
    auth_mode: API_KEY
    proxy:
        base_url: {base}
        headers:
            x-api-key: ${{apiKey}}
        verification:
            method: GET
            endpoints:
                - /whoami
    docs: https://docs.example.com/sample-key
open:
    display_name: Open
    auth_mode: NONE
    proxy:
        base_url: {base}
    docs: https://docs.example.com/open
",
            base = sample.base_url
        );
        let (catalogue, _) = Catalogue::from_text("providers.yaml", &text);
        let api = TestApi::with(db, catalogue, 0).await;
        let new = NewIntegration {
            provider: "sample".to_owned(),
            unique_key: IntegrationKey::parse("sample").unwrap(),
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
        integrations::create(&api.context, api.dev.id, new).await.unwrap();
        api.integration("sample-key", "sample-key").await;
        api.integration("open", "open").await;
        Self {
            api,
            sample,
            sample_clock,
        }
    }

    pub(crate) async fn sqlite() -> Self {
        Self::on(TestDb::sqlite().await).await
    }

    /// Moves both clocks.
    pub(crate) fn advance(&self, by: Duration) {
        self.sample_clock.advance(by);
        self.api.clock.advance(by);
    }

    /// Imports a connection of `sample` with fresh tokens that end in an hour; the provider's token answer.
    pub(crate) async fn connect(&self, connection_id: &str) -> Value {
        let issued = self.sample.issue("read");
        let end = self
            .api
            .context
            .ambient
            .now()
            .checked_add(Duration::from_hours(1))
            .unwrap();
        let body = json!({
            "provider_config_key": "sample",
            "connection_id": connection_id,
            "credentials": {
                "type": "OAUTH2", "access_token": issued["access_token"],
                "refresh_token": issued["refresh_token"], "expires_at": end.to_string(),
            },
        });
        self.api.post("/connections", body).expect(201).await;
        issued
    }

    /// Imports a connection of `open`, adding `more` to the body.
    pub(crate) async fn open(&self, connection_id: &str, more: Value) -> Value {
        let mut body = json!({
            "provider_config_key": "open", "connection_id": connection_id, "credentials": {"type": "NONE"},
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.api.post("/connections", body).expect(201).await
    }

    pub(crate) async fn get(&self, connection_id: &str, integration: &str) -> Value {
        let target = format!("/connections/{connection_id}?provider_config_key={integration}");
        self.api.get(target).expect(200).await
    }
}
