//! The code exchange and what a token endpoint answers (auth-flows §8).

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::{AuthorizationMethod, TokenAuthMethod};
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::{OAuth2, Raw};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::time::millis_z;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use serde_json::Value;
use url::Url;

use super::{ClientOverride, MissingClient, OAuthClient};
use crate::endpoint::{self, EndpointError};
use crate::message::{Answer, Call};
use crate::metadata::{capture, lookup};
use crate::rejection::{Rejection, oauth_error};
use crate::{encode, expiry};

/// What the callback brings and the attempt remembered.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeInput<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The integration's OAuth client.
    pub secrets: &'a IntegrationSecrets,
    /// Parameters of the attempt.
    pub connection_config: &'a JsonMap,
    /// `oauth_client_id_override` and its siblings.
    pub client_override: &'a BTreeMap<String, Secret>,
    /// The authorization code.
    pub code: &'a str,
    /// PKCE verifier, if the attempt made one.
    pub code_verifier: Option<&'a Secret>,
    /// The redirect URI the authorization URL carried: the endpoint compares them.
    pub callback_url: &'a str,
}

/// What an exchange brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchanged {
    /// To be stored.
    pub credentials: Credentials,
    /// `token_response_metadata`, and what the server notes; for `connection_config`.
    pub token_metadata: JsonMap,
}

