//! The code exchange and what a token endpoint answers (auth-flows §8).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::{
    AuthorizationMethod, ExtraToken, TokenAnswer, TokenAuthMethod, TokenCall,
};
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::{OAuth2, Raw};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::time::millis_z;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use serde_json::Value;
use url::Url;

use super::client::{self, Usual};
use super::{ClientOverride, MissingClient, OAuthClient};
use crate::endpoint::{self, EndpointError};
use crate::mcp::generic::{Known, MissingMetadata};
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
    /// The attempt's `state`: some endpoints want it again.
    pub state: &'a str,
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
    /// The attempt does not hold what was discovered.
    #[error(transparent)]
    MissingMetadata(#[from] MissingMetadata),
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
            Self::MissingMetadata(_) | Self::NoAnswer(_) | Self::Rejected(_) | Self::NoToken(_) => {
                "unknown_err"
            }
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

/// The token request of the code grant (§8.2), or the definition's own (§11).
pub fn exchange_request(input: &ExchangeInput<'_>, ambient: &Ambient) -> Result<Call, ExchangeError> {
    let definition = input.definition;
    let own = ClientOverride::read(input.client_override);
    let oauth_client = OAuthClient::choose(definition, input.secrets, own.as_ref().map(|own| &own.client))?;
    let scopes = client::scopes(definition, input.secrets, input.connection_config);
    let values = values(input, oauth_client, &scopes, None);
    let usual = |scope: &Scope<'_>| {
        let mut params = JsonMap::new();
        params.insert("grant_type".to_owned(), "authorization_code".into());
        params.insert("code".to_owned(), input.code.into());
        params.insert("redirect_uri".to_owned(), input.callback_url.into());
        params.extend(endpoint::params(definition, &definition.token_params, scope)?);
        if let Some(verifier) = input.code_verifier {
            params.insert("code_verifier".to_owned(), verifier.expose().into());
        }
        let mut url = endpoint::token_url(definition, AuthMode::OAuth2, scope)?;
        url.set_query(None);
        Ok(authenticated(definition, &oauth_client, url, params))
    };
    Ok(client::request(
        exchange_call(definition),
        &values,
        usual,
        ambient,
    )?)
}

/// The token request of the code grant at a server that was discovered (§12.2).
pub fn discovered_request(input: &ExchangeInput<'_>) -> Result<Call, ExchangeError> {
    let known = Known::read(input.connection_config)?;
    let verifier = input.code_verifier.map(Secret::expose).unwrap_or_default();
    let grant = [
        ("grant_type", "authorization_code"),
        ("code", input.code),
        ("code_verifier", verifier),
        ("redirect_uri", input.callback_url),
    ];
    let secret = input.client_override.get("oauth_client_secret_override");
    Ok(known.token_request(&grant, secret)?)
}

/// The second request, where the definition makes one with the answer to the first. None is made after a refusal,
/// which [`read_exchange`] reports.
pub fn exchange_follow_up(
    input: &ExchangeInput<'_>,
    first: &Answer,
    ambient: &Ambient,
) -> Result<Option<Call>, ExchangeError> {
    let definition = input.definition;
    let Some(then) = &exchange_call(definition).then else {
        return Ok(None);
    };
    let Some(object) = first
        .object()
        .filter(|object| accepts(rules(definition), first, object))
    else {
        return Ok(None);
    };
    let own = ClientOverride::read(input.client_override);
    let oauth_client = OAuthClient::choose(definition, input.secrets, own.as_ref().map(|own| &own.client))?;
    let scopes = client::scopes(definition, input.secrets, input.connection_config);
    let values = values(input, oauth_client, &scopes, Some(&object));
    Ok(Some(client::request(&then.call, &values, no_usual, ambient)?))
}

