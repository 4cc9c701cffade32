//! What commands beside the server share: the opened house, names of environments, times.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use patchbay_ambient::Ambient;
use patchbay_catalog::{Catalogue, CatalogueHandle};
use patchbay_connections::{Context, api_keys, environments};
use patchbay_outbound::Trust;
use patchbay_types::environments::Environment;
use patchbay_types::{AccountId, EnvironmentId, Timestamp};

use crate::config::{Config, nearest};
use crate::house::{self, Clients};

/// Longest wait for background loops when a command ends.
const CLOSING: Duration = Duration::from_secs(5);

/// The house, opened for one command.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) context: Arc<Context>,
    pub(super) account: AccountId,
    ambient: Ambient,
}

impl Admin {
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let ambient = Ambient::system();
        let store = house::open_existing(config, &ambient).await?;
        // Commands send nothing themselves, so nobody needs to be trusted and no trust store is read.
        let clients = Clients::new(config, &Trust::nobody(), &ambient);
        let public = house::public_url(config, config.server.listen.port);
        // Nor does any of them look at a provider; reading the catalogue would only make them slow.
        let catalogue = CatalogueHandle::new(Catalogue::default());
        let context = house::domain(config, store, catalogue, &clients, &ambient, &public);
        let account = api_keys::default_account(&context).await?;
        Ok(Self {
            context,
            account,
            ambient,
        })
    }

    /// Ends background loops and closes the database.
    pub(super) async fn close(self) {
        self.ambient.tasks.shut_down(CLOSING).await;
        self.context.store.close().await;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.ambient.now()
    }

    pub(super) fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    pub(super) async fn environments(&self) -> anyhow::Result<Vec<Environment>> {
        Ok(environments::list(&self.context, self.account).await?)
    }

    /// The environment of that name, or words about which there are.
    pub(super) async fn environment(&self, name: &str) -> anyhow::Result<Environment> {
        let mut all = self.environments().await?;
        if let Some(index) = all
            .iter()
            .position(|environment| environment.name.as_str() == name)
        {
            return Ok(all.swap_remove(index));
        }
        let names: Vec<&str> = all.iter().map(|environment| environment.name.as_str()).collect();
        match nearest(name, names.iter().copied()) {
            Some(near) => bail!("there is no environment `{name}`; did you mean `{near}`?"),
            None => bail!(
                "there is no environment `{name}`; there are: {}",
                names.join(", ")
            ),
        }
    }

    /// The number of the environment of that name, if one was given.
    pub(super) async fn environment_id(&self, name: Option<&str>) -> anyhow::Result<Option<EnvironmentId>> {
        match name {
            Some(name) => Ok(Some(self.environment(name).await?.id)),
            None => Ok(None),
        }
    }
}

/// Runs a command's future on a runtime of its own.
pub(super) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime did not start")?
        .block_on(future)
}

/// A time in tables: UTC, seconds.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

pub(super) fn optional_time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "–".to_owned(), time)
}
