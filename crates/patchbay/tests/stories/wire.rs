//! What is not HTTP, or not JSON, or too much of it: an answer where one can be given, and a server that goes on.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{DEV_KEY, TestServer, World};

/// Sends bytes, ends the sending side, and reads what comes back.
async fn shout(server: &TestServer, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    // The server may have closed before all was written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn post(server: &TestServer, kind: &str, body: &[u8]) -> crate::common::Answer {
    server
        .api
        .request("POST", "/connect/sessions")
        .body(kind, body.to_vec())
        .send()
        .await
}

patchbay_store::both_backends! {
    async fn garbage_on_the_socket_ends_that_connection_only(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n", "h".repeat(400_000));
        let many: String = "x-many: 1\r\n".repeat(2000);
        let many = format!("GET /health HTTP/1.1\r\nhost: x\r\n{many}\r\n");
        let shouts: [(&[u8], &[&str]); 8] = [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &["HTTP/1.1 400", ""]),
            (b"\0\0\0\0\0\0\0\0\r\n\r\n", &["HTTP/1.1 400", ""]),
            (b"GET / HTTP/9.9\r\n\r\n", &["HTTP/1.1 400", ""]),
            (b"GET /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", &["HTTP/1.1 400"]),
            (b"GET /he", &[""]),
            (b"GET /health HTTP/1.1\r\nbad header\r\n\r\n", &["HTTP/1.1 400"]),
            (huge.as_bytes(), &["HTTP/1.1 431", ""]),
            (many.as_bytes(), &["HTTP/1.1 431", "HTTP/1.1 400", ""]),
        ];
        for (bytes, expected) in shouts {
            let answer = shout(&server, bytes).await;
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
            let fits = expected.iter().any(|start| if start.is_empty() { answer.is_empty() } else { answer.starts_with(start) });
            assert!(fits, "{shown}: {answer}");
            assert_eq!(server.api.ready().await, 200, "{shown}");
        }
        server.finish().await;
    }

    async fn bodies_that_are_no_json_are_told_so(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        for bad in [&b"{"[..], b"{\"tags\":", b"nonsense", b"\"text\"", b"{\"tags\": \xff\xfe}", b"{\"tags\":{}} trailing", b"[1,2"] {
            let answer = post(&server, "application/json", bad).await;
            assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(bad), answer.text);
            let error = answer.json()["error"].clone();
            assert!(["invalid_json", "invalid_body"].contains(&error["code"].as_str().unwrap()), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(post(&server, "application/json", deep.as_bytes()).await.status, 400);
        assert_eq!(post(&server, "text/xml", b"<tags/>").await.status, 415);
        assert_eq!(post(&server, "application/json", b"{\"tags\": {\"caf\xc3\xa9\": \"1\"}}").await.status, 400);
        assert_eq!(post(&server, "application/json", b"{\"tags\": {\"city\": \"K\xc3\xb6ln\"}}").await.status, 201);
        assert_eq!(server.api.get("/connections/%ff").await.status, 400);
        assert_eq!(server.api.get("/connections/%zz").await.status, 400);
        assert_eq!(server.api.get("/nothing/here").await.status, 404);
        assert_eq!(server.api.request("PUT", "/connections").send().await.status, 405);
        server.finish().await;
    }

    async fn a_body_that_ends_early_changes_nothing(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let body = json!({
            "provider_config_key": "sample-oauth", "connection_id": "half",
            "credentials": {"type": "OAUTH2", "access_token": "a"},
        })
        .to_string();
        let request = format!(
            "POST /connections HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {DEV_KEY}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len() + 1
        );
        let answer = shout(&server, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        server.finish().await;
    }
}
