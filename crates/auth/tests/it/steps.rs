//! auth-flows §23, catalog-format §7.2 and §7.4: the engine, and the steps of every provider we ship.

use std::sync::Arc;
use std::time::Duration;

use patchbay_auth::request::Subject;
use patchbay_auth::steps::{Carried, carry_out};
use patchbay_catalog::definition::ProviderStep;
use patchbay_catalog::{Catalogue, Definition, Provider};
use serde_json::{Value, json};

use crate::support::{Reply, Seen, Upstream, ambient, client, credentials, object, provider, secrets};

/// Which of a definition's steps.
#[derive(Clone, Copy)]
enum Which {
    PostConnection,
    Revoke,
}

impl Which {
    fn of(self, definition: &Definition) -> &[ProviderStep] {
        match self {
            Self::PostConnection => &definition.post_connection,
            Self::Revoke => &definition.revoke,
        }
    }
}

/// A connection and what its provider answers, one request after the other.
struct Told {
    credentials: Value,
    config: Value,
    metadata: Value,
    replies: Vec<Reply>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            credentials: json!({"type": "OAUTH2", "access_token": "planted-access",
                "refresh_token": "planted-refresh", "raw": {}}),
            config: json!({}),
            metadata: json!({}),
            replies: Vec::new(),
        }
    }
}

async fn run(make: impl FnOnce(&str) -> Arc<Provider>, which: Which, told: Told) -> (Carried, Vec<Seen>) {
    let ambient = ambient();
    let upstream = Upstream::start(&ambient, told.replies).await;
    let provider = make(&upstream.origin);
    let (secrets, credentials) = (secrets(), credentials(told.credentials));
    let (config, metadata) = (object(told.config), object(told.metadata));
    let subject = Subject {
        definition: &provider.definition,
        secrets: &secrets,
        credentials: &credentials,
        connection_config: &config,
        connection_id: "conn-1",
        metadata: Some(&metadata),
    };
    let steps = which.of(&provider.definition);
    let carried = carry_out(
        &client(&ambient),
        steps,
        &subject,
        Duration::from_secs(30),
        &ambient,
    )
    .await;
    (carried, upstream.seen())
}

/// Steps of our own below `BASE`.
async fn own(steps: Value, told: Told) -> (Carried, Vec<Seen>) {
    let make = |origin: &str| {
        let definition = json!({"auth_mode": "OAUTH2", "authorization_url": "https://id.example.com/a",
            "token_url": "https://id.example.com/t", "post_connection": steps,
            "proxy": {"base_url": "BASE/api", "headers": {"x-extra": "e", "x-site": "${connectionConfig.site}"}},
            "connection_config": {"site": {"type": "string", "title": "Site", "description": ""}}});
        provider(
            "acme",
            serde_json::from_str(&definition.to_string().replace("BASE", origin)).unwrap(),
        )
    };
    run(make, Which::PostConnection, told).await
}

fn ok(body: Value) -> Vec<Reply> {
    vec![Reply::Json(200, body)]
}

