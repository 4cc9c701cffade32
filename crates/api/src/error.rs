//! The one module that builds error envelopes (api-core §3).

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use patchbay_ambient::Entropy;
use patchbay_store::db::DbError;
use serde::Serialize;
use serde_json::{Value, json};

use crate::codes::{self, Code};
use crate::schema::{Issue, ParseError};

/// Which of the two historical shapes an envelope has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `code`, then what there is of `message`, `errors`, `payload`.
    #[default]
    Modern,
    /// `message`, `code` and always a `payload`: authentication and the oldest routes.
    Legacy,
}

/// An answer that is an error: a public half that goes over the wire and an internal half that is only logged.
#[must_use]
pub struct ApiError(Box<Parts>);

struct Parts {
    status: StatusCode,
    code: &'static Code,
    message: Option<Cow<'static, str>>,
    issues: Vec<Issue>,
    payload: Option<Value>,
    headers: HeaderMap,
    style: Style,
    cause: Option<Box<dyn Error + Send + Sync>>,
    extra: Vec<(&'static str, Value)>,
}

/// The layers that are validated (api-core §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Query parameters.
    Query,
    /// The body.
    Body,
    /// Path parameters.
    Params,
    /// Control headers.
    Headers,
}

impl Layer {
    /// The code its issues are reported under.
    pub fn code(self) -> &'static Code {
        match self {
            Self::Query => &codes::INVALID_QUERY_PARAMS,
            Self::Body => &codes::INVALID_BODY,
            Self::Params => &codes::INVALID_URI_PARAMS,
            Self::Headers => &codes::INVALID_HEADERS,
        }
    }
}

impl ApiError {
    /// An error of `code` with its usual status and no message.
    pub fn new(code: &'static Code) -> Self {
        Self(Box::new(Parts {
            status: code.status(),
            code,
            message: None,
            issues: Vec::new(),
            payload: None,
            headers: HeaderMap::new(),
            style: Style::Modern,
            cause: None,
            extra: Vec::new(),
        }))
    }

    /// Something we did not foresee: 500 `generic_error_support`, the cause logged under a support reference.
    pub fn unexpected(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(&codes::GENERIC_ERROR_SUPPORT).cause(cause)
    }

    /// The database is away, full or read-only: 503 `service_unavailable`, worth a retry in `after`.
    pub fn unavailable(after: Duration, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(&codes::SERVICE_UNAVAILABLE)
            .message("The database is not available right now")
            .retry_after(after)
            .cause(cause)
    }

    /// Validation issues of one layer, all of them.
    pub fn invalid(layer: Layer, issues: Vec<Issue>) -> Self {
        let mut error = Self::new(layer.code());
        error.0.issues = issues;
        error
    }

    /// What a schema said of `layer`.
    pub fn from_parse(layer: Layer, error: ParseError) -> Self {
        match error {
            ParseError::Invalid(issues) => Self::invalid(layer, issues),
            mismatch @ ParseError::Mismatch(_) => Self::unexpected(mismatch),
        }
    }

    /// Says what happened, to the caller.
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Another of the code's statuses.
    pub fn status(mut self, status: StatusCode) -> Self {
        debug_assert!(
            self.0.code.statuses.contains(&status.as_u16()),
            "{} is not declared with status {status}",
            self.0.code.name
        );
        self.0.status = status;
        self
    }

    /// Structured detail.
    pub fn payload(mut self, payload: Value) -> Self {
        self.0.payload = Some(payload);
        self
    }

    /// A member of the error object beside the usual ones.
    pub fn member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.extra.push((name, value.into()));
        self
    }

    /// The legacy envelope.
    pub fn legacy(mut self) -> Self {
        self.0.style = Style::Legacy;
        self
    }

    /// The internal half: logged once, never answered.
    pub fn cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds a response header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Adds `Retry-After`, whole seconds rounded up, at least one.
    pub fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// The code.
    pub fn code(&self) -> &'static Code {
        self.0.code
    }

    /// The status.
    pub fn status_code(&self) -> StatusCode {
        self.0.status
    }

    /// The response. Logs the internal half; an unexpected error gets its support reference from `entropy`.
    pub fn into_response(self, entropy: &dyn Entropy) -> http::Response<Body> {
        let parts = *self.0;
        let unexpected = *parts.code == codes::GENERIC_ERROR_SUPPORT;
        let support = unexpected.then(|| entropy.uuid().to_string());
        log(&parts, support.as_deref());

        let message = match &support {
            Some(id) => Some(Cow::from(format!(
                "Something unexpected went wrong. It was logged under this reference: {id}"
            ))),
            None => parts.message,
        };
        let payload = match (support, parts.payload, parts.style) {
            (Some(id), _, _) => Some(Value::String(id)),
            (None, None, Style::Legacy) => Some(json!({})),
            (None, payload, _) => payload,
        };
        let legacy = parts.style == Style::Legacy || unexpected;
        let envelope = Envelope {
            error: Wire {
                first_message: message.as_deref().filter(|_| legacy),
                code: parts.code.name,
                message: message.as_deref().filter(|_| !legacy),
                errors: &parts.issues,
                payload: payload.as_ref(),
                extra: parts.extra.into_iter().collect(),
            },
        };
        let body = serde_json::to_vec(&envelope).unwrap_or_default();
        let mut response = http::Response::new(Body::from(body));
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(crate::reply::JSON));
        response
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Wire<'a>,
}

