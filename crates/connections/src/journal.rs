//! Operations told after the fact and off the path of requests: a bounded queue, written in batches.
//!
//! What must be recorded goes into the transaction of its cause (`crate::logbook`). Proxied calls are another
//! matter: there may be tens of thousands a second, and a row costs more than the call. So a call hands a
//! [`Record`] over and forgets it. Redaction and formatting happen when the row is written. Nobody ever waits for
//! the queue: beyond the allowance of a second, or when the queue is full, records are left out and counted in
//! `patchbay_log_entries_total`. Calls that ended badly have an allowance of their own, so that a flood of
//! successes does not drown them. A crash loses what has not been written yet, a fraction of a second.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchbay_store::db::{DbError, Tx};
use patchbay_store::operations;
use patchbay_types::operations::{Message, Operation};
use patchbay_types::{OperationId, Timestamp};
use tokio::sync::mpsc;

use crate::context::Context;

/// Something that happened, in whatever form it was at hand.
pub trait Record: Send {
    /// As it is stored: redacted here, in the background.
    fn entry(self: Box<Self>) -> Entry;
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The operation, ended.
    pub operation: Operation,
    /// Its messages, in order. They take the id of the operation they end up in.
    pub messages: Vec<Message>,
    /// The messages go to this operation of the same environment instead, if there is one.
    pub attach: Option<OperationId>,
}

/// How much a record would be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Went as usual.
    Routine,
    /// Tells of a failure.
    Telling,
}

/// What the journal may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// Records of each weight written a second in the long run; 0 = none.
    pub per_second: u32,
    /// Records of each weight that may come at once after a quiet time.
    pub burst: u32,
    /// Records on their way to the store.
    pub queue: usize,
}

impl Default for JournalSettings {
    /// A hundred a second, a thousand at once.
    fn default() -> Self {
        Self {
            per_second: 100,
            burst: 1000,
            queue: 4096,
        }
    }
}

/// Records in one transaction.
const BATCH: usize = 256;
/// How long a batch gathers: real time, because it paces a disk.
const LINGER: Duration = Duration::from_millis(50);
/// Wait before a failed batch is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Tries of a batch before it is left out: a database that is away comes back, a row it refuses stays refused.
const TRIES: u32 = 60;

/// The queue.
pub struct Journal {
    sender: mpsc::Sender<Box<dyn Record>>,
    receiver: Mutex<Option<mpsc::Receiver<Box<dyn Record>>>>,
    routine: Allowance,
    telling: Allowance,
}

impl Journal {
    pub(crate) fn new(settings: JournalSettings) -> Self {
        let (sender, receiver) = mpsc::channel(settings.queue.max(1));
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            routine: Allowance::new(settings),
            telling: Allowance::new(settings),
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("free", &self.sender.capacity())
            .finish_non_exhaustive()
    }
}

/// Whether a record of this weight would be kept now; if so, an allowance is used up. Cheap: asked before the
/// record is made.
pub fn admits(context: &Context, weight: Weight, now: Timestamp) -> bool {
    let journal = &context.journal;
    let allowance = match weight {
        Weight::Routine => &journal.routine,
        Weight::Telling => &journal.telling,
    };
    let admitted = allowance.take(now.as_microsecond());
    if !admitted {
        tally("sampled", 1);
    }
    admitted
}

/// Hands a record over, never waiting. After shutdown began, when the queue is no longer read, the record is written
/// by a task that shutdown waits for.
pub fn submit(context: &Arc<Context>, record: Box<dyn Record>) {
    match context.journal.sender.try_send(record) {
        Ok(()) => {}
        Err(mpsc::error::TrySendError::Full(_)) => tally("dropped", 1),
        Err(mpsc::error::TrySendError::Closed(record)) => {
            let writing = context.clone();
            context.ambient.tasks.spawn(async move {
                write(&writing, vec![record.entry()]).await;
            });
        }
    }
}

/// Writes batches until shutdown, and what is queued then.
pub(crate) fn start(context: &Arc<Context>) {
    let receiver = &context.journal.receiver;
    let Some(mut receiver) = receiver.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    let weak = Arc::downgrade(context);
    let stopping = context.ambient.tasks.stopping();
    context.ambient.tasks.spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let count = tokio::select! {
                count = receiver.recv_many(&mut batch, BATCH) => count,
                () = stopping.cancelled() => {
                    receiver.close();
                    receiver.recv_many(&mut batch, BATCH).await
                }
            };
            if count == 0 {
                return;
            }
            if !receiver.is_closed() && batch.len() < BATCH {
                gather(&mut receiver, &mut batch, &stopping).await;
            }
            let Some(context) = weak.upgrade() else { return };
            let entries = batch.drain(..).map(Record::entry).collect();
            write(&context, entries).await;
        }
    });
}

