//! The API, the probes, the mailbox, the switches.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use patchbay_ambient::{Ambient, Shutdown, TestClock};
use patchbay_sample::{API_KEY, BASIC_PASSWORD, BASIC_USER, Failure, Gate, HookAnswer, Options, serve};
use serde_json::json;

use crate::support::World;

#[tokio::test]
async fn the_api_takes_keys_and_passwords_too() {
    let world = World::new().await;
    let via = async |path: &str, headers: &[(&str, &str)]| {
        let answer = world.get(path, headers).await;
        answer.json()["authenticated_by"]
            .as_str()
            .map_or_else(|| answer.status.to_string(), ToOwned::to_owned)
    };
    assert_eq!(via("/whoami", &[("x-api-key", API_KEY)]).await, "api_key");
    assert_eq!(via(&format!("/whoami?api_key={API_KEY}"), &[]).await, "api_key");
    let basic = format!(
        "Basic {}",
        BASE64.encode(format!("{BASIC_USER}:{BASIC_PASSWORD}").as_bytes())
    );
    assert_eq!(via("/whoami", &[("authorization", &basic)]).await, "basic");
    for headers in [
        &[][..],
        &[("x-api-key", "wrong")],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "Bearer x")],
    ] {
        assert_eq!(via("/whoami", headers).await, "401 Unauthorized");
    }
}

