//! The route table: what a route accepts and answers is said once, beside its handler, and from it come the
//! routing, the processing order of a request (api-core §1.8) and the OpenAPI document.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, request};
use patchbay_types::environments::Environment;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::authenticate::{Auth, Principal};
use crate::body::{BodyMode, Payload};
use crate::client::Client;
use crate::codes::{self, Code};
use crate::cors::Cors;
use crate::error::{ApiError, Layer};
use crate::matcher::Verb;
use crate::query;
use crate::reply::Reply;
use crate::schema::{Schema, SchemaExt, object};

/// A route being described; `P`, `Q` and `B` are what path parameters, query and body are deserialized into.
#[must_use]
pub struct Route<P = Empty, Q = Empty, B = Empty> {
    spec: Spec,
    types: Types<P, Q, B>,
}

type Types<P, Q, B> = PhantomData<fn() -> (P, Q, B)>;

/// A route with its handler.
#[derive(Clone)]
#[must_use]
pub struct Endpoint {
    pub(crate) spec: Arc<Spec>,
    pub(crate) run: Run,
}

/// Nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Empty {}

/// What a handler gets.
#[derive(Debug)]
pub struct Call<P = Empty, Q = Empty, B = Empty> {
    /// Path parameters.
    pub params: P,
    /// Query parameters.
    pub query: Q,
    /// The body, where the route has a schema for it.
    pub body: B,
    /// The body otherwise.
    pub payload: Payload,
    /// Who calls; none on routes that do not ask.
    pub principal: Option<Principal>,
    /// Where from.
    pub client: Client,
    /// Method, URI, headers and extensions.
    pub parts: request::Parts,
}

/// A request that was matched, read and authenticated.
pub(crate) struct Matched {
    pub(crate) parts: request::Parts,
    pub(crate) params: Map<String, Value>,
    pub(crate) principal: Option<Principal>,
    pub(crate) payload: Payload,
    pub(crate) client: Client,
}

pub(crate) type Run = Arc<dyn Fn(Matched) -> BoxFuture<'static, Result<Reply, ApiError>> + Send + Sync>;

/// How requests of a route count against rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// This many points of the caller's account; unauthenticated callers are not counted.
    Account(u32),
    /// This many points of the caller's address.
    Address(u32),
    /// Not at all.
    Free,
}

pub(crate) struct Spec {
    pub(crate) verb: Verb,
    pub(crate) path: &'static str,
    pub(crate) aliases: Vec<&'static str>,
    pub(crate) summary: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) deprecated: bool,
    pub(crate) auth: Auth,
    pub(crate) scopes: &'static [&'static str],
    pub(crate) rate: Rate,
    pub(crate) cors: Cors,
    pub(crate) body_mode: BodyMode,
    pub(crate) params: Option<Schema>,
    pub(crate) query: Option<Schema>,
    pub(crate) body: Option<Schema>,
    pub(crate) documented_body: Option<Schema>,
    pub(crate) order: Vec<Layer>,
    pub(crate) responses: Vec<Answer>,
    pub(crate) errors: Vec<&'static Code>,
}

/// A success a route may answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content: AnswerContent,
}

pub(crate) enum AnswerContent {
    Empty,
    Json(fn(&mut SchemaGenerator) -> schemars::Schema),
    Other(&'static str),
}

impl Route {
    /// `GET`, which answers `HEAD` too.
    pub fn get(path: &'static str) -> Self {
        Self::new(Verb::Only(Method::GET), path)
    }

    /// `POST`.
    pub fn post(path: &'static str) -> Self {
        Self::new(Verb::Only(Method::POST), path)
    }

    /// `PUT`.
    pub fn put(path: &'static str) -> Self {
        Self::new(Verb::Only(Method::PUT), path)
    }

    /// `PATCH`.
    pub fn patch(path: &'static str) -> Self {
        Self::new(Verb::Only(Method::PATCH), path)
    }

    /// `DELETE`.
    pub fn delete(path: &'static str) -> Self {
        Self::new(Verb::Only(Method::DELETE), path)
    }

    /// Every method but `OPTIONS`, which is always CORS.
    pub fn any(path: &'static str) -> Self {
        Self::new(Verb::Any, path)
    }

    /// `{name}` in `path` takes a segment, `{*name}` all that follows, be it nothing: no parameter, the
    /// handler finds it in the request's own path.
    fn new(verb: Verb, path: &'static str) -> Self {
        Self {
            spec: Spec {
                verb,
                path,
                aliases: Vec::new(),
                summary: "",
                tag: "",
                deprecated: false,
                auth: Auth::ApiKey,
                scopes: &[],
                rate: Rate::Account(1),
                cors: Cors::Public,
                body_mode: BodyMode::Json,
                params: None,
                query: Some(object().into()),
                body: None,
                documented_body: None,
                order: vec![Layer::Query, Layer::Body, Layer::Params],
                responses: Vec::new(),
                errors: Vec::new(),
            },
            types: PhantomData,
        }
    }
}

impl<P, Q, B> Route<P, Q, B> {
    /// Another, deprecated path of the route; parameters keep their names.
    pub fn alias(mut self, path: &'static str) -> Self {
        self.spec.aliases.push(path);
        self
    }

