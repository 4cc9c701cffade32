//! Sends what the cores ask for. The only I/O of this room.

use std::time::Duration;

use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_outbound::backoff::retry_after;
use patchbay_outbound::{Client, Error, FetchRequest, FetchResponse, Identity, Limits};
use patchbay_types::credentials::OAuth1;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use serde_json::Value;
use url::Url;

pub use crate::app::{AppError, AppInput};
pub use crate::client_credentials::{MintError, MintInput, Minted};
pub use crate::introspection::TokenState;
pub use crate::mcp::generic::{Becoming, Discovered, DiscoveryError};
pub use crate::mcp::{ClientProfile, RegisteredClient, RegistrationError};
pub use crate::oauth1::handshake::{HandshakeError, HandshakeInput, RequestToken};
pub use crate::oauth2::token::{ExchangeError, ExchangeInput, Exchanged};
pub use crate::obtain::{Applicant, ObtainError, Obtained, Occasion};
pub use crate::renewal::{RenewError, RenewInput, Renewal};

use tokio::time::Instant;

use crate::mcp::generic::{self, Resource, Server};
use crate::message::{Answer, Call};
use crate::oauth1::handshake::{self, Leg};
use crate::oauth2::token::Second;
use crate::obtain::{Conversation, Turn};
use crate::request::{self, BuildError, Subject, Wanted};
use crate::{
    app, aws_sigv4, bill, client_credentials, introspection, mcp, oauth2, renewal, signed_tokens, two_step,
    wsse,
};

/// Longest a token endpoint is waited for, redirects and body included. Whoever holds a lease over a renewal holds
/// it longer than this, so that nobody else begins one while ours may still be answered.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer of a token endpoint, in bytes.
const LARGEST_ANSWER: usize = 1024 * 1024;
const REDIRECTS: u8 = 5;
/// What a late call of a conversation gets at least.
const SHORTEST: Duration = Duration::from_secs(1);

/// What one call may take, where a second one waits for its answer.
const FIRST_OF_TWO: Duration = Duration::from_secs(12);

/// Exchanges an authorization code, with a second request and extra tokens where the definition has them.
pub async fn exchange_code(
    client: &Client,
    input: &ExchangeInput<'_>,
    ambient: &Ambient,
) -> Result<Exchanged, ExchangeError> {
    let deadline = Deadline::new(input.definition);
    let call = oauth2::token::exchange_request(input, ambient)?;
    let first = deadline.send(client, call, ambient).await?;
    let second = match oauth2::token::exchange_follow_up(input, &first, ambient)? {
        Some(call) => Some(deadline.send(client, call, ambient).await),
        None => None,
    };
    let mut exchanged = oauth2::token::read_exchange(input, &first, outcome(second.as_ref()), ambient.now())?;
    for (extra, call) in oauth2::token::exchange_extras(input, &exchanged, ambient) {
        if let Some(answer) = deadline.try_extra(client, call, ambient).await {
            oauth2::token::keep_exchange_extra(extra, &answer, ambient.now(), &mut exchanged);
        }
    }
    Ok(exchanged)
}

/// OAuth 1, first leg: temporary credentials for a browser that comes back to `callback`.
pub async fn request_token(
    client: &Client,
    input: &HandshakeInput<'_>,
    callback: &str,
    ambient: &Ambient,
) -> Result<RequestToken, HandshakeError> {
    let leg = Leg::request_token(input, callback, ambient)?;
    let answer = walk(client, leg, ambient).await?;
    handshake::read_request_token(input, &answer)
}

/// OAuth 1, last leg: the end user's token.
pub async fn access_token(
    client: &Client,
    input: &HandshakeInput<'_>,
    token: &str,
    token_secret: &Secret,
    verifier: &str,
    ambient: &Ambient,
) -> Result<OAuth1, HandshakeError> {
    let leg = Leg::access_token(input, token, token_secret, verifier, ambient)?;
    let answer = walk(client, leg, ambient).await?;
    handshake::read_access_token(input, &answer, &[token_secret.expose(), verifier])
}

/// A signed leg to wherever its endpoint has moved, signed anew at each step; five steps at most.
async fn walk(client: &Client, mut leg: Leg<'_>, ambient: &Ambient) -> Result<Answer, HandshakeError> {
    for _ in 0..=REDIRECTS {
        let mut request = fetch_request(leg.call(ambient)?)?;
        request.limits.redirects = 0;
        let response = client.fetch(request).await?;
        let moved = matches!(response.status.as_u16(), 301 | 302 | 307 | 308);
        let location = response.headers.get(http::header::LOCATION);
        match location.and_then(|value| value.to_str().ok()).filter(|_| moved) {
            Some(location) => leg = leg.moved(location)?,
            None => return Ok(answer(response, ambient)),
        }
    }
    Err(Error::TooManyRedirects { limit: REDIRECTS }.into())
}

