//! APP and the app's half of CUSTOM: an app that an end user installs, and that mints tokens of the installation with
//! a JSON Web Token of its own (auth-flows §10).

use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION};
use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::{App, Raw};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, JsonMap, Secret};
use serde_json::{Value, json};
use url::Url;

use crate::endpoint::{self, EndpointError};
use crate::expiry;
use crate::jwt::{self, JwtError, SigningKey};
use crate::message::{Answer, BodyFormat, Call};
use crate::rejection::Rejection;

/// `connection_config` key of the installation.
pub const INSTALLATION_ID: &str = "installation_id";
/// `connection_config` key of the app's JWT.
pub const JWT_TOKEN: &str = "jwtToken";
/// `connection_config` key of the user's credentials, CUSTOM only.
pub const USER_CREDENTIALS: &str = "userCredentials";

/// Seconds a JWT is good for: the most that GitHub accepts.
const JWT_LIFE_S: i64 = 600;
/// Seconds by which our clock may be ahead.
const SKEW_S: i64 = 60;

/// The operator's app.
#[derive(Clone, Copy)]
pub struct AppKeys<'a> {
    /// App id: the issuer.
    pub id: &'a str,
    /// RSA private key, PEM, or base64 of PEM.
    private_key: &'a Secret,
    /// Public page.
    pub link: Option<&'a str>,
}

/// The integration lacks the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the integration has no app id and private key configured")]
pub struct MissingApp;

impl<'a> AppKeys<'a> {
    /// The app of an integration: in CUSTOM it is beside the OAuth client, in APP in its place.
    pub fn of(mode: AuthMode, secrets: &'a IntegrationSecrets) -> Result<Self, MissingApp> {
        let (id, private_key) = if mode == AuthMode::Custom {
            (secrets.app_id.as_deref(), secrets.private_key.as_ref())
        } else {
            (secrets.client_id.as_deref(), secrets.client_secret.as_ref())
        };
        Ok(Self {
            id: id.filter(|id| !id.is_empty()).ok_or(MissingApp)?,
            private_key: private_key.filter(|key| !key.is_empty()).ok_or(MissingApp)?,
            link: secrets.app_link.as_deref().filter(|link| !link.is_empty()),
        })
    }

    /// A new JWT (RFC 7519): issued a minute ago, for clocks that run behind ours, and good for ten.
    pub fn jwt(&self, now: Timestamp) -> Result<Secret, JwtError> {
        let key = SigningKey::from_pem(&self.pem())?;
        let at = now.as_second();
        let header = object(json!({"alg": "RS256", "typ": "JWT"}));
        let claims = object(json!({"iat": at - SKEW_S, "exp": at + JWT_LIFE_S, "iss": self.id}));
        jwt::sign(&header, &claims, &key)
    }

    /// The secret that this kind of app signs its webhooks with, by convention: SHA-256 over id, key and page.
    pub fn webhook_secret(&self) -> String {
        let text = format!(
            "{}{}{}",
            self.id,
            self.pem().expose(),
            self.link.unwrap_or_default()
        );
        data_encoding::HEXLOWER
            .encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())
    }

    /// The key as PEM, also where it was given as base64 of its PEM.
    fn pem(&self) -> Secret {
        let compact: Vec<u8> = self
            .private_key
            .expose()
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let decoded = data_encoding::BASE64.decode(&compact).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        match text.filter(|text| text.contains("-----BEGIN ")) {
            Some(pem) => Secret::new(pem),
            None => self.private_key.clone(),
        }
    }
}

impl std::fmt::Debug for AppKeys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppKeys")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a token of an installation depends on.
#[derive(Clone, Copy, Debug)]
pub struct AppInput<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The integration's app.
    pub secrets: &'a IntegrationSecrets,
    /// With [`INSTALLATION_ID`].
    pub connection_config: &'a JsonMap,
}

/// A token of an installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Minted {
    /// To be stored.
    pub credentials: App,
    /// For `connection_config`: `app_id`, `jwtToken`.
    pub config: JsonMap,
}

