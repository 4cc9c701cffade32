//! `expect`, Patchbay's extension: what an answer must say for a yes, where a 2xx status alone does not mean one.

use serde_json::Value;

use super::Pattern;
use super::proxy::ErrorCode;
use super::reader::{Reader, Step, Target};
use crate::finding::Severity;

/// `expect`. Everything given must be so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expect {
    /// Statuses; none: 2xx.
    pub statuses: Vec<ErrorCode>,
    /// Dotted path in the JSON body at which there must be something other than null.
    pub json_path: Option<String>,
    /// And this value.
    pub equals: Option<Value>,
    /// Or a value of this kind.
    pub kind: Option<JsonKind>,
    /// Texts that must not be in the body, capitals or not.
    pub lacks: Vec<String>,
    /// What must not match the body.
    pub lacks_pattern: Option<Pattern>,
}

/// `expect.is`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonKind {
    /// A list.
    Array,
    /// An object.
    Object,
    /// A text.
    String,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

impl Expect {
    /// Whether the status says yes.
    pub fn accepts_status(&self, status: u16) -> bool {
        if self.statuses.is_empty() {
            (200..300).contains(&status)
        } else {
            self.statuses.iter().any(|code| code.matches(status))
        }
    }

    /// Whether the body says yes. `find` looks up a dotted path in the body, if that is JSON.
    pub fn accepts_body<'b>(&self, text: &str, find: impl Fn(&str) -> Option<&'b Value>) -> bool {
        if let Some(path) = &self.json_path {
            let Some(found) = find(path).filter(|value| !value.is_null()) else {
                return false;
            };
            let equal = self.equals.as_ref().is_none_or(|wanted| wanted == found);
            if !equal || !self.kind.is_none_or(|kind| kind.is_of(found)) {
                return false;
            }
        }
        let folded = text.to_lowercase();
        !self
            .lacks
            .iter()
            .any(|part| folded.contains(&part.to_lowercase()))
            && !self
                .lacks_pattern
                .as_ref()
                .is_some_and(|pattern| pattern.matches(text))
    }
}

impl JsonKind {
    fn is_of(self, value: &Value) -> bool {
        match self {
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
        }
    }
}

pub(super) fn expect(reader: &mut Reader<'_>) -> Expect {
    let mut statuses = Vec::new();
    for (index, text) in reader.texts("status").iter().enumerate() {
        let Some(code) = ErrorCode::parse(text) else {
            let path = reader.at([Step::Key("status".to_owned()), Step::Index(index)]);
            let message = format!("`{text}` is no status: write `203`, `2xx` or `200-204`");
            reader.error("invalid-value", path, message);
            continue;
        };
        statuses.push(code);
    }
    let lacks_pattern = reader.text("lacks_pattern").map(|text| Pattern::new(&text));
    if let Some(fault) = lacks_pattern.as_ref().and_then(Pattern::fault) {
        let path = reader.key("lacks_pattern");
        let message = format!("is no ECMAScript regular expression: {fault}");
        reader.error("pattern", path, message);
    }
    let expect = Expect {
        statuses,
        json_path: reader.text("json_path"),
        equals: reader.raw("equals").cloned(),
        kind: reader.choice(
            "is",
            &[
                ("array", JsonKind::Array),
                ("object", JsonKind::Object),
                ("string", JsonKind::String),
                ("number", JsonKind::Number),
                ("boolean", JsonKind::Boolean),
            ],
        ),
        lacks: reader.texts("lacks"),
        lacks_pattern,
    };
    for key in ["equals", "is"] {
        if expect.json_path.is_none() && reader.has(key) {
            let path = reader.key(key);
            let message = format!("`{key}` says what is at `json_path`, which is missing");
            reader.note(Severity::Error, "expect", path, Target::Key, message, None);
        }
    }
    expect
}
