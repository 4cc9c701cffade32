use super::*;

/// Findings of one entry, as `rule line:column path`, and the first one's suggestion.
fn findings(yaml: &str) -> (Vec<String>, Option<String>) {
    let all = check_text("acme.yaml", yaml);
    let lines = all
        .iter()
        .map(|finding| {
            let severity = if finding.severity == Severity::Error {
                "!"
            } else {
                ""
            };
            let (line, column) = (
                finding.line.unwrap_or_default(),
                finding.column.unwrap_or_default(),
            );
            format!("{severity}{} {line}:{column} {}", finding.rule, finding.path)
        })
        .collect();
    (lines, all.first().and_then(|finding| finding.suggestion.clone()))
}

const HEAD: &str = "display_name: Acme\ncategories: [crm]\ndocs: https://docs.example.com\n";
const OAUTH2: &str =
    "auth_mode: OAUTH2\nauthorization_url: https://a.example/a\ntoken_url: https://a.example/t\n";

#[test]
fn a_sound_entry_has_no_findings() {
    assert_eq!(findings(&format!("{HEAD}{OAUTH2}")).0, Vec::<String>::new());
}

#[test]
fn every_rule_finds_its_fault_where_it_is() {
    let mut wrong = Vec::new();
    // Line 4 is the first after the head.
    for (yaml, finding, suggestion) in [
        (
            "auth_mode: NONE\nproxi: {}",
            "unknown-key 5:1 proxi",
            Some("proxy"),
        ),
        (
            "auth_mode: NONE\nproxy: {base_url: 'https://a.example', retry: {afer: [x]}}",
            "unknown-key 5:48 proxy.retry.afer",
            Some("after"),
        ),
        (
            "auth_mode: NONE\nproxy: https://a.example",
            "!wrong-type 5:8 proxy",
            None,
        ),
        (
            "auth_mode: NONE\ndisable_pkce: 1",
            "!wrong-type 5:15 disable_pkce",
            None,
        ),
        (
            "auth_mode: NONE\ntoken_expiration_buffer: soon",
            "!wrong-type 5:26 token_expiration_buffer",
            None,
        ),
        (
            "auth_mode: NONE\nredirect_uri_metadata: [[x]]",
            "!wrong-type 5:25 redirect_uri_metadata[0]",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {headers: {a: [x]}}",
            "!wrong-type 5:19 proxy.headers.a",
            None,
        ),
        (
            "auth_mode: NONE\nadditional_steps: {}",
            "!wrong-type 5:1 additional_steps",
            None,
        ),
        (
            "auth_mode: NONE\nadditional_steps: [{}]",
            "!missing-key 5:20 additional_steps[0]",
            None,
        ),
        ("auth_mode: NOEN", "!auth-mode 4:12 auth_mode", Some("NONE")),
        ("auth_mode: TABLEAU", "!retired 4:12 auth_mode", Some("JWT")),
        ("docs_connect: https://d.example", "!missing-key 1:1 ", None),
        (
            "auth_mode: NONE\nbody_format: jsn",
            "!invalid-value 5:14 body_format",
            Some("json"),
        ),
        (
            "auth_mode: NONE\ntoken_request_method: FETCH",
            "!invalid-value 5:23 token_request_method",
            None,
        ),
        (
            "auth_mode: NONE\nauthorization_url_skip_encode: [scope]",
            "!invalid-value 5:1 authorization_url_skip_encode",
            Some("scopes"),
        ),
        (
            "auth_mode: NONE\nproxy: {retry: {error_code: ['6xx']}}",
            "!invalid-value 5:31 proxy.retry.error_code[0]",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {paginate: {response_path: x}}",
            "!missing-key 5:9 proxy.paginate",
            None,
        ),
        (
            "auth_mode: NONE\nsignature: {}",
            "!missing-key 5:1 signature",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {headers: {'a b': x}}",
            "!header-name 5:19 proxy.headers.a b",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {headers: {X-Key: x}}",
            "header-case 5:19 proxy.headers.X-Key",
            Some("x-key"),
        ),
        (
            "auth_mode: NONE\nproxy: {headers: {a: 'x ${bas64(y)}'}}",
            "!template 5:25 proxy.headers.a",
            Some("base64"),
        ),
        (
            "auth_mode: NONE\nproxy: {headers: {a: 'x ${endpoint'}}",
            "!template 5:25 proxy.headers.a",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {headers: {a: '{apiKey}'}}",
            "template 5:23 proxy.headers.a",
            Some("${apiKey}"),
        ),
        (
            "auth_mode: NONE\nproxy: {base_url: api.example.com}",
            "!url 5:19 proxy.base_url",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {base_url: 'http://api.example.com'}",
            "url 5:20 proxy.base_url",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {base_url: 'htps://api.example.com'}",
            "!url 5:20 proxy.base_url",
            Some("https:"),
        ),
        (
            "auth_mode: NONE\nsetup_guide_url: nowhere",
            "!url 5:18 setup_guide_url",
            None,
        ),
        (
            "auth_mode: OAUTH2\ntoken_url: https://a.example/t",
            "!mode-requires 4:12 auth_mode",
            None,
        ),
        (
            "auth_mode: OAUTH2_CC\ncredentials: {client_id: {type: string, title: T}}",
            "mode-requires 4:12 auth_mode",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {base_url: 'https://${connectionConfig.subdoman}.a.example'}\nconnection_config: {subdomain: {type: string, title: T}}",
            "variable 5:30 proxy.base_url",
            Some("connectionConfig.subdomain"),
        ),
        (
            "auth_mode: API_KEY\nproxy: {headers: {a: '${credentials.apikey}'}}\ncredentials: {apiKey: {type: string, title: T}}",
            "variable 5:25 proxy.headers.a",
            Some("credentials.apiKey"),
        ),
        (
            "auth_mode: API_KEY\nproxy: {headers: {a: '${apiKy}'}}\ncredentials: {apiKey: {type: string, title: T}}",
            "variable 5:25 proxy.headers.a",
            Some("apiKey"),
        ),
        (
            "auth_mode: API_KEY\nproxy: {verification: {base_url_override: 'https://a.example', endpoints: ['/x?k=${apiKey}']}}\ncredentials: {apiKey: {type: string, title: T}}",
            "secret-in-url 5:77 proxy.verification.endpoints[0]",
            None,
        ),
        (
            "auth_mode: API_KEY\nproxy: {verification: {endpoints: [/x]}}\ncredentials: {apiKey: {type: string, title: T}}",
            "verification 5:9 proxy.verification",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {base_url: 'https://a.example', verification: {endpoint: /x}}",
            "verification 5:40 proxy.verification",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {base_url: 'https://a.example', verification: {}}",
            "!missing-key 5:40 proxy.verification",
            None,
        ),
        (
            "auth_mode: NONE\nproxy: {paginate: {type: offset}}",
            "pagination 5:9 proxy.paginate",
            None,
        ),
        ("auth_mode: API_KEY", "credentials 4:1 auth_mode", None),
        (
            "auth_mode: NONE\ncredentials: {apiKey: {type: string, title: T}}",
            "credentials 5:1 credentials",
            None,
        ),
        (
            "auth_mode: NONE\nconnection_config: {x: {type: string, title: T}}",
            "unused-setting 5:1 connection_config",
            None,
        ),
        (
            "auth_mode: NONE\nwebhook_routing_script: slakWebhookRouting",
            "script 5:25 webhook_routing_script",
            Some("slackWebhookRouting"),
        ),
        (
            "auth_mode: NONE\nauth: {response_type: code}",
            "retired 5:1 auth",
            None,
        ),
    ] {
        let (found, suggested) = findings(&format!("{HEAD}{yaml}\n"));
        if (found.first().map(String::as_str), suggested.as_deref()) != (Some(finding), suggestion) {
            wrong.push(format!("{yaml}: {found:?}, {suggested:?}; expected {finding:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn fields_of_forms_are_checked() {
    let mut wrong = Vec::new();
    for (field, finding, suggestion) in [
        ("type: string", "field-title 6:5 connection_config.x", None),
        (
            "type: number, title: T",
            "!invalid-value 6:15 connection_config.x.type",
            None,
        ),
        (
            "type: string, title: T, pattern: '[z-a]'",
            "pattern 6:43 connection_config.x.pattern",
            None,
        ),
        (
            "type: string, title: T, pattern: '^a$', example: b",
            "pattern-example 6:58 connection_config.x.example",
            None,
        ),
        (
            "type: string, title: T, format: uuid, default_value: b",
            "format-example 6:62 connection_config.x.default_value",
            None,
        ),
        (
            "type: string, title: T, format: hostnme",
            "!invalid-value 6:41 connection_config.x.format",
            Some("hostname"),
        ),
        (
            "type: string, title: T, enum: []",
            "!invalid-value 6:33 connection_config.x.enum",
            None,
        ),
        (
            "type: string, title: T, enum: [eu, us], default_value: es",
            "enum-default 6:64 connection_config.x.default_value",
            Some("eu"),
        ),
        (
            "type: string, title: T, enum: [a], warnings: {b: c}",
            "enum-warning 6:55 connection_config.x.warnings.b",
            None,
        ),
        (
            "type: string, title: T, doc_section: Here",
            "doc-section 6:46 connection_config.x.doc_section",
            None,
        ),
        (
            "type: string, title: T, doc_section: '#here'",
            "doc-section 6:47 connection_config.x.doc_section",
            None,
        ),
        (
            "type: string, title: T, visible_when: {field: y, equals: z}",
            "!visible-when 6:55 connection_config.x.visible_when.field",
            None,
        ),
        (
            "type: string, title: T, visible_when: {field: x, equals: z}",
            "!visible-when 6:33 connection_config.x.visible_when",
            None,
        ),
        (
            "type: string, title: T, optionl: true",
            "unknown-key 6:33 connection_config.x.optionl",
            Some("optional"),
        ),
    ] {
        let yaml = format!(
            "{HEAD}auth_mode: NONE\nconnection_config:\n    x: {{{field}}}\nproxy: {{base_url: 'https://${{connectionConfig.x}}'}}\n"
        );
        let (found, suggested) = findings(&yaml);
        if (found.first().map(String::as_str), suggested.as_deref()) != (Some(finding), suggestion) {
            wrong.push(format!("{field}: {found:?}, {suggested:?}; expected {finding:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn an_alias_is_told_what_it_repeats_and_what_it_loses() {
    let yaml = "
acme:
    display_name: Acme
    categories: [crm]
    docs: https://docs.example.com
    auth_mode: NONE
    proxy: {base_url: 'https://a.example', headers: {accept: x}}
acme-eu:
    alias: acme
    categories: [crm]
    proxy: {base_url: 'https://eu.a.example'}
";
    let all: Vec<String> = check_text("x.yaml", yaml)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        all,
        [
            "x.yaml:10:5: warning: acme-eu.categories: says the same as the alias's target; leave `categories` out [alias-repeats]",
            "x.yaml:11:5: warning: acme-eu.proxy: replaces all of the target's `proxy`, so headers is lost [alias-replaces]",
        ]
    );
}

#[test]
fn a_finding_shows_its_line() {
    let yaml = format!("{HEAD}auth_mode: OATH2\n");
    let finding = &check_text("acme.yaml", &yaml)[0];
    assert_eq!(
        excerpt(finding, Some(&yaml)),
        "error[auth-mode]: acme.auth_mode: `OATH2` is no auth mode; there are OAUTH1, OAUTH2, OAUTH2_CC, BASIC, API_KEY, \
         CUSTOM, APP, NONE, TBA, JWT, BILL, TWO_STEP, SIGNATURE, MCP_OAUTH2, MCP_OAUTH2_GENERIC, INSTALL_PLUGIN, \
         AWS_SIGV4\n --> acme.yaml:4:12\n  |\n4 | auth_mode: OATH2\n  |            ^^^^^ did you mean `OAUTH2`?\n"
    );
    assert_eq!(excerpt(finding, None).lines().nth(1), Some(" --> acme.yaml:4:12"));
    assert!(render(std::slice::from_ref(finding)).ends_with("\n1 error, 0 warnings\n"));
}

/// The extension's keys: what is wrong, where, and what was meant.
#[test]
fn token_clients_and_steps_are_checked_key_by_key() {
    let oauth = format!("{HEAD}{OAUTH2}proxy: {{base_url: 'https://a.example'}}\n");
    let mut wrong = Vec::new();
    // Line 8 is the first after the head.
    for (yaml, finding, suggestion) in [
        (
            "token_client: {exchnge: {}}",
            "unknown-key 8:16 token_client.exchnge",
            Some("exchange"),
        ),
        (
            "token_client: {public: 1}",
            "!wrong-type 8:24 token_client.public",
            None,
        ),
        (
            "token_client: {refresh: {with: acces_token}}",
            "!invalid-value 8:32 token_client.refresh.with",
            Some("access_token"),
        ),
        (
            "token_client: {refresh: {keep_refresh_token: alway}}",
            "!invalid-value 8:46 token_client.refresh.keep_refresh_token",
            Some("always"),
        ),
        (
            "token_client: {exchange: {params: {a: '${cod}'}}}",
            "variable 8:42 token_client.exchange.params.a",
            Some("code"),
        ),
        (
            "token_client: {exchange: {params: {a: '${connectionConfig.x}'}}}",
            "variable 8:42 token_client.exchange.params.a",
            None,
        ),
        (
            "token_client: {exchange: {headers: {a b: c}}}",
            "!header-name 8:37 token_client.exchange.headers.a b",
            None,
        ),
        (
            "token_client: {exchange: {then: {method: GET}}}",
            "!missing-key 8:27 token_client.exchange.then",
            None,
        ),
        (
            "token_client: {response: {status: [2x]}}",
            "!invalid-value 8:36 token_client.response.status[0]",
            None,
        ),
        (
            "token_client: {response: {success: {path: ok}}}",
            "!missing-key 8:27 token_client.response.success",
            None,
        ),
        (
            "token_client: {assertion: {claims: {}}}",
            "!missing-key 8:16 token_client.assertion",
            None,
        ),
        (
            "token_client: {extra_tokens: [{into: config.x, url: 'https://a.example'}]}",
            "!extra-token 8:38 token_client.extra_tokens[0].into",
            None,
        ),
        (
            "token_client: {introspection: {params: {}}}",
            "!missing-key 8:16 token_client.introspection",
            None,
        ),
        (
            "post_connection: [{reqest: {endpoint: /x}, unset: [a]}]",
            "unknown-key 8:20 post_connection[0].reqest",
            Some("request"),
        ),
        ("post_connection: [{}]", "!step 8:19 post_connection[0]", None),
        (
            "post_connection: [{request: {method: GET}}]",
            "!step 8:20 post_connection[0].request",
            None,
        ),
        (
            "post_connection: [{request: {endpoint: /x, url: 'https://a.example'}}]",
            "!step 8:20 post_connection[0].request",
            None,
        ),
        (
            "post_connection: [{request: {endpoint: /x, method: PATHC}}]",
            "!invalid-value 8:52 post_connection[0].request.method",
            Some("PATCH"),
        ),
        (
            "post_connection: [{request: {endpoint: /x, method: FETCH}}]",
            "!invalid-value 8:52 post_connection[0].request.method",
            None,
        ),
        (
            "post_connection: [{when: [{is: set}], unset: [a]}]",
            "!missing-key 8:27 post_connection[0].when[0]",
            None,
        ),
        (
            "post_connection: [{when: [{value: a}], unset: [a]}]",
            "!condition 8:27 post_connection[0].when[0]",
            None,
        ),
        (
            "post_connection: [{when: [{value: a, is: blnk}], unset: [a]}]",
            "!invalid-value 8:42 post_connection[0].when[0].is",
            Some("blank"),
        ),
        (
            "post_connection: [{set: {a: '${step2.x}'}}]",
            "variable 8:32 post_connection[0].set.a",
            None,
        ),
        (
            "post_connection: [{set: {a: '${anser.x}'}}]",
            "variable 8:32 post_connection[0].set.a",
            None,
        ),
        (
            "post_connection: [{set: {a: '${lowr(${answer.x})}'}}]",
            "!template 8:30 post_connection[0].set.a",
            Some("lower"),
        ),
        (
            "post_connection: [{choose: {otherwise: frist}, capture: {a: b}}]",
            "!invalid-value 8:40 post_connection[0].choose.otherwise",
            Some("first"),
        ),
        (
            "revoke: [{request: {endpoint: '/${connectionConfig.gone}'}}]",
            "variable 8:35 revoke[0].request.endpoint",
            None,
        ),
        (
            "revoke: [{request: {endpoint: /x, expect: {is: array}}}]",
            "!expect 8:44 revoke[0].request.expect.is",
            None,
        ),
        (
            "revoke: [{request: {endpoint: /x, expect: {lacks_pattern: '('}}}]",
            "!pattern 8:60 revoke[0].request.expect.lacks_pattern",
            None,
        ),
        (
            "post_connection_script: hubspotPostConection",
            "script 8:25 post_connection_script",
            Some("hubspotPostConnection"),
        ),
    ] {
        let (found, meant) = findings(&format!("{oauth}{yaml}\n"));
        if found.first().map(String::as_str) != Some(finding) || meant.as_deref() != suggestion {
            wrong.push(format!(
                "{yaml}\n  expected {finding} {suggestion:?}\n  found {found:?} {meant:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_the_callback_brings_is_confined_before_it_is_part_of_an_address() {
    let yaml = |pattern: &str| {
        format!(
            "{HEAD}auth_mode: OAUTH2\nauthorization_url: https://a.example/authorize\n\
             token_url: '${{connectionConfig.home}}/token'\nredirect_uri_metadata: [home]\n\
             connection_config: {{home: {{type: string, title: Home, description: Theirs., automated: true{pattern}}}}}\n"
        )
    };
    assert_eq!(findings(&yaml("")).0, ["url 6:13 token_url"]);
    assert!(
        findings(&yaml(", pattern: '^https://[a-z]+\\.a\\.example$'"))
            .0
            .is_empty()
    );
}

#[test]
fn a_secret_in_a_url_is_declared() {
    let yaml = |declared: &str| {
        format!(
            "{HEAD}auth_mode: TWO_STEP\n{declared}token_url: 'https://a.example/t?p=${{credentials.password}}'\ntoken_response: {{token: t}}\n\
             credentials: {{password: {{type: string, title: P, secret: true}}}}\n"
        )
    };
    assert_eq!(findings(&yaml("")).0, ["secret-in-url 5:13 token_url"]);
    assert_eq!(
        findings(&yaml("secrets_in_url: [password]\n")).0,
        Vec::<String>::new()
    );
    assert_eq!(
        findings(&yaml("secrets_in_url: [other]\n")).0,
        ["secret-in-url 6:13 token_url"]
    );
}

#[test]
fn what_steps_fill_is_declared_by_that() {
    let yaml = format!(
        "{HEAD}{OAUTH2}proxy: {{base_url: 'https://${{connectionConfig.dc}}.a.example'}}\n\
         post_connection: [{{request: {{url: 'https://a.example/me'}}, capture: {{dc: dc}}}}]\n"
    );
    assert_eq!(findings(&yaml).0, Vec::<String>::new());
    let modes = format!(
        "{HEAD}auth_mode: API_KEY\ntoken_client: {{public: true}}\ncredentials: {{apiKey: {{type: string, title: Key}}}}\n"
    );
    assert_eq!(findings(&modes).0, ["token-client 5:1 token_client"]);
}

#[test]
fn a_plain_reference_entry_gets_what_its_names_stand_for() {
    let text = "facebook: {display_name: F, auth_mode: OAUTH2, authorization_url: 'https://a.example', token_url: 'https://t.example'}\n\
         own: {alias: facebook, token_client: null}\n\
         acme: {display_name: A, auth_mode: NONE, post_connection_script: hubspotPostConnection, pre_connection_deletion_script: linearPreConnectionDeletion}\n\
         mine: {display_name: A, auth_mode: NONE, post_connection_script: hubspotPostConnection, post_connection: []}\n\
         keyed: {display_name: A, auth_mode: API_KEY, proxy: {base_url: 'https://a.example'}, credentials_verification_script: skioCredentialsVerification}\n\
         bare: {display_name: A, auth_mode: API_KEY, proxy: {base_url: 'https://a.example'}, credentials_verification_script: cdwCredentialsVerification}\n";
    let (catalogue, findings) = crate::Catalogue::from_text("providers.yaml", text);
    assert!(
        findings.iter().all(|finding| finding.severity != Severity::Error),
        "{findings:?}"
    );
    let of = |name: &str| catalogue.get(name).unwrap().definition.clone();
    let shipped = crate::Catalogue::built_in();
    assert_eq!(
        of("facebook").token_client,
        shipped.get("facebook").unwrap().definition.token_client
    );
    assert!(of("facebook").token_client.is_some());
    assert_eq!(of("own").token_client, None);
    assert_eq!(
        of("acme").post_connection,
        shipped.get("hubspot").unwrap().definition.post_connection
    );
    assert_eq!(
        of("acme").revoke,
        shipped.get("linear").unwrap().definition.revoke
    );
    assert!(of("mine").post_connection.is_empty());
    assert!(of("keyed").proxy.verification.is_some());
    // A script that the shipped entry says is no check at all is none here either.
    let bare = of("bare");
    assert_eq!(
        (bare.proxy.verification, bare.credentials_verification_script),
        (None, None)
    );
}
