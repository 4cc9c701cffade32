//! auth-flows §11: every shipped provider whose token endpoint has its own way, request by request, byte by byte.

mod several;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::RsaKeyPair;
use patchbay_auth::message::{Answer, Call};
use patchbay_auth::oauth2::token::{
    ExchangeError, ExchangeInput, Exchanged, Second, exchange_request, read_exchange,
};
use patchbay_auth::renewal::{self, RenewError, RenewInput, Renewal, is_due};
use patchbay_catalog::{Catalogue, Provider};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{Credentials, JsonMap, Secret};
use serde_json::{Value, json};

use crate::support::{ambient, answer, credentials, object};

const CALLBACK: &str = "https://connect.example.com/oauth/callback";
const BACK: &str = "https%3A%2F%2Fconnect.example.com%2Foauth%2Fcallback";
/// `the-client:the-secret`.
const BASIC: &str = "authorization: Basic dGhlLWNsaWVudDp0aGUtc2VjcmV0";
/// When tests happen, in milliseconds.
const NOW_MS: i64 = 1_767_323_045_678;

/// One provider's case.
struct Case {
    provider: Arc<Provider>,
    config: JsonMap,
    secrets: IntegrationSecrets,
    stored: Credentials,
}

impl Case {
    fn of(name: &str) -> Self {
        let catalogue = Catalogue::built_in();
        let provider = catalogue
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not shipped"))
            .clone();
        Self {
            provider,
            config: JsonMap::new(),
            secrets: IntegrationSecrets {
                client_id: Some("the-client".to_owned()),
                client_secret: Some("the-secret".into()),
                scopes: Some("read,write".to_owned()),
                ..IntegrationSecrets::default()
            },
            stored: credentials(json!({"type": "OAUTH2", "access_token": "old-access",
                "refresh_token": "old-refresh", "raw": {}})),
        }
    }

    fn config(mut self, config: Value) -> Self {
        self.config = object(config);
        self
    }

    fn stored(mut self, stored: Value) -> Self {
        self.stored = credentials(stored);
        self
    }

