//! Flags, environment variables and the file, before anything is read as a value.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::environments::ENVIRONMENT_SETTINGS;
use super::options::{
    ALIASES, API_KEY, API_KEY_ALIAS, API_KEY_VARIABLE, SETTINGS, Setting, Visibility, setting,
};
use super::problem::{Origin, Problem, Problems, nearest, suggestion};
use super::values;

/// File read if it exists and no other is named.
pub(super) const DEFAULT_FILE: &str = "patchbay.toml";

/// Variable that names the file.
pub(super) const FILE_VARIABLE: &str = "PATCHBAY_CONFIG";

/// Everything a configuration is read from. A map, not the process: tests pass their own.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Values of flags by the key of their setting.
    pub flags: BTreeMap<String, Vec<String>>,
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// The file, if there is one.
    pub file: Option<ConfigFile>,
}

/// A config file's text.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl Sources {
    /// Flags and the variables of this process that concern Patchbay, and the file they name.
    ///
    /// # Errors
    /// A file that was named cannot be read.
    pub fn of_process(
        flags: BTreeMap<String, Vec<String>>,
        file_flag: Option<PathBuf>,
    ) -> Result<Self, Problems> {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| {
                ["PATCHBAY_", "NANGO_", "OTEL_"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
                    || name == "SERVER_PORT"
            })
            .collect();
        let file = read_file(file_flag, &variables)?;
        Ok(Self {
            flags,
            variables,
            file,
        })
    }
}

fn read_file(
    flag: Option<PathBuf>,
    variables: &BTreeMap<String, String>,
) -> Result<Option<ConfigFile>, Problems> {
    let named = match flag {
        Some(path) => Some((path, Origin::Flag("--config".to_owned()))),
        None => variables
            .get(FILE_VARIABLE)
            .filter(|path| !path.is_empty())
            .map(|path| (PathBuf::from(path), Origin::Variable(FILE_VARIABLE.to_owned()))),
    };
    let explicit = named.is_some();
    let (path, origin) = named.unwrap_or_else(|| (PathBuf::from(DEFAULT_FILE), Origin::Default));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(ConfigFile { path, text })),
        Err(error) if !explicit && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problems(vec![Problem {
            key: "config".to_owned(),
            value: Some(path.display().to_string()),
            origin,
            reason: format!("cannot be read: {error}"),
            fix: "name a readable file; `patchbay config default` prints one to start from".to_owned(),
        }])),
    }
}

/// A value as text, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) items: Vec<String>,
    pub(super) origin: Origin,
}

impl Raw {
    /// The text as problems show it.
    pub(super) fn shown(&self, visibility: Visibility) -> String {
        mask(&self.items.join(","), visibility)
    }
}

pub(super) fn mask(text: &str, visibility: Visibility) -> String {
    match visibility {
        Visibility::Public => text.to_owned(),
        Visibility::Secret => "***".to_owned(),
        Visibility::UrlPassword => match url::Url::parse(text) {
            Ok(mut url) if url.password().is_some() || url.query().is_some() => {
                if url.password().is_some() && url.set_password(Some("***")).is_err() {
                    return "***".to_owned();
                }
                if url.query().is_some() {
                    url.set_query(Some("***"));
                }
                url.to_string()
            }
            Ok(_) => text.to_owned(),
            // A connection string in `key=value` form may hold a password too.
            Err(_) => "***".to_owned(),
        },
    }
}

/// An environment's table in the file.
#[derive(Debug)]
pub(super) struct EnvironmentTable {
    pub(super) origin: Origin,
    /// Dotted key and value.
    pub(super) entries: Vec<(String, Raw)>,
}

