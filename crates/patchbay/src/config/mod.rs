//! Configuration: flags over environment variables over a TOML file over defaults.
//!
//! [`options`] is the table of settings; [`Sources`] is what they are read from, a value that tests make up;
//! [`Config::load`] is pure and reports every problem at once, each with its key, value (secrets masked), origin,
//! reason and fix. [`reference`](mod@reference) prints the table as the default file, the JSON schema and the docs.

pub mod environments;
pub mod options;
mod otel;
mod problem;
pub mod reference;
mod sources;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use patchbay_types::{EnvironmentName, Secret};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use url::Url;

pub use environments::{Assignment, EnvironmentPatch};
pub use otel::{Otel, Sampler};
pub use patchbay_outbound::{PrivateNetworks, Timeouts};
pub use patchbay_proxy::BaseUrlOverride;
pub use problem::{Invalid, Origin, Problem, Problems};
pub use sources::{ConfigFile, Sources};
pub use values::{EncryptionKey, Listen};

pub(crate) use problem::nearest;
pub(crate) use values::duration;

use options::{Kind, SETTINGS, Visibility, setting};
use sources::{Layers, Raw};

/// Reads a key file's text: one base64 key a line, `#` begins a comment.
///
/// # Errors
/// The line that holds no key, and why.
pub fn parse_key_file(text: &str) -> Result<Vec<EncryptionKey>, (usize, Invalid)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split('#').next().unwrap_or("").trim()))
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| values::encryption_key(line).map_err(|invalid| (number, invalid)))
        .collect()
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Patchbay listens and how the outside reaches it.
    pub server: Server,
    /// Where data lives.
    pub storage: Storage,
    /// Keys of encryption at rest.
    pub encryption: Encryption,
    /// Provider definitions besides the embedded ones.
    pub catalog: Catalog,
    /// Requests Patchbay sends.
    pub outbound: Outbound,
    /// Proxied calls.
    pub proxy: Proxy,
    /// Delivery of webhooks.
    pub webhooks: Webhooks,
    /// What the process prints.
    pub log: Log,
    /// Export of traces.
    pub otel: Otel,
    /// Environments the operator configured, by name.
    pub environments: BTreeMap<EnvironmentName, ConfiguredEnvironment>,
    /// Each setting's value as it may be shown, and where it came from.
    pub effective: Vec<Effective>,
    /// Suspicious things that do not prevent a start.
    pub warnings: Vec<String>,
}

/// Where Patchbay listens and how the outside reaches it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Address and port.
    pub listen: Listen,
    /// Outside URL; none means `http://localhost:<port>` once the port is known.
    pub public_url: Option<Url>,
    /// URL of the Connect UI; none means below the public URL.
    pub connect_ui_url: Option<Url>,
    /// APIs besides our own that the Connect UI may be pointed at.
    pub connect_ui_api_urls: Vec<Url>,
    /// Who may show the Connect UI in a frame; empty: everybody.
    pub connect_ui_frame_ancestors: Vec<String>,
    /// Path of the popup's WebSocket.
    pub websockets_path: String,
    /// Most popup WebSockets at once.
    pub websocket_limit: u32,
    /// Whether a callback must bring the cookie of the browser that began it.
    pub state_cookie: StateCookie,
    /// Proxies whose forwarded headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Calls an account may make a minute; 0 = no limit.
    pub rate_limit_per_min: u32,
    /// Largest request body, in bytes.
    pub body_limit: u64,
    /// Between unready and closed at shutdown.
    pub shutdown_delay: Duration,
    /// Longest drain at shutdown.
    pub shutdown_grace: Duration,
}

/// Whether a callback must bring the cookie of the browser that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateCookie {
    /// Yes.
    Required,
    /// No.
    Ignored,
}

/// Where data lives.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Directory of database file and key file.
    pub data_dir: PathBuf,
    /// The database.
    pub database: Database,
    /// Whether a transaction-mode pooler stands before Postgres.
    pub pooler: Pooler,
    /// Most connections to the database.
    pub max_connections: u32,
}

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by URL with password.
    Postgres(Secret),
}

/// What stands between Patchbay and Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing, or a pooler in session mode.
    None,
    /// A pooler in transaction mode.
    Transaction,
}

/// Keys of encryption at rest.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// The first encrypts, all decrypt. Empty: read `key_file`.
    pub keys: Vec<EncryptionKey>,
    /// File with one base64 key a line.
    pub key_file: PathBuf,
}

