//! What a popup says when it cannot go on, each kind of failure over the WebSocket and as a page; and what keeps the
//! flow from being turned against its users.

use serde_json::{Value, json};

use crate::common::popup::{Popup, state_of};
use crate::common::simulated::{Simulated, crisp, github, oauth1};
use crate::common::{Answer, TestServer, World};

/// A provider that wants a parameter.
const DEFINITIONS: &str = r"
tenant:
  display_name: Tenant
  categories: [other]
  auth_mode: OAUTH2
  authorization_url: BASE/${connectionConfig.tenant}/authorize
  token_url: BASE/token
  proxy:
    base_url: BASE
  docs: BASE/
  connection_config:
    tenant:
      type: string
      title: Tenant
      description: The tenant.
      automated: true
";

async fn integration(server: &TestServer, provider: &str) {
    let credentials = json!({"type": "OAUTH2", "client_id": "c", "client_secret": "planted-s"});
    let body = json!({"provider": provider, "unique_key": provider, "credentials": credentials});
    server.api.post("/integrations", &body).await.expect(200);
}

/// Begins a popup that goes nowhere: what the WebSocket says.
async fn refused(server: &TestServer, session: &str, key: &str) -> Value {
    let mut popup = Popup::open(server).await;
    let (page, cookie) = popup.begin(server, session, key).await;
    assert_eq!(page.status, 400, "{key}");
    assert_eq!(cookie, "", "{key}");
    assert_page(&page);
    popup.outcome().await
}

/// A page of ours: not to be framed, kept or told on.
fn assert_page(page: &Answer) {
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("cache-control"), "no-store");
    assert!(
        page.header("content-security-policy")
            .contains("frame-ancestors 'none'")
    );
    // As on every answer; what browsers go by is the policy above.
    assert_eq!(page.header("x-frame-options"), "SAMEORIGIN");
    assert_eq!(
        page.header("cross-origin-opener-policy"),
        "",
        "the opener must be reachable"
    );
}

async fn back(server: &TestServer, query: &str, cookie: Option<&str>) -> Answer {
    let mut request = server
        .api
        .anonymous()
        .request("GET", &format!("/oauth/callback?{query}"));
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    request.send().await
}

patchbay_store::both_backends! {
    async fn every_reason_not_to_begin_is_told_twice(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let definitions = format!("{DEFINITIONS}{}", crisp::DEFINITIONS.trim_start());
        let server = provider.server(&world, &definitions).start().await;
        server.integrations().await;
        integration(&server, "tenant").await;
        let bare = json!({"provider": "plugin", "unique_key": "bare"});
        server.api.post("/integrations", &bare).await.expect(200);
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        for (key, kind) in [
            ("nothing", "provider_config_err"),
            ("bare", "provider_config_err"),
            ("sample-api-key", "auth_mode_err"),
            ("tenant", "url_param_err"),
        ] {
            let told = refused(&server, &session, key).await;
            assert_eq!((&told["message_type"], &told["error_type"]), (&json!("error"), &json!(kind)), "{key}");
            assert!(told["error_desc"].as_str().is_some_and(|words| !words.is_empty()), "{key}");
        }
        let fixed = refused(&server, &format!("{session}&authorization_params[state]=mine"), "sample-oauth").await;
        assert_eq!(fixed["error_type"], "url_param_err");
        let limited = server.session(&json!({"tags": {"end_user_id": "u1"}, "allowed_integrations": ["tenant"]})).await;
        assert_eq!(refused(&server, &limited, "sample-oauth").await["error_type"], "integration_not_allowed");
        server.finish().await;

        // The provider left the catalogue.
        let server = world.server().start().await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        assert_eq!(refused(&server, &session, "tenant").await["error_type"], "unknown_config_key");
        server.finish().await;
    }

    async fn a_callback_without_attempt_is_a_page_and_nothing_else(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        for query in ["", "code=x", "state=", "state=unknown&code=x", "state=%3Cscript%3E&code=x", "payload=unknown"] {
            let page = back(&server, query, None).await;
            assert_eq!(page.status, 400, "{query}");
            assert_page(&page);
            assert!(!page.text.contains("<script>alert"), "{query}");
        }
        let hostile = back(&server, "error=%3C/script%3E%3Cimg%20src=x%3E&state=unknown", None).await;
        assert!(!hostile.text.contains("<img"), "{}", hostile.text);
        server.finish().await;
    }

    async fn a_state_is_for_one_browser_and_one_time(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let definitions = format!(
            "{}{}{}",
            oauth1::DEFINITIONS.trim_start(),
            github::DEFINITIONS.trim_start(),
            crisp::DEFINITIONS.trim_start()
        );
        let server = provider.server(&world, &definitions).start().await;
        server.integrations().await;
        let oauth1 = json!({"type": "OAUTH1", "client_id": oauth1::KEY, "client_secret": oauth1::SECRET});
        let app = json!({"type": "APP", "app_id": github::APP_ID, "app_link": format!("{}/github/apps/x", provider.base_url),
            "private_key": github::key().1});
        let plugin = json!({"type": "INSTALL_PLUGIN", "app_link": "https://plugin.example/install", "username": "u", "password": "p"});
        for (name, credentials) in [("plain", &oauth1), ("hub-app", &app), ("plugin", &plugin)] {
            let body = json!({"provider": name, "unique_key": name, "credentials": credentials});
            server.api.post("/integrations", &body).await.expect(200);
        }
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        for (key, answer) in [
            ("sample-oauth", "code=stolen"),
            ("plain", "oauth_token=t&oauth_verifier=v"),
            ("hub-app", "installation_id=12&setup_action=install"),
            ("plugin", "website_id=w"),
        ] {
            let mut popup = Popup::open(&server).await;
            let (_, cookie) = popup.begin(&server, &session, key).await;
            let state = state_of(&cookie).to_owned();
            assert!(state.len() >= 43, "{state}");
            // Another browser: the attacker's link, opened by the victim.
            let page = back(&server, &format!("{answer}&state={state}"), None).await;
            assert_eq!(page.status, 400, "{key}");
            assert_eq!(popup.outcome().await["error_type"], "state_cookie_err", "{key}");
            // It is used up, also for the browser that began it.
            let again = back(&server, &format!("{answer}&state={state}"), Some(&cookie)).await;
            assert!(again.text.contains("already used"), "{key}: {}", again.text);
        }
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        server.finish().await;
    }

    async fn nobody_is_sent_anywhere_that_a_stranger_names(db: TestDb) {
        let world = World::on(db).await;
        let server = world.server().start().await;
        server.integrations().await;
        let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
        let begun = Popup::open(&server).await;
        let aside = format!("{session}&authorization_params[redirect_uri]=https://evil.example&redirect=https://evil.example");
        assert_eq!(begun.begin(&server, &aside, "sample-oauth").await.0.status, 400);
        let (redirect, _) = begun.begin(&server, &session, "sample-oauth").await;
        let target = redirect.header("location");
        assert!(target.starts_with(&world.sample.base_url), "{target}");
        assert!(!target.contains(&session) && !redirect.text.contains(&session), "{target}");
        assert_eq!(redirect.header("referrer-policy"), "no-referrer", "the token is in this page's address");
        for (referer, sent_to) in [
            ("javascript:alert(1)", "https://github.com"),
            ("data:text/html,x", "https://github.com"),
            ("nonsense", "https://github.com"),
        ] {
            let target = "/app-auth/connect?installation_id=1&setup_action=update";
            let request = server.api.anonymous().request("GET", target).header("referer", referer);
            assert_eq!(request.send().await.header("location"), sent_to, "{referer}");
        }
        server.finish().await;
    }
}
