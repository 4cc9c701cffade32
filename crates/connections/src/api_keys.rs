//! API keys: who is calling, and the keys' own life (api-core §2, §6.3 to §6.5).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use patchbay_store::db::DbError;
use patchbay_store::{accounts, api_keys, environments};
use patchbay_types::api_keys::{ApiKey, ApiKeyWithSecret};
use patchbay_types::environments::Environment;
use patchbay_types::{AccountId, ApiKeyId, EnvironmentId, ScopeSet, Secret};
use uuid::Uuid;

use crate::caches::{Changed, Entry};
use crate::context::Context;

/// Most live keys of one environment, and of one account.
pub const MAX_KEYS: usize = 50;

/// Who a key is.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyPrincipal {
    /// The key.
    pub key: ApiKeyId,
    /// Its account.
    pub account: AccountId,
    /// Its environment; none for an account key, or if the environment was deleted.
    pub environment: Option<EnvironmentId>,
    /// What it may do.
    pub scopes: Arc<ScopeSet>,
}

/// Why a key could not be made, read or revoked.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// No such environment in this account.
    #[error("no such environment")]
    UnknownEnvironment,
    /// No such key there.
    #[error("no such key")]
    UnknownKey,
    /// A live key of that environment (or account) has the name.
    #[error("a key of that name exists")]
    NameTaken,
    /// [`MAX_KEYS`] live keys exist.
    #[error("the limit of {MAX_KEYS} keys is reached")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(DbError),
}

impl From<DbError> for ApiKeyError {
    /// Of two requests for one name, one may get as far as the unique index.
    fn from(error: DbError) -> Self {
        match error {
            DbError::Conflict { constraint }
                if matches!(
                    constraint.as_str(),
                    "api_key_live_environment_name" | "api_key_live_account_name"
                ) =>
            {
                Self::NameTaken
            }
            error => Self::Store(error),
        }
    }
}

/// Looks a secret up. `None` is an unknown or revoked key; an error is our own failure and must not read as one.
pub async fn authenticate(context: &Context, secret: &str) -> Result<Option<Arc<KeyPrincipal>>, DbError> {
    let hash = secret_hash(secret);
    let principal = if let Some(principal) = context.caches.key(&hash) {
        principal
    } else {
        let epoch = context.caches.epoch(&hash);
        let found = context
            .store
            .read(move |tx| Box::pin(async move { api_keys::find_by_hash(tx, &hash).await }))
            .await?;
        let Some(key) = found else { return Ok(None) };
        let principal = Arc::new(KeyPrincipal {
            key: key.id,
            account: key.account_id,
            environment: key.environment_id,
            scopes: Arc::new(key.scopes),
        });
        context.caches.fill(epoch, Entry::Key(hash, principal.clone()));
        principal
    };
    context.usage.key_used(principal.key, context.ambient.now());
    Ok(Some(principal))
}

/// What a new key is.
#[derive(Clone, Debug, PartialEq)]
pub struct NewApiKey {
    /// Owner.
    pub account: AccountId,
    /// Environment; none makes an account key.
    pub environment: Option<EnvironmentId>,
    /// Name for people.
    pub display_name: String,
    /// What it may do.
    pub scopes: ScopeSet,
}

/// Makes a key. Its secret is in the result, and later only in [`get`].
pub async fn create(context: &Context, new: NewApiKey) -> Result<ApiKeyWithSecret, ApiKeyError> {
    let uuid = context.ambient.entropy.uuid();
    let secret = Secret::new(context.ambient.entropy.uuid().to_string());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                if let Some(environment) = new.environment {
                    let found = environments::find(tx, environment).await?;
                    if found.is_none_or(|found| found.account_id != new.account) {
                        return Err(ApiKeyError::UnknownEnvironment);
                    }
                }
                let live = api_keys::list(tx, new.account, new.environment).await?;
                if live.iter().any(|key| key.display_name == new.display_name) {
                    return Err(ApiKeyError::NameTaken);
                }
                if live.len() >= MAX_KEYS {
                    return Err(ApiKeyError::TooMany);
                }
                Ok(insert(tx, &new, uuid, secret).await?)
            })
        })
        .await
}

/// Whether provisioning made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provision {
    /// It was there.
    Found,
    /// It was made; it also signs webhooks from now on.
    Made,
}