/// A token of an installation (APP, CUSTOM), and what it leaves in `connection_config`.
pub async fn mint_app_token(
    client: &Client,
    input: &AppInput<'_>,
    ambient: &Ambient,
) -> Result<app::Minted, AppError> {
    let (call, jwt) = app::token_request(input, ambient)?;
    let answer = send_within(client, call, TIMEOUT / 2, ambient).await?;
    app::read_token(input, &jwt, &answer, ambient.now())
}

/// A `GET` of the provider's API as a connection would make it; none unless the answer is a JSON object and good.
pub async fn get_object(
    client: &Client,
    subject: &Subject<'_>,
    endpoint: &str,
    ambient: &Ambient,
) -> Result<Option<JsonMap>, GetError> {
    let wanted = Wanted {
        method: &http::Method::GET,
        endpoint,
        base_url_override: None,
        templates: &[],
        headers: &[],
        content_type: None,
        body: b"",
    };
    let built = request::build(subject, &wanted, ambient)?;
    let mut request = FetchRequest::get(built.url);
    for header in built.headers {
        request.headers.insert(header.name, header.value);
    }
    request.limits.total = TIMEOUT / 2;
    let response = client.fetch(request).await?;
    let answer = answer(response, ambient);
    Ok(answer.object().filter(|_| answer.is_success()))
}

/// Why a call of the provider's API was not answered.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It was not answered.
    #[error(transparent)]
    NoAnswer(#[from] Error),
}

/// Another token of an installation. In CUSTOM the user's own token is renewed with it: after the app's, because what
/// a refresh token was spent for must be saved, and only a renewal that succeeds is. That one fails does not matter.
/// Each gets half the time.
async fn renew_app(
    client: &Client,
    input: &RenewInput<'_>,
    ambient: &Ambient,
) -> Result<Renewal, RenewError> {
    let app = AppInput {
        definition: input.definition,
        secrets: input.secrets,
        connection_config: input.connection_config,
    };
    let minted = mint_app_token(client, &app, ambient).await?;
    let mut config_updates = minted.config;
    if input.definition.auth_mode == AuthMode::Custom
        && let Some(Value::Object(user)) = input.connection_config.get(app::USER_CREDENTIALS)
        && let Ok(user) = Credentials::from_json(user.clone())
    {
        let input = RenewInput {
            credentials: &user,
            ..*input
        };
        match renew_user(client, &input, ambient).await {
            Ok(renewed) => {
                let renewed = renewed.credentials.to_json();
                config_updates.insert(app::USER_CREDENTIALS.to_owned(), renewed.into());
            }
            Err(error) => tracing::info!(%error, "an app's user token was not renewed"),
        }
    }
    Ok(Renewal {
        credentials: Credentials::App(minted.credentials),
        config_updates,
    })
}

async fn renew_user(
    client: &Client,
    input: &RenewInput<'_>,
    ambient: &Ambient,
) -> Result<Renewal, RenewError> {
    let call = renewal::request(input, ambient)?;
    let answer = send_within(client, call, TIMEOUT / 2, ambient).await?;
    renewal::read(input, &answer, Second::None, ambient.now())
}

/// Registers us with a provider (RFC 7591).
pub async fn register_client(
    client: &Client,
    endpoint: &str,
    callback: &str,
    profile: &ClientProfile,
    params: &JsonMap,
    ambient: &Ambient,
) -> Result<RegisteredClient, RegistrationError> {
    let url = Url::parse(endpoint).map_err(|_| RegistrationError::Endpoint)?;
    let call = mcp::registration_request(url, callback, profile, params);
    let answer = send(client, call, ambient).await?;
    mcp::read_registration(&answer)
}

/// Finds out how to sign in at an MCP server, and becomes its client.
pub async fn discover(
    client: &Client,
    server_url: &Url,
    becoming: &Becoming<'_>,
    ambient: &Ambient,
) -> Result<Discovered, DiscoveryError> {
    let policy = client.policy();
    let mut resource = Resource::undescribed(server_url);
    for url in generic::resource_metadata_urls(server_url) {
        if let Some(metadata) = metadata(client, url, ambient).await? {
            resource = Resource::read(server_url, &metadata, policy)?;
            break;
        }
    }
    let mut server = None;
    for url in generic::server_metadata_urls(&resource.authorization_server) {
        if let Some(metadata) = metadata(client, url, ambient).await? {
            server = Some(Server::read(&metadata, policy)?);
            break;
        }
    }
    let server = server.ok_or(DiscoveryError::NoMetadata)?;
    let document = becoming
        .document
        .as_ref()
        .filter(|_| server.client_id_metadata_document_supported);
    let registered = match (document, &server.registration_endpoint) {
        (Some(document), _) => RegisteredClient {
            id: document.clone(),
            secret: None,
            auth_method: Some("none".to_owned()),
        },
        (None, Some(endpoint)) => {
            let mut grants = JsonMap::new();
            let both = serde_json::json!(["authorization_code", "refresh_token"]);
            grants.insert("grant_types".to_owned(), both);
            grants.insert("response_types".to_owned(), serde_json::json!(["code"]));
            register_client(
                client,
                endpoint,
                becoming.callback,
                &becoming.profile,
                &grants,
                ambient,
            )
            .await?
        }
        (None, None) => return Err(DiscoveryError::NoClient),
    };
    let scopes = if resource.scopes.is_empty() {
        server.scopes_supported.clone()
    } else {
        resource.scopes
    };
    Ok(Discovered {
        server_url: server_url.clone(),
        client: (&registered).into(),
        client_secret: registered.secret,
        server,
        resource: resource.resource,
        scopes,
    })
}

