//! The token endpoint, with its manners: what every client gets may be switched to something else.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Injected;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use url::form_urlencoded::Serializer;

use crate::behaviour::{Expiry, Failure, Gate, Grant, Shape, TokenBehaviour};
use crate::counts::TokenRequest;
use crate::oauth::{Parameters, cut, failed, halved, parse, refused, text, value};
use crate::server::State;
use crate::tokens::{Approval, Issued, Refused};

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new().route("/oauth/token", post(token))
}

/// A request for tokens, as the switches see it.
pub(crate) struct Asked<'a> {
    pub(crate) client: Option<&'a str>,
    pub(crate) grant: Option<Grant>,
    pub(crate) parameters: &'a Parameters,
    pub(crate) headers: &'a HeaderMap,
    /// How the fields of an answer are called here.
    pub(crate) written: fn(Map<String, Value>) -> Map<String, Value>,
}

async fn token(Injected(state): Injected<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = token_parameters(&headers, &body);
    let client = claimed(&headers, &parameters);
    let asked = Asked {
        client: client.id.as_deref(),
        grant: value(&parameters, "grant_type")
            .and_then(Grant::parse)
            .filter(|grant| *grant != Grant::Login),
        parameters: &parameters,
        headers: &headers,
        written: |fields| fields,
    };
    answer(&state, &asked, |grant, behaviour| {
        if !client.is_ours(&state) {
            return Err(Refused("invalid_client", "unknown client or wrong secret"));
        }
        issue(
            &state,
            client.id.as_deref().unwrap_or_default(),
            grant,
            &parameters,
            behaviour,
        )
    })
    .await
}

/// Logs and counts a request for tokens and answers it as the switches say: `issue` is called once nothing has gone
/// wrong by order, or if what goes wrong happens afterwards. Every endpoint that gives tokens goes through here.
pub(crate) async fn answer(
    state: &State,
    asked: &Asked<'_>,
    issue: impl FnOnce(Grant, &TokenBehaviour) -> Result<Issued, Refused>,
) -> Response {
    let entry = TokenRequest {
        at: state.now(),
        client: asked.client.map(ToOwned::to_owned),
        grant: asked.grant,
        parameters: asked.parameters.clone(),
        authorization: text(asked.headers, &AUTHORIZATION),
        content_type: text(asked.headers, &CONTENT_TYPE),
        outcome: "pending".to_owned(),
    };
    let index = {
        let mut log = state.log();
        log.push(entry);
        log.len() - 1
    };
    // After the log entry, so that whoever waits for the count finds the entry.
    state.count(|counts| match asked.grant {
        Some(Grant::AuthorizationCode) => counts.token_code += 1,
        Some(Grant::RefreshToken) => counts.token_refresh += 1,
        Some(Grant::ClientCredentials) => counts.token_client_credentials += 1,
        Some(Grant::Login) => counts.token_login += 1,
        None => counts.token_other += 1,
    });
    let (outcome, response) = match asked.grant {
        None => refused(Refused("unsupported_grant_type", "no such grant")),
        Some(grant) => behave(state, asked, grant, issue).await,
    };
    state.log()[index].outcome = outcome;
    response
}

async fn behave(
    state: &State,
    asked: &Asked<'_>,
    grant: Grant,
    issue: impl FnOnce(Grant, &TokenBehaviour) -> Result<Issued, Refused>,
) -> (String, Response) {
    state.pass(&Gate::TokenRequest(grant)).await;
    let (behaviour, skew, failure) = state.with_behaviours(asked.client, |behaviours| {
        let skew = behaviours.token_clock_skew_seconds;
        let behaviour = behaviours.of(grant);
        let failure = if behaviour.next_failures.is_empty() {
            behaviour.failure
        } else {
            Some(behaviour.next_failures.remove(0))
        };
        (behaviour.clone(), skew, failure)
    });
    match failure {
        Some(Failure::Status { status, retry_after }) => {
            return (status.to_string(), failed(status, retry_after));
        }
        Some(Failure::InvalidGrant) => return refused(Refused("invalid_grant", "refused by order")),
        Some(Failure::Html { status }) => return ("html".to_owned(), page(status)),
        Some(Failure::Garbage) => return ("garbage".to_owned(), garbage()),
        Some(Failure::Hang) => std::future::pending().await,
        Some(Failure::Cut) => return ("cut".to_owned(), cut()),
        Some(Failure::LostAnswer | Failure::HalfAnswer | Failure::Slow { .. } | Failure::None) | None => {}
    }
    let issued = match issue(grant, &behaviour) {
        Ok(issued) => issued.told_by_a_clock_ahead(skew),
        Err(why) => return refused(why),
    };
    state.pass(&Gate::TokenAnswer(grant)).await;
    if let Some(Failure::Slow { seconds }) = failure {
        state
            .ambient
            .clock
            .sleep(Duration::from_secs(seconds.into()))
            .await;
    }
    let (kind, body) = written((asked.written)(fields(&issued, &behaviour)), &behaviour);
    match failure {
        Some(Failure::LostAnswer) => ("lost_answer".to_owned(), cut()),
        Some(Failure::HalfAnswer) => ("half_answer".to_owned(), halved(body)),
        _ => {
            let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
            ("ok".to_owned(), (headers, body).into_response())
        }
    }
}

