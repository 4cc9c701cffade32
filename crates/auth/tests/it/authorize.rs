//! auth-flows §7.

use std::collections::{BTreeMap, HashSet};

use patchbay_auth::oauth2::authorize::{Authorization, AuthorizeError, AuthorizeInput, authorize};
use patchbay_auth::oauth2::pkce;
use patchbay_catalog::Provider;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{JsonMap, Secret};
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

use crate::support::{ambient, object, provider, secrets};

const CALLBACK: &str = "https://connect.example.com/oauth/callback";
const STATE: &str = "the-state";

struct Given {
    config: JsonMap,
    params: BTreeMap<String, String>,
    overrides: BTreeMap<String, Secret>,
    secrets: IntegrationSecrets,
    user_scopes: Option<&'static str>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            config: JsonMap::new(),
            params: BTreeMap::new(),
            overrides: BTreeMap::new(),
            secrets: secrets(),
            user_scopes: None,
        }
    }
}

fn begin(provider: &Provider, given: &Given) -> Result<Authorization, AuthorizeError> {
    let input = AuthorizeInput {
        provider,
        secrets: &given.secrets,
        connection_config: &given.config,
        authorization_params: &given.params,
        user_scopes: given.user_scopes,
        client_override: &given.overrides,
        state: STATE,
        callback_url: CALLBACK,
    };
    authorize(&input, &ambient())
}

fn oauth2(extra: Value) -> Value {
    let mut definition = object(json!({
        "auth_mode": "OAUTH2",
        "authorization_url": "https://id.example.com/authorize?dropped=1#too",
        "token_url": "https://id.example.com/token",
    }));
    definition.extend(object(extra));
    Value::Object(definition)
}

fn pairs(url: &Url) -> Vec<(String, String)> {
    url.query_pairs().into_owned().collect()
}

fn param(url: &Url, name: &str) -> Option<String> {
    pairs(url)
        .into_iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value)
}

