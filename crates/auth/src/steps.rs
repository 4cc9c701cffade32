//! Carries out a definition's steps after connecting or before deletion (auth-flows §23, catalog-format §7.2, §7.4).
//!
//! A step's request is a call with the connection's credentials, like a proxied one. What the steps change is returned
//! and not stored: a caller may be cut off at any point and begin again, so steps have to bear being repeated.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use patchbay_ambient::Ambient;
use patchbay_catalog::definition::{BodyFormat, Choice, Otherwise, ProviderStep, StepRequest};
use patchbay_catalog::template::{Lookup, Mode, OnUnresolved, Scope, TemplateMap, TemplateValue, UrlValues};
use patchbay_outbound::Client;
use patchbay_types::JsonMap;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

use crate::fields::access_token;
use crate::metadata::lookup;
use crate::oauth2::authorize;
use crate::oauth2::client::claims;
use crate::own_call::{OwnBody, OwnCall, OwnCallError, assemble};
use crate::request::{BuildError, Subject, Variables};

/// What the steps want changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// To be merged over `connection_config`.
    pub config: JsonMap,
    /// Keys to be removed from it.
    pub unset: Vec<String>,
    /// To be merged over the metadata.
    pub metadata: JsonMap,
}

impl Effects {
    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.config.is_empty() && self.unset.is_empty() && self.metadata.is_empty()
    }
}

/// How the steps went. What those before a failure brought is kept.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// What is to be changed.
    pub effects: Effects,
    /// What went wrong, steps that may fail aside.
    pub failure: Option<StepFailure>,
}

/// A step that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("step {step}: {error}")]
pub struct StepFailure {
    /// Which, counted from 1.
    pub step: usize,
    /// Why.
    pub error: StepError,
}

/// Why a step failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StepError {
    /// The provider answered, but not with a yes.
    #[error("the provider answered {0}")]
    Refused(u16),
    /// The provider answered yes, and the body says no.
    #[error("the provider's answer says no")]
    Unexpected,
    /// No answer.
    #[error("the provider could not be asked: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// The request cannot be built from what the connection has.
    #[error("the request cannot be made: {0}")]
    Request(#[from] BuildError),
    /// All of them took too long.
    #[error("there was no time left for it")]
    TooLate,
}

impl StepError {
    /// Whether it may work later: the provider was not there, or busy.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::NoAnswer(error) => !matches!(
                error,
                patchbay_outbound::Error::InvalidUrl(_)
                    | patchbay_outbound::Error::Blocked { .. }
                    | patchbay_outbound::Error::Identity(_)
            ),
            Self::TooLate => true,
            Self::Unexpected | Self::Request(_) => false,
        }
    }
}

impl From<OwnCallError> for StepError {
    fn from(error: OwnCallError) -> Self {
        match error {
            OwnCallError::Build(error) => Self::Request(error),
            OwnCallError::Identity(error) => Self::NoAnswer(error),
        }
    }
}

/// Carries out `steps` in order, within `longest` altogether.
pub async fn carry_out(
    client: &Client,
    steps: &[ProviderStep],
    subject: &Subject<'_>,
    longest: Duration,
    ambient: &Ambient,
) -> Carried {
    let deadline = Instant::now() + longest;
    let mut run = Run {
        client,
        connection: subject,
        ambient,
        config: subject.connection_config.clone(),
        claims: access_token(subject.credentials)
            .and_then(claims)
            .unwrap_or_default(),
        scopes: authorize::scopes(subject.secrets, subject.connection_config).join(" "),
        answers: Vec::new(),
        item: None,
        effects: Effects::default(),
    };
    let mut failure = None;
    for (index, step) in steps.iter().enumerate() {
        let Err(error) = run.step(step, deadline).await else {
            continue;
        };
        run.answers.resize(index + 1, Value::Null);
        let failed = StepFailure {
            step: index + 1,
            error,
        };
        if step.is_optional {
            tracing::debug!(error = %failed, "a step that may fail did");
            continue;
        }
        failure = Some(failed);
        break;
    }
    Carried {
        effects: run.effects,
        failure,
    }
}

