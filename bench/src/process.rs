//! Child processes: the server, and what the operating system says of them.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::wire::{Wire, request};

/// How a server is started; the same one again after a kill.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Where it listens; its own data live beside.
    pub address: SocketAddr,
    /// `sqlite:…` or `postgres:…`.
    pub database_url: String,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Provider definitions.
    pub catalog: PathBuf,
    /// Further settings: `PATCHBAY_…`.
    pub settings: Vec<(String, String)>,
    /// Standard output and error go here.
    pub log: PathBuf,
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
}

impl Spec {
    /// Starts the server and waits until it is ready; how long that took.
    ///
    /// # Errors
    /// It ended, or was not ready within a minute; with the end of its log.
    pub async fn start(&self) -> anyhow::Result<(Server, Duration)> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let began = Instant::now();
        let child = Command::new(&self.program)
            .arg("serve")
            .args(["--listen", &self.address.to_string()])
            .args(["--database-url", &self.database_url])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--catalog")
            .arg(&self.catalog)
            .env("PATCHBAY_RATE_LIMIT_PER_MIN", "0")
            .env("PATCHBAY_ALLOW_PRIVATE_NETWORKS", "true")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let pid = child.id().context("the server ended at once")?;
        let mut server = Server {
            child,
            address: self.address,
            pid,
        };
        loop {
            if is_ready(self.address).await {
                return Ok((server, began.elapsed()));
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.end_of_log());
            }
            if began.elapsed() > Duration::from_mins(1) {
                bail!("the server is not ready after a minute:\n{}", self.end_of_log());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn end_of_log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Server {
    /// Kills it as the machine would: no signal handler runs.
    ///
    /// # Errors
    /// It is not ours to kill.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// It does not end with 0 within half a minute.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").arg(self.pid.to_string()).status().await?;
        anyhow::ensure!(asked.success(), "the server could not be signalled");
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        let status = ended.context("the server does not end")??;
        anyhow::ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// How many files this process, and each that it starts, may have open; none if the system does not say.
pub fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A port that was free a moment ago.
///
/// # Errors
/// None is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The program to prove or measure: as given, else `patchbay` beside this program.
///
/// # Errors
/// There is none.
pub fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let beside = std::env::current_exe()?.with_file_name("patchbay");
    anyhow::ensure!(
        beside.is_file(),
        "{} is not there: cargo build --release --bin patchbay",
        beside.display()
    );
    Ok(beside)
}

async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut wire = Wire::connect(address).await?;
        wire.send(&request("GET", "/ready", "localhost", &[], b""))
            .await?;
        wire.status().await
    };
    ask.await.is_ok_and(|status| status == 200)
}

/// CPU time a process has used, its threads included.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces; it ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')').context("an unknown format")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap_or(0))
        .sum();
    // USER_HZ is 100 on every Linux.
    Ok(Duration::from_millis(ticks * 10))
}

/// CPU time of a process and its children.
///
/// # Errors
/// There is no such process.
pub fn cpu_of_family(pid: u32) -> anyhow::Result<Duration> {
    let mut total = cpu(pid)?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        total += cpu(child.parse()?)?;
    }
    Ok(total)
}

/// Resident memory in bytes.
///
/// # Errors
/// There is no such process.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .context("an unknown format")?
        .trim()
        .parse()?;
    Ok(kilobytes * 1024)
}
