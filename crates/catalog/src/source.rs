//! Where definitions come from: the binary, files, directories.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use patchbay_types::JsonMap;
use serde_json::Value;

use crate::catalogue::{Catalogue, Provider};
use crate::definition::{Step, Target};
use crate::finding::{Finding, Origin, Severity};
use crate::language::Language;
use crate::yaml::{self, Duplicate, Kind, Node, Position};

/// The definitions in the binary, as the build script left them.
const BUILT_IN: &str = include_str!(concat!(env!("OUT_DIR"), "/catalogue.json"));

/// Something the catalogue is made of. Later sources override earlier ones entry by entry.
#[derive(Clone, Debug)]
pub enum Source {
    /// The definitions in the binary.
    BuiltIn,
    /// A file, or every `.yaml`, `.yml` and `.json` file of a directory.
    ///
    /// A file is told by its content: a definition (its name is the file's name), a mapping of names to definitions,
    /// or a mapping of names to lists of scopes; `providers.<lang>.json` holds translated texts.
    Path(PathBuf),
    /// Definitions set while the server runs.
    Stored(Arc<[StoredDefinition]>),
    /// What was loaded elsewhere, as it is.
    Loaded(Arc<Catalogue>),
}

/// A definition set while the server runs: a whole one, or with `alias` naming its own provider a variation of the
/// one it overrides.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDefinition {
    /// The provider's name.
    pub provider: String,
    /// The definition, in the catalogue's format.
    pub definition: JsonMap,
}

/// An entry as written.
#[derive(Debug)]
pub(crate) struct RawEntry {
    pub(crate) name: String,
    pub(crate) json: JsonMap,
    pub(crate) origin: Origin,
    /// Its positions; definitions of the binary have none.
    node: Option<Node>,
    key_at: Position,
}

/// What one source holds.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    pub(crate) entries: Vec<RawEntry>,
    /// Names whose text could not be read at all.
    pub(crate) broken: Vec<(String, Origin)>,
    pub(crate) scopes: BTreeMap<String, Vec<String>>,
    pub(crate) overlays: Vec<(Language, JsonMap)>,
    /// Files that could not be read.
    pub(crate) unreadable: Vec<PathBuf>,
}

impl Source {
    /// The files it consists of at this moment, in order.
    pub(crate) fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let Self::Path(path) = self else {
            return Ok(Vec::new());
        };
        if !fs::metadata(path)?.is_dir() {
            return Ok(vec![path.clone()]);
        }
        let mut files = Vec::new();
        for file in fs::read_dir(path)? {
            let path = file?.path();
            let hidden = path
                .file_name()
                .is_none_or(|name| name.to_string_lossy().starts_with('.'));
            let fits = path.extension().is_some_and(|extension| {
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|wanted| extension.eq_ignore_ascii_case(wanted))
            });
            if fits && !hidden && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    pub(crate) fn read(&self, findings: &mut Vec<Finding>) -> Layer {
        let path = match self {
            Self::Path(path) => path,
            Self::BuiltIn => return built_in(findings),
            Self::Stored(definitions) => return stored(definitions, findings),
            Self::Loaded(catalogue) => return loaded(catalogue),
        };
        let mut layer = Layer::default();
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                findings.push(unreadable(path, &error));
                layer.unreadable.push(path.clone());
                return layer;
            }
        };
        for file in files {
            match fs::read_to_string(&file) {
                Ok(text) => layer.read_text(&file, &text, findings),
                Err(error) => {
                    findings.push(unreadable(&file, &error));
                    layer.unreadable.push(file);
                }
            }
        }
        layer
    }
}

