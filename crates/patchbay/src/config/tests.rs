use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE64;

use super::*;

const KEY: &str = "3f2b8b56-7b1a-4d70-9a3e-0d5f4a0c1b2e";
const OTHER_KEY: &str = "a1f2b8b5-7b1a-4d70-9a3e-0d5f4a0c1b2e";

#[derive(Default)]
struct Given(Sources);

impl Given {
    fn flag(mut self, key: &str, value: &str) -> Self {
        self.0
            .flags
            .entry(key.to_owned())
            .or_default()
            .push(value.to_owned());
        self
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.0.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn file(mut self, text: &str) -> Self {
        self.0.file = Some(ConfigFile {
            path: PathBuf::from("patchbay.toml"),
            text: text.to_owned(),
        });
        self
    }

    fn load(&self) -> Result<Config, Problems> {
        Config::load(&self.0)
    }

    #[track_caller]
    fn ok(&self) -> Config {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[track_caller]
    fn problems(&self) -> Vec<Problem> {
        self.load().expect_err("should be refused").0
    }
}

fn origin(config: &Config, key: &str) -> String {
    config
        .effective
        .iter()
        .find(|effective| effective.key == key)
        .unwrap()
        .origin
        .to_string()
}

#[test]
fn defaults_need_nothing() {
    let config = Given::default().ok();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3003");
    assert_eq!(config.server.rate_limit_per_min, 2000);
    assert_eq!(config.server.body_limit, 75 << 20);
    assert_eq!(
        config.storage.database,
        Database::Sqlite("./patchbay-data/patchbay.db".into())
    );
    assert_eq!(
        config.encryption.key_file,
        PathBuf::from("./patchbay-data/encryption.key")
    );
    assert_eq!(config.outbound.allow_private_networks, PrivateNetworks::Deny);
    assert!(config.webhooks.retries.iter().sum::<Duration>() > Duration::from_hours(48));
    assert!(config.otel.traces_endpoint.is_none());
    assert!(config.environments.is_empty());
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let key = "rate_limit_per_min";
    let given = Given::default().file("# first\n\nrate_limit_per_min = 1\n");
    assert_eq!(given.ok().server.rate_limit_per_min, 1);
    assert_eq!(origin(&given.ok(), key), "patchbay.toml:3");
    let given = given.var("PATCHBAY_RATE_LIMIT_PER_MIN", "2");
    assert_eq!(given.ok().server.rate_limit_per_min, 2);
    assert_eq!(
        origin(&given.ok(), key),
        "environment variable PATCHBAY_RATE_LIMIT_PER_MIN"
    );
    let given = given.flag(key, "3");
    assert_eq!(given.ok().server.rate_limit_per_min, 3);
    assert_eq!(origin(&given.ok(), key), "flag --rate-limit-per-min");
    assert_eq!(origin(&given.ok(), "listen"), "default");
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key_of_the_file() {
    let value = |setting: &options::Setting| match setting.kind {
        Kind::Text if setting.key == "log" => "debug".to_owned(),
        Kind::Text => "/x".to_owned(),
        Kind::Address => "127.0.0.1:1".to_owned(),
        Kind::Url => "https://a.example/x".to_owned(),
        Kind::DatabaseUrl => "postgres://u:p@h/d".to_owned(),
        Kind::Urls => "https://x.example".to_owned(),
        Kind::Ancestors => "https://*.x.example".to_owned(),
        Kind::Path | Kind::Paths => "/tmp/x".to_owned(),
        Kind::Count => "7".to_owned(),
        Kind::Duration | Kind::Durations => "7s".to_owned(),
        Kind::Size => "7mb".to_owned(),
        Kind::Hosts => "api.example.com".to_owned(),
        Kind::Networks | Kind::SwitchOrNetworks => "10.0.0.0/8".to_owned(),
        Kind::Choice(words) => words[0].to_owned(),
        Kind::EncryptionKeys => BASE64.encode(&[7; 32]),
        Kind::ApiKeys => unreachable!(),
    };
    for setting in SETTINGS.iter().filter(|setting| setting.kind != Kind::ApiKeys) {
        let value = value(setting);
        for (given, from) in [
            (Given::default().flag(setting.key, &value), setting.flag()),
            (
                Given::default().var(&setting.variable(), &value),
                setting.variable(),
            ),
            (
                Given::default().file(&format!("{} = {value:?}", setting.key)),
                "patchbay.toml:1".to_owned(),
            ),
        ] {
            let config = given.ok();
            assert!(
                origin(&config, setting.key).ends_with(&from),
                "{}: {from}",
                setting.key
            );
        }
    }
}

#[test]
fn lists_are_arrays_commas_and_repeated_flags() {
    let nets = |given: Given| given.ok().server.trusted_proxies.len();
    assert_eq!(
        nets(Given::default().file(r#"trusted_proxies = ["10.0.0.0/8", "::1"]"#)),
        2
    );
    assert_eq!(
        nets(Given::default().file(r#"trusted_proxies = "10.0.0.0/8, ::1""#)),
        2
    );
    assert_eq!(
        nets(Given::default().var("PATCHBAY_TRUSTED_PROXIES", "10.0.0.0/8, ::1")),
        2
    );
    assert_eq!(
        nets(
            Given::default()
                .flag("trusted_proxies", "10.0.0.0/8")
                .flag("trusted_proxies", "::1,::2")
        ),
        3
    );
    assert_eq!(nets(Given::default().file("trusted_proxies = []")), 0);
    assert_eq!(
        Given::default()
            .file("allow_private_networks = true")
            .ok()
            .outbound
            .allow_private_networks,
        PrivateNetworks::AllowPrivate
    );
}

#[test]
fn every_problem_is_reported_at_once_with_origin_reason_and_fix() {
    let problems = Given::default()
        .file(
            "listen = 3003\nrate_limt_per_min = 5\nbody_limit = \"big\"\n[environments.Dev]\n[log]\nx = 1\n",
        )
        .var("PATCHBAY_PUBLIC_URL", "connect.example.com")
        .var("PATCHBAY_API_KEY_DEV", "planted-not-a-uuid")
        .var("PATCHBAY_ENCRYPTION_KEY", "planted-not-a-key")
        .var("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .flag("log_format", "xml")
        .load()
        .unwrap_err();
    let text = problems.to_string();
    for expected in [
        "the configuration has 10 problems:",
        "listen = \"3003\"  (patchbay.toml:1)",
        "rate_limt_per_min  (patchbay.toml:2)",
        "did you mean `rate_limit_per_min`?",
        "body_limit = \"big\"  (patchbay.toml:3)",
        "environments.Dev  (patchbay.toml:4)",
        "log  (patchbay.toml:5)",
        "public_url = \"connect.example.com\"  (environment variable PATCHBAY_PUBLIC_URL)",
        "environments.dev.api_key = \"***\"  (environment variable PATCHBAY_API_KEY_DEV)",
        "encryption_key = \"***\"  (environment variable PATCHBAY_ENCRYPTION_KEY)",
        "OTEL_EXPORTER_OTLP_PROTOCOL = \"grpc\"",
        "log_format = \"xml\"  (flag --log-format)",
    ] {
        assert!(text.contains(expected), "{expected}\n---\n{text}");
    }
    assert!(!text.contains("planted-"), "{text}");
}

#[test]
fn a_password_in_the_database_url_is_not_shown() {
    let given = Given::default().var(
        "PATCHBAY_DATABASE_URL",
        "postgres://u:planted-pw@h/d?password=planted-q",
    );
    let config = given.ok();
    let shown = format!("{:?} {:?}", config.effective, config.storage);
    assert!(!shown.contains("planted-"), "{shown}");
    assert!(shown.contains("postgres://u:***@h/d"), "{shown}");
    let text = given
        .var("PATCHBAY_DATABASE_URL", "mysql://u:planted-pw@h/d")
        .load()
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("neither a sqlite: nor a postgres:") && !text.contains("planted-"),
        "{text}"
    );
}

#[test]
fn syntax_errors_are_located_and_do_not_quote_the_line() {
    let problems = Given::default()
        .file("listen = \"a:1\"\nencryption_key = planted-x\n")
        .problems();
    assert!(
        problems
            .iter()
            .all(|problem| problem.origin.to_string() == "patchbay.toml:2"),
        "{problems:?}"
    );
    assert!(!Problems(problems).to_string().contains("planted-"));
}

#[test]
fn environments_of_the_file_become_patches_and_keys() {
    let config = Given::default()
        .file(&format!(
            r#"
[environments.dev]
api_key = "{KEY}"
callback_url = "https://app.example/cb"
webhooks.primary_url = "https://app.example/hooks"
webhooks.on_auth_creation = false
[environments.dev.variables]
TOKEN = "planted-variable"
[environments.staging-2]
production = true
"#
        ))
        .ok();
    let dev = &config.environments["dev"];
    assert_eq!(dev.api_key.as_ref().unwrap().expose(), KEY);
    let mut settings = patchbay_types::environments::EnvironmentSettings::default();
    dev.patch.apply(&mut settings);
    assert_eq!(
        settings.webhooks.primary_url.as_deref(),
        Some("https://app.example/hooks")
    );
    assert!(!settings.webhooks.on_auth_creation);
    assert_eq!(
        dev.patch.variables["TOKEN"].as_ref().unwrap().expose(),
        "planted-variable"
    );
    assert_eq!(config.environments["staging-2"].patch.production, Some(true));
    assert!(!format!("{config:?}").contains("planted-"));
}

#[test]
fn a_key_opens_one_environment() {
    let problems = Given::default()
        .var("PATCHBAY_API_KEY_DEV", KEY)
        .var("PATCHBAY_API_KEY_PROD", KEY)
        .problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].reason.contains("environment `dev`"), "{problems:?}");
}

#[test]
fn familiar_names_are_understood_and_ours_win() {
    let given = Given::default()
        .var("NANGO_SERVER_URL", "https://connect.example")
        .var("NANGO_DATABASE_URL", "postgresql://u:p@h/d")
        .var("NANGO_ENCRYPTION_KEY", &BASE64.encode(&[1; 32]))
        .var("NANGO_SECRET_KEY_PROD", KEY)
        .var("SERVER_PORT", "8080");
    let config = given.ok();
    assert_eq!(
        config.server.public_url.as_ref().unwrap().as_str(),
        "https://connect.example/"
    );
    assert!(matches!(config.storage.database, Database::Postgres(_)));
    assert_eq!(config.encryption.keys, [EncryptionKey::new([1; 32])]);
    assert_eq!(
        config.environments["prod"].api_key.as_ref().unwrap().expose(),
        KEY
    );
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");

    let config = given
        .file("listen = \"[::]:1\"")
        .var("PATCHBAY_API_KEY_PROD", OTHER_KEY)
        .var("PATCHBAY_PUBLIC_URL", "https://ours.example")
        .ok();
    assert_eq!(
        config.server.listen.to_string(),
        "[::]:8080",
        "a port alone keeps the file's host"
    );
    assert_eq!(
        config.environments["prod"].api_key.as_ref().unwrap().expose(),
        OTHER_KEY
    );
    assert_eq!(
        config.server.public_url.unwrap().as_str(),
        "https://ours.example/"
    );
}

#[test]
fn a_slip_in_a_variable_is_a_warning_and_an_orchestrators_variable_is_not() {
    let config = Given::default()
        .var("PATCHBAY_PUBLC_URL", "https://a.example")
        .var("PATCHBAY_SERVICE_HOST", "10.0.0.1")
        .var("PATCHBAY_PORT_3003_TCP", "tcp://10.0.0.1:3003")
        .var("PATCHBAY_LISTEN", "")
        .ok();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("PATCHBAY_PUBLIC_URL"));
    assert_eq!(
        config.server.listen.port, 3003,
        "an empty variable counts as not set"
    );
}

#[test]
fn opentelemetry_variables() {
    let config = Given::default()
        .var("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")
        .var(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20planted-otel,x-a=1",
        )
        .var("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .var("OTEL_TRACES_SAMPLER_ARG", "0.25")
        .var(
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=gateway,deployment.environment=prod",
        )
        .ok();
    assert_eq!(
        config.otel.traces_endpoint.as_ref().unwrap().as_str(),
        "http://collector:4318/v1/traces"
    );
    assert_eq!(config.otel.headers[0].1.expose(), "Bearer planted-otel");
    assert_eq!(config.otel.sampler, Sampler::ParentRatio(0.25));
    assert_eq!(config.otel.service_name, "gateway");
    assert_eq!(config.otel.resource.len(), 1);
    assert!(!format!("{:?}", config.otel).contains("planted-"));
    let off = Given::default()
        .var("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
        .var("OTEL_SDK_DISABLED", "true");
    assert!(off.ok().otel.traces_endpoint.is_none());
}

#[test]
fn the_default_file_is_valid_and_changes_nothing() {
    let text = reference::default_file();
    Given::default().file(&text).ok();
    // Uncommented, every line must be accepted as well, placeholders apart.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest,
            _ => line,
        })
        .map(|line| {
            line.replace("<base64 of 32 bytes>", &BASE64.encode(&[7; 32]))
                .replace("<UUID v4>", KEY)
                + "\n"
        })
        .collect();
    let config = Given::default().file(&uncommented).ok();
    assert_eq!(config.environments["dev"].api_key.as_ref().unwrap().expose(), KEY);
    assert_eq!(
        config
            .effective
            .iter()
            .filter(|one| one.origin == Origin::Default)
            .count(),
        0
    );
}

#[test]
fn key_files_hold_a_key_a_line() {
    let text = format!(
        "# current\n{}\n\n{} # old\n",
        BASE64.encode(&[1; 32]),
        BASE64.encode(&[2; 32])
    );
    assert_eq!(
        parse_key_file(&text).unwrap(),
        [EncryptionKey::new([1; 32]), EncryptionKey::new([2; 32])]
    );
    assert_eq!(parse_key_file("\nnonsense\n").unwrap_err().0, 2);
}

#[test]
fn a_process_reads_the_file_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    std::fs::write(&path, "listen = \"127.0.0.1:9\"").unwrap();
    let sources = Sources::of_process(BTreeMap::new(), Some(path)).unwrap();
    assert_eq!(Config::load(&sources).unwrap().server.listen.port, 9);
    let missing = Sources::of_process(BTreeMap::new(), Some(directory.path().join("none.toml")));
    assert!(missing.unwrap_err().to_string().contains("flag --config"));
}
