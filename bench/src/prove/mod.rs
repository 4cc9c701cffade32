//! The proofs. Each is a function of a [`Size`]: the full one states what an issue demands, the small one is a test.

mod connect_kill;
mod outcomes;
mod proxy_load;
mod proxy_slow_clients;
mod proxy_stage;
mod proxy_streams;
mod refresh_kill;
mod single_flight;
mod stage;
mod storm;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use patchbay_ambient::Ambient;

use crate::report::Report;

/// Which proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Proof {
    /// Many readers of one expired connection cause one token request.
    RefreshSingleFlight,
    /// A kill between the provider's answer and the save loses nothing that the provider still honours.
    RefreshKill,
    /// Acknowledged connections outlive kills, and so do their webhooks.
    ConnectKill,
    /// Many connections expiring at once are refreshed once each.
    Storm,
    /// The proxy costs little: beside nginx and the bare upstream.
    ProxyLoad,
    /// A gigabyte goes through in each direction at constant memory.
    ProxyStreams,
    /// Slow clients do not slow a fast one.
    ProxySlowClients,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Some seconds: for `make test`.
    Small,
    /// What the issue states: for `make prove`.
    Full,
}

impl Size {
    /// The first in a small run, the second in a full one.
    pub(crate) fn pick<T>(self, small: T, full: T) -> T {
        match self {
            Self::Small => small,
            Self::Full => full,
        }
    }
}

/// What a proof needs from outside.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The server's program.
    pub program: PathBuf,
    /// This program, `patchbay-bench`: it is also the upstream.
    pub bench: PathBuf,
    /// How much.
    pub size: Size,
    /// Time, tasks, randomness; seeded where a proof is to be repeated.
    pub ambient: Ambient,
}

impl Proof {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::RefreshSingleFlight,
        Self::RefreshKill,
        Self::ConnectKill,
        Self::Storm,
        Self::ProxyLoad,
        Self::ProxyStreams,
        Self::ProxySlowClients,
    ];

    /// As typed, and the name of its report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RefreshSingleFlight => "refresh-single-flight",
            Self::RefreshKill => "refresh-kill",
            Self::ConnectKill => "connect-kill",
            Self::Storm => "storm",
            Self::ProxyLoad => "proxy-load",
            Self::ProxyStreams => "proxy-streams",
            Self::ProxySlowClients => "proxy-slow-clients",
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// It could not be carried out; a claim that does not hold is in the report.
    pub async fn run(self, setting: &Setting) -> anyhow::Result<Report> {
        match self {
            Self::RefreshSingleFlight => single_flight::run(setting).await,
            Self::RefreshKill => refresh_kill::run(setting).await,
            Self::ConnectKill => connect_kill::run(setting).await,
            Self::Storm => storm::run(setting).await,
            Self::ProxyLoad => proxy_load::run(setting).await,
            Self::ProxyStreams => proxy_streams::run(setting).await,
            Self::ProxySlowClients => proxy_slow_clients::run(setting).await,
        }
    }

    /// Where its report goes.
    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.md", self.name()))
    }
}
