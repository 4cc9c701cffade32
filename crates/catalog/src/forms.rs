//! From a definition to the form an end user fills in, and back: the check of what was submitted
//! (catalog-format §4.1, connect-ui §11).

mod base;
mod paste;

use patchbay_types::{AuthMode, JsonMap};
use serde::Serialize;
use serde_json::Value;

use crate::definition::{Definition, Field, Format, Pattern};

/// The end user's form for one integration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Form {
    /// Fields in the order they are shown, hidden ones included.
    pub fields: Vec<FormField>,
}

/// One input.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about an input")]
pub struct FormField {
    /// Key of the value in its group.
    pub name: String,
    /// Where the value is submitted.
    pub group: Group,
    /// Label, never empty.
    pub label: String,
    /// Help below the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Shown in the empty input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
    /// What kind of input.
    pub control: Control,
    /// What a select offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Typed without being seen.
    pub secret: bool,
    /// Must not be left empty.
    pub required: bool,
    /// Submitted but not shown: hidden by the definition or preset by the session.
    pub hidden: bool,
    /// The session has set the value; it is submitted as it is.
    pub preset: bool,
    /// Value the input begins with; none submits nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// Fixed text before the input, not part of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Fixed text behind the input, not part of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Help page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docs_url: Option<String>,
    /// What kind of text it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// ECMAScript regular expression the value must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// Free text may be empty because the definition gives a default.
    #[serde(skip)]
    has_default: bool,
}

/// The part of a submission a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// `credentials`, in the body.
    Credentials,
    /// `connection_config`, sent as `params`.
    ConnectionConfig,
    /// `assertion_option`, used once.
    AssertionOption,
}

/// Kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// One line.
    Text,
    /// Several lines: PEM keys keep their line breaks.
    Textarea,
    /// One of the choices.
    Select,
}

/// What the form depends on beside the definition.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormContext<'a> {
    /// Labels of the integration (`credentials_label`), by name of the credential.
    pub labels: Option<&'a JsonMap>,
    /// Names of `integration_config` fields the operator has filled (`preconfigured_credentials`).
    pub preconfigured: &'a [String],
    /// `integrations_config_defaults[key].connection_config` of the session.
    pub presets: Option<&'a JsonMap>,
    /// `overrides[key].docs_connect` of the session: replaces the help page of every field.
    pub docs_connect: Option<&'a str>,
}

/// Values of a form, by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submission {
    /// Credentials.
    pub credentials: JsonMap,
    /// Settings of the connection.
    pub connection_config: JsonMap,
    /// Values used once.
    pub assertion_option: JsonMap,
}

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{label}: {message}")]
pub struct FieldError {
    /// Where.
    pub group: Group,
    /// Which field.
    pub name: String,
    /// Its label.
    pub label: String,
    /// A sentence without a full stop, for the person who typed.
    pub message: String,
    /// The session's value is at fault, not the person's.
    pub preset: bool,
}

/// Connection settings that replace the integration's OAuth client for one connection.
const OAUTH_OVERRIDES: [&str; 3] = [
    "oauth_client_id_override",
    "oauth_client_secret_override",
    "oauth_refresh_token_override",
];

/// Longest accepted value in bytes: certificates with their chain fit, abuse does not.
const MAX_VALUE: usize = 64 * 1024;

impl Form {
    /// The form of a definition.
    pub fn derive(definition: &Definition, context: &FormContext<'_>) -> Self {
        let mut builder = Builder {
            definition,
            context,
            sequence: 100.0,
            fields: Vec::new(),
        };
        for field in builder.credentials() {
            builder.push(&field, Group::Credentials);
        }
        for field in definition
            .connection_config
            .iter()
            .filter(|field| !field.automated)
        {
            builder.push(field, Group::ConnectionConfig);
        }
        for field in definition
            .assertion_option
            .iter()
            .filter(|field| !field.automated)
        {
            builder.push(field, Group::AssertionOption);
        }
        if definition.auth_mode == AuthMode::OAuth2 {
            builder.oauth_overrides();
        }
        let mut fields = builder.fields;
        fields.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Self {
            fields: fields.into_iter().map(|(_, field)| field).collect(),
        }
    }

    /// Whether there is anything to fill in; otherwise the form is a button.
    pub fn has_visible_fields(&self) -> bool {
        self.fields.iter().any(|field| !field.hidden)
    }

    /// The field of that name in that group.
    pub fn get(&self, group: Group, name: &str) -> Option<&FormField> {
        self.fields
            .iter()
            .find(|field| field.group == group && field.name == name)
    }

    /// Values of the session that break the field's own rules: the operator's mistake, to be told apart.
    pub fn invalid_presets(&self) -> Vec<FieldError> {
        let presets = self.fields.iter().filter(|field| field.preset);
        presets
            .filter_map(|field| field.check(field.initial.as_deref().unwrap_or_default()).err())
            .collect()
    }

