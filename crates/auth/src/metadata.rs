//! Values a flow discovers and keeps in `connection_config` (auth-flows §8.4).

use patchbay_types::JsonMap;
use serde_json::Value;

/// Looks up `path` in `object`: a key of exactly that name, else the dotted path.
pub fn lookup<'a>(object: &'a JsonMap, path: &str) -> Option<&'a Value> {
    if let Some(value) = object.get(path) {
        return Some(value);
    }
    let mut parts = path.split('.');
    let mut value = object.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Value::Object(object) => object.get(part)?,
            Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// Copies the listed `paths` of a provider's answer under their literal, possibly dotted, names. Strings and booleans
/// as they are, numbers as text; anything else is left out.
pub fn capture<'a>(answer: &JsonMap, paths: impl IntoIterator<Item = &'a str>) -> JsonMap {
    let mut captured = JsonMap::new();
    for path in paths {
        let value = match lookup(answer, path) {
            Some(value @ (Value::String(_) | Value::Bool(_))) => value.clone(),
            Some(Value::Number(number)) => Value::String(number.to_string()),
            _ => continue,
        };
        captured.insert(path.to_owned(), value);
    }
    captured
}

/// The connection's final `connection_config`: what the token answer said, under what the callback said, under what
/// the attempt was started with; but a blank in the attempt yields to a discovered value of the same name.
pub fn merge_config(
    discovered_by_token: JsonMap,
    discovered_by_callback: JsonMap,
    session: &JsonMap,
) -> JsonMap {
    let mut merged = discovered_by_token;
    merged.extend(discovered_by_callback);
    for (name, value) in session {
        let blank = value.as_str().is_some_and(str::is_empty);
        if !(blank && merged.contains_key(name)) {
            merged.insert(name.clone(), value.clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> JsonMap {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn dotted_paths_become_flat_keys_and_numbers_text() {
        let answer = object(json!({
            "team": {"id": "T1", "n": 5}, "ok": true, "a.b": "flat", "a": {"b": "deep"},
            "list": [{"id": 7}], "none": null, "o": {}
        }));
        let paths = [
            "team.id",
            "team.n",
            "ok",
            "a.b",
            "list.0.id",
            "none",
            "o",
            "absent.x",
        ];
        assert_eq!(
            Value::Object(capture(&answer, paths)),
            json!({"team.id": "T1", "team.n": "5", "ok": true, "a.b": "flat", "list.0.id": "7"})
        );
    }

    #[test]
    fn a_blank_form_field_does_not_mask_a_discovered_value() {
        let merged = merge_config(
            object(json!({"region": "eu", "x": "token", "y": "token"})),
            object(json!({"x": "callback"})),
            &object(json!({"region": "", "y": "session", "z": ""})),
        );
        assert_eq!(
            Value::Object(merged),
            json!({"region": "eu", "x": "callback", "y": "session", "z": ""})
        );
    }
}
