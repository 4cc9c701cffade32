//! `GET /oauth/connect/:providerConfigKey`: sends the popup to the provider (auth-flows §4, §5, §7).
//!
//! The browser that opened the popup waits on its WebSocket and sees nothing of what the popup shows. So whatever
//! goes wrong here is said twice: on the WebSocket, if the popup names one, and as a page.

use std::sync::Arc;

use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use patchbay_api::authenticate::Principal;
use patchbay_api::authenticator::ContextAuthenticator;
use patchbay_api::authorize_forms::{ByKey, browser_query, refusal_error, session_for, wish};
use patchbay_api::client::{Client, Scheme};
use patchbay_api::rate_limit::Bucket;
use patchbay_api::schema::patterns::is_uuid_v4;
use patchbay_api::schema::{object, string};
use patchbay_api::{ApiError, Auth, Call, Endpoint, Rate, Route, codes};
use patchbay_connections::admission::Refusal;
use patchbay_connections::auth_attempts::{self, BeginError, LIFETIME, Redirect, Waiting};
use patchbay_connections::auth_outcomes::{self, Awaited};
use patchbay_connections::results::AuthResult;
use patchbay_types::JsonMap;

use crate::Site;
use crate::callback::{Told, result_page};
use crate::connect_ui;
use crate::page;

/// What a caller who could not be authenticated costs their address.
const STRANGER: u32 = 10;

pub(crate) fn route(site: &Site) -> Endpoint {
    Route::get("/oauth/connect/{providerConfigKey}")
        .tag("authorization")
        .summary("Send a popup to the provider's authorization page")
        .auth(Auth::None)
        .rate(Rate::Free)
        .params::<ByKey>(object().field("providerConfigKey", string()))
        .query::<JsonMap>(browser_query())
        .responds_empty(302)
        .responds_with(400, "text/html")
        .errors(Auth::Query.errors())
        .errors(&[
            &codes::SERVICE_UNAVAILABLE,
            &codes::TOO_MANY_REQUEST,
            &codes::INTEGRATION_NOT_ALLOWED,
            &codes::INVALID_CONNECTION,
        ])
        .handler(site, connect)
}

/// Why the popup goes nowhere.
struct Failure {
    /// `error_type` of the frame.
    kind: String,
    message: String,
    status: StatusCode,
    /// What callers without WebSocket and without eyes get instead of the page.
    error: Option<ApiError>,
}

impl Failure {
    /// What the waiting browser hears.
    fn frame(&self, key: &str) -> AuthResult {
        AuthResult::Error {
            provider_config_key: Some(key.to_owned()),
            connection_id: None,
            error_type: self.kind.clone(),
            error_desc: self.message.clone(),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            kind: error.code().name.to_owned(),
            message: error.code().meaning.to_owned(),
            status: error.status_code(),
            error: Some(error),
        }
    }
}

impl From<BeginError> for Failure {
    fn from(error: BeginError) -> Self {
        let page = |kind: &str, message: String| Self {
            kind: kind.to_owned(),
            message,
            status: StatusCode::BAD_REQUEST,
            error: None,
        };
        let kind = error.error_type();
        match error {
            BeginError::Store(error) => ApiError::from(error).into(),
            BeginError::Refused(
                refusal @ (Refusal::Store(_) | Refusal::NotAllowed | Refusal::ConnectionGone),
            ) => {
                let message = refusal.to_string();
                let failure = Self::from(refusal_error(refusal, StatusCode::BAD_REQUEST));
                if failure.status.is_server_error() {
                    return failure;
                }
                Self { message, ..failure }
            }
            BeginError::Refused(Refusal::Fields(errors)) => {
                let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
                page(kind, format!("{}.", all.join("; ")))
            }
            other => page(kind, other.to_string()),
        }
    }
}

/// A call without its body, which may not be shared between threads.
struct Popup {
    key: String,
    query: JsonMap,
    client: Client,
    parts: Parts,
}

async fn connect(site: Site, call: Call<ByKey, JsonMap>) -> Result<Response<Body>, ApiError> {
    let call = Popup {
        key: call.params.key,
        query: call.query,
        client: call.client,
        parts: call.parts,
    };
    if call.parts.method == Method::HEAD {
        return Ok(Response::new(Body::empty()));
    }
    // Only what this server could have handed out: anything else has no socket.
    let waiting = call.query.get("ws_client_id").and_then(|id| id.as_str());
    let waiting = Waiting {
        ws_client_id: waiting.filter(|id| is_uuid_v4(id)).map(str::to_owned),
        connect_ui: connect_ui::page_of(&call.query),
    };
    match begin(&site, &call, waiting.clone()).await {
        Ok(redirect) => redirected(&redirect, is_https(&site, &call.client)),
        Err(failure) => fail(&site, &call, waiting, failure).await,
    }
}

