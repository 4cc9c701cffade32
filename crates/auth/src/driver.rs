//! Sends what the cores ask for. The only I/O of this room.

use std::time::Duration;

use patchbay_ambient::Ambient;
use patchbay_outbound::backoff::retry_after;
use patchbay_outbound::{Client, Error, FetchRequest, Identity, Limits};

pub use crate::client_credentials::{MintError, MintInput, Minted};
pub use crate::oauth2::token::{ExchangeError, ExchangeInput, Exchanged};
pub use crate::renewal::{RenewError, RenewInput, Renewal};

use crate::message::{Answer, Call};
use crate::{client_credentials, oauth2, renewal};

/// Longest a token endpoint is waited for, redirects and body included. Whoever holds a lease over a renewal holds
/// it longer than this, so that nobody else begins one while ours may still be answered.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer of a token endpoint, in bytes.
const LARGEST_ANSWER: usize = 1024 * 1024;
const REDIRECTS: u8 = 5;

/// Exchanges an authorization code.
pub async fn exchange_code(
    client: &Client,
    input: &ExchangeInput<'_>,
    ambient: &Ambient,
) -> Result<Exchanged, ExchangeError> {
    let call = oauth2::token::exchange_request(input, ambient)?;
    let answer = send(client, call, ambient).await?;
    oauth2::token::read_exchange(input, &answer, ambient.now())
}

/// Renews stored credentials: a refresh, or another mint.
pub async fn renew(
    client: &Client,
    input: &RenewInput<'_>,
    ambient: &Ambient,
) -> Result<Renewal, RenewError> {
    let call = renewal::request(input, ambient)?;
    let answer = send(client, call, ambient).await?;
    renewal::read(input, &answer, ambient.now())
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

/// One call to a token endpoint. Never repeated: a second one may cost a rotated refresh token.
async fn send(client: &Client, call: Call, ambient: &Ambient) -> Result<Answer, Error> {
    let response = client.fetch(fetch_request(call)?).await?;
    Ok(Answer {
        status: response.status.as_u16(),
        content_type: response
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        retry_after: retry_after(&response.headers, ambient.now()),
        body: response.body,
    })
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
