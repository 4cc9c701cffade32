//! OAuth 2.0 client credentials grant with the end user's own client (RFC 6749 §4.4; auth-flows §15).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::TokenAuthMethod;
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::{OAuth2Cc, Raw};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use serde_json::{Value, json};
use url::Url;

use crate::endpoint::{self, EndpointError};
use crate::jwt::{self, JwtError, PrivateJwk};
use crate::message::{Answer, Call, ClientCertificate};
use crate::metadata::{capture, lookup};
use crate::oauth2::authorize;
use crate::rejection::Rejection;
use crate::renewal::RenewInput;
use crate::{encode, expiry};

/// Life of a token whose answer names none.
const DEFAULT_LIFE: SignedDuration = SignedDuration::from_mins(55);
/// Life of a client assertion.
const ASSERTION_LIFE_S: i64 = 300;
/// Where tokens are found, in this order.
const TOKEN_PATHS: [&str; 3] = ["access_token", "data.token", "jwt"];

/// What minting depends on.
#[derive(Clone, Copy, Debug)]
pub struct MintInput<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The integration's scopes.
    pub secrets: &'a IntegrationSecrets,
    /// The connection's parameters. `oauth_scopes` replaces the integration's scopes, `authorization_params` are
    /// added to the request: what the first mint left there.
    pub connection_config: &'a JsonMap,
    /// Parameters of the session, over all others.
    pub authorization_params: &'a BTreeMap<String, String>,
    /// Client id.
    pub client_id: &'a str,
    /// Client secret, unless a private key stands for it.
    pub client_secret: Option<&'a Secret>,
    /// PEM for mutual TLS.
    pub client_certificate: Option<&'a Secret>,
    /// PEM for mutual TLS, or a JWK for `private_key_jwt`.
    pub client_private_key: Option<&'a Secret>,
}

/// What minting brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Minted {
    /// To be stored.
    pub credentials: Credentials,
    /// To be merged over `connection_config`: what the answer said and what the next mint needs.
    pub config_updates: JsonMap,
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MintError {
    /// The token URL or its parameters cannot be built.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The private key cannot sign.
    #[error(transparent)]
    Key(#[from] JwtError),
    /// No answer.
    #[error("the provider's token endpoint could not be asked: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// The provider refused.
    #[error(transparent)]
    Rejected(Rejection),
    /// Success without a token in it.
    #[error("no access token found: {0}")]
    NoToken(Rejection),
}

impl MintError {
    /// Code on the wire, HTTP 400.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Endpoint(EndpointError::Missing(_)) => "missing_token_url",
            Self::Endpoint(_) | Self::Key(_) => "invalid_body",
            Self::NoAnswer(patchbay_outbound::Error::Identity(_)) => "invalid_certificate_or_key_format",
            Self::NoAnswer(_) | Self::Rejected(_) | Self::NoToken(_) => "client_credentials_fetch_error",
        }
    }
}

static NO_PARAMS: BTreeMap<String, String> = BTreeMap::new();

impl<'a> MintInput<'a> {
    /// To mint again for stored credentials.
    pub(crate) fn again(input: &RenewInput<'a>, old: &'a OAuth2Cc) -> Self {
        Self {
            definition: input.definition,
            secrets: input.secrets,
            connection_config: input.connection_config,
            authorization_params: &NO_PARAMS,
            client_id: &old.client_id,
            client_secret: Some(&old.client_secret).filter(|secret| !secret.is_empty()),
            client_certificate: old.client_certificate.as_ref(),
            client_private_key: old.client_private_key.as_ref(),
        }
    }

    fn scopes(&self) -> Vec<&'a str> {
        match self.connection_config.get("oauth_scopes") {
            Some(Value::String(text)) if !text.is_empty() => text
                .split(',')
                .map(str::trim)
                .filter(|scope| !scope.is_empty())
                .collect(),
            Some(Value::Array(items)) if !items.is_empty() => {
                items.iter().filter_map(Value::as_str).collect()
            }
            _ => authorize::scopes(self.secrets, self.connection_config),
        }
    }

    fn secret(&self) -> &'a str {
        self.client_secret.map_or("", Secret::expose)
    }
}

