//! The whole server as a library function: tests and embedders start it in-process, `main` adds signals.
//!
//! Order of a start: data directory and its lock, listener (so that a taken port is found before anything is
//! changed), store, catalogue, domain, what must exist, background work, requests. Order of a stop: unready, no new
//! connections, requests in flight, background work, store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Response, header};
use patchbay_ambient::{Ambient, Shutdown};
use patchbay_api::authenticate::Auth;
use patchbay_api::authenticator::ContextAuthenticator;
use patchbay_api::body::BodyLimits;
use patchbay_api::client::TrustedProxies;
use patchbay_api::cors::CorsHeaders;
use patchbay_api::openapi::Info;
use patchbay_api::rate_limit::{Counters, MemoryCounters, RateLimiter, RateLimits, SharedCounters};
use patchbay_api::route::{Call, Endpoint, Rate, Route};
use patchbay_api::server::{ServerOptions, serve};
use patchbay_api::status::Readiness;
use patchbay_api::{Service, ServiceOptions};
use patchbay_connections::{Context, maintenance, provider_overrides};
use patchbay_store::db::Dialect;
use patchbay_store::leases;
use patchbay_web::Demo;
use patchbay_webhooks::{Deliverer, Exporter};
use url::Url;

use crate::config::Config;
use crate::datadir::{KeySource, ServeLock};
use crate::house::{self, Clients};
use crate::provision::{self, Provisions};
use crate::server;
use crate::telemetry::http::Observed;
use crate::telemetry::metrics;

/// Which parts of the server a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Requests and background work.
    All,
    /// Background work only: deliveries and maintenance.
    Worker,
}

/// A server at work.
#[derive(Debug)]
pub struct Running {
    /// The bound address; none for a worker.
    pub address: Option<SocketAddr>,
    /// Where the world reaches it.
    pub public_url: Url,
    /// The domain, for embedders and tests.
    pub context: Arc<Context>,
    /// What the start found and made.
    pub provisions: Provisions,
    /// Where the encryption key came from.
    pub key_source: KeySource,
    ready: Arc<AtomicBool>,
    config: Config,
    /// Held until the process ends: no second server on the same SQLite file.
    _lock: Option<ServeLock>,
}

/// Starts a server.
///
/// # Errors
/// The data directory, the port, the database, the key or the configuration; in words for the operator.
pub async fn start(
    config: Config,
    ambient: Ambient,
    role: Role,
    exports_traces: bool,
) -> anyhow::Result<Running> {
    start_with(config, ambient, role, exports_traces, async |_| Ok(None)).await
}

/// As [`start`]; `demo` may add the demonstration to the pages once the domain is there.
///
/// # Errors
/// See [`start`].
pub async fn start_with(
    config: Config,
    ambient: Ambient,
    role: Role,
    exports_traces: bool,
    demo: impl AsyncFnOnce(&Arc<Context>) -> anyhow::Result<Option<Arc<Demo>>>,
) -> anyhow::Result<Running> {
    patchbay_outbound::ensure_crypto_provider();
    crate::datadir::prepare(&config.storage)?;
    let lock = ServeLock::take(&config.storage)?;
    let listener = match role {
        Role::All => Some(server::bind(&config.server.listen).await?),
        Role::Worker => None,
    };
    let address = listener
        .as_ref()
        .map(tokio::net::TcpListener::local_addr)
        .transpose()?;
    let public_url = house::public_url(
        &config,
        address.map_or(config.server.listen.port, |bound| bound.port()),
    );
    let (store, key_source) = house::open_or_make(&config, &ambient).await?;
    if lock.is_some() {
        store
            .write(|tx| Box::pin(async move { leases::end_all(tx).await }))
            .await?;
    }
    let trust = house::trust(&config)?;
    let clients = Clients::new(&config, &trust, &ambient);
    let catalogue = house::catalogue(&config);
    catalogue.watch(&ambient);
    let context = house::domain(&config, store, catalogue, &clients, &ambient, &public_url);
    provider_overrides::start(&context).await?;
    let provisions = provision::provision(&context, &config.environments).await?;
    maintenance::start(&context);
    let settings = patchbay_webhooks::Settings {
        timeout: config.webhooks.timeout,
        schedule: config.webhooks.retries.clone(),
        ..patchbay_webhooks::Settings::default()
    };
    Exporter::new(context.clone(), clients.webhooks.clone()).start();
    Deliverer::new(context.clone(), clients.webhooks, settings).start();
    metrics::recorder();
    metrics::keep_up(&ambient);
    let ready = Arc::new(AtomicBool::new(true));
    if let Some(listener) = listener {
        let demo = demo(&context).await?;
        let service = service(&config, &context, &ready, demo)?;
        let handler = Observed {
            handler: service,
            clock: ambient.clock.clone(),
            exports_traces,
        };
        let options = ServerOptions {
            drain: config.server.shutdown_grace,
            ..ServerOptions::default()
        };
        ambient
            .tasks
            .spawn(serve(listener, handler, ambient.clone(), options));
    }
    Ok(Running {
        address,
        public_url,
        context,
        provisions,
        key_source,
        ready,
        config,
        _lock: lock,
    })
}

