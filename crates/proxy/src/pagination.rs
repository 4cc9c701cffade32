//! Walking the pages of an upstream's list (proxy §11.1): cursor, link and offset, as a machine without I/O.
//!
//! Whoever sends the requests asks [`Paginator::request`] what to send, hands the answer to [`Paginator::turn`] and
//! is told which items to yield, what to tell the caller's `on_page`, and whether another page follows. The provider's
//! `proxy.paginate` gives the defaults, the caller's configuration overlays them key by key.

mod link;
mod path;
#[cfg(test)]
mod tests;

use http::Method;
use patchbay_catalog::definition::{OffsetCalculation, Pagination, PaginationKind};
use patchbay_types::JsonMap;
use serde_json::{Value, json};
use url::Url;

use self::path::Path;

/// What the next request differs in from the caller's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageRequest {
    /// Path with query, or what the caller wrote.
    pub endpoint: String,
    /// Origin that replaces the provider's, once a link was absolute.
    pub base_url_override: Option<String>,
    /// Query parameters. Keys are literal: a dot has no meaning in a query.
    pub params: JsonMap,
    /// Body, if the caller gave one or the parameters of pagination belong there.
    pub data: Option<Value>,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The `Link` header; several joined by commas.
    pub link: Option<&'a str>,
    /// The body, parsed.
    pub body: &'a Value,
}

/// What to do with an answer.
#[derive(Debug, PartialEq)]
pub struct Turn<'a> {
    /// What the caller's loop receives.
    pub page: Page<'a>,
    /// What `on_page` hears once the page was consumed.
    pub on_page: OnPage,
    /// Whether [`Paginator::request`] now describes another request.
    pub more: More,
}

/// What the caller's loop receives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Page<'a> {
    /// Nothing: the list ended with the page before.
    Nothing,
    /// What is found at `response_path`; `None` if there is nothing (link pagination yields that too).
    Items(Option<&'a Value>),
}

/// What `on_page` hears.
#[derive(Clone, Debug, PartialEq)]
pub enum OnPage {
    /// It is not called.
    Skip,
    /// It is called with the parameter of the next page: cursor, link or offset; `None` after the last one.
    Call(Option<Value>),
}

/// Whether another page follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// It does.
    Yes,
    /// This was the last.
    No,
}

/// Why pages cannot be walked. The texts are the contract's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaginationError {
    /// Neither the provider nor the caller says how.
    #[error("There was no pagination configuration for this integration or configuration passed in.")]
    NotConfigured,
    /// A key is missing.
    #[error("Param {name} is required for {kind} pagination")]
    Missing {
        /// The key.
        name: &'static str,
        /// Type of pagination.
        kind: &'static str,
    },
    /// A link must be found somewhere.
    #[error(
        "Either param link_rel_in_response_header or link_path_in_response_body is required for link pagination"
    )]
    NoLinkSource,
    /// No such type.
    #[error(
        "Pagination type {0} is not supported. Only cursor, link and offset pagination types are supported."
    )]
    UnknownType(String),
    /// Parameters belong into the body, and the body has no room for them.
    #[error("Pagination parameters go into the body, which must be an object")]
    BodyNotAnObject,
}

/// Walks the pages of one list.
#[derive(Clone, Debug)]
pub struct Paginator {
    rule: Rule,
    items: Option<Path>,
    place: Place,
    request: PageRequest,
}

#[derive(Clone, Debug)]
enum Rule {
    Cursor {
        name: String,
        path: Path,
    },
    Link {
        rel: Option<String>,
        path: Option<Path>,
        previous: Option<String>,
    },
    Offset {
        name: String,
        next: u64,
        step: OffsetCalculation,
        /// The size of a full page, if the caller said it.
        limit: Option<f64>,
    },
}

/// Where the parameters of pagination travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Query,
    Body,
}

impl Paginator {
    /// Prepares the first request.
    ///
    /// `defaults` is the provider's `proxy.paginate`, `given` the caller's `paginate` (keys as on the wire; `null`
    /// counts as absent), `request` the caller's own request, `method` its method.
    pub fn new(
        defaults: Option<&Pagination>,
        given: &JsonMap,
        method: &Method,
        request: PageRequest,
    ) -> Result<Self, PaginationError> {
        let mut settings = defaults.map(wire_form).unwrap_or_default();
        settings.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
        let settings = Settings(settings);

        let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
        let in_body = settings.flag("in_body").unwrap_or(has_body);
        let mut paginator = Self {
            rule: settings.rule()?,
            items: settings.text("response_path").map(Path::parse),
            place: if in_body { Place::Body } else { Place::Query },
            request,
        };
        if let (Some(name), Some(limit)) = (settings.text("limit_name_in_request"), settings.value("limit")) {
            paginator.set(name, limit.clone())?;
        }
        if let Rule::Offset { name, next, .. } = paginator.rule.clone() {
            paginator.set_offset(&name, next)?;
        }
        Ok(paginator)
    }

