use std::time::Duration;

use patchbay_sample::{Failure, Grant};
use serde_json::{Value, json};

use super::wire::Wire;
use crate::common::{missing, unrecognized};

const DAY: Duration = Duration::from_hours(24);

patchbay_store::both_backends! {
    async fn credentials_are_fresh_and_without_refresh_tokens(db: TestDb) {
        let wire = Wire::on(db).await;
        let issued = wire.connect("c").await;
        let read = wire.get("c", "sample").await;
        let raw = json!({"type": "OAUTH2", "access_token": issued["access_token"], "expires_at": "2026-01-02T04:04:05.678Z"});
        assert_eq!(read, json!({
            "id": read["id"], "connection_id": "c", "provider_config_key": "sample", "provider": "sample",
            "errors": [], "end_user": null, "tags": {}, "metadata": {}, "connection_config": {},
            "webhook_url_override": null,
            "created_at": "2026-01-02T03:04:05.678+00:00", "updated_at": "2026-01-02T03:04:05.678+00:00",
            "last_fetched_at": "2026-01-02T03:04:05.678+00:00",
            "credentials": {
                "type": "OAUTH2", "access_token": issued["access_token"],
                "expires_at": "2026-01-02T04:04:05.678Z", "raw": raw,
            },
        }));
        let singular = wire.api.get("/connection/c?provider_config_key=sample").expect(200).await;
        assert_eq!(singular, read);
        let all = wire.api.get("/connections/c?provider_config_key=sample&refresh_token=yes").expect(200).await;
        assert_eq!(all["credentials"]["refresh_token"], issued["refresh_token"]);
        assert_eq!(all["credentials"]["raw"]["refresh_token"], issued["refresh_token"]);

        wire.advance(Duration::from_mins(50));
        let fresh = wire.get("c", "sample").await;
        assert_ne!(fresh["credentials"]["access_token"], issued["access_token"]);
        assert_eq!(fresh["credentials"]["expires_at"], "2026-01-02T04:54:05.678Z");
        assert!(!fresh.to_string().contains("refresh_token\""), "{fresh}");
        assert_eq!(fresh["updated_at"], "2026-01-02T03:54:05.678+00:00");
        let forced = wire.api.get("/connections/c?provider_config_key=sample&force_refresh=true").expect(200).await;
        assert_ne!(forced["credentials"]["access_token"], fresh["credentials"]["access_token"]);
        // The app's own JWT is none of this connection's business.
        let target = "/connections/c?provider_config_key=sample&refresh_github_app_jwt_token=1";
        let same = wire.api.get(target).expect(200).await;
        assert_eq!(same["credentials"], forced["credentials"]);
        assert_eq!(wire.sample.counts().token_refresh, 2);
    }

    async fn what_may_not_be_read_is_not_refreshed(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.connect("c").await;
        wire.advance(DAY);
        let key = wire.api.key_with(&["environment:connections:read"]).await;
        let read = wire.api.get("/connections/c?provider_config_key=sample").bearer(&key).expect(200).await;
        assert_eq!(read["credentials"], json!({}));
        assert_eq!(read["last_fetched_at"], "2026-01-02T03:04:05.678+00:00", "untouched");
        assert_eq!(wire.sample.counts().token_refresh, 0);
        for flag in ["force_refresh", "refresh_token", "refresh_github_app_jwt_token"] {
            let target = format!("/connections/nobody?provider_config_key=nothing&{flag}=true");
            wire.api.get(target).bearer(&key).fails(403, "forbidden").await;
            let target = format!("/connections/c?provider_config_key=sample&{flag}=false");
            wire.api.get(target).bearer(&key).expect(200).await;
        }
        let known = wire.api.get("/connections/x?provider_config_key=sample").bearer(&key);
        known.fails(404, "not_found").await;
        let unknown = wire.api.get("/connections/x?provider_config_key=nope").bearer(&key);
        unknown.fails(400, "unknown_provider_config").await;
    }

    async fn failures_say_who_is_to_blame(db: TestDb) {
        let wire = Wire::on(db).await;
        wire.connect("c").await;
        wire.advance(DAY);
        let target = "/connections/c?provider_config_key=sample";
        let refused = |status: u16, cause: &'static str| {
            let wire = &wire;
            async move {
                let error = wire.api.get(target).fails(status, "invalid_credentials").await;
                let connection = &error["payload"]["connection"];
                assert_eq!(error["payload"]["cause"], cause);
                assert_eq!(connection["credentials"], json!({}));
                assert_eq!(connection["connection_id"], "c");
                assert_eq!(connection["errors"][0]["type"], "auth", "{connection}");
                assert!(connection["errors"][0]["log_id"].is_string());
            }
        };
        wire.sample.fail_next(Grant::RefreshToken, [Failure::Status { status: 500, retry_after: None }]);
        refused(502, "provider_down").await;
        // Cooling down.
        refused(424, "provider_down").await;
        assert_eq!(wire.sample.counts().token_refresh, 1);
        wire.sample.behave_for(Grant::RefreshToken, |it| it.failure = Some(Failure::InvalidGrant));
        for _ in 0..4 {
            wire.advance(DAY);
            refused(400, "provider_refused").await;
        }
        wire.advance(DAY);
        refused(424, "provider_refused").await;
        assert_eq!(wire.sample.counts().token_refresh, 5);
        let page = wire.api.get("/connections").expect(200).await;
        assert_eq!(page["connections"][0]["errors"][0]["type"], "auth");
        // Importing again makes it whole.
        wire.connect("c").await;
        assert_eq!(wire.get("c", "sample").await["errors"], json!([]));
    }
}

