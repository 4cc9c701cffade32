//! `when`: conditions of an extension's parts, all of which must hold.

use super::reader::{Reader, Step};
use crate::template::{Mode, Scope, Template};

/// One condition: what a template renders to, compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub value: Template,
    /// What must be true of it.
    pub test: Test,
}

/// What a condition demands. A value that cannot be rendered counts as blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is something, white space aside.
    Set,
    /// It is not.
    Blank,
    /// It is this text.
    Equals(Template),
    /// It is anything but this text, blank included.
    Differs(Template),
    /// This text is somewhere in it, capitals or not.
    Contains(Template),
}

impl Condition {
    /// Whether it holds. A comparison with something that has no value does not, whichever way it is put.
    pub fn holds(&self, scope: &Scope<'_>) -> bool {
        let value = self.value.render(scope, Mode::Text).unwrap_or_default();
        let value = value.trim();
        let other = |template: &Template| {
            let text = template.render(scope, Mode::Text).ok()?;
            (!text.trim().is_empty()).then(|| text.trim().to_owned())
        };
        match &self.test {
            Test::Set => !value.is_empty(),
            Test::Blank => value.is_empty(),
            Test::Equals(wanted) => other(wanted).is_some_and(|wanted| wanted == value),
            Test::Differs(unwanted) => other(unwanted).is_none_or(|unwanted| unwanted != value),
            Test::Contains(part) => {
                other(part).is_some_and(|part| value.to_lowercase().contains(&part.to_lowercase()))
            }
        }
    }

    /// Its templates with their keys.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        let compared = match &self.test {
            Test::Set | Test::Blank => None,
            Test::Equals(template) => Some(("equals", template)),
            Test::Differs(template) => Some(("differs", template)),
            Test::Contains(template) => Some(("contains", template)),
        };
        std::iter::once(("value", &self.value)).chain(compared)
    }
}

/// The conditions under `key`.
pub(super) fn conditions(reader: &mut Reader<'_>, key: &'static str) -> Vec<Condition> {
    reader.sections(key, condition).into_iter().flatten().collect()
}

fn condition(reader: &mut Reader<'_>) -> Option<Condition> {
    let plain = Template::parse;
    let value = reader.template("value", plain);
    let mut tests: Vec<Test> = Vec::new();
    tests.extend(
        reader
            .choice("is", &[("set", true), ("blank", false)])
            .map(|set| if set { Test::Set } else { Test::Blank }),
    );
    tests.extend(reader.template("equals", plain).map(Test::Equals));
    tests.extend(reader.template("differs", plain).map(Test::Differs));
    tests.extend(reader.template("contains", plain).map(Test::Contains));
    let whole = |reader: &Reader<'_>| reader.at::<0>([]);
    let Some(value) = value else {
        let path = whole(reader);
        reader.error("missing-key", path, "a condition needs its `value`".to_owned());
        return None;
    };
    if tests.len() > 1 || (tests.is_empty() && !reader.has("is")) {
        let path = whole(reader);
        let message = "a condition has one of `is`, `equals`, `differs`, `contains`".to_owned();
        reader.error("condition", path, message);
    }
    Some(Condition {
        value,
        test: tests.pop()?,
    })
}

/// The path of the condition at `index` of `when`, below `path`.
pub(crate) fn path_of(path: &[Step], key: &str, index: usize, part: &str) -> Vec<Step> {
    let mut path = path.to_vec();
    path.extend([
        Step::Key(key.to_owned()),
        Step::Index(index),
        Step::Key(part.to_owned()),
    ]);
    path
}