#[tokio::test]
async fn collections_page_in_three_styles_and_can_be_changed() {
    let world = World::new().await;
    let key = [("x-api-key", API_KEY)];
    let fetch = async |path: &str| world.get(path, &key).await;

    let mut seen = 0;
    let mut path = "/contacts?limit=20".to_owned();
    loop {
        let page = fetch(&path).await.json();
        seen += page["contacts"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!(
            "/contacts?limit=20&cursor={}",
            cursor.replace('=', "%3D").replace('+', "%2B")
        );
    }
    assert_eq!(seen, 53);
    assert_eq!(fetch("/contacts?cursor=x").await.status, StatusCode::BAD_REQUEST);

    let mut seen = 0;
    let mut next = Some("/issues?per_page=25".to_owned());
    while let Some(path) = next.take() {
        let answer = fetch(&path).await;
        seen += answer.json().as_array().unwrap().len();
        let links = answer.headers["link"].to_str().unwrap().to_owned();
        let link = links.split(", ").find(|link| link.ends_with("rel=\"next\""));
        next = link.map(|link| {
            link.split(['<', '>'])
                .nth(1)
                .unwrap()
                .replace(&world.sample.base_url, "")
        });
    }
    assert_eq!(seen, 57);

    let page = fetch("/invoices?limit=30&offset=30").await.json();
    assert_eq!(
        (page["data"].as_array().unwrap().len(), &page["total"]),
        (11, &json!(41))
    );
    assert_eq!(fetch("/offset/contacts?limit=5").await.json()["total"], 53);

    let made = world
        .send(
            Method::POST,
            "/contacts",
            &key,
            r#"{"first_name":"New","id":"mine"}"#,
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.json()["id"], "con_0054");
    assert_eq!(made.json()["created_at"], "2026-01-02T03:04:05.678Z");
    world.clock.advance(Duration::from_secs(1));
    let changed = world
        .send(Method::PATCH, "/contacts/con_0001", &key, r#"{"vip":false}"#)
        .await
        .json();
    assert_eq!(
        (&changed["vip"], &changed["updated_at"]),
        (&json!(false), &json!("2026-01-02T03:04:06.678Z"))
    );
    let newer = fetch("/contacts?updated_after=2026-01-02T03:04:05.678Z")
        .await
        .json();
    assert_eq!(newer["contacts"].as_array().unwrap().len(), 1);
    assert_eq!(
        world
            .send(Method::DELETE, "/contacts/con_0001", &key, "")
            .await
            .status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(fetch("/contacts/con_0001").await.status, StatusCode::NOT_FOUND);
    assert_eq!(fetch("/contacts/con_0002").await.json()["first_name"], "Bruno");
    assert_eq!(fetch("/nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        world.send(Method::POST, "/contacts", &key, "[]").await.status,
        StatusCode::BAD_REQUEST
    );

    world.sample.behave(|behaviours| {
        behaviours.api_failures = vec![
            Failure::Status {
                status: 429,
                retry_after: Some(1),
            },
            Failure::None,
        ];
    });
    assert_eq!(fetch("/contacts").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(fetch("/contacts").await.status, StatusCode::OK);
}

#[tokio::test]
async fn probes_show_what_arrived_and_move_bytes() {
    let world = World::new().await;
    let echo = world
        .send(
            Method::PUT,
            "/echo/a%20b?x=%7B",
            &[("X-Many", "1"), ("X-Many", "2")],
            "text",
        )
        .await
        .json();
    assert_eq!(
        (&echo["method"], &echo["target"], &echo["body"]),
        (&json!("PUT"), &json!("/echo/a%20b?x=%7B"), &json!("text"))
    );
    let many = echo["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|header| header[0] == "x-many")
        .count();
    assert_eq!(many, 2);
    assert_eq!(
        echo["body_sha256"],
        "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
    );

    let download = world.get("/download?bytes=1000000", &[]).await;
    assert_eq!(
        (download.body.len(), &download.body[249..253]),
        (1_000_000, &[249, 250, 0, 1][..])
    );
    let upload = world
        .send(Method::POST, "/upload", &[], download.body.clone())
        .await
        .json();
    assert_eq!(upload["length"], 1_000_000);
    let again = world
        .send(Method::POST, "/upload", &[], download.body)
        .await
        .json();
    assert_eq!(upload["sha256"], again["sha256"]);

    assert_eq!(world.get("/stream?chunks=4&size=5", &[]).await.body.len(), 20);
    let status = world.get("/status/503?retry_after=9", &[]).await;
    assert_eq!(
        (status.status.as_u16(), &status.headers["retry-after"]),
        (503, &"9".parse().unwrap())
    );
    let moved = world.get("/redirect?status=307&to=/echo", &[]).await;
    assert_eq!(
        (moved.status.as_u16(), &moved.headers["location"]),
        (307, &"/echo".parse().unwrap())
    );

    let mut slow = std::pin::pin!(world.get("/slow", &[]));
    let seen = world.sample.counts().probe;
    tokio::select! {
        _ = &mut slow => panic!("slow until released"),
        _ = world.sample.wait_for(|counts| counts.probe > seen) => {}
    }
    world.sample.release(Gate::Slow);
    assert_eq!(slow.await.status, StatusCode::OK);
}

#[tokio::test]
async fn webhooks_are_recorded_and_answered_as_told() {
    let world = World::new().await;
    let limited = HookAnswer::Status {
        status: 429,
        retry_after: Some(3),
    };
    world.sample.script_hook(
        "a",
        [
            HookAnswer::status(500),
            limited,
            HookAnswer::status(204),
            HookAnswer::Cut,
        ],
    );
    let deliver = || {
        let request = Request::post(world.sample.url("/hooks/a?x=1")).header("x-signature", "s");
        world.try_send(
            request
                .body(Full::new(Bytes::from_static(b"{\"raw\": 1}")))
                .unwrap(),
        )
    };
    let statuses = [
        deliver().await.unwrap(),
        deliver().await.unwrap(),
        deliver().await.unwrap(),
    ];
    assert_eq!(
        statuses.each_ref().map(|answer| answer.status.as_u16()),
        [500, 429, 204]
    );
    assert_eq!(statuses[1].headers["retry-after"], "3");
    assert!(deliver().await.is_err());
    assert_eq!(deliver().await.unwrap().status, StatusCode::OK);
    let received = world.sample.wait_for_received("a", 5).await;
    assert_eq!(received.len(), 5);
    assert_eq!(
        (&received[0].body[..], &received[0].target[..]),
        (&b"{\"raw\": 1}"[..], "/hooks/a?x=1")
    );
    assert_eq!(received[4].headers["x-signature"], "s");
    assert_eq!(world.sample.received("b"), []);
    assert_eq!(
        world.get("/hooks/a", &[]).await.json()["received"]
            .as_array()
            .unwrap()
            .len(),
        5
    );

    world.sample.script_hook("b", [HookAnswer::Hang]);
    let mut hanging = std::pin::pin!(world.send(Method::POST, "/hooks/b", &[], ""));
    tokio::select! {
        _ = &mut hanging => panic!("it hangs"),
        received = world.sample.wait_for_received("b", 1) => assert_eq!(received.len(), 1),
    }
}

#[tokio::test]
async fn the_switches_are_reachable_over_http() {
    let world = World::new().await;
    let put = async |body: &str| {
        world
            .send(Method::PUT, "/admin/behaviours", &[], body.to_owned())
            .await
            .status
    };
    let body = r#"{"consent":"approve","refresh_token":{"rotation":"keep","next_failures":[{"kind":"status","status":500}]}}"#;
    assert_eq!(put(body).await, StatusCode::NO_CONTENT);
    let shown = world.get("/admin/behaviours", &[]).await.json();
    assert_eq!(shown["refresh_token"]["rotation"], "keep");
    assert_eq!(
        put(r#"{"refresh_token":{"rotat":"keep"}}"#).await,
        StatusCode::BAD_REQUEST
    );
    let tokens = world.connect().await;
    assert_eq!(
        world.refresh(&tokens).await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        world.refresh(&tokens).await.json()["refresh_token"],
        tokens["refresh_token"]
    );
    let state = world.get("/admin/state", &[]).await.json();
    assert_eq!(state["counts"]["token_refresh"], 2);
    assert_eq!(state["token_requests"].as_array().unwrap().len(), 3);
    let post = async |path: &str| world.send(Method::POST, path, &[], "").await.status;
    assert_eq!(post("/admin/gates/release/slow").await, StatusCode::NO_CONTENT);
    assert_eq!(world.get("/slow", &[]).await.status, StatusCode::OK);
    assert_eq!(
        post("/admin/gates/hold/token_answer:refresh_token").await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(post("/admin/gates/release/all").await, StatusCode::NO_CONTENT);
    assert_eq!(post("/admin/gates/hold/elsewhere").await, StatusCode::NOT_FOUND);
    assert_eq!(post("/admin/expire-access-tokens").await, StatusCode::NO_CONTENT);
    assert_eq!(world.whoami(&tokens).await, StatusCode::UNAUTHORIZED);
    assert_eq!(post("/admin/revoke-all").await, StatusCode::NO_CONTENT);
    assert_eq!(world.refresh(&tokens).await.error(), "400 invalid_grant");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_tokens_and_shutdown_drains() {
    let tokens = async || {
        let world = World::new().await;
        world.connect().await
    };
    assert_eq!(tokens().await, tokens().await);

    let ambient = Ambient::test(TestClock::default(), 1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sample = serve(listener, &ambient, Options::default()).unwrap();
    let world = World {
        sample,
        clock: TestClock::default(),
        http: Client::builder(TokioExecutor::new()).build_http(),
    };
    assert_eq!(world.get("/", &[]).await.status, StatusCode::OK);
    assert_eq!(
        ambient.tasks.shut_down(Duration::from_secs(30)).await,
        Shutdown::Drained
    );
}
