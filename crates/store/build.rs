//! Lists the migration files for `src/migrate.rs`, so that adding one is adding a file.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    // With all that is in it. A path that does not exist would count as changed at every build.
    println!("cargo::rerun-if-changed={}", root.display());
    let mut list = String::from("&[\n");
    for folder in ["common", "sqlite", "postgres"] {
        let path = root.join(folder);
        let Ok(entries) = fs::read_dir(&path) else {
            continue;
        };
        let mut files: Vec<String> = entries
            .map(|entry| entry.expect("a readable folder of migrations").file_name())
            .map(|name| name.into_string().expect("migrations have plain names"))
            .filter(|name| {
                Path::new(name)
                    .extension()
                    .is_some_and(|extension| extension == "sql")
            })
            .collect();
        files.sort();
        for file in files {
            let path = path.join(&file);
            let path = path.display();
            writeln!(
                list,
                "    File {{ folder: {folder:?}, name: {file:?}, sql: include_str!(r\"{path}\") }},"
            )
            .expect("a string takes any text");
        }
    }
    list.push_str("]\n");
    #[expect(
        clippy::disallowed_methods,
        reason = "how cargo tells a build script where to write"
    )]
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("migrations.rs"), list).expect("OUT_DIR is writable");
}
