//! HTTP/1.1 by hand, on both ends of a server: a provider that plays a script on each connection, and a caller that
//! sends and reads bytes. What HTTP libraries would tidy up is seen here as it is.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use patchbay_ambient::Ambient;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A message taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Without its framing.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Whether it ended where its framing says.
    pub is_whole: bool,
}

impl Message {
    /// The values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.headers.iter();
        fields
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_slice())
    }

    /// A header's text, empty if there is none.
    pub fn header(&self, name: &str) -> String {
        self.all(name)
            .next()
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.start, self.text()))
    }
}

/// How a message's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    /// The answer to a request of this kind.
    Response {
        to_head: bool,
    },
}

/// Reads one message; what came of it if the stream ends early.
pub async fn read_message(stream: &mut (impl AsyncRead + Unpin), kind: Kind) -> Message {
    let mut reader = Reader {
        stream,
        buffer: Vec::new(),
        at: 0,
    };
    reader.message(kind).await
}

struct Reader<'s, S> {
    stream: &'s mut S,
    buffer: Vec<u8>,
    at: usize,
}

impl<S: AsyncRead + Unpin> Reader<'_, S> {
    async fn message(&mut self, kind: Kind) -> Message {
        let mut message = Message::default();
        let Some(start) = self.line().await else {
            return message;
        };
        message.start = start;
        let Some(headers) = self.fields().await else {
            return message;
        };
        message.headers = headers;
        let status = message.status();
        let bodiless = match kind {
            Kind::Request => false,
            Kind::Response { to_head } => to_head || status < 200 || status == 204 || status == 304,
        };
        if bodiless {
            message.is_whole = true;
            return message;
        }
        if message
            .header("transfer-encoding")
            .eq_ignore_ascii_case("chunked")
        {
            message.is_whole = self.chunks(&mut message).await.is_some();
            return message;
        }
        let length = message.header("content-length");
        match length.parse::<usize>() {
            Ok(length) => {
                message.is_whole = self.take(length, &mut message.body).await.is_some();
            }
            Err(_) if kind == Kind::Request => message.is_whole = true,
            Err(_) => {
                while self.fill().await {}
                message.body = self.buffer.split_off(self.at);
                message.is_whole = true;
            }
        }
        message
    }

    async fn chunks(&mut self, message: &mut Message) -> Option<()> {
        loop {
            let line = self.line().await?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                message.trailers = self.fields().await?;
                return Some(());
            }
            self.take(size, &mut message.body).await?;
            self.line().await?;
        }
    }

    async fn fields(&mut self) -> Option<Vec<(String, Vec<u8>)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.raw_line().await?;
            if line.is_empty() {
                return Some(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    async fn line(&mut self) -> Option<String> {
        let line = self.raw_line().await?;
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    async fn raw_line(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
                let line = rest[..end].to_vec();
                self.at += end + 2;
                return Some(line);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn take(&mut self, length: usize, into: &mut Vec<u8>) -> Option<()> {
        while self.buffer.len() - self.at < length {
            if !self.fill().await {
                into.extend_from_slice(&self.buffer[self.at..]);
                return None;
            }
        }
        into.extend_from_slice(&self.buffer[self.at..self.at + length]);
        self.at += length;
        Some(())
    }

    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..))
    }
}

/// A provider that plays a script on each connection. It ends when dropped.
pub struct RawProvider {
    pub address: SocketAddr,
    tasks: Ambient,
}

impl RawProvider {
    pub async fn playing<F, Fut>(script: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Ambient::system();
        let stopping = tasks.tasks.stopping();
        let spawner = tasks.tasks.clone();
        tasks.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopping.cancelled() => return,
                };
                let Ok((socket, _)) = accepted else { continue };
                let playing = script(socket);
                let stopping = stopping.clone();
                spawner.spawn(async move {
                    tokio::select! {
                        () = playing => {}
                        () = stopping.cancelled() => {}
                    }
                });
            }
        });
        Self { address, tasks }
    }

    /// Answers each request on a connection with these bytes and closes it.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::playing(move |mut socket| {
            let answer = Arc::clone(&answer);
            async move {
                read_message(&mut socket, Kind::Request).await;
                let _ = socket.write_all(&answer).await;
                let _ = socket.shutdown().await;
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for RawProvider {
    fn drop(&mut self) {
        self.tasks.tasks.stop();
    }
}

/// Silence until the other side goes away.
pub async fn hang(mut socket: TcpStream) {
    let mut rest = [0; 1024];
    while let Ok(1..) = socket.read(&mut rest).await {}
}

/// Sends bytes to a server on loopback and reads the answer, which may come before all is sent.
pub async fn ask(port: u16, request: &[u8], kind: Kind) -> Message {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answering = std::pin::pin!(read_message(&mut reader, kind));
    tokio::select! {
        answer = &mut answering => return answer,
        _ = writer.write_all(request) => {}
    }
    answering.await
}
