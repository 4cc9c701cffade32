use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::Span;

use super::super::run::{Ended, judge};
use super::super::{Access, Closing, Context, DbError, Engine, Tx};
use super::queue::{Popped, Queue};
use super::session::Session;

/// Readers have nothing to do when idle; this is only how long a wait lasts.
const PATIENCE: Duration = Duration::from_hours(1);

/// One caller's read, its types erased.
pub(super) trait Call: Send {
    /// Runs it on this connection and answers the caller.
    fn run(self: Box<Self>, session: Box<Session>) -> Box<Session>;
}

impl std::fmt::Debug for dyn Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

pub(super) struct ReadCall<F, T, E> {
    f: F,
    context: Arc<Context>,
    answer: oneshot::Sender<Result<T, E>>,
    span: Span,
}

impl<F, T, E> ReadCall<F, T, E> {
    pub(super) fn new(f: F, context: Arc<Context>, answer: oneshot::Sender<Result<T, E>>) -> Self {
        Self {
            f,
            context,
            answer,
            span: Span::current(),
        }
    }
}

impl<F, T, E> Call for ReadCall<F, T, E>
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send,
    E: From<DbError> + Send,
    T: Send,
{
    fn run(self: Box<Self>, session: Box<Session>) -> Box<Session> {
        if self.answer.is_closed() {
            return session;
        }
        // One snapshot for all statements of the closure.
        if let Err(error) = session.command("BEGIN") {
            self.answer.send(Err(error.into())).ok();
            return session;
        }
        let (session, closing, ended) = poll(session, Access::Read, &self.context, &self.span, self.f);
        if let Err(error) = session.command("COMMIT") {
            tracing::warn!(%error, "a read transaction did not end cleanly");
            session.command("ROLLBACK").ok();
        }
        let result = judge(ended, &closing);
        if result.is_ok() {
            closing.after.apply(&self.context);
        }
        self.answer.send(result).ok();
        session
    }
}

/// The body of a reader thread.
pub(super) fn run(mut session: Box<Session>, queue: &Queue<Box<dyn Call>>) {
    loop {
        match queue.pop(PATIENCE) {
            Popped::Item(call) => session = call.run(session),
            Popped::Idle => {}
            Popped::Closed => return,
        }
    }
}

/// A [`Closing`] whose connection has been taken back.
pub(super) type Rest = Closing<()>;

/// Lends the connection to a [`Tx`], polls the closure's future once and takes the connection back.
pub(super) fn poll<F, T, E>(
    session: Box<Session>,
    access: Access,
    context: &Arc<Context>,
    span: &Span,
    f: F,
) -> (Box<Session>, Rest, Ended<T, E>)
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>>,
{
    let mut tx = Tx::new(Engine::Sqlite(session), access, Arc::clone(context));
    let polled = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| f(&mut tx).now_or_never())));
    let ended = match polled {
        Ok(Some(result)) => Ended::Returned(result),
        Ok(None) => Ended::Stuck,
        Err(panic) => Ended::Panicked(panic),
    };
    let (engine, rest) = tx.close().split();
    match engine {
        Engine::Sqlite(session) => (session, rest, ended),
        Engine::Postgres(_) => unreachable!("a transaction keeps the engine it was made with"),
    }
}
