//! Sources, overrides, aliases and what is served.

use std::fs;
use std::path::Path;

use patchbay_catalog::catalogue::Reloaded;
use patchbay_catalog::{
    Catalogue, CatalogueHandle, Finding, Language, Origin, Severity, Source, StoredDefinition,
};
use proptest::prelude::*;
use serde_json::json;

fn entry(display_name: &str) -> String {
    format!("    display_name: {display_name}\n    auth_mode: NONE\n    docs: https://docs.example.com\n")
}

fn messages(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn write(folder: &Path, name: &str, text: &str) -> Source {
    let path = folder.join(name);
    fs::write(&path, text).expect("a temporary directory is writable");
    Source::Path(path)
}

#[test]
fn an_alias_is_a_shallow_merge_and_keeps_the_targets_order_of_keys() {
    let text = "
b-sandbox: {alias: b, display_name: B sandbox, webhook_routing_script: '', proxy: {base_url: https://s.example}}
b:
    display_name: B
    auth_mode: OAUTH2
    authorization_url: https://b.example/a
    token_url: https://b.example/t
    token_params: {expiring: 1, since: 2025-01-01, sure: true}
    proxy: {base_url: https://b.example, retry: {after: [retry-after]}}
    webhook_routing_script: slackWebhookRouting
    docs: https://docs.example.com
";
    let (catalogue, findings) = Catalogue::from_text("providers.yaml", text);
    assert_eq!(messages(&findings), Vec::<String>::new());
    let sandbox = catalogue.get("b-sandbox").unwrap();
    assert_eq!(
        serde_json::to_string(&sandbox.wire).unwrap(),
        json!({
            "display_name": "B sandbox", "auth_mode": "OAUTH2", "authorization_url": "https://b.example/a",
            "token_url": "https://b.example/t",
            "token_params": {"expiring": 1, "since": "2025-01-01", "sure": true},
            "proxy": {"base_url": "https://s.example"}, "webhook_routing_script": "",
            "docs": "https://docs.example.com",
        })
        .to_string()
    );
    assert_eq!(sandbox.alias_of.as_deref(), Some("b"));
    assert_eq!(
        sandbox.definition.webhook_routing_script, None,
        "empty means none"
    );
    assert!(sandbox.definition.proxy.retry.after.is_empty());
    assert_eq!(
        catalogue
            .get("b")
            .unwrap()
            .definition
            .webhook_routing_script
            .as_deref(),
        Some("slackWebhookRouting")
    );
    let names: Vec<&str> = catalogue.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["b", "b-sandbox"]);
}

#[test]
fn circles_of_aliases_are_named_and_cost_only_those_in_them() {
    let text = format!(
        "a: {{alias: b}}\nb: {{alias: c}}\nc: {{alias: a}}\nd: {{alias: d}}\ne: {{alias: a}}\nok:\n{}",
        entry("Ok")
    );
    let (catalogue, findings) = Catalogue::from_text("x.yaml", &text);
    assert_eq!(catalogue.len(), 1);
    assert_eq!(
        messages(&findings),
        [
            "x.yaml:1:12: error: a.alias: its target `b` cannot be used [alias-target]",
            "x.yaml:2:12: error: b.alias: its target `c` cannot be used [alias-target]",
            "x.yaml:3:12: error: c.alias: aliases go round in a circle: a → b → c → a [alias-circle]",
            "x.yaml:4:12: error: d.alias: aliases go round in a circle: d → d [alias-circle]",
            "x.yaml:5:12: error: e.alias: its target `a` cannot be used [alias-target]",
        ]
    );
}

#[test]
fn a_slip_in_one_entry_costs_that_entry() {
    let text = format!(
        "# comment\none:\n{}two:\n    display_name: \"Two\n    auth_mode: NONE\nthree:\n\tdisplay_name: Three\nfour:\n{}'five': [1]\nSix:\n{}one:\n{}",
        entry("One"),
        entry("Four"),
        entry("Six"),
        entry("One again")
    );
    let (catalogue, findings) = Catalogue::from_text("x.yaml", &text);
    let names: Vec<&str> = catalogue.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["four", "one"]);
    assert_eq!(catalogue.get("one").unwrap().definition.display_name, "One");
    let places: Vec<_> = findings
        .iter()
        .map(|f| (f.provider.as_deref().unwrap(), f.line.unwrap(), f.rule))
        .collect();
    assert_eq!(
        places,
        [
            ("two", 7, "syntax"),
            ("three", 10, "syntax"),
            ("five", 15, "wrong-type"),
            ("Six", 16, "provider-name"),
            ("one", 20, "duplicate-entry"),
        ]
    );
}

#[test]
fn files_are_told_apart_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "single.yaml", &entry("Single").replace("    ", ""));
    write(
        root,
        "many.yml",
        &format!(
            "# shared\nx-shared: &common [crm]\nmany-a:\n{}    categories: *common\nmany-b:\n{}",
            entry("A"),
            entry("B")
        ),
    );
    write(
        root,
        "more.json",
        r#"{"more": {"display_name": "More", "auth_mode": "NONE", "docs": "https://d.example"}}"#,
    );
    write(root, "scopes.yaml", "single: [read, write]\nmany-b: []\n");
    write(
        root,
        "providers.de.json",
        r#"{"single": {"display_name": "Einzeln", "docs": {"no": "object"}}}"#,
    );
    write(root, "notes.txt", "not a catalogue");
    write(root, ".hidden.yaml", "also not");
    write(root, "empty.yaml", "");
    let (catalogue, findings) = Catalogue::load(&[Source::Path(root.to_owned())]);
    assert_eq!(messages(&findings), Vec::<String>::new());
    let names: Vec<&str> = catalogue.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["many-a", "many-b", "more", "single"]);
    let single = catalogue.get("single").unwrap();
    assert_eq!(single.definition.available_scopes, ["read", "write"]);
    assert_eq!(single.wire["available_scopes"], json!(["read", "write"]));
    assert!(
        !catalogue
            .get("many-b")
            .unwrap()
            .wire
            .contains_key("available_scopes")
    );
    assert_eq!(
        catalogue.wire_for(single, Language::De)["display_name"],
        json!("Einzeln")
    );
    assert_eq!(
        catalogue.wire_for(single, Language::De)["docs"],
        json!("https://docs.example.com")
    );
    assert_eq!(
        catalogue.wire_for(single, Language::Fr)["display_name"],
        json!("Single")
    );
    assert_eq!(single.origin, Origin::file(root.join("single.yaml")));
}

