//! JSON Schema 2020-12 of what a schema lets through, for OpenAPI 3.1.

use serde_json::{Map, Value, json};

use super::object::Unknown;
use super::{Kind, Null, Presence, Schema, tags};

impl Schema {
    /// The JSON Schema of the normalised value: query text that becomes a number is a number here.
    pub fn json_schema(&self) -> Value {
        let mut schema = Map::new();
        self.kind.emit(&mut schema);
        if self.null != Null::Refused {
            schema = with_null(schema);
        }
        if let Presence::Default(value) = &self.presence {
            schema.insert("default".into(), value.clone());
        }
        if let Some(text) = self.description {
            schema.insert("description".into(), text.into());
        }
        Value::Object(schema)
    }
}

impl Kind {
    fn emit(&self, schema: &mut Map<String, Value>) {
        let mut put = |key: &str, value: Value| drop(schema.insert(key.to_owned(), value));
        match self {
            Self::Text(rules) => rules.emit(schema),
            Self::Number(rules) => rules.emit(schema),
            Self::Boolean | Self::QueryBoolean => put("type", "boolean".into()),
            Self::Choice(options) => {
                put("type", "string".into());
                match options.as_slice() {
                    [only] => put("const", (*only).into()),
                    _ => put("enum", options.clone().into()),
                }
            }
            Self::Date => {
                put("type", "string".into());
                put("format", "date-time".into());
            }
            Self::Array(rules) => {
                let (item, least, most) = rules.parts();
                put("type", "array".into());
                put("items", item.json_schema());
                if let Some(least) = least {
                    put("minItems", least.into());
                }
                if let Some(most) = most {
                    put("maxItems", most.into());
                }
            }
            Self::Object(rules) => {
                put("type", "object".into());
                let properties: Map<String, Value> = rules
                    .fields()
                    .iter()
                    .map(|(name, field)| ((*name).to_owned(), field.json_schema()))
                    .collect();
                let required: Vec<Value> = rules
                    .fields()
                    .iter()
                    .filter(|(_, field)| field.is_required())
                    .map(|(name, _)| (*name).into())
                    .collect();
                put("properties", Value::Object(properties));
                if !required.is_empty() {
                    put("required", required.into());
                }
                put("additionalProperties", (rules.unknown() == Unknown::Kept).into());
            }
            Self::Record(rules) => {
                let (key, value, most) = rules.parts();
                let mut names = Map::new();
                key.emit(&mut names);
                put("type", "object".into());
                put("propertyNames", Value::Object(names));
                put("additionalProperties", value.json_schema());
                if let Some(most) = most {
                    put("maxProperties", most.into());
                }
            }
            Self::AnyOf(options) => {
                put("anyOf", options.iter().map(Schema::json_schema).collect());
            }
            Self::Discriminated(rules) => {
                let (field, branches) = rules.parts();
                put(
                    "oneOf",
                    branches.iter().map(|(_, branch)| branch.json_schema()).collect(),
                );
                put("discriminator", json!({"propertyName": field}));
            }
            Self::Tags => tags::emit(schema),
            Self::Anything => {}
        }
    }
}

fn with_null(mut schema: Map<String, Value>) -> Map<String, Value> {
    // A type list is enough unless other keywords would refuse null.
    let simple = !["enum", "const", "anyOf", "oneOf"]
        .iter()
        .any(|key| schema.contains_key(*key));
    match schema.get_mut("type") {
        Some(kind) if simple => {
            let with_null = json!([kind.take(), "null"]);
            *kind = with_null;
            schema
        }
        _ => Map::from_iter([("anyOf".to_owned(), json!([schema, {"type": "null"}]))]),
    }
}
