//! The command line. Names and flags are a promise: scripts of operators rely on them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use patchbay_types::deliveries::DeliveryStatus;

use super::settings::{AdminFlags, ServeFlags};

/// Connects your product to its customers' accounts at other companies' APIs.
#[derive(Debug, Parser)]
#[command(
    name = "patchbay",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Start with `patchbay demo`. Exit codes: 0 done, 1 failed, 2 wrong command line, \
                  3 problems in the configuration, 4 a check found something."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: API, pages, deliveries, refreshes.
    #[command(long_about = "Run the server: API, pages, deliveries, refreshes.\n\n\
        Works without any flag: makes the data directory, an encryption key, the account and the environments dev \
        and prod, and prints the URLs and the API key of dev, once.")]
    Serve(ServeFlags),
    /// Run background work only: deliveries and maintenance, no listener.
    Worker(ServeFlags),
    /// Run the server with a sample provider on loopback, to try everything offline.
    #[command(
        long_about = "Run the server with a sample provider on loopback, to try everything offline.\n\n\
        Uses its own data directory, ./patchbay-data/demo, unless told otherwise, and opens loopback to outbound \
        requests."
    )]
    Demo(ServeFlags),
    /// Bring the database up to this version.
    Migrate(Migrate),
    /// Look for what is wrong with the set-up.
    Doctor(Doctor),
    /// Copy the database to a file while the server runs.
    Backup(Backup),
    /// Put a backup in place of an empty data directory or database.
    Restore(Restore),
    /// Environments and their settings.
    Env(Env),
    /// API keys, and the encryption key.
    Keys(Keys),
    /// What happened: operations and their messages.
    Logs(Logs),
    /// Connections, and how their credentials were kept alive.
    Connections(Connections),
    /// Webhooks on their way to your application.
    Deliveries(Deliveries),
    /// Provider definitions.
    Catalog(Catalog),
    /// Explain an error code: cause and fix.
    Explain(Explain),
    /// Settings: defaults, check, schema.
    Config(ConfigCommand),
    /// Print the OpenAPI 3.1 document of the API.
    Openapi,
    /// Same as `keys rotate-encryption`.
    #[command(hide = true)]
    RotateEncryption(RotateEncryption),
}

/// How a list is printed.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Format {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
}

/// `migrate`.
#[derive(Args, Debug)]
pub struct Migrate {
    /// Say what would be done, change nothing; exits 4 if the database is behind.
    #[arg(long)]
    pub check: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: ServeFlags,
}

