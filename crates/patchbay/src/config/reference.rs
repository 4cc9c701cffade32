//! The table of settings, printed: default file, JSON schema, documentation.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::environments::{ENVIRONMENT_SETTINGS, EnvironmentKind, MOST_HOURS};
use super::options::{
    ALIASES, API_KEY, API_KEY_ALIAS, API_KEY_VARIABLE, Kind, SECTIONS, SETTINGS, Setting, setting,
};
use super::otel;

/// The commented file that `patchbay config default` prints. Every line that sets something is commented out.
pub fn default_file() -> String {
    let mut text = String::from(
        "# Patchbay's settings, each with its default.\n\
         #\n\
         # A setting `some_key` is also the flag --some-key and the variable PATCHBAY_SOME_KEY.\n\
         # Flags win over variables, variables over this file, this file over defaults.\n\
         # Variables hold lists with commas; an empty variable counts as not set.\n\
         # `patchbay config check` reads everything and shows where each value came from.\n",
    );
    for (section, intro) in SECTIONS.iter().filter(|(section, _)| *section != "Environments") {
        let _ = write!(text, "\n\n# --- {section} ---\n# {intro}\n");
        for setting in SETTINGS.iter().filter(|setting| setting.section == *section) {
            text.push('\n');
            for line in setting.help {
                let _ = writeln!(text, "# {line}");
            }
            let default = match (setting.default, setting.default_note) {
                (Some(_), _) | (None, None) => String::new(),
                (None, Some(note)) => format!(" Default: {note}."),
            };
            let _ = writeln!(text, "# Since {}.{default}", setting.since);
            let _ = writeln!(text, "#{} = {}", setting.key, default_toml(setting));
        }
    }
    text.push_str(
        "\n\n# --- Environments ---\n\
         # One table each; a missing environment is made at the start. What is not named here stays as it was set\n\
         # by command or API. An empty text clears a setting. `patchbay env set NAME KEY=VALUE` takes the same keys.\n\
         \n#[environments.dev]\n",
    );
    text.push_str(
        "\n# Fixes the API key (UUID v4); it then also signs the webhooks. Variable: PATCHBAY_API_KEY_DEV. \
         Since 0.1.0.\n#api_key = \"<UUID v4>\"\n",
    );
    text.push_str(
        "\n# Whether it is a production environment; `prod` always is. Since 0.1.0.\n#production = false\n",
    );
    for setting in ENVIRONMENT_SETTINGS {
        let _ = write!(
            text,
            "\n# {} Since {}.\n#{} = {}\n",
            setting.help, setting.since, setting.key, setting.example
        );
    }
    text.push_str(
        "\n# Headers of that export. Since 0.1.0.\n#otlp_headers.authorization = \"Bearer <token>\"\n\
         \n# Variables for functions, stored encrypted. Since 0.1.0.\n#variables.SOME_NAME = \"value\"\n",
    );
    text
}

