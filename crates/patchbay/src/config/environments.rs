//! Settings of an environment, for `[environments.<name>]` and `patchbay env set`.

use std::collections::BTreeMap;

use patchbay_types::Secret;
use patchbay_types::environments::{EnvironmentSettings, OtlpHeader, default_connect_ui};
use serde_json::{Value, json};

use super::options::Visibility;
use super::problem::{Invalid, Origin, Problem, Problems, suggestion};
use super::sources::environment_keys;
use super::values;

/// How a setting of an environment is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentKind {
    /// `true` or `false`.
    Switch,
    /// `http:` or `https:` URL of at most 255 characters.
    Url,
    /// A CSS colour.
    Colour,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text of at most this many characters.
    Text(usize),
    /// Hosts and ranges, with commas.
    Hosts,
    /// A whole number of hours, at most a year's; 0 for never.
    Hours,
}

/// A year's.
pub const MOST_HOURS: u32 = 8760;

/// A setting of an environment.
#[derive(Clone, Copy, Debug)]
pub struct EnvironmentSetting {
    /// Dotted key.
    pub key: &'static str,
    /// How it is read.
    pub kind: EnvironmentKind,
    /// How much of it may be shown.
    pub visibility: Visibility,
    /// What it does.
    pub help: &'static str,
    /// A value to copy, as TOML.
    pub example: &'static str,
    /// First version that has it.
    pub since: &'static str,
    get: fn(&EnvironmentSettings) -> Option<String>,
    set: fn(&mut EnvironmentSettings, Option<&str>),
}

impl EnvironmentSetting {
    /// The value as text; none if nothing is set.
    pub fn get(&self, settings: &EnvironmentSettings) -> Option<String> {
        (self.get)(settings)
    }
}

macro_rules! webhook_switch {
    ($field:ident, $help:literal) => {
        EnvironmentSetting {
            key: concat!("webhooks.", stringify!($field)),
            kind: EnvironmentKind::Switch,
            visibility: Visibility::Public,
            help: $help,
            example: "true",
            since: "0.1.0",
            get: |settings| Some(settings.webhooks.$field.to_string()),
            set: |settings, text| {
                let default = EnvironmentSettings::default().webhooks.$field;
                settings.webhooks.$field = text.map_or(default, |text| text == "true");
            },
        }
    };
}

macro_rules! proxy_switch {
    ($field:ident, $help:literal) => {
        EnvironmentSetting {
            key: concat!("proxy.", stringify!($field)),
            kind: EnvironmentKind::Switch,
            visibility: Visibility::Public,
            help: $help,
            example: "true",
            since: "0.1.0",
            get: |settings| Some(settings.proxy.$field.to_string()),
            set: |settings, text| {
                let default = EnvironmentSettings::default().proxy.$field;
                settings.proxy.$field = text.map_or(default, |text| text == "true");
            },
        }
    };
}

macro_rules! look {
    ($key:literal, $path:expr, $kind:expr, $help:literal, $example:literal) => {
        EnvironmentSetting {
            key: $key,
            kind: $kind,
            visibility: Visibility::Public,
            help: $help,
            example: $example,
            since: "0.1.0",
            get: |settings| look(settings, $path),
            set: |settings, text| set_look(settings, $path, text),
        }
    };
}

