//! A client that sees answers as they are: a connection a request, no retries, no redirects.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use patchbay_ambient::Ambient;
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

/// Calls one server with one key.
#[derive(Clone)]
pub struct Client {
    base: String,
    key: Option<String>,
}

/// A request being written.
#[must_use]
pub struct Sending {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Client {
    pub fn new(base: &str, key: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            key: Some(key.to_owned()),
        }
    }

    pub fn anonymous_at(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            key: None,
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same server with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self.clone()
        }
    }

    /// The same server without a key.
    pub fn anonymous(&self) -> Self {
        Self {
            key: None,
            ..self.clone()
        }
    }

    pub fn request(&self, method: &str, target: &str) -> Sending {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.key {
            headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        let url = format!("{}{target}", self.base);
        Sending {
            url: url.parse().unwrap_or_else(|error| panic!("{url}: {error}")),
            method: method.parse().unwrap(),
            headers,
            body: Bytes::new(),
        }
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.request("GET", target).send().await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.request("DELETE", target).send().await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.request("POST", target).json(body).send().await
    }

    pub async fn patch(&self, target: &str, body: &Value) -> Answer {
        self.request("PATCH", target).json(body).send().await
    }

    /// The status of `/ready`, 0 if nobody answers.
    pub async fn ready(&self) -> u16 {
        self.anonymous()
            .request("GET", "/ready")
            .try_send()
            .await
            .map_or(0, |answer| answer.status)
    }
}

impl Sending {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: http::HeaderName = name.parse().unwrap();
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", kind)
    }

    pub async fn send(self) -> Answer {
        let line = format!("{} {}", self.method, self.url);
        self.try_send()
            .await
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Sends it; fails if nobody answers within half a minute.
    pub async fn try_send(self) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        tokio::time::timeout(Duration::from_secs(30), self.exchange()).await?
    }

    async fn exchange(self) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let authority = self.url.authority().to_owned();
        let host = self.url.host_str().unwrap_or_default();
        // "localhost" may be ::1 first, where nobody listens.
        let host = if host == "localhost" { "127.0.0.1" } else { host };
        let port = self.url.port_or_known_default().unwrap_or(80);
        let stream = TcpStream::connect((host, port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        Ambient::system().tasks.spawn(connection);
        let target = &self.url[url::Position::BeforePath..];
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = target.parse()?;
        *request.headers_mut() = self.headers;
        request.headers_mut().entry("host").or_insert(authority.parse()?);
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }
}

impl Answer {
    /// A header's text, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} {}", self.status, self.text))
    }

    /// The JSON body, if the status is this one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The error object, if status and code are these.
    #[track_caller]
    pub fn fails(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["error"]["code"], code, "{body}");
        body["error"].clone()
    }
}
