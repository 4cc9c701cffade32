//! The one table of settings: flags, environment variables, file keys, help, reference docs and the JSON schema are
//! all read off it, so none of them can disagree.

/// How a setting's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Free text.
    Text,
    /// `host:port`.
    Address,
    /// `http:` or `https:` URL.
    Url,
    /// Several of them.
    Urls,
    /// Sources of a `frame-ancestors` directive.
    Ancestors,
    /// `sqlite:…` or `postgres:…`.
    DatabaseUrl,
    /// A path of the local file system.
    Path,
    /// Several of them.
    Paths,
    /// A whole number.
    Count,
    /// `500ms`, `30s`, `5m`, `2h`, `3d`, or several of these joined.
    Duration,
    /// Several of them.
    Durations,
    /// `512kb`, `75mb`, `1gb`; powers of 1024.
    Size,
    /// Host names, `.domains`, addresses or IP ranges.
    Hosts,
    /// IP ranges in CIDR notation.
    Networks,
    /// `true`, `false` or IP ranges.
    SwitchOrNetworks,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Base64 of 32 bytes each.
    EncryptionKeys,
    /// `environment=UUID v4` pairs.
    ApiKeys,
}

impl Kind {
    /// Whether several values may be given: an array in the file, commas in a variable, a repeated flag.
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Paths
                | Self::Urls
                | Self::Ancestors
                | Self::Durations
                | Self::Hosts
                | Self::Networks
                | Self::SwitchOrNetworks
                | Self::EncryptionKeys
                | Self::ApiKeys
        )
    }

    /// What stands for the value in help.
    pub const fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Address => "HOST:PORT",
            Self::Url | Self::Urls | Self::DatabaseUrl => "URL",
            Self::Ancestors => "SOURCE",
            Self::Path | Self::Paths => "PATH",
            Self::Count => "N",
            Self::Duration | Self::Durations => "DURATION",
            Self::Size => "SIZE",
            Self::Hosts => "HOST",
            Self::Networks => "CIDR",
            Self::SwitchOrNetworks => "true|CIDR",
            Self::Choice(_) => "WORD",
            Self::EncryptionKeys => "BASE64",
            Self::ApiKeys => "ENV=UUID",
        }
    }
}

/// How much of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// All of it.
    Public,
    /// None of it.
    Secret,
    /// A URL without its password.
    UrlPassword,
}

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Key in the file. `--key-with-dashes` and `PATCHBAY_KEY` follow from it.
    pub key: &'static str,
    /// Heading it stands under.
    pub section: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// Text of the default; none if there is nothing by default.
    pub default: Option<&'static str>,
    /// The default in words, where it depends on something else.
    pub default_note: Option<&'static str>,
    /// How much of it may be shown.
    pub visibility: Visibility,
    /// What it does: one sentence, then what else there is to know.
    pub help: &'static [&'static str],
    /// A value to copy, as TOML.
    pub example: &'static str,
    /// First version that has it.
    pub since: &'static str,
}

impl Setting {
    /// `--data-dir`.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// `PATCHBAY_DATA_DIR`.
    pub fn variable(&self) -> String {
        if self.key == API_KEY {
            return format!("{API_KEY_VARIABLE}<ENV>");
        }
        format!("PATCHBAY_{}", self.key.to_uppercase())
    }
}

/// Finds a setting by its key.
pub fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Key of provisioned API keys. In the file it is `api_key` of an `[environments.<name>]` table.
pub const API_KEY: &str = "api_key";

/// Start of the variables that provision an environment's API key.
pub const API_KEY_VARIABLE: &str = "PATCHBAY_API_KEY_";

/// Variables of the server Patchbay replaces that are understood too. Ours win when both are set.
pub const ALIASES: &[(&str, &str)] = &[
    ("NANGO_DATABASE_URL", "database_url"),
    ("NANGO_ENCRYPTION_KEY", "encryption_key"),
    ("NANGO_SERVER_URL", "public_url"),
    ("SERVER_PORT", "listen"),
];

/// Prefix alias of [`API_KEY_VARIABLE`].
pub const API_KEY_ALIAS: &str = "NANGO_SECRET_KEY_";

/// Headings in the order they are printed, each with a sentence.
pub const SECTIONS: &[(&str, &str)] = &[
    (
        "Server",
        "Where Patchbay listens and how the outside world reaches it.",
    ),
    ("Storage", "Where data lives."),
    (
        "Encryption",
        "Keys that encrypt credentials and other secrets at rest.",
    ),
    ("Catalogue", "Provider definitions besides the embedded ones."),
    (
        "Outbound",
        "Requests Patchbay sends: to providers, token endpoints and webhook targets.",
    ),
    ("Proxy", "Requests forwarded with a connection's credentials."),
    ("Webhooks", "Delivery of webhooks to your application."),
    ("Logs", "What the process prints."),
    (
        "Environments",
        "API keys fixed by the operator; everything else of an environment is a table, see below.",
    ),
];

