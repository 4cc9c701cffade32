//! `GET /`: what is running, for people; a WebSocket, for browsers that wait for a popup; in the demonstration, its
//! guided page.

use askama::Template;
use axum::body::Body;
use http::{Response, StatusCode};
use patchbay_api::cors::Cors;
use patchbay_api::{ApiError, Auth, Call, Endpoint, Rate, Route, codes};

use crate::assets::Files;
use crate::page::html;
use crate::{Site, demo, socket};

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    files: Files,
    version: &'static str,
    base: &'a str,
}

pub(crate) fn route(site: &Site) -> Endpoint {
    Route::get("/")
        .tag("pages")
        .summary("What is running; or, upgraded, the WebSocket on which a popup's outcome arrives")
        .auth(Auth::None)
        .cors(Cors::SameOrigin)
        .rate(Rate::Free)
        .any_query()
        .responds_with(200, "text/html")
        .responds_empty(101)
        .errors(&[&codes::FORBIDDEN, &codes::SERVICE_UNAVAILABLE])
        .handler(site, home)
}

async fn home(site: Site, call: Call) -> Result<Response<Body>, ApiError> {
    if socket::wants_upgrade(call.headers()) {
        return match site.context.settings.websockets_path.as_str() {
            "/" => socket::upgrade(&site, call.parts).await,
            _ => Ok(socket::refuse()),
        };
    }
    if let Some(running) = &site.options.demo {
        return demo::page(&site, running, &call.parts);
    }
    let page = HomePage {
        files: Files::from(call.parts.uri.path()),
        version: env!("CARGO_PKG_VERSION"),
        base: site.context.settings.public_url.as_str().trim_end_matches('/'),
    };
    html(StatusCode::OK, &page)
}
