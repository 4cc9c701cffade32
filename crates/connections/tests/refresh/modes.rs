//! The auth modes whose credentials are renewed, each as the rig needs to know it.

use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use aws_lc_rs::{digest, hmac};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use patchbay_connections::integrations::AppCredentials;
use patchbay_sample::{Behaviours, Expiry, Grant};
use patchbay_types::credentials::Derived;
use patchbay_types::{AuthMode, Credentials, Timestamp};
use serde_json::{Value, json};

use crate::rig::{LIFE, Mode, Newcomer, SECRET, Spends, user_of};

/// Hexadecimal, as keys of HMAC are written.
const HMAC_KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// What is assumed of a session whose length nobody says (auth-flows §18.3).
const SESSION: Duration = Duration::from_mins(35);

pub(crate) fn modes() -> Vec<Mode> {
    let mut modes = oauth2();
    modes.push(client_credentials());
    modes.extend(two_step());
    modes.push(bill());
    modes.push(aws());
    modes.extend(apps());
    modes.extend(signed_here());
    modes
}

/// Modes that hold a refresh token.
fn oauth2() -> Vec<Mode> {
    let plain = |name, definition, app| Mode {
        name,
        grant: Grant::RefreshToken,
        spends: Spends::RefreshToken,
        life: LIFE,
        definition,
        app,
        settings: |_| None,
        manners: Behaviours::default,
        secret: || SECRET.to_owned(),
        connect: |newcomer| (oauth2_credentials(newcomer), json!({})),
        token: oauth2_token,
        accepts: |newcomer, token| newcomer.sample.accepts(token),
    };
    vec![
        plain(
            "OAUTH2",
            "auth_mode: OAUTH2\n    authorization_url: BASE/oauth/authorize\n    token_url: BASE/oauth/token\n",
            |newcomer| Some(oauth_app(AuthMode::OAuth2, newcomer)),
        ),
        plain(
            "MCP_OAUTH2",
            "auth_mode: MCP_OAUTH2\n    client_registration: static\n    authorization_url: BASE/oauth/authorize\n    \
             token_url: BASE/oauth/token\n",
            |newcomer| Some(oauth_app(AuthMode::McpOAuth2, newcomer)),
        ),
        Mode {
            connect: |newcomer| {
                let base = &newcomer.sample.base_url;
                let server = json!({
                    "issuer": base, "authorization_endpoint": format!("{base}/oauth/authorize"),
                    "token_endpoint": format!("{base}/oauth/token"),
                });
                let client = json!({
                    "client_id": newcomer.client, "token_endpoint_auth_method": "client_secret_post",
                });
                let config = json!({
                    "mcp_server_url": format!("{base}/mcp"), "oauth_metadata": server.to_string(),
                    "oauth_client_info": client.to_string(), "oauth_resource_url": format!("{base}/mcp"),
                });
                let mut credentials = oauth2_credentials(newcomer);
                credentials["config_override"] =
                    json!({"client_id": newcomer.client, "client_secret": newcomer.secret});
                (credentials, config)
            },
            ..plain("MCP_OAUTH2_GENERIC", "auth_mode: MCP_OAUTH2_GENERIC\n", |_| None)
        },
    ]
}

fn oauth_app(mode: AuthMode, newcomer: &Newcomer<'_>) -> AppCredentials {
    AppCredentials::OAuth {
        mode,
        client_id: Some(newcomer.client.to_owned()),
        client_secret: Some(newcomer.secret.into()),
        scopes: None,
        webhook_secret: None,
    }
}

fn oauth2_credentials(newcomer: &Newcomer<'_>) -> Value {
    let issued = newcomer.sample.issue_to(newcomer.client, "read");
    json!({
        "type": "OAUTH2", "access_token": issued["access_token"], "refresh_token": issued["refresh_token"],
        "expires_at": newcomer.end.to_string(), "raw": issued,
    })
}

fn oauth2_token(credentials: &Credentials) -> String {
    match credentials {
        Credentials::OAuth2(credentials) => credentials.access_token.expose().to_owned(),
        other => panic!("not OAuth 2: {other:?}"),
    }
}