    fn exchange<T>(&self, run: impl FnOnce(&ExchangeInput<'_>) -> T) -> T {
        run(&ExchangeInput {
            definition: &self.provider.definition,
            secrets: &self.secrets,
            connection_config: &self.config,
            client_override: &BTreeMap::new(),
            code: "the-code",
            code_verifier: Some(&Secret::new("the-verifier"))
                .filter(|_| !self.provider.definition.disable_pkce),
            callback_url: CALLBACK,
            state: "the-state",
        })
    }

    fn renew<T>(&self, run: impl FnOnce(&RenewInput<'_>) -> T) -> T {
        run(&RenewInput {
            definition: &self.provider.definition,
            secrets: &self.secrets,
            credentials: &self.stored,
            connection_config: &self.config,
            callback_url: CALLBACK,
        })
    }

    #[track_caller]
    fn exchanges_with(&self, expected: &str) -> &Self {
        let call = self.exchange(|input| exchange_request(input, &ambient()).unwrap());
        assert_eq!(text(&call), expected);
        self
    }

    #[track_caller]
    fn refreshes_with(&self, expected: &str) -> &Self {
        let call = self.renew(|input| renewal::request(input, &ambient()).unwrap());
        assert_eq!(text(&call), expected);
        self
    }

    fn read(&self, answer: &Answer) -> Result<Exchanged, ExchangeError> {
        self.exchange(|input| read_exchange(input, answer, Second::None, ambient().now()))
    }

    fn read_refresh(&self, answer: &Answer) -> Result<Renewal, RenewError> {
        self.renew(|input| renewal::read(input, answer, Second::None, ambient().now()))
    }

    /// Access token, refresh token and end of what an exchange's answer brings.
    #[track_caller]
    fn brings(&self, told: Value, expected: (&str, Option<&str>, Option<&str>)) -> &Self {
        let exchanged = self.read(&answer(200, told)).unwrap();
        assert_eq!(tokens(&exchanged.credentials), owned(expected));
        self
    }

    #[track_caller]
    fn renews(&self, told: Value, expected: (&str, Option<&str>, Option<&str>)) -> &Self {
        let renewal = self.read_refresh(&answer(200, told)).unwrap();
        assert_eq!(tokens(&renewal.credentials), owned(expected));
        self
    }

    fn is_due(&self, forced: bool) -> bool {
        is_due(
            &self.provider.definition,
            &self.stored,
            &self.config,
            forced,
            ambient().now(),
        )
    }
}

type Tokens = (String, Option<String>, Option<String>);

fn owned((access, refresh, end): (&str, Option<&str>, Option<&str>)) -> Tokens {
    (
        access.to_owned(),
        refresh.map(str::to_owned),
        end.map(str::to_owned),
    )
}

fn tokens(credentials: &Credentials) -> Tokens {
    let stored = credentials.to_json();
    let text = |key: &str| stored.get(key).and_then(Value::as_str).map(str::to_owned);
    (
        text("access_token").unwrap(),
        text("refresh_token"),
        text("expires_at"),
    )
}

/// The whole call, but for the two headers that every one has.
fn text(call: &Call) -> String {
    let kind = call
        .header("content-type")
        .filter(|kind| *kind == "application/xml");
    assert_eq!(call.header("accept"), kind.or(Some("application/json")));
    assert_eq!(call.header("user-agent"), Some("Patchbay"));
    let mut text = format!("{} {}\n", call.method, call.url);
    for (name, value) in &call.headers {
        if !matches!(name.as_str(), "accept" | "user-agent") {
            text.extend([
                name.as_str(),
                ": ",
                &String::from_utf8_lossy(value.as_bytes()),
                "\n",
            ]);
        }
    }
    text.push('\n');
    text.push_str(std::str::from_utf8(&call.body).unwrap());
    text
}

fn form(url: &str, headers: &[&str], body: &str) -> String {
    posted(
        url,
        "content-type: application/x-www-form-urlencoded",
        headers,
        body,
    )
}

fn json_body(url: &str, headers: &[&str], body: &Value) -> String {
    posted(url, "content-type: application/json", headers, &body.to_string())
}

fn posted(url: &str, kind: &str, headers: &[&str], body: &str) -> String {
    let more: String = headers.iter().flat_map(|header| [header, "\n"]).collect();
    format!("POST {url}\n{kind}\n{more}\n{body}")
}

const IN_AN_HOUR: Option<&str> = Some("2026-01-02T04:04:05.678Z");

#[test]
fn agiloft() {
    let case = Case::of("agiloft").config(json!({"hostname": "acme.agiloft.com"}));
    let mut case = case;
    case.secrets.client_secret = Some("0123456789abcdefghijKLMNOP".into());
    let url = "https://acme.agiloft.com/ewws/otoken";
    let basic = "authorization: Basic dGhlLWNsaWVudDowMTIzNDU2Nzg5YWJjZGVmZ2hpaktMTU5PUA==";
    case.exchanges_with(&form(url, &[basic], &format!(
        "client_id=the-client&grant_type=authorization_code&code=the-code&redirect_uri={BACK}&code_verifier=the-verifier"
    )))
    .refreshes_with(&form(
        url,
        &[],
        "grant_type=refresh_token&refresh_token=old-refresh&md5_secret=0123456789abcdefghij",
    ))
    .brings(json!({"access_token": "a", "refresh_token": "r", "expires_in": 3600}), ("a", Some("r"), IN_AN_HOUR))
    .renews(json!({"access_token": "a", "refresh_token": "other"}), ("a", Some("old-refresh"), None));
}

#[test]
fn public_clients_send_no_secret() {
    for (name, token_url, refresh_url) in [
        (
            "heygen",
            "https://api2.heygen.com/v1/oauth/token",
            "https://api2.heygen.com/v1/oauth/refresh_token",
        ),
        (
            "posthog-oauth",
            "https://oauth.posthog.com/oauth/token/",
            "https://oauth.posthog.com/oauth/token/",
        ),
        (
            "attio-mcp",
            "https://app.attio.com/oidc/token",
            "https://app.attio.com/oidc/token",
        ),
    ] {
        for secret in [None, Some("configured-all-the-same")] {
            let mut case = Case::of(name);
            case.secrets.client_secret = secret.map(Secret::new);
            case.exchanges_with(&form(token_url, &[], &format!(
                "grant_type=authorization_code&code=the-code&redirect_uri={BACK}&code_verifier=the-verifier&client_id=the-client"
            )))
            .refreshes_with(&form(
                refresh_url,
                &[],
                "grant_type=refresh_token&refresh_token=old-refresh&client_id=the-client",
            ))
            .brings(json!({"access_token": "a", "expires_in": 3600}), ("a", None, IN_AN_HOUR));
        }
    }
}

#[test]
fn mercury() {
    Case::of("mercury")
        .exchanges_with(&form(
            "https://oauth2.mercury.com/oauth2/token",
            &[BASIC],
            &format!(
                "grant_type=authorization_code&code=the-code&redirect_uri={BACK}&code_verifier=the-verifier"
            ),
        ))
        .refreshes_with(&form(
            "https://oauth2.mercury.com/oauth2/token",
            &[BASIC],
            "grant_type=refresh_token&refresh_token=old-refresh",
        ));
}

#[test]
fn clover() {
    Case::of("clover")
        .config(json!({"authorizeHost": "www.clover.com", "apiHost": "api.clover.com"}))
        .exchanges_with(&json_body(
            "https://api.clover.com/oauth/v2/token",
            &[],
            &json!({
                "client_id": "the-client", "client_secret": "the-secret", "code": "the-code"
            }),
        ))
        .refreshes_with(&json_body(
            "https://api.clover.com/oauth/v2/refresh",
            &[],
            &json!({
                "client_id": "the-client", "refresh_token": "old-refresh"
            }),
        ))
        .brings(
            json!({"access_token": "a", "access_token_expiration": NOW_MS / 1000 + 3600,
                   "refresh_token": "r", "refresh_token_expiration": 1}),
            ("a", Some("r"), Some("2026-01-02T04:04:05.000Z")),
        );
}

#[test]
fn braintree_speaks_xml() {
    for (name, host) in [
        ("braintree", "api.braintreegateway.com"),
        ("braintree-sandbox", "api.sandbox.braintreegateway.com"),
    ] {
        let case = Case::of(name);
        let body = |fields: &str| {
            posted(
                &format!("https://{host}/oauth/access_tokens"),
                "content-type: application/xml",
                &[BASIC, "x-apiversion: 6"],
                &format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><credentials>{fields}</credentials>"),
            )
        };
        case.exchanges_with(&body(
            "<code>the-code</code><grantType>authorization_code</grantType>",
        ));
        case.refreshes_with(&body(
            "<refreshToken>old-refresh</refreshToken><grantType>refresh_token</grantType>",
        ));
        let told = |status, body: &str| Answer {
            status,
            content_type: Some("application/xml; charset=utf-8".to_owned()),
            body: body.to_owned().into(),
            ..Answer::default()
        };
        let good = told(
            200,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<credentials>\n  <access-token>a</access-token>\n  \
             <refresh-token>r</refresh-token>\n  <token-type>bearer</token-type>\n  <scope>read_write</scope>\n  \
             <expires-at type=\"datetime\">2026-01-02T04:04:05Z</expires-at>\n</credentials>\n",
        );
        let expected = owned(("a", Some("r"), Some("2026-01-02T04:04:05.000Z")));
        assert_eq!(tokens(&case.read(&good).unwrap().credentials), expected);
        assert_eq!(tokens(&case.read_refresh(&good).unwrap().credentials), expected);
        let refused = told(
            422,
            "<api-error-response><message>Invalid grant: code not found</message></api-error-response>",
        );
        let error = case.read(&refused).unwrap_err();
        assert!(error.to_string().contains("code not found"), "{error}");
    }
}

#[test]
fn coros_prolongs_the_tokens_there_are() {
    for (name, host) in [
        ("coros", "open.coros.com"),
        ("coros-sandbox", "opentest.coros.com"),
    ] {
        let case = Case::of(name);
        let std = "client_id=the-client&client_secret=the-secret";
        case.exchanges_with(&form(&format!("https://{host}/oauth2/accesstoken"), &[], &format!(
            "grant_type=authorization_code&code=the-code&redirect_uri={BACK}&code_verifier=the-verifier&{std}"
        )))
        .refreshes_with(&form(&format!("https://{host}/oauth2/refresh-token"), &[], &format!(
            "grant_type=refresh_token&refresh_token=old-refresh&{std}"
        )))
        .renews(
            json!({"result": "0000", "message": "OK"}),
            ("old-access", Some("old-refresh"), Some("2026-02-01T03:04:05.678Z")),
        );
        let kept = case
            .read(&answer(
                200,
                json!({"access_token": "a", "openId": "o", "expires_in": 1}),
            ))
            .unwrap();
        assert_eq!(kept.token_metadata["openId"], "o");
        let refused = case
            .read_refresh(&answer(200, json!({"result": "5000", "message": "no"})))
            .unwrap_err();
        assert!(matches!(refused, RenewError::Rejected(_)), "{refused:?}");
        let empty = case.read(&answer(200, json!({"result": "5000"}))).unwrap_err();
        assert!(matches!(empty, ExchangeError::NoToken(_)), "{empty:?}");
    }
}

#[test]
fn absorb_lms() {
    let nonce = ambient().entropy.uuid();
    let headers = ["x-api-version: v1", "x-api-key: rest-key"];
    let url = "https://acme.myabsorb.com/oauth/token";
    Case::of("absorb-lms")
        .config(json!({"portalRoute": "acme.myabsorb.com", "restApiKey": "rest-key", "apiVersion": "v1"}))
        .exchanges_with(&form(url, &headers, &format!(
            "client_id=the-client&client_secret=the-secret&grant_type=authorization_code&code=the-code\
             &redirect_uri={BACK}&nonce={nonce}"
        )))
        .refreshes_with(&form(url, &headers, &format!(
            "client_id=the-client&client_secret=the-secret&grant_type=refresh_token&refresh_token=old-refresh\
             &nonce={nonce}&scope=read+write"
        )));
}

#[test]
fn facebook_exchanges_a_token_for_its_successor() {
    let graph = "https://graph.facebook.com/v22.0/oauth/access_token";
    let case = Case::of("facebook").stored(json!({"type": "OAUTH2", "access_token": "old-access",
        "expires_at": "2026-01-08T00:00:00.000Z", "raw": {"expires_in": 5_184_000}}));
    case.exchanges_with(&json_body(&format!("{graph}?redirect_uri={BACK}"), &[], &json!({
        "client_id": "the-client", "client_secret": "the-secret", "code": "the-code", "redirect_uri": CALLBACK,
        "code_verifier": "the-verifier"
    })))
    .refreshes_with(&format!(
        "POST {graph}?grant_type=fb_exchange_token&fb_exchange_token=old-access&client_id=the-client\
         &client_secret=the-secret\n\n"
    ))
    .renews(
        json!({"access_token": "b", "expires_in": 5_184_000}),
        ("b", None, Some("2026-03-03T03:04:05.678Z")),
    );
    assert!(case.is_due(false), "six days before the end");
    let early = Case::of("facebook").stored(json!({"type": "OAUTH2", "access_token": "old-access",
        "expires_at": "2026-02-08T00:00:00.000Z", "raw": {"expires_in": 5_184_000}}));
    assert!(!early.is_due(false) && early.is_due(true));
}

#[test]
fn basic_authenticated_forms() {
    let verifier = "&code_verifier=the-verifier";
    for (name, url, grant, proof, end) in [
        (
            "fanvue",
            "https://auth.fanvue.com/oauth2/token",
            "authorization_code",
            verifier,
            None,
        ),
        (
            "workday-oauth",
            "https://services.example.com/ccx/oauth2/acme/token",
            "authorization_code",
            verifier,
            IN_AN_HOUR,
        ),
        (
            "followupboss",
            "https://app.followupboss.com/oauth/token",
            "auth_code",
            "&state=the-state",
            None,
        ),
    ] {
        Case::of(name)
            .config(json!({"tokenDomain": "services.example.com", "tenant": "acme"}))
            .exchanges_with(&form(
                url,
                &[BASIC],
                &format!("grant_type={grant}&code=the-code&redirect_uri={BACK}{proof}"),
            ))
            .refreshes_with(&form(
                url,
                &[BASIC],
                "grant_type=refresh_token&refresh_token=old-refresh",
            ))
            .brings(
                json!({"access_token": "a", "refresh_token": "r"}),
                ("a", Some("r"), end),
            );
    }
    let rotated = json!({"access_token": "a", "refresh_token": "rotated"});
    Case::of("workday-oauth").renews(rotated.clone(), ("a", Some("rotated"), IN_AN_HOUR));
    Case::of("workday-oauth")
        .config(json!({"overrideTokenRefresh": true}))
        .renews(rotated, ("a", Some("old-refresh"), IN_AN_HOUR));
}

#[test]
fn jobber() {
    let url = "https://api.getjobber.com/api/oauth/token";
    Case::of("jobber")
        .exchanges_with(&form(
            url,
            &[],
            "client_id=the-client&client_secret=the-secret&grant_type=authorization_code&code=the-code",
        ))
        .refreshes_with(&form(
            url,
            &[],
            "grant_type=refresh_token&refresh_token=old-refresh&client_id=the-client&client_secret=the-secret",
        ))
        .brings(json!({"access_token": "a", "refresh_token": "r"}), ("a", Some("r"), IN_AN_HOUR))
        .renews(json!({"access_token": "b", "refresh_token": "s"}), ("b", Some("s"), IN_AN_HOUR));
}

#[test]
fn microsoft_admin_speaks_for_itself() {
    let url = "https://login.microsoftonline.com/tenant-1/oauth2/v2.0/token";
    let body = "client_id=the-client&client_secret=the-secret&grant_type=client_credentials\
                &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default";
    let mut case = Case::of("microsoft-admin")
        .config(json!({"tenantId": "tenant-1"}))
        .stored(json!({"type": "OAUTH2", "access_token": "a", "expires_at": "2026-01-02T03:05:00.000Z", "raw": {}}));
    case.secrets.scopes = Some("https://graph.microsoft.com/.default".to_owned());
    case.exchanges_with(&form(url, &[], body))
        .refreshes_with(&form(url, &[], body))
        .brings(
            json!({"access_token": "a", "expires_in": 3600}),
            ("a", None, IN_AN_HOUR),
        );
    assert!(case.is_due(false), "no refresh token is needed");
}

#[test]
fn revolut_signs_with_the_secret() {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = key.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        data_encoding::BASE64.encode(der.as_ref())
    );
    let mut case = Case::of("revolut-business")
        .config(json!({"authorizeHost": "business.revolut.com", "apiHost": "b2b.revolut.com"}));
    case.secrets.client_secret = Some(Secret::new(pem));
    let assertion = |call: &Call, start: &str| {
        let body = String::from_utf8(call.body.to_vec()).unwrap();
        let (before, assertion) = body.split_once("&client_assertion=").unwrap();
        assert_eq!(
            before,
            format!(
                "{start}&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
            )
        );
        assert_eq!(call.url.as_str(), "https://b2b.revolut.com/api/1.0/auth/token");
        let part = |index: usize| -> Value {
            let part = assertion.split('.').nth(index).unwrap();
            serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(part(0), json!({"alg": "RS256", "typ": "JWT"}));
        assert_eq!(
            part(1),
            json!({"iss": "connect.example.com", "sub": "the-client",
            "aud": "https://revolut.com", "iat": NOW_MS / 1000, "exp": NOW_MS / 1000 + 300})
        );
    };
    let call = case.exchange(|input| exchange_request(input, &ambient()).unwrap());
    assertion(&call, "grant_type=authorization_code&code=the-code");
    let call = case.renew(|input| renewal::request(input, &ambient()).unwrap());
    assertion(&call, "grant_type=refresh_token&refresh_token=old-refresh");
    case.renews(
        json!({"access_token": "b", "expires_in": 3600}),
        ("b", Some("old-refresh"), IN_AN_HOUR),
    );
    case.secrets.client_secret = Some("no key".into());
    let error = case.exchange(|input| exchange_request(input, &ambient()).unwrap_err());
    assert!(error.to_string().contains("not a readable PEM key"), "{error}");
}

#[test]
fn sentry_answers_201_in_its_own_names() {
    let url = "https://sentry.io/api/0/sentry-app-installations/u1/authorizations/";
    let case = Case::of("sentry-oauth").config(json!({"installation.uuid": "u1", "hostname": "sentry.io"}));
    case.refreshes_with(&json_body(
        url,
        &[],
        &json!({
            "grant_type": "refresh_token", "refresh_token": "old-refresh", "client_id": "the-client",
            "client_secret": "the-secret"
        }),
    ));
    let told = json!({"token": "a", "refreshToken": "r", "expiresAt": "2026-01-02T11:04:05.678Z"});
    let read = case.read(&answer(201, told.clone())).unwrap();
    assert_eq!(
        tokens(&read.credentials),
        owned(("a", Some("r"), Some("2026-01-02T11:04:05.678Z")))
    );
    assert!(case.read(&answer(200, told)).is_err(), "only 201 is a success");
}

#[test]
fn shopline_signs_its_requests() {
    let sign = |message: &str| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"the-secret");
        let digest = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        format!("sign: {}", data_encoding::HEXLOWER.encode(digest.as_ref()))
    };
    let host = "https://acme.myshopline.com/admin/oauth/token";
    let stamp = format!("timestamp: {NOW_MS}");
    let case = Case::of("shopline-oauth")
        .config(json!({"handle": "acme"}))
        .stored(json!({"type": "OAUTH2", "access_token": "a", "expires_at": "2026-01-02T03:05:00.000Z", "raw": {}}));
    let body = json!({"code": "the-code"});
    case.exchanges_with(&json_body(
        &format!("{host}/create"),
        &["appkey: the-client", &stamp, &sign(&format!("{body}{NOW_MS}"))],
        &body,
    ))
    .refreshes_with(&format!(
        "POST {host}/refresh\nappkey: the-client\n{stamp}\n{}\n\n",
        sign(&NOW_MS.to_string())
    ))
    .brings(
        json!({"code": 200, "data": {"accessToken": "a", "expireTime": "2026-01-02T13:04:05.678Z", "scope": "x"}}),
        ("a", None, Some("2026-01-02T13:04:05.678Z")),
    );
    assert!(case.is_due(false), "no refresh token is needed");
    assert!(
        case.read(&answer(200, json!({"code": 500, "message": "no"})))
            .is_err()
    );
}

