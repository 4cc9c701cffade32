use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Catalogue;

fn definition(yaml: &str) -> Definition {
    let text = format!("display_name: Acme\ndocs: https://docs.example.com\n{yaml}");
    let (catalogue, findings) = Catalogue::from_text("acme.yaml", &text);
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == crate::Severity::Warning),
        "{yaml}: {findings:?}"
    );
    catalogue.get("acme").unwrap().definition.clone()
}

fn names(form: &Form) -> Vec<&str> {
    form.fields.iter().map(|field| field.name.as_str()).collect()
}

fn object(value: Value) -> JsonMap {
    match value {
        Value::Object(object) => object,
        _ => unreachable!("tests pass objects"),
    }
}

fn params(value: Value) -> Submission {
    Submission {
        connection_config: object(value),
        ..Submission::default()
    }
}

#[test]
fn each_mode_asks_for_its_own_credentials() {
    let token = "token_url: https://a.example/t\n";
    for (yaml, expected) in [
        ("auth_mode: API_KEY".to_owned(), vec!["apiKey"]),
        ("auth_mode: BASIC".to_owned(), vec!["username", "password"]),
        (
            "auth_mode: SIGNATURE\ntoken: {expires_in_ms: 1}".to_owned(),
            vec!["username", "password"],
        ),
        (
            format!("auth_mode: OAUTH2_CC\n{token}"),
            vec!["client_id", "client_secret"],
        ),
        (
            format!("auth_mode: OAUTH2_CC\n{token}require_client_certificate: true"),
            vec![
                "client_id",
                "client_secret",
                "client_certificate",
                "client_private_key",
            ],
        ),
        (
            format!("auth_mode: OAUTH2_CC\n{token}token_request_auth_method: private_key_jwt"),
            vec!["client_id"],
        ),
        (
            "auth_mode: TBA".to_owned(),
            vec![
                "oauth_client_id_override",
                "oauth_client_secret_override",
                "token_id",
                "token_secret",
            ],
        ),
        (
            format!("auth_mode: BILL\n{token}"),
            vec!["username", "password", "organization_id", "dev_key"],
        ),
        ("auth_mode: AWS_SIGV4".to_owned(), vec!["role_arn"]),
        ("auth_mode: NONE".to_owned(), vec![]),
        (
            format!("auth_mode: OAUTH2\nauthorization_url: https://a.example/a\n{token}"),
            vec![],
        ),
    ] {
        let form = Form::derive(&definition(&yaml), &FormContext::default());
        assert_eq!(names(&form), expected, "{yaml}");
        assert_eq!(form.has_visible_fields(), !expected.is_empty());
    }
}

const TWO_STEP: &str = r"
auth_mode: TWO_STEP
token_url: https://${connectionConfig.host}/t
token_response: {token: t}
docs_connect: https://docs.example.com/connect
connection_config:
    late: {type: string, title: Late, optional: true}
    host: {type: string, title: Host, order: 2, format: hostname, prefix: 'https://', doc_section: '#host'}
    region: {type: string, title: Region, order: 1, enum: [eu, us]}
    cloud: {type: string, title: Cloud, automated: true}
    clientType: {type: string, title: Type, hidden: true, default_value: seller}
credentials:
    key: {type: string, title: Key, secret: true, pattern: '^k-[a-z]+$', example: k-abc}
    assertion: {type: string, title: Assertion, automated: true}
integration_config:
    key: {type: string, title: Key}
    tenant: {type: string, title: Tenant, optional: true}
    preset: {type: string, title: Preset}
assertion_option:
    userName: {type: string, title: User}
";

#[test]
fn fields_come_in_their_order() {
    let definition = definition(TWO_STEP);
    let preconfigured = ["preset".to_owned()];
    let context = FormContext {
        preconfigured: &preconfigured,
        ..FormContext::default()
    };
    let form = Form::derive(&definition, &context);
    // Settings with an order first, then credentials, then the rest as it comes.
    assert_eq!(
        names(&form),
        [
            "region",
            "host",
            "key",
            "tenant",
            "late",
            "clientType",
            "userName"
        ]
    );
    assert!(
        form.get(Group::Credentials, "tenant").unwrap().required,
        "the operator left it to the end user"
    );
    let region = form.get(Group::ConnectionConfig, "region").unwrap();
    assert_eq!(
        (region.control, region.initial.as_deref()),
        (Control::Select, Some("eu"))
    );
    let hidden = form.get(Group::ConnectionConfig, "clientType").unwrap();
    assert_eq!((hidden.hidden, hidden.initial.as_deref()), (true, Some("seller")));
    let host = form.get(Group::ConnectionConfig, "host").unwrap();
    assert_eq!(
        host.docs_url.as_deref(),
        Some("https://docs.example.com/connect#host")
    );
    assert_eq!(
        form.get(Group::Credentials, "key").unwrap().docs_url.as_deref(),
        Some("https://docs.example.com/connect")
    );
    assert_eq!(
        serde_json::to_value(form.get(Group::Credentials, "key").unwrap()).unwrap(),
        json!({
            "name": "key", "group": "credentials", "label": "Key", "placeholder": "k-abc", "control": "text",
            "secret": true, "required": true, "hidden": false, "preset": false, "initial": "",
            "docs_url": "https://docs.example.com/connect", "pattern": "^k-[a-z]+$",
        })
    );
}