/// JSON Schema (2020-12) of the file, for editors.
pub fn json_schema() -> Value {
    let mut properties = Map::new();
    for setting in SETTINGS.iter().filter(|setting| setting.key != API_KEY) {
        properties.insert(setting.key.to_owned(), property(setting));
    }
    properties.insert(
        "environments".to_owned(),
        json!({
            "type": "object",
            "description": "Environments by name.",
            "propertyNames": { "pattern": "^[a-z0-9_-]{1,255}$" },
            "additionalProperties": environment_schema(),
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Patchbay configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

/// docs/operate/configuration.md's tables.
pub fn settings_markdown() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Printed from the table in the source by `UPDATE_GENERATED=1 cargo test -p patchbay`; a test keeps it \
         fresh. The same as a file to start from: `patchbay config default`. For editors: \
         [config.schema.json](config.schema.json). How the sources combine: [configuration.md](configuration.md).\n",
    );
    for (section, intro) in SECTIONS {
        let _ = write!(
            text,
            "\n## {section}\n\n{intro}\n\n| Key | Default | Meaning | Since |\n|---|---|---|---|\n"
        );
        for setting in SETTINGS.iter().filter(|setting| setting.section == *section) {
            let default = match (setting.default, setting.default_note) {
                (Some(default), _) => format!("`{default}`"),
                (None, Some(note)) => note.replace('<', "\\<"),
                (None, None) => "–".to_owned(),
            };
            let _ = writeln!(
                text,
                "| `{}` | {default} | {} | {} |",
                setting.key,
                setting.help.join(" ").replace('|', "\\|").replace('<', "\\<"),
                setting.since
            );
        }
    }
    text.push_str(
        "\n## An environment\n\n\
         Keys of `[environments.<name>]` in the file and of `patchbay env set <name> KEY=VALUE…`; \
         an empty value clears.\n\n| Key | Example | Meaning | Since |\n|---|---|---|---|\n\
         | `production` | `false` | Whether it is a production environment; `prod` always is. | 0.1.0 |\n",
    );
    for setting in ENVIRONMENT_SETTINGS {
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {} | {} |",
            setting.key,
            setting.example.trim_matches('"'),
            setting.help.replace('<', "\\<"),
            setting.since
        );
    }
    text.push_str(
        "| `otlp_headers.<name>` | `Bearer …` | A header of that export. | 0.1.0 |\n\
         | `variables.<NAME>` | `value` | A variable for functions, stored encrypted. | 0.1.0 |\n",
    );
    text
}

/// docs/operate/environment-variables.md.
pub fn variables_markdown() -> String {
    let mut text = String::from(
        "# Environment variables\n\n\
         Printed from the table in the source by `UPDATE_GENERATED=1 cargo test -p patchbay`; a test keeps it \
         fresh. Each variable means the same as the key of the file and the flag beside it, see \
         [settings.md](settings.md). An empty variable counts as not set. Lists are separated by commas.\n\n\
         | Variable | File key | Flag |\n|---|---|---|\n\
         | `PATCHBAY_CONFIG` | – | `--config` |\n",
    );
    for setting in SETTINGS {
        let key = if setting.key == API_KEY {
            "environments.<env>.api_key"
        } else {
            setting.key
        };
        let _ = writeln!(
            text,
            "| `{}` | `{key}` | `{}` |",
            setting.variable(),
            setting.flag()
        );
    }
    text.push_str(
        "\nThe name after `PATCHBAY_API_KEY_` in lower case is the environment's name; for a name with a hyphen, \
         which a shell cannot put into a variable, use the file or the flag.\n\n\
         ## Names of the server Patchbay replaces\n\n\
         Understood too, so that an existing set-up can be pointed at Patchbay. Ours win when both are set.\n\n\
         | Variable | Same as |\n|---|---|\n",
    );
    for (alias, key) in ALIASES {
        let same = setting(key).map(Setting::variable).unwrap_or_default();
        let note = if *alias == "SERVER_PORT" {
            " (its port; the host stays)"
        } else {
            ""
        };
        let _ = writeln!(text, "| `{alias}` | `{same}`{note} |");
    }
    let _ = writeln!(text, "| `{API_KEY_ALIAS}<ENV>` | `{API_KEY_VARIABLE}<ENV>` |");
    text.push_str(
        "\n## OpenTelemetry\n\n\
         The standard variables; without an endpoint nothing is exported.\n\n| Variable | Meaning |\n|---|---|\n",
    );
    for (name, meaning) in otel::VARIABLES {
        let _ = writeln!(text, "| `{name}` | {} |", meaning.replace('|', "\\|"));
    }
    text
}

fn default_toml(setting: &Setting) -> String {
    let Some(default) = setting.default else {
        return setting.example.to_owned();
    };
    match setting.kind {
        Kind::Count | Kind::SwitchOrNetworks => default.to_owned(),
        kind if kind.is_list() => {
            let items: Vec<String> = default.split(',').map(|item| format!("{item:?}")).collect();
            format!("[{}]", items.join(", "))
        }
        _ => format!("{default:?}"),
    }
}

fn property(setting: &Setting) -> Value {
    let mut schema = match setting.kind {
        Kind::Count => json!({ "type": "integer", "minimum": 0 }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::SwitchOrNetworks => json!({
            "oneOf": [{ "type": "boolean" }, { "type": "array", "items": { "type": "string" } }],
        }),
        kind if kind.is_list() => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Duration => json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" }),
        Kind::Url => json!({ "type": "string", "format": "uri" }),
        _ => json!({ "type": "string" }),
    };
    if let Value::Object(map) = &mut schema {
        let help = setting.help.join(" ");
        map.insert(
            "description".to_owned(),
            json!(format!("{help} Since {}.", setting.since)),
        );
        if let Some(default) = setting.default {
            let value = match setting.kind {
                Kind::Count => default.parse::<u64>().map_or(Value::Null, Value::from),
                Kind::SwitchOrNetworks => json!(default == "true"),
                kind if kind.is_list() => json!(default.split(',').collect::<Vec<_>>()),
                _ => json!(default),
            };
            map.insert("default".to_owned(), value);
        }
    }
    schema
}

fn environment_schema() -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let mut root = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "api_key": { "type": "string", "format": "uuid", "description": "Fixes the API key. Since 0.1.0." },
            "production": {
                "type": "boolean",
                "description": "Whether it is a production environment. Since 0.1.0.",
            },
            "otlp_headers": texts.clone(),
            "variables": texts,
        },
    });
    for setting in ENVIRONMENT_SETTINGS {
        let mut schema = match setting.kind {
            EnvironmentKind::Switch => json!({ "type": "boolean" }),
            EnvironmentKind::Url => json!({ "type": "string", "maxLength": 255 }),
            EnvironmentKind::Colour | EnvironmentKind::Hosts => json!({ "type": "string" }),
            EnvironmentKind::Choice(words) => json!({ "enum": words }),
            EnvironmentKind::Hours => json!({ "type": "integer", "minimum": 0, "maximum": MOST_HOURS }),
            EnvironmentKind::Text(longest) => json!({ "type": "string", "maxLength": longest }),
        };
        schema["description"] = json!(format!("{} Since {}.", setting.help, setting.since));
        let mut at = &mut root;
        let steps: Vec<&str> = setting.key.split('.').collect();
        for step in &steps[..steps.len() - 1] {
            let inner = &mut at["properties"][*step];
            if inner.is_null() {
                *inner = json!({ "type": "object", "additionalProperties": false, "properties": {} });
            }
            at = inner;
        }
        at["properties"][steps[steps.len() - 1]] = schema;
    }
    root
}
