//! Long bodies through a socket, checked byte by byte as they pass.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::upstream::{Check, pattern};
use crate::wire::Wire;

/// What passed.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Whether they were the right ones.
    pub intact: bool,
    /// How long it took.
    pub time: Duration,
}

/// Sends `request` and reads the body, which has a `Content-Length`, to its end.
///
/// # Errors
/// The answer is not 200, has no length, or breaks off.
pub async fn download(address: SocketAddr, request: &[u8]) -> anyhow::Result<Transfer> {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(request).await?;
    let mut buffer = vec![0; 256 * 1024];
    let mut filled = 0;
    let head = loop {
        let read = socket.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the answer ended within its head");
        filled += read;
        if let Some(at) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    ensure!(text.starts_with("http/1.1 200"), "{text}");
    let length: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .context("the answer has no length")?
        .trim()
        .parse()?;
    let mut check = Check::default();
    check.feed(&buffer[head..filled]);
    while check.bytes < length {
        let read = socket.read(&mut buffer).await?;
        ensure!(read > 0, "the answer ended after {} bytes", check.bytes);
        check.feed(&buffer[..read]);
    }
    Ok(Transfer {
        bytes: check.bytes,
        intact: check.is_intact(),
        time: began.elapsed(),
    })
}

/// Sends `head`, which announces `length` bytes for the upstream's `/sink`, and then these; what the sink says.
///
/// # Errors
/// The answer is not 200 or not a sink's.
pub async fn upload(address: SocketAddr, head: &[u8], length: u64) -> anyhow::Result<Transfer> {
    let began = Instant::now();
    let mut wire = Wire::connect(address).await?;
    wire.send(head).await?;
    let block = pattern();
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        wire.send(&block[..now]).await?;
        left -= now as u64;
    }
    let answer = wire.answer().await?;
    ensure!(
        answer.status == 200,
        "{} {}",
        answer.head,
        String::from_utf8_lossy(&answer.body)
    );
    let said = answer.json()?;
    Ok(Transfer {
        bytes: said["received"].as_u64().context("what was received")?,
        intact: said["intact"] == true,
        time: began.elapsed(),
    })
}