/// How a second request went.
#[derive(Clone, Copy, Debug)]
pub enum Second<'a> {
    /// There was none to make.
    None,
    /// It was answered.
    Answered(&'a Answer),
    /// It was not.
    Unanswered(&'a patchbay_outbound::Error),
}

/// What the answers to an exchange mean. `now` dates relative expiries.
pub fn read_exchange(
    input: &ExchangeInput<'_>,
    first: &Answer,
    second: Second<'_>,
    now: Timestamp,
) -> Result<Exchanged, ExchangeError> {
    let own = ClientOverride::read(input.client_override);
    let mut secrets = vec![input.code];
    secrets.extend(input.secrets.client_secret.as_ref().map(Secret::expose));
    secrets.extend(input.client_override.values().map(Secret::expose));
    secrets.extend(input.code_verifier.map(Secret::expose));
    let then = exchange_call(input.definition).then.as_deref();
    let reading = Reading {
        definition: input.definition,
        rules: rules(input.definition),
        otherwise_life_s: then.and_then(|then| then.otherwise_life_s),
        secrets: &secrets,
        now,
    };
    let (mut credentials, mut token_metadata) = reading.tokens(first, second, |_| {})?;
    if let Some(own) = own {
        own.apply(&mut credentials);
        token_metadata.extend(own.config());
    }
    Ok(Exchanged {
        credentials: Credentials::OAuth2(credentials),
        token_metadata,
    })
}

/// The definition's extra tokens that freshly exchanged credentials give access to, with their requests.
pub fn exchange_extras<'d>(
    input: &ExchangeInput<'d>,
    exchanged: &Exchanged,
    ambient: &Ambient,
) -> Vec<(&'d ExtraToken, Call)> {
    let definition = input.definition;
    let asks = client::asks_for_extras(definition, input.secrets, &exchanged.credentials);
    let Some((token_client, tokens, oauth_client)) = asks else {
        return Vec::new();
    };
    let scopes = client::scopes(definition, input.secrets, input.connection_config);
    let config = crate::metadata::merge_config(
        exchanged.token_metadata.clone(),
        JsonMap::new(),
        input.connection_config,
    );
    let values = client::Values {
        connection_config: &config,
        tokens: Some(tokens),
        ..values(input, oauth_client, &scopes, None)
    };
    client::extra_requests(token_client, &values, ambient)
}

/// Keeps what the request of an extra token brought.
pub fn keep_exchange_extra(extra: &ExtraToken, answer: &Answer, now: Timestamp, exchanged: &mut Exchanged) {
    if let Credentials::OAuth2(tokens) = &mut exchanged.credentials {
        client::keep_extra(extra, answer, now, &mut exchanged.token_metadata, tokens);
    }
}

fn values<'a>(
    input: &ExchangeInput<'a>,
    oauth_client: OAuthClient<'a>,
    scopes: &'a str,
    answer: Option<&'a JsonMap>,
) -> client::Values<'a> {
    client::Values {
        definition: input.definition,
        client: oauth_client,
        connection_config: input.connection_config,
        callback_url: input.callback_url,
        scopes,
        code: Some(input.code),
        code_verifier: input.code_verifier,
        state: Some(input.state),
        tokens: None,
        previous_refresh_token: None,
        answer,
    }
}

static USUAL_CALL: LazyLock<TokenCall> = LazyLock::new(TokenCall::default);
static USUAL_ANSWER: LazyLock<TokenAnswer> = LazyLock::new(TokenAnswer::default);

fn exchange_call(definition: &Definition) -> &TokenCall {
    definition
        .token_client
        .as_deref()
        .map_or(&USUAL_CALL, |client| &client.exchange)
}

pub(super) fn refresh_call(definition: &Definition) -> &TokenCall {
    definition
        .token_client
        .as_deref()
        .map_or(&USUAL_CALL, |client| &client.refresh)
}

fn rules(definition: &Definition) -> &TokenAnswer {
    definition
        .token_client
        .as_deref()
        .map_or(&USUAL_ANSWER, |client| &client.exchange_answer)
}

pub(super) fn refresh_rules(definition: &Definition) -> &TokenAnswer {
    definition
        .token_client
        .as_deref()
        .map_or(&USUAL_ANSWER, |client| &client.refresh_answer)
}

