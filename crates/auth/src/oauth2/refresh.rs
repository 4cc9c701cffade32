//! The refresh token grant (RFC 6749 §6; auth-flows §24.4).

use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::OAuth2;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};

use super::OAuthClient;
use super::token::{Unreadable, read_tokens, token_call};
use crate::endpoint;
use crate::message::{Answer, Call};
use crate::renewal::{RenewError, RenewInput, Renewal};

/// The request. `grant_type` is `refresh_token` unless `refresh_params` say otherwise; `token_params` take their
/// place where there are none, but never their grant.
pub(crate) fn request(input: &RenewInput<'_>, old: &OAuth2, ambient: &Ambient) -> Result<Call, RenewError> {
    let definition = input.definition;
    let refresh_token = old
        .refresh_token
        .as_ref()
        .ok_or_else(|| RenewError::ours("there is no refresh token"))?;
    let client = OAuthClient::choose(input.secrets, old.config_override.as_ref())?;
    let scope = Scope::new(ambient).connection_config(input.connection_config);
    let mut params = JsonMap::new();
    params.insert("grant_type".to_owned(), "refresh_token".into());
    if definition.refresh_params.is_empty() {
        let mut borrowed = endpoint::params(definition, &definition.token_params, &scope)?;
        borrowed.remove("grant_type");
        params.extend(borrowed);
    } else {
        params.extend(endpoint::params(definition, &definition.refresh_params, &scope)?);
    }
    params.insert("refresh_token".to_owned(), refresh_token.expose().into());
    let mut url = endpoint::refresh_url(definition, AuthMode::OAuth2, &scope)?;
    if definition.refresh_url.is_none() {
        url.set_query(None);
    }
    Ok(token_call(definition, &client, url, params))
}

/// What the answer means. A provider that does not rotate leaves the old refresh token in force.
pub(crate) fn read(
    input: &RenewInput<'_>,
    old: &OAuth2,
    answer: &Answer,
    now: Timestamp,
) -> Result<Renewal, RenewError> {
    let override_secret = old
        .config_override
        .as_ref()
        .and_then(|own| own.client_secret.as_ref());
    let secrets: Vec<&str> = [
        old.refresh_token.as_ref(),
        input.secrets.client_secret.as_ref(),
        override_secret,
    ]
    .into_iter()
    .flatten()
    .chain([&old.access_token])
    .map(Secret::expose)
    .collect();
    let (mut tokens, config_updates) = match read_tokens(input.definition, answer, &secrets, now) {
        Ok(tokens) => tokens,
        Err(Unreadable::Rejected(rejection)) => return Err(RenewError::Rejected(rejection)),
        Err(Unreadable::NoToken(rejection)) => return Err(RenewError::NoToken(rejection)),
    };
    if tokens.refresh_token.is_none() {
        tokens.refresh_token.clone_from(&old.refresh_token);
    }
    tokens.config_override.clone_from(&old.config_override);
    Ok(Renewal {
        credentials: Credentials::OAuth2(tokens),
        config_updates,
    })
}