/// A well-known document; none if it is somewhere else.
async fn metadata(client: &Client, url: Url, ambient: &Ambient) -> Result<Option<JsonMap>, DiscoveryError> {
    let mut request = FetchRequest::get(url);
    request.headers.insert(
        http::header::ACCEPT,
        http::HeaderValue::from_static("application/json"),
    );
    request.limits = Limits {
        body: LARGEST_ANSWER,
        total: TIMEOUT / 2,
        redirects: REDIRECTS,
    };
    let answer = answer(client.fetch(request).await?, ambient);
    if mcp::is_elsewhere(answer.status) {
        return Ok(None);
    }
    let object = answer.object().filter(|_| answer.is_success());
    object
        .map(Some)
        .ok_or(DiscoveryError::Unusable("they are no JSON object"))
}

/// Exchanges a code at a server that was discovered.
pub async fn exchange_discovered(
    client: &Client,
    input: &ExchangeInput<'_>,
    ambient: &Ambient,
) -> Result<Exchanged, ExchangeError> {
    let call = oauth2::token::discovered_request(input)?;
    let answer = send(client, call, ambient).await?;
    oauth2::token::read_exchange(input, &answer, Second::None, ambient.now())
}

/// Renews stored credentials: a refresh, or another mint.
pub async fn renew(
    client: &Client,
    input: &RenewInput<'_>,
    ambient: &Ambient,
) -> Result<Renewal, RenewError> {
    if matches!(input.credentials, Credentials::App(_)) {
        return renew_app(client, input, ambient).await;
    }
    if let Some(applicant) = renewal::applicant(input) {
        let obtained = obtain(client, &applicant, ambient).await;
        return Ok(obtained.map_err(RenewError::from)?.into());
    }
    let deadline = Deadline::new(input.definition);
    let call = renewal::request(input, ambient)?;
    let first = deadline.send(client, call, ambient).await?;
    let second = match renewal::follow_up(input, &first, ambient)? {
        Some(call) => Some(deadline.send(client, call, ambient).await),
        None => None,
    };
    let mut renewal = renewal::read(input, &first, outcome(second.as_ref()), ambient.now())?;
    for (extra, call) in renewal::extras(input, &renewal, ambient) {
        let answer = deadline.try_extra(client, call, ambient).await;
        renewal::keep_extra(input, extra, answer.as_ref(), ambient.now(), &mut renewal);
    }
    Ok(renewal)
}

/// Asks whether a token is still good. Without such an endpoint it is not known to be.
pub async fn introspect(
    client: &Client,
    input: &RenewInput<'_>,
    ambient: &Ambient,
) -> Result<TokenState, RenewError> {
    match introspection::request(input, ambient)? {
        Some(call) => Ok(introspection::read(&send(client, call, ambient).await?)),
        None => Ok(TokenState::Ended),
    }
}

fn outcome(second: Option<&Result<Answer, Error>>) -> Second<'_> {
    match second {
        None => Second::None,
        Some(Ok(answer)) => Second::Answered(answer),
        Some(Err(error)) => Second::Unanswered(error),
    }
}

/// All calls of one exchange or renewal together end within [`TIMEOUT`].
struct Deadline {
    begun: Instant,
    first: Duration,
}

impl Deadline {
    fn new(definition: &Definition) -> Self {
        let several = definition.token_client.as_deref().is_some_and(|client| {
            client.exchange.then.is_some() || client.refresh.then.is_some() || !client.extra_tokens.is_empty()
        });
        Self {
            begun: Instant::now(),
            first: if several { FIRST_OF_TWO } else { TIMEOUT },
        }
    }

    async fn send(&self, client: &Client, call: Call, ambient: &Ambient) -> Result<Answer, Error> {
        let spent = self.begun.elapsed();
        let left = TIMEOUT.saturating_sub(spent).max(SHORTEST);
        send_within(client, call, left.min(self.first), ambient).await
    }

