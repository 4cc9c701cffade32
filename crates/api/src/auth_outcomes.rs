//! `GET /connect/session/result`: how an attempt of the Connect UI ended, for pages whose WebSocket is blocked
//! (connect-ui §17).

use std::sync::Arc;

use patchbay_connections::results::AuthResult;
use patchbay_connections::{Context, auth_outcomes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authenticate::Auth;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{Text, object, patterns, string};

/// The route.
pub fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/connect/session/result")
            .tag("connect")
            .summary("Read how an attempt of the Connect UI ended; null while it has not")
            .auth(Auth::Session)
            .query::<ByAttempt>(object().field("attempt", attempt()))
            .empty_body()
            .responds::<Outcome>(200)
            .handler(context, read),
    ]
}

/// The name that a page gives an attempt: `attempt` of `/oauth/connect` and of this route.
pub fn attempt() -> Text {
    string().pattern(patterns::ATTEMPT)
}

#[derive(Debug, Deserialize)]
struct ByAttempt {
    attempt: String,
}

#[derive(Serialize, JsonSchema)]
struct Outcome {
    data: Option<Ended>,
}

/// The same words that a WebSocket would have brought.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Ended {
    Connected {
        #[serde(rename = "providerConfigKey")]
        provider_config_key: String,
        #[serde(rename = "connectionId")]
        connection_id: String,
        #[serde(rename = "isPending")]
        is_pending: bool,
    },
    Failed {
        #[serde(rename = "providerConfigKey", skip_serializing_if = "Option::is_none")]
        provider_config_key: Option<String>,
        error: Failure,
    },
}

#[derive(Serialize, JsonSchema)]
struct Failure {
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

impl From<AuthResult> for Ended {
    fn from(result: AuthResult) -> Self {
        match result {
            AuthResult::Success {
                provider_config_key,
                connection_id,
                is_pending,
            } => Self::Connected {
                provider_config_key,
                connection_id,
                is_pending,
            },
            AuthResult::Error {
                provider_config_key,
                error_type,
                error_desc,
                ..
            } => Self::Failed {
                provider_config_key,
                error: Failure {
                    kind: error_type,
                    message: error_desc,
                },
            },
        }
    }
}

async fn read(context: Arc<Context>, call: Call<Empty, ByAttempt>) -> Result<Reply, ApiError> {
    let session = call.principal()?.session();
    let session = session.ok_or_else(|| ApiError::unexpected("the route takes session tokens only"))?;
    let found = auth_outcomes::read(&context, session.id, &call.query.attempt).await?;
    Reply::json(&Outcome {
        data: found.map(Ended::from),
    })
}
