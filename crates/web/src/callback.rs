//! `GET /oauth/callback`: finishes an attempt and tells whoever opened the popup (auth-flows §6.3, §6.4).

use std::collections::BTreeMap;

use askama::Template;
use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use patchbay_api::cors::Cors;
use patchbay_api::{ApiError, Auth, Call, Endpoint, Rate, Route, query};
use patchbay_connections::auth_attempts::{self, CallbackOutcome, CallbackQuery, Finished, PROVIDER_ERRORS};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::Site;
use crate::assets::Files;
use crate::connect_ui;
use crate::page::{html, json_block, unkept};

/// Where an app that was changed at GitHub is sent if nobody says where it came from.
const GITHUB: &str = "https://github.com";

pub(crate) fn route(site: &Site) -> Endpoint {
    Route::get("/oauth/callback")
        .tag("authorization")
        .summary("Where providers send the popup back to")
        .auth(Auth::None)
        .cors(Cors::SameOrigin)
        .rate(Rate::Free)
        .any_query()
        .responds_with(200, "text/html")
        .responds_with(400, "text/html")
        .responds_empty(302)
        .handler(site, callback)
}

pub(crate) fn app_route(site: &Site) -> Endpoint {
    Route::get("/app-auth/connect")
        .tag("authorization")
        .summary("Where installations of apps are sent back to")
        .auth(Auth::None)
        .cors(Cors::SameOrigin)
        .rate(Rate::Free)
        .any_query()
        .responds_with(200, "text/html")
        .responds_with(400, "text/html")
        .responds_with(404, "text/html")
        .responds_empty(302)
        .handler(site, callback)
}

/// What the page says, to people and to the opener.
#[derive(Debug)]
pub(crate) struct Told {
    failure: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    kind: String,
    /// For the person.
    message: String,
    /// For the opener.
    posted: String,
    /// What the provider said, name and value.
    said: Vec<(&'static str, String)>,
}

impl Told {
    fn success() -> Self {
        Self { failure: None }
    }

    pub(crate) fn failure(kind: String, message: String) -> Self {
        let posted = message.clone();
        let said = Vec::new();
        Self {
            failure: Some(Failed {
                kind,
                message,
                posted,
                said,
            }),
        }
    }

    /// An outcome in the light of what the provider put into the query: its errors are failures whatever we think
    /// of the rest, and its words are better than ours.
    fn of(outcome: CallbackOutcome, params: &BTreeMap<String, String>) -> Result<Self, ApiError> {
        let said: Vec<(&'static str, String)> = PROVIDER_ERRORS
            .iter()
            .filter_map(|name| {
                Some((
                    *name,
                    params.get(*name).filter(|value| !value.is_empty())?.clone(),
                ))
            })
            .collect();
        let mut told = match outcome {
            CallbackOutcome::Connected { .. } if said.is_empty() => return Ok(Self::success()),
            CallbackOutcome::Connected { .. } => Self::failure(
                "callback_err".to_owned(),
                "The provider reported an error.".to_owned(),
            ),
            CallbackOutcome::Failed { error_type, message } => Self::failure(error_type.to_owned(), message),
        };
        if let (Some(failed), false) = (&mut told.failure, said.is_empty()) {
            let object: serde_json::Map<String, Value> = said
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::String(value.clone())))
                .collect();
            failed.posted = serde_json::to_string(&object).map_err(ApiError::unexpected)?;
            failed.said = said;
        }
        Ok(told)
    }
}

/// What the page's script posts and does.
#[derive(Serialize)]
struct Orders<'a> {
    message: Posted<'a>,
    /// Milliseconds after which a success closes by itself; failures stay to be read.
    close_after: Option<u32>,
    debug: bool,
}

#[derive(Serialize)]
struct Posted<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Payload<'a>>,
}

#[derive(Serialize)]
struct Payload<'a> {
    message: &'a str,
    #[serde(rename = "errorType")]
    error_type: &'static str,
}

#[derive(Template)]
#[template(path = "result.html")]
struct ResultPage<'a> {
    files: Files,
    failure: Option<&'a Failed>,
    orders: String,
}

