//! The Connect UI at `/connect-ui/`: an end user's way to connect an account, in the product's iframe or by a link
//! (connect-ui §8, §17).
//!
//! The document holds everything a page needs before it may ask anything: the address of the API, the texts of one
//! language, the theme. It knows nobody: session, branding and integrations are read by the page's script with the
//! session's token. Scripts and style are one folder named by the digest of all of them, so that modules import each
//! other by plain names and browsers keep them for ever.

mod languages;

use std::fmt::Write as _;
use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{Context as Digest, SHA256};
use axum::body::Body;
use data_encoding::HEXLOWER;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use patchbay_api::cors::Cors;
use patchbay_api::reply::MayBeFramed;
use patchbay_api::schema::{object, patterns, string};
use patchbay_api::{ApiError, Auth, Call, Endpoint, Rate, Route, codes, query};
use patchbay_connections::Context;
use patchbay_types::auth_attempts::{ConnectUiPage, ReturnToPage};
use patchbay_types::{JsonMap, Secret};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::Site;
use crate::page::{html_with, json_block, unkept};

use languages::Language;

/// Who else may be talked to, and who may show the page in a frame.
#[derive(Clone, Debug, Default)]
pub struct ConnectUiOptions {
    /// API base URLs that `apiURL` may name besides the server's own.
    pub api_urls: Vec<Url>,
    /// Sources of `frame-ancestors`; empty lets every page embed it.
    pub frame_ancestors: Vec<String>,
}

/// The scripts, entry first, and the style.
const FILES: &[(&str, &str)] = &[
    ("main.js", include_str!("../assets/connect-ui/main.js")),
    ("api.js", include_str!("../assets/connect-ui/api.js")),
    ("attempt.js", include_str!("../assets/connect-ui/attempt.js")),
    ("dom.js", include_str!("../assets/connect-ui/dom.js")),
    ("form.js", include_str!("../assets/connect-ui/form.js")),
    ("host.js", include_str!("../assets/connect-ui/host.js")),
    ("screens.js", include_str!("../assets/connect-ui/screens.js")),
    ("texts.js", include_str!("../assets/connect-ui/texts.js")),
    ("theme.js", include_str!("../assets/connect-ui/theme.js")),
    ("values.js", include_str!("../assets/connect-ui/values.js")),
    ("style.css", include_str!("../assets/connect-ui/style.css")),
    ("icon.svg", include_str!("../assets/icon.svg")),
];

/// The digest of all files: the name of their folder.
static FOLDER: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Digest::new(&SHA256);
    for (name, text) in FILES {
        digest.update(name.as_bytes());
        digest.update(text.as_bytes());
    }
    HEXLOWER.encode(&digest.finish().as_ref()[..6])
});

pub(crate) fn routes(site: &Site) -> Vec<Endpoint> {
    vec![
        document_route(site, "/connect-ui", "The Connect UI"),
        // What older pages call their states; whoever reloads one starts again.
        document_route(
            site,
            "/connect-ui/{page}",
            "The Connect UI, under the names of its states",
        ),
        Route::get("/connect-ui/assets/{folder}/{file}")
            .tag("pages")
            .summary("Scripts and style of the Connect UI")
            .auth(Auth::None)
            .rate(Rate::Free)
            .params::<ByName>(object().field("folder", string()).field("file", string()))
            .any_query()
            .responds_with(200, "text/javascript")
            .errors(&[&codes::NOT_FOUND])
            .handler(&(), |(), call: Call<ByName>| async move { asset(&call.params) }),
    ]
}

fn document_route(site: &Site, path: &'static str, summary: &'static str) -> Endpoint {
    Route::get(path)
        .tag("pages")
        .summary(summary)
        .auth(Auth::None)
        .cors(Cors::SameOrigin)
        .rate(Rate::Free)
        .any_query()
        .responds_with(200, "text/html")
        .responds_empty(308)
        .handler(site, document)
}

#[derive(Debug, Deserialize)]
struct ByName {
    folder: String,
    file: String,
}

fn asset(wanted: &ByName) -> Result<Response<Body>, ApiError> {
    let found = FILES.iter().find(|(name, _)| *name == wanted.file);
    let Some((name, text)) = found.filter(|_| wanted.folder == *FOLDER) else {
        return Err(ApiError::new(&codes::NOT_FOUND).message("There is no such file"));
    };
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    let mut response = Response::new(Body::from(*text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let lasting = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, lasting);
    Ok(response)
}

#[derive(Template)]
#[template(path = "connect-ui.html")]
struct Document<'a> {
    /// Address of the folder, ending in a slash.
    folder: String,
    scripts: Vec<&'static str>,
    language: &'static Language,
    theme: &'a str,
    text: Words<'a>,
    boot: String,
}

/// The texts that stand in the document itself.
struct Words<'a> {
    title: &'a str,
    loading: &'a str,
    noscript: &'a str,
}

/// What the script begins with.
#[derive(Serialize)]
struct Boot<'a> {
    /// The API's URL, without a slash at its end.
    api: &'a str,
    /// Others that `apiURL` may name, in the same form.
    api_urls: Vec<String>,
    /// Whether `apiURL` may name any server on this machine, because this one is.
    loopback: bool,
    language: &'static str,
    texts: &'static serde_json::Map<String, serde_json::Value>,
}

