use std::borrow::Cow;

use serde_json::Value;

use super::issue::{Issues, Path};
use super::{Kind, Schema, wrong};

/// Rules of an array.
#[derive(Clone, Debug)]
#[must_use]
pub struct Array {
    item: Box<Schema>,
    least: Option<usize>,
    most: Option<usize>,
    alone: bool,
}

/// An array of `item`s.
pub fn array(item: impl Into<Schema>) -> Array {
    Array {
        item: Box::new(item.into()),
        least: None,
        most: None,
        alone: false,
    }
}

impl Array {
    /// At least `items` items.
    pub fn min(mut self, items: usize) -> Self {
        self.least = Some(items);
        self
    }

    /// At most `items` items.
    pub fn max(mut self, items: usize) -> Self {
        self.most = Some(items);
        self
    }

    /// An item alone counts as an array of one, as a query parameter given once does.
    pub fn or_alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(super) fn parts(&self) -> (&Schema, Option<usize>, Option<usize>) {
        (&self.item, self.least, self.most)
    }

    pub(super) fn check(&self, input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        let items = match input {
            Some(Value::Array(items)) => items,
            Some(item) if self.alone => {
                let item = self.item.check(Some(item), at, issues)?;
                return Some(Value::Array(vec![item]));
            }
            other => return wrong("array", other.as_ref(), at, issues),
        };
        let count = items.len();
        let mut output = Vec::with_capacity(count);
        for (index, item) in items.into_iter().enumerate() {
            output.extend(self.item.check(Some(item), at.index(index), issues));
        }
        if let Some(least) = self.least.filter(|least| count < *least) {
            issues.note(
                at,
                "too_small",
                format!("Too small: expected array to have >={least} items"),
            );
        }
        if let Some(most) = self.most.filter(|most| count > *most) {
            issues.note(
                at,
                "too_big",
                format!("Too big: expected array to have <={most} items"),
            );
        }
        Some(Value::Array(output))
    }
}

/// A value that fits one of `options`; the first that fits decides what it becomes.
pub fn any_of(options: impl IntoIterator<Item = Schema>) -> Schema {
    Kind::AnyOf(options.into_iter().collect()).into()
}

pub(super) fn check_any_of(
    options: &[Schema],
    input: Option<&Value>,
    at: Path<'_>,
    issues: &mut Issues,
) -> Option<Value> {
    let from = issues.len();
    for option in options {
        let value = option.check(input.cloned(), at, issues);
        if issues.len() == from {
            return value;
        }
        // What is wrong with each option is not told.
        issues.truncate(from);
    }
    issues.abort(at, "invalid_union", "Invalid input");
    None
}

/// Rules of an object whose shape hangs on one of its fields.
#[derive(Clone, Debug)]
#[must_use]
pub struct Discriminated {
    field: &'static str,
    branches: Vec<(&'static str, Schema)>,
    message: Cow<'static, str>,
}

/// An object whose text in `field` picks one of the branches.
pub fn discriminated(field: &'static str) -> Discriminated {
    Discriminated {
        field,
        branches: Vec::new(),
        message: "Invalid input".into(),
    }
}

impl Discriminated {
    /// Adds the shape for `value`; the schema must itself declare the field (as [`super::literal`]).
    pub fn branch(mut self, value: &'static str, schema: impl Into<Schema>) -> Self {
        self.branches.push((value, schema.into()));
        self
    }

    /// Words the issue of a value that picks no branch.
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    pub(super) fn parts(&self) -> (&'static str, &[(&'static str, Schema)]) {
        (self.field, &self.branches)
    }

    pub(super) fn check(&self, input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        let Some(Value::Object(object)) = &input else {
            return wrong("object", input.as_ref(), at, issues);
        };
        let picked = object.get(self.field).and_then(Value::as_str);
        let branch = self.branches.iter().find(|(value, _)| picked == Some(value));
        let Some((_, schema)) = branch else {
            issues.abort(at.key(self.field), "invalid_union", self.message.clone());
            return None;
        };
        schema.check(input, at, issues)
    }
}
