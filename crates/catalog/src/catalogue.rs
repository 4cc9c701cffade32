//! The catalogue: every usable provider, aliases resolved, and the handle through which it is replaced while in use.

mod resolve;
mod watch;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use patchbay_types::JsonMap;
use serde_json::Value;

use crate::check::Depth;
use crate::definition::Definition;
use crate::finding::{Finding, Origin};
use crate::language::Language;
use crate::source::{Layer, Source, StoredDefinition};

/// A provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name, the key of the catalogue.
    pub name: String,
    /// What it says, typed.
    pub definition: Definition,
    /// What it says, as served: aliases merged, `alias` removed, key order kept; without `name` and `logo_url`.
    pub wire: JsonMap,
    /// Where it came from.
    pub origin: Origin,
    /// The entry it is a variation of.
    pub alias_of: Option<String>,
}

/// Providers by name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Sorted by name.
    providers: Vec<Arc<Provider>>,
    index: HashMap<String, usize>,
    overlays: HashMap<Language, JsonMap>,
}

impl Catalogue {
    /// Loads all sources. Good entries are in the catalogue; what is wrong with the others, and with details of the
    /// good ones, is in the findings. A faulty override leaves the entry it would have replaced.
    pub fn load(sources: &[Source]) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let layers = sources.iter().map(|source| source.read(&mut findings)).collect();
        let catalogue = resolve::resolve(layers, Depth::Load, None, &mut findings);
        (catalogue, findings)
    }

    /// The definitions in the binary.
    pub fn built_in() -> Self {
        Self::load(&[Source::BuiltIn]).0
    }

    /// Loads a text as if it were the content of a file of that name; for tests and tools.
    pub fn from_text(file: impl AsRef<Path>, text: &str) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut layer = Layer::default();
        layer.read_text(file.as_ref(), text, &mut findings);
        let catalogue = resolve::resolve(vec![layer], Depth::Load, None, &mut findings);
        (catalogue, findings)
    }

    /// Loads all sources again over a catalogue in use: an entry that has become faulty, or whose file cannot be
    /// read at the moment, stays as it was.
    pub fn reload(&self, sources: &[Source]) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let layers = sources.iter().map(|source| source.read(&mut findings)).collect();
        let catalogue = resolve::resolve(layers, Depth::Load, Some(self), &mut findings);
        (catalogue, findings)
    }

    pub(crate) fn check(sources: &[Source]) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let layers = sources.iter().map(|source| source.read(&mut findings)).collect();
        let catalogue = resolve::resolve(layers, Depth::Check, None, &mut findings);
        (catalogue, findings)
    }

    pub(crate) fn check_text(file: &Path, text: &str) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut layer = Layer::default();
        layer.read_text(file, text, &mut findings);
        let catalogue = resolve::resolve(vec![layer], Depth::Check, None, &mut findings);
        (catalogue, findings)
    }

    /// The provider of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.index.get(name).map(|index| &self.providers[*index])
    }

    /// All providers, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<Provider>> {
        self.providers.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.providers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.providers.is_empty()
    }

    /// What is served of a provider in a language: [`Provider::wire`] with translated texts laid over it.
    pub fn wire_for<'p>(&self, provider: &'p Provider, language: Language) -> Cow<'p, JsonMap> {
        let overlay = self
            .overlays
            .get(&language)
            .and_then(|overlay| overlay.get(&provider.name));
        let Some(Value::Object(overlay)) = overlay else {
            return Cow::Borrowed(&provider.wire);
        };
        let mut wire = provider.wire.clone();
        lay_over(&mut wire, overlay);
        Cow::Owned(wire)
    }

    pub(crate) fn overlays(&self) -> impl Iterator<Item = (Language, &JsonMap)> {
        self.overlays.iter().map(|(language, texts)| (*language, texts))
    }

    /// The name most like `name`, for "did you mean".
    pub fn nearest(&self, name: &str) -> Option<&str> {
        crate::suggest::nearest(name, self.providers.iter().map(|provider| provider.name.as_str()))
    }

    fn new(mut providers: Vec<Arc<Provider>>, overlays: HashMap<Language, JsonMap>) -> Self {
        providers.sort_by(|a, b| a.name.cmp(&b.name));
        let index = providers
            .iter()
            .enumerate()
            .map(|(index, provider)| (provider.name.clone(), index))
            .collect();
        Self {
            providers,
            index,
            overlays,
        }
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        self.overlays == other.overlays
            && self.providers.len() == other.providers.len()
            && self
                .providers
                .iter()
                .zip(&other.providers)
                .all(|(a, b)| a.name == b.name && a.origin == b.origin && a.wire == b.wire)
    }
}

