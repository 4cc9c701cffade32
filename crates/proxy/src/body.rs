//! What becomes of a request body (proxy §6.1): bytes pass through unchanged, except where the published clients
//! rely on a conversion.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
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
    /// JSON that the caller wants sent as a form with parts.
    JsonToMultipart,
}

/// Decides from the caller's own content type and the one wanted upstream (`Nango-Proxy-Content-Type`).
pub fn conversion(given: Option<&str>, wanted: Option<&str>) -> Conversion {
    match (media_type(given), media_type(wanted)) {
        (Some(Media::Form), None | Some(Media::Json)) => Conversion::FormToJson,
        (Some(Media::Json), Some(Media::Form)) => Conversion::JsonToForm,
        (Some(Media::Json), Some(Media::Multipart)) => Conversion::JsonToMultipart,
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
    Multipart,
    Other,
}

fn media_type(value: Option<&str>) -> Option<Media> {
    let essence = value?.split(';').next()?.trim();
    Some(if essence.eq_ignore_ascii_case("application/json") {
        Media::Json
    } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Media::Form
    } else if essence.eq_ignore_ascii_case("multipart/form-data") {
        Media::Multipart
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
    for_each_field(object, &mut |name, value| {
        form.append_pair(name, value);
    });
    form.finish()
}

/// A JSON object as the parts of a form, named as [`json_to_form`] names fields.
pub fn json_to_multipart(object: &Map<String, Value>, boundary: &str) -> Vec<u8> {
    let mut text = parts(object, boundary);
    text.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    text
}

/// The parts of `object` put behind those of a form with parts; `None` if its end is not where it should be.
pub(crate) fn append_parts(form: &[u8], content_type: &str, object: &Map<String, Value>) -> Option<Vec<u8>> {
    let boundary = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    let end = format!("--{boundary}--");
    let at = form
        .windows(end.len())
        .rposition(|window| window == end.as_bytes())?;
    let mut merged = form[..at].to_vec();
    merged.extend_from_slice(&parts(object, boundary));
    merged.extend_from_slice(&form[at..]);
    Some(merged)
}

fn parts(object: &Map<String, Value>, boundary: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for_each_field(object, &mut |name, value| {
        // As browsers write names (WHATWG HTML, multipart/form-data encoding).
        let name = name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22");
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    });
    text
}

fn for_each_field(object: &Map<String, Value>, each: &mut dyn FnMut(&str, &str)) {
    for (name, value) in object {
        flatten(name, value, each);
    }
}

fn flatten(name: &str, value: &Value, each: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::Null => {}
        Value::String(text) => each(name, text),
        Value::Bool(_) | Value::Number(_) => each(name, &value.to_string()),
        Value::Array(items) => items
            .iter()
            .for_each(|item| flatten(&format!("{name}[]"), item, each)),
        Value::Object(object) => {
            object
                .iter()
                .for_each(|(key, item)| flatten(&format!("{name}[{key}]"), item, each));
        }
    }
}

/// A JSON object whose members are kept as text, in their order.
#[derive(Debug)]
pub(crate) struct ExactObject(Vec<(String, Box<RawValue>)>);

impl ExactObject {
    /// Reads it; nothing at all is an empty object, `None` is other JSON.
    pub(crate) fn parse(text: &[u8]) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(Some(Self(Vec::new())));
        }
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        if first.is_some_and(|byte| *byte != b'{') {
            let other: Result<&RawValue, _> = serde_json::from_slice(text);
            return other.map(|_| None).map_err(|error| error.to_string());
        }
        let mut reader = serde_json::Deserializer::from_slice(text);
        let members = reader
            .deserialize_map(Members)
            .map_err(|error| error.to_string())?;
        reader.end().map_err(|error| error.to_string())?;
        Ok(Some(Self(members)))
    }

    /// With `more` laid over it.
    pub(crate) fn with(&self, more: &Map<String, Value>) -> Vec<u8> {
        let mut text = String::from("{");
        let own = self.0.iter().filter(|(name, _)| !more.contains_key(name));
        for (name, value) in own {
            member(&mut text, name, value.get());
        }
        for (name, value) in more {
            member(&mut text, name, &value.to_string());
        }
        text.push('}');
        text.into_bytes()
    }
}

fn member(text: &mut String, name: &str, value: &str) {
    if text.len() > 1 {
        text.push(',');
    }
    text.push_str(&Value::from(name).to_string());
    text.push(':');
    text.push_str(value);
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
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
            (json, Some("multipart/form-data"), Conversion::JsonToMultipart),
            (Some("multipart/form-data; boundary=x"), json, Conversion::Pass),
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
    #[test]
    fn merged_json_keeps_the_caller_s_text() {
        let merge = |own: &str| {
            let more = json!({"key": "k", "n": {"a": 1}});
            let own = ExactObject::parse(own.as_bytes()).unwrap()?;
            Some(String::from_utf8(own.with(more.as_object().unwrap())).unwrap())
        };
        assert_eq!(merge("").unwrap(), r#"{"key":"k","n":{"a":1}}"#);
        assert_eq!(
            merge(r#" {"big":123456789012345678901234567890,"f":1.0e2, "key":"theirs","ä":[ 1 ]} "#).unwrap(),
            r#"{"big":123456789012345678901234567890,"f":1.0e2,"ä":[ 1 ],"key":"k","n":{"a":1}}"#
        );
        assert_eq!(merge("[1]"), None);
        assert_eq!(merge(r#""text""#), None);
        for broken in ["{", r#"{"a":1} x"#, "nonsense"] {
            assert!(ExactObject::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn parts_are_written_and_appended() {
        let object = json!({"a": [1], "o": {"x\"y": "z"}});
        let object = object.as_object().unwrap();
        let text = String::from_utf8(json_to_multipart(object, "B")).unwrap();
        let expect = "--B\r\nContent-Disposition: form-data; name=\"a[]\"\r\n\r\n1\r\n\
                      --B\r\nContent-Disposition: form-data; name=\"o[x%22y]\"\r\n\r\nz\r\n--B--\r\n";
        assert_eq!(text, expect);
        let more = json!({"m": 2});
        let merged = append_parts(
            text.as_bytes(),
            "multipart/form-data; boundary=\"B\"",
            more.as_object().unwrap(),
        );
        let merged = String::from_utf8(merged.unwrap()).unwrap();
        assert!(merged.ends_with("--B\r\nContent-Disposition: form-data; name=\"m\"\r\n\r\n2\r\n--B--\r\n"));
        assert!(append_parts(b"nothing", "multipart/form-data; boundary=B", object).is_none());
        assert!(append_parts(b"--B--", "multipart/form-data", object).is_none());
    }
}