fn client_credentials() -> Mode {
    Mode {
        name: "OAUTH2_CC",
        grant: Grant::ClientCredentials,
        spends: Spends::Secret,
        life: LIFE,
        definition: "auth_mode: OAUTH2_CC\n    token_url: BASE/oauth/token\n    token_params:\n        \
                     grant_type: client_credentials\n",
        app: |_| None,
        settings: |_| None,
        manners: Behaviours::default,
        secret: || SECRET.to_owned(),
        connect: |newcomer| {
            let issued = newcomer.sample.issue_client_token(newcomer.client);
            let credentials = json!({
                "type": "OAUTH2_CC", "token": issued["access_token"], "client_id": newcomer.client,
                "client_secret": newcomer.secret, "expires_at": newcomer.end.to_string(), "raw": issued,
            });
            (credentials, json!({}))
        },
        token: |credentials| match credentials {
            Credentials::OAuth2Cc(credentials) => credentials.token.expose().to_owned(),
            other => panic!("not client credentials: {other:?}"),
        },
        accepts: |newcomer, token| newcomer.sample.accepts(token),
    }
}

/// TWO_STEP, without and with a refresh token.
fn two_step() -> [Mode; 2] {
    let plain = Mode {
        name: "TWO_STEP",
        grant: Grant::Login,
        spends: Spends::Secret,
        life: LIFE,
        definition: "auth_mode: TWO_STEP
    token_url: BASE/login
    token_params: {client_id: '${credentials.client_id}', client_secret: '${credentials.client_secret}'}
    token_response: {token: access_token, EXPIRY}
    credentials:
        client_id: {type: string, title: User, description: Yours.}
        client_secret: {type: string, title: Password, description: Yours., secret: true}
",
        app: |_| None,
        settings: |_| None,
        manners: Behaviours::default,
        secret: || SECRET.to_owned(),
        connect: |newcomer| {
            let issued = newcomer.sample.issue_to(newcomer.client, "read");
            let credentials = json!({
                "type": "TWO_STEP", "token": issued["access_token"], "client_id": newcomer.client,
                "client_secret": newcomer.secret, "expires_at": newcomer.end.to_string(), "raw": issued,
            });
            (credentials, json!({}))
        },
        token: |credentials| field(credentials, "token"),
        accepts: |newcomer, token| newcomer.sample.accepts(token),
    };
    let refreshed = Mode {
        name: "TWO_STEP with a refresh token",
        grant: Grant::RefreshToken,
        spends: Spends::RefreshToken,
        definition: "auth_mode: TWO_STEP
    token_url: BASE/login
    token_params: {client_id: '${credentials.client_id}', client_secret: '${credentials.client_secret}'}
    token_response: {token: access_token, refresh_token: refresh_token, EXPIRY}
    refresh_url: BASE/oauth/token
    refresh_token_params:
        grant_type: refresh_token
        refresh_token: ${refresh_token}
        client_id: ${credentials.client_id}
        client_secret: ${credentials.client_secret}
    credentials:
        client_id: {type: string, title: User, description: Yours.}
        client_secret: {type: string, title: Password, description: Yours., secret: true}
",
        connect: |newcomer| {
            let issued = newcomer.sample.issue_to(newcomer.client, "read");
            let credentials = json!({
                "type": "TWO_STEP", "token": issued["access_token"], "refresh_token": issued["refresh_token"],
                "client_id": newcomer.client, "client_secret": newcomer.secret,
                "expires_at": newcomer.end.to_string(), "raw": issued,
            });
            (credentials, json!({}))
        },
        ..plain
    };
    [plain, refreshed]
}

fn bill() -> Mode {
    Mode {
        name: "BILL",
        grant: Grant::Login,
        spends: Spends::Secret,
        life: SESSION,
        definition: "auth_mode: BILL\n    token_url: BASE/login/session\n",
        app: |_| None,
        settings: |_| None,
        manners: Behaviours::default,
        secret: || SECRET.to_owned(),
        connect: |newcomer| {
            let issued = newcomer.sample.issue_client_token(newcomer.client);
            let credentials = json!({
                "type": "BILL", "username": newcomer.client, "password": newcomer.secret, "organization_id": "00801",
                "dev_key": "planted-dev-key", "session_id": issued["access_token"], "user_id": "006",
                "expires_at": newcomer.end.to_string(), "raw": {},
            });
            (credentials, json!({}))
        },
        token: |credentials| field(credentials, "session_id"),
        accepts: |newcomer, token| newcomer.sample.accepts(token),
    }
}

