//! A request body, and how often it can be sent.

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::BodyExt;
use patchbay_ambient::Ambient;
use patchbay_outbound::Body;
use patchbay_outbound::replay::Replay;
use serde_json::{Map, Value};

use crate::ProxyError;
use crate::body::{self, Conversion, ExactObject};

/// A request body that may be sent more than once, or not.
pub(crate) enum Payload {
    /// None.
    Nothing,
    /// At hand.
    Whole(Bytes),
    /// Sent as it comes.
    Stream(Replay),
}

impl Payload {
    /// The body of the next attempt; `None` once what was streamed is gone.
    pub(crate) fn next(&self) -> Option<Body> {
        match self {
            Self::Nothing => Some(Body::empty()),
            Self::Whole(bytes) => Some(bytes.clone().into()),
            Self::Stream(replay) => replay.body(),
        }
    }

    /// Whether it could be sent again now.
    pub(crate) fn can_repeat(&self) -> bool {
        match self {
            Self::Nothing | Self::Whole(_) => true,
            Self::Stream(replay) => replay.is_replayable(),
        }
    }

    /// The whole body if it is at hand, for signatures.
    pub(crate) fn whole(&self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.clone(),
            Self::Nothing | Self::Stream(_) => Bytes::new(),
        }
    }
}

/// Reads a body whole, at most `limit` bytes, converts it, and merges what the definition injects: injected keys win.
pub(crate) async fn convert(
    body: Body,
    conversion: Conversion,
    injected: Option<Map<String, Value>>,
    content_type: Option<HeaderValue>,
    limit: usize,
    ambient: &Ambient,
) -> Result<(Bytes, Option<HeaderValue>), ProxyError> {
    let limited = http_body_util::Limited::new(body, limit);
    let collected = limited.collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            ProxyError::BodyTooLarge(limit)
        } else {
            ProxyError::BodyBroken
        }
    })?;
    let bytes = collected.to_bytes();
    let json = HeaderValue::from_static("application/json");
    let (bytes, content_type) = match conversion {
        Conversion::Pass => (bytes, content_type),
        Conversion::FormToJson => (body::form_to_json(&bytes).into(), Some(json.clone())),
        Conversion::JsonToForm => match object(&bytes)? {
            Some(object) => (body::json_to_form(&object).into(), content_type),
            None => (bytes, content_type),
        },
        Conversion::JsonToMultipart => match object(&bytes)? {
            Some(object) => {
                let boundary = format!("patchbay-{}", ambient.entropy.uuid().simple());
                let text = body::json_to_multipart(&object, &boundary);
                let kind = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"));
                (text.into(), Some(kind.expect("a UUID is legal in a header")))
            }
            None => (bytes, Some(json.clone())),
        },
    };
    let Some(injected) = injected else {
        return Ok((bytes, content_type));
    };
    let kind = content_type
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/json");
    let essence = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/x-www-form-urlencoded" => {
            let mut form = bytes.to_vec();
            if !form.is_empty() {
                form.push(b'&');
            }
            form.extend_from_slice(body::json_to_form(&injected).as_bytes());
            Ok((form.into(), content_type))
        }
        "multipart/form-data" => {
            let merged = body::append_parts(&bytes, kind, &injected);
            Ok((merged.map_or(bytes, Bytes::from), content_type))
        }
        "application/json" => {
            // The caller's members keep their text: a number may be larger than we could hold.
            let merged = match ExactObject::parse(&bytes).map_err(ProxyError::InvalidJson)? {
                Some(own) => own.with(&injected),
                None => return Ok((bytes, content_type)),
            };
            Ok((merged.into(), Some(content_type.unwrap_or(json))))
        }
        _ => Ok((bytes, content_type)),
    }
}

/// A JSON object; nothing at all is an empty one. `None` for other JSON.
fn object(bytes: &[u8]) -> Result<Option<Map<String, Value>>, ProxyError> {
    if bytes.is_empty() {
        return Ok(Some(Map::new()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Ok(None),
        Err(error) => Err(ProxyError::InvalidJson(error.to_string())),
    }
}
