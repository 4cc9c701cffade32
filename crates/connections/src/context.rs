//! What every domain function takes: the store, the catalogue, the world outside, and the settings that matter.

use std::sync::Arc;
use std::time::Duration;

use patchbay_ambient::Ambient;
use patchbay_catalog::{CatalogueHandle, Definition};
use patchbay_outbound::Client;
use patchbay_store::Store;
use patchbay_types::AuthMode;
use url::Url;

use crate::caches::Caches;
use crate::journal::{Journal, JournalSettings};
use crate::refresh::{Flights, Rejections};
use crate::results::AuthResults;
use crate::usage::Usage;

/// The domain's surroundings. One per server, shared by reference.
#[derive(Debug)]
pub struct Context {
    /// Everything durable.
    pub store: Store,
    /// Provider definitions, hot-reloaded.
    pub catalogue: CatalogueHandle,
    /// Client for token endpoints and the like (private networks allowed by its own policy, auth-flows §26).
    pub token_client: Client,
    /// Client for calls made with an end user's credentials: proxy, verification.
    pub proxy_client: Client,
    /// Time, randomness, tasks.
    pub ambient: Ambient,
    /// What the operator configured.
    pub settings: Settings,
    /// Hot reads.
    pub caches: Caches,
    /// Outcomes of popups, by WebSocket.
    pub results: AuthResults,
    /// Held while stored provider definitions are read and put to use.
    pub(crate) overrides_turn: tokio::sync::Mutex<()>,
    /// Refreshes in flight in this process.
    pub(crate) flights: Flights,
    /// Credentials that upstreams rejected although they were fresh.
    pub(crate) rejections: Rejections,
    /// What providers said of tokens that name no end.
    pub(crate) introspections: crate::introspection::Introspections,
    /// Last-used and last-fetched times on their way to the store.
    pub(crate) usage: Usage,
    /// Log entries on their way to the store.
    pub(crate) journal: Journal,
}

/// The domain's part of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Origin (and path) under which the world reaches the API.
    pub public_url: Url,
    /// Base of `connect_link`; ends in `/`.
    pub connect_url: Url,
    /// Path of the popup flow's WebSocket, told to the Connect UI.
    pub websockets_path: String,
    /// Whether a callback must come from the browser that began it (auth-flows §5).
    pub state_cookie: StateCookie,
    /// How long a rotated webhook signing key stays valid beside its successor.
    pub signing_key_grace: Duration,
    /// This process, as leases and notices name it.
    pub node: String,
    /// What the logs of proxied calls may cost.
    pub journal: JournalSettings,
}

/// Whether the callback demands the cookie set when the popup was redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateCookie {
    /// Refuse a callback without it.
    Required,
    /// For products whose own domain forwards the callback from their server.
    Ignored,
}

impl Context {
    /// Joins the parts and starts the room's background loops (cache invalidation, usage flush) on `ambient.tasks`.
    pub fn start(
        store: Store,
        catalogue: CatalogueHandle,
        token_client: Client,
        proxy_client: Client,
        ambient: Ambient,
        settings: Settings,
    ) -> Arc<Self> {
        let context = Arc::new(Self {
            results: AuthResults::new(store.clone()),
            store,
            catalogue,
            token_client,
            proxy_client,
            ambient,
            journal: Journal::new(settings.journal),
            settings,
            caches: Caches::new(),
            overrides_turn: tokio::sync::Mutex::default(),
            flights: Flights::default(),
            rejections: Rejections::new(),
            introspections: crate::introspection::Introspections::default(),
            usage: Usage::default(),
        });
        crate::caches::follow_notices(&context);
        crate::usage::start(&context);
        crate::journal::start(&context);
        context
    }

    /// The client for the token endpoints of a provider. Those of servers that end users name are asked with the care
    /// of proxied requests: private networks are closed unless the operator opened them.
    pub(crate) fn token_client_of(&self, definition: &Definition) -> &Client {
        match definition.auth_mode {
            AuthMode::McpOAuth2Generic => &self.proxy_client,
            _ => &self.token_client,
        }
    }

    /// Where providers send the browser back: the environment's own URL, or ours.
    pub fn callback_url(&self, environment: &patchbay_types::environments::Environment) -> String {
        environment
            .settings
            .callback_url
            .clone()
            .unwrap_or_else(|| self.public("oauth/callback"))
    }

    /// `path` under the public URL.
    pub fn public(&self, path: &str) -> String {
        format!(
            "{}/{path}",
            self.settings.public_url.as_str().trim_end_matches('/')
        )
    }
}