struct Run<'a> {
    client: &'a Client,
    connection: &'a Subject<'a>,
    ambient: &'a Ambient,
    /// With what steps have changed so far.
    config: JsonMap,
    claims: JsonMap,
    scopes: String,
    /// One a step; of a step without request, the one before it.
    answers: Vec<Value>,
    item: Option<Value>,
    effects: Effects,
}

impl Run<'_> {
    async fn step(&mut self, step: &ProviderStep, deadline: Instant) -> Result<(), StepError> {
        let skipped = {
            let known = self.known();
            let variables = Variables::of(&known.subject);
            let scope = known.scope(&variables);
            !step.when.iter().all(|condition| condition.holds(&scope))
        };
        let before = self.answers.last().cloned().unwrap_or(Value::Null);
        if skipped {
            self.answers.push(before);
            return Ok(());
        }
        let answer = match &step.request {
            Some(request) => self.ask(request, deadline).await?,
            None => before,
        };
        self.answers.push(answer);
        if let Some(choice) = &step.choose {
            self.item = self.choose(choice);
        }
        self.keep(step);
        Ok(())
    }

    async fn ask(&self, wanted: &StepRequest, deadline: Instant) -> Result<Value, StepError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StepError::TooLate);
        }
        let request = {
            let known = self.known();
            let variables = Variables::of(&known.subject);
            let scope = known.scope(&variables);
            let base = match &wanted.url {
                Some(template) => Some(
                    template
                        .render_url(&scope, UrlValues::Encoded)
                        .map_err(BuildError::from)?,
                ),
                None => None,
            };
            let endpoint = match &wanted.endpoint {
                Some(template) => template
                    .render(&scope, Mode::UrlComponent)
                    .map_err(|unresolved| BuildError::MissingConfig(unresolved.names))?,
                None => String::new(),
            };
            let mut headers = Vec::with_capacity(wanted.headers.len());
            for entry in &wanted.headers {
                let Ok(text) = entry.template.render(&scope, Mode::Text) else {
                    continue;
                };
                let unusable = || BuildError::UnusableHeader(entry.name.clone());
                let name = HeaderName::from_bytes(entry.name.as_bytes()).map_err(|_| unusable())?;
                let mut value = HeaderValue::from_str(text.trim()).map_err(|_| unusable())?;
                value.set_sensitive(entry.template.as_literal().is_none());
                headers.push((name, value));
            }
            let method = Method::from_bytes(wanted.method.as_bytes()).unwrap_or(Method::GET);
            let call = OwnCall {
                method: &method,
                endpoint: &endpoint,
                base: base.as_ref().map(Url::as_str),
                templates: &[],
                headers: &headers,
                body: body(wanted.data.as_ref(), wanted.body_format, &scope),
                timeout: left,
            };
            let mut request = assemble(&known.subject, call, self.ambient)?;
            for entry in &wanted.query {
                if let Ok(text) = entry.template.render(&scope, Mode::Text) {
                    request.url.query_pairs_mut().append_pair(&entry.name, &text);
                }
            }
            request
        };
        let response = self.client.fetch(request).await?;
        let status = response.status.as_u16();
        let says_yes = match &wanted.expect {
            Some(expect) => expect.accepts_status(status),
            None => response.status.is_success(),
        };
        if !says_yes {
            return Err(StepError::Refused(status));
        }
        let answer = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        if let Some(expect) = &wanted.expect {
            let text = String::from_utf8_lossy(&response.body);
            if !expect.accepts_body(&text, |path| at(&answer, path)) {
                return Err(StepError::Unexpected);
            }
        }
        Ok(answer)
    }

    fn choose(&self, choice: &Choice) -> Option<Value> {
        let list = at(self.answers.last()?, &choice.from)?.as_array()?;
        let mut known = self.known();
        for condition in &choice.matching {
            for item in list {
                known.item = Some(item);
                let variables = Variables::of(&known.subject);
                if condition.holds(&known.scope(&variables)) {
                    return Some(item.clone());
                }
            }
        }
        match (choice.otherwise, list.as_slice()) {
            (Otherwise::First, [first, ..]) => Some(first.clone()),
            (Otherwise::Only, [only]) => Some(only.clone()),
            _ => None,
        }
    }

    /// Notes what the step captures, sets and removes.
    fn keep(&mut self, step: &ProviderStep) {
        let mut config = JsonMap::new();
        let mut metadata = JsonMap::new();
        {
            let known = self.known();
            let variables = Variables::of(&known.subject);
            let scope = known.scope(&variables);
            let about = match &step.choose {
                Some(_) => self.item.as_ref(),
                None => self.answers.last(),
            };
            for (key, path) in &step.capture {
                let value = match about.and_then(|about| at(about, path)) {
                    None | Some(Value::Null) => continue,
                    Some(Value::Number(number)) => Value::String(number.to_string()),
                    Some(value) => value.clone(),
                };
                config.insert(key.clone(), value);
            }
            // What was to be chosen and was not is not to be guessed at either.
            if step.choose.is_none() || about.is_some() {
                config.extend(rendered(&step.set, &scope));
                metadata.extend(rendered(&step.metadata, &scope));
            }
        }
        if step.keeps_existing {
            config.retain(|key, _| is_blank(self.config.get(key)));
            let stored = self.connection.metadata;
            metadata.retain(|key, _| is_blank(stored.and_then(|stored| stored.get(key))));
        }
        self.effects.unset.retain(|key| !config.contains_key(key));
        self.config.extend(config.clone());
        self.effects.config.extend(config);
        for key in &step.unset {
            self.config.remove(key);
            self.effects.config.remove(key);
            self.effects.unset.push(key.clone());
        }
        self.effects.metadata.extend(metadata);
    }

    fn known(&self) -> Known<'_> {
        Known {
            subject: Subject {
                connection_config: &self.config,
                ..*self.connection
            },
            ambient: self.ambient,
            claims: &self.claims,
            scopes: &self.scopes,
            answers: &self.answers,
            item: self.item.as_ref(),
        }
    }
}

