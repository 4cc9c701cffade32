use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::DbError;
use super::session::failure;

/// How long a statement waits for another process's lock.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements a connection keeps.
const STATEMENTS: usize = 256;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that writes.
    Writer,
    /// One of those that cannot.
    Reader,
}

/// Opens a connection with the settings every connection of the store has.
pub(crate) fn connect(path: &Path, role: Role) -> Result<Connection, DbError> {
    if role == Role::Writer {
        create(path)?;
    }
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    match configure(&connection, role) {
        Ok(()) => Ok(connection),
        Err(error) => Err(match failure(&error, None) {
            // Says which file is not a database.
            DbError::Internal(cause) => DbError::internal(format!("{}: {cause}", path.display())),
            DbError::Unavailable(cause) => DbError::unavailable(format!(
                "{}: {cause} (the file and its directory must be writable)",
                path.display()
            )),
            other => other,
        }),
    }
}

/// A connection without any setting, for files that are no live store: backups.
pub(crate) fn plain(path: &Path, flags: OpenFlags) -> Result<Connection, DbError> {
    open(path, flags)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, DbError> {
    Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| DbError::unavailable(format!("{}: {error}", path.display())))
}

fn configure(connection: &Connection, role: Role) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // Plans do not look at bound values. Otherwise SQLite, when built with STAT4, prepares a cached statement anew
    // whenever a value it once looked at is bound again.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    match role {
        Role::Writer => {
            // Stays in the file once set, so readers need not.
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
            connection.pragma_update(None, "cache_size", -8192)?;
        }
        Role::Reader => {
            connection.pragma_update(None, "cache_size", -4096)?;
            connection.pragma_update(None, "query_only", true)?;
        }
    }
    Ok(())
}

/// SQLite would create the file readable by everyone the umask allows.
fn create(path: &Path) -> Result<(), DbError> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        // A read-only file may still be read; writes will say what is wrong.
        Err(_) if path.exists() => Ok(()),
        Err(error) => Err(DbError::unavailable(format!("{}: {error}", path.display()))),
    }
}
