use patchbay_ambient::{Ambient, TestClock};
use patchbay_store::db::{DbError, Dialect};
use patchbay_store::testing::{TEST_KEY, TestDb};
use patchbay_store::vault::EncryptionKey;
use patchbay_store::{OpenError, Rotation, Store, StoreConfig, both_backends};
use patchbay_types::{AccountId, EnvironmentId};

const NEW: [u8; 32] = [9; 32];

async fn open(db: &TestDb, keys: &[[u8; 32]]) -> Result<Store, OpenError> {
    let keys = keys.iter().map(|key| EncryptionKey::from(*key)).collect();
    Store::open(
        StoreConfig { keys, ..db.config() },
        Ambient::test(TestClock::default(), 1),
    )
    .await
}

async fn seal(store: &Store, environment: i64, text: &'static str) -> Result<Vec<u8>, DbError> {
    let scope = EnvironmentId(environment);
    store
        .write(move |tx| Box::pin(async move { tx.vault().seal(scope, "t.c:1", text.as_bytes()).await }))
        .await
}

async fn unseal(store: &Store, environment: i64, sealed: &[u8]) -> Result<String, DbError> {
    let (scope, sealed) = (EnvironmentId(environment), sealed.to_vec());
    let plain = store
        .read(move |tx| Box::pin(async move { tx.vault().open(scope, "t.c:1", &sealed).await }))
        .await?;
    Ok(String::from_utf8(plain.to_vec()).unwrap())
}

both_backends! {
    async fn secrets_open_on_every_node_and_only_in_their_scope(db: TestDb) {
        let ours = db.store().await;
        let theirs = db.store().await;
        let sealed = seal(&ours, 1, "hunter2").await.unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(unseal(&theirs, 1, &sealed).await.unwrap(), "hunter2");
        let back = seal(&theirs, 1, "again").await.unwrap();
        assert_eq!(unseal(&ours, 1, &back).await.unwrap(), "again");
        seal(&ours, 2, "other").await.unwrap();
        assert!(matches!(unseal(&ours, 2, &sealed).await, Err(DbError::Internal(_))));
        assert!(matches!(unseal(&ours, 3, &sealed).await, Err(DbError::Internal(_))), "no key of that scope");
        let account = ours
            .write(|tx| Box::pin(async move { tx.vault().seal(AccountId(1), "t.c:1", b"x").await }))
            .await
            .unwrap();
        assert!(unseal(&ours, 1, &account).await.is_err());
    }

    async fn a_data_key_that_was_rolled_back_is_not_remembered(db: TestDb) {
        let store = db.store().await;
        let failed: Result<(), DbError> = store
            .write(|tx| Box::pin(async move {
                tx.vault().seal(EnvironmentId(1), "t.c:1", b"lost").await?;
                Err(DbError::internal("no"))
            }))
            .await;
        failed.unwrap_err();
        let sealed = seal(&store, 1, "kept").await.unwrap();
        store.close().await;
        let store = db.store().await;
        assert_eq!(unseal(&store, 1, &sealed).await.unwrap(), "kept");
    }

    async fn forgetting_a_key_makes_its_secrets_unreadable(db: TestDb) {
        let ours = db.store().await;
        let sealed = seal(&ours, 1, "gone").await.unwrap();
        ours.write(|tx| Box::pin(async move { tx.vault().forget(EnvironmentId(1)).await })).await.unwrap();
        assert!(matches!(unseal(&ours, 1, &sealed).await, Err(DbError::Internal(_))));
        let anew = seal(&ours, 1, "new").await.unwrap();
        assert_eq!(unseal(&ours, 1, &anew).await.unwrap(), "new");
        assert!(unseal(&ours, 1, &sealed).await.is_err());
    }

    async fn a_wrong_key_refuses_to_open_and_touches_nothing(db: TestDb) {
        let store = db.store().await;
        let sealed = seal(&store, 1, "precious").await.unwrap();
        // A pending migration that must not be applied either.
        store
            .write(|tx| Box::pin(async move { tx.execute("DELETE FROM schema_migration WHERE version > 1", &[]).await }))
            .await
            .unwrap();
        store.close().await;
        let before = (db.dialect() == Dialect::Sqlite).then(|| std::fs::read(db.path()).unwrap());

        let error = open(&db, &[NEW]).await.unwrap_err();
        let text = error.to_string();
        let (needed, configured) = (EncryptionKey::from(TEST_KEY).id(), EncryptionKey::from(NEW).id());
        assert!(matches!(error, OpenError::WrongKey { .. }), "{text}");
        assert!(text.contains(&needed) && text.contains(&configured) && text.contains("Nothing was changed"), "{text}");
        if let Some(before) = before {
            assert!(before == std::fs::read(db.path()).unwrap(), "the file is as it was");
        }

        // Behind a new first key the old one still opens everything.
        let store = StoreConfig { migrations: patchbay_store::Migrations::Leave, ..db.config() };
        let store = Store::open(
            StoreConfig { keys: vec![NEW.into(), TEST_KEY.into()], ..store },
            Ambient::test(TestClock::default(), 1),
        )
        .await
        .unwrap();
        assert_eq!(unseal(&store, 1, &sealed).await.unwrap(), "precious");
    }

    async fn rotation_rewraps_every_key_while_in_use(db: TestDb) {
        let old = db.store().await;
        let mut sealed = Vec::new();
        for environment in 0..7 {
            sealed.push(seal(&old, environment, "secret").await.unwrap());
        }
        let both = open(&db, &[NEW, TEST_KEY]).await.unwrap();
        assert_eq!(unseal(&both, 0, &sealed[0]).await.unwrap(), "secret");
        let newest = seal(&both, 100, "with the new key").await.unwrap();
        assert_eq!(both.rotate_encryption().await.unwrap(), Rotation { rewrapped: 7, unchanged: 1 });
        assert_eq!(both.rotate_encryption().await.unwrap(), Rotation { rewrapped: 0, unchanged: 8 });
        // A node that runs with the old ring goes on with what it has in memory.
        assert_eq!(unseal(&old, 3, &sealed[3]).await.unwrap(), "secret");
        old.close().await;
        both.close().await;

        let new = open(&db, &[NEW]).await.unwrap();
        for (environment, sealed) in (0..).zip(&sealed) {
            assert_eq!(unseal(&new, environment, sealed).await.unwrap(), "secret");
        }
        assert_eq!(unseal(&new, 100, &newest).await.unwrap(), "with the new key");
        let error = open(&db, &[TEST_KEY]).await.unwrap_err();
        assert!(matches!(error, OpenError::WrongKey { .. }), "{error}");
    }
}
