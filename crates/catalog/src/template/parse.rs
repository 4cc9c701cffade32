//! Text to parts, in one pass, without failing.

use super::functions::Arity;
use super::{Expression, Function, Kind, Moment, Name, Part, TemplateProblem};
use crate::finding::Severity;
use crate::suggest;

/// Deeper nesting is a mistake or an attack, not a template.
const MAX_DEPTH: usize = 32;

/// Reads all of `text`; `base` is added to the offsets of problems.
pub(super) fn parts(text: &str, base: usize, problems: &mut Vec<TemplateProblem>) -> Vec<Part> {
    let mut parser = Parser {
        text,
        at: 0,
        base,
        problems,
    };
    let mut parts = Vec::new();
    parser.read(&mut parts, End::Text, 0);
    parts
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Text,
    /// `)}`, consumed.
    Call,
}

struct Parser<'t, 'p> {
    text: &'t str,
    at: usize,
    base: usize,
    problems: &'p mut Vec<TemplateProblem>,
}

impl<'t> Parser<'t, '_> {
    /// Reads up to `end`; whether it was found.
    fn read(&mut self, parts: &mut Vec<Part>, end: End, depth: usize) -> bool {
        let mut literal_from = self.at;
        loop {
            let rest = &self.text[self.at..];
            let stop = rest.find(['$', '{', ')']).unwrap_or(rest.len());
            self.at += stop;
            let rest = &rest[stop..];
            if rest.is_empty() {
                self.push_literal(parts, literal_from, self.at);
                return end == End::Text;
            }
            if end == End::Call && rest.starts_with(")}") {
                self.push_literal(parts, literal_from, self.at);
                self.at += 2;
                return true;
            }
            if !rest.starts_with("${") {
                if rest.starts_with('{') {
                    let message =
                        "`{` without a `$` before it is sent as it is; a placeholder is written `${…}`";
                    // JSON-looking text is legitimate; only a brace around a name looks like a lost dollar.
                    if looks_like_placeholder(rest) {
                        let suggestion = Some(format!("${}", up_to_brace(rest)));
                        self.note(Severity::Warning, self.at, message.to_owned(), suggestion);
                    }
                }
                self.at += 1;
                continue;
            }
            let start = self.at;
            match self.expression(depth) {
                Read::Expression(kind) => {
                    self.push_literal(parts, literal_from, start);
                    let source = self.text[start..self.at].to_owned();
                    parts.push(Part::Expression(Expression { source, kind }));
                    literal_from = self.at;
                }
                Read::Literal => {}
                Read::Unterminated => {
                    // Nothing further left can be terminated either: the rest is text.
                    self.at = self.text.len();
                }
            }
        }
    }

    fn push_literal(&self, parts: &mut Vec<Part>, from: usize, to: usize) {
        if from < to {
            parts.push(Part::Text(self.text[from..to].to_owned()));
        }
    }

    /// Reads the expression at `${`.
    fn expression(&mut self, depth: usize) -> Read {
        let start = self.at;
        let inner = &self.text[start + 2..];
        let word = inner
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(inner.len());
        if inner[word..].starts_with('(') {
            return self.call(start, &inner[..word], depth);
        }
        let Some(end) = inner
            .find(['{', '}'])
            .filter(|end| inner[*end..].starts_with('}'))
        else {
            self.problem(start, "`${` is never closed with `}`", None);
            self.at = start + 2;
            return Read::Literal;
        };
        self.at = start + 2 + end + 1;
        Read::Expression(self.simple(start, inner[..end].trim()))
    }

    fn simple(&mut self, start: usize, name: &str) -> Kind {
        if name == "random" {
            return Kind::Random;
        }
        let is_now = name
            .strip_prefix("now")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '+', '-']));
        if is_now {
            return match Moment::parse(&name[3..]) {
                Ok(moment) => Kind::Now(moment),
                Err(message) => {
                    self.problem(start, message, None);
                    Kind::Faulty
                }
            };
        }
        if name.is_empty() || name.chars().any(char::is_control) {
            self.problem(start, "`${}` names no variable", None);
            return Kind::Faulty;
        }
        if name.chars().any(char::is_whitespace) {
            self.problem(
                start,
                "a variable's name has no blanks",
                Some(name.split_whitespace().collect()),
            );
        }
        Kind::Lookup(Name {
            full: name.to_owned(),
            root: name.find('.').unwrap_or(name.len()),
        })
    }

    fn call(&mut self, start: usize, word: &'t str, depth: usize) -> Read {
        if depth >= MAX_DEPTH {
            self.problem(start, "nested too deeply", None);
            return Read::Unterminated;
        }
        self.at = start + 2 + word.len() + 1;
        let mut argument = Vec::new();
        if !self.read(&mut argument, End::Call, depth + 1) {
            let first = self
                .problems
                .iter()
                .all(|problem| !problem.message.ends_with("is never closed with `)}`"));
            if first {
                self.problem(start, format!("`${{{word}(` is never closed with `)}}`"), None);
            }
            return Read::Unterminated;
        }
        let Some(function) = Function::parse(word) else {
            let nearest = suggest::nearest(word, Function::ALL.iter().map(|function| function.name()));
            self.problem(
                start,
                format!("there is no function `{word}`"),
                nearest.map(str::to_owned),
            );
            return Read::Expression(Kind::Faulty);
        };
        let arguments = match function.arity() {
            Arity::One => vec![argument],
            Arity::LastComma => split_at_last_comma(argument),
            Arity::Commas(_) => split_at_commas(argument),
        };
        if !function.accepts(arguments.len()) || arguments.iter().any(Vec::is_empty) {
            self.problem(start, format!("`{word}` takes {}", function.usage()), None);
            return Read::Expression(Kind::Faulty);
        }
        Read::Expression(Kind::Call(function, arguments))
    }

    fn problem(&mut self, at: usize, message: impl Into<String>, suggestion: Option<String>) {
        self.note(Severity::Error, at, message.into(), suggestion);
    }

    fn note(&mut self, severity: Severity, at: usize, message: String, suggestion: Option<String>) {
        self.problems.push(TemplateProblem {
            offset: self.base + at,
            message,
            suggestion,
            severity,
        });
    }
}

