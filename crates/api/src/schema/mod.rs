//! The validation language of the wire: what a query, a body or path parameters must look like.
//!
//! A [`Schema`] is built once, beside its route. [`Schema::parse`] checks a JSON value against it, reports every
//! issue of the layer together in the wording applications assert on (zod 4's, api-core §3.3), normalises the
//! value (trims, lower-cases tag keys, turns query text into numbers and booleans) and deserializes it into the
//! request's struct. [`Schema::json_schema`] emits JSON Schema 2020-12 from the same value, so that the OpenAPI
//! document and the validator cannot disagree.
//!
//! Order of issues: fields in the order they are declared, then unknown keys with the path of the object that
//! holds them, then refinements, which are skipped when a value's very type was wrong.

mod combine;
mod date;
mod emit;
mod issue;
mod number;
mod object;
pub mod patterns;
mod tags;
mod text;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use combine::{Array, Discriminated, any_of, array, discriminated};
pub use issue::Issue;
pub use number::{Number, coerced_number, number};
pub use object::{Object, Record, object, record};
pub use patterns::Pattern;
pub use tags::{end_user_tags, tags};
pub use text::{Text, string};

use issue::{Issues, Path};

/// What a value must look like. Build it with the functions of this module.
#[derive(Clone, Debug)]
#[must_use]
pub struct Schema {
    kind: Kind,
    presence: Presence,
    null: Null,
    effects: Vec<Effect>,
    description: Option<&'static str>,
}

/// Why a value did not become a request.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The caller's fault: everything that is wrong.
    #[error("{} issue(s)", .0.len())]
    Invalid(Vec<Issue>),
    /// Our fault: the schema accepts what the struct does not.
    #[error("schema and struct disagree")]
    Mismatch(#[source] serde_json::Error),
}

#[derive(Clone, Debug)]
enum Kind {
    Text(Text),
    Number(Number),
    Boolean,
    QueryBoolean,
    Choice(Vec<&'static str>),
    Date,
    Array(Array),
    Object(Object),
    Record(Record),
    AnyOf(Vec<Schema>),
    Discriminated(Discriminated),
    Tags,
    Anything,
}

#[derive(Clone, Debug)]
enum Presence {
    Required,
    Optional,
    Default(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Null {
    Refused,
    Allowed,
    Absent,
}

type RefineFn = dyn Fn(&Value, &mut Refinement) + Send + Sync;
type TransformFn = dyn Fn(Value) -> Value + Send + Sync;

#[derive(Clone)]
enum Effect {
    Refine(Arc<RefineFn>),
    Transform(Arc<TransformFn>),
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refine(_) => "Refine(..)",
            Self::Transform(_) => "Transform(..)",
        })
    }
}

/// Collects what a refinement finds; paths are relative to the refined value.
#[derive(Debug, Default)]
pub struct Refinement {
    issues: Vec<Issue>,
}

impl Refinement {
    /// Reports `issue`.
    pub fn report(&mut self, issue: Issue) {
        self.issues.push(issue);
    }
}

/// `true` or `false`.
pub fn boolean() -> Schema {
    Kind::Boolean.into()
}

/// Query text for yes or no, any case: `true 1 yes on y enabled` or `false 0 no off n disabled`.
pub fn query_boolean() -> Schema {
    Kind::QueryBoolean.into()
}

/// One of `options`.
pub fn choice(options: &[&'static str]) -> Schema {
    Kind::Choice(options.to_vec()).into()
}

/// Exactly `text`.
pub fn literal(text: &'static str) -> Schema {
    choice(&[text])
}

/// An instant: ISO 8601 text or epoch milliseconds. Normalised to RFC 3339 UTC text.
pub fn date() -> Schema {
    Kind::Date.into()
}

/// Any JSON value, or none. For data that is stored and answered as it came; say what it is in the description.
pub fn anything() -> Schema {
    Schema::from(Kind::Anything).optional()
}

impl From<Kind> for Schema {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            presence: Presence::Required,
            null: Null::Refused,
            effects: Vec::new(),
            description: None,
        }
    }
}

macro_rules! into_schema {
    ($($name:ident),*) => {$(
        impl From<$name> for Schema {
            fn from(rules: $name) -> Self {
                Kind::$name(rules).into()
            }
        }
    )*};
}
into_schema!(Text, Number, Array, Object, Record, Discriminated);

/// What can be said of every schema, whatever it describes.
pub trait SchemaExt: Into<Schema> {
    /// May be absent.
    fn optional(self) -> Schema {
        let mut schema = self.into();
        schema.presence = Presence::Optional;
        schema
    }

    /// May be absent and then is `value`, which is not checked.
    fn default(self, value: impl Into<Value>) -> Schema {
        let mut schema = self.into();
        schema.presence = Presence::Default(value.into());
        schema
    }

    /// May be `null`.
    fn nullable(self) -> Schema {
        let mut schema = self.into();
        schema.null = Null::Allowed;
        schema
    }

    /// May be absent, and `null` means absent.
    fn null_is_absent(self) -> Schema {
        let mut schema = self.into();
        schema.presence = Presence::Optional;
        schema.null = Null::Absent;
        schema
    }

    /// Adds a rule that spans the value. Skipped if the value's type or a part's type was wrong.
    fn refine(self, rule: impl Fn(&Value, &mut Refinement) + Send + Sync + 'static) -> Schema {
        let mut schema = self.into();
        schema.effects.push(Effect::Refine(Arc::new(rule)));
        schema
    }

