use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Wire;
use crate::common::{missing, unrecognized};

fn body(ids: &Value, metadata: &Value) -> Value {
    json!({"connection_id": ids, "provider_config_key": "open", "metadata": metadata})
}

async fn metadata(wire: &Wire, id: &str) -> Value {
    wire.get(id, "open").await["metadata"].clone()
}

patchbay_store::both_backends! {
    async fn one_or_many_are_replaced_or_merged(db: TestDb) {
        let wire = Wire::on(db).await;
        for id in ["a", "b"] {
            wire.open(id, json!({})).await;
        }
        wire.advance(Duration::from_secs(1));
        let one = body(&json!("a"), &json!({"x": {"deep": 1}, "y": 1}));
        assert_eq!(wire.api.post("/connections/metadata", one.clone()).expect(201).await, one);
        let many = body(&json!(["a", "b"]), &json!({"x": {"other": 2}, "z": null}));
        assert_eq!(wire.api.patch("/connections/metadata", many.clone()).expect(200).await, many);
        assert_eq!(metadata(&wire, "a").await, json!({"x": {"other": 2}, "y": 1, "z": null}));
        assert_eq!(metadata(&wire, "b").await, json!({"x": {"other": 2}, "z": null}));
        let all = body(&json!(["a", "b", "a"]), &json!({}));
        assert_eq!(wire.api.post("/connection/metadata", all.clone()).expect(201).await, all);
        assert_eq!((metadata(&wire, "a").await, metadata(&wire, "b").await), (json!({}), json!({})));
        assert_eq!(wire.get("a", "open").await["updated_at"], "2026-01-02T03:04:05.678+00:00", "no change of its own");

        // All or none, and the first that is missing is named.
        let broken = body(&json!(["a", "x", "b", "y"]), &json!({"n": 1}));
        for answer in [
            wire.api.post("/connections/metadata", broken.clone()).fails(404, "unknown_connection").await,
            wire.api.patch("/connection/metadata", broken).fails(404, "unknown_connection").await,
        ] {
            let words = answer["message"].as_str().unwrap();
            assert!(words.contains(" x ") && !words.contains(" y "), "{words}");
        }
        assert_eq!((metadata(&wire, "a").await, metadata(&wire, "b").await), (json!({}), json!({})));
        let none = body(&json!([]), &json!({"n": 1}));
        wire.api.post("/connections/metadata", none.clone()).expect(201).await;
        wire.api.patch("/connections/metadata", none).expect(200).await;
        let foreign = json!({"connection_id": "a", "provider_config_key": "nope", "metadata": {}});
        wire.api.post("/connections/metadata", foreign).fails(404, "unknown_connection").await;
    }

    async fn the_oldest_form_takes_the_metadata_as_its_body(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.open("a", json!({})).await;
        let first = json!({"x": 1, "provider_config_key": "not a key here"});
        let target = "/connection/a/metadata?provider_config_key=open&more=1";
        assert_eq!(wire.api.post(target, first.clone()).expect(201).await, first);
        assert_eq!(metadata(&wire, "a").await, first);
        let merge = wire.api.patch("/connection/a/metadata", json!({"y": 2})).header("provider-config-key", "open");
        assert_eq!(merge.expect(200).await, json!({"y": 2}));
        assert_eq!(metadata(&wire, "a").await["y"], 2);
        assert_eq!(metadata(&wire, "a").await["x"], 1);
        let unknown = wire.api.post("/connection/b/metadata?provider_config_key=open", json!({}));
        let error = unknown.fails(404, "unknown_connection").await;
        assert_eq!(error["payload"], json!({"connectionId": "b", "providerConfigKey": "open"}));
        wire.api.patch("/connection/a/metadata", json!({})).fails(404, "unknown_connection").await;
    }
}

#[tokio::test]
async fn fields_are_checked() {
    let wire = Wire::sqlite().await;
    let union = json!([["invalid_union", "Invalid input", "connection_id"]]);
    for ids in [
        json!(1),
        json!(""),
        json!("a?"),
        json!(["a", 1]),
        json!(["a", ""]),
        json!("x".repeat(256)),
        Value::Null,
    ] {
        wire.api
            .post("/connections/metadata", body(&ids, &json!({})))
            .invalid("invalid_body", union.clone())
            .await;
    }
    let issues = json!([
        missing("provider_config_key", "string"),
        ["invalid_union", "Invalid input", "connection_id"],
        missing("metadata", "object"),
        unrecognized("x")
    ]);
    wire.api
        .patch("/connections/metadata", json!({"x": 1}))
        .invalid("invalid_body", issues)
        .await;
    let query = wire
        .api
        .post("/connections/metadata?x=1", body(&json!("a"), &json!({})));
    query
        .invalid("invalid_query_params", json!([unrecognized("x")]))
        .await;
    // `metadata` is a name like any other where only a connection can be meant.
    wire.open("metadata", json!({})).await;
    assert_eq!(wire.get("metadata", "open").await["connection_id"], "metadata");
    wire.api
        .delete("/connections/metadata?provider_config_key=open")
        .expect(200)
        .await;
}
