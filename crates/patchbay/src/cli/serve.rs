//! `serve`, `worker` and `demo`: the server as a process, with its first words and its last.

use std::sync::Arc;
use std::time::Duration;

use patchbay_ambient::{Ambient, Shutdown};
use patchbay_connections::Context;

use super::{Exit, Output};
use crate::app::{self, Role, Running};
use crate::config::{Config, Origin, PrivateNetworks};
use crate::datadir::KeySource;
use crate::demo;
use crate::telemetry::Telemetry;

/// How long exported traces may take to leave at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT. A second signal ends at once.
pub(super) async fn run(config: &Config, role: Role, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let ambient = Ambient::system();
    let telemetry = telemetry(config, &ambient)?;
    // Before the start: a signal during a long migration must not be lost.
    let mut signals = Signals::listen()?;
    let running = app::start(config.clone(), ambient, role, telemetry.exports_traces()).await?;
    greet(config, role, &running, out)?;
    finish(&mut signals, running, telemetry).await
}

/// As [`run`], with the sample provider on loopback and the guided page.
pub(super) async fn demo(config: &Config, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let ambient = Ambient::system();
    let telemetry = telemetry(config, &ambient)?;
    let mut signals = Signals::listen()?;
    let provider = demo::start_provider(&ambient).await?;
    let mut config = config.clone();
    crate::datadir::prepare(&config.storage)?;
    config
        .catalog
        .paths
        .push(demo::write_catalogue(&config.storage.data_dir, &provider)?);
    if is_default(&config, "allow_private_networks") {
        config.outbound.allow_private_networks = PrivateNetworks::loopback();
    }
    let prepared =
        async |context: &Arc<Context>| Ok(Some(Arc::new(demo::prepare(context, &provider).await?)));
    let running = app::start_with(
        config.clone(),
        ambient,
        Role::All,
        telemetry.exports_traces(),
        prepared,
    )
    .await?;
    out.line(format!(
        "The demonstration is ready. Open {} and follow the page.\n\n  Sample provider  {}\n  Data             {}",
        running.public_url,
        provider.base_url,
        config.storage.data_dir.display()
    ))?;
    finish(&mut signals, running, telemetry).await
}

/// Whether nobody set `key`.
pub(super) fn is_default(config: &Config, key: &str) -> bool {
    config
        .effective
        .iter()
        .any(|setting| setting.key == key && setting.origin == Origin::Default)
}

fn telemetry(config: &Config, ambient: &Ambient) -> anyhow::Result<Telemetry> {
    let trust = crate::house::trust(config)?;
    let telemetry = Telemetry::install(&config.log, &config.otel, ambient, || trust)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(telemetry)
}

async fn finish(signals: &mut Signals, running: Running, telemetry: Telemetry) -> anyhow::Result<Exit> {
    let ended = until_stopped(signals, running).await;
    telemetry.flush(FLUSH).await;
    match ended {
        Some(Shutdown::Drained) => {}
        Some(Shutdown::TimedOut(left)) => tracing::warn!(
            left,
            "the shutdown grace ran out; what was left is finished after the next start"
        ),
        None => tracing::warn!("told to stop a second time; what was left is finished after the next start"),
    }
    Ok(Exit::Done)
}

/// Waits for a signal, then stops in order; a second signal cuts that short.
async fn until_stopped(signals: &mut Signals, running: Running) -> Option<Shutdown> {
    signals.next().await;
    tracing::info!("stopping");
    tokio::select! {
        ended = running.stop() => Some(ended),
        () = signals.next() => None,
    }
}

/// What the operator needs to go on; secrets made just now are shown here and never again.
fn greet(config: &Config, role: Role, running: &Running, out: &mut Output<'_>) -> std::io::Result<()> {
    if role == Role::Worker {
        return out.line(format!(
            "Patchbay {} works on deliveries and maintenance.",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let url = running.public_url.as_str().trim_end_matches('/');
    out.line(format!("Patchbay {} is ready.", env!("CARGO_PKG_VERSION")))?;
    out.line(format!("  API      {url}"))?;
    out.line(format!("  Overview {url}/overview"))?;
    out.line(format!("  Data     {}", config.storage.data_dir.display()))?;
    if let KeySource::Made(path) = &running.key_source {
        out.line(format!(
            "  Key file {} (made just now: back it up apart from the data)",
            path.display()
        ))?;
    }
    for made in &running.provisions.created {
        let configured = config
            .environments
            .get(&made.environment.name)
            .is_some_and(|environment| environment.api_key.is_some());
        if configured {
            out.line(format!(
                "  Environment {} was made with the configured API key.",
                made.environment.name
            ))?;
        } else if made.environment.name.as_str() == "dev" {
            out.line(format!(
                "  API key of `dev`, shown this once: {}",
                made.secret.expose()
            ))?;
        } else {
            out.line(format!(
                "  Environment {} was made; `patchbay keys create --env {}` makes a key for it.",
                made.environment.name, made.environment.name
            ))?;
        }
    }
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
