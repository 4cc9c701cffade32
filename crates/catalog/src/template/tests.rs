use jiff::Timestamp;
use patchbay_ambient::{Ambient, TestClock};
use patchbay_types::JsonMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn ambient() -> Ambient {
    // 2026-01-02T03:04:05.678Z, a Friday.
    Ambient::test(TestClock::default(), 7)
}

fn map(value: Value) -> JsonMap {
    match value {
        Value::Object(object) => object,
        _ => unreachable!("tests pass objects"),
    }
}

fn render(template: &str, variables: &JsonMap) -> Result<String, Vec<String>> {
    let ambient = ambient();
    let template = Template::parse_with_fallback(template);
    template
        .render(&Scope::new(&ambient).flat(variables), Mode::Text)
        .map_err(|unresolved| unresolved.names)
}

#[test]
fn every_expression() {
    let variables = map(json!({
        "a": "alpha", "n": 42, "f": 1.5, "t": true, "o": {"p": "deep", "q": {"r": 7}}, "x.y": "flat", "l": ["zero"],
        "null": null, "comma": "one,two", "empty": "",
    }));
    for (template, expected) in [
        ("", ""),
        ("plain text, $5 {json} 100%", "plain text, $5 {json} 100%"),
        ("${a}", "alpha"),
        ("<${ a }>", "<alpha>"),
        ("${a}${a}-${n}", "alphaalpha-42"),
        ("${f}", "1.5"),
        ("${o.p}/${o.q.r}", "deep/7"),
        ("${x.y}", "flat"),
        ("${l.0}", "zero"),
        ("[${empty}]", "[]"),
        ("${endpoint}", ""),
        ("${base64(${a}:${n})}", "YWxwaGE6NDI="),
        ("${base64(é)}", "w6k="),
        ("${base64(a(b)c)}", "YShiKWM="),
        (
            "${sha256Hex(abc)}",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            "${sha256Base64(abc)}",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        ),
        // base64 of `abc` is `YWJj`; its digest by another implementation.
        (
            "${sha256Hex(${base64(abc)})}",
            "35d95694d3f160215db293c7899daa5907837838fb4b8119ed713e32446c1266",
        ),
        // RFC 2202, test case 2; the key is trimmed, the message is not.
        (
            "${hmacSha1Hex(what do ya want for nothing?, Jefe)}",
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        ("${now}", "2026-01-02T03:04:05.678Z"),
        ("${now:YYYY-MM-DDTHH:mm:ss}", "2026-01-02T03:04:05"),
        ("${now:YYYYMMDDTHHmmss[Z]}", "20260102T030405Z"),
        (
            "${now:ddd, DD MMM YYYY HH:mm:ss ZZ}",
            "Fri, 02 Jan 2026 03:04:05 +0000",
        ),
        (
            "${now:dddd D MMMM YY h:m:s A a d dd Z SSS hh H M}",
            "Friday 2 January 26 3:4:5 AM am 5 Fr +00:00 678 03 3 1",
        ),
        ("${now:X} ${now:x}", "1767323045 1767323045678"),
        ("${now+7:days:YYYY-MM-DD}", "2026-01-09"),
        ("${now+1:minutes:X}", "1767323105"),
        ("${now-1:year:YYYY}", "2025"),
        ("${now+1:M:MM}", "02"),
        ("${now-3:hours}", "2026-01-02T00:04:05.678Z"),
        ("${a} || b", "alpha"),
        ("${nope} || b", "b"),
        ("${nope} || ${n}", "42"),
        ("https://${nope}.x || https://y", "https://y"),
        ("no placeholder || stays", "no placeholder || stays"),
    ] {
        assert_eq!(
            render(template, &variables),
            Ok(expected.to_owned()),
            "{template}"
        );
    }
}

#[test]
fn what_has_no_value_is_named_and_stays_as_written() {
    let variables = map(json!({"a": "alpha", "t": true, "o": {"p": 1}, "null": null}));
    for (template, names, lossy) in [
        ("${x}-${a}", vec!["x"], "${x}-alpha"),
        ("${t}${o}${null}", vec!["t", "o", "null"], "${t}${o}${null}"),
        ("${x}${x}", vec!["x"], "${x}${x}"),
        ("${base64(${x}:${a})}", vec!["x"], "${base64(${x}:${a})}"),
        (
            "${sha256Hex(${base64(${x})})} ${y.z}",
            vec!["x", "y.z"],
            "${sha256Hex(${base64(${x})})} ${y.z}",
        ),
        (
            "${ed25519Sign(m, no key)}",
            vec!["ed25519Sign"],
            "${ed25519Sign(m, no key)}",
        ),
        ("${x} || ${y}", vec!["x", "y"], "${y}"),
    ] {
        let compiled = Template::parse_with_fallback(template);
        let ambient = ambient();
        let scope = Scope::new(&ambient).flat(&variables);
        assert_eq!(
            render(template, &variables),
            Err(names.into_iter().map(str::to_owned).collect()),
            "{template}"
        );
        assert_eq!(compiled.render_lossy(&scope, Mode::Text), lossy, "{template}");
    }
}

#[test]
fn an_alternative_is_text_where_the_context_has_none() {
    let ambient = ambient();
    let credentials = map(json!({"id": "i", "secret": "s||t"}));
    let scope = Scope::new(&ambient).credentials(&credentials);
    let template = Template::parse("${credentials.id}||${secret}");
    assert_eq!(template.render(&scope, Mode::Text).unwrap(), "i||s||t");
}

#[test]
fn what_cannot_be_read_is_said_and_left_alone() {
    for (template, message, suggestion) in [
        ("a ${b", "`${` is never closed with `}`", None),
        ("a ${base64(${b}", "`${base64(` is never closed with `)}`", None),
        ("${bas64(x)}", "there is no function `bas64`", Some("base64")),
        (
            "${awsSigV4(a, b)}",
            "`awsSigV4` takes `awsSigV4(accessKey, secret, region, service[, host])`",
            None,
        ),
        (
            "${awsSigV4(a, b, , d)}",
            "`awsSigV4` takes `awsSigV4(accessKey, secret, region, service[, host])`",
            None,
        ),
        (
            "${hmacSha1Hex(x)}",
            "`hmacSha1Hex` takes a message and a key: `hmacSha1Hex(message, key)`",
            None,
        ),
        ("${base64()}", "`base64` takes one argument", None),
        ("${}", "`${}` names no variable", None),
        (
            "${now+1:fortnight}",
            "`fortnight` is no unit of time; write minutes, hours, days …",
            None,
        ),
        ("${now+x:days}", "`+x` is no number of units", None),
        ("${now:}", "the format after `:` is empty", None),
        ("${now:YYY}", "`YYY` is no token of a date", None),
        (
            "x {connectionConfig.a}",
            "`{` without a `$` before it is sent as it is; a placeholder is written `${…}`",
            Some("${connectionConfig.a}"),
        ),
    ] {
        let compiled = Template::parse(template);
        let problems = compiled.problems();
        assert_eq!(problems.len(), 1, "{template}: {problems:?}");
        assert_eq!(problems[0].message, message, "{template}");
        assert_eq!(problems[0].suggestion.as_deref(), suggestion, "{template}");
        let ambient = ambient();
        assert_eq!(compiled.render_lossy(&Scope::new(&ambient), Mode::Text), template);
    }
    let deep = "${base64(".repeat(5000);
    assert!(!Template::parse(&deep).problems().is_empty());
    assert_eq!(
        Template::parse_with_fallback("  ${a} || b ${").problems()[0].offset,
        12
    );
}

#[test]
fn ed25519_signatures_follow_rfc_8032() {
    // §7.1 test 2: one byte, `r`. The key is PKCS #8, as pasted, with its line breaks written `\n`.
    let mut der = data_encoding::HEXLOWER
        .decode(b"302e020100300506032b657004220420")
        .unwrap();
    let seed = b"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    der.extend(data_encoding::HEXLOWER.decode(seed).unwrap());
    let body = data_encoding::BASE64.encode(&der);
    let signature = data_encoding::HEXLOWER
        .decode(
            b"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
              085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        )
        .unwrap();
    for key in [
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"),
        format!("-----BEGIN PRIVATE KEY-----\\n{body}\\n-----END PRIVATE KEY-----"),
        body.clone(),
    ] {
        let variables = map(json!({"key": key}));
        let rendered = render("${ed25519Sign(r, ${key})}", &variables).unwrap();
        assert_eq!(rendered, data_encoding::BASE64.encode(&signature));
    }
}

#[test]
fn a_fingerprint_is_of_the_public_half() {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::signature::KeyPair as _;

    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public.as_ref());
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        data_encoding::BASE64.encode(private.as_ref())
    );
    let variables = map(json!({"key": pem}));
    let expected = format!("SHA256:{}", data_encoding::BASE64.encode(digest.as_ref()));
    assert_eq!(render("${fingerprint(${key})}", &variables), Ok(expected));
    // RFC 8410 §10.1 and §10.3: the same key pair; the digest is of its SubjectPublicKeyInfo.
    let variables = map(json!({"key": "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC"}));
    let public = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    let public = data_encoding::BASE64.decode(public.as_bytes()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &public);
    let expected = format!("SHA256:{}", data_encoding::BASE64.encode(digest.as_ref()));
    assert_eq!(render("${fingerprint(${key})}", &variables), Ok(expected));
}

