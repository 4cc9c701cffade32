//! The operator's form: values of `integration_config` (catalog-format §4.2, api-core §8.4).

use std::collections::BTreeMap;
use std::fmt;

use patchbay_types::Secret;

use crate::definition::{Field, Fields, Format};

/// Whether an integration is being made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Every required field must get a value, from its default if need be.
    Create,
    /// Only what is submitted changes; an empty value clears an optional field.
    Update,
}

/// What becomes of the integration's stored values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Values to store.
    pub set: BTreeMap<String, String>,
    /// Names to forget.
    pub clear: Vec<String>,
}

/// Everything wrong with a submission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    /// One sentence each, without full stops, in the order of the definition.
    pub problems: Vec<String>,
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl Resolved {
    /// Carries the change out.
    pub fn apply_to(self, stored: &mut BTreeMap<String, Secret>) {
        for name in &self.clear {
            stored.remove(name);
        }
        stored.extend(
            self.set
                .into_iter()
                .map(|(name, value)| (name, Secret::from(value))),
        );
    }
}

/// Checks submitted values against the definition's `integration_config` fields and the stored values.
///
/// A field hidden by `visible_when`, judged on submitted over stored values and cascading through its controller, is
/// skipped. The answer changes nothing by itself.
pub fn resolve(
    fields: &Fields,
    submitted: &BTreeMap<String, String>,
    stored: &BTreeMap<String, Secret>,
    stage: Stage,
) -> Result<Resolved, InvalidConfig> {
    let mut problems = Vec::new();
    for name in submitted.keys().filter(|name| fields.get(name).is_none()) {
        let nearest = crate::suggest::nearest(name, fields.iter().map(|field| field.name.as_str()));
        let hint = nearest
            .map(|nearest| format!(" (did you mean '{nearest}'?)"))
            .unwrap_or_default();
        problems.push(format!(
            "'{name}' is not an integration_config field of this provider{hint}"
        ));
    }
    let values = Values {
        fields,
        submitted,
        stored,
        stage,
    };
    let mut resolved = Resolved::default();
    for field in fields.iter().filter(|field| !field.automated) {
        if !values.shows(field, fields.len()) {
            continue;
        }
        let given = submitted.get(&field.name).map(|value| value.trim());
        let value = match (given.filter(|value| !value.is_empty()), stage) {
            (Some(value), _) => value,
            (None, Stage::Update) => {
                if given.is_some() && field.optional {
                    resolved.clear.push(field.name.clone());
                } else if given.is_some() {
                    problems.push(format!("'{}' cannot be empty", field.name));
                }
                continue;
            }
            (None, Stage::Create) => match field.default_value.as_deref().filter(|value| !value.is_empty()) {
                Some(default) => default,
                None if field.optional => continue,
                None => {
                    problems.push(format!("'{}' is required", field.name));
                    continue;
                }
            },
        };
        match fault(field, value) {
            Some(fault) => problems.push(format!("'{}' {fault}", field.name)),
            None => {
                resolved.set.insert(field.name.clone(), value.to_owned());
            }
        }
    }
    if problems.is_empty() {
        Ok(resolved)
    } else {
        Err(InvalidConfig { problems })
    }
}

/// The fields that show with these values: for a form that follows its controllers.
pub fn visible<'f>(fields: &'f Fields, values: &BTreeMap<String, String>) -> Vec<&'f Field> {
    let stored = BTreeMap::new();
    let values = Values {
        fields,
        submitted: values,
        stored: &stored,
        stage: Stage::Create,
    };
    fields
        .iter()
        .filter(|field| !field.automated && values.shows(field, fields.len()))
        .collect()
}

struct Values<'v> {
    fields: &'v Fields,
    submitted: &'v BTreeMap<String, String>,
    stored: &'v BTreeMap<String, Secret>,
    stage: Stage,
}

impl Values<'_> {
    /// `depth` bounds the cascade; the loader refuses circles.
    fn shows(&self, field: &Field, depth: usize) -> bool {
        let Some(condition) = &field.visible_when else {
            return true;
        };
        let Some(controller) = self.fields.get(&condition.field).filter(|_| depth > 0) else {
            return false;
        };
        self.shows(controller, depth - 1) && self.value(controller) == Some(condition.equals.as_str())
    }

    fn value<'s>(&'s self, field: &'s Field) -> Option<&'s str> {
        let submitted = self.submitted.get(&field.name).map(|value| value.trim());
        let default = || field.default_value.as_deref().filter(|value| !value.is_empty());
        match (submitted, self.stage) {
            (Some(value), _) if !value.is_empty() => Some(value),
            (_, Stage::Create) => default(),
            // Cleared by this very change.
            (Some(_), Stage::Update) => None,
            // What was never stored has been what the default says.
            (None, Stage::Update) => self.stored.get(&field.name).map(Secret::expose).or_else(default),
        }
    }
}

