//! Sends what the cores ask for. The only I/O of this room.

use std::time::Duration;

use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_outbound::backoff::retry_after;
use patchbay_outbound::{Client, Error, FetchRequest, FetchResponse, Identity, Limits};
use patchbay_types::credentials::OAuth1;
use patchbay_types::{AuthMode, Secret};

pub use crate::client_credentials::{MintError, MintInput, Minted};
pub use crate::introspection::TokenState;
pub use crate::oauth1::handshake::{HandshakeError, HandshakeInput, RequestToken};
pub use crate::oauth2::token::{ExchangeError, ExchangeInput, Exchanged};
pub use crate::obtain::{Applicant, ObtainError, Obtained, Occasion};
pub use crate::renewal::{RenewError, RenewInput, Renewal};

use tokio::time::Instant;

use crate::message::{Answer, Call};
use crate::oauth1::handshake::{self, Leg};
use crate::oauth2::token::Second;
use crate::obtain::{Conversation, Turn};
use crate::{bill, client_credentials, introspection, oauth2, renewal, signed_tokens, wsse};

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

/// Renews stored credentials: a refresh, or another mint.
pub async fn renew(
    client: &Client,
    input: &RenewInput<'_>,
    ambient: &Ambient,
) -> Result<Renewal, RenewError> {
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
