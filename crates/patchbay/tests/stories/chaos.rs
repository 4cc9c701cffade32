//! Providers that break, stall and talk nonsense: each has its code, and no call hangs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls;

use crate::common::raw::{Kind, Message, RawProvider, ask, hang, read_message};
use crate::common::{DEV_KEY, TestServer, World};

/// How a provider ends a connection.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Reset,
    Hang,
}

/// Reads a request, sends these bytes, and ends like this.
async fn provider(answer: &[u8], end: End) -> RawProvider {
    let answer: Arc<[u8]> = answer.into();
    RawProvider::playing(move |mut socket| {
        let answer = Arc::clone(&answer);
        async move {
            read_message(&mut socket, Kind::Request).await;
            let _ = socket.write_all(&answer).await;
            finish(socket, end).await;
        }
    })
    .await
}

async fn finish(mut socket: TcpStream, end: End) {
    match end {
        End::Close => {
            let _ = socket.shutdown().await;
        }
        End::Reset => socket.set_zero_linger().unwrap(),
        End::Hang => hang(socket).await,
    }
}

async fn call(server: &TestServer, method: &str, base: &str) -> Message {
    let request = format!(
        "{method} /proxy/x HTTP/1.1\r\nhost: patchbay\r\nauthorization: Bearer {DEV_KEY}\r\nconnection-id: k\r\n\
         provider-config-key: sample-api-key\r\nbase-url-override: {base}\r\n\r\n"
    );
    let response = Kind::Response {
        to_head: method == "HEAD",
    };
    let asking = ask(server.port(), request.as_bytes(), response);
    let answer = tokio::time::timeout(Duration::from_secs(30), asking).await;
    answer.unwrap_or_else(|_| panic!("{method} {base} hangs"))
}

/// The code of a call that got no answer.
async fn code(server: &TestServer, base: &str) -> String {
    let answer = call(server, "GET", base).await;
    assert_eq!(answer.status(), 500, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["method"], "get");
    assert!(body["message"].is_string(), "{body}");
    body["code"].as_str().unwrap().to_owned()
}

/// In real time, because sockets are timed by it; with limits short enough to wait for.
async fn impatient(world: &World) -> TestServer {
    let server = world
        .server()
        .set("proxy_connect_timeout", "300ms")
        .set("proxy_response_timeout", "300ms")
        .set("proxy_idle_timeout", "300ms")
        .in_real_time()
        .start()
        .await;
    server.integrations().await;
    server.import_key("k", &json!({})).await;
    server
}

const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10\r\n\r\n0123456789";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n";

