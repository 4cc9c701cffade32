//! Environments: creation with their key and signing key, settings, variables, deletion (api-core §6).

use std::sync::Arc;

use patchbay_store::db::{DbError, Tx};
use patchbay_store::environments;
use patchbay_types::environments::{Environment, EnvironmentSettings, EnvironmentVariable};
use patchbay_types::{AccountId, EnvironmentId, EnvironmentName, ScopeSet, Secret, Timestamp};
use uuid::Uuid;

use crate::api_keys::{self, NewApiKey};
use crate::caches::{Changed, Entry};
use crate::context::Context;

/// Name of the key every environment is born with.
pub const DEFAULT_KEY_NAME: &str = "Default - Full access";

/// The environment that is always a production one and can never be deleted.
pub const PRODUCTION: &str = "prod";

/// Why an environment could not be made, changed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No such environment in this account.
    #[error("no such environment")]
    Unknown,
    /// A live environment has the name.
    #[error("an environment of that name exists")]
    NameTaken,
    /// `prod` with `is_production: false`.
    #[error("the environment {PRODUCTION:?} is always a production environment")]
    InvalidProductionFlag,
    /// `prod` cannot be deleted.
    #[error("the environment {PRODUCTION:?} cannot be deleted")]
    CannotDeleteProd,
    /// The signing key was rotated, and the one before it is still valid.
    #[error("the previous signing key is valid until {0}; rotate again after that")]
    RotationInGrace(Timestamp),
    /// The store failed.
    #[error(transparent)]
    Store(DbError),
}

impl From<DbError> for EnvironmentError {
    /// Of two requests for one name, one may get as far as the unique index.
    fn from(error: DbError) -> Self {
        match error {
            DbError::Conflict { constraint } if constraint == "environment_live_name" => Self::NameTaken,
            error => Self::Store(error),
        }
    }
}

/// What a new environment is.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEnvironment {
    /// Owner.
    pub account: AccountId,
    /// Unique among the account's live environments.
    pub name: EnvironmentName,
    /// Defaults to whether it is called `prod`.
    pub is_production: Option<bool>,
    /// Settings.
    pub settings: EnvironmentSettings,
}

impl NewEnvironment {
    /// Whether it will be a production environment, which takes a further permission.
    pub fn production(&self) -> Result<bool, EnvironmentError> {
        match (self.name.as_str() == PRODUCTION, self.is_production) {
            (true, Some(false)) => Err(EnvironmentError::InvalidProductionFlag),
            (true, _) => Ok(true),
            (false, flag) => Ok(flag.unwrap_or(false)),
        }
    }
}

/// A new environment and the secret of its first key, which is also its signing key until either is rotated, so
/// that applications that know only the secret key can verify webhooks.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedEnvironment {
    /// The environment.
    pub environment: Environment,
    /// The first key's secret.
    pub secret: Secret,
}

/// Makes an environment with its first key.
pub async fn create(context: &Context, new: NewEnvironment) -> Result<CreatedEnvironment, EnvironmentError> {
    let secret = Secret::new(context.ambient.entropy.uuid().to_string());
    create_with_secret(context, new, secret).await
}

/// Makes an environment whose first key has the given secret (`PATCHBAY_API_KEY_<ENV>`).
pub async fn create_with_secret(
    context: &Context,
    new: NewEnvironment,
    secret: Secret,
) -> Result<CreatedEnvironment, EnvironmentError> {
    let production = new.production()?;
    let (uuid, key_uuid) = (context.ambient.entropy.uuid(), context.ambient.entropy.uuid());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                if environments::find_by_name(tx, new.account, new.name.as_str())
                    .await?
                    .is_some()
                {
                    return Err(EnvironmentError::NameTaken);
                }
                let environment = environments::create(
                    tx,
                    &environments::NewEnvironment {
                        uuid,
                        account_id: new.account,
                        name: new.name,
                        is_production: production,
                        settings: new.settings,
                        signing_key: secret.clone(),
                    },
                )
                .await?;
                let key = NewApiKey {
                    account: environment.account_id,
                    environment: Some(environment.id),
                    display_name: DEFAULT_KEY_NAME.to_owned(),
                    scopes: ScopeSet::full_environment(),
                };
                api_keys::insert(tx, &key, key_uuid, secret.clone()).await?;
                Ok(CreatedEnvironment { environment, secret })
            })
        })
        .await
}

/// The live environments of an account, oldest first.
pub async fn list(context: &Context, account: AccountId) -> Result<Vec<Environment>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { environments::list(tx, account).await }))
        .await
}

/// One live environment by number, cached.
pub async fn get(context: &Context, id: EnvironmentId) -> Result<Option<Arc<Environment>>, DbError> {
    if let Some(environment) = context.caches.environment(id) {
        return Ok(Some(environment));
    }
    let epoch = context.caches.epoch(&id);
    let found = context
        .store
        .read(move |tx| Box::pin(async move { environments::find(tx, id).await }))
        .await?;
    let Some(environment) = found.map(Arc::new) else {
        return Ok(None);
    };
    context
        .caches
        .fill(epoch, Entry::Environment(environment.clone()));
    Ok(Some(environment))
}

