use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum::routing::any;
use http::{HeaderValue, StatusCode};
use patchbay_outbound::redirect::Refused;
use patchbay_outbound::{
    BlockReason, Client, Error, FetchRequest, Limits, Phase, Policy, PrivateNetworks, Range, Settings, Trust,
};

use crate::support::{Ending, Names, SHORT, Server, client, patient, serve};

/// What a server saw: method, path, sorted headers of interest, body.
type Seen = Arc<Mutex<Vec<String>>>;

/// `/to/<status>/<url>` redirects, `/loop` redirects to itself, everything else answers `here`.
async fn site() -> (Server, Seen) {
    async fn answer(State(seen): State<Seen>, request: Request) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1000).await.unwrap();
        let mut headers: Vec<_> = parts
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        headers.retain(|header| !header.starts_with("host=") && !header.starts_with("content-length="));
        headers.sort();
        let line = format!(
            "{} {} [{}] {}",
            parts.method,
            parts.uri,
            headers.join(" "),
            String::from_utf8_lossy(&body)
        );
        seen.lock().unwrap().push(line);
        let path = parts.uri.path();
        if let Some((status, target)) = path.strip_prefix("/to/").and_then(|rest| rest.split_once('/')) {
            let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
            return (status, [(LOCATION, target.to_owned())], "moved").into_response();
        }
        if let Some(count) = path.strip_prefix("/down/") {
            let count: u32 = count.parse().unwrap();
            let target = if count == 0 {
                "/end".to_owned()
            } else {
                format!("/down/{}", count - 1)
            };
            return (StatusCode::FOUND, [(LOCATION, target)]).into_response();
        }
        "here".into_response()
    }
    let seen = Seen::default();
    let router = Router::new().fallback(any(answer)).with_state(Arc::clone(&seen));
    (serve(router).await, seen)
}

fn post(server: &Server, path: &str) -> FetchRequest {
    FetchRequest::post(server.url(path), "text/plain", "secret body")
        .header("authorization", HeaderValue::from_static("Bearer t"))
        .header("x-api-key", HeaderValue::from_static("k"))
}

fn taken(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut seen.lock().unwrap())
}

#[tokio::test]
async fn any_status_is_an_answer() {
    for status in [200, 404, 500, 302] {
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nx-a: 1\r\n\r\nok");
        let server = Server::answering(answer.leak(), Ending::Close).await;
        let response = client().fetch(FetchRequest::get(server.url("/"))).await.unwrap();
        assert_eq!(
            (response.status.as_u16(), &response.body[..]),
            (status, &b"ok"[..])
        );
        assert_eq!(response.headers["x-a"], "1");
    }
}

#[tokio::test]
async fn redirects_within_an_origin_keep_headers_and_change_methods_as_usual() {
    let (server, seen) = site().await;
    let response = client()
        .fetch(post(&server, "/to/302//end?code=1"))
        .await
        .unwrap();
    assert_eq!(response.body, "here");
    assert_eq!(response.url.path(), "/end");
    assert_eq!(
        taken(&seen),
        [
            "POST /to/302//end?code=1 [authorization=Bearer t content-type=text/plain x-api-key=k] secret body",
            "GET /end [authorization=Bearer t x-api-key=k] ",
        ]
    );
    client().fetch(post(&server, "/to/307//end")).await.unwrap();
    let expect = "POST /end [authorization=Bearer t content-type=text/plain x-api-key=k] secret body";
    assert_eq!(taken(&seen)[1], expect);
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_origin() {
    let (first, _) = site().await;
    let (second, seen) = site().await;
    let url = second.url("/end");
    client()
        .fetch(post(&first, &format!("/to/302/{url}")))
        .await
        .unwrap();
    assert_eq!(taken(&seen), ["GET /end [] "]);
    for status in [307, 308] {
        let error = client()
            .fetch(post(&first, &format!("/to/{status}/{url}")))
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Redirect(Refused::BodyToAnotherOrigin)),
            "{error:?}"
        );
    }
    assert_eq!(taken(&seen), Vec::<String>::new(), "nothing arrived there");
}