/// The page at the end of a popup.
pub(crate) fn result_page(
    parts: &Parts,
    status: StatusCode,
    told: &Told,
) -> Result<Response<Body>, ApiError> {
    let debug = query::pairs(parts.uri.query().unwrap_or_default())
        .any(|(name, value)| name == "nango_debug" && value == "1");
    let failure = told.failure.as_ref();
    let orders = Orders {
        message: match failure {
            None => Posted {
                kind: "nango_oauth_callback_success",
                payload: None,
            },
            Some(failed) => Posted {
                kind: "nango_oauth_callback_error",
                payload: Some(Payload {
                    message: &failed.posted,
                    error_type: "connection_validation_failed",
                }),
            },
        },
        close_after: (failure.is_none() && !debug).then_some(500),
        debug,
    };
    let page = ResultPage {
        files: Files::from(parts.uri.path()),
        failure,
        orders: json_block(&orders)?,
    };
    html(status, &page)
}

async fn callback(site: Site, call: Call) -> Result<Response<Body>, ApiError> {
    // An attempt is finished once: what only looks must not use it up.
    if call.parts.method == Method::HEAD {
        return Ok(Response::new(Body::empty()));
    }
    let params: BTreeMap<String, String> = query::pairs(call.parts.uri.query().unwrap_or_default())
        .map(|(name, value)| (name.into_owned(), value))
        .collect();
    let state = ["state", "payload", "customField"]
        .iter()
        .find_map(|name| params.get(*name).filter(|state| !state.is_empty()));
    if state.is_none() && is_change_elsewhere(&params) {
        return back(&call.parts.headers);
    }
    let cookie = state.map(|state| format!("oauth2-{state}"));
    let cookie = cookie.filter(|name| has_cookie(&call.parts.headers, name));
    let query = CallbackQuery {
        params: params.clone(),
        has_state_cookie: cookie.is_some(),
    };
    let Finished { outcome, back } = auth_attempts::callback(&site.context, query).await;
    if let Some((attempt, page)) = back {
        let mut response = connect_ui::returned(&site.context, &attempt, &page)?;
        forget_cookie(&mut response, cookie.as_deref());
        return Ok(response);
    }
    let is_app = call
        .parts
        .uri
        .path()
        .to_ascii_lowercase()
        .starts_with("/app-auth/");
    let status = match &outcome {
        CallbackOutcome::Connected { .. } => StatusCode::OK,
        CallbackOutcome::Failed { error_type, .. }
            if is_app && *error_type == "state_err" && state.is_some() =>
        {
            StatusCode::NOT_FOUND
        }
        CallbackOutcome::Failed { .. } => StatusCode::BAD_REQUEST,
    };
    let mut response = result_page(&call.parts, status, &Told::of(outcome, &params)?)?;
    forget_cookie(&mut response, cookie.as_deref());
    Ok(response)
}

/// The cookie has served; a name that is no header text was not set by us.
fn forget_cookie(response: &mut Response<Body>, name: Option<&str>) {
    let spent = name.and_then(|name| HeaderValue::try_from(format!("{name}=; Max-Age=0; Path=/")).ok());
    if let Some(spent) = spent {
        response.headers_mut().insert(header::SET_COOKIE, spent);
    }
}

/// Whether an app was installed or changed at the provider, and no popup of ours led there.
fn is_change_elsewhere(params: &BTreeMap<String, String>) -> bool {
    let action = params.get("setup_action").map(String::as_str);
    matches!(action, Some("install" | "update")) || action.is_some() && params.contains_key("installation_id")
}

/// An app was changed at GitHub, not in a popup of ours: back to where the person was.
fn back(headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
    let referer = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let referer = referer
        .and_then(|text| Url::parse(text).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let target = referer.as_ref().map_or(GITHUB, Url::as_str);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    let headers = response.headers_mut();
    headers.insert(
        header::LOCATION,
        HeaderValue::try_from(target).map_err(ApiError::unexpected)?,
    );
    unkept(headers);
    Ok(response)
}

fn has_cookie(headers: &HeaderMap, name: &str) -> bool {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(';'))
        .any(|pair| pair.trim().split('=').next() == Some(name))
}
