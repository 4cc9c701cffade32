//! Whom outbound connections believe.

use std::sync::{Arc, Mutex};

use patchbay_ambient::Ambient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::common::{TestServer, World};

/// TLS before a provider.
struct Front {
    port: u16,
    /// The authority's PEM. Nobody knows it.
    authority: String,
    /// What was negotiated with each client.
    spoken: Arc<Mutex<Vec<String>>>,
}

async fn tls_before(provider: &str, protocols: &[&str], ambient: &Ambient) -> Front {
    patchbay_outbound::ensure_crypto_provider();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let spoken: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&spoken);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let upstream = provider.trim_start_matches("http://").to_owned();
    let (tasks, stopping) = (ambient.tasks.clone(), ambient.tasks.stopping());
    ambient.tasks.spawn(async move {
        while let Some(Ok((client, _))) = stopping.run_until_cancelled(listener.accept()).await {
            let (acceptor, upstream, heard) = (acceptor.clone(), upstream.clone(), Arc::clone(&heard));
            tasks.spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let protocol = client.get_ref().1.alpn_protocol().unwrap_or_default();
                heard
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(protocol).into_owned());
                let Ok(mut server) = TcpStream::connect(upstream).await else {
                    return;
                };
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    Front {
        port,
        authority: authority.pem(),
        spoken,
    }
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
        let Front { port, authority, .. } = tls_before(&world.sample.base_url, &[], &ambient).await;
        let server = world.server().start().await;
        server.integrations().await;
        server.import("c1", &json!({})).await;
        let refused = status(&server, port).await;
        assert!((500..600).contains(&refused), "{refused}");
        assert_eq!(world.sample.counts().probe, 0, "nothing was said to a stranger");
        server.finish().await;

        let file = world.path("ca.pem");
        std::fs::write(&file, authority).unwrap();
        let server = world.server().set("outbound_ca_file", file.display().to_string()).start().await;
        assert_eq!(status(&server, port).await, 200);
        server.finish().await;

        std::fs::write(&file, "no certificate").unwrap();
        let starting = world.server().set("outbound_ca_file", file.display().to_string());
        let error = starting.try_start().await.err().expect("the file holds nothing");
        assert!(format!("{error:#}").contains("outbound_ca_file"), "{error:#}");
        ambient.tasks.stop();
    }

    async fn a_definition_says_which_http_its_provider_speaks(db: TestDb) {
        let world = World::on(db).await;
        let ambient = Ambient::system();
        let front = tls_before(&world.sample.base_url, &["h2", "http/1.1"], &ambient).await;
        let file = world.path("ca.pem");
        std::fs::write(&file, &front.authority).unwrap();
        let mut entries = std::fs::read_to_string(world.catalogue()).unwrap();
        for (name, version) in [("behind", "'1.1'"), ("ahead", "auto")] {
            let entry = format!(
                "\n{name}:\n    display_name: {name}\n    auth_mode: NONE\n    docs: https://docs.example.com/{name}\n    \
                 proxy:\n        base_url: https://127.0.0.1:{}\n        http_version: {version}\n",
                front.port
            );
            entries.push_str(&entry);
        }
        std::fs::write(world.catalogue(), entries).unwrap();
        let server = world.server().set("outbound_ca_file", file.display().to_string()).start().await;
        for name in ["behind", "ahead", "behind"] {
            server.api.post("/integrations", &json!({"provider": name, "unique_key": name})).await;
            let import = json!({"provider_config_key": name, "connection_id": "c", "credentials": {"type": "NONE"}});
            server.api.post("/connections", &import).await.expect(201);
            let request = server.api.request("GET", "/proxy/echo").header("connection-id", "c");
            request.header("provider-config-key", name).send().await.expect(200);
        }
        // Nothing negotiated is HTTP/1.1.
        assert_eq!(*front.spoken.lock().unwrap(), ["", "h2"], "and connections are kept apart");
        server.finish().await;
        ambient.tasks.stop();
    }
}