impl Running {
    /// Stops in order and within the configured grace: answers 503 on `/ready` first, so that balancers look away,
    /// then takes no new work, then finishes what is under way.
    pub async fn stop(self) -> Shutdown {
        self.ready.store(false, Ordering::Release);
        let ambient = &self.context.ambient;
        if !self.config.server.shutdown_delay.is_zero() {
            tokio::time::sleep(self.config.server.shutdown_delay).await;
        }
        let ended = ambient.tasks.shut_down(self.config.server.shutdown_grace).await;
        self.context.store.close().await;
        ended
    }
}

/// Everything that answers requests.
///
/// # Errors
/// Two routes claim one path: a mistake of ours, found at start.
pub fn service(
    config: &Config,
    context: &Arc<Context>,
    ready: &Arc<AtomicBool>,
    demo: Option<Arc<Demo>>,
) -> anyhow::Result<Service> {
    let readiness = {
        let (context, ready) = (context.clone(), ready.clone());
        Readiness::new(move || {
            let (context, ready) = (context.clone(), ready.clone());
            async move {
                ready.load(Ordering::Acquire)
                    && !context.ambient.tasks.is_stopping()
                    && context.store.ping().await.is_ok()
            }
        })
    };
    let mut endpoints = patchbay_api::routes::routes(context, &house::proxy(config, context), &readiness);
    let limiter = RateLimiter::new(
        RateLimits::uniform(config.server.rate_limit_per_min),
        counters(context),
        context.ambient.clock.clone(),
    );
    endpoints.extend(patchbay_web::routes(
        context,
        patchbay_web::Options {
            limiter: Some(limiter.clone()),
            connect_ui: patchbay_web::ConnectUiOptions {
                api_urls: config.server.connect_ui_api_urls.clone(),
                frame_ancestors: config.server.connect_ui_frame_ancestors.clone(),
            },
            demo,
            websocket_limit: usize::try_from(config.server.websocket_limit).unwrap_or(usize::MAX),
        },
    ));
    endpoints.push(metrics_route());
    let public = &context.settings.public_url;
    let options = ServiceOptions {
        ambient: context.ambient.clone(),
        authenticator: Arc::new(ContextAuthenticator::new(context.clone())),
        limiter,
        body: BodyLimits {
            bytes: usize::try_from(config.server.body_limit).unwrap_or(usize::MAX),
            ..BodyLimits::default()
        },
        cors: CorsHeaders::new(&context.settings.connect_url.origin().ascii_serialization()),
        proxies: TrustedProxies::new(config.server.trusted_proxies.clone()),
        fallback: None,
        info: Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server_url: public.to_string(),
        },
    };
    Ok(Service::new(endpoints, options)?)
}

/// A server on SQLite is alone; those on Postgres may be many.
fn counters(context: &Arc<Context>) -> Arc<dyn Counters> {
    match context.store.dialect() {
        Dialect::Sqlite => Arc::new(MemoryCounters::default()),
        Dialect::Postgres => Arc::new(SharedCounters::new(context.clone())),
    }
}

fn metrics_route() -> Endpoint {
    Route::get("/metrics")
        .tag("status")
        .summary("Metrics in the Prometheus text format")
        .auth(Auth::None)
        .rate(Rate::Free)
        .any_query()
        .responds_with(200, "text/plain")
        .handler(&(), async |(), _: Call| {
            let mut response = Response::new(axum::body::Body::from(metrics::render()));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(metrics::CONTENT_TYPE),
            );
            Ok(response)
        })
}
