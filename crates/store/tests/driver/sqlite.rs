use std::os::unix::fs::PermissionsExt as _;

use futures_util::future::join_all;
use patchbay_store::Store;
use patchbay_store::db::DbError;
use patchbay_store::testing::TestDb;

use crate::{add, ids, insert, next_flush, scratch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_share_commits() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    let before = store.stats();

    // Holds the writer until all others are queued.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (began, begins) = tokio::sync::oneshot::channel();
    let holder = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .write(move |tx| {
                    Box::pin(async move {
                        began.send(()).unwrap();
                        gate.recv().unwrap();
                        insert(tx, 0, "holder").await
                    })
                })
                .await
        }
    });
    begins.await.unwrap();
    let mut writes = Box::pin(join_all((1..=100).map(|id| add(&store, id))));
    assert!(futures_util::poll!(&mut writes).is_pending());
    go.send(()).unwrap();
    holder.await.unwrap().unwrap();
    for result in writes.await {
        result.unwrap();
    }

    let after = store.stats();
    assert_eq!(after.writes - before.writes, 101);
    assert_eq!(after.commits - before.commits, 1, "one fsync for all");
    assert_eq!(ids(&store).await.len(), 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_acknowledges_nothing_and_the_store_recovers() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    // As many pages as there are now: what a full disk says, without filling one.
    let limit = |pages: i64| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        store.write(move |tx| Box::pin(async move { tx.query_one(&sql, &[]).await?.get::<i64>(0) }))
    };
    limit(1).await.unwrap();

    let big = |id: i64| {
        let name = format!("{id}{}", "x".repeat(100_000));
        store.write(move |tx| Box::pin(async move { insert(tx, id, &name).await }))
    };
    for round in 0..3 {
        let results = join_all((1..=5).map(|id| big(id + round * 10))).await;
        for result in results {
            assert!(matches!(result, Err(DbError::Unavailable(_))), "{result:?}");
        }
    }
    assert_eq!(ids(&store).await, [0_i64; 0], "reads go on");

    limit(1 << 30).await.unwrap();
    for result in join_all((1..=5).map(big)).await {
        result.unwrap();
    }
    assert_eq!(ids(&store).await, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_refuses_writes_as_unavailable() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    let pragma = |sql: &'static str| store.write(move |tx| Box::pin(async move { tx.query(sql, &[]).await }));
    // What SQLite answers on a read-only file system, without needing one.
    pragma("PRAGMA query_only = on").await.unwrap();
    assert!(matches!(add(&store, 1).await, Err(DbError::Unavailable(_))));
    store.ping().await.unwrap();
    assert_eq!(ids(&store).await, [0_i64; 0]);
    store.close().await;
    let store = db.store().await;
    add(&store, 2).await.unwrap();
    assert_eq!(ids(&store).await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_is_noticed_and_own_writes_are_not() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    let mut notices = store.subscribe();
    for id in 0..20 {
        add(&store, id).await.unwrap();
    }
    assert!(notices.try_recv().is_err(), "own commits are no foreign ones");

    let other = rusqlite::Connection::open(db.path()).unwrap();
    other
        .execute("INSERT INTO scratch VALUES (100, 'foreign')", [])
        .unwrap();
    next_flush(&mut notices).await;
    assert!(ids(&store).await.contains(&100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_something_else_is_an_error_and_no_hang() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    let stuck: Result<(), DbError> = store
        .write(|tx| {
            Box::pin(async move {
                insert(tx, 1, "one").await?;
                std::future::pending().await
            })
        })
        .await;
    assert!(matches!(stuck, Err(DbError::Internal(_))), "{stuck:?}");
    assert_eq!(ids(&store).await, [0_i64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_for_its_owner_and_durable_settings_are_on() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&db.path()), 0o600);
    assert_eq!(mode(&db.path().with_extension("db-wal")), 0o600);
    for (sql, expected) in [
        ("PRAGMA synchronous", "2"),
        ("PRAGMA journal_mode", "wal"),
        ("PRAGMA foreign_keys", "1"),
    ] {
        let row = store
            .write(move |tx| Box::pin(async move { tx.query_one(sql, &[]).await }))
            .await
            .unwrap();
        let text = row
            .get::<String>(0)
            .or_else(|_| row.get::<i64>(0).map(|int| int.to_string()))
            .unwrap();
        assert_eq!(text, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_database_is_not_ready() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    store.ping().await.unwrap();
    std::fs::remove_file(db.path()).unwrap();
    assert!(matches!(store.ping().await, Err(DbError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_when_opened_again() {
    let db = TestDb::sqlite().await;
    let store: Store = db.store().await;
    scratch(&store).await;
    add(&store, 1).await.unwrap();
    store.close().await;
    assert!(
        !db.path().with_extension("db-wal").exists(),
        "closing leaves one file"
    );
    let store = db.store().await;
    assert_eq!(ids(&store).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_go_to_a_deleted_or_replaced_file_is_not_acknowledged() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    add(&store, 1).await.unwrap();
    let path = store.path().unwrap().to_owned();
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    let refused = add(&store, 2).await;
    assert!(matches!(&refused, Err(DbError::Unavailable(_))), "{refused:?}");
    std::fs::write(&path, "another file").unwrap();
    assert!(add(&store, 3).await.is_err());
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    add(&store, 4).await.unwrap();
    assert_eq!(ids(&store).await, [1, 4]);
}