/// Why an exchange brought no token.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The integration's client was removed meanwhile.
    #[error(transparent)]
    MissingClient(#[from] MissingClient),
    /// The token URL or its parameters cannot be built.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
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

impl ExchangeError {
    /// `error_type` of the popup's WebSocket frame.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingClient(_) => "provider_config_err",
            Self::Endpoint(error) => error.code(),
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

/// The token request of the code grant (§8.2).
pub fn exchange_request(input: &ExchangeInput<'_>, ambient: &Ambient) -> Result<Call, ExchangeError> {
    let definition = input.definition;
    let own = ClientOverride::read(input.client_override);
    let client = OAuthClient::choose(input.secrets, own.as_ref().map(|own| &own.client))?;
    let scope = Scope::new(ambient).connection_config(input.connection_config);
    let mut params = JsonMap::new();
    params.insert("grant_type".to_owned(), "authorization_code".into());
    params.insert("code".to_owned(), input.code.into());
    params.insert("redirect_uri".to_owned(), input.callback_url.into());
    params.extend(endpoint::params(definition, &definition.token_params, &scope)?);
    if let Some(verifier) = input.code_verifier {
        params.insert("code_verifier".to_owned(), verifier.expose().into());
    }
    let mut url = endpoint::token_url(definition, AuthMode::OAuth2, &scope)?;
    url.set_query(None);
    Ok(token_call(definition, &client, url, params))
}

/// What the exchange's `answer` means. `now` dates relative expiries.
pub fn read_exchange(
    input: &ExchangeInput<'_>,
    answer: &Answer,
    now: Timestamp,
) -> Result<Exchanged, ExchangeError> {
    let own = ClientOverride::read(input.client_override);
    let mut secrets = vec![input.code];
    secrets.extend(input.secrets.client_secret.as_ref().map(Secret::expose));
    secrets.extend(input.client_override.values().map(Secret::expose));
    secrets.extend(input.code_verifier.map(Secret::expose));
    let (mut credentials, mut token_metadata) = match read_tokens(input.definition, answer, &secrets, now) {
        Ok(tokens) => tokens,
        Err(Unreadable::Rejected(rejection)) => return Err(ExchangeError::Rejected(rejection)),
        Err(Unreadable::NoToken(rejection)) => return Err(ExchangeError::NoToken(rejection)),
    };
    if let Some(own) = own {
        own.apply(&mut credentials);
        token_metadata.extend(own.config());
    }
    Ok(Exchanged {
        credentials: Credentials::OAuth2(credentials),
        token_metadata,
    })
}

/// A POST to `url` with `params`, the client authenticated as the definition says (§8.2).
pub(super) fn token_call(
    definition: &Definition,
    client: &OAuthClient<'_>,
    url: Url,
    mut params: JsonMap,
) -> Call {
    let in_header = definition.authorization_method == AuthorizationMethod::Header;
    if !in_header {
        params.insert("client_id".to_owned(), client.id.into());
        if !client.secret.is_empty() {
            params.insert("client_secret".to_owned(), client.secret.into());
        }
    }
    let mut call = Call::post(url, &params, endpoint::body_format(definition));
    if in_header {
        call.authorize(&encode::basic_form(client.id, client.secret));
    } else if definition.token_request_auth_method == Some(TokenAuthMethod::Basic) {
        call.authorize(&encode::basic(client.id, client.secret));
    }
    call
}

/// An answer without tokens.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The provider said no, also when it said so under a 2xx.
    Rejected(Rejection),
    /// It said yes and gave nothing.
    NoToken(Rejection),
}

/// The tokens of an answer and its `token_response_metadata`.
pub(super) fn read_tokens(
    definition: &Definition,
    answer: &Answer,
    secrets: &[&str],
    now: Timestamp,
) -> Result<(OAuth2, JsonMap), Unreadable> {
    let object = answer.object().filter(|_| answer.is_success());
    let Some(object) = object else {
        let rejection = Rejection::read(answer, secrets);
        return Err(if answer.is_success() {
            Unreadable::NoToken(rejection)
        } else {
            Unreadable::Rejected(rejection)
        });
    };
    let metadata = capture(
        &object,
        definition.token_response_metadata.iter().map(String::as_str),
    );
    // Some providers refuse with status 200 and an error in the body.
    let refused = object.contains_key("error") && oauth_error(&object).is_some();
    match parse(
        object,
        definition.alternate_access_token_response_path.as_deref(),
        now,
    ) {
        Some(credentials) => Ok((credentials, metadata)),
        None if refused => Err(Unreadable::Rejected(Rejection::read(answer, secrets))),
        None => Err(Unreadable::NoToken(Rejection::read(answer, secrets))),
    }
}

/// §8.3; `None` if there is no access token.
fn parse(mut object: JsonMap, alternate_path: Option<&str>, now: Timestamp) -> Option<OAuth2> {
    let expires_at = expiry_of(&object, now);
    let top = |access_token| OAuth2 {
        access_token,
        refresh_token: token_text(object.get("refresh_token")),
        expires_at,
        ..OAuth2::default()
    };
    let credentials = match token_text(object.get("access_token")) {
        Some(access_token) => top(access_token),
        None => match lookup(&object, alternate_path?)? {
            Value::Object(nested) => OAuth2 {
                access_token: token_text(nested.get("access_token"))?,
                refresh_token: token_text(nested.get("refresh_token")),
                expires_at: expiry_of(nested, now),
                ..OAuth2::default()
            },
            scalar => top(token_text(Some(scalar))?),
        },
    };
    if let Some(at) = expires_at {
        object.insert("expires_at".to_owned(), millis_z(at).into());
    }
    Some(OAuth2 {
        raw: Raw(object),
        ..credentials
    })
}

fn expiry_of(object: &JsonMap, now: Timestamp) -> Option<Timestamp> {
    let at = object.get("expires_at").and_then(|value| expiry::at(value, now));
    at.or_else(|| expiry::within(object.get("expires_in")?, now))
}

fn token_text(value: Option<&Value>) -> Option<Secret> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(Secret::new(text.as_str())),
        Value::Number(number) => Some(Secret::new(number.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(value: Value, alternate: Option<&str>) -> Option<OAuth2> {
        let now = "2026-08-21T10:00:00Z".parse().unwrap();
        match value {
            Value::Object(object) => parse(object, alternate, now),
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn tokens_are_found_and_dated() {
        let tokens = parsed(
            json!({"access_token": "a", "refresh_token": "r", "expires_in": 3600, "x": 1}),
            None,
        )
        .unwrap();
        assert_eq!(
            Value::Object(Credentials::OAuth2(tokens).to_json()),
            json!({"type": "OAUTH2", "access_token": "a", "refresh_token": "r", "expires_at": "2026-08-21T11:00:00.000Z",
                "raw": {"access_token": "a", "refresh_token": "r", "expires_in": 3600, "x": 1,
                        "expires_at": "2026-08-21T11:00:00.000Z"}})
        );
        let at_wins = parsed(
            json!({"access_token": "a", "expires_at": 1_787_310_000, "expires_in": 5}),
            None,
        )
        .unwrap();
        assert_eq!(millis_z(at_wins.expires_at.unwrap()), "2026-08-21T11:00:00.000Z");
        let endless = parsed(json!({"access_token": "a"}), None).unwrap();
        assert_eq!((endless.expires_at, endless.refresh_token), (None, None));
        assert!(!endless.raw.0.contains_key("expires_at"));
    }

    #[test]
    fn the_alternate_path_is_an_object_or_a_scalar() {
        let nested = json!({"ok": true, "expires_in": 9, "authed_user": {"access_token": "u", "refresh_token": "ur", "expires_in": 3600}});
        let tokens = parsed(nested.clone(), Some("authed_user")).unwrap();
        assert_eq!(tokens.access_token.expose(), "u");
        assert_eq!(tokens.refresh_token.unwrap().expose(), "ur");
        assert_eq!(millis_z(tokens.expires_at.unwrap()), "2026-08-21T11:00:00.000Z");
        let scalar = json!({"data": {"key": "k"}, "refresh_token": "r", "expires_in": "60"});
        let tokens = parsed(scalar, Some("data.key")).unwrap();
        assert_eq!(tokens.access_token.expose(), "k");
        assert_eq!(tokens.refresh_token.unwrap().expose(), "r");
        assert!(parsed(nested, None).is_none());
        // The top level wins when it has a token.
        assert_eq!(
            parsed(json!({"access_token": "a", "p": "b"}), Some("p"))
                .unwrap()
                .access_token
                .expose(),
            "a"
        );
        for nothing in [
            json!({}),
            json!({"access_token": ""}),
            json!({"access_token": null}),
            json!({"access_token": {}}),
        ] {
            assert!(parsed(nothing, Some("p")).is_none());
        }
    }
}
