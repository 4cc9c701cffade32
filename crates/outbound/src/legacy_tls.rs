//! TLS by OpenSSL, for servers that speak nothing rustls does: TLS 1.0 and 1.1, ciphers without forward secrecy or
//! authenticated encryption, short keys. Certificates and names are verified as everywhere. Only in builds with the
//! feature `legacy-tls`, and only for calls that ask for it ([`crate::Tls::Legacy`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslOptions, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use tower::Service;

use crate::body::BoxError;
use crate::connector::{Tcp, target_of};
use crate::error::{Error, TlsFailure};
use crate::socket::Socket;
use crate::tls::{Identity, InvalidIdentity};

type Plain = Socket<TokioIo<TcpStream>>;

/// Everything OpenSSL still has but anonymous and empty ciphers.
const CIPHERS: &str = "ALL:!aNULL:!eNULL:!EXPORT:!PSK:!SRP:@SECLEVEL=0";

/// Whom to believe, as OpenSSL takes it.
#[derive(Clone, Default)]
pub(crate) struct Authorities {
    trusts_system: bool,
    /// Certificates in DER.
    own: Vec<Vec<u8>>,
}

impl Authorities {
    /// Those in OpenSSL's own folders (`SSL_CERT_FILE` and `SSL_CERT_DIR` count).
    pub(crate) fn system() -> Self {
        Self {
            trusts_system: true,
            own: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, certificate: &[u8]) {
        self.own.push(certificate.to_vec());
    }

    /// A connector that verifies servers and shows `identity`, if any, to those that ask.
    pub(crate) fn configured(&self, identity: Option<&Identity>) -> Result<SslConnector, InvalidIdentity> {
        let mut builder = self.base().map_err(|_| InvalidIdentity::Mismatch)?;
        if let Some(identity) = identity {
            present(&mut builder, identity).map_err(|_| InvalidIdentity::Mismatch)?;
        }
        Ok(builder.build())
    }

    fn base(&self) -> Result<SslConnectorBuilder, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_cipher_list(CIPHERS)?;
        builder.set_min_proto_version(Some(SslVersion::TLS1))?;
        // Servers from before RFC 5746.
        builder.set_options(SslOptions::ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
        let mut store = X509StoreBuilder::new()?;
        if self.trusts_system {
            store.set_default_paths()?;
        }
        for authority in &self.own {
            store.add_cert(X509::from_der(authority)?)?;
        }
        builder.set_cert_store(store.build());
        Ok(builder)
    }
}

fn present(builder: &mut SslConnectorBuilder, identity: &Identity) -> Result<(), ErrorStack> {
    let (chain, key) = identity.parts();
    for (index, certificate) in chain.iter().enumerate() {
        let certificate = X509::from_der(certificate)?;
        match index {
            0 => builder.set_certificate(&certificate)?,
            _ => builder.add_extra_chain_cert(certificate)?,
        }
    }
    let key = PKey::private_key_from_der(key)?;
    builder.set_private_key(&key)?;
    builder.check_private_key()
}

/// Connects, with OpenSSL where the URL is an https one.
#[derive(Clone, Debug)]
pub(crate) struct LegacyConnector {
    tcp: Tcp,
    tls: SslConnector,
}

impl LegacyConnector {
    pub(crate) fn new(tcp: Tcp, tls: SslConnector) -> Self {
        Self { tcp, tls }
    }

    pub(crate) async fn connect(mut self, uri: Uri) -> Result<Stream, BoxError> {
        let plain = self.tcp.call(uri.clone()).await?;
        if uri.scheme_str() != Some("https") {
            return Ok(Stream::Rustls(MaybeHttpsStream::Http(plain)));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let ssl = self.tls.configure()?.into_ssl(host)?;
        let mut stream = SslStream::new(ssl, TokioIo::new(plain))?;
        match Pin::new(&mut stream).connect().await {
            Ok(()) => Ok(Stream::OpenSsl(TokioIo::new(stream))),
            Err(error) => Err(Box::new(Error::Tls {
                target: target_of(&uri),
                failure: failure(stream.ssl().verify_result()),
                source: Arc::new(error),
            })),
        }
    }
}

/// X.509 verification results by number (OpenSSL's `x509_vfy.h`).
fn failure(verified: X509VerifyResult) -> TlsFailure {
    match verified.as_raw() {
        0 => TlsFailure::Handshake,
        9 => TlsFailure::NotYetValid,
        10 => TlsFailure::Expired,
        23 => TlsFailure::Revoked,
        2 | 18..=21 => TlsFailure::UnknownIssuer,
        62 | 64 => TlsFailure::WrongName,
        _ => TlsFailure::BadCertificate,
    }
}

/// A connected socket, with TLS of either kind or without.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(crate) enum Stream {
    Rustls(MaybeHttpsStream<Plain>),
    OpenSsl(TokioIo<SslStream<TokioIo<Plain>>>),
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::OpenSsl(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::OpenSsl(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::OpenSsl(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Rustls(stream) => stream.is_write_vectored(),
            Self::OpenSsl(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_flush(cx),
            Self::OpenSsl(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Rustls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::OpenSsl(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Rustls(stream) => stream.connected(),
            // No ALPN: HTTP/1.1.
            Self::OpenSsl(_) => Connected::new(),
        }
    }
}
