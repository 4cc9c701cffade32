//! The load rig: seeds a server, starts it, an upstream and nginx, and measures the hot paths one after the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use patchbay_ambient::Ambient;
use patchbay_types::integrations::IntegrationSecrets;
use serde_json::{Value, json};

use crate::matrix;
use crate::measure::{Budget, Figure, Row, Subject, find, measure, mebibytes, tabulate};
use crate::neighbours::{Nginx, Upstream};
use crate::process::{self, Server, Spec, cpu, free_address, resident};
use crate::prove::Size;
use crate::report::Report;
use crate::seed::{self, API_KEY, House, PLAIN, SECURE};
use crate::wire::request;

/// A name, where it is sent, the requests, and whose CPU is counted.
type Comparison = (&'static str, SocketAddr, Arc<Vec<Vec<u8>>>, Subject);

const FEW: usize = 1_000;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds measured for each row, after one of warm-up.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Connections in the large data set.
    #[arg(long, default_value_t = 100_000)]
    pub rows: usize,
    /// The server's program; `patchbay` beside this one if not given.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// nginx's configuration.
    #[arg(long, default_value = "bench/nginx.conf")]
    pub nginx: PathBuf,
    /// Only rows whose name has this part.
    #[arg(long)]
    pub only: Option<String>,
    /// Write the table here too.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
    /// Write the figures here as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Runs the rig. The table, as Markdown.
///
/// # Errors
/// Something could not be started, or answered something else than 200.
pub async fn run(options: &Options, ambient: &Ambient) -> anyhow::Result<String> {
    let directory = tempfile::Builder::new().prefix("patchbay-bench-").tempdir()?;
    let at = |name: &str| directory.path().join(name);

    let certificate = at("upstream.pem");
    let upstream = Upstream::start(&std::env::current_exe()?, &certificate).await?;
    let catalog = at("catalog");
    let definitions = BTreeMap::from([
        (
            PLAIN,
            seed::api_key_provider(&format!("http://{}", upstream.http)),
        ),
        (
            SECURE,
            seed::api_key_provider(&format!("https://{}", upstream.https)),
        ),
    ]);
    seed::write_catalogue(&catalog, &definitions)?;
    let mut settings = seed::settings();
    let ca = (
        "PATCHBAY_OUTBOUND_CA_FILE".to_owned(),
        certificate.display().to_string(),
    );
    settings.push(ca);
    let program = process::program(options.program.as_deref())?;
    let spec = |name: &str| -> anyhow::Result<Spec> {
        std::fs::create_dir_all(at(name))?;
        Ok(Spec {
            program: program.clone(),
            address: free_address()?,
            database_url: format!("sqlite:{}", at(name).join("patchbay.db").display()),
            data_dir: at(name),
            catalog: catalog.clone(),
            settings: settings.clone(),
            log: at(&format!("{name}.log")),
        })
    };
    let (few, many) = (spec("few")?, spec("many")?);
    furnish(&few, FEW, ambient).await?;
    furnish(&many, options.rows, ambient).await?;

    // Once before the measured starts: the first makes `prod` and the key.
    for spec in [&few, &many] {
        spec.start().await?.0.stop().await?;
    }
    let (small, _) = few.start().await?;
    let (large, ready) = many.start().await?;
    let idle = idle(large.pid).await?;
    let nginx = Nginx::start(&options.nginx, directory.path(), &upstream).await?;

    let mut figures = Vec::new();
    for row in rows(options, &small, &large, &upstream, &nginx) {
        figures.push(measure(&row, Duration::from_secs(options.seconds), ambient).await?);
    }
    let after = resident(large.pid)?;
    large.stop().await?;
    small.stop().await?;

    let outcome = Outcome {
        figures,
        ready,
        idle,
        after,
        rows: options.rows,
    };
    let report = outcome.report();
    let command = "make bench";
    if let Some(path) = &options.markdown {
        report.write(path, command, ambient)?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&outcome.json())?)?;
    }
    Ok(report.markdown(command, ambient))
}

async fn furnish(spec: &Spec, count: usize, ambient: &Ambient) -> anyhow::Result<()> {
    let house = House::build(&spec.database_url, None, ambient).await?;
    let plain = house.integration(PLAIN, IntegrationSecrets::default()).await?;
    house.connections(plain, count).await?;
    let secure = house.integration(SECURE, IntegrationSecrets::default()).await?;
    house.connections(secure, 1).await?;
    house.close().await;
    Ok(())
}

fn rows(options: &Options, small: &Server, large: &Server, upstream: &Upstream, nginx: &Nginx) -> Vec<Row> {
    let authorization = format!("Authorization: Bearer {API_KEY}");
    let get = |target: String| {
        request(
            "GET",
            &target,
            "localhost",
            std::slice::from_ref(&authorization),
            b"",
        )
    };
    let one = |target: &str| Arc::new(vec![get(target.to_owned())]);
    let read = |number: usize| format!("/connections/c{number}?provider_config_key={PLAIN}");
    // A prime stride visits every connection in an order no cache can guess.
    let scattered: Vec<_> = (0..options.rows.min(50_000))
        .map(|number| get(read(number * 7919 % options.rows)))
        .collect();
    let scattered = Arc::new(scattered);
    let list = |team: usize| format!("/connections?limit=100&tags[team]=team-{team}&tags[plan]=pro");
    let common = "/connections?limit=100&tags[region]=region-1&tags[plan]=pro";
    let (few, many) = (Subject::One(small.pid), Subject::One(large.pid));
    let plans: Vec<Comparison> = vec![
        (
            "GET /connections/:id, one connection",
            large.address,
            one(&read(0)),
            many,
        ),
        (
            "GET /connections/:id, 50,000 in turn",
            large.address,
            scattered,
            many,
        ),
        (
            "GET /connections?limit=100, two tags, 1,000 rows",
            small.address,
            one(&list(2)),
            few,
        ),
        (
            "GET /connections?limit=100, two tags, all rows",
            large.address,
            one(&list(options.rows / 400)),
            many,
        ),
        (
            "GET /connections?limit=100, two common tags, 1,000 rows",
            small.address,
            one(common),
            few,
        ),
        (
            "GET /connections?limit=100, two common tags, all rows",
            large.address,
            one(common),
            many,
        ),
        (PROVIDERS, large.address, one("/providers"), many),
    ];
    let mut rows = Vec::new();
    for (name, address, requests, subject) in plans {
        for clients in [1, 32] {
            rows.push(Row {
                name: name.to_owned(),
                address,
                requests: requests.clone(),
                subject,
                clients,
            });
        }
    }
    rows.extend(matrix::rows(large, upstream, Some(nginx), Size::Full));
    rows.retain(|row| {
        options
            .only
            .as_ref()
            .is_none_or(|part| row.name.contains(part.as_str()))
    });
    rows
}

