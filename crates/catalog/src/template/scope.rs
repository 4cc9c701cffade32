//! What a template's names stand for.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_types::JsonMap;
use serde_json::Value;
use uuid::Uuid;

/// Variables that are worth computing only when a template asks for them.
pub trait Lookup: Sync {
    /// The value of the variable of that full, dotted name.
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// The variables, the hour and the randomness of one evaluation, or of one set of evaluations that must agree.
///
/// Variables are asked for in the order they were added; the first that has a string or number under the name wins.
/// Strings and numbers have a text; booleans, objects, lists and null have none. A name is tried as a key with dots
/// in it before it is taken as a path.
pub struct Scope<'a> {
    ambient: &'a Ambient,
    sources: Vec<Source<'a>>,
    request: Option<SignableRequest<'a>>,
    shared: Option<(OnceLock<Timestamp>, OnceLock<Uuid>)>,
}

/// The request that `awsSigV4` signs.
#[derive(Clone, Copy, Debug)]
pub struct SignableRequest<'a> {
    /// Upper-case method.
    pub method: &'a str,
    /// Path as sent, `/` at least.
    pub path: &'a str,
    /// Query as sent, without `?`.
    pub query: &'a str,
    /// Body as sent.
    pub body: &'a [u8],
    /// `content-type`, signed if there is one.
    pub content_type: Option<&'a str>,
}

enum Source<'a> {
    Text(&'a str, Cow<'a, str>),
    Object(&'a str, &'a JsonMap),
    Flat(&'a JsonMap),
    Computed(&'a dyn Lookup),
}

impl<'a> Scope<'a> {
    /// No variables; `${now}` and `${random}` are fresh at each occurrence.
    pub fn new(ambient: &'a Ambient) -> Self {
        Self {
            ambient,
            sources: Vec::with_capacity(8),
            request: None,
            shared: None,
        }
    }

    /// From now on all occurrences of `${now}` agree, and all of `${random}`: for header sets, whose signatures
    /// cover values of other headers.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.shared = Some((OnceLock::new(), OnceLock::new()));
        self
    }

    /// One variable.
    #[must_use]
    pub fn text(mut self, name: &'a str, value: impl Into<Cow<'a, str>>) -> Self {
        self.sources.push(Source::Text(name, value.into()));
        self
    }

    /// One variable, if there is a value.
    #[must_use]
    pub fn text_opt(self, name: &'a str, value: Option<impl Into<Cow<'a, str>>>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// `${name.key}` for every key of `object`.
    #[must_use]
    pub fn object(mut self, name: &'a str, object: &'a JsonMap) -> Self {
        self.sources.push(Source::Object(name, object));
        self
    }

    /// `${connectionConfig.key}` and its other spelling `${connection_config.key}`.
    #[must_use]
    pub fn connection_config(self, config: &'a JsonMap) -> Self {
        self.object("connectionConfig", config)
            .object("connection_config", config)
    }

    /// `${credentials.key}` and plain `${key}`.
    #[must_use]
    pub fn credentials(self, credentials: &'a JsonMap) -> Self {
        self.object("credentials", credentials).flat(credentials)
    }

    /// `${key}` for every key of `object`.
    #[must_use]
    pub fn flat(mut self, object: &'a JsonMap) -> Self {
        self.sources.push(Source::Flat(object));
        self
    }

    /// Variables computed on demand.
    #[must_use]
    pub fn computed(mut self, lookup: &'a dyn Lookup) -> Self {
        self.sources.push(Source::Computed(lookup));
        self
    }

    /// The request that `${awsSigV4(…)}` signs; without it a GET of `/`.
    #[must_use]
    pub fn request(mut self, request: SignableRequest<'a>) -> Self {
        self.request = Some(request);
        self
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let root = name.find('.').unwrap_or(name.len());
        self.value(name, &name[..root], name.get(root + 1..))
    }

    pub(super) fn value(&self, full: &str, root: &str, rest: Option<&str>) -> Option<Cow<'_, str>> {
        let found = self.sources.iter().find_map(|source| match source {
            Source::Text(name, value) => (*name == full).then(|| Cow::Borrowed(value.as_ref())),
            Source::Object(name, object) if *name == root => {
                // Older connections keep their settings under the prefixed name.
                rest.and_then(|rest| in_object(object, rest))
                    .or_else(|| object.get(full).and_then(text_of))
            }
            Source::Object(..) => None,
            Source::Flat(object) => in_object(object, full),
            Source::Computed(lookup) => lookup.lookup(full),
        });
        // A definition may sign `${endpoint}` also where there is none, such as a token request.
        found.or_else(|| (full == "endpoint").then_some(Cow::Borrowed("")))
    }

    pub(super) fn now(&self) -> Timestamp {
        match &self.shared {
            Some((now, _)) => *now.get_or_init(|| self.ambient.now()),
            None => self.ambient.now(),
        }
    }

    pub(super) fn random(&self) -> Uuid {
        match &self.shared {
            Some((_, random)) => *random.get_or_init(|| self.ambient.entropy.uuid()),
            None => self.ambient.entropy.uuid(),
        }
    }

    pub(super) fn signable(&self) -> SignableRequest<'_> {
        self.request.unwrap_or(SignableRequest {
            method: "GET",
            path: "/",
            query: "",
            body: b"",
            content_type: None,
        })
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are secrets: names only.
        let names = self.sources.iter().map(|source| match source {
            Source::Text(name, _) | Source::Object(name, _) => name,
            Source::Flat(_) => "(flat)",
            Source::Computed(_) => "(computed)",
        });
        f.debug_list().entries(names).finish()
    }
}

fn in_object<'v>(object: &'v JsonMap, name: &str) -> Option<Cow<'v, str>> {
    if let Some(value) = object.get(name) {
        return text_of(value);
    }
    let (first, path) = name.split_once('.')?;
    let mut value = object.get(first)?;
    for step in path.split('.') {
        value = match value {
            Value::Object(object) => object.get(step)?,
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    text_of(value)
}

/// The text of a string or number.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(_) => Some(Cow::Owned(patchbay_types::json::canonical(value))),
        _ => None,
    }
}
