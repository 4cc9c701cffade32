//! What every page has in common.

use askama::Template;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use patchbay_api::ApiError;
use serde::Serialize;

/// Only our own files, no inline code, no framing, no forms, no other host.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page that nobody keeps and that tells the next site nothing.
pub(crate) fn html(status: StatusCode, page: &impl Template) -> Result<Response<Body>, ApiError> {
    html_with(status, page, HeaderValue::from_static(POLICY))
}

/// The same under another policy.
pub(crate) fn html_with(
    status: StatusCode,
    page: &impl Template,
    policy: HeaderValue,
) -> Result<Response<Body>, ApiError> {
    let text = page.render().map_err(ApiError::unexpected)?;
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    unkept(headers);
    Ok(response)
}

/// The headers of answers that hold or cause secrets.
pub(crate) fn unkept(headers: &mut http::HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// From a page at `path` to the root, as a relative address: whatever a proxy put before the path stays.
pub(crate) fn root_of(path: &str) -> String {
    let depth = path.matches('/').count();
    match depth {
        0 | 1 => "./".to_owned(),
        deeper => "../".repeat(deeper - 1),
    }
}

/// `value` as JSON that may stand in a `<script>` element: nothing in it ends the element or the line.
pub(crate) fn json_block(value: &impl Serialize) -> Result<String, ApiError> {
    let text = serde_json::to_string(value).map_err(ApiError::unexpected)?;
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            other => safe.push(other),
        }
    }
    Ok(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_as_many_steps_up_as_the_path_is_deep() {
        for (path, root) in [
            ("/", "./"),
            ("/overview", "./"),
            ("/overview/", "../"),
            ("/oauth/callback", "../"),
            ("/oauth/callback/", "../../"),
            ("/oauth/connect/my%2Fkey", "../../"),
        ] {
            assert_eq!(root_of(path), root, "{path}");
        }
    }

    #[test]
    fn json_in_a_script_element_cannot_end_it() {
        let hostile = "</script><!--&\u{2028}\u{2029}\"";
        let block = json_block(&hostile).unwrap();
        assert!(!block.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
        assert_eq!(serde_json::from_str::<String>(&block).unwrap(), hostile);
    }
}
