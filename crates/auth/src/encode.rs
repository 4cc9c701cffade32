//! The encodings token endpoints and authorize URLs expect.

use std::borrow::Cow;

use data_encoding::BASE64;
use patchbay_types::JsonMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// RFC 3986 §2.3: everything but the unreserved characters is encoded.
pub(crate) const RFC3986: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Percent-encodes one query component.
pub(crate) fn component(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, RFC3986).into()
}

/// Text of a parameter: strings as they are, numbers and booleans written out, structures as JSON, null absent.
pub(crate) fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

/// `application/x-www-form-urlencoded` of an object, in its order.
pub(crate) fn form(params: &JsonMap) -> String {
    let mut out = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in params {
        if let Some(text) = scalar(value) {
            out.append_pair(name, &text);
        }
    }
    out.finish()
}

/// `Basic …` of RFC 7617: the pair as it is.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

/// `Basic …` of RFC 6749 §2.3.1: each half form-encoded first.
pub(crate) fn basic_form(client_id: &str, client_secret: &str) -> String {
    let half = |text: &str| component(text).replace("%20", "+");
    basic(&half(client_id), &half(client_secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_headers() {
        // RFC 7617 §2.
        assert_eq!(
            basic("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(
            basic_form("a b", "s!'()*:~é"),
            basic("a+b", "s%21%27%28%29%2A%3A~%C3%A9")
        );
    }
}
