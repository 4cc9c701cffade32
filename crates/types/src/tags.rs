//! Tags: the product's own labels on a connection (api-core §9.7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::JsonMap;
use crate::end_users::{EndUserInput, OrganizationInput};

/// Most tags one connection carries.
pub const MAX_TAGS: usize = 10;
/// Longest key, in characters.
pub const MAX_KEY: usize = 64;
/// Longest value, in characters.
pub const MAX_VALUE: usize = 255;

/// Up to ten labels; keys lower-cased, values as given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(BTreeMap<String, String>);

/// One broken rule. The wire layer words it as a validation issue at the tags' path (plus `key`, where present).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagIssue {
    /// The key breaks the pattern or its length.
    Key(String),
    /// The value of this key is not a string; the JSON type it has instead.
    NotString(String, &'static str),
    /// The value of this key is empty.
    ValueTooShort(String),
    /// The value of this key is longer than [`MAX_VALUE`].
    ValueTooLong(String),
    /// More than [`MAX_TAGS`].
    TooMany,
    /// Two keys that differ only in case.
    Duplicate(String),
    /// `end_user_email` holds no e-mail address.
    Email,
}

impl Tags {
    /// Checks a JSON object. All issues are reported together; bad keys and non-strings suppress the rules that
    /// span entries (count, duplicates, e-mail), as the contract says.
    pub fn parse(object: &JsonMap) -> Result<Self, Vec<TagIssue>> {
        let mut issues = Vec::new();
        let mut structural = false;
        for (key, value) in object {
            if !is_key(key) {
                issues.push(TagIssue::Key(key.clone()));
                structural = true;
            }
            match value {
                Value::String(text) if text.is_empty() => issues.push(TagIssue::ValueTooShort(key.clone())),
                Value::String(text) if text.chars().count() > MAX_VALUE => {
                    issues.push(TagIssue::ValueTooLong(key.clone()));
                }
                Value::String(_) => {}
                other => {
                    issues.push(TagIssue::NotString(key.clone(), json_type(other)));
                    structural = true;
                }
            }
        }
        if structural {
            return Err(issues);
        }
        let mut tags = BTreeMap::new();
        if object.len() > MAX_TAGS {
            issues.push(TagIssue::TooMany);
        }
        for (key, value) in object {
            let folded = key.to_ascii_lowercase();
            let value = value.as_str().unwrap_or_default().to_owned();
            if tags.insert(folded, value).is_some() {
                issues.push(TagIssue::Duplicate(key.clone()));
            }
        }
        if tags.get("end_user_email").is_some_and(|email| !is_email(email)) {
            issues.push(TagIssue::Email);
        }
        if issues.is_empty() {
            Ok(Self(tags))
        } else {
            Err(issues)
        }
    }

