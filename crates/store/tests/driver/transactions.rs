use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use patchbay_ambient::{Ambient, TestClock};
use patchbay_store::both_backends;
use patchbay_store::db::{DbError, Dialect, Notice, Topic, Value};
use tokio::sync::oneshot;

use crate::{add, ids, insert, next_notice, publish_until_heard, scratch};

both_backends! {
    async fn ok_commits_and_err_rolls_back(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        add(&store, 1).await.unwrap();
        let refused: Result<(), DbError> = store
            .write(|tx| Box::pin(async move {
                insert(tx, 2, "two").await?;
                Err(DbError::internal("changed our mind"))
            }))
            .await;
        assert!(matches!(refused, Err(DbError::Internal(_))));
        add(&store, 3).await.unwrap();
        assert_eq!(ids(&store).await, [1, 3]);
    }

    async fn every_value_comes_back_as_it_went(db: TestDb) {
        let store = db.store().await;
        let blob = match db.dialect() { Dialect::Sqlite => "BLOB", Dialect::Postgres => "BYTEA" };
        let values = vec![
            Value::Int(i64::MIN),
            Value::Int(1),
            Value::Int(-5),
            Value::Real(-0.1),
            Value::Text("naïve 🦀 'quoted' \\ $1\n".to_owned()),
            Value::Blob((0..=255).collect()),
            Value::Null,
        ];
        let expected = values.clone();
        let rows = store
            .write(move |tx| Box::pin(async move {
                tx.execute(
                    &format!("CREATE TABLE every (a BIGINT, b SMALLINT, c INTEGER, d DOUBLE PRECISION, e TEXT, f {blob}, g TEXT)"),
                    &[],
                ).await?;
                tx.query("INSERT INTO every VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING a, b, c, d, e, f, g", &values).await
            }))
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
        for (index, value) in expected.iter().enumerate() {
            assert_eq!(rows[0].get::<Value>(index).unwrap(), *value, "column {index}");
        }
        assert!(rows[0].get::<bool>(1).unwrap());
        assert_eq!(rows[0].get::<Option<String>>(6).unwrap(), None);
        assert!(rows[0].get::<String>(0).is_err());
        assert!(rows[0].get::<i32>(0).is_err(), "does not fit");
        assert!(rows[0].get::<i64>(7).is_err(), "no such column");
        let sums = store
            .read(|tx| Box::pin(async move {
                tx.query_one("SELECT COUNT(*), SUM(b), SUM(a), SUM(c) * 30001 FROM every WHERE c = $1", &[(-5_i64).into()]).await
            }))
            .await
            .unwrap();
        let sums: Vec<i64> = (0..4).map(|index| sums.get(index).unwrap()).collect();
        assert_eq!(sums, [1, 1, i64::MIN, -150_005]);
    }

    async fn parameters_are_by_number_and_counted(db: TestDb) {
        let store = db.store().await;
        let row = store
            .read(|tx| Box::pin(async move {
                tx.query_one("SELECT CAST($2 AS BIGINT), CAST($1 AS BIGINT), '$3'", &[10.into(), 20.into()]).await
            }))
            .await
            .unwrap();
        assert_eq!((row.get::<i64>(0).unwrap(), row.get::<i64>(1).unwrap()), (20, 10));
        assert_eq!(row.get::<String>(2).unwrap(), "$3");
        for count in [0, 2] {
            let wrong = store
                .read(move |tx| Box::pin(async move {
                    tx.query("SELECT CAST($1 AS BIGINT)", &vec![Value::Int(1); count]).await
                }))
                .await;
            assert!(matches!(wrong, Err(DbError::Internal(_))), "{count} parameters");
        }
    }

    async fn conflicts_name_their_constraint(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        store
            .write(|tx| Box::pin(async move {
                tx.execute("CREATE TABLE child (parent BIGINT NOT NULL REFERENCES scratch (id))", &[]).await?;
                tx.execute("CREATE TABLE named (a TEXT, b TEXT)", &[]).await?;
                tx.execute("CREATE UNIQUE INDEX named_live ON named (a, b) WHERE a IS NOT NULL", &[]).await
            }))
            .await
            .unwrap();
        add(&store, 1).await.unwrap();
        for (sql, expected) in [
            ("INSERT INTO scratch VALUES (1, 'other')", Some("scratch_pkey")),
            ("INSERT INTO scratch VALUES (2, 'name 1')", Some("scratch_name_key")),
            ("INSERT INTO named VALUES ('x', 'y'), ('x', 'y')", Some("named_live")),
            ("INSERT INTO child VALUES (7)", None),
        ] {
            let error = store
                .write(move |tx| Box::pin(async move { tx.execute(sql, &[]).await }))
                .await
                .unwrap_err();
            match expected {
                Some(name) => assert_eq!(error.conflict(), Some(name), "{sql}: {error}"),
                None => assert!(matches!(error, DbError::Reference), "{sql}: {error}"),
            }
            assert!(!format!("{error} {error:?}").contains("name 1"), "values stay out of errors: {error:?}");
        }
        let null = store
            .write(|tx| Box::pin(async move { tx.execute("INSERT INTO scratch VALUES (3, NULL)", &[]).await }))
            .await;
        assert!(matches!(null, Err(DbError::Internal(_))), "{null:?}");
    }

    async fn a_failed_statement_dooms_its_transaction(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        add(&store, 1).await.unwrap();
        let result = store
            .write(|tx| Box::pin(async move {
                insert(tx, 2, "two").await?;
                insert(tx, 1, "again").await.unwrap_err();
                assert!(matches!(insert(tx, 3, "three").await, Err(DbError::Internal(_))));
                Ok::<_, DbError>(())
            }))
            .await;
        assert!(matches!(result, Err(DbError::Internal(_))), "{result:?}");
        assert_eq!(ids(&store).await, [1]);
    }

    async fn reads_see_one_moment_and_cannot_write(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        add(&store, 1).await.unwrap();
        let denied = store.read(|tx| Box::pin(async move { insert(tx, 2, "two").await })).await;
        assert!(denied.is_err());

        let (writer, sync) = (store.clone(), std::sync::mpsc::channel::<()>());
        let (began, begins) = oneshot::channel();
        let counts = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .read(move |tx| Box::pin(async move {
                        let count = "SELECT COUNT(*) FROM scratch";
                        let first: i64 = tx.query_one(count, &[]).await?.get(0)?;
                        began.send(()).unwrap();
                        // Blocks this reader until the other transaction has committed.
                        sync.1.recv().unwrap();
                        let second: i64 = tx.query_one(count, &[]).await?.get(0)?;
                        Ok::<_, DbError>((first, second))
                    }))
                    .await
            }
        });
        begins.await.unwrap();
        add(&writer, 2).await.unwrap();
        sync.0.send(()).unwrap();
        assert_eq!(counts.await.unwrap().unwrap(), (1, 1));
        assert_eq!(ids(&store).await, [1, 2]);
    }

    async fn a_panic_rolls_back_and_the_store_goes_on(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        let panicked: Result<(), DbError> = store
            .write(|tx| Box::pin(async move {
                insert(tx, 1, "one").await?;
                panic!("a bug");
            }))
            .await;
        assert!(matches!(panicked, Err(DbError::Internal(_))));
        let panicked: Result<(), DbError> = store
            .read(|tx| Box::pin(async move {
                tx.query("SELECT 1", &[]).await?;
                panic!("a bug");
            }))
            .await;
        assert!(matches!(panicked, Err(DbError::Internal(_))));
        add(&store, 2).await.unwrap();
        assert_eq!(ids(&store).await, [2]);
    }

    async fn a_write_is_finished_when_its_caller_goes_away(db: TestDb) {
        let ambient = Ambient::test(TestClock::default(), 1);
        let store = db.open(ambient.clone()).await;
        scratch(&store).await;
        let (began, begins) = oneshot::channel();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let mut notices = store.subscribe();
        let caller = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .write(move |tx| Box::pin(async move {
                        insert(tx, 1, "one").await?;
                        began.send(()).unwrap();
                        gate.recv().unwrap();
                        insert(tx, 2, "two").await?;
                        tx.notify(Notice::new(Topic::Accounts, "done"));
                        Ok::<_, DbError>(())
                    }))
                    .await
            }
        });
        begins.await.unwrap();
        caller.abort();
        go.send(()).unwrap();
        assert_eq!(next_notice(&mut notices).await.key, "done");
        assert_eq!(ids(&store).await, [1, 2]);
        // Cancelled readers leave nothing behind either.
        for _ in 0..20 {
            let read = store.read(|tx| Box::pin(async move { tx.query("SELECT COUNT(*) FROM scratch", &[]).await }));
            tokio::time::timeout(std::time::Duration::ZERO, read).await.ok();
        }
        assert_eq!(ids(&store).await, [1, 2]);
    }

    async fn notices_go_out_after_the_commit_and_only_then(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        let mut notices = store.subscribe();
        let failed: Result<(), DbError> = store
            .write(|tx| Box::pin(async move {
                tx.notify(Notice::new(Topic::Connections, "rolled back"));
                insert(tx, 1, "one").await?;
                Err(DbError::internal("no"))
            }))
            .await;
        failed.unwrap_err();
        let (seen, sees) = oneshot::channel();
        let checker = tokio::spawn({
            let store = store.clone();
            async move {
                let notice = next_notice(&mut notices).await;
                // Whoever hears of it can read it.
                seen.send((notice, ids(&store).await)).unwrap();
                notices
            }
        });
        store
            .write(|tx| Box::pin(async move {
                tx.notify(Notice::new(Topic::Connections, 7));
                tx.notify(Notice::new(Topic::Connections, 7));
                insert(tx, 2, "two").await
            }))
            .await
            .unwrap();
        assert_eq!(sees.await.unwrap(), (Notice::new(Topic::Connections, "7"), vec![2]));
        let mut notices = checker.await.unwrap();
        store
            .write(|tx| Box::pin(async move {
                tx.notify(Notice::new(Topic::Connections, "last"));
                Ok::<_, DbError>(())
            }))
            .await
            .unwrap();
        assert_eq!(next_notice(&mut notices).await.key, "last", "published once, not doubled");
    }

    async fn notices_reach_other_nodes(db: TestDb) {
        let ours = db.store().await;
        let theirs = db.store().await;
        let mut notices = theirs.subscribe();
        scratch(&ours).await;
        if db.dialect() == Dialect::Sqlite {
            // Another process's commit is all that SQLite tells.
            crate::next_flush(&mut notices).await;
            assert_eq!(ids(&theirs).await, [0_i64; 0]);
            return;
        }
        let key = "it's \\ here\n2";
        publish_until_heard(&ours, &mut notices, Notice::new(Topic::Deliveries, key)).await;
        let long = Notice::new(Topic::Deliveries, "k".repeat(5000));
        ours.write(move |tx| Box::pin(async move {
            tx.notify(long);
            insert(tx, 1, "one").await
        }))
        .await
        .unwrap();
        crate::next_flush(&mut notices).await;
        assert_eq!(ids(&theirs).await, [1]);
    }

    async fn concurrent_writers_all_land(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        let writers: Vec<_> = (0..200)
            .map(|id| {
                let store = store.clone();
                tokio::spawn(async move {
                    store
                        .write(move |tx| Box::pin(async move {
                            insert(tx, id, &format!("n{id}")).await?;
                            if id % 10 == 3 { return Err(DbError::internal("every tenth fails")); }
                            if id % 10 == 7 { insert(tx, id, "twice").await?; }
                            Ok(())
                        }))
                        .await
                })
            })
            .collect();
        let mut landed = HashSet::new();
        for (id, writer) in (0..).zip(writers) {
            let result = writer.await.unwrap();
            assert_eq!(result.is_err(), matches!(id % 10, 3 | 7), "{id}: {result:?}");
            if result.is_ok() { landed.insert(id); }
        }
        assert_eq!(ids(&store).await.into_iter().collect::<HashSet<i64>>(), landed);
        assert_eq!(landed.len(), 160);
    }

    async fn execute_many_counts_and_reports_the_true_error(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        let rows: Vec<Vec<Value>> = (0..1000).map(|id| vec![id.into(), format!("n{id}").into()]).collect();
        let sql = "INSERT INTO scratch (id, name) VALUES ($1, $2)";
        let touched = store
            .write(move |tx| Box::pin(async move { tx.execute_many(sql, &rows).await }))
            .await
            .unwrap();
        assert_eq!(touched, 1000);
        let rows: Vec<Vec<Value>> = (990..1300).map(|id| vec![(2000 - id).into(), format!("n{id}").into()]).collect();
        let error = store
            .write(move |tx| Box::pin(async move { tx.execute_many(sql, &rows).await }))
            .await
            .unwrap_err();
        assert_eq!(error.conflict(), Some("scratch_name_key"), "{error}");
        assert_eq!(ids(&store).await.len(), 1000);
        let none = store.write(move |tx| Box::pin(async move { tx.execute_many(sql, &[]).await })).await.unwrap();
        assert_eq!(none, 0);
    }

    async fn time_stands_still_within_a_transaction(db: TestDb) {
        let clock = TestClock::default();
        let store = db.open(Ambient::test(clock.clone(), 1)).await;
        let moved = clock.clone();
        let (first, second, after) = store
            .read(move |tx| Box::pin(async move {
                let first = tx.now();
                moved.advance(std::time::Duration::from_secs(1));
                let stored = tx.query_one("SELECT CAST($1 AS BIGINT)", &[first.into()]).await?;
                Ok::<_, DbError>((first, stored.get::<jiff::Timestamp>(0)?, tx.now()))
            }))
            .await
            .unwrap();
        assert_eq!((first, first), (second, after));
    }

    async fn write_retry_runs_again_only_when_the_database_asks(db: TestDb) {
        let store = db.store().await;
        scratch(&store).await;
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let result = store
            .write_retry(move |tx| {
                counted.fetch_add(1, Ordering::SeqCst);
                Box::pin(async move { insert(tx, 1, "one").await?; Err::<(), _>(DbError::internal("final")) })
            })
            .await;
        assert!(matches!(result, Err(DbError::Internal(_))));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        store.write_retry(|tx| Box::pin(async move { insert(tx, 1, "one").await })).await.unwrap();
    }

    async fn a_closed_store_says_so(db: TestDb) {
        let store = db.store().await;
        store.ping().await.unwrap();
        store.close().await;
        assert!(matches!(store.ping().await, Err(DbError::Unavailable(_))));
        let write = store.write(|tx| Box::pin(async move { tx.query("SELECT 1", &[]).await })).await;
        assert!(matches!(write, Err(DbError::Unavailable(_))));
    }
}
