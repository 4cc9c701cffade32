//! `/connections/metadata`: the product's own data on connections (api-core §9.8).

use std::sync::Arc;

use http::StatusCode;
use patchbay_connections::Context;
use patchbay_connections::connections::{self, ConnectionError, MetadataWrite};
use patchbay_types::{ConnectionId, JsonMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::codes;
use crate::connections::{connection_id, integration_key};
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{Object, SchemaExt, any_of, array, object, string};

const UPDATE: &[&str] = &["environment:connections:update"];

/// The routes of this resource.
pub fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::post("/connections/metadata")
            .alias("/connection/metadata")
            .tag("connections")
            .summary("Replace the metadata of one or several connections")
            .scopes(UPDATE)
            .body::<Body>(body())
            .responds::<Echo>(201)
            .errors(&[&codes::UNKNOWN_CONNECTION])
            .handler(context, replace),
        Route::patch("/connections/metadata")
            .alias("/connection/metadata")
            .tag("connections")
            .summary("Merge into the metadata of one or several connections")
            .scopes(UPDATE)
            .body::<Body>(body())
            .responds::<Echo>(200)
            .errors(&[&codes::UNKNOWN_CONNECTION])
            .handler(context, merge),
        Route::post("/connection/{connectionId}/metadata")
            .tag("connections")
            .summary("Replace metadata, oldest form")
            .deprecated()
            .scopes(UPDATE)
            .params::<ById>(object().field("connectionId", connection_id()))
            .query::<LegacyQuery>(legacy_query())
            .body::<JsonMap>(object().loose())
            .responds::<JsonMap>(201)
            .errors(&[&codes::UNKNOWN_CONNECTION])
            .handler(context, legacy_replace),
        Route::patch("/connection/{connectionId}/metadata")
            .tag("connections")
            .summary("Merge metadata, oldest form")
            .deprecated()
            .scopes(UPDATE)
            .params::<ById>(object().field("connectionId", connection_id()))
            .query::<LegacyQuery>(legacy_query())
            .body::<JsonMap>(object().loose())
            .responds::<JsonMap>(200)
            .errors(&[&codes::UNKNOWN_CONNECTION])
            .handler(context, legacy_merge),
    ]
}

/// The request, which is also the answer.
#[derive(Debug, Serialize, JsonSchema)]
struct Echo {
    connection_id: OneOrMany,
    provider_config_key: String,
    metadata: JsonMap,
}

#[derive(Debug, Deserialize)]
struct Body {
    connection_id: OneOrMany,
    provider_config_key: String,
    metadata: JsonMap,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn body() -> Object {
    object()
        .field("provider_config_key", integration_key())
        .field(
            "connection_id",
            any_of([connection_id(), array(connection_id()).into()]),
        )
        .field("metadata", object().loose())
}

async fn replace(context: Arc<Context>, call: Call<Empty, Empty, Body>) -> Result<Reply, ApiError> {
    write(&context, call, MetadataWrite::Replace, StatusCode::CREATED).await
}

async fn merge(context: Arc<Context>, call: Call<Empty, Empty, Body>) -> Result<Reply, ApiError> {
    write(&context, call, MetadataWrite::Merge, StatusCode::OK).await
}

async fn write(
    context: &Context,
    call: Call<Empty, Empty, Body>,
    write: MetadataWrite,
    status: StatusCode,
) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    let Body {
        connection_id,
        provider_config_key,
        metadata,
    } = call.body;
    let ids = match &connection_id {
        OneOrMany::One(id) => vec![parse(id)?],
        OneOrMany::Many(ids) => ids.iter().map(|id| parse(id)).collect::<Result<_, _>>()?,
    };
    connections::write_metadata(
        context,
        environment,
        &provider_config_key,
        ids,
        metadata.clone(),
        write,
    )
    .await
    .map_err(|error| match error {
        ConnectionError::Store(error) => error.into(),
        ConnectionError::UnknownConnection(id) => ApiError::new(&codes::UNKNOWN_CONNECTION)
            .message(format!("There is no connection {id} under this integration")),
        other => ApiError::unexpected(other),
    })?;
    Reply::json_with(
        status,
        &Echo {
            connection_id,
            provider_config_key,
            metadata,
        },
    )
}

fn parse(id: &str) -> Result<ConnectionId, ApiError> {
    ConnectionId::parse(id).map_err(|error| ApiError::unexpected(error.to_string()))
}

#[derive(Debug, Deserialize)]
struct ById {
    #[serde(rename = "connectionId")]
    connection_id: String,
}

#[derive(Debug, Deserialize)]
struct LegacyQuery {
    provider_config_key: Option<String>,
}

fn legacy_query() -> Object {
    object()
        .field(
            "provider_config_key",
            string()
                .optional()
                .describe("The integration; the header Provider-Config-Key serves too"),
        )
        .strip()
}

type LegacyCall = Call<ById, LegacyQuery, JsonMap>;

async fn legacy_replace(context: Arc<Context>, call: LegacyCall) -> Result<Reply, ApiError> {
    legacy(&context, call, MetadataWrite::Replace, StatusCode::CREATED).await
}

async fn legacy_merge(context: Arc<Context>, call: LegacyCall) -> Result<Reply, ApiError> {
    legacy(&context, call, MetadataWrite::Merge, StatusCode::OK).await
}

async fn legacy(
    context: &Context,
    call: LegacyCall,
    write: MetadataWrite,
    status: StatusCode,
) -> Result<Reply, ApiError> {
    let environment = call.environment()?.id;
    let header = call
        .headers()
        .get("provider-config-key")
        .and_then(|value| value.to_str().ok());
    let integration = call
        .query
        .provider_config_key
        .clone()
        .or_else(|| header.map(str::to_owned))
        .unwrap_or_default();
    let id = parse(&call.params.connection_id)?;
    connections::write_metadata(
        context,
        environment,
        &integration,
        vec![id],
        call.body.clone(),
        write,
    )
    .await
    .map_err(|error| match error {
        ConnectionError::Store(error) => error.into(),
        ConnectionError::UnknownConnection(id) => ApiError::new(&codes::UNKNOWN_CONNECTION)
            .legacy()
            .message("There is no such connection")
            .payload(json!({"connectionId": id, "providerConfigKey": integration})),
        other => ApiError::unexpected(other),
    })?;
    Reply::json_with(status, &Value::Object(call.body))
}
