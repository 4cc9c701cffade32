//! The Connect UI's document, files and way back (connect-ui §8, §17).

use crate::common::{Answer, Setup, World};
use serde_json::{Value, json};
use url::Url;

const ATTEMPT: &str = "0123456789abcdef0123456789abcdef";

fn boot(page: &Answer) -> Value {
    let (_, rest) = page.text.split_once(r#"id="boot">"#).expect("a document");
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// Every `src` and `href` of a page.
fn links(page: &Answer) -> Vec<String> {
    let pieces = page.text.split([' ', '>']);
    let values = pieces.filter_map(|piece| {
        let value = piece
            .strip_prefix("src=\"")
            .or_else(|| piece.strip_prefix("href=\""))?;
        Some(value.split('"').next().unwrap().to_owned())
    });
    values.collect()
}

#[tokio::test]
async fn the_document_may_be_framed_and_asks_nobody_else_for_anything() {
    let world = World::new().await;
    for path in ["/connect-ui/", "/connect-ui/integrations", "/connect-ui/go/"] {
        let page = world.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("x-frame-options"), "");
        assert_eq!(page.header("cross-origin-opener-policy"), "");
        assert_eq!(page.header("cross-origin-embedder-policy"), "");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        let policy = page.header("content-security-policy");
        assert!(policy.contains("frame-ancestors *"), "{policy}");
        assert!(policy.contains("script-src 'self';") && policy.contains("style-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("connect-src 'self' http://localhost:3003 ws://localhost:3003"));
        assert!(!page.text.contains("<style") && !page.text.contains(" style="));
        // Each file is where the page says, relative to it.
        let base = Url::parse("http://h.example").unwrap().join(path).unwrap();
        let links = links(&page);
        assert!(links.len() > 10, "{links:?}");
        for link in links {
            assert!(!link.contains("//"), "another host: {link}");
            let target = base.join(&link).unwrap();
            let file = world.get(target.path()).await;
            assert_eq!(file.status, 200, "{link} from {path}");
            assert!(file.header("cache-control").contains("immutable"), "{link}");
        }
    }
}

#[tokio::test]
async fn older_clients_are_sent_to_the_slash_with_their_query() {
    let world = World::new().await;
    let answer = world.get("/connect-ui?apiURL=x&lang=de").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), "./connect-ui/?apiURL=x&lang=de");
    assert_eq!(world.get("/connect-ui").await.header("location"), "./connect-ui/");
}

#[tokio::test]
async fn files_answer_only_to_their_digest() {
    let world = World::new().await;
    let page = world.get("/connect-ui/").await;
    let script = links(&page)
        .into_iter()
        .find(|link| link.ends_with("main.js"))
        .unwrap();
    assert_eq!(world.get(&format!("/connect-ui/{script}")).await.status, 200);
    for wrong in ["assets/000000000000/main.js", "assets/x/../main.js"] {
        assert_eq!(
            world.get(&format!("/connect-ui/{wrong}")).await.status,
            404,
            "{wrong}"
        );
    }
    assert_eq!(world.get(&format!("/connect-ui/{script}x")).await.status, 404);
}

#[tokio::test]
async fn the_document_speaks_the_wished_language_in_its_direction() {
    let world = World::new().await;
    let german = world
        .send(
            "GET",
            "/connect-ui/",
            &[("accept-language", "de-AT, en;q=0.5")],
            "",
        )
        .await;
    assert!(german.text.contains(r#"<html lang="de" dir="ltr""#));
    assert!(german.text.contains("Konto verbinden"));
    assert_eq!(german.header("vary"), "Accept-Language");
    let arabic = world
        .send("GET", "/connect-ui/?lang=ar-EG", &[("accept-language", "de")], "")
        .await;
    assert!(arabic.text.contains(r#"<html lang="ar" dir="rtl""#));
    assert_eq!(boot(&arabic)["language"], "ar");
    assert!(boot(&arabic)["texts"]["connect"].is_string());
}

#[tokio::test]
async fn what_the_address_says_is_never_markup() {
    let world = World::new().await;
    for query in [
        "lang=%22%3E%3Cscript%3E",
        "theme=%22%3E%3Cscript%3E",
        "session_token=%3Cscript%3E",
    ] {
        let page = world.get(&format!("/connect-ui/?{query}")).await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains(r#"data-theme="system""#));
        assert!(page.text.contains(r#"lang="en""#));
        assert_eq!(page.text.matches("<script").count(), 2);
    }
    let dark = world.get("/connect-ui/?theme=dark").await;
    assert!(dark.text.contains(r#"data-theme="dark""#));
}

#[tokio::test]
async fn the_operator_says_which_apis_and_which_pages() {
    let world = World::with(Setup {
        public_url: "https://connect.example.com/base",
        elsewhere: Some(("https://eu.example.com/api/", "https://app.example.com")),
        ..Setup::default()
    })
    .await;
    let page = world.get("/connect-ui/?apiURL=https%3A%2F%2Fevil.example").await;
    let boot = boot(&page);
    assert_eq!(boot["api"], "https://connect.example.com/base");
    assert_eq!(boot["api_urls"], json!(["https://eu.example.com/api"]));
    assert_eq!(boot["loopback"], false);
    let policy = page.header("content-security-policy");
    assert!(
        policy.ends_with("frame-ancestors https://app.example.com"),
        "{policy}"
    );
    let connect = "connect-src 'self' https://connect.example.com wss://connect.example.com \
                   https://eu.example.com wss://eu.example.com;";
    assert!(policy.contains(connect), "{policy}");
    assert!(!page.text.contains("evil.example") && !policy.contains("evil"));
}

#[tokio::test]
async fn other_pages_stay_out_of_frames() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    for target in ["/", "/overview", "/oauth/callback", "/oauth/connect/none"] {
        let page = world
            .get(&format!("{target}?connect_session_token={token}"))
            .await;
        assert_eq!(page.header("x-frame-options"), "SAMEORIGIN", "{target}");
        assert!(
            !page
                .header("content-security-policy")
                .contains("frame-ancestors *"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_page_that_goes_to_the_provider_itself_comes_back_and_hears_how_it_ended() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let bearer = format!("Bearer {token}");
    let result = format!("/connect/session/result?attempt={ATTEMPT}");
    let own = [("authorization", bearer.as_str())];
    let ask = || world.send("GET", &result, &own, "");
    assert_eq!(ask().await.json(), json!({"data": null}));

    let wishes = format!("&attempt={ATTEMPT}&back=page&lang=de&theme=dark");
    let (back, cookie) = world.to_provider(&token, &wishes).await;
    let answer = world.send("GET", &back, &[("cookie", &cookie)], "").await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    let target = format!(
        "http://localhost:3003/connect-ui/?session_token={token}&attempt={ATTEMPT}&theme=dark&lang=de"
    );
    assert_eq!(answer.header("location"), target);
    let connected = ask().await.json();
    assert_eq!(connected["data"]["providerConfigKey"], "oauth");
    assert_eq!(connected["data"]["isPending"], false);
    assert_eq!(
        connected["data"]["connectionId"],
        world.connections().await[0].connection_id.to_string()
    );

    // Nobody else's session learns of it.
    let other = format!("Bearer {}", world.session(&[]).await);
    let asked = world.send("GET", &result, &[("authorization", &other)], "").await;
    assert_eq!(asked.json(), json!({"data": null}));
    let odd = "/connect/session/result?attempt=short";
    let odd = world.send("GET", odd, &[("authorization", &bearer)], "").await;
    assert_eq!(odd.code(), "400 invalid_query_params");
}

#[tokio::test]
async fn only_the_browser_that_began_gets_its_token_back() {
    let world = World::new().await;
    let token = world.session(&[]).await;
    let wishes = format!("&attempt={ATTEMPT}&back=page");
    let (back, _) = world.to_provider(&token, &wishes).await;
    let stranger = world.get(&back).await;
    assert_eq!(stranger.status, 400);
    assert_eq!(stranger.header("location"), "");
    assert!(!stranger.text.contains(&token));
}

#[tokio::test]
async fn a_refused_start_sends_the_page_back_with_the_reason() {
    let world = World::new().await;
    let token = world.session(&["key"]).await;
    let bearer = format!("Bearer {token}");
    let target = format!("/oauth/connect/oauth?connect_session_token={token}&attempt={ATTEMPT}&back=page");
    let answer = world.get(&target).await;
    assert_eq!(answer.status, 303);
    assert!(
        answer
            .header("location")
            .starts_with("http://localhost:3003/connect-ui/?session_token=")
    );
    let result = format!("/connect/session/result?attempt={ATTEMPT}");
    let told = world
        .send("GET", &result, &[("authorization", &bearer)], "")
        .await
        .json();
    assert_eq!(told["data"]["error"]["type"], "integration_not_allowed");
    assert_eq!(told["data"]["providerConfigKey"], "oauth");
    // An unknown token comes back too: the page says that it has expired.
    let gone = "nango_connect_session_".to_owned() + &"0".repeat(64);
    let target = format!("/oauth/connect/oauth?connect_session_token={gone}&attempt={ATTEMPT}&back=page");
    assert_eq!(world.get(&target).await.status, 303);
}

#[tokio::test]
async fn the_way_back_is_the_operators_whatever_the_request_says() {
    let world = World::new().await;
    let token = world.session(&["key"]).await;
    for more in [
        "&return_to=https://evil.example",
        "&redirect_uri=https://evil.example",
        "&theme=//evil.example&lang=//evil.example",
    ] {
        let target =
            format!("/oauth/connect/oauth?connect_session_token={token}&attempt={ATTEMPT}&back=page{more}");
        let answer = world
            .send(
                "GET",
                &target,
                &[("host", "evil.example"), ("referer", "https://evil.example/")],
                "",
            )
            .await;
        assert_eq!(answer.status, 303);
        let location = answer.header("location");
        assert!(
            location.starts_with("http://localhost:3003/connect-ui/?"),
            "{location}"
        );
        assert!(!location.contains("evil"), "{location}");
    }
}

#[tokio::test]
async fn the_form_is_derived_without_what_the_session_presets() {
    let world = World::new().await;
    let token = world.session(&["basic", "oauth"]).await;
    let bearer = format!("Bearer {token}");
    let form = world
        .send("GET", "/connect/form/basic", &[("authorization", &bearer)], "")
        .await
        .json();
    let form = &form["data"];
    assert_eq!(
        (&form["via"], &form["path"]),
        (&json!("form"), &json!("/api-auth/basic/basic"))
    );
    let names: Vec<_> = form["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| &field["name"])
        .collect();
    assert_eq!(names, ["username", "password", "tenant"]);
    assert_eq!(form["fields"][1]["secret"], true);
    assert_eq!(form["fields"][2]["pattern"], "^[a-z]+$");
    let popup = world
        .send("GET", "/connect/form/oauth", &[("authorization", &bearer)], "")
        .await
        .json();
    assert_eq!(
        (&popup["data"]["via"], &popup["data"]["path"]),
        (&json!("popup"), &json!("/oauth/connect/oauth"))
    );
    let refused = world
        .send("GET", "/connect/form/key", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(refused.code(), "400 integration_not_allowed");
    let unknown = world
        .send("GET", "/connect/form/nope", &[("authorization", &bearer)], "")
        .await;
    assert_eq!(unknown.code(), "404 unknown_provider_config");
}