#[test]
fn the_plain_case_in_the_contracts_order() {
    let started = begin(&provider("acme", oauth2(json!({}))), &Given::default()).unwrap();
    let verifier = started.code_verifier.unwrap();
    assert_eq!(
        started.url.as_str(),
        format!(
            "https://id.example.com/authorize?response_type=code&client_id=the-client\
             &redirect_uri=https%3A%2F%2Fconnect.example.com%2Foauth%2Fcallback&scope=read%20write&state=the-state\
             &code_challenge={}&code_challenge_method=S256",
            pkce::challenge(&verifier)
        )
    );
    assert_eq!(verifier.expose().len(), 48);
    assert!(verifier.expose().bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn later_parameters_win_and_undefined_removes() {
    let entry = provider(
        "acme",
        oauth2(
            json!({"disable_pkce": true, "scope_separator": ",", "authorization_params": {
            "prompt": "consent", "access_type": "offline", "response_type": "code", "n": 1, "b": false,
            "tenant": "${connectionConfig.tenant} || common"}}),
        ),
    );
    let given = Given {
        params: [
            ("prompt", "login"),
            ("access_type", "undefined"),
            ("extra", "a&b=c"),
            ("scope", "only"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into(),
        ..Given::default()
    };
    let started = begin(&entry, &given).unwrap();
    assert!(started.code_verifier.is_none());
    assert_eq!(
        started.url.query().unwrap(),
        "response_type=code&client_id=the-client&redirect_uri=https%3A%2F%2Fconnect.example.com%2Foauth%2Fcallback\
         &scope=only&state=the-state&prompt=login&n=1&b=false&tenant=common&extra=a%26b%3Dc"
    );
}

#[test]
fn what_holds_the_flow_together_cannot_be_overridden() {
    let entry = provider("acme", oauth2(json!({})));
    for name in [
        "state",
        "redirect_uri",
        "client_id",
        "code_challenge",
        "code_challenge_method",
    ] {
        for value in ["evil", "undefined", ""] {
            let given = Given {
                params: [(name.to_owned(), value.to_owned())].into(),
                ..Given::default()
            };
            let error = begin(&entry, &given).unwrap_err();
            assert_eq!(error, AuthorizeError::FixedParam(name));
            assert_eq!(error.code(), "url_param_err");
        }
    }
    let same = Given {
        params: [("state".to_owned(), STATE.to_owned())].into(),
        ..Given::default()
    };
    assert!(begin(&entry, &same).is_ok());
}

#[test]
fn odd_urls_are_assembled_as_their_definitions_ask() {
    let simple = |extra: Value| {
        let mut extra = object(extra);
        extra.insert("disable_pkce".to_owned(), true.into());
        begin(&provider("acme", oauth2(Value::Object(extra))), &Given::default())
            .unwrap()
            .url
            .to_string()
    };
    let callback = "https%3A%2F%2Fconnect.example.com%2Foauth%2Fcallback";
    assert_eq!(
        simple(json!({"authorization_url_skip_encode": ["scopes"], "scope_separator": "+"})),
        format!(
            "https://id.example.com/authorize?response_type=code&client_id=the-client&redirect_uri={callback}\
             &state=the-state&scope=read+write"
        )
    );
    assert_eq!(
        simple(json!({"authorization_url_fragment": "/auth"})),
        format!(
            "https://id.example.com/authorize#/auth?response_type=code&client_id=the-client&redirect_uri={callback}\
             &scope=read%20write&state=the-state"
        )
    );
    assert_eq!(
        simple(
            json!({"authorization_url_replacements": {"client_id=": "client_key=", "redirect_uri=": "redirectUri="}})
        ),
        format!(
            "https://id.example.com/authorize?response_type=code&client_key=the-client&redirectUri={callback}\
             &scope=read%20write&state=the-state"
        )
    );
}

#[test]
fn an_empty_scope_is_sent_unless_empties_are_skipped() {
    let given = Given {
        secrets: IntegrationSecrets {
            scopes: None,
            ..secrets()
        },
        ..Given::default()
    };
    let url = begin(&provider("acme", oauth2(json!({}))), &given).unwrap().url;
    assert_eq!(param(&url, "scope").as_deref(), Some(""));
    let url = begin(
        &provider("acme", oauth2(json!({"authorization_url_skip_empty": true}))),
        &given,
    )
    .unwrap()
    .url;
    assert_eq!(param(&url, "scope"), None);
    let raw = oauth2(json!({"authorization_url_skip_encode": ["scopes"]}));
    assert_eq!(
        param(&begin(&provider("acme", raw), &given).unwrap().url, "scope"),
        None
    );
}

#[test]
fn scopes_may_be_overridden_by_the_session_and_slack_has_user_scopes() {
    for scopes in [json!(["a", "b"]), json!("a,b")] {
        let given = Given {
            config: object(json!({"oauth_scopes_override": scopes})),
            ..Given::default()
        };
        let url = begin(&provider("acme", oauth2(json!({}))), &given).unwrap().url;
        assert_eq!(param(&url, "scope").as_deref(), Some("a b"));
    }
    let given = Given {
        user_scopes: Some("users:read"),
        ..Given::default()
    };
    let url = begin(&provider("slack", oauth2(json!({}))), &given).unwrap().url;
    assert_eq!(param(&url, "user_scope").as_deref(), Some("users:read"));
    let url = begin(&provider("acme", oauth2(json!({}))), &given).unwrap().url;
    assert_eq!(param(&url, "user_scope"), None);
}

#[test]
fn the_connections_own_client_is_used_when_whole() {
    let entry = provider("acme", oauth2(json!({})));
    let with = |names: &[&str]| Given {
        overrides: names
            .iter()
            .map(|name| ((*name).to_owned(), Secret::new("own")))
            .collect(),
        ..Given::default()
    };
    let both = with(&["oauth_client_id_override", "oauth_client_secret_override"]);
    assert_eq!(
        param(&begin(&entry, &both).unwrap().url, "client_id").as_deref(),
        Some("own")
    );
    let half = with(&["oauth_client_id_override"]);
    assert_eq!(
        param(&begin(&entry, &half).unwrap().url, "client_id").as_deref(),
        Some("the-client")
    );
    let nobody = Given {
        secrets: IntegrationSecrets::default(),
        ..with(&["oauth_client_id_override"])
    };
    assert_eq!(begin(&entry, &nobody).unwrap_err().code(), "provider_config_err");
}

#[test]
fn missing_parameters_are_told_before_the_end_user_is_asked() {
    let entry = provider(
        "acme",
        oauth2(json!({
            "authorization_url": "https://${connectionConfig.subdomain}.example.com/authorize",
            "authorization_params": {"realm": "${connectionConfig.realm}"},
            "token_params": {"account": "${connectionConfig.account}", "note": "${connectionConfig.note}"},
            "connection_config": {
                "subdomain": {"type": "string", "title": "", "description": ""},
                "realm": {"type": "string", "title": "", "description": ""},
                "account": {"type": "string", "title": "", "description": ""},
                "note": {"type": "string", "title": "", "description": "", "optional": true}},
        })),
    );
    let error = begin(&entry, &Given::default()).unwrap_err();
    assert_eq!(error.code(), "url_param_err");
    assert_eq!(
        error.to_string(),
        "no value for connectionConfig.account, connectionConfig.realm, connectionConfig.subdomain"
    );
    let config = |subdomain: &str| Given {
        config: object(json!({"subdomain": subdomain, "realm": "r", "account": "a"})),
        ..Given::default()
    };
    let url = begin(&entry, &config("acme")).unwrap().url;
    assert_eq!(url.host_str(), Some("acme.example.com"));
    for hostile in [
        "",
        "evil.com/",
        "evil.com#",
        "evil.com?",
        "user@evil.com/",
        "evil.com\\",
    ] {
        let error = begin(&entry, &config(hostile)).unwrap_err();
        assert_eq!(error.code(), "url_param_err", "{hostile}");
    }
}

#[test]
fn flows_that_cannot_work_are_refused_at_once() {
    // The catalogue refuses such a definition; one made in code must not get further either.
    let other = provider(
        "other",
        json!({"auth_mode": "OAUTH2_CC", "token_url": "https://id.example.com/token",
        "credentials": {"client_id": {"type": "string", "title": "", "description": ""}},
        "token_params": {"grant_type": "password"}}),
    );
    let mut wrong = Provider::clone(&provider("acme", oauth2(json!({}))));
    wrong.definition.token_params = other.definition.token_params.clone();
    let error = begin(&wrong, &Given::default()).unwrap_err();
    assert_eq!(error.code(), "grant_type_err");
    let code = oauth2(json!({"token_params": {"grant_type": "authorization_code"}}));
    assert!(begin(&provider("acme", code), &Given::default()).is_ok());
    // What only the exchange needs is asked for before anybody is sent away; what the callback brings is not.
    let exchange =
        json!({"params": {"a": "${connectionConfig.a}", "b": "${connectionConfig.b}", "c": "${code}"}});
    let late = json!({"token_client": {"exchange": exchange}, "redirect_uri_metadata": ["b"],
        "connection_config": {"a": {"type": "string", "title": "A", "description": "A"}}});
    let error = begin(&provider("acme", oauth2(late)), &Given::default()).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string()),
        ("url_param_err", "no value for connectionConfig.a".to_owned())
    );
    let error = begin(
        &provider("acme", oauth2(json!({"installation": "outbound"}))),
        &Given::default(),
    )
    .unwrap_err();
    assert_eq!(error.code(), "auth_mode_err");
}

#[test]
fn no_error_and_no_debug_shows_the_secret() {
    let entry = provider("acme", oauth2(json!({})));
    let given = Given::default();
    let started = begin(&entry, &given).unwrap();
    let shown = format!("{started:?}");
    assert!(!shown.contains(started.code_verifier.unwrap().expose()));
    assert!(!started.url.as_str().contains("planted-client-secret"));
}

proptest! {
    /// Whatever the browser asks for: the page stays at the provider's origin, no parameter comes twice, and those
    /// that hold the flow together are ours.
    #[test]
    fn nothing_a_browser_sends_bends_the_url(
        params in prop::collection::btree_map("[ -~]{1,16}|prompt|scope|nonce", "[ -~é]{0,24}|undefined", 0..6),
        config in "[ -~]{0,20}",
    ) {
        let entry = provider("acme", oauth2(json!({"authorization_params": {"c": "${connectionConfig.c} || none"}})));
        let fixed = ["state", "redirect_uri", "client_id", "code_challenge", "code_challenge_method"];
        prop_assume!(!params.keys().any(|name| fixed.contains(&name.as_str())));
        let given = Given { config: object(json!({"c": config})), params: params.clone(), ..Given::default() };
        let started = begin(&entry, &given).unwrap();
        prop_assert_eq!(started.url.origin().ascii_serialization(), "https://id.example.com");
        prop_assert_eq!(started.url.path(), "/authorize");
        let pairs = pairs(&started.url);
        let names: HashSet<_> = pairs.iter().map(|(name, _)| name).collect();
        prop_assert_eq!(names.len(), pairs.len());
        for (name, value) in [("state", STATE), ("redirect_uri", CALLBACK), ("client_id", "the-client")] {
            prop_assert_eq!(param(&started.url, name), Some(value.to_owned()));
        }
        for (name, value) in &params {
            let expect = (value != "undefined").then(|| value.clone());
            prop_assert_eq!(param(&started.url, name), expect);
        }
    }
}
