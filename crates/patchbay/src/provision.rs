//! What must exist before the first request: the account, `dev` and `prod`, and what the operator configured.

use std::collections::BTreeMap;

use patchbay_connections::api_keys::Provision;
use patchbay_connections::environments::{
    self, CreatedEnvironment, EnvironmentError, EnvironmentRef, NewEnvironment,
};
use patchbay_connections::{Context, api_keys};
use patchbay_store::db::DbError;
use patchbay_types::environments::{Environment, EnvironmentSettings};
use patchbay_types::{AccountId, EnvironmentId, EnvironmentName, Secret};

use crate::config::ConfiguredEnvironment;

/// Name of the key that the configuration fixes, in lists of keys.
pub const CONFIGURED_KEY_NAME: &str = "Configured";

/// Environments that always exist.
const ALWAYS: [&str; 2] = ["dev", "prod"];

/// What a start found and made.
#[derive(Debug)]
pub struct Provisions {
    /// The account.
    pub account: AccountId,
    /// Environments made just now; their secrets are shown to the operator once.
    pub created: Vec<CreatedEnvironment>,
}

/// Makes what is missing and applies what is configured. Repeating it changes nothing.
///
/// # Errors
/// The store failed.
pub async fn provision(
    context: &Context,
    configured: &BTreeMap<EnvironmentName, ConfiguredEnvironment>,
) -> Result<Provisions, EnvironmentError> {
    let account = api_keys::default_account(context).await?;
    let existing = environments::list(context, account).await?;
    let nothing = ConfiguredEnvironment::default();
    let always = ALWAYS.iter().filter_map(|name| EnvironmentName::parse(name).ok());
    let mut names: Vec<EnvironmentName> = always.collect();
    names.extend(
        configured
            .keys()
            .filter(|name| !ALWAYS.contains(&name.as_str()))
            .cloned(),
    );
    let mut created = Vec::new();
    for name in names {
        let wanted = configured.get(&name).unwrap_or(&nothing);
        match existing.iter().find(|environment| environment.name == name) {
            Some(environment) => apply(context, environment, wanted).await?,
            None => created.extend(create(context, account, name, wanted).await?),
        }
    }
    Ok(Provisions { account, created })
}

async fn create(
    context: &Context,
    account: AccountId,
    name: EnvironmentName,
    wanted: &ConfiguredEnvironment,
) -> Result<Option<CreatedEnvironment>, EnvironmentError> {
    let mut settings = EnvironmentSettings::default();
    wanted.patch.apply(&mut settings);
    let new = NewEnvironment {
        account,
        name: name.clone(),
        is_production: wanted.patch.production,
        settings,
    };
    let made = match &wanted.api_key {
        Some(secret) => environments::create_with_secret(context, new, secret.clone()).await,
        None => environments::create(context, new).await,
    };
    match made {
        Ok(made) => {
            set_variables(context, made.environment.id, wanted).await?;
            Ok(Some(made))
        }
        // Another node was faster; it is there, which is what matters.
        Err(EnvironmentError::NameTaken) => {
            let by = EnvironmentRef::Name(name.as_str().to_owned());
            let environment = environments::find(context, account, by).await?;
            apply(context, &environment, wanted).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn apply(
    context: &Context,
    environment: &Environment,
    wanted: &ConfiguredEnvironment,
) -> Result<(), EnvironmentError> {
    let mut settings = environment.settings.clone();
    wanted.patch.apply(&mut settings);
    if settings != environment.settings {
        let patch = wanted.patch.clone();
        let by = EnvironmentRef::Id(environment.id);
        environments::update_settings(context, environment.account_id, by, move |settings| {
            patch.apply(settings);
        })
        .await?;
        tracing::info!(environment = %environment.name, "settings of the configuration were applied");
    }
    if let Some(production) = wanted.patch.production
        && production != environment.is_production
    {
        tracing::warn!(
            environment = %environment.name,
            "`production` is decided when an environment is made; the configured value was not applied"
        );
    }
    set_variables(context, environment.id, wanted).await?;
    if let Some(secret) = &wanted.api_key {
        let done = api_keys::provision(context, environment, CONFIGURED_KEY_NAME, secret).await?;
        if done == Provision::Made {
            tracing::info!(environment = %environment.name, "the configured API key was provisioned; it also signs webhooks");
        }
    }
    Ok(())
}

async fn set_variables(
    context: &Context,
    environment: EnvironmentId,
    wanted: &ConfiguredEnvironment,
) -> Result<(), DbError> {
    if wanted.patch.variables.is_empty() {
        return Ok(());
    }
    let current = environments::variables(context, environment).await?;
    let changes: Vec<(String, Option<Secret>)> = wanted
        .patch
        .variables
        .iter()
        .filter(|(name, value)| {
            let found = current.iter().find(|variable| variable.name == **name);
            found.map(|variable| &variable.value) != value.as_ref()
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    environments::set_variables(context, environment, changes).await
}