const READ: &str = "GET /connections/:id, one connection";
const LIST: &str = "GET /connections?limit=100, two tags, all rows";
const LIST_FEW: &str = "GET /connections?limit=100, two tags, 1,000 rows";
/// The whole catalogue.
const PROVIDERS: &str = "GET /providers";

/// A server nobody asks anything.
#[derive(Clone, Copy)]
struct Idle {
    resident: u64,
    cpu: Duration,
}

const IDLE: Duration = Duration::from_secs(5);

async fn idle(pid: u32) -> anyhow::Result<Idle> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = cpu(pid)?;
    tokio::time::sleep(IDLE).await;
    Ok(Idle {
        resident: resident(pid)?,
        cpu: cpu(pid)?.saturating_sub(before),
    })
}

struct Outcome {
    figures: Vec<Figure>,
    ready: Duration,
    idle: Idle,
    after: u64,
    rows: usize,
}

impl Outcome {
    fn report(&self) -> Report {
        let mut report = Report::new(
            "Benchmarks",
            &format!(
                "One run; load generator, upstream, nginx and server share the machine. \"All rows\" are {}. CPU is \
                 that of the measured process.",
                self.rows
            ),
        );
        report.section("Figures");
        tabulate(&mut report, &self.figures);
        report.section("Budgets");
        report.head(&["what", "budget", "measured", "met"]);
        for budget in self.budgets() {
            let met = if budget.met { "yes" } else { "**no**" };
            report.row(&[
                budget.what,
                budget.goal.to_owned(),
                budget.measured,
                met.to_owned(),
            ]);
        }
        report
    }

    fn figure(&self, name: &str, clients: usize) -> Option<&Figure> {
        find(&self.figures, name, clients)
    }

    fn budgets(&self) -> Vec<Budget> {
        let mut all = Vec::new();
        let mut add = |what: &str, budget: &'static str, measured: String, met: bool| {
            all.push(Budget {
                what: what.to_owned(),
                goal: budget,
                measured,
                met,
            });
        };
        for budget in matrix::budgets(&self.figures) {
            add(&budget.what, budget.goal, budget.measured, budget.met);
        }
        if let Some(read) = self.figure(READ, 32) {
            let rate = read.measured.rate();
            add(
                READ,
                "≥ 25,000 requests/s",
                format!("{rate:.0}"),
                rate >= 25_000.0,
            );
            add(
                READ,
                "≤ 0.05 ms CPU",
                format!("{:.4} ms", read.cpu_ms),
                read.cpu_ms <= 0.05,
            );
        }
        if let (Some(many), Some(few)) = (self.figure(LIST, 32), self.figure(LIST_FEW, 32)) {
            let rate = many.measured.rate();
            add(LIST, "≥ 4,000 requests/s", format!("{rate:.0}"), rate >= 4000.0);
            let flat = rate / few.measured.rate();
            // Two runs of the same thing differ by some per cent.
            add(
                LIST,
                "flat from 1,000 rows",
                format!("{flat:.2} × 1,000 rows"),
                flat >= 0.85,
            );
        }
        if let Some(list) = self.figure(PROVIDERS, 1) {
            add(
                PROVIDERS,
                "≤ 2 ms CPU",
                format!("{:.4} ms", list.cpu_ms),
                list.cpu_ms <= 2.0,
            );
        }
        let mebi = 1024 * 1024;
        add(
            "idle",
            "≤ 60 MiB resident",
            mebibytes(self.idle.resident),
            self.idle.resident <= 60 * mebi,
        );
        let idle = format!("{} ms in {} s", self.idle.cpu.as_millis(), IDLE.as_secs());
        add(
            "idle",
            "no measurable CPU",
            idle,
            self.idle.cpu <= Duration::from_millis(10),
        );
        let ready = format!("{} ms", self.ready.as_millis());
        add(
            "start to /ready",
            "≤ 300 ms",
            ready,
            self.ready <= Duration::from_millis(300),
        );
        all
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                json!({
                    "what": figure.name,
                    "clients": figure.clients,
                    "requests_per_second": figure.measured.rate(),
                    "p50_us": figure.measured.p50.as_micros(),
                    "p99_us": figure.measured.p99.as_micros(),
                    "cpu_ms_per_request": figure.cpu_ms,
                    "resident_bytes": figure.resident,
                })
            })
            .collect();
        json!({
            "figures": figures,
            "ready_ms": self.ready.as_millis(),
            "idle_resident_bytes": self.idle.resident,
            "resident_bytes_after": self.after,
            "idle_cpu_ms": self.idle.cpu.as_millis(),
        })
    }
}
