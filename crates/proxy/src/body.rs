//! What becomes of a request body (proxy §6.1): bytes pass through unchanged, except where the published clients
//! rely on a conversion.

use serde_json::{Map, Value};

/// What to do with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Stream the bytes as they come.
    Pass,
    /// A form that the caller wants sent as JSON: what a client sends when it was given no content type.
    FormToJson,
    /// JSON that the caller wants sent as a form.
    JsonToForm,
}

/// Decides from the caller's own content type and the one wanted upstream (`Nango-Proxy-Content-Type`).
pub fn conversion(given: Option<&str>, wanted: Option<&str>) -> Conversion {
    match (media_type(given), media_type(wanted)) {
        (Some(Media::Form), None | Some(Media::Json)) => Conversion::FormToJson,
        (Some(Media::Json), Some(Media::Form)) => Conversion::JsonToForm,
        _ => Conversion::Pass,
    }
}

/// Whether this is a multipart type that does not say where its parts end, or none at all.
pub(crate) fn lacks_boundary(content_type: Option<&str>) -> bool {
    let Some(value) = content_type else { return true };
    let mut parts = value.split(';').map(str::trim);
    let is_multipart = parts.next().is_some_and(|essence| {
        essence
            .get(..10)
            .is_some_and(|start| start.eq_ignore_ascii_case("multipart/"))
    });
    is_multipart
        && !parts.any(|part| {
            part.get(..9)
                .is_some_and(|name| name.eq_ignore_ascii_case("boundary="))
        })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Form,
    Other,
}

fn media_type(value: Option<&str>) -> Option<Media> {
    let essence = value?.split(';').next()?.trim();
    Some(if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Media::Form
    } else {
        Media::Other
    })
}

/// Form text as a JSON object. A repeated name becomes an array; nothing at all becomes `{}`.
pub fn form_to_json(form: &[u8]) -> Vec<u8> {
    let mut object = Map::new();
    for (name, value) in url::form_urlencoded::parse(form) {
        let value = Value::String(value.into_owned());
        match object.get_mut(name.as_ref()) {
            None => {
                object.insert(name.into_owned(), value);
            }
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(object).to_string().into_bytes()
}

/// A JSON object as form text: arrays `a[]=1&a[]=2`, nested `o[x]=1`, nulls left out.
pub fn json_to_form(object: &Map<String, Value>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in object {
        append(&mut form, name, value);
    }
    form.finish()
}

fn append(form: &mut url::form_urlencoded::Serializer<'_, String>, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) => {
            form.append_pair(name, text);
        }
        Value::Bool(_) | Value::Number(_) => {
            form.append_pair(name, &value.to_string());
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| append(form, &format!("{name}[]"), item)),
        Value::Object(object) => {
            object
                .iter()
                .for_each(|(key, item)| append(form, &format!("{name}[{key}]"), item));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_documented_pairs_are_converted() {
        let (json, form) = (
            Some("application/json; charset=utf-8"),
            Some("application/x-www-form-urlencoded"),
        );
        for (given, wanted, expect) in [
            (json, None, Conversion::Pass),
            (json, json, Conversion::Pass),
            (json, form, Conversion::JsonToForm),
            (form, None, Conversion::FormToJson),
            (form, json, Conversion::FormToJson),
            (form, form, Conversion::Pass),
            (Some("text/xml"), None, Conversion::Pass),
            (Some("text/xml"), json, Conversion::Pass),
            (None, form, Conversion::Pass),
            (None, None, Conversion::Pass),
        ] {
            assert_eq!(conversion(given, wanted), expect, "{given:?} {wanted:?}");
        }
    }

    #[test]
    fn a_boundary_is_part_of_a_multipart_type() {
        for (content_type, lacks) in [
            (None, true),
            (Some("multipart/form-data"), true),
            (Some("Multipart/Mixed; charset=utf-8"), true),
            (Some("multipart/form-data; Boundary=x"), false),
            (Some("application/json"), false),
            (Some("multi"), false),
        ] {
            assert_eq!(lacks_boundary(content_type), lacks, "{content_type:?}");
        }
    }

    #[test]
    fn forms_and_json_turn_into_each_other() {
        assert_eq!(form_to_json(b""), b"{}");
        assert_eq!(
            form_to_json(b"a=1&b=x+y&a=2&a=%263"),
            br#"{"a":["1","2","&3"],"b":"x y"}"#
        );
        let object = json!({"a":[1,2],"n":null,"o":{"x":true,"y":["z"]},"t":"ä b"});
        let form = json_to_form(object.as_object().unwrap());
        assert_eq!(
            form,
            "a%5B%5D=1&a%5B%5D=2&o%5Bx%5D=true&o%5By%5D%5B%5D=z&t=%C3%A4+b"
        );
    }
}
