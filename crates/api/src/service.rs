//! One request, from its head to its response, in the order that decides which error wins (api-core §1.8):
//! preflight, route, content type, body, authentication, rate limit, scope, handler.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use patchbay_ambient::Ambient;
use serde_json::{Map, Value, json};

use crate::authenticate::{Auth, Authenticator, Principal};
use crate::body::{self, BodyLimits};
use crate::client::TrustedProxies;
use crate::codes;
use crate::cors::{Cors, CorsHeaders};
use crate::error::ApiError;
use crate::guard;
use crate::matcher::{DuplicateRoute, Found, Matcher, decode_segment, parameter_names};
use crate::openapi::{self, Info};
use crate::rate_limit::{Bucket, RateLimiter, Standing};
use crate::reply::{MayBeFramed, Reply};
use crate::route::{Endpoint, Matched, Rate, Route, Spec};
use crate::schema::Issue;

/// Everything that answers requests. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    matcher: Matcher<Target>,
    endpoints: Vec<Endpoint>,
    document: Value,
    options: ServiceOptions,
}

struct Target {
    endpoint: Endpoint,
    errors: Vec<&'static codes::Code>,
    names: Vec<&'static str>,
    metrics: OnceLock<Metrics>,
}

struct Metrics {
    by_class: [metrics::Counter; 6],
    seconds: metrics::Histogram,
}

/// Headers that every response receives, at most, and the transport's own.
const ADDED_HEADERS: usize = 16;

/// Answers a page to a browser for paths no route has.
pub type Fallback = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// What the service needs from the rest of the house.
pub struct ServiceOptions {
    /// Clock and randomness.
    pub ambient: Ambient,
    /// Who knows the keys.
    pub authenticator: Arc<dyn Authenticator>,
    /// Rate limits.
    pub limiter: RateLimiter,
    /// Bounds of request bodies.
    pub body: BodyLimits,
    /// CORS.
    pub cors: CorsHeaders,
    /// Whose forwarded headers count.
    pub proxies: TrustedProxies,
    /// Pages for browsers.
    pub fallback: Option<Fallback>,
    /// Head of the OpenAPI document.
    pub info: Info,
}

impl Service {
    /// Builds the router of `endpoints`; `/openapi.json` is added.
    pub fn new(mut endpoints: Vec<Endpoint>, options: ServiceOptions) -> Result<Self, DuplicateRoute> {
        let text: Arc<OnceLock<String>> = Arc::default();
        endpoints.push(document_route(&text));
        let document = openapi::document(&endpoints, &options.info);
        let _ = text.set(document.to_string());

        let mut matcher = Matcher::new();
        for endpoint in &endpoints {
            for path in endpoint.paths() {
                // What a rest holds is the handler's own affair, escapes that are no UTF-8 included.
                let named = path.split("{*").next().unwrap_or_default();
                let target = Target {
                    endpoint: endpoint.clone(),
                    errors: endpoint.errors(),
                    names: parameter_names(named).collect(),
                    metrics: OnceLock::new(),
                };
                matcher.insert(endpoint.spec.verb.clone(), path, target)?;
            }
        }
        Ok(Self(Arc::new(Inner {
            matcher,
            endpoints,
            document,
            options,
        })))
    }

    /// The routes.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    /// The OpenAPI document.
    pub fn document(&self) -> &Value {
        &self.0.document
    }

    /// Answers one request that arrived from `peer`.
    pub async fn handle(&self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        let inner = &*self.0;
        let method = request.method().clone();
        let began = inner.options.ambient.now();
        let path = request.uri().path();
        let found = inner
            .matcher
            .find(intended_method(&request).as_ref().unwrap_or(&method), path);
        let cors = match &found {
            Found::Route(target, _) => target.endpoint.spec.cors,
            Found::OtherMethods(_) | Found::Nothing => Cors::Public,
        };
        if method == Method::OPTIONS {
            let mut response = inner.options.cors.preflight(cors);
            guard::secure(response.headers_mut(), false);
            return response;
        }
        let (mut response, target) = match found {
            Found::Route(target, captures) => match decoded(target, &captures) {
                Ok(params) => (inner.run(target, params, request, peer).await, Some(target)),
                Err(error) => (inner.refuse(error), Some(target)),
            },
            Found::OtherMethods(allow) => (inner.other_method(&request, &allow), None),
            Found::Nothing => (inner.nothing(request).await, None),
        };
        // Once for all that is added below.
        response.headers_mut().reserve(ADDED_HEADERS);
        inner.options.cors.apply(cors, response.headers_mut());
        let may_be_framed = response.extensions().get::<MayBeFramed>().is_some();
        guard::secure(response.headers_mut(), may_be_framed);
        if method == Method::HEAD {
            behead(&mut response);
        }
        match target {
            Some(target) => {
                let took = inner.options.ambient.now().duration_since(began);
                target.measure(response.status(), took.as_secs_f64());
            }
            None => measure_unmatched(&method, response.status()),
        }
        response
    }
}

