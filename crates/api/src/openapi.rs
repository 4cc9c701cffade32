//! The OpenAPI 3.1 document, made of the same route table that routes: it cannot list another route, parameter
//! or error code than the server has.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::authenticate::Auth;
use crate::codes::Code;
use crate::matcher::{Verb, parameter_names};
use crate::route::{AnswerContent, Endpoint, Spec};
use crate::schema::Schema;

/// What the document says of the server.
#[derive(Clone, Debug)]
pub struct Info {
    /// Version of the server.
    pub version: String,
    /// Its outside origin.
    pub server_url: String,
}

/// Methods a route for any method is listed with.
const ANY: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The document of `endpoints`.
pub fn document(endpoints: &[Endpoint], info: &Info) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        for (index, path) in endpoint.paths().enumerate() {
            let operation = operation(&endpoint.spec, path, index > 0, &mut generator);
            let item = paths.entry(template(path)).or_default();
            for method in methods(&endpoint.spec.verb) {
                let mut operation = operation.clone();
                operation.insert("operationId".into(), operation_id(&method, path).into());
                item.insert(method, Value::Object(operation));
            }
        }
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Error".into(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Patchbay", "version": info.version},
        "servers": [{"url": info.server_url}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key of an environment or of the account."},
                "connectSession": {"type": "http", "scheme": "bearer", "description": "The token of a connect session."},
                "connectSessionQuery": {"type": "apiKey", "in": "query", "name": "connect_session_token"},
                "publicKeyQuery": {"type": "apiKey", "in": "query", "name": "public_key"},
            },
        },
    })
}

fn methods(verb: &Verb) -> Vec<String> {
    match verb {
        Verb::Only(method) => vec![method.as_str().to_ascii_lowercase()],
        Verb::Any => ANY.map(str::to_owned).to_vec(),
    }
}

/// `/proxy/{*path}` is `/proxy/{path}` here.
fn template(path: &str) -> String {
    path.replace("{*", "{")
}

fn operation_id(method: &str, path: &str) -> String {
    let mut id = method.to_owned();
    for word in path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        id.push_str(&word[..1].to_ascii_uppercase());
        id.push_str(&word[1..]);
    }
    id
}

fn operation(
    spec: &Spec,
    path: &str,
    alias: bool,
    generator: &mut schemars::SchemaGenerator,
) -> Map<String, Value> {
    let mut operation = Map::new();
    let mut put = |key: &str, value: Value| drop(operation.insert(key.to_owned(), value));
    if !spec.summary.is_empty() {
        put("summary", spec.summary.into());
    }
    if !spec.tag.is_empty() {
        put("tags", json!([spec.tag]));
    }
    if spec.deprecated || alias {
        put("deprecated", true.into());
    }
    put("security", security(spec.auth));
    if !spec.scopes.is_empty() {
        put("x-scopes", json!(spec.scopes));
    }
    let parameters = parameters(spec, path);
    if !parameters.is_empty() {
        put("parameters", parameters.into());
    }
    if let Some(schema) = spec.body.as_ref().or(spec.documented_body.as_ref()) {
        let content = json!({"application/json": {"schema": schema.json_schema()}});
        put(
            "requestBody",
            json!({"required": schema.is_required(), "content": content}),
        );
    }
    put("responses", responses(spec, generator));
    operation
}

fn security(auth: Auth) -> Value {
    match auth {
        Auth::None => json!([]),
        Auth::ApiKey | Auth::AccountKey => json!([{"apiKey": []}]),
        Auth::Session => json!([{"connectSession": []}]),
        Auth::KeyOrSession => json!([{"apiKey": []}, {"connectSession": []}]),
        Auth::Query => json!([{"connectSessionQuery": []}, {"publicKeyQuery": []}]),
    }
}

fn parameters(spec: &Spec, path: &str) -> Vec<Value> {
    let mut parameters = Vec::new();
    for name in parameter_names(path) {
        let declared = spec
            .params
            .as_ref()
            .and_then(|params| params.fields().find(|(field, _)| *field == name));
        let schema = declared.map_or_else(|| json!({"type": "string"}), |(_, schema)| schema.json_schema());
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    for (name, schema) in spec.query.iter().flat_map(Schema::fields) {
        let json_schema = schema.json_schema();
        let mut parameter = json!({"name": name, "in": "query", "required": schema.is_required()});
        if json_schema["type"] == "object" {
            parameter["style"] = "deepObject".into();
        }
        if let Some(text) = schema.description() {
            parameter["description"] = text.into();
        }
        parameter["schema"] = json_schema;
        parameters.push(parameter);
    }
    parameters
}

fn responses(spec: &Spec, generator: &mut schemars::SchemaGenerator) -> Value {
    let mut responses = Map::new();
    for answer in &spec.responses {
        let mut response = json!({"description": "Success"});
        match answer.content {
            AnswerContent::Empty => {}
            AnswerContent::Json(schema) => {
                response["content"] = json!({"application/json": {"schema": schema(generator)}});
            }
            AnswerContent::Other(media_type) => {
                response["content"] = json!({media_type: {"schema": {"type": "string"}}});
            }
        }
        responses.insert(answer.status.to_string(), response);
    }
    let mut by_status: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
    for code in spec.all_errors() {
        for status in code.statuses {
            by_status.entry(*status).or_default().push(code);
        }
    }
    for (status, codes) in by_status {
        let names: Vec<&str> = codes.iter().map(|code| code.name).collect();
        let meanings: Vec<String> = codes
            .iter()
            .map(|code| format!("`{}`: {}", code.name, code.meaning))
            .collect();
        responses.insert(
            status.to_string(),
            json!({
                "description": meanings.join("\n\n"),
                "content": {"application/json": {"schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Error"},
                        {"properties": {"error": {"properties": {"code": {"enum": names}}}}},
                    ],
                }}},
            }),
        );
    }
    Value::Object(responses)
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "additionalProperties": false,
        "properties": {"error": {
            "type": "object",
            "required": ["code"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "errors": {"type": "array", "items": {
                    "type": "object",
                    "required": ["code", "message", "path"],
                    "additionalProperties": false,
                    "properties": {
                        "code": {"type": "string"},
                        "message": {"type": "string"},
                        "path": {"type": "array", "items": {"type": "string"}},
                    },
                }},
                "payload": {"type": ["object", "string"]},
                "method": {"type": "string"},
                "path": {"type": "string"},
            },
        }},
    })
}