#[test]
fn presets_hide_their_field_and_win() {
    let definition = definition(TWO_STEP);
    let presets = object(json!({"host": "acme.example", "region": "mars"}));
    let context = FormContext {
        presets: Some(&presets),
        docs_connect: Some("https://help.example.com"),
        ..FormContext::default()
    };
    let form = Form::derive(&definition, &context);
    let host = form.get(Group::ConnectionConfig, "host").unwrap();
    assert_eq!(
        (host.hidden, host.preset, host.initial.as_deref()),
        (true, true, Some("acme.example"))
    );
    assert_eq!(host.docs_url.as_deref(), Some("https://help.example.com"));
    let invalid = form.invalid_presets();
    assert_eq!(invalid.len(), 1);
    assert_eq!(invalid[0].to_string(), "Region: is one of eu, us");
    let submitted = Submission {
        credentials: object(json!({"key": "k-x", "tenant": "t", "preset": "p"})),
        connection_config: object(json!({"host": "evil.example", "unknown": {"kept": true}})),
        assertion_option: object(json!({"userName": "u"})),
    };
    assert_eq!(
        form.accept(&submitted).unwrap().connection_config,
        object(json!({
            "host": "acme.example", "unknown": {"kept": true}, "region": "mars", "clientType": "seller",
        }))
    );
}

#[test]
fn an_overridden_label_takes_help_and_example_with_it() {
    let definition = definition(
        "auth_mode: API_KEY\ncredentials: {apiKey: {type: string, title: Key, description: Help, example: k}}",
    );
    let labels = object(json!({"apiKey": "Acme token"}));
    let form = Form::derive(
        &definition,
        &FormContext {
            labels: Some(&labels),
            ..FormContext::default()
        },
    );
    let field = &form.fields[0];
    assert_eq!(
        (field.label.as_str(), &field.description, &field.placeholder),
        ("Acme token", &None, &None)
    );
    assert!(field.secret, "known by its name");
}

#[test]
fn an_oauth_client_of_its_own_is_asked_for_where_the_session_says_so() {
    let definition = definition(
        "auth_mode: OAUTH2\nauthorization_url: https://a.example/a\ntoken_url: https://a.example/t",
    );
    let presets = object(json!({"oauth_client_id_override": "", "oauth_client_secret_override": ""}));
    let form = Form::derive(
        &definition,
        &FormContext {
            presets: Some(&presets),
            ..FormContext::default()
        },
    );
    assert_eq!(
        names(&form),
        ["oauth_client_id_override", "oauth_client_secret_override"]
    );
    assert!(form.fields[1].secret && !form.fields[0].secret && !form.fields[0].required);
    assert!(form.accept(&Submission::default()).is_ok());
}

#[test]
fn every_rule_refuses_in_words() {
    let definition = definition(
        r"
auth_mode: NONE
connection_config:
    plain: {type: string, title: Plain}
    host: {type: string, title: Host, format: hostname}
    uri: {type: string, title: Uri, format: uri}
    uuid: {type: string, title: Uuid, format: uuid}
    email: {type: string, title: Email, format: email}
    choice: {type: string, title: Choice, enum: [a, b]}
    shape: {type: string, title: Shape, pattern: '^(?!login)[a-z]+$', example: acme}
    broken: {type: string, title: Broken, pattern: '[z-a', optional: true}
    blank: {type: string, title: Blank, default_value: ''}
    optional: {type: string, title: Optional, optional: true, pattern: '^x$'}
",
    );
    let form = Form::derive(&definition, &FormContext::default());
    let good = json!({
        "plain": "p", "host": "api.example.com", "uri": "https://x.example/y", "email": "a.b@c.example",
        "uuid": "123e4567-e89b-42d3-a456-426614174000", "choice": "b", "shape": "acme", "broken": "]", "blank": "",
        "optional": "",
    });
    assert_eq!(
        form.accept(&params(good.clone())).unwrap().connection_config,
        object(good.clone())
    );
    for (name, value, message) in [
        ("plain", json!(""), "is required"),
        ("plain", json!("   "), "is required"),
        ("plain", json!(["x"]), "is a text"),
        (
            "plain",
            json!("x".repeat(MAX_VALUE + 1)),
            "is longer than 65536 bytes",
        ),
        ("host", json!("a b"), "is a host name, such as api.example.com"),
        (
            "uri",
            json!("example.com"),
            "is an address, such as https://example.com",
        ),
        (
            "uuid",
            json!("123"),
            "is a UUID, such as 123e4567-e89b-42d3-a456-426614174000",
        ),
        ("email", json!("a@b"), "is an e-mail address"),
        ("choice", json!("c"), "is one of a, b"),
        ("choice", json!(""), "is required"),
        ("shape", json!("login"), "does not look right; an example is acme"),
        ("optional", json!("y"), "does not look right"),
    ] {
        let mut values = object(good.clone());
        values.insert(name.to_owned(), value);
        let errors = form.accept(&params(Value::Object(values))).unwrap_err();
        assert_eq!(errors.len(), 1, "{name}: {errors:?}");
        assert_eq!(
            (errors[0].name.as_str(), errors[0].message.as_str()),
            (name, message)
        );
    }
    let missing = form.accept(&Submission::default()).unwrap_err();
    let missing: Vec<&str> = missing.iter().map(|error| error.name.as_str()).collect();
    assert_eq!(
        missing,
        ["plain", "host", "uri", "uuid", "email", "shape"],
        "choice begins with its first value"
    );
    let exactly = json!("x".repeat(MAX_VALUE));
    let mut values = object(good);
    values.insert("plain".to_owned(), exactly);
    assert!(form.accept(&params(Value::Object(values))).is_ok());
}

