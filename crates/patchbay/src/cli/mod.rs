//! The command line: what operators and their scripts type.

mod admin;
pub mod args;
mod catalog;
mod config;
mod connections;
mod database;
mod deliveries;
mod doctor;
mod env;
mod explain;
mod keys;
mod logs;
mod openapi;
mod output;
mod serve;
mod settings;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

pub use args::Cli;
pub use output::Output;
pub use settings::{AdminFlags, ServeFlags, SettingFlags};

use admin::{Admin, block_on};
use args::Command;

use crate::app::Role;
use crate::config::{Config, Problems};

/// Where the demonstration keeps its data unless told otherwise: apart from a real set-up's.
const DEMO_DATA_DIR: &str = "./patchbay-data/demo";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed.
    Failed,
    /// 3: problems in the configuration. (2 is clap's, for a wrong command line.)
    Configuration,
    /// 4: a check found something.
    Findings,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Configuration => 3,
            Self::Findings => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut stdout = io::stdout();
    match run(&cli, &mut Output::new(&mut stdout)) {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            report(&error);
            Exit::Failed.into()
        }
    }
}

/// Runs a parsed command line, writing its output to `out`.
///
/// # Errors
/// What the command could not do, in words for the operator.
pub fn run(cli: &Cli, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    match &cli.command {
        Command::Explain(explain) => Ok(explain::run(explain.code.as_deref(), out)?),
        Command::Config(config) => Ok(config::run(&config.action, out)?),
        Command::Catalog(args) => with(&args.settings.0, out, |config, out| {
            catalog::run(config, &args.action, args.format, out)
        }),
        Command::Migrate(args) => with(&args.settings.0, out, |config, out| {
            block_on(database::migrate(config, args.check, out))
        }),
        Command::Backup(args) => with(&args.settings.0, out, |config, out| {
            block_on(database::backup(config, &args.file, out))
        }),
        Command::Restore(args) => with(&args.settings.0, out, |config, out| {
            block_on(database::restore(config, &args.file, args.force, out))
        }),
        Command::Env(args) => opened(&args.settings.0, out, async |admin, out| {
            env::run(admin, &args.action, args.format, out).await
        }),
        Command::Keys(args) => opened(&args.settings.0, out, async |admin, out| {
            keys::run(admin, &args.action, args.format, out).await
        }),
        Command::RotateEncryption(args) => opened(&args.settings.0, out, async |admin, out| {
            keys::rotate(admin, args.format, out).await.map(|()| Exit::Done)
        }),
        Command::Connections(args) => opened(&args.settings.0, out, async |admin, out| {
            connections::run(admin, &args.action, args.format, out).await
        }),
        Command::Deliveries(args) => opened(&args.settings.0, out, async |admin, out| {
            deliveries::run(admin, &args.action, args.format, out).await
        }),
        Command::Logs(args) => opened(&args.settings.0, out, async |admin, out| {
            logs::run(admin, args, out).await
        }),
        Command::Doctor(args) => with(&args.settings.0, out, |config, out| {
            block_on(doctor::run(config, args.format, out))
        }),
        Command::Serve(flags) => configured(&flags.0, out, |config, out| {
            serving(serve::run(config, Role::All, out))
        }),
        Command::Worker(flags) => configured(&flags.0, out, |config, out| {
            serving(serve::run(config, Role::Worker, out))
        }),
        Command::Demo(flags) => {
            let own_directory = flags.0.with_default("data_dir", DEMO_DATA_DIR);
            configured(&own_directory, out, |config, out| {
                serving(serve::demo(config, out))
            })
        }
        Command::Openapi => block_on(openapi::run(out)),
    }
}

/// Runs a command that needs the configuration; its problems are printed and end with their own exit code.
fn with(
    flags: &SettingFlags,
    out: &mut Output<'_>,
    command: impl FnOnce(&Config, &mut Output<'_>) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    configured(flags, out, |config, out| {
        crate::telemetry::quiet(&config.log);
        command(config, out)
    })
}

/// As [`with`], for commands that set up their own logging.
fn configured(
    flags: &SettingFlags,
    out: &mut Output<'_>,
    command: impl FnOnce(&Config, &mut Output<'_>) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    match flags.load() {
        Ok(config) => command(&config, out),
        Err(problems) => {
            print_problems(&problems);
            Ok(Exit::Configuration)
        }
    }
}

/// Runs the server's future on all processors.
fn serving<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Runs a command on the opened house.
fn opened(
    flags: &SettingFlags,
    out: &mut Output<'_>,
    command: impl AsyncFnOnce(&Admin, &mut Output<'_>) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    with(flags, out, |config, out| {
        block_on(async {
            let admin = Admin::open(config).await?;
            let exit = command(&admin, out).await;
            admin.close().await;
            exit
        })
    })
}

/// `patchbay … | head` ends early on purpose.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[expect(
    clippy::print_stderr,
    reason = "there is no logging before there is a configuration"
)]
fn print_problems(problems: &Problems) {
    eprintln!("patchbay: {problems}");
}

#[expect(
    clippy::print_stderr,
    reason = "the process's last words, after logging may have ended"
)]
fn report(error: &anyhow::Error) {
    eprintln!("patchbay: {error:#}");
}

#[cfg(test)]
mod tests;