    /// Checks what was submitted and returns it as it is stored: pasted addresses cut down to their value, blanks
    /// around values gone, defaults and presets filled in. Values the form does not know pass unchanged.
    pub fn accept(&self, submitted: &Submission) -> Result<Submission, Vec<FieldError>> {
        let mut accepted = submitted.clone();
        let mut errors = Vec::new();
        for field in &self.fields {
            match field.accept(submitted.group(field.group).get(&field.name)) {
                Ok(Some(value)) => {
                    accepted
                        .group_mut(field.group)
                        .insert(field.name.clone(), Value::String(value));
                }
                Ok(None) => {
                    accepted.group_mut(field.group).remove(&field.name);
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(accepted)
        } else {
            Err(errors)
        }
    }
}

impl Submission {
    /// The values of one group.
    pub fn group(&self, group: Group) -> &JsonMap {
        match group {
            Group::Credentials => &self.credentials,
            Group::ConnectionConfig => &self.connection_config,
            Group::AssertionOption => &self.assertion_option,
        }
    }

    fn group_mut(&mut self, group: Group) -> &mut JsonMap {
        match group {
            Group::Credentials => &mut self.credentials,
            Group::ConnectionConfig => &mut self.connection_config,
            Group::AssertionOption => &mut self.assertion_option,
        }
    }
}

impl FormField {
    /// The value as it is stored; none if nothing is.
    fn accept(&self, submitted: Option<&Value>) -> Result<Option<String>, FieldError> {
        if self.preset {
            return Ok(self.initial.clone());
        }
        let submitted = match submitted {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
            Some(Value::Array(_) | Value::Object(_)) => return Err(self.error("is a text".to_owned())),
        };
        if self.hidden {
            return Ok(submitted.or_else(|| self.initial.clone()));
        }
        let Some(text) = submitted else {
            // Clients other than our form may leave out what has an initial value or may be empty.
            let fallback = self.initial.clone().filter(|initial| !initial.is_empty());
            if fallback.is_some() || !self.required || self.has_default {
                return Ok(fallback);
            }
            return Err(self.error("is required".to_owned()));
        };
        let value = self.cleaned(&text);
        self.check(&value)?;
        Ok(Some(value))
    }

    /// The value in what was typed or pasted.
    pub fn cleaned(&self, text: &str) -> String {
        if self.secret {
            let text = text.trim_matches(['\n', '\r']);
            let fits = |text: &str| self.pattern.as_ref().is_some_and(|pattern| pattern.matches(text));
            // A blank may belong to a password, but not where the pattern says otherwise.
            return if !fits(text) && fits(text.trim()) {
                text.trim().to_owned()
            } else {
                text.to_owned()
            };
        }
        let url = self.format == Some(Format::Uri);
        let hostname = self.format == Some(Format::Hostname);
        let affixes = paste::Affixes {
            prefix: self.prefix.as_deref(),
            suffix: self.suffix.as_deref(),
            hostname,
        };
        if url {
            text.trim().to_owned()
        } else {
            paste::value_in(text, &affixes)
        }
    }

    /// Whether nothing may be typed: the field is optional, or free text for which the definition has a default.
    pub fn may_be_empty(&self) -> bool {
        !self.required || (self.has_default && self.choices.is_empty())
    }

    /// Whether `value` obeys the field's rules.
    pub fn check(&self, value: &str) -> Result<(), FieldError> {
        if value.len() > MAX_VALUE {
            return Err(self.error(format!("is longer than {MAX_VALUE} bytes")));
        }
        if value.is_empty() {
            return if self.may_be_empty() {
                Ok(())
            } else {
                Err(self.error("is required".to_owned()))
            };
        }
        if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == value) {
            return Err(self.error(format!("is one of {}", self.choices.join(", "))));
        }
        if let Some(format) = self.format.filter(|format| !format.matches(value)) {
            let wanted = match format {
                Format::Hostname => "is a host name, such as api.example.com",
                Format::Uri => "is an address, such as https://example.com",
                Format::Uuid => "is a UUID, such as 123e4567-e89b-42d3-a456-426614174000",
                Format::Email => "is an e-mail address",
            };
            return Err(self.error(wanted.to_owned()));
        }
        if self
            .pattern
            .as_ref()
            .is_some_and(|pattern| !pattern.matches(value))
        {
            let example = self
                .placeholder
                .as_deref()
                .filter(|_| !self.secret && self.placeholder_is_example());
            return Err(self.error(match example {
                Some(example) => format!("does not look right; an example is {example}"),
                None => "does not look right".to_owned(),
            }));
        }
        Ok(())
    }

    fn placeholder_is_example(&self) -> bool {
        self.placeholder
            .as_deref()
            .is_some_and(|text| self.pattern.as_ref().is_some_and(|p| p.matches(text)))
    }

    fn error(&self, message: String) -> FieldError {
        FieldError {
            group: self.group,
            name: self.name.clone(),
            label: self.label.clone(),
            message,
            preset: self.preset,
        }
    }
}

struct Builder<'a> {
    definition: &'a Definition,
    context: &'a FormContext<'a>,
    /// Sort key of the next field without an order of its own.
    sequence: f64,
    fields: Vec<(f64, FormField)>,
}