#[test]
fn a_pasted_address_is_cut_down_to_its_value() {
    for (field, pasted, value) in [
        ("prefix: 'https://', suffix: .zendesk.com", "acme", "acme"),
        (
            "prefix: 'https://', suffix: .zendesk.com",
            " https://acme.zendesk.com ",
            "acme",
        ),
        (
            "prefix: 'https://', suffix: .zendesk.com",
            "HTTPS://acme.ZENDESK.com",
            "acme",
        ),
        (
            "prefix: 'https://', suffix: .zendesk.com",
            "acme.zendesk.com/agent/1?x=y",
            "acme",
        ),
        (
            "prefix: 'https://', suffix: .zendesk.com",
            "http://acme.zendesk.com/",
            "acme",
        ),
        (
            "prefix: 'https://app.', suffix: .example.com",
            "http://app.acme.example.com",
            "acme",
        ),
        ("prefix: 'https://app.', suffix: .example.com", "app", "app"),
        (
            "prefix: 'https://'",
            "https://acme.example/base/",
            "acme.example/base",
        ),
        ("prefix: 'https://'", "https://", "https://"),
        (
            "format: hostname",
            "https://api.example.com/v1?x",
            "api.example.com",
        ),
        ("format: hostname", "api.example.com", "api.example.com"),
        (
            "format: uri",
            " https://api.example.com/ ",
            "https://api.example.com/",
        ),
        ("suffix: '.com'", "x.com.com", "x.com"),
        ("prefix: '@'", "@me", "me"),
        ("title: T", "https://kept.example/", "https://kept.example/"),
        ("secret: true", " spaces stay \n", " spaces stay "),
        ("secret: true, pattern: '^[a-z]+$'", " key \n", "key"),
        ("secret: true, prefix: 'Bearer '", "tok", "tok"),
        ("prefix: 'é://'", "héé", "héé"),
    ] {
        let definition = definition(&format!(
            "auth_mode: NONE\nconnection_config: {{x: {{type: string, {field}}}}}"
        ));
        let form = Form::derive(&definition, &FormContext::default());
        assert_eq!(form.fields[0].cleaned(pasted), value, "{field}: {pasted}");
    }
}

proptest! {
    #[test]
    fn cleaning_is_done_once_and_for_all(text in any::<String>(), prefix in "(https://)?[a-z.]{0,4}", suffix in "[.a-z]{0,4}") {
        let affixes = paste::Affixes { prefix: Some(&prefix), suffix: Some(&suffix), hostname: false };
        let value = paste::value_in(&text, &affixes);
        prop_assert_eq!(value.trim(), &value);
        prop_assert_eq!(value.is_empty(), text.trim().is_empty());
        prop_assert!(text.contains(&value));
    }

    #[test]
    fn a_form_accepts_what_it_accepted(host in "[a-z]{1,5}\\.example", late in "[ a-z]{0,5}") {
        let definition = definition(TWO_STEP);
        let form = Form::derive(&definition, &FormContext::default());
        let submitted = Submission {
            credentials: object(json!({"key": "k-x", "tenant": "t", "preset": "p"})),
            connection_config: object(json!({"host": format!("https://{host}/path"), "late": late})),
            assertion_option: object(json!({"userName": "u"})),
        };
        let once = form.accept(&submitted).unwrap();
        prop_assert_eq!(&once.connection_config["host"], &json!(host));
        prop_assert_eq!(form.accept(&once).unwrap(), once);
    }
}
