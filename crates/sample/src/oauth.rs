//! The OAuth 2 server: authorization page and revocation; the token endpoint is in `token.rs`.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State as Injected};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::behaviour::Consent;
use crate::data::COMPANY;
use crate::server::{Cut, State};
use crate::token::claimed;
use crate::tokens::{Approval, Refused};

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/oauth/authorize", get(authorize).post(decide))
        .route("/oauth/revoke", post(revoke))
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage<'a> {
    company: &'a str,
    person: &'a str,
    email: &'a str,
    scopes: Vec<&'a str>,
    target: &'a str,
    fields: &'a [(String, String)],
}

#[derive(Template)]
#[template(path = "refused.html")]
struct RefusedPage<'a> {
    company: &'a str,
    reason: &'a str,
}

pub(crate) type Parameters = Vec<(String, String)>;

async fn authorize(Injected(state): Injected<Arc<State>>, RawQuery(query): RawQuery) -> Response {
    state.count(|counts| counts.authorize += 1);
    let parameters = parse(query.unwrap_or_default().as_bytes());
    let consent = state.behaviours().consent;
    match consent {
        Consent::Approve => conclude(&state, &parameters, true),
        Consent::Deny => conclude(&state, &parameters, false),
        Consent::Ask => match check(&state, &parameters) {
            Err(response) => *response,
            Ok(redirect) => {
                let page = ConsentPage {
                    company: COMPANY,
                    person: &state.options.person,
                    email: &state.options.email,
                    scopes: value(&parameters, "scope")
                        .unwrap_or_default()
                        .split_whitespace()
                        .collect(),
                    target: redirect.host_str().unwrap_or_default(),
                    fields: &parameters,
                };
                html(StatusCode::OK, &page)
            }
        },
    }
}

async fn decide(Injected(state): Injected<Arc<State>>, body: Bytes) -> Response {
    let mut parameters = parse(&body);
    let approved = value(&parameters, "decision") == Some("approve");
    parameters.retain(|(name, _)| name != "decision");
    conclude(&state, &parameters, approved)
}

/// Sends the person back with a code or an error.
fn conclude(state: &State, parameters: &Parameters, approved: bool) -> Response {
    let mut redirect = match check(state, parameters) {
        Ok(redirect) => redirect,
        Err(response) => return *response,
    };
    if approved {
        let method = value(parameters, "code_challenge_method").unwrap_or("plain");
        let approval = Approval {
            client: value(parameters, "client_id").unwrap_or_default().to_owned(),
            redirect_uri: value(parameters, "redirect_uri").unwrap_or_default().to_owned(),
            scope: value(parameters, "scope").unwrap_or_default().to_owned(),
            challenge: value(parameters, "code_challenge")
                .map(|challenge| (method.to_owned(), challenge.to_owned())),
        };
        let code = state.tokens().approve(approval, state.world());
        redirect.query_pairs_mut().append_pair("code", &code);
    } else {
        let words = "The person denied the request";
        redirect
            .query_pairs_mut()
            .append_pair("error", "access_denied")
            .append_pair("error_description", words);
    }
    leave(redirect, parameters)
}

/// The redirect target of a valid authorization request; the page or redirect that refuses an invalid one.
fn check(state: &State, parameters: &Parameters) -> Result<Url, Box<Response>> {
    let page = |reason| {
        Box::new(html(
            StatusCode::BAD_REQUEST,
            &RefusedPage {
                company: COMPANY,
                reason,
            },
        ))
    };
    if !value(parameters, "client_id").is_some_and(|id| state.has_client(id)) {
        return Err(page("No app is registered under this client_id."));
    }
    let uri = value(parameters, "redirect_uri").unwrap_or_default();
    let known = &state.options.redirect_uris;
    let mut redirect = match Url::parse(uri) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https")
                && (known.is_empty() || known.iter().any(|k| k == uri)) =>
        {
            url
        }
        _ => return Err(page("The redirect_uri is not registered for this app.")),
    };
    let error = match (
        value(parameters, "response_type"),
        value(parameters, "code_challenge_method"),
    ) {
        (Some("code"), None | Some("plain" | "S256")) => return Ok(redirect),
        (Some("code"), _) => "invalid_request",
        _ => "unsupported_response_type",
    };
    redirect.query_pairs_mut().append_pair("error", error);
    Err(Box::new(leave(redirect, parameters)))
}

fn leave(mut redirect: Url, parameters: &Parameters) -> Response {
    if let Some(state) = value(parameters, "state") {
        redirect.query_pairs_mut().append_pair("state", state);
    }
    (StatusCode::FOUND, [(LOCATION, redirect.to_string())]).into_response()
}

async fn revoke(Injected(state): Injected<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    state.count(|counts| counts.revoke += 1);
    let parameters = parse(&body);
    if !claimed(&headers, &parameters).is_ours(&state) {
        return refused(Refused("invalid_client", "unknown client or wrong secret")).1;
    }
    if let Some(token) = value(&parameters, "token") {
        state.tokens().revoke(token);
    }
    StatusCode::OK.into_response()
}

pub(crate) fn refused(Refused(code, words): Refused) -> (String, Response) {
    let status = if code == "invalid_client" {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::BAD_REQUEST
    };
    let mut response = (
        status,
        axum::Json(json!({ "error": code, "error_description": words })),
    )
        .into_response();
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    }
    (code.to_owned(), response)
}

/// An error status by order.
pub(crate) fn failed(status: u16, retry_after: Option<u32>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({ "error": "by_order", "message": "The sample provider was told to answer this." });
    let mut response = (status, axum::Json(body)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// No response: the connection ends.
pub(crate) fn cut() -> Response {
    let mut response = StatusCode::OK.into_response();
    response.extensions_mut().insert(Cut);
    response
}

/// A response of which only half is sent.
pub(crate) fn halved(body: String) -> Response {
    let length = body.len();
    let half = Bytes::from(body).slice(..length / 2);
    let pieces = futures_util::stream::iter([Ok(half), Err("cut on purpose")]);
    let mut response = Response::new(Body::from_stream(pieces));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

pub(crate) fn parse(form: &[u8]) -> Parameters {
    form_urlencoded::parse(form).into_owned().collect()
}

pub(crate) fn value<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

pub(crate) fn text(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(ToOwned::to_owned)
}
