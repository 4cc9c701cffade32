//! The command line: what operators and their scripts type.

pub mod args;
mod config;
mod explain;
mod output;
mod settings;

use std::io;
use std::process::ExitCode;

use clap::Parser as _;

pub use args::Cli;
pub use output::Output;
pub use settings::{AdminFlags, ServeFlags, SettingFlags};

use args::Command;

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
    let exit = match &cli.command {
        Command::Explain(explain) => explain::run(explain.code.as_deref(), out)?,
        Command::Config(config) => config::run(&config.action, out)?,
        _ => anyhow::bail!("not built yet"),
    };
    Ok(exit)
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
    reason = "the process's last words, after logging may have ended"
)]
fn report(error: &anyhow::Error) {
    eprintln!("patchbay: {error:#}");
}

#[cfg(test)]
mod tests;