/// The order of members is the reference's: the legacy envelope begins with its message.
#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "message", skip_serializing_if = "Option::is_none")]
    first_message: Option<&'a str>,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Issue],
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Value>,
    #[serde(flatten)]
    extra: std::collections::BTreeMap<&'static str, Value>,
}

/// Once, at the boundary, with the chain of causes.
fn log(parts: &Parts, support: Option<&str>) {
    let chain = || parts.cause.as_deref().map(|cause| Chain(cause).to_string());
    let code = parts.code.name;
    if let Some(support) = support {
        tracing::error!(code, support, cause = chain(), "unexpected error");
    } else if parts.status.is_server_error() {
        tracing::warn!(
            code,
            status = parts.status.as_u16(),
            cause = chain(),
            "request failed"
        );
    } else if parts.cause.is_some() {
        tracing::debug!(
            code,
            status = parts.status.as_u16(),
            cause = chain(),
            "request refused"
        );
    }
}

/// An error and what caused it, each said once.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl From<DbError> for ApiError {
    /// A conflict or a missing reference that the domain did not expect is our fault.
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(_) | DbError::Retry(_) => Self::unavailable(Duration::from_secs(1), error),
            error => Self::unexpected(error),
        }
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("status", &self.0.status)
            .field("code", &self.0.code.name)
            .field("message", &self.0.message)
            .field("issues", &self.0.issues)
            .field("payload", &self.0.payload)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use patchbay_ambient::SeededEntropy;

    use super::*;

    async fn text(error: ApiError) -> (u16, String, HeaderMap) {
        let response = error.into_response(&SeededEntropy::new(1));
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            parts.status.as_u16(),
            String::from_utf8(body.to_vec()).unwrap(),
            parts.headers,
        )
    }

    #[tokio::test]
    async fn envelopes_byte_for_byte() {
        let table = [
            (
                ApiError::new(&codes::NOT_FOUND).message("m"),
                (404, r#"{"error":{"code":"not_found","message":"m"}}"#),
            ),
            (
                ApiError::new(&codes::UNKNOWN_CONNECTION).status(StatusCode::BAD_REQUEST),
                (400, r#"{"error":{"code":"unknown_connection"}}"#),
            ),
            (
                ApiError::invalid(Layer::Body, vec![Issue::custom(&["a"], "r")]),
                (
                    400,
                    r#"{"error":{"code":"invalid_body","errors":[{"code":"custom","message":"r","path":["a"]}]}}"#,
                ),
            ),
            (
                ApiError::new(&codes::INVALID_CREDENTIALS)
                    .message("m")
                    .payload(json!({"connection": {}})),
                (
                    424,
                    r#"{"error":{"code":"invalid_credentials","message":"m","payload":{"connection":{}}}}"#,
                ),
            ),
            (
                ApiError::new(&codes::UNKNOWN_ACCOUNT).message("m").legacy(),
                (
                    401,
                    r#"{"error":{"message":"m","code":"unknown_account","payload":{}}}"#,
                ),
            ),
        ];
        for (error, (status, body)) in table {
            let found = text(error).await;
            assert_eq!((found.0, found.1.as_str()), (status, body));
            assert_eq!(found.2["content-type"], "application/json; charset=utf-8");
        }
    }

    #[tokio::test]
    async fn an_unexpected_error_tells_its_reference_and_nothing_else() {
        let (status, body, _) = text(ApiError::unexpected("the secret cause")).await;
        assert_eq!(status, 500);
        let body: Value = serde_json::from_str(&body).unwrap();
        let support = body["error"]["payload"].as_str().unwrap().to_owned();
        assert_eq!(body["error"]["code"], "generic_error_support");
        assert!(body["error"]["message"].as_str().unwrap().contains(&support));
        assert!(!body.to_string().contains("secret cause"));
    }

    #[tokio::test]
    async fn an_absent_database_asks_for_a_retry() {
        let (status, _, headers) = text(ApiError::unavailable(Duration::from_millis(1500), "gone")).await;
        assert_eq!((status, headers["retry-after"].to_str().unwrap()), (503, "2"));
    }
}
