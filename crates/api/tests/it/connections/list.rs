use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Wire;
use crate::common::unrecognized;

async fn ids(wire: &Wire, query: &str) -> Vec<String> {
    let page = wire.api.get(format!("/connections{query}")).expect(200).await;
    let rows = page["connections"].as_array().unwrap();
    rows.iter()
        .map(|row| row["connection_id"].as_str().unwrap().to_owned())
        .collect()
}

patchbay_store::both_backends! {
    async fn the_newest_come_first_page_by_page(db: TestDb) {
        let wire = Wire::on(db).await;
        assert_eq!(ids(&wire, "").await, [] as [&str; 0]);
        for id in ["a", "b", "c"] {
            wire.open(id, json!({})).await;
        }
        wire.advance(Duration::from_secs(1));
        wire.open("d", json!({})).await;
        // Replacing keeps the place.
        wire.open("a", json!({})).await;
        assert_eq!(ids(&wire, "").await, ["d", "c", "b", "a"]);
        assert_eq!(ids(&wire, "?limit=3").await, ["d", "c", "b"]);
        assert_eq!(ids(&wire, "?limit=3&page=1").await, ["a"]);
        assert_eq!(ids(&wire, "?limit=3&page=2").await, [] as [&str; 0]);
        assert_eq!(ids(&wire, "?limit=1&page=0").await, ["d"]);
        assert_eq!(ids(&wire, "?limit=2000").await.len(), 4);
        let singular = wire.api.get("/connection").expect(200).await;
        assert_eq!(singular["connections"].as_array().unwrap().len(), 4);
        // Another environment's are not seen.
        let prod = wire.api.get("/connections").bearer(&wire.api.prod_key).expect(200).await;
        assert_eq!(prod, json!({"connections": []}));
    }

    async fn filters_apply_together(db: TestDb) {
        let wire = Wire::on(db).await;
        let user = |id: &str, name: &str, email: &str| {
            json!({"end_user": {"id": id, "display_name": name, "email": email}})
        };
        wire.open("row", user("u1", "Ada Eklund", "ada@kestrel.example")).await;
        wire.open("tag", json!({"tags": {
            "end_user_id": "u1", "organization_id": "o1", "end_user_email": "bo@kestrel.example", "Plan": "Pro",
        }})).await;
        wire.open("other_100", json!({"tags": {"plan": "Pro", "end_user_display_name": "Chloe"}})).await;
        wire.connect("tag").await;
        for (query, expected) in [
            ("?connectionId=row", &["row"] as &[&str]),
            ("?connectionId=ro", &[]),
            ("?connectionId=tag", &["tag", "tag"]),
            ("?search=EKLUND", &["row"]),
            ("?search=kestrel", &["tag", "row"]),
            ("?search=chloe", &["other_100"]),
            ("?search=%25", &[]),
            ("?search=R_1", &["other_100"]),
            ("?search=r_w", &[]),
            ("?integrationId=sample", &["tag"]),
            ("?integrationId=open%2C+sample%20,nope", &["tag", "other_100", "tag", "row"]),
            ("?integrationId=nope", &[]),
            ("?endUserId=u1", &["tag", "row"]),
            ("?endUserId=u2", &[]),
            ("?endUserOrganizationId=o1", &["tag"]),
            ("?tags%5Bplan%5D=Pro", &["other_100", "tag"]),
            ("?tags[PLAN]=Pro", &["other_100", "tag"]),
            ("?tags[plan]=pro", &[]),
            ("?tags[plan]=Pro&tags[end_user_id]=u1", &["tag"]),
            ("?tags[plan]=Pro&search=bo@&endUserId=u1&integrationId=open&connectionId=tag&limit=5", &["tag"]),
        ] {
            assert_eq!(ids(&wire, query).await, expected, "{query}");
        }
        // `waitForConnection` takes the first of the integration it waits for.
        let found = wire.api.get("/connections?endUserId=u1").expect(200).await;
        assert_eq!(found["connections"][0]["provider_config_key"], "open");
    }
}

#[tokio::test]
async fn a_row_has_the_documented_members() {
    let wire = Wire::sqlite().await;
    let more = json!({
        "end_user": {"id": "u1", "email": "a@b.co", "tags": {"Plan": "pro"}}, "tags": {"x": "1"}, "metadata": {"k": [1]},
    });
    wire.open("c", more).await;
    let page = wire.api.get("/connections").expect(200).await;
    let id = page["connections"][0]["id"].clone();
    assert!(id.is_i64());
    let tags = json!({"end_user_id": "u1", "end_user_email": "a@b.co", "plan": "pro", "x": "1"});
    assert_eq!(
        page,
        json!({"connections": [{
            "id": id, "connection_id": "c", "provider_config_key": "open", "provider": "open", "errors": [],
            "end_user": {"id": "u1", "display_name": null, "email": "a@b.co", "tags": {"Plan": "pro"}, "organization": null},
            "tags": tags, "metadata": {"k": [1]}, "created": "2026-01-02T03:04:05.678+00:00",
        }]})
    );
}

#[tokio::test]
async fn parameters_are_checked() {
    let wire = Wire::sqlite().await;
    let too_long = "x".repeat(256);
    let long = json!("Too big: expected string to have <=255 characters");
    let short = json!("Too small: expected string to have >=1 characters");
    let cases: Vec<(String, Value)> = vec![
        (
            "limit=0".into(),
            json!([["too_small", "Too small: expected number to be >=1", "limit"]]),
        ),
        (
            "limit=2001".into(),
            json!([["too_big", "Too big: expected number to be <=2000", "limit"]]),
        ),
        (
            "limit=abc".into(),
            json!([[
                "invalid_type",
                "Invalid input: expected number, received NaN",
                "limit"
            ]]),
        ),
        (
            "page=-1".into(),
            json!([["too_small", "Too small: expected number to be >=0", "page"]]),
        ),
        (
            format!("connectionId={too_long}"),
            json!([["too_big", long, "connectionId"]]),
        ),
        (
            "connectionId=".into(),
            json!([["too_small", short, "connectionId"]]),
        ),
        (format!("search={too_long}"), json!([["too_big", long, "search"]])),
        (
            "integrationId=".into(),
            json!([["too_small", short, "integrationId"]]),
        ),
        (
            format!("endUserId={too_long}"),
            json!([["too_big", long, "endUserId"]]),
        ),
        (
            format!("endUserOrganizationId={too_long}"),
            json!([["too_big", long, "endUserOrganizationId"]]),
        ),
        (
            "tags[1a]=x".into(),
            json!([["invalid_key", "Invalid key in record", "tags", "1a"]]),
        ),
        ("tags[a]=".into(), json!([["too_small", short, "tags", "a"]])),
        (
            "tags=x".into(),
            json!([[
                "invalid_type",
                "Invalid input: expected record, received string",
                "tags"
            ]]),
        ),
        ("foo=1".into(), json!([unrecognized("foo")])),
    ];
    for (query, issues) in cases {
        wire.api
            .get(format!("/connections?{query}"))
            .invalid("invalid_query_params", issues)
            .await;
    }
    let longest = "x".repeat(255);
    wire.api
        .get(format!(
            "/connections?search={longest}&connectionId={longest}&endUserId={longest}"
        ))
        .expect(200)
        .await;
}