impl Layer {
    /// Adds what a file of that name with that text holds.
    pub(crate) fn read_text(&mut self, file: &Path, text: &str, findings: &mut Vec<Finding>) {
        let origin = Origin::file(file);
        let stem = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let document = match read_document(text) {
            Ok(document) => document,
            Err(fault) => {
                findings.push(located(&origin, fault.at, None, "syntax", fault.message));
                self.unreadable.push(file.to_owned());
                return;
            }
        };
        if let Some(language) = stem.strip_prefix("providers.").and_then(Language::parse) {
            self.read_overlay(language, document, &origin, findings);
            return;
        }
        let names: Vec<&str> = document
            .entries
            .iter()
            .map(|(key, _)| key.text.as_str())
            .chain(document.broken.iter().map(|broken| broken.name.as_str()))
            .collect();
        let is_definition = ["auth_mode", "alias", "display_name"]
            .iter()
            .any(|key| names.contains(key))
            && !document.entries.iter().any(|(key, node)| {
                matches!(key.text.as_str(), "auth_mode" | "alias") && matches!(node.kind, Kind::Mapping(_))
            });
        if is_definition {
            self.read_definition(stem, document, &origin, findings);
            return;
        }
        let all_lists = document.entries.iter().all(|(_, node)| is_list(node));
        if all_lists && !document.entries.is_empty() && document.broken.is_empty() {
            for (key, node) in document.entries {
                let scopes = match node.to_json() {
                    Value::Array(items) => items,
                    _ => Vec::new(),
                };
                let scopes = scopes
                    .iter()
                    .filter_map(|scope| scope.as_str().map(str::to_owned))
                    .collect();
                self.scopes.insert(key.text, scopes);
            }
            return;
        }
        self.read_definitions(document, &origin, findings);
    }

    fn read_definition(
        &mut self,
        name: String,
        document: Document,
        origin: &Origin,
        findings: &mut Vec<Finding>,
    ) {
        if let Some(broken) = document.broken.into_iter().next() {
            findings.push(located(origin, broken.at, Some(&name), "syntax", broken.message));
            self.broken.push((name, origin.clone()));
            return;
        }
        let at = Position { line: 1, column: 1 };
        let mut fine = check_name(&name, at, origin, findings);
        for duplicate in &document.duplicates {
            findings.push(repeated(duplicate, &name, origin));
            fine = false;
        }
        if !fine {
            self.broken.push((name, origin.clone()));
            return;
        }
        let node = Node {
            at,
            kind: Kind::Mapping(document.entries),
        };
        self.add(name, at, node, origin);
    }

    fn read_definitions(&mut self, document: Document, origin: &Origin, findings: &mut Vec<Finding>) {
        for broken in document.broken {
            findings.push(located(
                origin,
                broken.at,
                Some(&broken.name),
                "syntax",
                broken.message,
            ));
            self.broken.push((broken.name, origin.clone()));
        }
        let mut duplicates = document.duplicates;
        let is_entry =
            |duplicate: &Duplicate| document.entries.iter().any(|(key, _)| key.at == duplicate.first);
        for duplicate in duplicates.extract_if(.., |duplicate| is_entry(duplicate)) {
            let message = format!(
                "is defined twice; the one in line {} is used",
                duplicate.first.line
            );
            findings.push(located(
                origin,
                duplicate.at,
                Some(&duplicate.key),
                "duplicate-entry",
                message,
            ));
        }
        let mut starts: Vec<Position> = document.entries.iter().map(|(key, _)| key.at).collect();
        starts.sort_unstable();
        for (key, node) in document.entries {
            // Shared pieces: `.anchors:` and `x-anything:` hold what entries refer to.
            if key.text.starts_with('.')
                || key.text.starts_with("x-") && !matches!(node.kind, Kind::Mapping(_))
            {
                continue;
            }
            let mut fine = check_name(&key.text, key.at, origin, findings);
            let end = starts
                .get(starts.partition_point(|start| *start <= key.at))
                .copied();
            let inside =
                |duplicate: &&Duplicate| duplicate.at > key.at && end.is_none_or(|end| duplicate.at < end);
            for duplicate in duplicates.iter().filter(inside) {
                findings.push(repeated(duplicate, &key.text, origin));
                fine = false;
            }
            if !matches!(node.kind, Kind::Mapping(_)) {
                let message = "a definition is a mapping".to_owned();
                findings.push(located(origin, node.at, Some(&key.text), "wrong-type", message));
                fine = false;
            }
            if fine {
                self.add(key.text, key.at, node, origin);
            } else {
                self.broken.push((key.text, origin.clone()));
            }
        }
    }

