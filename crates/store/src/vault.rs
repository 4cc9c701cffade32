//! Encryption at rest.

use std::fmt;
use std::sync::Arc;

use patchbay_types::{AccountId, EnvironmentId};

/// Whose data key seals a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// Account-wide secrets.
    Account(AccountId),
    /// Everything inside one environment.
    Environment(EnvironmentId),
}

impl fmt::Display for KeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account:{id}"),
            Self::Environment(id) => write!(f, "environment:{id}"),
        }
    }
}

impl From<AccountId> for KeyScope {
    fn from(id: AccountId) -> Self {
        Self::Account(id)
    }
}

impl From<EnvironmentId> for KeyScope {
    fn from(id: EnvironmentId) -> Self {
        Self::Environment(id)
    }
}

/// The key ring and the unwrapped data keys, shared by all transactions of a store.
#[derive(Clone, Debug, Default)]
pub struct Vault(Arc<()>);