/// AWS_SIGV4 by a service of the operator's.
fn aws() -> Mode {
    Mode {
        name: "AWS_SIGV4",
        grant: Grant::Login,
        spends: Spends::Secret,
        life: LIFE,
        definition: "auth_mode: AWS_SIGV4
    integration_config:
        service: {type: string, title: Service, description: Code., optional: true}
        stsMode: {type: string, title: Mode, description: Who., optional: true}
        stsEndpointUrl: {type: string, title: Endpoint, description: Where., optional: true}
        stsAuthType: {type: string, title: Kind, description: How., optional: true}
        stsApiKey: {type: string, title: Key, description: Key., secret: true, optional: true}
    credentials:
        role_arn: {type: string, title: Role, description: Yours.}
",
        app: |_| None,
        settings: |newcomer| {
            let url = newcomer.sample.url("/login/role");
            let values = [
                ("service", "s3"),
                ("stsMode", "custom"),
                ("stsEndpointUrl", &url),
                ("stsAuthType", "api_key"),
                ("stsApiKey", newcomer.secret),
            ];
            Some(
                values
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            )
        },
        manners: Behaviours::default,
        secret: || SECRET.to_owned(),
        connect: |newcomer| {
            let issued = newcomer.sample.issue_client_token(newcomer.client);
            let role = format!("arn:aws:iam::123456789012:role/{}", newcomer.client);
            let config = json!({
                "role_arn": role, "region": "eu-west-1", "service": "s3",
                "external_id": "6f1c1f9e-6a7a-4b0f-9c36-0f4f0a5d9b11",
            });
            let mut credentials = config.clone();
            for (name, value) in [
                ("type", json!("AWS_SIGV4")),
                ("access_key_id", issued["access_token"].clone()),
                ("secret_access_key", json!("planted-secret-access-key")),
                ("session_token", json!("planted-session-token")),
                ("expires_at", json!(newcomer.end.to_string())),
            ] {
                credentials[name] = value;
            }
            (credentials, config)
        },
        token: |credentials| field(credentials, "access_key_id"),
        accepts: |newcomer, token| newcomer.sample.accepts(token),
    }
}

/// APP and CUSTOM: an app mints tokens of an installation, which is called like the client.
fn apps() -> [Mode; 2] {
    let app = Mode {
        name: "APP",
        grant: Grant::Login,
        spends: Spends::Secret,
        life: LIFE,
        definition: "auth_mode: APP
    authorization_url: BASE/apps
    token_url: BASE/login/installations/${connectionConfig.installation_id}/tokens
",
        app: |_| {
            Some(AppCredentials::App {
                app_id: "4711".to_owned(),
                app_link: "https://hub.example.com/apps/x".to_owned(),
                private_key: app_key().1.as_str().into(),
            })
        },
        settings: |_| None,
        // No app is told less.
        manners: || {
            let mut well = Behaviours::default();
            well.login.expiry = Expiry::Iso;
            well
        },
        secret: || BASE64.encode(app_key().0.public_key().as_ref()),
        connect: |newcomer| {
            (
                app_credentials(newcomer),
                json!({"installation_id": newcomer.client}),
            )
        },
        token: |credentials| match credentials {
            Credentials::App(credentials) => credentials.access_token.expose().to_owned(),
            other => panic!("not an app's: {other:?}"),
        },
        accepts: |newcomer, token| newcomer.sample.accepts(token),
    };
    let custom = Mode {
        name: "CUSTOM",
        definition: "auth_mode: CUSTOM
    authorization_url: BASE/apps
    token_url:
        OAUTH2: BASE/oauth/token
        APP: BASE/login/installations/${connectionConfig.installation_id}/tokens
",
        app: |newcomer| {
            Some(AppCredentials::Custom {
                client_id: user_of(newcomer.client),
                client_secret: SECRET.into(),
                app_id: "4711".to_owned(),
                app_link: "https://hub.example.com/apps/x".to_owned(),
                private_key: app_key().1.as_str().into(),
            })
        },
        connect: |newcomer| {
            let user = Newcomer {
                client: &user_of(newcomer.client),
                ..*newcomer
            };
            let config = json!({
                "installation_id": newcomer.client, "userCredentials": oauth2_credentials(&user),
            });
            (app_credentials(newcomer), config)
        },
        ..app
    };
    [app, custom]
}

