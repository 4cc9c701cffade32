use std::sync::Arc;

use patchbay_types::Timestamp;
use zeroize::Zeroizing;

use super::{Context, DbError, Notice, Row, Value, postgres, sqlite};
use crate::vault::{DataKey, KeyScope};

/// More notices than this in one transaction are published as one [`super::Topic::Everything`].
const MAX_NOTICES: usize = 256;

/// Which database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3, embedded.
    Sqlite,
    /// PostgreSQL 13 or newer.
    Postgres,
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// One transaction, the same on both databases.
///
/// After any error the transaction is lost: see [`DbError`].
#[derive(Debug)]
pub struct Tx {
    engine: Engine,
    access: Access,
    context: Arc<Context>,
    now: Timestamp,
    notices: Vec<Notice>,
    keys: Vec<(KeyScope, Option<DataKey>)>,
    failure: Option<Failure>,
}

/// The connection of one of the drivers, on loan to the transaction.
#[derive(Debug)]
pub(crate) enum Engine {
    Sqlite(Box<sqlite::Session>),
    Postgres(Box<postgres::Session>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The database asks for a repetition.
    Retry,
    Other,
}

/// What remains of a transaction once its closure has returned.
#[derive(Debug)]
pub(crate) struct Closing<C = Engine> {
    engine: C,
    pub(crate) failed: bool,
    pub(crate) retry: bool,
    pub(crate) after: AfterCommit,
}

impl Closing {
    /// Takes the connection out.
    pub(crate) fn split(self) -> (Engine, Closing<()>) {
        (
            self.engine,
            Closing {
                engine: (),
                failed: self.failed,
                retry: self.retry,
                after: self.after,
            },
        )
    }
}

/// What takes effect in this process when, and only when, the commit has happened.
#[derive(Debug, Default)]
pub(crate) struct AfterCommit {
    pub(crate) notices: Vec<Notice>,
    keys: Vec<(KeyScope, Option<DataKey>)>,
}

impl AfterCommit {
    pub(crate) fn apply(self, context: &Context) {
        for (scope, key) in self.keys {
            context.vault.remember(scope, key);
        }
        context.hub.publish(self.notices);
    }
}

impl Tx {
    /// Runs a statement and returns its rows.
    pub async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        self.check()?;
        let rows = match &mut self.engine {
            Engine::Sqlite(session) => session.query(sql, params),
            Engine::Postgres(session) => session.query(sql, params).await,
        };
        self.note(rows)
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
        self.check()?;
        let touched = match &mut self.engine {
            Engine::Sqlite(session) => session.execute(sql, params),
            Engine::Postgres(session) => session.execute(sql, params).await,
        };
        self.note(touched)
    }

    /// Runs one statement for many rows of parameters, without a round trip each; the number of rows touched in
    /// all.
    pub async fn execute_many(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<u64, DbError> {
        self.check()?;
        if rows.is_empty() {
            return Ok(0);
        }
        let touched = match &mut self.engine {
            Engine::Sqlite(session) => session.execute_many(sql, rows),
            Engine::Postgres(session) => session.execute_many(sql, rows).await,
        };
        self.note(touched)
    }

    /// Runs a script of statements without parameters: migrations.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.check()?;
        let done = match &mut self.engine {
            Engine::Sqlite(session) => session.batch(sql),
            Engine::Postgres(session) => session.batch(sql).await,
        };
        self.note(done)
    }

