//! Proxied calls, as the caller and the provider see them on the wire.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::common::raw::{Kind, RawProvider, ask, hang, read_message};
use crate::common::{Answer, DEV_KEY, TestServer, World, until};

const RESPONSE: Kind = Kind::Response { to_head: false };

/// A call of connection `k` of the integration with a key, sent to `base`.
async fn call(server: &TestServer, base: &str, more: &[(&str, &str)]) -> Answer {
    let mut request = server
        .api
        .request("GET", "/proxy/thing")
        .header("connection-id", "k")
        .header("provider-config-key", "sample-api-key")
        .header("base-url-override", base);
    for (name, value) in more {
        request = request.header(name, value);
    }
    request.send().await
}

/// The head of a raw request of connection `k`, without the empty line.
fn head(method: &str, path: &str, base: &str) -> String {
    format!(
        "{method} /proxy{path} HTTP/1.1\r\nhost: patchbay\r\nauthorization: Bearer {DEV_KEY}\r\n\
         connection-id: k\r\nprovider-config-key: sample-api-key\r\nbase-url-override: {base}\r\n"
    )
}

/// The entries of the proxy's log, once there are `count`.
async fn logged(server: &TestServer, count: usize) -> Vec<Value> {
    until(format!("{count} logged calls"), async || {
        let listed = server.operator.json("logs --env dev --type proxy --json").await;
        let rows = listed.as_array()?.clone();
        (rows.len() >= count).then_some(rows)
    })
    .await
}

async fn with_key(world: &World) -> TestServer {
    let server = world.server().start().await;
    server.integrations().await;
    server.import_key("k", &json!({})).await;
    server
}

