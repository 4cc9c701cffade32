//! Token endpoints and their parameters, made from a definition's templates.

use patchbay_catalog::Definition;
use patchbay_catalog::definition::BodyFormat as Declared;
use patchbay_catalog::template::{
    Mode, OnUnresolved, RenderUrlError, Scope, Template, TemplateMap, TemplateValue, UrlValues,
};
use patchbay_types::{AuthMode, JsonMap};
use url::Url;

use crate::message::BodyFormat;

/// Why an endpoint cannot be called: the definition or the connection's parameters are at fault, not the provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The definition names no endpoint.
    #[error("the provider's definition has no {0}")]
    Missing(&'static str),
    /// Placeholders without a value, by name.
    #[error("no value for {}", .0.join(", "))]
    Unresolved(Vec<String>),
    /// The values make no URL, or lead to a host the definition does not allow.
    #[error("the {0} is not usable: {1}")]
    Url(&'static str, RenderUrlError),
}

impl EndpointError {
    /// The wire's code: in the popup's WebSocket frame and over HTTP (400).
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing("token_url") => "missing_token_url",
            Self::Missing(_) => "provider_config_err",
            Self::Unresolved(_) | Self::Url(..) => "url_param_err",
        }
    }

    /// A URL that could not be rendered, `what` being the definition's field.
    pub(crate) fn of_url(what: &'static str, error: RenderUrlError) -> Self {
        match error {
            RenderUrlError::Unresolved(unresolved) => Self::Unresolved(unresolved.names),
            error => Self::Url(what, error),
        }
    }
}

/// The token endpoint of `mode` with its own query.
pub(crate) fn token_url(
    definition: &Definition,
    mode: AuthMode,
    scope: &Scope<'_>,
) -> Result<Url, EndpointError> {
    let template = definition
        .token_url(mode)
        .ok_or(EndpointError::Missing("token_url"))?;
    url(
        "token_url",
        template,
        values(definition.token_url_takes_raw_values()),
        scope,
    )
}

/// The refresh endpoint: `refresh_url`, else the token endpoint.
pub(crate) fn refresh_url(
    definition: &Definition,
    mode: AuthMode,
    scope: &Scope<'_>,
) -> Result<Url, EndpointError> {
    match &definition.refresh_url {
        Some(template) => url(
            "refresh_url",
            template,
            values(definition.token_url_takes_raw_values()),
            scope,
        ),
        None => token_url(definition, mode, scope),
    }
}

/// Renders a URL template.
pub(crate) fn url(
    what: &'static str,
    template: &Template,
    values: UrlValues,
    scope: &Scope<'_>,
) -> Result<Url, EndpointError> {
    template
        .render_url(scope, values)
        .map_err(|error| EndpointError::of_url(what, error))
}

/// Values enter a URL percent-encoded unless the definition says `base_url` is not to be.
pub(crate) fn values(raw: bool) -> UrlValues {
    if raw { UrlValues::Raw } else { UrlValues::Encoded }
}

/// Renders body parameters. A parameter that only lacks fields the definition calls optional is left out, and so is
/// one whose value comes out empty; any other without a value fails.
pub(crate) fn params(
    definition: &Definition,
    map: &TemplateMap,
    scope: &Scope<'_>,
) -> Result<JsonMap, EndpointError> {
    params_with(definition, map, scope, &[])
}

/// As [`params`], where variables called `optional` need not have a value either.
pub(crate) fn params_with(
    definition: &Definition,
    map: &TemplateMap,
    scope: &Scope<'_>,
    optional: &[&str],
) -> Result<JsonMap, EndpointError> {
    let spared = |name: &String| is_optional(definition, name) || optional.contains(&name.as_str());
    let mut rendered = JsonMap::new();
    let mut missing = Vec::new();
    for (name, value) in map.iter() {
        match value {
            TemplateValue::Text(template) => match template.render(scope, Mode::Text) {
                Ok(text) if text.is_empty() && template.as_literal().is_none() => {}
                Ok(text) => {
                    rendered.insert(name.to_owned(), text.into());
                }
                Err(unresolved) if unresolved.names.iter().all(spared) => {}
                Err(unresolved) => missing.extend(unresolved.names),
            },
            structure => match structure.render(scope, OnUnresolved::Fail) {
                Ok(Some(value)) => {
                    rendered.insert(name.to_owned(), value);
                }
                Ok(None) => {}
                Err(unresolved) => missing.extend(unresolved.names),
            },
        }
    }
    if missing.is_empty() {
        Ok(rendered)
    } else {
        Err(EndpointError::Unresolved(missing))
    }
}

pub(crate) fn is_optional(definition: &Definition, name: &str) -> bool {
    let field = name
        .split_once('.')
        .filter(|(root, _)| matches!(*root, "connectionConfig" | "connection_config"));
    field
        .and_then(|(_, key)| definition.connection_config.get(key))
        .is_some_and(|field| field.optional)
}

/// How the definition wants token requests encoded. XML belongs to modes that build their own bodies.
pub(crate) fn body_format(definition: &Definition) -> BodyFormat {
    match definition.body_format() {
        Declared::Json => BodyFormat::Json,
        Declared::Query if definition.auth_mode == AuthMode::OAuth2Cc => BodyFormat::Query,
        Declared::Query | Declared::Form | Declared::Xml => BodyFormat::Form,
    }
}