    /// Changes an accepted value. Skipped if there were issues. The result must still match the emitted schema.
    fn transform(self, change: impl Fn(Value) -> Value + Send + Sync + 'static) -> Schema {
        let mut schema = self.into();
        schema.effects.push(Effect::Transform(Arc::new(change)));
        schema
    }

    /// Says what the value is, for the OpenAPI document.
    fn describe(self, text: &'static str) -> Schema {
        let mut schema = self.into();
        schema.description = Some(text);
        schema
    }
}

impl<T: Into<Schema>> SchemaExt for T {}

impl Schema {
    /// Checks `input` (`None` = undefined) and deserializes what became of it.
    pub fn parse<T: DeserializeOwned>(&self, input: Option<Value>) -> Result<T, ParseError> {
        let value = self.validate(input).map_err(ParseError::Invalid)?;
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::Mismatch)
    }

    /// Checks `input` (`None` = undefined); the normalised value, or every issue.
    pub fn validate(&self, input: Option<Value>) -> Result<Option<Value>, Vec<Issue>> {
        let mut issues = Issues::default();
        let value = self.check(input, Path::ROOT, &mut issues);
        let issues = issues.into_vec();
        if issues.is_empty() { Ok(value) } else { Err(issues) }
    }

    /// The fields, if this is an object: name, schema, whether it must be present.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &Schema)> {
        let fields = match &self.kind {
            Kind::Object(object) => object.fields(),
            _ => &[],
        };
        fields.iter().map(|(name, schema)| (*name, schema))
    }

    pub(crate) fn is_required(&self) -> bool {
        let by_option = match &self.kind {
            Kind::AnyOf(options) => options.iter().all(Schema::is_required),
            _ => true,
        };
        by_option && matches!(self.presence, Presence::Required)
    }

    pub(crate) fn description(&self) -> Option<&'static str> {
        self.description
    }

    fn check(&self, input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        let input = match (input, self.null) {
            (Some(Value::Null), Null::Allowed) => return Some(Value::Null),
            (Some(Value::Null), Null::Absent) => None,
            (input, _) => input,
        };
        if input.is_none() {
            match &self.presence {
                Presence::Required => {}
                Presence::Optional => return None,
                Presence::Default(value) => return Some(value.clone()),
            }
        }
        let from = issues.len();
        let mut value = self.kind.check(input, at, issues);
        for effect in &self.effects {
            match effect {
                Effect::Refine(rule) => {
                    if issues.aborted_since(from) {
                        continue;
                    }
                    let mut found = Refinement::default();
                    rule(value.as_ref().unwrap_or(&Value::Null), &mut found);
                    for issue in found.issues {
                        issues.refined(at, issue);
                    }
                }
                Effect::Transform(change) => {
                    if issues.len() > from {
                        return None;
                    }
                    value = value.map(|value| change(value));
                }
            }
        }
        value
    }
}

impl Kind {
    fn check(&self, input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        match self {
            Self::Text(rules) => rules.check(input, at, issues),
            Self::Number(rules) => rules.check(input.as_ref(), at, issues),
            Self::Boolean => match input {
                Some(Value::Bool(value)) => Some(Value::Bool(value)),
                other => wrong("boolean", other.as_ref(), at, issues),
            },
            Self::QueryBoolean => match input {
                Some(Value::String(text)) => match query_truth(&text) {
                    Some(truth) => Some(Value::Bool(truth)),
                    None => not_an_option(QUERY_BOOLEANS, at, issues),
                },
                other => wrong("string", other.as_ref(), at, issues),
            },
            Self::Choice(options) => match input {
                Some(Value::String(text)) if options.contains(&text.as_str()) => Some(Value::String(text)),
                _ => not_an_option(options, at, issues),
            },
            Self::Date => date::check(input.as_ref(), at, issues),
            Self::Array(rules) => rules.check(input, at, issues),
            Self::Object(rules) => rules.check(input, at, issues),
            Self::Record(rules) => rules.check(input, at, issues),
            Self::AnyOf(options) => combine::check_any_of(options, input.as_ref(), at, issues),
            Self::Discriminated(rules) => rules.check(input, at, issues),
            Self::Tags => tags::check(input, at, issues),
            Self::Anything => Some(input.unwrap_or_default()),
        }
    }
}

const QUERY_BOOLEANS: &[&str] = &[
    "true", "1", "yes", "on", "y", "enabled", "false", "0", "no", "off", "n", "disabled",
];

fn query_truth(text: &str) -> Option<bool> {
    let position = QUERY_BOOLEANS
        .iter()
        .position(|option| option.eq_ignore_ascii_case(text))?;
    Some(position < QUERY_BOOLEANS.len() / 2)
}

fn wrong(expected: &str, input: Option<&Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
    issues.wrong_type(at, expected, received(input));
    None
}

/// The type name of a value as issues print it.
fn received(input: Option<&Value>) -> &'static str {
    input.map_or("undefined", patchbay_types::tags::json_type)
}

fn not_an_option(options: &[&str], at: Path<'_>, issues: &mut Issues) -> Option<Value> {
    let quoted: Vec<String> = options.iter().map(|option| format!("\"{option}\"")).collect();
    let expected = if options.len() == 1 {
        "Invalid input: expected"
    } else {
        "Invalid option: expected one of"
    };
    let message = format!("{expected} {}", quoted.join("|"));
    issues.abort(at, "invalid_value", Cow::Owned(message));
    None
}

#[cfg(test)]
mod tests;