patchbay_store::both_backends! {
    async fn an_answer_cut_at_any_byte_is_never_taken_for_a_whole_one(db: TestDb) {
        let world = World::on(db).await;
        let server = impatient(&world).await;
        for whole in [PLAIN, CHUNKED] {
            let head = whole.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            for cut in 0..=whole.len() {
                for end in [End::Close, End::Reset] {
                    let broken = provider(&whole[..cut], end).await;
                    let answer = call(&server, "GET", &broken.url()).await;
                    let what = format!("{end:?} after {cut} of {}: {answer:?}", whole.len());
                    match answer.status() {
                        // A reset may overtake what was sent before it.
                        500 if cut < head || matches!(end, End::Reset) => {
                            assert_eq!(answer.json()["code"], "ECONNRESET", "{what}");
                        }
                        200 if cut >= head => {
                            assert!(b"0123456789".starts_with(&answer.body), "{what}");
                            let is_complete = answer.is_whole && answer.body.len() == 10;
                            assert!(!answer.is_whole || is_complete, "{what}");
                            if cut == whole.len() && matches!(end, End::Close) {
                                assert!(is_complete, "{what}");
                            }
                            if cut < whole.len() {
                                assert!(!answer.is_whole, "{what}");
                            }
                        }
                        other => panic!("{other} for {what}"),
                    }
                }
            }
        }
        assert_eq!(server.api.ready().await, 200);
        server.finish().await;
    }

    async fn a_provider_that_stalls_is_given_up(db: TestDb) {
        let world = World::on(db).await;
        let server = impatient(&world).await;
        for begun in [&b""[..], b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-type: text/"] {
            let silent = provider(begun, End::Hang).await;
            assert_eq!(code(&server, &silent.url()).await, "ETIMEDOUT", "{begun:?}");
        }
        let another = server.api.anonymous();
        let drips = RawProvider::playing(move |mut socket| {
            let another = another.clone();
            async move {
                read_message(&mut socket, Kind::Request).await;
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
                // A header that never ends, a byte for every answer that somebody else gets meanwhile.
                while socket.write_all(b"x").await.is_ok() && another.ready().await == 200 {}
            }
        })
        .await;
        assert_eq!(code(&server, &drips.url()).await, "ETIMEDOUT");
        let mute = RawProvider::playing(hang).await;
        assert_eq!(code(&server, &mute.url().replace("http:", "https:")).await, "ETIMEDOUT", "no TLS handshake");
        for begun in [&PLAIN[..PLAIN.len() - 3], &CHUNKED[..CHUNKED.len() - 9]] {
            let stalls = provider(begun, End::Hang).await;
            let answer = call(&server, "GET", &stalls.url()).await;
            assert_eq!((answer.status(), answer.is_whole), (200, false), "{answer:?}");
        }
        server.finish().await;
    }

    async fn what_is_not_http_is_a_protocol_error(db: TestDb) {
        let world = World::on(db).await;
        let server = impatient(&world).await;
        let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(2_000_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-many: 1\r\n".repeat(5000));
        for garbage in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\0\0\0\0\0\0\0\0\0\0",
            b"{\"error\":\"this is not http\"}\r\n\r\n",
            long.as_bytes(),
            many.as_bytes(),
        ] {
            let talks = provider(garbage, End::Close).await;
            let found = code(&server, &talks.url()).await;
            assert_eq!(found, "EPROTO", "{}", String::from_utf8_lossy(&garbage[..garbage.len().min(60)]));
        }
        for damaged in [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\nzz\r\n"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234xx5\r\n56789\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        ] {
            let talks = provider(damaged, End::Close).await;
            let answer = call(&server, "GET", &talks.url()).await;
            assert_eq!((answer.status(), answer.is_whole), (200, false), "{answer:?}");
        }
        assert_eq!(server.api.ready().await, 200);
        server.finish().await;
    }

    async fn tls_that_cannot_be_trusted_is_named(db: TestDb) {
        let world = World::on(db).await;
        let server = impatient(&world).await;
        let plain = RawProvider::playing(|mut socket| async move {
            // What comes is no request line, as any HTTP server sees at once.
            let _ = socket.read_u8().await;
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            let _ = socket.shutdown().await;
            hang(socket).await;
        })
        .await;
        assert_eq!(code(&server, &plain.url().replace("http:", "https:")).await, "EPROTO", "plain HTTP where TLS should be");
        let reset = RawProvider::playing(|socket| finish(socket, End::Reset)).await;
        let found = code(&server, &reset.url().replace("http:", "https:")).await;
        assert!(["ECONNRESET", "EPROTO"].contains(&found.as_str()), "{found}");

        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let stranger = RawProvider::playing(move |socket| {
            let acceptor = acceptor.clone();
            async move {
                let _ = acceptor.accept(socket).await;
            }
        })
        .await;
        let found = code(&server, &stranger.url().replace("http:", "https:")).await;
        assert!(["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "CERT_UNTRUSTED"].contains(&found.as_str()), "{found}");
        server.finish().await;
    }

    async fn nobody_is_called_behind_a_hostile_target(db: TestDb) {
        let world = World::on(db).await;
        let open = "\nopen:\n    display_name: Open\n    auth_mode: NONE\n    docs: https://docs.example.com/open\n    proxy:\n        \
                    base_url: https://api.example.com\n";
        let text = std::fs::read_to_string(world.catalogue()).unwrap();
        std::fs::write(world.catalogue(), text + open).unwrap();
        let server = world.server().unset("allow_private_networks").start().await;
        let integration = json!({"provider": "open", "unique_key": "sample-api-key"});
        server.api.post("/integrations", &integration).await.expect(200);
        let import = json!({
            "provider_config_key": "sample-api-key", "connection_id": "k", "credentials": {"type": "NONE"},
        });
        server.api.post("/connections", &import).await.expect(201);
        assert!(HOSTILE.len() >= 60);
        for (target, reason) in HOSTILE {
            let answer = call(&server, "GET", target).await;
            assert_eq!(answer.status(), 400, "{target}: {answer:?}");
            let error = answer.json()["error"].clone();
            assert_eq!(error["code"], "base_url_override_not_allowed", "{target}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(reason), "{target}: {message}");
        }
        server.finish().await;
    }
}

/// Targets an attacker writes into `Base-Url-Override`, and what is said of each.
const HOSTILE: &[(&str, &str)] = &[
    ("http://127.0.0.1/", "a loopback address"),
    ("http://127.0.0.1./", "a loopback address"),
    ("http://127.1/", "a loopback address"),
    ("http://127.0.1/", "a loopback address"),
    ("http://2130706433/", "a loopback address"),
    ("http://0x7f000001/", "a loopback address"),
    ("http://0x7f.0x0.0x0.0x1/", "a loopback address"),
    ("http://0X7F.1/", "a loopback address"),
    ("http://0177.0.0.1/", "a loopback address"),
    ("http://017700000001/", "a loopback address"),
    ("http://127.255.255.254:8080/", "a loopback address"),
    ("http://%31%32%37.0.0.1/", "a loopback address"),
    ("http://user:secret@127.0.0.1/", "a loopback address"),
    ("http://example.com@127.0.0.1/", "a loopback address"),
    ("http://example.com:80@127.0.0.1/", "a loopback address"),
    ("http://localhost/", "a loopback address"),
    ("http://LOCALHOST/", "a loopback address"),
    ("http://localhost./", "a loopback address"),
    ("http://app.localhost/", "a loopback address"),
    ("http://localhost.localdomain/", "a loopback address"),
    ("http://[::1]/", "a loopback address"),
    ("http://[0:0:0:0:0:0:0:1]/", "a loopback address"),
    ("http://[::ffff:127.0.0.1]/", "a loopback address"),
    ("http://[::ffff:7f00:1]/", "a loopback address"),
    ("http://[::127.0.0.1]/", "a loopback address"),
    ("http://[64:ff9b::127.0.0.1]/", "a loopback address"),
    ("http://[2002:7f00:1::]/", "a loopback address"),
    ("http://[::ffff:0:127.0.0.1]/", "a loopback address"),
    ("http://0.0.0.0/", "an unspecified address"),
    ("http://0/", "an unspecified address"),
    ("http://0x0/", "an unspecified address"),
    ("http://0.1.2.3/", "an unspecified address"),
    ("http://[::]/", "an unspecified address"),
    ("http://[::ffff:0.0.0.0]/", "an unspecified address"),
    ("http://10.0.0.1/", "a private address"),
    ("http://10.255.255.255/", "a private address"),
    ("http://012.0.0.1/", "a private address"),
    ("http://167772161/", "a private address"),
    ("http://172.16.0.1/", "a private address"),
    ("http://172.31.255.255/", "a private address"),
    ("http://192.168.1.1/", "a private address"),
    ("http://3232235777/", "a private address"),
    ("http://[fc00::1]/", "a private address"),
    ("http://[fd12:3456:789a::1]/", "a private address"),
    ("http://[fec0::1]/", "a private address"),
    ("http://[::ffff:192.168.0.1]/", "a private address"),
    ("http://[2002:c0a8:1::1]/", "a private address"),
    ("http://[64:ff9b::10.0.0.1]/", "a private address"),
    ("http://100.64.0.1/", "a shared (carrier NAT) address"),
    ("http://100.127.255.255/", "a shared (carrier NAT) address"),
    ("http://169.254.0.1/", "a link-local address"),
    ("http://[fe80::1]/", "a link-local address"),
    ("http://[febf::1]/", "a link-local address"),
    (
        "http://169.254.169.254/latest/meta-data/",
        "a cloud metadata address",
    ),
    ("http://2852039166/", "a cloud metadata address"),
    ("http://0xa9fea9fe/", "a cloud metadata address"),
    ("http://0251.0376.0251.0376/", "a cloud metadata address"),
    ("http://[::ffff:a9fe:a9fe]/", "a cloud metadata address"),
    ("http://[64:ff9b::a9fe:a9fe]/", "a cloud metadata address"),
    ("http://169.254.170.2/v2/credentials", "a cloud metadata address"),
    ("http://100.100.100.200/", "a cloud metadata address"),
    ("http://168.63.129.16/", "a cloud metadata address"),
    ("http://192.0.0.192/", "a cloud metadata address"),
    ("http://[fd00:ec2::254]/", "a cloud metadata address"),
    (
        "http://metadata.google.internal/computeMetadata/v1/",
        "a cloud metadata address",
    ),
    ("http://Metadata.Google.Internal./", "a cloud metadata address"),
    ("http://metadata.goog/", "a cloud metadata address"),
    ("http://instance-data/", "a cloud metadata address"),
    ("http://192.0.0.8/", "a reserved address"),
    ("http://240.0.0.1/", "a reserved address"),
    ("http://255.255.255.255/", "a reserved address"),
    ("http://[100::1]/", "a reserved address"),
    ("http://192.0.2.1/", "a documentation address"),
    ("http://[2001:db8::1]/", "a documentation address"),
    ("http://198.18.0.1/", "a benchmarking address"),
    ("http://224.0.0.1/", "a multicast address"),
    ("http://[ff02::1]/", "a multicast address"),
    ("http://192.88.99.1/", "a tunnel address"),
    ("http://[2001::1]/", "a tunnel address"),
    ("http://[64:ff9b:1::1]/", "a tunnel address"),
    ("ftp://93.184.216.34/", "only http and https"),
    ("file:///etc/passwd", "only http and https"),
    ("gopher://93.184.216.34/", "only http and https"),
];