/// An environment by any of the names the wire and the command line use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvironmentRef {
    /// Number.
    Id(EnvironmentId),
    /// UUID.
    Uuid(Uuid),
    /// Name.
    Name(String),
}

/// A live environment by its UUID, for callers who have nothing else: providers.
pub async fn by_uuid(context: &Context, uuid: Uuid) -> Result<Option<Environment>, DbError> {
    let found = context
        .store
        .read(move |tx| Box::pin(async move { environments::find_by_uuid(tx, uuid).await }))
        .await?;
    Ok(found.filter(|environment| environment.deleted_at.is_none()))
}

/// One live environment of an account.
pub async fn find(
    context: &Context,
    account: AccountId,
    by: EnvironmentRef,
) -> Result<Environment, EnvironmentError> {
    context
        .store
        .read(move |tx| Box::pin(async move { resolve(tx, account, &by).await }))
        .await
}

/// Deletes an environment with its integrations and connections; purged 31 days later.
pub async fn delete(
    context: &Context,
    account: AccountId,
    by: EnvironmentRef,
) -> Result<(), EnvironmentError> {
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let environment = resolve(tx, account, &by).await?;
                if environment.name.as_str() == PRODUCTION {
                    return Err(EnvironmentError::CannotDeleteProd);
                }
                environments::soft_delete(tx, environment.id).await?;
                tx.notify(Changed::Environment(environment.id).notice());
                Ok(())
            })
        })
        .await?;
    context.caches.forget(&Changed::Everything);
    Ok(())
}

/// Changes settings in one transaction; `change` sees the current ones.
pub async fn update_settings(
    context: &Context,
    account: AccountId,
    by: EnvironmentRef,
    change: impl FnOnce(&mut EnvironmentSettings) + Send + 'static,
) -> Result<Environment, EnvironmentError> {
    let updated = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut environment = resolve(tx, account, &by).await?;
                change(&mut environment.settings);
                environments::update_settings(tx, environment.id, &environment.settings).await?;
                tx.notify(Changed::Environment(environment.id).notice());
                Ok::<_, EnvironmentError>(environment)
            })
        })
        .await?;
    context.caches.forget(&Changed::Environment(updated.id));
    Ok(updated)
}

/// How a signing key is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRotation {
    /// The old key stays valid for [`crate::Settings::signing_key_grace`].
    Graceful,
    /// The old key, and one whose grace period lasts, end at once: they may be known to others.
    Immediate,
}

/// Replaces the signing key and answers the environment with the new one. Other nodes may sign with the old one for
/// a moment.
///
/// During the grace period of a graceful rotation webhooks carry signatures of both keys where the format has room
/// for them ([`Environment::signing_keys`]), and another graceful rotation is refused: it would cut off receivers
/// that know only the first key.
pub async fn rotate_signing_key(
    context: &Context,
    id: EnvironmentId,
    rotation: KeyRotation,
) -> Result<Environment, EnvironmentError> {
    let fresh = Secret::new(context.ambient.entropy.uuid().to_string());
    let grace = context.settings.signing_key_grace;
    let rotated = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let found = environments::find(tx, id).await?;
                let found = found.ok_or(EnvironmentError::Unknown)?;
                if rotation == KeyRotation::Immediate || grace.is_zero() {
                    environments::set_signing_key(tx, id, &fresh).await?;
                } else {
                    let ends = tx.now().checked_add(grace).unwrap_or(Timestamp::MAX);
                    if !environments::rotate_signing_key(tx, id, &fresh, ends).await? {
                        let valid = found.previous_signing_key.map(|previous| previous.valid_until);
                        return Err(EnvironmentError::RotationInGrace(valid.unwrap_or(ends)));
                    }
                }
                tx.notify(Changed::Environment(id).notice());
                let rotated = environments::find(tx, id).await?;
                rotated.ok_or(EnvironmentError::Unknown)
            })
        })
        .await?;
    context.caches.forget(&Changed::Environment(id));
    Ok(rotated)
}

/// The variables of an environment, by name.
pub async fn variables(context: &Context, id: EnvironmentId) -> Result<Vec<EnvironmentVariable>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { environments::variables(tx, id).await }))
        .await
}

/// Sets variables, or removes those whose value is `None`.
pub async fn set_variables(
    context: &Context,
    id: EnvironmentId,
    changes: Vec<(String, Option<Secret>)>,
) -> Result<(), DbError> {
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                for (name, value) in &changes {
                    match value {
                        Some(value) => environments::set_variable(tx, id, name, value).await?,
                        None => environments::unset_variable(tx, id, name).await?,
                    }
                }
                tx.notify(Changed::Environment(id).notice());
                Ok(())
            })
        })
        .await
}

async fn resolve(
    tx: &mut Tx,
    account: AccountId,
    by: &EnvironmentRef,
) -> Result<Environment, EnvironmentError> {
    let found = match by {
        EnvironmentRef::Id(id) => environments::find(tx, *id).await?,
        EnvironmentRef::Uuid(uuid) => environments::find_by_uuid(tx, *uuid).await?,
        EnvironmentRef::Name(name) => environments::find_by_name(tx, account, name).await?,
    };
    found
        .filter(|environment| environment.account_id == account)
        .ok_or(EnvironmentError::Unknown)
}
