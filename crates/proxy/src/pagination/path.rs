//! Paths into JSON as published functions write them: `data.items`, `pages[0].next`, `["a.b"]`.

use serde_json::{Map, Value};

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// As written: an object's own key of that name comes first, even with dots in it.
    whole: String,
    steps: Vec<String>,
}

impl Path {
    /// Every text is a path; what is malformed names keys that are not there.
    pub(super) fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (step, after) = bracketed(inside);
                steps.push(step);
                rest = after.strip_prefix('.').unwrap_or(after);
                continue;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(rest[..end].to_owned());
            rest = &rest[end..];
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        Self {
            whole: text.to_owned(),
            steps,
        }
    }

    /// What is there.
    pub(super) fn get<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        if let Some(found) = value.as_object().and_then(|object| object.get(&self.whole)) {
            return Some(found);
        }
        self.steps.iter().try_fold(value, |value, step| match value {
            Value::Object(object) => object.get(step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Puts `new` there, making objects on the way; what is no object is replaced by one.
    pub(super) fn set(&self, value: &mut Value, new: Value) {
        let Some((last, way)) = self.steps.split_last() else {
            return;
        };
        let mut place = value;
        for step in way {
            place = object(place).entry(step).or_insert_with(|| Map::new().into());
        }
        object(place).insert(last.clone(), new);
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("invariant: made an object above"),
    }
}

/// `0]…`, `"a.b"]…`: the key and what follows the bracket.
fn bracketed(inside: &str) -> (String, &str) {
    if let Some(quote) = inside.chars().next().filter(|first| ['"', '\''].contains(first))
        && let Some(end) = inside[1..].find(quote)
    {
        let after = &inside[end + 2..];
        return (
            inside[1..=end].to_owned(),
            after.strip_prefix(']').unwrap_or(after),
        );
    }
    match inside.split_once(']') {
        Some((step, after)) => (step.to_owned(), after),
        None => (inside.to_owned(), ""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_read_as_functions_write_them() {
        let body = json!({"a": {"b": [{"c": 1}, {"d.e": 2}]}, "x.y": 3, "": 4, "list": [[5]]});
        for (path, found) in [
            ("a.b[0].c", json!(1)),
            ("a.b.0.c", json!(1)),
            ("a['b'][1][\"d.e\"]", json!(2)),
            ("x.y", json!(3)),
            ("list[0][0]", json!(5)),
            ("", json!(4)),
        ] {
            assert_eq!(Path::parse(path).get(&body), Some(&found), "{path}");
        }
        for path in ["a.c", "a.b[7]", "a.b.c", "a.b[", "list.x", "x.y.z"] {
            assert_eq!(Path::parse(path).get(&body), None, "{path}");
        }
    }

    #[test]
    fn a_value_is_put_where_its_path_leads() {
        let mut body = json!({"page": "first", "filter": {"a": 1}});
        Path::parse("page.size").set(&mut body, json!(10));
        Path::parse("filter.b").set(&mut body, json!(2));
        Path::parse("limit").set(&mut body, json!("3"));
        assert_eq!(
            body,
            json!({"page": {"size": 10}, "filter": {"a": 1, "b": 2}, "limit": "3"})
        );
    }

    proptest! {
        #[test]
        fn no_path_panics(text in r#"[a-b.\[\]"'0-9é]{0,20}"#) {
            let path = Path::parse(&text);
            let mut body = json!({"a": [{"b": 1}]});
            let _ = path.get(&body);
            path.set(&mut body, json!(1));
            if !text.is_empty() && !path.steps.is_empty() && path.steps.iter().all(|step| !step.is_empty()) {
                prop_assert!(body.is_object());
            }
        }

        #[test]
        fn what_was_put_is_found(steps in prop::collection::vec("[a-z]{1,4}", 1..5)) {
            let path = Path::parse(&steps.join("."));
            let mut body = json!({});
            path.set(&mut body, json!("here"));
            prop_assert_eq!(path.get(&body), Some(&json!("here")));
        }
    }
}
