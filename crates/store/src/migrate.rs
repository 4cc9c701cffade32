//! Schema migrations.
//!
//! Files `migrations/{common,sqlite,postgres}/NNNN_name.sql` are embedded. A version's text for a database is its
//! `common` file, if there is one, followed by the database's own, if there is one. All that is pending is applied
//! in one transaction under a lock, so nodes may start at once and a failure leaves the schema as it was. Applied
//! files are remembered with their SHA-256: a file that has changed since is refused, and so is a database that
//! knows versions this program does not.
//!
//! Own code rather than a crate: two dialects that share files and one transaction per start on either database is
//! what `refinery` does not do (one dialect a folder, its own connection types on both drivers), and this is less
//! than its glue would be.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use crate::db::{DbError, Dialect, Row, Tx};
use crate::store::OpenError;

struct File {
    folder: &'static str,
    name: &'static str,
    sql: &'static str,
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Checksums of released files that were corrected afterwards and are accepted as they were: (version, dialect,
/// SHA-256). The correction must have no effect on a database that has the old form.
const ACCEPTED: &[(i64, Dialect, &str)] = &[];

/// Any number, the same on every node: PostgreSQL's advisory lock during migration.
const LOCK: i64 = 0x5061_7463_6862_6179;

/// One version of the schema, for one database.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: String,
    sql: String,
    pub(crate) checksum: String,
}

/// A version that a database says it has.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) version: i64,
    pub(crate) name: String,
    pub(crate) checksum: String,
}

impl Migration {
    /// `0002_core`, as the file is called.
    pub(crate) fn label(&self) -> String {
        format!("{:04}_{}", self.version, self.name)
    }
}

/// Every version this program knows, oldest first.
pub(crate) fn known(dialect: Dialect) -> &'static [Migration] {
    static SQLITE: LazyLock<Vec<Migration>> = LazyLock::new(|| assemble(FILES, "sqlite"));
    static POSTGRES: LazyLock<Vec<Migration>> = LazyLock::new(|| assemble(FILES, "postgres"));
    match dialect {
        Dialect::Sqlite => &SQLITE,
        Dialect::Postgres => &POSTGRES,
    }
}

/// What is still to be applied, or why it must not be.
pub(crate) fn compare<'m>(
    applied: &[Applied],
    known: &'m [Migration],
    dialect: Dialect,
) -> Result<Vec<&'m Migration>, OpenError> {
    let newest = known.last().map_or(0, |migration| migration.version);
    for done in applied {
        let Some(ours) = known.iter().find(|migration| migration.version == done.version) else {
            let database = applied.iter().map(|done| done.version).max().unwrap_or_default();
            return Err(OpenError::Newer {
                database,
                program: newest,
            });
        };
        let accepted = ACCEPTED.contains(&(done.version, dialect, done.checksum.as_str()));
        if ours.checksum != done.checksum && !accepted {
            return Err(OpenError::Changed {
                migration: format!("{:04}_{}", done.version, done.name),
            });
        }
    }
    let has = |version| applied.iter().any(|done| done.version == version);
    Ok(known.iter().filter(|migration| !has(migration.version)).collect())
}

