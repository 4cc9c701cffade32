use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::Span;

use super::super::run::judge;
use super::super::tx::AfterCommit;
use super::super::{Access, Context, DbError, Notice, Tx};
use super::queue::{Popped, Queue};
use super::read::poll;
use super::session::Session;

/// How often an idle writer looks for commits of other processes.
const WATCH: Duration = Duration::from_millis(250);
/// Transactions in one commit at most, so that the first does not wait for ever.
const BATCH: usize = 256;
/// How long a batch takes in more transactions at most, by the injected clock.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// What the writer's queue holds.
#[derive(Debug)]
pub(super) enum Item {
    Call(Box<dyn Call>),
    Maintain,
}

/// One caller's write, its types erased.
pub(super) trait Call: Send {
    /// Runs it inside the open savepoint.
    fn run(&mut self, session: Box<Session>) -> (Box<Session>, Verdict);
    /// Answers the caller: what its closure returned if `fate` is `Ok`, else that nothing was saved.
    fn answer(self: Box<Self>, fate: Result<(), String>);
}

impl std::fmt::Debug for dyn Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

pub(super) enum Verdict {
    Keep,
    Undo,
}

pub(super) struct WriteCall<F, T, E> {
    f: Option<F>,
    result: Option<Result<T, E>>,
    after: AfterCommit,
    context: Arc<Context>,
    answer: oneshot::Sender<Result<T, E>>,
    span: Span,
}

impl<F, T, E> WriteCall<F, T, E> {
    pub(super) fn new(f: F, context: Arc<Context>, answer: oneshot::Sender<Result<T, E>>) -> Self {
        Self {
            f: Some(f),
            result: None,
            after: AfterCommit::default(),
            context,
            answer,
            span: Span::current(),
        }
    }
}

impl<F, T, E> Call for WriteCall<F, T, E>
where
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send,
    E: From<DbError> + Send,
    T: Send,
{
    fn run(&mut self, session: Box<Session>) -> (Box<Session>, Verdict) {
        let Some(f) = self.f.take() else {
            return (session, Verdict::Undo);
        };
        let (session, closing, ended) = poll(session, Access::Write, &self.context, &self.span, f);
        let result = judge(ended, &closing);
        let verdict = if result.is_ok() {
            Verdict::Keep
        } else {
            Verdict::Undo
        };
        if result.is_ok() {
            self.after = closing.after;
        }
        self.result = Some(result);
        (session, verdict)
    }

    fn answer(self: Box<Self>, fate: Result<(), String>) {
        let result = match (fate, self.result) {
            (Ok(()), Some(result)) => {
                if result.is_ok() {
                    self.after.apply(&self.context);
                }
                result
            }
            // Its own error says more than that of the batch.
            (Err(_), Some(Err(error))) => Err(error),
            (Err(cause), _) => Err(DbError::unavailable(cause).into()),
            (Ok(()), None) => Err(DbError::internal("a transaction was answered before it ran").into()),
        };
        // The caller may have gone away; what it asked for is done all the same.
        self.answer.send(result).ok();
    }
}

/// The body of the writer thread.
pub(super) fn run(mut session: Box<Session>, queue: &Queue<Item>, context: &Context, path: &Path) {
    let place = Place {
        path,
        opened: identity(path),
    };
    let mut seen = data_version(&session);
    loop {
        match queue.pop(WATCH) {
            Popped::Item(Item::Call(call)) => session = batch(session, call, queue, context, &place),
            Popped::Item(Item::Maintain) => maintain(&session),
            Popped::Idle => {}
            Popped::Closed => break,
        }
        let version = data_version(&session);
        if version != seen && version.is_some() {
            seen = version;
            context.hub.publish([Notice::everything()]);
        }
    }
    maintain(&session);
}

/// The database file as it was opened.
struct Place<'p> {
    path: &'p Path,
    opened: Option<(u64, u64)>,
}

impl Place<'_> {
    /// An open file outlives its name: what is committed to one that was deleted or replaced is lost with the process,
    /// so it must not be acknowledged.
    fn check(&self) -> Result<(), DbError> {
        if self.opened.is_none() || identity(self.path) == self.opened {
            return Ok(());
        }
        Err(DbError::unavailable(format!(
            "{}: the file was deleted or replaced while it was in use; put it back, or restart",
            self.path.display()
        )))
    }
}

