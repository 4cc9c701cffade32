//! One row of a table of figures: what is asked, of whom, and what it cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use patchbay_ambient::Ambient;

use crate::load::{self, Measured, Plan};
use crate::process::{cpu, cpu_of_family, resident};
use crate::report::Report;

/// What is asked, of whom.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Vec<Vec<u8>>>,
    pub(crate) subject: Subject,
    pub(crate) clients: usize,
}

/// Whose CPU time counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// This process.
    One(u32),
    /// This process and its children.
    Family(u32),
}

/// What came of a row.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) clients: usize,
    pub(crate) measured: Measured,
    pub(crate) cpu_ms: f64,
    pub(crate) resident: u64,
}

/// A figure that has to be reached.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) what: String,
    pub(crate) goal: &'static str,
    pub(crate) measured: String,
    pub(crate) met: bool,
}

/// Loads one row for `time`, after a warm-up of a second at most.
pub(crate) async fn measure(row: &Row, time: Duration, ambient: &Ambient) -> anyhow::Result<Figure> {
    let plan = Plan {
        address: row.address,
        requests: row.requests.clone(),
        clients: row.clients,
        warm_up: time.min(Duration::from_secs(1)),
        time,
    };
    let mut before = Ok(Duration::ZERO);
    let measured = load::run(&plan, ambient, || before = row.subject.cpu())
        .await
        .with_context(|| format!("{} at {} clients", row.name, row.clients))?;
    let used = row.subject.cpu()?.saturating_sub(before?);
    let (Subject::One(pid) | Subject::Family(pid)) = row.subject;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let cpu_ms = used.as_secs_f64() * 1000.0 / measured.requests as f64;
    Ok(Figure {
        name: row.name.clone(),
        clients: row.clients,
        measured,
        cpu_ms,
        resident: resident(pid)?,
    })
}

impl Subject {
    fn cpu(self) -> anyhow::Result<Duration> {
        match self {
            Self::One(pid) => cpu(pid),
            Self::Family(pid) => cpu_of_family(pid),
        }
    }
}

/// Writes the table.
pub(crate) fn tabulate(report: &mut Report, figures: &[Figure]) {
    report.head(&[
        "what",
        "clients",
        "requests/s",
        "p50",
        "p99",
        "CPU a request",
        "resident",
    ]);
    for figure in figures {
        report.row(&[
            figure.name.clone(),
            figure.clients.to_string(),
            format!("{:.0}", figure.measured.rate()),
            micros(figure.measured.p50),
            micros(figure.measured.p99),
            format!("{:.4} ms", figure.cpu_ms),
            mebibytes(figure.resident),
        ]);
    }
}

/// The figure of that name and so many clients.
pub(crate) fn find<'a>(figures: &'a [Figure], name: &str, clients: usize) -> Option<&'a Figure> {
    figures
        .iter()
        .find(|figure| figure.name == name && figure.clients == clients)
}

/// For people.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn micros(time: Duration) -> String {
    format!("{:.3} ms", time.as_micros() as f64 / 1000.0)
}

/// For people.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}
