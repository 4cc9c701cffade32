use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use http::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchbay_outbound::{
    Body, Call, Client, Error, Identity, PrivateNetworks, Protocol, TlsFailure, Trust, ensure_crypto_provider,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::AsyncWriteExt;

use crate::support::{Ending, Names, Server, client_with, patient};

/// Authorities need names of their own to be told apart.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// An authority that signs certificates for the tests.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        let serial = NUMBER.fetch_add(1, Ordering::Relaxed);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {serial}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trust(&self) -> Trust {
        Trust::nobody().with_pem(&self.0.pem()).unwrap()
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, KeyPair) {
        let mut params =
            CertificateParams::new(vec!["api.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server whose certificate was changed by `change`; `clients` must show a certificate of that authority.
    async fn serve(
        &self,
        clients: Option<&Authority>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Server {
        ensure_crypto_provider();
        let (certificate, key) = self.sign(change);
        let builder = match clients {
            None => ServerConfig::builder().with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots
                    .add(CertificateDer::from(authority.0.der().to_vec()))
                    .unwrap();
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
                ServerConfig::builder().with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let router = Router::new().route("/", get(async || "ok"));
        let service = hyper_util::service::TowerToHyperService::new(router);
        Server::start(move |socket| {
            let (acceptor, service) = (acceptor.clone(), service.clone());
            async move {
                let Ok(stream) = acceptor.accept(socket).await else {
                    return;
                };
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }
}

fn client(trust: Trust) -> Client {
    let names = Names::of(&[("api.example", "127.0.0.1"), ("other.example", "127.0.0.1")]);
    client_with(&PrivateNetworks::loopback(), patient(), trust, names)
}

fn get_from(server: &Server, host: &str) -> Request<Body> {
    Request::get(format!("https://{host}:{}/", server.address.port()))
        .body(Body::empty())
        .unwrap()
}

async fn failure(client: &Client, request: Request<Body>, call: &Call) -> Error {
    match client.send_with(request, call).await {
        Ok(response) => response
            .into_body()
            .collect_up_to(10)
            .await
            .expect_err("must fail"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn http2_is_spoken_where_offered_unless_forbidden() {
    let authority = Authority::new();
    let server = authority.serve(None, |_| {}).await;
    let client = client(authority.trust());
    for host in ["api.example", "127.0.0.1"] {
        let response = client.send(get_from(&server, host)).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.into_body().collect_up_to(2).await.unwrap(), "ok");
    }
    let call = Call {
        protocol: Protocol::Http1,
        ..Call::default()
    };
    let response = client
        .send_with(get_from(&server, "api.example"), &call)
        .await
        .unwrap();
    assert_eq!(response.version(), Version::HTTP_11);
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let authority = Authority::new();
    let server = authority.serve(None, |_| {}).await;
    let client = client(authority.trust());
    client.send(get_from(&server, "api.example")).await.unwrap();
    let requests = (0..50).map(|_| client.send(get_from(&server, "api.example")));
    for response in futures_util::future::join_all(requests).await {
        assert_eq!(
            response.unwrap().into_body().collect_up_to(2).await.unwrap(),
            "ok"
        );
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn servers_we_cannot_believe_are_refused_with_the_reason() {
    let authority = Authority::new();
    let check = async |server: &Server, host: &str, trust: Trust, expect: TlsFailure, code: &str| {
        let error = failure(&client(trust), get_from(server, host), &Call::default()).await;
        assert!(
            matches!(error, Error::Tls { failure, .. } if failure == expect),
            "{expect:?}: {error:?}"
        );
        assert_eq!(error.code(), code);
        assert!(!error.is_retryable() && !error.may_have_been_sent());
    };
    let good = authority.serve(None, |_| {}).await;
    let stranger = Authority::new().trust();
    check(
        &good,
        "api.example",
        stranger,
        TlsFailure::UnknownIssuer,
        "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    )
    .await;
    let wrong = TlsFailure::WrongName;
    check(
        &good,
        "other.example",
        authority.trust(),
        wrong,
        "ERR_TLS_CERT_ALTNAME_INVALID",
    )
    .await;
    let expired = authority
        .serve(None, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
        .await;
    check(
        &expired,
        "api.example",
        authority.trust(),
        TlsFailure::Expired,
        "CERT_HAS_EXPIRED",
    )
    .await;
    let future = authority
        .serve(None, |params| {
            params.not_before = rcgen::date_time_ymd(2999, 1, 1);
        })
        .await;
    check(
        &future,
        "api.example",
        authority.trust(),
        TlsFailure::NotYetValid,
        "CERT_NOT_YET_VALID",
    )
    .await;
    let plain = Server::start(|mut socket| async move {
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        Ending::Hang.play(socket).await;
    })
    .await;
    check(
        &plain,
        "api.example",
        authority.trust(),
        TlsFailure::Handshake,
        "EPROTO",
    )
    .await;
}

#[tokio::test]
async fn client_certificates_are_shown_and_servers_still_verified() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.serve(Some(&clients), |_| {}).await;
    let identify = |by: &Authority| {
        let (certificate, key) = by.sign(|_| {});
        let escaped = certificate.pem().replace('\n', "\\n");
        let identity = Identity::from_pem(&escaped, &key.serialize_pem()).unwrap();
        Call {
            identity: Some(identity),
            ..Call::default()
        }
    };
    let client = client(authority.trust());
    let known = identify(&clients);
    for _ in 0..3 {
        let response = client
            .send_with(get_from(&server, "api.example"), &known)
            .await
            .unwrap();
        assert_eq!(response.into_body().collect_up_to(2).await.unwrap(), "ok");
    }
    assert_eq!(server.connections(), 1, "calls of one identity share a pool");

    for call in [Call::default(), identify(&Authority::new())] {
        let error = failure(&client, get_from(&server, "api.example"), &call).await;
        assert!(
            matches!(
                error,
                Error::Tls {
                    failure: TlsFailure::ClientCertificate,
                    ..
                } | Error::Reset { .. }
            ),
            "{error:?}"
        );
    }

    let stranger = self::client(Authority::new().trust());
    let error = failure(&stranger, get_from(&server, "api.example"), &known).await;
    assert!(
        matches!(
            error,
            Error::Tls {
                failure: TlsFailure::UnknownIssuer,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn one_identity_never_uses_the_connections_of_another() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.serve(Some(&clients), |_| {}).await;
    let client = client(authority.trust());
    for count in 1..=3 {
        let (certificate, key) = clients.sign(|_| {});
        let identity = Identity::from_pem(&certificate.pem(), &key.serialize_pem()).unwrap();
        let call = Call {
            identity: Some(identity),
            ..Call::default()
        };
        client
            .send_with(get_from(&server, "api.example"), &call)
            .await
            .unwrap();
        assert_eq!(server.connections(), count);
    }
}

/// Servers of another decade.
#[cfg(feature = "legacy-tls")]
mod legacy {
    use std::pin::Pin;

    use openssl::pkey::PKey;
    use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslVerifyMode, SslVersion};
    use openssl::x509::X509;
    use patchbay_outbound::Tls;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const CALL: Call = Call {
        identity: None,
        protocol: Protocol::Auto,
        tls: Tls::Legacy,
        timeouts: None,
    };

    /// Speaks TLS 1.1 at best, without forward secrecy; answers with the name its client showed, if it asked for one.
    async fn serve(authority: &Authority, asks: bool, change: impl FnOnce(&mut CertificateParams)) -> Server {
        let (certificate, key) = authority.sign(change);
        let mut builder = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
        builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        builder.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
        builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        let key = PKey::private_key_from_der(&key.serialize_der()).unwrap();
        builder.set_private_key(&key).unwrap();
        builder
            .set_certificate(&X509::from_der(certificate.der()).unwrap())
            .unwrap();
        if asks {
            builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        }
        let acceptor = builder.build();
        Server::start(move |socket| {
            let ssl = Ssl::new(acceptor.context()).unwrap();
            async move {
                let mut stream = tokio_openssl::SslStream::new(ssl, socket).unwrap();
                if Pin::new(&mut stream).accept().await.is_err() {
                    return;
                }
                let mut request = [0; 1024];
                while let Ok(1..) = stream.read(&mut request).await {
                    let shown = stream.ssl().peer_certificate().is_some();
                    let body = format!("{} {shown}", stream.ssl().version_str());
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        })
        .await
    }

    async fn answer(client: &Client, request: Request<Body>, call: &Call) -> String {
        let response = client.send_with(request, call).await.unwrap();
        let body = response.into_body().collect_up_to(100).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn old_servers_are_understood_where_a_call_asks_for_it() {
        let authority = Authority::new();
        let server = serve(&authority, false, |_| {}).await;
        let client = client(authority.trust());
        let usual = failure(&client, get_from(&server, "api.example"), &Call::default()).await;
        assert_eq!(usual.code(), "EPROTO", "{usual:?}");
        for host in ["api.example", "127.0.0.1", "api.example"] {
            let said = answer(&client, get_from(&server, host), &CALL).await;
            assert_eq!(said, "TLSv1.1 false");
        }
        let usual = failure(&client, get_from(&server, "api.example"), &Call::default()).await;
        assert_eq!(usual.code(), "EPROTO", "connections are not shared: {usual:?}");
    }

    #[tokio::test]
    async fn new_servers_are_understood_too() {
        let authority = Authority::new();
        let server = authority.serve(None, |_| {}).await;
        let client = client(authority.trust());
        let response = client.send_with(get_from(&server, "api.example"), &CALL);
        assert_eq!(response.await.unwrap().version(), Version::HTTP_11);
    }

    #[tokio::test]
    async fn old_servers_are_verified_like_all_others() {
        let authority = Authority::new();
        let client = client(authority.trust());
        let stranger = serve(&Authority::new(), false, |_| {}).await;
        let other = serve(&authority, false, |_| {}).await;
        let expired = serve(&authority, false, |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        })
        .await;
        for (server, host, expect) in [
            (&stranger, "api.example", TlsFailure::UnknownIssuer),
            (&other, "other.example", TlsFailure::WrongName),
            (&expired, "api.example", TlsFailure::Expired),
        ] {
            match failure(&client, get_from(server, host), &CALL).await {
                Error::Tls { failure, .. } => assert_eq!(failure, expect),
                error => panic!("{host}: {error:?}"),
            }
        }
    }

    #[tokio::test]
    async fn client_certificates_are_shown_to_old_servers() {
        let authority = Authority::new();
        let server = serve(&authority, true, |_| {}).await;
        let (certificate, key) = authority.sign(|_| {});
        let identity = Identity::from_pem(&certificate.pem(), &key.serialize_pem()).unwrap();
        let call = Call {
            identity: Some(identity),
            ..CALL
        };
        let client = client(authority.trust());
        let said = answer(&client, get_from(&server, "api.example"), &call).await;
        assert_eq!(said, "TLSv1.1 true");
        assert_eq!(
            answer(&client, get_from(&server, "api.example"), &CALL).await,
            "TLSv1.1 false"
        );
    }
}
