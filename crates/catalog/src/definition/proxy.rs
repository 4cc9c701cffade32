//! How calls to the provider are made (catalog-format §5).

use serde_json::Value;

use super::expect::{Expect, expect};
use super::reader::{Reader, Step, Target};
use super::{BodyFormat, Pattern};
use crate::finding::Severity;
use crate::template::{Function, NamedTemplate, Template, TemplateMap, TemplateValue};

/// `proxy`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    /// Where calls go; `A || B` allowed.
    pub base_url: Option<Template>,
    /// Headers of every call, names in lower case.
    pub headers: Vec<NamedTemplate>,
    /// Whether any of them signs or repeats the body, which then has to be at hand whole.
    pub headers_read_body: bool,
    /// Query parameters of every call; dropped if unresolved.
    pub query: Vec<NamedTemplate>,
    /// Merged into the body of POST, PUT, PATCH and DELETE.
    pub body: TemplateMap,
    /// When to try again.
    pub retry: Retry,
    /// Defaults of pagination.
    pub paginate: Option<Pagination>,
    /// Ask for and decode compressed answers.
    pub decompress: bool,
    /// Send all headers again when redirected.
    pub forward_headers_on_redirect: bool,
    /// What to speak over TLS (Patchbay's extension).
    pub http_version: HttpVersion,
    /// Which TLS to accept (Patchbay's extension, `legacy_tls`).
    pub tls: TlsVersions,
    /// The call that tests credentials.
    pub verification: Option<Verification>,
}

/// `proxy.http_version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/2 where the server offers it.
    #[default]
    Auto,
    /// HTTP/1.1 only: the server's HTTP/2 does not work.
    Http1,
}

/// Which TLS to accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Modern,
    /// From 1.0, in builds that can.
    Legacy,
}

/// `proxy.retry`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {
    /// Headers that name an instant (epoch seconds or milliseconds, or a date).
    pub at: Vec<String>,
    /// Headers that name a number of seconds.
    pub after: Vec<String>,
    /// A header that makes any failure retryable when it is `0`.
    pub remaining: Option<String>,
    /// Statuses to retry, instead of the defaults 429, 401 and 500 upwards; none if not given.
    pub error_codes: Option<Vec<ErrorCode>>,
    /// A wait named in the body of the answer.
    pub in_body: Option<RetryInBody>,
}

/// One item of `retry.error_code`, bounds included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    first: u16,
    last: u16,
}

/// `retry.in_body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryInBody {
    /// Dotted path of the text.
    pub path: String,
    /// Finds the wait in its first group.
    pub value: Pattern,
    /// What the wait means.
    pub strategy: RetryStrategy,
}

/// `retry.in_body.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryStrategy {
    /// An instant.
    At,
    /// Seconds.
    After,
}

/// `proxy.paginate`. Parts may be missing: callers complete them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pagination {
    /// What is followed.
    pub kind: PaginationKind,
    /// Parameter that carries the page's size.
    pub limit_name_in_request: Option<String>,
    /// Dotted path of the items; the whole body if absent.
    pub response_path: Option<String>,
}

/// `paginate.type` with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaginationKind {
    /// A cursor of one answer is a parameter of the next request.
    Cursor {
        /// Dotted path of the cursor.
        path_in_response: Option<String>,
        /// Parameter that carries it.
        name_in_request: Option<String>,
    },
    /// The answer links to the next page.
    Link(LinkSource),
    /// Items are counted.
    Offset {
        /// Parameter that carries the offset.
        name_in_request: Option<String>,
        /// Of the first page.
        start_value: u64,
        /// How the next is computed.
        calculation: OffsetCalculation,
    },
}

/// Where a link is found; either or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSource {
    /// `rel` in the `Link` header (RFC 8288).
    pub rel_in_response_header: Option<String>,
    /// Dotted path in the body.
    pub path_in_response_body: Option<String>,
}

/// `offset_calculation_method`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetCalculation {
    /// Plus the number of items received.
    #[default]
    ByResponseSize,
    /// Plus one.
    PerPage,
}

/// `proxy.verification`.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Default GET.
    pub method: String,
    /// Tried in order; the first 2xx proves the credentials.
    pub endpoints: Vec<Template>,
    /// Instead of the proxy's base URL.
    pub base_url_override: Option<Template>,
    /// Beside the proxy's headers.
    pub headers: Vec<NamedTemplate>,
    /// Body.
    pub data: Option<TemplateValue>,
    /// `json` (default) or `form`, of a mapping in `data` (Patchbay's extension).
    pub body_format: BodyFormat,
    /// What the answer must say (Patchbay's extension).
    pub expect: Option<Expect>,
}

