//! Servers to talk to and clients to talk with.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request};
use patchbay_ambient::{SystemClock, Tasks};
use patchbay_outbound::{
    Body, Client, DnsFailure, Policy, PrivateNetworks, Resolve, Settings, Timeouts, Trust,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// Long enough that a test that needs it has failed anyway.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// Short enough that a test can wait for it to pass.
pub(crate) const SHORT: Duration = Duration::from_millis(80);

pub(crate) fn patient() -> Timeouts {
    Timeouts {
        connect: LONG,
        response: LONG,
        idle: LONG,
    }
}

/// Knows some names; all others do not exist.
#[derive(Debug, Default)]
pub(crate) struct Names(pub(crate) HashMap<&'static str, Result<Vec<IpAddr>, DnsFailure>>);

impl Names {
    pub(crate) fn of(names: &[(&'static str, &str)]) -> Self {
        Self(
            names
                .iter()
                .map(|(name, ip)| (*name, Ok(vec![ip.parse().unwrap()])))
                .collect(),
        )
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsFailure>> {
        let answer = self.0.get(host).cloned().unwrap_or(Err(DnsFailure::NotFound));
        Box::pin(std::future::ready(answer))
    }
}

pub(crate) fn client_with(
    networks: &PrivateNetworks,
    timeouts: Timeouts,
    trust: Trust,
    names: Names,
) -> Client {
    let settings = Settings {
        timeouts,
        trust,
        ..Settings::new("test")
    };
    Client::with_resolver(
        Policy::public(networks),
        settings,
        Arc::new(SystemClock),
        Arc::new(names),
    )
}

/// Reaches loopback, trusts nobody, knows no name.
pub(crate) fn client() -> Client {
    client_with(
        &PrivateNetworks::loopback(),
        patient(),
        Trust::nobody(),
        Names::default(),
    )
}

/// A TCP server that counts connections and plays a script on each.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let tasks = Tasks::new();
        tasks.clone().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(script(socket));
            }
        });
        Self { address, connections }
    }

    /// Reads one request, sends `answer`, then does `ending` to the socket.
    pub(crate) async fn answering(answer: &'static str, ending: Ending) -> Self {
        Self::start(move |mut socket| async move {
            read_request(&mut socket).await;
            socket.write_all(answer.as_bytes()).await.unwrap();
            ending.play(socket).await;
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn get(&self, path: &str) -> Request<Body> {
        self.request(Method::GET, path, Body::empty())
    }

    pub(crate) fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(self.url(path).as_str())
            .body(body)
            .unwrap()
    }
}

/// How a scripted connection ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// An orderly end.
    Close,
    /// A TCP reset.
    Reset,
    /// Silence until the other side goes away.
    Hang,
}

impl Ending {
    pub(crate) async fn play(self, mut socket: TcpStream) {
        match self {
            Self::Close => drop(socket),
            Self::Reset => socket.set_zero_linger().unwrap(),
            Self::Hang => {
                let mut rest = Vec::new();
                let _ = socket.read_to_end(&mut rest).await;
            }
        }
    }
}

/// Reads a request's head and, if it has a content-length, its body.
pub(crate) async fn read_request(socket: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = socket.read(&mut piece).await.unwrap();
        read.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
            if body.len() >= length {
                return text.into_owned();
            }
        }
        if count == 0 {
            return text.into_owned();
        }
    }
}

/// Serves an axum router, counting connections.
pub(crate) async fn serve(router: axum::Router) -> Server {
    let service = hyper_util::service::TowerToHyperService::new(router);
    Server::start(move |socket| {
        let service = service.clone();
        async move {
            let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            let _ = builder
                .serve_connection(hyper_util::rt::TokioIo::new(socket), service)
                .await;
        }
    })
    .await
}

/// A request body fed by hand.
pub(crate) fn channel_body() -> (
    tokio::sync::mpsc::UnboundedSender<Result<Bytes, &'static str>>,
    Body,
) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, &'static str>>();
    let frames = futures_util::stream::poll_fn(move |cx| {
        receiver
            .poll_recv(cx)
            .map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    });
    (sender, Body::stream(http_body_util::StreamBody::new(frames)))
}
