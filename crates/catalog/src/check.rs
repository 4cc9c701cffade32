//! Rules about a definition as a whole, and the check behind `patchbay catalog check`.
//!
//! Errors keep an entry out of the catalogue, because it could not do what it says. Warnings name what has no effect
//! or looks like a slip; the entry is loaded.

mod render;
mod scripts;
mod urls;
mod variables;

use std::path::Path;

use patchbay_types::{AuthMode, JsonMap};
use serde_json::Value;

use crate::catalogue::Catalogue;
use crate::definition::{Definition, Field, Fields, Note, PaginationKind, Step, Target, TokenClient};
use crate::finding::{Finding, Severity};
use crate::source::Source;

pub use render::{excerpt, render};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What must hold for the entry to work.
    Load,
    /// Everything, patterns and examples included.
    Check,
}

/// Everything wrong with the sources, sorted by file and line. Findings of earlier sources are among them: leave out
/// [`Source::BuiltIn`] only if nothing refers to it.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    Catalogue::check(sources).1
}

/// Everything wrong with a text that would be the content of a file of that name.
pub fn check_text(file: impl AsRef<Path>, text: &str) -> Vec<Finding> {
    Catalogue::check_text(file.as_ref(), text).1
}

/// Notes what is wrong with a definition that could be read.
pub(crate) fn definition(definition: &Definition, wire: &JsonMap, depth: Depth, notes: &mut Vec<Note>) {
    let rules = &mut Rules {
        definition,
        wire,
        notes,
    };
    rules.mode();
    urls::check(rules);
    variables::check(rules);
    if depth == Depth::Load {
        return;
    }
    rules.descriptions();
    rules.fields();
    rules.proxy();
    rules.retired_keys();
    scripts::check(rules);
}

/// Notes what an alias says in vain or loses by accident.
pub(crate) fn alias(own: &JsonMap, base: &JsonMap, notes: &mut Vec<Note>) {
    for (key, value) in own.iter().filter(|(key, _)| *key != "alias") {
        let Some(inherited) = base.get(key) else {
            continue;
        };
        let path = vec![Step::Key(key.clone())];
        if value == inherited {
            let message = format!("says the same as the alias's target; leave `{key}` out");
            notes.push(note(
                Severity::Warning,
                "alias-repeats",
                path,
                Target::Key,
                message,
            ));
            continue;
        }
        if let (Value::Object(own), Value::Object(inherited)) = (value, inherited)
            && key == "proxy"
        {
            let needed = ["base_url", "headers", "query", "body", "verification"];
            let lost: Vec<&str> = needed
                .into_iter()
                .filter(|key| inherited.contains_key(*key) && !own.contains_key(*key))
                .collect();
            if !lost.is_empty() {
                let message = format!(
                    "replaces all of the target's `{key}`, so {} is lost",
                    lost.join(", ")
                );
                notes.push(note(
                    Severity::Warning,
                    "alias-replaces",
                    path,
                    Target::Key,
                    message,
                ));
            }
        }
    }
}

pub(crate) struct Rules<'d> {
    definition: &'d Definition,
    wire: &'d JsonMap,
    notes: &'d mut Vec<Note>,
}

fn note(severity: Severity, rule: &'static str, path: Vec<Step>, target: Target, message: String) -> Note {
    Note {
        severity,
        rule,
        path,
        target,
        message,
        suggestion: None,
    }
}

/// The path of those keys.
fn keys<const N: usize>(keys: [&str; N]) -> Vec<Step> {
    keys.into_iter().map(|key| Step::Key(key.to_owned())).collect()
}

