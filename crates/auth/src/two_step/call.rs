//! Calls of a TWO_STEP definition.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method};
use patchbay_catalog::Definition;
use patchbay_catalog::definition::BodyFormat;
use patchbay_catalog::template::{
    Mode, NamedTemplate, OnUnresolved, Scope, Template, TemplateMap, TemplateValue,
};
use patchbay_types::JsonMap;
use serde_json::Value;

use crate::message::Call;
use crate::obtain::ObtainError;
use crate::{encode, endpoint, xml};

/// A call as the definition writes it.
pub(super) struct Sketch<'a> {
    pub(super) definition: &'a Definition,
    pub(super) method: &'a str,
    pub(super) url: &'a Template,
    pub(super) params: &'a TemplateMap,
    pub(super) headers: &'a [NamedTemplate],
    pub(super) format: BodyFormat,
}

impl Sketch<'_> {
    /// The call with its values. Headers that must agree on time and randomness are written with `shared`.
    pub(super) fn draw(&self, scope: &Scope<'_>, shared: &Scope<'_>) -> Result<Call, ObtainError> {
        let values = endpoint::values(self.definition.token_url_takes_raw_values());
        let mut url = endpoint::url("token_url", self.url, values, scope)
            .map_err(|error| ObtainError::unusable("invalid_body", error.to_string()))?;
        let method = Method::from_bytes(self.method.as_bytes()).unwrap_or(Method::POST);
        let sends_body = !matches!(method, Method::GET | Method::HEAD) && !self.params.is_empty();
        let params = self.params(scope);
        let (kind, body) = match self.format {
            _ if !sends_body => (None, Vec::new()),
            BodyFormat::Json => (
                Some("application/json"),
                Value::Object(params).to_string().into_bytes(),
            ),
            BodyFormat::Form => (
                Some("application/x-www-form-urlencoded"),
                encode::form(&params).into_bytes(),
            ),
            BodyFormat::Xml => (Some("application/xml"), xml::write(&params).into_bytes()),
            BodyFormat::Query => {
                let mut pairs = url.query_pairs_mut();
                for (name, value) in &params {
                    if let Some(text) = encode::scalar(value) {
                        pairs.append_pair(name, &text);
                    }
                }
                drop(pairs);
                (None, Vec::new())
            }
        };
        let mut headers = vec![(USER_AGENT, HeaderValue::from_static("Patchbay"))];
        for entry in self.headers {
            let Ok(text) = entry.template.render(shared, Mode::Text) else {
                continue;
            };
            let unusable = || {
                let message = format!(
                    "the value for header {} has characters a header may not have",
                    entry.name
                );
                ObtainError::unusable("invalid_body", message)
            };
            let name = HeaderName::from_bytes(entry.name.as_bytes()).map_err(|_| unusable())?;
            let mut value = HeaderValue::from_str(text.trim()).map_err(|_| unusable())?;
            value.set_sensitive(entry.template.as_literal().is_none());
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        let has = |headers: &[(HeaderName, HeaderValue)], wanted: HeaderName| {
            headers.iter().any(|(name, _)| *name == wanted)
        };
        if let Some(kind) = kind
            && !has(&headers, CONTENT_TYPE)
        {
            headers.push((CONTENT_TYPE, HeaderValue::from_static(kind)));
        }
        if !has(&headers, ACCEPT) {
            let accepted = match self.format {
                BodyFormat::Xml => "application/xml, text/xml",
                _ => "application/json",
            };
            headers.push((ACCEPT, HeaderValue::from_static(accepted)));
        }
        Ok(Call {
            method,
            url,
            headers,
            body: Bytes::from(body),
            client_certificate: None,
        })
    }

    /// What has no value is left out, and so is an optional field that was left empty.
    fn params(&self, scope: &Scope<'_>) -> JsonMap {
        let mut rendered = JsonMap::new();
        for (name, value) in self.params.iter() {
            let blank = |value: &Value| {
                value.as_str().is_some_and(str::is_empty)
                    && matches!(value_template(self.params.get(name)), Some(template) if self.is_optional(template))
            };
            if let Ok(Some(value)) = value.render(scope, OnUnresolved::Omit)
                && !blank(&value)
            {
                rendered.insert(name.to_owned(), value);
            }
        }
        rendered
    }

    /// Whether all a template mentions may be left empty.
    fn is_optional(&self, template: &Template) -> bool {
        let definition = self.definition;
        let names = template.names();
        !names.is_empty()
            && names.iter().all(|name| {
                let key = name.rsplit('.').next().unwrap_or_default();
                let groups = [
                    &definition.credentials,
                    &definition.connection_config,
                    &definition.integration_config,
                ];
                groups
                    .iter()
                    .any(|group| group.get(key).is_some_and(|field| field.optional))
            })
    }
}

fn value_template(value: Option<&TemplateValue>) -> Option<&Template> {
    match value {
        Some(TemplateValue::Text(template)) => Some(template),
        _ => None,
    }
}