patchbay_store::both_backends! {
    async fn every_call_is_logged_without_its_secrets(db: TestDb) {
        let world = World::on(db).await;
        let server = with_key(&world).await;
        let key = patchbay_sample::API_KEY;
        let get = |path: &str| {
            let request = server.api.request("GET", &format!("/proxy{path}"));
            request.header("connection-id", "k").header("provider-config-key", "sample-api-key")
        };
        get("/echo?page=2&token=planted-q").header("nango-proxy-x-own-secret", "planted-h").send().await.expect(200);
        let body = r#"{"password":"planted-b","message":"why","n":1}"#;
        let failed = RawProvider::answering(format!(
            "HTTP/1.1 422 No\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-note: {key}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        assert_eq!(call(&server, &failed.url(), &[]).await.status, 422);
        get("/echo").header("connection-id", "nobody").send().await.fails(404, "unknown_connection");
        get("/echo").header("nango-is-dry-run", "true").send().await.expect(200);

        let rows = logged(&server, 3).await;
        assert_eq!(rows.len(), 3, "a dry run leaves nothing: {rows:?}");
        let row = |part: &str| {
            let found = rows.iter().find(|row| row["title"].as_str().unwrap().contains(part));
            found.unwrap_or_else(|| panic!("{part}: {rows:?}"))
        };
        let good = row("page=2");
        assert_eq!((&good["type"], &good["action"], &good["state"]), (&json!("proxy"), &json!("call"), &json!("success")));
        assert_eq!(good["integration"], "sample-api-key");
        let shown = async |row: &Value| server.operator.ok(&format!("logs {} --json", row["id"].as_str().unwrap())).await;
        let text = shown(good).await;
        assert!(text.contains("token=REDACTED") && text.contains("\"code\": 200") && text.contains("REDACTED"), "{text}");
        let bad = shown(row("422")).await;
        assert!(bad.contains("Failed with this body") && bad.contains("why"), "{bad}");
        let unknown = shown(row("no such connection")).await;
        assert!(unknown.contains("unknown_connection"), "{unknown}");
        for text in [text, bad, unknown, rows.iter().map(Value::to_string).collect()] {
            for secret in [key, DEV_KEY, "planted"] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
        server.finish().await;
    }

    async fn messages_go_to_an_operation_of_the_caller_s_environment_only(db: TestDb) {
        let world = World::on(db).await;
        let server = with_key(&world).await;
        let own = server.operator.json("logs --env dev --type auth --json").await[0]["id"].as_str().unwrap().to_owned();
        call(&server, &world.sample.base_url, &[("nango-activity-log-id", &own)]).await;
        until("the message in the operation named", async || {
            let shown = server.operator.ok(&format!("logs {own}")).await;
            shown.contains("/thing").then_some(())
        })
        .await;
        assert_eq!(server.operator.json("logs --env dev --type proxy --json").await, json!([]));

        // An operation of another environment, and one nobody knows.
        server.operator.ok("env create other").await;
        let foreign = server.operator.json("keys create --env other --json").await;
        let api = server.api.with_key(foreign["api_key"].as_str().unwrap());
        api.post("/integrations", &json!({"provider": "sample-api-key", "unique_key": "sample-api-key"})).await.expect(200);
        let import = json!({
            "provider_config_key": "sample-api-key", "connection_id": "k",
            "credentials": {"type": "API_KEY", "apiKey": patchbay_sample::API_KEY},
        });
        api.post("/connections", &import).await.expect(201);
        let listed = server.operator.json("logs --env other --type auth --json").await;
        let theirs = listed[0]["id"].as_str().unwrap();
        call(&server, &world.sample.base_url, &[("nango-activity-log-id", theirs)]).await;
        call(&server, &world.sample.base_url, &[("nango-activity-log-id", "1700000000000_abcdefgh")]).await;
        assert_eq!(logged(&server, 2).await.len(), 2, "operations of their own");
        let shown = server.operator.ok(&format!("logs {theirs}")).await;
        assert!(!shown.contains("/thing"), "{shown}");
        server.finish().await;
    }

    async fn under_overload_log_entries_are_left_out_and_counted_and_no_call_waits(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().set("proxy_logs_per_sec", "1").start().await;
        server.integrations().await;
        server.import_key("k", &json!({})).await;
        let get = async |path: &str, status: u16| {
            let request = server.api.request("GET", &format!("/proxy{path}")).header("connection-id", "k");
            let answer = request.header("provider-config-key", "sample-api-key").send().await;
            assert_eq!(answer.status, status, "{}", answer.text);
        };
        let counted = async |outcome: &str, number: usize| {
            let line = format!("patchbay_log_entries_total{{outcome=\"{outcome}\"}} {number}\n");
            until(line.clone(), async || {
                server.api.anonymous().get("/metrics").await.text.contains(&line).then_some(())
            })
            .await;
        };
        // No second passes: ten of each kind may come at once, and failures are not drowned by what went well.
        for _ in 0..25 {
            get("/echo", 200).await;
        }
        for _ in 0..25 {
            get("/status/503", 503).await;
        }
        counted("sampled", 30).await;
        counted("written", 20).await;
        let rows = logged(&server, 20).await;
        let good = rows.iter().filter(|row| row["state"] == "success").count();
        assert_eq!((rows.len(), good), (20, 10));
        world.clock.advance(Duration::from_secs(3));
        for _ in 0..5 {
            get("/echo", 200).await;
        }
        counted("sampled", 32).await;
        counted("written", 23).await;
        server.finish().await;
    }

    async fn the_provider_s_hints_decide_how_long_to_wait(db: TestDb) {
        let world = World::on(db).await;
        let asked: Arc<Mutex<usize>> = Arc::default();
        let seen = Arc::clone(&asked);
        // Whole seconds, as the header counts them.
        world.clock.set(jiff::Timestamp::from_second(world.now().as_second() + 1).unwrap());
        let now = world.now().as_second();
        let provider = RawProvider::playing(move |mut socket| {
            let seen = Arc::clone(&seen);
            async move {
                read_message(&mut socket, Kind::Request).await;
                let turn = {
                    let mut seen = seen.lock().unwrap();
                    *seen += 1;
                    *seen
                };
                let body = r#"{"error":{"message":"Retry in 40 s"}}"#;
                let head = match turn {
                    1 => format!("403 No\r\nx-reset: {}", now + 100),
                    2 => "403 No\r\nx-after: 50".to_owned(),
                    3 => "403 No".to_owned(),
                    4 => "400 No\r\nx-left: 0".to_owned(),
                    _ => "200 OK".to_owned(),
                };
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let hinted = format!(
            "\nhinted:\n    display_name: Hinted\n    auth_mode: NONE\n    docs: https://docs.example.com/hinted\n    proxy:\n        \
             base_url: {}\n        retry:\n            at: x-reset\n            after: x-after\n            remaining: x-left\n            \
             error_code: ['403']\n            in_body:\n                path: error.message\n                value: 'Retry in (\\d+) s'\n                \
             strategy: after\n",
            provider.url()
        );
        let text = std::fs::read_to_string(world.catalogue()).unwrap();
        std::fs::write(world.catalogue(), text + &hinted).unwrap();
        let server = world.server().start().await;
        server.api.post("/integrations", &json!({"provider": "hinted", "unique_key": "hinted"})).await.expect(200);
        let import = json!({"provider_config_key": "hinted", "connection_id": "h", "credentials": {"type": "NONE"}});
        server.api.post("/connections", &import).await.expect(201);
        server.quiet().await;
        let calling = server.api.request("GET", "/proxy/x").header("connection-id", "h").header("provider-config-key", "hinted");
        let calling = patchbay_ambient::Ambient::system().tasks.spawn(calling.header("retries", "9").send());
        for seconds in [100, 50, 40, 40] {
            let wanted = world.now() + Duration::from_secs(seconds);
            until(format!("a wait of {seconds} s"), async || world.clock.awaited().contains(&wanted).then_some(())).await;
            world.clock.set(wanted);
        }
        let answer = calling.await.unwrap();
        assert_eq!(answer.status, 200);
        let rows = logged(&server, 1).await;
        let shown = server.operator.ok(&format!("logs {}", rows[0]["id"].as_str().unwrap())).await;
        for line in [
            "Retrying HTTP call (reason: provider_error_code_403, preconfigured_at:x-reset). Waiting for 100000ms [1/9]",
            "preconfigured_after:x-after). Waiting for 50000ms [2/9]",
            "preconfigured_in_body). Waiting for 40000ms [3/9]",
            "Retrying HTTP call (reason: provider_remaining, preconfigured_in_body). Waiting for 40000ms [4/9]",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        server.finish().await;
    }

    async fn an_environment_narrows_where_its_calls_may_go(db: TestDb) {
        let world = World::on(db).await;
        let server = with_key(&world).await;
        let base = world.sample.base_url.clone();
        assert_eq!(call(&server, &base, &[]).await.status, 404, "the provider's own");
        let set = async |assignment: &str| {
            server.operator.ok(&format!("env set dev {assignment}")).await;
        };
        let refused = async |code: &str, reason: &str| {
            until(format!("{code} {reason}"), async || {
                let answer = call(&server, &base, &[]).await;
                (answer.status == 400 && answer.text.contains(code) && answer.text.contains(reason)).then_some(())
            })
            .await;
        };
        set("proxy.deny_hosts=127.0.0.0/8").await;
        refused("base_url_override_not_allowed", "deny list").await;
        let usual = server.api.request("GET", "/proxy/echo").header("connection-id", "k");
        let usual = usual.header("provider-config-key", "sample-api-key").send().await;
        usual.fails(400, "base_url_override_not_allowed");
        set("proxy.deny_hosts= proxy.allow_hosts=example.com").await;
        refused("base_url_override_not_allowed", "allow list").await;
        set("proxy.allow_hosts= proxy.base_url_override=false").await;
        refused("base_url_override_disabled", "").await;
        set("proxy.base_url_override=true").await;
        until("the provider's own answer", async || {
            (call(&server, &base, &[]).await.status == 404).then_some(())
        })
        .await;
        server.finish().await;
    }

    async fn a_websocket_passes_with_the_credentials_in_its_handshake(db: TestDb) {
        let world = World::on(db).await;
        let server = with_key(&world).await;
        let (seen, mut heads) = mpsc::unbounded_channel();
        let provider = RawProvider::playing(move |mut socket| {
            let seen = seen.clone();
            async move {
                seen.send(read_message(&mut socket, Kind::Request).await).unwrap();
                let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                               sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\n";
                socket.write_all(answer).await.unwrap();
                let mut piece = [0; 64];
                while let Ok(count @ 1..) = socket.read(&mut piece).await {
                    piece[..count].make_ascii_uppercase();
                    socket.write_all(&piece[..count]).await.unwrap();
                }
            }
        })
        .await;
        let request = head("GET", "/socket?a=b", &provider.url())
            + "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
               sec-websocket-version: 13\r\nsec-websocket-protocol: chat\r\n\r\n";
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        for part in ["http/1.1 101", "upgrade: websocket", "connection: upgrade", "sec-websocket-protocol: chat",
            "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
        let asked = heads.recv().await.unwrap();
        assert_eq!(asked.start, "GET /socket?a=b HTTP/1.1");
        assert_eq!(asked.header("x-api-key"), patchbay_sample::API_KEY);
        assert_eq!(asked.header("sec-websocket-key"), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(asked.header("authorization"), "");
        for word in ["hello", "again"] {
            stream.write_all(word.as_bytes()).await.unwrap();
            let mut back = vec![0; word.len()];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(back, word.to_ascii_uppercase().into_bytes());
        }
        drop(stream);
        server.finish().await;
    }

    async fn a_body_with_the_definition_s_members_stays_with_its_provider(db: TestDb) {
        let world = World::on(db).await;
        let (seen, mut bodies) = mpsc::unbounded_channel();
        let stranger = RawProvider::playing(move |mut socket| {
            let seen = seen.clone();
            async move {
                seen.send(read_message(&mut socket, Kind::Request).await.text()).unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                socket.write_all(answer).await.unwrap();
            }
        })
        .await;
        let moved = format!("HTTP/1.1 307 Moved\r\nlocation: {}/there\r\ncontent-length: 0\r\n\r\n", stranger.url());
        let provider = RawProvider::answering(moved).await;
        let text = std::fs::read_to_string(world.catalogue()).unwrap();
        let entry = format!(
            "\nadds:\n    display_name: Adds\n    auth_mode: NONE\n    docs: https://docs.example.com/adds\n    proxy:\n        \
             base_url: {}\n        body:\n            tenant: ${{connectionConfig.tenant}}\n",
            provider.url()
        );
        std::fs::write(world.catalogue(), text + &entry).unwrap();
        let server = world.server().start().await;
        server.api.post("/integrations", &json!({"provider": "adds", "unique_key": "adds"})).await.expect(200);
        let import = json!({
            "provider_config_key": "adds", "connection_id": "a", "credentials": {"type": "NONE"},
            "connection_config": {"tenant": "t1"},
        });
        server.api.post("/connections", &import).await.expect(201);
        let post = || {
            let request = server.api.request("POST", "/proxy/x").header("connection-id", "a");
            request.header("provider-config-key", "adds").json(&json!({"n": 1}))
        };
        let answer = post().send().await;
        assert_eq!((answer.status, answer.header("location")), (307, format!("{}/there", stranger.url()).as_str()));
        assert!(bodies.try_recv().is_err());
        assert_eq!(post().header("forward-headers-on-redirect", "true").send().await.status, 200);
        assert_eq!(bodies.recv().await.unwrap(), r#"{"n":1,"tenant":"t1"}"#);
        server.finish().await;
    }

    async fn a_caller_that_goes_away_ends_the_exchange(db: TestDb) {
        let world = World::on(db).await;
        let server = with_key(&world).await;
        for begins in [false, true] {
            let (gone, mut ended) = mpsc::unbounded_channel();
            let provider = RawProvider::playing(move |mut socket| {
                let gone = gone.clone();
                async move {
                    read_message(&mut socket, Kind::Request).await;
                    if begins {
                        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
                        socket.write_all(head).await.unwrap();
                    }
                    gone.send("asked").unwrap();
                    hang(socket).await;
                    gone.send("ended").unwrap();
                }
            })
            .await;
            let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
            let request = head("GET", "/slow", &provider.url()) + "\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(ended.recv().await, Some("asked"));
            if begins {
                assert_ne!(stream.read_u8().await.unwrap(), 0);
            }
            drop(stream);
            assert_eq!(ended.recv().await, Some("ended"));
        }
        // Nor is anybody asked again on behalf of a caller that did not wait.
        let (asked, mut calls) = mpsc::unbounded_channel();
        let busy = RawProvider::playing(move |mut socket| {
            let asked = asked.clone();
            async move {
                asked.send(read_message(&mut socket, Kind::Request).await.start).unwrap();
                let answer = b"HTTP/1.1 503 Later\r\nretry-after: 77\r\ncontent-length: 0\r\n\r\n";
                socket.write_all(answer).await.unwrap();
            }
        })
        .await;
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        let request = head("GET", "/busy", &busy.url()) + "retries: 3\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let again = world.now() + Duration::from_secs(77);
        until("a wait for the next attempt", async || world.clock.awaited().contains(&again).then_some(())).await;
        drop(stream);
        until("nobody to wait for it", async || (!world.clock.awaited().contains(&again)).then_some(())).await;
        assert_eq!(calls.recv().await.unwrap(), "GET /busy HTTP/1.1");
        assert!(calls.try_recv().is_err());
        let rows = logged(&server, 3).await;
        assert!(rows.iter().all(|row| row["state"] == "failed"), "{rows:?}");
        server.finish().await;
    }

    async fn a_caller_that_waits_for_100_hears_it_once_somebody_wants_its_body(db: TestDb) {
        let world = World::on(db).await;
        let server = with_key(&world).await;
        let (seen, mut bodies) = mpsc::unbounded_channel();
        let provider = RawProvider::playing(move |mut socket| {
            let seen = seen.clone();
            async move {
                let asked = read_message(&mut socket, Kind::Request).await;
                socket.write_all(b"HTTP/1.1 201 Made\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                seen.send(asked).unwrap();
            }
        })
        .await;
        let request = head("PUT", "/file", &provider.url()) + "expect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut go = vec![0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut go).await.unwrap();
        assert_eq!(go, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"12345").await.unwrap();
        let answer = read_message(&mut stream, RESPONSE).await;
        assert_eq!(answer.status(), 201);
        let asked = bodies.recv().await.unwrap();
        assert_eq!((asked.text().as_str(), asked.header("expect").as_str()), ("12345", ""));

        // Nobody there: the refusal comes without the body having been asked for. A socket that is bound and does not
        // listen keeps the port from everybody else.
        let bound = TcpSocket::new_v4().unwrap();
        bound.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let nobody = format!("http://{}", bound.local_addr().unwrap());
        let request = head("PUT", "/file", &nobody) + "expect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        let answer = ask(server.port(), request.as_bytes(), RESPONSE).await;
        assert_eq!(answer.status(), 500, "{answer:?}");
        assert_eq!(answer.json()["code"], "ECONNREFUSED");
        server.finish().await;
    }
}
