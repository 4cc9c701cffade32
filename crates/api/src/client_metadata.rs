//! `GET /oauth/client-metadata/:environmentUuid/:providerConfigKey`: the document by which authorization servers of
//! MCP know us (auth-flows §12.3).

use std::sync::Arc;

use http::{HeaderValue, header};
use patchbay_connections::{Context, client_metadata, environments, integrations};
use patchbay_types::JsonMap;
use serde::Deserialize;
use uuid::Uuid;

use crate::authenticate::Auth;
use crate::codes;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Endpoint, Rate, Route};
use crate::schema::{Schema, object, patterns, string};

/// The route.
pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/oauth/client-metadata/{environmentUuid}/{providerConfigKey}")
            .tag("authorization")
            .summary("The client id metadata document of an MCP integration")
            .auth(Auth::None)
            .rate(Rate::Free)
            .any_query()
            .params::<Of>(of())
            .responds::<JsonMap>(200)
            .errors(&[
                &codes::FEATURE_DISABLED,
                &codes::UNKNOWN_ENVIRONMENT,
                &codes::UNKNOWN_PROVIDER_CONFIG,
                &codes::SERVICE_UNAVAILABLE,
            ])
            .handler(context, read),
    ]
}

/// An integration by its environment's UUID, for those who have no key.
#[derive(Deserialize)]
pub(crate) struct Of {
    #[serde(rename = "environmentUuid")]
    pub(crate) environment: Uuid,
    #[serde(rename = "providerConfigKey")]
    pub(crate) key: String,
}

pub(crate) fn of() -> Schema {
    let key = string().min(1).max(255).pattern(patterns::INTEGRATION_KEY);
    object()
        .field("environmentUuid", string().uuid())
        .field("providerConfigKey", key)
        .into()
}

async fn read(context: Arc<Context>, call: Call<Of>) -> Result<Reply, ApiError> {
    if context.settings.public_url.scheme() != "https" {
        return Err(ApiError::new(&codes::FEATURE_DISABLED)
            .message("This server has no public https address: set its public URL"));
    }
    let environment = environments::by_uuid(&context, call.params.environment)
        .await?
        .ok_or_else(|| ApiError::new(&codes::UNKNOWN_ENVIRONMENT))?;
    let unknown = || ApiError::new(&codes::UNKNOWN_PROVIDER_CONFIG).status(http::StatusCode::NOT_FOUND);
    let integration = integrations::get(&context, environment.id, &call.params.key)
        .await?
        .ok_or_else(unknown)?;
    let document = client_metadata::document(&context, &environment, &integration).ok_or_else(unknown)?;
    let kept = HeaderValue::from_static("public, max-age=300");
    Ok(Reply::json(&document)?.header(header::CACHE_CONTROL, kept))
}