impl<'c> IntoIterator for &'c Catalogue {
    type Item = &'c Arc<Provider>;
    type IntoIter = std::slice::Iter<'c, Arc<Provider>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The catalogue in use. Cheap to clone; reading never waits.
///
/// It is made of its sources and, over them, of the definitions set while the server runs.
#[derive(Clone, Debug)]
pub struct CatalogueHandle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    current: ArcSwap<Catalogue>,
    sources: Vec<Source>,
    /// Held while a catalogue is built, so that of two builders the later one sees what the earlier one knew.
    stored: Mutex<Arc<[StoredDefinition]>>,
}

impl CatalogueHandle {
    /// Loads `sources` and puts what is good to use; what is not is in the findings.
    pub fn open(sources: Vec<Source>) -> (Self, Vec<Finding>) {
        let (catalogue, findings) = Catalogue::load(&sources);
        let inner = Inner {
            current: ArcSwap::from_pointee(catalogue),
            sources,
            stored: Mutex::new(Arc::from([])),
        };
        (Self(Arc::new(inner)), findings)
    }

    /// Puts a catalogue to use that was loaded elsewhere.
    pub fn new(catalogue: Catalogue) -> Self {
        let catalogue = Arc::new(catalogue);
        Self(Arc::new(Inner {
            current: ArcSwap::new(Arc::clone(&catalogue)),
            sources: vec![Source::Loaded(catalogue)],
            stored: Mutex::new(Arc::from([])),
        }))
    }

    /// The catalogue of this moment. Hold it for one operation, so that the operation sees one catalogue.
    pub fn current(&self) -> Arc<Catalogue> {
        self.0.current.load_full()
    }

    /// The provider of that name at this moment.
    pub fn get(&self, name: &str) -> Option<Arc<Provider>> {
        self.0.current.load().get(name).cloned()
    }

    /// Loads everything again and swaps the catalogue if it says anything else. Reads files: not for the
    /// asynchronous executor's threads.
    pub fn reload(&self) -> (Reloaded, Vec<Finding>) {
        let stored = self.lock();
        self.rebuild(&stored)
    }

    /// Replaces the definitions set while the server runs, all of them. Reads files, as [`Self::reload`] does.
    pub fn set_stored(&self, definitions: Vec<StoredDefinition>) -> (Reloaded, Vec<Finding>) {
        let mut stored = self.lock();
        if **stored == *definitions {
            return (Reloaded::Unchanged, Vec::new());
        }
        *stored = definitions.into();
        self.rebuild(&stored)
    }

    /// What `definition` would be if it were set, and everything that is wrong with it; nothing is put to use.
    /// Reads files, as [`Self::reload`] does.
    pub fn try_stored(&self, definition: StoredDefinition) -> (Option<Arc<Provider>>, Vec<Finding>) {
        let name = definition.provider.clone();
        let mut definitions: Vec<_> = self
            .lock()
            .iter()
            .filter(|one| one.provider != name)
            .cloned()
            .collect();
        definitions.push(definition);
        let (catalogue, findings) = Catalogue::check(&self.layers(definitions.into()));
        let about = |finding: &Finding| {
            finding.origin == Origin::Stored && finding.provider.as_deref() == Some(name.as_str())
        };
        let provider = catalogue
            .get(&name)
            .filter(|provider| provider.origin == Origin::Stored);
        (provider.cloned(), findings.into_iter().filter(about).collect())
    }

    /// The provider of that name as the sources have it, without what was set while the server runs. Reads files,
    /// as [`Self::reload`] does.
    pub fn as_shipped(&self, name: &str) -> Option<Arc<Provider>> {
        Catalogue::load(&self.0.sources).0.get(name).cloned()
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.0.sources
    }

    fn lock(&self) -> MutexGuard<'_, Arc<[StoredDefinition]>> {
        self.0.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers(&self, stored: Arc<[StoredDefinition]>) -> Vec<Source> {
        let mut sources = self.0.sources.clone();
        sources.push(Source::Stored(stored));
        sources
    }

    fn rebuild(&self, stored: &Arc<[StoredDefinition]>) -> (Reloaded, Vec<Finding>) {
        let current = self.current();
        let (next, findings) = current.reload(&self.layers(Arc::clone(stored)));
        if next.says_the_same_as(&current) {
            return (Reloaded::Unchanged, findings);
        }
        self.0.current.store(Arc::new(next));
        (Reloaded::Swapped, findings)
    }
}

/// What [`CatalogueHandle::reload`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The new catalogue is in use.
    Swapped,
    /// Nothing differs.
    Unchanged,
}

/// Texts of `overlay` replace texts of `base`, objects are merged.
fn lay_over(base: &mut JsonMap, overlay: &JsonMap) {
    for (key, value) in overlay {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(overlay)) => lay_over(base, overlay),
            (Some(Value::Object(_)), _) => {}
            (_, Value::String(_)) => {
                base.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
}
