//! Items 2 to 5 of the core contract's checklist (api-core §14), over every route of the table.

use crate::common::{TestApi, UNKNOWN_KEY, UNKNOWN_SESSION, missing, unrecognized};
use http::Method;
use patchbay_api::{Auth, Endpoint};
use patchbay_catalog::Catalogue;
use patchbay_store::testing::TestDb;
use patchbay_types::connect_sessions::ConnectSessionSpec;
use serde_json::json;

/// A path of a route, its parameters filled with something well-formed.
fn target(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment {
        "{environmentUuid}" | "{keyUuid}" => "11111111-1111-4111-8111-111111111111",
        parameter if parameter.starts_with('{') => "x",
        plain => plain,
    });
    segments.collect::<Vec<_>>().join("/")
}

fn method(endpoint: &Endpoint) -> &str {
    endpoint.method().map_or("GET", Method::as_str)
}

/// Every path of every route that takes keys.
fn keyed(api: &TestApi) -> Vec<(Endpoint, String)> {
    let takes_keys = |auth| matches!(auth, Auth::ApiKey | Auth::AccountKey | Auth::KeyOrSession);
    let endpoints = api
        .service
        .endpoints()
        .iter()
        .filter(|endpoint| takes_keys(endpoint.auth()));
    endpoints
        .flat_map(|endpoint| endpoint.paths().map(|path| (endpoint.clone(), target(path))))
        .collect()
}

#[tokio::test]
async fn item_2_requests_as_clients_write_them() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    api.integration("keyed", "with space").await;
    for path in [
        "/integrations",
        "/Integrations/",
        "/INTEGRATIONS",
        "/providers/",
        "/Environment-Variables/",
    ] {
        api.get(path)
            .header("content-type", "application/json")
            .expect(200)
            .await;
    }
    api.get("/integrations/with%20space/").expect(200).await;
    api.get("/integrations/with+space")
        .fails(400, "invalid_uri_params")
        .await;
    api.get("/providers?search=a+b").expect(200).await;
    api.get("/providers?search=a%20b").expect(200).await;
    api.get("/integrations/%zz")
        .fails(400, "invalid_uri_params")
        .await;
    api.get("/integrations/with%20space?include%5B%5D=webhook")
        .expect(200)
        .await;
    // A body of length zero that says it is JSON is an empty object.
    let empty = api
        .get("/environment-variables")
        .header("content-type", "application/json");
    empty.header("content-length", "0").expect(200).await;
    let deleted = api
        .delete("/integrations/with%20space")
        .header("content-type", "application/json");
    deleted.expect(200).await;
}

#[tokio::test]
async fn item_3_which_error_wins() {
    let api = TestApi::with(TestDb::sqlite().await, Catalogue::built_in(), 2).await;
    let limited = api.key_with(&["environment:proxy"]).await;
    let wrong = || api.post("/integrations?x=1", json!({"y": 1}));
    wrong()
        .anonymous()
        .body("text/plain", "x")
        .fails(415, "invalid_content_type")
        .await;
    wrong()
        .anonymous()
        .body("application/json", "{")
        .fails(400, "invalid_json")
        .await;
    wrong().anonymous().fails(401, "missing_auth_header").await;
    wrong().bearer(UNKNOWN_KEY).fails(401, "unknown_account").await;
    wrong().bearer(&limited).fails(403, "forbidden").await;
    wrong().fails(400, "invalid_query_params").await;
    // Only the last two counted; the next is over the limit, whatever its scope.
    let error = wrong().bearer(&limited).fails(429, "too_many_request").await;
    assert_eq!(
        (&error["method"], &error["path"]),
        (&json!("POST"), &json!("/integrations"))
    );
    wrong().anonymous().fails(401, "missing_auth_header").await;
}