fn app_credentials(newcomer: &Newcomer<'_>) -> Value {
    let issued = newcomer.sample.issue_client_token(newcomer.client);
    json!({
        "type": "APP", "access_token": issued["access_token"], "expires_at": newcomer.end.to_string(), "raw": {},
    })
}

fn app_key() -> &'static (RsaKeyPair, String) {
    static KEY: OnceLock<(RsaKeyPair, String)> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = BASE64.encode(key.as_der().unwrap().as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----");
        (key, pem)
    })
}

/// JWT and SIGNATURE: what is checked here, as their receivers check it.
fn signed_here() -> [Mode; 2] {
    let jwt = Mode {
        name: "JWT",
        grant: Grant::Login,
        spends: Spends::Nobody,
        life: LIFE,
        definition: "auth_mode: JWT
    signature: {protocol: HMAC}
    token:
        signing_key: ${credentials.key}
        expires_in_ms: 3600000
        header: {alg: HS256, typ: JWT}
        payload: {aud: matrix}
    credentials:
        key: {type: string, title: Key, description: Yours., secret: true}
",
        app: |_| None,
        settings: |_| None,
        manners: Behaviours::default,
        secret: || HMAC_KEY.to_owned(),
        connect: |newcomer| (json!({"type": "JWT", "key": newcomer.secret}), json!({})),
        token: |credentials| field(credentials, "token"),
        accepts: |newcomer, token| {
            let (input, signature) = token.rsplit_once('.').unwrap();
            let key = hmac::Key::new(
                hmac::HMAC_SHA256,
                &HEXLOWER.decode(newcomer.secret.as_bytes()).unwrap(),
            );
            let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
            hmac::verify(&key, input.as_bytes(), &signature).unwrap();
            let claims = input.split_once('.').unwrap().1;
            let claims: Value =
                serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();
            claims["exp"].as_i64().unwrap() > newcomer.sample.api_time_for(newcomer.client).as_second()
        },
    };
    let signature = Mode {
        name: "SIGNATURE",
        definition: "auth_mode: SIGNATURE
    signature: {protocol: WSSE}
    token: {expires_in_ms: 3600000}
    credentials:
        username: {type: string, title: User, description: Yours.}
        password: {type: string, title: Secret, description: Yours., secret: true}
",
        connect: |newcomer| {
            let credentials = json!({"type": "SIGNATURE", "username": "ada", "password": newcomer.secret});
            (credentials, json!({}))
        },
        accepts: |newcomer, token| {
            let part = |name: &str| {
                let rest = token.split_once(&format!("{name}=\"")).unwrap().1;
                rest.split('"').next().unwrap().to_owned()
            };
            let created = part("Created");
            let text = [part("Nonce").as_str(), &created, newcomer.secret].concat();
            let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
            assert_eq!(
                part("PasswordDigest"),
                BASE64.encode(HEXLOWER.encode(sha1.as_ref()).as_bytes())
            );
            let end = created.parse::<Timestamp>().unwrap().checked_add(LIFE).unwrap();
            end > newcomer.sample.api_time_for(newcomer.client)
        },
        ..jwt
    };
    [jwt, signature]
}

fn field(credentials: &Credentials, name: &str) -> String {
    let (Credentials::TwoStep(Derived { fields })
    | Credentials::Bill(Derived { fields })
    | Credentials::AwsSigV4(Derived { fields })
    | Credentials::Jwt(Derived { fields })
    | Credentials::Signature(Derived { fields })) = credentials
    else {
        panic!("not made of fields: {credentials:?}");
    };
    fields[name].as_str().unwrap().to_owned()
}
