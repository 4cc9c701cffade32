use patchbay_ambient::{Ambient, TestClock};
use patchbay_store::backup::{BackupError, restore};
use patchbay_store::testing::{TEST_KEY, TestDb};
use patchbay_store::{OpenError, Store, StoreConfig};
use patchbay_types::EnvironmentId;

use crate::{add, ids, scratch};

fn world() -> Ambient {
    Ambient::test(TestClock::default(), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_writes_restores_to_a_whole_moment() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    for id in 0..50 {
        add(&store, id).await.unwrap();
    }
    let sealed = store
        .write(|tx| Box::pin(async move { tx.vault().seal(EnvironmentId(1), "t.c:1", b"secret").await }))
        .await
        .unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            for id in 50..400 {
                add(&store, id).await.unwrap();
            }
        }
    });
    let file = db.folder().join("copy.backup");
    let made = store.backup(&file).await.unwrap();
    writing.await.unwrap();
    assert_eq!(made.bytes, std::fs::metadata(&file).unwrap().len());
    let again = store.backup(&file).await;
    assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
    let bytes = std::fs::read(&file).unwrap();
    assert!(
        !bytes.windows(32).any(|window| window == TEST_KEY),
        "the key is not in it"
    );

    let fresh = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", fresh.path().join("new.db").display());
    let restored = restore(&file, &url, vec![TEST_KEY.into()]).await.unwrap();
    assert_eq!(restored.schema, made.schema);
    let copy = Store::open(StoreConfig::new(url.clone(), [TEST_KEY]), world())
        .await
        .unwrap();
    let found = ids(&copy).await;
    assert!(
        found.len() >= 50 && found.iter().copied().eq(0..i64::try_from(found.len()).unwrap()),
        "{found:?}"
    );
    let plain = copy
        .read(move |tx| Box::pin(async move { tx.vault().open(EnvironmentId(1), "t.c:1", &sealed).await }))
        .await
        .unwrap();
    assert_eq!(plain[..], *b"secret");
    add(&copy, 1000).await.unwrap();

    let over = restore(&file, &url, vec![TEST_KEY.into()]).await;
    assert!(
        matches!(over, Err(BackupError::Exists(_))),
        "a live database is never overwritten: {over:?}"
    );
    let left: Vec<_> = std::fs::read_dir(db.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("partial")),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfit_backups_are_refused_and_leave_nothing() {
    let db = TestDb::sqlite().await;
    let store = db.store().await;
    scratch(&store).await;
    for id in 0..500 {
        add(&store, id).await.unwrap();
    }
    let good = db.folder().join("good");
    store.backup(&good).await.unwrap();
    store
        .write(|tx| {
            Box::pin(async move {
                tx.execute("INSERT INTO schema_migration VALUES (9999, 'x', 'x', 0)", &[])
                    .await
            })
        })
        .await
        .unwrap();
    let newer = db.folder().join("newer");
    let refused = store.backup(&newer).await;
    assert!(
        matches!(refused, Err(BackupError::Unfit(OpenError::Newer { .. }))),
        "{refused:?}"
    );
    assert!(!newer.exists());

    let mut bytes = std::fs::read(&good).unwrap();
    let damaged = db.folder().join("damaged");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0x5a);
    std::fs::write(&damaged, &bytes).unwrap();
    let cut = db.folder().join("cut");
    std::fs::write(&cut, &std::fs::read(&good).unwrap()[..10_000]).unwrap();
    let text = db.folder().join("text");
    std::fs::write(
        &text,
        "not a database at all, but long enough to look at: ".repeat(20),
    )
    .unwrap();
    let foreign = db.folder().join("foreign");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE x (y)")
        .unwrap();

    let target = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", target.path().join("new.db").display());
    for file in [&damaged, &cut, &text, &foreign] {
        let error = restore(file, &url, vec![TEST_KEY.into()]).await.unwrap_err();
        assert!(
            matches!(&error, BackupError::Damaged { file: of, .. } if of == file),
            "{error}"
        );
    }
    let missing = restore(&db.folder().join("missing"), &url, vec![TEST_KEY.into()]).await;
    assert!(matches!(missing, Err(BackupError::Io { .. })), "{missing:?}");
    let key = restore(&good, &url, vec![[1; 32].into()]).await;
    assert!(
        matches!(key, Err(BackupError::Unfit(OpenError::WrongKey { .. }))),
        "{key:?}"
    );
    assert_eq!(
        std::fs::read_dir(target.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_sent_to_its_own_tools() {
    let db = TestDb::postgres().await;
    let store = db.store().await;
    let error = store
        .backup(std::path::Path::new("never.made"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("pg_dump"), "{error}");
    let error = restore(
        std::path::Path::new("never.made"),
        db.url(),
        vec![TEST_KEY.into()],
    )
    .await
    .unwrap_err();
    assert!(matches!(error, BackupError::Postgres));
}
