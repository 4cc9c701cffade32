use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use patchbay_store::Store;
use patchbay_store::db::{DbError, Notice, Topic};
use patchbay_store::testing::TestDb;
use tokio::sync::Barrier;

use crate::{add, ids, insert, next_flush, publish_until_heard, scratch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_repeated_by_write_retry_and_told_by_write() {
    let db = TestDb::postgres().await;
    let store = db.store().await;
    scratch(&store).await;
    add(&store, 1).await.unwrap();
    add(&store, 2).await.unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    // Both hold one row before either asks for the other's.
    let barrier = Arc::new(Barrier::new(2));
    let crossing = |first: i64, second: i64| {
        let (store, runs, barrier) = (store.clone(), Arc::clone(&runs), Arc::clone(&barrier));
        tokio::spawn(async move {
            store
                .write_retry(move |tx| {
                    let run = runs.fetch_add(1, Ordering::SeqCst);
                    let barrier = Arc::clone(&barrier);
                    Box::pin(async move {
                        let sql = "UPDATE scratch SET name = name || '!' WHERE id = $1";
                        tx.execute(sql, &[first.into()]).await?;
                        if run < 2 {
                            barrier.wait().await;
                        }
                        tx.execute(sql, &[second.into()]).await
                    })
                })
                .await
        })
    };
    let (one, two) = (crossing(1, 2), crossing(2, 1));
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
    assert!(runs.load(Ordering::SeqCst) >= 3, "one of them ran again");
    let names = store
        .read(|tx| Box::pin(async move { tx.query("SELECT name FROM scratch ORDER BY id", &[]).await }))
        .await
        .unwrap();
    let names: Vec<String> = names.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(names, ["name 1!!", "name 2!!"]);
}

/// Ends every connection to the database but the one that asks, as a restart of the server would.
async fn cut_connections(db: &TestDb) {
    let killer = db.store().await;
    let ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    killer
        .write(move |tx| Box::pin(async move { tx.query(ours, &[]).await }))
        .await
        .unwrap();
    killer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_are_replaced_unseen() {
    let db = TestDb::postgres().await;
    let store = db.store().await;
    scratch(&store).await;
    let mut notices = store.subscribe();
    for id in 0..5 {
        cut_connections(&db).await;
        add(&store, id).await.unwrap();
    }
    assert_eq!(ids(&store).await, [0, 1, 2, 3, 4]);
    // The listener comes back, too, and says that it may have missed something.
    next_flush(&mut notices).await;
    let other = db.store().await;
    publish_until_heard(&other, &mut notices, Notice::new(Topic::Integrations, "after")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_in_the_middle_fails_its_transaction_only() {
    let db = TestDb::postgres().await;
    let store = db.store().await;
    scratch(&store).await;
    let result = store
        .write(|tx| {
            Box::pin(async move {
                insert(tx, 1, "one").await?;
                tx.query("SELECT pg_terminate_backend(pg_backend_pid())", &[])
                    .await?;
                Ok::<_, DbError>(())
            })
        })
        .await;
    assert!(matches!(result, Err(DbError::Unavailable(_))), "{result:?}");
    add(&store, 2).await.unwrap();
    assert_eq!(ids(&store).await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_server_and_a_missing_one_are_unavailable() {
    let db = TestDb::postgres().await;
    let store: Store = db.store().await;
    scratch(&store).await;
    // The server itself says "shutting down" or refuses; here it refuses this database to everyone.
    let name = db
        .url()
        .rsplit('/')
        .next()
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let admin = TestDb::postgres().await;
    let keeper = admin.store().await;
    let sql = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false");
    keeper
        .write(move |tx| Box::pin(async move { tx.execute(&sql, &[]).await }))
        .await
        .unwrap();
    let kill = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    keeper
        .write(move |tx| Box::pin(async move { tx.query(&kill, &[]).await }))
        .await
        .unwrap();

    let error = loop {
        // A connection may be told a moment later that it has been ended.
        if let Err(error) = add(&store, 1).await {
            break error;
        }
    };
    assert!(matches!(error, DbError::Unavailable(_)), "{error:?}");
    assert!(matches!(store.ping().await, Err(DbError::Unavailable(_))));

    let sql = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true");
    keeper
        .write(move |tx| Box::pin(async move { tx.execute(&sql, &[]).await }))
        .await
        .unwrap();
    store.ping().await.unwrap();
    add(&store, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_transactions_leave_no_connection_in_a_transaction() {
    let db = TestDb::postgres().await;
    let store = db.store().await;
    scratch(&store).await;
    for id in 0..40 {
        let write = store.write(move |tx| {
            Box::pin(async move {
                insert(tx, id, &format!("n{id}")).await?;
                tx.query("SELECT pg_sleep(0.01)", &[]).await
            })
        });
        tokio::time::timeout(std::time::Duration::from_millis(3), write)
            .await
            .ok();
        let read = store.read(|tx| Box::pin(async move { tx.query("SELECT pg_sleep(0.01)", &[]).await }));
        tokio::time::timeout(std::time::Duration::from_millis(3), read)
            .await
            .ok();
    }
    // Every write finishes although nobody waited for it, and nothing is left open.
    let idle = "SELECT COUNT(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'";
    let settled = async {
        loop {
            let busy: i64 = store
                .read(move |tx| Box::pin(async move { tx.query_one(idle, &[]).await?.get(0) }))
                .await
                .unwrap();
            if busy == 0 && ids(&store).await.len() == 40 {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), settled)
        .await
        .expect("all transactions end");
}

const NAME_OF: &str = "SELECT name FROM scratch WHERE id = $1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_vanish_are_replaced_unseen() {
    let db = TestDb::postgres().await;
    let store = db.store().await;
    scratch(&store).await;
    // What a pooler does that opening did not recognize: the server forgets statements behind our back. More often
    // than there are connections, so that each has its turn.
    for id in 0..20 {
        add(&store, id).await.unwrap();
        store
            .write(|tx| Box::pin(async move { tx.execute("DEALLOCATE ALL", &[]).await }))
            .await
            .unwrap();
    }
    for id in 20..60 {
        add(&store, id).await.unwrap();
        assert_eq!(ids(&store).await.len(), usize::try_from(id).unwrap() + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_vanishes_midway_asks_for_a_repetition_once() {
    let db = TestDb::postgres().await;
    let store = db.store().await;
    scratch(&store).await;
    add(&store, 1).await.unwrap();
    let vanish = || {
        store.write(|tx| {
            Box::pin(async move {
                tx.query(NAME_OF, &[1.into()]).await?;
                tx.execute("DEALLOCATE ALL", &[]).await?;
                tx.query(NAME_OF, &[1.into()]).await
            })
        })
    };
    assert!(matches!(vanish().await, Err(DbError::Retry(_))));
    for _ in 0..20 {
        vanish().await.unwrap();
    }
}
