//! Query strings with the semantics of the `qs` library (api-core §1.6): `a[b]=c` nests, repeated keys and `a[]`
//! become arrays, `+` is a space, dots are literal. The result is a JSON object whose leaves are texts.
//!
//! Nothing here fails: what cannot be decoded stays as it was written, what is over a limit is cut or kept as
//! text, and names of `Object.prototype` are dropped, because clients in JavaScript may read them back.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Parameters beyond this are ignored.
const MAX_PARAMETERS: usize = 1000;
/// Brackets beyond this depth become one literal key.
const MAX_DEPTH: usize = 5;
/// An index beyond this is an object key.
const MAX_INDEX: usize = 100;

const PROTOTYPE_NAMES: [&str; 12] = [
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
];

/// Parses the part of a URL after `?`.
pub fn parse(query: &str) -> Map<String, Value> {
    let mut flat = Map::new();
    for (key, value) in pairs(query) {
        if !key.is_empty() && !PROTOTYPE_NAMES.contains(&key.as_ref()) {
            merge_into(&mut flat, &key, Value::String(value));
        }
    }
    if !flat.keys().any(|key| key.contains('[')) {
        return flat;
    }
    let mut root = Map::new();
    for (key, value) in flat {
        insert(&mut root, &key, value);
    }
    root.values_mut().for_each(close_gaps);
    root
}

/// The decoded parameters in order, brackets not interpreted.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, String)> {
    query.split('&').take(MAX_PARAMETERS).filter_map(|part| {
        if part.is_empty() {
            return None;
        }
        // A bracket right before the sign ends the key, so that `a[b=c]=d` is one.
        let equals = bracket_equals(part).or_else(|| part.find('='));
        let (key, value) = match equals {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, ""),
        };
        Some((decode(key), decode(value).into_owned()))
    })
}

/// Where the `=` of the first `]=` is, the bracket plain or encoded.
fn bracket_equals(part: &str) -> Option<usize> {
    let bytes = part.as_bytes();
    let after = |at: usize| bytes[..at].ends_with(b"]") || ends_with_encoded_bracket(&bytes[..at]);
    part.match_indices('=').map(|(at, _)| at).find(|at| after(*at))
}

fn ends_with_encoded_bracket(bytes: &[u8]) -> bool {
    bytes.len() >= 3 && bytes[bytes.len() - 3..].eq_ignore_ascii_case(b"%5d")
}

/// Percent-decoding as `decodeURIComponent` after `+` became a space; undecodable text stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    let spaced = if text.contains('+') {
        Cow::Owned(text.replace('+', " "))
    } else {
        Cow::Borrowed(text)
    };
    if !spaced.contains('%') || !is_percent_encoding(&spaced) {
        return spaced;
    }
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Cow::Owned(decoded.into_owned()),
        Err(_) => spaced,
    }
}

/// Whether every `%` is followed by two hexadecimal digits.
pub(crate) fn is_percent_encoding(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        matches!(bytes.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}

fn insert(root: &mut Map<String, Value>, key: &str, mut leaf: Value) {
    let Some(steps) = steps(key) else { return };
    for step in steps[1..].iter().rev() {
        leaf = match step {
            Step::Push if leaf.is_array() => leaf,
            Step::Push => Value::Array(vec![leaf]),
            Step::Index(index) => {
                let mut items = vec![Value::Null; index + 1];
                items[*index] = leaf;
                Value::Array(items)
            }
            Step::Key(key) => Value::Object(Map::from_iter([(key.clone().into_owned(), leaf)])),
        };
    }
    match &steps[0] {
        Step::Key(key) => merge_into(root, key, leaf),
        // `[]=x` and `[0]=x` at the top are keys of the root object.
        Step::Push => merge_into(root, "0", leaf),
        Step::Index(index) => merge_into(root, &index.to_string(), leaf),
    }
}

enum Step<'a> {
    Push,
    Index(usize),
    Key(Cow<'a, str>),
}

/// `a[b][][0]` as its steps; none if a step bears a forbidden name or there is nothing to name.
fn steps(key: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut groups = Groups { key, from: 0 };
    let first = groups.next();
    let parent = first.as_ref().map_or(key, |group| &key[..group.start]);
    if !parent.is_empty() {
        steps.push(Step::Key(parent.into()));
    }
    let mut group = first;
    for _ in 0..MAX_DEPTH {
        let Some(found) = group else { break };
        steps.push(step(found.inside));
        group = groups.next();
    }
    if let Some(rest) = group {
        // What is nested deeper is one key, brackets and all.
        steps.push(Step::Key(key[rest.start..].into()));
    }
    let forbidden = steps
        .iter()
        .any(|step| matches!(step, Step::Key(name) if PROTOTYPE_NAMES.contains(&name.as_ref())));
    (!steps.is_empty() && !forbidden).then_some(steps)
}

fn step(inside: &str) -> Step<'_> {
    if inside.is_empty() {
        return Step::Push;
    }
    let canonical = inside == "0" || !inside.starts_with('0');
    let digits = canonical && inside.len() <= 3 && inside.bytes().all(|byte| byte.is_ascii_digit());
    if digits && let Some(index) = inside.parse().ok().filter(|index| *index <= MAX_INDEX) {
        return Step::Index(index);
    }
    Step::Key(inside.into())
}