#[test]
fn sigv4_matches_the_published_test_suite() {
    let clock = TestClock::at("2015-08-30T12:36:00Z".parse::<Timestamp>().unwrap());
    let ambient = Ambient::test(clock, 1);
    let credentials =
        map(json!({"username": "AKIDEXAMPLE", "password": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}));
    let template = Template::parse(
        "${awsSigV4(${credentials.username}, ${credentials.password}, us-east-1, service, example.amazonaws.com)}",
    );
    let get = SignableRequest {
        method: "GET",
        path: "/",
        query: "",
        body: b"",
        content_type: None,
    };
    for (name, request, signed, signature) in [
        (
            "get-vanilla",
            get,
            "host;x-amz-date",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-vanilla-query-order-key-case",
            SignableRequest {
                query: "Param2=value2&Param1=value1",
                ..get
            },
            "host;x-amz-date",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "post-x-www-form-urlencoded",
            SignableRequest {
                method: "POST",
                body: b"Param1=value1",
                content_type: Some("application/x-www-form-urlencoded"),
                ..get
            },
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ] {
        let scope = Scope::new(&ambient).credentials(&credentials).request(request);
        assert_eq!(
            template.render(&scope, Mode::Text).unwrap(),
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                 SignedHeaders={signed}, Signature={signature}"
            ),
            "{name}"
        );
    }
    let nobody = map(json!({"username": "", "password": "x"}));
    let scope = Scope::new(&ambient).credentials(&nobody);
    assert_eq!(
        template.render(&scope, Mode::Text).unwrap_err().names,
        ["awsSigV4"]
    );
}

