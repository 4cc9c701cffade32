//! The driver layer, on both databases.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and tests end their own tasks"
)]

mod backup;
mod encryption;
mod opening;
mod pooler;
mod postgres;
mod sqlite;
mod transactions;

use std::time::Duration;

use patchbay_store::Store;
use patchbay_store::db::{DbError, Notice, Topic, Tx};
use tokio::sync::broadcast::Receiver;

/// A table of two columns to try things on.
async fn scratch(store: &Store) {
    let sql = "CREATE TABLE scratch (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE)";
    store
        .write(move |tx| Box::pin(async move { tx.execute(sql, &[]).await }))
        .await
        .unwrap();
}

async fn insert(tx: &mut Tx, id: i64, name: &str) -> Result<u64, DbError> {
    tx.execute(
        "INSERT INTO scratch (id, name) VALUES ($1, $2)",
        &[id.into(), name.into()],
    )
    .await
}

async fn add(store: &Store, id: i64) -> Result<u64, DbError> {
    store
        .write(move |tx| Box::pin(async move { insert(tx, id, &format!("name {id}")).await }))
        .await
}

async fn ids(store: &Store) -> Vec<i64> {
    let rows = store
        .read(|tx| Box::pin(async move { tx.query("SELECT id FROM scratch ORDER BY id", &[]).await }))
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

/// The next notice that is not "everything", which any foreign commit or reconnect may bring at any time.
async fn next_notice(notices: &mut Receiver<Notice>) -> Notice {
    let next = async {
        loop {
            let notice = notices.recv().await.unwrap();
            if notice.topic != Topic::Everything {
                return notice;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), next)
        .await
        .expect("a notice")
}

/// Waits for "everything".
async fn next_flush(notices: &mut Receiver<Notice>) {
    let next = async { while notices.recv().await.unwrap().topic != Topic::Everything {} };
    tokio::time::timeout(Duration::from_secs(20), next)
        .await
        .expect("a flush");
}

/// Publishes on one node until another, which may not listen yet, has heard it.
async fn publish_until_heard(store: &Store, notices: &mut Receiver<Notice>, notice: Notice) {
    for _ in 0..60 {
        let published = notice.clone();
        store
            .write(move |tx| {
                Box::pin(async move {
                    tx.notify(published);
                    Ok::<_, DbError>(())
                })
            })
            .await
            .unwrap();
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(500), next_notice(notices)).await {
            assert_eq!(heard, notice);
            return;
        }
    }
    panic!("{notice:?} was not heard");
}