/// The `[…]` groups of a key that contain no bracket; text between them is passed over.
struct Groups<'a> {
    key: &'a str,
    from: usize,
}

struct Group<'a> {
    start: usize,
    inside: &'a str,
}

impl<'a> Iterator for Groups<'a> {
    type Item = Group<'a>;

    fn next(&mut self) -> Option<Group<'a>> {
        let mut open = None;
        for (at, byte) in self.key.bytes().enumerate().skip(self.from) {
            match (byte, open) {
                (b'[', _) => open = Some(at),
                (b']', Some(start)) => {
                    self.from = at + 1;
                    return Some(Group {
                        start,
                        inside: &self.key[start + 1..at],
                    });
                }
                _ => {}
            }
        }
        self.from = self.key.len();
        None
    }
}

fn merge_into(object: &mut Map<String, Value>, key: &str, value: Value) {
    match object.get_mut(key) {
        Some(existing) => merge(existing, value),
        None => drop(object.insert(key.to_owned(), value)),
    }
}

/// Puts `source` into `target` as `qs` does. `Null` is a gap in an array.
fn merge(target: &mut Value, source: Value) {
    match (&mut *target, source) {
        (gap @ Value::Null, source) => *gap = source,
        (Value::Array(items), Value::Array(more)) => {
            for (index, item) in more.into_iter().enumerate() {
                match items.get_mut(index) {
                    _ if item.is_null() => {}
                    Some(existing) if existing.is_null() => *existing = item,
                    Some(existing) if !existing.is_string() && !item.is_string() => merge(existing, item),
                    Some(_) => items.push(item),
                    None => {
                        items.resize(index, Value::Null);
                        items.push(item);
                    }
                }
            }
        }
        (Value::Array(items), Value::Object(more)) => {
            let indexed = std::mem::take(items).into_iter().enumerate();
            let mut object: Map<String, Value> = indexed
                .filter(|(_, item)| !item.is_null())
                .map(|(index, item)| (index.to_string(), item))
                .collect();
            for (key, value) in more {
                merge_into(&mut object, &key, value);
            }
            *target = Value::Object(object);
        }
        (Value::Array(items), leaf) => items.push(leaf),
        (Value::Object(object), Value::Object(more)) => {
            for (key, value) in more {
                merge_into(object, &key, value);
            }
        }
        (Value::Object(object), Value::Array(more)) => {
            for (index, value) in more.into_iter().enumerate().filter(|(_, value)| !value.is_null()) {
                merge_into(object, &index.to_string(), value);
            }
        }
        (Value::Object(object), leaf) => {
            // A text beside an object becomes a key of it.
            if let Value::String(name) = leaf
                && !PROTOTYPE_NAMES.contains(&name.as_str())
            {
                object.insert(name, Value::Bool(true));
            }
        }
        (leaf, Value::Array(more)) => {
            let mut items = vec![leaf.take()];
            items.extend(more);
            *target = Value::Array(items);
        }
        (leaf, other) => *target = Value::Array(vec![leaf.take(), other]),
    }
}

