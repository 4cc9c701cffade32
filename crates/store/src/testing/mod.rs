//! Throw-away databases for tests of any crate: an SQLite file, or a database of its own on a real Postgres.
//!
//! ```text
//! patchbay_store::both_backends! {
//!     /// Runs twice, as `keeps_names::sqlite` and `keeps_names::postgres`.
//!     async fn keeps_names(db: TestDb) {
//!         let store = db.store().await;
//!         …
//!     }
//! }
//! ```
//!
//! Nothing is ever skipped: without a Postgres the test panics and says what to install. Where it comes from:
//! the head of `testing/cluster.rs`.

#![expect(
    clippy::missing_panics_doc,
    reason = "a test that cannot run fails by panicking, with words"
)]

mod cluster;
mod logs;

use std::path::{Path, PathBuf};

use patchbay_ambient::{Ambient, Entropy as _, SystemEntropy, TestClock};
use tempfile::TempDir;

use crate::db::Dialect;
use crate::{Store, StoreConfig};
use cluster::Server;

pub use cluster::{find_program, unprivileged};

/// The encryption key of every test database.
pub const TEST_KEY: [u8; 32] = *b"an encryption key made for tests";

/// A fresh database of one test, gone when dropped. Postgres' is migrated already.
#[derive(Debug)]
pub struct TestDb {
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Sqlite(TempDir),
    Postgres { server: &'static Server, name: String },
}

impl TestDb {
    /// An SQLite file in a directory of its own.
    #[expect(clippy::unused_async, reason = "the same shape as `postgres`")]
    pub async fn sqlite() -> Self {
        logs::capture();
        let folder = tempfile::Builder::new().prefix("patchbay-test-").tempdir();
        let folder = folder.expect("the temporary directory takes new directories");
        Self {
            url: format!("sqlite:{}", folder.path().join("patchbay.db").display()),
            place: Place::Sqlite(folder),
        }
    }

    /// A database on a real Postgres.
    pub async fn postgres() -> Self {
        logs::capture();
        let server = cluster::server().await;
        let name = format!("patchbay_test_{}", SystemEntropy.uuid().simple());
        server.create_from_template(&name).await;
        Self {
            url: server.url(&name),
            place: Place::Postgres { server, name },
        }
    }

    /// One of each.
    pub async fn backends() -> Vec<Self> {
        vec![Self::sqlite().await, Self::postgres().await]
    }

    /// Which it is.
    pub fn dialect(&self) -> Dialect {
        match self.place {
            Place::Sqlite(_) => Dialect::Sqlite,
            Place::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// Its URL, as the operator would write it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How to open it, with few threads and connections.
    pub fn config(&self) -> StoreConfig {
        StoreConfig {
            readers: 2,
            connections: 8,
            ..StoreConfig::new(self.url.clone(), [TEST_KEY])
        }
    }

    /// Opens it with a [`TestClock`] at its default time.
    pub async fn store(&self) -> Store {
        self.open(Ambient::test(TestClock::default(), 1)).await
    }

    /// Opens it in this world. Two stores on one database are two nodes.
    pub async fn open(&self, ambient: Ambient) -> Store {
        Store::open(self.config(), ambient)
            .await
            .expect("a test database opens")
    }

    /// The SQLite file.
    pub fn path(&self) -> PathBuf {
        match &self.place {
            Place::Sqlite(folder) => folder.path().join("patchbay.db"),
            Place::Postgres { .. } => panic!("Postgres has no file"),
        }
    }

    /// A directory that goes with the database, SQLite only.
    pub fn folder(&self) -> &Path {
        match &self.place {
            Place::Sqlite(folder) => folder.path(),
            Place::Postgres { .. } => panic!("Postgres has no directory"),
        }
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if let Place::Postgres { server, name } = &self.place {
            server.drop_database(name);
        }
    }
}

/// Runs each `async fn name(db: TestDb)` as two tests, `name::sqlite` and `name::postgres`, on a runtime with two
/// threads. The calling crate needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! both_backends {
    ($($(#[$meta:meta])* async fn $name:ident($db:ident: TestDb) $(-> $out:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[cfg(test)]
        mod $name {
            use super::*;

            async fn story($db: $crate::testing::TestDb) $(-> $out)? $body

            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() $(-> $out)? {
                story($crate::testing::TestDb::sqlite().await).await
            }

            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() $(-> $out)? {
                story($crate::testing::TestDb::postgres().await).await
            }
        }
    )*};
}