/// What tells a file from another of its name, where the system says.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}

/// One outer transaction for `first` and whatever else is waiting.
fn batch(
    mut session: Box<Session>,
    first: Box<dyn Call>,
    queue: &Queue<Item>,
    context: &Context,
    place: &Place<'_>,
) -> Box<Session> {
    let begun = context.ambient.now();
    if let Err(error) = session.command("BEGIN IMMEDIATE") {
        // Those behind it would each wait as long for the same answer.
        let cause = cause(&error);
        first.answer(Err(cause.clone()));
        refuse_queued(queue, &cause);
        return session;
    }
    let mut kept: Vec<Box<dyn Call>> = Vec::new();
    let mut next = Some(first);
    while let Some(mut call) = next.take() {
        let (returned, ran) = run_marked(session, call.as_mut());
        session = returned;
        match ran {
            Ok(Verdict::Keep) => kept.push(call),
            Ok(Verdict::Undo) => call.answer(Ok(())),
            Err(error) => {
                undo(&session);
                let cause = cause(&error);
                for call in kept.into_iter().chain([call]) {
                    call.answer(Err(cause.clone()));
                }
                return session;
            }
        }
        next = more(queue, &kept, begun, context);
    }
    let fate = place
        .check()
        .and_then(|()| session.command("COMMIT"))
        .map_err(|error| {
            undo(&session);
            cause(&error)
        });
    if fate.is_ok() && !kept.is_empty() {
        context.count_commit(kept.len() as u64);
    }
    for call in kept {
        call.answer(fate.clone());
    }
    session
}

/// Runs one caller's part in a savepoint of its own. `Err`: the whole batch is lost.
fn run_marked(session: Box<Session>, call: &mut dyn Call) -> (Box<Session>, Result<Verdict, DbError>) {
    if let Err(error) = session.command("SAVEPOINT call") {
        return (session, Err(error));
    }
    let (session, verdict) = call.run(session);
    // A full disk may have rolled back everything, savepoint included.
    if !session.in_transaction() {
        return (
            session,
            Err(DbError::unavailable("the database rolled the transaction back")),
        );
    }
    let ended = match verdict {
        Verdict::Keep => session.command("RELEASE call"),
        Verdict::Undo => session
            .command("ROLLBACK TO call")
            .and_then(|()| session.command("RELEASE call")),
    };
    (session, ended.map(|()| verdict))
}

/// The next transaction for this batch, if there is one and room for it.
fn more(
    queue: &Queue<Item>,
    kept: &[Box<dyn Call>],
    begun: jiff::Timestamp,
    context: &Context,
) -> Option<Box<dyn Call>> {
    let spent = context.ambient.now().duration_since(begun);
    let spent = Duration::try_from(spent).unwrap_or_default();
    if kept.len() >= BATCH || spent >= BATCH_TIME {
        return None;
    }
    loop {
        match queue.try_pop()? {
            Item::Call(call) => return Some(call),
            // Not possible inside a transaction; the next tick asks again.
            Item::Maintain => {}
        }
    }
}

fn refuse_queued(queue: &Queue<Item>, cause: &str) {
    while let Some(item) = queue.try_pop() {
        if let Item::Call(call) = item {
            call.answer(Err(cause.to_owned()));
        }
    }
}

fn undo(session: &Session) {
    if session.in_transaction()
        && let Err(error) = session.command("ROLLBACK")
    {
        tracing::error!(%error, "a transaction could not be rolled back");
    }
}

fn cause(error: &DbError) -> String {
    match error {
        DbError::Unavailable(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

/// Changes when another connection has committed.
fn data_version(session: &Session) -> Option<i64> {
    session.number("PRAGMA data_version").ok()
}

fn maintain(session: &Session) {
    // Passive: never waits for readers. The log is cut to `journal_size_limit` when it starts over.
    for sql in [
        "PRAGMA analysis_limit = 400; PRAGMA optimize",
        "PRAGMA wal_checkpoint(PASSIVE)",
    ] {
        if let Err(error) = session.connection().execute_batch(sql) {
            tracing::debug!(%error, sql, "database maintenance did not run");
        }
    }
}
