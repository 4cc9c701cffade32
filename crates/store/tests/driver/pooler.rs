//! PgBouncer in transaction mode, the real one.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_store::db::{DbError, Notice, Topic};
use patchbay_store::testing::{TestDb, find_program, unprivileged};
use patchbay_store::{Store, StoreConfig};
use tempfile::TempDir;
use tokio_postgres::config::Host;

use crate::{add, ids, insert, next_flush, next_notice, scratch};

struct Bouncer {
    process: Child,
    folder: TempDir,
    database: String,
}

impl Bouncer {
    /// In front of the server of `db`, with `size` connections to it.
    async fn start(db: &TestDb, size: usize) -> Self {
        Self::start_with(db, size, |_| String::new()).await
    }

    /// With more lines of configuration, made for its directory.
    async fn start_with(db: &TestDb, size: usize, more: impl FnOnce(&Path) -> String) -> Self {
        let program = find_program("pgbouncer").expect(
            "PgBouncer is missing, through which the store is tested: `apt-get install pgbouncer`, or put \
             its program in PATH",
        );
        let config: tokio_postgres::Config = db.url().parse().unwrap();
        let host = match &config.get_hosts()[0] {
            Host::Tcp(host) => host.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let user = config.get_user().unwrap_or("postgres");
        let password = config
            .get_password()
            .map(|text| String::from_utf8_lossy(text).into_owned());
        let database = config.get_dbname().unwrap().to_owned();

        let folder = tempfile::Builder::new()
            .prefix("patchbay-bouncer-")
            .tempdir()
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().display();
        let login = password
            .map(|password| format!(" password='{password}'"))
            .unwrap_or_default();
        let ini = format!(
            "[databases]\n{database} = host='{host}' port={port} dbname={database} user={user}{login}\n\
             [pgbouncer]\nlisten_addr=\nunix_socket_dir={path}\nlisten_port=6432\nauth_type=any\n\
             pool_mode=transaction\ndefault_pool_size={size}\nmax_client_conn=200\n\
             max_prepared_statements=0\nlogfile={path}/log\n{}",
            more(folder.path())
        );
        // Older ones do not know the setting and have no support for prepared statements to turn off.
        let known = Command::new(&program).arg("--version").output().unwrap();
        let version = String::from_utf8_lossy(&known.stdout).into_owned();
        let minor: u32 = version
            .split('.')
            .nth(1)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(99);
        let ini = if minor < 21 {
            ini.replace("max_prepared_statements=0\n", "")
        } else {
            ini
        };
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, ini).unwrap();
        let mut command = Command::new(program);
        command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = unprivileged() {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
            for entry in fs::read_dir(folder.path()).unwrap() {
                chown(entry.unwrap().path(), Some(uid), Some(gid)).unwrap();
            }
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().unwrap();
        let bouncer = Self {
            process,
            folder,
            database,
        };
        let answers = async {
            while !bouncer.listens() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), answers)
            .await
            .is_ok()
        {
            return bouncer;
        }
        let log = fs::read_to_string(bouncer.folder.path().join("log")).unwrap_or_default();
        panic!("PgBouncer did not start; its log:\n{log}");
    }

    /// The Unix socket is the last it opens.
    fn listens(&self) -> bool {
        let mut entries = fs::read_dir(self.folder.path()).unwrap().flatten();
        entries.any(|entry| {
            let socket = entry.file_name().to_string_lossy().starts_with(".s.PGSQL");
            socket && UnixStream::connect(entry.path()).is_ok()
        })
    }

    fn url(&self, parameters: &str) -> String {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://anyone@{host}:6432/{}{parameters}", self.database)
    }

