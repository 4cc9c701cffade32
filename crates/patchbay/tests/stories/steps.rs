//! Steps a definition declares: the check before a connection is stored, what is learnt after, who is told before it is
//! deleted; and that a crash or an outage in between loses none. All of it from a file.

use std::time::Duration;

use patchbay_ambient::Ambient;
use patchbay_sample::Gate;
use patchbay_store::db::DbError;
use patchbay_store::provider_steps;
use serde_json::{Value, json};

use crate::common::process::Process;
use crate::common::simulated::Simulated;
use crate::common::{Client, DEV_KEY, TestServer, World, until};

const DEFINITIONS: &str = "
stepped:
    display_name: Stepped
    categories: [other]
    docs: https://docs.example.com
    auth_mode: API_KEY
    proxy:
        base_url: BASE
        headers:
            authorization: Key ${apiKey}
        verification:
            method: POST
            endpoints: [/check]
            data:
                who: ${connectionConfig.site}
            expect:
                json_path: ok
                equals: true
    post_connection:
        - request:
              endpoint: /me
          capture:
              account: account.id
          metadata:
              plan: ${answer.plan}
        - when:
              - value: ${answer.beta}
                equals: 'true'
          request:
              method: POST
              endpoint: /sites/${connectionConfig.site}/joined
              data:
                  account: ${connectionConfig.account}
    revoke:
        - request:
              method: DELETE
              endpoint: /accounts/${connectionConfig.account}
    connection_config:
        site:
            type: string
            title: Site
            description: Yours.
    credentials:
        apiKey:
            type: string
            title: Key
            description: Yours.
";

const INTROSPECTED: &str = "
introspected:
    display_name: Introspected
    categories: [other]
    docs: https://docs.example.com
    auth_mode: OAUTH2
    authorization_url: BASE/authorize
    token_url: BASE/token
    token_client:
        introspection:
            url: BASE/introspect
            params:
                token: ${accessToken}
                client_id: ${clientId}
                client_secret: ${clientSecret}
                token_type_hint: access_token
";

async fn integration(server: &TestServer) {
    let body = json!({"provider": "stepped", "unique_key": "stepped"});
    server.api.post("/integrations", &body).await.expect(200);
}

async fn submit(server: &TestServer, key: &str) -> crate::common::Answer {
    let session = server.session(&json!({"tags": {"end_user_id": "u1"}})).await;
    let form = format!("/api-auth/api-key/stepped?connect_session_token={session}&params[site]=s1");
    server.api.anonymous().post(&form, &json!({"apiKey": key})).await
}

async fn read(server: &TestServer, id: &str) -> Value {
    let target = format!("/connections/{id}?provider_config_key=stepped");
    server.api.get(&target).await.expect(200)
}

async fn operations(server: &TestServer, action: &str) -> Vec<Value> {
    let logs = server.operator.json("logs --env dev --type auth --json").await;
    let all = logs.as_array().unwrap().iter();
    all.filter(|row| row["action"] == action || row["operation"] == action)
        .cloned()
        .collect()
}

/// Whether steps still wait for the one connection there is.
async fn waiting(server: &TestServer) -> u64 {
    let store = &server.running().context.store;
    let counted: Result<_, DbError> = store.read(|tx| Box::pin(provider_steps::count(tx))).await;
    counted.unwrap()
}

