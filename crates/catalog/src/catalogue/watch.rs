//! Hot reload: the catalogue follows its files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use notify::{RecursiveMode, Watcher};
use patchbay_ambient::Ambient;
use tokio::sync::Notify;

use super::{CatalogueHandle, Reloaded};
use crate::finding::{Finding, Severity};
use crate::source::Source;

/// Looks at the files this often even if the file system says nothing (network file systems do not).
const POLL: Duration = Duration::from_secs(30);
/// Editors write a file in several steps; real time, because that is what file systems live in.
const SETTLE: Duration = Duration::from_millis(150);

impl CatalogueHandle {
    /// Follows the files it is made of until shutdown: whenever their content changes they are loaded again, and the
    /// catalogue is swapped if it says anything else. What is wrong is logged.
    pub fn watch(&self, ambient: &Ambient) {
        let files: Vec<Source> = self
            .sources()
            .iter()
            .filter(|source| matches!(source, Source::Path(_)))
            .cloned()
            .collect();
        if files.is_empty() {
            return;
        }
        let changed = Arc::new(Notify::new());
        let watcher = watcher(&files, &changed);
        let handle = self.clone();
        let clock = Arc::clone(&ambient.clock);
        let stopping = ambient.tasks.stopping();
        // Taken before the task runs: a change from here on is seen.
        let mut seen = fingerprint(&files);
        ambient.tasks.spawn(async move {
            let _watcher = watcher;
            loop {
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = changed.notified() => tokio::time::sleep(SETTLE).await,
                    () = clock.sleep(POLL) => {}
                }
                let (handle, files) = (handle.clone(), files.clone());
                let look = tokio::task::spawn_blocking(move || {
                    let now = fingerprint(&files);
                    if now != seen {
                        let (reloaded, findings) = handle.reload();
                        log(reloaded, &findings, handle.current().len());
                    }
                    now
                });
                match look.await {
                    Ok(now) => seen = now,
                    Err(error) => {
                        tracing::error!(%error, "reloading the catalogue failed");
                        seen = None;
                    }
                }
            }
        });
    }
}

/// Logs findings at their level.
fn log(reloaded: Reloaded, findings: &[Finding], providers: usize) {
    for finding in findings {
        match finding.severity {
            Severity::Error => tracing::error!("{finding}"),
            Severity::Warning => tracing::warn!("{finding}"),
        }
    }
    match reloaded {
        Reloaded::Swapped => tracing::info!(providers, "catalogue reloaded"),
        Reloaded::Unchanged => tracing::info!(providers, "catalogue files changed, the catalogue did not"),
    }
}

/// Watches directories rather than files: editors and orchestrators replace files by renaming.
fn watcher(sources: &[Source], changed: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let on_event = move |event: notify::Result<notify::Event>| {
        // Our own reading must not wake us.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    };
    let mut watcher = match notify::recommended_watcher(on_event) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "the file system cannot be watched; the catalogue is looked at every 30 s");
            return None;
        }
    };
    for source in sources {
        let Source::Path(path) = source else {
            continue;
        };
        let folder = if path.is_dir() {
            path.clone()
        } else {
            path.parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .map_or_else(|| PathBuf::from("."), Into::into)
        };
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            let folder = folder.display();
            tracing::warn!(%error, %folder, "the folder cannot be watched; it is looked at every 30 s");
        }
    }
    Some(watcher)
}

/// A digest of names and contents; none if something cannot be read, which differs from everything readable.
fn fingerprint(sources: &[Source]) -> Option<Vec<u8>> {
    let mut context = Context::new(&SHA256);
    for source in sources {
        for file in source.files().ok()? {
            let bytes = std::fs::read(&file).ok()?;
            for part in [file.to_string_lossy().as_bytes(), &bytes] {
                context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
                context.update(part);
            }
        }
    }
    Some(context.finish().as_ref().to_vec())
}