fn groups(definition: &Definition) -> [(&'static str, &Fields); 4] {
    [
        ("connection_config", &definition.connection_config),
        ("credentials", &definition.credentials),
        ("integration_config", &definition.integration_config),
        ("assertion_option", &definition.assertion_option),
    ]
}

impl Rules<'_> {
    fn error(&mut self, rule: &'static str, path: Vec<Step>, message: impl Into<String>) {
        self.notes.push(note(
            Severity::Error,
            rule,
            path,
            Target::Value(0),
            message.into(),
        ));
    }

    fn warn(&mut self, rule: &'static str, path: Vec<Step>, message: impl Into<String>) {
        self.notes.push(note(
            Severity::Warning,
            rule,
            path,
            Target::Value(0),
            message.into(),
        ));
    }

    fn warn_key(&mut self, rule: &'static str, path: Vec<Step>, message: impl Into<String>) {
        self.notes
            .push(note(Severity::Warning, rule, path, Target::Key, message.into()));
    }

    fn suggest(&mut self, suggestion: Option<&str>) {
        if let Some(last) = self.notes.last_mut() {
            last.suggestion = suggestion.map(str::to_owned);
        }
    }

    /// What the mode cannot do without.
    fn mode(&mut self) {
        let definition = self.definition;
        let mode = definition.auth_mode;
        let has = |key: &str| self.wire.get(key).is_some_and(|value| !value.is_null());
        let required: &[&str] = match mode {
            // People never see the authorization page of an app that is installed from the provider's side.
            AuthMode::OAuth2 if definition.is_outbound_installation => &["token_url"],
            AuthMode::OAuth2 | AuthMode::McpOAuth2 => &["authorization_url", "token_url"],
            AuthMode::OAuth1 => &["request_url", "authorization_url", "token_url"],
            AuthMode::TwoStep | AuthMode::Bill => &["token_url"],
            AuthMode::App | AuthMode::Custom => &["authorization_url"],
            AuthMode::Jwt => &["token", "signature"],
            AuthMode::Signature => &["token"],
            _ => &[],
        };
        let missing: Vec<&str> = required.iter().copied().filter(|key| !has(key)).collect();
        for key in missing {
            self.error(
                "mode-requires",
                keys(["auth_mode"]),
                format!("`{mode}` needs `{key}`"),
            );
        }
        // Not an error: published catalogues have such an entry, whose connections can be imported.
        if mode == AuthMode::OAuth2Cc && definition.token_url.is_none() {
            let message = "`OAUTH2_CC` without `token_url`: no connection can be made, only imported";
            self.warn("mode-requires", keys(["auth_mode"]), message);
        }
        if mode == AuthMode::TwoStep && definition.token_response.is_none() {
            let message = "`TWO_STEP` needs `token_response`: where the token is in the answer";
            self.error("mode-requires", keys(["auth_mode"]), message);
        }
        if let Some(client) = &definition.token_client {
            let asks = matches!(mode, AuthMode::OAuth2 | AuthMode::McpOAuth2);
            let tells = matches!(mode, AuthMode::OAuth2Cc | AuthMode::TwoStep | AuthMode::Jwt);
            let only_tells = client.introspection.is_some()
                && TokenClient {
                    introspection: None,
                    ..TokenClient::clone(client)
                } == TokenClient::default();
            if !(asks || tells && only_tells) {
                let message =
                    format!("`{mode}` makes its own requests; only `OAUTH2` and `MCP_OAUTH2` read this");
                self.warn_key("token-client", keys(["token_client"]), message);
            }
        }
        if mode == AuthMode::OAuth2
            && let Some(grant) = definition.token_params.literal("grant_type")
            && grant != "authorization_code"
        {
            let message = format!(
                "`OAUTH2` sends people to the provider, which needs the grant `authorization_code`, not `{grant}`"
            );
            self.error("grant-type", keys(["token_params", "grant_type"]), message);
        }
    }

    fn descriptions(&mut self) {
        let definition = self.definition;
        if definition.docs.is_none() {
            self.warn_key(
                "missing-key",
                Vec::new(),
                "`docs` is missing: where the provider's API is described",
            );
        }
        if definition.categories.is_empty() {
            self.warn_key(
                "missing-key",
                Vec::new(),
                "`categories` is missing: pickers cannot group the entry",
            );
        }
        for (group, fields) in groups(definition) {
            for field in fields {
                let Some(section) = &field.doc_section else {
                    continue;
                };
                let path = keys([group, &field.name, "doc_section"]);
                let anchor = section.strip_prefix('#').unwrap_or_default();
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                if anchor.is_empty() || !anchor.chars().all(fits) {
                    let message =
                        format!("`{section}` is no anchor: `#`, then lower-case letters, digits and dashes");
                    self.warn("doc-section", path, message);
                } else if definition.docs_connect.is_none() {
                    self.warn(
                        "doc-section",
                        path,
                        "`doc_section` has no effect without `docs_connect`",
                    );
                }
            }
        }
    }

    fn fields(&mut self) {
        let definition = self.definition;
        for (group, fields) in groups(definition) {
            for field in fields {
                self.field(group, field);
            }
        }
        let wants_credentials = matches!(
            definition.auth_mode,
            AuthMode::ApiKey
                | AuthMode::Basic
                | AuthMode::Signature
                | AuthMode::TwoStep
                | AuthMode::Jwt
                | AuthMode::OAuth2Cc
                | AuthMode::AwsSigV4
        );
        let takes_credentials = wants_credentials
            || matches!(
                definition.auth_mode,
                AuthMode::Tba | AuthMode::Bill | AuthMode::InstallPlugin
            );
        let mode = definition.auth_mode;
        let from_operator = !definition.integration_config.is_empty();
        if wants_credentials && definition.credentials.is_empty() && !from_operator {
            let message = format!("`{mode}` without `credentials`: people see bare names instead of labels");
            self.warn_key("credentials", keys(["auth_mode"]), message);
        }
        if !takes_credentials && !definition.credentials.is_empty() {
            let message = format!("`{mode}` asks for no `credentials`; these are collected and not used");
            self.warn_key("credentials", keys(["credentials"]), message);
        }
    }

    fn field(&mut self, group: &'static str, field: &Field) {
        let at = |key: &str| keys([group, &field.name, key]);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !field.name.chars().all(fits) {
            self.warn_key(
                "field-name",
                keys([group, &field.name]),
                "a field's name has letters, digits, `_`, `-`, `.`",
            );
        }
        if field.title.is_empty() && !field.automated && !field.hidden {
            self.warn_key(
                "field-title",
                keys([group, &field.name]),
                "`title` is missing: people see the bare name",
            );
        }
        if let Some(fault) = field.pattern.as_ref().and_then(|pattern| pattern.fault()) {
            let message = format!("is no ECMAScript regular expression and matches everything: {fault}");
            self.warn("pattern", at("pattern"), message);
        }
        let values = [
            ("example", &field.example),
            ("default_value", &field.default_value),
        ];
        for (key, value) in values {
            let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else {
                continue;
            };
            // An example may show its prefix and suffix; what is stored has neither.
            let value = crate::forms::stored_form(field, value);
            if let Some(pattern) = field.pattern.as_ref().filter(|pattern| !pattern.matches(&value)) {
                let message = format!("`{value}` does not match the pattern `{}`", pattern.source());
                self.warn("pattern-example", at(key), message);
            }
            if let Some(format) = field.format.filter(|format| !format.matches(&value)) {
                self.warn(
                    "format-example",
                    at(key),
                    format!("`{value}` is no {}", format.name()),
                );
            }
        }
        if field.choices.is_empty() {
            return;
        }
        if let Some(default) = field.default_value.as_deref().filter(|value| !value.is_empty())
            && !field.choices.iter().any(|choice| choice == default)
        {
            let message = format!("`{default}` is not one of {}", field.choices.join(", "));
            self.warn("enum-default", at("default_value"), message);
            let nearest = crate::suggest::nearest(default, field.choices.iter().map(String::as_str));
            let nearest = nearest.map(str::to_owned);
            self.suggest(nearest.as_deref());
        }
        for (value, _) in &field.warnings {
            if !field.choices.contains(value) {
                let message = format!("`{value}` is none of the choices, so the warning is never shown");
                self.warn_key(
                    "enum-warning",
                    keys([group, &field.name, "warnings", value]),
                    message,
                );
            }
        }
    }

    fn proxy(&mut self) {
        let definition = self.definition;
        let proxy = &definition.proxy;
        let verifies = matches!(
            definition.auth_mode,
            AuthMode::ApiKey
                | AuthMode::Basic
                | AuthMode::Tba
                | AuthMode::Jwt
                | AuthMode::Signature
                | AuthMode::InstallPlugin
        );
        if proxy.verification.is_some() && !verifies {
            let message = format!(
                "`{}` proves its credentials by getting a token; this call is never made",
                definition.auth_mode
            );
            self.warn_key("verification", keys(["proxy", "verification"]), message);
        }
        if proxy.base_url.is_none()
            && proxy
                .verification
                .as_ref()
                .is_some_and(|call| call.base_url_override.is_none())
        {
            let message = "`verification` has no host: set `proxy.base_url` or `base_url_override`";
            self.warn_key("verification", keys(["proxy", "verification"]), message);
        }
        let Some(paginate) = &proxy.paginate else {
            return;
        };
        let incomplete = match &paginate.kind {
            PaginationKind::Cursor {
                path_in_response,
                name_in_request,
            } => [
                ("cursor_path_in_response", path_in_response.is_none()),
                ("cursor_name_in_request", name_in_request.is_none()),
            ]
            .into_iter()
            .filter(|(_, missing)| *missing)
            .map(|(key, _)| key)
            .collect(),
            PaginationKind::Link(source) => {
                let missing =
                    source.rel_in_response_header.is_none() && source.path_in_response_body.is_none();
                if missing {
                    vec!["link_rel_in_response_header or link_path_in_response_body"]
                } else {
                    Vec::new()
                }
            }
            PaginationKind::Offset { name_in_request, .. } => {
                if name_in_request.is_none() {
                    vec!["offset_name_in_request"]
                } else {
                    Vec::new()
                }
            }
        };
        if !incomplete.is_empty() {
            let message = format!("callers must add {}", incomplete.join(", "));
            self.warn_key("pagination", keys(["proxy", "paginate"]), message);
        }
    }

    fn retired_keys(&mut self) {
        const RETIRED: [(&str, &str); 6] = [
            (
                "authorization_url_encoded",
                "has no effect any more; see `authorization_url_skip_encode`",
            ),
            (
                "token_url_encoded",
                "has no effect any more; see `token_url_skip_encode`",
            ),
            ("auth", "has no effect; see `authorization_params`"),
            ("decode_url", "has no effect"),
            (
                "refresh_token_response_metadata",
                "has no effect; see `token_response_metadata`",
            ),
            ("pre_connection_creation_script", "has no effect"),
        ];
        for (key, message) in RETIRED {
            if self.wire.contains_key(key) {
                self.warn_key("retired", keys([key]), format!("`{key}` {message}"));
            }
        }
        let verification = self.wire.get("proxy").and_then(|proxy| proxy.get("verification"));
        if verification.is_some_and(|verification| verification.get("endpoint").is_some()) {
            self.warn_key(
                "retired",
                keys(["proxy", "verification", "endpoint"]),
                "is written `endpoints` now, a list",
            );
        }
    }
}

#[cfg(test)]
mod tests;