impl ErrorCode {
    /// Whether `status` is meant.
    pub fn matches(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    /// `403`, `5xx` or `500-502`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (code(first.trim())?, code(last.trim())?);
            return (first <= last).then_some(Self { first, last });
        }
        if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
            let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
            return Some(Self {
                first: class * 100,
                last: class * 100 + 99,
            });
        }
        code(text).map(|code| Self {
            first: code,
            last: code,
        })
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Proxy {
    let fallback = Template::parse_with_fallback;
    let headers = reader.headers("headers", fallback);
    let proxy = Proxy {
        base_url: reader.template("base_url", fallback),
        headers_read_body: headers.iter().any(|entry| reads_body(&entry.template)),
        headers,
        query: reader.named("query", fallback),
        body: reader.tree("body", fallback),
        retry: reader.section("retry", retry).unwrap_or_default(),
        paginate: reader.section("paginate", paginate).flatten(),
        decompress: reader.flag("decompress"),
        forward_headers_on_redirect: reader.flag("forward_headers_on_redirect"),
        tls: if reader.flag("legacy_tls") {
            TlsVersions::Legacy
        } else {
            TlsVersions::Modern
        },
        http_version: reader
            .choice(
                "http_version",
                &[("auto", HttpVersion::Auto), ("1.1", HttpVersion::Http1)],
            )
            .unwrap_or_default(),
        verification: reader.section("verification", verification),
    };
    reader.ignore(&["connection_config"]);
    proxy
}

fn reads_body(template: &Template) -> bool {
    template.calls(Function::AwsSigV4)
        || template.mentions("params")
        || template.mentions("bodyCanonicalParams")
}

fn retry(reader: &mut Reader<'_>) -> Retry {
    let error_codes = reader.has("error_code").then(|| {
        let mut codes = Vec::new();
        for (index, text) in reader.texts("error_code").iter().enumerate() {
            if let Some(code) = ErrorCode::parse(text) {
                codes.push(code);
                continue;
            }
            let path = reader.at([Step::Key("error_code".to_owned()), Step::Index(index)]);
            let message = format!("`{text}` is no status: write `403`, `5xx` or `500-502`");
            reader.error("invalid-value", path, message);
        }
        codes
    });
    Retry {
        at: lower(reader.texts("at")),
        after: lower(reader.texts("after")),
        remaining: reader.text("remaining").map(|name| name.to_ascii_lowercase()),
        error_codes,
        in_body: reader.section("in_body", |reader| RetryInBody {
            path: reader.text("path").unwrap_or_default(),
            value: Pattern::new(without_slashes(&reader.text("value").unwrap_or_default())),
            strategy: reader
                .choice(
                    "strategy",
                    &[("at", RetryStrategy::At), ("after", RetryStrategy::After)],
                )
                .unwrap_or(RetryStrategy::After),
        }),
    }
}

fn lower(names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// `/…/` is how other languages write the expression; the delimiters are not part of it.
fn without_slashes(text: &str) -> &str {
    text.strip_prefix('/')
        .and_then(|text| text.strip_suffix('/'))
        .unwrap_or(text)
}

fn paginate(reader: &mut Reader<'_>) -> Option<Pagination> {
    #[derive(Clone, Copy)]
    enum Type {
        Cursor,
        Link,
        Offset,
    }
    let chosen = reader.choice(
        "type",
        &[
            ("cursor", Type::Cursor),
            ("link", Type::Link),
            ("offset", Type::Offset),
        ],
    );
    if chosen.is_none() && !reader.has("type") {
        let path = reader.at([]);
        reader.error(
            "missing-key",
            path,
            "`paginate` needs its `type`: cursor, link or offset".to_owned(),
        );
    }
    let cursor = PaginationKind::Cursor {
        path_in_response: reader.text("cursor_path_in_response"),
        name_in_request: reader.text("cursor_name_in_request"),
    };
    let link = PaginationKind::Link(LinkSource {
        rel_in_response_header: reader.text("link_rel_in_response_header"),
        path_in_response_body: reader.text("link_path_in_response_body"),
    });
    let offset = PaginationKind::Offset {
        name_in_request: reader.text("offset_name_in_request"),
        start_value: reader.count("offset_start_value").unwrap_or(0),
        calculation: reader
            .choice(
                "offset_calculation_method",
                &[
                    ("by-response-size", OffsetCalculation::ByResponseSize),
                    ("per-page", OffsetCalculation::PerPage),
                ],
            )
            .unwrap_or_default(),
    };
    Some(Pagination {
        limit_name_in_request: reader.text("limit_name_in_request"),
        response_path: reader.text("response_path"),
        kind: match chosen? {
            Type::Cursor => cursor,
            Type::Link => link,
            Type::Offset => offset,
        },
    })
}

/// Whether the entry says that there is nothing to test credentials with.
pub(super) fn is_unverified(reader: &mut Reader<'_>) -> bool {
    reader
        .raw("proxy")
        .and_then(|proxy| proxy.get("verification"))
        .is_some_and(Value::is_null)
}

fn verification(reader: &mut Reader<'_>) -> Verification {
    let fallback = Template::parse_with_fallback;
    let mut endpoints = reader.templates("endpoints", fallback);
    // The older spelling.
    endpoints.extend(reader.templates("endpoint", fallback));
    if endpoints.is_empty() {
        let path = reader.at([]);
        let message = "`verification` without `endpoints` tests nothing".to_owned();
        reader.note(Severity::Error, "missing-key", path, Target::Key, message, None);
    }
    Verification {
        method: super::method(reader, "method", "GET"),
        endpoints,
        base_url_override: reader.template("base_url_override", fallback),
        headers: reader.headers("headers", fallback),
        data: reader.value("data", fallback),
        body_format: super::body_format(reader).unwrap_or(BodyFormat::Json),
        expect: reader.section("expect", expect),
    }
}
