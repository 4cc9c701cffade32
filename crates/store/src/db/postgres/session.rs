use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_postgres::{Object, Pool, PoolError};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use super::super::{Access, DbError, Row, Value};
use super::value::{Column, Param};

/// Rows of parameters in flight at once.
const PIPELINE: usize = 256;
/// Named statements a connection keeps before it starts over: lists in a statement make texts without end.
const STATEMENTS: usize = 512;
/// Times a first statement is begun anew on another connection or in the other mode.
const RESTARTS: usize = 4;
/// The channel of `NOTIFY`.
pub(super) const CHANNEL: &str = "patchbay";

/// Whether statements are prepared under a name and reused (the default), or parsed anew each time, which is what
/// poolers in transaction mode need. Goes from the first to the second only.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    unnamed: AtomicBool,
}

impl Statements {
    pub(super) fn unnamed(&self) -> bool {
        self.unnamed.load(Ordering::Relaxed)
    }

    pub(super) fn switch_to_unnamed(&self, why: &str) {
        if !self.unnamed.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "prepared statements do not work with this Postgres; using unnamed ones"
            );
        }
    }

    pub(super) fn force_unnamed(&self) {
        self.unnamed.store(true, Ordering::Relaxed);
    }
}

/// A pooled connection in the service of one transaction.
///
/// `BEGIN` travels with the first statement, so a transaction of one statement costs no more round trips than the
/// statement and, for a write, the commit. Dropped in the middle (a cancelled reader, a panic), the connection is
/// closed rather than given back to the pool with an open transaction.
#[derive(Debug)]
pub(crate) struct Session {
    pool: Pool,
    statements: Arc<Statements>,
    access: Access,
    client: Option<Object>,
    /// From before `BEGIN` is sent until the transaction has ended.
    open: bool,
}

