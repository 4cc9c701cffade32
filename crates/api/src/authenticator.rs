//! Who owns a credential, asked of the domain.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use patchbay_connections::{Context, api_keys, connect_sessions, environments};
use patchbay_store::db::DbError;

use crate::authenticate::{AuthFailure, Authenticator, Caller, Principal, SANDBOX_PREFIX};

/// Knows the keys and sessions of a [`Context`].
#[derive(Clone, Debug)]
pub struct ContextAuthenticator(Arc<Context>);

impl ContextAuthenticator {
    /// An authenticator over the domain.
    pub fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    async fn by_key(&self, key: &str) -> Result<Principal, AuthFailure> {
        // Remote runs do not exist yet, so no token of one can be genuine.
        if key.starts_with(SANDBOX_PREFIX) {
            return Err(AuthFailure::Unknown);
        }
        let found = api_keys::authenticate(&self.0, key).await.map_err(failure)?;
        let owner = found.ok_or(AuthFailure::Unknown)?;
        // A key outlives its environment: it still says whose it is, and opens nothing.
        let environment = match owner.environment {
            Some(id) => environments::get(&self.0, id).await.map_err(failure)?,
            None => None,
        };
        Ok(Principal {
            account_id: owner.account,
            environment,
            caller: Caller::ApiKey {
                id: Some(owner.key),
                scopes: Arc::clone(&owner.scopes),
            },
            counted: true,
        })
    }

    async fn by_session(&self, token: &str) -> Result<Principal, AuthFailure> {
        let found = connect_sessions::authenticate(&self.0, token)
            .await
            .map_err(failure)?;
        let session = found.ok_or(AuthFailure::Unknown)?;
        let environment = environments::get(&self.0, session.environment_id)
            .await
            .map_err(failure)?
            .ok_or(AuthFailure::Unknown)?;
        Ok(Principal {
            account_id: session.account_id,
            environment: Some(environment),
            caller: Caller::Session(Arc::new(session)),
            counted: true,
        })
    }
}

impl Authenticator for ContextAuthenticator {
    fn api_key<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>> {
        Box::pin(self.by_key(key))
    }

    fn session<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>> {
        Box::pin(self.by_session(token))
    }

    /// Accounts are all younger than the end of public keys.
    fn public_key<'a>(&'a self, _key: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>> {
        Box::pin(std::future::ready(Err(AuthFailure::Deprecated)))
    }
}

fn failure(error: DbError) -> AuthFailure {
    match error {
        DbError::Unavailable(_) | DbError::Retry(_) => AuthFailure::Unavailable(error.into()),
        error => AuthFailure::Failed(error.into()),
    }
}