/// Every setting of an environment besides `production`, `api_key`, `otlp_headers.*` and `variables.*`.
pub const ENVIRONMENT_SETTINGS: &[EnvironmentSetting] = &[
    EnvironmentSetting {
        key: "callback_url",
        kind: EnvironmentKind::Url,
        visibility: Visibility::Public,
        help: "OAuth callback URL registered at providers, instead of <public_url>/oauth/callback.",
        example: "\"https://app.example.com/oauth/callback\"",
        since: "0.1.0",
        get: |settings| settings.callback_url.clone(),
        set: |settings, text| settings.callback_url = text.map(str::to_owned),
    },
    EnvironmentSetting {
        key: "webhooks.primary_url",
        kind: EnvironmentKind::Url,
        visibility: Visibility::Public,
        help: "Where webhooks are sent.",
        example: "\"https://app.example.com/webhooks\"",
        since: "0.1.0",
        get: |settings| settings.webhooks.primary_url.clone(),
        set: |settings, text| settings.webhooks.primary_url = text.map(str::to_owned),
    },
    EnvironmentSetting {
        key: "webhooks.secondary_url",
        kind: EnvironmentKind::Url,
        visibility: Visibility::Public,
        help: "A second target that receives everything too.",
        example: "\"https://audit.example.com/webhooks\"",
        since: "0.1.0",
        get: |settings| settings.webhooks.secondary_url.clone(),
        set: |settings, text| settings.webhooks.secondary_url = text.map(str::to_owned),
    },
    webhook_switch!(
        on_auth_creation,
        "Send `auth` webhooks when a connection is made, or making it fails."
    ),
    webhook_switch!(
        on_auth_refresh_error,
        "Send `auth` webhooks when credentials can no longer be refreshed."
    ),
    EnvironmentSetting {
        key: "webhooks.refresh_error_reminder_hours",
        kind: EnvironmentKind::Hours,
        visibility: Visibility::Public,
        help: "Send that webhook again every so many hours while a connection goes on failing; 0 sends it once.",
        example: "24",
        since: "0.1.0",
        get: |settings| Some(settings.webhooks.refresh_error_reminder_hours.to_string()),
        set: |settings, text| {
            let hours = text.and_then(|text| text.parse().ok()).unwrap_or(0);
            settings.webhooks.refresh_error_reminder_hours = hours;
        },
    },
    webhook_switch!(
        on_connection_deletion,
        "Send `auth` webhooks when a connection is deleted."
    ),
    webhook_switch!(
        on_sync_completion_always,
        "Send `sync` webhooks also when a run changed nothing."
    ),
    webhook_switch!(on_sync_error, "Send `sync` webhooks when a run fails."),
    webhook_switch!(
        on_async_action_completion,
        "Send `async_action` webhooks when an asynchronous action ends."
    ),
    look!(
        "connect_ui.default_theme",
        &["defaultTheme"],
        EnvironmentKind::Choice(&["light", "dark", "system"]),
        "Theme of the Connect UI when its URL names none.",
        "\"system\""
    ),
    look!(
        "connect_ui.show_watermark",
        &["showWatermark"],
        EnvironmentKind::Switch,
        "Whether the Connect UI says what it is made with.",
        "false"
    ),
    look!(
        "connect_ui.theme.light.primary",
        &["theme", "light", "primary"],
        EnvironmentKind::Colour,
        "Colour of buttons in the light theme.",
        "\"#0b5fff\""
    ),
    look!(
        "connect_ui.theme.dark.primary",
        &["theme", "dark", "primary"],
        EnvironmentKind::Colour,
        "Colour of buttons in the dark theme.",
        "\"#6ea0ff\""
    ),
    look!(
        "connect_ui.theme.light.surface",
        &["theme", "light", "surface"],
        EnvironmentKind::Colour,
        "Colour of the card in the light theme.",
        "\"#ffffff\""
    ),
    look!(
        "connect_ui.theme.dark.surface",
        &["theme", "dark", "surface"],
        EnvironmentKind::Colour,
        "Colour of the card in the dark theme.",
        "\"#16191e\""
    ),
    look!(
        "connect_ui.theme.light.text",
        &["theme", "light", "text"],
        EnvironmentKind::Colour,
        "Colour of text in the light theme.",
        "\"#16191d\""
    ),
    look!(
        "connect_ui.theme.dark.text",
        &["theme", "dark", "text"],
        EnvironmentKind::Colour,
        "Colour of text in the dark theme.",
        "\"#eceff3\""
    ),
    look!(
        "connect_ui.corners",
        &["corners"],
        EnvironmentKind::Choice(&["square", "soft", "round"]),
        "How round corners are.",
        "\"soft\""
    ),
    look!(
        "connect_ui.font_family",
        &["fontFamily"],
        EnvironmentKind::Text(200),
        "Fonts of the end user's system to use, as in CSS.",
        "\"Georgia, serif\""
    ),
    look!(
        "connect_ui.logo_url",
        &["logoUrl"],
        EnvironmentKind::Url,
        "Your logo, shown at the top; at most 28 pixels high.",
        "\"https://app.example.com/logo.svg\""
    ),
    look!(
        "connect_ui.privacy_url",
        &["privacyUrl"],
        EnvironmentKind::Url,
        "Your privacy notice, linked at the bottom.",
        "\"https://app.example.com/privacy\""
    ),
    EnvironmentSetting {
        key: "hmac_enabled",
        kind: EnvironmentKind::Switch,
        visibility: Visibility::Public,
        help: "Whether callers with the deprecated public key must sign their requests. Stored; public keys are refused, \
               connect sessions replace them.",
        example: "false",
        since: "0.1.0",
        get: |settings| Some(settings.hmac_enabled.to_string()),
        set: |settings, text| settings.hmac_enabled = text == Some("true"),
    },
    EnvironmentSetting {
        key: "hmac_key",
        kind: EnvironmentKind::Text(1000),
        visibility: Visibility::Secret,
        help: "Key of those signatures.",
        example: "\"<secret>\"",
        since: "0.1.0",
        get: |settings| settings.hmac_key.as_ref().map(|key| key.expose().to_owned()),
        set: |settings, text| settings.hmac_key = text.map(Secret::new),
    },
    EnvironmentSetting {
        key: "otlp_endpoint",
        kind: EnvironmentKind::Url,
        visibility: Visibility::Public,
        help: "OpenTelemetry collector (OTLP over HTTP) that receives this environment's operations as traces.",
        example: "\"https://otlp.example.com\"",
        since: "0.1.0",
        get: |settings| settings.otlp_endpoint.clone(),
        set: |settings, text| settings.otlp_endpoint = text.map(str::to_owned),
    },
    proxy_switch!(
        base_url_override,
        "Whether callers and integrations may name a base URL other than the provider's."
    ),
    EnvironmentSetting {
        key: "proxy.deny_hosts",
        kind: EnvironmentKind::Hosts,
        visibility: Visibility::Public,
        help: "Hosts this environment's proxied calls may not reach, with commas: names, .domains, addresses, ranges.",
        example: "\".internal.example.com,203.0.113.0/24\"",
        since: "0.1.0",
        get: |settings| joined(&settings.proxy.deny_hosts),
        set: |settings, text| settings.proxy.deny_hosts = split(text),
    },
    EnvironmentSetting {
        key: "proxy.allow_hosts",
        kind: EnvironmentKind::Hosts,
        visibility: Visibility::Public,
        help: "The only hosts this environment's proxied calls may reach, with commas, sub-domains included.",
        example: "\"api.github.com,salesforce.com\"",
        since: "0.1.0",
        get: |settings| joined(&settings.proxy.allow_hosts),
        set: |settings, text| settings.proxy.allow_hosts = split(text),
    },
    proxy_switch!(
        refresh_on_unauthorized,
        "Whether a provider's 401 leads to one refresh of the credentials and one more attempt."
    ),
    proxy_switch!(
        log_bodies,
        "Whether the beginnings of response bodies are logged also when a call went well, secrets masked."
    ),
];

