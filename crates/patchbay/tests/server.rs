//! The listener: keep-alive, header case, draining.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use patchbay::server::Server;
use patchbay_ambient::{Ambient, Shutdown};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

struct Fixture {
    ambient: Ambient,
    server: Server,
    address: std::net::SocketAddr,
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

async fn fixture() -> Fixture {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (entered, release) = (entered.clone(), release.clone());
        async move || {
            entered.notify_one();
            release.notified().await;
            "slow"
        }
    };
    let peer = async |ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>| peer.ip().to_string();
    let router = Router::new().route("/peer", get(peer)).route("/slow", get(slow));
    let ambient = Ambient::system();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, router, &ambient);
    Fixture {
        ambient,
        server,
        address,
        entered,
        release,
    }
}

async fn send(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads until the text has appeared.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let read = stream.read_buf(&mut seen).await.unwrap();
        assert_ne!(
            read,
            0,
            "closed before {text:?}: {}",
            String::from_utf8_lossy(&seen)
        );
    }
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn a_connection_is_kept_and_its_peer_known() {
    let fixture = fixture().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    for _ in 0..2 {
        send(&mut stream, "/peer").await;
        read_until(&mut stream, "127.0.0.1").await;
    }
}

#[tokio::test]
async fn draining_lets_requests_in_flight_end_and_takes_no_more() {
    let fixture = fixture().await;
    let mut idle = TcpStream::connect(fixture.address).await.unwrap();
    send(&mut idle, "/peer").await;
    read_until(&mut idle, "127.0.0.1").await;
    let mut busy = TcpStream::connect(fixture.address).await.unwrap();
    send(&mut busy, "/slow").await;
    fixture.entered.notified().await;

    fixture.server.close();
    assert_eq!(
        idle.read(&mut [0; 1]).await.unwrap(),
        0,
        "an idle connection is closed"
    );
    assert!(
        TcpStream::connect(fixture.address).await.is_err(),
        "the listener is closed"
    );
    fixture.release.notify_one();
    read_until(&mut busy, "slow").await;
    let drained = fixture.ambient.tasks.shut_down(Duration::from_secs(10)).await;
    assert_eq!(drained, Shutdown::Drained);
}

#[tokio::test]
async fn a_drain_is_bounded() {
    let fixture = fixture().await;
    let mut busy = TcpStream::connect(fixture.address).await.unwrap();
    send(&mut busy, "/slow").await;
    fixture.entered.notified().await;
    fixture.server.close();
    let drained = fixture.ambient.tasks.shut_down(Duration::from_millis(10)).await;
    assert!(matches!(drained, Shutdown::TimedOut(_)), "{drained:?}");
}
