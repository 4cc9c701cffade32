//! The data directory: made with mode 0700, the key file with 0600, one server at a time on a SQLite file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use patchbay_ambient::Entropy;
use zeroize::Zeroizing;

use crate::config::{self, Database, Encryption, EncryptionKey, Storage};

/// Why the data directory cannot be used. Texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file operation failed.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// The database's path names a directory.
    #[error("the database {} is a directory; name a file in it, such as sqlite:{}", path.display(), path.join("patchbay.db").display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The key file is gone, the database is not.
    #[error(
        "the database {} exists but its encryption key file {} does not: restore the key file, or set \
         PATCHBAY_ENCRYPTION_KEY; a new key could not read what is stored",
        database.display(), key_file.display()
    )]
    KeyMissing {
        /// The database.
        database: PathBuf,
        /// Where the key was looked for.
        key_file: PathBuf,
    },
    /// The key file holds something else.
    #[error("{}:{line}: the key {reason}; {fix}", path.display())]
    KeyInvalid {
        /// The key file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// The key file holds nothing.
    #[error("{} holds no key: put one in (`head -c 32 /dev/urandom | base64`)", path.display())]
    KeyEmpty {
        /// The key file.
        path: PathBuf,
    },
    /// Another server has the database open.
    #[error(
        "another patchbay{} serves {}: stop it first, or use Postgres to run several", pid_note(*pid),
        database.display()
    )]
    InUse {
        /// The database.
        database: PathBuf,
        /// Who, if it could be told.
        pid: Option<u32>,
    },
}

fn pid_note(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |cause| DataDirError::Io { what, path, cause }
}

/// Makes the data directory, and the directory of the database file, if they are missing.
///
/// # Errors
/// They cannot be made, or the database file is a directory itself.
pub fn prepare(storage: &Storage) -> Result<(), DataDirError> {
    if let Database::Sqlite(file) = &storage.database
        && file.is_dir()
    {
        return Err(DataDirError::Directory { path: file.clone() });
    }
    make_private(&storage.data_dir)?;
    if let Database::Sqlite(file) = &storage.database
        && let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty())
    {
        make_private(parent)?;
    }
    Ok(())
}

fn make_private(directory: &Path) -> Result<(), DataDirError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(directory)
        .map_err(io_error("cannot make the directory", directory))
}

/// Paths of ours that other users of the machine may read; worth a warning.
pub fn exposed(storage: &Storage, encryption: &Encryption) -> Vec<PathBuf> {
    [&storage.data_dir, &encryption.key_file]
        .into_iter()
        .filter(|path| is_exposed(path))
        .cloned()
        .collect()
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_path: &Path) -> bool {
    false
}

/// The key ring and where it came from.
#[derive(Debug)]
pub struct KeyRing {
    /// The first encrypts, all decrypt; never empty.
    pub keys: Vec<EncryptionKey>,
    /// Where it came from.
    pub source: KeySource,
}

/// Where a key ring came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The configuration itself.
    Configured,
    /// A file that was there.
    File(PathBuf),
    /// A file made just now.
    Made(PathBuf),
}

