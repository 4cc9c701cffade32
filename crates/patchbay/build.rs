//! Embeds the pages of docs/errors, which `patchbay explain` prints.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let errors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    println!("cargo::rerun-if-changed={}", errors.display());
    let mut pages: Vec<PathBuf> = fs::read_dir(&errors)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    let mut table = String::from("&[\n");
    for page in pages {
        let Some(code) = page.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        if code == "README" {
            continue;
        }
        println!("cargo::rerun-if-changed={}", page.display());
        let path = page.canonicalize().unwrap_or(page.clone());
        let path = path.to_string_lossy();
        let _ = writeln!(table, "    ({code:?}, include_str!({path:?})),");
    }
    table.push(']');
    #[expect(
        clippy::disallowed_methods,
        reason = "how cargo tells a build script where to write"
    )]
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(out.join("error_pages.rs"), table).expect("OUT_DIR is writable in a build script");
}