/// Why there is none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppError {
    /// No app.
    #[error(transparent)]
    MissingApp(#[from] MissingApp),
    /// The private key does not sign.
    #[error(transparent)]
    Key(#[from] JwtError),
    /// A URL cannot be built.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// `installation_id` is not one.
    #[error("the installation's id is missing or malformed")]
    Installation,
    /// No answer.
    #[error("the provider's token endpoint could not be asked: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// The provider refused.
    #[error(transparent)]
    Rejected(Rejection),
    /// Success without a token in it.
    #[error("no token found: {0}")]
    NoToken(Rejection),
}

impl AppError {
    /// `error_type` of the popup's WebSocket frame.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingApp(_) | Self::Key(_) => "provider_config_err",
            Self::Endpoint(error) => error.code(),
            Self::Installation => "url_param_err",
            Self::NoAnswer(_) | Self::Rejected(_) | Self::NoToken(_) => "unknown_err",
        }
    }

    /// `error.type` of the `auth` webhook.
    pub fn webhook_type(&self) -> &'static str {
        match self {
            Self::NoToken(_) => "unable_to_parse_token_response",
            _ => "unknown",
        }
    }
}

/// The page on which the end user installs the app. `params` are parameters of the session or the browser.
pub fn installation_page(
    definition: &Definition,
    keys: &AppKeys<'_>,
    params: &JsonMap,
    state: &str,
    ambient: &Ambient,
) -> Result<Url, AppError> {
    let mut config = params.clone();
    config.insert("appPublicLink".to_owned(), keys.link.ok_or(MissingApp)?.into());
    let template = definition
        .authorization_url
        .as_ref()
        .ok_or(EndpointError::Missing("authorization_url"))?;
    let scope = Scope::new(ambient).connection_config(&config);
    let values = endpoint::values(definition.authorization_url_takes_raw_values());
    let mut url = endpoint::url("authorization_url", template, values, &scope)?;
    url.set_fragment(None);
    url.query_pairs_mut().append_pair("state", state);
    Ok(url)
}