    fn read_overlay(
        &mut self,
        language: Language,
        document: Document,
        origin: &Origin,
        findings: &mut Vec<Finding>,
    ) {
        for broken in document.broken {
            findings.push(located(
                origin,
                broken.at,
                Some(&broken.name),
                "syntax",
                broken.message,
            ));
        }
        let overlay = document
            .entries
            .into_iter()
            .map(|(key, node)| (key.text, node.to_json()))
            .collect();
        self.overlays.push((language, overlay));
    }

    fn add(&mut self, name: String, key_at: Position, node: Node, origin: &Origin) {
        let Value::Object(json) = node.to_json() else {
            return;
        };
        self.entries.push(RawEntry {
            name,
            json,
            origin: origin.clone(),
            node: Some(node),
            key_at,
        });
    }
}

impl RawEntry {
    /// Where a place of the entry is; none if the entry has no positions or inherits the place.
    pub(crate) fn locate(&self, path: &[Step], target: Target) -> Option<Position> {
        let mut node = self.node.as_ref()?;
        let mut at = self.key_at;
        for (depth, step) in path.iter().enumerate() {
            let found = match (step, &node.kind) {
                (Step::Key(wanted), Kind::Mapping(entries)) => entries
                    .iter()
                    .find(|(key, _)| key.text == *wanted)
                    .map(|(key, node)| (if key.merged { node.at } else { key.at }, node)),
                (Step::Index(index), Kind::Sequence(items)) => items.get(*index).map(|node| (node.at, node)),
                // One string where a list is expected.
                (Step::Index(0), Kind::Scalar { .. }) => Some((node.at, node)),
                _ => None,
            };
            let Some((key_at, inner)) = found else {
                return (depth > 0).then_some(at);
            };
            let is_last = depth + 1 == path.len();
            at = match (target, &inner.kind) {
                (Target::Value(offset), Kind::Scalar { inset, .. }) if is_last => {
                    let offset = inset.map_or(0, |inset| inset + u32::try_from(offset).unwrap_or(0));
                    Position {
                        line: inner.at.line,
                        column: inner.at.column + offset,
                    }
                }
                // A block begins in the line after its key; the key is what one looks for.
                _ => key_at,
            };
            node = inner;
        }
        Some(at)
    }

    /// Whether the entry says something about that key itself.
    pub(crate) fn has(&self, path: &[Step]) -> bool {
        match path.first() {
            Some(Step::Key(key)) => self.json.contains_key(key),
            _ => true,
        }
    }

    /// Where the entry begins.
    pub(crate) fn start(&self) -> Option<Position> {
        self.node.as_ref().map(|_| self.key_at)
    }
}

#[derive(serde::Deserialize)]
struct BuiltIn {
    entries: Vec<(String, JsonMap)>,
    faults: Vec<(String, u32, u32, String)>,
}

impl BuiltIn {
    fn read() -> Self {
        serde_json::from_str(BUILT_IN).expect("the build script writes this shape")
    }
}

/// The entries of the binary as written, aliases not resolved.
pub(crate) fn shipped_entries() -> Vec<(String, JsonMap)> {
    BuiltIn::read().entries
}

fn built_in(findings: &mut Vec<Finding>) -> Layer {
    let catalogue = BuiltIn::read();
    let mut layer = Layer::default();
    for (name, line, column, message) in catalogue.faults {
        let origin = Origin::file(format!("catalog/{name}.yaml"));
        findings.push(located(
            &origin,
            Position { line, column },
            Some(&name),
            "syntax",
            message,
        ));
        layer.broken.push((name, Origin::BuiltIn));
    }
    layer.entries = catalogue
        .entries
        .into_iter()
        .map(|(name, json)| RawEntry {
            name,
            json,
            origin: Origin::BuiltIn,
            node: None,
            key_at: Position::default(),
        })
        .collect();
    layer
}

