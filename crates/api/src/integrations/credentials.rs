//! The operator's app at a provider, as it is sent and shown (api-core §8.1, §8.4).

use patchbay_connections::integrations::{AppCredentials, WEBHOOK_SECRET};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{
    Issue, Object, Refinement, Schema, SchemaExt, discriminated, literal, object, patterns, string,
};

/// How PEM of a private key begins: PKCS #1, as the reference wants it (one dash short), or PKCS #8.
const BEGINNINGS: [&str; 2] = ["-----BEGIN RSA PRIVATE KEY----", "-----BEGIN PRIVATE KEY-----"];
/// How it ends.
const ENDS: [&str; 2] = ["-----END RSA PRIVATE KEY-----", "-----END PRIVATE KEY-----"];

/// What a request may send.
pub(super) fn schema() -> Schema {
    let oauth = |mode| {
        object()
            .field("type", literal(mode))
            .field("client_id", string().min(1).max(255))
            .field("client_secret", string().min(1))
            .field("scopes", scopes())
            .field("webhook_secret", string().max(255).optional())
    };
    let app = object()
        .field("type", literal("APP"))
        .field("app_id", string().min(1).max(255))
        .field("app_link", string().min(1))
        .field("private_key", private_key());
    let custom = object()
        .field("type", literal("CUSTOM"))
        .field("client_id", string().min(1).max(255))
        .field("client_secret", string().min(1))
        .field("app_id", string().min(1).max(255))
        .field("app_link", string().min(1))
        .field("private_key", private_key());
    let client_credentials: Object = object()
        .field("type", literal("OAUTH2_CC"))
        .field("scopes", scopes());
    let mcp = object()
        .field("type", literal("MCP_OAUTH2"))
        .field("client_id", string().min(1).max(255).optional())
        .field("client_secret", string().min(1).optional())
        .field("scopes", scopes());
    let plugin = object()
        .field("type", literal("INSTALL_PLUGIN"))
        .field("app_link", string().url_or_empty().min(1))
        .field("username", string().min(1).max(1024))
        .field("password", string().min(1).max(1024));
    discriminated("type")
        .branch("OAUTH1", oauth("OAUTH1"))
        .branch("OAUTH2", oauth("OAUTH2"))
        .branch("TBA", oauth("TBA"))
        .branch("APP", app)
        .branch("CUSTOM", custom)
        .branch("OAUTH2_CC", client_credentials)
        .branch("MCP_OAUTH2", mcp)
        .branch("INSTALL_PLUGIN", plugin)
        .message(
            "Credentials of this type cannot be set: use OAUTH1, OAUTH2, OAUTH2_CC, TBA, APP, CUSTOM, MCP_OAUTH2 or \
             INSTALL_PLUGIN",
        )
        .into()
}

/// Comma-separated, or empty for the provider's defaults.
fn scopes() -> Schema {
    string()
        .refine(|value, found| {
            let text = value.as_str().unwrap_or_default();
            if !text.is_empty() && !(patterns::SCOPE_LIST.matches)(text) {
                let message = format!(
                    "Invalid string: must match pattern /{}/",
                    patterns::SCOPE_LIST.source
                );
                found.report(Issue::new("invalid_format", &[], message));
            }
        })
        .optional()
}

/// White space around it is dropped: keys are pasted from files that end in a line break.
fn private_key() -> Schema {
    string().trim().min(1).refine(|value, found: &mut Refinement| {
        let text = value.as_str().unwrap_or_default();
        let kind = BEGINNINGS.iter().position(|start| text.starts_with(start));
        if kind.is_none() {
            let message = format!("Invalid string: must start with \"{}\"", BEGINNINGS[0]);
            found.report(Issue::new("invalid_format", &[], message));
        }
        let end = ENDS[kind.unwrap_or(0)];
        if !text.ends_with(end) {
            let message = format!("Invalid string: must end with \"{end}\"");
            found.report(Issue::new("invalid_format", &[], message));
        }
    })
}

/// The app as sent.
#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum GivenCredentials {
    #[serde(rename = "OAUTH1")]
    OAuth1(OAuthApp),
    #[serde(rename = "OAUTH2")]
    OAuth2(OAuthApp),
    #[serde(rename = "TBA")]
    Tba(OAuthApp),
    #[serde(rename = "OAUTH2_CC")]
    OAuth2Cc { scopes: Option<String> },
    #[serde(rename = "MCP_OAUTH2")]
    McpOAuth2 {
        client_id: Option<String>,
        client_secret: Option<Secret>,
        scopes: Option<String>,
    },
    #[serde(rename = "INSTALL_PLUGIN")]
    InstallPlugin {
        app_link: String,
        username: String,
        password: Secret,
    },
    #[serde(rename = "APP")]
    App {
        app_id: String,
        app_link: String,
        private_key: Secret,
    },
    #[serde(rename = "CUSTOM")]
    Custom {
        client_id: String,
        client_secret: Secret,
        app_id: String,
        app_link: String,
        private_key: Secret,
    },
}

