//! What the process tells about itself: log lines, metrics, traces.
//!
//! A line never holds a secret: values that could are not logged at all, and of URLs only what
//! [`redact`] lets through. Log lines go to stderr, so that a command's output stays clean.

pub mod capture;
pub mod http;
pub mod metrics;
pub mod otlp;
pub mod redact;

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use patchbay_ambient::Ambient;
use patchbay_outbound::Trust;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Log, LogFormat, Otel};

/// Keeps the exporters of this process alive.
#[derive(Debug, Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Another subscriber is installed.
    #[error("logging is already set up in this process")]
    AlreadySet,
    /// The exporter refused its settings.
    #[error("the export of traces cannot start: {0}")]
    Export(String),
}

impl Telemetry {
    /// Sets up logging to stderr and, if an endpoint is configured, the export of traces. Once a process.
    ///
    /// Call it inside the runtime that serves: exports run as its tasks. `trust` is asked for only if there are any.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub fn install(
        log: &Log,
        otel: &Otel,
        ambient: &Ambient,
        trust: impl FnOnce() -> Trust,
    ) -> Result<Self, TelemetryError> {
        let traces = otlp::provider(otel, ambient, trust)?;
        let colour = Colour::of_stderr();
        let mut layers = vec![lines(log, colour, std::io::stderr)];
        if let Some(provider) = &traces {
            layers.push(otlp::layer(provider));
        }
        tracing::subscriber::set_global_default(Registry::default().with(layers))
            .map_err(|_| TelemetryError::AlreadySet)?;
        Ok(Self { traces })
    }

    /// Whether traces are exported.
    pub fn exports_traces(&self) -> bool {
        self.traces.is_some()
    }

    /// Sends what is still queued, for at most `limit`.
    pub async fn flush(self, limit: Duration) {
        let Some(provider) = self.traces else { return };
        // The processor waits for its thread, which waits for tasks of this runtime.
        let flush = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        if let Ok(Err(error)) = flush.await {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

/// Logging for commands beside the server: warnings and errors, unless the operator asks for more. A second call in
/// one process changes nothing.
pub fn quiet(log: &Log) {
    let asked = log.filter != "info";
    let log = Log {
        filter: if asked {
            log.filter.clone()
        } else {
            "warn".to_owned()
        },
        format: log.format,
    };
    let subscriber = Registry::default().with(lines(&log, Colour::of_stderr(), std::io::stderr));
    // Fails if one is installed, which then speaks for us.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Whether lines are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For a terminal.
    On,
    /// For a file.
    Off,
}

impl Colour {
    fn of_stderr() -> Self {
        let wanted = std::env::vars_os().all(|(name, value)| name != "NO_COLOR" || value.is_empty());
        if wanted && std::io::stderr().is_terminal() {
            Self::On
        } else {
            Self::Off
        }
    }
}

/// The layer that prints lines.
pub fn lines<S, W>(log: &Log, colour: Colour, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // The configuration has parsed the filter before.
    let filter = EnvFilter::builder().parse_lossy(&log.filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match log.format {
        LogFormat::Text => layer.with_ansi(colour == Colour::On).with_filter(filter).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    }
}
