//! The definitions we ship.

use std::path::Path;

use patchbay_catalog::check;
use patchbay_catalog::forms::{Form, FormContext};
use patchbay_catalog::{Catalogue, Severity, Source};

#[test]
fn every_shipped_definition_is_loaded_without_an_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalog");
    let findings = check::check(&[Source::Path(folder.clone())]);
    let errors: Vec<_> = findings
        .into_iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{}", check::render(&errors));
    let (from_files, _) = Catalogue::load(&[Source::Path(folder)]);
    let (built_in, findings) = Catalogue::load(&[Source::BuiltIn]);
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Warning),
        "{findings:?}"
    );
    assert_eq!(built_in.len(), from_files.len());
    for (a, b) in built_in.iter().zip(&from_files) {
        assert_eq!(
            (&a.name, &a.wire),
            (&b.name, &b.wire),
            "the build's JSON says what the file says"
        );
    }
}

#[test]
fn every_shipped_definition_has_a_form() {
    for provider in &Catalogue::built_in() {
        let form = Form::derive(&provider.definition, &FormContext::default());
        let mut seen: Vec<_> = form
            .fields
            .iter()
            .map(|field| (field.group, &field.name))
            .collect();
        let count = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), count, "{}", provider.name);
        assert!(
            form.fields.iter().all(|field| !field.label.is_empty()),
            "{}",
            provider.name
        );
    }
}
