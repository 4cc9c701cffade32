//! JSON whose strings are templates: bodies and parameters.

use patchbay_types::JsonMap;
use serde_json::Value;

use super::{Mode, Scope, Template, Unresolved};

/// A template under a name: a header, a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTemplate {
    /// As the definition writes it; header names in lower case.
    pub name: String,
    /// Its value.
    pub template: Template,
}

/// A JSON value whose string leaves are templates. Other scalars stay what they are.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateValue {
    /// A string.
    Text(Template),
    /// A number, boolean or null.
    Scalar(Value),
    /// A list.
    List(Vec<TemplateValue>),
    /// An object.
    Map(TemplateMap),
}

/// An object whose string leaves are templates, key order kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplateMap(Vec<(String, TemplateValue)>);

/// What becomes of a leaf without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnresolved {
    /// It stays as written.
    Keep,
    /// It is left out, and so is what becomes empty by that.
    Omit,
    /// The rendering fails.
    Fail,
}

impl TemplateMap {
    pub(crate) fn from_json(object: &JsonMap, parse: fn(&str) -> Template) -> Self {
        Self(
            object
                .iter()
                .map(|(key, value)| (key.clone(), TemplateValue::from_json(value, parse)))
                .collect(),
        )
    }

    pub(crate) fn from_entries(entries: Vec<(String, TemplateValue)>) -> Self {
        Self(entries)
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&TemplateValue> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The text under a key, if it is one without expressions.
    pub fn literal(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            TemplateValue::Text(template) => template.as_literal(),
            _ => None,
        }
    }

    /// Keys and values in the definition's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TemplateValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every template in it, nested ones included.
    pub fn templates(&self) -> Vec<&Template> {
        let mut all = Vec::new();
        for (_, value) in &self.0 {
            value.collect(&mut all);
        }
        all
    }

    /// The object with every leaf rendered.
    pub fn render(&self, scope: &Scope<'_>, on_unresolved: OnUnresolved) -> Result<JsonMap, Unresolved> {
        let mut object = JsonMap::new();
        let mut missing = Vec::new();
        for (key, value) in &self.0 {
            if let Some(value) = value.write(scope, on_unresolved, &mut missing) {
                object.insert(key.clone(), value);
            }
        }
        if missing.is_empty() {
            Ok(object)
        } else {
            Err(Unresolved { names: missing })
        }
    }
}

impl TemplateValue {
    pub(crate) fn from_json(value: &Value, parse: fn(&str) -> Template) -> Self {
        match value {
            Value::String(text) => Self::Text(parse(text)),
            Value::Array(items) => {
                Self::List(items.iter().map(|item| Self::from_json(item, parse)).collect())
            }
            Value::Object(object) => Self::Map(TemplateMap::from_json(object, parse)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Scalar(value.clone()),
        }
    }

    /// The value with every leaf rendered; none if it was left out.
    pub fn render(
        &self,
        scope: &Scope<'_>,
        on_unresolved: OnUnresolved,
    ) -> Result<Option<Value>, Unresolved> {
        let mut missing = Vec::new();
        let value = self.write(scope, on_unresolved, &mut missing);
        if missing.is_empty() {
            Ok(value)
        } else {
            Err(Unresolved { names: missing })
        }
    }

    fn collect<'t>(&'t self, all: &mut Vec<&'t Template>) {
        match self {
            Self::Text(template) => all.push(template),
            Self::Scalar(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.collect(all)),
            Self::Map(map) => map.0.iter().for_each(|(_, value)| value.collect(all)),
        }
    }

    fn write(
        &self,
        scope: &Scope<'_>,
        on_unresolved: OnUnresolved,
        missing: &mut Vec<String>,
    ) -> Option<Value> {
        match self {
            Self::Scalar(value) => Some(value.clone()),
            Self::Text(template) => match (template.render(scope, Mode::Text), on_unresolved) {
                (Ok(text), _) => Some(Value::String(text)),
                (Err(_), OnUnresolved::Keep) => Some(Value::String(template.render_lossy(scope, Mode::Text))),
                (Err(_), OnUnresolved::Omit) => None,
                (Err(unresolved), OnUnresolved::Fail) => {
                    for name in unresolved.names {
                        if !missing.contains(&name) {
                            missing.push(name);
                        }
                    }
                    None
                }
            },
            Self::List(items) => {
                let rendered: Vec<Value> = items
                    .iter()
                    .filter_map(|item| item.write(scope, on_unresolved, missing))
                    .collect();
                (!rendered.is_empty() || items.is_empty()).then_some(Value::Array(rendered))
            }
            Self::Map(map) => {
                let rendered: JsonMap = map
                    .0
                    .iter()
                    .filter_map(|(key, value)| {
                        Some((key.clone(), value.write(scope, on_unresolved, missing)?))
                    })
                    .collect();
                (!rendered.is_empty() || map.0.is_empty()).then_some(Value::Object(rendered))
            }
        }
    }
}