/// Nothing stands in for parts of a request that the definition has to write itself.
pub(super) fn no_usual(_: &Scope<'_>) -> Result<Usual, EndpointError> {
    Err(EndpointError::Missing("params"))
}

/// `params` with the client authenticated as the definition says (§8.2).
pub(super) fn authenticated(
    definition: &Definition,
    client: &OAuthClient<'_>,
    url: Url,
    mut params: JsonMap,
) -> Usual {
    let is_public = definition
        .token_client
        .as_deref()
        .is_some_and(|client| client.is_public);
    let in_header = definition.authorization_method == AuthorizationMethod::Header && !is_public;
    if !in_header {
        params.insert("client_id".to_owned(), client.id.into());
        if !client.secret.is_empty() {
            params.insert("client_secret".to_owned(), client.secret.into());
        }
    }
    let authorization = if in_header {
        Some(encode::basic_form(client.id, client.secret))
    } else if definition.token_request_auth_method == Some(TokenAuthMethod::Basic) && !is_public {
        Some(encode::basic(client.id, client.secret))
    } else {
        None
    };
    Usual {
        url,
        params,
        authorization,
    }
}

/// An answer without tokens.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The provider said no, also when it said so under a 2xx.
    Rejected(Rejection),
    /// It said yes and gave nothing.
    NoToken(Rejection),
    /// It did not answer a second request.
    NoAnswer(patchbay_outbound::Error),
}

impl From<Unreadable> for ExchangeError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Rejected(rejection) => Self::Rejected(rejection),
            Unreadable::NoToken(rejection) => Self::NoToken(rejection),
            Unreadable::NoAnswer(error) => Self::NoAnswer(error),
        }
    }
}

/// Whether the provider says yes.
pub(super) fn accepts(rules: &TokenAnswer, answer: &Answer, object: &JsonMap) -> bool {
    let status = if rules.statuses.is_empty() {
        answer.is_success()
    } else {
        rules.statuses.iter().any(|code| code.matches(answer.status))
    };
    let said = rules
        .success
        .as_ref()
        .is_none_or(|success| lookup(object, &success.path) == Some(&success.equals));
    status && said
}

/// How answers are to be read.
pub(super) struct Reading<'a> {
    pub(super) definition: &'a Definition,
    pub(super) rules: &'a TokenAnswer,
    pub(super) otherwise_life_s: Option<u64>,
    pub(super) secrets: &'a [&'a str],
    pub(super) now: Timestamp,
}

impl Reading<'_> {
    /// The tokens of the answers and their `token_response_metadata`. `complete` may add to what was answered.
    pub(super) fn tokens(
        &self,
        first: &Answer,
        second: Second<'_>,
        complete: impl FnOnce(&mut JsonMap),
    ) -> Result<(OAuth2, JsonMap), Unreadable> {
        let mut object = self.object(first)?;
        let mut life_s = self.rules.life_s;
        match second {
            Second::None => {}
            Second::Answered(answer) => match answer.object().filter(|_| answer.is_success()) {
                Some(more) => object.extend(more),
                None if self.otherwise_life_s.is_some() => life_s = self.otherwise_life_s,
                None => return Err(Unreadable::Rejected(Rejection::read(answer, self.secrets))),
            },
            Second::Unanswered(_) if self.otherwise_life_s.is_some() => life_s = self.otherwise_life_s,
            Second::Unanswered(error) => return Err(Unreadable::NoAnswer(error.clone())),
        }
        if let Some(life) = life_s.filter(|_| self.otherwise_life_s == life_s) {
            object.insert("expires_in".to_owned(), life.into());
        }
        complete(&mut object);
        let metadata = capture(
            &object,
            self.definition.token_response_metadata.iter().map(String::as_str),
        );
        // Some providers refuse with status 200 and an error in the body.
        let refused = object.contains_key("error") && oauth_error(&object).is_some();
        let alternate = self.definition.alternate_access_token_response_path.as_deref();
        match parse(
            object,
            self.rules,
            life_s,
            alternate,
            Unit::of(self.definition),
            self.now,
        ) {
            Some(credentials) => Ok((credentials, metadata)),
            None if refused => Err(Unreadable::Rejected(Rejection::read(first, self.secrets))),
            None => Err(Unreadable::NoToken(Rejection::read(first, self.secrets))),
        }
    }

    /// The object of an answer that says yes.
    pub(super) fn object(&self, answer: &Answer) -> Result<JsonMap, Unreadable> {
        let object = answer.object();
        if let Some(object) = &object
            && accepts(self.rules, answer, object)
        {
            return Ok(object.clone());
        }
        let rejection = Rejection::read(answer, self.secrets);
        let says_no = !answer.is_success() || object.is_some() && self.rules.success.is_some();
        Err(if says_no {
            Unreadable::Rejected(rejection)
        } else {
            Unreadable::NoToken(rejection)
        })
    }
}

