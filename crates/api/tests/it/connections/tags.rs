//! The rules of tags (api-core §9.7), by way of the import.

use serde_json::{Map, Value, json};

use super::wire::Wire;

fn body(tags: impl Into<Value>) -> Value {
    json!({"provider_config_key": "open", "connection_id": "c", "credentials": {"type": "NONE"}, "tags": tags.into()})
}

fn many(count: usize) -> Value {
    Value::Object(
        (0..count)
            .map(|n| (format!("k{n}"), json!("v")))
            .collect::<Map<_, _>>(),
    )
}

#[tokio::test]
async fn every_limit_from_both_sides() {
    let wire = Wire::sqlite().await;
    let key64 = format!("a{}", "b".repeat(63));
    for (given, stored) in [
        (json!({}), json!({})),
        (many(10), many(10)),
        (json!({key64.as_str(): "v"}), json!({key64.as_str(): "v"})),
        (json!({"A-b_c.d/9": "Value"}), json!({"a-b_c.d/9": "Value"})),
        (
            json!({"k": "v".repeat(255), "l": "ä"}),
            json!({"k": "v".repeat(255), "l": "ä"}),
        ),
        (
            json!({"end_user_email": "a@b.co"}),
            json!({"end_user_email": "a@b.co"}),
        ),
    ] {
        let made = wire.api.post("/connections", body(given)).expect(201).await;
        assert_eq!(made["tags"], stored);
    }
    let long = format!("a{}", "b".repeat(64));
    let invalid_key = |key: &str| json!(["invalid_key", "Invalid key in record", "tags", key]);
    for (given, issue) in [
        (json!({long.as_str(): "v"}), invalid_key(&long)),
        (json!({"1a": "v"}), invalid_key("1a")),
        (json!({"": "v"}), invalid_key("")),
        (json!({"a b": "v"}), invalid_key("a b")),
        (json!({"ä": "v"}), invalid_key("ä")),
        (
            json!({"k": ""}),
            json!([
                "too_small",
                "Too small: expected string to have >=1 characters",
                "tags",
                "k"
            ]),
        ),
        (
            json!({"k": "v".repeat(256)}),
            json!([
                "too_big",
                "Too big: expected string to have <=255 characters",
                "tags",
                "k"
            ]),
        ),
        (
            json!({"k": 1}),
            json!([
                "invalid_type",
                "Invalid input: expected string, received number",
                "tags",
                "k"
            ]),
        ),
        (
            json!({"k": null}),
            json!([
                "invalid_type",
                "Invalid input: expected string, received null",
                "tags",
                "k"
            ]),
        ),
        (
            json!([]),
            json!([
                "invalid_type",
                "Invalid input: expected record, received array",
                "tags"
            ]),
        ),
        (
            json!("k"),
            json!([
                "invalid_type",
                "Invalid input: expected record, received string",
                "tags"
            ]),
        ),
    ] {
        wire.api
            .post("/connections", body(given))
            .invalid("invalid_body", json!([issue]))
            .await;
    }
    for given in [
        many(11),
        json!({"Key": "1", "key": "2"}),
        json!({"end_user_email": "nobody"}),
        json!({"END_USER_EMAIL": "a@b"}),
    ] {
        let error = wire
            .api
            .post("/connections", body(given))
            .fails(400, "invalid_body")
            .await;
        let issues = error["errors"].as_array().unwrap();
        assert_eq!(
            (issues.len(), &issues[0]["code"], &issues[0]["path"]),
            (1, &json!("custom"), &json!(["tags"]))
        );
    }
    // A bad key hides what spans entries.
    let mut both = many(11);
    both["1a"] = json!("v");
    wire.api
        .post("/connections", body(both))
        .invalid("invalid_body", json!([invalid_key("1a")]))
        .await;
}

#[tokio::test]
async fn the_end_user_becomes_tags() {
    let wire = Wire::sqlite().await;
    let ten: Map<String, Value> = (0..10).map(|n| (format!("t{n}"), json!("v"))).collect();
    let id = json!({"end_user_id": "u"});
    for (end_user, tags, stored) in [
        (
            json!({"id": "u", "email": "a@b.co", "display_name": "Ada"}),
            json!({}),
            json!({"end_user_id": "u", "end_user_email": "a@b.co", "end_user_display_name": "Ada"}),
        ),
        (json!({"id": "u", "display_name": ""}), json!({}), id.clone()),
        // Its own tags come over the derived ones, explicit ones over both.
        (
            json!({"id": "u", "tags": {"End_User_Id": "mine", "b": "2"}}),
            json!({"B": "3"}),
            json!({"end_user_id": "mine", "b": "3"}),
        ),
        // Too many together: none of its own.
        (json!({"id": "u", "tags": ten}), json!({}), id.clone()),
        // One that cannot be a tag spoils them all.
        (
            json!({"id": "u", "tags": {"a": "", "b": "2"}}),
            json!({}),
            id.clone(),
        ),
    ] {
        let mut given = body(tags);
        given["end_user"] = end_user.clone();
        let made = wire.api.post("/connections", given).expect(201).await;
        assert_eq!(made["tags"], stored, "{end_user}");
    }
    // Explicit and derived together are too many, wherever they meet.
    let mut import = body(many(10));
    import["end_user"] = json!({"id": "u"});
    let session = json!({"end_user": {"id": "u"}, "tags": many(10)});
    let reconnect = json!({
        "connection_id": "c", "integration_id": "open", "organization": {"id": "o"}, "tags": many(10),
    });
    for (path, given) in [
        ("/connections", import),
        ("/connect/sessions", session),
        ("/connect/sessions/reconnect", reconnect),
    ] {
        let error = wire.api.post(path, given).fails(400, "invalid_body").await;
        assert_eq!(
            (&error["errors"][0]["code"], &error["errors"][0]["path"]),
            (&json!("custom"), &json!(["tags"])),
            "{path}"
        );
    }
    for (tags, code, path) in [
        (
            json!({"1a": "v"}),
            "invalid_key",
            json!(["end_user", "tags", "1a"]),
        ),
        (
            json!({"k": "v".repeat(256)}),
            "too_big",
            json!(["end_user", "tags", "k"]),
        ),
        (many(11), "custom", json!(["end_user", "tags"])),
        (json!({"K": "1", "k": "2"}), "custom", json!(["end_user", "tags"])),
        (
            json!({"end_user_email": "x"}),
            "custom",
            json!(["end_user", "tags"]),
        ),
    ] {
        let mut given = body(json!({}));
        given["end_user"] = json!({"id": "u", "tags": tags});
        let error = wire
            .api
            .post("/connections", given)
            .fails(400, "invalid_body")
            .await;
        assert_eq!(
            (&error["errors"][0]["code"], &error["errors"][0]["path"]),
            (&json!(code), &path),
            "{error}"
        );
    }
}
