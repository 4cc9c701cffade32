use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use patchbay_ambient::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::service::tests::service_with;

const KEY: &str = "authorization: Bearer 9d3c1b70-5a3e-4c5d-9e7f-1a2b3c4d5e6f\r\n";

async fn start(options: ServerOptions) -> (SocketAddr, Ambient) {
    let ambient = Ambient::system();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = service_with(&["environment:*"], 0, &ambient);
    ambient
        .tasks
        .spawn(serve(listener, service, ambient.clone(), options));
    (address, ambient)
}

/// Writes `request` and reads until the server closes.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, target: &[u8]) -> String {
    let mut request = b"GET ".to_vec();
    request.extend_from_slice(target);
    request.extend_from_slice(format!(" HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{KEY}\r\n").as_bytes());
    exchange(address, &request).await
}

#[tokio::test]
async fn connection_ids_arrive_as_clients_write_them() {
    let (address, ambient) = start(ServerOptions::default()).await;
    // As the official client sends it: encoded by the WHATWG rules, which leave much raw.
    let id = br"/connections/a%20b%7B%22x%22:[1]%7D|@=+~,;:$'_?provider_config_key=k";
    let answer = get(address, id).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains(r#"{"id":"a b{\"x\":[1]}|@=+~,;:$'_","key":"k","force":false}"#),
        "{answer}"
    );
    // Every character of a connection id, raw, but those that end a path or a segment.
    for c in br#"abzAZ09,.;:=+~[]|@${}"'\_-"# {
        let target = [b"/connections/x", &[*c][..], b"?provider_config_key=k"].concat();
        let answer = get(address, &target).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{:?}: {answer}",
            char::from(*c)
        );
        let shown = serde_json::to_string(&format!("x{}", char::from(*c))).unwrap();
        assert!(
            answer.contains(&format!("\"id\":{shown}")),
            "{:?}: {answer}",
            char::from(*c)
        );
    }
    // In a query too, and bytes beyond ASCII in either.
    let answer = get(address, "/connections/x?provider_config_key=[]|{}'^`é".as_bytes()).await;
    assert!(answer.contains(r#""key":"[]|{}'^`é""#), "{answer}");
    let answer = get(address, "/connections/é?provider_config_key=k".as_bytes()).await;
    assert!(answer.contains("invalid_uri_params"), "{answer}");
    // What no client sends is refused before it reaches a route.
    for target in [
        &b"/connections/<"[..],
        b"/connections/\xff",
        b"/connections/x?a=\"",
        b"/a b",
    ] {
        let answer = get(address, target).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    }
    assert_eq!(
        ambient.tasks.shut_down(Duration::from_secs(5)).await,
        Shutdown::Drained
    );
}

#[tokio::test]
async fn head_answers_have_a_length_and_no_body() {
    let (address, _ambient) = start(ServerOptions::default()).await;
    let request = "HEAD /health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let answer = exchange(address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 16\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn bodies_that_are_too_large_or_encoded_are_dealt_with_on_the_wire() {
    let (address, _ambient) = start(ServerOptions::default()).await;
    let head =
        "POST /connections HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let declared = format!("{head}{KEY}content-length: 1001\r\n\r\n");
    let answer = exchange(address, declared.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
    let chunk = format!("3E8\r\n{}\r\n", "[".repeat(1000));
    let chunked = format!("{head}{KEY}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    let answer = exchange(address, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let empty = format!("{head}{KEY}content-length: 0\r\n\r\n");
    let answer = exchange(address, empty.as_bytes()).await;
    assert!(answer.contains(r#""path":["name"]"#), "{answer}");
    let absent = format!("{head}{KEY}\r\n");
    let answer = exchange(address, absent.as_bytes()).await;
    assert!(answer.contains(r#"received undefined","path":[]"#), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let options = ServerOptions {
        head_bytes: 8192,
        ..ServerOptions::default()
    };
    let (address, _ambient) = start(options).await;
    let request = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9000));
    let answer = exchange(address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn silent_connections_are_closed_in_time_and_kept_until_then() {
    let options = ServerOptions {
        head: Duration::from_millis(300),
        ..ServerOptions::default()
    };
    let (address, _ambient) = start(options).await;
    let answered = "GET /health HTTP/1.1\r\nhost: h\r\n\r\n";
    // Nothing at all, half an HTTP/2 preface, half a head, and idleness after an answer.
    for opening in ["", "PRI * HT", "GET /health HTTP/1.1\r\nho", answered] {
        let began = Instant::now_for_test();
        let answer = exchange(address, opening.as_bytes()).await;
        assert!(began.elapsed() >= Duration::from_millis(290), "{opening}");
        assert_eq!(answer.contains("200 OK"), opening == answered, "{opening}");
    }
}

/// Real time, for what is measured on a socket.
trait ForTest {
    fn now_for_test() -> Self;
}

impl ForTest for Instant {
    #[expect(clippy::disallowed_methods, reason = "measures a real socket")]
    fn now_for_test() -> Self {
        Instant::now()
    }
}

#[tokio::test]
async fn http_2_with_prior_knowledge() {
    let (address, ambient) = start(ServerOptions::default()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    ambient.tasks.spawn(connection);
    for method in ["GET", "HEAD"] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{address}/health"))
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            body,
            if method == "GET" {
                r#"{"success":true}"#
            } else {
                ""
            }
        );
    }
}

#[tokio::test]
async fn websockets_pass_the_upgrade() {
    let (address, _ambient) = start(ServerOptions::default()).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws"))
        .await
        .unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn shutdown_lets_requests_in_flight_finish_and_accepts_no_more() {
    let (address, ambient) = start(ServerOptions::default()).await;
    let idle = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /proxy/x HTTP/1.1\r\nhost: h\r\n{KEY}content-length: 4\r\n\r\n");
    busy.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    busy.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    ambient.tasks.stop();
    drop(idle);
    busy.write_all(b"late").await.unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("late"), "{answer}");
    assert_eq!(
        ambient.tasks.shut_down(Duration::from_secs(5)).await,
        Shutdown::Drained
    );
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_answer_that_stands_before_the_request_is_over_arrives() {
    let (address, ambient) = start(ServerOptions::default()).await;
    let mut request = b"POST /proxy/x HTTP/1.1\r\nhost: h\r\ncontent-length: 8388608\r\n\r\n".to_vec();
    request.resize(request.len() + 8 * 1024 * 1024, b'x');
    // All of it is written before anything is read, more than the sockets hold.
    let answer = exchange(address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    assert!(answer.contains("missing_auth_header"), "{answer}");
    assert_eq!(
        ambient.tasks.shut_down(Duration::from_secs(5)).await,
        Shutdown::Drained
    );
}