async fn gather(
    receiver: &mut mpsc::Receiver<Box<dyn Record>>,
    batch: &mut Vec<Box<dyn Record>>,
    stopping: &tokio_util::sync::CancellationToken,
) {
    let gathering = async {
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            if receiver.recv_many(batch, room).await == 0 {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(LINGER, gathering) => {}
        () = stopping.cancelled() => {}
    }
}

async fn write(context: &Arc<Context>, entries: Vec<Entry>) {
    let number = entries.len() as u64;
    let entries = Arc::new(entries);
    for attempt in 1.. {
        let batch = Arc::clone(&entries);
        let written = context
            .store
            .write(move |tx| Box::pin(async move { insert(tx, &batch).await }))
            .await;
        let Err(error) = written else {
            tally("written", number);
            return;
        };
        if attempt == TRIES || context.ambient.tasks.is_stopping() {
            tracing::warn!(%error, entries = number, "log entries were not written");
            tally("dropped", number);
            return;
        }
        tracing::debug!(%error, "log entries were not written, trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn insert(tx: &mut Tx, entries: &[Entry]) -> Result<(), DbError> {
    let mut made = Vec::with_capacity(entries.len());
    let mut messages = Vec::with_capacity(entries.len() * 2);
    for entry in entries {
        let target = match &entry.attach {
            Some(id) => match operations::get(tx, id).await? {
                Some(found) if found.environment_id == entry.operation.environment_id => Some(found.id),
                _ => None,
            },
            None => None,
        };
        if target.is_none() {
            made.push(entry.operation.clone());
        }
        let id = target.as_ref().unwrap_or(&entry.operation.id);
        messages.extend(entry.messages.iter().map(|message| Message {
            operation_id: id.clone(),
            ..message.clone()
        }));
    }
    operations::save_many(tx, &made).await?;
    operations::append_messages(tx, &messages).await
}

fn tally(outcome: &'static str, number: u64) {
    metrics::counter!("patchbay_log_entries_total", "outcome" => outcome).increment(number);
}

/// So many a second in the long run, so many at once: a virtual schedule in one atomic (GCRA).
#[derive(Debug)]
struct Allowance {
    /// Microseconds one record uses up; 0 = nothing is allowed.
    interval: i64,
    /// How far the schedule may run ahead of the clock.
    slack: i64,
    /// The instant up to which records are accounted for.
    scheduled: AtomicI64,
}

impl Allowance {
    fn new(settings: JournalSettings) -> Self {
        let interval = match settings.per_second {
            0 => 0,
            per_second => (1_000_000 / i64::from(per_second)).max(1),
        };
        Self {
            interval,
            slack: interval.saturating_mul(i64::from(settings.burst.max(1)) - 1),
            scheduled: AtomicI64::new(i64::MIN),
        }
    }

    fn take(&self, now: i64) -> bool {
        if self.interval == 0 {
            return false;
        }
        let taken = self
            .scheduled
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |scheduled| {
                // A clock stepped backwards must not silence the journal for as long as the step was.
                let scheduled = if scheduled > now.saturating_add(self.slack + self.interval) {
                    now
                } else {
                    scheduled.max(now)
                };
                (scheduled - now <= self.slack).then(|| scheduled + self.interval)
            });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(per_second: u32, burst: u32) -> Allowance {
        Allowance::new(JournalSettings {
            per_second,
            burst,
            queue: 1,
        })
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let allowance = allowance(10, 5);
        let taken = |now: i64| (0..100).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(1_000_000), 5);
        assert_eq!(taken(1_000_000), 0);
        assert_eq!(taken(1_100_000), 1);
        assert_eq!(taken(1_350_000), 2);
        assert_eq!(taken(60_000_000), 5);
    }

    #[test]
    fn nothing_is_allowed_at_rate_zero_and_a_stepped_clock_does_not_silence() {
        assert!(!allowance(0, 5).take(1));
        let allowance = allowance(10, 5);
        assert!(allowance.take(1_000_000_000));
        assert!(allowance.take(1_000), "stepped back by a quarter of an hour");
    }
}
