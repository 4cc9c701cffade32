//! What to do with a 3xx: a pure decision, so that every caller that follows redirects follows them alike.
//!
//! 301 and 302 turn POST into GET, 303 turns everything but GET and HEAD into GET, 307 and 308 change nothing
//! (RFC 9110 §15.4, and what browsers and HTTP libraries do). The policy is not asked here: the connector checks every hop.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, LOCATION,
    PROXY_AUTHORIZATION, TRAILER, TRANSFER_ENCODING, USER_AGENT,
};
use http::{Method, StatusCode};
use url::Url;

/// The request that was answered with a redirect.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its URL.
    pub url: &'a Url,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Whether it had a body.
    pub has_body: bool,
}

/// What may go along to another origin (scheme, host or port differ).
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Which headers are credentials.
    pub credentials: Credentials<'a>,
    /// Whether credentials go along.
    pub headers: AcrossOrigins,
    /// Whether a body that the redirect keeps goes along.
    pub body: AcrossOrigins,
}

/// Which headers are credentials. `authorization`, `proxy-authorization` and `cookie` always are.
#[derive(Clone, Copy, Debug)]
pub enum Credentials<'a> {
    /// These too: the headers into which credentials were put.
    Named(&'a [HeaderName]),
    /// Everything except what describes the message (`accept…`, `content-…`, `user-agent`).
    AllButHarmless,
}

/// Whether something goes along to another origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcrossOrigins {
    /// It stays behind (headers) or the redirect is refused (bodies).
    Withhold,
    /// It goes along.
    Send,
}

/// The decision.
#[derive(Clone, Debug)]
pub enum Next {
    /// Not a redirect that can be followed: the response is the answer.
    Stay,
    /// Send this next.
    Follow(Box<Follow>),
}

/// The next request.
#[derive(Clone, Debug)]
pub struct Follow {
    /// Its method.
    pub method: Method,
    /// Its URL, without fragment.
    pub url: Url,
    /// Its headers, without `host` and, if the body is dropped, without `content-…`.
    pub headers: HeaderMap,
    /// Whether the same body is sent again.
    pub keep_body: bool,
    /// Whether it stays on the same origin. A client certificate must not leave it.
    pub same_origin: bool,
}

/// A redirect that must not be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `location` is not an http(s) URL.
    #[error("the redirect does not lead to a valid http or https URL")]
    Location,
    /// `location` carries a user name or password.
    #[error("the redirect leads to a URL with a user name or password")]
    Userinfo,
    /// The body would go to somebody else.
    #[error("the redirect would send the request body to another origin")]
    BodyToAnotherOrigin,
}

/// Decides what follows on a response.
pub fn next(
    hop: &Hop<'_>,
    status: StatusCode,
    response: &HeaderMap,
    rules: &Rules<'_>,
) -> Result<Next, Refused> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(Next::Stay);
    }
    let Some(location) = response.get(LOCATION) else {
        return Ok(Next::Stay);
    };
    // Servers do send raw UTF-8 here; the URL parser encodes it.
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| Refused::Location)?;
    let mut url = hop.url.join(location).map_err(|_| Refused::Location)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Refused::Location);
    }
    // A relative location inherits our own userinfo, which the headers already carry.
    let inherited = url.username() == hop.url.username() && url.password() == hop.url.password();
    if !inherited && (!url.username().is_empty() || url.password().is_some()) {
        return Err(Refused::Userinfo);
    }
    url.set_fragment(None);
    let same_origin = url.origin() == hop.url.origin();
    let to_get = match status.as_u16() {
        301 | 302 => *hop.method == Method::POST,
        303 => *hop.method != Method::GET && *hop.method != Method::HEAD,
        _ => false,
    };
    let keep_body = hop.has_body && !to_get;
    if keep_body && !same_origin && rules.body == AcrossOrigins::Withhold {
        return Err(Refused::BodyToAnotherOrigin);
    }
    let mut headers = hop.headers.clone();
    headers.remove(HOST);
    if to_get {
        for name in OF_THE_BODY {
            headers.remove(name);
        }
    }
    if !same_origin && rules.headers == AcrossOrigins::Withhold {
        withhold(&mut headers, rules.credentials);
    }
    let method = if to_get { Method::GET } else { hop.method.clone() };
    Ok(Next::Follow(Box::new(Follow {
        method,
        url,
        headers,
        keep_body,
        same_origin,
    })))
}

const OF_THE_BODY: [HeaderName; 7] = [
    CONTENT_TYPE,
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LOCATION,
    TRAILER,
    TRANSFER_ENCODING,
];
const HARMLESS: [HeaderName; 5] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    USER_AGENT,
    TRANSFER_ENCODING,
];

fn withhold(headers: &mut HeaderMap, credentials: Credentials<'_>) {
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
        headers.remove(name);
    }
    match credentials {
        Credentials::Named(names) => {
            for name in names {
                headers.remove(name);
            }
        }
        Credentials::AllButHarmless => {
            let kept = std::mem::take(headers)
                .into_iter()
                .scan(None, |last, (name, value)| {
                    // Only the first of several values carries the name.
                    *last = name.or_else(|| last.take());
                    last.clone().map(|name| (name, value))
                });
            headers.extend(kept.filter(|(name, _)| HARMLESS.contains(name) || OF_THE_BODY.contains(name)));
        }
    }
}

#[cfg(test)]
mod tests;