#[test]
fn later_sources_override_and_a_faulty_override_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(
        folder.path(),
        "first.yaml",
        &format!("a:\n{}b:\n{}c:\n{}", entry("A1"), entry("B1"), entry("C1")),
    );
    let second = write(
        folder.path(),
        "second.yaml",
        "a: {display_name: A2, auth_mode: NOEN}\nb: {alias: b, display_name: B2}\nd: {alias: c, display_name: D}\nb-eu: {alias: b}\n",
    );
    let (catalogue, findings) = Catalogue::load(&[first, second]);
    let names: Vec<_> = catalogue
        .iter()
        .map(|p| (p.name.as_str(), p.definition.display_name.as_str()))
        .collect();
    assert_eq!(
        names,
        [("a", "A1"), ("b", "B2"), ("b-eu", "B2"), ("c", "C1"), ("d", "D")]
    );
    assert_eq!(findings.len(), 1);
    let file = folder.path().join("first.yaml");
    assert!(
        findings[0]
            .message
            .ends_with(&format!("the definition of {} stays in use", file.display()))
    );
    assert_eq!(
        (findings[0].severity, findings[0].line),
        (Severity::Error, Some(1))
    );
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Source::Path(folder.path().join("missing.yaml"));
    let list = write(folder.path(), "list.yaml", "- a\n");
    let binary = folder.path().join("binary.yaml");
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    let (catalogue, findings) = Catalogue::load(&[missing, list, Source::Path(binary)]);
    assert!(catalogue.is_empty());
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    assert_eq!(rules, ["syntax", "unreadable", "unreadable"]);
    assert!(Catalogue::built_in().len() >= 40);
}

#[test]
fn a_reload_swaps_what_is_good_and_keeps_what_has_become_faulty() {
    let folder = tempfile::tempdir().unwrap();
    let source = write(
        folder.path(),
        "x.yaml",
        &format!("a:\n{}b:\n{}", entry("A1"), entry("B1")),
    );
    let (handle, _) = CatalogueHandle::open(vec![source]);
    assert_eq!(handle.reload().0, Reloaded::Unchanged);

    write(
        folder.path(),
        "x.yaml",
        &format!("a:\n    display_name: \"A2\nb:\n{}", entry("B2")),
    );
    let (reloaded, findings) = handle.reload();
    assert_eq!(reloaded, Reloaded::Swapped);
    assert_eq!(handle.get("a").unwrap().definition.display_name, "A1");
    assert_eq!(handle.get("b").unwrap().definition.display_name, "B2");
    assert!(
        findings[0]
            .message
            .ends_with("the definition read earlier stays in use"),
        "{}",
        findings[0]
    );

    fs::remove_file(folder.path().join("x.yaml")).unwrap();
    let (reloaded, findings) = handle.reload();
    assert_eq!((reloaded, findings.len()), (Reloaded::Unchanged, 1));

    write(folder.path(), "x.yaml", &format!("b:\n{}", entry("B3")));
    assert_eq!(handle.reload().0, Reloaded::Swapped);
    assert_eq!(handle.current().len(), 1, "what is deleted on purpose is gone");
}

