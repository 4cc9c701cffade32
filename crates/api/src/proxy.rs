//! `/proxy/*`: any request, sent on with a connection's credentials (proxy contract §1, §2, §7.1).

use std::sync::Arc;

use axum::body::Body;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use patchbay_connections::refresh::ReadError;
use patchbay_outbound::Error as Outbound;
use patchbay_proxy::{Controls, Logging, MAX_RETRIES, Proxy, ProxyError, ProxyRequest, RedirectHeaders};
use patchbay_types::connections::RefreshCause;
use patchbay_types::{ConnectionId, IntegrationKey, OperationId, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::body::{BodyMode, Payload};
use crate::codes;
use crate::connections::{connection_id, integration_key, unreadable};
use crate::error::{ApiError, Layer};
use crate::reply::Reply;
use crate::route::{Call, Endpoint, Route};
use crate::schema::{Pattern, Schema, SchemaExt, choice, coerced_number, object, patterns, string};

/// What a caller's header begins with to be sent on.
const FORWARDED: &str = "nango-proxy-";

/// The route.
pub fn routes(proxy: &Arc<Proxy>) -> Vec<Endpoint> {
    let state = State {
        proxy: proxy.clone(),
        controls: Arc::new(control_headers()),
    };
    vec![
        Route::any("/proxy/{*path}")
            .alias("/proxy")
            .tag("proxy")
            .summary("Send any request with a connection's credentials")
            .scopes(&["environment:proxy"])
            .any_query()
            .payload(BodyMode::Stream, None)
            .responds_with(200, "*/*")
            .errors(&[
                &codes::INVALID_HEADERS,
                &codes::INVALID_JSON,
                &codes::UNKNOWN_PROVIDER_CONFIG,
                &codes::UNKNOWN_CONNECTION,
                &codes::UNKNOWN_PROVIDER,
                &codes::CONNECTION_REFRESH_BACKOFF,
                &codes::SERVER_ERROR,
                &codes::UNSUPPORTED_PROVIDER,
                &codes::UNSUPPORTED_AUTH,
                &codes::MISSING_CONNECTION_CONFIG,
                &codes::INVALID_URL,
                &codes::INVALID_HEADER_VALUE,
                &codes::BASE_URL_OVERRIDE_DISABLED,
                &codes::BASE_URL_OVERRIDE_NOT_ALLOWED,
                &codes::INVALID_BODY,
                &codes::DNS_RESOLUTION_FAILED,
                &codes::INVALID_CERTIFICATE_OR_KEY_FORMAT,
                &codes::REQUEST_TOO_LARGE,
            ])
            .handler(&state, call),
    ]
}

#[derive(Clone)]
struct State {
    proxy: Arc<Proxy>,
    controls: Arc<Schema>,
}

/// The control headers, in the order their issues are reported.
const CONTROLS: [&str; 10] = [
    "provider-config-key",
    "connection-id",
    "retries",
    "base-url-override",
    "decompress",
    "retry-on",
    "forward-headers-on-redirect",
    "nango-activity-log-id",
    "nango-is-sync",
    "nango-is-dry-run",
];

fn control_headers() -> Schema {
    let flag = || choice(&["true", "false"]).optional();
    object()
        .field("provider-config-key", integration_key())
        .field("connection-id", connection_id())
        .field("retries", coerced_number().optional())
        .field("base-url-override", string().url_or_empty().optional())
        .field("decompress", flag())
        .field("retry-on", string().pattern(patterns::NUMBER_LIST).optional())
        .field("forward-headers-on-redirect", flag())
        .field("nango-activity-log-id", string().max(255).optional())
        .field("nango-is-sync", flag())
        .field("nango-is-dry-run", flag())
        .into()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Given {
    provider_config_key: String,
    connection_id: String,
    retries: Option<f64>,
    base_url_override: Option<String>,
    retry_on: Option<String>,
    forward_headers_on_redirect: Option<String>,
    nango_activity_log_id: Option<String>,
    nango_is_dry_run: Option<String>,
}

impl Given {
    /// What most calls bring: the two required headers, beyond doubt, and no other. The schema decides all else.
    fn only_the_required(headers: &HeaderMap) -> Option<Self> {
        let [key, id, others @ ..] = CONTROLS;
        if others.iter().any(|name| headers.contains_key(*name)) {
            return None;
        }
        let plain = |name: &str, pattern: Pattern, most: usize| {
            let text = headers.get(name)?.to_str().ok()?;
            (text.len() <= most && (pattern.matches)(text)).then(|| text.to_owned())
        };
        Some(Self {
            provider_config_key: plain(key, patterns::INTEGRATION_KEY, IntegrationKey::MAX)?,
            connection_id: plain(id, patterns::CONNECTION_ID, ConnectionId::MAX)?,
            ..Self::default()
        })
    }
}

async fn call(state: State, call: Call) -> Result<Reply, ApiError> {
    let environment = call.environment()?.clone();
    let Call {
        mut parts, payload, ..
    } = call;
    let controls = controls(&state.controls, &parts.headers)?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    // Byte for byte what follows `/proxy`, whose case does not matter.
    let target = target.get("/proxy".len()..).unwrap_or_default();
    let target = if target.starts_with('/') {
        target.to_owned()
    } else {
        format!("/{target}")
    };
    let body = match payload {
        Payload::Stream(body) => patchbay_outbound::Body::stream(body),
        _ => patchbay_outbound::Body::empty(),
    };
    let method = parts.method.clone();
    let request = ProxyRequest {
        environment,
        method: parts.method,
        target,
        upgrade: parts.extensions.remove::<OnUpgrade>(),
        headers: parts.headers,
        body,
        controls,
    };
    match state.proxy.relay(request).await {
        Ok(response) => Ok(response.map(Body::new).into()),
        Err(ProxyError::Upstream(error)) => unanswered(&error, method.as_str()),
        Err(error) => Err(refused(&error, state.proxy.context().ambient.now())),
    }
}

fn controls(schema: &Schema, headers: &HeaderMap) -> Result<Controls, ApiError> {
    if let Some(given) = Given::only_the_required(headers) {
        return options(given, headers);
    }
    let mut given = Map::new();
    for name in CONTROLS {
        if let Some(value) = headers.get(name) {
            // Header bytes beyond ASCII cannot match any of the patterns.
            given.insert(
                name.to_owned(),
                Value::from(String::from_utf8_lossy(value.as_bytes())),
            );
        }
    }
    let given: Given = schema
        .parse(Some(Value::Object(given)))
        .map_err(|error| ApiError::from_parse(Layer::Headers, error))?;
    options(given, headers)
}

fn options(given: Given, headers: &HeaderMap) -> Result<Controls, ApiError> {
    let base_url_override = match given.base_url_override.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| {
            ApiError::new(&codes::BASE_URL_OVERRIDE_NOT_ALLOWED).message("The base URL is not valid")
        })?),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the range of u8"
    )]
    let retries = given
        .retries
        .map_or(0, |retries| retries.clamp(0.0, f64::from(MAX_RETRIES)) as u8);
    Ok(Controls {
        provider_config_key: given.provider_config_key,
        connection_id: given.connection_id,
        retries,
        retry_on: given
            .retry_on
            .iter()
            .flat_map(|list| list.split(','))
            .filter_map(|status| status.parse().ok())
            .collect(),
        base_url_override,
        forward_headers_on_redirect: match given.forward_headers_on_redirect.as_deref() {
            Some("true") => RedirectHeaders::Forward,
            Some(_) => RedirectHeaders::Withhold,
            None => RedirectHeaders::AsDefined,
        },
        operation: given
            .nango_activity_log_id
            .filter(|id| !id.is_empty())
            .map(OperationId),
        logging: match given.nango_is_dry_run.as_deref() {
            Some("true") => Logging::Off,
            _ => Logging::On,
        },
        forwarded: forwarded(headers),
    })
}