    /// One line for the OpenAPI document.
    pub fn summary(mut self, text: &'static str) -> Self {
        self.spec.summary = text;
        self
    }

    /// The group it is listed in: the resource.
    pub fn tag(mut self, name: &'static str) -> Self {
        self.spec.tag = name;
        self
    }

    /// Works, but new code should not use it.
    pub fn deprecated(mut self) -> Self {
        self.spec.deprecated = true;
        self
    }

    /// Which credentials it takes; an API key unless said otherwise.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.spec.auth = auth;
        self
    }

    /// Scopes of which an API key needs one.
    pub fn scopes(mut self, any_of: &'static [&'static str]) -> Self {
        self.spec.scopes = any_of;
        self
    }

    /// How requests are counted; one point of the account unless said otherwise.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.spec.rate = rate;
        self
    }

    /// Which browsers' pages may read the answers.
    pub fn cors(mut self, cors: Cors) -> Self {
        self.spec.cors = cors;
        self
    }

    /// The path parameters.
    pub fn params<P2>(mut self, schema: impl Into<Schema>) -> Route<P2, Q, B> {
        self.spec.params = Some(schema.into());
        self.retyped()
    }

    /// The query parameters. Without this, any parameter is refused.
    pub fn query<Q2>(mut self, schema: impl Into<Schema>) -> Route<P, Q2, B> {
        self.spec.query = Some(schema.into());
        self.retyped()
    }

    /// Query parameters are not looked at.
    pub fn any_query(mut self) -> Self {
        self.spec.query = None;
        self
    }

    /// The JSON body. Without this, a JSON body is read but not looked at.
    pub fn body<B2>(mut self, schema: impl Into<Schema>) -> Route<P, Q, B2> {
        self.spec.body = Some(schema.into());
        self.retyped()
    }

    /// A body must be absent or an empty object.
    pub fn empty_body(mut self) -> Self {
        self.spec.body = Some(object().default(Map::new()));
        self
    }

    /// How the handler takes the body itself, as [`Call::payload`]; `schema` documents it.
    pub fn payload(mut self, mode: BodyMode, schema: Option<Schema>) -> Self {
        self.spec.body_mode = mode;
        self.spec.documented_body = schema;
        self
    }

    /// In which order the layers are validated; the first with issues is reported alone.
    pub fn order(mut self, layers: &[Layer]) -> Self {
        self.spec.order = layers.to_vec();
        self
    }

    /// Answers `status` with a `T` as JSON.
    pub fn responds<T: JsonSchema>(self, status: u16) -> Self {
        self.answers(status, AnswerContent::Json(SchemaGenerator::subschema_for::<T>))
    }

    /// Answers `status` without a body.
    pub fn responds_empty(self, status: u16) -> Self {
        self.answers(status, AnswerContent::Empty)
    }

    /// Answers `status` with a body of another media type.
    pub fn responds_with(self, status: u16, media_type: &'static str) -> Self {
        self.answers(status, AnswerContent::Other(media_type))
    }

    /// The codes its handler answers; those of validation, authentication and limits are implied.
    pub fn errors(mut self, codes: &[&'static Code]) -> Self {
        self.spec.errors.extend_from_slice(codes);
        self
    }

    /// Completes the route: `handle` is called with a clone of `state` for each request that passed every check.
    pub fn handler<S, F, Fut, R>(self, state: &S, handle: F) -> Endpoint
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(S, Call<P, Q, B>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, ApiError>> + Send + 'static,
        R: Into<Reply>,
        P: DeserializeOwned + 'static,
        Q: DeserializeOwned + 'static,
        B: DeserializeOwned + 'static,
    {
        let spec = Arc::new(self.spec);
        let state = state.clone();
        let checked = Arc::clone(&spec);
        let run: Run = Arc::new(move |matched| match checked.check(matched) {
            Err(error) => Box::pin(std::future::ready(Err(error))),
            Ok(call) => {
                // Not an `async` block around it: that would move the whole answer once more.
                Box::pin(handle(state.clone(), call).map(|answer| answer.map(Into::into)))
            }
        });
        Endpoint { spec, run }
    }

    fn answers(mut self, status: u16, content: AnswerContent) -> Self {
        self.spec.responses.push(Answer { status, content });
        self
    }

    fn retyped<P2, Q2, B2>(self) -> Route<P2, Q2, B2> {
        Route {
            spec: self.spec,
            types: PhantomData,
        }
    }
}

impl Endpoint {
    /// The method, if it answers only one.
    pub fn method(&self) -> Option<&Method> {
        match &self.spec.verb {
            Verb::Only(method) => Some(method),
            Verb::Any => None,
        }
    }

    /// Its path and its aliases.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.spec.path).chain(self.spec.aliases.iter().copied())
    }

    /// Which credentials it takes.
    pub fn auth(&self) -> Auth {
        self.spec.auth
    }

    /// Scopes of which an API key needs one.
    pub fn scopes(&self) -> &'static [&'static str] {
        self.spec.scopes
    }

    /// Every code it may answer, implied ones included.
    pub fn errors(&self) -> Vec<&'static Code> {
        self.spec.all_errors()
    }
}

