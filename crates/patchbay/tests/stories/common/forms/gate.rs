//! Tokens for typed fields, in every way TWO_STEP knows: JSON, XML, forms, cookies, several calls, assertions.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::response::{IntoResponse, Response};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::HeaderValue;
use serde_json::{Value, json};

use super::{Office, Seen, ok, publisher, refuse};

pub const DEFINITION: &str = r"
form-json:
    display_name: Gate
    categories: [crm]
    auth_mode: TWO_STEP
    token_url: BASE/gate/json/${connectionConfig.tenant}
    token_headers:
        authorization: Basic ${base64(${credentials.key}:${credentials.secret})}
        x-app: ${credentials.appKey}
    token_params:
        grant: login
        deep:
            tenant: ${connectionConfig.tenant}
            key: ${credentials.key}
        note: ${credentials.note}
    refresh_url: BASE/gate/refresh
    refresh_token_params:
        refresh: ${refresh_token}
    token_response: {token: data.token, refresh_token: data.renewal, token_expiration: data.ttl, token_expiration_strategy: expireIn}
    token_response_metadata: [data.account]
    docs: https://docs.example.com
    proxy:
        base_url: BASE/gate/api
    integration_config:
        appKey:
            type: string
            title: App
            description: Of the operator.
            secret: true
            optional: true
    connection_config:
        tenant:
            type: string
            title: Tenant
            description: Yours.
            pattern: '^[a-z]+$'
    credentials:
        key:
            type: string
            title: Key
            description: Yours.
            pattern: '^[a-z]+$'
        secret:
            type: string
            title: Secret
            description: Yours.
            secret: true
        note:
            type: string
            title: Note
            description: Yours.
            optional: true
form-xml:
    display_name: Gate
    categories: [crm]
    auth_mode: TWO_STEP
    body_format: xml
    token_url: BASE/gate/xml
    token_params:
        request:
            $id: ${random}
            login:
                user: ${credentials.user}
                password: ${credentials.password}
                company: ${connectionConfig.company}
    token_response: {token: response.session.id, token_expiration: response.session.end}
    docs: https://docs.example.com
    proxy:
        base_url: BASE/gate/api
    connection_config:
        company: {type: string, title: Company, description: Yours.}
    credentials:
        user: {type: string, title: User, description: Yours.}
        password: {type: string, title: Password, description: Yours., secret: true}
form-cookie:
    display_name: Gate
    categories: [crm]
    auth_mode: TWO_STEP
    body_format: form
    token_url: BASE/gate/cookie/login
    token_params:
        user: ${credentials.user}
    additional_steps:
        - token_url: BASE/gate/cookie/open
          token_headers:
              cookie: ${credentials._cookies}
    token_response: {token: session}
    token_response_headers: [set-cookie]
    token_expires_in_ms: 3600000
    docs: https://docs.example.com
    proxy:
        base_url: BASE/gate/cookie/api
        headers:
            cookie: ${credentials._cookies}
    credentials:
        user: {type: string, title: User, description: Yours.}
form-steps:
    display_name: Gate
    categories: [crm]
    auth_mode: TWO_STEP
    body_format: form
    token_url: BASE/gate/steps/1?user=${credentials.user}
    token_request_method: GET
    additional_steps:
        - token_url: ${step1.next}/2
          body_format: json
          token_params:
              code: ${step1.code}
              user: ${credentials.user}
        - token_url: ${step1.next}/3
          token_params:
              grant: ${step2.grant}
              first: ${step1.code}
    token_response: {token: access_token, token_expiration: expires, token_expiration_strategy: expireIn}
    docs: https://docs.example.com
    proxy:
        base_url: BASE/gate/api
    credentials:
        user: {type: string, title: User, description: Yours.}
form-jwt-assertion:
    display_name: Gate
    categories: [crm]
    auth_mode: TWO_STEP
    body_format: form
    token_url: BASE/gate/jwt
    token_params:
        grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer
        assertion: ${credentials.assertion}
    assertion:
        type: jwt
        key: ${credentials.privateKey}
        lifetimeInSeconds: 300
        header: {alg: RS256, typ: JWT}
        payload: {iss: '${credentials.user}', aud: gate, jti: '${random}', scope: [all]}
    token_response: {token: access_token}
    token_expires_in_ms: 3600000
    docs: https://docs.example.com
    proxy:
        base_url: BASE/gate/api
    credentials:
        user: {type: string, title: User, description: Yours.}
        privateKey: {type: string, title: Key, description: Yours., secret: true}
        assertion: {type: string, title: '', description: '', automated: true}
