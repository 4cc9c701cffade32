use futures_util::future::BoxFuture;
use patchbay_ambient::Ambient;
use tokio::sync::broadcast;

use crate::db::{DbError, Notice, Tx};

/// Where the data is and how it is opened.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
    /// The key ring: the first encrypts, all decrypt.
    pub keys: Vec<[u8; 32]>,
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The data, on SQLite or Postgres. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    notices: broadcast::Sender<Notice>,
}

impl Store {
    /// Opens the database, creating and migrating it as configured.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn open(config: StoreConfig, ambient: Ambient) -> Result<Store, OpenError> {
        let _ = (config, ambient);
        Err(DbError::internal("not connected").into())
    }

    /// Runs `f` in a read-only transaction that sees one moment of the database.
    pub async fn read<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        self.write(f).await
    }

    /// Runs `f` in a transaction: commits on `Ok`, rolls back on `Err`.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn write<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        let _ = f;
        Err(DbError::internal("not connected").into())
    }

    /// Notices of every node, from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }
}
