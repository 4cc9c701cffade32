//! An OTLP receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use patchbay_ambient::Ambient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Its URL, and every request whole, head and body.
pub async fn collector() -> (String, mpsc::UnboundedReceiver<Vec<u8>>) {
    answering(Arc::new(AtomicU16::new(200))).await
}

/// A collector that answers with whatever status is set.
pub async fn answering(status: Arc<AtomicU16>) -> (String, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (posts, received) = mpsc::unbounded_channel();
    let tasks = Ambient::system().tasks;
    let inner = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            inner.spawn(collect(stream, posts.clone(), status.clone()));
        }
    });
    (url, received)
}

async fn collect(mut stream: TcpStream, posts: mpsc::UnboundedSender<Vec<u8>>, status: Arc<AtomicU16>) {
    let mut seen = Vec::new();
    loop {
        while let Some(end) = whole(&seen) {
            posts.send(seen.drain(..end).collect()).unwrap_or_default();
            let status = status.load(Ordering::SeqCst);
            let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// Where the first request ends, if all of it is there.
fn whole(seen: &[u8]) -> Option<usize> {
    let head = seen.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&seen[..head]).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))?
        .trim()
        .parse::<usize>()
        .ok()?;
    (seen.len() >= head + length).then_some(head + length)
}