/// Gives an environment a key that the operator fixed. A new one also becomes the signing key, which applications
/// that know only the one secret rely on; one that was there leaves the signing key as it is, which may have been
/// rotated since.
pub async fn provision(
    context: &Context,
    environment: &Environment,
    display_name: &str,
    secret: &Secret,
) -> Result<Provision, DbError> {
    let key = api_keys::NewApiKey {
        uuid: context.ambient.entropy.uuid(),
        account_id: environment.account_id,
        environment_id: Some(environment.id),
        display_name: display_name.to_owned(),
        scopes: ScopeSet::full_environment(),
        secret: secret.clone(),
        secret_hash: secret_hash(secret.expose()),
    };
    let id = environment.id;
    let done = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let (_, done) = api_keys::provision(tx, &key).await?;
                if done != api_keys::Provisioned::Created {
                    return Ok::<_, DbError>(Provision::Found);
                }
                environments::set_signing_key(tx, id, &key.secret).await?;
                tx.notify(Changed::Everything.notice());
                Ok(Provision::Made)
            })
        })
        .await?;
    if done == Provision::Made {
        context.caches.forget(&Changed::Everything);
    }
    Ok(done)
}

/// The live keys of an environment, or of the account.
pub async fn list(
    context: &Context,
    account: AccountId,
    environment: Option<EnvironmentId>,
) -> Result<Vec<ApiKey>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { api_keys::list(tx, account, environment).await }))
        .await
}

/// One live key with its secret.
pub async fn get(
    context: &Context,
    account: AccountId,
    environment: Option<EnvironmentId>,
    key: KeyRef,
) -> Result<ApiKeyWithSecret, ApiKeyError> {
    context
        .store
        .read(move |tx| {
            Box::pin(async move {
                let id = resolve(tx, account, environment, &key).await?;
                api_keys::get_with_secret(tx, id)
                    .await?
                    .ok_or(ApiKeyError::UnknownKey)
            })
        })
        .await
}

/// Revokes a key, effective at once.
pub async fn revoke(
    context: &Context,
    account: AccountId,
    environment: Option<EnvironmentId>,
    key: KeyRef,
) -> Result<(), ApiKeyError> {
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let id = resolve(tx, account, environment, &key).await?;
                api_keys::soft_delete(tx, id).await?;
                tx.notify(Changed::Everything.notice());
                Ok::<_, ApiKeyError>(())
            })
        })
        .await?;
    context.caches.forget(&Changed::Everything);
    Ok(())
}

/// A key by either of its ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    /// Number.
    Id(ApiKeyId),
    /// UUID.
    Uuid(Uuid),
}

/// The account of a self-hosted server, made on first use.
pub async fn default_account(context: &Context) -> Result<AccountId, DbError> {
    let uuid = context.ambient.entropy.uuid();
    context
        .store
        .write(move |tx| Box::pin(async move { accounts::ensure_default(tx, uuid).await }))
        .await
}

async fn resolve(
    tx: &mut patchbay_store::db::Tx,
    account: AccountId,
    environment: Option<EnvironmentId>,
    key: &KeyRef,
) -> Result<ApiKeyId, ApiKeyError> {
    let live = api_keys::list(tx, account, environment).await?;
    live.iter()
        .find(|candidate| match key {
            KeyRef::Id(id) => candidate.id == *id,
            KeyRef::Uuid(uuid) => candidate.uuid == *uuid,
        })
        .map(|found| found.id)
        .ok_or(ApiKeyError::UnknownKey)
}

pub(crate) async fn insert(
    tx: &mut patchbay_store::db::Tx,
    new: &NewApiKey,
    uuid: Uuid,
    secret: Secret,
) -> Result<ApiKeyWithSecret, DbError> {
    let hash = secret_hash(secret.expose());
    let key = api_keys::create(
        tx,
        &api_keys::NewApiKey {
            uuid,
            account_id: new.account,
            environment_id: new.environment,
            display_name: new.display_name.clone(),
            scopes: new.scopes.clone(),
            secret: secret.clone(),
            secret_hash: hash,
        },
    )
    .await?;
    Ok(ApiKeyWithSecret { key, secret })
}

/// Keys are 122 random bits: a plain SHA-256 is as good as a password hash, and a thousand times cheaper.
pub(crate) fn secret_hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}