fn stored(definitions: &[StoredDefinition], findings: &mut Vec<Finding>) -> Layer {
    let mut layer = Layer::default();
    for stored in definitions {
        let StoredDefinition { provider, definition } = stored;
        if check_name(provider, Position::default(), &Origin::Stored, findings) {
            layer
                .entries
                .push(unlocated(provider, definition, Origin::Stored));
        } else {
            layer.broken.push((provider.clone(), Origin::Stored));
        }
    }
    layer
}

fn loaded(catalogue: &Catalogue) -> Layer {
    let entry = |provider: &Arc<Provider>| unlocated(&provider.name, &provider.wire, provider.origin.clone());
    Layer {
        entries: catalogue.iter().map(entry).collect(),
        overlays: catalogue
            .overlays()
            .map(|(language, texts)| (language, texts.clone()))
            .collect(),
        ..Layer::default()
    }
}

fn unlocated(name: &str, json: &JsonMap, origin: Origin) -> RawEntry {
    RawEntry {
        name: name.to_owned(),
        json: json.clone(),
        origin,
        node: None,
        key_at: Position::default(),
    }
}

struct Document {
    entries: Vec<(yaml::Key, Node)>,
    duplicates: Vec<Duplicate>,
    broken: Vec<Broken>,
}

struct Broken {
    name: String,
    at: Position,
    message: String,
}

/// Parses a mapping. Where it is no YAML as a whole, its top-level entries are parsed one by one, so that a slip in
/// one of a thousand costs that one.
fn read_document(text: &str) -> Result<Document, yaml::SyntaxError> {
    let whole = match yaml::parse(text) {
        Ok(document) => document,
        Err(error) => return read_piecewise(text).ok_or_else(|| described(text, &error)),
    };
    let entries = match whole.root {
        Some(Node {
            kind: Kind::Mapping(entries),
            ..
        }) => entries,
        None
        | Some(Node {
            kind: Kind::Scalar {
                value: Value::Null, ..
            },
            ..
        }) => Vec::new(),
        Some(node) => {
            let message = "a catalogue file is a mapping of names to definitions".to_owned();
            return Err(yaml::SyntaxError { at: node.at, message });
        }
    };
    Ok(Document {
        entries,
        duplicates: whole.duplicates,
        broken: Vec::new(),
    })
}

fn described(text: &str, error: &yaml::SyntaxError) -> yaml::SyntaxError {
    if let Some(at) = tab_in_indentation(text).filter(|_| error.message.contains("tab")) {
        let message = "is no valid YAML: a tab cannot indent, only spaces can".to_owned();
        return yaml::SyntaxError { at, message };
    }
    yaml::SyntaxError {
        at: error.at,
        message: format!("is no valid YAML: {}", error.message),
    }
}

/// The parser points at what precedes the tab; people look for the tab.
fn tab_in_indentation(text: &str) -> Option<Position> {
    text.lines().zip(1..).find_map(|(line, number)| {
        let indentation = &line[..line.len() - line.trim_start().len()];
        let column = u32::try_from(indentation.find('\t')? + 1).ok()?;
        Some(Position { line: number, column })
    })
}

