use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use patchbay_ambient::Ambient;
use tokio::sync::broadcast;

use crate::db::postgres::{Options, Postgres};
use crate::db::sqlite::Sqlite;
use crate::db::{Context, DbError, Dialect, Notice, Tx};
use crate::migrate;
use crate::vault::{EncryptionKey, Vault};

/// How often SQLite's log is moved into the file.
const MAINTENANCE: Duration = Duration::from_mins(1);
/// How long [`Store::ping`] waits.
const PING: Duration = Duration::from_secs(3);
/// Data keys re-wrapped in one transaction.
const ROTATION: i64 = 500;

/// Where the data is and how it is opened.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE?…`. Postgres takes libpq's `sslmode` and
    /// `sslrootcert`, and `prepared_statements=false` (or `pgbouncer=true`) for poolers in transaction mode, which
    /// are otherwise recognized.
    pub url: String,
    /// The key ring: the first encrypts, all decrypt. Not empty.
    pub keys: Vec<EncryptionKey>,
    /// What to do about pending migrations.
    pub migrations: Migrations,
    /// Reader threads of SQLite.
    pub readers: usize,
    /// Connections to Postgres at most, beside one for notices; at least 2.
    pub connections: usize,
}

impl StoreConfig {
    /// The defaults: 4 readers, 16 connections, migrations applied.
    pub fn new(url: impl Into<String>, keys: impl IntoIterator<Item = impl Into<EncryptionKey>>) -> Self {
        Self {
            url: url.into(),
            keys: keys.into_iter().map(Into::into).collect(),
            migrations: Migrations::Apply,
            readers: 4,
            connections: 16,
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        let scheme = self.url.split(':').next().unwrap_or_default();
        f.debug_struct("StoreConfig")
            .field("url", &format_args!("{scheme}:…"))
            .field("keys", &self.keys)
            .field("migrations", &self.migrations)
            .finish_non_exhaustive()
    }
}

/// What opening does about pending migrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrations {
    /// Apply them.
    Apply,
    /// Leave them; see [`Store::pending`]. Nothing is written.
    Leave,
}

/// Why a store did not open. Nothing was changed in the database.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is not one of a database we know.
    #[error("{0}")]
    Url(String),
    /// The key ring is empty.
    #[error("no encryption key is configured")]
    NoKey,
    /// The database was encrypted with a key that is not in the ring.
    #[error(
        "wrong encryption key: the data is encrypted with key {needed}, and the configured keys are {configured}. \
         Nothing was changed. Configure the key that was used before; to replace it, put the new key first and keep \
         the old one behind it"
    )]
    WrongKey {
        /// Id of the missing key: first 8 bytes of its SHA-256, hex.
        needed: String,
        /// Ids of the ring, comma separated.
        configured: String,
    },
    /// A newer program has migrated the database.
    #[error(
        "the database is newer than this program: it has schema version {database}, and this program knows up to \
         {program}. Nothing was changed. Run the newer program, or restore a backup from before the upgrade"
    )]
    Newer {
        /// The database's newest version.
        database: i64,
        /// The program's.
        program: i64,
    },
    /// A migration's file is not the one that was applied.
    #[error(
        "migration {migration} was applied from a file that differs from the one in this program. Nothing was \
         changed. Migrations are never edited once released: this is a development build's database, or a build \
         with altered files"
    )]
    Changed {
        /// Its label.
        migration: String,
    },
    /// A migration failed and was rolled back, with all that were pending.
    #[error("migration {migration} failed and was rolled back: {cause}")]
    Migration {
        /// Its label.
        migration: String,
        /// What the database said.
        cause: DbError,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What [`Store::rotate_encryption`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Data keys wrapped anew.
    pub rewrapped: u64,
    /// Data keys that were wrapped with the first key of the ring already.
    pub unchanged: u64,
}

/// Counts since the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Commits the database made.
    pub commits: u64,
    /// Write transactions acknowledged; more than `commits` where SQLite's group commit joined some.
    pub writes: u64,
}

/// The data, on SQLite or Postgres. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Backend,
    context: Arc<Context>,
}

#[derive(Debug)]
enum Backend {
    Sqlite(Sqlite),
    Postgres(Arc<Postgres>),
}

impl Store {
    /// Opens the database: creates it if it is an SQLite file that does not exist, checks that the key ring and the
    /// schema fit, and migrates it unless told otherwise.
    pub async fn open(config: StoreConfig, ambient: Ambient) -> Result<Store, OpenError> {
        let vault = Vault::new(&config.keys, Arc::clone(&ambient.entropy)).ok_or(OpenError::NoKey)?;
        let context = Context::new(vault, ambient);
        let backend = connect(&config, &context).await?;
        let store = Store(Arc::new(Inner { backend, context }));
        if let Err(error) = store.prepare(config.migrations).await {
            store.close().await;
            return Err(error);
        }
        store.spawn_maintenance();
        Ok(store)
    }