fn close_gaps(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(close_gaps);
        }
        Value::Object(object) => object.values_mut().for_each(close_gaps),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn queries_mean_what_qs_says() {
        let thousand = (0..1001).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join("&");
        assert_eq!(parse(&thousand).len(), 1000);
        for (query, expected) in [
            ("", json!({})),
            ("a=b&c=d", json!({"a": "b", "c": "d"})),
            ("a", json!({"a": ""})),
            ("=b&&", json!({})),
            ("a=b=c", json!({"a": "b=c"})),
            ("a=b+c&d=%2B&e=%20", json!({"a": "b c", "d": "+", "e": " "})),
            ("tags[org_id]=7", json!({"tags": {"org_id": "7"}})),
            (
                "tags%5Borg%5d=7&tags%5Ba.b%5D=8",
                json!({"tags": {"org": "7", "a.b": "8"}}),
            ),
            ("a.b=c", json!({"a.b": "c"})),
            ("a=1&a=2&a=3", json!({"a": ["1", "2", "3"]})),
            ("a[]=1&a[]=2", json!({"a": ["1", "2"]})),
            ("a[]=1", json!({"a": ["1"]})),
            ("a[1]=y&a[0]=x", json!({"a": ["x", "y"]})),
            ("a[3]=y", json!({"a": ["y"]})),
            ("a[100]=y", json!({"a": ["y"]})),
            ("a[101]=y", json!({"a": {"101": "y"}})),
            ("a[01]=y", json!({"a": {"01": "y"}})),
            ("a[0]=x&a[k]=y", json!({"a": {"0": "x", "k": "y"}})),
            ("a[k]=y&a[]=x", json!({"a": {"k": "y", "0": "x"}})),
            ("a[k]=y&a=x", json!({"a": {"k": "y", "x": true}})),
            ("a=x&a[k]=y", json!({"a": ["x", {"k": "y"}]})),
            (
                "a[b][c][d][e][f]=x",
                json!({"a": {"b": {"c": {"d": {"e": {"f": "x"}}}}}}),
            ),
            (
                "a[b][c][d][e][f][g][h]=x",
                json!({"a": {"b": {"c": {"d": {"e": {"f": {"[g][h]": "x"}}}}}}}),
            ),
            ("a[b=c]=d", json!({"a": {"b=c": "d"}})),
            ("a[b]x[c]=d", json!({"a": {"b": {"c": "d"}}})),
            ("a[b=c", json!({"a[b": "c"})),
            ("[]=x&[k]=y", json!({"0": "x", "k": "y"})),
            ("a[0][b]=1&a[0][c]=2", json!({"a": [{"b": "1", "c": "2"}]})),
            (
                "__proto__[x]=1&a[__proto__][x]=1&toString=1&a[hasOwnProperty]=1",
                json!({}),
            ),
            ("a=%zz&b=%ff&c=%", json!({"a": "%zz", "b": "%ff", "c": "%"})),
            ("a[0]=x&a[0]=y", json!({"a": [["x", "y"]]})),
            ("a[]=1&a[1]=2&a=3", json!({"a": ["1", "2", "3"]})),
            ("a[0]=1&a[0][b]=2", json!({"a": ["1", {"b": "2"}]})),
            ("a[][]=1", json!({"a": ["1"]})),
            ("a[[b]]=1", json!({"a[": {"b": "1"}})),
            ("a]=1&[b]=2", json!({"a]": "1", "b": "2"})),
            ("a[2]=x&a[1][b]=y&a[2]=z", json!({"a": [{"b": "y"}, ["x", "z"]]})),
            ("limit=&page=0", json!({"limit": "", "page": "0"})),
            ("q=%F0%9F%A6%80", json!({"q": "🦀"})),
        ] {
            assert_eq!(Value::Object(parse(query)), expected, "{query}");
        }
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_deeper_than_the_limit(query in r"[ab\[\]=&%+0-9.é5bBdD]{0,60}") {
            let parsed = Value::Object(parse(&query));
            prop_assert!(depth(&parsed) <= MAX_DEPTH + 3);
            prop_assert!(!parsed.to_string().contains("null"), "{}", parsed);
        }

        #[test]
        fn any_text_passes_through_a_parameter(value in "\\PC{0,20}") {
            let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
            let parsed = Value::Object(parse(&format!("k={encoded}&tags[x]={encoded}")));
            prop_assert_eq!(parsed, json!({"k": value, "tags": {"x": value}}));
        }
    }
}
