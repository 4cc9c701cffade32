use proptest::prelude::*;
use serde_json::json;

use super::*;

fn issues(schema: impl Into<Schema>, input: Option<Value>) -> Value {
    match schema.into().validate(input) {
        Ok(value) => json!({ "ok": value }),
        Err(issues) => serde_json::to_value(issues).unwrap(),
    }
}

fn issue(code: &str, message: &str, path: &[&str]) -> Value {
    json!({"code": code, "message": message, "path": path})
}

/// The query of `GET /connections`, the body of an import in small: what api-core §14.4 lists.
fn list_query() -> Object {
    object()
        .field("connectionId", string().min(1).max(255).optional())
        .field("tags", tags().optional())
        .field("limit", coerced_number().min(1.0).max(2000.0).optional())
        .field("page", coerced_number().min(0.0).default(0))
}

fn import_body() -> Object {
    object()
        .field(
            "provider_config_key",
            string().min(1).max(255).pattern(patterns::INTEGRATION_KEY),
        )
        .field(
            "credentials",
            discriminated("type")
                .branch(
                    "API_KEY",
                    object()
                        .field("type", literal("API_KEY"))
                        .field("apiKey", string().min(1).max(1024)),
                )
                .branch("NONE", object().field("type", literal("NONE"))),
        )
        .field("tags", tags().optional())
}

#[test]
fn a_missing_field_is_reported_byte_for_byte() {
    let found = import_body();
    let found = Schema::from(found).validate(Some(json!({}))).unwrap_err();
    assert_eq!(
        serde_json::to_string(&found).unwrap(),
        concat!(
            r#"[{"code":"invalid_type","message":"Invalid input: expected string, received undefined","path":["provider_config_key"]},"#,
            r#"{"code":"invalid_type","message":"Invalid input: expected object, received undefined","path":["credentials"]}]"#
        )
    );
}

