//! HTTP/1.1 over a raw socket, one exchange at a time, keep-alive: as little as a load generator needs, so that what
//! is measured is the server.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Where the parts of an answer are in the connection's buffer.
#[derive(Clone, Debug)]
struct Received {
    status: u16,
    head: Range<usize>,
    body: Range<usize>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Status line and headers as sent.
    pub head: String,
    /// Body, chunks joined.
    pub body: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// Writes a request.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.stream.write_all(request).await
    }

    /// Reads an answer to its end and says its status.
    pub async fn status(&mut self) -> io::Result<u16> {
        Ok(self.read().await?.status)
    }

    /// Reads an answer to its end.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let received = self.read().await?;
        Ok(Answer {
            status: received.status,
            head: String::from_utf8_lossy(&self.buffer[received.head]).into_owned(),
            body: self.buffer[received.body].to_vec(),
        })
    }

    async fn read(&mut self) -> io::Result<Received> {
        let head = self.read_until(0, b"\r\n\r\n").await?;
        let text = &self.buffer[..head];
        let status = text
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| invalid("no status line"))?;
        let length = match header(text, "content-length") {
            Some(length) => Some(length.parse().map_err(|_| invalid("bad content-length"))?),
            None if matches!(status, 204 | 304) => Some(0),
            None => None,
        };
        if let Some(length) = length {
            self.fill(head + length).await?;
            return Ok(Received {
                status,
                head: 0..head,
                body: head..head + length,
            });
        }
        if header(text, "transfer-encoding").is_none() {
            return Err(invalid("an answer of unknown length"));
        }
        let end = self.join_chunks(head).await?;
        Ok(Received {
            status,
            head: 0..head,
            body: head..end,
        })
    }

    /// Moves the chunks after `start` together; where they end.
    async fn join_chunks(&mut self, start: usize) -> io::Result<usize> {
        let (mut at, mut joined) = (start, start);
        loop {
            let line = self.read_until(at, b"\r\n").await?;
            let size = std::str::from_utf8(&self.buffer[at..line - 2])
                .ok()
                .and_then(|size| {
                    usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).ok()
                })
                .ok_or_else(|| invalid("bad chunk size"))?;
            if size == 0 {
                self.read_until(line, b"\r\n").await?;
                return Ok(joined);
            }
            self.fill(line + size + 2).await?;
            self.buffer.copy_within(line..line + size, joined);
            joined += size;
            at = line + size + 2;
        }
    }

    /// Reads until `mark` occurs at or after `from`; where it ends.
    async fn read_until(&mut self, from: usize, mark: &[u8]) -> io::Result<usize> {
        let mut scanned = from;
        loop {
            let seen = self.buffer.get(scanned..).unwrap_or_default();
            if let Some(at) = seen.windows(mark.len()).position(|window| window == mark) {
                return Ok(scanned + at + mark.len());
            }
            scanned = self.buffer.len().saturating_sub(mark.len() - 1).max(from);
            self.more().await?;
        }
    }

    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// `error.code` of an error envelope.
    pub fn error_code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body["error"]["code"].as_str().map(ToOwned::to_owned)
    }

    /// The first header of that name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head.as_bytes(), name)
    }
}

/// A request's bytes. `headers` are whole lines without their ends.
pub fn request(method: &str, target: &str, host: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| std::str::from_utf8(value).map(str::trim).ok())?
    })
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use patchbay_ambient::Ambient;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn answers_are_read_whole_however_they_are_framed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ];
        Ambient::system().tasks.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = [0; 1024];
            for answer in answers {
                assert_ne!(socket.read(&mut seen).await.unwrap(), 0);
                // Byte by byte: no framing survives.
                for byte in answer.as_bytes() {
                    socket.write_all(&[*byte]).await.unwrap();
                }
            }
        });
        let mut wire = Wire::connect(address).await.unwrap();
        for (status, body) in [(200, "hello"), (200, "hello"), (204, "")] {
            wire.send(&request("GET", "/", "x", &[], b"")).await.unwrap();
            let answer = wire.answer().await.unwrap();
            assert_eq!((answer.status, answer.body), (status, body.as_bytes().to_vec()));
        }
    }
}