impl Issued {
    /// The announced end, by another clock; what is left of the life stays.
    fn told_by_a_clock_ahead(mut self, seconds: i64) -> Self {
        let skew = SignedDuration::from_secs(seconds);
        self.expires = self.expires.checked_add(skew).unwrap_or(self.expires);
        self
    }
}

fn issue(
    state: &State,
    client: &str,
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
            tokens.exchange(client, code, redirect, verifier, behaviour, world)
        }
        Grant::RefreshToken => {
            let Some(token) = value(parameters, "refresh_token") else {
                return Err(Refused("invalid_request", "refresh_token is missing"));
            };
            tokens.refresh(client, token, behaviour, world)
        }
        Grant::ClientCredentials | Grant::Login => {
            Ok(tokens.client_token(client, value(parameters, "scope").unwrap_or_default(), world))
        }
    }
}

/// Tokens without the page, for tests that import a connection.
pub(crate) fn issue_directly(state: &State, client: &str, scope: &str) -> Value {
    let approval = Approval {
        client: client.to_owned(),
        redirect_uri: String::new(),
        scope: scope.to_owned(),
        challenge: None,
    };
    let behaviour = state.with_behaviours(Some(client), |behaviours| behaviours.authorization_code.clone());
    let mut tokens = state.tokens();
    let code = tokens.approve(approval, state.world());
    let issued = tokens
        .exchange(client, &code, Some(""), None, &behaviour, state.world())
        .expect("a code made a moment ago can be exchanged");
    Value::Object(fields(&issued, &behaviour))
}

pub(crate) fn issue_client_token(state: &State, client: &str) -> Value {
    let behaviour = state.with_behaviours(Some(client), |behaviours| behaviours.client_credentials.clone());
    let issued = state.tokens().client_token(client, "read", state.world());
    Value::Object(fields(&issued, &behaviour))
}

/// Content type and body of an answer.
fn written(fields: Map<String, Value>, behaviour: &TokenBehaviour) -> (&'static str, String) {
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
    let end = issued.expires;
    let announced: Option<(&str, Value)> = match behaviour.expiry {
        Expiry::Seconds => Some(("expires_in", life.into())),
        Expiry::Text => Some(("expires_in", life.to_string().into())),
        Expiry::Milliseconds => Some(("expires_in", (life * 1000).into())),
        Expiry::Absolute => Some(("expires_at", end.as_second().into())),
        Expiry::AbsoluteMilliseconds => Some(("expires_at", end.as_millisecond().into())),
        Expiry::Iso => Some(("expires_at", end.to_string().into())),
        Expiry::Relative => {
            let (days, hours, minutes) = (life / 86_400, life / 3600 % 24, life / 60 % 60);
            Some(("expires_at", format!("{days}:{hours:02}:{minutes:02}").into()))
        }
        Expiry::OtherName => Some(("expires_on", end.as_second().into())),
        Expiry::Absent => None,
    };
    if let Some((name, value)) = announced {
        fields.insert(name.to_owned(), value);
    }
    if let Some(refresh) = &issued.refresh {
        fields.insert("refresh_token".to_owned(), refresh.clone().into());
    }
    fields.insert("scope".to_owned(), issued.scope.clone().into());
    fields
}

/// Who a request says it is.
pub(crate) struct Claimed {
    id: Option<String>,
    secret: Option<String>,
}

impl Claimed {
    /// Whether it is true.
    pub(crate) fn is_ours(&self, state: &State) -> bool {
        self.id
            .as_deref()
            .is_some_and(|id| state.knows(id, self.secret.as_deref()))
    }
}

/// Client authentication by Basic header (RFC 6749 §2.3.1: both parts form-encoded) or in the body.
pub(crate) fn claimed(headers: &HeaderMap, parameters: &Parameters) -> Claimed {
    let Some(header) = text(headers, &AUTHORIZATION) else {
        return Claimed {
            id: value(parameters, "client_id").map(ToOwned::to_owned),
            secret: value(parameters, "client_secret").map(ToOwned::to_owned),
        };
    };
    let pair = header
        .strip_prefix("Basic ")
        .and_then(|rest| BASE64.decode(rest.as_bytes()).ok())
        .and_then(|pair| String::from_utf8(pair).ok());
    let (id, secret) = pair.as_deref().and_then(|pair| pair.split_once(':')).unzip();
    Claimed {
        id: id.map(ToOwned::to_owned),
        secret: secret.map(ToOwned::to_owned),
    }
}

/// Parameters of a form, or of a flat JSON object, which real providers take too.
pub(crate) fn token_parameters(headers: &HeaderMap, body: &[u8]) -> Parameters {
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

/// A success that is none.
pub(crate) fn garbage() -> Response {
    let kind = [(CONTENT_TYPE, "application/json")];
    (kind, "}{ not what you asked for").into_response()
}

/// What a gateway shows people.
pub(crate) fn page(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let page = "<!doctype html><title>Be right back</title><h1>We are looking into it</h1>";
    (status, Html(page)).into_response()
}