fn fault(field: &Field, value: &str) -> Option<String> {
    if !field.choices.is_empty() && !field.choices.iter().any(|choice| choice == value) {
        return Some(format!("must be one of {}", field.choices.join(", ")));
    }
    if field
        .pattern
        .as_ref()
        .is_some_and(|pattern| !pattern.matches(value))
    {
        return Some("does not have the expected form".to_owned());
    }
    match field.format {
        Some(Format::Uri) => {
            let is_web = url::Url::parse(value).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            (!is_web).then(|| "must be an http or https URL".to_owned())
        }
        Some(format) if !format.matches(value) => Some(format!("must be a valid {}", format.name())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    fn fields() -> Fields {
        let (catalogue, findings) = Catalogue::from_text(
            "acme.yaml",
            r"
display_name: Acme
auth_mode: AWS_SIGV4
docs: https://docs.example.com
integration_config:
    service: {type: string, pattern: '^[a-z0-9-]+$'}
    mode: {type: string, enum: [builtin, custom], default_value: builtin, optional: true}
    key: {type: string, secret: true, optional: true, visible_when: {field: mode, equals: builtin}}
    endpoint: {type: string, format: uri, pattern: '^https://', visible_when: {field: mode, equals: custom}}
    auth: {type: string, enum: [none, basic], default_value: none, optional: true, visible_when: {field: mode, equals: custom}}
    user: {type: string, visible_when: {field: auth, equals: basic}}
",
        );
        assert_eq!(findings, []);
        catalogue
            .get("acme")
            .unwrap()
            .definition
            .integration_config
            .clone()
    }

    /// Values set and names cleared.
    type Change = (Vec<(String, String)>, Vec<String>);

    fn run(submitted: &[(&str, &str)], stored: &[(&str, &str)], stage: Stage) -> Result<Change, Vec<String>> {
        let submitted = submitted
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let stored = stored
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Secret::from(*v)))
            .collect();
        resolve(&fields(), &submitted, &stored, stage)
            .map(|resolved| (resolved.set.into_iter().collect(), resolved.clear))
            .map_err(|invalid| invalid.problems)
    }

    fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn creation_fills_defaults_and_asks_for_what_shows() {
        assert_eq!(
            run(&[("service", "s3")], &[], Stage::Create),
            Ok((set(&[("mode", "builtin"), ("service", "s3")]), vec![]))
        );
        assert_eq!(
            run(&[("mode", "custom"), ("auth", "basic")], &[], Stage::Create),
            Err(vec![
                "'service' is required".into(),
                "'endpoint' is required".into(),
                "'user' is required".into()
            ])
        );
        // A hidden controller hides what depends on it.
        assert_eq!(
            run(
                &[("service", "s3"), ("auth", "basic"), ("user", "u")],
                &[],
                Stage::Create
            ),
            Ok((set(&[("mode", "builtin"), ("service", "s3")]), vec![]))
        );
        assert_eq!(
            run(
                &[("service", "S3!"), ("mode", "costum"), ("servce", "x")],
                &[],
                Stage::Create
            ),
            Err(vec![
                "'servce' is not an integration_config field of this provider (did you mean 'service'?)"
                    .into(),
                "'service' does not have the expected form".into(),
                "'mode' must be one of builtin, custom".into(),
            ])
        );
        assert_eq!(
            run(
                &[("service", "s3"), ("mode", "custom"), ("endpoint", "https:/")],
                &[],
                Stage::Create
            ),
            Err(vec!["'endpoint' does not have the expected form".into()])
        );
    }

    #[test]
    fn an_update_touches_what_is_submitted() {
        let stored = [("service", "s3"), ("mode", "builtin"), ("key", "k")];
        assert_eq!(
            run(&[("key", "")], &stored, Stage::Update),
            Ok((vec![], vec!["key".into()]))
        );
        assert_eq!(
            run(&[("service", "")], &stored, Stage::Update),
            Err(vec!["'service' cannot be empty".into()])
        );
        assert_eq!(
            run(&[("service", "iam")], &stored, Stage::Update),
            Ok((set(&[("service", "iam")]), vec![]))
        );
        // Judged on submitted over stored values.
        assert_eq!(
            run(&[("endpoint", "nonsense")], &stored, Stage::Update),
            Ok((vec![], vec![]))
        );
        assert_eq!(
            run(
                &[("mode", "custom"), ("endpoint", "https://sts.example.com")],
                &stored,
                Stage::Update
            ),
            Ok((
                set(&[("endpoint", "https://sts.example.com"), ("mode", "custom")]),
                vec![]
            ))
        );
        assert_eq!(run(&[], &stored, Stage::Update), Ok((vec![], vec![])));
    }

    #[test]
    fn applying_a_change_sets_and_clears() {
        let mut stored = BTreeMap::from([
            ("a".to_owned(), Secret::from("1")),
            ("b".to_owned(), Secret::from("2")),
        ]);
        let change = Resolved {
            set: BTreeMap::from([("b".into(), "3".into())]),
            clear: vec!["a".into()],
        };
        change.apply_to(&mut stored);
        assert_eq!(stored, BTreeMap::from([("b".to_owned(), Secret::from("3"))]));
    }
}
