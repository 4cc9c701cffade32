//! Long bodies in both directions, and the server's memory meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use patchbay_ambient::Ambient;

use super::Setting;
use super::proxy_stage::{ProxyStage, proxied};
use crate::measure::mebibytes;
use crate::process::resident;
use crate::report::Report;
use crate::seed::{PLAIN, SECURE};
use crate::stream::{Transfer, download, upload};

const MEBI: u64 = 1024 * 1024;
/// What a stream may add to the server's resident memory.
const ALLOWED: u64 = 16 * MEBI;

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let length = setting.size.pick(32 * MEBI, 1024 * MEBI);
    let mut report = Report::new(
        "Proof: streams at constant memory",
        "One body in each direction through the proxy, every byte checked on arrival, the server's resident memory \
         read every ten milliseconds meanwhile. Growth counts from what the server had after its first, short \
         transfers.",
    );
    let stage = ProxyStage::set(setting).await?;
    let address = stage.server.address;
    let through = async |direction: Direction, provider: &str, length: u64| match direction {
        Direction::Up => upload(address, &proxied("POST", "/sink", provider, length), length).await,
        Direction::Down => {
            let path = format!("/bytes/{length}");
            download(address, &proxied("GET", &path, provider, 0)).await
        }
    };
    for direction in [Direction::Up, Direction::Down] {
        for provider in [PLAIN, SECURE] {
            through(direction, provider, 4 * MEBI).await?;
        }
    }
    report.section("Figures");
    report.head(&[
        "direction",
        "upstream",
        "bytes",
        "time",
        "MiB/s",
        "resident before",
        "most resident",
    ]);
    for direction in [Direction::Up, Direction::Down] {
        for (provider, upstream) in [(PLAIN, "HTTP"), (SECURE, "HTTPS")] {
            let before = resident(stage.server.pid)?;
            let watch = Watch::begin(stage.server.pid, &setting.ambient);
            let transfer = through(direction, provider, length).await?;
            let most = watch.end().max(resident(stage.server.pid)?);
            report.row(&[
                direction.words().to_owned(),
                upstream.to_owned(),
                transfer.bytes.to_string(),
                format!("{:.2} s", transfer.time.as_secs_f64()),
                format!("{:.0}", speed(&transfer)),
                mebibytes(before),
                mebibytes(most),
            ]);
            let what = format!("{} {upstream}", direction.words());
            let whole = transfer.intact && transfer.bytes == length;
            report.claim(&format!("{what}: {length} bytes arrived unchanged"), whole);
            let growth = most.saturating_sub(before);
            let grown = format!("{what}: memory grew by {} MiB, less than 16 MiB", growth / MEBI);
            report.claim(&grown, growth < ALLOWED);
        }
    }
    stage.strike().await?;
    Ok(report)
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    fn words(self) -> &'static str {
        match self {
            Self::Up => "upload to",
            Self::Down => "download from",
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn speed(transfer: &Transfer) -> f64 {
    transfer.bytes as f64 / MEBI as f64 / transfer.time.as_secs_f64()
}

/// Keeps an eye on a process's memory.
struct Watch {
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn begin(pid: u32, ambient: &Ambient) -> Self {
        let watch = Self {
            most: Arc::default(),
            over: Arc::default(),
        };
        let (most, over) = (watch.most.clone(), watch.over.clone());
        ambient.tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident(pid).unwrap_or(0), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        watch
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.most.load(Ordering::Relaxed)
    }
}