impl Inner {
    /// A matched request; a panic of its handler is an unexpected error of this request alone.
    async fn run(
        &self,
        target: &Target,
        params: Map<String, Value>,
        request: Request<Body>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let mut standing = None;
        let outcome = AssertUnwindSafe(self.process(target, params, request, peer, &mut standing));
        let mut response = match outcome.catch_unwind().await {
            Ok(response) => response,
            Err(_) => self.refuse(ApiError::unexpected("the handler panicked")),
        };
        if let Some(standing) = standing {
            standing.apply(response.headers_mut());
        }
        response
    }

    async fn process(
        &self,
        target: &Target,
        params: Map<String, Value>,
        request: Request<Body>,
        peer: SocketAddr,
        standing: &mut Option<Standing>,
    ) -> Response<Body> {
        let spec = &*target.endpoint.spec;
        let method = request.method().clone();
        let conditional = conditional_headers(request.headers());
        let answered = match self.admit(spec, params, request, peer, standing).await {
            Ok(matched) => (target.endpoint.run)(matched).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(reply) => reply.into_response(&method, &conditional),
            Err(error) => {
                debug_assert!(
                    target.errors.contains(&error.code()),
                    "{spec:?} does not declare {}",
                    error.code().name
                );
                self.refuse(error)
            }
        }
    }

    /// All that happens before the handler.
    async fn admit(
        &self,
        spec: &Spec,
        params: Map<String, Value>,
        request: Request<Body>,
        peer: SocketAddr,
        standing: &mut Option<Standing>,
    ) -> Result<Matched, ApiError> {
        let options = &self.options;
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        guard::content_type(path, &parts.headers)?;
        let payload = body::read(spec.body_mode, &parts.headers, body, options.body).await?;
        let principal = spec
            .auth
            .authenticate(&*options.authenticator, &parts.headers, parts.uri.query())
            .await?;
        let client = options.proxies.client(peer, &parts.headers);

        let counted = match (spec.rate, &principal) {
            (Rate::Account(cost), Some(principal)) => {
                principal.bucket(&parts.headers).map(|bucket| (bucket, cost))
            }
            (Rate::Address(cost), _) => Some((Bucket::address(client.ip), cost)),
            (Rate::Account(_) | Rate::Free, _) => None,
        };
        if let Some((bucket, cost)) = counted {
            match options.limiter.check(bucket, cost, &parts.method, path).await {
                Ok(now) => *standing = now,
                Err((now, error)) => {
                    *standing = Some(now);
                    return Err(error);
                }
            }
        }
        if let Some(principal) = &principal {
            permit(spec, principal)?;
        }
        Ok(Matched {
            parts,
            params,
            principal,
            payload,
            client,
        })
    }

    fn refuse(&self, error: ApiError) -> Response<Body> {
        error.into_response(&*self.options.ambient.entropy)
    }

    fn other_method(&self, request: &Request<Body>, allow: &str) -> Response<Body> {
        if let Err(error) = guard::content_type(request.uri().path(), request.headers()) {
            return self.refuse(error);
        }
        let allow = HeaderValue::try_from(allow).unwrap_or(HeaderValue::from_static("OPTIONS"));
        let error = ApiError::new(&codes::METHOD_NOT_ALLOWED)
            .message(format!("This path cannot be called with {}", request.method()))
            .header(header::ALLOW, allow);
        self.refuse(error)
    }