    /// An extra token's call: what goes wrong is logged and costs only the extra token.
    async fn try_extra(&self, client: &Client, call: Call, ambient: &Ambient) -> Option<Answer> {
        let host = call.url.host_str().unwrap_or_default().to_owned();
        match self.send(client, call, ambient).await {
            Ok(answer) if answer.is_success() => Some(answer),
            Ok(answer) => {
                tracing::warn!(host, status = answer.status, "an extra token was refused");
                None
            }
            Err(error) => {
                tracing::warn!(host, %error, "an extra token could not be asked for");
                None
            }
        }
    }
}

/// Obtains the first token of an end user's client. That it can be had is the test of these credentials.
pub async fn mint_client_credentials(
    client: &Client,
    input: &MintInput<'_>,
    ambient: &Ambient,
) -> Result<Minted, MintError> {
    let call = client_credentials::request(input, ambient)?;
    let answer = send(client, call, ambient).await?;
    client_credentials::read(input, &answer, ambient.now())
}

/// Makes credentials of what was typed, asking the provider as often as the mode demands.
pub async fn obtain(
    client: &Client,
    applicant: &Applicant<'_>,
    ambient: &Ambient,
) -> Result<Obtained, ObtainError> {
    match applicant.definition.auth_mode {
        AuthMode::Jwt => signed_tokens::obtain(applicant, ambient),
        AuthMode::Signature => wsse::obtain(applicant, ambient),
        AuthMode::TwoStep => converse(client, &mut two_step::Exchange::new(*applicant), ambient).await,
        AuthMode::AwsSigV4 => {
            let mut assumption = aws_sigv4::Assumption::new(*applicant, ambient)?;
            converse(client, &mut assumption, ambient).await
        }
        AuthMode::Bill => converse(client, &mut bill::Login(*applicant), ambient).await,
        other => Err(ObtainError::unusable(
            "invalid_auth_mode",
            format!("credentials of auth mode {other} are not made this way"),
        )),
    }
}

/// Holds a conversation. All of it together takes no longer than [`TIMEOUT`].
async fn converse(
    client: &Client,
    conversation: &mut dyn Conversation,
    ambient: &Ambient,
) -> Result<Obtained, ObtainError> {
    let begun = ambient.now();
    let mut answer = None;
    loop {
        match conversation.next(answer.take().as_ref(), ambient)? {
            Turn::Done(obtained) => return Ok(*obtained),
            Turn::Ask(call) => {
                let spent = Duration::try_from(ambient.now().duration_since(begun)).unwrap_or_default();
                let left = TIMEOUT.saturating_sub(spent).max(SHORTEST);
                match send_within(client, *call, left, ambient).await {
                    Ok(answered) => answer = Some(answered),
                    Err(error) => conversation.unanswered(error)?,
                }
            }
        }
    }
}

/// One call to a token endpoint. Never repeated: a second one may cost a rotated refresh token.
async fn send(client: &Client, call: Call, ambient: &Ambient) -> Result<Answer, Error> {
    send_within(client, call, TIMEOUT, ambient).await
}

async fn send_within(
    client: &Client,
    call: Call,
    limit: Duration,
    ambient: &Ambient,
) -> Result<Answer, Error> {
    let mut request = fetch_request(call)?;
    request.limits.total = limit;
    Ok(answer(client.fetch(request).await?, ambient))
}

fn answer(response: FetchResponse, ambient: &Ambient) -> Answer {
    let kind = response.headers.get(http::header::CONTENT_TYPE);
    Answer {
        status: response.status.as_u16(),
        content_type: kind.and_then(|value| value.to_str().ok()).map(str::to_owned),
        retry_after: retry_after(&response.headers, ambient.now()),
        headers: response.headers,
        body: response.body,
    }
}

fn fetch_request(call: Call) -> Result<FetchRequest, Error> {
    let mut request = FetchRequest::new(call.method, call.url);
    request.headers.extend(call.headers);
    request.body = call.body;
    request.limits = Limits {
        body: LARGEST_ANSWER,
        total: TIMEOUT,
        redirects: REDIRECTS,
    };
    if let Some(material) = &call.client_certificate {
        let identity = Identity::from_pem(material.certificate.expose(), material.private_key.expose())?;
        request.identity = Some(identity);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use patchbay_types::JsonMap;
    use url::Url;

    use super::*;
    use crate::message::BodyFormat;

    #[test]
    fn every_call_ends_within_the_time_a_lease_reckons_with() {
        let url = Url::parse("https://id.example.com/token").expect("a literal URL");
        let request =
            fetch_request(Call::post(url, &JsonMap::new(), BodyFormat::Form)).expect("no certificate");
        assert_eq!(request.limits.total, TIMEOUT);
        assert!(TIMEOUT <= Duration::from_secs(20));
    }
}
