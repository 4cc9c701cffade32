//! The `Link` header (RFC 8288 §3), as tolerant as its writers are careless.

/// Target of the first link whose `rel` contains `rel`, without regard to case.
pub(super) fn target(header: &str, rel: &str) -> Option<String> {
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let (uri, after) = rest[start + 1..].split_once('>')?;
        let (parameters, following) = parameters(after);
        let is_meant = parameters
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("rel"))
            .is_some_and(|(_, value)| {
                value
                    .split_ascii_whitespace()
                    .any(|one| one.eq_ignore_ascii_case(rel))
            });
        if is_meant {
            return Some(uri.trim().to_owned());
        }
        rest = following;
    }
    None
}

/// `; name=value; name="value"` up to the comma that ends this link, and what follows it.
fn parameters(mut text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    loop {
        text = text.trim_start();
        let Some(after) = text.strip_prefix(';') else {
            // A comma, the end, or rubbish up to the next comma.
            return (found, text.split_once(',').map_or("", |(_, following)| following));
        };
        let end = after.find(['=', ';', ',']).unwrap_or(after.len());
        let name = after[..end].trim();
        text = &after[end..];
        let Some(value) = text.strip_prefix('=') else {
            found.push((name, String::new()));
            continue;
        };
        let value = value.trim_start();
        let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
            unquote(quoted)
        } else {
            let end = value.find([';', ',']).unwrap_or(value.len());
            (value[..end].trim().to_owned(), &value[end..])
        };
        found.push((name, value));
        text = after;
    }
}

/// The text up to the closing quote, escapes undone, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_are_found_by_their_relation() {
        let github = r#"<https://api.example.com/issues?page=2&q=a,b>; rel="next", <https://api.example.com/issues?page=9>; rel="last""#;
        assert_eq!(
            target(github, "next").as_deref(),
            Some("https://api.example.com/issues?page=2&q=a,b")
        );
        assert_eq!(
            target(github, "last").as_deref(),
            Some("https://api.example.com/issues?page=9")
        );
        assert_eq!(target(github, "prev"), None);
    }

    #[test]
    fn relations_may_be_bare_several_or_beside_other_parameters() {
        let header =
            r#"</a>;rel=self , </b>; title="x; rel=\"next\", y" ; REL="prev Next"; n, </c>;rel=next"#;
        assert_eq!(target(header, "next").as_deref(), Some("/b"));
        assert_eq!(target(header, "self").as_deref(), Some("/a"));
        assert_eq!(target("", "next"), None);
        assert_eq!(target("<unclosed; rel=next", "next"), None);
        assert_eq!(target("</x>; rel=\"next", "next").as_deref(), Some("/x"));
    }

    proptest! {
        #[test]
        fn no_header_panics(header in r#"[<>;,="\\ a-elr/é]{0,40}"#) {
            let _ = target(&header, "rel");
        }

        #[test]
        fn what_is_written_is_found(uri in "/[a-z0-9?=&,;]{0,20}", title in r#"[a-z;,="\\<> ]{0,12}"#) {
            let title = title.replace('\\', r"\\").replace('"', r#"\""#);
            let header = format!(r#"</other>; rel="prev"; title="{title}", <{uri}>; title="{title}"; rel="next""#);
            // A target inside quotes is text.
            prop_assert_eq!(target(&header, "next"), Some(uri));
        }
    }
}
