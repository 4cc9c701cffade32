//! Environments: the walls between a product's stages. Each owns its integrations, connections and keys.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AccountId, EnvironmentId, EnvironmentName, JsonMap, Secret, Timestamp};

/// The look of a Connect UI for which nobody has set anything. Clients read every one of these keys.
pub fn default_connect_ui() -> JsonMap {
    let theme = |primary: &str| serde_json::json!({ "primary": primary });
    JsonMap::from_iter([
        ("showWatermark".to_owned(), true.into()),
        ("defaultTheme".to_owned(), "system".into()),
        (
            "theme".to_owned(),
            serde_json::json!({ "light": theme("#14746f"), "dark": theme("#4cc3b8") }),
        ),
    ])
}

/// An environment, its settings included.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// Number on the wire.
    pub id: EnvironmentId,
    /// UUID on the wire and in inbound webhook URLs.
    pub uuid: Uuid,
    /// Owner.
    pub account_id: AccountId,
    /// Unique among the account's live environments.
    pub name: EnvironmentName,
    /// Production environments cannot be created without `set_production`; `prod` always is one.
    pub is_production: bool,
    /// Everything the operator may change.
    pub settings: EnvironmentSettings,
    /// Signs outbound webhooks.
    pub signing_key: Secret,
    /// The one before, while the grace period of a rotation lasts.
    pub previous_signing_key: Option<PreviousSigningKey>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Set when deleted; purged 31 days later.
    pub deleted_at: Option<Timestamp>,
}

impl Environment {
    /// The keys that sign webhooks at `now`, the current one first.
    pub fn signing_keys(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let previous = self.previous_signing_key.iter();
        let valid = previous.filter(move |previous| previous.valid_until > now);
        std::iter::once(&self.signing_key).chain(valid.map(|previous| &previous.key))
    }
}

/// A signing key that has been replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSigningKey {
    /// The key.
    pub key: Secret,
    /// When it ceases to be valid.
    pub valid_until: Timestamp,
}

/// An environment to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEnvironment {
    /// See [`Environment::uuid`].
    pub uuid: Uuid,
    /// See [`Environment::account_id`].
    pub account_id: AccountId,
    /// See [`Environment::name`].
    pub name: EnvironmentName,
    /// See [`Environment::is_production`].
    pub is_production: bool,
    /// See [`Environment::settings`].
    pub settings: EnvironmentSettings,
    /// See [`Environment::signing_key`].
    pub signing_key: Secret,
}

/// What the operator may change of an environment, by API, command and config file. Stored as one JSON document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvironmentSettings {
    /// OAuth callback instead of `<public url>/oauth/callback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Outbound webhooks.
    pub webhooks: WebhookSettings,
    /// Look of the Connect UI, as the browser gets it: [`default_connect_ui`] where nothing is set (connect-ui §14).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ui: Option<JsonMap>,
    /// Legacy HMAC of public-key callers.
    pub hmac_enabled: bool,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac_key: Option<Secret>,
    /// Accepted and answered for compatibility.
    pub slack_notifications: bool,
    /// Where the environment's operations are exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Headers of that export.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub otlp_headers: Vec<OtlpHeader>,
    /// Proxied calls.
    pub proxy: ProxySettings,
}

/// What an environment's proxied calls may do (proxy §6.3, §9, §13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// Whether callers and integrations may name a base URL of their own.
    pub base_url_override: bool,
    /// Hosts that are not called, besides those the server refuses: names, `.domains`, addresses, ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_hosts: Vec<String>,
    /// The only hosts that are called, sub-domains included; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_hosts: Vec<String>,
    /// Whether a provider's 401 leads to one refresh and one more attempt.
    pub refresh_on_unauthorized: bool,
    /// Whether the beginnings of response bodies are logged when the call went well, too.
    pub log_bodies: bool,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            base_url_override: true,
            deny_hosts: Vec::new(),
            allow_hosts: Vec::new(),
            refresh_on_unauthorized: true,
            log_bodies: false,
        }
    }
}

/// A header of the OTLP export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtlpHeader {
    /// Header name.
    pub name: String,
    /// Header value.
    pub value: Secret,
}

/// Where and when outbound webhooks are sent (webhooks §B1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, named as the wire names them"
)]
pub struct WebhookSettings {
    /// First target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_url: Option<String>,
    /// Second target, receives everything too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_url: Option<String>,
    /// `auth` with operation `creation`.
    pub on_auth_creation: bool,
    /// `auth` with operation `refresh`.
    pub on_auth_refresh_error: bool,
    /// Repeat the announcement of a failing connection every so many hours while it fails; 0 does not.
    pub refresh_error_reminder_hours: u32,
    /// `auth` with operation `deletion`.
    pub on_connection_deletion: bool,
    /// `sync` success even if nothing changed.
    pub on_sync_completion_always: bool,
    /// `sync` failure.
    pub on_sync_error: bool,
    /// `async_action`.
    pub on_async_action_completion: bool,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            primary_url: None,
            secondary_url: None,
            on_auth_creation: true,
            on_auth_refresh_error: true,
            refresh_error_reminder_hours: 0,
            on_connection_deletion: false,
            on_sync_completion_always: true,
            on_sync_error: true,
            on_async_action_completion: true,
        }
    }
}

/// A variable of an environment, for functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentVariable {
    /// Name.
    pub name: String,
    /// Value, stored encrypted.
    pub value: Secret,
}