    /// The tags that stand for the deprecated `end_user` and `organization` fields. What cannot be a tag is left
    /// out rather than refused (api-core §9.7, translation rules 1 to 3).
    pub fn from_end_user(end_user: Option<&EndUserInput>, organization: Option<&OrganizationInput>) -> Self {
        let mut base = BTreeMap::new();
        let mut put = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                base.insert(key.to_owned(), value.chars().take(MAX_VALUE).collect::<String>());
            }
        };
        if let Some(user) = end_user {
            put("end_user_id", Some(&user.id));
            put("end_user_email", user.email.as_deref());
            put("end_user_display_name", user.display_name.as_deref());
        }
        if let Some(organization) = organization {
            put("organization_id", Some(&organization.id));
            put("organization_display_name", organization.display_name.as_deref());
        }
        let mut all = base.clone();
        for (key, value) in end_user.and_then(|user| user.tags.as_ref()).into_iter().flatten() {
            let key: String = key.to_ascii_lowercase().chars().take(MAX_KEY).collect();
            if is_key(&key) {
                all.insert(key, value.chars().take(MAX_VALUE).collect());
            }
        }
        [all, base]
            .into_iter()
            .find(is_valid)
            .map(Self)
            .unwrap_or_default()
    }

    /// These tags overlaid by `explicit`; fails when the union has more than [`MAX_TAGS`].
    pub fn overlaid(mut self, explicit: &Self) -> Result<Self, TagIssue> {
        self.0.extend(explicit.0.clone());
        if self.0.len() > MAX_TAGS {
            Err(TagIssue::TooMany)
        } else {
            Ok(self)
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
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

/// A letter, then letters, digits, `_ - . /`; at most [`MAX_KEY`] characters.
pub fn is_key(key: &str) -> bool {
    key.len() <= MAX_KEY
        && key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
}

/// The e-mail rule of the wire (api-core §1.7): ASCII, dotted domain, top level of two letters or more.
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let local_ok = !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-'))
        && local
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '\'' | '+' | '-' | '.'));
    let labels: Vec<&str> = domain.split('.').collect();
    let Some((top, rest)) = labels.split_last() else {
        return false;
    };
    let domain_ok = !rest.is_empty()
        && rest.iter().all(|label| {
            label.starts_with(|c: char| c.is_ascii_alphanumeric())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
        && top.len() >= 2
        && top.chars().all(|c| c.is_ascii_alphabetic());
    text.len() >= 5 && local_ok && domain_ok
}

fn is_valid(tags: &BTreeMap<String, String>) -> bool {
    let object = tags
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    Tags::parse(&object).is_ok()
}

/// The JSON type name validation issues print.
pub fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<Tags, Vec<TagIssue>> {
        Tags::parse(value.as_object().unwrap())
    }

    #[test]
    fn every_limit_from_both_sides() {
        assert!(parse(&json!({ "a".repeat(64): "v" })).is_ok());
        assert_eq!(
            parse(&json!({ "a".repeat(65): "v" })),
            Err(vec![TagIssue::Key("a".repeat(65))])
        );
        assert!(parse(&json!({ "a": "v".repeat(255) })).is_ok());
        assert_eq!(
            parse(&json!({ "a": "v".repeat(256) })),
            Err(vec![TagIssue::ValueTooLong("a".into())])
        );
        assert_eq!(
            parse(&json!({ "a": "" })),
            Err(vec![TagIssue::ValueTooShort("a".into())])
        );
        let ten: JsonMap = (0..10).map(|n| (format!("k{n}"), json!("v"))).collect();
        assert!(Tags::parse(&ten).is_ok());
        let eleven: JsonMap = (0..11).map(|n| (format!("k{n}"), json!("v"))).collect();
        assert_eq!(Tags::parse(&eleven), Err(vec![TagIssue::TooMany]));
        assert_eq!(
            parse(&json!({ "A": "1", "a": "2" })),
            Err(vec![TagIssue::Duplicate("a".into())])
        );
        assert_eq!(
            parse(&json!({ "1a": "x" })),
            Err(vec![TagIssue::Key("1a".into())])
        );
        assert_eq!(
            parse(&json!({ "a": 1 })),
            Err(vec![TagIssue::NotString("a".into(), "number")])
        );
        assert_eq!(
            parse(&json!({ "End_User_Email": "nope" })),
            Err(vec![TagIssue::Email])
        );
        assert_eq!(parse(&json!({ "Team": "A" })).unwrap().get("team"), Some("A"));
    }

    #[test]
    fn emails() {
        for good in ["a@b.co", "a.b+c'd_e-f@x-y.example.org", "a@1x.io"] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "a@localhost",
            "a@x.c",
            "é@x.co",
            ".a@x.co",
            "a.@x.co",
            "a..b@x.co",
            "a@-x.co",
            "@x.co",
            "a@x.c0",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
    }

    #[test]
    fn an_end_user_becomes_tags_and_what_cannot_is_dropped() {
        let user = EndUserInput {
            id: "u1".into(),
            email: Some("u1@example.com".into()),
            display_name: Some(String::new()),
            tags: Some(
                [
                    ("Plan".to_owned(), "pro".to_owned()),
                    ("9bad".to_owned(), "x".to_owned()),
                ]
                .into(),
            ),
        };
        let organization = OrganizationInput {
            id: "o1".into(),
            display_name: Some("Org".into()),
        };
        let tags = Tags::from_end_user(Some(&user), Some(&organization));
        let pairs: Vec<_> = tags.iter().collect();
        assert_eq!(
            pairs,
            [
                ("end_user_email", "u1@example.com"),
                ("end_user_id", "u1"),
                ("organization_display_name", "Org"),
                ("organization_id", "o1"),
                ("plan", "pro"),
            ]
        );
        let crowded = EndUserInput {
            tags: Some((0..10).map(|n| (format!("k{n}"), "v".to_owned())).collect()),
            ..user.clone()
        };
        assert_eq!(Tags::from_end_user(Some(&crowded), None).len(), 2);
        let empty_value = EndUserInput {
            tags: Some([("k".to_owned(), String::new())].into()),
            ..user
        };
        assert_eq!(Tags::from_end_user(Some(&empty_value), None).len(), 2);
    }
}
