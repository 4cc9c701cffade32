//! OAuth 2.0 authorization code grant (RFC 6749 §4.1) with PKCE, and its refresh.

pub mod authorize;
pub(crate) mod client;
pub mod pkce;
pub mod refresh;
pub mod token;

use std::collections::BTreeMap;

use patchbay_catalog::Definition;
use patchbay_types::credentials::{ConfigOverride, OAuth2};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{JsonMap, Secret};

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
    /// The connection's own client if it names both halves, else the integration's. A provider whose clients are
    /// public gets no secret, whoever configured one.
    pub fn choose(
        definition: &Definition,
        secrets: &'a IntegrationSecrets,
        own: Option<&'a ConfigOverride>,
    ) -> Result<Self, MissingClient> {
        let is_public = definition
            .token_client
            .as_deref()
            .is_some_and(|client| client.is_public);
        if let Some(ConfigOverride {
            client_id: Some(id),
            client_secret: Some(secret),
        }) = own
            && !id.is_empty()
            && !secret.is_empty()
        {
            return Ok(Self {
                id,
                secret: if is_public { "" } else { secret.expose() },
            });
        }
        let present = |text: &&str| !text.is_empty();
        let id = secrets
            .client_id
            .as_deref()
            .filter(present)
            .ok_or(MissingClient)?;
        if is_public {
            return Ok(Self { id, secret: "" });
        }
        let secret = secrets.client_secret.as_ref().map(Secret::expose).filter(present);
        let secret = match secret {
            // A client that registered itself seldom has one.
            None if crate::mcp::allows_public_clients(definition.auth_mode) => "",
            found => found.ok_or(MissingClient)?,
        };
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
