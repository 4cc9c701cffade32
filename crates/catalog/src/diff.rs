//! What differs between two catalogues: for `patchbay catalog diff` and release notes.

use std::collections::BTreeSet;

use patchbay_types::JsonMap;
use serde_json::Value;

use crate::catalogue::Catalogue;

/// A provider that differs.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// Only the second catalogue has it.
    Added(String),
    /// Only the first catalogue has it.
    Removed(String),
    /// Both have it and it says different things.
    Changed {
        /// Its name.
        provider: String,
        /// What differs.
        values: Vec<ValueDifference>,
    },
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueDifference {
    /// Dotted path.
    pub path: String,
    /// In the first catalogue.
    pub before: Option<Value>,
    /// In the second.
    pub after: Option<Value>,
}

/// The differences from `before` to `after`, by name of the provider. Objects are compared key by key, lists as a
/// whole; the order of keys does not count.
pub fn diff(before: &Catalogue, after: &Catalogue) -> Vec<Difference> {
    let names: BTreeSet<&str> = before
        .iter()
        .chain(after)
        .map(|provider| provider.name.as_str())
        .collect();
    let difference = |name: &str| match (before.get(name), after.get(name)) {
        (None, _) => Some(Difference::Added(name.to_owned())),
        (_, None) => Some(Difference::Removed(name.to_owned())),
        (Some(before), Some(after)) => {
            let mut values = Vec::new();
            compare(&before.wire, &after.wire, "", &mut values);
            (!values.is_empty()).then(|| Difference::Changed {
                provider: name.to_owned(),
                values,
            })
        }
    };
    names.into_iter().filter_map(difference).collect()
}

fn compare(before: &JsonMap, after: &JsonMap, path: &str, values: &mut Vec<ValueDifference>) {
    let keys = before
        .keys()
        .chain(after.keys().filter(|key| !before.contains_key(*key)));
    for key in keys {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match (before.get(key), after.get(key)) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                compare(before, after, &path, values);
            }
            (before, after) if before == after => {}
            (before, after) => {
                values.push(ValueDifference {
                    path,
                    before: before.cloned(),
                    after: after.cloned(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_added_removed_and_changed_is_listed() {
        let load = |text| Catalogue::from_text("x.yaml", text).0;
        let before = load(
            "a: {display_name: A, auth_mode: NONE}\nb: {display_name: B, auth_mode: NONE, proxy: {retry: {after: [x]}}}\n",
        );
        let after = load(
            "c: {display_name: C, auth_mode: NONE}\nb: {auth_mode: NONE, display_name: B, proxy: {retry: {at: [x]}}}\n",
        );
        assert_eq!(diff(&before, &before), []);
        let value = |path: &str, before, after| ValueDifference {
            path: path.to_owned(),
            before,
            after,
        };
        assert_eq!(
            diff(&before, &after),
            [
                Difference::Removed("a".to_owned()),
                Difference::Changed {
                    provider: "b".to_owned(),
                    values: vec![
                        value("proxy.retry.after", Some(json!(["x"])), None),
                        value("proxy.retry.at", None, Some(json!(["x"]))),
                    ],
                },
                Difference::Added("c".to_owned()),
            ]
        );
    }
}
