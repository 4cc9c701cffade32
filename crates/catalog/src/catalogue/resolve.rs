//! Layers to providers: overrides, aliases, typing, and what is said about entries that do not fit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use patchbay_types::JsonMap;
use serde_json::Value;

use super::{Catalogue, Provider};
use crate::check::{self, Depth};
use crate::definition::{Definition, Note, Step, Target, dotted};
use crate::finding::{Finding, Origin, Severity};
use crate::language::Language;
use crate::source::{Layer, RawEntry};

/// Builds the catalogue of `layers`, later ones overriding earlier ones. Entries of `previous` stand in for those
/// that cannot be read.
pub(super) fn resolve(
    layers: Vec<Layer>,
    depth: Depth,
    previous: Option<&Catalogue>,
    findings: &mut Vec<Finding>,
) -> Catalogue {
    let mut entries: BTreeMap<String, Vec<RawEntry>> = BTreeMap::new();
    let mut broken: Vec<(String, Origin)> = Vec::new();
    let mut scopes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut overlays: HashMap<Language, JsonMap> = HashMap::new();
    let mut unreadable: Vec<PathBuf> = Vec::new();
    for layer in layers {
        for entry in layer.entries {
            entries.entry(entry.name.clone()).or_default().push(entry);
        }
        broken.extend(layer.broken);
        scopes.extend(layer.scopes);
        unreadable.extend(layer.unreadable);
        for (language, texts) in layer.overlays {
            overlays.entry(language).or_default().extend(texts);
        }
    }
    let mut resolver = Resolver {
        entries: &entries,
        scopes: &scopes,
        broken: broken.iter().map(|(name, _)| name.as_str()).collect(),
        depth,
        done: HashMap::new(),
        trail: Vec::new(),
        findings: Vec::new(),
        failed: Vec::new(),
    };
    let mut providers: Vec<Arc<Provider>> = entries
        .iter()
        .filter_map(|(name, levels)| resolver.best(name, levels.len()))
        .collect();
    let failed = std::mem::take(&mut resolver.failed);
    findings.append(&mut resolver.findings);
    if let Some(previous) = previous {
        let faulty: HashSet<(&str, &Origin)> = failed
            .iter()
            .map(|(name, origin)| (name.as_str(), origin))
            .chain(broken.iter().map(|(name, origin)| (name.as_str(), origin)))
            .collect();
        keep_previous(&mut providers, previous, &faulty, &unreadable);
    }
    note_what_stands_in(findings, &providers);
    findings.sort_by(|a, b| {
        (a.origin.to_string(), a.line, a.column, &a.provider).cmp(&(
            b.origin.to_string(),
            b.line,
            b.column,
            &b.provider,
        ))
    });
    Catalogue::new(providers, overlays)
}

/// An entry in use stays if its text has become faulty or its file cannot be read.
fn keep_previous(
    providers: &mut Vec<Arc<Provider>>,
    previous: &Catalogue,
    faulty: &HashSet<(&str, &Origin)>,
    unreadable: &[PathBuf],
) {
    let gone = |origin: &Origin| match origin {
        Origin::BuiltIn | Origin::Stored => false,
        Origin::File(file) => unreadable.iter().any(|path| file.starts_with(path)),
    };
    for old in previous {
        if !faulty.contains(&(old.name.as_str(), &old.origin)) && !gone(&old.origin) {
            continue;
        }
        match providers.iter_mut().find(|provider| provider.name == old.name) {
            Some(provider) => *provider = Arc::clone(old),
            None => providers.push(Arc::clone(old)),
        }
    }
}

/// Says of a faulty entry which good one is used in its place.
fn note_what_stands_in(findings: &mut [Finding], providers: &[Arc<Provider>]) {
    let in_use: HashMap<&str, &Origin> = providers
        .iter()
        .map(|provider| (provider.name.as_str(), &provider.origin))
        .collect();
    for finding in findings {
        if finding.severity != Severity::Error || finding.rule == "duplicate-entry" {
            continue;
        }
        let Some(origin) = finding.provider.as_deref().and_then(|name| in_use.get(name)) else {
            continue;
        };
        let by = match origin {
            origin if **origin == finding.origin => "the definition read earlier".to_owned(),
            origin => format!("the definition of {origin}"),
        };
        finding.message = format!("{}; {by} stays in use", finding.message);
    }
}

