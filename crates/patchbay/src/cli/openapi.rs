//! `patchbay openapi`: the document that a server with default settings serves at `/openapi.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use patchbay_ambient::Ambient;
use patchbay_catalog::{Catalogue, CatalogueHandle};
use patchbay_outbound::Trust;

use super::{Exit, Output};
use crate::config::{Config, Sources};
use crate::house::{self, Clients};
use crate::{app, datadir};

/// Longest wait for background loops when the command ends.
const CLOSING: Duration = Duration::from_secs(5);

pub(super) async fn run(out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let ambient = Ambient::system();
    let scratch = Scratch::new(&ambient);
    let document = document(&scratch.0, &ambient).await;
    ambient.tasks.shut_down(CLOSING).await;
    out.json(&document?)?;
    Ok(Exit::Done)
}

/// The routes know their handlers, and handlers their domain: so a whole service is made, on a database of its own.
async fn document(directory: &Path, ambient: &Ambient) -> anyhow::Result<serde_json::Value> {
    let data_dir = directory.display().to_string();
    let config = Config::load(&Sources {
        flags: BTreeMap::from([("data_dir".to_owned(), vec![data_dir])]),
        ..Sources::default()
    })?;
    datadir::prepare(&config.storage)?;
    let (store, _) = house::open_or_make(&config, ambient).await?;
    let clients = Clients::new(&config, &Trust::nobody(), ambient);
    let catalogue = CatalogueHandle::new(Catalogue::default());
    let public = house::public_url(&config, config.server.listen.port);
    let context = house::domain(&config, store.clone(), catalogue, &clients, ambient, &public);
    let service = app::service(&config, &context, &Arc::new(AtomicBool::new(true)), None);
    let document = service.map(|service| service.document().clone());
    ambient.tasks.stop();
    store.close().await;
    document
}

/// A directory that goes with the command.
struct Scratch(PathBuf);

impl Scratch {
    fn new(ambient: &Ambient) -> Self {
        Self(std::env::temp_dir().join(format!("patchbay-{}", ambient.entropy.uuid().simple())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is an empty database in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
