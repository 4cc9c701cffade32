//! Postgres: a pool of connections, `LISTEN`/`NOTIFY` between nodes, poolers in transaction mode.
//!
//! **Poolers.** In transaction mode (PgBouncer and its kin) each transaction may run on another server connection:
//! named prepared statements and `LISTEN` do not survive. Opening compares server process ids on two connections
//! ([`pool::is_pooled`]); if that does not tell, the first "prepared statement does not exist" (26000) or "already
//! exists" (42P05) does, and the store goes over to unnamed statements for good. A transaction that meets it at its
//! first statement is begun anew unseen; later than that it fails with [`super::DbError::Retry`], once at most.
//!
//! **Notices** travel by `NOTIFY` inside the transaction, so they arrive after the commit or not at all; see
//! [`listen`] for what happens where `LISTEN` does not work.

mod listen;
mod pool;
mod session;
mod url;
mod value;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

pub(crate) use session::Session;
use session::Statements;

use super::run::{Ended, judge};
use super::{Access, Closing, Context, DbError, Engine, Tx};

/// How many times [`Postgres::write_retry`] runs a transaction at most.
const ATTEMPTS: u32 = 6;
/// The longest pause before the second attempt; doubled each time.
const PAUSE: Duration = Duration::from_millis(10);

/// The pool and what is known about the server behind it.
#[derive(Debug)]
pub(crate) struct Postgres {
    pool: Pool,
    statements: Arc<Statements>,
    context: Arc<Context>,
    listening: CancellationToken,
}

/// How to connect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) connections: usize,
}

/// A transaction's result, and whether the database asked for a repetition.
type Attempt<T, E> = (Result<T, E>, bool);

impl Postgres {
    /// Connects. The `Err` of the outer result is a fault of the URL, in words without its password.
    pub(crate) async fn open(
        url: &str,
        options: Options,
        context: Arc<Context>,
    ) -> Result<Result<Self, DbError>, String> {
        let target = url::parse(url)?;
        let statements = Arc::new(Statements::default());
        let pool = pool::build(&target, options.connections)?;
        if target.unnamed {
            statements.force_unnamed();
        }
        let pooled = match pool::is_pooled(&pool).await {
            Ok(pooled) => pooled,
            // Says which server, for whoever mistyped its name.
            Err(DbError::Unavailable(cause)) => {
                let server = url::address(&target.config);
                return Ok(Err(DbError::unavailable(format!("{server}: {cause}"))));
            }
            Err(error) => return Ok(Err(error)),
        };
        if pooled {
            tracing::info!("Postgres is behind a pooler in transaction mode");
            statements.force_unnamed();
        }
        let listener = listen::Listener {
            config: target.config,
            tls: target.tls,
            pool: pool.clone(),
            context: Arc::clone(&context),
            pooled,
        };
        // A loop for the life of the store: it holds no handle to the store.
        let listening = context.ambient.tasks.stopping().child_token();
        let stop = listening.clone();
        context.ambient.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = listener.run() => {}
            }
        });
        Ok(Ok(Self {
            pool,
            statements,
            context,
            listening,
        }))
    }

    pub(crate) async fn read<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        // Not spawned: dropped midway, the session closes its connection.
        let (mut session, closing, ended) = self.begin(Access::Read, f).await;
        session.end_read();
        let result = judge(ended, &closing);
        if result.is_ok() {
            closing.after.apply(&self.context);
        }
        result
    }

    pub(crate) async fn write<T, E>(
        self: &Arc<Self>,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        self.attempt(f).await.0
    }

    /// Runs `f` again, after a pause, as long as the database asks for it.
    pub(crate) async fn write_retry<T, E>(
        self: &Arc<Self>,
        f: impl for<'t> Fn(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        let f = Arc::new(f);
        let mut longest = PAUSE;
        for _ in 1..ATTEMPTS {
            let again = Arc::clone(&f);
            let (result, retry) = self.attempt(move |tx| again(tx)).await;
            if !retry {
                return result;
            }
            let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
            let pause = Duration::from_micros(self.context.ambient.entropy.below(micros));
            // The server's locks are released in real time, whatever the injected clock says.
            tokio::time::sleep(pause).await;
            longest *= 2;
        }
        self.attempt(move |tx| f(tx)).await.0
    }

    pub(crate) fn close(&self) {
        self.listening.cancel();
        self.pool.close();
    }

    /// Runs one write to its end in a task of its own, so that a caller who goes away leaves no open transaction.
    async fn attempt<T, E>(
        self: &Arc<Self>,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Attempt<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        let engine = Arc::clone(self);
        let work = async move { engine.write_now(f).await }.instrument(Span::current());
        let task = self.context.ambient.tasks.spawn(work);
        match task.await {
            Ok(attempt) => attempt,
            // The closure's own panics are caught inside; this one is the runtime going down.
            Err(_) => (
                Err(DbError::unavailable("the server is shutting down").into()),
                false,
            ),
        }
    }

    async fn write_now<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Attempt<T, E>
    where
        E: From<DbError>,
    {
        let (mut session, closing, ended) = self.begin(Access::Write, f).await;
        let retry = closing.retry;
        let value = match judge(ended, &closing) {
            Ok(value) => value,
            Err(error) => {
                session.roll_back().await;
                return (Err(error), retry);
            }
        };
        let payloads: Vec<String> = closing
            .after
            .notices
            .iter()
            .map(|notice| self.context.hub.encode(notice))
            .collect();
        if let Err(error) = session.commit(&payloads).await {
            let retry = matches!(error, DbError::Retry(_));
            return (Err(error.into()), retry);
        }
        self.context.count_commit(1);
        closing.after.apply(&self.context);
        (Ok(value), false)
    }

    async fn begin<T, E>(
        &self,
        access: Access,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send,
    ) -> (Box<Session>, Closing<()>, Ended<T, E>) {
        let session = Session::new(self.pool.clone(), Arc::clone(&self.statements), access);
        let mut tx = Tx::new(Engine::Postgres(session), access, Arc::clone(&self.context));
        // The closure itself may panic before it returns its future.
        let run = async { f(&mut tx).await };
        let ended = match AssertUnwindSafe(run).catch_unwind().await {
            Ok(result) => Ended::Returned(result),
            Err(panic) => Ended::Panicked(panic),
        };
        let (engine, closing) = tx.close().split();
        match engine {
            Engine::Postgres(session) => (session, closing, ended),
            Engine::Sqlite(_) => unreachable!("a transaction keeps the engine it was made with"),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.close();
    }
}