fn joined(hosts: &[String]) -> Option<String> {
    (!hosts.is_empty()).then(|| hosts.join(","))
}

fn split(text: Option<&str>) -> Vec<String> {
    text.into_iter()
        .flat_map(|text| text.split(','))
        .map(str::to_owned)
        .collect()
}

fn look(settings: &EnvironmentSettings, path: &[&str]) -> Option<String> {
    let mut value = settings.connect_ui.as_ref()?.get(*path.first()?)?;
    for step in path.get(1..)? {
        value = value.get(step)?;
    }
    Some(match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

fn set_look(settings: &mut EnvironmentSettings, path: &[&str], text: Option<&str>) {
    // The wire object is always whole, so a first setting brings the defaults of the others.
    let look = settings.connect_ui.get_or_insert_with(default_connect_ui);
    let default = path
        .iter()
        .fold(Value::Object(default_connect_ui()), |value, step| {
            value.get(step).cloned().unwrap_or(Value::Null)
        });
    let value = match text {
        None => default,
        Some("true") => Value::Bool(true),
        Some("false") => Value::Bool(false),
        Some(text) => Value::String(text.to_owned()),
    };
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut map = look;
    for step in parents {
        let inner = map.entry(*step).or_insert_with(|| json!({}));
        if !inner.is_object() {
            *inner = json!({});
        }
        let Value::Object(next) = inner else { return };
        map = next;
    }
    if value.is_null() {
        map.shift_remove(*last);
    } else {
        map.insert((*last).to_owned(), value);
    }
}

/// Checked changes of an environment. What is not named stays as it is.
#[derive(Clone, Debug, Default)]
pub struct EnvironmentPatch {
    /// Whether it is a production environment.
    pub production: Option<bool>,
    /// Variables for functions; none removes.
    pub variables: BTreeMap<String, Option<Secret>>,
    settings: Vec<(&'static EnvironmentSetting, Option<String>)>,
    otlp_headers: BTreeMap<String, Option<Secret>>,
}

/// `key = value`; none clears.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Dotted key.
    pub key: String,
    /// Text, if there is one.
    pub value: Option<String>,
    /// Where it stood.
    pub origin: Origin,
}

impl EnvironmentPatch {
    /// Reads assignments for the environment `name`.
    ///
    /// # Errors
    /// Every assignment that cannot be carried out, with `prefix` before its key.
    pub fn parse(name: &str, prefix: &str, assignments: Vec<Assignment>) -> Result<Self, Problems> {
        let mut patch = Self::default();
        let mut problems = Vec::new();
        for Assignment { key, value, origin } in assignments {
            if let Err(invalid) = patch.add(name, &key, value.as_deref()) {
                let visibility = visibility(&key);
                problems.push(Problem {
                    key: format!("{prefix}{key}"),
                    value: value
                        .filter(|_| known(&key))
                        .map(|value| super::sources::mask(&value, visibility)),
                    origin,
                    reason: invalid.reason,
                    fix: invalid.fix,
                });
            }
        }
        if problems.is_empty() {
            Ok(patch)
        } else {
            Err(Problems(problems))
        }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.production.is_none()
            && self.variables.is_empty()
            && self.settings.is_empty()
            && self.otlp_headers.is_empty()
    }

    /// Carries the changes of settings out; `production` and `variables` live elsewhere.
    pub fn apply(&self, settings: &mut EnvironmentSettings) {
        for (setting, value) in &self.settings {
            (setting.set)(settings, value.as_deref());
        }
        for (name, value) in &self.otlp_headers {
            settings
                .otlp_headers
                .retain(|header| !header.name.eq_ignore_ascii_case(name));
            if let Some(value) = value {
                settings.otlp_headers.push(OtlpHeader {
                    name: name.clone(),
                    value: value.clone(),
                });
            }
        }
    }

    fn add(&mut self, environment: &str, key: &str, value: Option<&str>) -> Result<(), Invalid> {
        if key == "production" {
            let on = value
                .map(values::switch)
                .transpose()?
                .unwrap_or(environment == "prod");
            if environment == "prod" && !on {
                return Err(Invalid::new(
                    "must be true for the environment `prod`",
                    "leave it out, or use an environment of another name",
                ));
            }
            self.production = Some(on);
            return Ok(());
        }
        if let Some(name) = key.strip_prefix("variables.") {
            limit(name, 256, "name")?;
            if let Some(value) = value {
                limit(value, 4000, "value")?;
            }
            self.variables.insert(name.to_owned(), value.map(Secret::new));
            return Ok(());
        }
        if let Some(name) = key.strip_prefix("otlp_headers.") {
            limit(name, 256, "name")?;
            if http::HeaderName::try_from(name).is_err() {
                return Err(Invalid::new(
                    "is not a header's name",
                    "use letters, digits and hyphens",
                ));
            }
            if let Some(value) = value {
                limit(value, 4000, "value")?;
                if http::HeaderValue::try_from(value).is_err() {
                    return Err(Invalid::new(
                        "is not a header's value",
                        "use visible characters only",
                    ));
                }
            }
            self.otlp_headers.insert(name.to_owned(), value.map(Secret::new));
            if self.otlp_headers.len() > 100 {
                return Err(Invalid::new("is one header too many", "send at most 100"));
            }
            return Ok(());
        }
        let Some(setting) = ENVIRONMENT_SETTINGS.iter().find(|setting| setting.key == key) else {
            return Err(Invalid::new(
                "is not a setting of an environment",
                if key == super::options::API_KEY {
                    "set it in the config file or by PATCHBAY_API_KEY_<ENV>; \
                     `patchbay keys create` makes further keys"
                        .to_owned()
                } else {
                    suggestion(
                        key,
                        environment_keys(),
                        "`patchbay config default` prints every setting",
                    )
                },
            ));
        };
        let value = value.map(|text| canonical(setting.kind, text)).transpose()?;
        self.settings.push((setting, value));
        Ok(())
    }
}

fn canonical(kind: EnvironmentKind, text: &str) -> Result<String, Invalid> {
    match kind {
        EnvironmentKind::Switch => values::switch(text).map(|on| on.to_string()),
        EnvironmentKind::Url => {
            values::web_url(text)?;
            let text = text.trim();
            limit(text, 255, "URL")?;
            Ok(text.to_owned())
        }
        EnvironmentKind::Colour => values::colour(text).map(|()| text.to_owned()),
        EnvironmentKind::Choice(words) => values::choice(text, words).map(str::to_owned),
        EnvironmentKind::Text(longest) => limit(text, longest, "text").map(|()| text.to_owned()),
        EnvironmentKind::Hosts => {
            let hosts = text.split(',').map(values::host);
            Ok(hosts.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        EnvironmentKind::Hours => match text.trim().parse::<u32>() {
            Ok(hours) if hours <= MOST_HOURS => Ok(hours.to_string()),
            _ => Err(Invalid::new(
                "is not a number of hours",
                format!("write a whole number from 0 to {MOST_HOURS}"),
            )),
        },
    }
}

fn limit(text: &str, longest: usize, what: &str) -> Result<(), Invalid> {
    match text.chars().count() {
        0 => Err(Invalid::new(
            format!("has an empty {what}"),
            "write at least one character",
        )),
        length if length > longest => Err(Invalid::new(
            format!("has a {what} of {length} characters"),
            format!("write at most {longest}"),
        )),
        _ => Ok(()),
    }
}

fn visibility(key: &str) -> Visibility {
    if key.starts_with("variables.") || key.starts_with("otlp_headers.") {
        return Visibility::Secret;
    }
    let setting = ENVIRONMENT_SETTINGS.iter().find(|setting| setting.key == key);
    setting.map_or(Visibility::Public, |setting| setting.visibility)
}

/// The value of an unknown key may be a secret whose key was misspelt.
fn known(key: &str) -> bool {
    key == "production"
        || key.starts_with("variables.")
        || key.starts_with("otlp_headers.")
        || ENVIRONMENT_SETTINGS.iter().any(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(name: &str, pairs: &[(&str, Option<&str>)]) -> Result<EnvironmentPatch, Problems> {
        let assignments = pairs
            .iter()
            .map(|(key, value)| Assignment {
                key: (*key).to_owned(),
                value: value.map(str::to_owned),
                origin: Origin::Argument,
            })
            .collect();
        EnvironmentPatch::parse(name, "", assignments)
    }

    #[test]
    fn every_setting_is_set_read_back_and_cleared() {
        for setting in ENVIRONMENT_SETTINGS {
            let before = setting.get(&EnvironmentSettings::default());
            let text = match setting.kind {
                EnvironmentKind::Switch if before.as_deref() == Some("true") => "false",
                EnvironmentKind::Switch => "true",
                EnvironmentKind::Url => "https://a.example/x",
                EnvironmentKind::Colour => "#123456",
                EnvironmentKind::Choice(words) => words[0],
                EnvironmentKind::Text(_) => "text",
                EnvironmentKind::Hosts => "api.example.com,.example.org",
                EnvironmentKind::Hours => "12",
            };
            let mut settings = EnvironmentSettings::default();
            patch("dev", &[(setting.key, Some(text))])
                .unwrap()
                .apply(&mut settings);
            assert_eq!(setting.get(&settings).as_deref(), Some(text), "{}", setting.key);
            assert_ne!(settings, EnvironmentSettings::default(), "{}", setting.key);
            patch("dev", &[(setting.key, None)]).unwrap().apply(&mut settings);
            settings.connect_ui = None;
            assert_eq!(settings, EnvironmentSettings::default(), "{}", setting.key);
        }
    }

    #[test]
    fn a_first_look_setting_brings_the_defaults_of_the_others() {
        let mut settings = EnvironmentSettings::default();
        patch("dev", &[("connect_ui.theme.dark.primary", Some("teal"))])
            .unwrap()
            .apply(&mut settings);
        let look = Value::Object(settings.connect_ui.unwrap());
        assert_eq!(look["theme"]["dark"]["primary"], "teal");
        assert_eq!(look["theme"]["light"]["primary"], "#14746f");
        assert_eq!(look["showWatermark"], true);
    }

    #[test]
    fn limits_hold_from_both_sides() {
        let url = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
        let (fits, too_long) = (url(255), url(256));
        assert!(patch("dev", &[("webhooks.primary_url", Some(&fits))]).is_ok());
        assert!(patch("dev", &[("webhooks.primary_url", Some(&too_long))]).is_err());
        assert!(patch("dev", &[("hmac_key", Some(&"k".repeat(1000)))]).is_ok());
        assert!(patch("dev", &[("hmac_key", Some(&"k".repeat(1001)))]).is_err());
        assert!(patch("dev", &[("variables.A", Some(""))]).is_err());
        assert!(patch("dev", &[("otlp_headers.a b", Some("x"))]).is_err());
        assert!(patch("dev", &[("production", Some("false"))]).is_ok());
        assert!(patch("prod", &[("production", Some("false"))]).is_err());
    }

    #[test]
    fn problems_hide_secrets_and_suggest() {
        let problems = patch(
            "dev",
            &[
                ("hmac_kye", Some("planted-hmac")),
                ("variables.TOKEN", Some(&"planted-x".repeat(500))),
                ("webhooks.primray_url", Some("https://a.example")),
            ],
        )
        .unwrap_err();
        let text = problems.to_string();
        assert!(!text.contains("planted-"), "{text}");
        assert!(text.contains("did you mean `hmac_key`?"), "{text}");
        assert!(text.contains("did you mean `webhooks.primary_url`?"), "{text}");
    }
}
