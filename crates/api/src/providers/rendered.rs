//! The catalogue as JSON text.

use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::HeaderValue;
use patchbay_catalog::{Catalogue, Language};
use patchbay_connections::Context;
use serde_json::Value;

use crate::error::ApiError;

/// What was rendered of the catalogue in use. A replaced catalogue's texts go with it.
#[derive(Default)]
pub(super) struct Renderings(ArcSwapOption<OfCatalogue>);

struct OfCatalogue {
    catalogue: Arc<Catalogue>,
    languages: [OnceLock<Arc<Rendered>>; 4],
    definitions: OnceLock<Arc<Rendered>>,
}

/// A text about all providers.
pub(super) struct Rendered {
    /// All of it.
    pub(super) text: Bytes,
    /// Its entity tag.
    pub(super) etag: HeaderValue,
    /// Where each provider is in it, sorted by name.
    places: Vec<(String, Range<usize>)>,
}

impl Renderings {
    /// `{"data":[…]}` of every provider in `language`.
    pub(super) fn providers(&self, context: &Context, language: Language) -> Result<Arc<Rendered>, ApiError> {
        let of = self.current(context);
        let slot = match language {
            Language::En => &of.languages[0],
            Language::Es => &of.languages[1],
            Language::Fr => &of.languages[2],
            Language::De => &of.languages[3],
        };
        if let Some(rendered) = slot.get() {
            return Ok(Arc::clone(rendered));
        }
        let fresh = Arc::new(in_language(context, &of.catalogue, language)?);
        Ok(Arc::clone(slot.get_or_init(|| fresh)))
    }

    /// Every definition by name.
    pub(super) fn definitions(&self, context: &Context) -> Result<Arc<Rendered>, ApiError> {
        let of = self.current(context);
        if let Some(rendered) = of.definitions.get() {
            return Ok(Arc::clone(rendered));
        }
        let mut text = b"{".to_vec();
        for provider in of.catalogue.iter() {
            if text.len() > 1 {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &provider.name).map_err(ApiError::unexpected)?;
            text.push(b':');
            serde_json::to_writer(&mut text, &provider.wire).map_err(ApiError::unexpected)?;
        }
        text.push(b'}');
        let fresh = Arc::new(Rendered::new(text, Vec::new()));
        Ok(Arc::clone(of.definitions.get_or_init(|| fresh)))
    }

    fn current(&self, context: &Context) -> Arc<OfCatalogue> {
        let catalogue = context.catalogue.current();
        if let Some(of) = self
            .0
            .load_full()
            .filter(|of| Arc::ptr_eq(&of.catalogue, &catalogue))
        {
            return of;
        }
        let of = Arc::new(OfCatalogue {
            catalogue,
            languages: Default::default(),
            definitions: OnceLock::new(),
        });
        self.0.store(Some(Arc::clone(&of)));
        of
    }
}

impl Rendered {
    fn new(text: Vec<u8>, places: Vec<(String, Range<usize>)>) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&text);
        let etag = format!("W/\"{:x}-{:016x}\"", text.len(), hasher.finish());
        Self {
            etag: HeaderValue::try_from(etag).expect("hexadecimal digits are legal in a header"),
            text: text.into(),
            places,
        }
    }

    /// Name and text of each provider.
    pub(super) fn providers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.places
            .iter()
            .map(|(name, place)| (name.as_str(), &self.text[place.clone()]))
    }

    /// The text of one.
    pub(super) fn provider(&self, name: &str) -> Option<&[u8]> {
        let index = self
            .places
            .binary_search_by(|(candidate, _)| candidate.as_str().cmp(name))
            .ok()?;
        Some(&self.text[self.places[index].1.clone()])
    }
}

fn in_language(context: &Context, catalogue: &Catalogue, language: Language) -> Result<Rendered, ApiError> {
    let mut text = b"{\"data\":[".to_vec();
    let mut places = Vec::with_capacity(catalogue.len());
    for provider in catalogue {
        if !places.is_empty() {
            text.push(b',');
        }
        let from = text.len();
        let mut wire = catalogue.wire_for(provider, language).into_owned();
        wire.insert("name".to_owned(), Value::from(provider.name.as_str()));
        let logo_url = super::logo_url(context, &provider.name);
        wire.insert("logo_url".to_owned(), Value::from(logo_url));
        serde_json::to_writer(&mut text, &wire).map_err(ApiError::unexpected)?;
        places.push((provider.name.clone(), from..text.len()));
    }
    text.extend_from_slice(b"]}");
    Ok(Rendered::new(text, places))
}