async fn document(site: Site, call: Call) -> Result<Response<Body>, ApiError> {
    let uri = &call.parts.uri;
    if uri.path().trim_end_matches('/').len() == uri.path().len() && is_root(uri.path()) {
        return slashed(&call.parts);
    }
    let query = |wanted: &str| {
        let mut pairs = query::pairs(uri.query().unwrap_or_default());
        pairs.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    let accepted = call.headers().get(header::ACCEPT_LANGUAGE);
    let accepted = accepted.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let language = languages::choose(query("lang").as_deref(), accepted);
    let options = &site.options.connect_ui;
    let public = &site.context.settings.public_url;
    let boot = Boot {
        api: base(public),
        api_urls: options.api_urls.iter().map(|url| base(url).to_owned()).collect(),
        loopback: is_loopback(public),
        language: language.tag,
        texts: language.texts(),
    };
    let theme = query("theme").filter(|theme| is_theme(theme));
    let page = Document {
        folder: format!("{}assets/{}/", own_folder(uri.path()), *FOLDER),
        scripts: FILES
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| name.strip_suffix(".js").is_some())
            .collect(),
        language,
        theme: theme.as_deref().unwrap_or("system"),
        text: Words {
            title: language.text("title"),
            loading: language.text("loading"),
            noscript: language.text("noscript"),
        },
        boot: json_block(&boot)?,
    };
    let mut response = html_with(StatusCode::OK, &page, policy(&site)?)?;
    response.extensions_mut().insert(MayBeFramed);
    let vary = HeaderValue::from_static("Accept-Language");
    response.headers_mut().insert(header::VARY, vary);
    Ok(response)
}

fn is_root(path: &str) -> bool {
    path.matches('/').count() == 1
}

/// From the document to the folder it is in, which a proxy may serve under any other name.
fn own_folder(path: &str) -> String {
    "../".repeat(path.matches('/').count().saturating_sub(2))
}

/// Older clients leave the slash out that relative addresses need.
fn slashed(parts: &Parts) -> Result<Response<Body>, ApiError> {
    let query = parts.uri.query().map(|query| format!("?{query}"));
    let target = format!("./connect-ui/{}", query.unwrap_or_default());
    redirect(StatusCode::PERMANENT_REDIRECT, &target)
}

fn redirect(status: StatusCode, target: &str) -> Result<Response<Body>, ApiError> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let location = HeaderValue::try_from(target).map_err(ApiError::unexpected)?;
    headers.insert(header::LOCATION, location);
    unkept(headers);
    Ok(response)
}

/// Our own files, the API and its WebSocket; images also in the text of a page, and from wherever an environment's
/// logo is, which this document cannot know. Whoever is allowed may show it in a frame.
fn policy(site: &Site) -> Result<HeaderValue, ApiError> {
    let options = &site.options.connect_ui;
    let public = &site.context.settings.public_url;
    let mut connect = String::from("'self'");
    let mut images = String::from("'self' data: https:");
    for url in std::iter::once(public).chain(&options.api_urls) {
        let origin = url.origin().ascii_serialization();
        let _ = write!(connect, " {origin} {}", origin.replacen("http", "ws", 1));
        let _ = write!(images, " {origin}");
    }
    if is_loopback(public) {
        for host in ["localhost:*", "127.0.0.1:*"] {
            let _ = write!(connect, " http://{host} ws://{host}");
            let _ = write!(images, " http://{host}");
        }
    }
    let ancestors = match options.frame_ancestors.as_slice() {
        [] => "*".to_owned(),
        some => some.join(" "),
    };
    let text = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src {connect}; \
         base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
    );
    HeaderValue::try_from(text).map_err(ApiError::unexpected)
}

fn base(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn is_theme(text: &str) -> bool {
    matches!(text, "light" | "dark" | "system")
}

/// The page that begins an attempt, as `/oauth/connect` is told: `attempt`, and `back=page` with `theme` and `lang` if
/// the page itself goes to the provider.
pub(crate) fn page_of(query: &JsonMap) -> Option<ConnectUiPage> {
    let text = |name: &str| query.get(name).and_then(|value| value.as_str());
    let attempt = text("attempt").filter(|attempt| (patterns::ATTEMPT.matches)(attempt))?;
    let goes_itself = text("back") == Some("page");
    Some(ConnectUiPage {
        attempt: attempt.to_owned(),
        back: text("connect_session_token")
            .filter(|_| goes_itself)
            .map(|token| ReturnToPage {
                session_token: Secret::new(token),
                theme: text("theme").filter(|theme| is_theme(theme)).map(str::to_owned),
                lang: text("lang")
                    .and_then(languages::find)
                    .map(|found| found.tag.to_owned()),
            }),
    })
}

/// Back to the page, which asks how the attempt ended. The address is the operator's, never the request's.
pub(crate) fn returned(
    context: &Context,
    attempt: &str,
    page: &ReturnToPage,
) -> Result<Response<Body>, ApiError> {
    let mut url = context.settings.connect_url.clone();
    {
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("session_token", page.session_token.expose());
        pairs.append_pair("attempt", attempt);
        for (name, value) in [("theme", &page.theme), ("lang", &page.lang)] {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
    }
    redirect(StatusCode::SEE_OTHER, url.as_str())
}
