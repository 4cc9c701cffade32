use std::borrow::Cow;

use serde::Serialize;

/// One validation issue as it goes over the wire: `{code, message, path}` (api-core §3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// `invalid_type`, `too_small`, `custom`, …
    pub code: &'static str,
    /// Worded by the contract's templates, except for `custom`.
    pub message: Cow<'static, str>,
    /// Where in the layer; array indexes as text.
    pub path: Vec<String>,
    /// A value with such an issue is not looked at further: refinements of its containers are skipped.
    #[serde(skip)]
    pub(super) aborts: bool,
}

impl Issue {
    /// A broken cross-field rule, in our own words.
    pub fn custom(path: &[&str], message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("custom", path, message)
    }

    /// An issue of any code, for rules the schema language cannot state.
    pub fn new(code: &'static str, path: &[&str], message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            path: path.iter().map(|&part| part.to_owned()).collect(),
            aborts: false,
        }
    }

    /// `Invalid input: expected <expected>, received undefined` at `path`.
    pub fn missing(path: &[&str], expected: &str) -> Self {
        Self::new(
            "invalid_type",
            path,
            format!("Invalid input: expected {expected}, received undefined"),
        )
    }
}

/// The way from the root of the layer to the value being looked at; lives on the stack, costs nothing until an
/// issue is raised.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Path<'static> = Path {
        parent: None,
        step: Step::Root,
    };

    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    fn to_strings(self) -> Vec<String> {
        let mut parts = Vec::new();
        let mut here = Some(&self);
        while let Some(path) = here {
            match path.step {
                Step::Root => {}
                Step::Key(key) => parts.push(key.to_owned()),
                Step::Index(index) => parts.push(index.to_string()),
            }
            here = path.parent;
        }
        parts.reverse();
        parts
    }
}

/// Issues of one layer, in the order they are found.
#[derive(Default)]
pub(super) struct Issues(Vec<Issue>);

impl Issues {
    /// An issue after which the value is still looked at by later checks.
    pub(super) fn note(&mut self, at: Path<'_>, code: &'static str, message: impl Into<Cow<'static, str>>) {
        self.0.push(Issue {
            code,
            message: message.into(),
            path: at.to_strings(),
            aborts: false,
        });
    }

    /// An issue after which later checks of the value and refinements of its containers make no sense.
    pub(super) fn abort(&mut self, at: Path<'_>, code: &'static str, message: impl Into<Cow<'static, str>>) {
        self.note(at, code, message);
        if let Some(last) = self.0.last_mut() {
            last.aborts = true;
        }
    }

    /// An issue raised below `at` by a refinement.
    pub(super) fn refined(&mut self, at: Path<'_>, mut issue: Issue) {
        let mut path = at.to_strings();
        path.append(&mut issue.path);
        self.0.push(Issue { path, ..issue });
    }

    pub(super) fn wrong_type(&mut self, at: Path<'_>, expected: &str, received: &str) {
        self.abort(
            at,
            "invalid_type",
            format!("Invalid input: expected {expected}, received {received}"),
        );
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(super) fn aborted_since(&self, from: usize) -> bool {
        self.0[from..].iter().any(|issue| issue.aborts)
    }

    pub(super) fn into_vec(self) -> Vec<Issue> {
        self.0
    }
}
