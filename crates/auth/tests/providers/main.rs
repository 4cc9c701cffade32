//! Every shipped provider against one generic fake: what we send to begin, to get a token, to renew it, to test it
//! and to call the API, as a snapshot a provider in `snapshots/`, so that a change to the engine shows which
//! providers it alters. Beside the snapshots, invariants over all of them.
//!
//! `UPDATE_GENERATED=1` writes the snapshots.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;
mod inputs;
mod invariants;
mod scenario;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use patchbay_catalog::Catalogue;

use crate::fake::Fake;
use crate::scenario::Story;

fn snapshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/providers/snapshots")
}

fn is_update() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of the test run, not of the product"
    )]
    let update = std::env::var_os("UPDATE_GENERATED");
    update.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_to_every_provider() {
    let fake = Fake::start().await;
    let shipped = Catalogue::built_in();
    let led_here = fake.lead_here(&shipped);
    assert_eq!(
        led_here.len(),
        shipped.len(),
        "every definition survives the change of its hosts"
    );
    let mut stale = Vec::new();
    let mut broken = Vec::new();
    let mut known = Vec::new();
    for provider in &led_here {
        let original = shipped.get(&provider.name).unwrap();
        let story = Story::tell(&fake, provider, original).await;
        broken.extend(
            invariants::broken(&story, original)
                .into_iter()
                .map(|fault| format!("{}: {fault}", provider.name)),
        );
        let file = format!("{}.txt", provider.name);
        let path = snapshots().join(&file);
        let text = story.to_string();
        if is_update() {
            fs::create_dir_all(snapshots()).unwrap();
            fs::write(&path, &text).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(file.clone());
        }
        known.push(file);
    }
    for entry in fs::read_dir(snapshots()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if known.contains(&name) {
            continue;
        }
        assert!(is_update(), "snapshots/{name} is of a provider that is not there");
        fs::remove_file(entry.path()).unwrap();
    }
    let mut report = String::new();
    for fault in &broken {
        let _ = writeln!(report, "{fault}");
    }
    assert!(broken.is_empty(), "{report}");
    assert!(
        stale.is_empty(),
        "what is sent has changed for {}; if it is meant, `UPDATE_GENERATED=1 cargo test -p patchbay-auth --test providers`",
        stale.join(", ")
    );
}