enum Work<'a> {
    Query(&'a [Value]),
    Execute(&'a [Value]),
    Many(&'a [Vec<Value>]),
    Batch,
}

enum Done {
    Rows(Vec<tokio_postgres::Row>),
    Touched(u64),
}

impl Session {
    pub(super) fn new(pool: Pool, statements: Arc<Statements>, access: Access) -> Box<Self> {
        Box::new(Self {
            pool,
            statements,
            access,
            client: None,
            open: false,
        })
    }

    pub(crate) async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        match self.run(sql, Work::Query(params)).await? {
            Done::Rows(rows) => rows.iter().map(row).collect(),
            Done::Touched(_) => Err(DbError::internal("a query answered with a count")),
        }
    }

    pub(crate) async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        self.touch(sql, Work::Execute(params)).await
    }

    pub(crate) async fn execute_many(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<u64, DbError> {
        self.touch(sql, Work::Many(rows)).await
    }

    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.touch(sql, Work::Batch).await.map(drop)
    }

    /// Commits, with the notices to other nodes in the same round trip.
    pub(super) async fn commit(&mut self, payloads: &[String]) -> Result<(), DbError> {
        if !self.open && payloads.is_empty() {
            return Ok(());
        }
        if !self.open {
            self.touch("SELECT 1", Work::Execute(&[])).await?;
        }
        let Some(client) = &self.client else {
            return Err(DbError::internal("a transaction without a connection"));
        };
        let calls: Vec<String> = payloads
            .iter()
            .map(|text| format!("SELECT pg_notify('{CHANNEL}', {})", literal(text)))
            .collect();
        let sql = calls.join("; ");
        let (notified, committed) = tokio::join!(
            async {
                if sql.is_empty() {
                    Ok(())
                } else {
                    client.batch_execute(&sql).await
                }
            },
            client.batch_execute("COMMIT"),
        );
        notified.and(committed).map_err(|error| failure(&error))?;
        self.open = false;
        Ok(())
    }

    pub(super) async fn roll_back(&mut self) {
        let Some(client) = self.client.as_ref().filter(|_| self.open) else {
            return;
        };
        // If it fails, `open` stays and the connection is closed on drop.
        if client.batch_execute("ROLLBACK").await.is_ok() {
            self.open = false;
        }
    }

    /// Ends a read. Its rows are here already, so nobody waits for the answer: whoever borrows the connection next
    /// sends after it.
    pub(super) fn end_read(&mut self) {
        if let Some(client) = self.client.as_ref().filter(|_| self.open) {
            let end = client.batch_execute("COMMIT").now_or_never();
            self.open = matches!(end, Some(Err(_)));
        }
    }

    async fn touch(&mut self, sql: &str, work: Work<'_>) -> Result<u64, DbError> {
        match self.run(sql, work).await? {
            Done::Touched(count) => Ok(count),
            Done::Rows(_) => Err(DbError::internal("a statement answered with rows")),
        }
    }

    async fn run(&mut self, sql: &str, work: Work<'_>) -> Result<Done, DbError> {
        if self.open {
            let Some(client) = &self.client else {
                return Err(DbError::internal("a transaction without a connection"));
            };
            let done = perform(client, &self.statements, sql, &work).await;
            return done.map_err(|error| self.give_up(&error));
        }
        // Until the first statement has succeeded nothing of this transaction exists, so it can be begun anew.
        for _ in 0..RESTARTS {
            let error = match self.begin_with(sql, &work).await? {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !self.may_restart(&error).await {
                return Err(self.give_up(&error));
            }
        }
        let last = self.begin_with(sql, &work).await?;
        last.map_err(|error| self.give_up(&error))
    }

    async fn begin_with(&mut self, sql: &str, work: &Work<'_>) -> Result<Result<Done, Error>, DbError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.pool.get().await.map_err(|error| unpooled(&error))?,
        };
        let client = self.client.insert(client);
        self.open = true;
        let opening = match self.access {
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Access::Write => "BEGIN",
        };
        // Sent in this order in one go; the first is polled first.
        let (begun, done) =
            tokio::join!(biased; client.batch_execute(opening), perform(client, &self.statements, sql, work));
        Ok(begun.and(done))
    }

    /// Makes ready for another attempt at the first statement, if that can help.
    async fn may_restart(&mut self, error: &Error) -> bool {
        if error.is_closed() || self.client.as_ref().is_none_or(|client| client.is_closed()) {
            // A connection of before a restart of the server. The pool finds another or says that there is none.
            self.discard();
            return true;
        }
        let Some(code) = error.code() else {
            return false;
        };
        if *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::DUPLICATE_PSTATEMENT {
            self.statements.switch_to_unnamed(code.code());
        } else if is_stale_plan(error) {
            if let Some(client) = &self.client {
                client.statement_cache.clear();
            }
        } else if *code != SqlState::T_R_SERIALIZATION_FAILURE && *code != SqlState::T_R_DEADLOCK_DETECTED {
            return false;
        }
        self.roll_back().await;
        if self.open {
            self.discard();
        }
        true
    }

    fn give_up(&self, error: &Error) -> DbError {
        if let Some(code) = error.code()
            && (*code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::DUPLICATE_PSTATEMENT)
        {
            self.statements.switch_to_unnamed(code.code());
        }
        failure(error)
    }

    /// Closes the connection instead of giving it back.
    fn discard(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
        self.open = false;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.open {
            self.discard();
        }
    }
}

async fn perform(
    client: &Object,
    statements: &Statements,
    sql: &str,
    work: &Work<'_>,
) -> Result<Done, Error> {
    if let Work::Batch = work {
        return client.batch_execute(sql).await.map(|()| Done::Touched(0));
    }
    if statements.unnamed() {
        return match work {
            Work::Query(params) => {
                let params = wrap(params);
                client.query_typed(sql, &untyped(&params)).await.map(Done::Rows)
            }
            Work::Execute(params) => execute_unnamed(client, sql, params).await.map(Done::Touched),
            Work::Many(rows) => many(rows, |params| execute_unnamed(client, sql, params))
                .await
                .map(Done::Touched),
            Work::Batch => Ok(Done::Touched(0)),
        };
    }
    if client.statement_cache.size() >= STATEMENTS {
        client.statement_cache.clear();
    }
    let statement = client.prepare_cached(sql).await?;
    let execute = async |params: &[Value]| client.execute_raw(&statement, wrap(params)).await;
    match work {
        Work::Query(params) => {
            let params = wrap(params);
            client.query(&statement, &typed(&params)).await.map(Done::Rows)
        }
        Work::Execute(params) => execute(params).await.map(Done::Touched),
        Work::Many(rows) => many(rows, execute).await.map(Done::Touched),
        Work::Batch => Ok(Done::Touched(0)),
    }
}