async fn begin(site: &Site, call: &Popup, waiting: Waiting) -> Result<Redirect, Failure> {
    let authenticator = ContextAuthenticator::new(Arc::clone(&site.context));
    let (headers, query) = (&call.parts.headers, call.parts.uri.query());
    let principal = match Auth::Query.authenticate(&authenticator, headers, query).await {
        Ok(Some(principal)) => principal,
        Ok(None) => return Err(ApiError::unexpected("the route authenticates and found nobody").into()),
        Err(error) => {
            if error.status_code() == StatusCode::UNAUTHORIZED {
                count(site, call, Bucket::address(call.client.ip), STRANGER).await?;
            }
            return Err(error.into());
        }
    };
    count_principal(site, call, &principal).await?;
    let session = session_for(&principal, &call.key, &call.query)?;
    let wish = wish(&call.key, &call.query);
    let (id, page) = (session.id, waiting.connect_ui.clone());
    let begun = auth_attempts::begin(&site.context, session, wish, waiting).await;
    let failure = match begun {
        Ok(redirect) => return Ok(redirect),
        Err(error) => Failure::from(error),
    };
    if let Some(page) = page {
        let awaited = Awaited {
            session: id,
            attempt: page.attempt,
        };
        auth_outcomes::note(&site.context, awaited, failure.frame(&call.key)).await;
    }
    Err(failure)
}

async fn count_principal(site: &Site, call: &Popup, principal: &Principal) -> Result<(), Failure> {
    match principal.bucket(&call.parts.headers) {
        Some(bucket) => count(site, call, bucket, 1).await,
        None => Ok(()),
    }
}

async fn count(site: &Site, call: &Popup, bucket: Bucket, cost: u32) -> Result<(), Failure> {
    let Some(limiter) = &site.options.limiter else {
        return Ok(());
    };
    let path = call.parts.uri.path();
    let counted = limiter.check(bucket, cost, &call.parts.method, path).await;
    counted.map(drop).map_err(|(_, error)| error.into())
}

fn redirected(redirect: &Redirect, https: bool) -> Result<Response<Body>, ApiError> {
    let security = if https {
        "Secure; SameSite=None"
    } else {
        "SameSite=Lax"
    };
    let cookie = format!(
        "oauth2-{}=1; Max-Age={}; HttpOnly; Path=/; {security}",
        redirect.state,
        LIFETIME.as_secs()
    );
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(redirect.url.as_str()).map_err(ApiError::unexpected)?;
    headers.insert(header::LOCATION, location);
    headers.insert(
        header::SET_COOKIE,
        HeaderValue::try_from(cookie).map_err(ApiError::unexpected)?,
    );
    page::unkept(headers);
    Ok(response)
}

/// How the browser reached us: by the proxies we trust, or by what the operator says.
pub(crate) fn is_https(site: &Site, client: &Client) -> bool {
    client.scheme == Scheme::Https || site.context.settings.public_url.scheme() == "https"
}

async fn fail(
    site: &Site,
    call: &Popup,
    waiting: Waiting,
    failure: Failure,
) -> Result<Response<Body>, ApiError> {
    let page = waiting.connect_ui;
    if let Some((attempt, back)) = page.and_then(|page| Some((page.attempt, page.back?))) {
        // The page went itself, so it is what says what is wrong; an ended session too.
        return connect_ui::returned(&site.context, &attempt, &back);
    }
    let waiting = waiting.ws_client_id;
    if let Some(waiting) = &waiting {
        let frame = failure.frame(&call.key);
        site.context.results.publish(waiting, frame).await;
    }
    let mut headers = HeaderMap::new();
    if let Some(error) = failure.error {
        if waiting.is_none() && !accepts_html(&call.parts.headers) {
            return Err(error);
        }
        // Its log line, and headers such as Retry-After, belong to the page too.
        headers = error
            .into_response(&*site.context.ambient.entropy)
            .headers()
            .clone();
    }
    let told = Told::failure(failure.kind, failure.message);
    let mut response = result_page(&call.parts, failure.status, &told)?;
    if let Some(after) = headers.remove(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    Ok(response)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"))
}
