//! Status page, overview, demonstration.

use crate::common::{Setup, World};
use data_encoding::BASE64;
use serde_json::json;

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

#[tokio::test]
async fn the_status_page_tells_everybody_nothing_about_customers() {
    let world = World::new().await;
    world.session_named("Grace", &[]).await;
    let page = world.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Patchbay is running"));
    assert!(!page.text.contains("Grace") && !page.text.contains("dev</strong>"));
    assert!(!page.text.contains(world.dev.secret.expose()));
}

#[tokio::test]
async fn the_overview_is_for_holders_of_a_key() {
    let world = World::new().await;
    let name = "<img src=x onerror=alert(1)>";
    let token = world.session_named(name, &[]).await;
    let target = format!("/auth/unauthenticated/nothing?connect_session_token={token}");
    assert_eq!(world.post(&target, &json!({})).await.status, 200);
    let key = world.dev.secret.expose().to_owned();

    for header in [
        None,
        Some(basic("", "x")),
        Some(basic("", "9d3c1b70-5a3e-4c5d-9e7f-1a2b3c4d5e6f")),
    ] {
        let headers: Vec<(&str, &str)> = header
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        let page = world.send("GET", "/overview", &headers, "").await;
        assert_eq!(page.status, 401);
        assert!(page.header("www-authenticate").starts_with("Basic "));
        assert!(!page.text.contains("grace@example.com"));
    }
    for header in [basic("", &key), basic(&key, "")] {
        let page = world
            .send("GET", "/overview", &[("authorization", &header)], "")
            .await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("access-control-allow-origin"), "");
        assert!(page.text.contains("grace@example.com"));
        assert!(
            page.text.contains("&#60;img src=x onerror=alert(1)&#62;"),
            "{}",
            page.text
        );
        assert!(page.text.contains("Two step") && page.text.contains("Deliveries"));
    }
    let only_integrations = world.key_with(&["environment:integrations:list"]).await;
    let header = basic("", &only_integrations);
    let page = world
        .send("GET", "/overview", &[("authorization", &header)], "")
        .await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Two step") && !page.text.contains("grace@example.com"));
    let nothing = world.key_with(&["environment:connect_sessions:write"]).await;
    let header = basic("", &nothing);
    assert_eq!(
        world
            .send("GET", "/overview", &[("authorization", &header)], "")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn the_demonstration_walks_through_everything() {
    let world = World::with(Setup {
        demo: true,
        ..Setup::default()
    })
    .await;
    let here = [("host", "localhost:3003"), ("content-type", "application/json")];
    let page = world.send("GET", "/", &here, "").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("Connect Sample &#38; Co"), "{}", page.text);
    assert!(
        page.header("content-security-policy")
            .contains("connect-src 'self' ws://localhost:3003")
    );

    let session = world.send("POST", "/demo/session", &here, "{}").await;
    let token = session.json()["token"].as_str().unwrap().to_owned();
    let (back, cookie) = world.to_provider(&token, "").await;
    assert_eq!(
        world.send("GET", &back, &[("cookie", &cookie)], "").await.status,
        200
    );

    let state = world.send("GET", "/demo/state", &here, "").await.json();
    let connection = &state["connections"][0];
    assert_eq!(connection["tags"]["end_user_display_name"], "Ada Eklund");
    let body = json!({"connection_id": connection["connection_id"]}).to_string();
    let read = world.send("POST", "/demo/token", &here, &body).await.json();
    assert!(read["masked"].as_str().unwrap().contains("••••"));
    let contacts = world.send("POST", "/demo/contacts", &here, &body).await.json();
    assert_eq!(contacts["status"], 200);
    assert_eq!(contacts["contacts"].as_array().unwrap().len(), 5);
    let overview = world.send("GET", "/overview", &here, "").await;
    assert!(overview.text.contains("Ada Eklund"));
    let unknown = world
        .send("POST", "/demo/token", &here, r#"{"connection_id":"x"}"#)
        .await;
    assert_eq!(unknown.code(), "404 unknown_connection");
}

#[tokio::test]
async fn the_demonstration_answers_only_to_this_machine() {
    let world = World::with(Setup {
        demo: true,
        ..Setup::default()
    })
    .await;
    let foreign: [&[(&str, &str)]; 4] = [
        &[("host", "evil.example")],
        &[("host", "localhost:3003"), ("origin", "https://evil.example")],
        &[
            ("host", "localhost:3003"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "cors"),
        ],
        &[],
    ];
    for headers in foreign {
        for (method, target) in [
            ("GET", "/"),
            ("GET", "/overview"),
            ("GET", "/demo/state"),
            ("POST", "/demo/session"),
        ] {
            let answer = world.send(method, target, headers, "").await;
            assert_eq!(answer.code(), "403 forbidden", "{target} {headers:?}");
        }
    }
    let own = [
        ("host", "127.0.0.1:3003"),
        ("origin", "http://127.0.0.1:3003"),
        ("sec-fetch-site", "same-origin"),
    ];
    assert_eq!(world.send("POST", "/demo/session", &own, "").await.status, 200);
}

#[tokio::test]
async fn without_the_demonstration_there_is_nothing_of_it() {
    let world = World::new().await;
    let here = [("host", "localhost:3003")];
    for target in ["/demo/state", "/demo/session"] {
        assert_eq!(world.send("GET", target, &here, "").await.code(), "404 not_found");
    }
}
