//! `/health`, `/ready`, `/env.js`.

use crate::common::TestApi;
use patchbay_store::testing::TestDb;
use serde_json::json;

patchbay_store::both_backends! {
    async fn a_server_says_how_it_is(db: TestDb) {
        let api = TestApi::on(db).await;
        let health = api.get("/health?anything=1").anonymous().expect(200).await;
        assert_eq!(health, json!({"result": "ok"}));
        assert_eq!(api.get("/ready").anonymous().expect(200).await, json!({"result": "ok"}));
        api.context.ambient.tasks.stop();
        assert_eq!(api.get("/ready").anonymous().expect(503).await, json!({"result": "not ready"}));
        assert_eq!(api.get("/health").anonymous().expect(200).await, json!({"result": "ok"}));
    }
}

#[tokio::test]
async fn pages_learn_where_they_are() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let script = api.get("/env.js").anonymous().send().await;
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    assert_eq!(script.header("cache-control"), Some("public, max-age=3600"));
    let env = script
        .text
        .strip_prefix("window._env = ")
        .unwrap()
        .trim_end()
        .trim_end_matches(';');
    let env: serde_json::Value = serde_json::from_str(env).unwrap();
    assert_eq!(env["apiUrl"], crate::common::PUBLIC_URL);
    assert_eq!(env["isHosted"], true);
    assert_eq!(env["features"]["plan"], false);
}

patchbay_store::both_backends! {
    async fn a_database_that_is_gone_is_not_the_callers_fault(db: TestDb) {
        let api = TestApi::on(db).await;
        let session = api.session(patchbay_types::connect_sessions::ConnectSessionSpec::default()).await;
        api.context.store.close().await;
        for token in [crate::common::UNKNOWN_KEY, &session] {
            let answer = api.get("/providers").bearer(token).send().await;
            assert!(answer.status >= 500, "{}", answer.text);
        }
        assert_eq!(api.get("/ready").anonymous().expect(503).await, json!({"result": "not ready"}));
    }
}
