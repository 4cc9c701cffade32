//! Small exchanges whose body fits in memory: token endpoints, discovery, webhooks.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, IntoHeaderName, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use url::{Position, Url};

use crate::body::Body;
use crate::client::{Call, Client, Protocol};
use crate::error::{Error, InvalidUrl, Phase};
use crate::redirect::{self, AcrossOrigins, Credentials, Next, Rules};
use crate::tls::Identity;

/// One small exchange. `Debug` shows method, host and path only.
#[derive(Clone)]
pub struct FetchRequest {
    /// Method.
    pub method: Method,
    /// Where to. A user name and password in it become Basic authorization if the headers have none.
    pub url: Url,
    /// Headers, sent as they are.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Sizes and times.
    pub limits: Limits,
    /// Our certificate, if the server asks for one.
    pub identity: Option<Identity>,
    /// HTTP version.
    pub protocol: Protocol,
}

/// What a fetch may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The response body, in bytes.
    pub body: usize,
    /// The whole exchange, redirects and body included.
    pub total: Duration,
    /// Redirects followed; 0 returns the 3xx itself.
    pub redirects: u8,
}

impl Default for Limits {
    /// 2 MiB, 30 s, 5 redirects.
    fn default() -> Self {
        Self {
            body: 2 * 1024 * 1024,
            total: Duration::from_secs(30),
            redirects: 5,
        }
    }
}

/// A whole response. `Debug` shows status, header names and the body's size only.
#[derive(Clone)]
pub struct FetchResponse {
    /// Status, whatever it is: a 500 is an answer, not an [`Error`].
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Where it came from, after redirects.
    pub url: Url,
}

impl FetchRequest {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limits: Limits::default(),
            identity: None,
            protocol: Protocol::Auto,
        }
    }

    /// `GET url`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// `POST url` with a body of the given type.
    pub fn post(url: Url, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut request = Self::new(Method::POST, url);
        request
            .headers
            .insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        request.body = body.into();
        request
    }

    /// Sets a header, replacing what it had.
    #[must_use]
    pub fn header(mut self, name: impl IntoHeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl fmt::Debug for FetchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(
            f,
            "FetchRequest({} {}://{host}{})",
            self.method,
            self.url.scheme(),
            self.url.path()
        )
    }
}

impl fmt::Debug for FetchResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchResponse")
            .field("status", &self.status)
            .field(
                "headers",
                &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            )
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Sends a small request and reads the whole answer, following redirects.
    ///
    /// Every hop is checked by the policy. On the way to another origin only harmless headers go along, and a body
    /// does not: a 307 or 308 that would carry it there is refused. Any status is an answer; nothing is retried.
    pub async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let total = request.limits.total;
        let target = host_and_port(&request.url);
        match tokio::time::timeout(total, self.follow(request)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout {
                target,
                phase: Phase::Total,
                after: total,
            }),
        }
    }

    async fn follow(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        let FetchRequest {
            mut method,
            mut url,
            mut headers,
            mut body,
            limits,
            identity,
            protocol,
        } = request;
        let mut call = Call {
            identity,
            protocol,
            ..Call::default()
        };
        if !headers.contains_key(AUTHORIZATION)
            && let Some(basic) = basic_of(&url)
        {
            headers.insert(AUTHORIZATION, basic);
        }
        if let Some(agent) = &self.settings().user_agent
            && !headers.contains_key(USER_AGENT)
        {
            headers.insert(USER_AGENT, agent.clone());
        }
        let rules = Rules {
            credentials: Credentials::AllButHarmless,
            headers: AcrossOrigins::Withhold,
            body: AcrossOrigins::Withhold,
        };
        let mut hops = 0;
        loop {
            let mut request = Request::new(Body::from(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri_of(&url)?;
            *request.headers_mut() = headers.clone();
            let response = self.send_with(request, &call).await?;
            let (parts, content) = response.into_parts();
            let hop = redirect::Hop {
                method: &method,
                url: &url,
                headers: &headers,
                has_body: !body.is_empty(),
            };
            match redirect::next(&hop, parts.status, &parts.headers, &rules)? {
                Next::Follow(follow) if limits.redirects > 0 => {
                    if hops == limits.redirects {
                        return Err(Error::TooManyRedirects {
                            limit: limits.redirects,
                        });
                    }
                    hops += 1;
                    if !follow.same_origin {
                        call.identity = None;
                    }
                    if !follow.keep_body {
                        body = Bytes::new();
                    }
                    (method, url, headers) = (follow.method, follow.url, follow.headers);
                }
                Next::Follow(_) | Next::Stay => {
                    let body = content.collect_up_to(limits.body).await?;
                    return Ok(FetchResponse {
                        status: parts.status,
                        headers: parts.headers,
                        body,
                        url,
                    });
                }
            }
        }
    }
}

/// The request target of a URL: without fragment and userinfo.
pub fn uri_of(url: &Url) -> Result<Uri, Error> {
    let host = url.host_str().ok_or(Error::InvalidUrl(InvalidUrl::Host))?;
    let text = if url.username().is_empty() && url.password().is_none() {
        url[..Position::AfterQuery].to_owned()
    } else {
        let port = &url[Position::BeforePort..Position::AfterPort];
        let colon = if port.is_empty() { "" } else { ":" };
        let rest = &url[Position::BeforePath..Position::AfterQuery];
        format!("{}://{host}{colon}{port}{rest}", url.scheme())
    };
    Uri::try_from(text).map_err(|_| Error::InvalidUrl(InvalidUrl::Syntax))
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

fn basic_of(url: &Url) -> Option<HeaderValue> {
    let password = url.password().unwrap_or_default();
    if url.username().is_empty() && password.is_empty() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(&pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}
