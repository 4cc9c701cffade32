//! `serve` and `worker`: the server as a process, with its first words and its last.

use std::time::Duration;

use patchbay_ambient::{Ambient, Shutdown};

use super::{Exit, Output};
use crate::app::{self, Role, Running};
use crate::config::Config;
use crate::datadir::KeySource;
use crate::telemetry::Telemetry;

/// How long exported traces may take to leave at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT. A second signal ends at once.
pub(super) async fn run(config: &Config, role: Role, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let ambient = Ambient::system();
    let trust = crate::house::trust(config)?;
    let telemetry = Telemetry::install(&config.log, &config.otel, &ambient, || trust)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // Before the start: a signal during a long migration must not be lost.
    let mut signals = Signals::listen()?;
    let running = app::start(config.clone(), ambient, role, telemetry.exports_traces()).await?;
    greet(config, role, &running, out)?;
    let ended = until_stopped(&mut signals, running).await;
    telemetry.flush(FLUSH).await;
    match ended {
        Shutdown::Drained => Ok(Exit::Done),
        Shutdown::TimedOut(left) => {
            tracing::warn!(left, "the shutdown grace ran out; what was left is finished after the next start");
            Ok(Exit::Done)
        }
    }
}

/// Waits for a signal, then stops in order; a second signal cuts that short.
pub(super) async fn until_stopped(signals: &mut Signals, running: Running) -> Shutdown {
    signals.next().await;
    tracing::info!("stopping");
    tokio::select! {
        ended = running.stop() => ended,
        () = signals.next() => Shutdown::TimedOut(0),
    }
}

/// What the operator needs to go on; secrets made just now are shown here and never again.
fn greet(config: &Config, role: Role, running: &Running, out: &mut Output<'_>) -> std::io::Result<()> {
    if role == Role::Worker {
        return out.line(format!("Patchbay {} works on deliveries and maintenance.", env!("CARGO_PKG_VERSION")));
    }
    let url = running.public_url.as_str().trim_end_matches('/');
    out.line(format!("Patchbay {} is ready.", env!("CARGO_PKG_VERSION")))?;
    out.line(format!("  API      {url}"))?;
    out.line(format!("  Overview {url}/overview"))?;
    out.line(format!("  Data     {}", config.storage.data_dir.display()))?;
    if let KeySource::Made(path) = &running.key_source {
        out.line(format!("  Key file {} (made just now: back it up apart from the data)", path.display()))?;
    }
    for made in &running.provisions.created {
        let configured = config
            .environments
            .get(&made.environment.name)
            .is_some_and(|environment| environment.api_key.is_some());
        if configured {
            out.line(format!("  Environment {} was made with the configured API key.", made.environment.name))?;
        } else if made.environment.name.as_str() == "dev" {
            out.line(format!("  API key of `dev`, shown this once: {}", made.secret.expose()))?;
        } else {
            out.line(format!("  Environment {} was made; `patchbay keys create --env {}` makes a key for it.",
                made.environment.name, made.environment.name
            ))?;
        }
    }
    Ok(())
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