    /// The request to send now.
    pub fn request(&self) -> &PageRequest {
        &self.request
    }

    /// Reads an answer and prepares the next request, if one follows.
    pub fn turn<'a>(&mut self, answer: Answer<'a>) -> Result<Turn<'a>, PaginationError> {
        let items = match &self.items {
            Some(path) => path.get(answer.body),
            None => Some(answer.body),
        };
        match self.rule.clone() {
            Rule::Cursor { name, path } => self.after_cursor(&name, &path, items, answer.body),
            Rule::Link { rel, path, previous } => {
                let link = rel
                    .and_then(|rel| link::target(answer.link?, &rel))
                    .or_else(|| path?.get(answer.body)?.as_str().map(str::to_owned));
                Ok(self.after_link(items, link, previous.as_deref()))
            }
            Rule::Offset {
                name,
                next,
                step,
                limit,
            } => self.after_offset(&name, next, step, limit, items),
        }
    }

    fn after_cursor<'a>(
        &mut self,
        name: &str,
        path: &Path,
        items: Option<&'a Value>,
        body: &Value,
    ) -> Result<Turn<'a>, PaginationError> {
        if length(items) == 0 {
            return Ok(Turn::ended());
        }
        let cursor = path.get(body).and_then(cursor);
        let more = match &cursor {
            Some(cursor) => {
                self.set(name, cursor.clone())?;
                More::Yes
            }
            None => More::No,
        };
        Ok(Turn {
            page: Page::Items(items),
            on_page: OnPage::Call(cursor),
            more,
        })
    }

    fn after_link<'a>(
        &mut self,
        items: Option<&'a Value>,
        link: Option<String>,
        previous: Option<&str>,
    ) -> Turn<'a> {
        let link = link.filter(|link| !link.is_empty());
        let more = match &link {
            Some(link) if previous != Some(link) => More::Yes,
            _ => More::No,
        };
        if let (More::Yes, Some(link)) = (more, &link) {
            self.follow(link);
            if let Rule::Link { previous, .. } = &mut self.rule {
                *previous = Some(link.clone());
            }
        }
        Turn {
            page: Page::Items(items),
            on_page: OnPage::Call(link.map(Value::String)),
            more,
        }
    }

    fn after_offset<'a>(
        &mut self,
        name: &str,
        sent: u64,
        step: OffsetCalculation,
        limit: Option<f64>,
        items: Option<&'a Value>,
    ) -> Result<Turn<'a>, PaginationError> {
        let count = length(items);
        if count == 0 {
            return Ok(Turn::ended());
        }
        #[expect(clippy::cast_precision_loss, reason = "no page holds 2^52 items")]
        if limit.is_some_and(|limit| (count as f64) < limit) {
            return Ok(Turn {
                page: Page::Items(items),
                on_page: OnPage::Skip,
                more: More::No,
            });
        }
        let following = sent
            + match step {
                OffsetCalculation::ByResponseSize => count as u64,
                OffsetCalculation::PerPage => 1,
            };
        if let Rule::Offset { next, .. } = &mut self.rule {
            *next = following;
        }
        self.set_offset(name, following)?;
        Ok(Turn {
            page: Page::Items(items),
            // The offset of the page just read: that is what published functions were written against.
            on_page: OnPage::Call(Some(sent.into())),
            more: More::Yes,
        })
    }

    /// An absolute link moves to its origin, a relative one replaces the endpoint; both carry their own query.
    fn follow(&mut self, link: &str) {
        match Url::parse(link) {
            Ok(url) if url.has_host() => {
                self.request.base_url_override = Some(url.origin().ascii_serialization());
                self.request.endpoint = match url.query() {
                    Some(query) => format!("{}?{query}", url.path()),
                    None => url.path().to_owned(),
                };
            }
            _ => link.clone_into(&mut self.request.endpoint),
        }
        self.request.params.clear();
    }

    fn set_offset(&mut self, name: &str, offset: u64) -> Result<(), PaginationError> {
        let value = match self.place {
            Place::Query => Value::String(offset.to_string()),
            Place::Body => offset.into(),
        };
        self.set(name, value)
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), PaginationError> {
        match self.place {
            Place::Query => {
                self.request.params.insert(name.to_owned(), value);
                Ok(())
            }
            Place::Body => {
                let body = self.request.data.get_or_insert_with(|| json!({}));
                if !body.is_object() {
                    return Err(PaginationError::BodyNotAnObject);
                }
                Path::parse(name).set(body, value);
                Ok(())
            }
        }
    }
}

