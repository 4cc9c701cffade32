//! Opening the house: keys, store, catalogue, clients, domain. The server and the commands beside it share this.

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderValue;
use patchbay_ambient::Ambient;
use patchbay_catalog::{CatalogueHandle, Origin, Severity, Source};
use patchbay_connections::journal::JournalSettings;
use patchbay_connections::{Context, Settings as DomainSettings, StateCookie};
use patchbay_outbound::{Client, InvalidCertificates, Policy, Settings as ClientSettings, Timeouts, Trust};
use patchbay_proxy::{Proxy, Settings as ProxySettings};
use patchbay_store::db::DbError;
use patchbay_store::{Migrations, OpenError, Store, StoreConfig};
use url::Url;

use crate::config::{self, Config, Database, Pooler};
use crate::datadir::{self, DataDirError, KeyRing, KeySource};

/// How outbound requests name us where nobody else decides.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("patchbay/", env!("CARGO_PKG_VERSION")));

/// Why the house does not open. Texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// The data directory or the key file.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A statement failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// There is nothing to work on yet.
    #[error("there is no database yet at {}: `patchbay serve` makes it, or `patchbay migrate`", .0.display())]
    NoDatabase(PathBuf),
    /// There is no key for the database.
    #[error(
        "no encryption key: set PATCHBAY_ENCRYPTION_KEY to the one the server uses, or name its file with \
         PATCHBAY_ENCRYPTION_KEY_FILE"
    )]
    NoKey,
    /// The schema is older than this program.
    #[error(
        "the database is behind this program by {0} migrations: run `patchbay migrate`, or restart the server"
    )]
    Behind(usize),
    /// The CA file cannot be read.
    #[error("outbound_ca_file {}: {cause}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// The store's settings for this configuration and ring.
pub fn store_config(config: &Config, ring: &KeyRing, migrations: Migrations) -> StoreConfig {
    let connections = usize::try_from(config.storage.max_connections).unwrap_or(usize::MAX);
    let keys = ring.keys.iter().map(|key| *key.expose());
    StoreConfig {
        migrations,
        connections: connections.max(2),
        readers: connections.clamp(1, 8),
        ..StoreConfig::new(database_url(config), keys)
    }
}

/// The database's URL as the store takes it. May hold a password.
pub fn database_url(config: &Config) -> String {
    match &config.storage.database {
        Database::Sqlite(path) => format!("sqlite:{}", path.display()),
        Database::Postgres(url) if config.storage.pooler == Pooler::Transaction => {
            let separator = if url.expose().contains('?') { '&' } else { '?' };
            format!("{}{separator}pgbouncer=true", url.expose())
        }
        Database::Postgres(url) => url.expose().to_owned(),
    }
}

/// Opens the store to serve: makes directory, key and database if they are missing, migrates.
///
/// # Errors
/// See [`HouseError`]. A key made for a database that turns out to have another is taken back.
pub async fn open_or_make(config: &Config, ambient: &Ambient) -> Result<(Store, KeySource), HouseError> {
    datadir::prepare(&config.storage)?;
    let ring = KeyRing::load_or_make(&config.storage, &config.encryption, &*ambient.entropy)?;
    for path in datadir::exposed(&config.storage, &config.encryption) {
        tracing::warn!(path = %path.display(), "other users of this machine may read this; chmod go= it");
    }
    let opened = Store::open(store_config(config, &ring, Migrations::Apply), ambient.clone()).await;
    match opened {
        Ok(store) => Ok((store, ring.source)),
        Err(error) => {
            if matches!(error, OpenError::WrongKey { .. }) {
                ring.unmake();
            }
            Err(error.into())
        }
    }
}

/// Opens the store of a set-up that exists, changing nothing: for commands beside the server.
///
/// # Errors
/// See [`HouseError`].
pub async fn open_existing(config: &Config, ambient: &Ambient) -> Result<Store, HouseError> {
    let ring = existing_ring(config)?;
    let store = Store::open(store_config(config, &ring, Migrations::Leave), ambient.clone()).await?;
    match store.pending().await?.len() {
        0 => Ok(store),
        behind => Err(HouseError::Behind(behind)),
    }
}

/// The key ring of a set-up that exists.
///
/// # Errors
/// There is no database, or no key.
pub fn existing_ring(config: &Config) -> Result<KeyRing, HouseError> {
    if let Database::Sqlite(path) = &config.storage.database
        && !path.exists()
    {
        return Err(HouseError::NoDatabase(path.clone()));
    }
    KeyRing::load(&config.storage, &config.encryption)?.ok_or(HouseError::NoKey)
}

