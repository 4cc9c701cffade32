//! `patchbay migrate`, `backup`, `restore`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use patchbay_ambient::Ambient;
use patchbay_store::{Migrations, Store, backup};

use super::Exit;
use super::output::Output;
use crate::config::{Config, Database};
use crate::datadir::{self, KeyRing, ServeLock};
use crate::house;

pub(super) async fn migrate(config: &Config, check: bool, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let ambient = Ambient::system();
    if check {
        let ring = house::existing_ring(config)?;
        let store = Store::open(
            house::store_config(config, &ring, Migrations::Leave),
            ambient.clone(),
        )
        .await?;
        let pending = store.pending().await?;
        store.close().await;
        for label in &pending {
            out.line(format!("would apply {label}"))?;
        }
        out.line(format!("{} migrations are not applied yet.", pending.len()))?;
        return Ok(if pending.is_empty() {
            Exit::Done
        } else {
            Exit::Findings
        });
    }
    datadir::prepare(&config.storage)?;
    let ring = KeyRing::load_or_make(&config.storage, &config.encryption, &*ambient.entropy)?;
    let opened = Store::open(
        house::store_config(config, &ring, Migrations::Leave),
        ambient.clone(),
    )
    .await;
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            ring.unmake();
            return Err(error.into());
        }
    };
    let applied = store.migrate().await?;
    store.close().await;
    for label in &applied {
        out.line(format!("applied {label}"))?;
    }
    out.line(format!(
        "{} migrations were applied; the database is up to date.",
        applied.len()
    ))?;
    Ok(Exit::Done)
}

pub(super) async fn backup(config: &Config, file: &Path, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let ambient = Ambient::system();
    let store = house::open_existing(config, &ambient).await?;
    let copied = store.backup(file).await;
    store.close().await;
    let copied = copied?;
    out.line(format!(
        "Wrote {} ({} bytes, schema version {}). Keep the encryption key too, apart from it.",
        file.display(),
        copied.bytes,
        copied.schema
    ))?;
    Ok(Exit::Done)
}

pub(super) async fn restore(
    config: &Config,
    file: &Path,
    force: bool,
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let Database::Sqlite(database) = &config.storage.database else {
        bail!("restore is for SQLite; restore Postgres with its own tools (pg_restore)");
    };
    std::fs::File::open(file).with_context(|| format!("cannot read the backup {}", file.display()))?;
    datadir::prepare(&config.storage)?;
    // Nobody may serve the database meanwhile.
    let _lock = ServeLock::take(&config.storage)?;
    let keys = restored_keys(config)?;
    let aside = force.then(|| set_aside(database)).transpose()?.flatten();
    if aside.is_none() && database.exists() {
        bail!(
            "{} exists; stop the server and say --force to replace it",
            database.display()
        );
    }
    let keys = keys.keys.iter().map(|key| (*key.expose()).into()).collect();
    match backup::restore(file, &house::database_url(config), keys).await {
        Ok(copied) => {
            out.line(format!(
                "Restored {} ({} bytes, schema version {}).",
                database.display(),
                copied.bytes,
                copied.schema
            ))?;
            if let Some(aside) = aside {
                out.line(format!("What was there is kept as {}.", aside.display()))?;
            }
            Ok(Exit::Done)
        }
        Err(error) => {
            if let Some(aside) = aside {
                put_back(&aside, database)?;
            }
            Err(error.into())
        }
    }
}

/// A backup can only be read with the key of its time, so there must be one.
fn restored_keys(config: &Config) -> anyhow::Result<KeyRing> {
    let ring = if config.encryption.keys.is_empty() && !config.encryption.key_file.exists() {
        None
    } else {
        KeyRing::load(&config.storage, &config.encryption)?
    };
    ring.with_context(|| {
        format!(
            "put the encryption key of the backup's time into {} or PATCHBAY_ENCRYPTION_KEY first",
            config.encryption.key_file.display()
        )
    })
}

/// SQLite's log belongs to its file: what is moved away is moved with it.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

fn part(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn set_aside(database: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !database.exists() {
        return Ok(None);
    }
    let aside = (1..1000)
        .map(|number| part(database, &format!(".replaced-{number}")))
        .find(|path| !path.exists())
        .context("there are a thousand replaced databases beside this one; remove some")?;
    move_parts(database, &aside)?;
    Ok(Some(aside))
}

fn put_back(aside: &Path, database: &Path) -> anyhow::Result<()> {
    move_parts(aside, database).with_context(|| format!("the former database is in {}", aside.display()))
}

fn move_parts(from: &Path, to: &Path) -> anyhow::Result<()> {
    for suffix in PARTS {
        let (from, to) = (part(from, suffix), part(to, suffix));
        if from.exists() {
            std::fs::rename(&from, &to)
                .with_context(|| format!("{} cannot be moved to {}", from.display(), to.display()))?;
        }
    }
    Ok(())
}