#[test]
fn what_is_set_while_running_lies_over_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let source = write(
        folder.path(),
        "x.yaml",
        &format!("a:\n{}b:\n{}", entry("A1"), entry("B1")),
    );
    let (handle, _) = CatalogueHandle::open(vec![source]);
    let stored = |provider: &str, definition: serde_json::Value| StoredDefinition {
        provider: provider.to_owned(),
        definition: definition.as_object().unwrap().clone(),
    };
    let varied = stored("a", json!({"alias": "a", "display_name": "A, corrected"}));

    let (provider, findings) = handle.try_stored(varied.clone());
    assert_eq!(provider.unwrap().definition.display_name, "A, corrected");
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Warning),
        "{findings:?}"
    );
    assert_eq!(
        handle.get("a").unwrap().definition.display_name,
        "A1",
        "trying changes nothing"
    );

    assert_eq!(handle.set_stored(vec![varied.clone()]).0, Reloaded::Swapped);
    assert_eq!(handle.set_stored(vec![varied.clone()]).0, Reloaded::Unchanged);
    assert_eq!(handle.get("a").unwrap().definition.display_name, "A, corrected");
    assert_eq!(handle.as_shipped("a").unwrap().definition.display_name, "A1");
    write(
        folder.path(),
        "x.yaml",
        &format!("a:\n{}b:\n{}", entry("A2"), entry("B2")),
    );
    assert_eq!(handle.reload().0, Reloaded::Swapped);
    assert_eq!(handle.get("a").unwrap().definition.display_name, "A, corrected");
    assert_eq!(handle.get("b").unwrap().definition.display_name, "B2");

    let (provider, findings) = handle.try_stored(stored("b", json!({"auth_mode": "NOPE"})));
    assert!(provider.is_none());
    assert!(
        findings.iter().any(|finding| finding.path == "auth_mode"),
        "{findings:?}"
    );
    let (provider, findings) = handle.try_stored(stored("Not A Name", json!({"alias": "a"})));
    assert!(provider.is_none() && !findings.is_empty());

    assert_eq!(handle.set_stored(Vec::new()).0, Reloaded::Swapped);
    assert_eq!(handle.get("a").unwrap().definition.display_name, "A2");
}

#[test]
fn anchors_expand_but_not_without_end() {
    let mut bomb = "a: &a0 {x: y}\n".to_owned();
    for level in 1..30 {
        let previous = format!("*a{}", level - 1);
        let items = [previous.as_str(); 9].join(", ");
        bomb.extend([format!("k{level}: &a{level} [{items}]\n")]);
    }
    let (catalogue, findings) = Catalogue::from_text("bomb.yaml", &bomb);
    assert!(catalogue.is_empty() && !findings.is_empty());
    let merged = format!(
        ".base: &base\n{}one: {{<<: *base, display_name: One}}\n",
        entry("Base")
    );
    let (catalogue, findings) = Catalogue::from_text("x.yaml", &merged);
    assert_eq!(messages(&findings), Vec::<String>::new());
    assert_eq!(catalogue.get("one").unwrap().definition.display_name, "One");
}

proptest! {
    /// A forest of aliases gives the same providers in whatever order its entries are written.
    #[test]
    fn the_order_of_entries_does_not_matter(
        targets in prop::collection::vec(prop::option::of(0usize..12), 12),
        order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let line = |index: usize| match targets[index] {
            Some(target) => format!("p{index}: {{alias: p{target}, categories: [c{index}]}}\n"),
            None => format!("p{index}: {{display_name: P{index}, auth_mode: NONE, docs: 'https://d.example'}}\n"),
        };
        let straight: String = (0..12).map(line).collect();
        let shuffled: String = order.iter().map(|index| line(*index)).collect();
        let (one, one_findings) = Catalogue::from_text("x.yaml", &straight);
        let (other, other_findings) = Catalogue::from_text("x.yaml", &shuffled);
        let wires = |catalogue: &Catalogue| {
            catalogue.iter().map(|p| (p.name.clone(), p.wire.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(wires(&one), wires(&other));
        prop_assert_eq!(one_findings.len(), other_findings.len());
        // A provider exists exactly if following its aliases ends at a definition, and it is that one's variation.
        for index in 0..12 {
            let mut end = index;
            let mut steps = 0;
            while let Some(next) = targets[end].filter(|_| steps < 12) {
                end = next;
                steps += 1;
            }
            let provider = one.get(&format!("p{index}"));
            prop_assert_eq!(provider.is_some(), targets[end].is_none());
            if let Some(provider) = provider {
                prop_assert_eq!(&provider.definition.display_name, &format!("P{end}"));
            }
        }
    }

    #[test]
    fn no_text_panics(text in "([a-z${}\\[\\]:,&*!|>'\"#\n\t -]|alias|proxy|auth_mode|NONE|display_name: x){0,60}") {
        let _ = patchbay_catalog::check::check_text("x.yaml", &text);
    }
}
