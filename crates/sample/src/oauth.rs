//! The OAuth 2 server: authorization page, token endpoint, revocation.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State as Injected};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use url::Url;
use url::form_urlencoded::{self, Serializer};

use crate::behaviour::{Consent, Expiry, Failure, Gate, Grant, Shape, TokenBehaviour};
use crate::counts::TokenRequest;
use crate::data::COMPANY;
use crate::server::{Cut, State};
use crate::tokens::{Approval, Issued, Refused};
use crate::{CLIENT_ID, CLIENT_SECRET};

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/oauth/authorize", get(authorize).post(decide))
        .route("/oauth/token", post(token))
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

type Parameters = Vec<(String, String)>;

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
    if value(parameters, "client_id") != Some(CLIENT_ID) {
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

async fn token(Injected(state): Injected<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = token_parameters(&headers, &body);
    let grant = value(&parameters, "grant_type").and_then(Grant::parse);
    let entry = TokenRequest {
        at: state.now(),
        grant,
        parameters: parameters.clone(),
        authorization: text(&headers, &AUTHORIZATION),
        content_type: text(&headers, &CONTENT_TYPE),
        outcome: "pending".to_owned(),
    };
    let index = {
        let mut log = state.log();
        log.push(entry);
        log.len() - 1
    };
    // After the log entry, so that whoever waits for the count finds the entry.
    state.count(|counts| match grant {
        Some(Grant::AuthorizationCode) => counts.token_code += 1,
        Some(Grant::RefreshToken) => counts.token_refresh += 1,
        Some(Grant::ClientCredentials) => counts.token_client_credentials += 1,
        None => counts.token_other += 1,
    });
    let (outcome, response) = answer(&state, grant, &headers, &parameters).await;
    state.log()[index].outcome = outcome;
    response
}

async fn answer(
    state: &State,
    grant: Option<Grant>,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> (String, Response) {
    let Some(grant) = grant else {
        return refused(Refused("unsupported_grant_type", "no such grant"));
    };
    state.pass(&Gate::TokenRequest(grant)).await;
    let (behaviour, failure) = {
        let mut behaviours = state.behaviours();
        let behaviour = behaviours.of(grant);
        let failure = if behaviour.next_failures.is_empty() {
            behaviour.failure
        } else {
            Some(behaviour.next_failures.remove(0))
        };
        (behaviour.clone(), failure)
    };
    match failure {
        Some(Failure::Status { status, retry_after }) => {
            return (status.to_string(), failed(status, retry_after));
        }
        Some(Failure::InvalidGrant) => return refused(Refused("invalid_grant", "refused by order")),
        Some(Failure::Cut) => return ("cut".to_owned(), cut()),
        Some(Failure::LostAnswer | Failure::HalfAnswer | Failure::None) | None => {}
    }
    if !is_our_client(headers, parameters) {
        return refused(Refused("invalid_client", "unknown client or wrong secret"));
    }
    let issued = match issue(state, grant, parameters, &behaviour) {
        Ok(issued) => issued,
        Err(why) => return refused(why),
    };
    state.pass(&Gate::TokenAnswer(grant)).await;
    match failure {
        Some(Failure::LostAnswer) => ("lost_answer".to_owned(), cut()),
        Some(Failure::HalfAnswer) => ("half_answer".to_owned(), halved(written(&issued, &behaviour).1)),
        _ => {
            let (kind, body) = written(&issued, &behaviour);
            let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
            ("ok".to_owned(), (headers, body).into_response())
        }
    }
}

fn issue(
    state: &State,
    grant: Grant,
    parameters: &Parameters,
    behaviour: &TokenBehaviour,
) -> Result<Issued, Refused> {
    let world = state.world();
    let mut tokens = state.tokens();
    match grant {
        Grant::AuthorizationCode => {
            let Some(code) = value(parameters, "code") else {
                return Err(Refused("invalid_request", "code is missing"));
            };
            let (redirect, verifier) = (
                value(parameters, "redirect_uri"),
                value(parameters, "code_verifier"),
            );
            tokens.exchange(code, redirect, verifier, behaviour, world)
        }
        Grant::RefreshToken => {
            let Some(token) = value(parameters, "refresh_token") else {
                return Err(Refused("invalid_request", "refresh_token is missing"));
            };
            tokens.refresh(token, behaviour, world)
        }
        Grant::ClientCredentials => {
            Ok(tokens.client_token(value(parameters, "scope").unwrap_or_default(), world))
        }
    }
}

/// Tokens without the page, for tests that import a connection.
pub(crate) fn issue_directly(state: &State, scope: &str) -> Value {
    let approval = Approval {
        redirect_uri: String::new(),
        scope: scope.to_owned(),
        challenge: None,
    };
    let behaviour = state.behaviours().authorization_code.clone();
    let mut tokens = state.tokens();
    let code = tokens.approve(approval, state.world());
    let issued = tokens
        .exchange(&code, Some(""), None, &behaviour, state.world())
        .expect("a code made a moment ago can be exchanged");
    Value::Object(fields(&issued, &behaviour))
}

/// Content type and body of an answer.
fn written(issued: &Issued, behaviour: &TokenBehaviour) -> (&'static str, String) {
    let fields = fields(issued, behaviour);
    match behaviour.shape {
        Shape::Json => ("application/json", Value::Object(fields).to_string()),
        Shape::Nested => (
            "application/json",
            json!({ "ok": true, "data": fields }).to_string(),
        ),
        Shape::MalformedJson => {
            let whole = Value::Object(fields).to_string();
            ("application/json", whole[..whole.len() - 1].to_owned())
        }
        Shape::Form => {
            let mut form = Serializer::new(String::new());
            for (name, value) in &fields {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), ToOwned::to_owned);
                form.append_pair(name, &value);
            }
            ("application/x-www-form-urlencoded", form.finish())
        }
    }
}