impl Builder<'_> {
    /// Base fields of the mode, overridden and extended by the definition's schemas.
    fn credentials(&self) -> Vec<Field> {
        let definition = self.definition;
        let mut fields = base::fields(definition);
        for field in &definition.credentials {
            let position = fields.iter().position(|base| base.name == field.name);
            match position {
                Some(position) => fields[position] = field.clone(),
                None => fields.push(field.clone()),
            }
        }
        if definition.auth_mode == AuthMode::TwoStep {
            let asked = definition.integration_config.iter().filter(|field| {
                definition.credentials.get(&field.name).is_none() && field.visible_when.is_none()
            });
            fields.extend(asked.map(|field| Field {
                optional: false,
                order: None,
                ..field.clone()
            }));
        }
        fields.retain(|field| !field.automated && !self.context.preconfigured.contains(&field.name));
        fields
    }

    /// Inputs for an OAuth client of the connection's own, where the session asks for them with an empty value.
    fn oauth_overrides(&mut self) {
        for name in OAUTH_OVERRIDES {
            let preset = self.context.presets.and_then(|presets| presets.get(name));
            if preset.is_some_and(|value| value.as_str() == Some("")) {
                let field = Field {
                    optional: true,
                    ..Field::named(name)
                };
                self.push(&field, Group::Credentials);
            }
        }
    }

    fn push(&mut self, field: &Field, group: Group) {
        let own_order = field.order.filter(|_| group == Group::ConnectionConfig);
        let order = own_order.unwrap_or_else(|| {
            self.sequence += 1.0;
            self.sequence - 1.0
        });
        let override_label = self
            .context
            .labels
            .and_then(|labels| labels.get(&field.name))
            .and_then(Value::as_str);
        let override_label = override_label.filter(|label| group == Group::Credentials && !label.is_empty());
        let known = base::known(&field.name).filter(|_| group == Group::Credentials);
        let title = Some(field.title.as_str()).filter(|title| !title.is_empty());
        let fallback = known.map_or(field.name.as_str(), |known| known.title);
        let label = override_label.or(title).unwrap_or(fallback).to_owned();
        let placeholder = match override_label {
            Some(_) => None,
            None => field
                .example
                .as_deref()
                .filter(|example| !example.is_empty())
                .or(title)
                .or(Some(fallback)),
        };
        let preset = (group == Group::ConnectionConfig)
            .then(|| self.context.presets.and_then(|presets| presets.get(&field.name)))
            .flatten()
            .and_then(preset_text);
        let required = !field.optional;
        let initial = preset
            .clone()
            .or_else(|| field.default_value.clone())
            .or_else(|| {
                if field.hidden {
                    None
                } else {
                    Some(first_choice(field, required))
                }
            });
        let secret = field.secret || known.is_some_and(|known| known.secret);
        let control = if !field.choices.is_empty() {
            Control::Select
        } else if base::is_multiline(&field.name) {
            Control::Textarea
        } else {
            Control::Text
        };
        let form_field = FormField {
            name: field.name.clone(),
            group,
            label,
            description: Some(field.description.clone())
                .filter(|text| !text.is_empty() && override_label.is_none()),
            placeholder: placeholder.map(str::to_owned),
            control,
            choices: field.choices.clone(),
            secret,
            required,
            hidden: field.hidden || preset.is_some(),
            preset: preset.is_some(),
            initial,
            prefix: field.prefix.clone(),
            suffix: field.suffix.clone(),
            docs_url: self.docs_url(field),
            format: field.format,
            pattern: field.pattern.clone().filter(|pattern| pattern.fault().is_none()),
            has_default: field.default_value.is_some(),
        };
        self.fields.push((order, form_field));
    }

    fn docs_url(&self, field: &Field) -> Option<String> {
        if let Some(page) = self.context.docs_connect {
            return Some(page.to_owned());
        }
        let page = self.definition.docs_connect.as_deref()?;
        let section = field.doc_section.as_deref().unwrap_or_default();
        Some(format!("{page}{section}"))
    }
}

/// Names of the credentials a mode asks for by itself.
pub(crate) fn base_names(mode: AuthMode) -> &'static [&'static str] {
    base::names(mode)
}

/// An example or default as it would be stored.
pub(crate) fn stored_form(field: &Field, text: &str) -> String {
    let hostname = field.format == Some(Format::Hostname);
    let affixes = paste::Affixes {
        prefix: field.prefix.as_deref(),
        suffix: field.suffix.as_deref(),
        hostname,
    };
    paste::value_in(text, &affixes)
}

fn preset_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn first_choice(field: &Field, required: bool) -> String {
    field
        .choices
        .first()
        .filter(|_| required)
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
