//! The catalogue: `/providers`, `/providers.json`, logos (api-core §5, §7).
//!
//! The list is about a megabyte and changes only with the catalogue, so it is rendered once for each language and
//! catalogue, and answers are slices of that text.

mod logo;
mod rendered;
mod shape;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use patchbay_catalog::Language;
use patchbay_connections::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authenticate::Auth;
use crate::codes;
use crate::error::ApiError;
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Rate, Route};
use crate::schema::{Object, SchemaExt, object, patterns, string};

use rendered::Renderings;
use shape::{Definition, Provider, TemplateFunction};

pub(crate) fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    let state = State {
        context: Arc::clone(context),
        renderings: Arc::default(),
    };
    vec![
        Route::get("/providers")
            .tag("providers")
            .summary("List the providers of the catalogue")
            .auth(Auth::KeyOrSession)
            .query::<Search>(
                object().field(
                    "search",
                    string()
                        .min(1)
                        .max(255)
                        .pattern(patterns::INTEGRATION_KEY)
                        .optional()
                        .describe("Part of the name; a dot stands for any character"),
                ),
            )
            .responds::<ProviderList>(200)
            .handler(&state, list),
        Route::get("/providers/{provider}")
            .tag("providers")
            .summary("Read a provider's definition")
            .auth(Auth::KeyOrSession)
            .params::<ByName>(by_name())
            .responds::<ProviderData>(200)
            .errors(&[&codes::NOT_FOUND])
            .handler(&state, read),
        Route::get("/providers/{provider}/templates")
            .tag("providers")
            .summary("List the function templates of a provider")
            .params::<ByName>(by_name())
            .responds::<TemplateList>(200)
            .handler(&(), async |(), _: Call<ByName>| {
                Reply::json(&TemplateList { data: Vec::new() })
            }),
        Route::get("/providers.json")
            .tag("providers")
            .summary("The whole catalogue by name")
            .auth(Auth::None)
            .rate(Rate::Address(1))
            .any_query()
            .responds::<std::collections::BTreeMap<String, Definition>>(200)
            .handler(&state, async |state: State, _: Call| {
                let all = state.renderings.definitions(&state.context)?;
                Ok::<_, ApiError>(
                    Reply::json_text(StatusCode::OK, all.text.clone()).header(header::ETAG, all.etag.clone()),
                )
            }),
        Route::get("/images/template-logos/{file}")
            .tag("providers")
            .summary("A letter mark for a provider, as SVG")
            .auth(Auth::None)
            .rate(Rate::Free)
            .any_query()
            .params::<ByFile>(object().field("file", string()))
            .responds_with(200, "image/svg+xml")
            .errors(&[&codes::NOT_FOUND])
            .handler(&state, async |state: State, call: Call<ByFile>| {
                logo_of(&state.context, &call.params.file).map(Reply::from)
            }),
    ]
}

/// Where a provider's logo is.
pub(crate) fn logo_url(context: &Context, provider: &str) -> String {
    context.public(&format!("images/template-logos/{provider}.svg"))
}

#[derive(Clone)]
struct State {
    context: Arc<Context>,
    renderings: Arc<Renderings>,
}

fn by_name() -> Object {
    object().field(
        "provider",
        string().min(1).max(255).pattern(patterns::PROVIDER_NAME),
    )
}

#[derive(Deserialize)]
struct Search {
    search: Option<String>,
}

#[derive(Deserialize)]
struct ByName {
    provider: String,
}

#[derive(Deserialize)]
struct ByFile {
    file: String,
}

/// Providers in the order of the catalogue.
#[derive(Serialize, JsonSchema)]
struct ProviderList {
    data: Vec<Provider>,
}

/// A provider.
#[derive(Serialize, JsonSchema)]
struct ProviderData {
    data: Provider,
}

/// Function templates, actions first.
#[derive(Serialize, JsonSchema)]
struct TemplateList {
    data: Vec<TemplateFunction>,
}

async fn list(state: State, call: Call<Empty, Search>) -> Result<Reply, ApiError> {
    let rendered = state.renderings.providers(&state.context, language(&call))?;
    let reply = match &call.query.search {
        None => Reply::json_text(StatusCode::OK, rendered.text.clone())
            .header(header::ETAG, rendered.etag.clone()),
        Some(search) => {
            let found = rendered.providers().filter(|(name, _)| is_like(name, search));
            let mut text = b"{\"data\":[".to_vec();
            for (index, (_, provider)) in found.enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(provider);
            }
            text.extend_from_slice(b"]}");
            Reply::json_text(StatusCode::OK, text)
        }
    };
    Ok(varying(reply))
}

async fn read(state: State, call: Call<ByName>) -> Result<Reply, ApiError> {
    let rendered = state.renderings.providers(&state.context, language(&call))?;
    let Some(provider) = rendered.provider(&call.params.provider) else {
        return Err(ApiError::new(&codes::NOT_FOUND).message("The catalogue has no such provider"));
    };
    let text: Bytes = [b"{\"data\":", provider, b"}"].concat().into();
    Ok(varying(Reply::json_text(StatusCode::OK, text)))
}

fn varying(reply: Reply) -> Reply {
    reply.header(header::VARY, HeaderValue::from_static("Accept-Language"))
}

fn language<P, Q, B>(call: &Call<P, Q, B>) -> Language {
    let wanted = call.headers().get(header::ACCEPT_LANGUAGE);
    let wanted = wanted.and_then(|value| value.to_str().ok()).unwrap_or_default();
    Language::from_accept_language(wanted)
}

/// Whether `name` contains `search`, case ignored, a dot matching any character: the regular expression that
/// `search` is, of which its alphabet allows nothing else special.
fn is_like(name: &str, search: &str) -> bool {
    let same = |(name, search): (&u8, &u8)| *search == b'.' || name.eq_ignore_ascii_case(search);
    let search = search.as_bytes();
    search.is_empty()
        || name
            .as_bytes()
            .windows(search.len())
            .any(|window| window.iter().zip(search).all(same))
}

fn logo_of(context: &Context, file: &str) -> Result<Response<axum::body::Body>, ApiError> {
    let provider = file
        .strip_suffix(".svg")
        .and_then(|name| context.catalogue.get(name));
    let Some(provider) = provider else {
        return Err(ApiError::new(&codes::NOT_FOUND).message("There is no such logo"));
    };
    let svg = logo::letter_mark(&provider.name, &provider.definition.display_name);
    Response::builder()
        .header(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml"))
        .header(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=3600"),
        )
        .body(svg.into())
        .map_err(ApiError::unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_a_regular_expression_of_which_only_the_dot_is_left() {
        for (name, search, found) in [
            ("github-app", "HUB", true),
            ("github-app", "b.a", true),
            ("github-app", "b..a", false),
            ("github-app", "github-app-x", false),
            ("github-app", "...........", false),
            ("a", ".", true),
        ] {
            assert_eq!(is_like(name, search), found, "{name} {search}");
        }
    }
}
