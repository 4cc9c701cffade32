use patchbay_types::Timestamp;
use zeroize::Zeroizing;

use super::{DbError, Notice, Row, Value};
use crate::vault::{KeyScope, Vault};

/// Which database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3, embedded.
    Sqlite,
    /// PostgreSQL 13 or newer.
    Postgres,
}

/// One transaction, the same on both databases.
#[derive(Debug)]
pub struct Tx {
    vault: Vault,
    now: Timestamp,
    notices: Vec<Notice>,
}

impl Tx {
    /// Runs a statement and returns its rows.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let _ = (sql, params);
        Err(DbError::internal("not connected"))
    }

    /// The first row, if any.
    pub async fn query_opt(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>, DbError> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// The first row; none is an [`DbError::Internal`].
    pub async fn query_one(&mut self, sql: &str, params: &[Value]) -> Result<Row, DbError> {
        let row = self.query_opt(sql, params).await?;
        row.ok_or_else(|| DbError::internal(format!("no row came back from: {sql}")))
    }

    /// Runs a statement; the number of rows it touched.
    pub async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        self.query(sql, params).await.map(|rows| rows.len() as u64)
    }

    /// Runs one statement for many rows of parameters; the number of rows touched in all.
    pub async fn execute_many(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<u64, DbError> {
        let mut touched = 0;
        for row in rows {
            touched += self.execute(sql, row).await?;
        }
        Ok(touched)
    }

    /// For the few fragments that differ.
    pub fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    /// The injected clock's time when the transaction began.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Seals and opens secrets: `tx.vault().seal(environment, "connection.credentials:17", &json).await?`.
    pub fn vault(&mut self) -> TxVault<'_> {
        TxVault { tx: self }
    }

    /// Publishes to subscribers on every node once this transaction has committed.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// Encryption at rest within one transaction, see [`crate::vault`].
#[derive(Debug)]
pub struct TxVault<'t> {
    tx: &'t mut Tx,
}

impl TxVault<'_> {
    /// Encrypts `plaintext` with the data key of `scope` (created when there is none yet) and binds it to `aad`,
    /// which names the place it is stored in: `table.column:row`.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn seal(
        self,
        scope: impl Into<KeyScope>,
        aad: &str,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, DbError> {
        let _ = (scope.into(), aad, plaintext, &self.tx.vault);
        Err(DbError::internal("not connected"))
    }

    /// Decrypts what [`TxVault::seal`] made with the same scope and `aad`.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn open(
        self,
        scope: impl Into<KeyScope>,
        aad: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DbError> {
        let _ = (scope.into(), aad, sealed, &self.tx.vault);
        Err(DbError::internal("not connected"))
    }

    /// Deletes the data key of `scope`: everything sealed with it is unreadable from then on.
    #[expect(clippy::unused_async, reason = "skeleton")]
    pub async fn forget(self, scope: impl Into<KeyScope>) -> Result<(), DbError> {
        let _ = (scope.into(), self.tx);
        Err(DbError::internal("not connected"))
    }
}
