//! Every error code has a page, and every page a code.

use std::collections::BTreeSet;
use std::path::Path;

use patchbay_api::codes;

#[test]
fn the_pages_are_those_of_the_codes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let pages: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let expected: BTreeSet<String> = codes::ALL
        .iter()
        .map(|code| format!("{}.md", code.name))
        .collect();
    assert_eq!(pages, expected);
    for code in codes::ALL {
        let page = std::fs::read_to_string(folder.join(format!("{}.md", code.name))).unwrap();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.starts_with(&format!("# {}\n\n", code.name)), "{}", code.name);
        assert!(
            words(&page).contains(&words(code.meaning)),
            "{}: says something else",
            code.name
        );
        let statuses = page.lines().find(|line| line.starts_with("HTTP ")).unwrap();
        for status in code.statuses {
            assert!(statuses.contains(&status.to_string()), "{}: {status}", code.name);
        }
        for part in ["**Cause.** ", "**Fix.** "] {
            assert!(page.contains(part), "{}: {part}", code.name);
        }
    }
}
