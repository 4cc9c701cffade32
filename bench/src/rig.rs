//! The load rig: seeds a server, starts it, an upstream and nginx, and measures the hot paths one after the other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use patchbay_ambient::Ambient;
use patchbay_types::integrations::IntegrationSecrets;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::load::{self, Measured, Plan};
use crate::process::{self, Server, Spec, cpu, cpu_of_family, free_address, resident};
use crate::report::Report;
use crate::seed::{self, API_KEY, House};
use crate::wire::request;

/// A name, where it is sent, the requests, and whose CPU is counted.
type Comparison = (&'static str, SocketAddr, Arc<Vec<Vec<u8>>>, Subject);

const PLAIN: &str = "plain";
const SECURE: &str = "secure";
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

/// A row of the table: what is asked, of whom.
struct Row {
    name: &'static str,
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    subject: Subject,
    clients: usize,
}

/// Whose CPU time counts.
#[derive(Clone, Copy)]
enum Subject {
    One(u32),
    Family(u32),
}

struct Figure {
    name: &'static str,
    clients: usize,
    measured: Measured,
    cpu_ms: f64,
    resident: u64,
}

/// Runs the rig. The table, as Markdown.
///
/// # Errors
/// Something could not be started, or answered something else than 200.
pub async fn run(options: &Options, ambient: &Ambient) -> anyhow::Result<String> {
    let directory = tempfile::Builder::new().prefix("patchbay-bench-").tempdir()?;
    let at = |name: &str| directory.path().join(name);

    let certificate = at("upstream.pem");
    let upstream = Upstream::start(&certificate).await?;
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
    let nginx = Nginx::start(options, directory.path(), &upstream).await?;

    let mut figures = Vec::new();
    for row in rows(options, &small, &large, &upstream, &nginx) {
        figures.push(measure(&row, options, ambient).await?);
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
    let proxied = |provider: &str| {
        let headers = [
            authorization.clone(),
            "Connection-Id: c0".to_owned(),
            format!("Provider-Config-Key: {provider}"),
        ];
        Arc::new(vec![request(
            "GET",
            "/proxy/some/resource",
            "localhost",
            &headers,
            b"",
        )])
    };
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
        (
            DIRECT,
            upstream.http,
            one("/some/resource"),
            Subject::One(upstream.pid),
        ),
        (
            NGINX,
            nginx.address,
            one("/some/resource"),
            Subject::Family(nginx.pid),
        ),
        (PROXY, large.address, proxied(PLAIN), many),
        (
            NGINX_TLS,
            nginx.address,
            one("/secure/some/resource"),
            Subject::Family(nginx.pid),
        ),
        (PROXY_TLS, large.address, proxied(SECURE), many),
    ];
    let mut rows = Vec::new();
    for (name, address, requests, subject) in plans {
        for clients in [1, 32] {
            rows.push(Row {
                name,
                address,
                requests: requests.clone(),
                subject,
                clients,
            });
        }
    }
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
const DIRECT: &str = "upstream, direct";
const NGINX: &str = "nginx proxy";
const PROXY: &str = "ANY /proxy/*, 1 KB";
const NGINX_TLS: &str = "nginx proxy, HTTPS upstream";
const PROXY_TLS: &str = "ANY /proxy/*, 1 KB, HTTPS upstream";

async fn measure(row: &Row, options: &Options, ambient: &Ambient) -> anyhow::Result<Figure> {
    let plan = Plan {
        address: row.address,
        requests: row.requests.clone(),
        clients: row.clients,
        warm_up: Duration::from_secs(1),
        time: Duration::from_secs(options.seconds),
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
        name: row.name,
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
        report.head(&[
            "what",
            "clients",
            "requests/s",
            "p50",
            "p99",
            "CPU a request",
            "resident",
        ]);
        for figure in &self.figures {
            report.row(&[
                figure.name.to_owned(),
                figure.clients.to_string(),
                format!("{:.0}", figure.measured.rate()),
                micros(figure.measured.p50),
                micros(figure.measured.p99),
                format!("{:.4} ms", figure.cpu_ms),
                mebibytes(figure.resident),
            ]);
        }
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
        self.figures
            .iter()
            .find(|figure| figure.name == name && figure.clients == clients)
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
        for (proxy, nginx) in [(PROXY, NGINX), (PROXY_TLS, NGINX_TLS)] {
            if let (Some(ours), Some(theirs)) = (self.figure(proxy, 32), self.figure(nginx, 32)) {
                let ratio = ours.measured.rate() / theirs.measured.rate();
                add(
                    proxy,
                    "≥ 0.40 × nginx at 32 clients",
                    format!("{ratio:.2}"),
                    ratio >= 0.40,
                );
                add(
                    proxy,
                    "≤ 0.05 ms CPU",
                    format!("{:.4} ms", ours.cpu_ms),
                    ours.cpu_ms <= 0.05,
                );
            }
        }
        if let (Some(ours), Some(direct)) = (self.figure(PROXY, 1), self.figure(DIRECT, 1)) {
            let added = ours.measured.p50.saturating_sub(direct.measured.p50);
            add(
                PROXY,
                "≤ +0.3 ms p50 at one client",
                micros(added),
                added <= Duration::from_micros(300),
            );
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

struct Budget {
    what: String,
    goal: &'static str,
    measured: String,
    met: bool,
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn micros(time: Duration) -> String {
    format!("{:.3} ms", time.as_micros() as f64 / 1000.0)
}

fn mebibytes(bytes: u64) -> String {
    let mut text = String::new();
    let _ = write!(text, "{} MiB", bytes / (1024 * 1024));
    text
}

/// The upstream, this program in another process.
struct Upstream {
    _child: Child,
    pid: u32,
    http: SocketAddr,
    https: SocketAddr,
}

impl Upstream {
    async fn start(certificate: &std::path::Path) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("upstream")
            .arg("--certificate")
            .arg(certificate)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("the upstream ended at once")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let line = lines
            .next_line()
            .await?
            .context("the upstream says where it is")?;
        let told: Value = serde_json::from_str(&line)?;
        let address = |scheme: &str| -> anyhow::Result<SocketAddr> {
            Ok(told[scheme].as_str().context("an address")?.parse()?)
        };
        Ok(Self {
            pid,
            http: address("http")?,
            https: address("https")?,
            _child: child,
        })
    }
}

struct Nginx {
    _child: Child,
    pid: u32,
    address: SocketAddr,
}

impl Nginx {
    async fn start(
        options: &Options,
        directory: &std::path::Path,
        upstream: &Upstream,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let template = std::fs::read_to_string(&options.nginx)
            .with_context(|| format!("reading {}", options.nginx.display()))?;
        let filled = template
            .replace("@directory@", &directory.display().to_string())
            .replace("@listen@", &address.to_string())
            .replace("@https@", &upstream.https.to_string())
            .replace("@http@", &upstream.http.to_string());
        let path = directory.join("nginx.conf");
        std::fs::write(&path, filled)?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .arg("-e")
            .arg(directory.join("nginx-error.log"))
            .kill_on_drop(true)
            .spawn()
            .context("starting nginx; apt-get install nginx-light")?;
        let pid = child.id().context("nginx ended at once")?;
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            anyhow::ensure!(tokio::time::Instant::now() < until, "nginx does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self {
            _child: child,
            pid,
            address,
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with the master only when it is asked to end, not when it is killed.
        let _ = std::process::Command::new("kill")
            .arg(self.pid.to_string())
            .status();
    }
}