#[tokio::test]
async fn names_and_flags_are_checked() {
    let wire = Wire::sqlite().await;
    wire.open("c", json!({})).await;
    let unknown = wire.api.get("/connections/c?provider_config_key=nope");
    unknown.fails(400, "unknown_provider_config").await;
    wire.api
        .get("/connections/d?provider_config_key=open")
        .fails(404, "not_found")
        .await;
    let foreign = wire
        .api
        .get("/connections/c?provider_config_key=open")
        .bearer(&wire.api.prod_key);
    foreign.fails(400, "unknown_provider_config").await;
    wire.api
        .get("/connections/c")
        .invalid(
            "invalid_query_params",
            json!([missing("provider_config_key", "string")]),
        )
        .await;
    let options =
        "\"true\"|\"1\"|\"yes\"|\"on\"|\"y\"|\"enabled\"|\"false\"|\"0\"|\"no\"|\"off\"|\"n\"|\"disabled\"";
    let message = format!("Invalid option: expected one of {options}");
    wire.api
        .get("/connections/c?provider_config_key=open&force_refresh=maybe&x=1")
        .invalid(
            "invalid_query_params",
            json!([["invalid_value", message, "force_refresh"], unrecognized("x")]),
        )
        .await;
    // The query is looked at before the path.
    wire.api
        .get("/connections/%3F")
        .fails(400, "invalid_query_params")
        .await;
    wire.api
        .get("/connections/%3F?provider_config_key=open")
        .fails(400, "invalid_uri_params")
        .await;
    let none = wire.get("c", "open").await;
    assert_eq!(none["credentials"], json!({}));
    // Odd ids arrive as the published client writes them.
    wire.open("a b{\"x\":[1]}|@=+~,;:$'/_", json!({})).await;
    let read = wire.get("a%20b%7B%22x%22:[1]%7D|@=+~,;:$'%2F_", "open").await;
    assert_eq!(read["connection_id"], "a b{\"x\":[1]}|@=+~,;:$'/_");
    let head = wire
        .api
        .send("HEAD", "/connections/c?provider_config_key=open")
        .send()
        .await;
    assert_eq!((head.status, head.json), (200, Value::Null));
}