fn read_piecewise(text: &str) -> Option<Document> {
    let pieces = pieces(text);
    if pieces.len() < 2 {
        return None;
    }
    let mut document = Document {
        entries: Vec::new(),
        duplicates: Vec::new(),
        broken: Vec::new(),
    };
    let mut seen: HashMap<String, Position> = HashMap::new();
    for piece in pieces {
        let shift = |at: Position| Position {
            line: at.line + piece.lines_before,
            column: at.column,
        };
        match yaml::parse(piece.text) {
            Ok(parsed) => {
                let Some(Node {
                    kind: Kind::Mapping(entries),
                    ..
                }) = parsed.root
                else {
                    continue;
                };
                for (mut key, mut node) in entries {
                    key.at = shift(key.at);
                    move_down(&mut node, piece.lines_before);
                    if let Some(first) = seen.get(&key.text).copied() {
                        document.duplicates.push(Duplicate {
                            key: key.text,
                            at: key.at,
                            first,
                        });
                        continue;
                    }
                    seen.insert(key.text.clone(), key.at);
                    document.entries.push((key, node));
                }
                document
                    .duplicates
                    .extend(parsed.duplicates.into_iter().map(|duplicate| Duplicate {
                        at: shift(duplicate.at),
                        first: shift(duplicate.first),
                        ..duplicate
                    }));
            }
            Err(error) => {
                let error = described(piece.text, &error);
                document.broken.push(Broken {
                    name: piece.name.to_owned(),
                    at: shift(error.at),
                    message: error.message,
                });
            }
        }
    }
    Some(document)
}

struct Piece<'t> {
    name: &'t str,
    text: &'t str,
    lines_before: u32,
}

/// The text cut before every line that begins with a key. Inside of an entry every line is indented.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut starts = Vec::new();
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if let Some(name) = key_at_line_start(line) {
            starts.push((offset, u32::try_from(number).unwrap_or(u32::MAX), name));
        }
        offset += line.len();
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|(offset, ..)| *offset)
        .chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|((start, lines_before, name), end)| Piece {
            name,
            text: &text[*start..end],
            lines_before: *lines_before,
        })
        .collect()
}

fn key_at_line_start(line: &str) -> Option<&str> {
    let first = line.chars().next()?;
    if first.is_whitespace() || "#-%{}[],&*!|>@`".contains(first) {
        return None;
    }
    if matches!(first, '"' | '\'') {
        let (name, rest) = line[1..].split_once(first)?;
        return rest.trim_start().starts_with(':').then_some(name);
    }
    let (name, rest) = line.split_once(':')?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| name.trim())
}

fn move_down(node: &mut Node, lines: u32) {
    node.at.line += lines;
    match &mut node.kind {
        Kind::Scalar { .. } => {}
        Kind::Sequence(items) => items.iter_mut().for_each(|item| move_down(item, lines)),
        Kind::Mapping(entries) => {
            for (key, node) in entries {
                key.at.line += lines;
                move_down(node, lines);
            }
        }
    }
}

fn is_list(node: &Node) -> bool {
    matches!(
        node.kind,
        Kind::Sequence(_)
            | Kind::Scalar {
                value: Value::Null,
                ..
            }
    )
}

fn check_name(name: &str, at: Position, origin: &Origin, findings: &mut Vec<Finding>) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty() && name.len() <= 255 && name.chars().all(fits) {
        return true;
    }
    let mut suggestion: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(255)
        .collect();
    if suggestion.is_empty() {
        suggestion.push_str("acme");
    }
    let message = format!("`{name}` cannot be a provider's name: lower-case letters, digits and dashes only");
    let mut finding = located(origin, at, Some(name), "provider-name", message);
    finding.suggestion = Some(suggestion);
    findings.push(finding);
    false
}

fn repeated(duplicate: &Duplicate, provider: &str, origin: &Origin) -> Finding {
    let message = format!(
        "`{}` is already set in line {}",
        duplicate.key, duplicate.first.line
    );
    located(origin, duplicate.at, Some(provider), "duplicate-key", message)
}

fn located(
    origin: &Origin,
    at: Position,
    provider: Option<&str>,
    rule: &'static str,
    message: String,
) -> Finding {
    Finding {
        severity: Severity::Error,
        rule,
        origin: origin.clone(),
        line: Some(at.line),
        column: Some(at.column),
        provider: provider.map(str::to_owned),
        path: String::new(),
        message,
        suggestion: None,
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    Finding {
        severity: Severity::Error,
        rule: "unreadable",
        origin: Origin::File(Arc::from(path)),
        line: None,
        column: None,
        provider: None,
        path: String::new(),
        message: format!("cannot be read: {error}"),
        suggestion: None,
    }
}
