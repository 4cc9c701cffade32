//! Turns the shipped definitions (`catalog/*.yaml`) into one JSON text, so that start-up parses no YAML.
//!
//! A file that is no YAML does not break the build of everything else: it becomes a fault in the output, which the
//! library reports and its tests refuse.

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Value, json};

#[path = "src/yaml.rs"]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "shared with the library, which uses more of it"
)]
mod yaml;

#[expect(
    clippy::disallowed_methods,
    reason = "a build script's input is its environment"
)]
fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let folder = root.join("../../catalog");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=src/yaml.rs");
    println!("cargo::rerun-if-changed=build.rs");

    let mut entries = Vec::new();
    let mut faults = Vec::new();
    for (name, path) in definitions(&folder) {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        match definition(&text) {
            Ok(definition) => entries.push(json!([name, definition])),
            Err((position, message)) => {
                println!(
                    "cargo::warning={name}.yaml:{}:{}: {message}",
                    position.line, position.column
                );
                faults.push(json!([name, position.line, position.column, message]));
            }
        }
    }
    let catalogue = json!({"entries": entries, "faults": faults});
    fs::write(out.join("catalogue.json"), catalogue.to_string()).expect("the output directory is writable");
}

fn definitions(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut definitions: Vec<(String, PathBuf)> = files
        .filter_map(|file| {
            let path = file.ok()?.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            (path.extension()? == "yaml").then_some((name, path))
        })
        .collect();
    definitions.sort();
    definitions
}

fn definition(text: &str) -> Result<Value, (yaml::Position, String)> {
    let document = yaml::parse(text).map_err(|error| (error.at, error.message))?;
    if let Some(duplicate) = document.duplicates.first() {
        return Err((
            duplicate.at,
            format!(
                "`{}` is already set in line {}",
                duplicate.key, duplicate.first.line
            ),
        ));
    }
    match document.root.map(|root| root.to_json()) {
        Some(definition @ Value::Object(_)) => Ok(definition),
        _ => Err((
            yaml::Position { line: 1, column: 1 },
            "a definition is a mapping".to_owned(),
        )),
    }
}