struct Resolver<'e> {
    entries: &'e BTreeMap<String, Vec<RawEntry>>,
    scopes: &'e BTreeMap<String, Vec<String>>,
    broken: HashSet<&'e str>,
    depth: Depth,
    /// By name and level.
    done: HashMap<(&'e str, usize), Option<Arc<Provider>>>,
    /// Names on the way to the entry at hand.
    trail: Vec<(&'e str, usize)>,
    findings: Vec<Finding>,
    failed: Vec<(String, Origin)>,
}

impl<'e> Resolver<'e> {
    /// The provider of the highest usable level below `levels`.
    fn best(&mut self, name: &'e str, levels: usize) -> Option<Arc<Provider>> {
        (0..levels).rev().find_map(|level| self.at(name, level))
    }

    fn at(&mut self, name: &'e str, level: usize) -> Option<Arc<Provider>> {
        if let Some(done) = self.done.get(&(name, level)) {
            return done.clone();
        }
        let entry = &self.entries[name][level];
        self.trail.push((name, level));
        let provider = self.provider(entry, level);
        self.trail.pop();
        if provider.is_none() {
            self.failed.push((name.to_owned(), entry.origin.clone()));
        }
        self.done.insert((name, level), provider.clone());
        provider
    }

    fn provider(&mut self, entry: &'e RawEntry, level: usize) -> Option<Arc<Provider>> {
        let alias_of = match entry.json.get("alias") {
            None | Some(Value::Null) => None,
            Some(Value::String(target)) => Some(target.as_str()),
            Some(_) => {
                self.fail(
                    entry,
                    "alias",
                    "wrong-type",
                    "`alias` is the name of another provider",
                    None,
                );
                return None;
            }
        };
        let base = match alias_of {
            Some(target) => Some(self.target(entry, level, target)?),
            None => None,
        };
        let mut wire = base.as_ref().map(|base| base.wire.clone()).unwrap_or_default();
        for (key, value) in &entry.json {
            if key != "alias" {
                wire.insert(key.clone(), value.clone());
            }
        }
        if let Some(scopes) = self.scopes.get(&entry.name).filter(|scopes| !scopes.is_empty())
            && !entry.json.contains_key("available_scopes")
        {
            wire.insert("available_scopes".to_owned(), Value::from(scopes.clone()));
        }
        crate::shipped::complete(&entry.name, &mut wire);
        let mut notes = Vec::new();
        if let Some(base) = base.as_ref().filter(|_| self.depth == Depth::Check) {
            check::alias(&entry.json, &base.wire, &mut notes);
        }
        let definition = Definition::read(&wire, &mut notes);
        if let Some(definition) = &definition {
            check::definition(definition, &wire, self.depth, &mut notes);
        }
        let fatal = notes.iter().any(|note| note.severity == Severity::Error);
        self.report(entry, notes);
        let definition = definition.filter(|_| !fatal)?;
        Some(Arc::new(Provider {
            name: entry.name.clone(),
            definition,
            wire,
            origin: entry.origin.clone(),
            alias_of: alias_of.map(str::to_owned),
        }))
    }

    fn target(&mut self, entry: &'e RawEntry, level: usize, target: &'e str) -> Option<Arc<Provider>> {
        // An override may vary the entry it overrides.
        if target == entry.name && level > 0 {
            let base = self.best(&entry.name, level);
            if base.is_none() {
                self.fail(
                    entry,
                    "alias",
                    "alias-target",
                    "the definition it varies cannot be used",
                    None,
                );
            }
            return base;
        }
        let Some((target, levels)) = self.entries.get_key_value(target) else {
            let message = if self.broken.contains(target) {
                format!("its target `{target}` cannot be read")
            } else {
                format!("there is no provider `{target}`")
            };
            let nearest = crate::suggest::nearest(target, self.entries.keys().map(String::as_str));
            self.fail(
                entry,
                "alias",
                "alias-target",
                &message,
                nearest.map(str::to_owned),
            );
            return None;
        };
        let top = levels.len() - 1;
        if let Some(start) = self.trail.iter().position(|step| *step == (target.as_str(), top)) {
            let mut circle: Vec<&str> = self.trail[start..].iter().map(|(name, _)| *name).collect();
            circle.push(target);
            let message = format!("aliases go round in a circle: {}", circle.join(" → "));
            self.fail(entry, "alias", "alias-circle", &message, None);
            return None;
        }
        let base = self.best(target, levels.len());
        if base.is_none() {
            self.fail(
                entry,
                "alias",
                "alias-target",
                &format!("its target `{target}` cannot be used"),
                None,
            );
        }
        base
    }

    fn fail(
        &mut self,
        entry: &RawEntry,
        key: &str,
        rule: &'static str,
        message: &str,
        suggestion: Option<String>,
    ) {
        let note = Note {
            severity: Severity::Error,
            rule,
            path: vec![Step::Key(key.to_owned())],
            target: Target::Value(0),
            message: message.to_owned(),
            suggestion,
        };
        self.report(entry, vec![note]);
    }

    fn report(&mut self, entry: &RawEntry, notes: Vec<Note>) {
        for note in notes {
            // What is inherited was said of the entry it is inherited from, unless only here it is wrong.
            if note.severity == Severity::Warning && !entry.has(&note.path) {
                continue;
            }
            let at = entry.locate(&note.path, note.target).or_else(|| entry.start());
            self.findings.push(Finding {
                severity: note.severity,
                rule: note.rule,
                origin: entry.origin.clone(),
                line: at.map(|at| at.line),
                column: at.map(|at| at.column),
                provider: Some(entry.name.clone()),
                path: dotted(&note.path),
                message: note.message,
                suggestion: note.suggestion,
            });
        }
    }
}