/// Provider definitions besides the embedded ones.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Files and directories; later ones win.
    pub paths: Vec<PathBuf>,
}

/// Requests Patchbay sends.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Opening of the address guard.
    pub allow_private_networks: PrivateNetworks,
    /// Further certificate authorities.
    pub ca_file: Option<PathBuf>,
}

/// Proxied calls.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Whether a base URL other than the provider's may be called.
    pub base_url_override: BaseUrlOverride,
    /// Never called.
    pub deny_hosts: Vec<String>,
    /// The only ones called; all if empty.
    pub allow_hosts: Vec<String>,
    /// Limits of each part of an exchange.
    pub timeouts: Timeouts,
    /// Between attempts.
    pub longest_wait: Duration,
    /// Log entries of each weight.
    pub logs_per_sec: u32,
}

/// Delivery of webhooks.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// Of one attempt.
    pub timeout: Duration,
    /// Waits between attempts.
    pub retries: Vec<Duration>,
    /// How long a rotated signing key stays valid.
    pub signing_key_grace: Duration,
}

/// What the process prints.
#[derive(Clone, Debug)]
pub struct Log {
    /// `tracing` filter directives, known to be valid.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// An environment the operator configured.
#[derive(Clone, Debug, Default)]
pub struct ConfiguredEnvironment {
    /// Its fixed API key, which also signs its webhooks.
    pub api_key: Option<Secret>,
    /// Settings named in the file; the others stay as they are.
    pub patch: EnvironmentPatch,
}

/// A setting as it may be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Effective {
    /// Key.
    pub key: String,
    /// Value, secrets masked.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

impl Config {
    /// Merges and checks the sources.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let mut layers = Layers::merge(sources);
        let environments = read_environments(&mut layers);
        let mut reader = Reader {
            problems: std::mem::take(&mut layers.problems),
            layers: &layers,
        };
        let storage = Storage::read(&mut reader);
        let config = Self {
            server: Server::read(&mut reader),
            encryption: Encryption::read(&mut reader, &storage),
            storage,
            catalog: Catalog {
                paths: reader.list("catalog", |text| Ok(PathBuf::from(text))),
            },
            outbound: Outbound::read(&mut reader),
            proxy: Proxy::read(&mut reader),
            webhooks: Webhooks {
                timeout: reader.value("webhook_timeout", positive_duration),
                retries: reader.list("webhook_retries", values::duration),
                signing_key_grace: reader.value("webhook_signing_key_grace", values::duration),
            },
            log: Log::read(&mut reader),
            otel: Otel::read(&sources.variables, &mut reader.problems),
            environments,
            effective: effective(&layers),
            warnings: layers.warnings.clone(),
        };
        if reader.problems.is_empty() {
            Ok(config)
        } else {
            Err(Problems(reader.problems))
        }
    }
}

impl Server {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            listen: reader.value("listen", values::listen),
            public_url: reader.optional("public_url", values::base_url),
            connect_ui_url: reader.optional("connect_ui_url", values::base_url),
            connect_ui_api_urls: reader.list("connect_ui_api_urls", values::base_url),
            connect_ui_frame_ancestors: reader.list("connect_ui_frame_ancestors", values::frame_ancestor),
            websockets_path: reader.value("websockets_path", values::absolute_path),
            websocket_limit: reader.value("websocket_limit", values::count),
            state_cookie: reader.value("state_cookie", |text| {
                Ok(match choice("state_cookie", text)? {
                    "ignored" => StateCookie::Ignored,
                    _ => StateCookie::Required,
                })
            }),
            trusted_proxies: reader.list("trusted_proxies", values::network),
            rate_limit_per_min: reader.value("rate_limit_per_min", values::count),
            body_limit: reader.value("body_limit", values::size),
            shutdown_delay: reader.value("shutdown_delay", values::duration),
            shutdown_grace: reader.value("shutdown_grace", values::duration),
        }
    }
}