/// The token request.
pub fn request(input: &MintInput<'_>, ambient: &Ambient) -> Result<Call, MintError> {
    let definition = input.definition;
    let scope = Scope::new(ambient).connection_config(input.connection_config);
    let url = endpoint::token_url(definition, AuthMode::OAuth2Cc, &scope)?;
    let mut params = JsonMap::new();
    let mut basic = None;
    match definition.token_request_auth_method {
        None => {
            params.insert("client_id".to_owned(), input.client_id.into());
            if !input.secret().is_empty() {
                params.insert("client_secret".to_owned(), input.secret().into());
            }
        }
        Some(TokenAuthMethod::Basic) => basic = Some(encode::basic(input.client_id, input.secret())),
        Some(TokenAuthMethod::Custom) => {
            params.insert("username".to_owned(), input.client_id.into());
            params.insert("password".to_owned(), input.secret().into());
        }
        Some(TokenAuthMethod::PrivateKeyJwt) => {
            params.insert("client_id".to_owned(), input.client_id.into());
            params.insert(
                "client_assertion_type".to_owned(),
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into(),
            );
            let assertion = client_assertion(input, &url, ambient)?;
            params.insert("client_assertion".to_owned(), assertion.expose().into());
        }
    }
    params.extend(endpoint::params(definition, &definition.token_params, &scope)?);
    let scopes = input.scopes();
    if !scopes.is_empty() {
        params.insert(
            "scope".to_owned(),
            scopes.join(&definition.scope_separator).into(),
        );
    }
    if let Some(Value::Object(stored)) = input.connection_config.get("authorization_params") {
        params.extend(stored.clone());
    }
    params.extend(
        input
            .authorization_params
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str()))),
    );

    let mut call = Call::post(url, &params, endpoint::body_format(definition));
    if let Some(basic) = basic {
        call.authorize(&basic);
    }
    if definition.token_request_auth_method != Some(TokenAuthMethod::PrivateKeyJwt) {
        call.client_certificate = certificate(input);
    }
    Ok(call)
}

/// What the answer means. `now` dates relative expiries.
pub fn read(input: &MintInput<'_>, answer: &Answer, now: Timestamp) -> Result<Minted, MintError> {
    let secrets: Vec<&str> = [input.client_secret, input.client_private_key]
        .into_iter()
        .flatten()
        .map(Secret::expose)
        .collect();
    if !answer.is_success() {
        return Err(MintError::Rejected(Rejection::read(answer, &secrets)));
    }
    let found = answer.object().and_then(|object| Some((token(&object)?, object)));
    let Some((token, object)) = found else {
        return Err(MintError::NoToken(Rejection::read(answer, &secrets)));
    };
    let definition = input.definition;
    let mut config_updates = capture(
        &object,
        definition.token_response_metadata.iter().map(String::as_str),
    );
    if !input.connection_config.contains_key("oauth_scopes") {
        let scopes = input.scopes();
        if !scopes.is_empty() {
            config_updates.insert("oauth_scopes".to_owned(), scopes.join(",").into());
        }
    }
    if !input.authorization_params.is_empty() {
        config_updates.insert(
            "authorization_params".to_owned(),
            json!(input.authorization_params),
        );
    }
    let credentials = OAuth2Cc {
        token,
        expires_at: Some(expires_at(definition, &object, now)),
        client_id: input.client_id.to_owned(),
        client_secret: Secret::new(input.secret()),
        client_certificate: input.client_certificate.cloned(),
        client_private_key: input.client_private_key.cloned(),
        raw: Raw(object),
    };
    Ok(Minted {
        credentials: Credentials::OAuth2Cc(credentials),
        config_updates,
    })
}

fn token(object: &JsonMap) -> Option<Secret> {
    TOKEN_PATHS
        .iter()
        .filter_map(|path| lookup(object, path)?.as_str())
        .find(|token| !token.is_empty())
        .map(Secret::new)
}

fn expires_at(definition: &Definition, object: &JsonMap, now: Timestamp) -> Timestamp {
    let within = if definition.expires_in_milliseconds {
        expiry::within_millis
    } else {
        expiry::within
    };
    object
        .get("expires_at")
        .and_then(|value| expiry::at(value, now))
        .or_else(|| within(object.get("expires_in")?, now))
        .unwrap_or_else(|| now.checked_add(DEFAULT_LIFE).unwrap_or(Timestamp::MAX))
}

/// RFC 7523 §3.
fn client_assertion(input: &MintInput<'_>, url: &Url, ambient: &Ambient) -> Result<Secret, JwtError> {
    let jwk = PrivateJwk::parse(input.client_private_key.ok_or(JwtError::Jwk)?)?;
    let now = ambient.now().as_second();
    let object = |value: Value| match value {
        Value::Object(object) => object,
        _ => JsonMap::new(),
    };
    let header = object(json!({"alg": "RS256", "typ": "JWT", "kid": jwk.key_id}));
    let claims = object(json!({
        "iss": input.client_id,
        "sub": input.client_id,
        "aud": url.as_str(),
        "iat": now,
        "exp": now + ASSERTION_LIFE_S,
        "jti": ambient.entropy.uuid().to_string(),
    }));
    jwt::sign(&header, &claims, &jwk.key)
}

fn certificate(input: &MintInput<'_>) -> Option<ClientCertificate> {
    Some(ClientCertificate {
        certificate: input.client_certificate?.clone(),
        private_key: input.client_private_key?.clone(),
    })
}