    /// For the few fragments that differ.
    pub fn dialect(&self) -> Dialect {
        match self.engine {
            Engine::Sqlite(_) => Dialect::Sqlite,
            Engine::Postgres(_) => Dialect::Postgres,
        }
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
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    pub(crate) fn new(engine: Engine, access: Access, context: Arc<Context>) -> Self {
        let now = context.ambient.now();
        Self {
            engine,
            access,
            context,
            now,
            notices: Vec::new(),
            keys: Vec::new(),
            failure: None,
        }
    }

    pub(crate) fn close(self) -> Closing {
        let notices = if self.notices.len() > MAX_NOTICES {
            vec![Notice::everything()]
        } else {
            self.notices
        };
        Closing {
            engine: self.engine,
            failed: self.failure.is_some(),
            retry: self.failure == Some(Failure::Retry),
            after: AfterCommit {
                notices,
                keys: self.keys,
            },
        }
    }

    fn check(&self) -> Result<(), DbError> {
        match self.failure {
            None => Ok(()),
            Some(_) => Err(DbError::internal(
                "an earlier statement of this transaction failed",
            )),
        }
    }

    fn note<T>(&mut self, result: Result<T, DbError>) -> Result<T, DbError> {
        if let Err(error) = &result {
            let retry = matches!(error, DbError::Retry(_));
            self.failure = Some(if retry { Failure::Retry } else { Failure::Other });
        }
        result
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
    pub async fn seal(
        mut self,
        scope: impl Into<KeyScope>,
        aad: &str,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, DbError> {
        let scope = scope.into();
        let key = match self.known(scope).await? {
            Some(key) => key,
            None => self.create(scope).await?,
        };
        Ok(key.seal(aad, plaintext))
    }

    /// Decrypts what [`TxVault::seal`] made with the same scope and `aad`; anything else is an
    /// [`DbError::Internal`].
    pub async fn open(
        mut self,
        scope: impl Into<KeyScope>,
        aad: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DbError> {
        let scope = scope.into();
        if let Some(key) = self.held(scope)
            && key.made(sealed)
        {
            return key.open(aad, sealed);
        }
        // Not held, or the key was replaced since: the table decides.
        let Some(key) = self.load(scope).await? else {
            return Err(DbError::internal(format!(
                "the data key of {scope} is gone; {aad} cannot be opened"
            )));
        };
        key.open(aad, sealed)
    }

    /// Deletes the data key of `scope`: everything sealed with it is unreadable from then on.
    pub async fn forget(self, scope: impl Into<KeyScope>) -> Result<(), DbError> {
        let scope = scope.into();
        self.tx
            .execute(
                "DELETE FROM data_key WHERE scope = $1",
                &[scope.to_string().into()],
            )
            .await?;
        self.tx.keys.push((scope, None));
        Ok(())
    }

    async fn known(&mut self, scope: KeyScope) -> Result<Option<DataKey>, DbError> {
        match self.held(scope) {
            Some(key) => Ok(Some(key)),
            None => self.load(scope).await,
        }
    }

    /// From memory: what this transaction did last with the scope counts before what the store remembers.
    fn held(&self, scope: KeyScope) -> Option<DataKey> {
        match self.tx.keys.iter().rev().find(|(of, _)| *of == scope) {
            Some((_, key)) => key.clone(),
            None => self.tx.context.vault.recall(scope),
        }
    }

    async fn load(&mut self, scope: KeyScope) -> Result<Option<DataKey>, DbError> {
        let found = self
            .tx
            .query_opt(
                "SELECT wrapped, key_id FROM data_key WHERE scope = $1",
                &[scope.to_string().into()],
            )
            .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let wrapped: Vec<u8> = row.get(0)?;
        let key_id: String = row.get(1)?;
        let key = self.tx.context.vault.unwrap_key(scope, &wrapped, &key_id)?;
        self.tx.keys.push((scope, Some(key.clone())));
        Ok(Some(key))
    }

    async fn create(&mut self, scope: KeyScope) -> Result<DataKey, DbError> {
        if self.tx.access == Access::Read {
            return Err(DbError::internal(format!(
                "{scope} has no data key and a read cannot make one"
            )));
        }
        let fresh = self.tx.context.vault.new_wrapped_key(scope);
        let now = self.tx.now;
        let params = [
            scope.to_string().into(),
            fresh.wrapped.into(),
            fresh.key_id.into(),
            now.into(),
        ];
        // Two nodes may meet here: the first to commit wins, both use its key.
        self.tx
            .execute(
                "INSERT INTO data_key (scope, wrapped, key_id, created_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (scope) DO NOTHING",
                &params,
            )
            .await?;
        let key = self.load(scope).await?;
        key.ok_or_else(|| DbError::internal(format!("the data key of {scope} vanished")))
    }
}