fn fields(issued: &Issued, behaviour: &TokenBehaviour) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("access_token".to_owned(), issued.access.clone().into());
    fields.insert("token_type".to_owned(), "Bearer".into());
    let life = issued.life.as_secs();
    let (name, value) = match behaviour.expiry {
        Expiry::Seconds => ("expires_in", life.into()),
        Expiry::Text => ("expires_in", life.to_string().into()),
        Expiry::Milliseconds => ("expires_in", (life * 1000).into()),
        Expiry::Absolute => ("expires_at", issued.expires.as_second().into()),
        Expiry::Absent => ("", Value::Null),
    };
    if !name.is_empty() {
        fields.insert(name.to_owned(), value);
    }
    if let Some(refresh) = &issued.refresh {
        fields.insert("refresh_token".to_owned(), refresh.clone().into());
    }
    fields.insert("scope".to_owned(), issued.scope.clone().into());
    fields
}

async fn revoke(Injected(state): Injected<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    state.count(|counts| counts.revoke += 1);
    let parameters = parse(&body);
    if !is_our_client(&headers, &parameters) {
        return refused(Refused("invalid_client", "unknown client or wrong secret")).1;
    }
    if let Some(token) = value(&parameters, "token") {
        state.tokens().revoke(token);
    }
    StatusCode::OK.into_response()
}

/// Client authentication by Basic header (RFC 6749 §2.3.1: both parts form-encoded) or in the body.
fn is_our_client(headers: &HeaderMap, parameters: &Parameters) -> bool {
    if let Some(header) = text(headers, &AUTHORIZATION) {
        let encoded = header
            .strip_prefix("Basic ")
            .and_then(|rest| BASE64.decode(rest.as_bytes()).ok());
        let Some((id, secret)) = encoded
            .and_then(|pair| String::from_utf8(pair).ok())
            .and_then(|pair| {
                pair.split_once(':')
                    .map(|(id, secret)| (id.to_owned(), secret.to_owned()))
            })
        else {
            return false;
        };
        return id == CLIENT_ID && secret == CLIENT_SECRET;
    }
    value(parameters, "client_id") == Some(CLIENT_ID)
        && value(parameters, "client_secret") == Some(CLIENT_SECRET)
}

/// Parameters of a form, or of a flat JSON object, which real providers take too.
fn token_parameters(headers: &HeaderMap, body: &[u8]) -> Parameters {
    let json = text(headers, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    if !json {
        return parse(body);
    }
    let fields: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let strings = fields.into_iter().map(|(name, value)| match value {
        Value::String(text) => (name, text),
        other => (name, other.to_string()),
    });
    strings.collect()
}

fn refused(Refused(code, words): Refused) -> (String, Response) {
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
