//! Pages: the popup flow of OAuth, the status page, the read-only overview, and the demonstration's guided page.
//!
//! Everything is embedded, asks no other host for anything, and works below a path prefix: pages refer to their
//! assets and to each other by relative addresses. Scripts are files of their own, so that the pages' policy can
//! forbid every other script.

mod assets;
mod callback;
mod connect;
mod connect_ui;
mod demo;
mod home;
mod overview;
mod page;
mod socket;

use std::sync::Arc;

use patchbay_api::rate_limit::RateLimiter;
use patchbay_api::{Auth, Endpoint, Rate, Route, codes};
use patchbay_connections::Context;
use patchbay_proxy::Proxy;
use tokio::sync::Semaphore;

pub use connect_ui::ConnectUiOptions;
pub use demo::{Demo, Observed, ObservedWebhook};

/// What differs between servers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Counts popups against their account. They count themselves, because being refused is an outcome that the
    /// waiting browser must hear of. None: not counted.
    pub limiter: Option<RateLimiter>,
    /// Who else the Connect UI may talk to, and who may embed it.
    pub connect_ui: ConnectUiOptions,
    /// The demonstration; none on every other server.
    pub demo: Option<Arc<Demo>>,
    /// Popup WebSockets this process holds at once; one more is refused.
    pub websocket_limit: usize,
}

/// What the pages work with.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) context: Arc<Context>,
    pub(crate) options: Options,
    /// Places for WebSockets.
    pub(crate) sockets: Arc<Semaphore>,
    /// For the demonstration's calls.
    pub(crate) proxy: Arc<Proxy>,
}

/// The routes of the pages and of the popup flow. They belong beside the protocol's in one service.
pub fn routes(context: &Arc<Context>, options: Options) -> Vec<Endpoint> {
    let site = Site {
        context: Arc::clone(context),
        sockets: Arc::new(Semaphore::new(
            options.websocket_limit.min(Semaphore::MAX_PERMITS),
        )),
        options,
        proxy: Proxy::new(Arc::clone(context), patchbay_proxy::Settings::default()),
    };
    let mut all = vec![
        home::route(&site),
        assets::route(),
        connect::route(&site),
        callback::route(&site),
        callback::app_route(&site),
        overview::route(&site),
    ];
    all.extend(connect_ui::routes(&site));
    let path = context.settings.websockets_path.as_str();
    if path != "/" {
        // The table of routes keeps its paths for the life of the process, and so does this one.
        let path: &'static str = Box::leak(format!("/{}", path.trim_start_matches('/')).into_boxed_str());
        let route = Route::get(path)
            .tag("authorization")
            .summary("WebSocket on which a popup's outcome arrives")
            .auth(Auth::None)
            .rate(Rate::Free)
            .any_query()
            .responds_empty(101)
            .errors(&[&codes::SERVICE_UNAVAILABLE])
            .handler(&site, |site, call| async move {
                socket::upgrade(&site, call.parts).await
            });
        all.push(route);
    }
    if site.options.demo.is_some() {
        all.extend(demo::routes(&site));
    }
    all
}
