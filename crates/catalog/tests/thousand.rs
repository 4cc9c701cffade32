//! A thousand entries, twenty of them faulty, each in its own way: the others load, and each fault is named, located
//! and explained.

use std::fmt::Write as _;

use patchbay_ambient::{Entropy, SeededEntropy};
use patchbay_catalog::{Catalogue, Severity, check};

const ENTRIES: usize = 1_000;
const SEED: u64 = 20_260_102;

/// Where and what a planted fault is.
struct Planted {
    provider: String,
    /// 1-based.
    line: usize,
    fault: &'static Fault,
}

/// An entry that cannot be used. `{}` in the text is the entry's name.
struct Fault {
    rule: &'static str,
    /// Lines of the entry; the first is its key.
    text: &'static str,
    /// Which of them the fault is in.
    line: usize,
    column: u32,
    /// In the explanation.
    says: &'static str,
    suggests: Option<&'static str>,
}

const FAULTS: [Fault; 20] = [
    Fault {
        rule: "syntax",
        text: "{}:\n    display_name: \"Acme\n    auth_mode: NONE\n",
        line: 1,
        column: 19,
        says: "is no valid YAML",
        suggests: None,
    },
    Fault {
        rule: "syntax",
        text: "{}:\n    display_name: Acme\n\tauth_mode: NONE\n",
        line: 2,
        column: 1,
        says: "a tab cannot indent",
        suggests: None,
    },
    Fault {
        rule: "duplicate-key",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    docs: https://d.example\n    auth_mode: BASIC\n",
        line: 4,
        column: 5,
        says: "`auth_mode` is already set in line",
        suggests: None,
    },
    Fault {
        rule: "wrong-type",
        text: "{}:\n    - display_name: Acme\n    - auth_mode: NONE\n",
        line: 1,
        column: 5,
        says: "a definition is a mapping",
        suggests: None,
    },
    Fault {
        rule: "missing-key",
        text: "{}:\n    auth_mode: NONE\n    docs: https://d.example\n",
        line: 0,
        column: 1,
        says: "`display_name` is missing",
        suggests: None,
    },
    Fault {
        rule: "auth-mode",
        text: "{}:\n    display_name: Acme\n    auth_mode: OATH2\n    docs: https://d.example\n",
        line: 2,
        column: 16,
        says: "`OATH2` is no auth mode",
        suggests: Some("OAUTH2"),
    },
    Fault {
        rule: "retired",
        text: "{}:\n    display_name: Acme\n    docs: https://d.example\n    auth_mode: APP_STORE\n",
        line: 3,
        column: 16,
        says: "`APP_STORE` is a retired mode",
        suggests: Some("JWT"),
    },
    Fault {
        rule: "alias-target",
        text: "{}:\n    display_name: Acme\n    alias: plain-001x\n",
        line: 2,
        column: 12,
        says: "there is no provider `plain-001x`",
        suggests: Some("plain-0010"),
    },
    Fault {
        rule: "alias-circle",
        text: "{}:\n    display_name: Acme\n    alias: {}\n",
        line: 2,
        column: 12,
        says: "aliases go round in a circle",
        suggests: None,
    },
    Fault {
        rule: "wrong-type",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    proxy: https://api.example.com\n",
        line: 3,
        column: 12,
        says: "`proxy` is a mapping, not a string",
        suggests: None,
    },
    Fault {
        rule: "invalid-value",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    body_format: jason\n",
        line: 3,
        column: 18,
        says: "`jason` is not one of form, json, query, xml",
        suggests: Some("json"),
    },
    Fault {
        rule: "template",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    proxy:\n        headers:\n            x-key: Key ${apiKey\n",
        line: 5,
        column: 24,
        says: "`${` is never closed",
        suggests: None,
    },
    Fault {
        rule: "template",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    proxy:\n        headers:\n            authorization: Basic ${base46(${apiKey}:)}\n",
        line: 5,
        column: 34,
        says: "there is no function `base46`",
        suggests: Some("base64"),
    },
    Fault {
        rule: "url",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    proxy:\n        base_url: api.example.com/v1\n",
        line: 4,
        column: 19,
        says: "`api.example.com/v1` makes no URL",
        suggests: None,
    },
    Fault {
        rule: "header-name",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    proxy:\n        headers:\n            x key: abc\n",
        line: 5,
        column: 13,
        says: "`x key` cannot be a header's name",
        suggests: None,
    },
    Fault {
        rule: "invalid-value",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    proxy:\n        retry:\n            error_code:\n                - '403'\n                - 700\n",
        line: 7,
        column: 19,
        says: "`700` is no status",
        suggests: None,
    },
    Fault {
        rule: "missing-key",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    proxy:\n        paginate:\n            limit_name_in_request: size\n",
        line: 4,
        column: 9,
        says: "`paginate` needs its `type`",
        suggests: None,
    },
    Fault {
        rule: "visible-when",
        text: "{}:\n    display_name: Acme\n    auth_mode: NONE\n    integration_config:\n        mode: {type: string, title: M}\n        key: {type: string, title: K, visible_when: {field: mod, equals: a}}\n",
        line: 5,
        column: 61,
        says: "there is no field `mod`",
        suggests: Some("mode"),
    },
    Fault {
        rule: "mode-requires",
        text: "{}:\n    display_name: Acme\n    auth_mode: OAUTH2\n    token_url: https://api.example.com/token\n",
        line: 2,
        column: 16,
        says: "`OAUTH2` needs `authorization_url`",
        suggests: None,
    },
    Fault {
        rule: "grant-type",
        text: "{}:\n    display_name: Acme\n    auth_mode: OAUTH2\n    authorization_url: https://a.example/a\n    token_url: https://a.example/t\n    token_params:\n        grant_type: password\n",
        line: 6,
        column: 21,
        says: "needs the grant `authorization_code`, not `password`",
        suggests: None,
    },
];

/// The shapes of good entries.
const SHAPES: [(&str, &str); 8] = [
    (
        "plain",
        "auth_mode: NONE\n    proxy: {base_url: 'https://{}.example.com'}",
    ),
    (
        "key",
        "auth_mode: API_KEY\n    proxy:\n        base_url: https://api.{}.example\n        headers: {authorization: 'Bearer ${apiKey}'}\n        verification: {method: GET, endpoints: [/me]}\n    credentials:\n        apiKey: {type: string, title: Key, description: '', secret: true, pattern: '^(?!test)[a-z0-9]+$'}",
    ),
    (
        "basic",
        "auth_mode: BASIC\n    proxy:\n        base_url: https://${connectionConfig.subdomain}.{}.example\n        retry: {after: [retry-after]}\n    connection_config:\n        subdomain: {type: string, title: Site, description: '', prefix: 'https://', suffix: .{}.example, order: 1}\n    credentials:\n        username: {type: string, title: User, description: ''}\n        password: {type: string, title: Password, description: '', secret: true}",
    ),
    (
        "oauth",
        "auth_mode: OAUTH2\n    authorization_url: https://${connectionConfig.host}/oauth || https://{}.example/oauth\n    token_url: https://{}.example/token\n    token_params: {expiring: 1}\n    refresh_params: {grant_type: refresh_token}\n    default_scopes: [read]\n    proxy: {base_url: 'https://{}.example/api', paginate: {type: link, link_rel_in_response_header: next}}\n    connection_config:\n        host: {type: string, title: Host, description: '', format: hostname, optional: true}",
    ),
    (
        "clients",
        "auth_mode: OAUTH2_CC\n    token_url: https://{}.example/token\n    token_request_auth_method: basic\n    token_params: {grant_type: client_credentials}\n    proxy: {base_url: 'https://{}.example/api'}\n    credentials:\n        client_id: {type: string, title: Id, description: ''}\n        client_secret: {type: string, title: Secret, description: '', secret: true}",
    ),
    (
        "steps",
        "auth_mode: TWO_STEP\n    token_url: https://{}.example/session\n    token_headers:\n        authorization: Basic ${base64(${credentials.id}:${credentials.secret})}\n        x-date: ${now:YYYY-MM-DDTHH:mm:ss}\n    token_params: {grant_type: client_credentials}\n    token_response: {token: data.token, token_expiration: data.ttl, token_expiration_strategy: expireIn}\n    proxy: {base_url: 'https://{}.example'}\n    credentials:\n        id: {type: string, title: Id, description: ''}\n        secret: {type: string, title: Secret, description: '', secret: true}",
    ),
    (
        "signed",
        "auth_mode: JWT\n    signature: {protocol: RSA}\n    token:\n        signing_key: ${credentials.privateKey}\n        expires_in_ms: 300000\n        header: {alg: RS256}\n        payload: {iss: '${credentials.issuer}'}\n    proxy: {base_url: 'https://{}.example', headers: {authorization: 'Bearer ${accessToken}'}}\n    credentials:\n        issuer: {type: string, title: Issuer, description: ''}\n        privateKey: {type: string, title: Key, description: '', secret: true}",
    ),
    ("variation", "alias: plain-0000"),
];

fn below(entropy: &SeededEntropy, bound: usize) -> usize {
    let number = entropy.below(u64::try_from(bound).expect("small"));
    usize::try_from(number).expect("below the bound")
}

fn good(index: usize, entropy: &SeededEntropy) -> (String, String) {
    // The first is what variations vary.
    let shape = if index == 0 { 0 } else { below(entropy, 8) };
    let (kind, body) = SHAPES[shape];
    let name = format!("{kind}-{index:04}");
    let extra = if below(entropy, 3) == 0 {
        "    # a comment: with a colon\n"
    } else {
        ""
    };
    let text = format!(
        "{name}:\n    display_name: Number {index}\n{extra}    categories: [other]\n    {}\n    docs: https://docs.example.com/{index}\n",
        body.replace("{}", &name)
    );
    (name, text)
}

fn generate() -> (String, Vec<String>, Vec<Planted>) {
    let entropy = SeededEntropy::new(SEED);
    let mut places: Vec<usize> = Vec::new();
    while places.len() < FAULTS.len() {
        let place = 20 + below(&entropy, ENTRIES - 20);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let mut text = "# Generated.\n".to_owned();
    let (mut sound, mut planted) = (Vec::new(), Vec::new());
    let mut before = 1;
    for index in 0..ENTRIES {
        let start = text.len();
        if let Some(fault) = places
            .iter()
            .position(|place| *place == index)
            .map(|at| &FAULTS[at])
        {
            let provider = format!("faulty-{index:04}");
            text.push_str(
                &fault
                    .text
                    .replace("{}:", &format!("{provider}:"))
                    .replace("alias: {}", &format!("alias: {provider}")),
            );
            planted.push(Planted {
                provider,
                line: before + fault.line + 1,
                fault,
            });
        } else {
            // Ten plain ones whose names are known, the target of a misspelt alias among them.
            let (name, entry) = if index == 10 {
                (
                    "plain-0010".to_owned(),
                    good(0, &entropy).1.replace("plain-0000", "plain-0010"),
                )
            } else {
                good(index, &entropy)
            };
            text.push_str(&entry);
            sound.push(name);
        }
        if below(&entropy, 4) == 0 {
            text.push('\n');
        }
        before += text[start..].lines().count();
    }
    (text, sound, planted)
}

#[test]
fn the_good_ones_load_and_each_fault_is_named_located_and_explained() {
    let (text, sound, planted) = generate();
    let (catalogue, findings) = Catalogue::from_text("providers.yaml", &text);
    let loaded: Vec<&str> = catalogue.iter().map(|provider| provider.name.as_str()).collect();
    let mut expected: Vec<&str> = sound.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(loaded, expected);
    assert_eq!(catalogue.len(), ENTRIES - FAULTS.len());

    let errors: Vec<_> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .collect();
    let mut wrong = String::new();
    for Planted {
        provider,
        line,
        fault,
    } in &planted
    {
        let found: Vec<_> = errors
            .iter()
            .filter(|finding| finding.provider.as_ref() == Some(provider))
            .collect();
        let fits = found.len() == 1
            && found[0].rule == fault.rule
            && found[0].line == u32::try_from(*line).ok()
            && found[0].column == Some(fault.column)
            && found[0].message.contains(fault.says)
            && found[0].suggestion.as_deref() == fault.suggests;
        if !fits {
            writeln!(
                wrong,
                "{provider} {}: {}, line {line}, column {}: {found:#?}",
                fault.rule, fault.says, fault.column
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(errors.len(), planted.len(), "nothing else is called an error");
    let warned = findings
        .iter()
        .any(|finding| finding.severity == Severity::Warning);
    assert!(!warned, "the good ones are good: {findings:#?}");
}

#[test]
fn the_check_shows_each_fault_with_its_line() {
    let (text, _, planted) = generate();
    let findings = check::check_text("providers.yaml", &text);
    for Planted { provider, line, .. } in &planted {
        let finding = findings
            .iter()
            .find(|f| f.severity == Severity::Error && f.provider.as_ref() == Some(provider))
            .unwrap();
        let shown = check::excerpt(finding, Some(&text));
        let source = text.lines().nth(line - 1).unwrap();
        assert!(shown.contains(&format!("{line} | {source}")), "{shown}");
        assert!(shown.lines().last().unwrap().contains('^'), "{shown}");
    }
}

#[test]
fn the_same_seed_makes_the_same_file() {
    assert_eq!(generate().0, generate().0);
}