/// The merged sources.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) settings: BTreeMap<&'static str, Raw>,
    /// Environment name to its key; already merged by precedence.
    pub(super) api_keys: BTreeMap<String, Raw>,
    pub(super) environments: BTreeMap<String, EnvironmentTable>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Layers {
    /// File first, then variables over it, then flags over both.
    pub(super) fn merge(sources: &Sources) -> Self {
        let mut layers = Self::default();
        if let Some(file) = &sources.file {
            layers.add_file(file);
        }
        layers.add_aliases(&sources.variables);
        layers.add_variables(&sources.variables);
        layers.add_flags(&sources.flags);
        layers
    }

    fn add_aliases(&mut self, variables: &BTreeMap<String, String>) {
        for (name, key) in ALIASES {
            let Some(value) = variables.get(*name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let Some(setting) = setting(key) else { continue };
            let items = if *name == "SERVER_PORT" {
                // A port alone keeps the host that the file or the default says.
                let current = self.settings.get(key).and_then(|raw| raw.items.first().cloned());
                let current = current
                    .or_else(|| setting.default.map(str::to_owned))
                    .unwrap_or_default();
                let host = values::listen(&current).map(|listen| listen.host);
                let host = host.unwrap_or_else(|_| "127.0.0.1".to_owned());
                vec![if host.contains(':') {
                    format!("[{host}]:{value}")
                } else {
                    format!("{host}:{value}")
                }]
            } else {
                split(setting, value)
            };
            let origin = Origin::Variable((*name).to_owned());
            self.settings.insert(setting.key, Raw { items, origin });
        }
        self.add_api_keys(variables, API_KEY_ALIAS);
    }

    fn add_variables(&mut self, variables: &BTreeMap<String, String>) {
        let names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        for (setting, name) in SETTINGS.iter().zip(&names) {
            let Some(value) = variables.get(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let raw = Raw {
                items: split(setting, value),
                origin: Origin::Variable(name.clone()),
            };
            self.settings.insert(setting.key, raw);
        }
        self.add_api_keys(variables, API_KEY_VARIABLE);
        // Orchestrators put variables of their own beside ours (PATCHBAY_SERVICE_HOST), so an unknown name is
        // only worth a word if it looks like a slip of the pen.
        for name in variables.keys() {
            let known = names.contains(name)
                || name == FILE_VARIABLE
                || name.starts_with(API_KEY_VARIABLE)
                || name.starts_with("PATCHBAY_TEST_")
                || !name.starts_with("PATCHBAY_");
            if known {
                continue;
            }
            let candidates = names.iter().map(String::as_str).chain([FILE_VARIABLE]);
            let close = nearest(name, candidates)
                .filter(|candidate| strsim::damerau_levenshtein(name, candidate) <= 2);
            if let Some(close) = close {
                self.warnings.push(format!(
                    "environment variable {name} is not a setting and was ignored; did you mean {close}?"
                ));
            }
        }
    }

    fn add_api_keys(&mut self, variables: &BTreeMap<String, String>, prefix: &str) {
        for (name, value) in variables {
            let Some(environment) = name.strip_prefix(prefix).filter(|_| !value.is_empty()) else {
                continue;
            };
            let raw = Raw {
                items: vec![value.clone()],
                origin: Origin::Variable(name.clone()),
            };
            self.api_keys.insert(environment.to_lowercase(), raw);
        }
    }

    fn add_flags(&mut self, flags: &BTreeMap<String, Vec<String>>) {
        for setting in SETTINGS {
            let Some(values) = flags.get(setting.key) else {
                continue;
            };
            let items: Vec<String> = values.iter().flat_map(|value| split(setting, value)).collect();
            let origin = Origin::Flag(setting.flag());
            if setting.key != API_KEY {
                self.settings.insert(setting.key, Raw { items, origin });
                continue;
            }
            for item in items {
                match item.split_once('=') {
                    Some((environment, key)) => {
                        let raw = Raw {
                            items: vec![key.to_owned()],
                            origin: origin.clone(),
                        };
                        self.api_keys.insert(environment.to_owned(), raw);
                    }
                    None => self.problems.push(Problem {
                        key: API_KEY.to_owned(),
                        value: Some("***".to_owned()),
                        origin: origin.clone(),
                        reason: "does not say for which environment".to_owned(),
                        fix: "write --api-key dev=<UUID v4>".to_owned(),
                    }),
                }
            }
        }
    }

    fn add_file(&mut self, file: &ConfigFile) {
        let (table, errors) = DeTable::parse_recoverable(&file.text);
        if !errors.is_empty() {
            // Only the message: the library's own rendering quotes the line, which may hold a secret.
            self.problems.extend(errors.iter().map(|error| Problem {
                key: "config".to_owned(),
                value: None,
                origin: Origin::file(&file.path, &file.text, error.span().map_or(0, |span| span.start)),
                reason: format!("is not valid TOML: {}", error.message()),
                fix: "correct the line; texts stand in double quotes, tables in [brackets]".to_owned(),
            }));
            return;
        }
        for (key, value) in table.get_ref() {
            let origin = Origin::file(&file.path, &file.text, key.span().start);
            let name = key.get_ref().as_ref();
            if name == "environments" {
                self.add_environments(file, value, &origin);
                continue;
            }
            let Some(setting) = setting(name).filter(|setting| setting.key != API_KEY) else {
                let known = SETTINGS.iter().map(|setting| setting.key).chain(["environments"]);
                self.problems.push(Problem {
                    key: name.to_owned(),
                    value: None,
                    origin,
                    reason: "is not a setting".to_owned(),
                    fix: if name == API_KEY {
                        "put it into the table of its environment, such as [environments.dev]".to_owned()
                    } else {
                        suggestion(name, known, "`patchbay config default` prints every setting")
                    },
                });
                continue;
            };
            match texts(value.get_ref()) {
                Some(items) => {
                    let items = match (setting.kind.is_list(), items.as_slice()) {
                        // "a,b" in one string means the same as in a variable.
                        (true, [one]) => split(setting, one),
                        _ => items,
                    };
                    self.settings.insert(setting.key, Raw { items, origin });
                }
                None => self.problems.push(wrong_shape(name, value.get_ref(), origin)),
            }
        }
    }

    fn add_environments(&mut self, file: &ConfigFile, value: &Spanned<DeValue<'_>>, origin: &Origin) {
        let DeValue::Table(tables) = value.get_ref() else {
            self.problems
                .push(wrong_shape("environments", value.get_ref(), origin.clone()));
            return;
        };
        for (name, value) in tables {
            let origin = Origin::file(&file.path, &file.text, name.span().start);
            let name = name.get_ref().as_ref();
            let DeValue::Table(table) = value.get_ref() else {
                let key = format!("environments.{name}");
                self.problems.push(Problem {
                    key: key.clone(),
                    value: None,
                    origin,
                    reason: "is not a table".to_owned(),
                    fix: format!("write [{key}] and its settings below"),
                });
                continue;
            };
            let mut environment = EnvironmentTable {
                origin,
                entries: Vec::new(),
            };
            self.flatten(file, name, "", table, &mut environment);
            self.environments.insert(name.to_owned(), environment);
        }
    }

    fn flatten(
        &mut self,
        file: &ConfigFile,
        environment: &str,
        prefix: &str,
        table: &DeTable<'_>,
        into: &mut EnvironmentTable,
    ) {
        for (key, value) in table {
            let origin = Origin::file(&file.path, &file.text, key.span().start);
            let key = format!("{prefix}{}", key.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                self.flatten(file, environment, &format!("{key}."), inner, into);
                continue;
            }
            let Some(items) = texts(value.get_ref()).filter(|items| items.len() == 1) else {
                let key = format!("environments.{environment}.{key}");
                self.problems.push(wrong_shape(&key, value.get_ref(), origin));
                continue;
            };
            let raw = Raw { items, origin };
            if key == API_KEY {
                self.api_keys.insert(environment.to_owned(), raw);
            } else {
                into.entries.push((key, raw));
            }
        }
    }
}

/// Keys an environment's table may have, for suggestions.
pub(super) fn environment_keys() -> impl Iterator<Item = &'static str> {
    ENVIRONMENT_SETTINGS
        .iter()
        .map(|setting| setting.key)
        .chain([API_KEY, "production"])
}

fn split(setting: &Setting, text: &str) -> Vec<String> {
    if !setting.kind.is_list() {
        return vec![text.to_owned()];
    }
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A scalar, or an array of scalars, as text.
fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    if let DeValue::Array(items) = value {
        let items: &DeArray<'_> = items;
        return items.iter().map(|item| scalar(item.get_ref())).collect();
    }
    scalar(value).map(|text| vec![text])
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn wrong_shape(key: &str, value: &DeValue<'_>, origin: Origin) -> Problem {
    Problem {
        key: key.to_owned(),
        value: None,
        origin,
        reason: format!("cannot be a TOML {}", value.type_str()),
        fix: match setting(key) {
            Some(setting) if !setting.example.is_empty() => {
                format!("write it like {key} = {}", setting.example)
            }
            _ => "`patchbay config default` shows how it is written".to_owned(),
        },
    }
}
