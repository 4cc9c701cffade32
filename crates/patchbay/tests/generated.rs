//! Files that are printed from tables in the source must be fresh. `UPDATE_GENERATED=1` writes them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use patchbay::cli::Cli;
use patchbay::config::reference;
use patchbay_catalog::{Catalogue, page};

#[track_caller]
fn check(path: &str, content: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if is_update() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == content,
        "{} is stale: run `UPDATE_GENERATED=1 cargo test -p patchbay --test generated`",
        path.display()
    );
}

/// Whether the files are written instead of compared.
fn is_update() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of the test run, not of the product"
    )]
    let update = std::env::var_os("UPDATE_GENERATED");
    update.is_some()
}

#[test]
fn provider_pages() {
    let catalogue = Catalogue::built_in();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers");
    let mut known = vec!["README.md".to_owned()];
    check("docs/providers/README.md", &page::index(&catalogue));
    for provider in &catalogue {
        let name = format!("{}.md", provider.name);
        check(&format!("docs/providers/{name}"), &page::provider(provider));
        known.push(name);
    }
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if known.contains(&name) {
            continue;
        }
        assert!(
            is_update(),
            "docs/providers/{name} is of a provider that is not there"
        );
        fs::remove_file(entry.path()).unwrap();
    }
}

#[test]
fn default_file() {
    check("docs/operate/patchbay.toml", &reference::default_file());
}

#[test]
fn config_schema() {
    let schema = serde_json::to_string_pretty(&reference::json_schema()).unwrap() + "\n";
    check("docs/operate/config.schema.json", &schema);
}

#[test]
fn the_schema_accepts_the_examples_of_the_default_file() {
    let schema = reference::json_schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let text: String = reference::default_file()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let value: toml::Value = toml::from_str(&text).unwrap();
    let value = serde_json::to_value(value).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    assert!(!validator.is_valid(&serde_json::json!({ "listne": "x" })));
}

#[test]
fn settings() {
    check("docs/operate/settings.md", &reference::settings_markdown());
}

#[test]
fn environment_variables() {
    check(
        "docs/operate/environment-variables.md",
        &reference::variables_markdown(),
    );
}

/// The help of every command in one page: documentation, and a snapshot that shows a change of the interface.
#[test]
fn commands() {
    let mut page = String::from(
        "# Commands\n\nThe help of each command, printed by `UPDATE_GENERATED=1 cargo test -p patchbay`; a test \
         keeps it fresh.\n\nExit codes: 0 done, 1 failed, 2 wrong command line, 3 problems in the configuration, \
         4 a check found something (`doctor`, `migrate --check`, `catalog check`).\n",
    );
    let mut command = Cli::command().term_width(110);
    command.build();
    append(&mut page, &mut command, "");
    check("docs/operate/commands.md", &page);
}

fn append(page: &mut String, command: &mut clap::Command, parents: &str) {
    if command.is_hide_set() {
        return;
    }
    let name = format!("{parents}{}", command.get_name());
    // Flags of `worker` and `demo` are those of `serve`, described in settings.md.
    let help = if parents.is_empty() || command.has_subcommands() {
        command.render_help()
    } else {
        command.render_long_help()
    };
    let help = help.to_string();
    let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.trim_end()).unwrap();
    let prefix = format!("{name} ");
    for child in command.get_subcommands_mut() {
        append(page, child, &prefix);
    }
}
