//! Reads typed fields out of an entry, noting what does not fit, where, and which keys nobody asked for.

use patchbay_types::JsonMap;
use serde_json::Value;

use crate::finding::Severity;
use crate::suggest;
use crate::template::{NamedTemplate, Template, TemplateMap, TemplateValue};

/// How a context reads template text.
pub(crate) type ParseTemplate = fn(&str) -> Template;

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// A note about a place in an entry, not yet located in a file.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) severity: Severity,
    pub(crate) rule: &'static str,
    pub(crate) path: Vec<Step>,
    pub(crate) target: Target,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

/// What of the place is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Key,
    /// The value, that many characters into its text.
    Value(usize),
}

/// The dotted form of a path.
pub(crate) fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Index(index) => text.extend(["[", &index.to_string(), "]"]),
        }
    }
    text
}

pub(crate) struct Reader<'a> {
    object: &'a JsonMap,
    path: Vec<Step>,
    seen: Vec<&'static str>,
    notes: &'a mut Vec<Note>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(object: &'a JsonMap, notes: &'a mut Vec<Note>) -> Self {
        Self {
            object,
            path: Vec::new(),
            seen: Vec::with_capacity(80),
            notes,
        }
    }

    /// The raw value; null counts as absent.
    pub(crate) fn raw(&mut self, key: &'static str) -> Option<&'a Value> {
        self.seen.push(key);
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there, null included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// A string; numbers and booleans are taken by their text.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.raw(key)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            value => {
                self.wrong_type(key, "a string", value);
                None
            }
        }
    }

    /// A list of strings; one string is a list of one.
    pub(crate) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.raw(key) else {
            return Vec::new();
        };
        match value {
            Value::String(text) => vec![text.clone()],
            Value::Number(_) | Value::Bool(_) => vec![value.to_string()],
            Value::Array(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    match item {
                        Value::String(text) => texts.push(text.clone()),
                        Value::Number(_) | Value::Bool(_) => texts.push(item.to_string()),
                        _ => {
                            let path = self.at([Step::Key(key.to_owned()), Step::Index(index)]);
                            let message = format!("an item of `{key}` is a string, not {}", name_of(item));
                            self.error("wrong-type", path, message);
                        }
                    }
                }
                texts
            }
            _ => {
                self.wrong_type(key, "a list of strings", value);
                Vec::new()
            }
        }
    }

    pub(crate) fn flag(&mut self, key: &'static str) -> bool {
        match self.raw(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(value) => {
                self.wrong_type(key, "true or false", value);
                false
            }
        }
    }

    /// A whole number, not negative; a numeric string is accepted.
    pub(crate) fn count(&mut self, key: &'static str) -> Option<u64> {
        let value = self.raw(key)?;
        let count = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        if count.is_none() {
            self.wrong_type(key, "a whole number, zero or more", value);
        }
        count
    }

    pub(crate) fn number(&mut self, key: &'static str) -> Option<f64> {
        let value = self.raw(key)?;
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong_type(key, "a number", value);
        }
        number
    }

    /// One of a fixed set of words.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let suggestion = suggest::nearest(&text, names.iter().copied()).map(str::to_owned);
        let path = self.at([Step::Key(key.to_owned())]);
        let message = format!("`{text}` is not one of {}", names.join(", "));
        self.note(
            Severity::Error,
            "invalid-value",
            path,
            Target::Value(0),
            message,
            suggestion,
        );
        None
    }

    pub(crate) fn template(&mut self, key: &'static str, parse: ParseTemplate) -> Option<Template> {
        let template = parse(&self.text(key)?);
        let path = self.at([Step::Key(key.to_owned())]);
        self.template_problems(&template, &path);
        Some(template)
    }

    pub(crate) fn templates(&mut self, key: &'static str, parse: ParseTemplate) -> Vec<Template> {
        let templates: Vec<Template> = self.texts(key).iter().map(|text| parse(text)).collect();
        let is_list = self.object.get(key).is_some_and(Value::is_array);
        for (index, template) in templates.iter().enumerate() {
            let mut path = self.at([Step::Key(key.to_owned())]);
            if is_list {
                path.push(Step::Index(index));
            }
            self.template_problems(template, &path);
        }
        templates
    }

    /// A mapping of names to templates.
    pub(crate) fn named(&mut self, key: &'static str, parse: ParseTemplate) -> Vec<NamedTemplate> {
        let Some(object) = self.mapping(key) else {
            return Vec::new();
        };
        let mut named = Vec::with_capacity(object.len());
        for (name, value) in object {
            let path = self.at([Step::Key(key.to_owned()), Step::Key(name.clone())]);
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null => continue,
                _ => {
                    self.error(
                        "wrong-type",
                        path,
                        format!("`{name}` is a string, not {}", name_of(value)),
                    );
                    continue;
                }
            };
            let template = parse(&text);
            self.template_problems(&template, &path);
            named.push(NamedTemplate {
                name: name.clone(),
                template,
            });
        }
        named
    }

    /// A mapping of header names to templates; names are lower-cased.
    pub(crate) fn headers(&mut self, key: &'static str, parse: ParseTemplate) -> Vec<NamedTemplate> {
        let mut headers = self.named(key, parse);
        for header in &mut headers {
            let path = self.at([Step::Key(key.to_owned()), Step::Key(header.name.clone())]);
            if !header.name.bytes().all(is_header_byte) || header.name.is_empty() {
                let message = format!("`{}` cannot be a header's name", header.name);
                self.note(Severity::Error, "header-name", path, Target::Key, message, None);
            } else if header.name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                let lower = header.name.to_ascii_lowercase();
                let message = "header names are written in lower case".to_owned();
                self.note(
                    Severity::Warning,
                    "header-case",
                    path,
                    Target::Key,
                    message,
                    Some(lower.clone()),
                );
                header.name = lower;
            }
        }
        headers
    }

    /// A mapping whose string leaves are templates.
    pub(crate) fn tree(&mut self, key: &'static str, parse: ParseTemplate) -> TemplateMap {
        let Some(object) = self.mapping(key) else {
            return TemplateMap::default();
        };
        let tree = TemplateMap::from_json(object, parse);
        let path = self.at([Step::Key(key.to_owned())]);
        for (name, value) in tree.iter() {
            self.tree_problems(value, &with(&path, Step::Key(name.to_owned())));
        }
        tree
    }

    /// Any value whose string leaves are templates.
    pub(crate) fn value(&mut self, key: &'static str, parse: ParseTemplate) -> Option<TemplateValue> {
        let value = TemplateValue::from_json(self.raw(key)?, parse);
        let path = self.at([Step::Key(key.to_owned())]);
        self.tree_problems(&value, &path);
        Some(value)
    }

    /// A mapping of strings to strings.
    pub(crate) fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(object) = self.mapping(key) else {
            return Vec::new();
        };
        let mut pairs = Vec::with_capacity(object.len());
        for (name, value) in object {
            match value {
                Value::String(text) => pairs.push((name.clone(), text.clone())),
                Value::Number(_) | Value::Bool(_) => pairs.push((name.clone(), value.to_string())),
                _ => {
                    let path = self.at([Step::Key(key.to_owned()), Step::Key(name.clone())]);
                    self.error(
                        "wrong-type",
                        path,
                        format!("`{name}` is a string, not {}", name_of(value)),
                    );
                }
            }
        }
        pairs
    }

    pub(crate) fn mapping(&mut self, key: &'static str) -> Option<&'a JsonMap> {
        let value = self.raw(key)?;
        let object = value.as_object();
        if object.is_none() {
            self.wrong_type(key, "a mapping", value);
        }
        object
    }

    /// A mapping with known keys.
    pub(crate) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        let object = self.mapping(key)?;
        let path = self.at([Step::Key(key.to_owned())]);
        Some(self.child(object, path, read))
    }

    /// A list of mappings with known keys.
    pub(crate) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Reader<'_>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.raw(key) else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            self.wrong_type(key, "a list", value);
            return Vec::new();
        };
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = self.at([Step::Key(key.to_owned()), Step::Index(index)]);
            match item.as_object() {
                Some(object) => all.push(self.child(object, path, &mut read)),
                None => self.error("wrong-type", path, format!("an item of `{key}` is a mapping")),
            }
        }
        all
    }

    /// A mapping whose keys are names of the operator's choice and whose values are mappings with known keys.
    pub(crate) fn named_sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &mut Reader<'_>) -> T,
    ) -> Vec<T> {
        let Some(object) = self.mapping(key) else {
            return Vec::new();
        };
        let mut all = Vec::with_capacity(object.len());
        for (name, value) in object {
            let path = self.at([Step::Key(key.to_owned()), Step::Key(name.clone())]);
            match value.as_object() {
                Some(object) => all.push(self.child(object, path, |reader| read(name, reader))),
                None => self.error(
                    "wrong-type",
                    path,
                    format!("`{name}` is a mapping, not {}", name_of(value)),
                ),
            }
        }
        all
    }

    /// Keys that are accepted and have no effect.
    pub(crate) fn ignore(&mut self, keys: &[&'static str]) {
        self.seen.extend(keys);
    }

    /// Notes every key nobody asked for.
    pub(crate) fn finish(&mut self) {
        for key in self.object.keys() {
            if self.seen.contains(&key.as_str()) {
                continue;
            }
            let suggestion = suggest::nearest(key, self.seen.iter().copied()).map(str::to_owned);
            let path = self.at([Step::Key(key.clone())]);
            let message = format!("`{key}` is not a key of the format; it has no effect");
            self.note(
                Severity::Warning,
                "unknown-key",
                path,
                Target::Key,
                message,
                suggestion,
            );
        }
    }

    pub(crate) fn error(&mut self, rule: &'static str, path: Vec<Step>, message: String) {
        self.note(Severity::Error, rule, path, Target::Value(0), message, None);
    }

    pub(crate) fn note(
        &mut self,
        severity: Severity,
        rule: &'static str,
        path: Vec<Step>,
        target: Target,
        message: String,
        suggestion: Option<String>,
    ) {
        self.notes.push(Note {
            severity,
            rule,
            path,
            target,
            message,
            suggestion,
        });
    }

    /// The path of something below this reader.
    pub(crate) fn at<const N: usize>(&self, steps: [Step; N]) -> Vec<Step> {
        let mut path = self.path.clone();
        path.extend(steps);
        path
    }

    pub(crate) fn key(&self, key: &str) -> Vec<Step> {
        self.at([Step::Key(key.to_owned())])
    }

    fn child<T>(&mut self, object: &JsonMap, path: Vec<Step>, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        let mut reader = Reader {
            object,
            path,
            seen: Vec::with_capacity(20),
            notes: self.notes,
        };
        let value = read(&mut reader);
        reader.finish();
        value
    }

    fn wrong_type(&mut self, key: &'static str, wanted: &str, found: &Value) {
        let path = self.at([Step::Key(key.to_owned())]);
        self.error(
            "wrong-type",
            path,
            format!("`{key}` is {wanted}, not {}", name_of(found)),
        );
    }

    fn tree_problems(&mut self, value: &TemplateValue, path: &[Step]) {
        match value {
            TemplateValue::Text(template) => self.template_problems(template, path),
            TemplateValue::Scalar(_) => {}
            TemplateValue::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.tree_problems(item, &with(path, Step::Index(index)));
                }
            }
            TemplateValue::Map(map) => {
                for (name, value) in map.iter() {
                    self.tree_problems(value, &with(path, Step::Key(name.to_owned())));
                }
            }
        }
    }

    fn template_problems(&mut self, template: &Template, path: &[Step]) {
        for problem in template.problems() {
            let before = template
                .source()
                .get(..problem.offset)
                .unwrap_or_default()
                .chars()
                .count();
            self.note(
                problem.severity,
                "template",
                path.to_vec(),
                Target::Value(before),
                problem.message.clone(),
                problem.suggestion.clone(),
            );
        }
    }
}

fn with(path: &[Step], step: Step) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(step);
    path
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_header_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