/// §8.3; `None` if there is no access token.
fn parse(
    mut object: JsonMap,
    rules: &TokenAnswer,
    life_s: Option<u64>,
    alternate_path: Option<&str>,
    unit: Unit,
    now: Timestamp,
) -> Option<OAuth2> {
    let root = client::rooted(&object, rules.root.as_deref());
    let expires_at = end_of(&object, root, rules, life_s, unit, now);
    let at = |path: &Option<String>, usual: &str| token_text(lookup(root, path.as_deref().unwrap_or(usual)));
    let top = |access_token| OAuth2 {
        access_token,
        refresh_token: at(&rules.refresh_token, "refresh_token"),
        expires_at,
        ..OAuth2::default()
    };
    let credentials = match at(&rules.access_token, "access_token") {
        Some(access_token) => top(access_token),
        None => match lookup(root, alternate_path?)? {
            Value::Object(nested) => OAuth2 {
                access_token: token_text(nested.get("access_token"))?,
                refresh_token: token_text(nested.get("refresh_token")),
                expires_at: expiry_of(nested, unit, now),
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

/// What `expires_in` counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    pub(super) fn of(definition: &Definition) -> Self {
        if definition.expires_in_milliseconds {
            Self::Milliseconds
        } else {
            Self::Seconds
        }
    }

    fn end(self, value: &Value, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Seconds => expiry::within(value, now),
            Self::Milliseconds => expiry::within_millis(value, now),
        }
    }
}

/// When tokens end: as fixed by the definition, at the instant named, after the shortest of the lives named.
pub(super) fn end_of(
    object: &JsonMap,
    root: &JsonMap,
    rules: &TokenAnswer,
    life_s: Option<u64>,
    unit: Unit,
    now: Timestamp,
) -> Option<Timestamp> {
    if let Some(life) = life_s {
        return expiry::within(&life.into(), now);
    }
    let path = rules.expires_at.as_deref().unwrap_or("expires_at");
    let at = lookup(root, path).and_then(|value| expiry::at(value, now));
    let within = |object: &JsonMap, path: &str| unit.end(lookup(object, path)?, now);
    at.or_else(|| match rules.expires_in.as_slice() {
        [] => within(root, "expires_in"),
        paths => paths.iter().filter_map(|path| within(object, path)).min(),
    })
}

fn expiry_of(object: &JsonMap, unit: Unit, now: Timestamp) -> Option<Timestamp> {
    let at = object.get("expires_at").and_then(|value| expiry::at(value, now));
    at.or_else(|| unit.end(object.get("expires_in")?, now))
}

/// The refresh token of an answer, by the definition's path.
pub(super) fn refresh_token_of(rules: &TokenAnswer, answer: &Answer) -> Option<Secret> {
    let object = answer.object()?;
    let path = rules.refresh_token.as_deref().unwrap_or("refresh_token");
    token_text(lookup(client::rooted(&object, rules.root.as_deref()), path))
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
            Value::Object(object) => parse(
                object,
                &TokenAnswer::default(),
                None,
                alternate,
                Unit::Seconds,
                now,
            ),
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
