//! XML of token endpoints as JSON: an element is a member of its parent, members whose names begin with `$` are
//! attributes, an element without attributes and children is its text, repeated elements are a list.

use patchbay_types::JsonMap;
use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::Value;

/// Deepest nesting read.
const DEEPEST: usize = 64;

/// Writes an element tree. Members that are null, and names that are no XML names, are left out.
pub(crate) fn write(tree: &JsonMap) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    for (name, value) in tree {
        element(&mut out, name, value);
    }
    out
}

fn element(out: &mut String, name: &str, value: &Value) {
    if name.starts_with('$') || !is_name(name) {
        return;
    }
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| element(out, name, item)),
        Value::Object(members) => {
            out.push('<');
            out.push_str(name);
            for (attribute, value) in members {
                if let Some(attribute) = attribute.strip_prefix('$').filter(|name| is_name(name))
                    && let Some(text) = crate::encode::scalar(value)
                {
                    out.push(' ');
                    out.push_str(attribute);
                    out.push_str("=\"");
                    out.push_str(&escape(text.as_ref()));
                    out.push('"');
                }
            }
            out.push('>');
            for (name, value) in members {
                element(out, name, value);
            }
            close(out, name);
        }
        scalar => {
            out.push('<');
            out.push_str(name);
            out.push('>');
            out.push_str(&escape(
                crate::encode::scalar(scalar).unwrap_or_default().as_ref(),
            ));
            close(out, name);
        }
    }
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
}

/// Reads a document into an object with its root as the one member. Entities of its own are not expanded: a document
/// that uses them is no answer.
pub(crate) fn read(text: &str) -> Option<JsonMap> {
    let mut reader = Reader::from_str(text);
    // The document itself, then the elements that are open.
    let mut open = vec![Open::default()];
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                if open.len() > DEEPEST {
                    return None;
                }
                open.push(Open::of(&start)?);
            }
            Event::Empty(start) => {
                let done = Open::of(&start)?;
                open.last_mut()?.adopt(done);
            }
            Event::End(_) => {
                let done = open.pop()?;
                open.last_mut()?.adopt(done);
            }
            Event::Text(text) => open.last_mut()?.text.push_str(&text.xml10_content()),
            Event::CData(text) => open.last_mut()?.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => {
                let text = &mut open.last_mut()?.text;
                match reference.resolve_char_ref().ok()? {
                    Some(character) => text.push(character),
                    None => text.push_str(resolve_predefined_entity(&reference)?),
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let document = open.pop()?;
    (open.is_empty() && document.members.len() == 1).then_some(document.members)
}

/// An element whose end has not come.
#[derive(Default)]
struct Open {
    name: String,
    members: JsonMap,
    text: String,
}

impl Open {
    fn of(start: &BytesStart<'_>) -> Option<Self> {
        let mut members = JsonMap::new();
        for attribute in start.attributes() {
            let attribute = attribute.ok()?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
            members.insert(
                format!("${}", attribute.key.into_inner()),
                value.into_owned().into(),
            );
        }
        Some(Self {
            name: start.name().into_inner().to_owned(),
            members,
            text: String::new(),
        })
    }

    fn adopt(&mut self, child: Self) {
        let text = child.text.trim();
        let value = if child.members.is_empty() {
            Value::from(text)
        } else {
            let mut members = child.members;
            if !text.is_empty() {
                members.insert("_".to_owned(), text.into());
            }
            Value::Object(members)
        };
        match self.members.get_mut(&child.name) {
            None => {
                self.members.insert(child.name, value);
            }
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trees_are_written_with_attributes_lists_and_escapes() {
        let tree = json!({"request": {
            "control": {"id": "a<b&\"c\"", "unique": false, "none": null},
            "function": {"$controlid": "1\"2", "$n": 3, "get": ""},
            "item": ["x", {"y": 2}],
            "not a name": "dropped",
        }});
        assert_eq!(
            write(tree.as_object().unwrap()),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><request><control><id>a&lt;b&amp;&quot;c&quot;</id><unique>false\
             </unique></control><function controlid=\"1&quot;2\" n=\"3\"><get></get></function><item>x</item>\
             <item><y>2</y></item></request>"
        );
    }

    #[test]
    fn documents_are_read_back() {
        let text = "<?xml version=\"1.0\"?><!-- c --><r a=\"1 &amp; 2\"><s>x &lt;&#x79;&gt; <![CDATA[<z>]]></s><e/>\
                    <i>1</i><i k=\"v\">2</i><n:m xmlns:n=\"u\">3</n:m></r>";
        assert_eq!(
            Value::Object(read(text).unwrap()),
            json!({"r": {"$a": "1 & 2", "s": "x <y> <z>", "e": "", "i": ["1", {"$k": "v", "_": "2"}],
                "n:m": {"$xmlns:n": "u", "_": "3"}}})
        );
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><r>&b;</r>";
        let file = "<!DOCTYPE r [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><r>&a;</r>";
        for bad in [
            "",
            "text",
            "<r>",
            "<r></s>",
            "<a/><b/>",
            "<r>&nope;</r>",
            &deep,
            bomb,
            file,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
