//! A plain fast upstream: 200 and a fixed body for everything, over HTTP or HTTPS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use patchbay_ambient::Ambient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Serves `length` bytes of JSON to everybody, until the tasks end. Where.
///
/// # Errors
/// No port is free.
pub async fn serve(
    length: usize,
    tls: Option<Arc<ServerConfig>>,
    ambient: &Ambient,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
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
    let service = service_fn(move |_: Request<Incoming>| {
        let mut response = Response::new(Full::new(body.clone()));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    // Clients that go away are their own business.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await;
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
