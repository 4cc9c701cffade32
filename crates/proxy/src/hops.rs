//! The hops of one attempt: a request, and where its redirects lead (proxy §6.2).

use http::header::HeaderMap;
use http::{Method, Request, Response, StatusCode};
use patchbay_outbound::redirect::{self, Hop, Next, Rules};
use patchbay_outbound::{Body, Call, Client, ResponseBody, uri_of};
use url::Url;

use crate::ProxyError;
use crate::payload::Payload;

/// Redirects followed.
const MAX_REDIRECTS: u8 = 5;

/// The request of the current hop, and how it came about.
pub(crate) struct Trace {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) has_body: bool,
    /// Hops before this one.
    pub(crate) redirects: Vec<(StatusCode, Url)>,
}

/// Sends a request and follows redirects. What cannot be followed is the answer.
pub(crate) async fn follow(
    client: &Client,
    trace: &mut Trace,
    body: Body,
    payload: &Payload,
    mut call: Call,
    rules: &Rules<'_>,
) -> Result<Response<ResponseBody>, ProxyError> {
    let mut next_body = Some(body);
    for _ in 0..=MAX_REDIRECTS {
        let mut request = Request::new(next_body.take().unwrap_or_default());
        *request.method_mut() = trace.method.clone();
        *request.uri_mut() = uri_of(&trace.url)?;
        *request.headers_mut() = trace.headers.clone();
        let response = client.send_with(request, &call).await?;
        let hop = Hop {
            method: &trace.method,
            url: &trace.url,
            headers: &trace.headers,
            has_body: trace.has_body,
        };
        let follow = match redirect::next(&hop, response.status(), response.headers(), rules) {
            Ok(Next::Follow(follow)) => *follow,
            // What cannot be followed is the answer.
            Ok(Next::Stay) | Err(_) => return Ok(response),
        };
        if follow.keep_body {
            let Some(body) = payload.next() else {
                return Ok(response);
            };
            next_body = Some(body);
        }
        if !follow.same_origin {
            call.identity = None;
        }
        let left = std::mem::replace(&mut trace.url, follow.url);
        trace.redirects.push((response.status(), left));
        trace.method = follow.method;
        trace.headers = follow.headers;
        trace.has_body = follow.keep_body;
    }
    Err(patchbay_outbound::Error::TooManyRedirects { limit: MAX_REDIRECTS }.into())
}