#[tokio::test]
async fn a_request_is_made_with_the_connections_credentials() {
    let steps = json!([{"request": {"method": "POST", "endpoint": "/things/${connectionConfig.site}",
        "query": {"page": "1", "gone": "${connectionConfig.gone}"},
        "headers": {"x-own": "o ${connection_id}", "x-gone": "${connectionConfig.gone}"},
        "data": {"a": "${claims.sub}", "gone": "${answer.x}", "n": 1}}}]);
    let token = {
        let claims = data_encoding::BASE64URL_NOPAD.encode(br#"{"sub":"s1"}"#);
        format!("e30.{claims}.x")
    };
    let told = Told {
        credentials: json!({"type": "OAUTH2", "access_token": token, "raw": {}}),
        config: json!({"site": "s/1"}),
        replies: ok(json!({})),
        ..Told::default()
    };
    let (carried, seen) = own(steps, told).await;
    assert!(
        carried.failure.is_none() && carried.effects.is_empty(),
        "{carried:?}"
    );
    let seen = &seen[0];
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/api/things/s%2F1?page=1")
    );
    assert_eq!(
        seen.header("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
    assert_eq!(
        (seen.header("x-extra"), seen.header("x-site")),
        (Some("e"), Some("s/1"))
    );
    assert_eq!(
        (seen.header("x-own"), seen.header("x-gone")),
        (Some("o conn-1"), None)
    );
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.body, r#"{"a":"s1","n":1}"#);

    let form = json!([{"request": {"method": "POST", "url": "BASE/elsewhere?x=1", "body_format": "form",
        "data": {"token": "${accessToken}"}}}]);
    let (_, seen) = own(
        form,
        Told {
            replies: ok(json!({})),
            ..Told::default()
        },
    )
    .await;
    assert_eq!(
        (seen[0].target.as_str(), seen[0].body.as_str()),
        ("/elsewhere?x=1", "token=planted-access")
    );
}

#[tokio::test]
async fn what_is_found_goes_where_it_should() {
    let steps = json!([
        {"request": {"endpoint": "/me"}, "capture": {"n": "id", "name": "name", "flag": "flag", "all": "list", "no": "x.y"},
         "set": {"joined": "${answer.name}-${answer.id}", "on": true, "none": "${answer.x}"},
         "metadata": {"plan": "${answer.list.0.plan}"}, "unset": ["old", "name"]},
        {"keep_existing": true, "set": {"kept": "new", "blank": "new"}, "metadata": {"plan": "other", "m": "new"}},
        {"when": [{"value": "${connectionConfig.joined}", "equals": "Ada-7"}, {"value": "${answer.flag}", "equals": "true"}],
         "set": {"later": "${step1.name}"}},
        {"when": [{"value": "${connectionConfig.later}", "is": "blank"}], "set": {"never": "x"}},
    ]);
    let told = Told {
        config: json!({"old": "o", "kept": "k", "blank": ""}),
        metadata: json!({"m": "there"}),
        replies: ok(json!({"id": 7, "name": "Ada", "flag": true, "list": [{"plan": "pro"}]})),
        ..Told::default()
    };
    let (carried, _) = own(steps, told).await;
    assert!(carried.failure.is_none(), "{carried:?}");
    let effects = carried.effects;
    assert_eq!(
        Value::Object(effects.config),
        json!({"n": "7", "flag": true, "all": [{"plan": "pro"}],
        "joined": "Ada-7", "on": true, "blank": "new", "later": "Ada"})
    );
    assert_eq!(effects.unset, ["old", "name"]);
    assert_eq!(Value::Object(effects.metadata), json!({"plan": "other"}));
}

#[tokio::test]
async fn an_element_is_chosen_or_none_is() {
    let list = json!({"sites": [{"id": "a", "main": false}, {"id": "b", "main": true}]});
    let one = json!({"sites": [{"id": "a", "main": false}]});
    let main = json!([{"value": "${item.main}", "equals": "true"}]);
    let named = json!([{"value": "${item.id}", "equals": "${connectionConfig.site}"}]);
    for (matching, otherwise, answer, chosen) in [
        (&main, "nothing", &list, Some("b")),
        (&main, "nothing", &one, None),
        (&main, "first", &one, Some("a")),
        (&named, "only", &one, Some("a")),
        (&named, "only", &list, None),
        (&named, "first", &list, Some("a")),
        (&named, "first", &json!({}), None),
    ] {
        let steps = json!([{"request": {"endpoint": "/sites"}, "capture": {"id": "id"}, "set": {"set": "yes"},
            "choose": {"from": "sites", "where": matching, "otherwise": otherwise}}]);
        let (carried, _) = own(
            steps,
            Told {
                replies: ok(answer.clone()),
                ..Told::default()
            },
        )
        .await;
        let config = carried.effects.config;
        let expected = chosen
            .map(|id| json!({"id": id, "set": "yes"}))
            .unwrap_or(json!({}));
        assert_eq!(Value::Object(config), expected, "{matching} {otherwise} {answer}");
    }
}

#[tokio::test]
async fn a_failure_ends_the_steps_and_keeps_what_came_before() {
    let steps = |optional: bool| json!([{"set": {"a": "1"}}, {"optional": optional, "request": {"endpoint": "/x"}}, {"set": {"b": "2"}}]);
    for (reply, transient, words) in [
        (
            Reply::Json(403, json!({"secret": "planted-access"})),
            false,
            "step 2: the provider answered 403",
        ),
        (
            Reply::Json(429, json!({})),
            true,
            "step 2: the provider answered 429",
        ),
        (
            Reply::Json(503, json!({})),
            true,
            "step 2: the provider answered 503",
        ),
    ] {
        let (carried, seen) = own(
            steps(false),
            Told {
                replies: vec![reply],
                ..Told::default()
            },
        )
        .await;
        let failure = carried.failure.unwrap();
        assert_eq!(
            (failure.error.is_transient(), failure.to_string().as_str()),
            (transient, words)
        );
        assert_eq!(Value::Object(carried.effects.config), json!({"a": "1"}));
        assert_eq!(seen.len(), 1, "nothing is repeated here");
    }
    let replies = vec![Reply::Json(500, json!({}))];
    let (carried, _) = own(
        steps(true),
        Told {
            replies,
            ..Told::default()
        },
    )
    .await;
    assert!(carried.failure.is_none());
    assert_eq!(Value::Object(carried.effects.config), json!({"a": "1", "b": "2"}));

    let (carried, seen) = own(
        json!([{"request": {"endpoint": "/${connectionConfig.site}"}}]),
        Told::default(),
    )
    .await;
    let failure = carried.failure.unwrap();
    assert!(!failure.error.is_transient() && seen.is_empty());
    assert_eq!(
        failure.to_string(),
        "step 1: the request cannot be made: the connection has no value for connectionConfig.site"
    );

    let expecting = json!([{"request": {"endpoint": "/x", "expect": {"json_path": "data.id"}}}]);
    let (carried, _) = own(
        expecting,
        Told {
            replies: ok(json!({"errors": []})),
            ..Told::default()
        },
    )
    .await;
    assert_eq!(
        carried.failure.unwrap().to_string(),
        "step 1: the provider's answer says no"
    );
}

/// A shipped definition whose requests go to `origin`, the host they are for in front of the path.
fn shipped(name: &str, origin: &str) -> Arc<Provider> {
    let catalogue = Catalogue::built_in();
    let provider = Provider::clone(
        catalogue
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not shipped")),
    );
    let mut wire = provider.wire;
    let here = |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().replace("https://", &format!("{origin}/"))).unwrap()
    };
    for key in ["post_connection", "revoke"] {
        if let Some(steps) = wire.get_mut(key) {
            *steps = here(steps);
        }
    }
    if let Some(base) = wire.get_mut("proxy").and_then(|proxy| proxy.get_mut("base_url")) {
        *base = here(base);
    }
    self::provider(name, Value::Object(wire))
}

