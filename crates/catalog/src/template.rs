//! The template language of provider definitions: the one evaluator (catalog-format §6).
//!
//! A [`Template`] is compiled once, when the catalogue is loaded, and evaluated many times: a proxied request
//! renders several without looking at their text again. Compilation never fails: what it cannot read stays literal
//! text and is named in [`Template::problems`], which the catalogue's check turns into findings.
//!
//! ```text
//! template    = part* [ "||" part* ]              the alternative only where the context allows it
//! part        = literal | "${" expression "}"
//! expression  = name | "now" [("+"|"-") N ":" unit] [":" format] | "random" | function "(" part* ")"
//! ```
//! A function's argument is itself a template and ends at the first `)}` that is not part of a nested expression.
//! Arguments are separated by commas of the template's own text, so a value with a comma in it stays one argument.

mod functions;
mod moment;
mod parse;
mod scope;
mod tree;
mod url;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::finding::Severity;

pub use functions::Function;
pub use moment::Moment;
pub use scope::{Lookup, Scope, SignableRequest};
pub use tree::{NamedTemplate, OnUnresolved, TemplateMap, TemplateValue};
pub use url::{RenderUrlError, UrlValues};

/// What `encodeURIComponent` of ECMAScript leaves alone.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A compiled template. Cheap to clone.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    source: String,
    parts: Vec<Part>,
    /// The right-hand side of `A || B`.
    fallback: Option<Vec<Part>>,
    problems: Vec<TemplateProblem>,
}

/// Where a value ends up, which decides how it is written and whether an empty one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Headers, bodies, keys: values as they are, empty ones count.
    Text,
    /// URLs whose values are percent-encoded as components; an empty value counts as missing.
    UrlComponent,
    /// URLs whose values are taken as they are; an empty value counts as missing.
    UrlRaw,
}

/// What is wrong with a template's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// Byte offset into the text.
    pub offset: usize,
    /// A sentence without a full stop.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
    /// Whether the template is unusable or merely suspicious.
    pub severity: Severity,
}

/// Placeholders that had no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no value for {}", .names.join(", "))]
pub struct Unresolved {
    /// Their names as written, each once, in order of appearance; a function that failed by the function's name.
    pub names: Vec<String>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Expression(Expression),
}

#[derive(Debug)]
struct Expression {
    /// With `${` and `}`: what stays in the text when there is no value.
    source: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Lookup(Name),
    Now(Moment),
    Random,
    Call(Function, Vec<Vec<Part>>),
    /// Read but meaningless; never resolves.
    Faulty,
}

/// A variable's name, split once.
#[derive(Debug)]
struct Name {
    full: String,
    /// End of the first dotted segment.
    root: usize,
}

impl Name {
    fn root(&self) -> &str {
        &self.full[..self.root]
    }

    fn rest(&self) -> Option<&str> {
        self.full.get(self.root + 1..)
    }
}

impl Template {
    /// Compiles a template in a context where `||` is text.
    pub fn parse(text: &str) -> Self {
        let mut problems = Vec::new();
        let parts = parse::parts(text, 0, &mut problems);
        Self(Arc::new(Compiled {
            source: text.to_owned(),
            parts,
            fallback: None,
            problems,
        }))
    }

    /// Compiles a template in a context where `A || B` means B if A has no value: authorization and token URLs,
    /// their parameters, everything under `proxy`.
    pub fn parse_with_fallback(text: &str) -> Self {
        let Some((first, second)) = text.split_once("||").filter(|_| text.contains("${")) else {
            return Self::parse(text);
        };
        let mut problems = Vec::new();
        let second_offset = first.len() + 2 + (second.len() - second.trim_start().len());
        let parts = parse::parts(
            first.trim(),
            first.len() - first.trim_start().len(),
            &mut problems,
        );
        let fallback = parse::parts(second.trim(), second_offset, &mut problems);
        Self(Arc::new(Compiled {
            source: text.to_owned(),
            parts,
            fallback: Some(fallback),
            problems,
        }))
    }

    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The text, if it has no expressions and therefore is the result.
    pub fn as_literal(&self) -> Option<&str> {
        match (&self.0.parts[..], &self.0.fallback) {
            ([], None) => Some(""),
            ([Part::Text(text)], None) => Some(text),
            _ => None,
        }
    }

    /// What could not be read.
    pub fn problems(&self) -> &[TemplateProblem] {
        &self.0.problems
    }