/// Whether `id` may stand in a URL as the name of an installation.
pub fn is_installation_id(id: &str) -> bool {
    (1..=255).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The request for a token, and the JWT it carries.
pub fn token_request(input: &AppInput<'_>, ambient: &Ambient) -> Result<(Call, Secret), AppError> {
    let definition = input.definition;
    let installation = input
        .connection_config
        .get(INSTALLATION_ID)
        .and_then(Value::as_str);
    if !installation.is_some_and(is_installation_id) {
        return Err(AppError::Installation);
    }
    let jwt = AppKeys::of(definition.auth_mode, input.secrets)?.jwt(ambient.now())?;
    let scope = Scope::new(ambient).connection_config(input.connection_config);
    let url = endpoint::token_url(definition, AuthMode::App, &scope)?;
    let mut call = Call::post(url, &JsonMap::new(), BodyFormat::Json);
    call.headers.retain(|(name, _)| *name != ACCEPT);
    call.headers
        .push((ACCEPT, HeaderValue::from_static("application/vnd.github.v3+json")));
    call.headers.retain(|(name, _)| *name != AUTHORIZATION);
    call.authorize(&format!("Bearer {}", jwt.expose()));
    Ok((call, jwt))
}

/// What the answer to [`token_request`] means.
pub fn read_token(
    input: &AppInput<'_>,
    jwt: &Secret,
    answer: &Answer,
    now: Timestamp,
) -> Result<Minted, AppError> {
    let mut rejection = Rejection::read(answer, &[jwt.expose()]);
    if !answer.is_success() {
        // The provider has no words for these: the app was uninstalled, or its key is not the app's.
        match answer.status {
            404 | 410 => rejection.oauth_error = Some("installation_gone".to_owned()),
            401 => rejection.oauth_error = Some("invalid_client".to_owned()),
            _ => {}
        }
        return Err(AppError::Rejected(rejection));
    }
    let raw = answer.object();
    let token = raw
        .as_ref()
        .and_then(|raw| raw.get("token"))
        .and_then(Value::as_str);
    let (Some(token), Some(raw)) = (token.filter(|token| !token.is_empty()), &raw) else {
        return Err(AppError::NoToken(rejection));
    };
    let keys = AppKeys::of(input.definition.auth_mode, input.secrets)?;
    Ok(Minted {
        credentials: App {
            access_token: Secret::new(token),
            expires_at: raw.get("expires_at").and_then(|at| expiry::at(at, now)),
            raw: Raw(raw.clone()),
            jwt_token: Some(jwt.clone()),
        },
        config: object(json!({"app_id": keys.id, JWT_TOKEN: jwt.expose()})),
    })
}

/// Whether the JWT in `connection_config` ends within `buffer_s` seconds, or is none.
pub fn jwt_ends_soon(connection_config: &JsonMap, buffer_s: u64, now: Timestamp) -> bool {
    let end = connection_config
        .get(JWT_TOKEN)
        .and_then(Value::as_str)
        .and_then(jwt::expiry_of);
    let buffer = i64::try_from(buffer_s).unwrap_or(i64::MAX);
    end.is_none_or(|end| end.as_second().saturating_sub(now.as_second()) < buffer)
}

fn object(value: Value) -> JsonMap {
    match value {
        Value::Object(object) => object,
        _ => JsonMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
    use data_encoding::{BASE64, BASE64URL_NOPAD};

    use super::*;

    fn secrets(key: &str) -> IntegrationSecrets {
        IntegrationSecrets {
            client_id: Some("77".to_owned()),
            client_secret: Some(Secret::new(key)),
            app_link: Some("https://github.com/apps/x".to_owned()),
            ..IntegrationSecrets::default()
        }
    }

    #[test]
    fn the_jwt_is_the_apps_whatever_form_its_key_came_in() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = BASE64.encode(key.as_der().unwrap().as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----");
        let now: Timestamp = "2026-08-21T10:00:00Z".parse().unwrap();
        for form in [
            pem.clone(),
            BASE64.encode(pem.as_bytes()),
            pem.replace('\n', "\\n"),
        ] {
            let secrets = secrets(&form);
            let keys = AppKeys::of(AuthMode::App, &secrets).unwrap();
            let jwt = keys.jwt(now).unwrap();
            let parts: Vec<&str> = jwt.expose().split('.').collect();
            let claims: Value =
                serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
            let at = now.as_second();
            assert_eq!(claims, json!({"iat": at - 60, "exp": at + 600, "iss": "77"}));
            let signed = format!("{}.{}", parts[0], parts[1]);
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
            let signature = BASE64URL_NOPAD.decode(parts[2].as_bytes()).unwrap();
            assert!(public.verify(signed.as_bytes(), &signature).is_ok());
            let config = object(json!({JWT_TOKEN: jwt.expose()}));
            assert!(!jwt_ends_soon(&config, 599, now));
            assert!(jwt_ends_soon(&config, 601, now));
        }
        assert!(jwt_ends_soon(&JsonMap::new(), 1, now));
        assert!(AppKeys::of(AuthMode::Custom, &secrets(&pem)).is_err());
        let broken = secrets("x");
        assert!(AppKeys::of(AuthMode::App, &broken).unwrap().jwt(now).is_err());
    }

    #[test]
    fn who_is_to_blame_for_no_token() {
        use patchbay_types::connections::RefreshCause;

        use crate::renewal::RenewError;

        let definition = patchbay_catalog::Catalogue::built_in();
        let definition = &definition.get("github-app").unwrap().definition;
        let secrets = secrets("planted-key");
        let input = AppInput {
            definition,
            secrets: &secrets,
            connection_config: &object(json!({INSTALLATION_ID: "12"})),
        };
        for (status, message, cause) in [
            (404, "Not Found", RefreshCause::ProviderRefused),
            (401, "A JSON web token could not be decoded", RefreshCause::Ours),
            (
                403,
                "This installation has been suspended",
                RefreshCause::ProviderDown,
            ),
            (500, "oops", RefreshCause::ProviderDown),
        ] {
            let answer = Answer {
                status,
                content_type: Some("application/json".to_owned()),
                body: json!({"message": message}).to_string().into(),
                ..Answer::default()
            };
            let error = read_token(&input, &Secret::new("jwt"), &answer, Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(RenewError::from(error).cause(), cause, "{status}");
        }
    }

    #[test]
    fn an_installation_is_named_by_something_that_fits_into_a_path() {
        for (id, fits) in [
            ("12", true),
            ("a-b_1", true),
            ("", false),
            ("..", false),
            ("1/2", false),
            ("%2e", false),
        ] {
            assert_eq!(is_installation_id(id), fits, "{id}");
        }
    }
}