async fn execute_unnamed(client: &Client, sql: &str, params: &[Value]) -> Result<u64, Error> {
    let params = wrap(params);
    client.execute_typed(sql, &untyped(&params)).await
}

/// Sends a chunk of rows without waiting in between; the first error is the true one, those after it only say
/// that the transaction is lost.
async fn many<'r, F>(rows: &'r [Vec<Value>], execute: impl Fn(&'r [Value]) -> F) -> Result<u64, Error>
where
    F: Future<Output = Result<u64, Error>>,
{
    let mut touched = 0;
    for chunk in rows.chunks(PIPELINE) {
        for result in join_all(chunk.iter().map(Vec::as_slice).map(&execute)).await {
            touched += result?;
        }
    }
    Ok(touched)
}

fn wrap(params: &[Value]) -> Vec<Param<'_>> {
    params.iter().map(Param).collect()
}

fn typed<'p>(params: &'p [Param<'_>]) -> Vec<&'p (dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

/// "Unknown" leaves the type to the server, as it would be with a named statement.
fn untyped<'p>(params: &'p [Param<'_>]) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
    params
        .iter()
        .map(|param| (param as &(dyn ToSql + Sync), Type::UNKNOWN))
        .collect()
}

fn row(row: &tokio_postgres::Row) -> Result<Row, DbError> {
    let values = (0..row.len()).map(|index| row.try_get::<_, Column>(index).map(|column| column.0));
    let values: Result<Vec<Value>, Error> = values.collect();
    values
        .map(Row::new)
        .map_err(|error| DbError::internal(error.to_string()))
}

/// Our own payloads only: a node's id, a topic and a key.
fn literal(text: &str) -> String {
    // `E''` reads the same whatever `standard_conforming_strings` says.
    format!(
        "E'{}'",
        text.replace('\\', "\\\\").replace('\'', "\\'").replace('\0', "")
    )
}

/// Another node migrated; the plans of this connection are of before.
fn is_stale_plan(error: &Error) -> bool {
    error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
        && error
            .as_db_error()
            .is_some_and(|error| error.message().contains("cached plan"))
}

/// What an error of Postgres means to a repository. Details are left out: they quote rows.
pub(super) fn failure(error: &Error) -> DbError {
    let Some(db) = error.as_db_error() else {
        if error.is_closed()
            || std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
        {
            return DbError::unavailable(chain(error));
        }
        return DbError::internal(chain(error));
    };
    let code = db.code().code();
    // Class 22, "data exception", quotes what it could not read.
    let text = if code.starts_with("22") {
        format!("data exception ({code})")
    } else {
        format!("{} ({code})", db.message())
    };
    match db.code() {
        code if *code == SqlState::UNIQUE_VIOLATION => DbError::Conflict {
            constraint: db.constraint().unwrap_or_default().to_owned(),
        },
        code if *code == SqlState::FOREIGN_KEY_VIOLATION => DbError::Reference,
        code if *code == SqlState::T_R_SERIALIZATION_FAILURE
            || *code == SqlState::T_R_DEADLOCK_DETECTED
            || *code == SqlState::INVALID_SQL_STATEMENT_NAME
            || *code == SqlState::DUPLICATE_PSTATEMENT =>
        {
            DbError::retry(text)
        }
        code if is_stale_plan(error) || *code == SqlState::LOCK_NOT_AVAILABLE => DbError::retry(text),
        // Read-only, and by class: connection, resources (disk full, too many connections), operator, system.
        code if *code == SqlState::READ_ONLY_SQL_TRANSACTION
            || ["08", "53", "57", "58"]
                .iter()
                .any(|class| db.code().code().starts_with(class)) =>
        {
            DbError::unavailable(text)
        }
        _ => DbError::internal(text),
    }
}

pub(super) fn unpooled(error: &PoolError) -> DbError {
    match error {
        PoolError::Backend(error) => match failure(error) {
            // A wrong password at start is a fault of configuration, but later it is as good as gone.
            DbError::Internal(cause) => DbError::Unavailable(cause),
            other => other,
        },
        PoolError::Timeout(_) => {
            DbError::unavailable("no connection to Postgres became free or could be made in time")
        }
        other => DbError::unavailable(other.to_string()),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
