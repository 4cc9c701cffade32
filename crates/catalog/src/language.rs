//! Languages of display texts.

/// A language that display texts may be translated to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English, the language of the definitions.
    #[default]
    En,
    /// Spanish.
    Es,
    /// French.
    Fr,
    /// German.
    De,
}

impl Language {
    /// The language of a primary subtag, case ignored.
    pub fn parse(subtag: &str) -> Option<Self> {
        Some(match subtag.to_ascii_lowercase().as_str() {
            "en" => Self::En,
            "es" => Self::Es,
            "fr" => Self::Fr,
            "de" => Self::De,
            _ => return None,
        })
    }

    /// The primary subtag.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Es => "es",
            Self::Fr => "fr",
            Self::De => "de",
        }
    }

    /// The best of `Accept-Language` (RFC 9110 §12.5.4): highest weight, the first among equals, English if none.
    pub fn from_accept_language(header: &str) -> Self {
        let mut best = (0, Self::En);
        for range in header.split(',') {
            let mut pieces = range.split(';');
            let tag = pieces.next().unwrap_or_default().trim();
            let Some(language) = Self::parse(tag.split('-').next().unwrap_or_default()) else {
                continue;
            };
            let weight = pieces
                .find_map(|piece| piece.trim().strip_prefix("q="))
                .map_or(1000, weight);
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }
}

/// `q` in thousandths.
fn weight(text: &str) -> u32 {
    let thousandths = text.trim().parse::<f64>().unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1000"
    )]
    let weight = thousandths as u32;
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_known_language_wins() {
        for (header, expected) in [
            ("", Language::En),
            ("de", Language::De),
            ("de-CH, en;q=0.9", Language::De),
            ("en;q=0.5, fr;q=0.8, es;q=0.8", Language::Fr),
            ("pt-BR, es;q=0.3", Language::Es),
            ("fr;q=0, de;q=0.001", Language::De),
            ("*", Language::En),
            ("DE;q=x", Language::En),
        ] {
            assert_eq!(Language::from_accept_language(header), expected, "{header}");
        }
    }
}