enum Read {
    Expression(Kind),
    /// The two characters are text; reading goes on behind them.
    Literal,
    Unterminated,
}

fn up_to_brace(rest: &str) -> &str {
    &rest[..=rest.find('}').unwrap_or(rest.len() - 1)]
}

fn looks_like_placeholder(rest: &str) -> bool {
    let inner = &rest[1..];
    inner.find('}').is_some_and(|end| {
        let name = &inner[..end];
        ["connectionConfig.", "credentials.", "accessToken", "apiKey"]
            .iter()
            .any(|known| name.starts_with(known))
    })
}

/// `message, key`: the key is trimmed, the message is not, since its line ends may be signed.
fn split_at_last_comma(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let last = parts
        .iter()
        .rposition(|part| matches!(part, Part::Text(text) if text.contains(',')));
    let Some(last) = last else {
        return vec![parts];
    };
    let mut before: Vec<Part> = Vec::new();
    let mut after: Vec<Part> = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        match part {
            Part::Text(text) if index == last => {
                let (left, right) = text.rsplit_once(',').unwrap_or((&text, ""));
                if !left.is_empty() {
                    before.push(Part::Text(left.to_owned()));
                }
                if !right.is_empty() {
                    after.push(Part::Text(right.to_owned()));
                }
            }
            part if index < last => before.push(part),
            part => after.push(part),
        }
    }
    vec![before, trimmed(after)]
}

fn split_at_commas(parts: Vec<Part>) -> Vec<Vec<Part>> {
    let mut arguments = vec![Vec::new()];
    for part in parts {
        let Part::Text(text) = part else {
            arguments.last_mut().expect("starts with one argument").push(part);
            continue;
        };
        for (index, piece) in text.split(',').enumerate() {
            if index > 0 {
                arguments.push(Vec::new());
            }
            if !piece.is_empty() {
                arguments
                    .last_mut()
                    .expect("starts with one argument")
                    .push(Part::Text(piece.to_owned()));
            }
        }
    }
    arguments.into_iter().map(trimmed).collect()
}

/// Without blanks of the template's own text at either end.
fn trimmed(mut parts: Vec<Part>) -> Vec<Part> {
    if let Some(Part::Text(text)) = parts.first_mut() {
        *text = text.trim_start().to_owned();
    }
    if let Some(Part::Text(text)) = parts.last_mut() {
        *text = text.trim_end().to_owned();
    }
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    parts
}