#[test]
fn stripe_apps_take_the_secret_as_user_name() {
    let basic = "authorization: Basic dGhlLXNlY3JldDo=";
    for name in ["stripe-app", "stripe-app-sandbox"] {
        Case::of(name)
            .config(json!({"appDomain": "chnlink_1"}))
            .exchanges_with(&form(
                "https://api.stripe.com/v1/oauth/token",
                &[basic],
                "grant_type=authorization_code&code=the-code",
            ))
            .refreshes_with(&form(
                "https://api.stripe.com/v1/oauth/token",
                &[basic],
                "grant_type=refresh_token&refresh_token=old-refresh",
            ))
            .brings(
                json!({"access_token": "a", "refresh_token": "r"}),
                ("a", Some("r"), IN_AN_HOUR),
            );
    }
}

#[test]
fn tiktok() {
    let api = "https://business-api.tiktok.com/open_api/v1.3";
    Case::of("tiktok-ads")
        .exchanges_with(&json_body(
            &format!("{api}/oauth2/access_token/"),
            &[],
            &json!({
                "app_id": "the-client", "secret": "the-secret", "auth_code": "the-code"
            }),
        ))
        .brings(
            json!({"code": 0, "data": {"access_token": "a", "advertiser_ids": ["1"]}}),
            ("a", None, None),
        );
    Case::of("tiktok-accounts")
        .exchanges_with(&json_body(
            &format!("{api}/tt_user/oauth2/token/"),
            &[],
            &json!({
                "client_id": "the-client", "client_secret": "the-secret", "grant_type": "authorization_code",
                "auth_code": "the-code", "redirect_uri": CALLBACK
            }),
        ))
        .refreshes_with(&json_body(
            &format!("{api}/tt_user/oauth2/refresh_token/"),
            &[],
            &json!({
                "client_id": "the-client", "client_secret": "the-secret", "grant_type": "refresh_token",
                "refresh_token": "old-refresh"
            }),
        ))
        .brings(
            json!({"code": 0, "data": {"access_token": "a", "refresh_token": "r", "expires_in": 3600}}),
            ("a", Some("r"), IN_AN_HOUR),
        );
    let url = "https://open.tiktokapis.com/v2/oauth/token/";
    Case::of("tiktok-personal")
        .exchanges_with(&form(url, &[], &format!(
            "client_key=the-client&client_secret=the-secret&grant_type=authorization_code&code=the-code\
             &redirect_uri={BACK}&code_verifier=the-verifier"
        )))
        .refreshes_with(&form(
            url,
            &[],
            "client_key=the-client&client_secret=the-secret&grant_type=refresh_token&refresh_token=old-refresh",
        ));
}

