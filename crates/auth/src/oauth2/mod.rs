//! OAuth 2.0 authorization code grant (RFC 6749 §4.1) with PKCE, and its refresh.

pub mod authorize;
pub mod pkce;
pub mod refresh;
pub mod token;

use std::collections::BTreeMap;

use patchbay_types::credentials::{ConfigOverride, OAuth2};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{JsonMap, Secret};

/// Providers that exchange or refresh in a way of their own (auth-flows §11) that is not built yet. They are refused
/// before the end user is asked, whatever catalogue defines them: none half-works.
const UNBUILT_EXCHANGES: &[&str] = &[
    "absorb-lms",
    "agiloft",
    "braintree",
    "braintree-sandbox",
    "bullhorn",
    "clover",
    "coros",
    "coros-sandbox",
    "facebook",
    "fanvue",
    "followupboss",
    "heygen",
    "instagram",
    "jobber",
    "mercury",
    "microsoft-admin",
    "posthog-oauth",
    "revolut-business",
    "sentry-oauth",
    "shopline-oauth",
    "stripe-app",
    "stripe-app-sandbox",
    "threads",
    "tiktok-accounts",
    "tiktok-ads",
    "tiktok-personal",
    "walmart",
    "workday-oauth",
];

fn has_unbuilt_exchange(provider: &str) -> bool {
    UNBUILT_EXCHANGES.contains(&provider)
}

/// The OAuth client that speaks for a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OAuthClient<'a> {
    /// Client id.
    pub id: &'a str,
    /// Client secret; empty for a public client.
    pub secret: &'a str,
}

/// The integration has no OAuth client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the integration has no OAuth client id and secret configured")]
pub struct MissingClient;

impl<'a> OAuthClient<'a> {
    /// The connection's own client if it names both halves, else the integration's.
    pub fn choose(
        secrets: &'a IntegrationSecrets,
        own: Option<&'a ConfigOverride>,
    ) -> Result<Self, MissingClient> {
        if let Some(ConfigOverride {
            client_id: Some(id),
            client_secret: Some(secret),
        }) = own
            && !id.is_empty()
            && !secret.is_empty()
        {
            return Ok(Self {
                id,
                secret: secret.expose(),
            });
        }
        let present = |text: &&str| !text.is_empty();
        let id = secrets
            .client_id
            .as_deref()
            .filter(present)
            .ok_or(MissingClient)?;
        let secret = secrets
            .client_secret
            .as_ref()
            .map(Secret::expose)
            .filter(present)
            .ok_or(MissingClient)?;
        Ok(Self { id, secret })
    }
}

impl std::fmt::Debug for OAuthClient<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OAuthClient")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A connection's own OAuth client, as a session's defaults or the SDK's `credentials` give it (§8.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOverride {
    /// `oauth_client_id_override` and `oauth_client_secret_override`.
    pub client: ConfigOverride,
    /// `oauth_refresh_token_override`: used instead of the one the exchange brings.
    pub refresh_token: Option<Secret>,
}

impl ClientOverride {
    /// Reads the three override keys; `None` if there is neither an id nor a secret among them. Blanks count as absent.
    pub fn read(given: &BTreeMap<String, Secret>) -> Option<Self> {
        let value = |name: &str| given.get(name).filter(|value| !value.is_empty()).cloned();
        let client = ConfigOverride {
            client_id: value("oauth_client_id_override").map(|id| id.expose().to_owned()),
            client_secret: value("oauth_client_secret_override"),
        };
        if client == ConfigOverride::default() {
            return None;
        }
        Some(Self {
            client,
            refresh_token: value("oauth_refresh_token_override"),
        })
    }

    /// Stores it with freshly exchanged credentials.
    pub fn apply(&self, credentials: &mut OAuth2) {
        credentials.config_override = Some(self.client.clone());
        if let Some(token) = &self.refresh_token {
            credentials
                .raw
                .0
                .insert("refresh_token".to_owned(), token.expose().into());
            credentials.refresh_token = Some(token.clone());
        }
    }

    /// What it leaves in `connection_config`.
    pub fn config(&self) -> JsonMap {
        let mut config = JsonMap::new();
        if self.refresh_token.is_some() {
            config.insert("overrideTokenRefresh".to_owned(), true.into());
        }
        config
    }
}
