use serde_json::{Map, Value};

use super::issue::{Issues, Path};
use super::{Schema, Text, wrong};

/// Rules of an object with known fields. Unknown keys are refused unless said otherwise.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Object {
    fields: Vec<(&'static str, Schema)>,
    unknown: Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Unknown {
    #[default]
    Refused,
    Dropped,
    Kept,
}

/// An object; add its fields in the order their issues are to be reported.
pub fn object() -> Object {
    Object::default()
}

impl Object {
    /// Adds a field.
    pub fn field(mut self, name: &'static str, schema: impl Into<Schema>) -> Self {
        self.fields.push((name, schema.into()));
        self
    }

    /// Unknown keys are dropped silently.
    pub fn strip(mut self) -> Self {
        self.unknown = Unknown::Dropped;
        self
    }

    /// Unknown keys are kept.
    pub fn loose(mut self) -> Self {
        self.unknown = Unknown::Kept;
        self
    }

    pub(super) fn fields(&self) -> &[(&'static str, Schema)] {
        &self.fields
    }

    pub(super) fn unknown(&self) -> Unknown {
        self.unknown
    }

    pub(super) fn check(&self, input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        let Some(Value::Object(object)) = input else {
            return wrong("object", input.as_ref(), at, issues);
        };
        let mut known: Vec<Option<Value>> = vec![None; self.fields.len()];
        let mut unknown = Map::new();
        for (key, value) in object {
            match self.fields.iter().position(|(name, _)| *name == key) {
                Some(index) => known[index] = Some(value),
                None if self.unknown == Unknown::Dropped => {}
                None => drop(unknown.insert(key, value)),
            }
        }
        let mut output = Map::with_capacity(self.fields.len());
        for ((name, schema), value) in self.fields.iter().zip(known) {
            if let Some(value) = schema.check(value, at.key(name), issues) {
                output.insert((*name).to_owned(), value);
            }
        }
        if self.unknown == Unknown::Refused && !unknown.is_empty() {
            let quoted: Vec<String> = unknown.keys().map(|key| format!("\"{key}\"")).collect();
            let plural = if quoted.len() == 1 { "" } else { "s" };
            issues.abort(
                at,
                "unrecognized_keys",
                format!("Unrecognized key{plural}: {}", quoted.join(", ")),
            );
        } else {
            output.append(&mut unknown);
        }
        Some(Value::Object(output))
    }
}

/// Rules of an object whose keys are data.
#[derive(Clone, Debug)]
#[must_use]
pub struct Record {
    key: Text,
    value: Box<Schema>,
    most: Option<usize>,
}

/// An object with keys like `key` and values like `value`.
pub fn record(key: Text, value: impl Into<Schema>) -> Record {
    Record {
        key,
        value: Box::new(value.into()),
        most: None,
    }
}

impl Record {
    /// At most `entries` entries (`custom` otherwise).
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.most = Some(entries);
        self
    }

    pub(super) fn parts(&self) -> (&Text, &Schema, Option<usize>) {
        (&self.key, &self.value, self.most)
    }

    pub(super) fn check(&self, input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        let Some(Value::Object(object)) = input else {
            return wrong("record", input.as_ref(), at, issues);
        };
        let from = issues.len();
        let count = object.len();
        let mut output = Map::with_capacity(count);
        for (mut key, value) in object {
            let before = issues.len();
            let mut wanted = key.clone();
            self.key.check_text(&mut wanted, at, issues);
            if issues.len() > before {
                // Why the key is bad is not told, only that it is; its value is not looked at.
                issues.truncate(before);
                issues.abort(at.key(&key), "invalid_key", "Invalid key in record");
                continue;
            }
            key = wanted;
            if let Some(value) = self.value.check(Some(value), at.key(&key), issues) {
                output.insert(key, value);
            }
        }
        if let Some(most) = self.most
            && count > most
            && !issues.aborted_since(from)
        {
            issues.note(at, "custom", format!("At most {most} entries are allowed"));
        }
        Some(Value::Object(output))
    }
}