#[test]
fn walmart_names_its_partner() {
    let request = ambient().entropy.uuid();
    let correlation = format!("wm_qos.correlation_id: {request}");
    let headers = [
        BASIC,
        "wm_svc.name: Walmart Marketplace",
        &correlation,
        "wm_partner.id: seller-1",
    ];
    let url = "https://marketplace.walmartapis.com/v3/token";
    let case = Case::of("walmart").config(json!({"clientType": "seller", "sellerId": "seller-1"}));
    case.exchanges_with(&form(
        url,
        &headers,
        &format!("grant_type=authorization_code&code=the-code&redirect_uri={BACK}"),
    ))
    .refreshes_with(&form(
        url,
        &headers,
        "grant_type=refresh_token&refresh_token=old-refresh",
    ))
    .renews(
        json!({"access_token": "b", "expires_in": 3600}),
        ("b", Some("old-refresh"), IN_AN_HOUR),
    );
    let error = Case::of("walmart").exchange(|input| exchange_request(input, &ambient()).unwrap_err());
    assert!(error.to_string().contains("connectionConfig.sellerId"), "{error}");
}

#[test]
fn every_provider_with_its_own_way_is_tried_here() {
    let tried = concat!(
        include_str!("token_client.rs"),
        include_str!("token_client/several.rs")
    );
    let catalogue = Catalogue::built_in();
    for provider in &catalogue {
        let Some(client) = provider.definition.token_client.as_deref() else {
            continue;
        };
        let only_tells =
            client.introspection.is_some() && !client.is_public && client.exchange.params.is_none();
        let named = tried.contains(&format!("\"{}\"", provider.name));
        assert!(only_tells || named, "{} has no case", provider.name);
    }
}