/// Whom outbound connections believe: the operating system's roots and the operator's.
///
/// # Errors
/// The operator's file cannot be read or holds no certificate.
pub fn trust(config: &Config) -> Result<Trust, HouseError> {
    let trust = Trust::system();
    let Some(path) = &config.outbound.ca_file else {
        return Ok(trust);
    };
    let failed = |cause: String| HouseError::CaFile {
        path: path.clone(),
        cause,
    };
    let pem = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    trust
        .with_pem(&pem)
        .map_err(|error: InvalidCertificates| failed(error.to_string()))
}

/// One client for each purpose: connections are never shared between policies.
#[derive(Clone, Debug)]
pub struct Clients {
    /// Token endpoints: private networks are open by default, self-hosted identity providers live there.
    pub tokens: Client,
    /// Calls with an end user's credentials.
    pub proxy: Client,
    /// Webhooks to the application.
    pub webhooks: Client,
}

impl Clients {
    /// Clients for this configuration. They connect to nothing yet.
    pub fn new(config: &Config, trust: &Trust, ambient: &Ambient) -> Self {
        let networks = &config.outbound.allow_private_networks;
        let mut proxied = Policy::public(networks).deny(&config.proxy.deny_hosts);
        if !config.proxy.allow_hosts.is_empty() {
            proxied = proxied.allow_only(&config.proxy.allow_hosts);
        }
        let client = |name, policy, timeouts| {
            let settings = ClientSettings {
                name,
                timeouts,
                trust: trust.clone(),
                user_agent: Some(USER_AGENT),
            };
            Client::new(policy, settings, ambient.clock.clone())
        };
        Self {
            tokens: client("oauth", Policy::oauth(networks), Timeouts::default()),
            proxy: client("proxy", proxied, config.proxy.timeouts),
            webhooks: client("webhooks", Policy::public(networks), Timeouts::default()),
        }
    }
}

/// What the catalogue is made of: the binary, then the operator's files.
pub fn catalogue_sources(config: &Config) -> Vec<Source> {
    std::iter::once(Source::BuiltIn)
        .chain(config.catalog.paths.iter().cloned().map(Source::Path))
        .collect()
}

/// Loads the catalogue; what is wrong with the operator's files is logged, and what is right is used.
pub fn catalogue(config: &Config) -> CatalogueHandle {
    let (catalogue, findings) = CatalogueHandle::open(catalogue_sources(config));
    for finding in findings
        .iter()
        .filter(|finding| finding.origin != Origin::BuiltIn)
    {
        match finding.severity {
            Severity::Error => tracing::error!(%finding, "a provider definition was not loaded"),
            Severity::Warning => tracing::warn!(%finding, "a provider definition looks wrong"),
        }
    }
    catalogue
}

/// The URL under which the world reaches the server: the configured one, or localhost with the bound port.
#[expect(clippy::missing_panics_doc, reason = "a URL made of a number always parses")]
pub fn public_url(config: &Config, port: u16) -> Url {
    config.server.public_url.clone().unwrap_or_else(|| {
        Url::parse(&format!("http://localhost:{port}")).expect("a URL of a number is always valid")
    })
}

/// The URL of the Connect UI, ending in a slash. Configuration lets no query or fragment through.
pub fn connect_url(config: &Config, public: &Url) -> Url {
    let mut url = config.server.connect_ui_url.clone().unwrap_or_else(|| {
        let mut url = public.clone();
        url.set_path(&format!("{}/connect-ui/", public.path().trim_end_matches('/')));
        url
    });
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    url
}

/// The proxy over this domain.
pub fn proxy(config: &Config, context: &Arc<Context>) -> Arc<Proxy> {
    let settings = ProxySettings {
        base_url_override: config.proxy.base_url_override,
        body_limit: usize::try_from(config.server.body_limit).unwrap_or(usize::MAX),
        longest_wait: config.proxy.longest_wait,
    };
    Proxy::new(context.clone(), settings)
}

/// The domain on this store.
pub fn domain(
    config: &Config,
    store: Store,
    catalogue: CatalogueHandle,
    clients: &Clients,
    ambient: &Ambient,
    public: &Url,
) -> Arc<Context> {
    let settings = DomainSettings {
        public_url: public.clone(),
        connect_url: connect_url(config, public),
        websockets_path: config.server.websockets_path.clone(),
        state_cookie: match config.server.state_cookie {
            config::StateCookie::Required => StateCookie::Required,
            config::StateCookie::Ignored => StateCookie::Ignored,
        },
        signing_key_grace: config.webhooks.signing_key_grace,
        node: ambient.entropy.uuid().simple().to_string(),
        journal: JournalSettings {
            per_second: config.proxy.logs_per_sec,
            burst: config.proxy.logs_per_sec.saturating_mul(10),
            ..JournalSettings::default()
        },
    };
    Context::start(
        store,
        catalogue,
        clients.tokens.clone(),
        clients.proxy.clone(),
        ambient.clone(),
        settings,
    )
}