fn requests(seen: &[Seen]) -> Vec<String> {
    seen.iter()
        .map(|seen| format!("{} {}", seen.method, seen.target))
        .collect()
}

/// Provider, its credentials, the connection's configuration, what it answers; what it is asked, what is kept of it.
type Case<'a> = (&'a str, Value, Value, Vec<Value>, Vec<String>, Value);

#[tokio::test]
async fn every_shipped_provider_learns_what_it_should_after_connecting() {
    let jwt = |claims: Value| {
        let claims = data_encoding::BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
        json!({"type": "OAUTH2", "access_token": format!("e30.{claims}.x"), "raw": {}})
    };
    let usual = || Told::default().credentials;
    let cc = json!({"type": "OAUTH2_CC", "token": "t", "client_id": "their-client", "client_secret": "s", "raw": {}});
    let sites = || {
        json!([{"id": "c1", "url": "https://acme.atlassian.net", "name": "Acme"},
                          {"id": "c2", "url": "https://beta.atlassian.net", "name": "Beta Corp"}])
    };
    let hash = |mail: &str| {
        let digest = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            format!("nango.emailAddressHash.v1:{mail}").as_bytes(),
        );
        json!({"emailAddressHash": data_encoding::HEXLOWER.encode(digest.as_ref())})
    };
    let me = || json!({"accountId": "acc"});
    let atlassian = "GET /api.atlassian.com";
    let resources = format!("{atlassian}/oauth/token/accessible-resources");
    let site = |id: &str, label: &str| json!({"cloudId": id, "baseUrl": format!("https://{label}.atlassian.net"), "accountId": "acc"});
    let mut tried = vec!["microsoft-teams-bot", "salesforce", "salesforce-sandbox"];
    #[rustfmt::skip]
    let cases: Vec<Case<'_>> = vec![
        ("adobe-umapi", cc.clone(), json!({}), vec![], vec![], json!({"clientId": "their-client"})),
        ("jira", usual(), json!({}), vec![sites(), me()],
            vec![resources.clone(), format!("{atlassian}/ex/jira/c1/rest/api/3/myself")], site("c1", "acme")),
        ("jira", usual(), json!({"subdomain": "beta"}), vec![sites(), me()],
            vec![resources.clone(), format!("{atlassian}/ex/jira/c2/rest/api/3/myself")], site("c2", "beta")),
        ("confluence", usual(), json!({"subdomain": "corp", "oauth_scopes_override": "read:confluence-user"}), vec![sites(), me()],
            vec![resources.clone(), format!("{atlassian}/ex/confluence/c2/wiki/rest/api/user/current")], site("c2", "beta")),
        ("atlassian-government-cloud", usual(), json!({}), vec![json!([sites()[0]]), me()],
            vec!["GET /api.atlassian-us-gov-mod.com/oauth/token/accessible-resources".to_owned(),
                 "GET /api.atlassian-us-gov-mod.com/ex/jira/c1/rest/api/3/myself".to_owned()], site("c1", "acme")),
        ("atlassian-service-account-oauth2", cc.clone(), json!({}), vec![sites(), me()],
            vec![resources.clone(), format!("{atlassian}/ex/jira/c1/rest/api/3/myself")], site("c1", "acme")),
        ("atlassian-service-account-api-token", json!({"type": "BASIC", "username": "u", "password": "p"}),
            json!({"cloudId": "c9"}), vec![json!({"baseUrl": "https://nine.atlassian.net"}), me()],
            vec![format!("{atlassian}/ex/jira/c9/rest/api/3/serverInfo"), format!("{atlassian}/ex/jira/c9/rest/api/3/myself")],
            json!({"baseUrl": "https://nine.atlassian.net", "accountId": "acc"})),
        ("attio", usual(), json!({}), vec![json!({"active": true, "workspace_id": "w"})],
            vec!["GET /api.attio.com/v2/self".to_owned()], json!({"workspace_id": "w"})),
        ("basecamp", usual(), json!({}), vec![json!({"accounts": [{"id": 9, "name": "n"}]})],
            vec!["GET /launchpad.37signals.com/authorization.json".to_owned()],
            json!({"accounts": [{"id": 9, "name": "n"}], "accountId": "9"})),
        ("calendly", usual(), json!({}), vec![json!({"resource": {"current_organization": "https://api.calendly.com/organizations/O1"}})],
            vec!["GET /api.calendly.com/users/me".to_owned()], json!({"organizationId": "O1"})),
        ("candis", usual(), json!({}), vec![json!({"id": "o", "name": "n"})],
            vec!["GET /api.candis.io/v1/organizations/info".to_owned()], json!({"organizationId": "o"})),
        ("checkr-partner", usual(), json!({}), vec![json!({"data": [{"id": "n1"}]})],
            vec!["GET /api.checkr.com/v1/nodes".to_owned()], json!({"accountHierarchyEnabled": true})),
        ("checkr-partner-staging", usual(), json!({}), vec![json!({"data": []})],
            vec!["GET /api.checkr-staging.com/v1/nodes".to_owned()], json!({"accountHierarchyEnabled": false})),
        ("docusign", usual(), json!({}), vec![json!({"accounts": [{"account_id": "1", "is_default": false, "base_uri": "x"},
                {"account_id": "2", "is_default": true, "base_uri": "https://eu.docusign.net"}]})],
            vec!["GET /account.docusign.com/oauth/userinfo".to_owned()], json!({"baseUri": "https://eu.docusign.net", "accountId": "2"})),
        ("docusign-sandbox", usual(), json!({}), vec![json!({"accounts": [{"account_id": "2", "is_default": true, "base_uri": "b"}]})],
            vec!["GET /account-d.docusign.com/oauth/userinfo".to_owned()], json!({"baseUri": "b", "accountId": "2"})),
        ("google-calendar", usual(), json!({}), vec![json!({"id": " Ada@Example.com"})],
            vec!["GET /www.googleapis.com/calendar/v3/calendars/primary".to_owned()], hash("ada@example.com")),
        ("google-calendar-mcp", usual(), json!({}), vec![json!({"id": "ada@example.com"})],
            vec!["GET /www.googleapis.com/calendar/v3/calendars/primary".to_owned()], hash("ada@example.com")),
        ("google-mail", usual(), json!({}), vec![json!({"emailAddress": "Ada@example.com", "messagesTotal": 1})],
            vec!["GET /gmail.googleapis.com/gmail/v1/users/me/profile".to_owned()], hash("ada@example.com")),
        ("gusto", usual(), json!({}), vec![json!({"resource": {"type": "Company", "uuid": "u"}})],
            vec!["GET /api.gusto.com/v1/token_info".to_owned()], json!({"companyUuid": "u"})),
        ("gusto-demo", usual(), json!({}), vec![json!({"resource": {"type": "Employee", "uuid": "u"}})],
            vec!["GET /api.gusto-demo.com/v1/token_info".to_owned()], json!({})),
        ("highlevel", json!({"type": "OAUTH2", "access_token": "a", "raw": {"companyId": "c", "locationId": "l"}}), json!({}), vec![],
            vec![], json!({"companyId": "c", "locationId": "l"})),
        ("highlevel-white-label", json!({"type": "OAUTH2", "access_token": "a", "raw": {"companyId": "c"}}), json!({}), vec![],
            vec![], json!({"companyId": "c"})),
        ("hubspot", usual(), json!({}), vec![json!({"portalId": 62515})],
            vec!["GET /api.hubapi.com/account-info/v3/details".to_owned()], json!({"portalId": "62515"})),
        ("jobber", usual(), json!({}), vec![json!({"data": {"account": {"id": "j"}}})],
            vec!["POST /api.getjobber.com/api/graphql".to_owned()], json!({"accountId": "j"})),
        ("linear", usual(), json!({}), vec![json!({"data": {"organization": {"id": "l"}}})],
            vec!["POST /api.linear.app/graphql".to_owned()], json!({"organizationId": "l"})),
        ("mailchimp", usual(), json!({}), vec![json!({"dc": "us6"})],
            vec!["GET /login.mailchimp.com/oauth2/metadata".to_owned()], json!({"dc": "us6"})),
        ("microsoft-teams", jwt(json!({"tid": "t1"})), json!({}), vec![], vec![], json!({"tenantId": "t1"})),
        ("one-drive", jwt(json!({"tid": "t1"})), json!({}), vec![], vec![], json!({"tenantId": "t1"})),
        ("sharepoint-online", usual(), json!({}), vec![], vec![], json!({})),
        ("procore", usual(), json!({}), vec![json!([{"id": 5}, {"id": 6}])],
            vec!["GET /api.procore.com/rest/v1.0/companies".to_owned()], json!({"companyId": "5"})),
        ("procore", usual(), json!({"companyId": "6"}), vec![json!([{"id": 5}])],
            vec!["GET /api.procore.com/rest/v1.0/companies".to_owned()], json!({})),
        ("rippling-shop-app", usual(), json!({}), vec![json!({})],
            vec!["POST /api.rippling.com/platform/api/mark_app_installed".to_owned()], json!({})),
        ("sage-200", usual(), json!({"edition": "sage200extra"}), vec![json!([{"site_id": "s", "company_id": 3}])],
            vec!["GET /api.columbus.sage.com/uk/sage200extra/accounts/v1/sites".to_owned()], json!({"company_id": "3", "site_id": "s"})),
        ("sellsy", jwt(json!({"corpId": 41})), json!({}), vec![], vec![], json!({"corpid": "41"})),
        ("sellsy-oauth2-cc", cc.clone(), json!({}), vec![], vec![], json!({})),
        ("sentry-oauth", usual(), json!({"hostname": "us.sentry.io", "installation.uuid": "i1", "pending": true}), vec![json!({})],
            vec!["PUT /us.sentry.io/api/0/sentry-app-installations/i1/".to_owned()], json!({})),
        ("snowflake", usual(), json!({"snowflake_account_url": "acme.snowflakecomputing.com"}), vec![json!({"data": [["ADA"]]})],
            vec!["POST /acme.snowflakecomputing.com/api/v2/statements".to_owned()], json!({"username": "ADA"})),
        ("sophos-central", cc.clone(), json!({}), vec![json!({"id": "t", "apiHosts": {"dataRegion": "https://api-eu01.central.sophos.com"}})],
            vec!["GET /api.central.sophos.com/whoami/v1".to_owned()],
            json!({"tenantId": "t", "dataRegion": "https://api-eu01.central.sophos.com"})),
        ("workable", json!({"type": "API_KEY", "apiKey": "k"}), json!({"subdomain": ""}), vec![json!({"accounts": [{"subdomain": "acme"}]})],
            vec!["GET /www.workable.com/spi/v3/accounts".to_owned()], json!({"subdomain": "acme"})),
        ("xero", jwt(json!({"authentication_event_id": "e2"})), json!({}),
            vec![json!([{"authEventId": "e1", "tenantId": "t1"}, {"authEventId": "e2", "tenantId": "t2"}])],
            vec!["GET /api.xero.com/connections".to_owned()], json!({"tenant_id": "t2"})),
        ("xero", jwt(json!({})), json!({}), vec![json!([{"authEventId": "e1", "tenantId": "t1"}])],
            vec!["GET /api.xero.com/connections".to_owned()], json!({"tenant_id": "t1"})),
        ("zoho", usual(), json!({"api_domain": "https://www.zohoapis.eu"}), vec![], vec![], json!({"extension": "eu"})),
        ("zoho-crm", usual(), json!({"api_domain": "https://www.zohoapis.com.au", "extension": ""}), vec![], vec![], json!({"extension": "com.au"})),
        ("zoho", usual(), json!({"api_domain": "https://www.zohoapis.eu", "extension": "com"}), vec![], vec![], json!({})),
        ("zoho", usual(), json!({"api_domain": "https://www.zohoapis.ca"}), vec![], vec![], json!({})),
        ("zoom", usual(), json!({}), vec![json!({"account_id": "z"})], vec!["GET /api.zoom.us/v2/users/me".to_owned()], json!({"accountId": "z"})),
        ("bullhorn", usual(), json!({"restUrl": "https://x", "username": "u"}), vec![], vec![], json!({})),
    ];
    for (name, credentials, config, answers, expected, brought) in cases {
        tried.push(name);
        let told = Told {
            credentials,
            config,
            replies: answers
                .into_iter()
                .map(|answer| Reply::Json(200, answer))
                .collect(),
            ..Told::default()
        };
        let (carried, seen) = run(|origin| shipped(name, origin), Which::PostConnection, told).await;
        assert!(carried.failure.is_none(), "{name}: {:?}", carried.failure);
        assert_eq!(requests(&seen), expected, "{name}");
        assert_eq!(Value::Object(carried.effects.config), brought, "{name}");
        let unset: &[&str] = match name {
            "bullhorn" => &["username", "password"],
            "sentry-oauth" => &["pending"],
            _ => &[],
        };
        assert_eq!(carried.effects.unset, unset, "{name}");
    }
    for provider in &Catalogue::built_in() {
        let of_target = provider
            .alias_of
            .as_deref()
            .is_some_and(|target| tried.contains(&target));
        let covered = of_target || tried.contains(&provider.name.as_str());
        assert!(
            provider.definition.post_connection.is_empty() || covered,
            "{} has no case",
            provider.name
        );
    }
}

