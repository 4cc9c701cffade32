//! `post_connection` and `revoke`, Patchbay's extension: what is asked of a provider after a connection was made, or
//! before it is deleted, and where the answers go. What the reference format leaves to named scripts.

use super::BodyFormat;
use super::condition::{Condition, conditions};
use super::expect::{Expect, expect};
use super::reader::{Reader, Step, Target};
use crate::finding::Severity;
use crate::template::{NamedTemplate, Template, TemplateMap, TemplateValue};

/// One step. Its parts are carried out in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderStep {
    /// All must hold, or the step is passed over.
    pub when: Vec<Condition>,
    /// A request with the connection's credentials; without one the answer before stays at hand.
    pub request: Option<StepRequest>,
    /// Which element of a list in the answer `${item.…}` and `capture` are about.
    pub choose: Option<Choice>,
    /// Keys of `connection_config` and the dotted path of their value in the chosen element, or in the answer. Strings
    /// and booleans are kept as they are, numbers as text, lists and objects whole; what is absent changes nothing.
    pub capture: Vec<(String, String)>,
    /// Keys of `connection_config` and templates of their values; one without a value changes nothing.
    pub set: TemplateMap,
    /// Keys of the metadata, likewise.
    pub metadata: TemplateMap,
    /// Keys that are removed from `connection_config`.
    pub unset: Vec<String>,
    /// Keys that have a value already keep it.
    pub keeps_existing: bool,
    /// The steps after it run although this one failed.
    pub is_optional: bool,
}

/// `request`.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRequest {
    /// Upper-case method; default GET.
    pub method: String,
    /// Whole address.
    pub url: Option<Template>,
    /// Or a path below `proxy.base_url`.
    pub endpoint: Option<Template>,
    /// Parameters of the URL; those without a value are left out.
    pub query: Vec<NamedTemplate>,
    /// Headers over those of `proxy.headers`; those without a value are left out.
    pub headers: Vec<NamedTemplate>,
    /// Body: a mapping in the format below, or a text as it is.
    pub data: Option<TemplateValue>,
    /// `json` (default) or `form`.
    pub body_format: BodyFormat,
    /// What the answer must say, beyond 2xx.
    pub expect: Option<Expect>,
}

/// `choose`.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Dotted path of the list; empty for the answer itself.
    pub from: String,
    /// Tried one after the other: the first element for which one holds is chosen.
    pub matching: Vec<Condition>,
    /// When none does, or none is given.
    pub otherwise: Otherwise,
}

/// `choose.otherwise`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// Nothing is chosen, and nothing captured.
    #[default]
    Nothing,
    /// The first element.
    First,
    /// The element, if it is the only one.
    Only,
}

pub(super) fn read(reader: &mut Reader<'_>, key: &'static str) -> Vec<ProviderStep> {
    reader.sections(key, step)
}

fn step(reader: &mut Reader<'_>) -> ProviderStep {
    let fallback = Template::parse_with_fallback;
    let step = ProviderStep {
        when: conditions(reader, "when"),
        request: reader.section("request", request).flatten(),
        choose: reader.section("choose", choice),
        capture: reader.pairs("capture"),
        set: reader.tree("set", fallback),
        metadata: reader.tree("metadata", fallback),
        unset: reader.texts("unset"),
        keeps_existing: reader.flag("keep_existing"),
        is_optional: reader.flag("optional"),
    };
    let idle = step.request.is_none()
        && step.capture.is_empty()
        && step.set.is_empty()
        && step.metadata.is_empty()
        && step.unset.is_empty();
    if idle && !reader.has("request") {
        let path = reader.at([]);
        let message = "a step does something: `request`, `capture`, `set`, `metadata` or `unset`".to_owned();
        reader.note(Severity::Error, "step", path, Target::Key, message, None);
    }
    step
}

fn request(reader: &mut Reader<'_>) -> Option<StepRequest> {
    let fallback = Template::parse_with_fallback;
    let (url, endpoint) = (
        reader.template("url", fallback),
        reader.template("endpoint", fallback),
    );
    let body_format = super::body_format(reader);
    if matches!(body_format, Some(BodyFormat::Query | BodyFormat::Xml)) {
        let path = reader.key("body_format");
        reader.error(
            "invalid-value",
            path,
            "a step's body is `json` or `form`".to_owned(),
        );
    }
    let request = StepRequest {
        method: super::method(reader, "method", "GET"),
        query: reader.named("query", fallback),
        headers: reader.headers("headers", fallback),
        data: reader.value("data", fallback),
        body_format: body_format.unwrap_or(BodyFormat::Json),
        expect: reader.section("expect", expect),
        url,
        endpoint,
    };
    if request.url.is_some() == request.endpoint.is_some() {
        let path = reader.at([]);
        let message = "a request has either a whole `url` or an `endpoint` below `proxy.base_url`".to_owned();
        reader.note(Severity::Error, "step", path, Target::Key, message, None);
        return None;
    }
    Some(request)
}

fn choice(reader: &mut Reader<'_>) -> Choice {
    Choice {
        from: reader.text("from").unwrap_or_default(),
        matching: conditions(reader, "where"),
        otherwise: reader
            .choice(
                "otherwise",
                &[
                    ("nothing", Otherwise::Nothing),
                    ("first", Otherwise::First),
                    ("only", Otherwise::Only),
                ],
            )
            .unwrap_or_default(),
    }
}

/// The keys of `connection_config` that steps fill.
pub(crate) fn filled(steps: &[ProviderStep]) -> impl Iterator<Item = &str> {
    steps.iter().flat_map(|step| {
        let captured = step.capture.iter().map(|(key, _)| key.as_str());
        captured.chain(step.set.iter().map(|(key, _)| key))
    })
}

/// The path of the step at `index` of `key`.
pub(crate) fn path_of(key: &str, index: usize) -> Vec<Step> {
    vec![Step::Key(key.to_owned()), Step::Index(index)]
}
