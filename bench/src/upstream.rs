//! A plain fast upstream, over HTTP or HTTPS: 200 and a fixed body for everything, except `/bytes/N`, which answers
//! `N` bytes, and `/sink`, which takes a body and says what came.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use patchbay_ambient::Ambient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Serves `length` bytes of JSON to everybody, until the tasks end. Where.
///
/// # Errors
/// No port is free.
pub fn serve(length: usize, tls: Option<Arc<ServerConfig>>, ambient: &Ambient) -> anyhow::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    // A thousand connections may come at once.
    let listener = socket.listen(4096)?;
    let address = listener.local_addr()?;
    let body = body(length);
    let acceptor = tls.map(TlsAcceptor::from);
    let tasks = ambient.tasks.clone();
    ambient.tasks.spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                continue;
            };
            let _ = socket.set_nodelay(true);
            let (body, acceptor) = (body.clone(), acceptor.clone());
            tasks.spawn(async move {
                match acceptor {
                    None => converse(socket, body).await,
                    Some(acceptor) => {
                        if let Ok(socket) = acceptor.accept(socket).await {
                            converse(socket, body).await;
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}

async fn converse(socket: impl AsyncRead + AsyncWrite + Unpin, body: Bytes) {
    let service = service_fn(move |request: Request<Incoming>| {
        let body = body.clone();
        async move { answer(request, body).await }
    });
    // Clients that go away are their own business.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

async fn answer(request: Request<Incoming>, usual: Bytes) -> Result<Response<Repeated>, hyper::Error> {
    let path = request.uri().path();
    if let Some(length) = path
        .strip_prefix("/bytes/")
        .and_then(|length| length.parse().ok())
    {
        let body = Repeated {
            left: length,
            block: pattern(),
        };
        return Ok(response(body, "application/octet-stream"));
    }
    if path == "/sink" {
        let mut check = Check::default();
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                check.feed(&data);
            }
        }
        let text = format!(r#"{{"received":{},"intact":{}}}"#, check.bytes, check.is_intact());
        return Ok(response(Repeated::once(text.into()), "application/json"));
    }
    Ok(response(Repeated::once(usual), "application/json"))
}

fn response(body: Repeated, content_type: &'static str) -> Response<Repeated> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A body of `left` bytes: a block again and again.
struct Repeated {
    left: u64,
    block: Bytes,
}

impl Repeated {
    fn once(block: Bytes) -> Self {
        Self {
            left: block.len() as u64,
            block,
        }
    }
}

impl http_body::Body for Repeated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(self.block.len(), |left| left.min(self.block.len()));
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(self.block.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// 64 KiB without a pattern to the eye, of which streams are made.
pub fn pattern() -> Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let mut state: u32 = 1;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        bytes.take(64 * 1024).collect::<Vec<u8>>().into()
    };
    PATTERN.get_or_init(make).clone()
}

/// Whether what arrives is the [`pattern`], again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Check {
    /// Bytes so far.
    pub bytes: u64,
    differs: bool,
}

impl Check {
    /// The next bytes.
    pub fn feed(&mut self, mut data: &[u8]) {
        let pattern = pattern();
        while !data.is_empty() {
            let at = usize::try_from(self.bytes % pattern.len() as u64).unwrap_or(0);
            let (now, later) = data.split_at(data.len().min(pattern.len() - at));
            self.differs |= now != &pattern[at..at + now.len()];
            self.bytes += now.len() as u64;
            data = later;
        }
    }

    /// Whether every byte was right.
    pub fn is_intact(&self) -> bool {
        !self.differs
    }
}

fn body(length: usize) -> Bytes {
    let frame = r#"{"data":""}"#.len();
    format!(r#"{{"data":"{}"}}"#, "x".repeat(length.saturating_sub(frame))).into()
}

/// A certificate for 127.0.0.1 made now, and the PEM with which clients believe it.
///
/// # Errors
/// The random generator failed.
pub fn certificate() -> anyhow::Result<(Arc<ServerConfig>, String)> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok((Arc::new(config), made.cert.pem()))
}
