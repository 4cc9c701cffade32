use std::error::Error as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use patchbay_outbound::{
    BlockReason, Body, Call, ConnectFailure, DnsFailure, Error, InvalidUrl, Phase, PrivateNetworks, Range,
    Timeouts, Trust,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::support::{
    Ending, LONG, Names, SHORT, Server, channel_body, client, client_with, patient, read_request,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_response_streams_before_it_is_complete() {
    let (release, released) = oneshot::channel::<()>();
    let released = Arc::new(Mutex::new(Some(released)));
    let server = Server::start(move |mut socket| {
        let released = released.lock().unwrap().take();
        async move {
            read_request(&mut socket).await;
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await
                .unwrap();
            released.expect("one connection").await.unwrap();
            socket
                .write_all(b"6\r\nsecond\r\n0\r\nx-sum: 1\r\n\r\n")
                .await
                .unwrap();
        }
    })
    .await;
    let mut response = client().send(server.get("/")).await.unwrap();
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first");
    release.send(()).unwrap();
    let rest = response.into_body().collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["x-sum"], "1");
    assert_eq!(rest.to_bytes(), "second");
}

#[tokio::test]
async fn a_request_streams_and_may_be_answered_before_it_is_complete() {
    let (seen, mut pieces) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket| {
        let seen = seen.clone();
        async move {
            let mut read = String::new();
            let mut buffer = [0; 1024];
            let mut answered = false;
            while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                if !answered && read.ends_with("first\r\n") {
                    seen.send("first").unwrap();
                    socket.write_all(OK.as_bytes()).await.unwrap();
                    answered = true;
                }
                if read.ends_with("second\r\n0\r\n\r\n") {
                    seen.send("second").unwrap();
                }
            }
        }
    })
    .await;
    let (feed, body) = channel_body();
    feed.send(Ok(Bytes::from_static(b"first"))).unwrap();
    let client = client();
    let response = client
        .send(server.request(Method::POST, "/", body))
        .await
        .unwrap();
    assert_eq!(pieces.recv().await, Some("first"));
    feed.send(Ok(Bytes::from_static(b"second"))).unwrap();
    drop(feed);
    assert_eq!(pieces.recv().await, Some("second"));
    assert_eq!(response.into_body().collect_up_to(10).await.unwrap(), "ok");
}

#[tokio::test]
async fn only_host_and_framing_are_added() {
    // The WHATWG parser of the test's URL removed the dot segment, the client changed nothing.
    let sent = sent(|server| server.get("/a%20b/%2e%2E?x=%7B&y=+")).await;
    assert_eq!(sent, "GET /?x=%7B&y=+ HTTP/1.1\r\nhost: HOST\r\n\r\n");
    let sent = self::sent(|server| {
        let mut request = server.request(Method::POST, "/p", Body::from("body"));
        for (name, value) in [("x-many", &b"1"[..]), ("x-many", b"\xe9"), ("x-empty", b"")] {
            request
                .headers_mut()
                .append(name, HeaderValue::from_bytes(value).unwrap());
        }
        request
    })
    .await;
    let expect = "POST /p HTTP/1.1\r\nx-many: 1\r\nx-many: \u{fffd}\r\nx-empty: \r\nhost: HOST\r\ncontent-length: 4\r\n\r\nbody";
    assert_eq!(sent, expect);
    let method = Method::from_bytes(b"PROPFIND").unwrap();
    let sent = self::sent(move |server| server.request(method, "/dav", Body::empty())).await;
    assert_eq!(sent, "PROPFIND /dav HTTP/1.1\r\nhost: HOST\r\n\r\n");
}