/// `backup`.
#[derive(Args, Debug)]
pub struct Backup {
    /// File to write; must not exist.
    pub file: PathBuf,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// A file that `patchbay backup` wrote.
    pub file: PathBuf,
    /// Replace what is there.
    #[arg(long)]
    pub force: bool,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `env`.
#[derive(Args, Debug)]
pub struct Env {
    /// What to do.
    #[command(subcommand)]
    pub action: EnvAction,
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `env …`.
#[derive(Debug, Subcommand)]
pub enum EnvAction {
    /// List environments.
    List,
    /// Make an environment and print its API key.
    Create {
        /// Lower-case letters, digits, - and _.
        name: String,
        /// Make it a production environment.
        #[arg(long)]
        production: bool,
    },
    /// Show an environment's settings; secrets are masked.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete an environment with its integrations and connections. They are purged after 31 days.
    Delete {
        /// Its name.
        name: String,
        /// Its name once more, so that it is meant.
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
    /// Replace the key that signs webhooks and print the new one.
    RotateSigningKey {
        /// Its name.
        name: String,
        /// End the old key at once instead of after webhook_signing_key_grace: somebody else may know it.
        #[arg(long)]
        now: bool,
    },
    /// Change settings; an empty value clears. `patchbay config default` lists the keys.
    Set {
        /// Its name.
        name: String,
        /// Settings and their new values.
        #[arg(
            required = true,
            value_name = "KEY=VALUE",
            help = "Such as webhooks.primary_url=https://app.example.com/webhooks"
        )]
        assignments: Vec<String>,
    },
}

/// `keys`.
#[derive(Args, Debug)]
pub struct Keys {
    /// What to do.
    #[command(subcommand)]
    pub action: KeysAction,
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `keys …`.
#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Make an API key and print it, once.
    Create {
        /// Whose key it is.
        #[command(flatten)]
        owner: Owner,
        /// Name in lists.
        #[arg(long, default_value = "cli")]
        name: String,
        /// What it may do, repeatable; everything by default.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
    /// List API keys, without their secrets.
    List {
        /// Whose keys; all by default.
        #[command(flatten)]
        owner: OptionalOwner,
    },
    /// Revoke an API key at once.
    Revoke {
        /// Its id or UUID from `keys list`.
        id: String,
    },
    /// Encrypt everything with the first of the configured encryption keys, while the server runs.
    RotateEncryption,
}

/// `rotate-encryption`.
#[derive(Args, Debug)]
pub struct RotateEncryption {
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// Whose key it is.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Owner {
    /// An environment.
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// The account: creates environments and their keys.
    #[arg(long)]
    pub account: bool,
}

/// Whose keys.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub struct OptionalOwner {
    /// Of an environment.
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Of the account.
    #[arg(long)]
    pub account: bool,
}

/// `logs`.
#[derive(Args, Debug)]
pub struct Logs {
    /// One operation with all its messages.
    pub operation: Option<String>,
    /// Keep printing what happens.
    #[arg(long, short, conflicts_with = "operation")]
    pub follow: bool,
    /// Of an environment.
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Of a type: auth, proxy, webhook, ….
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// In a state.
    #[arg(long)]
    pub state: Option<State>,
    /// Of an integration.
    #[arg(long, value_name = "ID")]
    pub integration: Option<String>,
    /// Of a connection.
    #[arg(long, value_name = "ID")]
    pub connection: Option<String>,
    /// Younger than this: 15m, 2h, 3d.
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// At most so many, the newest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// State of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Not over.
    Running,
    /// Went well.
    Success,
    /// Went badly.
    Failed,
}

/// `connections`.
#[derive(Args, Debug)]
pub struct Connections {
    /// What to do.
    #[command(subcommand)]
    pub action: ConnectionsAction,
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `connections …`.
#[derive(Debug, Subcommand)]
pub enum ConnectionsAction {
    /// List connections, the newest first.
    List {
        /// Of an environment.
        #[arg(long, value_name = "NAME")]
        env: Option<String>,
        /// Of an integration.
        #[arg(long, value_name = "KEY")]
        integration: Option<String>,
        /// Only those among them that do not work.
        #[arg(long)]
        failing: bool,
        /// At most so many of each environment.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Show a connection with the timeline of its refreshes; never its credentials.
    Show {
        /// Its id.
        id: String,
        /// Of an environment.
        #[arg(long, value_name = "NAME")]
        env: Option<String>,
        /// Of an integration.
        #[arg(long, value_name = "KEY")]
        integration: Option<String>,
    },
}

/// `deliveries`.
#[derive(Args, Debug)]
pub struct Deliveries {
    /// What to do.
    #[command(subcommand)]
    pub action: DeliveriesAction,
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `deliveries …`.
#[derive(Debug, Subcommand)]
pub enum DeliveriesAction {
    /// List deliveries, the newest first.
    List {
        /// Of an environment.
        #[arg(long, value_name = "NAME")]
        env: Option<String>,
        /// In a state; dead ones were given up.
        #[arg(long)]
        status: Option<Status>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Show a delivery with its body.
    Show {
        /// Its id from `deliveries list`.
        id: String,
    },
    /// Send again.
    Retry(Retry),
}

/// `deliveries retry`.
#[derive(Args, Debug)]
pub struct Retry {
    /// These deliveries.
    #[arg(required_unless_present = "dead", conflicts_with = "dead")]
    pub ids: Vec<String>,
    /// All that were given up.
    #[arg(long)]
    pub dead: bool,
    /// Of an environment only.
    #[arg(long, value_name = "NAME", requires = "dead")]
    pub env: Option<String>,
}

/// State of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// Waiting for its next attempt.
    Pending,
    /// Answered with 2xx.
    Delivered,
    /// Given up.
    Dead,
}

impl From<Status> for DeliveryStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Delivered => Self::Delivered,
            Status::Dead => Self::Dead,
        }
    }
}

/// `catalog`.
#[derive(Args, Debug)]
pub struct Catalog {
    /// What to do.
    #[command(subcommand)]
    pub action: CatalogAction,
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: AdminFlags,
}

/// `catalog …`.
#[derive(Debug, Subcommand)]
pub enum CatalogAction {
    /// Check definitions; each fault is named, located and explained. Exits 4 if there are any.
    Check {
        /// Files or directories; without any, the embedded and configured ones.
        paths: Vec<PathBuf>,
    },
    /// List providers.
    List {
        /// Part of the name or display name.
        search: Option<String>,
    },
    /// Show a provider's definition, aliases resolved.
    Show {
        /// Its name.
        provider: String,
    },
    /// Show what files change in the embedded catalogue. With --json, also from what to what.
    Diff {
        /// Files or directories; without any, the configured ones.
        paths: Vec<PathBuf>,
        /// Compare with the files alone: what they lack is shown too.
        #[arg(long)]
        whole: bool,
    },
}

/// `explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// An error code, such as invalid_credentials; without one, all codes are listed.
    pub code: Option<String>,
}

/// `config`.
#[derive(Args, Debug)]
pub struct ConfigCommand {
    /// What to do.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print a commented file with every setting and its default.
    Default,
    /// Check everything, and print each setting's value and where it came from.
    Check(ConfigCheck),
    /// Print the JSON schema of the file, for editors.
    Schema,
}

/// `config check`.
#[derive(Args, Debug)]
pub struct ConfigCheck {
    /// Output.
    #[command(flatten)]
    pub format: Format,
    /// Settings.
    #[command(flatten)]
    pub settings: ServeFlags,
}