impl KeyRing {
    /// The configured keys, else those of the key file, which must exist.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn load(storage: &Storage, encryption: &Encryption) -> Result<Option<Self>, DataDirError> {
        if !encryption.keys.is_empty() {
            return Ok(Some(Self {
                keys: encryption.keys.clone(),
                source: KeySource::Configured,
            }));
        }
        let path = &encryption.key_file;
        match read(path) {
            Ok(text) => {
                let keys =
                    config::parse_key_file(&text).map_err(|(line, invalid)| DataDirError::KeyInvalid {
                        path: path.clone(),
                        line,
                        reason: invalid.reason,
                        fix: invalid.fix,
                    })?;
                if keys.is_empty() {
                    return Err(DataDirError::KeyEmpty { path: path.clone() });
                }
                Ok(Some(Self {
                    keys,
                    source: KeySource::File(path.clone()),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match &storage.database {
                Database::Sqlite(file) if file.exists() => Err(DataDirError::KeyMissing {
                    database: file.clone(),
                    key_file: path.clone(),
                }),
                _ => Ok(None),
            },
            Err(error) => Err(io_error("cannot read the key file", path)(error)),
        }
    }

    /// As [`KeyRing::load`], making the key file if there is neither it nor a database.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn load_or_make(
        storage: &Storage,
        encryption: &Encryption,
        entropy: &dyn Entropy,
    ) -> Result<Self, DataDirError> {
        if let Some(ring) = Self::load(storage, encryption)? {
            return Ok(ring);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut *bytes);
        let key = EncryptionKey::new(*bytes);
        let path = &encryption.key_file;
        write_new(path, &key).map_err(io_error("cannot write the key file", path))?;
        Ok(Self {
            keys: vec![key],
            source: KeySource::Made(path.clone()),
        })
    }

    /// Takes back a key file made just now, because the database turned out to have another key.
    pub fn unmake(&self) {
        if let KeySource::Made(path) = &self.source
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), %error, "an unused key file could not be removed");
        }
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn write_new(path: &Path, key: &EncryptionKey) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let text = Zeroizing::new(format!(
        "# Patchbay's encryption key. Without it the secrets in the database are lost: back it up.\n{}\n",
        key.to_base64().expose()
    ));
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // The directory entry too: a key that vanishes in a power cut takes every secret with it.
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Held by the one process that serves a SQLite database; released when dropped or when the process ends.
#[derive(Debug)]
pub struct ServeLock {
    _file: File,
}

impl ServeLock {
    /// Locks the database for serving; none is needed for Postgres.
    ///
    /// # Errors
    /// Another process holds it, or the lock file cannot be opened.
    pub fn take(storage: &Storage) -> Result<Option<Self>, DataDirError> {
        let Database::Sqlite(database) = &storage.database else {
            return Ok(None);
        };
        let mut path = database.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options
            .open(&path)
            .map_err(io_error("cannot open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {
                // Only a note for the other's message: a failure to write it does no harm.
                let _ = file
                    .set_len(0)
                    .and_then(|()| write!(file, "{}", std::process::id()));
                Ok(Some(Self { _file: file }))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                Err(DataDirError::InUse {
                    database: database.clone(),
                    pid,
                })
            }
            Err(fs::TryLockError::Error(error)) => Err(io_error("cannot lock", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use patchbay_ambient::SeededEntropy;

    use super::*;
    use crate::config::{Config, Sources};

    fn config(directory: &Path) -> Config {
        let flags = BTreeMap::from([(
            "data_dir".to_owned(),
            vec![directory.join("data").display().to_string()],
        )]);
        Config::load(&Sources {
            flags,
            ..Sources::default()
        })
        .unwrap()
    }

    fn ring(config: &Config) -> Result<KeyRing, DataDirError> {
        KeyRing::load_or_make(&config.storage, &config.encryption, &SeededEntropy::new(1))
    }

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn directory_and_key_are_made_for_the_owner_only_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        prepare(&config.storage).unwrap();
        let made = ring(&config).unwrap();
        assert!(matches!(made.source, KeySource::Made(_)));
        #[cfg(unix)]
        {
            assert_eq!(mode(&config.storage.data_dir), 0o700);
            assert_eq!(mode(&config.encryption.key_file), 0o600);
        }
        assert!(exposed(&config.storage, &config.encryption).is_empty());
        let read = ring(&config).unwrap();
        assert!(matches!(read.source, KeySource::File(_)));
        assert_eq!(read.keys, made.keys);
        made.unmake();
        assert!(!config.encryption.key_file.exists());
    }

    #[test]
    fn a_database_without_its_key_is_refused_and_nothing_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        prepare(&config.storage).unwrap();
        fs::write(config.storage.data_dir.join("patchbay.db"), "x").unwrap();
        let error = ring(&config).unwrap_err();
        assert!(error.to_string().contains("restore the key file"), "{error}");
        assert!(!config.encryption.key_file.exists());
    }

    #[test]
    fn a_bad_key_file_is_located_and_not_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        prepare(&config.storage).unwrap();
        fs::write(&config.encryption.key_file, "# key\nplanted-key\n").unwrap();
        let error = ring(&config).unwrap_err().to_string();
        assert!(
            error.contains("encryption.key:2") && !error.contains("planted-"),
            "{error}"
        );
        fs::write(&config.encryption.key_file, "\n").unwrap();
        assert!(matches!(ring(&config), Err(DataDirError::KeyEmpty { .. })));
    }

    #[test]
    fn one_process_serves_a_sqlite_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        prepare(&config.storage).unwrap();
        let first = ServeLock::take(&config.storage).unwrap();
        assert!(first.is_some());
        let error = ServeLock::take(&config.storage).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(ServeLock::take(&config.storage).is_ok());
    }
}