#[tokio::test]
async fn item_4_validation_issues_word_for_word() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let create = |body| api.post("/integrations", body);
    let text = create(json!({"provider": "keyed"})).send().await.text;
    let expected = r#"{"error":{"code":"invalid_body","errors":[{"code":"invalid_type","message":"Invalid input: expected string, received undefined","path":["unique_key"]}]}}"#;
    assert_eq!(text, expected);
    let both = json!({"provider": "keyed", "unique_key": "k", "a": 1, "b": 2});
    let keys = json!(["unrecognized_keys", "Unrecognized keys: \"a\", \"b\""]);
    create(both).invalid("invalid_body", json!([keys])).await;
    create(json!({"provider": 1, "z": 1}))
        .invalid(
            "invalid_body",
            json!([
                [
                    "invalid_type",
                    "Invalid input: expected string, received number",
                    "provider"
                ],
                missing("unique_key", "string"),
                unrecognized("z"),
            ]),
        )
        .await;
    let pattern = "Invalid string: must match pattern /^[a-zA-Z0-9~:.@ _-]+$/";
    create(json!({"provider": "keyed", "unique_key": "a/b"}))
        .invalid("invalid_body", json!([["invalid_format", pattern, "unique_key"]]))
        .await;
}

#[tokio::test]
async fn item_5_every_route_asks_for_its_credentials() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    for (endpoint, path) in keyed(&api) {
        let send = || api.send(method(&endpoint), &path);
        send().anonymous().fails(401, "missing_auth_header").await;
        send()
            .bearer("nonsense")
            .fails(401, "invalid_secret_key_format")
            .await;
        send().bearer(UNKNOWN_KEY).fails(401, "unknown_account").await;
        let expected = match endpoint.auth() {
            Auth::KeyOrSession => "unknown_connect_session_token",
            _ => "invalid_secret_key_format",
        };
        send().bearer(UNKNOWN_SESSION).fails(401, expected).await;
        if endpoint.auth() == Auth::KeyOrSession {
            let malformed = send().bearer("nango_connect_session_1");
            malformed.fails(401, "invalid_connect_session_token_format").await;
        }
    }
}

/// What a caller is told before a route looks at anything else.
async fn admitted(api: &TestApi, endpoint: &Endpoint, path: &str, key: &str) -> bool {
    let answer = api.send(method(endpoint), path).bearer(key).send().await;
    assert_ne!(answer.status, 401, "{endpoint:?}: {}", answer.text);
    answer.status != 403
}

patchbay_store::both_backends! {
    async fn item_5_scope_matrix(db: TestDb) {
        let api = TestApi::on(db).await;
        let sibling = api.key_with(&["environment:agent_sessions:write"]).await;
        let account_sibling = api.account_key_with(&["account:environments:set_production"]).await;
        let session = api.session(ConnectSessionSpec::default()).await;
        let mut routes = 0;
        for (endpoint, path) in keyed(&api) {
            routes += 1;
            let scopes = endpoint.scopes();
            for scope in scopes {
                let stem = &scope[..=scope.rfind(':').unwrap()];
                let namespace = scope.split(':').next().unwrap();
                for grant in [(*scope).to_owned(), format!("{stem}*"), format!("{namespace}:*")] {
                    let key = if namespace == "account" {
                        api.account_key_with(&[&grant]).await
                    } else {
                        api.key_with(&[&grant]).await
                    };
                    assert!(admitted(&api, &endpoint, &path, &key).await, "{endpoint:?} with {grant}");
                    revoke(&api, &key).await;
                }
            }
            let for_account = endpoint.auth() == Auth::AccountKey;
            if scopes.is_empty() {
                assert!(admitted(&api, &endpoint, &path, &sibling).await, "{endpoint:?} needs no scope");
            } else {
                assert!(!admitted(&api, &endpoint, &path, &sibling).await, "{endpoint:?} with a sibling scope");
                assert!(!admitted(&api, &endpoint, &path, &account_sibling).await, "{endpoint:?} with a sibling scope");
            }
            assert_eq!(admitted(&api, &endpoint, &path, &api.account_key).await, for_account, "{endpoint:?} with an account key");
            let answer = api.send(method(&endpoint), &path).bearer(&session).send().await;
            assert_eq!(answer.status == 401, endpoint.auth() != Auth::KeyOrSession, "{endpoint:?} with a session");
        }
        assert!(routes > 25, "only {routes} routes were tried");
    }
}

/// Keeps the environment below its cap of keys.
async fn revoke(api: &TestApi, secret: &str) {
    use patchbay_connections::api_keys;
    let found = api_keys::authenticate(&api.context, secret)
        .await
        .unwrap()
        .unwrap();
    let id = api_keys::KeyRef::Id(found.key);
    api_keys::revoke(&api.context, api.account, found.environment, id)
        .await
        .unwrap();
}
