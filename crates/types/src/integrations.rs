//! Integrations: a provider configured in one environment (api-core §8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, IntegrationId, IntegrationKey, ProviderName, Secret, Timestamp};

/// A configured provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Integration {
    /// Row.
    pub id: IntegrationId,
    /// Environment it belongs to.
    pub environment_id: EnvironmentId,
    /// Unique among the environment's live integrations.
    pub unique_key: IntegrationKey,
    /// Catalogue entry.
    pub provider: ProviderName,
    /// Own name; none shows the provider's.
    pub display_name: Option<String>,
    /// Whether provider webhooks are forwarded to the app.
    pub forward_webhooks: bool,
    /// The operator's app at the provider. Stored encrypted.
    pub secrets: IntegrationSecrets,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Set when deleted.
    pub deleted_at: Option<Timestamp>,
}

/// An integration to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewIntegration {
    /// See [`Integration::environment_id`].
    pub environment_id: EnvironmentId,
    /// See [`Integration::unique_key`].
    pub unique_key: IntegrationKey,
    /// See [`Integration::provider`].
    pub provider: ProviderName,
    /// See [`Integration::display_name`].
    pub display_name: Option<String>,
    /// See [`Integration::forward_webhooks`].
    pub forward_webhooks: bool,
    /// See [`Integration::secrets`].
    pub secrets: IntegrationSecrets,
}

/// The operator's app at the provider, in one encrypted document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IntegrationSecrets {
    /// OAuth client id (`app_id` of a GitHub App).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// OAuth client secret (private key PEM of a GitHub App).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Comma-separated scopes as given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<String>,
    /// Public page of a GitHub App.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_link: Option<String>,
    /// App id of CUSTOM, beside the OAuth client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// Private key of CUSTOM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// `custom` and `integration_config` values, `webhookSecret` included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, Secret>,
}
