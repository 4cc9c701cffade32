//! Holds answers against the OpenAPI document, which is made strict first: what is not listed is not allowed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::Method;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::Answer;

/// The document of a server.
pub(super) struct Contract {
    paths: Map<String, Value>,
    schemas: Value,
    compiled: Mutex<HashMap<(String, String, u16), Arc<Validator>>>,
}

impl Contract {
    pub(super) fn of(document: &Value) -> Self {
        let mut schemas = document["components"]["schemas"].clone();
        for (_, schema) in schemas.as_object_mut().unwrap() {
            close(schema);
        }
        Self {
            paths: document["paths"].as_object().unwrap().clone(),
            schemas,
            compiled: Mutex::default(),
        }
    }

    /// Fails the test if the answer is not documented. Requests that no route matches are not documented anywhere.
    pub(super) fn check(&self, method: &Method, path: &str, answer: &Answer) {
        let operation_method = if *method == Method::HEAD {
            "get"
        } else {
            method.as_str()
        };
        let operation_method = operation_method.to_ascii_lowercase();
        let Some((template, operation)) = self.find(&operation_method, path) else {
            return;
        };
        // What another server answers is not ours to document.
        if template.starts_with("/proxy") && patchbay_api::codes::find(answer.code()).is_none() {
            return;
        }
        let status = answer.status;
        if status == 304 {
            return;
        }
        let documented = &operation["responses"][status.to_string()];
        assert!(
            documented.is_object(),
            "{}: {status} is not documented: {}",
            answer.request,
            answer.text
        );
        let content = documented["content"].as_object();
        let kind = answer.header("content-type").unwrap_or_default();
        let media_type = kind.split(';').next().unwrap_or_default();
        let Some(content) = content else {
            assert_eq!(answer.text, "", "{}: no body is documented", answer.request);
            return;
        };
        let Some(body) = content.get(media_type) else {
            let wild = content
                .keys()
                .any(|kind| kind == "*/*" || kind == "application/octet-stream");
            assert!(wild, "{}: {media_type} is not documented", answer.request);
            return;
        };
        if media_type != "application/json" || *method == Method::HEAD {
            return;
        }
        let validator = self.validator((template.to_owned(), operation_method, status), &body["schema"]);
        let faults: Vec<String> = validator
            .iter_errors(&answer.json)
            .map(|fault| format!("{fault} at {}", fault.instance_path()))
            .collect();
        assert!(
            faults.is_empty(),
            "{}: the answer is not as documented: {faults:#?}\n{:#}",
            answer.request,
            answer.json
        );
    }

    /// The operation whose template fits, static segments first.
    fn find(&self, method: &str, path: &str) -> Option<(&str, &Value)> {
        let wanted: Vec<&str> = path.trim_matches('/').split('/').collect();
        let fits = |template: &str| {
            let parts: Vec<&str> = template.trim_matches('/').split('/').collect();
            let rest = template == "/proxy/{path}" && wanted[0] == "proxy";
            let each = parts
                .iter()
                .zip(&wanted)
                .all(|(part, given)| part.starts_with('{') || part.eq_ignore_ascii_case(given));
            rest || (parts.len() == wanted.len() && each)
        };
        self.paths
            .iter()
            .filter(|(template, item)| fits(template) && item.get(method).is_some())
            .min_by_key(|(template, _)| template.matches('{').count())
            .map(|(template, item)| (template.as_str(), &item[method]))
    }

    fn validator(&self, key: (String, String, u16), schema: &Value) -> Arc<Validator> {
        let mut compiled = self.compiled.lock().unwrap();
        let validator = compiled.entry(key).or_insert_with(|| {
            let mut root = schema.clone();
            root["components"] = json!({"schemas": self.schemas});
            Arc::new(jsonschema::validator_for(&root).expect("the document's schemas are valid"))
        });
        Arc::clone(validator)
    }
}

/// Adds `additionalProperties: false` to every object schema that says nothing about them.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for (key, part) in object.iter_mut() {
                if !matches!(key.as_str(), "enum" | "const" | "default" | "examples") {
                    close(part);
                }
            }
            let combined = ["allOf", "anyOf", "oneOf"]
                .iter()
                .any(|key| object.contains_key(*key));
            if object.get("properties").is_some_and(Value::is_object)
                && object.get("type") == Some(&json!("object"))
                && !object.contains_key("additionalProperties")
                && !object.contains_key("x-open")
                && !combined
            {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