#[test]
fn a_header_set_shares_its_hour_and_its_randomness() {
    let clock = TestClock::default();
    let ambient = Ambient::test(clock.clone(), 3);
    let template = Template::parse("${random} ${random} ${now}");
    let shared = Scope::new(&ambient).shared();
    let first = template.render(&shared, Mode::Text).unwrap();
    clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(template.render(&shared, Mode::Text).unwrap(), first);
    let ids: Vec<&str> = first.split(' ').collect();
    assert_eq!(ids[0], ids[1]);
    let fresh = Template::parse("${random} ${random}")
        .render(&Scope::new(&ambient), Mode::Text)
        .unwrap();
    let ids: Vec<&str> = fresh.split(' ').collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[0].len(), 36);
}

#[test]
fn scopes_answer_in_order_and_in_every_spelling() {
    struct Host;
    impl Lookup for Host {
        fn lookup(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
            (name == "host").then_some("computed".into())
        }
    }
    let ambient = ambient();
    let config =
        map(json!({"team.id": "T1", "accounts-server": "eu", "connectionConfig.old": "kept", "s": "c"}));
    let credentials = map(json!({"apiKey": "k", "raw": {"id_token": "j"}, "host": "shadowed"}));
    let scope = Scope::new(&ambient)
        .text("accessToken", "tok")
        .text_opt("clientId", None::<&str>)
        .computed(&Host)
        .connection_config(&config)
        .credentials(&credentials);
    for (name, expected) in [
        ("accessToken", Some("tok")),
        ("clientId", None),
        ("host", Some("computed")),
        ("connectionConfig.team.id", Some("T1")),
        ("connection_config.accounts-server", Some("eu")),
        ("connectionConfig.old", Some("kept")),
        ("credentials.apiKey", Some("k")),
        ("apiKey", Some("k")),
        ("credentials.raw.id_token", Some("j")),
        ("s", None),
        ("credentials", None),
        ("connectionConfig.", None),
    ] {
        assert_eq!(scope.get(name).as_deref(), expected, "{name}");
    }
    assert!(!format!("{scope:?}").contains("tok"), "values are secrets");
}

