//! Request targets as they may be logged.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Query parameters whose values tell nothing secret. Everything else is masked: a new parameter is secret until
/// somebody says otherwise here.
const HARMLESS: &[&str] = &[
    "allowedIntegrations",
    "connectionId",
    "connection_id",
    "cursor",
    "display_name",
    "env",
    "error",
    "filter",
    "force_refresh",
    "include",
    "integrationId",
    "integrationIds",
    "integration_id",
    "lang",
    "limit",
    "model",
    "modified_after",
    "name",
    "offset",
    "page",
    "provider_config_key",
    "refresh_token_included",
    "sort",
    "sync_name",
    "theme",
    "variant",
    "ws_client_id",
];

/// Longest target that is logged, in bytes.
const LONGEST: usize = 512;

/// Path and query of a request without anything that opens a door.
///
/// Values of query parameters are masked unless their name is known to be harmless; nothing of the query of a
/// proxied request is shown, because it belongs to the provider; nor the environment's UUID in webhook paths, which
/// is what keeps strangers from sending some.
pub fn target(path: &str, query: Option<&str>) -> String {
    let mut text = String::with_capacity(path.len().min(LONGEST));
    match webhook_rest(path) {
        Some(rest) => {
            let _ = write!(text, "/webhook/***{}", shorten(rest));
        }
        None => text.push_str(&shorten(path)),
    }
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return text;
    };
    if starts_with_segment(path, "/proxy") {
        text.push_str("?***");
        return text;
    }
    for (index, pair) in query.split('&').enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        if text.len() > LONGEST {
            text.push('…');
            break;
        }
        match pair.split_once('=') {
            Some((name, value)) if HARMLESS.contains(&name) => {
                let _ = write!(text, "{name}={}", shorten(value));
            }
            Some((name, _)) => {
                let _ = write!(text, "{}=***", shorten(name));
            }
            // A lone word may be a token pasted by mistake.
            None => text.push_str("***"),
        }
    }
    text
}

fn webhook_rest(path: &str) -> Option<&str> {
    let rest = starts_with_segment(path, "/webhook").then(|| &path["/webhook".len()..])?;
    let rest = rest.strip_prefix('/')?;
    Some(rest.find('/').map_or("", |slash| &rest[slash..]))
}

fn starts_with_segment(path: &str, segment: &str) -> bool {
    path.get(..segment.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(segment))
        && path[segment.len()..].chars().next().is_none_or(|c| c == '/')
}

fn shorten(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST {
        return Cow::Borrowed(text);
    }
    let mut end = LONGEST;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_a_door_is_masked() {
        for (path, query, expected) in [
            (
                "/connections",
                "limit=10&tags[a]=b",
                "/connections?limit=10&tags[a]=***",
            ),
            (
                "/oauth/connect/github",
                "connect_session_token=planted-a&params[subdomain]=planted-b&ws_client_id=1",
                "/oauth/connect/github?connect_session_token=***&params[subdomain]=***&ws_client_id=1",
            ),
            (
                "/oauth/callback",
                "state=planted-s&code=planted-c",
                "/oauth/callback?state=***&code=***",
            ),
            (
                "/oauth2/auth/x",
                "credentials[api_key]=planted-k&token_id=planted-t&hmac=planted-h&public_key=planted-p",
                "/oauth2/auth/x?credentials[api_key]=***&token_id=***&hmac=***&public_key=***",
            ),
            ("/proxy/v1/x", "limit=1&api_key=planted-x", "/proxy/v1/x?***"),
            ("/PROXY/v1/x", "limit=1", "/PROXY/v1/x?***"),
            ("/proxying", "limit=1", "/proxying?limit=1"),
            ("/webhook/3f2b8b56/github", "", "/webhook/***/github"),
            ("/webhook/3f2b8b56", "planted-lone", "/webhook/***?***"),
        ] {
            let logged = target(path, Some(query));
            assert_eq!(logged, expected);
            assert!(!logged.contains("planted-"));
        }
        assert_eq!(target("/health", None), "/health");
    }

    #[test]
    fn long_targets_are_cut() {
        let long = "é".repeat(1000);
        let logged = target(&long, Some(&format!("limit={long}&{}", "a=b&".repeat(500))));
        assert!(logged.len() < 3 * LONGEST, "{}", logged.len());
    }
}