#[tokio::test]
async fn five_redirects_are_followed_and_no_more() {
    let (server, _) = site().await;
    let fetch = async |path| client().fetch(FetchRequest::get(server.url(path))).await;
    assert_eq!(fetch("/down/4").await.unwrap().body, "here");
    let error = fetch("/down/5").await.unwrap_err();
    assert_eq!(error.code(), "ERR_FR_TOO_MANY_REDIRECTS");
    let none = Limits {
        redirects: 0,
        ..Limits::default()
    };
    let response = client()
        .fetch(FetchRequest::get(server.url("/down/5")).limits(none))
        .await
        .unwrap();
    assert_eq!(response.status, StatusCode::FOUND);
}

#[tokio::test]
async fn every_hop_is_checked() {
    let (server, _) = site().await;
    for (location, range) in [
        ("http://10.0.0.1/x", Range::Private),
        ("http://169.254.169.254/latest", Range::Metadata),
        ("http://[fe80::1]/", Range::LinkLocal),
        ("http://metadata.google.internal/", Range::Metadata),
    ] {
        let error = client()
            .fetch(FetchRequest::get(server.url(&format!("/to/302/{location}"))))
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Blocked { reason: BlockReason::Address(found), .. } if found == range),
            "{location}: {error:?}"
        );
    }
    let error = client()
        .fetch(FetchRequest::get(server.url("/to/302/file:/etc/passwd")))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Redirect(Refused::Location)), "{error:?}");
}

#[tokio::test]
async fn a_whole_exchange_has_one_time_limit() {
    for partial in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"] {
        let server = Server::answering(partial, Ending::Hang).await;
        let limits = Limits {
            total: SHORT,
            ..Limits::default()
        };
        let error = client()
            .fetch(FetchRequest::get(server.url("/?secret=1")).limits(limits))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Timeout {
                    phase: Phase::Total,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn large_answers_are_refused() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlarge", Ending::Close).await;
    let limits = Limits {
        body: 4,
        ..Limits::default()
    };
    let error = client()
        .fetch(FetchRequest::get(server.url("/")).limits(limits))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "ERR_RESPONSE_TOO_LARGE");
}

#[tokio::test]
async fn userinfo_becomes_basic_authorization_unless_there_is_one() {
    let (server, seen) = site().await;
    let mut url = server.url("/x");
    url.set_username("jane@example.com").unwrap();
    url.set_password(Some("p:w é")).unwrap();
    client().fetch(FetchRequest::get(url.clone())).await.unwrap();
    let own = FetchRequest::get(url).header("authorization", HeaderValue::from_static("Bearer t"));
    assert!(!format!("{own:?}").contains("jane"), "{own:?}");
    client().fetch(own).await.unwrap();
    // base64 of `jane@example.com:p:w é`.
    assert_eq!(
        taken(&seen),
        [
            "GET /x [authorization=Basic amFuZUBleGFtcGxlLmNvbTpwOncgw6k=] ",
            "GET /x [authorization=Bearer t] "
        ]
    );
}

#[tokio::test]
async fn the_user_agent_is_a_default() {
    let (server, seen) = site().await;
    let settings = Settings {
        user_agent: Some(HeaderValue::from_static("house/1")),
        trust: Trust::nobody(),
        timeouts: patient(),
        ..Settings::new("test")
    };
    let client = Client::with_resolver(
        Policy::public(&PrivateNetworks::loopback()),
        settings,
        Arc::new(patchbay_ambient::SystemClock),
        Arc::new(Names::default()),
    );
    client.fetch(FetchRequest::get(server.url("/"))).await.unwrap();
    let own = FetchRequest::get(server.url("/")).header("user-agent", HeaderValue::from_static("mine"));
    client.fetch(own).await.unwrap();
    assert_eq!(
        taken(&seen),
        ["GET / [user-agent=house/1] ", "GET / [user-agent=mine] "]
    );
}
