//! Routes that ask nobody who they are, beside the catalogue's: `/health`, `/ready`, `/env.js` (api-core §5).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Response, StatusCode, header};
use patchbay_connections::Context;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::authenticate::Auth;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Endpoint, Rate, Route};

/// Whether the server can do its work; asked by `GET /ready`.
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>);

impl Readiness {
    /// Asks `probe` each time.
    pub fn new<F>(probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(probe())))
    }

    /// Ready while the database answers and no shutdown has begun.
    pub fn of(context: &Arc<Context>) -> Self {
        let context = Arc::clone(context);
        Self::new(move || {
            let context = Arc::clone(&context);
            async move { !context.ambient.tasks.is_stopping() && context.store.ping().await.is_ok() }
        })
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readiness(..)")
    }
}

/// How the server is.
#[derive(Serialize, JsonSchema)]
struct Status {
    /// `ok`, or `not ready`.
    result: Cow<'static, str>,
}

pub(crate) fn routes(context: &Arc<Context>, readiness: &Readiness) -> Vec<Endpoint> {
    vec![
        Route::get("/health")
            .tag("status")
            .summary("Whether the process answers")
            .auth(Auth::None)
            .rate(Rate::Free)
            .any_query()
            .responds::<Status>(200)
            .handler(&(), async |(), _: Call| status(StatusCode::OK, "ok")),
        Route::get("/ready")
            .tag("status")
            .summary("Whether the server can do its work")
            .auth(Auth::None)
            .rate(Rate::Free)
            .any_query()
            .responds::<Status>(200)
            .responds::<Status>(503)
            .handler(readiness, async |readiness: Readiness, _: Call| {
                if (readiness.0)().await {
                    status(StatusCode::OK, "ok")
                } else {
                    status(StatusCode::SERVICE_UNAVAILABLE, "not ready")
                }
            }),
        Route::get("/env.js")
            .tag("status")
            .summary("Addresses and features, for pages of the reference's kind")
            .auth(Auth::None)
            .rate(Rate::Free)
            .any_query()
            .responds_with(200, "text/javascript")
            .handler(context, async |context: Arc<Context>, _: Call| {
                script(&context).map(Reply::from)
            }),
    ]
}

fn status(code: StatusCode, result: &'static str) -> Result<Reply, ApiError> {
    Reply::json_with(
        code,
        &Status {
            result: result.into(),
        },
    )
}

fn script(context: &Context) -> Result<Response<axum::body::Body>, ApiError> {
    let settings = &context.settings;
    let public = settings.public_url.as_str().trim_end_matches('/');
    let env = json!({
        "apiUrl": public,
        "dashboardApiUrl": public,
        "publicUrl": public,
        "connectUrl": settings.connect_url.as_str().trim_end_matches('/'),
        "gitHash": env!("CARGO_PKG_VERSION"),
        "publicSentryKey": "",
        "publicPosthogKey": "",
        "publicPosthogHost": "",
        "publicLogoDevKey": "",
        "publicStripeKey": "",
        "publicPlainAppId": "",
        "isCloud": false,
        "isHosted": true,
        "isEnterprise": false,
        "features": {
            "logs": false, "scripts": false, "auth": false, "allowSignup": false, "managedAuth": false,
            "gettingStarted": false, "slack": false, "plan": false, "authRoles": false,
        },
    });
    // `<` is escaped so that the text stays harmless if a page includes it inline.
    let text = format!("window._env = {};\n", env.to_string().replace('<', "\\u003c"));
    Response::builder()
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/javascript; charset=utf-8"),
        )
        .header(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=3600"),
        )
        .body(text.into())
        .map_err(ApiError::unexpected)
}