/// What templates of steps may name.
struct Known<'a> {
    subject: Subject<'a>,
    ambient: &'a Ambient,
    claims: &'a JsonMap,
    scopes: &'a str,
    answers: &'a [Value],
    item: Option<&'a Value>,
}

impl<'a> Known<'a> {
    fn scope<'s>(&'s self, variables: &'s Variables<'s>) -> Scope<'s>
    where
        'a: 's,
    {
        Scope::new(self.ambient)
            .shared()
            .computed(self)
            .text_opt("scopes", Some(self.scopes).filter(|scopes| !scopes.is_empty()))
            .object("claims", self.claims)
            .connection_config(self.subject.connection_config)
            .computed(variables)
    }
}

impl Lookup for Known<'_> {
    /// `answer.…` (the last), `stepN.…`, `item.…` and `metadata.…`. Booleans have a text here, so that conditions can look at them.
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        let (root, path) = name.split_once('.').unwrap_or((name, ""));
        let value = match root {
            "answer" => self.answers.last()?,
            "item" => self.item?,
            "metadata" => {
                let value = lookup(self.subject.metadata?, path)?;
                return text(value);
            }
            _ => {
                let step: usize = root.strip_prefix("step")?.parse().ok()?;
                self.answers.get(step.checked_sub(1)?)?
            }
        };
        text(at(value, path)?)
    }
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        _ => None,
    }
}

/// The value at a dotted path; the whole for an empty one.
pub(crate) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if path.is_empty() {
        return Some(value);
    }
    match value {
        Value::Object(object) => lookup(object, path),
        Value::Array(items) => {
            let (index, rest) = path.split_once('.').unwrap_or((path, ""));
            at(items.get(index.parse::<usize>().ok()?)?, rest)
        }
        _ => None,
    }
}

fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

/// The members that have a value, and one that is not blank.
fn rendered(map: &TemplateMap, scope: &Scope<'_>) -> JsonMap {
    let mut object = map.render(scope, OnUnresolved::Omit).unwrap_or_default();
    object.retain(|_, value| !is_blank(Some(value)));
    object
}

/// A body of templates; leaves without a value are left out.
pub(crate) fn body(data: Option<&TemplateValue>, format: BodyFormat, scope: &Scope<'_>) -> OwnBody {
    let rendered = data.and_then(|data| data.render(scope, OnUnresolved::Omit).ok().flatten());
    match (rendered, format) {
        (None, _) => OwnBody::None,
        (Some(Value::String(text)), _) => OwnBody::Text(text),
        (Some(Value::Object(fields)), BodyFormat::Form) => OwnBody::Form(fields),
        (Some(value), _) => OwnBody::Json(value),
    }
}
