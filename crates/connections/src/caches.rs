//! Hot reads: keys, environments, integrations and connections by the names the wire uses.
//!
//! A cached value may never outlive a change that its reader has been told about. Two races are closed:
//!
//! - *Own writes*: a domain function that commits a change calls [`Caches::forget`] before it answers, so whoever
//!   saw the answer reads the new value on this node. Other nodes hear of it by the store's notices, milliseconds
//!   later; an entry also ends by itself after [`TTL`].
//! - *Load overtaken by a change*: a reader that loaded the old row must not put it into the cache after the
//!   change dropped it. Every `forget` bumps an epoch; `Caches::fill` stores only what was loaded in the
//!   current one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use patchbay_store::db::{Notice, Topic};
use patchbay_types::connections::Connection;
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::{EnvironmentId, IntegrationKey};

use crate::api_keys::KeyPrincipal;
use crate::context::Context;
use crate::notices::{self, Heard};

/// Longest life of an entry, the bound on staleness should a notice be lost.
pub const TTL: Duration = Duration::from_mins(1);

const SHARDS: usize = 64;

/// Names a connection as the wire does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionName {
    /// Environment.
    pub environment: EnvironmentId,
    /// `provider_config_key`.
    pub integration: String,
    /// `connection_id`.
    pub connection: String,
}

/// All caches of a server.
pub struct Caches {
    keys: Cache<[u8; 32], Arc<KeyPrincipal>>,
    environments: Cache<EnvironmentId, Arc<Environment>>,
    integrations: Cache<(EnvironmentId, String), Arc<Integration>>,
    connections: Cache<ConnectionName, Arc<Connection>>,
    epochs: Box<[AtomicU64]>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// One connection.
    Connection(ConnectionName),
    /// One integration, and with it its connections.
    Integration(EnvironmentId, IntegrationKey),
    /// An environment, its settings or its keys.
    Environment(EnvironmentId),
    /// Anything.
    Everything,
}

/// Proof of when a load began; see `Caches::fill`.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    shard: usize,
    seen: u64,
}

impl Caches {
    pub(crate) fn new() -> Self {
        fn cache<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(
            size: u64,
        ) -> Cache<K, V> {
            Cache::builder().max_capacity(size).time_to_live(TTL).build()
        }
        Self {
            keys: cache(10_000),
            environments: cache(10_000),
            integrations: cache(20_000),
            connections: cache(50_000),
            epochs: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The principal of a key, by the SHA-256 of its secret.
    pub(crate) fn key(&self, hash: &[u8; 32]) -> Option<Arc<KeyPrincipal>> {
        self.keys.get(hash)
    }

    /// An environment.
    pub(crate) fn environment(&self, id: EnvironmentId) -> Option<Arc<Environment>> {
        self.environments.get(&id)
    }

    /// An integration.
    pub(crate) fn integration(&self, environment: EnvironmentId, key: &str) -> Option<Arc<Integration>> {
        self.integrations.get(&(environment, key.to_owned()))
    }

    /// A connection with its credentials.
    pub(crate) fn connection(&self, name: &ConnectionName) -> Option<Arc<Connection>> {
        self.connections.get(name)
    }

    /// Call before loading what `of` names.
    pub(crate) fn epoch(&self, of: &impl Hash) -> Epoch {
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0);
        Epoch {
            shard,
            seen: self.epochs[shard].load(Ordering::Acquire),
        }
    }

    /// Runs `store` (which inserts) only if nothing of that shard changed since `epoch`; undoes a tie.
    pub(crate) fn fill(&self, epoch: Epoch, entry: Entry) {
        let current = || self.epochs[epoch.shard].load(Ordering::Acquire) == epoch.seen;
        if !current() {
            return;
        }
        let undo = entry.clone();
        match entry {
            Entry::Key(hash, value) => self.keys.insert(hash, value),
            Entry::Environment(value) => self.environments.insert(value.id, value),
            Entry::Integration(value) => {
                self.integrations
                    .insert((value.environment_id, value.unique_key.to_string()), value);
            }
            Entry::Connection(name, value) => self.connections.insert(name, value),
        }
        if !current() {
            match undo {
                Entry::Key(hash, _) => self.keys.invalidate(&hash),
                Entry::Environment(value) => self.environments.invalidate(&value.id),
                Entry::Integration(value) => {
                    self.integrations
                        .invalidate(&(value.environment_id, value.unique_key.to_string()));
                }
                Entry::Connection(name, _) => self.connections.invalidate(&name),
            }
        }
    }

    /// Drops what `changed` touches. Call after the commit and before the answer.
    pub fn forget(&self, changed: &Changed) {
        if let Changed::Connection(name) = changed {
            let epoch = self.epoch(name);
            self.epochs[epoch.shard].fetch_add(1, Ordering::AcqRel);
            self.connections.invalidate(name);
            return;
        }
        // Rarer changes drop everything: simple, and cheaper than following what depends on what.
        for epoch in &self.epochs {
            epoch.fetch_add(1, Ordering::AcqRel);
        }
        self.keys.invalidate_all();
        self.environments.invalidate_all();
        self.integrations.invalidate_all();
        self.connections.invalidate_all();
    }
}

/// A loaded value on its way into a cache.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Key([u8; 32], Arc<KeyPrincipal>),
    Environment(Arc<Environment>),
    Integration(Arc<Integration>),
    Connection(ConnectionName, Arc<Connection>),
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches")
            .field("connections", &self.connections.entry_count())
            .finish_non_exhaustive()
    }
}

impl Changed {
    /// The notice other nodes receive with the commit.
    pub(crate) fn notice(&self) -> Notice {
        match self {
            Self::Connection(name) => Notice {
                topic: Topic::Connections,
                key: format!("{}\n{}\n{}", name.environment, name.integration, name.connection),
            },
            Self::Integration(environment, key) => Notice {
                topic: Topic::Integrations,
                key: format!("{environment}\n{key}"),
            },
            Self::Environment(environment) => Notice {
                topic: Topic::Environments,
                key: environment.to_string(),
            },
            Self::Everything => Notice {
                topic: Topic::Everything,
                key: String::new(),
            },
        }
    }

    fn from_notice(notice: &Notice) -> Option<Self> {
        match notice.topic {
            Topic::Connections => {
                let mut parts = notice.key.splitn(3, '\n');
                let environment = EnvironmentId(parts.next()?.parse().ok()?);
                let integration = parts.next()?.to_owned();
                let connection = parts.next()?.to_owned();
                Some(Self::Connection(ConnectionName {
                    environment,
                    integration,
                    connection,
                }))
            }
            Topic::Accounts
            | Topic::ApiKeys
            | Topic::Integrations
            | Topic::Environments
            | Topic::Everything => Some(Self::Everything),
            _ => None,
        }
    }
}

/// Applies other nodes' notices until shutdown.
pub(crate) fn follow_notices(context: &Arc<Context>) {
    notices::follow(context, context.store.subscribe(), |context, heard| async move {
        let changed = match heard {
            Heard::Notice(notice) if notice.topic == Topic::AuthAttempts => {
                context.results.receive(&notice.key);
                return;
            }
            Heard::Notice(notice) => Changed::from_notice(&notice),
            Heard::Missed => Some(Changed::Everything),
        };
        if let Some(changed) = changed {
            context.caches.forget(&changed);
        }
    });
}
