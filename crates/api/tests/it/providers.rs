//! `/providers`, `/providers.json` and logos (api-core §5, §7).

use crate::common::{PUBLIC_URL, TestApi, unrecognized};
use patchbay_catalog::{Catalogue, Source};
use patchbay_store::testing::TestDb;
use patchbay_types::connect_sessions::ConnectSessionSpec;
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    let all = list["data"].as_array().unwrap();
    all.iter()
        .map(|provider| provider["name"].as_str().unwrap())
        .collect()
}

patchbay_store::both_backends! {
    async fn providers_are_listed_searched_and_read(db: TestDb) {
        let api = TestApi::on(db).await;
        let list = api.get("/providers").expect(200).await;
        let all = names(&list);
        assert!(all.is_sorted() && all.contains(&"plain-oauth"), "{all:?}");
        assert_eq!(names(&api.get("/providers?search=OAUTH").expect(200).await), ["app-and-oauth", "old-oauth", "plain-oauth"]);
        assert_eq!(names(&api.get("/providers?search=n.oauth").expect(200).await), ["plain-oauth"]);
        assert_eq!(api.get("/providers?search=zzz").expect(200).await, json!({"data": []}));

        let one = api.get("/providers/plain-oauth").expect(200).await;
        let same = list["data"].as_array().unwrap().iter().find(|one| one["name"] == "plain-oauth").unwrap();
        assert_eq!(&one["data"], same);
        assert_eq!(one["data"]["logo_url"], format!("{PUBLIC_URL}/images/template-logos/plain-oauth.svg"));
        assert_eq!(one["data"]["default_scopes"], json!(["read", "write"]));
        assert_eq!(one["data"].get("refresh_url"), None);
        assert_eq!(api.get("/providers/plain-oauth/templates").expect(200).await, json!({"data": []}));
        assert_eq!(api.get("/providers/unknown/templates").expect(200).await, json!({"data": []}));
        api.get("/providers/unknown").fails(404, "not_found").await;

        let token = api.session(ConnectSessionSpec::default()).await;
        assert_eq!(names(&api.get("/providers").bearer(&token).expect(200).await), all);
        api.get("/providers/plain-oauth").bearer(&token).expect(200).await;
        api.get("/providers/plain-oauth/templates").bearer(&token).fails(401, "invalid_secret_key_format").await;
        api.get("/providers").bearer(&api.account_key).fails(403, "forbidden").await;
    }
}

#[tokio::test]
async fn bad_input() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let pattern = "Invalid string: must match pattern /^[a-zA-Z0-9~:.@ _-]+$/";
    let search = json!([["invalid_format", pattern, "search"]]);
    api.get("/providers?search=a%2Fb")
        .invalid("invalid_query_params", search)
        .await;
    let long = json!([[
        "too_big",
        "Too big: expected string to have <=255 characters",
        "search"
    ]]);
    api.get(format!("/providers?search={}", "a".repeat(255)))
        .expect(200)
        .await;
    api.get(format!("/providers?search={}", "a".repeat(256)))
        .invalid("invalid_query_params", long)
        .await;
    for path in ["/providers", "/providers/keyed", "/providers/keyed/templates"] {
        let strange = api.get(format!("{path}?connect_session_token=x"));
        strange
            .invalid(
                "invalid_query_params",
                json!([unrecognized("connect_session_token")]),
            )
            .await;
    }
    let pattern = "Invalid string: must match pattern /^[a-zA-Z0-9_-]+$/";
    for path in ["/providers/a.b", "/providers/a.b/templates"] {
        api.get(path)
            .invalid(
                "invalid_uri_params",
                json!([["invalid_format", pattern, "provider"]]),
            )
            .await;
    }
    let long = json!([[
        "too_big",
        "Too big: expected string to have <=255 characters",
        "provider"
    ]]);
    api.get(format!("/providers/{}", "a".repeat(256)))
        .invalid("invalid_uri_params", long)
        .await;
    api.get(format!("/providers/{}", "a".repeat(255)))
        .fails(404, "not_found")
        .await;
}

#[tokio::test]
async fn every_shipped_provider_is_as_documented() {
    let api = TestApi::with(TestDb::sqlite().await, Catalogue::built_in(), 0).await;
    let first = api.get("/providers").send().await;
    assert!(first.json["data"].as_array().unwrap().len() > 40);
    let known = api
        .get("/providers")
        .header("if-none-match", first.header("etag").unwrap())
        .send()
        .await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));
    let definitions = api.get("/providers.json").anonymous().expect(200).await;
    assert_eq!(
        definitions.as_object().unwrap().len(),
        first.json["data"].as_array().unwrap().len()
    );
    assert_eq!(definitions["github"].get("logo_url"), None);
}

#[tokio::test]
async fn texts_come_in_the_language_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("one.yaml"),
        "display_name: One\nauth_mode: NONE\ndocs: https://d.example\n",
    )
    .unwrap();
    std::fs::write(
        folder.path().join("providers.de.json"),
        r#"{"one": {"display_name": "Eins"}}"#,
    )
    .unwrap();
    let (catalogue, findings) = Catalogue::load(&[Source::Path(folder.path().to_owned())]);
    assert_eq!(findings, []);
    let api = TestApi::with(TestDb::sqlite().await, catalogue, 0).await;
    for (header, name) in [
        ("de-CH, en;q=0.5", "Eins"),
        ("en", "One"),
        ("pt", "One"),
        ("fr", "One"),
    ] {
        for path in ["/providers", "/providers/one"] {
            let mut found = api.get(path).header("accept-language", header).expect(200).await["data"].take();
            if let Value::Array(all) = &mut found {
                found = all.remove(0);
            }
            assert_eq!(found["display_name"], name, "{path} {header}");
        }
    }
}

#[tokio::test]
async fn the_catalogue_of_definitions_is_limited_by_address() {
    let catalogue = Catalogue::built_in();
    let api = TestApi::with(TestDb::sqlite().await, catalogue, 2).await;
    for _ in 0..2 {
        api.get("/providers.json").anonymous().expect(200).await;
    }
    api.get("/providers.json")
        .anonymous()
        .fails(429, "too_many_request")
        .await;
}

#[tokio::test]
async fn every_provider_has_a_mark_of_its_own() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let logo = api
        .get("/images/template-logos/keyed.svg")
        .anonymous()
        .send()
        .await;
    assert_eq!(
        (logo.status, logo.header("content-type")),
        (200, Some("image/svg+xml"))
    );
    assert!(
        logo.text.starts_with("<svg ") && logo.text.contains(">KC</text>"),
        "{}",
        logo.text
    );
    for file in ["unknown.svg", "keyed.png", "keyed", ".svg"] {
        let missing = api.get(format!("/images/template-logos/{file}")).anonymous();
        missing.fails(404, "not_found").await;
    }
}
