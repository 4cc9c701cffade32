//! Style and scripts, embedded, each under a name that holds its digest so that browsers may keep them for ever.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use data_encoding::HEXLOWER;
use http::{HeaderValue, Response, header};
use patchbay_api::schema::{object, string};
use patchbay_api::{ApiError, Auth, Call, Endpoint, Rate, Route, codes};
use serde::Deserialize;

struct Asset {
    name: String,
    kind: &'static str,
    text: &'static str,
}

impl Asset {
    fn new(stem: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let digest = HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref());
        Self {
            name: format!("{stem}-{}.{ending}", &digest[..12]),
            kind,
            text,
        }
    }

    fn script(stem: &str, text: &'static str) -> Self {
        Self::new(stem, "js", "text/javascript; charset=utf-8", text)
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let text = include_str!("../assets/style.css");
    Asset::new("style", "css", "text/css; charset=utf-8", text)
});
static CALLBACK: LazyLock<Asset> =
    LazyLock::new(|| Asset::script("callback", include_str!("../assets/callback.js")));
static DEMO: LazyLock<Asset> = LazyLock::new(|| Asset::script("demo", include_str!("../assets/demo.js")));
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    let text = include_str!("../assets/icon.svg");
    Asset::new("icon", "svg", "image/svg+xml", text)
});

/// Relative addresses of the files, for a page.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The root, ending in a slash.
    pub(crate) root: String,
    pub(crate) style: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) callback: &'static str,
    pub(crate) demo: &'static str,
}

impl Files {
    /// For a page at `path`.
    pub(crate) fn from(path: &str) -> Self {
        Self {
            root: crate::page::root_of(path),
            style: &STYLE.name,
            icon: &ICON.name,
            callback: &CALLBACK.name,
            demo: &DEMO.name,
        }
    }
}

#[derive(Debug, Deserialize)]
struct ByName {
    file: String,
}

pub(crate) fn route() -> Endpoint {
    Route::get("/assets/{file}")
        .tag("pages")
        .summary("Style and scripts of the pages")
        .auth(Auth::None)
        .rate(Rate::Free)
        .params::<ByName>(object().field("file", string()))
        .any_query()
        .responds_with(200, "text/css")
        .errors(&[&codes::NOT_FOUND])
        .handler(&(), |(), call: Call<ByName>| async move {
            let all = [&*STYLE, &*CALLBACK, &*DEMO, &*ICON];
            let Some(asset) = all.into_iter().find(|asset| asset.name == call.params.file) else {
                return Err(ApiError::new(&codes::NOT_FOUND).message("There is no such file"));
            };
            let mut response = Response::new(Body::from(asset.text));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
            let lasting = HeaderValue::from_static("public, max-age=31536000, immutable");
            headers.insert(header::CACHE_CONTROL, lasting);
            Ok(response)
        })
}
