use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Wire;
use crate::common::{missing, unrecognized};

const TARGET: &str = "/connections/c?provider_config_key=open";

async fn patched(wire: &Wire, body: Value) -> Value {
    assert_eq!(
        wire.api.patch(TARGET, body).expect(200).await,
        json!({"success": true})
    );
    wire.get("c", "open").await
}

patchbay_store::both_backends! {
    async fn each_member_changes_its_own(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.open("c", json!({"tags": {"a": "1", "b": "2"}, "metadata": {"x": {"y": 1}, "z": 1}})).await;
        wire.advance(Duration::from_secs(1));
        let same = patched(&wire, json!({})).await;
        assert_eq!(same["tags"], json!({"a": "1", "b": "2"}));
        assert_eq!(patched(&wire, json!({"tags": {"C": "3"}})).await["tags"], json!({"c": "3"}), "replaced");
        assert_eq!(patched(&wire, json!({"tags": {}})).await["tags"], json!({}));
        let merged = patched(&wire, json!({"metadata": {"x": 2}})).await;
        assert_eq!((&merged["metadata"], &merged["tags"]), (&json!({"x": 2, "z": 1}), &json!({})));

        let user = json!({"end_user": {"id": "u1", "email": "a@b.co", "tags": {"Plan": "pro"}}});
        let linked = patched(&wire, user).await;
        assert_eq!(linked["tags"], json!({"end_user_id": "u1", "end_user_email": "a@b.co", "plan": "pro"}));
        assert_eq!(linked["end_user"], json!({
            "id": "u1", "display_name": null, "email": "a@b.co", "tags": {"Plan": "pro"}, "organization": null,
        }));
        let both = json!({"end_user": {"id": "u2", "display_name": "Bo"}, "tags": {"end_user_id": "mine", "x": "1"}});
        let both = patched(&wire, both).await;
        assert_eq!(both["tags"], json!({"end_user_id": "mine", "end_user_display_name": "Bo", "x": "1"}));
        assert_eq!(both["end_user"]["id"], "u2");
        assert_eq!(both["end_user"]["tags"], Value::Null);
        assert_eq!(patched(&wire, json!({"tags": {"y": "1"}})).await["end_user"]["id"], "u2", "stays linked");

        let url = "https://93.184.216.34/hook";
        assert_eq!(patched(&wire, json!({"webhook_url_override": url})).await["webhook_url_override"], url);
        assert_eq!(patched(&wire, json!({"metadata": {}})).await["webhook_url_override"], url);
        assert_eq!(patched(&wire, json!({"webhook_url_override": ""})).await["webhook_url_override"], Value::Null);
        assert_eq!(patched(&wire, json!({})).await["updated_at"], "2026-01-02T03:04:05.678+00:00");
    }

    async fn too_many_tags_change_nothing(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.open("c", json!({})).await;
        let tags: serde_json::Map<String, Value> = (0..10).map(|n| (format!("k{n}"), json!("v"))).collect();
        let body = json!({"tags": tags, "end_user": {"id": "u"}, "metadata": {"x": 1}});
        let error = wire.api.patch(TARGET, body).fails(400, "invalid_body").await;
        assert_eq!(error["errors"][0]["code"], "custom");
        assert_eq!(error["errors"][0]["path"], json!(["tags"]));
        let read = wire.get("c", "open").await;
        assert_eq!((&read["tags"], &read["metadata"], &read["end_user"]), (&json!({}), &json!({}), &Value::Null));
    }

    async fn a_deleted_connection_is_gone_and_its_id_is_free(db: TestDb) {
        let wire = Wire::on(db).await;
        let first = wire.open("c", json!({"tags": {"a": "1"}})).await;
        assert_eq!(wire.api.delete(TARGET).expect(200).await, json!({"success": true}));
        wire.api.get(TARGET).fails(404, "not_found").await;
        let gone = wire.api.delete(TARGET).fails(400, "unknown_connection").await;
        assert_eq!(gone, json!({"code": "unknown_connection"}), "no message");
        wire.api.delete("/connection/c?provider_config_key=nope").fails(400, "unknown_connection").await;
        assert_eq!(wire.api.get("/connections?tags[a]=1").expect(200).await, json!({"connections": []}));
        let second = wire.open("c", json!({})).await;
        assert_ne!(second["id"], first["id"]);
        wire.api.delete("/connection/c?provider_config_key=open").expect(200).await;
    }
}

#[tokio::test]
async fn layers_are_checked_in_order() {
    let wire = Wire::sqlite().await;
    let needs_key = json!([missing("provider_config_key", "string")]);
    let wrong_body = json!({"tags": 1, "x": 1});
    wire.api
        .patch("/connections/a%3F", wrong_body.clone())
        .invalid("invalid_query_params", needs_key.clone())
        .await;
    let issues = json!([
        [
            "invalid_type",
            "Invalid input: expected record, received number",
            "tags"
        ],
        unrecognized("x")
    ]);
    wire.api
        .patch("/connections/a%3F?provider_config_key=nope", wrong_body)
        .invalid("invalid_body", issues)
        .await;
    wire.api
        .patch("/connections/a%3F?provider_config_key=nope", json!({}))
        .fails(400, "invalid_uri_params")
        .await;
    wire.api
        .patch("/connections/c?provider_config_key=nope", json!({}))
        .fails(400, "unknown_provider_config")
        .await;
    wire.api
        .patch("/connections/c?provider_config_key=open", json!({}))
        .fails(404, "not_found")
        .await;
    let nothing = wire.api.send("PATCH", "/connections/c?provider_config_key=open");
    let root = json!([[
        "invalid_type",
        "Invalid input: expected object, received undefined"
    ]]);
    nothing.invalid("invalid_body", root).await;
    // Deleting looks at the path first.
    wire.api
        .delete("/connections/a%3F")
        .fails(400, "invalid_uri_params")
        .await;
    wire.api
        .delete("/connections/a")
        .invalid("invalid_query_params", needs_key)
        .await;
}