#[test]
fn urls_encode_values_and_an_empty_one_is_missing() {
    let ambient = ambient();
    let url = |template: &str, config: Value, values: UrlValues| {
        let config = map(config);
        let template = Template::parse_with_fallback(template);
        template
            .render_url(&Scope::new(&ambient).connection_config(&config), values)
            .map(String::from)
    };
    let encoded = UrlValues::Encoded;
    for (template, config, expected) in [
        (
            "https://${connectionConfig.s}.example.com/a?b=${connectionConfig.q}",
            json!({"s": "x", "q": "a b&c/d"}),
            "https://x.example.com/a?b=a%20b%26c%2Fd",
        ),
        (
            "https://${connectionConfig.h}/t",
            json!({"h": "localhost:8080"}),
            "https://localhost:8080/t",
        ),
        (
            "https://${connectionConfig.h}",
            json!({"h": "login.example.com/a/b"}),
            "https://login.example.com/a/b",
        ),
        (
            "${connectionConfig.api}/x || https://d.example/x",
            json!({"api": "https://eu.example"}),
            "https://eu.example/x",
        ),
        (
            "https://${connectionConfig.h} || https://d.example/x",
            json!({"h": ""}),
            "https://d.example/x",
        ),
        (
            "https://${connectionConfig.s}.example.com:8443/",
            json!({"s": "x"}),
            "https://x.example.com:8443/",
        ),
    ] {
        assert_eq!(
            url(template, config, encoded).as_deref(),
            Ok(expected),
            "{template}"
        );
    }
    let missing = url(
        "https://${connectionConfig.s}.example.com",
        json!({"s": ""}),
        encoded,
    )
    .unwrap_err();
    assert_eq!(missing.to_string(), "no value for connectionConfig.s");
    assert_eq!(
        url("ftp://${connectionConfig.s}", json!({"s": "x"}), encoded),
        Err(RenderUrlError::Invalid)
    );
    assert_eq!(
        url("https://${connectionConfig.s}", json!({"s": "a b"}), encoded),
        Err(RenderUrlError::Invalid)
    );
}

/// Client secrets are sent to the token endpoint; its host is the definition's choice, not the end user's.
#[test]
fn a_value_cannot_lead_to_another_host() {
    let ambient = ambient();
    for values in [UrlValues::Encoded, UrlValues::Raw] {
        for evil in [
            "evil.com/",
            "evil.com#",
            "evil.com?",
            "evil.com\\",
            "evil.com/x@",
            "me@evil.com/",
            "evil.com:443/",
        ] {
            let config = map(json!({"s": evil}));
            let template = Template::parse("https://${connectionConfig.s}.example.com/oauth/token");
            let result = template.render_url(&Scope::new(&ambient).connection_config(&config), values);
            assert!(result.is_err(), "{evil}: {result:?}");
        }
        let config = map(json!({"s": "user:pass@acme"}));
        let template = Template::parse("https://${connectionConfig.s}.example.com/oauth/token");
        assert!(
            template
                .render_url(&Scope::new(&ambient).connection_config(&config), values)
                .is_err()
        );
    }
}

#[test]
fn trees_render_leaf_by_leaf() {
    let ambient = ambient();
    let variables = map(json!({"a": "alpha"}));
    let scope = Scope::new(&ambient).flat(&variables);
    let object = map(json!({
        "text": "<${a}>", "number": 1, "yes": true, "nothing": null, "gone": "${x}",
        "inner": {"gone": "${y}"}, "list": ["${a}", "${x}", 2], "empty": {},
    }));
    let tree = TemplateMap::from_json(&object, Template::parse);
    assert_eq!(
        Value::Object(tree.render(&scope, OnUnresolved::Omit).unwrap()),
        json!({"text": "<alpha>", "number": 1, "yes": true, "nothing": null, "list": ["alpha", 2], "empty": {}})
    );
    assert_eq!(
        Value::Object(tree.render(&scope, OnUnresolved::Keep).unwrap()),
        json!({
            "text": "<alpha>", "number": 1, "yes": true, "nothing": null, "gone": "${x}",
            "inner": {"gone": "${y}"}, "list": ["alpha", "${x}", 2], "empty": {},
        })
    );
    assert_eq!(
        tree.render(&scope, OnUnresolved::Fail).unwrap_err().names,
        ["x", "y"]
    );
    assert_eq!(tree.literal("text"), None);
    assert_eq!(tree.templates().len(), 5);
}

#[test]
fn what_a_template_mentions_is_known_without_rendering_it() {
    let template =
        Template::parse_with_fallback("${base64(${connectionConfig.a}:${apiKey})} || ${now} ${b.c}");
    assert_eq!(template.names(), ["connectionConfig.a", "apiKey", "b.c"]);
    assert!(template.mentions("connectionConfig") && template.mentions("b") && !template.mentions("c"));
    assert!(template.calls(Function::Base64) && !template.calls(Function::AwsSigV4));
    assert_eq!(Template::parse("literal").as_literal(), Some("literal"));
    assert_eq!(template.as_literal(), None);
    assert!(Template::parse("https://${a}.b").has_variable_host());
    assert!(!Template::parse("https://a.b/${c}").has_variable_host());
}