/// `Nango-Proxy-*` headers, prefix removed; of a repeated one the last counts.
fn forwarded(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut forwarded: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(FORWARDED) else {
            continue;
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        match forwarded.iter_mut().find(|(known, _)| *known == name) {
            Some((_, last)) => *last = value.clone(),
            None => forwarded.push((name, value.clone())),
        }
    }
    forwarded
}

/// No response came: the shape applications know from the published client (proxy §7).
fn unanswered(error: &Outbound, method: &str) -> Result<Reply, ApiError> {
    if matches!(error, Outbound::Dns { .. }) {
        return Err(ApiError::new(&codes::DNS_RESOLUTION_FAILED).message(error.to_string()));
    }
    if matches!(error, Outbound::Identity(_)) {
        return Err(ApiError::new(&codes::INVALID_CERTIFICATE_OR_KEY_FORMAT).message(error.to_string()));
    }
    let body = json!({
        "message": error.to_string(),
        "code": error.code(),
        "method": method.to_ascii_lowercase(),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static(crate::reply::JSON),
    );
    Ok(response.into())
}

fn refused(error: &ProxyError, now: Timestamp) -> ApiError {
    let words = error.to_string();
    match error {
        ProxyError::UnknownIntegration => ApiError::new(&codes::UNKNOWN_PROVIDER_CONFIG)
            .status(StatusCode::NOT_FOUND)
            .message(words),
        ProxyError::UnknownConnection => ApiError::new(&codes::UNKNOWN_CONNECTION)
            .status(StatusCode::NOT_FOUND)
            .message(words),
        ProxyError::UnknownProvider => ApiError::new(&codes::UNKNOWN_PROVIDER).message(words),
        ProxyError::Credentials(error) => credentials(error, now),
        ProxyError::Build(error) => {
            let code = match error.code() {
                "unsupported_provider" => &codes::UNSUPPORTED_PROVIDER,
                "missing_connection_config" => &codes::MISSING_CONNECTION_CONFIG,
                "unsupported_auth" => &codes::UNSUPPORTED_AUTH,
                "invalid_header_value" => &codes::INVALID_HEADER_VALUE,
                _ => &codes::INVALID_URL,
            };
            ApiError::new(code).message(words)
        }
        ProxyError::InvalidJson(_) => ApiError::new(&codes::INVALID_JSON).message(words),
        ProxyError::BodyBroken => ApiError::new(&codes::INVALID_BODY).message(words),
        ProxyError::OverrideDisabled => ApiError::new(&codes::BASE_URL_OVERRIDE_DISABLED).message(words),
        ProxyError::BodyTooLarge(_) => ApiError::new(&codes::REQUEST_TOO_LARGE).message(words),
        ProxyError::Blocked(_) => ApiError::new(&codes::BASE_URL_OVERRIDE_NOT_ALLOWED).message(words),
        ProxyError::Upstream(_) => ApiError::unexpected(words),
    }
}

fn credentials(error: &ReadError, now: Timestamp) -> ApiError {
    let words = format!("Failed to get connection credentials: '{error}'");
    let status = match error {
        ReadError::Backoff(_) => {
            return ApiError::new(&codes::CONNECTION_REFRESH_BACKOFF).message(error.to_string());
        }
        ReadError::Exhausted(_) => StatusCode::FAILED_DEPENDENCY,
        ReadError::Failed { cause, .. } => match cause {
            RefreshCause::ProviderRefused => StatusCode::BAD_REQUEST,
            RefreshCause::RefreshInterrupted => StatusCode::FAILED_DEPENDENCY,
            RefreshCause::ProviderDown => StatusCode::BAD_GATEWAY,
            RefreshCause::Ours => StatusCode::INTERNAL_SERVER_ERROR,
        },
        ReadError::Store(_) | ReadError::UnknownIntegration | ReadError::UnknownConnection => {
            return unreadable(error, now);
        }
    };
    ApiError::new(&codes::SERVER_ERROR).status(status).message(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixed_headers_go_on_without_their_prefix() {
        let mut headers = HeaderMap::new();
        headers.append("nango-proxy-x-a", HeaderValue::from_static("1"));
        headers.append("nango-proxy-x-a", HeaderValue::from_static("2"));
        headers.append("nango-proxy-empty", HeaderValue::from_static(""));
        headers.append("accept", HeaderValue::from_static("*/*"));
        let names: Vec<_> = forwarded(&headers)
            .into_iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        assert_eq!(
            names,
            [
                ("x-a".to_owned(), "2".to_owned()),
                ("empty".to_owned(), String::new())
            ]
        );
    }

    #[test]
    fn missing_control_headers_are_reported_in_the_contract_s_order() {
        let error = controls(&control_headers(), &HeaderMap::new()).unwrap_err();
        let shown = format!("{error:?}");
        let (first, second) = (
            shown.find("provider-config-key").unwrap(),
            shown.find("connection-id").unwrap(),
        );
        assert!(first < second);
    }
}