#[tokio::test]
async fn every_shipped_revocation_is_told_to_the_provider() {
    let cc = json!({"type": "OAUTH2_CC", "token": "t", "client_id": "their-client", "client_secret": "their-secret", "raw": {}});
    let revoked = |name: &'static str, told: Told| async move {
        let (carried, seen) = run(|origin| shipped(name, origin), Which::Revoke, told).await;
        assert!(carried.failure.is_none(), "{name}: {:?}", carried.failure);
        seen
    };
    let seen = revoked(
        "hubspot",
        Told {
            replies: ok(json!({})),
            ..Told::default()
        },
    )
    .await;
    assert_eq!(
        requests(&seen),
        ["DELETE /api.hubapi.com/oauth/v1/refresh-tokens/planted-refresh"]
    );
    let seen = revoked(
        "hubspot",
        Told {
            metadata: json!({"skipTokenRevocation": true}),
            ..Told::default()
        },
    )
    .await;
    assert!(seen.is_empty());
    let seen = revoked(
        "intercom",
        Told {
            replies: ok(json!({})),
            ..Told::default()
        },
    )
    .await;
    assert_eq!(requests(&seen), ["POST /api.intercom.io/auth/uninstall"]);
    let seen = revoked(
        "linear",
        Told {
            replies: ok(json!({})),
            ..Told::default()
        },
    )
    .await;
    assert_eq!(requests(&seen), ["POST /api.linear.app/oauth/revoke"]);
    assert_eq!(seen[0].header("authorization"), Some("Bearer planted-access"));
    let told = Told {
        credentials: cc,
        config: json!({"subdomain": "acme"}),
        replies: ok(json!({})),
        ..Told::default()
    };
    let seen = revoked("onelogin", told).await;
    assert_eq!(requests(&seen), ["POST /acme.onelogin.com/auth/oauth2/revoke"]);
    assert_eq!(
        seen[0].header("authorization"),
        Some("client_id:their-client, client_secret:their-secret")
    );
    assert_eq!(seen[0].body, r#"{"access_token":"t"}"#);
    let all: Vec<_> = Catalogue::built_in()
        .iter()
        .filter(|provider| !provider.definition.revoke.is_empty())
        .map(|provider| provider.name.clone())
        .collect();
    assert_eq!(all, ["hubspot", "intercom", "linear", "onelogin"]);
}
