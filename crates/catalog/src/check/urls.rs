//! Addresses: they parse once placeholders have values, and they are encrypted.

use super::{Rules, keys};
use crate::definition::{Definition, Step, TokenUrl};
use crate::template::Template;

pub(super) fn check(rules: &mut Rules<'_>) {
    let definition = rules.definition;
    for (path, template) in addresses(definition) {
        // What could not be read as a template has been said already.
        if template.problems().is_empty() {
            address(rules, &path, template);
            from_callback(rules, &path, template);
        }
    }
    for (key, text) in [
        ("docs", &definition.docs),
        ("docs_connect", &definition.docs_connect),
        ("setup_guide_url", &definition.setup_guide_url),
        ("registration_url", &definition.registration_url),
        ("mcp_server_url", &definition.mcp_server_url),
    ] {
        if let Some(text) = text {
            literal(rules, &keys([key]), text);
        }
    }
}

/// Every template that makes a whole address.
fn addresses(definition: &Definition) -> Vec<(Vec<Step>, &Template)> {
    let mut all: Vec<(Vec<Step>, &Template)> = Vec::new();
    for (key, template) in [
        ("authorization_url", &definition.authorization_url),
        ("request_url", &definition.request_url),
        ("access_token_url", &definition.access_token_url),
        ("refresh_url", &definition.refresh_url),
    ] {
        all.extend(template.as_ref().map(|template| (keys([key]), template)));
    }
    match &definition.token_url {
        Some(TokenUrl::One(template)) => all.push((keys(["token_url"]), template)),
        Some(TokenUrl::ByMode(templates)) => {
            all.extend(
                templates
                    .iter()
                    .map(|(mode, template)| (keys(["token_url", mode.as_str()]), template)),
            );
        }
        None => {}
    }
    for (index, step) in definition.additional_steps.iter().enumerate() {
        let mut path = keys(["additional_steps"]);
        path.extend([Step::Index(index), Step::Key("token_url".to_owned())]);
        all.push((path, &step.token_url));
    }
    let proxy = &definition.proxy;
    all.extend(
        proxy
            .base_url
            .as_ref()
            .map(|template| (keys(["proxy", "base_url"]), template)),
    );
    let verification = proxy
        .verification
        .as_ref()
        .and_then(|verification| verification.base_url_override.as_ref());
    all.extend(verification.map(|template| (keys(["proxy", "verification", "base_url_override"]), template)));
    all
}

fn address(rules: &mut Rules<'_>, path: &[Step], template: &Template) {
    for alternative in template.sketches("x") {
        // A value brings the scheme and the host.
        if alternative.starts_with('x') {
            continue;
        }
        // A number fits where a port is asked for.
        let with_number = template
            .sketches("1")
            .any(|sketch| url::Url::parse(&sketch).is_ok());
        match url::Url::parse(&alternative) {
            Ok(url) if url.scheme() == "http" => {
                if !is_loopback(&url) {
                    rules.warn("url", path.to_vec(), "`http` is not encrypted; use `https`");
                }
            }
            Ok(url) if url.scheme() != "https" => {
                rules.error(
                    "url",
                    path.to_vec(),
                    format!("`{}:` is no address of the web", url.scheme()),
                );
                rules.suggest(Some("https:"));
            }
            Err(_) if with_number => {}
            Err(error) => {
                rules.error(
                    "url",
                    path.to_vec(),
                    format!("`{}` makes no URL: {error}", template.source()),
                );
            }
            Ok(url) if url.host_str().is_none_or(str::is_empty) => {
                rules.error(
                    "url",
                    path.to_vec(),
                    format!("`{}` has no host", template.source()),
                );
            }
            Ok(_) => {}
        }
    }
}

/// What the callback brings passes through the end user's browser, and secrets go to these addresses.
fn from_callback(rules: &mut Rules<'_>, path: &[Step], template: &Template) {
    let definition = rules.definition;
    for name in &definition.redirect_uri_metadata {
        let variable = format!("connectionConfig.{name}");
        let field = definition.connection_config.get(name);
        let is_confined = field.is_some_and(|field| field.pattern.is_some());
        if !is_confined && template.names().contains(&variable.as_str()) {
            rules.warn(
                "url",
                path.to_vec(),
                format!(
                    "`{name}` comes with the callback; its field needs a `pattern` to be part of an address"
                ),
            );
        }
    }
}

/// A provider on this machine, for trying things out.
fn is_loopback(url: &url::Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

fn literal(rules: &mut Rules<'_>, path: &[Step], text: &str) {
    let path = path.to_vec();
    match url::Url::parse(text) {
        Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => {}
        Ok(url) if url.scheme() == "http" => {
            rules.warn("url", path, "`http` is not encrypted; use `https`");
        }
        Ok(url) => rules.error(
            "url",
            path,
            format!("`{}:` is no address of the web", url.scheme()),
        ),
        Err(error) => rules.error("url", path, format!("`{text}` is no URL: {error}")),
    }
}
