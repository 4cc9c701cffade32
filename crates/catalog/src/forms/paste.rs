//! People paste whole addresses where a part is asked for; the part is in there.

/// What surrounds the value of a field.
pub(super) struct Affixes<'a> {
    pub(super) prefix: Option<&'a str>,
    pub(super) suffix: Option<&'a str>,
    /// The value is a host name.
    pub(super) hostname: bool,
}

/// The value in `text`: without blanks around it, without the prefix and suffix shown beside the input, and without
/// scheme and path where a host or a part of one is asked for. Never empty unless `text` is blank.
pub(super) fn value_in(text: &str, affixes: &Affixes<'_>) -> String {
    let text = text.trim();
    let value = stripped(text, affixes).trim();
    if value.is_empty() {
        text.to_owned()
    } else {
        value.to_owned()
    }
}

fn stripped<'t>(text: &'t str, affixes: &Affixes<'_>) -> &'t str {
    let prefix = affixes.prefix.unwrap_or_default();
    let suffix = affixes.suffix.unwrap_or_default();
    let of_an_address = affixes.hostname || without_scheme(prefix).is_some();
    let mut value = text;
    let mut is_address = false;
    if let Some(rest) = strip_start(value, prefix) {
        value = rest;
        is_address = of_an_address;
    } else if of_an_address && let Some(rest) = without_scheme(value) {
        is_address = true;
        // `https://` + `app.` is shown, `http://app.acme…` was pasted.
        let shown = without_scheme(prefix).unwrap_or_default();
        value = strip_start(rest, shown).unwrap_or(rest);
    }
    if !suffix.is_empty() {
        if let Some(rest) = strip_end(value, suffix) {
            return rest;
        }
        // The page one is looking at has a path behind the host.
        if let Some(at) = find_ignoring_case(value, suffix)
            && of_an_address
            && value[at + suffix.len()..].starts_with(['/', '?', '#', ':'])
        {
            return &value[..at];
        }
        return value;
    }
    if affixes.hostname {
        return value.split(['/', '?', '#']).next().unwrap_or(value);
    }
    if is_address {
        value.trim_end_matches('/')
    } else {
        value
    }
}

fn without_scheme(text: &str) -> Option<&str> {
    strip_start(text, "https://").or_else(|| strip_start(text, "http://"))
}

fn strip_start<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    (!prefix.is_empty() && head.eq_ignore_ascii_case(prefix)).then(|| &text[prefix.len()..])
}

fn strip_end<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let at = text.len().checked_sub(suffix.len())?;
    let tail = text.get(at..)?;
    tail.eq_ignore_ascii_case(suffix).then(|| &text[..at])
}

fn find_ignoring_case(text: &str, part: &str) -> Option<usize> {
    // ASCII lower-casing keeps offsets.
    text.to_ascii_lowercase().find(&part.to_ascii_lowercase())
}
