use futures_util::future::join_all;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_store::testing::TEST_KEY;
use patchbay_store::{Migrations, OpenError, Store, StoreConfig, both_backends};

fn world() -> Ambient {
    Ambient::test(TestClock::default(), 1)
}

async fn run(store: &Store, sql: &'static str) {
    store
        .write(move |tx| Box::pin(async move { tx.execute(sql, &[]).await }))
        .await
        .unwrap();
}

both_backends! {
    async fn a_newer_database_is_refused_with_words(db: TestDb) {
        let store = db.store().await;
        run(&store, "INSERT INTO schema_migration VALUES (9999, 'from_the_future', 'x', 0)").await;
        store.close().await;
        let error = Store::open(db.config(), world()).await.unwrap_err();
        assert!(matches!(error, OpenError::Newer { database: 9999, .. }), "{error}");
        assert!(error.to_string().contains("newer than this program"), "{error}");
    }

    async fn a_changed_migration_is_refused_by_name(db: TestDb) {
        let store = db.store().await;
        run(&store, "UPDATE schema_migration SET checksum = 'x' WHERE version = 1").await;
        store.close().await;
        let error = Store::open(db.config(), world()).await.unwrap_err();
        assert!(matches!(&error, OpenError::Changed { migration } if migration == "0001_encryption"), "{error}");
    }

    async fn pending_migrations_are_listed_and_applied_once(db: TestDb) {
        let store = db.store().await;
        assert_eq!(store.pending().await.unwrap(), Vec::<String>::new());
        assert_eq!(store.migrate().await.unwrap(), Vec::<String>::new());
        let row = store
            .read(|tx| Box::pin(async move { tx.query_one("SELECT COUNT(*), MIN(applied_at) FROM schema_migration", &[]).await }))
            .await
            .unwrap();
        assert!(row.get::<i64>(0).unwrap() >= 2);
        assert!(row.get::<i64>(1).unwrap() > 0);
    }

    async fn nodes_may_start_at_once(db: TestDb) {
        // The same moment on a database that is still empty.
        if db.dialect() == patchbay_store::db::Dialect::Postgres {
            let store = db.store().await;
            store
                .write(|tx| Box::pin(async move {
                    tx.execute("DROP SCHEMA public CASCADE", &[]).await?;
                    tx.execute("CREATE SCHEMA public", &[]).await
                }))
                .await
                .unwrap();
            store.close().await;
        }
        let stores = join_all((0..4).map(|_| Store::open(db.config(), world()))).await;
        for store in stores {
            assert_eq!(store.unwrap().pending().await.unwrap(), Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn leaving_migrations_writes_nothing() {
    let db = patchbay_store::testing::TestDb::sqlite().await;
    let config = StoreConfig {
        migrations: Migrations::Leave,
        ..db.config()
    };
    let store = Store::open(config, world()).await.unwrap();
    let pending = store.pending().await.unwrap();
    assert_eq!(pending[0], "0001_encryption");
    assert_eq!(store.migrate().await.unwrap(), pending);
    assert_eq!(store.pending().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn urls_that_cannot_work_are_explained() {
    for (url, expected) in [
        ("mysql://localhost/x", "sqlite:PATH or postgres://"),
        ("sqlite:", "path of a file"),
        ("sqlite::memory:", "path of a file"),
        ("sqlite:/no/such/folder/x.db", "/no/such/folder/x.db"),
        ("postgres://u:hunter2@127.0.0.1:1/d?sslmode=maybe", "sslmode"),
        ("postgres://u:hunter2@127.0.0.1:1/d", "unavailable"),
    ] {
        let error = Store::open(StoreConfig::new(url, [TEST_KEY]), world())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(expected) && !text.contains("hunter2"),
            "{url}: {text}"
        );
    }
    let none: [[u8; 32]; 0] = [];
    let error = Store::open(StoreConfig::new("sqlite:x.db", none), world())
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::NoKey));
    let shown = format!("{:?}", StoreConfig::new("postgres://u:hunter2@h/d", [TEST_KEY]));
    assert!(!shown.contains("hunter2"), "{shown}");
}
