//! Reading request bodies (api-core §1.5): a limit that holds for the decoded size too, gzip, deflate and br,
//! and the rules of what counts as JSON.

use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::codes;
use crate::error::ApiError;

/// What bounds a request body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Most bytes, as sent and decoded. Default 75 MB.
    pub bytes: usize,
    /// Longest silence while it arrives. Default 60 s.
    pub silence: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            bytes: 75 * 1024 * 1024,
            silence: Duration::from_mins(1),
        }
    }
}

/// How a route takes its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// Parsed as JSON, if `Content-Type` says it is.
    #[default]
    Json,
    /// The bytes, decoded.
    Bytes,
    /// As it comes, neither limited nor decoded here.
    Stream,
}

/// A request's body.
#[derive(Debug, Default)]
pub enum Payload {
    /// None, or of a type the route does not read.
    #[default]
    Undefined,
    /// Parsed.
    Json(Value),
    /// Read.
    Bytes(Bytes),
    /// Still arriving.
    Stream(Body),
}

/// JSON texts from this size on are parsed off the async workers.
const LARGE: usize = 256 * 1024;
/// Decoded bytes after which other requests get their turn.
const SLICE: usize = 64 * 1024;

/// Reads `body` as `mode` says.
pub async fn read(
    mode: BodyMode,
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
) -> Result<Payload, ApiError> {
    match mode {
        BodyMode::Stream => Ok(Payload::Stream(body)),
        BodyMode::Bytes => Ok(Payload::Bytes(bytes(headers, body, limits).await?)),
        BodyMode::Json => {
            // Bodies of GET requests are rare and absent ones cost nothing.
            let absent = body.is_end_stream() && !headers.contains_key(header::CONTENT_LENGTH);
            if absent || !is_json(headers) {
                return Ok(Payload::Undefined);
            }
            let text = bytes(headers, body, limits).await?;
            parse(text).await.map(Payload::Json)
        }
    }
}

/// Whether `Content-Type` names JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

async fn parse(text: Bytes) -> Result<Value, ApiError> {
    if text.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let parsed = if text.len() < LARGE {
        parse_now(&text)
    } else {
        let parsing = tokio::task::spawn_blocking(move || parse_now(&text));
        parsing.await.map_err(ApiError::unexpected)?
    };
    parsed.map_err(|message| ApiError::new(&codes::INVALID_JSON).message(message))
}