impl Storage {
    fn read(reader: &mut Reader<'_>) -> Self {
        let data_dir: PathBuf = reader.value("data_dir", path);
        let database = reader
            .optional("database_url", database)
            .unwrap_or_else(|| Database::Sqlite(data_dir.join("patchbay.db")));
        let pooler = reader.value("database_pooler", |text| {
            Ok(match choice("database_pooler", text)? {
                "transaction" => Pooler::Transaction,
                _ => Pooler::None,
            })
        });
        if pooler == Pooler::Transaction && matches!(database, Database::Sqlite(_)) {
            reader.reject(
                "database_pooler",
                Invalid::new(
                    "needs Postgres, and the database is SQLite",
                    "set database_url to a postgres: URL, or leave database_pooler out",
                ),
            );
        }
        Self {
            data_dir,
            database,
            pooler,
            max_connections: reader.value("database_max_connections", values::at_least_one),
        }
    }
}

impl Encryption {
    fn read(reader: &mut Reader<'_>, storage: &Storage) -> Self {
        let keys: Vec<EncryptionKey> = reader.list("encryption_key", values::encryption_key);
        let doubled = keys
            .iter()
            .enumerate()
            .any(|(index, key)| keys[..index].contains(key));
        if doubled {
            reader.reject(
                "encryption_key",
                Invalid::new("names the same key twice", "leave the second one out"),
            );
        }
        Self {
            keys,
            key_file: reader
                .optional("encryption_key_file", path)
                .unwrap_or_else(|| storage.data_dir.join("encryption.key")),
        }
    }
}

impl Outbound {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            allow_private_networks: reader.whole("allow_private_networks", values::private_networks),
            ca_file: reader.optional("outbound_ca_file", path),
        }
    }
}

impl Proxy {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            base_url_override: reader.value("proxy_base_url_override", |text| {
                Ok(match choice("proxy_base_url_override", text)? {
                    "refused" => BaseUrlOverride::Refused,
                    _ => BaseUrlOverride::Allowed,
                })
            }),
            deny_hosts: reader.list("proxy_deny_hosts", values::host),
            allow_hosts: reader.list("proxy_allow_hosts", values::host),
            timeouts: Timeouts {
                connect: reader.value("proxy_connect_timeout", positive_duration),
                response: reader.value("proxy_response_timeout", positive_duration),
                idle: reader.value("proxy_idle_timeout", positive_duration),
            },
            longest_wait: reader.value("proxy_longest_wait", values::duration),
            logs_per_sec: reader.value("proxy_logs_per_sec", values::count),
        }
    }
}

impl Log {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            filter: reader.value("log", |text| match EnvFilter::builder().parse(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(error) => Err(Invalid::new(
                    format!("is not a log filter: {error}"),
                    "write error, warn, info, debug or trace, or target=level pairs with commas",
                )),
            }),
            format: reader.value("log_format", |text| {
                Ok(match choice("log_format", text)? {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                })
            }),
        }
    }
}

/// Reads one setting after the other and collects what is wrong.
struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn optional<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Option<T> {
        let raw = self.layers.settings.get(key)?;
        let parsed = match raw.items.as_slice() {
            [one] => parse(one),
            _ => Err(Invalid::new("has more than one value", "give exactly one")),
        };
        parsed.map_err(|invalid| self.reject(key, invalid)).ok()
    }

    /// The value, else the default; the default also stands in for a value that is wrong, so that reading goes on.
    fn value<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> T {
        if let Some(value) = self.optional(key, &parse) {
            return value;
        }
        let default = setting(key)
            .and_then(|setting| setting.default)
            .unwrap_or_default();
        parse(default).expect("every default is valid, as a test checks")
    }

    fn list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Vec<T> {
        self.whole(key, |items| items.iter().map(|item| parse(item)).collect())
    }

    fn whole<T>(&mut self, key: &str, parse: impl Fn(&[String]) -> Result<T, Invalid>) -> T {
        if let Some(raw) = self.layers.settings.get(key) {
            match parse(&raw.items) {
                Ok(value) => return value,
                Err(invalid) => self.reject(key, invalid),
            }
        }
        let default = setting(key)
            .and_then(|setting| setting.default)
            .unwrap_or_default();
        let items: Vec<String> = default
            .split(',')
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        parse(&items).unwrap_or_else(|_| unreachable!("every default is valid, as a test checks"))
    }

    fn reject(&mut self, key: &str, invalid: Invalid) {
        let visibility = setting(key).map_or(Visibility::Secret, |setting| setting.visibility);
        let raw = self.layers.settings.get(key);
        self.problems.push(Problem {
            key: key.to_owned(),
            value: raw.map(|raw| raw.shown(visibility)),
            origin: raw.map_or(Origin::Default, |raw| raw.origin.clone()),
            reason: invalid.reason,
            fix: invalid.fix,
        });
    }
}

