//! Backup and restore of SQLite databases.
//!
//! A backup is one SQLite file with everything but the encryption key: secrets in it stay sealed, and restoring
//! needs the same key ring. It is a snapshot of one moment, taken while the store is in use. Postgres has its own
//! tools.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use patchbay_ambient::SystemEntropy;
use rusqlite::backup::{Backup as Copy, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use crate::db::sqlite::{failure, plain};
use crate::db::{DbError, Dialect};
use crate::migrate::{self, Applied};
use crate::store::{OpenError, Store, check_keys};
use crate::vault::{EncryptionKey, Vault};

/// Why a backup was not made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data is in Postgres.
    #[error(
        "backup and restore are for SQLite; a Postgres database is backed up with pg_dump (and restored with \
         pg_restore), beside the encryption key, which is in neither"
    )]
    Postgres,
    /// The target is there already.
    #[error("{} exists already and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// The file is damaged or not a backup of ours.
    #[error("{} cannot be restored: {reason}", file.display())]
    Damaged {
        /// The backup.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key ring or the program does not fit the backup.
    #[error("the backup does not fit: {0}")]
    Unfit(#[from] OpenError),
    /// A file could not be read or written.
    #[error("{}: {cause}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A finished backup or restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Newest schema version in it.
    pub schema: i64,
}

impl Store {
    /// Copies the database into the new file `to` (readable by its owner only) while it is in use, and checks the
    /// copy. Nothing is left behind on failure.
    pub async fn backup(&self, to: &Path) -> Result<Copied, BackupError> {
        let Some(from) = self.path() else {
            return Err(BackupError::Postgres);
        };
        let (from, to) = (from.to_owned(), to.to_owned());
        let vault = self.context().vault.clone();
        blocking(move || back_up(&from, &to, &vault)).await
    }
}

/// Puts the backup `from` in the place of a database that does not exist yet, `to`, after checking that it is
/// whole, not newer than this program, and encrypted with a key of `keys`. `url` is the `sqlite:` URL to restore
/// into.
pub async fn restore(from: &Path, url: &str, keys: Vec<EncryptionKey>) -> Result<Copied, BackupError> {
    if url.starts_with("postgres") {
        return Err(BackupError::Postgres);
    }
    let to = crate::store::sqlite_path(url)?;
    let from = from.to_owned();
    let vault = Vault::new(&keys, Arc::new(SystemEntropy)).ok_or(OpenError::NoKey)?;
    blocking(move || put_back(&from, &to, &vault)).await
}

async fn blocking(
    work: impl FnOnce() -> Result<Copied, BackupError> + Send + 'static,
) -> Result<Copied, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(DbError::internal("the copy panicked").into()))
}

fn back_up(from: &Path, to: &Path, vault: &Vault) -> Result<Copied, BackupError> {
    refuse_existing(to)?;
    let partial = Partial::create(to)?;
    let source = plain(from, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut copy = plain(&partial.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    run_copy(&source, &mut copy).map_err(|error| failure(&error, None))?;
    // One file, without a log beside it.
    copy.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
        .map_err(|error| failure(&error, None))?;
    drop(copy);
    let schema = verify(&partial.path, vault)?;
    partial.finish(to, schema)
}

fn run_copy(source: &Connection, copy: &mut Connection) -> rusqlite::Result<()> {
    // All pages in one step: a single read transaction, which writers do not disturb and which disturbs no writer.
    let backup = Copy::new(source, copy)?;
    match backup.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("the database was locked by another process".to_owned()),
        )),
    }
}

fn put_back(from: &Path, to: &Path, vault: &Vault) -> Result<Copied, BackupError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        // A log of another database would be replayed into this one.
        refuse_existing(&beside(to, suffix))?;
    }
    let mut source = File::open(from).map_err(|cause| io_error(from, cause))?;
    let partial = Partial::create(to)?;
    let mut copy = OpenOptions::new()
        .write(true)
        .open(&partial.path)
        .map_err(|cause| io_error(&partial.path, cause))?;
    io::copy(&mut source, &mut copy).map_err(|cause| io_error(&partial.path, cause))?;
    drop(copy);
    let schema = verify(&partial.path, vault).map_err(|error| match error {
        BackupError::Damaged { reason, .. } => BackupError::Damaged {
            file: from.to_owned(),
            reason,
        },
        other => other,
    })?;
    partial.finish(to, schema)
}

/// The newest schema version of a whole database that this program can use.
fn verify(file: &Path, vault: &Vault) -> Result<i64, BackupError> {
    let damaged = |reason: String| BackupError::Damaged {
        file: file.to_owned(),
        reason,
    };
    let connection = plain(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let read = |error: rusqlite::Error| damaged(error.to_string());
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(read)?;
    if verdict != "ok" {
        return Err(damaged(verdict));
    }
    let applied = applied(&connection).map_err(read)?;
    let Some(newest) = applied.iter().map(|done| done.version).max() else {
        return Err(damaged(
            "it is an SQLite database, but not one of Patchbay's".to_owned(),
        ));
    };
    migrate::compare(&applied, migrate::known(Dialect::Sqlite), Dialect::Sqlite)?;
    let proof = connection
        .query_row("SELECT key_id, sealed FROM key_check WHERE id = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(read)?;
    let mut used = connection
        .prepare("SELECT DISTINCT key_id FROM data_key")
        .map_err(read)?;
    let used = used.query_map([], |row| row.get(0)).map_err(read)?;
    let used: Vec<String> = used.collect::<rusqlite::Result<_>>().map_err(read)?;
    check_keys(vault, proof, used)?;
    Ok(newest)
}

fn applied(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    if !connection.table_exists(None, "schema_migration")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT version, name, checksum FROM schema_migration")?;
    let rows = statement.query_map([], |row| {
        Ok(Applied {
            version: row.get(0)?,
            name: row.get(1)?,
            checksum: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// A file under construction beside its target, removed unless it was finished.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn create(target: &Path) -> Result<Self, BackupError> {
        let path = beside(target, ".partial");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(|cause| io_error(&path, cause))?;
        Ok(Self { path })
    }

    /// Makes it durable and gives it its name.
    fn finish(self, target: &Path, schema: i64) -> Result<Copied, BackupError> {
        let finish = || {
            let file = File::open(&self.path)?;
            file.sync_all()?;
            let bytes = file.metadata()?.len();
            // Unlike a rename, a link never replaces a file that has appeared meanwhile.
            fs::hard_link(&self.path, target).or_else(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Err(error),
                _ => fs::rename(&self.path, target),
            })?;
            if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                File::open(folder)?.sync_all()?;
            }
            Ok(bytes)
        };
        let bytes = finish().map_err(|cause| io_error(target, cause))?;
        Ok(Copied { bytes, schema })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            fs::remove_file(beside(&self.path, suffix)).ok();
        }
    }
}

fn refuse_existing(path: &Path) -> Result<(), BackupError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(BackupError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn io_error(file: &Path, cause: io::Error) -> BackupError {
    BackupError::Io {
        file: file.to_owned(),
        cause,
    }
}
