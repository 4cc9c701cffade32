//! SQLite: one writer thread, several reader threads, group commit.
//!
//! A transaction's closure is async for Postgres' sake. Here it is sent to a thread, which moves its connection
//! into the [`super::Tx`] and polls the closure's future once: every statement is ready at once, so the future
//! is, too. A future that is not has awaited something else; it is dropped and rolled back with an error.
//!
//! **Group commit.** With `synchronous=FULL` a commit costs an fsync, so the writer takes what is queued into one
//! outer transaction, each caller's part in a savepoint of its own (rolled back alone on `Err` or panic), commits
//! once and then answers them all. If the commit fails, or SQLite rolls the outer transaction back by itself (disk
//! full), all get [`super::DbError::Unavailable`] and nothing was acknowledged. The thread survives; the next
//! transaction finds out whether there is space again.
//!
//! **Other processes** (the command line beside a running server) are noticed by `PRAGMA data_version` on the
//! writer's connection, which changes only by commits of other connections, and the only other connections of
//! this process never write.

mod connect;
mod queue;
mod read;
mod session;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

pub(crate) use connect::{Role, connect, plain};
use queue::Queue;
use read::ReadCall;
pub(crate) use session::{Session, failure};
use write::{Item, WriteCall};

use super::{Context, DbError, Tx};

/// The threads and their queues.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    context: Arc<Context>,
    writes: Arc<Queue<Item>>,
    reads: Arc<Queue<Box<dyn read::Call>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Sqlite {
    /// Opens `path`, creating the file (readable by its owner only) if need be, and starts the threads. Blocks.
    pub(crate) fn open(path: &Path, readers: usize, context: Arc<Context>) -> Result<Self, DbError> {
        let first = Session::new(connect(path, Role::Writer)?, Role::Writer);
        let writes = Arc::new(Queue::default());
        let reads = Arc::new(Queue::default());
        let mut threads = Vec::new();
        for number in 0..readers.max(1) {
            let session = Session::new(connect(path, Role::Reader)?, Role::Reader);
            let queue = Arc::clone(&reads);
            threads.push(spawn(format!("sqlite-read-{number}"), move || {
                read::run(session, &queue);
            })?);
        }
        let (queue, shared, file) = (Arc::clone(&writes), Arc::clone(&context), path.to_owned());
        threads.push(spawn("sqlite-write".to_owned(), move || {
            write::run(first, &queue, &shared, &file);
        })?);
        Ok(Self {
            path: path.to_owned(),
            context,
            writes,
            reads,
            threads: Mutex::new(threads),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn read<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        if self
            .reads
            .push(Box::new(ReadCall::new(f, Arc::clone(&self.context), answer)))
            .is_err()
        {
            return Err(closed().into());
        }
        result.await.unwrap_or_else(|_| Err(closed().into()))
    }

    pub(crate) async fn write<T, E>(
        &self,
        f: impl for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        E: From<DbError> + Send + 'static,
        T: Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let call = Box::new(WriteCall::new(f, Arc::clone(&self.context), answer));
        if self.writes.push(Item::Call(call)).is_err() {
            return Err(closed().into());
        }
        result.await.unwrap_or_else(|_| Err(closed().into()))
    }

    /// Asks the writer to move the log into the database file and to refresh the planner's statistics.
    pub(crate) fn maintain(&self) {
        self.writes.push(Item::Maintain).ok();
    }

    /// Lets the threads finish what is queued and waits for them to close their connections.
    pub(crate) async fn close(&self) {
        self.writes.close();
        self.reads.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a database thread panicked");
                }
            }
        });
        joined.await.ok();
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.writes.close();
        self.reads.close();
    }
}

fn closed() -> DbError {
    DbError::unavailable("the store is closed")
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, DbError> {
    Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| DbError::unavailable(format!("no thread for the database: {error}")))
}
