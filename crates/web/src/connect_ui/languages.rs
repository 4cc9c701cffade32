//! Languages of the Connect UI: one file of texts each.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// A language with all its texts.
#[derive(Debug)]
pub(super) struct Language {
    /// Primary subtag (RFC 5646).
    pub(super) tag: &'static str,
    /// Direction of writing.
    pub(super) direction: &'static str,
    texts: Map<String, Value>,
}

impl Language {
    pub(super) fn texts(&self) -> &Map<String, Value> {
        &self.texts
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.texts.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

macro_rules! languages {
    ($($tag:literal $direction:literal)*) => {
        /// English first: the one that is used where no other fits.
        static ALL: LazyLock<Vec<Language>> = LazyLock::new(|| vec![$({
            let text = include_str!(concat!("../../assets/connect-ui/languages/", $tag, ".json"));
            let texts = serde_json::from_str(text).expect("a test parses every language's file");
            Language { tag: $tag, direction: $direction, texts }
        }),*]);
    };
}

languages! {
    "en" "ltr"
    "ar" "rtl"
    "de" "ltr"
    "es" "ltr"
    "fr" "ltr"
    "he" "rtl"
    "it" "ltr"
    "ja" "ltr"
    "ko" "ltr"
    "nl" "ltr"
    "pl" "ltr"
    "pt" "ltr"
    "sv" "ltr"
    "tr" "ltr"
    "uk" "ltr"
    "zh" "ltr"
}

/// The language of a tag, by its primary subtag.
pub(super) fn find(tag: &str) -> Option<&'static Language> {
    let primary = tag.split(['-', '_']).next().unwrap_or_default();
    ALL.iter()
        .find(|language| language.tag.eq_ignore_ascii_case(primary))
}

/// What the page asks for, else the best of `Accept-Language` (RFC 9110 §12.5.4), else English.
pub(super) fn choose(wanted: Option<&str>, accepted: &str) -> &'static Language {
    if let Some(language) = wanted.and_then(find) {
        return language;
    }
    let mut best = (0.0, &ALL[0]);
    for range in accepted.split(',') {
        let mut pieces = range.split(';');
        let Some(language) = find(pieces.next().unwrap_or_default().trim()) else {
            continue;
        };
        let weight = pieces
            .find_map(|piece| piece.trim().strip_prefix("q="))
            .map_or(1.0, |text| text.trim().parse::<f64>().unwrap_or(0.0));
        if weight > best.0 {
            best = (weight, language);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn placeholders(text: &str) -> BTreeSet<&str> {
        let pieces = text.split('{').skip(1);
        pieces
            .map(|piece| piece.split_once('}').expect("a closed brace").0)
            .collect()
    }

    #[test]
    fn every_language_has_every_text_with_the_same_placeholders() {
        let english = ALL[0].texts();
        for language in ALL.iter() {
            let texts = language.texts();
            let keys: Vec<_> = texts.keys().collect();
            assert_eq!(keys, english.keys().collect::<Vec<_>>(), "{}", language.tag);
            for (key, text) in texts {
                let (text, model) = (text.as_str().unwrap(), english[key].as_str().unwrap());
                assert!(!text.trim().is_empty(), "{} {key}", language.tag);
                assert_eq!(placeholders(text), placeholders(model), "{} {key}", language.tag);
            }
        }
    }

    #[test]
    fn translations_are_translated() {
        let english = ALL[0].texts();
        for language in &ALL[1..] {
            let same = language
                .texts()
                .iter()
                .filter(|(key, text)| english[*key] == **text)
                .count();
            assert!(same <= 4, "{}: {same} texts are as in English", language.tag);
        }
    }

    #[test]
    fn languages_are_chosen_by_wish_then_by_weight() {
        for (wanted, accepted, tag) in [
            (None, "", "en"),
            (Some("ar-EG"), "de", "ar"),
            (Some("xx"), "de-CH, en;q=0.9", "de"),
            (None, "xx, ja;q=0.4, PT-br;q=0.8", "pt"),
            (None, "he;q=0", "en"),
            (Some(""), "zh-Hant-TW", "zh"),
        ] {
            assert_eq!(choose(wanted, accepted).tag, tag, "{wanted:?} {accepted}");
        }
    }
}
