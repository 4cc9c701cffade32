//! The catalogue follows its files.

use std::fs;
use std::time::Duration;

use patchbay_ambient::{Ambient, TestClock};
use patchbay_catalog::{CatalogueHandle, Source};

fn entry(display_name: &str) -> String {
    format!("acme: {{display_name: {display_name}, auth_mode: NONE, docs: 'https://d.example'}}\n")
}

/// Level-triggered: looks until it is so.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let look = async {
        while !holds() {
            tick.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look)
        .await
        .unwrap_or_else(|_| panic!("never {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_in_use_soon_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("acme.d.yaml");
    fs::write(&file, entry("One")).unwrap();
    let sources = vec![Source::BuiltIn, Source::Path(file.clone())];
    let (handle, _) = CatalogueHandle::open(sources);
    let ambient = Ambient::test(TestClock::default(), 1);
    handle.watch(&ambient);
    let name = || {
        handle
            .get("acme")
            .map(|provider| provider.definition.display_name.clone())
    };
    assert_eq!(name().as_deref(), Some("One"));

    // As editors do it: a new file is renamed over the old one.
    let next = folder.path().join("next.tmp");
    fs::write(&next, entry("Two")).unwrap();
    fs::rename(&next, &file).unwrap();
    until("two", || name().as_deref() == Some("Two")).await;

    fs::write(
        &file,
        format!(
            "{}other: {{display_name: O, auth_mode: NONE}}\n",
            entry("\"Three")
        ),
    )
    .unwrap();
    until("other", || handle.get("other").is_some()).await;
    assert_eq!(name().as_deref(), Some("Two"), "the broken entry stays as it was");

    fs::write(&file, entry("Four")).unwrap();
    until("four", || name().as_deref() == Some("Four")).await;
    assert!(handle.get("other").is_none());
    ambient.tasks.shut_down(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_followed_and_without_events_it_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let sources = vec![Source::Path(folder.path().to_owned())];
    let (handle, _) = CatalogueHandle::open(sources);
    let clock = TestClock::default();
    let ambient = Ambient::test(clock.clone(), 1);
    handle.watch(&ambient);
    fs::write(folder.path().join("many.yaml"), entry("One")).unwrap();
    until("acme", || {
        // Only the poll depends on this clock; events come by themselves.
        clock.advance(Duration::from_secs(31));
        handle.get("acme").is_some()
    })
    .await;
    fs::remove_file(folder.path().join("many.yaml")).unwrap();
    until("gone", || {
        clock.advance(Duration::from_secs(31));
        handle.get("acme").is_none()
    })
    .await;
    ambient.tasks.shut_down(Duration::from_secs(5)).await;
}
