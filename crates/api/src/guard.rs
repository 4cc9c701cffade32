//! What is checked of every request before anyone asks who it is from: content types, and what every response
//! carries for the browser's sake.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::codes;
use crate::error::ApiError;

/// First segments under which a body, if its type is named, must be JSON (api-core §1.5).
const GUARDED: [&str; 19] = [
    "oauth",
    "api-auth",
    "auth",
    "providers",
    "environments",
    "environment",
    "environment-variables",
    "integrations",
    "connection",
    "connections",
    "sync",
    "cli",
    "records",
    "mcp",
    "scripts",
    "functions",
    "action",
    "connect",
    "v1",
];

/// Exceptions below them: browsers and providers post there.
const FREE: [&str; 3] = [
    "/oauth/callback",
    "/oauth/client-metadata",
    "/auth/oauth-outbound",
];

/// Refuses a content type other than JSON under the guarded prefixes, unknown paths included.
pub fn content_type(path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let json = b"application/json";
    let is_json = value
        .as_bytes()
        .get(..json.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(json));
    if is_json || !is_guarded(path) {
        return Ok(());
    }
    Err(ApiError::new(&codes::INVALID_CONTENT_TYPE).message("Content-Type must be application/json"))
}

pub(crate) fn is_guarded(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    GUARDED.iter().any(|prefix| prefix.eq_ignore_ascii_case(first))
        && !FREE.iter().any(|prefix| is_below(path, prefix))
}

/// Whether `path` is `prefix` or continues it with a slash, in any case.
fn is_below(path: &str, prefix: &str) -> bool {
    let (path, prefix) = (path.as_bytes(), prefix.as_bytes());
    path.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        && matches!(path.get(prefix.len()), None | Some(b'/'))
}

/// Headers of every response (api-core §1.3), unless the response set them itself.
pub static SECURITY: [(HeaderName, HeaderValue); 7] = [
    (header::X_XSS_PROTECTION, HeaderValue::from_static("0")),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        HeaderName::from_static("x-download-options"),
        HeaderValue::from_static("noopen"),
    ),
    (header::X_DNS_PREFETCH_CONTROL, HeaderValue::from_static("off")),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin")),
    (
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=5184000; includeSubDomains"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'self'"),
    ),
];
static SAME_ORIGIN: HeaderValue = HeaderValue::from_static("SAMEORIGIN");

/// Adds [`SECURITY`], and forbids framing unless the page is meant to be framed.
pub fn secure(headers: &mut HeaderMap, may_be_framed: bool) {
    for (name, value) in &SECURITY {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    if !may_be_framed {
        headers
            .entry(header::X_FRAME_OPTIONS)
            .or_insert_with(|| SAME_ORIGIN.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_passes_under_the_guarded_prefixes() {
        let check = |path: &str, kind: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(kind.map(|kind| (header::CONTENT_TYPE, HeaderValue::from_static(kind))));
            content_type(path, &headers).is_ok()
        };
        let form = Some("application/x-www-form-urlencoded");
        for path in [
            "/connections",
            "/Connections/x/",
            "/connect/sessions",
            "/v1/nothing",
            "/oauth/connect/k",
        ] {
            assert!(!check(path, form), "{path}");
            assert!(check(path, None), "{path}");
            assert!(check(path, Some("Application/JSON; charset=utf-8")), "{path}");
        }
        for path in [
            "/config/k",
            "/proxy/x",
            "/webhook/u/k",
            "/oauth/callback",
            "/auth/oauth-outbound/k",
            "/oauth2/auth/k",
            "/connect-ui/",
            "/",
        ] {
            assert!(check(path, form), "{path}");
        }
        assert!(!check("/oauth/callbacks", form));
    }
}