impl Turn<'_> {
    /// The list ended with the page before.
    fn ended() -> Self {
        Self {
            page: Page::Nothing,
            on_page: OnPage::Skip,
            more: More::No,
        }
    }
}

/// Keys as on the wire, the caller's over the provider's.
struct Settings(JsonMap);

impl Settings {
    fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str().filter(|text| !text.is_empty())
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.value(key)?.as_bool()
    }

    fn rule(&self) -> Result<Rule, PaginationError> {
        let kind = self.text("type").ok_or(PaginationError::NotConfigured)?;
        match kind {
            "cursor" => {
                let kind = "cursor";
                let name = self.required("cursor_name_in_request", kind)?;
                let path = self.required("cursor_path_in_response", kind)?;
                if self.value("limit").is_some() {
                    self.required("limit_name_in_request", kind)?;
                }
                Ok(Rule::Cursor {
                    name: name.to_owned(),
                    path: Path::parse(path),
                })
            }
            "link" => {
                let rel = self.text("link_rel_in_response_header").map(str::to_owned);
                let path = self.text("link_path_in_response_body").map(Path::parse);
                if rel.is_none() && path.is_none() {
                    return Err(PaginationError::NoLinkSource);
                }
                Ok(Rule::Link {
                    rel,
                    path,
                    previous: None,
                })
            }
            "offset" => Ok(Rule::Offset {
                name: self.required("offset_name_in_request", "offset")?.to_owned(),
                next: self.value("offset_start_value").and_then(count).unwrap_or(0),
                step: match self.text("offset_calculation_method") {
                    Some("per-page") => OffsetCalculation::PerPage,
                    _ => OffsetCalculation::ByResponseSize,
                },
                limit: self.value("limit").and_then(number),
            }),
            other => Err(PaginationError::UnknownType(other.to_owned())),
        }
    }

    fn required(&self, name: &'static str, kind: &'static str) -> Result<&str, PaginationError> {
        self.text(name).ok_or(PaginationError::Missing { name, kind })
    }
}

/// The definition's keys, as a caller would write them.
fn wire_form(pagination: &Pagination) -> JsonMap {
    let mut settings = JsonMap::new();
    let mut put = |key: &str, value: Option<&String>| {
        if let Some(value) = value {
            settings.insert(key.to_owned(), Value::String(value.clone()));
        }
    };
    put("limit_name_in_request", pagination.limit_name_in_request.as_ref());
    put("response_path", pagination.response_path.as_ref());
    let kind = match &pagination.kind {
        PaginationKind::Cursor {
            path_in_response,
            name_in_request,
        } => {
            put("cursor_path_in_response", path_in_response.as_ref());
            put("cursor_name_in_request", name_in_request.as_ref());
            "cursor"
        }
        PaginationKind::Link(source) => {
            put(
                "link_rel_in_response_header",
                source.rel_in_response_header.as_ref(),
            );
            put(
                "link_path_in_response_body",
                source.path_in_response_body.as_ref(),
            );
            "link"
        }
        PaginationKind::Offset {
            name_in_request,
            start_value,
            calculation,
        } => {
            put("offset_name_in_request", name_in_request.as_ref());
            if *calculation == OffsetCalculation::PerPage {
                put("offset_calculation_method", Some(&"per-page".to_owned()));
            }
            settings.insert("offset_start_value".to_owned(), (*start_value).into());
            "offset"
        }
    };
    settings.insert("type".to_owned(), kind.into());
    settings
}

/// Items of a page; a text has its length, as in the language the callers write.
fn length(items: Option<&Value>) -> usize {
    match items {
        Some(Value::Array(items)) => items.len(),
        Some(Value::String(text)) => text.encode_utf16().count(),
        _ => 0,
    }
}

/// A cursor that leads on: a text that is not blank, or any number.
fn cursor(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => {
            let text = text.trim();
            (!text.is_empty()).then(|| text.into())
        }
        Value::Number(_) => Some(value.clone()),
        _ => None,
    }
}

fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}
