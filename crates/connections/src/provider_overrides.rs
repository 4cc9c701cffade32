//! Provider definitions set while the server runs: a missing API added, a wrong one corrected, without a restart.
//!
//! They lie over the binary's and the operator's files on every node. A definition with `alias` naming its own
//! provider varies what it overrides, so that what it leaves alone follows the next release. Every version is kept
//! for a while, so that a bad change can be taken back.

use std::sync::Arc;

use patchbay_catalog::catalogue::Reloaded;
use patchbay_catalog::{Finding, Severity, StoredDefinition};
use patchbay_store::db::{DbError, Topic};
use patchbay_store::provider_overrides;
use patchbay_types::JsonMap;
use serde_json::Value;

pub use patchbay_store::provider_overrides::ProviderOverride;

use crate::context::Context;
use crate::notices::{self, Heard};

/// Why a definition was not set.
#[derive(Debug, thiserror::Error)]
pub enum OverrideError {
    /// It cannot be used; why, in detail.
    #[error("the definition cannot be used")]
    Invalid(Vec<Finding>),
    /// There is no such provider, or none was set.
    #[error("no such definition")]
    Unknown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

/// A definition now in use.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// The version just made.
    pub current: ProviderOverride,
    /// What looks wrong but does not keep it from being used.
    pub warnings: Vec<Finding>,
}

/// Sets the definition of `provider`. It is in use here when this returns, and soon on every node.
pub async fn set(context: &Arc<Context>, provider: &str, definition: JsonMap) -> Result<Set, OverrideError> {
    let candidate = StoredDefinition {
        provider: provider.to_owned(),
        definition: definition.clone(),
    };
    let catalogue = context.catalogue.clone();
    let tried = tokio::task::spawn_blocking(move || catalogue.try_stored(candidate));
    let (found, findings) = tried.await.map_err(|error| broken(&error))?;
    if found.is_none() {
        return Err(OverrideError::Invalid(findings));
    }
    let current = append(context, provider, Some(definition)).await?;
    Ok(Set {
        current,
        warnings: findings,
    })
}

/// Changes what `provider` says now by a merge patch (RFC 7396). What is stored are the keys that differ from the
/// definition without overrides, as a variation of it.
pub async fn patch(context: &Arc<Context>, provider: &str, patch: JsonMap) -> Result<Set, OverrideError> {
    let Some(now) = context.catalogue.get(provider) else {
        return Err(OverrideError::Unknown);
    };
    let mut patched = Value::Object(now.wire.clone());
    merge(&mut patched, Value::Object(patch));
    let Value::Object(patched) = patched else {
        return Err(OverrideError::Unknown);
    };
    let (catalogue, name) = (context.catalogue.clone(), provider.to_owned());
    let shipped = tokio::task::spawn_blocking(move || catalogue.as_shipped(&name));
    let shipped = shipped.await.map_err(|error| broken(&error))?;
    let definition = match shipped {
        // A variation cannot leave a key of its base out; only a whole definition can.
        Some(shipped) if shipped.wire.keys().all(|key| patched.contains_key(key)) => {
            let mut varied = JsonMap::new();
            varied.insert("alias".to_owned(), provider.into());
            varied.extend(
                patched
                    .into_iter()
                    .filter(|(key, value)| shipped.wire.get(key) != Some(value)),
            );
            varied
        }
        _ => patched,
    };
    set(context, provider, definition).await
}

/// Removes what was set of `provider`: it is again what the binary and the files say.
pub async fn remove(context: &Arc<Context>, provider: &str) -> Result<ProviderOverride, OverrideError> {
    let name = provider.to_owned();
    let removed = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                if !provider_overrides::is_set(tx, &name).await? {
                    return Ok(None);
                }
                provider_overrides::append(tx, &name, None).await.map(Some)
            })
        })
        .await?;
    let removed = removed.ok_or(OverrideError::Unknown)?;
    load(context).await?;
    Ok(removed)
}

/// What is set, by name.
pub async fn list(context: &Context) -> Result<Vec<ProviderOverride>, DbError> {
    context
        .store
        .read(|tx| Box::pin(async move { provider_overrides::current(tx).await }))
        .await
}

/// Every version kept of `provider`, newest first; removals included.
pub async fn versions(context: &Context, provider: &str) -> Result<Vec<ProviderOverride>, DbError> {
    let provider = provider.to_owned();
    context
        .store
        .read(move |tx| Box::pin(async move { provider_overrides::versions(tx, &provider).await }))
        .await
}

/// Puts what is stored to use, then follows the changes of other nodes until shutdown. Before the server serves.
pub async fn start(context: &Arc<Context>) -> Result<(), DbError> {
    // Subscribed first: a change from here on is heard.
    let notices = context.store.subscribe();
    load(context).await?;
    notices::follow(context, notices, |context, heard| async move {
        let concerns = match heard {
            Heard::Notice(notice) => matches!(notice.topic, Topic::Providers | Topic::Everything),
            Heard::Missed => true,
        };
        if !concerns {
            return;
        }
        if let Err(error) = load(&context).await {
            tracing::warn!(%error, "changed provider definitions could not be read; the known ones stay in use");
        }
    });
    Ok(())
}

async fn append(
    context: &Arc<Context>,
    provider: &str,
    definition: Option<JsonMap>,
) -> Result<ProviderOverride, DbError> {
    let provider = provider.to_owned();
    let made = context
        .store
        .write(move |tx| {
            Box::pin(async move { provider_overrides::append(tx, &provider, definition.as_ref()).await })
        })
        .await?;
    load(context).await?;
    Ok(made)
}

async fn load(context: &Context) -> Result<(), DbError> {
    // One at a time, so that who read earlier does not overwrite what was read later.
    let _turn = context.overrides_turn.lock().await;
    let stored = list(context).await?;
    let definitions = stored
        .into_iter()
        .filter_map(|one| {
            Some(StoredDefinition {
                provider: one.provider,
                definition: one.definition?,
            })
        })
        .collect();
    let catalogue = context.catalogue.clone();
    let swap = tokio::task::spawn_blocking(move || catalogue.set_stored(definitions));
    let (reloaded, findings) = swap.await.map_err(|error| broken(&error))?;
    if reloaded == Reloaded::Swapped {
        let providers = context.catalogue.current().len();
        tracing::info!(providers, "provider definitions changed");
        for finding in findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
        {
            tracing::error!(%finding, "a provider definition is not used");
        }
    }
    Ok(())
}

fn broken(error: &tokio::task::JoinError) -> DbError {
    DbError::internal(format!("building the catalogue failed: {error}"))
}

/// RFC 7396 §2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(JsonMap::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The table of RFC 7396, appendix A, as far as objects are patched.
    #[test]
    fn patches_merge_as_the_rfc_says() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            let mut merged = target;
            merge(&mut merged, patch);
            assert_eq!(merged, result);
        }
    }
}
