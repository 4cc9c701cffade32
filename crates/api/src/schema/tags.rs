use patchbay_types::Tags;
use patchbay_types::tags::{MAX_KEY, MAX_TAGS, MAX_VALUE, TagIssue, is_email};
use serde_json::{Map, Value, json};

use super::issue::{Issues, Path};
use super::{Issue, Kind, Record, Schema, SchemaExt, patterns, record, string, wrong};

/// A connection's tags (api-core §9.7). Normalised: keys lower-cased.
pub fn tags() -> Schema {
    Kind::Tags.into()
}

/// `end_user.tags` of a request: as [`tags`], but values may be empty and keys keep their case.
pub fn end_user_tags() -> Schema {
    let entries: Record = record(
        string().pattern(patterns::TAG_KEY).max(MAX_KEY),
        string().max(MAX_VALUE),
    )
    .max_entries(MAX_TAGS);
    entries.refine(|value, found| {
        let object = value.as_object();
        let mut folded: Vec<String> = Vec::new();
        for (key, value) in object.into_iter().flatten() {
            let key = key.to_ascii_lowercase();
            if key == "end_user_email" && !value.as_str().is_some_and(is_email) {
                found.report(Issue::custom(&[], EMAIL));
            }
            if folded.contains(&key) {
                found.report(Issue::custom(&[], duplicate(&key)));
            }
            folded.push(key);
        }
    })
}

const EMAIL: &str = "Tag end_user_email must be an email address";

fn duplicate(key: &str) -> String {
    format!("Tag keys that differ only in case are the same tag: {key}")
}

pub(super) fn check(input: Option<Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
    let Some(Value::Object(object)) = input else {
        return wrong("record", input.as_ref(), at, issues);
    };
    match Tags::parse(&object) {
        Ok(tags) => {
            let entries = tags
                .iter()
                .map(|(key, value)| (key.to_owned(), Value::from(value)));
            Some(Value::Object(entries.collect()))
        }
        Err(found) => {
            for issue in &found {
                report(issue, &found, at, issues);
            }
            Some(Value::Object(object))
        }
    }
}

fn report(issue: &TagIssue, all: &[TagIssue], at: Path<'_>, issues: &mut Issues) {
    // The value of an entry whose key is bad is not looked at.
    let hidden = |key: &String| all.contains(&TagIssue::Key(key.clone()));
    match issue {
        TagIssue::Key(key) => issues.abort(at.key(key), "invalid_key", "Invalid key in record"),
        TagIssue::NotString(key, _) | TagIssue::ValueTooShort(key) | TagIssue::ValueTooLong(key)
            if hidden(key) => {}
        TagIssue::NotString(key, received) => issues.wrong_type(at.key(key), "string", received),
        TagIssue::ValueTooShort(key) => issues.note(
            at.key(key),
            "too_small",
            "Too small: expected string to have >=1 characters",
        ),
        TagIssue::ValueTooLong(key) => issues.note(
            at.key(key),
            "too_big",
            format!("Too big: expected string to have <={MAX_VALUE} characters"),
        ),
        TagIssue::TooMany => issues.note(at, "custom", format!("At most {MAX_TAGS} tags are allowed")),
        TagIssue::Duplicate(key) => issues.note(at, "custom", duplicate(key)),
        TagIssue::Email => issues.note(at, "custom", EMAIL),
    }
}

pub(super) fn emit(schema: &mut Map<String, Value>) {
    schema.insert("type".into(), "object".into());
    schema.insert(
        "propertyNames".into(),
        json!({"pattern": patterns::TAG_KEY.source, "maxLength": MAX_KEY}),
    );
    schema.insert(
        "additionalProperties".into(),
        json!({"type": "string", "minLength": 1, "maxLength": MAX_VALUE}),
    );
    schema.insert("maxProperties".into(), MAX_TAGS.into());
}