/// The versions the database has; none if it is new.
pub(crate) async fn applied(tx: &mut Tx) -> Result<Vec<Applied>, DbError> {
    if !has_table(tx, "schema_migration").await? {
        return Ok(Vec::new());
    }
    let rows = tx
        .query(
            "SELECT version, name, checksum FROM schema_migration ORDER BY version",
            &[],
        )
        .await?;
    let read = |row: &Row| {
        Ok(Applied {
            version: row.get(0)?,
            name: row.get(1)?,
            checksum: row.get(2)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Applies what is pending. The labels of what was.
pub(crate) async fn apply(tx: &mut Tx) -> Result<Vec<String>, OpenError> {
    let dialect = tx.dialect();
    if dialect == Dialect::Postgres {
        // Held until the transaction ends, so it works through poolers. SQLite's writer is alone anyway.
        tx.query("SELECT pg_advisory_xact_lock($1)", &[LOCK.into()])
            .await?;
    }
    let pending = compare(&applied(tx).await?, known(dialect), dialect)?;
    if pending.is_empty() {
        return Ok(Vec::new());
    }
    tx.batch(match dialect {
        Dialect::Sqlite => {
            "CREATE TABLE IF NOT EXISTS schema_migration (version INTEGER PRIMARY KEY, name TEXT NOT NULL, \
             checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT"
        }
        Dialect::Postgres => {
            "CREATE TABLE IF NOT EXISTS schema_migration (version BIGINT PRIMARY KEY, name TEXT NOT NULL, \
             checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)"
        }
    })
    .await?;
    let mut labels = Vec::new();
    for migration in pending {
        let failed = |cause| OpenError::Migration {
            migration: migration.label(),
            cause,
        };
        tx.batch(&migration.sql).await.map_err(failed)?;
        let now = tx.now();
        tx.execute(
            "INSERT INTO schema_migration (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)",
            &[
                migration.version.into(),
                migration.name.as_str().into(),
                migration.checksum.as_str().into(),
                now.into(),
            ],
        )
        .await?;
        labels.push(migration.label());
    }
    Ok(labels)
}

pub(crate) async fn has_table(tx: &mut Tx, name: &str) -> Result<bool, DbError> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1",
        Dialect::Postgres => "SELECT 1 WHERE to_regclass($1) IS NOT NULL",
    };
    Ok(tx.query_opt(sql, &[name.into()]).await?.is_some())
}

fn assemble(files: &[File], own: &str) -> Vec<Migration> {
    let mut texts: BTreeMap<i64, (String, String)> = BTreeMap::new();
    for folder in ["common", own] {
        for file in files.iter().filter(|file| file.folder == folder) {
            let (version, name) = file
                .name
                .strip_suffix(".sql")
                .and_then(|stem| stem.split_once('_'))
                .and_then(|(version, name)| Some((version.parse().ok()?, name)))
                .expect("migrations are named NNNN_name.sql, which a test checks");
            let (_, text) = texts
                .entry(version)
                .or_insert_with(|| (name.to_owned(), String::new()));
            // A checkout with CRLF has the same checksums.
            text.push_str(&file.sql.replace('\r', ""));
            text.push('\n');
        }
    }
    texts
        .into_iter()
        .map(|(version, (name, sql))| {
            let checksum = HEXLOWER.encode(digest::digest(&digest::SHA256, sql.as_bytes()).as_ref());
            Migration {
                version,
                name,
                sql,
                checksum,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &'static str, name: &'static str, sql: &'static str) -> File {
        File { folder, name, sql }
    }

    #[test]
    fn every_embedded_file_has_a_number_of_its_own_and_both_databases_have_the_same_versions() {
        for folder in ["common", "sqlite", "postgres"] {
            let mut seen = Vec::new();
            for file in FILES.iter().filter(|file| file.folder == folder) {
                let (version, _) = file.name.split_once('_').unwrap();
                assert!(
                    version.len() == 4 && version.parse::<i64>().is_ok(),
                    "{folder}/{}",
                    file.name
                );
                assert!(
                    !seen.contains(&version),
                    "two files of {folder} are number {version}"
                );
                seen.push(version);
            }
        }
        let labels = |dialect| known(dialect).iter().map(Migration::label).collect::<Vec<_>>();
        assert_eq!(labels(Dialect::Sqlite), labels(Dialect::Postgres));
    }

    #[test]
    fn a_version_is_its_common_text_and_then_its_own() {
        let files = [
            file("common", "0001_a.sql", "A;\r\n"),
            file("sqlite", "0001_a.sql", "B;"),
            file("postgres", "0001_a.sql", "C;"),
            file("sqlite", "0002_b.sql", "D;"),
        ];
        let sqlite = assemble(&files, "sqlite");
        assert_eq!(sqlite[0].sql, "A;\n\nB;\n");
        assert_eq!(sqlite[1].label(), "0002_b");
        assert_eq!(assemble(&files, "postgres").len(), 1);
    }

    #[test]
    fn newer_and_changed_databases_are_refused() {
        let known = assemble(
            &[
                file("common", "0001_a.sql", "A"),
                file("common", "0002_b.sql", "B"),
            ],
            "sqlite",
        );
        let done = |version, checksum: &str| Applied {
            version,
            name: "a".to_owned(),
            checksum: checksum.to_owned(),
        };
        let first = done(1, &known[0].checksum);
        let compare = |applied: &[Applied]| compare(applied, &known, Dialect::Sqlite);

        assert_eq!(compare(&[]).unwrap().len(), 2);
        assert_eq!(compare(std::slice::from_ref(&first)).unwrap()[0].version, 2);
        let newer = compare(&[first, done(3, "x")]).unwrap_err();
        assert!(
            matches!(
                newer,
                OpenError::Newer {
                    database: 3,
                    program: 2
                }
            ),
            "{newer}"
        );
        let changed = compare(&[done(1, "x")]).unwrap_err();
        assert!(
            matches!(&changed, OpenError::Changed { migration } if migration == "0001_a"),
            "{changed}"
        );
    }
}