/// What a server reads when `request` is sent to it.
async fn sent(request: impl FnOnce(&Server) -> Request<Body>) -> String {
    let (seen, mut heads) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket| {
        let seen = seen.clone();
        async move {
            seen.send(read_request(&mut socket).await).unwrap();
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    client().send(request(&server)).await.unwrap();
    heads
        .recv()
        .await
        .unwrap()
        .replace(&server.address.to_string(), "HOST")
}

#[tokio::test]
async fn connections_are_reused() {
    let server = Server::start(|mut socket| async move {
        while !read_request(&mut socket).await.is_empty() {
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client();
    for _ in 0..5 {
        let response = client.send(server.get("/")).await.unwrap();
        assert_eq!(response.into_body().collect_up_to(2).await.unwrap(), "ok");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_the_server_ended_meanwhile_is_not_used_again() {
    let server = Server::answering(OK, Ending::Close).await;
    let client = client();
    for turn in 1..=3 {
        let response = client.send(server.get("/")).await.unwrap();
        assert_eq!(response.into_body().collect_up_to(2).await.unwrap(), "ok");
        assert_eq!(server.connections(), turn);
    }
}

#[tokio::test]
async fn a_connection_kept_for_later_is_closed_as_soon_as_its_server_closes_it() {
    let (gone, mut ends) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket| {
        let gone = gone.clone();
        async move {
            read_request(&mut socket).await;
            socket.write_all(OK.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
            // Ends when our side closes too, which nobody has to ask for.
            assert_eq!(socket.read(&mut [0; 16]).await.unwrap(), 0);
            gone.send(()).unwrap();
        }
    })
    .await;
    let client = client();
    let response = client.send(server.get("/")).await.unwrap();
    assert_eq!(response.into_body().collect_up_to(2).await.unwrap(), "ok");
    tokio::time::timeout(LONG, ends.recv()).await.unwrap().unwrap();
    drop(client);
}

#[tokio::test]
async fn a_short_answer_nobody_reads_costs_no_connection_and_a_long_one_does() {
    let server = Server::start(|mut socket| async move {
        loop {
            let request = read_request(&mut socket).await;
            let answer = match request.split(' ').nth(1) {
                Some("/short") => OK,
                Some("/long") => "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\nok",
                _ => return,
            };
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client();
    for (path, connections) in [("/short", 1), ("/short", 1), ("/long", 1), ("/short", 2)] {
        drop(client.send(server.get(path)).await.unwrap());
        assert_eq!(server.connections(), connections, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_wander_between_tasks() {
    let server = Server::start(|mut socket| async move {
        while !read_request(&mut socket).await.is_empty() {
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let (client, tasks) = (client(), patchbay_ambient::Tasks::new());
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (client, uri) = (client.clone(), server.get("/").uri().clone());
            tasks.spawn(async move {
                for _ in 0..200 {
                    let request = Request::get(uri.clone()).body(Body::empty()).unwrap();
                    let response = client.send(request).await.unwrap();
                    assert_eq!(response.into_body().collect_up_to(2).await.unwrap(), "ok");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(server.connections() <= 8, "{}", server.connections());
}

#[tokio::test]
async fn a_blocked_target_is_never_connected_to() {
    let server = Server::answering(OK, Ending::Close).await;
    let port = server.address.port();
    let names = Names::of(&[
        ("inside.example", "127.0.0.1"),
        ("metadata.example", "169.254.169.254"),
    ]);
    let client = client_with(&PrivateNetworks::Deny, patient(), Trust::nobody(), names);
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "inside.example",
        "0.0.0.0",
    ] {
        let request = Request::get(format!("http://{host}:{port}/secret?token=abc"))
            .body(Body::empty())
            .unwrap();
        let error = client.send(request).await.unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Blocked {
                    reason: BlockReason::Address(_),
                    ..
                }
            ),
            "{host}: {error:?}"
        );
        assert!(!error.may_have_been_sent() && !error.is_retryable());
        assert!(!error.to_string().contains("abc"), "{error}");
    }
    let request = Request::get("http://metadata.example/")
        .body(Body::empty())
        .unwrap();
    let error = client.send(request).await.unwrap_err();
    assert!(matches!(
        error,
        Error::Blocked {
            reason: BlockReason::Address(Range::Metadata),
            ..
        }
    ));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn names_are_resolved_once_checked_and_sent_as_host() {
    let (seen, mut heads) = mpsc::unbounded_channel();
    let server = Server::start(move |mut socket| {
        let seen = seen.clone();
        async move {
            seen.send(read_request(&mut socket).await).unwrap();
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    let names = Names::of(&[("api.example", "127.0.0.1")]);
    let client = client_with(&PrivateNetworks::loopback(), patient(), Trust::nobody(), names);
    let uri = format!("http://api.example:{}/x", server.address.port());
    client
        .send(Request::get(uri).body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert!(heads.recv().await.unwrap().contains("host: api.example:"));
}

#[tokio::test]
async fn unknown_names_are_not_called_blocked() {
    let mut names = Names::default();
    names.0.insert("silent.example", Err(DnsFailure::Temporary));
    let client = client_with(&PrivateNetworks::Deny, patient(), Trust::nobody(), names);
    let ask = async |host| {
        client
            .send(
                Request::get(format!("http://{host}/"))
                    .body(Body::empty())
                    .unwrap(),
            )
            .await
            .unwrap_err()
    };
    let missing = ask("missing.example").await;
    assert_eq!((missing.code(), missing.is_retryable()), ("ENOTFOUND", false));
    assert_eq!(missing.to_string(), "getaddrinfo ENOTFOUND missing.example");
    let silent = ask("silent.example").await;
    assert_eq!((silent.code(), silent.is_retryable()), ("EAI_AGAIN", true));
}

#[tokio::test]
async fn nobody_listening_is_refused_and_certainly_not_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let request = Request::post(format!("http://{address}/"))
        .body(Body::from("x"))
        .unwrap();
    let error = client().send(request).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Connect {
                failure: ConnectFailure::Refused,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.to_string(), format!("connect ECONNREFUSED {address}"));
    assert!(error.is_retryable() && !error.may_have_been_sent());
    assert!(error.source().is_some(), "logs get the cause");
}

#[tokio::test]
async fn requests_the_client_cannot_make_are_named() {
    let check = async |method: &str, uri: &str, expect: InvalidUrl| {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::empty())
            .unwrap();
        let error = client().send(request).await.unwrap_err();
        assert!(
            matches!(error, Error::InvalidUrl(found) if found == expect),
            "{uri}: {error:?}"
        );
    };
    check("GET", "/relative", InvalidUrl::Scheme).await;
    check("GET", "ftp://example.com/", InvalidUrl::Scheme).await;
    check("GET", "http://user:pass@example.com/", InvalidUrl::Userinfo).await;
    check("CONNECT", "example.com:443", InvalidUrl::Connect).await;
}

#[tokio::test]
async fn connections_that_end_before_a_response_are_resets() {
    for ending in [Ending::Close, Ending::Reset] {
        for partial in ["", "HTTP/1.1 200 OK\r\ncontent-le"] {
            let server = Server::answering(partial, ending).await;
            let error = client().send(server.get("/")).await.unwrap_err();
            assert!(
                matches!(error, Error::Reset { in_body: false, .. }),
                "{ending:?} {partial:?}: {error:?}"
            );
            assert_eq!(error.code(), "ECONNRESET");
            assert!(error.is_retryable() && error.may_have_been_sent());
        }
    }
}

#[tokio::test]
async fn connections_that_end_inside_a_body_are_resets_not_short_bodies() {
    for ending in [Ending::Close, Ending::Reset] {
        for partial in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nshort",
        ] {
            let server = Server::answering(partial, ending).await;
            // A reset may overtake the data, then there is no response at all.
            let error = match client().send(server.get("/")).await {
                Ok(response) => response.into_body().collect_up_to(100).await.unwrap_err(),
                Err(error) => error,
            };
            assert!(
                matches!(error, Error::Reset { .. }),
                "{ending:?} {partial:?}: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn answers_that_are_not_http_are_protocol_errors() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ] {
        let server = Server::answering(answer, Ending::Close).await;
        let error = client().send(server.get("/")).await.unwrap_err();
        assert_eq!(error.code(), "EPROTO", "{answer:?}: {error:?}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn silence_before_the_response_times_out() {
    let server = Server::answering("", Ending::Hang).await;
    let call = Call {
        timeouts: Some(Timeouts {
            response: SHORT,
            ..patient()
        }),
        ..Call::default()
    };
    for body in [Body::empty(), Body::from("x")] {
        let error = client()
            .send_with(server.request(Method::POST, "/", body), &call)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Timeout {
                    phase: Phase::Response,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.is_retryable() && error.may_have_been_sent());
        assert_eq!(error.code(), "ETIMEDOUT");
    }
}

#[tokio::test]
async fn silence_inside_the_body_times_out() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", Ending::Hang).await;
    let call = Call {
        timeouts: Some(Timeouts {
            idle: SHORT,
            ..patient()
        }),
        ..Call::default()
    };
    let mut response = client().send_with(server.get("/"), &call).await.unwrap();
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "short");
    let error = response.body_mut().frame().await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Timeout {
                phase: Phase::Body,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_handshake_that_never_ends_times_out() {
    let server = Server::start(|socket| Ending::Hang.play(socket)).await;
    let timeouts = Timeouts {
        connect: SHORT,
        response: LONG,
        idle: LONG,
    };
    let client = client_with(
        &PrivateNetworks::loopback(),
        timeouts,
        Trust::nobody(),
        Names::default(),
    );
    let request = Request::get(format!("https://{}/", server.address))
        .body(Body::empty())
        .unwrap();
    let error = client.send(request).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Timeout {
                phase: Phase::Connect,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_retryable() && !error.may_have_been_sent());
}

#[tokio::test]
async fn a_caller_whose_body_fails_has_aborted() {
    let server = Server::answering("", Ending::Hang).await;
    let (feed, body) = channel_body();
    feed.send(Ok(Bytes::from_static(b"first"))).unwrap();
    feed.send(Err("the caller went away")).unwrap();
    let error = client()
        .send(server.request(Method::POST, "/", body))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Aborted { .. }), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn giving_up_on_an_exchange_closes_it() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"] {
        let (ended, mut ends) = mpsc::unbounded_channel();
        let (begun, mut begins) = mpsc::unbounded_channel();
        let server = Server::start(move |mut socket| {
            let (ended, begun) = (ended.clone(), begun.clone());
            async move {
                read_request(&mut socket).await;
                socket.write_all(answer.as_bytes()).await.unwrap();
                begun.send(()).unwrap();
                Ending::Hang.play(socket).await;
                ended.send(()).unwrap();
            }
        })
        .await;
        let client = client();
        let exchange = async {
            let response = client.send(server.get("/")).await.unwrap();
            response.into_body().collect_up_to(100).await
        };
        tokio::select! {
            result = exchange => panic!("must not end: {result:?}"),
            _ = begins.recv() => {}
        }
        ends.recv()
            .await
            .expect("the server saw the end of the connection");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_whether_announced_or_not() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n01234567890",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n01234567890",
    ] {
        let server = Server::answering(answer, Ending::Close).await;
        let client = client();
        let error = client
            .send(server.get("/"))
            .await
            .unwrap()
            .into_body()
            .collect_up_to(10)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 10 }), "{error:?}");
        let whole = client
            .send(server.get("/"))
            .await
            .unwrap()
            .into_body()
            .collect_up_to(11)
            .await
            .unwrap();
        assert_eq!(whole, "01234567890");
    }
}