    /// Runs `f` in a read-only transaction that sees one moment of the database. `f` may await nothing but its
    /// transaction.
    pub async fn read<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.read(f).await,
            Backend::Postgres(postgres) => postgres.read(f).await,
        }
    }

    /// Runs `f` in a transaction: commits on `Ok`, rolls back on `Err` or panic. Returns once the commit is
    /// durable. Once begun it runs to its end even if the caller stops waiting. `f` may await nothing but its
    /// transaction.
    ///
    /// On Postgres it may fail with [`DbError::Retry`]; see [`Store::write_retry`].
    pub async fn write<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.write(f).await,
            Backend::Postgres(postgres) => postgres.write(f).await,
        }
    }

    /// [`Store::write`] for closures that can run again: repeats them, up to six times with growing random pauses,
    /// when the database reports a deadlock or a serialization failure.
    pub async fn write_retry<T, E>(
        &self,
        f: impl for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        match &self.0.backend {
            // One writer: there is nobody to deadlock with.
            Backend::Sqlite(sqlite) => sqlite.write(f).await,
            Backend::Postgres(postgres) => postgres.write_retry(f).await,
        }
    }

    /// Notices of every node, from now on.
    ///
    /// To miss nothing, subscribe first and look at the database afterwards. A receiver that lags has missed some:
    /// treat it as [`crate::db::Topic::Everything`].
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.context.hub.subscribe()
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        match &self.0.backend {
            Backend::Sqlite(_) => Dialect::Sqlite,
            Backend::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Whether the database answers, within three seconds. For readiness checks.
    pub async fn ping(&self) -> Result<(), DbError> {
        if let Some(path) = self.path() {
            // Open files outlive their names; what is written to a deleted one is lost.
            let found = tokio::fs::metadata(path).await;
            found.map_err(|error| DbError::unavailable(format!("{}: {error}", path.display())))?;
        }
        let asked = self.read(|tx| Box::pin(async move { tx.query_one("SELECT 1", &[]).await }));
        match tokio::time::timeout(PING, asked).await {
            Ok(answered) => answered.map(drop),
            Err(_) => Err(DbError::unavailable("no answer within three seconds")),
        }
    }

    /// Applies pending migrations. Labels of those applied, oldest first.
    pub async fn migrate(&self) -> Result<Vec<String>, OpenError> {
        let vault = self.0.context.vault.clone();
        let labels = self
            .write(move |tx| {
                Box::pin(async move {
                    let labels = migrate::apply(tx).await?;
                    record_key(tx, &vault).await?;
                    Ok::<_, OpenError>(labels)
                })
            })
            .await?;
        if !labels.is_empty() {
            tracing::info!(migrations = labels.join(", "), "the database schema was migrated");
        }
        Ok(labels)
    }

    /// Labels of migrations that are not applied yet, oldest first.
    pub async fn pending(&self) -> Result<Vec<String>, OpenError> {
        self.read(|tx| {
            Box::pin(async move {
                let dialect = tx.dialect();
                let applied = migrate::applied(tx).await?;
                let pending = migrate::compare(&applied, migrate::known(dialect), dialect)?;
                Ok(pending.into_iter().map(migrate::Migration::label).collect())
            })
        })
        .await
    }

    /// Wraps every data key with the first key of the ring, while the store is in use. Afterwards the other keys
    /// of the ring are needed no more, provided every node has been restarted with the new first key.
    pub async fn rotate_encryption(&self) -> Result<Rotation, DbError> {
        let mut done = Rotation::default();
        loop {
            let vault = self.0.context.vault.clone();
            let count = self
                .write(move |tx| Box::pin(async move { rewrap(tx, &vault).await }))
                .await?;
            done.rewrapped += count;
            if count == 0 {
                break;
            }
        }
        let vault = self.0.context.vault.clone();
        let total: u64 = self
            .write(move |tx| {
                Box::pin(async move {
                    let now = tx.now();
                    tx.execute(
                        "UPDATE key_check SET key_id = $1, sealed = $2, updated_at = $3 WHERE id = 1",
                        &[vault.active_id().into(), vault.seal_check().into(), now.into()],
                    )
                    .await?;
                    tx.query_one("SELECT COUNT(*) FROM data_key", &[]).await?.get(0)
                })
            })
            .await?;
        done.unchanged = total.saturating_sub(done.rewrapped);
        Ok(done)
    }

    /// Counts since it was opened.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            commits: self.0.context.commits.load(Ordering::Relaxed),
            writes: self.0.context.writes.load(Ordering::Relaxed),
        }
    }

    /// Finishes what is queued and closes every connection; later calls are [`DbError::Unavailable`]. Dropping the
    /// last handle does the same without waiting for it.
    pub async fn close(&self) {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(postgres) => postgres.close(),
        }
    }

    /// The database file, if it is SQLite.
    pub fn path(&self) -> Option<&Path> {
        match &self.0.backend {
            Backend::Sqlite(sqlite) => Some(sqlite.path()),
            Backend::Postgres(_) => None,
        }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }

    /// Everything that could refuse comes before anything is written.
    async fn prepare(&self, migrations: Migrations) -> Result<(), OpenError> {
        let vault = self.0.context.vault.clone();
        self.read(move |tx| Box::pin(async move { check(tx, &vault).await }))
            .await?;
        if migrations == Migrations::Apply {
            self.migrate().await?;
        }
        Ok(())
    }

    fn spawn_maintenance(&self) {
        if self.dialect() == Dialect::Postgres {
            return;
        }
        // A weak handle: the loop must not keep the store open.
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        let ambient = self.0.context.ambient.clone();
        let stopping = ambient.tasks.stopping();
        let clock = Arc::clone(&ambient.clock);
        ambient.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = clock.sleep(MAINTENANCE) => {}
                }
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                if let Backend::Sqlite(sqlite) = &inner.backend {
                    sqlite.maintain();
                }
            }
        });
    }
}