/// A random expression with its source and its value.
fn expression() -> impl Strategy<Value = (String, String)> {
    let text = "[a-z ,:(/$-]{0,8}".prop_map(|text| (text.clone(), text));
    let variable = prop_oneof![
        Just(("${a}".to_owned(), "alpha".to_owned())),
        Just(("${o.p}".to_owned(), "deep, deeper".to_owned())),
        Just(("${x.y}".to_owned(), "42".to_owned())),
    ];
    prop_oneof![text, variable].prop_recursive(5, 40, 4, |inner| {
        (0..3, prop::collection::vec(inner, 1..4)).prop_filter_map(
            "a function needs an argument",
            |(function, parts)| {
                let (source, value): (String, String) = parts.into_iter().unzip();
                if source.is_empty() {
                    return None;
                }
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.as_bytes());
                Some(match function {
                    0 => (
                        format!("${{base64({source})}}"),
                        data_encoding::BASE64.encode(value.as_bytes()),
                    ),
                    1 => (
                        format!("${{sha256Hex({source})}}"),
                        data_encoding::HEXLOWER.encode(digest.as_ref()),
                    ),
                    _ => (source, value),
                })
            },
        )
    })
}

proptest! {
    #[test]
    fn any_text_compiles_and_without_expressions_is_its_own_value(text in any::<String>()) {
        let ambient = ambient();
        let scope = Scope::new(&ambient);
        let template = Template::parse(&text);
        let lossy = template.render_lossy(&scope, Mode::Text);
        if !text.contains("${") {
            prop_assert_eq!(&lossy, &text);
            prop_assert_eq!(template.render(&scope, Mode::Text).unwrap(), text);
        }
    }

    #[test]
    fn the_pieces_of_the_language_in_any_order_never_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "${", "}", ")}", "(", ")", ",", "||", "base64", "awsSigV4(", "hmacSha1Hex(", "ed25519Sign(", "now", "+1:days",
            ":YYYY", "[", "]", "random", "connectionConfig.", "a", ".", " ", "{", "é", "https://", "/",
        ]), 0..24)
    ) {
        let text = pieces.concat();
        let ambient = ambient();
        let variables = map(json!({"a": "1"}));
        let scope = Scope::new(&ambient).flat(&variables);
        for template in [Template::parse(&text), Template::parse_with_fallback(&text)] {
            let _ = template.render(&scope, Mode::UrlComponent);
            let _ = template.render_lossy(&scope, Mode::Text);
            let _ = template.render_url(&scope, UrlValues::Encoded);
            let _ = template.sketches("x").count();
        }
    }

    #[test]
    fn nested_expressions_have_the_value_of_their_parts((source, expected) in expression()) {
        let ambient = ambient();
        let variables = map(json!({"a": "alpha", "o": {"p": "deep, deeper"}, "x.y": 42}));
        let scope = Scope::new(&ambient).flat(&variables);
        let template = Template::parse(&source);
        prop_assert!(template.problems().is_empty(), "{:?}", template.problems());
        prop_assert_eq!(template.render(&scope, Mode::Text).unwrap(), expected);
    }
}

#[test]
fn functions_of_steps_and_token_clients() {
    let ambient = patchbay_ambient::Ambient::test(patchbay_ambient::TestClock::default(), 1);
    let values = serde_json::json!({"mail": " Ada@Example.com ", "url": "https://acme.example.com/a/b/?x=1", "text": "a:b:c"});
    let values = values.as_object().unwrap();
    let scope = Scope::new(&ambient).object("v", values);
    for (template, expected) in [
        // RFC 4231 §4.3.
        (
            "${hmacSha256Hex(what do ya want for nothing?,Jefe)}",
            Some("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ),
        ("${first(${v.text},3)}", Some("a:b")),
        ("${first(${v.text},x)}", None),
        ("${after(${v.text},:)}", Some("b:c")),
        ("${after(${v.text},;)}", None),
        ("${lower(${v.mail})}", Some("ada@example.com")),
        ("${lastSegment(${v.url})}", Some("b")),
        ("${lastSegment(/)}", None),
        ("${hostLabel(${v.url})}", Some("acme")),
        ("${hostLabel(${v.text})}", None),
    ] {
        let rendered = Template::parse(template).render(&scope, Mode::Text);
        assert_eq!(rendered.as_deref().ok(), expected, "{template}");
    }
}