form-saml:
    display_name: Gate
    categories: [crm]
    auth_mode: TWO_STEP
    body_format: form
    token_url: BASE/gate/saml
    token_params:
        grant_type: urn:ietf:params:oauth:grant-type:saml2-bearer
        assertion: ${credentials.assertion}
    assertion:
        type: saml
        key: ${assertionOption.privateKey}
        issuer: gate
        audiences: gate
        recipient: BASE/gate/saml
        nameIdentifier: ${assertionOption.user}
        sessionIndex: ${random}
        lifetimeInSeconds: '86400'
        attributes: {api_key: '${credentials.apiKey}', use_username: true}
    token_response: {token: access_token}
    token_expires_in_ms: 3600000
    docs: https://docs.example.com
    proxy:
        base_url: BASE/gate/api
    credentials:
        apiKey: {type: string, title: Key, description: Yours.}
        assertion: {type: string, title: '', description: '', automated: true}
    assertion_option:
        privateKey: {type: string, title: Key, description: Yours., secret: true}
        user: {type: string, title: User, description: Yours.}
form-signed:
    display_name: Gate
    categories: [crm]
    auth_mode: TWO_STEP
    body_format: form
    signature: {protocol: HMAC}
    token:
        signing_key: ${credentials.secret}
        expires_in_ms: 300000
        header: {alg: HS256, typ: JWT, kid: '${credentials.id}'}
        payload: {aud: /admin/}
    token_url: BASE/gate/signed
    token_params:
        assertion: ${token}
    token_response: {token: ''}
    token_expires_in_ms: 3600000
    docs: https://docs.example.com
    proxy:
        base_url: BASE/gate/api
    credentials:
        id: {type: string, title: Id, description: Yours.}
        secret: {type: string, title: Secret, description: Yours., secret: true}
";

pub fn answer(office: &Office, seen: &Seen) -> Response {
    if !seen.path().contains("/api/")
        && let Some(failure) = office.failure("gate")
    {
        return failure;
    }
    let issue = || {
        let count = office.kept("gate").len() + 1;
        let token = format!("planted-token-{count}");
        office.keep("gate", &token);
        token
    };
    let fields = || seen.fields();
    match seen.path().strip_prefix("/gate/").unwrap() {
        "json/acme" => {
            let basic = format!("Basic {}", BASE64.encode(b"ada:planted-gate"));
            let wanted = json!({"grant": "login", "deep": {"tenant": "acme", "key": "ada"}});
            let kind = seen.header("content-type") == "application/json";
            if !kind
                || seen.header("authorization") != basic
                || fields() != wanted
                || seen.header("x-app") != "planted-app"
            {
                return refuse(401, "invalid_login");
            }
            renewable(office, &issue())
        }
        "refresh" => {
            if fields() != json!({"refresh": office.newest("renewal")}) {
                return refuse(400, "invalid_grant");
            }
            renewable(office, &issue())
        }
        "xml" => {
            let text = seen.text();
            let good = seen.header("content-type") == "application/xml"
                && text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?><request id=\"")
                && text.ends_with(
                    "<login><user>ada</user><password>planted-&lt;&amp;&gt;</password><company>A&amp;B</company></login></request>",
                );
            let end = patchbay_ambient::Clock::now(&office.clock)
                .checked_add(std::time::Duration::from_mins(30))
                .unwrap();
            let body = if good {
                format!(
                    "<?xml version=\"1.0\"?>\n<response><session><id>{}</id><end>{end}</end></session></response>",
                    issue()
                )
            } else {
                "<response><error>XL03000006</error></response>".to_owned()
            };
            let status = if good { 200 } else { 401 };
            Response::builder()
                .status(status)
                .header("content-type", "text/xml")
                .body(body.into())
                .unwrap()
        }
        "cookie/login" => {
            let mut response = ok(&json!({"ok": true}));
            let cookie = |text: String| HeaderValue::from_str(&text).unwrap();
            response
                .headers_mut()
                .append("set-cookie", cookie(format!("SID={}; HttpOnly; Path=/", issue())));
            response
                .headers_mut()
                .append("set-cookie", cookie("user=planted-foreign; Path=/".to_owned()));
            response
        }
        "cookie/open" => {
            let login = format!("SID={}; user=planted-foreign", office.newest("gate"));
            if seen.header("cookie") != login {
                return refuse(401, "no cookie");
            }
            let mut response = ok(&json!({"session": "planted-session"}));
            response
                .headers_mut()
                .append("set-cookie", HeaderValue::from_static("ROUTE=n1"));
            response
        }
        "steps/1" if seen.method == "GET" && seen.body.is_empty() && seen.query() == "user=ada%20l" => {
            ok(&json!({"next": format!("http://{}/gate/steps", seen.header("host")), "code": 7}))
        }
        "steps/2" => match (seen.header("content-type"), seen.fields()) {
            ("application/json", fields) if fields == json!({"code": "7", "user": "ada l"}) => {
                ok(&json!({"grant": "g"}))
            }
            _ => refuse(400, "bad code"),
        },
        "steps/3" => match seen.text() {
            "grant=g&first=7" => ok(&json!({"access_token": issue(), "expires": "1h"})),
            _ => refuse(400, "bad grant"),
        },
        "jwt" => {
            let assertion = fields()["assertion"].as_str().unwrap_or_default().to_owned();
            match verified(office, &assertion) {
                Some(claims) if claims["aud"] == "gate" && claims["scope"] == json!(["all"]) => {
                    office.keep("assertions", assertion);
                    ok(&json!({"access_token": issue()}))
                }
                _ => refuse(400, "invalid_grant"),
            }
        }
        "saml" => {
            let assertion = fields()["assertion"].as_str().unwrap_or_default().to_owned();
            if !saml_is_good(office, &assertion) {
                return refuse(400, "invalid_grant");
            }
            office.keep("assertions", assertion);
            ok(&json!({"access_token": issue()}))
        }
        "signed" => match publisher::claims(office, fields()["assertion"].as_str().unwrap_or_default()) {
            // The token is the whole answer.
            Some(_) => issue().into_response(),
            None => refuse(401, "bad token"),
        },
        path if path.starts_with("cookie/api/") => {
            let wanted = format!("SID={}; user=planted-foreign; ROUTE=n1", office.newest("gate"));
            let good = seen.header("cookie") == wanted && seen.header("authorization").is_empty();
            if good {
                ok(&json!({}))
            } else {
                refuse(401, "no cookie")
            }
        }
        path if path.starts_with("api/") => {
            let good = seen.header("authorization") == format!("Bearer {}", office.newest("gate"));
            if good {
                ok(&json!({}))
            } else {
                refuse(401, "no token")
            }
        }
        _ => refuse(404, "nothing here"),
    }
}