fn parse_now(text: &[u8]) -> Result<Value, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match serde_json::from_slice(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
        Ok(_) => Err("The body must be a JSON object or array".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The whole body, decoded.
async fn bytes(headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let encoding = Encoding::of(headers)?;
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(too_large(limits));
    }
    let raw = collect(body, limits).await?;
    // ECMAScript's servers take an empty text for an empty body whatever its encoding.
    let (Some(encoding), false) = (encoding, raw.is_empty()) else {
        return Ok(raw);
    };
    match encoding {
        Encoding::Gzip => {
            let mut decoder = GzipDecoder::new(raw.as_ref());
            decoder.multiple_members(true);
            decode(decoder, limits).await
        }
        Encoding::Brotli => decode(BrotliDecoder::new(raw.as_ref()), limits).await,
        // "deflate" should be the zlib format, but bare deflate is in use too.
        Encoding::Deflate if is_zlib(&raw) => decode(ZlibDecoder::new(raw.as_ref()), limits).await,
        Encoding::Deflate => decode(DeflateDecoder::new(raw.as_ref()), limits).await,
    }
}

async fn collect(mut body: Body, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(limits.silence, body.frame()).await {
            Err(_) => return Err(ApiError::new(&codes::REQUEST_TIMEOUT).message("The body stopped arriving")),
            Ok(None) => break,
            Ok(Some(Err(cause))) => {
                let refused = ApiError::new(&codes::INVALID_BODY);
                return Err(refused.message("The body broke off").cause(cause));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limits.bytes {
            return Err(too_large(limits));
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

async fn decode(mut decoder: impl AsyncRead + Unpin, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let mut plain = BytesMut::new();
    loop {
        plain.reserve(SLICE);
        let read = decoder.read_buf(&mut plain).await.map_err(|cause| {
            ApiError::new(&codes::INVALID_BODY)
                .message("The body is not encoded as Content-Encoding says")
                .cause(cause)
        })?;
        if plain.len() > limits.bytes {
            return Err(too_large(limits));
        }
        if read == 0 {
            return Ok(plain.freeze());
        }
        tokio::task::consume_budget().await;
    }
}

fn too_large(limits: BodyLimits) -> ApiError {
    let limit = limits.bytes;
    ApiError::new(&codes::REQUEST_TOO_LARGE).message(format!("The request body is larger than {limit} bytes"))
}

#[derive(Clone, Copy)]
enum Encoding {
    Gzip,
    Deflate,
    Brotli,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) else {
            return Ok(None);
        };
        match value.to_ascii_lowercase().trim_ascii() {
            b"" | b"identity" => Ok(None),
            b"gzip" | b"x-gzip" => Ok(Some(Self::Gzip)),
            b"deflate" => Ok(Some(Self::Deflate)),
            b"br" => Ok(Some(Self::Brotli)),
            _ => Err(ApiError::new(&codes::UNSUPPORTED_CONTENT_ENCODING)
                .message("Request bodies may be encoded with gzip, deflate or br")),
        }
    }
}

/// RFC 1950 §2.2: method 8 and a header that is a multiple of 31.
fn is_zlib(raw: &[u8]) -> bool {
    matches!(raw, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) * 256 + u16::from(*flags)) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder};
    use futures_util::stream;
    use http::HeaderName;
    use serde_json::json;
    use tokio::io::{AsyncWrite, AsyncWriteExt};

    use super::*;

    async fn run(
        headers: &[(HeaderName, &str)],
        body: impl Into<Body>,
        limit: usize,
    ) -> Result<Payload, ApiError> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::try_from(*value).unwrap()))
            .collect();
        let limits = BodyLimits {
            bytes: limit,
            ..BodyLimits::default()
        };
        read(BodyMode::Json, &headers, body.into(), limits).await
    }

    fn shown(result: Result<Payload, ApiError>) -> Value {
        match result {
            Ok(Payload::Json(value)) => value,
            Ok(Payload::Undefined) => json!("undefined"),
            Ok(other) => panic!("{other:?}"),
            Err(error) => json!(error.code().name),
        }
    }

    const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json; charset=utf-8");

    #[tokio::test]
    async fn what_counts_as_json() {
        let length = (header::CONTENT_LENGTH, "0");
        let plain = (header::CONTENT_TYPE, "application/jsonp");
        for (headers, body, expected) in [
            (vec![JSON], "", json!("undefined")),
            (vec![JSON, length.clone()], "", json!({})),
            (vec![], "{}", json!("undefined")),
            (vec![plain], "{", json!("undefined")),
            (vec![JSON], "{\"a\":[1]}", json!({"a": [1]})),
            (vec![JSON], "\u{feff} [1] ", json!([1])),
            (vec![JSON], "{", json!("invalid_json")),
            (vec![JSON], "\"text\"", json!("invalid_json")),
            (vec![JSON], "1", json!("invalid_json")),
            (vec![JSON], " ", json!("invalid_json")),
            (vec![JSON], "{} x", json!("invalid_json")),
            (vec![(header::CONTENT_TYPE, "APPLICATION/JSON")], "[]", json!([])),
        ] {
            assert_eq!(
                shown(run(&headers, body, 100).await),
                expected,
                "{headers:?} {body}"
            );
        }
        let chunked = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::new())]));
        assert_eq!(shown(run(&[JSON], chunked, 100).await), json!({}));
    }

    #[tokio::test]
    async fn the_limit_is_exact() {
        let text = format!("[\"{}\"]", "x".repeat(96));
        assert_eq!(
            shown(run(&[JSON], text.clone(), 100).await)[0]
                .as_str()
                .map(str::len),
            Some(96)
        );
        assert_eq!(
            shown(run(&[JSON], text.clone(), 99).await),
            json!("request_too_large")
        );
        let streamed = || {
            let parts = text.as_bytes().chunks(7).map(Bytes::copy_from_slice);
            Body::from_stream(stream::iter(
                parts.map(Ok::<_, std::io::Error>).collect::<Vec<_>>(),
            ))
        };
        assert!(shown(run(&[JSON], streamed(), 100).await).is_array());
        assert_eq!(
            shown(run(&[JSON], streamed(), 99).await),
            json!("request_too_large")
        );
    }

    async fn finish<W: AsyncWrite + Unpin>(mut encoder: W, text: &str) -> W {
        encoder.write_all(text.as_bytes()).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder
    }

    #[tokio::test]
    async fn encoded_bodies_are_decoded_and_bombs_are_not() {
        let text = format!("[\"{}\"]", "x".repeat(300_000));
        let encoded = [
            (
                "gzip",
                finish(GzipEncoder::new(Vec::new()), &text).await.into_inner(),
            ),
            (
                "br",
                finish(BrotliEncoder::new(Vec::new()), &text).await.into_inner(),
            ),
            (
                "deflate",
                finish(ZlibEncoder::new(Vec::new()), &text).await.into_inner(),
            ),
            (
                "Deflate",
                finish(DeflateEncoder::new(Vec::new()), &text).await.into_inner(),
            ),
        ];
        for (name, body) in encoded {
            assert!(body.len() < 5_000, "{name}");
            let headers = [JSON, (header::CONTENT_ENCODING, name)];
            let whole = shown(run(&headers, body.clone(), text.len()).await);
            assert_eq!(whole[0].as_str().map(str::len), Some(300_000), "{name}");
            let bomb = shown(run(&headers, body.clone(), text.len() - 1).await);
            assert_eq!(bomb, json!("request_too_large"), "{name}");
            let cut = shown(run(&headers, body[..body.len() / 2].to_vec(), text.len()).await);
            assert_eq!(cut, json!("invalid_body"), "{name}");
        }
        let unknown = [JSON, (header::CONTENT_ENCODING, "zstd")];
        assert_eq!(
            shown(run(&unknown, "{}", 100).await),
            json!("unsupported_content_encoding")
        );
    }

    #[tokio::test]
    async fn a_body_that_stops_arriving_is_given_up() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let limits = BodyLimits {
            silence: Duration::from_millis(1),
            ..BodyLimits::default()
        };
        let given_up = read(BodyMode::Bytes, &HeaderMap::new(), silent, limits).await;
        assert_eq!(shown(given_up), json!("request_timeout"));
    }
}