    /// Names of the variables it mentions, nested ones included, in order of appearance, possibly repeated.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for parts in self.alternatives() {
            visit(parts, &mut |expression| {
                if let Kind::Lookup(name) = &expression.kind {
                    names.push(name.full.as_str());
                }
            });
        }
        names
    }

    /// Whether a variable below `root` is mentioned, such as `connectionConfig`.
    pub fn mentions(&self, root: &str) -> bool {
        self.any(&mut |kind| matches!(kind, Kind::Lookup(name) if name.root() == root))
    }

    /// Whether a function is called anywhere in it.
    pub fn calls(&self, function: Function) -> bool {
        self.any(&mut |kind| matches!(kind, Kind::Call(called, _) if *called == function))
    }

    /// Whether it has an alternative after `||`.
    pub fn has_fallback(&self) -> bool {
        self.0.fallback.is_some()
    }

    /// The text with every expression replaced by its value; of `A || B`, A if all of it has values, else B.
    pub fn render(&self, scope: &Scope<'_>, mode: Mode) -> Result<String, Unresolved> {
        let (text, missing) = evaluate(&self.0.parts, &self.0.source, scope, mode);
        if missing.is_empty() {
            return Ok(text);
        }
        let Some(fallback) = &self.0.fallback else {
            return Err(Unresolved { names: missing });
        };
        let (text, missing_too) = evaluate(fallback, &self.0.source, scope, mode);
        if missing_too.is_empty() {
            return Ok(text);
        }
        let mut names = missing;
        names.extend(missing_too);
        dedup(&mut names);
        Err(Unresolved { names })
    }

    /// Like [`Template::render`], but expressions without a value stay in the text as they are written.
    pub fn render_lossy(&self, scope: &Scope<'_>, mode: Mode) -> String {
        let (text, missing) = evaluate(&self.0.parts, &self.0.source, scope, mode);
        match &self.0.fallback {
            Some(fallback) if !missing.is_empty() => evaluate(fallback, &self.0.source, scope, mode).0,
            _ => text,
        }
    }

    /// Each alternative with every expression replaced by `value`: for checks of its shape.
    pub(crate) fn sketches(&self, value: &str) -> impl Iterator<Item = String> {
        self.alternatives().map(move |parts| {
            let pieces = parts.iter().map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Expression(_) => value,
            });
            pieces.collect()
        })
    }

    fn alternatives(&self) -> impl Iterator<Item = &[Part]> {
        std::iter::once(self.0.parts.as_slice()).chain(self.0.fallback.as_deref())
    }

    fn any(&self, test: &mut dyn FnMut(&Kind) -> bool) -> bool {
        let mut found = false;
        for parts in self.alternatives() {
            visit(parts, &mut |expression| found |= test(&expression.kind));
        }
        found
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.0.source)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source && self.has_fallback() == other.has_fallback()
    }
}

impl Eq for Template {}

fn visit<'p>(parts: &'p [Part], see: &mut dyn FnMut(&'p Expression)) {
    for part in parts {
        let Part::Expression(expression) = part else {
            continue;
        };
        see(expression);
        if let Kind::Call(_, arguments) = &expression.kind {
            for argument in arguments {
                visit(argument, see);
            }
        }
    }
}

/// The text and the names without a value.
fn evaluate(parts: &[Part], source: &str, scope: &Scope<'_>, mode: Mode) -> (String, Vec<String>) {
    let mut missing = Vec::new();
    let mut text = String::with_capacity(source.len() + 32);
    write_parts(parts, scope, mode, &mut text, &mut missing);
    dedup(&mut missing);
    (text, missing)
}

fn write_parts(parts: &[Part], scope: &Scope<'_>, mode: Mode, text: &mut String, missing: &mut Vec<String>) {
    for part in parts {
        let expression = match part {
            Part::Text(literal) => {
                text.push_str(literal);
                continue;
            }
            Part::Expression(expression) => expression,
        };
        match value_of(expression, scope, mode, missing) {
            Some(value) if mode == Mode::UrlComponent => text.extend(utf8_percent_encode(&value, COMPONENT)),
            Some(value) => text.push_str(&value),
            None => text.push_str(&expression.source),
        }
    }
}

/// The expression's value, not yet encoded; without one its names are in `missing`.
fn value_of<'s>(
    expression: &Expression,
    scope: &'s Scope<'_>,
    mode: Mode,
    missing: &mut Vec<String>,
) -> Option<Cow<'s, str>> {
    match &expression.kind {
        Kind::Lookup(name) => {
            let value = scope
                .value(&name.full, name.root(), name.rest())
                .filter(|value| mode == Mode::Text || !value.is_empty());
            if value.is_none() {
                missing.push(name.full.clone());
            }
            value
        }
        Kind::Now(moment) => Some(Cow::Owned(moment.format(scope.now()))),
        Kind::Random => Some(Cow::Owned(scope.random().to_string())),
        Kind::Call(function, arguments) => {
            let before = missing.len();
            let values: Vec<String> = arguments
                .iter()
                .map(|argument| {
                    let mut text = String::new();
                    write_parts(argument, scope, Mode::Text, &mut text, missing);
                    text
                })
                .collect();
            if missing.len() > before {
                return None;
            }
            let value = functions::call(*function, &values, scope);
            if value.is_none() {
                missing.push(function.name().to_owned());
            }
            value.map(Cow::Owned)
        }
        Kind::Faulty => {
            missing.push(expression.source.clone());
            None
        }
    }
}

fn dedup(names: &mut Vec<String>) {
    let mut seen = Vec::with_capacity(names.len());
    names.retain(|name| {
        let fresh = !seen.contains(name);
        if fresh {
            seen.push(name.clone());
        }
        fresh
    });
}

#[cfg(test)]
mod tests;
