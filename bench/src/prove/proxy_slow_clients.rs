//! Many clients that read or send a few bytes at a time, and one that does not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::proxy_stage::{ProxyStage, proxied};
use super::{Setting, Size};
use crate::load::{self, Measured, Plan};
use crate::measure::{mebibytes, micros};
use crate::process::resident;
use crate::report::Report;
use crate::seed::PLAIN;
use crate::upstream::pattern;

/// What a slow client asks for or announces: more than it will ever get through.
const LONG: u64 = 64 * 1024 * 1024;
/// How many bytes at a time.
const BITE: usize = 1024;
/// How long between two bites.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let crowd = setting.size.pick(20, 1000);
    let time = setting
        .size
        .pick(Duration::from_millis(500), Duration::from_secs(10));
    let mut report = Report::new(
        "Proof: slow clients do not slow a fast one",
        "Half of the slow clients read a long response, half send a long request, a kibibyte every tenth of a second, \
         all through the proxy. The fast client sends one small proxied request after the other.",
    );
    let stage = ProxyStage::set(setting).await?;
    let fast = Plan {
        address: stage.server.address,
        requests: Arc::new(vec![proxied("GET", "/some/resource", PLAIN, 0)]),
        clients: 1,
        warm_up: time.min(Duration::from_secs(1)),
        time,
    };
    let alone = load::run(&fast, &setting.ambient, || ()).await?;
    let before = resident(stage.server.pid)?;

    let slow = Arc::new(Slow::default());
    for number in 0..crowd {
        let (slow, address) = (slow.clone(), stage.server.address);
        setting.ambient.tasks.spawn(async move {
            let ended = if number % 2 == 0 {
                slow.read(address).await
            } else {
                slow.send(address).await
            };
            if let Err(error) = ended {
                let mut broken = slow.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.push(format!("{error:#}"));
            }
        });
    }
    let until = Instant::now() + Duration::from_mins(1);
    while slow.under_way.load(Ordering::Relaxed) < crowd {
        ensure!(
            Instant::now() < until,
            "the slow clients did not all begin: {slow:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let bites = slow.bites.load(Ordering::Relaxed);
    let beside = load::run(&fast, &setting.ambient, || ()).await?;
    let bites = slow.bites.load(Ordering::Relaxed) - bites;
    let after = resident(stage.server.pid)?;
    slow.over.store(true, Ordering::Relaxed);

    report.section("The fast client");
    report.head(&["slow clients", "requests/s", "p50", "p99", "server resident"]);
    let mut row = |slow: usize, measured: &Measured, memory: u64| {
        report.row(&[
            slow.to_string(),
            format!("{:.0}", measured.rate()),
            micros(measured.p50),
            micros(measured.p99),
            mebibytes(memory),
        ]);
    };
    row(0, &alone, before);
    row(crowd, &beside, after);
    let broken = slow.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let claim = format!("none of {crowd} slow clients was cut off");
    report.claim(
        &match broken.first() {
            None => claim,
            Some(first) => format!("{claim}; {} were, the first because: {first}", broken.len()),
        },
        broken.is_empty(),
    );
    report.claim(
        &format!("they were served meanwhile: {bites} bites of {BITE} bytes"),
        bites >= crowd as u64,
    );
    if setting.size == Size::Full {
        // The load generator drives them all on the same cores: some of the difference is its own.
        let allowed = alone.p99 * 2 + Duration::from_millis(1);
        let claim = format!(
            "the fast client's p99 is {}, at most twice that without them and a millisecond ({})",
            micros(beside.p99),
            micros(allowed)
        );
        report.claim(&claim, beside.p99 <= allowed);
    }
    stage.strike().await?;
    Ok(report)
}

/// What the slow clients have done.
#[derive(Debug, Default)]
struct Slow {
    under_way: AtomicUsize,
    /// Why, in words.
    broken: Mutex<Vec<String>>,
    bites: AtomicU64,
    over: AtomicBool,
}

impl Slow {
    async fn read(&self, address: SocketAddr) -> anyhow::Result<()> {
        let path = format!("/bytes/{LONG}");
        let mut socket = connect(address).await?;
        socket.write_all(&proxied("GET", &path, PLAIN, 0)).await?;
        let mut bite = [0; BITE];
        let mut begun = false;
        while !self.over.load(Ordering::Relaxed) {
            ensure!(socket.read(&mut bite).await? > 0, "the response ended");
            ensure!(
                begun || bite.starts_with(b"HTTP/1.1 200"),
                "the answer is not 200"
            );
            self.swallow(&mut begun);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn send(&self, address: SocketAddr) -> anyhow::Result<()> {
        let mut socket = connect(address).await?;
        socket.write_all(&proxied("POST", "/sink", PLAIN, LONG)).await?;
        let bite = pattern().slice(..BITE);
        let mut begun = false;
        while !self.over.load(Ordering::Relaxed) {
            socket.write_all(&bite).await?;
            // An answer now would be a refusal.
            let answered = socket.try_read(&mut [0; 1]);
            ensure!(answered.is_err(), "answered before the end of the request");
            self.swallow(&mut begun);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn swallow(&self, begun: &mut bool) {
        self.bites.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(begun, true) {
            self.under_way.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// With a small window, so that a slow reader is felt by the server and not only by the kernel.
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(8 * 1024)?;
    socket.connect(address).await
}
