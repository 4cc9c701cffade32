//! Who stands beside the server: the upstream it calls, and nginx, its yardstick. Each is a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::process::free_address;

/// `patchbay-bench upstream`. Killed when dropped.
#[derive(Debug)]
pub struct Upstream {
    _child: Child,
    /// Its process.
    pub pid: u32,
    /// Where it speaks plain HTTP.
    pub http: SocketAddr,
    /// Where it speaks HTTPS.
    pub https: SocketAddr,
}

impl Upstream {
    /// Starts `program`, which is `patchbay-bench`; it writes the certificate to trust to `certificate`.
    ///
    /// # Errors
    /// It could not be started or does not say where it is.
    pub async fn start(program: &Path, certificate: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("upstream")
            .arg("--certificate")
            .arg(certificate)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
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

/// nginx before the same upstream. Asked to end when dropped.
#[derive(Debug)]
pub struct Nginx {
    _child: Child,
    /// Its master process.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts nginx with the configuration in `template`, whose `@…@` are filled in. Its files go to `directory`.
    ///
    /// # Errors
    /// There is none, or it does not listen within ten seconds.
    pub async fn start(template: &Path, directory: &Path, upstream: &Upstream) -> anyhow::Result<Self> {
        let address = free_address()?;
        let text =
            std::fs::read_to_string(template).with_context(|| format!("reading {}", template.display()))?;
        let filled = text
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
