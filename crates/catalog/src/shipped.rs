//! What the shipped definitions say in Patchbay's own keys, for entries that mean the same in the reference format.
//!
//! There a provider's name chooses its token client, and a script's name what runs. A plain file says neither
//! `token_client` nor `post_connection`: such an entry gets what the shipped entry of its name, or of the script's
//! name, says. An entry that has the key, be it with `null`, keeps its own.

use std::collections::HashMap;
use std::sync::LazyLock;

use patchbay_types::JsonMap;
use serde_json::Value;

use crate::source;

static SHIPPED: LazyLock<Shipped> = LazyLock::new(|| Shipped::of(source::shipped_entries()));

/// A key that names a script, the suffix of such names, and the key that says what it does.
struct Named {
    script: &'static str,
    suffix: &'static str,
    steps: &'static str,
}

const NAMED: [Named; 3] = [
    Named {
        script: "post_connection_script",
        suffix: "PostConnection",
        steps: "post_connection",
    },
    Named {
        script: "pre_connection_deletion_script",
        suffix: "PreConnectionDeletion",
        steps: "revoke",
    },
    Named {
        script: "credentials_verification_script",
        suffix: "CredentialsVerification",
        steps: VERIFICATION,
    },
];

/// Stands for `proxy.verification`.
const VERIFICATION: &str = "verification";

#[derive(Default)]
struct Shipped {
    /// By provider.
    token_clients: HashMap<String, Value>,
    /// By key and name without its suffix.
    steps: HashMap<(&'static str, String), Value>,
}

impl Shipped {
    fn of(entries: Vec<(String, JsonMap)>) -> Self {
        let mut shipped = Self::default();
        for (name, entry) in entries {
            for named in &NAMED {
                if let (Some(script), Some(steps)) = (named.of(&entry), steps(&entry, named.steps)) {
                    shipped
                        .steps
                        .entry((named.steps, script.to_owned()))
                        .or_insert_with(|| steps.clone());
                }
            }
            if let Some(client) = entry.get("token_client") {
                shipped.token_clients.insert(name, client.clone());
            }
        }
        shipped
    }
}

impl Named {
    /// The script an entry names, without the suffix.
    fn of<'e>(&self, entry: &'e JsonMap) -> Option<&'e str> {
        let name = entry.get(self.script)?.as_str()?;
        let stem = name.strip_suffix(self.suffix).unwrap_or(name);
        (!stem.is_empty()).then_some(stem)
    }
}

fn steps<'e>(entry: &'e JsonMap, key: &str) -> Option<&'e Value> {
    if key == VERIFICATION {
        return entry.get("proxy")?.get(VERIFICATION);
    }
    entry.get(key)
}

/// Adds to an entry, aliases merged, what it leaves to its names.
pub(crate) fn complete(name: &str, entry: &mut JsonMap) {
    if !entry.contains_key("token_client")
        && let Some(client) = SHIPPED.token_clients.get(name)
    {
        entry.insert("token_client".to_owned(), client.clone());
    }
    for named in &NAMED {
        let Some(stem) = named.of(entry).filter(|_| steps(entry, named.steps).is_none()) else {
            continue;
        };
        let Some(known) = SHIPPED.steps.get(&(named.steps, stem.to_owned())) else {
            continue;
        };
        if named.steps == VERIFICATION {
            if let Some(Value::Object(proxy)) = entry.get_mut("proxy") {
                proxy.insert(VERIFICATION.to_owned(), known.clone());
            }
        } else {
            entry.insert(named.steps.to_owned(), known.clone());
        }
    }
}

/// The scripts of that key the shipped definitions say something about, without their suffix.
pub(crate) fn scripts(key: &str) -> impl Iterator<Item = &'static str> {
    let steps = NAMED
        .iter()
        .find(|named| named.script == key)
        .map(|named| named.steps);
    SHIPPED
        .steps
        .keys()
        .filter(move |(known, _)| steps == Some(*known))
        .map(|(_, stem)| stem.as_str())
}
