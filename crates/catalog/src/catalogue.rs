//! The catalogue: every usable provider, aliases resolved, and the handle through which it is replaced while in use.

mod resolve;
mod watch;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use patchbay_types::JsonMap;
use serde_json::Value;

use crate::check::Depth;
use crate::definition::Definition;
use crate::finding::{Finding, Origin};
use crate::language::Language;
use crate::source::{Layer, Source};

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
#[derive(Clone, Debug)]
pub struct CatalogueHandle(Arc<ArcSwap<Catalogue>>);

impl CatalogueHandle {
    /// Puts a catalogue to use.
    pub fn new(catalogue: Catalogue) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(catalogue)))
    }

    /// The catalogue of this moment. Hold it for one operation, so that the operation sees one catalogue.
    pub fn current(&self) -> Arc<Catalogue> {
        self.0.load_full()
    }

    /// The provider of that name at this moment.
    pub fn get(&self, name: &str) -> Option<Arc<Provider>> {
        self.0.load().get(name).cloned()
    }

    /// Loads the sources again and swaps the catalogue if it says anything else. Reads files: not for the
    /// asynchronous executor's threads.
    pub fn reload(&self, sources: &[Source]) -> (Reloaded, Vec<Finding>) {
        let current = self.current();
        let (next, findings) = current.reload(sources);
        if next.says_the_same_as(&current) {
            return (Reloaded::Unchanged, findings);
        }
        self.0.store(Arc::new(next));
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
