//! `POST /webhook/:environmentUuid/:providerConfigKey`: webhooks of providers (webhooks §A1, §A2). Public: the path is
//! all a provider is given, so what an event does depends on its signature.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use patchbay_connections::Context;
use patchbay_connections::inbound_events::{self, InboundError, Received, Reception};
use patchbay_types::JsonMap;
use serde_json::json;

use crate::authenticate::Auth;
use crate::body::{BodyMode, Payload};
use crate::client_metadata::{Of, of};
use crate::codes;
use crate::cors::Cors;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Endpoint, Rate, Route};

/// The route.
pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::post("/webhook/{environmentUuid}/{providerConfigKey}")
            .tag("webhooks")
            .summary("Where providers send webhooks")
            .auth(Auth::None)
            .cors(Cors::SameOrigin)
            .rate(Rate::Free)
            .any_query()
            .params::<Of>(of())
            .payload(BodyMode::Bytes, None)
            .responds::<JsonMap>(200)
            .responds_empty(204)
            .errors(&[
                &codes::UNKNOWN_ENVIRONMENT,
                &codes::UNKNOWN_PROVIDER_CONFIG,
                &codes::INVALID_JSON,
                &codes::MISSING_SIGNATURE,
                &codes::INVALID_SIGNATURE,
                &codes::SERVICE_UNAVAILABLE,
            ])
            .handler(context, receive),
    ]
}

async fn receive(context: Arc<Context>, call: Call<Of>) -> Result<Reply, ApiError> {
    let body = match call.payload {
        Payload::Bytes(bytes) => bytes,
        _ => bytes::Bytes::new(),
    };
    let mut headers = BTreeMap::new();
    for (name, value) in &call.parts.headers {
        if let Ok(value) = value.to_str() {
            headers.insert(name.as_str().to_owned(), value.to_owned());
        }
    }
    let received = Received {
        body: &body,
        headers: &headers,
    };
    let Of { environment, key } = call.params;
    match inbound_events::receive(&context, environment, &key, &received).await {
        Ok(Reception::NoHandler) => Ok(Reply::no_content()),
        Ok(Reception::Accepted) => Reply::json(&json!({"status": "success"})),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: InboundError) -> ApiError {
    let words = error.to_string();
    match error {
        InboundError::UnknownEnvironment => ApiError::new(&codes::UNKNOWN_ENVIRONMENT),
        InboundError::UnknownIntegration => {
            ApiError::new(&codes::UNKNOWN_PROVIDER_CONFIG).status(StatusCode::NOT_FOUND)
        }
        InboundError::Json(_) => ApiError::new(&codes::INVALID_JSON).message(words),
        InboundError::MissingSignature => ApiError::new(&codes::MISSING_SIGNATURE).message(words),
        InboundError::InvalidSignature => ApiError::new(&codes::INVALID_SIGNATURE).message(words),
        InboundError::Store(error) => error.into(),
    }
}