const PUBLIC: Setting = Setting {
    key: "",
    section: "",
    kind: Kind::Text,
    default: None,
    default_note: None,
    visibility: Visibility::Public,
    help: &[],
    example: "",
    since: "0.1.0",
};

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        section: "Server",
        kind: Kind::Address,
        default: Some("127.0.0.1:3003"),
        help: &[
            "Address and port that serve the API, the pages, the Connect UI and the WebSocket.",
            "Port 0 takes a free one. Listen on 0.0.0.0 only behind a firewall or a reverse proxy with TLS.",
        ],
        example: "\"0.0.0.0:3003\"",
        ..PUBLIC
    },
    Setting {
        key: "public_url",
        section: "Server",
        kind: Kind::Url,
        default_note: Some("http://localhost:<port>"),
        help: &[
            "URL under which browsers and providers reach this server; it may have a path.",
            "The OAuth callback registered at providers is <public_url>/oauth/callback.",
        ],
        example: "\"https://connect.example.com\"",
        ..PUBLIC
    },
    Setting {
        key: "connect_ui_url",
        section: "Server",
        kind: Kind::Url,
        default_note: Some("<public_url>/connect-ui/"),
        help: &["URL of the Connect UI that connect links point to, when it is served under another name."],
        example: "\"https://connect-ui.example.com/\"",
        ..PUBLIC
    },
    Setting {
        key: "connect_ui_api_urls",
        section: "Server",
        kind: Kind::Urls,
        help: &[
            "API URLs that pages may hand to the Connect UI as `apiURL`, besides <public_url>.",
            "It gives the session's token to no other server.",
        ],
        example: "[\"https://api.example.com\"]",
        ..PUBLIC
    },
    Setting {
        key: "connect_ui_frame_ancestors",
        section: "Server",
        kind: Kind::Ancestors,
        help: &[
            "Sites that may show the Connect UI in a frame, as in the directive frame-ancestors of a Content-Security-Policy.",
            "Without it every site may, because your product's page must be able to.",
        ],
        example: "[\"https://app.example.com\", \"https://*.example.org\"]",
        ..PUBLIC
    },
    Setting {
        key: "websockets_path",
        section: "Server",
        kind: Kind::Text,
        default: Some("/"),
        help: &["Path of the WebSocket that carries the result of an authorization popup."],
        example: "\"/ws\"",
        ..PUBLIC
    },
    Setting {
        key: "websocket_limit",
        section: "Server",
        kind: Kind::Count,
        default: Some("10000"),
        help: &[
            "Popups that may wait for their result at once on this server; they need no credential, so there is a",
            "limit. One more is answered 503.",
        ],
        example: "10000",
        ..PUBLIC
    },
    Setting {
        key: "state_cookie",
        section: "Server",
        kind: Kind::Choice(&["required", "ignored"]),
        default: Some("required"),
        help: &[
            "Whether an OAuth callback must come from the browser that began the authorization.",
            "`ignored` suits products whose own domain takes the callback and forwards it from their server.",
        ],
        example: "\"ignored\"",
        ..PUBLIC
    },
    Setting {
        key: "trusted_proxies",
        section: "Server",
        kind: Kind::Networks,
        help: &[
            "Ranges of reverse proxies whose X-Forwarded-For, -Proto and -Host headers count.",
            "Without it the forwarded headers are ignored and the peer's address is the client's.",
        ],
        example: "[\"10.0.0.0/8\", \"127.0.0.1/32\"]",
        ..PUBLIC
    },
    Setting {
        key: "rate_limit_per_min",
        section: "Server",
        kind: Kind::Count,
        default: Some("2000"),
        help: &[
            "API calls an account may make a minute; 0 = no limit. Calls made by functions are not counted. Servers on",
            "one Postgres share the limit.",
        ],
        example: "2000",
        ..PUBLIC
    },
    Setting {
        key: "body_limit",
        section: "Server",
        kind: Kind::Size,
        default: Some("75mb"),
        help: &[
            "Largest request body the API reads; a larger one is answered 413. Proxied bodies are streamed.",
        ],
        example: "\"75mb\"",
        ..PUBLIC
    },
    Setting {
        key: "shutdown_delay",
        section: "Server",
        kind: Kind::Duration,
        default: Some("0s"),
        help: &[
            "After SIGTERM: time between answering /ready with 503 and closing the listener.",
            "Give a load balancer as long as it needs to notice.",
        ],
        example: "\"5s\"",
        ..PUBLIC
    },
    Setting {
        key: "shutdown_grace",
        section: "Server",
        kind: Kind::Duration,
        default: Some("25s"),
        help: &[
            "After SIGTERM: longest time to let requests and deliveries in progress end. Then exit all the same.",
        ],
        example: "\"25s\"",
        ..PUBLIC
    },
    Setting {
        key: "data_dir",
        section: "Storage",
        kind: Kind::Path,
        default: Some("./patchbay-data"),
        help: &["Directory of the database file and the encryption key; made with mode 0700 if missing."],
        example: "\"/var/lib/patchbay\"",
        ..PUBLIC
    },
    Setting {
        key: "database_url",
        section: "Storage",
        kind: Kind::DatabaseUrl,
        default_note: Some("sqlite:<data_dir>/patchbay.db"),
        visibility: Visibility::UrlPassword,
        help: &["The database: sqlite:PATH, or postgres://user:password@host/name for more than one node."],
        example: "\"postgres://patchbay@db.internal/patchbay\"",
        ..PUBLIC
    },
    Setting {
        key: "database_pooler",
        section: "Storage",
        kind: Kind::Choice(&["none", "transaction"]),
        default: Some("none"),
        help: &[
            "Whether a pooler in transaction mode (PgBouncer) stands before Postgres.",
            "With `transaction` nothing is kept in a session: no prepared statements, no LISTEN; changes are polled.",
        ],
        example: "\"transaction\"",
        ..PUBLIC
    },
    Setting {
        key: "database_max_connections",
        section: "Storage",
        kind: Kind::Count,
        default: Some("16"),
        help: &["Most connections this process opens to Postgres (SQLite: reader threads, at most 8)."],
        example: "16",
        ..PUBLIC
    },
    Setting {
        key: "encryption_key",
        section: "Encryption",
        kind: Kind::EncryptionKeys,
        default_note: Some("the keys in encryption_key_file"),
        visibility: Visibility::Secret,
        help: &[
            "256-bit keys in base64. The first encrypts, all decrypt: put a new one first to rotate.",
            "Prefer the variable or the key file: flags are visible to every user of the machine.",
        ],
        example: "[\"<base64 of 32 bytes>\"]",
        ..PUBLIC
    },
    Setting {
        key: "encryption_key_file",
        section: "Encryption",
        kind: Kind::Path,
        default_note: Some("<data_dir>/encryption.key"),
        help: &[
            "File with one key a line, used when encryption_key is not set; made with mode 0600 if missing.",
            "Without this key the secrets in the database are lost: back it up, apart from the database.",
        ],
        example: "\"/run/secrets/patchbay-encryption-key\"",
        ..PUBLIC
    },
    Setting {
        key: "catalog",
        section: "Catalogue",
        kind: Kind::Paths,
        help: &[
            "YAML files, or directories of them, that add providers or override embedded ones.",
            "Later ones win. Changes are picked up while running; a faulty entry is reported and left out.",
        ],
        example: "[\"/etc/patchbay/providers\"]",
        ..PUBLIC
    },
    Setting {
        key: "allow_private_networks",
        section: "Outbound",
        kind: Kind::SwitchOrNetworks,
        default: Some("false"),
        help: &[
            "Opens private networks to requests that Patchbay sends: `true`, or the ranges themselves.",
            "`true` means loopback and private ranges, never link-local or cloud metadata addresses:",
            "those must be spelled out as ranges.",
        ],
        example: "[\"10.20.0.0/16\"]",
        ..PUBLIC
    },
    Setting {
        key: "outbound_ca_file",
        section: "Outbound",
        kind: Kind::Path,
        help: &["PEM file of certificate authorities trusted besides the operating system's."],
        example: "\"/etc/patchbay/corporate-ca.pem\"",
        ..PUBLIC
    },
    Setting {
        key: "proxy_base_url_override",
        section: "Proxy",
        kind: Kind::Choice(&["allowed", "refused"]),
        default: Some("allowed"),
        help: &[
            "Whether a base URL other than the provider's may be called: Base-Url-Override, an integration's own.",
            "An environment can refuse it too: proxy.base_url_override.",
        ],
        example: "\"refused\"",
        ..PUBLIC
    },
    Setting {
        key: "proxy_deny_hosts",
        section: "Proxy",
        kind: Kind::Hosts,
        help: &[
            "Hosts that are never called: names, .domains with everything below them, addresses, ranges.",
            "Non-public addresses are refused anyway, see allow_private_networks.",
        ],
        example: "[\".corp.example.com\", \"203.0.113.7\"]",
        ..PUBLIC
    },
    Setting {
        key: "proxy_allow_hosts",
        section: "Proxy",
        kind: Kind::Hosts,
        help: &[
            "The only hosts that are called, with everything below them; all if it is not set.",
            "It opens no private address.",
        ],
        example: "[\"api.github.com\", \"salesforce.com\"]",
        ..PUBLIC
    },
    Setting {
        key: "proxy_connect_timeout",
        section: "Proxy",
        kind: Kind::Duration,
        default: Some("30s"),
        help: &["Longest time to connect to a provider: name look-up, TCP and TLS together."],
        example: "\"10s\"",
        ..PUBLIC
    },
    Setting {
        key: "proxy_response_timeout",
        section: "Proxy",
        kind: Kind::Duration,
        default: Some("15m"),
        help: &[
            "Longest wait for the head of a provider's response, counted from the last piece of the request sent.",
        ],
        example: "\"2m\"",
        ..PUBLIC
    },
    Setting {
        key: "proxy_idle_timeout",
        section: "Proxy",
        kind: Kind::Duration,
        default: Some("15m"),
        help: &[
            "Longest silence within the body of a provider's response; event streams stay silent for long.",
        ],
        example: "\"5m\"",
        ..PUBLIC
    },
    Setting {
        key: "proxy_longest_wait",
        section: "Proxy",
        kind: Kind::Duration,
        default: Some("10m"),
        help: &[
            "Longest wait between the attempts of a call (header Retries).",
            "A provider that asks for more has its answer passed on at once.",
        ],
        example: "\"1m\"",
        ..PUBLIC
    },
    Setting {
        key: "proxy_logs_per_sec",
        section: "Proxy",
        kind: Kind::Count,
        default: Some("100"),
        help: &[
            "Log entries of calls that went well, and as many of failed ones, written a second; 0 = none.",
            "Ten times as many may come at once. What is left out is counted in patchbay_log_entries_total.",
        ],
        example: "1000",
        ..PUBLIC
    },
    Setting {
        key: "webhook_timeout",
        section: "Webhooks",
        kind: Kind::Duration,
        default: Some("20s"),
        help: &["Longest time one attempt to deliver a webhook may take."],
        example: "\"20s\"",
        ..PUBLIC
    },
    Setting {
        key: "webhook_signing_key_grace",
        section: "Webhooks",
        kind: Kind::Duration,
        default: Some("24h"),
        help: &[
            "How long a webhook signing key stays valid after its rotation: `webhook-signature` then carries",
            "signatures of both keys; X-Nango-* headers have room for the new one's only. 0s = not at all.",
        ],
        example: "\"24h\"",
        ..PUBLIC
    },
    Setting {
        key: "webhook_retries",
        section: "Webhooks",
        kind: Kind::Durations,
        default: Some("3s,6s,30s,2m,10m,30m,1h,2h,4h,8h,12h,18h,24h"),
        help: &[
            "Waits between the attempts to deliver a webhook; after the last it is a dead letter.",
            "See them with `patchbay deliveries list --status dead`, send again with `patchbay deliveries retry`.",
        ],
        example: "[\"3s\", \"30s\", \"5m\", \"1h\"]",
        ..PUBLIC
    },
    Setting {
        key: "log",
        section: "Logs",
        kind: Kind::Text,
        default: Some("info"),
        help: &[
            "What is logged: error, warn, info, debug or trace, also by target: `info,patchbay::http=debug`.",
            "Requests are logged at debug under patchbay::http, those that end in 5xx at warn.",
        ],
        example: "\"info,patchbay::http=debug\"",
        ..PUBLIC
    },
    Setting {
        key: "log_format",
        section: "Logs",
        kind: Kind::Choice(&["text", "json"]),
        default: Some("text"),
        help: &["Lines for people, or one JSON object a line."],
        example: "\"json\"",
        ..PUBLIC
    },
    Setting {
        key: API_KEY,
        section: "Environments",
        kind: Kind::ApiKeys,
        visibility: Visibility::Secret,
        help: &[
            "Fixes the API key (UUID v4) of an environment, made if missing; it then also signs its webhooks.",
            "Variable: PATCHBAY_API_KEY_DEV=…; file: api_key in [environments.dev]; flag: --api-key dev=….",
        ],
        example: "",
        ..PUBLIC
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_every_section_has_a_heading() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(
                !SETTINGS[..index].iter().any(|other| other.key == setting.key),
                "{}",
                setting.key
            );
            assert!(
                SECTIONS.iter().any(|(name, _)| *name == setting.section),
                "{}",
                setting.key
            );
            assert!(!setting.help.is_empty(), "{}", setting.key);
        }
        for (_, key) in ALIASES {
            assert!(setting(key).is_some(), "{key}");
        }
    }
}