    async fn store(&self, db: &TestDb, parameters: &str) -> Store {
        let config = StoreConfig {
            url: self.url(parameters),
            ..db.config()
        };
        Store::open(config, Ambient::test(TestClock::default(), 1))
            .await
            .unwrap()
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn exercise(store: &Store, other: &Store) {
    scratch(store).await;
    for round in 0..10 {
        let writes = join_all((0..20).map(|id| add(store, round * 100 + id)));
        let reads = join_all((0..20).map(|_| ids(other)));
        let (writes, _) = tokio::join!(writes, reads);
        for result in writes {
            result.unwrap();
        }
    }
    let rows = (5000..5300)
        .map(|id: i64| vec![id.into(), format!("n{id}").into()])
        .collect::<Vec<_>>();
    store
        .write(move |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO scratch (id, name) VALUES ($1, $2)";
                assert_eq!(tx.execute_many(sql, &rows).await?, 300);
                insert(tx, 6000, "last").await
            })
        })
        .await
        .unwrap();
    assert_eq!(ids(other).await.len(), 501);
    let conflict = add(store, 6000).await.unwrap_err();
    assert_eq!(conflict.conflict(), Some("scratch_pkey"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_through_a_pooler_in_transaction_mode() {
    let db = TestDb::postgres().await;
    let bouncer = Bouncer::start(&db, 3).await;
    let (ours, theirs) = (bouncer.store(&db, "").await, bouncer.store(&db, "").await);
    exercise(&ours, &theirs).await;

    // Own notices arrive at once and as they are; those of other nodes as "everything", by polling.
    let (mut here, mut there) = (ours.subscribe(), theirs.subscribe());
    ours.write(|tx| {
        Box::pin(async move {
            tx.notify(Notice::new(Topic::ApiKeys, "k"));
            insert(tx, 7000, "noticed").await?;
            Ok::<_, DbError>(())
        })
    })
    .await
    .unwrap();
    assert_eq!(next_notice(&mut here).await, Notice::new(Topic::ApiKeys, "k"));
    next_flush(&mut there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_one_connection_is_enough() {
    let db = TestDb::postgres().await;
    let bouncer = Bouncer::start(&db, 1).await;
    let store = bouncer.store(&db, "").await;
    exercise(&store, &store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unnamed_statements_can_be_asked_for() {
    let db = TestDb::postgres().await;
    let bouncer = Bouncer::start(&db, 3).await;
    let store = bouncer.store(&db, "?prepared_statements=false").await;
    exercise(&store, &store).await;
    // The same mode without a pooler: values have the same meaning as in named statements.
    let config = StoreConfig {
        url: format!("{}?pgbouncer=true", db.url()),
        ..db.config()
    };
    let direct = Store::open(config, Ambient::test(TestClock::default(), 1))
        .await
        .unwrap();
    let row = direct
        .write(|tx| {
            Box::pin(async move {
                tx.execute(
                    "CREATE TABLE every (a BIGINT, b SMALLINT, d DOUBLE PRECISION, e TEXT, f BYTEA, g TEXT)",
                    &[],
                )
                .await?;
                let values = [
                    i64::MIN.into(),
                    true.into(),
                    (-0.1).into(),
                    "naïve 🦀 \\x00".into(),
                    vec![0_u8, 255, 92].into(),
                    None::<i64>.into(),
                ];
                tx.query_one(
                    "INSERT INTO every VALUES ($1, $2, $3, $4, $5, $6) RETURNING a, b, d, e, f, g",
                    &values,
                )
                .await
            })
        })
        .await
        .unwrap();
    assert_eq!(row.get::<i64>(0).unwrap(), i64::MIN);
    assert!(row.get::<bool>(1).unwrap());
    assert!((row.get::<f64>(2).unwrap() + 0.1).abs() < f64::EPSILON);
    assert_eq!(row.get::<String>(3).unwrap(), "naïve 🦀 \\x00");
    assert_eq!(row.get::<Vec<u8>>(4).unwrap(), [0, 255, 92]);
    assert_eq!(row.get::<Option<i64>>(5).unwrap(), None);
}

/// PgBouncer ends TLS, too, which spares a second Postgres.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_means_what_libpq_means() {
    let db = TestDb::postgres().await;
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    // Free a moment ago; PgBouncer cannot be asked which port it was given.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let bouncer = Bouncer::start_with(&db, 3, |folder| {
        fs::write(folder.join("server.pem"), &certificate).unwrap();
        fs::write(folder.join("server.key"), &key).unwrap();
        let path = folder.display();
        format!(
            "listen_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir={path}\nclient_tls_sslmode=require\n\
             client_tls_key_file={path}/server.key\nclient_tls_cert_file={path}/server.pem\n"
        )
    })
    .await;
    let roots = bouncer.folder.path().join("server.pem");
    let roots = roots.display();
    for (host, parameters, works) in [
        ("localhost", "?sslmode=require".to_owned(), true),
        ("127.0.0.1", "?sslmode=prefer".to_owned(), true),
        ("localhost", "?sslmode=disable".to_owned(), false),
        (
            "localhost",
            format!("?sslmode=verify-full&sslrootcert={roots}"),
            true,
        ),
        (
            "127.0.0.1",
            format!("?sslmode=verify-full&sslrootcert={roots}"),
            false,
        ),
        ("localhost", "?sslmode=verify-full".to_owned(), false),
    ] {
        let url = format!("postgres://anyone@{host}:{port}/{}{parameters}", bouncer.database);
        let opened = Store::open(
            StoreConfig { url, ..db.config() },
            Ambient::test(TestClock::default(), 1),
        )
        .await;
        assert_eq!(opened.is_ok(), works, "{host} {parameters}: {opened:?}");
        if let Ok(store) = opened {
            store.ping().await.unwrap();
        }
    }
}
