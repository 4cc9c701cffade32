//! What a handler answers, and how it becomes a response: ETags, conditional requests, `HEAD`.

use std::hash::{DefaultHasher, Hasher};

use axum::body::Body;
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use crate::error::ApiError;

/// The content type of every JSON answer.
pub const JSON: &str = "application/json; charset=utf-8";

/// An answer.
#[derive(Debug)]
#[must_use]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    extensions: Extensions,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Empty,
    Json(Bytes),
    Raw(Body),
}

/// Put into a response's extensions, it keeps `X-Frame-Options` off: the page is meant to be framed.
#[derive(Clone, Copy, Debug)]
pub struct MayBeFramed;

impl Reply {
    /// 200 with `value` as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Self::json_with(StatusCode::OK, value)
    }

    /// Another status with `value` as JSON.
    pub fn json_with(status: StatusCode, value: &impl Serialize) -> Result<Self, ApiError> {
        let text = serde_json::to_vec(value).map_err(ApiError::unexpected)?;
        Ok(Self::json_text(status, text))
    }

    /// JSON that is text already.
    pub fn json_text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::new(status, Content::Json(text.into()))
    }

    /// 204 without a body.
    pub fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT, Content::Empty)
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    fn new(status: StatusCode, content: Content) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            extensions: Extensions::new(),
            content,
        }
    }

    /// The response to a request of this method with these headers. JSON that was read gets a weak ETag, and a
    /// client that has it already gets 304.
    pub(crate) fn into_response(self, method: &Method, request: &HeaderMap) -> Response<Body> {
        let mut status = self.status;
        let mut headers = self.headers;
        let body = match self.content {
            Content::Empty => Body::empty(),
            Content::Raw(body) => body,
            Content::Json(text) => {
                headers
                    .entry(header::CONTENT_TYPE)
                    .or_insert(HeaderValue::from_static(JSON));
                let read = *method == Method::GET || *method == Method::HEAD;
                if read && status == StatusCode::OK {
                    headers.entry(header::ETAG).or_insert_with(|| etag(&text));
                }
                if headers
                    .get(header::ETAG)
                    .is_some_and(|etag| is_known(etag, request))
                {
                    status = StatusCode::NOT_MODIFIED;
                    headers.remove(header::CONTENT_TYPE);
                    Body::empty()
                } else if *method == Method::HEAD {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
                    Body::empty()
                } else {
                    Body::from(text)
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        *response.extensions_mut() = self.extensions;
        response
    }
}

impl From<Response<Body>> for Reply {
    /// A response whose body is passed on as it is; headers the server adds do not replace its own.
    fn from(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status,
            headers: parts.headers,
            extensions: parts.extensions,
            content: Content::Raw(body),
        }
    }
}

/// Length and a 64-bit hash: weak, for revalidation only.
fn etag(text: &[u8]) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    HeaderValue::try_from(format!("W/\"{:x}-{:016x}\"", text.len(), hasher.finish()))
        .expect("hexadecimal digits are legal in a header")
}

/// Whether the client says it has this very answer (weak comparison, RFC 9110 §13.1.2) and accepts to hear so.
fn is_known(etag: &HeaderValue, request: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let Some(known) = request.get(header::IF_NONE_MATCH).map(text) else {
        return false;
    };
    let reload = request.get(header::CACHE_CONTROL).map(text);
    if reload.is_some_and(|directives| directives.to_ascii_lowercase().contains("no-cache")) {
        return false;
    }
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let wanted = strong(&text(etag));
    known.trim() == "*" || known.split(',').any(|tag| strong(tag) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(method: &Method, request: &[(HeaderName, &str)]) -> Response<Body> {
        let headers = request
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::try_from(*value).unwrap()))
            .collect();
        Reply::json(&"hello").unwrap().into_response(method, &headers)
    }

    #[test]
    fn a_known_answer_is_not_sent_again() {
        let first = answer(&Method::GET, &[]);
        let etag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(etag.starts_with("W/\"7-"), "{etag}");
        let strong = etag.trim_start_matches("W/").to_owned();
        for known in [etag.as_str(), &strong, "*", &format!("\"x\", {etag}")] {
            let again = answer(&Method::GET, &[(header::IF_NONE_MATCH, known)]);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[header::ETAG], etag.as_str());
        }
        let other = answer(&Method::GET, &[(header::IF_NONE_MATCH, "\"x\"")]);
        assert_eq!(other.status(), StatusCode::OK);
        let reload = [
            (header::IF_NONE_MATCH, etag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        assert_eq!(answer(&Method::GET, &reload).status(), StatusCode::OK);
        assert!(!answer(&Method::POST, &[]).headers().contains_key(header::ETAG));
    }

    #[test]
    fn a_head_request_learns_the_length() {
        assert_eq!(answer(&Method::HEAD, &[]).headers()[header::CONTENT_LENGTH], "7");
    }
}
