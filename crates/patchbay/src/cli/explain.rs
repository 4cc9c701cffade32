//! `patchbay explain`: the page of an error code.

use std::io;

use super::Exit;
use super::output::Output;

/// Code and page, sorted by code.
const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

pub(super) fn run(code: Option<&str>, out: &mut Output<'_>) -> io::Result<Exit> {
    let Some(code) = code else {
        for (code, page) in PAGES {
            out.line(format!("{code:36}{}", summary(page)))?;
        }
        return Ok(Exit::Done);
    };
    if let Some((_, page)) = PAGES.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)) {
        out.text(page)?;
        return Ok(Exit::Done);
    }
    out.line(format!("There is no error code `{code}`."))?;
    let near = crate::config::nearest(code, PAGES.iter().map(|(code, _)| *code));
    out.line(match near {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "`patchbay explain` without a code lists all.".to_owned(),
    })?;
    Ok(Exit::Failed)
}

/// The first sentence below the title.
fn summary(page: &str) -> &str {
    page.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: Option<&str>) -> (Exit, String) {
        let mut buffer = Vec::new();
        let exit = run(code, &mut Output::new(&mut buffer)).unwrap();
        (exit, String::from_utf8(buffer).unwrap())
    }

    #[test]
    fn every_page_is_found_by_its_code_and_has_a_summary() {
        for (code, page) in PAGES {
            assert_eq!(explained(Some(code)), (Exit::Done, (*page).to_owned()));
            assert!(!summary(page).is_empty(), "{code}");
        }
    }

    #[test]
    fn an_unknown_code_fails_with_words() {
        let (exit, text) = explained(Some("no_such_code_at_all"));
        assert_eq!(exit, Exit::Failed);
        assert!(text.contains("no error code"), "{text}");
    }
}