fn read_environments(layers: &mut Layers) -> BTreeMap<EnvironmentName, ConfiguredEnvironment> {
    let mut environments: BTreeMap<EnvironmentName, ConfiguredEnvironment> = BTreeMap::new();
    for (name, table) in std::mem::take(&mut layers.environments) {
        let prefix = format!("environments.{name}");
        let parsed = match values::environment_name(&name) {
            Ok(parsed) => parsed,
            Err(invalid) => {
                layers.problems.push(Problem {
                    key: prefix,
                    value: None,
                    origin: table.origin,
                    reason: invalid.reason,
                    fix: invalid.fix,
                });
                continue;
            }
        };
        let assignments = table.entries.into_iter().map(|(key, raw)| Assignment {
            key,
            // An empty text clears: the file says so on purpose.
            value: raw.items.into_iter().next().filter(|text| !text.is_empty()),
            origin: raw.origin,
        });
        match EnvironmentPatch::parse(&name, &format!("{prefix}."), assignments.collect()) {
            Ok(patch) => environments.entry(parsed).or_default().patch = patch,
            Err(Problems(problems)) => layers.problems.extend(problems),
        }
    }
    let mut owners: Vec<(String, Secret)> = Vec::new();
    for (name, raw) in std::mem::take(&mut layers.api_keys) {
        let key = values::environment_name(&name).and_then(|parsed| {
            let secret = values::api_key(raw.items.first().map_or("", String::as_str))?;
            match owners.iter().find(|(_, other)| *other == secret) {
                Some((owner, _)) => Err(Invalid::new(
                    format!("is also the key of the environment `{owner}`"),
                    "a key opens one environment: make another one",
                )),
                None => Ok((parsed, secret)),
            }
        });
        match key {
            Ok((parsed, secret)) => {
                owners.push((name, secret.clone()));
                environments.entry(parsed).or_default().api_key = Some(secret);
            }
            Err(invalid) => layers.problems.push(Problem {
                key: format!("environments.{name}.api_key"),
                value: Some("***".to_owned()),
                origin: raw.origin,
                reason: invalid.reason,
                fix: invalid.fix,
            }),
        }
    }
    environments
}

fn effective(layers: &Layers) -> Vec<Effective> {
    SETTINGS
        .iter()
        .filter(|setting| setting.kind != Kind::ApiKeys)
        .map(|setting| {
            let raw: Option<&Raw> = layers.settings.get(setting.key);
            Effective {
                key: setting.key.to_owned(),
                value: raw
                    .map(|raw| raw.shown(setting.visibility))
                    .or_else(|| setting.default.or(setting.default_note).map(str::to_owned)),
                origin: raw.map_or(Origin::Default, |raw| raw.origin.clone()),
            }
        })
        .collect()
}

fn choice(key: &str, text: &str) -> Result<&'static str, Invalid> {
    let Some(Kind::Choice(words)) = setting(key).map(|setting| setting.kind) else {
        unreachable!("only settings of kind Choice are read by choice()");
    };
    values::choice(text, words)
}

fn path(text: &str) -> Result<PathBuf, Invalid> {
    if text.is_empty() {
        return Err(Invalid::new("is empty", "name a path"));
    }
    Ok(PathBuf::from(text))
}

fn positive_duration(text: &str) -> Result<Duration, Invalid> {
    match values::duration(text)? {
        Duration::ZERO => Err(Invalid::new("is no time at all", "write 1ms or more")),
        duration => Ok(duration),
    }
}

fn database(text: &str) -> Result<Database, Invalid> {
    let fix = "write sqlite:PATH, or postgres://user:password@host:5432/name";
    if let Some(rest) = text.strip_prefix("sqlite:") {
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        if rest.is_empty() || rest == ":memory:" {
            return Err(Invalid::new("names no file", fix));
        }
        return Ok(Database::Sqlite(PathBuf::from(rest)));
    }
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        let url = Url::parse(text).map_err(|error| Invalid::new(format!("is not a URL: {error}"), fix))?;
        if url.cannot_be_a_base() {
            return Err(Invalid::new("names no server", fix));
        }
        return Ok(Database::Postgres(Secret::new(text)));
    }
    Err(Invalid::new("is neither a sqlite: nor a postgres: URL", fix))
}

#[cfg(test)]
mod tests;