fn renewable(office: &Office, token: &str) -> Response {
    let renewal = format!("planted-renewal-{token}");
    office.keep("renewal", &renewal);
    ok(&json!({"data": {"token": token, "renewal": renewal, "ttl": 3600, "account": 42}}))
}

/// The public key the test gave us.
fn public_key(office: &Office) -> UnparsedPublicKey<Vec<u8>> {
    let key = BASE64.decode(office.newest("public-key").as_bytes()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
}

fn verified(office: &Office, token: &str) -> Option<Value> {
    let (input, signature) = token.rsplit_once('.')?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
    public_key(office).verify(input.as_bytes(), &signature).ok()?;
    serde_json::from_slice(&BASE64URL_NOPAD.decode(input.split_once('.')?.1.as_bytes()).ok()?).ok()
}

/// Checks digest and signature by hand: the document is sent in its canonical form.
fn saml_is_good(office: &Office, assertion: &str) -> bool {
    let Ok(document) = BASE64.decode(assertion.as_bytes()) else {
        return false;
    };
    let document = String::from_utf8(document).unwrap();
    let between = |from: &str, to: &str| {
        let rest = document.split_once(from).map_or("", |(_, rest)| rest);
        rest.split_once(to).map_or("", |(found, _)| found)
    };
    let signature = format!(
        "<ds:Signature{}</ds:Signature>",
        between("<ds:Signature", "</ds:Signature>")
    );
    let hash = digest::digest(&digest::SHA256, document.replace(&signature, "").as_bytes());
    let info = between("<ds:SignedInfo>", "</ds:SignedInfo>");
    let info =
        format!("<ds:SignedInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\">{info}</ds:SignedInfo>");
    let value = BASE64
        .decode(between("<ds:SignatureValue>", "</ds:SignatureValue>").as_bytes())
        .unwrap_or_default();
    between("<ds:DigestValue>", "</ds:DigestValue>") == BASE64.encode(hash.as_ref())
        && public_key(office).verify(info.as_bytes(), &value).is_ok()
        && document.contains(">ada</saml:NameID>")
        && document.contains("<saml:Audience>gate</saml:Audience>")
        && document.contains("Name=\"use_username\"")
        && document.contains("<saml:AttributeValue>true</saml:AttributeValue>")
}