/// The path of an `sqlite:` URL.
pub(crate) fn sqlite_path(url: &str) -> Result<PathBuf, OpenError> {
    let rest = url.strip_prefix("sqlite:").unwrap_or_default();
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() || path.starts_with(":memory:") {
        return Err(OpenError::Url(
            "the database URL sqlite: needs the path of a file, such as sqlite:./patchbay.db; a database in memory \
             cannot be shared by several connections"
                .to_owned(),
        ));
    }
    Ok(PathBuf::from(path))
}

/// Refuses a ring that does not hold every key in use.
pub(crate) fn check_keys(
    vault: &Vault,
    proof: Option<(String, Vec<u8>)>,
    used: impl IntoIterator<Item = String>,
) -> Result<(), OpenError> {
    let wrong = |needed| OpenError::WrongKey {
        needed,
        configured: vault.key_ids().join(", "),
    };
    if let Some((key_id, sealed)) = proof
        && !vault.check(&key_id, &sealed)
    {
        return Err(wrong(key_id));
    }
    match used.into_iter().find(|key_id| !vault.has(key_id)) {
        Some(missing) => Err(wrong(missing)),
        None => Ok(()),
    }
}

async fn connect(config: &StoreConfig, context: &Arc<Context>) -> Result<Backend, OpenError> {
    let scheme = config.url.split(':').next().unwrap_or_default();
    match scheme {
        "sqlite" => {
            let path = sqlite_path(&config.url)?;
            let (readers, context) = (config.readers, Arc::clone(context));
            let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path, readers, context)).await;
            let opened = opened.map_err(|_| DbError::internal("opening the database panicked"))?;
            Ok(Backend::Sqlite(opened?))
        }
        "postgres" | "postgresql" => {
            let options = Options {
                connections: config.connections,
            };
            let opened = Postgres::open(&config.url, options, Arc::clone(context)).await;
            Ok(Backend::Postgres(Arc::new(opened.map_err(OpenError::Url)??)))
        }
        _ => Err(OpenError::Url(format!(
            "the database URL begins with {scheme:?}; it must be sqlite:PATH or postgres://…"
        ))),
    }
}

async fn check(tx: &mut Tx, vault: &Vault) -> Result<(), OpenError> {
    let dialect = tx.dialect();
    let applied = migrate::applied(tx).await?;
    migrate::compare(&applied, migrate::known(dialect), dialect)?;
    if !migrate::has_table(tx, "key_check").await? {
        return Ok(());
    }
    let proof = tx
        .query_opt("SELECT key_id, sealed FROM key_check WHERE id = 1", &[])
        .await?;
    let proof = match proof {
        Some(row) => Some((row.get(0)?, row.get(1)?)),
        None => None,
    };
    let used = tx.query("SELECT DISTINCT key_id FROM data_key", &[]).await?;
    let used: Vec<String> = used.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    check_keys(vault, proof, used)
}

async fn record_key(tx: &mut Tx, vault: &Vault) -> Result<(), DbError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO key_check (id, key_id, sealed, updated_at) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING",
        &[vault.active_id().into(), vault.seal_check().into(), now.into()],
    )
    .await
    .map(drop)
}

/// One batch of a rotation: how many keys it wrapped.
async fn rewrap(tx: &mut Tx, vault: &Vault) -> Result<u64, DbError> {
    let rows = tx
        .query(
            "SELECT scope, wrapped, key_id FROM data_key WHERE key_id <> $1 ORDER BY scope LIMIT $2",
            &[vault.active_id().into(), ROTATION.into()],
        )
        .await?;
    let mut updates = Vec::with_capacity(rows.len());
    for row in rows {
        let scope: String = row.get(0)?;
        let wrapped: Vec<u8> = row.get(1)?;
        let key_id: String = row.get(2)?;
        let fresh = vault.rewrap(&scope, &wrapped, &key_id)?;
        updates.push(vec![
            scope.into(),
            fresh.wrapped.into(),
            fresh.key_id.into(),
            key_id.into(),
        ]);
    }
    // Another node may be rotating, too: what it has done is left.
    let sql = "UPDATE data_key SET wrapped = $2, key_id = $3 WHERE scope = $1 AND key_id = $4";
    tx.execute_many(sql, &updates).await
}