    async fn nothing(&self, request: Request<Body>) -> Response<Body> {
        if let Err(error) = guard::content_type(request.uri().path(), request.headers()) {
            return self.refuse(error);
        }
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        if let Some(fallback) = self
            .options
            .fallback
            .as_ref()
            .filter(|_| read && wants_page(request.headers()))
        {
            return fallback(request).await;
        }
        self.refuse(ApiError::new(&codes::NOT_FOUND).message("There is nothing at this path"))
    }
}

/// The method a preflight asks permission for.
fn intended_method(request: &Request<Body>) -> Option<Method> {
    if *request.method() != Method::OPTIONS {
        return None;
    }
    let named = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(named.as_bytes()).ok()
}

/// Scope and environment (403). A session's routes are the ones it may call.
fn permit(spec: &Spec, principal: &Principal) -> Result<(), ApiError> {
    let forbidden = |message: String| Err(ApiError::new(&codes::FORBIDDEN).message(message));
    if !principal.may(spec.scopes) {
        return forbidden(match spec.scopes {
            [only] => format!("Insufficient scope. Required: {only}"),
            several => format!("Insufficient scope. Required one of: {}", several.join(", ")),
        });
    }
    if spec.auth != Auth::AccountKey && principal.environment.is_none() {
        return forbidden("The key belongs to no environment".to_owned());
    }
    Ok(())
}

fn decoded(target: &Target, captures: &[&str]) -> Result<Map<String, Value>, ApiError> {
    let mut params = Map::with_capacity(captures.len());
    for (name, segment) in target.names.iter().zip(captures) {
        let Some(value) = decode_segment(segment) else {
            let issue = Issue::custom(&[name], "Malformed percent-encoding");
            return Err(ApiError::invalid(crate::error::Layer::Params, vec![issue]));
        };
        params.insert((*name).to_owned(), Value::String(value));
    }
    Ok(params)
}

/// The request headers a response may depend on after the request itself is consumed.
fn conditional_headers(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in [header::IF_NONE_MATCH, header::CACHE_CONTROL] {
        if let Some(value) = headers.get(&name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("text/html"))
}

/// A response to `HEAD` says how long its body would be and has none.
fn behead(response: &mut Response<Body>) {
    if let (Some(length), false) = (
        response.body().size_hint().exact().filter(|length| *length > 0),
        response.headers().contains_key(header::CONTENT_LENGTH),
    ) {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = Body::empty();
}

impl Target {
    fn measure(&self, status: StatusCode, seconds: f64) {
        let metrics = self.metrics.get_or_init(|| self.register());
        metrics.by_class[usize::from(status.as_u16() / 100).min(5)].increment(1);
        metrics.seconds.record(seconds);
    }

    fn register(&self) -> Metrics {
        let spec = &self.endpoint.spec;
        let method = self.endpoint.method().map_or("ANY", Method::as_str).to_owned();
        let class = |class: usize| {
            metrics::counter!(
                "patchbay_http_requests_total",
                "method" => method.clone(), "route" => spec.path, "status" => format!("{class}xx")
            )
        };
        Metrics {
            by_class: std::array::from_fn(class),
            seconds: metrics::histogram!(
                "patchbay_http_request_seconds",
                "method" => method.clone(), "route" => spec.path
            ),
        }
    }
}

/// Counts a request for which there is no route, under labels that callers cannot multiply.
fn measure_unmatched(method: &Method, status: StatusCode) {
    let method = match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let class = format!("{}xx", status.as_u16() / 100);
    metrics::counter!("patchbay_http_requests_total", "method" => method, "route" => "unmatched", "status" => class)
        .increment(1);
}

fn document_route(text: &Arc<OnceLock<String>>) -> Endpoint {
    /// The document is an object; what is in it is the OpenAPI specification's business.
    struct Document;

    impl schemars::JsonSchema for Document {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "OpenApiDocument".into()
        }

        fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({"type": "object", "required": ["openapi", "info", "paths"]})
        }
    }

    Route::get("/openapi.json")
        .summary("This document")
        .tag("meta")
        .auth(Auth::None)
        .any_query()
        .responds::<Document>(200)
        .handler(text, |text, _call| async move {
            let text = text.get().cloned().unwrap_or_else(|| json!({}).to_string());
            Ok(Reply::json_text(StatusCode::OK, text))
        })
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.0.endpoints).finish()
    }
}

impl std::fmt::Debug for ServiceOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceOptions")
            .field("limiter", &self.limiter)
            .field("body", &self.body)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
