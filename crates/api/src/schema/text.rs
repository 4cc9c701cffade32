use std::borrow::Cow;

use serde_json::{Map, Value, json};
use url::Url;

use super::issue::{Issues, Path};
use super::{Pattern, patterns, wrong};

/// Rules of a text. Every broken rule is reported, in the order the rules were given.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Text {
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Trim,
    Min(usize),
    Max(usize),
    Pattern(Pattern),
    StartsWith(&'static str),
    EndsWith(&'static str),
    Email,
    Url,
    UrlOrEmpty,
    Uuid,
}

/// A text.
pub fn string() -> Text {
    Text::default()
}

impl Text {
    /// At least `length` characters.
    pub fn min(self, length: usize) -> Self {
        self.rule(Rule::Min(length))
    }

    /// At most `length` characters.
    pub fn max(self, length: usize) -> Self {
        self.rule(Rule::Max(length))
    }

    /// Matches `pattern`.
    pub fn pattern(self, pattern: Pattern) -> Self {
        self.rule(Rule::Pattern(pattern))
    }

    /// Begins with `prefix`.
    pub fn starts_with(self, prefix: &'static str) -> Self {
        self.rule(Rule::StartsWith(prefix))
    }

    /// Ends with `suffix`.
    pub fn ends_with(self, suffix: &'static str) -> Self {
        self.rule(Rule::EndsWith(suffix))
    }

    /// An e-mail address (api-core §1.7).
    pub fn email(self) -> Self {
        self.rule(Rule::Email)
    }

    /// A WHATWG URL of any scheme; white space around it is dropped.
    pub fn url(self) -> Self {
        self.rule(Rule::Url)
    }

    /// A WHATWG URL, or nothing, which clears what is stored.
    pub fn url_or_empty(self) -> Self {
        self.rule(Rule::UrlOrEmpty)
    }

    /// A UUID of any version.
    pub fn uuid(self) -> Self {
        self.rule(Rule::Uuid)
    }

    /// White space around the text is dropped before the rules that follow.
    pub fn trim(self) -> Self {
        self.rule(Rule::Trim)
    }

    fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub(super) fn check(&self, input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        let Some(Value::String(mut text)) = input else {
            return wrong("string", input.as_ref(), at, issues);
        };
        self.check_text(&mut text, at, issues);
        Some(Value::String(text))
    }

    /// The rules alone, for a text in hand such as a record's key.
    pub(super) fn check_text(&self, text: &mut String, at: Path<'_>, issues: &mut Issues) {
        for rule in &self.rules {
            let (code, message): (_, Cow<'static, str>) = match *rule {
                Rule::Trim => {
                    trim(text);
                    continue;
                }
                Rule::Min(length) if shorter_than(text, length) => (
                    "too_small",
                    format!("Too small: expected string to have >={length} characters").into(),
                ),
                Rule::Max(length) if longer_than(text, length) => (
                    "too_big",
                    format!("Too big: expected string to have <={length} characters").into(),
                ),
                Rule::Pattern(pattern) if !(pattern.matches)(text) => (
                    "invalid_format",
                    format!("Invalid string: must match pattern /{}/", pattern.source).into(),
                ),
                Rule::StartsWith(prefix) if !text.starts_with(prefix) => (
                    "invalid_format",
                    format!("Invalid string: must start with \"{prefix}\"").into(),
                ),
                Rule::EndsWith(suffix) if !text.ends_with(suffix) => (
                    "invalid_format",
                    format!("Invalid string: must end with \"{suffix}\"").into(),
                ),
                Rule::Email if !patchbay_types::tags::is_email(text) => {
                    ("invalid_format", "Invalid email address".into())
                }
                Rule::Url | Rule::UrlOrEmpty => {
                    trim(text);
                    let empty_is_fine = matches!(rule, Rule::UrlOrEmpty) && text.is_empty();
                    if empty_is_fine || Url::parse(text).is_ok() {
                        continue;
                    }
                    ("invalid_format", "Invalid URL".into())
                }
                Rule::Uuid if !patterns::is_uuid(text) => ("invalid_format", "Invalid UUID".into()),
                _ => continue,
            };
            issues.note(at, code, message);
        }
    }

    pub(super) fn emit(&self, schema: &mut Map<String, Value>) {
        schema.insert("type".into(), "string".into());
        let mut patterns = Vec::new();
        for rule in &self.rules {
            match *rule {
                Rule::Trim => {}
                Rule::Min(length) => drop(schema.insert("minLength".into(), length.into())),
                Rule::Max(length) => drop(schema.insert("maxLength".into(), length.into())),
                Rule::Pattern(pattern) => patterns.push(pattern.source.to_owned()),
                Rule::StartsWith(prefix) => patterns.push(format!("^{}", escape(prefix))),
                Rule::EndsWith(suffix) => patterns.push(format!("{}$", escape(suffix))),
                Rule::Email => drop(schema.insert("format".into(), "email".into())),
                Rule::Url => drop(schema.insert("format".into(), "uri".into())),
                Rule::UrlOrEmpty => {
                    drop(schema.insert("anyOf".into(), json!([{"format": "uri"}, {"const": ""}])));
                }
                Rule::Uuid => drop(schema.insert("format".into(), "uuid".into())),
            }
        }
        if patterns.len() == 1 {
            schema.extend(patterns.pop().map(|only| ("pattern".to_owned(), only.into())));
        } else if !patterns.is_empty() {
            let all: Vec<Value> = patterns.into_iter().map(|one| json!({"pattern": one})).collect();
            schema.insert("allOf".into(), all.into());
        }
    }
}

/// Drops what ECMAScript's `String.prototype.trim` drops.
fn trim(text: &mut String) {
    let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if trimmed.len() != text.len() {
        *text = trimmed.to_owned();
    }
}

fn shorter_than(text: &str, length: usize) -> bool {
    text.len() < length || text.chars().take(length).count() < length
}

fn longer_than(text: &str, length: usize) -> bool {
    text.len() > length && text.chars().nth(length).is_some()
}

/// Escapes what a regular expression takes for syntax.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\^$.|?*+()[]{}/".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