#[test]
fn unknown_keys_come_after_the_fields_of_their_object() {
    assert_eq!(
        issues(object(), Some(json!({"foo": 1}))),
        json!([issue("unrecognized_keys", r#"Unrecognized key: "foo""#, &[])])
    );
    assert_eq!(
        issues(
            object()
                .field("a", string())
                .field("o", object().field("x", boolean())),
            Some(json!({"z": 1, "a": 1, "y": 2, "o": {"k": 1, "x": "t"}}))
        ),
        json!([
            issue(
                "invalid_type",
                "Invalid input: expected string, received number",
                &["a"]
            ),
            issue(
                "invalid_type",
                "Invalid input: expected boolean, received string",
                &["o", "x"]
            ),
            issue("unrecognized_keys", r#"Unrecognized key: "k""#, &["o"]),
            issue("unrecognized_keys", r#"Unrecognized keys: "z", "y""#, &[]),
        ])
    );
}

#[test]
fn every_broken_rule_of_a_text_is_reported() {
    let key = || string().min(1).max(255).pattern(patterns::INTEGRATION_KEY);
    let pattern = "Invalid string: must match pattern /^[a-zA-Z0-9~:.@ _-]+$/";
    assert_eq!(
        issues(key(), Some(json!("a/b"))),
        json!([issue("invalid_format", pattern, &[])])
    );
    assert_eq!(
        issues(key(), Some(json!(""))),
        json!([
            issue(
                "too_small",
                "Too small: expected string to have >=1 characters",
                &[]
            ),
            issue("invalid_format", pattern, &[]),
        ])
    );
    assert_eq!(
        issues(key(), Some(json!("é".repeat(256)))),
        json!([
            issue(
                "too_big",
                "Too big: expected string to have <=255 characters",
                &[]
            ),
            issue("invalid_format", pattern, &[]),
        ])
    );
    assert_eq!(
        issues(key(), Some(json!("é".repeat(0) + "k"))),
        json!({"ok": "k"})
    );
    assert_eq!(
        issues(string().starts_with("ab").ends_with("z"), Some(json!("q"))),
        json!([
            issue("invalid_format", r#"Invalid string: must start with "ab""#, &[]),
            issue("invalid_format", r#"Invalid string: must end with "z""#, &[]),
        ])
    );
    assert_eq!(
        issues(string().email(), Some(json!("a@localhost"))),
        json!([issue("invalid_format", "Invalid email address", &[])])
    );
    assert_eq!(
        issues(string().url(), Some(json!("x"))),
        json!([issue("invalid_format", "Invalid URL", &[])])
    );
    assert_eq!(
        issues(string().url(), Some(json!(" http://a.b \n"))),
        json!({"ok": "http://a.b"})
    );
    assert_eq!(
        issues(string().url_or_empty(), Some(json!(" "))),
        json!({"ok": ""})
    );
    assert_eq!(
        issues(string().uuid(), Some(json!("x"))),
        json!([issue("invalid_format", "Invalid UUID", &[])])
    );
    assert_eq!(
        issues(string().trim().min(1), Some(json!("  "))),
        json!([issue(
            "too_small",
            "Too small: expected string to have >=1 characters",
            &[]
        )])
    );
}

#[test]
fn limits_of_the_connection_list() {
    let limit = |text: &str| issues(list_query(), Some(json!({ "limit": text })));
    assert_eq!(
        limit("0"),
        json!([issue(
            "too_small",
            "Too small: expected number to be >=1",
            &["limit"]
        )])
    );
    assert_eq!(
        limit("2001"),
        json!([issue(
            "too_big",
            "Too big: expected number to be <=2000",
            &["limit"]
        )])
    );
    assert_eq!(
        limit("abc"),
        json!([issue(
            "invalid_type",
            "Invalid input: expected number, received NaN",
            &["limit"]
        )])
    );
    assert_eq!(limit("1"), json!({"ok": {"limit": 1, "page": 0}}));
    assert_eq!(limit("2000"), json!({"ok": {"limit": 2000, "page": 0}}));
}

#[test]
fn tags_of_a_query() {
    let query = |tags: Value| issues(list_query(), Some(json!({ "tags": tags })));
    assert_eq!(
        query(json!({"1a": "x"})),
        json!([issue("invalid_key", "Invalid key in record", &["tags", "1a"])])
    );
    let eleven: Value = (0..11)
        .map(|n| (format!("k{n}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    assert_eq!(
        query(eleven),
        json!([issue("custom", "At most 10 tags are allowed", &["tags"])])
    );
    assert_eq!(
        query(json!(["x"])),
        json!([issue(
            "invalid_type",
            "Invalid input: expected record, received array",
            &["tags"]
        )])
    );
    assert_eq!(
        query(json!({"1a": "", "b": "", "c": 1, "d": "v".repeat(256)})),
        json!([
            issue("invalid_key", "Invalid key in record", &["tags", "1a"]),
            issue(
                "too_small",
                "Too small: expected string to have >=1 characters",
                &["tags", "b"]
            ),
            issue(
                "invalid_type",
                "Invalid input: expected string, received number",
                &["tags", "c"]
            ),
            issue(
                "too_big",
                "Too big: expected string to have <=255 characters",
                &["tags", "d"]
            ),
        ])
    );
    assert_eq!(
        query(json!({"Org": "A"})),
        json!({"ok": {"tags": {"org": "A"}, "page": 0}})
    );
    assert_eq!(
        issues(end_user_tags(), Some(json!({"Plan": "", "9": "x"}))),
        json!([issue("invalid_key", "Invalid key in record", &["9"])])
    );
    assert_eq!(
        issues(end_user_tags(), Some(json!({"Plan": ""}))),
        json!({"ok": {"Plan": ""}})
    );
    assert_eq!(
        issues(
            end_user_tags(),
            Some(json!({"End_User_Email": "x", "a": "", "A": ""}))
        ),
        json!([
            issue("custom", "Tag end_user_email must be an email address", &[]),
            issue(
                "custom",
                "Tag keys that differ only in case are the same tag: a",
                &[]
            ),
        ])
    );
}

#[test]
fn credential_types() {
    let import = |credentials: Value| {
        issues(
            import_body(),
            Some(json!({"provider_config_key": "k", "credentials": credentials})),
        )
    };
    let bad = json!([issue("invalid_union", "Invalid input", &["credentials", "type"])]);
    assert_eq!(import(json!({"type": "QUX"})), bad);
    assert_eq!(import(json!({})), bad);
    assert_eq!(
        import(json!("s")),
        json!([issue(
            "invalid_type",
            "Invalid input: expected object, received string",
            &["credentials"]
        )])
    );
    assert_eq!(
        import(json!({"type": "API_KEY", "y": 1})),
        json!([
            issue(
                "invalid_type",
                "Invalid input: expected string, received undefined",
                &["credentials", "apiKey"]
            ),
            issue("unrecognized_keys", r#"Unrecognized key: "y""#, &["credentials"]),
        ])
    );
}

#[test]
fn query_booleans() {
    let flags = || object().field("force", query_boolean().default(false));
    let options = r#"Invalid option: expected one of "true"|"1"|"yes"|"on"|"y"|"enabled"|"false"|"0"|"no"|"off"|"n"|"disabled""#;
    for text in ["x", "", " true", "2"] {
        assert_eq!(
            issues(flags(), Some(json!({ "force": text }))),
            json!([issue("invalid_value", options, &["force"])])
        );
    }
    for (text, truth) in [
        ("true", true),
        ("ENABLED", true),
        ("y", true),
        ("off", false),
        ("0", false),
    ] {
        assert_eq!(
            issues(flags(), Some(json!({ "force": text }))),
            json!({"ok": {"force": truth}})
        );
    }
    assert_eq!(issues(flags(), Some(json!({}))), json!({"ok": {"force": false}}));
    assert_eq!(
        issues(flags(), Some(json!({"force": ["true", "true"]}))),
        json!([issue(
            "invalid_type",
            "Invalid input: expected string, received array",
            &["force"]
        )])
    );
}

#[test]
fn the_rest_of_the_wording() {
    let table = [
        (
            issues(object(), None),
            issue(
                "invalid_type",
                "Invalid input: expected object, received undefined",
                &[],
            ),
        ),
        (
            issues(string(), Some(Value::Null)),
            issue(
                "invalid_type",
                "Invalid input: expected string, received null",
                &[],
            ),
        ),
        (
            issues(choice(&["a", "b"]), None),
            issue("invalid_value", r#"Invalid option: expected one of "a"|"b""#, &[]),
        ),
        (
            issues(literal("a"), Some(json!("x"))),
            issue("invalid_value", r#"Invalid input: expected "a""#, &[]),
        ),
        (
            issues(number().int().positive(), Some(json!(-1.5))),
            issue(
                "invalid_type",
                "Invalid input: expected int, received number",
                &[],
            ),
        ),
        (
            issues(number().int().positive(), Some(json!(0))),
            issue("too_small", "Too small: expected number to be >0", &[]),
        ),
        (
            issues(number().int(), Some(json!(1_u64 << 60))),
            issue("too_big", "Too big: expected int to be <=9007199254740991", &[]),
        ),
        (
            issues(number().min(1.5), Some(json!(1))),
            issue("too_small", "Too small: expected number to be >=1.5", &[]),
        ),
        (
            issues(coerced_number(), None),
            issue(
                "invalid_type",
                "Invalid input: expected number, received NaN",
                &[],
            ),
        ),
        (
            issues(array(string()).max(1), Some(json!(["a", "b"]))),
            issue("too_big", "Too big: expected array to have <=1 items", &[]),
        ),
        (
            issues(array(string()), Some(json!([1]))),
            issue(
                "invalid_type",
                "Invalid input: expected string, received number",
                &["0"],
            ),
        ),
        (
            issues(any_of([string().into(), array(string()).into()]), Some(json!(1))),
            issue("invalid_union", "Invalid input", &[]),
        ),
        (
            issues(date(), Some(json!("nope"))),
            issue("invalid_type", "Invalid input: expected date, received Date", &[]),
        ),
        (
            issues(record(string().min(2), boolean()), Some(json!({"a": 1}))),
            issue("invalid_key", "Invalid key in record", &["a"]),
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, json!([expected]));
    }
}

#[test]
fn refinements_wait_for_types_but_not_for_lengths() {
    let schema = || {
        object()
            .field("a", string().min(3))
            .refine(|_, found| found.report(Issue::custom(&["b"], "r")))
    };
    assert_eq!(
        issues(schema(), Some(json!({"a": "x"}))),
        json!([
            issue(
                "too_small",
                "Too small: expected string to have >=3 characters",
                &["a"]
            ),
            issue("custom", "r", &["b"]),
        ])
    );
    assert_eq!(
        issues(schema(), Some(json!({"a": 1}))),
        json!([issue(
            "invalid_type",
            "Invalid input: expected string, received number",
            &["a"]
        )])
    );
    assert_eq!(
        issues(schema(), Some(json!({"a": "xxxx", "q": 1}))),
        json!([issue("unrecognized_keys", r#"Unrecognized key: "q""#, &[])])
    );
}

#[test]
fn presence_null_and_transforms() {
    let schema = object()
        .field("n", string().nullable())
        .field("d", date().null_is_absent())
        .field(
            "t",
            string().transform(|text| json!(text.as_str().unwrap_or_default().to_uppercase())),
        )
        .field("i", array(choice(&["a"])).or_alone().optional())
        .loose();
    assert_eq!(
        issues(
            schema,
            Some(json!({"x": 1, "n": null, "d": null, "t": "up", "i": "a"}))
        ),
        json!({"ok": {"n": null, "t": "UP", "i": ["a"], "x": 1}})
    );
    assert_eq!(issues(object().strip(), Some(json!({"x": 1}))), json!({"ok": {}}));
}

#[test]
fn a_schema_that_accepts_what_the_struct_does_not_is_our_fault() {
    #[derive(Debug, serde::Deserialize)]
    struct Wanted {
        #[expect(dead_code, reason = "only deserialized")]
        a: bool,
    }
    let schema: Schema = object().field("a", string()).into();
    assert!(matches!(
        schema.parse::<Wanted>(Some(json!({"a": "x"}))),
        Err(ParseError::Mismatch(_))
    ));
    assert!(matches!(
        schema.parse::<Wanted>(Some(json!({}))),
        Err(ParseError::Invalid(_))
    ));
}

const NAMES: [&str; 4] = ["a", "b", "limit", "type"];

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..300).prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        prop_oneof![
            Just("true"),
            Just("2"),
            Just("abc"),
            Just("a"),
            Just("2026-01-02"),
            Just("a@b.co")
        ]
        .prop_map(Value::from),
        "[a-z0-9 ~é🦀/\\[|]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner), 0..4).prop_map(|entries| {
                Value::Object(
                    entries
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

/// Schemas without coercion: what they accept goes out as it came in.
fn plain_schema() -> impl Strategy<Value = Schema> {
    let leaf = prop_oneof![
        Just(Schema::from(string())),
        (0_usize..3, 0_usize..5).prop_map(|(min, max)| string().min(min).max(max).into()),
        Just(string().pattern(patterns::INTEGRATION_KEY).into()),
        Just(string().starts_with("a").ends_with("c").into()),
        Just(number().into()),
        Just(number().int().min(0.0).max(10.0).into()),
        Just(number().positive().nullable()),
        Just(boolean()),
        Just(choice(&["a", "abc"])),
        Just(literal("a").nullable()),
        Just(anything()),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0_usize..2, 0_usize..4)
                .prop_map(|(item, min, max)| array(item).min(min).max(max).into()),
            (inner.clone(), inner.clone(), 0..3, any::<bool>()).prop_map(|(a, b, unknown, optional)| {
                let b = if optional { b.optional() } else { b };
                let fields = object().field("a", a).field("b", b);
                match unknown {
                    0 => fields.into(),
                    _ => fields.loose().into(),
                }
            }),
            inner
                .clone()
                .prop_map(|value| record(string().max(4), value).max_entries(2).into()),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| any_of([a, b])),
            inner.prop_map(|extra| {
                discriminated("type")
                    .branch("a", object().field("type", literal("a")).field("b", extra))
                    .branch("abc", object().field("type", literal("abc")))
                    .into()
            }),
        ]
    })
}

fn coercing_schema() -> impl Strategy<Value = Schema> {
    let leaf = prop_oneof![
        Just(Schema::from(coerced_number().int().min(1.0).max(200.0))),
        Just(query_boolean()),
        Just(query_boolean().default(true)),
        Just(date()),
        Just(date().null_is_absent()),
        Just(string().trim().min(1).max(4).into()),
        Just(string().email().into()),
        Just(string().url_or_empty().into()),
        Just(tags()),
        Just(end_user_tags()),
        Just(array(coerced_number()).or_alone().into()),
    ];
    (leaf.clone(), leaf, plain_schema(), any::<bool>()).prop_map(|(a, b, c, strip)| {
        let fields = object()
            .field("a", a)
            .field("b", b.optional())
            .field("limit", c.optional());
        if strip {
            fields.strip().into()
        } else {
            fields.into()
        }
    })
}

fn accepts(json_schema: &Value, value: &Value) -> bool {
    jsonschema::draft202012::new(json_schema).unwrap().is_valid(value)
}

proptest! {
    #[test]
    fn plain_schemas_accept_exactly_what_their_json_schema_accepts(schema in plain_schema(), value in json_value()) {
        let emitted = schema.json_schema();
        prop_assert_eq!(
            schema.validate(Some(value.clone())).is_ok(),
            accepts(&emitted, &value),
            "{} against {}", value, emitted
        );
    }

    #[test]
    fn what_is_accepted_matches_the_json_schema(schema in coercing_schema(), value in json_value()) {
        if let Ok(Some(output)) = schema.validate(Some(value)) {
            let emitted = schema.json_schema();
            prop_assert!(accepts(&emitted, &output), "{output} against {emitted}");
        }
    }

    #[test]
    fn patterns_decide_as_their_regular_expressions(text in r#"[a-zA-Z0-9,.;:=+~\[\]|@${}"'\\/_ \-*é%\n]{0,12}"#) {
        use patterns::*;
        for pattern in [
            PROVIDER_NAME, INTEGRATION_KEY, CONNECTION_ID, ENVIRONMENT_NAME, TAG_KEY, SCOPE_LIST, NUMBER_LIST,
        ] {
            let by_expression = accepts(&json!({"pattern": pattern.source}), &json!(text));
            prop_assert_eq!((pattern.matches)(&text), by_expression, "{} {:?}", pattern.source, text);
        }
    }

    #[test]
    fn uuids_are_told_from_other_text(text in "[0-9a-fA-F-]{0,37}") {
        let _ = patterns::is_uuid_v4(&text);
    }
}

#[test]
fn uuid_versions() {
    assert!(patterns::is_uuid_v4("9d3c1b70-5a3e-4c5d-9e7f-1a2b3c4d5e6f"));
    assert!(!patterns::is_uuid_v4("9d3c1b70-5a3e-1c5d-9e7f-1a2b3c4d5e6f"));
    assert!(!patterns::is_uuid_v4("9d3c1b705a3e4c5d9e7f1a2b3c4d5e6f"));
    assert!(patterns::is_uuid("00000000-0000-0000-0000-000000000000"));
    assert!(!patterns::is_uuid("9d3c1b70-5a3e-4c5d-1e7f-1a2b3c4d5e6f"));
}