patchbay_store::both_backends! {
    async fn a_provider_of_a_file_is_checked_asked_and_told(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, DEFINITIONS).start().await;
        integration(&server).await;

        // The check is fatal, also when it is the body that says no.
        provider.answer_once("/check", 200, json!({"ok": false}));
        submit(&server, "planted-wrong").await.fails(400, "connection_test_failed");
        let (_, told) = world.webhook("main", 1).await;
        assert_eq!((&told["operation"], &told["success"]), (&json!("creation"), &json!(false)));
        assert_eq!(server.api.get("/connections").await.expect(200), json!({"connections": []}));
        assert_eq!(provider.calls("/me").len(), 0);

        provider.answer_once("/check", 200, json!({"ok": true}));
        provider.answer_once("/me", 200, json!({"account": {"id": 7}, "plan": "pro", "beta": true}));
        provider.answer_once("/sites/s1/joined", 201, json!({}));
        let made = submit(&server, "planted-key").await.expect(200);
        let id = made["connectionId"].as_str().unwrap();
        // All of it is there when the browser is answered.
        let stored = read(&server, id).await;
        assert_eq!(stored["connection_config"], json!({"site": "s1", "account": "7"}));
        assert_eq!(stored["metadata"], json!({"plan": "pro"}));
        assert_eq!(provider.calls("/check")[1].json(), json!({"who": "s1"}));
        assert_eq!(provider.calls("/me")[0].header("authorization"), "Key planted-key");
        assert_eq!(provider.calls("/sites/s1/joined")[0].json(), json!({"account": "7"}));
        let (_, told) = world.webhook("main", 2).await;
        assert_eq!((&told["operation"], &told["success"]), (&json!("creation"), &json!(true)));
        let done = operations(&server, "post_connection").await;
        assert_eq!((done.len(), &done[0]["state"]), (1, &json!("success")), "{done:?}");
        assert_eq!(waiting(&server).await, 0);

        // The provider refuses to be told: the connection goes all the same.
        let gone = format!("/connections/{id}?provider_config_key=stepped");
        provider.answer_once("/accounts/7", 500, json!({}));
        server.api.request("DELETE", &gone).send().await.expect(200);
        assert_eq!(provider.calls("/accounts/7")[0].method, "DELETE");
        assert_eq!(server.api.get(&gone).await.status, 404);
        let told = operations(&server, "pre_connection_deletion").await;
        assert_eq!((told.len(), &told[0]["state"]), (1, &json!("failed")), "{told:?}");
        server.finish().await;
    }

    async fn a_provider_that_is_away_is_asked_again_later(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, DEFINITIONS).start().await;
        integration(&server).await;
        provider.answer_once("/check", 200, json!({"ok": true}));
        provider.answer_once("/me", 503, json!({}));
        let made = submit(&server, "planted-key").await.expect(200);
        let id = made["connectionId"].as_str().unwrap();
        assert_eq!(read(&server, id).await["connection_config"], json!({"site": "s1"}));
        world.webhook("main", 1).await;
        assert_eq!(waiting(&server).await, 1);
        let failed = operations(&server, "post_connection").await;
        assert_eq!(failed[0]["state"], "failed", "{failed:?}");

        server.quiet().await;
        provider.answer_once("/me", 200, json!({"account": {"id": 7}}));
        world.clock.advance(Duration::from_secs(31));
        let complete = json!({"site": "s1", "account": "7"});
        until("what the steps found", async || (read(&server, id).await["connection_config"] == complete).then_some(())).await;
        assert_eq!(waiting(&server).await, 0);
        assert_eq!(provider.calls("/me").len(), 2);

        // Not for ever: a refusal is final at once.
        provider.answer_once("/check", 200, json!({"ok": true}));
        provider.answer_once("/me", 403, json!({}));
        submit(&server, "planted-key").await.expect(200);
        assert_eq!(waiting(&server).await, 0);
        server.finish().await;
    }

    async fn a_crash_between_the_connection_and_its_steps_loses_none(db: TestDb) {
        let world = World::on(db).await;
        let base = world.sample.url("");
        let definitions = DEFINITIONS
            .replace("BASE", base.trim_end_matches('/'))
            .replace("/check", "/echo/check")
            .replace("            expect:\n                json_path: ok\n                equals: true\n", "")
            .replace("endpoint: /me", "endpoint: /slow")
            .replace("account.id", "slow");
        let catalogue = world.path("stepped.yaml");
        let known = std::fs::read_to_string(world.catalogue()).unwrap();
        std::fs::write(&catalogue, format!("{known}\n{definitions}")).unwrap();
        let mut variables = crate::process::variables(&world);
        variables.insert("PATCHBAY_CATALOG", catalogue.display().to_string());
        let mut serve = Process::start(&["serve"], &variables, world.folder.path());
        let api = Client::new(&serve.url().await, DEV_KEY);
        let body = json!({"provider": "stepped", "unique_key": "stepped"});
        api.post("/integrations", &body).await.expect(200);
        let import = json!({"provider_config_key": "stepped", "connection_id": "c1",
            "connection_config": {"site": "s1"}, "credentials": {"type": "API_KEY", "apiKey": "planted-key"}});
        let request = api.request("POST", "/connections").json(&import);
        let importing = Ambient::system().tasks.spawn(async move { request.try_send().await.is_ok() });
        // The check passed, the connection is stored, and the provider holds the first step's request.
        world.sample.wait_for(|counts| counts.probe >= 2).await;
        serve.signal("KILL");
        serve.ended().await;
        assert!(!importing.await.unwrap(), "nobody was answered");
        world.sample.release(Gate::Slow);

        let server = world.server().set("catalog", catalogue.display().to_string()).start().await;
        assert_eq!(read(&server, "c1").await["connection_config"], json!({"site": "s1"}));
        assert_eq!(waiting(&server).await, 1);
        server.quiet().await;
        world.clock.advance(Duration::from_secs(31));
        until("the steps to be carried out", async || (waiting(&server).await == 0).then_some(())).await;
        assert_eq!(read(&server, "c1").await["connection_config"], json!({"site": "s1", "account": true}));
        let done = operations(&server, "post_connection").await;
        assert_eq!((done.len(), &done[0]["state"]), (1, &json!("success")), "{done:?}");
        server.finish().await;
    }

    async fn a_token_that_names_no_end_is_asked_about_now_and_then(db: TestDb) {
        let world = World::on(db).await;
        let provider = Simulated::start(&world).await;
        let server = provider.server(&world, INTROSPECTED).start().await;
        let credentials = json!({"type": "OAUTH2", "client_id": "the-client", "client_secret": "planted-secret"});
        let body = json!({"provider": "introspected", "unique_key": "introspected", "credentials": credentials});
        server.api.post("/integrations", &body).await.expect(200);
        let import = json!({"provider_config_key": "introspected", "connection_id": "c1", "credentials":
            {"type": "OAUTH2", "access_token": "planted-a", "refresh_token": "planted-r"}});
        server.api.post("/connections", &import).await.expect(201);
        let target = "/connections/c1?provider_config_key=introspected";
        let token = async || server.api.get(target).await.expect(200)["credentials"]["access_token"].clone();
        assert_eq!(token().await, "planted-a");
        assert_eq!(provider.calls("/introspect").len(), 0, "it was good a moment ago");

        server.quiet().await;
        world.clock.advance(Duration::from_mins(6));
        let exp = world.now().as_second() + 7200;
        provider.answer_once("/introspect", 200, json!({"active": true, "exp": exp}));
        for _ in 0..3 {
            assert_eq!(token().await, "planted-a");
        }
        let asked = provider.calls("/introspect");
        assert_eq!(asked.len(), 1);
        assert_eq!(
            String::from_utf8_lossy(&asked[0].body),
            "token=planted-a&client_id=the-client&client_secret=planted-secret&token_type_hint=access_token"
        );

        world.clock.advance(Duration::from_mins(6));
        provider.answer_once("/introspect", 200, json!({"active": false}));
        provider.answer_once("/token", 200, json!({"access_token": "planted-b"}));
        for _ in 0..3 {
            assert_eq!(token().await, "planted-b");
        }
        assert_eq!((provider.calls("/introspect").len(), provider.calls("/token").len()), (2, 1));
        assert_eq!(provider.calls("/token")[0].form("refresh_token").as_deref(), Some("planted-r"));
        server.finish().await;
    }
}
