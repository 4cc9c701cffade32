//! The schema of one form field (catalog-format §3).

use std::fmt;
use std::sync::{Arc, OnceLock};

use regress::Regex;
use serde::{Serialize, Serializer};

use super::reader::{Reader, Step, Target};
use crate::finding::Severity;

/// Fields of one group, in the definition's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(Vec<Field>);

/// One field.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the format has as many independent switches"
)]
pub struct Field {
    /// Key under which the value is stored.
    pub name: String,
    /// Label, may be empty.
    pub title: String,
    /// Help, may be empty.
    pub description: String,
    /// Shown in an empty input.
    pub example: Option<String>,
    /// What the value must match.
    pub pattern: Option<Pattern>,
    /// What kind of text it is.
    pub format: Option<Format>,
    /// The values to choose from; empty for free text.
    pub choices: Vec<String>,
    /// Position among the fields.
    pub order: Option<f64>,
    /// May be left empty.
    pub optional: bool,
    /// Initial value. Its mere presence also lifts the requirement of free text.
    pub default_value: Option<String>,
    /// Submitted but not shown.
    pub hidden: bool,
    /// Filled by us, neither shown nor submitted.
    pub automated: bool,
    /// Shown before the input, not part of the value.
    pub prefix: Option<String>,
    /// Shown behind the input, not part of the value.
    pub suffix: Option<String>,
    /// Not shown while typed; masked when read.
    pub secret: bool,
    /// `#anchor` in the end-user guide.
    pub doc_section: Option<String>,
    /// Texts shown when a value is chosen.
    pub warnings: Vec<(String, String)>,
    /// Shown only if another field has a value.
    pub visible_when: Option<VisibleWhen>,
}

/// A condition on another field of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisibleWhen {
    /// Its name.
    pub field: String,
    /// The value it must have.
    pub equals: String,
}

/// `format` of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Letters, digits, dots and dashes.
    Hostname,
    /// A parseable URL.
    Uri,
    /// Any version, with dashes.
    Uuid,
    /// `local@domain`.
    Email,
}

/// An ECMAScript regular expression, compiled when first used. One that does not compile matches everything.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    compiled: Arc<OnceLock<Result<Regex, String>>>,
}

impl Fields {
    /// The field of that name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|field| field.name == name)
    }

    /// The fields.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'f> IntoIterator for &'f Fields {
    type Item = &'f Field;
    type IntoIter = std::slice::Iter<'f, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Field {
    /// A required free-text field of that name.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: String::new(),
            description: String::new(),
            example: None,
            pattern: None,
            format: None,
            choices: Vec::new(),
            order: None,
            optional: false,
            default_value: None,
            hidden: false,
            automated: false,
            prefix: None,
            suffix: None,
            secret: false,
            doc_section: None,
            warnings: Vec::new(),
            visible_when: None,
        }
    }
}

impl Pattern {
    /// Takes the text; compiling waits for the first use.
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            compiled: Arc::default(),
        }
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it matches anywhere in `text`; always, if it does not compile.
    pub fn matches(&self, text: &str) -> bool {
        self.regex().is_none_or(|regex| regex.find(text).is_some())
    }

    /// The compiled expression, if it compiles.
    pub fn regex(&self) -> Option<&Regex> {
        self.compile().as_ref().ok()
    }

    /// Why it does not compile.
    pub fn fault(&self) -> Option<&str> {
        self.compile().as_ref().err().map(String::as_str)
    }

    fn compile(&self) -> &Result<Regex, String> {
        self.compiled
            .get_or_init(|| Regex::new(&self.source).map_err(|error| error.text))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl Format {
    /// Whether `text` is of this format.
    pub fn matches(self, text: &str) -> bool {
        match self {
            Self::Hostname => {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
            }
            Self::Uri => url::Url::parse(text).is_ok(),
            Self::Uuid => text.len() == 36 && uuid::Uuid::try_parse(text).is_ok(),
            Self::Email => is_email(text),
        }
    }

    /// As written in a definition.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hostname => "hostname",
            Self::Uri => "uri",
            Self::Uuid => "uuid",
            Self::Email => "email",
        }
    }
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let local_fits = !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&byte));
    let labels_fit = domain.contains('.')
        && domain.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
    local_fits && labels_fit
}

pub(super) fn read(reader: &mut Reader<'_>, key: &'static str) -> Fields {
    let fields = Fields(reader.named_sections(key, field));
    for field in &fields {
        let Some(condition) = &field.visible_when else {
            continue;
        };
        if fields.get(&condition.field).is_none() {
            let path =
                reader.at([key, &field.name, "visible_when", "field"].map(|step| Step::Key(step.to_owned())));
            let nearest =
                crate::suggest::nearest(&condition.field, fields.iter().map(|field| field.name.as_str()));
            let message = format!("there is no field `{}` in `{key}`", condition.field);
            let suggestion = nearest.map(str::to_owned);
            reader.note(
                Severity::Error,
                "visible-when",
                path,
                Target::Value(0),
                message,
                suggestion,
            );
        } else if is_circular(&fields, field) {
            let path = reader.at([key, &field.name, "visible_when"].map(|step| Step::Key(step.to_owned())));
            let message = "its visibility depends on itself".to_owned();
            reader.note(
                Severity::Error,
                "visible-when",
                path,
                Target::Value(0),
                message,
                None,
            );
        }
    }
    fields
}

fn is_circular(fields: &Fields, start: &Field) -> bool {
    let mut next = start.visible_when.as_ref();
    for _ in 0..=fields.len() {
        let Some(condition) = next else {
            return false;
        };
        next = fields
            .get(&condition.field)
            .and_then(|field| field.visible_when.as_ref());
    }
    next.is_some()
}

fn field(name: &str, reader: &mut Reader<'_>) -> Field {
    reader.choice("type", &[("string", ())]);
    Field {
        name: name.to_owned(),
        title: reader.text("title").unwrap_or_default(),
        description: reader.text("description").unwrap_or_default(),
        example: reader.text("example"),
        pattern: reader
            .text("pattern")
            .filter(|source| !source.is_empty())
            .map(Pattern::new),
        format: reader.choice(
            "format",
            &[
                ("hostname", Format::Hostname),
                ("uri", Format::Uri),
                ("uuid", Format::Uuid),
                ("email", Format::Email),
            ],
        ),
        choices: choices(reader),
        order: reader.number("order"),
        optional: reader.flag("optional"),
        default_value: reader.text("default_value"),
        hidden: reader.flag("hidden"),
        automated: reader.flag("automated"),
        prefix: reader.text("prefix").filter(|text| !text.is_empty()),
        suffix: reader.text("suffix").filter(|text| !text.is_empty()),
        secret: reader.flag("secret"),
        doc_section: reader.text("doc_section"),
        warnings: reader.pairs("warnings"),
        visible_when: reader.section("visible_when", |reader| VisibleWhen {
            field: reader.text("field").unwrap_or_default(),
            equals: reader.text("equals").unwrap_or_default(),
        }),
    }
}

fn choices(reader: &mut Reader<'_>) -> Vec<String> {
    let choices = reader.texts("enum");
    if choices.is_empty() && reader.has("enum") {
        let path = reader.key("enum");
        reader.error(
            "invalid-value",
            path,
            "`enum` lists at least one value".to_owned(),
        );
    }
    choices
}