/// An OAuth client.
#[derive(Deserialize)]
pub(super) struct OAuthApp {
    client_id: String,
    client_secret: Secret,
    scopes: Option<String>,
    webhook_secret: Option<String>,
}

impl OAuthApp {
    fn of(self, mode: AuthMode) -> AppCredentials {
        AppCredentials::OAuth {
            mode,
            client_id: Some(self.client_id),
            client_secret: Some(self.client_secret),
            scopes: self.scopes,
            webhook_secret: self.webhook_secret,
        }
    }
}

impl From<GivenCredentials> for AppCredentials {
    fn from(given: GivenCredentials) -> Self {
        match given {
            GivenCredentials::OAuth1(client) => client.of(AuthMode::OAuth1),
            GivenCredentials::OAuth2(client) => client.of(AuthMode::OAuth2),
            GivenCredentials::Tba(client) => client.of(AuthMode::Tba),
            GivenCredentials::OAuth2Cc { scopes } => Self::OAuth {
                mode: AuthMode::OAuth2Cc,
                client_id: None,
                client_secret: None,
                scopes,
                webhook_secret: None,
            },
            GivenCredentials::McpOAuth2 {
                client_id,
                client_secret,
                scopes,
            } => Self::OAuth {
                mode: AuthMode::McpOAuth2,
                client_id,
                client_secret,
                scopes,
                webhook_secret: None,
            },
            GivenCredentials::InstallPlugin {
                app_link,
                username,
                password,
            } => Self::Plugin {
                app_link,
                username,
                password,
            },
            GivenCredentials::App {
                app_id,
                app_link,
                private_key,
            } => Self::App {
                app_id,
                app_link,
                private_key,
            },
            GivenCredentials::Custom {
                client_id,
                client_secret,
                app_id,
                app_link,
                private_key,
            } => Self::Custom {
                client_id,
                client_secret,
                app_id,
                app_link,
                private_key,
            },
        }
    }
}

/// The app as shown.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "IntegrationCredentials")]
pub(super) enum ShownCredentials<'a> {
    /// OAUTH1, OAUTH2, TBA; OAUTH2_CC if it was given scopes.
    OAuth(ShownClient<'a>),
    /// APP.
    App(ShownApp<'a>),
    /// CUSTOM.
    Custom(ShownCustom<'a>),
}

/// An OAuth client.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OAuthClient")]
pub(super) struct ShownClient<'a> {
    #[serde(rename = "type")]
    mode: &'static str,
    client_id: Option<&'a str>,
    client_secret: Option<&'a str>,
    /// Comma-separated.
    scopes: Option<&'a str>,
    webhook_secret: Option<&'a str>,
}

/// An app.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AppClient")]
pub(super) struct ShownApp<'a> {
    #[serde(rename = "type")]
    mode: &'static str,
    app_id: Option<&'a str>,
    /// PEM.
    private_key: Option<&'a str>,
    app_link: Option<&'a str>,
}

/// An app with an OAuth client.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CustomClient")]
pub(super) struct ShownCustom<'a> {
    #[serde(rename = "type")]
    mode: &'static str,
    client_id: Option<&'a str>,
    client_secret: Option<&'a str>,
    app_id: Option<&'a str>,
    app_link: Option<&'a str>,
    /// PEM.
    private_key: Option<&'a str>,
}

impl<'a> ShownCredentials<'a> {
    /// None for modes without an app.
    pub(super) fn of(mode: AuthMode, secrets: &'a IntegrationSecrets) -> Option<Self> {
        let client_id = secrets.client_id.as_deref();
        let client_secret = secrets.client_secret.as_ref().map(Secret::expose);
        let app_link = secrets.app_link.as_deref();
        let client = || {
            Self::OAuth(ShownClient {
                mode: mode.as_str(),
                client_id,
                client_secret,
                scopes: secrets.scopes.as_deref(),
                webhook_secret: secrets.custom.get(WEBHOOK_SECRET).map(Secret::expose),
            })
        };
        Some(match mode {
            AuthMode::OAuth1 | AuthMode::OAuth2 | AuthMode::Tba => client(),
            AuthMode::McpOAuth2 if client_id.is_some() => client(),
            AuthMode::OAuth2Cc if secrets.scopes.is_some() => client(),
            AuthMode::App => Self::App(ShownApp {
                mode: mode.as_str(),
                app_id: client_id,
                private_key: client_secret,
                app_link,
            }),
            AuthMode::Custom => Self::Custom(ShownCustom {
                mode: mode.as_str(),
                client_id,
                client_secret,
                app_id: secrets.app_id.as_deref(),
                app_link,
                private_key: secrets.private_key.as_ref().map(Secret::expose),
            }),
            _ => return None,
        })
    }
}