impl Spec {
    /// Validates the layers in the route's order.
    fn check<P, Q, B>(&self, matched: Matched) -> Result<Call<P, Q, B>, ApiError>
    where
        P: DeserializeOwned,
        Q: DeserializeOwned,
        B: DeserializeOwned,
    {
        let Matched {
            parts,
            params,
            principal,
            mut payload,
            client,
        } = matched;
        let mut path_params = Some(params);
        let (mut params, mut query, mut body) = (None, None, None);
        for layer in &self.order {
            match layer {
                Layer::Query => {
                    let given = || Value::Object(query::parse(parts.uri.query().unwrap_or_default()));
                    query = Some(parsed(*layer, self.query.as_ref(), || Some(given()))?);
                }
                Layer::Body => {
                    body = Some(parsed(*layer, self.body.as_ref(), || {
                        match std::mem::take(&mut payload) {
                            Payload::Json(value) => Some(value),
                            _ => None,
                        }
                    })?);
                }
                Layer::Params => {
                    params = Some(parsed(*layer, self.params.as_ref(), || {
                        path_params.take().map(Value::Object)
                    })?);
                }
                Layer::Headers => {}
            }
        }
        Ok(Call {
            params: known(Layer::Params, params)?,
            query: known(Layer::Query, query)?,
            body: known(Layer::Body, body)?,
            payload,
            principal,
            client,
            parts,
        })
    }

    pub(crate) fn all_errors(&self) -> Vec<&'static Code> {
        let mut all: Vec<&'static Code> = vec![&codes::GENERIC_ERROR_SUPPORT];
        if self.body_mode != BodyMode::Stream {
            all.extend([
                &codes::REQUEST_TOO_LARGE,
                &codes::REQUEST_TIMEOUT,
                &codes::INVALID_BODY,
                &codes::UNSUPPORTED_CONTENT_ENCODING,
            ]);
        }
        if self.body_mode == BodyMode::Json {
            all.push(&codes::INVALID_JSON);
        }
        if crate::guard::is_guarded(self.path) {
            all.push(&codes::INVALID_CONTENT_TYPE);
        }
        if self.query.is_some() {
            all.push(&codes::INVALID_QUERY_PARAMS);
        }
        if self.path.contains('{') {
            all.push(&codes::INVALID_URI_PARAMS);
        }
        if self.auth != Auth::None {
            all.extend_from_slice(self.auth.errors());
            all.push(&codes::SERVICE_UNAVAILABLE);
        }
        if matches!(self.auth, Auth::ApiKey | Auth::AccountKey | Auth::KeyOrSession) {
            all.push(&codes::FORBIDDEN);
        }
        let counted = match self.rate {
            Rate::Account(_) => self.auth != Auth::None,
            Rate::Address(_) => true,
            Rate::Free => false,
        };
        if counted {
            all.push(&codes::TOO_MANY_REQUEST);
        }
        all.extend_from_slice(&self.errors);
        let mut unique: Vec<&'static Code> = Vec::new();
        for code in all {
            if !unique.contains(&code) {
                unique.push(code);
            }
        }
        unique
    }
}

/// What a layer's schema makes of `given`; nothing given to a layer without a schema.
fn parsed<T: DeserializeOwned>(
    layer: Layer,
    schema: Option<&Schema>,
    given: impl FnOnce() -> Option<Value>,
) -> Result<T, ApiError> {
    match schema {
        Some(schema) => schema
            .parse(given())
            .map_err(|error| ApiError::from_parse(layer, error)),
        None => known(layer, None),
    }
}

/// `T` made of nothing, where a route does not look at the layer.
fn known<T: DeserializeOwned>(layer: Layer, value: Option<T>) -> Result<T, ApiError> {
    match value {
        Some(value) => Ok(value),
        None => serde_json::from_value(Value::Object(Map::new()))
            .map_err(|error| ApiError::unexpected(format!("{layer:?} has a type but no schema: {error}"))),
    }
}

impl<P, Q, B> Call<P, Q, B> {
    /// Who calls. Missing only on routes without authentication.
    pub fn principal(&self) -> Result<&Principal, ApiError> {
        self.principal
            .as_ref()
            .ok_or_else(|| ApiError::unexpected("the route does not authenticate"))
    }

    /// The environment the caller acts in. Missing only on routes for account keys.
    pub fn environment(&self) -> Result<&Arc<Environment>, ApiError> {
        self.principal()?
            .environment
            .as_ref()
            .ok_or_else(|| ApiError::unexpected("the route does not ask for an environment"))
    }

    /// The request's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }
}

impl<P, Q, B> fmt::Debug for Route<P, Q, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verb {
            Verb::Only(method) => write!(f, "{method} {}", self.path),
            Verb::Any => write!(f, "ANY {}", self.path),
        }
    }
}
