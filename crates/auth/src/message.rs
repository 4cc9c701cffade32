//! Calls to a provider as data: what a core wants sent, and what came back.
//!
//! Nothing here does I/O. [`crate::driver`] turns a [`Call`] into an outbound request and its response into an
//! [`Answer`]; tests do the same by hand.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use patchbay_types::{JsonMap, Secret};
use serde_json::Value;
use url::Url;

use crate::{encode, xml};

/// A request to a token endpoint, ready to be sent as it is.
#[derive(Clone)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Absolute URL, query included.
    pub url: Url,
    /// Headers in the order they were added; no name twice.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body, empty for none.
    pub body: Bytes,
    /// Mutual TLS (RFC 8705 §2) for this call.
    pub client_certificate: Option<ClientCertificate>,
}

/// PEM material of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Certificate chain, PEM, one newline form.
    pub certificate: Secret,
    /// Private key, PEM, one newline form.
    pub private_key: Secret,
}

/// How parameters are put into a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFormat {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// A JSON object.
    Json,
    /// Appended to the URL's query; no body.
    Query,
    /// An element tree; the answer is asked for as one too.
    Xml,
}

/// What a provider answered.
#[derive(Clone, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// `Retry-After`, already relative to now.
    pub retry_after: Option<Duration>,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Call {
    /// A POST of `params` in `format` to `url`. Answers are asked for in JSON, to XML in XML.
    pub(crate) fn post(mut url: Url, params: &JsonMap, format: BodyFormat) -> Self {
        let accepted = match format {
            BodyFormat::Xml => "application/xml",
            BodyFormat::Form | BodyFormat::Json | BodyFormat::Query => "application/json",
        };
        let mut headers = vec![
            (http::header::ACCEPT, HeaderValue::from_static(accepted)),
            (http::header::USER_AGENT, HeaderValue::from_static("Patchbay")),
        ];
        let body = match format {
            BodyFormat::Form => {
                headers.push((
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                ));
                Bytes::from(encode::form(params))
            }
            BodyFormat::Json => {
                headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
                Bytes::from(Value::Object(params.clone()).to_string())
            }
            BodyFormat::Xml => {
                headers.push((CONTENT_TYPE, HeaderValue::from_static("application/xml")));
                Bytes::from(xml::write(params))
            }
            BodyFormat::Query => {
                if !params.is_empty() {
                    let mut pairs = url.query_pairs_mut();
                    for (name, value) in params {
                        if let Some(text) = encode::scalar(value) {
                            pairs.append_pair(name, &text);
                        }
                    }
                }
                Bytes::new()
            }
        };
        Self {
            method: Method::POST,
            url,
            headers,
            body,
            client_certificate: None,
        }
    }

    /// Adds an `Authorization` header. `value` is ASCII by construction: base64, a JWT, percent-encoded text.
    pub(crate) fn authorize(&mut self, value: &str) {
        let mut value = HeaderValue::from_str(value).expect("credentials are encoded as visible ASCII");
        value.set_sensitive(true);
        self.headers.push((AUTHORIZATION, value));
    }

    /// The value of the header called `name`, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.as_str().eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value.to_str().ok())
    }
}

impl fmt::Debug for Call {
    /// Method, host and path, header names and the body's length: a call is made of secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("host", &self.url.host_str())
            .field("path", &self.url.path())
            .field(
                "headers",
                &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .field("body_bytes", &self.body.len())
            .field("client_certificate", &self.client_certificate.is_some())
            .finish()
    }
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as a JSON object. A body labelled as a form (RFC 6749's predecessors answer so) or as XML is read as
    /// one; any other is tried as JSON whatever its label says.
    pub fn object(&self) -> Option<JsonMap> {
        let kind = self.content_type.as_deref().unwrap_or_default();
        let kind = kind.trim_start().to_ascii_lowercase();
        let labelled_form = kind.starts_with("application/x-www-form-urlencoded");
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Some(object),
            Err(_) if labelled_form => {
                let object: JsonMap = url::form_urlencoded::parse(&self.body)
                    .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
                    .collect();
                (!object.is_empty()).then_some(object)
            }
            Err(_) if self.is_xml() => xml::read(std::str::from_utf8(&self.body).ok()?.trim()),
            Ok(_) | Err(_) => None,
        }
    }

    /// Whether the body is labelled as XML; a page is not.
    pub(crate) fn is_xml(&self) -> bool {
        let kind = self
            .content_type
            .as_deref()
            .unwrap_or_default()
            .to_ascii_lowercase();
        kind.contains("xml") && !kind.contains("html")
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("retry_after", &self.retry_after)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params() -> JsonMap {
        json!({"grant_type":"x","n":1,"b":false,"s":"a b&c"})
            .as_object()
            .unwrap()
            .clone()
    }

    #[test]
    fn parameters_travel_in_every_format() {
        let url = Url::parse("https://id.example.com/token?v=1").unwrap();
        let form = Call::post(url.clone(), &params(), BodyFormat::Form);
        assert_eq!(form.body, "grant_type=x&n=1&b=false&s=a+b%26c");
        assert_eq!(
            form.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
        let json = Call::post(url.clone(), &params(), BodyFormat::Json);
        assert_eq!(json.body, r#"{"grant_type":"x","n":1,"b":false,"s":"a b&c"}"#);
        let tree = json!({"login": params()}).as_object().unwrap().clone();
        let xml = Call::post(url.clone(), &tree, BodyFormat::Xml);
        assert_eq!(
            xml.body,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><login><grant_type>x</grant_type><n>1</n><b>false</b>\
             <s>a b&amp;c</s></login>"
        );
        assert_eq!(xml.header("accept"), Some("application/xml"));
        let query = Call::post(url, &params(), BodyFormat::Query);
        assert_eq!(query.url.query(), Some("v=1&grant_type=x&n=1&b=false&s=a+b%26c"));
        assert!(query.body.is_empty());
        assert_eq!(query.header("content-type"), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let url = Url::parse("https://id.example.com/token?secret=planted").unwrap();
        let mut call = Call::post(url, json!({"s":"planted"}).as_object().unwrap(), BodyFormat::Form);
        call.authorize(&encode::basic("id", "planted"));
        let shown = format!("{call:?}");
        assert!(!shown.contains("planted"), "{shown}");
        assert!(
            !shown.contains(&data_encoding::BASE64.encode(b"id:planted")),
            "{shown}"
        );
    }

    #[test]
    fn answers_are_objects_or_nothing() {
        let answer = |kind: &str, body: &'static str| Answer {
            status: 200,
            content_type: Some(kind.to_owned()),
            retry_after: None,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        assert!(answer("application/json", r#"{"a":1}"#).object().is_some());
        assert!(answer("text/html", r#"{"a":1}"#).object().is_some());
        assert!(answer("text/html", "a=1").object().is_none());
        assert_eq!(
            answer(
                "application/x-www-form-urlencoded; charset=utf-8",
                "access_token=t&scope=a+b"
            )
            .object()
            .unwrap()["scope"],
            "a b"
        );
        let xml = answer(
            "text/xml; charset=utf-8",
            "<?xml version=\"1.0\"?>\n<a><b>c</b></a>\n",
        );
        assert_eq!(xml.object().unwrap()["a"]["b"], "c");
        assert!(
            answer("application/xhtml+xml", "<a><b>c</b></a>")
                .object()
                .is_none()
        );
        assert!(answer("application/json", "[1]").object().is_none());
        assert!(answer("application/json", "").object().is_none());
    }
}
