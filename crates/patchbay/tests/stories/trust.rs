//! Whom outbound connections believe.

use std::sync::Arc;

use patchbay_ambient::Ambient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::common::{TestServer, World};

/// TLS before the provider, by an authority nobody knows: its port and the authority's PEM.
async fn tls_before(provider: &str, ambient: &Ambient) -> (u16, String) {
    patchbay_outbound::ensure_crypto_provider();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = provider.trim_start_matches("http://").to_owned();
    let (tasks, stopping) = (ambient.tasks.clone(), ambient.tasks.stopping());
    ambient.tasks.spawn(async move {
        while let Some(Ok((client, _))) = stopping.run_until_cancelled(listener.accept()).await {
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tasks.spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let Ok(mut server) = TcpStream::connect(upstream).await else {
                    return;
                };
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, authority.pem())
}

async fn status(server: &TestServer, port: u16) -> u16 {
    let request = server
        .api
        .request("GET", "/proxy/echo")
        .header("connection-id", "c1");
    let request = request.header("provider-config-key", "sample-oauth");
    request
        .header("base-url-override", &format!("https://127.0.0.1:{port}"))
        .send()
        .await
        .status
}

patchbay_store::both_backends! {
    async fn the_operators_authorities_are_trusted_besides_the_systems(db: TestDb) {
        let world = World::on(db).await;
        let ambient = Ambient::system();
        let (port, pem) = tls_before(&world.sample.base_url, &ambient).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let refused = status(&server, port).await;
        assert!((500..600).contains(&refused), "{refused}");
        assert_eq!(world.sample.counts().probe, 0, "nothing was said to a stranger");
        server.finish().await;

        let file = world.path("ca.pem");
        std::fs::write(&file, pem).unwrap();
        let server = world.server().set("outbound_ca_file", file.display().to_string()).start().await;
        assert_eq!(status(&server, port).await, 200);
        server.finish().await;

        std::fs::write(&file, "no certificate").unwrap();
        let starting = world.server().set("outbound_ca_file", file.display().to_string());
        let error = starting.try_start().await.err().expect("the file holds nothing");
        assert!(format!("{error:#}").contains("outbound_ca_file"), "{error:#}");
        ambient.tasks.stop();
    }
}
