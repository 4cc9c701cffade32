//! YAML with positions: a tree whose every key and value knows its line and column.
//!
//! The build script uses this file too, to turn the shipped definitions into JSON; it depends on nothing of ours.

use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use serde_json::{Map, Number, Value};

/// More values than any catalogue has; an alias bomb has more.
const MAX_NODES: usize = 4_000_000;
const MAX_DEPTH: usize = 96;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub struct Node {
    pub at: Position,
    pub kind: Kind,
}

/// 1-based line and column, counted in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Scalar {
        value: Value,
        /// Characters between `at` and the text; none if the text does not continue on that line.
        inset: Option<u32>,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub struct Key {
    pub text: String,
    pub at: Position,
    /// It was written with `<<`, not here.
    pub merged: bool,
}

/// Text that is no YAML.
#[derive(Clone, Debug)]
pub struct SyntaxError {
    pub at: Position,
    pub message: String,
}

/// A key that occurs twice in one mapping; the first one is in the tree.
#[derive(Clone, Debug)]
pub struct Duplicate {
    pub key: String,
    pub at: Position,
    pub first: Position,
}

/// A parsed document.
#[derive(Debug)]
pub struct Document {
    /// None for an empty document.
    pub root: Option<Node>,
    pub duplicates: Vec<Duplicate>,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.at.line, self.at.column, self.message)
    }
}

impl Node {
    /// The value without positions.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar { value, .. } => value.clone(),
            Kind::Sequence(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Mapping(entries) => {
                let object: Map<String, Value> = entries
                    .iter()
                    .map(|(key, node)| (key.text.clone(), node.to_json()))
                    .collect();
                Value::Object(object)
            }
        }
    }
}

/// Parses the first document of `text`.
pub fn parse(text: &str) -> Result<Document, SyntaxError> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        duplicates: Vec::new(),
        nodes: 0,
    };
    let root = builder.document()?;
    Ok(Document {
        root,
        duplicates: builder.duplicates,
    })
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    duplicates: Vec<Duplicate>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Nothing | Event::StreamStart | Event::DocumentStart(_), _))) => {}
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => return Err(syntax(&error)),
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    fn document(&mut self) -> Result<Option<Node>, SyntaxError> {
        let (event, span) = self.next()?;
        if matches!(event, Event::StreamEnd | Event::DocumentEnd) {
            return Ok(None);
        }
        let root = self.node(event, span, 0)?;
        let (end, _) = self.next()?;
        if matches!(end, Event::DocumentEnd) {
            let (next, span) = self.next()?;
            if !matches!(next, Event::StreamEnd) {
                return Err(SyntaxError {
                    at: position(span),
                    message: "a second document begins; a catalogue file holds one".to_owned(),
                });
            }
        }
        Ok(Some(root))
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let at = position(span);
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(SyntaxError {
                at,
                message: "nested too deeply or far too large".to_owned(),
            });
        }
        let (anchor, kind) = match event {
            Event::Alias(anchor) => {
                let mut node = self.anchors.get(&anchor).cloned().ok_or_else(|| SyntaxError {
                    at,
                    message: "refers to an anchor that is not complete yet".to_owned(),
                })?;
                self.nodes += size(&node);
                node.at = at;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain;
                let as_string = quoted || tag.is_some_and(|tag| tag.suffix == "str");
                let value = if as_string {
                    Value::String(text.into_owned())
                } else {
                    plain(&text)
                };
                let inset = match style {
                    ScalarStyle::Plain => Some(0),
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Some(1),
                    _ => None,
                };
                let one_line = span.start.line() == span.end.line();
                (
                    anchor,
                    Kind::Scalar {
                        value,
                        inset: inset.filter(|_| one_line),
                    },
                )
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Kind::Sequence(items))
            }
            Event::MappingStart(anchor, _) => (anchor, Kind::Mapping(self.mapping(depth)?)),
            _ => {
                return Err(SyntaxError {
                    at,
                    message: "ends where a value is expected".to_owned(),
                });
            }
        };
        let node = Node { at, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, SyntaxError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut merges = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let at = position(span);
            let text = match self.node(event, span, depth + 1)?.kind {
                Kind::Scalar {
                    value: Value::String(text),
                    ..
                } => text,
                Kind::Scalar { value, .. } => value.to_string(),
                _ => {
                    return Err(SyntaxError {
                        at,
                        message: "a key is a word, not a list or mapping".to_owned(),
                    });
                }
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if text == "<<" {
                merges.push(value);
                continue;
            }
            if let Some(earlier) = index.get(&text) {
                let first = entries[*earlier].0.at;
                self.duplicates.push(Duplicate { key: text, at, first });
                continue;
            }
            index.insert(text.clone(), entries.len());
            entries.push((
                Key {
                    text,
                    at,
                    merged: false,
                },
                value,
            ));
        }
        for merge in merges {
            let mappings = match merge.kind {
                Kind::Mapping(mapping) => vec![mapping],
                Kind::Sequence(items) => items
                    .into_iter()
                    .filter_map(|item| match item.kind {
                        Kind::Mapping(mapping) => Some(mapping),
                        _ => None,
                    })
                    .collect(),
                Kind::Scalar { .. } => {
                    return Err(SyntaxError {
                        at: merge.at,
                        message: "`<<` merges mappings only".to_owned(),
                    });
                }
            };
            for (key, node) in mappings.into_iter().flatten() {
                if !index.contains_key(&key.text) {
                    index.insert(key.text.clone(), entries.len());
                    entries.push((Key { merged: true, ..key }, node));
                }
            }
        }
        Ok(entries)
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::Sequence(items) => items.iter().map(size).sum(),
        Kind::Mapping(entries) => entries.iter().map(|(_, node)| size(node)).sum(),
    }
}

/// A plain scalar in the core schema of YAML 1.2; dates stay strings.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let starts_like_a_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    starts_like_a_number
        .then(|| number(text))
        .flatten()
        .map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok().map(Number::from);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(Number::from);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'))
        || !digits.bytes().any(|byte| byte.is_ascii_digit())
        || digits.starts_with(['e', 'E', '-', '+'])
    {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    text.parse::<i64>().map(Number::from).ok().or_else(|| {
        let is_float = digits.contains(['.', 'e', 'E']);
        text.parse::<f64>()
            .ok()
            .filter(|_| is_float)
            .and_then(Number::from_f64)
    })
}

fn position(span: Span) -> Position {
    Position {
        line: small(span.start.line()),
        column: small(span.start.col() + 1),
    }
}

fn syntax(error: &ScanError) -> SyntaxError {
    let marker = error.marker();
    SyntaxError {
        at: Position {
            line: small(marker.line()),
            column: small(marker.col() + 1),
        },
        message: error.info().to_owned(),
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
