//! The refresh token grant (RFC 6749 §6; auth-flows §24.4), and what providers with their own way make of it (§11).

use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::{ExtraToken, ExtraTokenPlace, KeepRefreshToken, RefreshWith, TokenAnswer};
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::OAuth2;
use patchbay_types::time::millis_z;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};

use super::token::{
    Reading, Second, Unit, Unreadable, accepts, authenticated, end_of, no_usual, refresh_call, refresh_rules,
    refresh_token_of,
};
use super::{OAuthClient, client};
use crate::endpoint;
use crate::mcp::generic::{Known, MissingMetadata};
use crate::message::{Answer, Call};
use crate::renewal::{RenewError, RenewInput, Renewal};

/// Whether there is a way to refresh these tokens.
pub(crate) fn is_possible(definition: &Definition, tokens: &OAuth2) -> bool {
    match refresh_with(definition) {
        RefreshWith::RefreshToken => tokens
            .refresh_token
            .as_ref()
            .is_some_and(|token| !token.is_empty()),
        RefreshWith::AccessToken => !tokens.access_token.is_empty(),
        RefreshWith::Nothing => true,
    }
}

fn refresh_with(definition: &Definition) -> RefreshWith {
    definition
        .token_client
        .as_deref()
        .map_or(RefreshWith::RefreshToken, |client| client.refresh_with)
}

/// The seconds before the end at which tokens are refreshed: the definition's, but for tokens that refresh themselves
/// at most half of their life, since the provider does not take those that are too fresh.
pub(crate) fn buffer_s(definition: &Definition, tokens: &OAuth2) -> u64 {
    let declared = definition.expiration_buffer_s();
    if refresh_with(definition) != RefreshWith::AccessToken {
        return declared;
    }
    let life = tokens.raw.0.get("expires_in").and_then(serde_json::Value::as_u64);
    life.map_or(declared, |life| declared.min(life / 2))
}

/// The request. `grant_type` is `refresh_token` unless `refresh_params` say otherwise; `token_params` take their
/// place where there are none, but never their grant.
pub(crate) fn request(input: &RenewInput<'_>, old: &OAuth2, ambient: &Ambient) -> Result<Call, RenewError> {
    let definition = input.definition;
    let refresh_token = old.refresh_token.as_ref();
    if refresh_with(definition) == RefreshWith::RefreshToken && refresh_token.is_none() {
        return Err(RenewError::ours("there is no refresh token"));
    }
    let oauth_client = OAuthClient::choose(definition, input.secrets, old.config_override.as_ref())?;
    let scopes = client::scopes(definition, input.secrets, input.connection_config);
    let values = values(input, old, oauth_client, &scopes, None);
    let usual = |scope: &Scope<'_>| {
        let mut params = JsonMap::new();
        params.insert("grant_type".to_owned(), "refresh_token".into());
        if definition.refresh_params.is_empty() {
            let mut borrowed = endpoint::params(definition, &definition.token_params, scope)?;
            borrowed.remove("grant_type");
            params.extend(borrowed);
        } else {
            params.extend(endpoint::params(definition, &definition.refresh_params, scope)?);
        }
        if let Some(refresh_token) = refresh_token {
            params.insert("refresh_token".to_owned(), refresh_token.expose().into());
        }
        let mut url = endpoint::refresh_url(definition, AuthMode::OAuth2, scope)?;
        if definition.refresh_url.is_none() {
            url.set_query(None);
        }
        Ok(authenticated(definition, &oauth_client, url, params))
    };
    Ok(client::request(
        refresh_call(definition),
        &values,
        usual,
        ambient,
    )?)
}

/// The request to a server that was discovered (§12.2).
pub(crate) fn discovered_request(input: &RenewInput<'_>, old: &OAuth2) -> Result<Call, RenewError> {
    let ours = |error: MissingMetadata| RenewError::ours(error.to_string());
    let refresh_token = old
        .refresh_token
        .as_ref()
        .ok_or_else(|| RenewError::ours("there is no refresh token"))?;
    let known = Known::read(input.connection_config).map_err(ours)?;
    let own = old.config_override.as_ref();
    let secret = own.and_then(|own| own.client_secret.as_ref());
    let grant = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.expose()),
    ];
    known.token_request(&grant, secret).map_err(ours)
}

/// The second request, where the definition makes one with the answer to the first. None is made after a refusal,
/// which [`read`] reports.
pub(crate) fn follow_up(
    input: &RenewInput<'_>,
    old: &OAuth2,
    first: &Answer,
    ambient: &Ambient,
) -> Result<Option<Call>, RenewError> {
    let definition = input.definition;
    let Some(then) = &refresh_call(definition).then else {
        return Ok(None);
    };
    let Some(object) = first
        .object()
        .filter(|object| accepts(refresh_rules(definition), first, object))
    else {
        return Ok(None);
    };
    let oauth_client = OAuthClient::choose(definition, input.secrets, old.config_override.as_ref())?;
    let scopes = client::scopes(definition, input.secrets, input.connection_config);
    let values = values(input, old, oauth_client, &scopes, Some(&object));
    Ok(Some(client::request(&then.call, &values, no_usual, ambient)?))
}

/// What the answers mean. A provider that does not rotate leaves the old refresh token in force.
///
/// If a second request fails that the definition cannot do without, a refresh token that the first one brought is
/// kept all the same, with the old access token, which then counts as ended: the next read tries again.
pub(crate) fn read(
    input: &RenewInput<'_>,
    old: &OAuth2,
    first: &Answer,
    second: Second<'_>,
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
    let definition = input.definition;
    let rules = refresh_rules(definition);
    let then = refresh_call(definition).then.as_deref();
    let reading = Reading {
        definition,
        rules,
        otherwise_life_s: then.and_then(|then| then.otherwise_life_s),
        secrets: &secrets,
        now,
    };
    if rules.prolongs {
        let object = reading.object(first)?;
        return Ok(prolonged(old, &object, rules, now));
    }
    let carried = carried_members(definition, old);
    let mut config_updates = JsonMap::new();
    let mut tokens = match reading.tokens(first, second, |object| carry_over(object, carried)) {
        Ok((tokens, updates)) => {
            config_updates = updates;
            tokens
        }
        Err(unreadable @ (Unreadable::Rejected(_) | Unreadable::NoAnswer(_)))
            if !matches!(second, Second::None) =>
        {
            let Some(refresh_token) = refresh_token_of(rules, first) else {
                return Err(unreadable.into());
            };
            tracing::warn!("the second request of a refresh failed; its refresh token is kept");
            OAuth2 {
                refresh_token: Some(refresh_token),
                expires_at: Some(now),
                ..old.clone()
            }
        }
        Err(unreadable) => return Err(unreadable.into()),
    };
    let overridden = input.connection_config.get("overrideTokenRefresh") == Some(&true.into());
    let keeps = match definition
        .token_client
        .as_deref()
        .map(|client| client.keep_refresh_token)
    {
        Some(KeepRefreshToken::Always) => true,
        Some(KeepRefreshToken::IfOverridden) => overridden,
        Some(KeepRefreshToken::IfNoneComes) | None => false,
    };
    if (keeps || tokens.refresh_token.is_none()) && old.refresh_token.is_some() {
        tokens.refresh_token.clone_from(&old.refresh_token);
    }
    tokens.config_override.clone_from(&old.config_override);
    Ok(Renewal {
        credentials: Credentials::OAuth2(tokens),
        config_updates,
    })
}

/// The same tokens with a later end.
fn prolonged(old: &OAuth2, object: &JsonMap, rules: &TokenAnswer, now: Timestamp) -> Renewal {
    let mut tokens = old.clone();
    let root = client::rooted(object, rules.root.as_deref());
    tokens.expires_at = end_of(object, root, rules, rules.life_s, Unit::Seconds, now);
    if let Some(end) = tokens.expires_at {
        tokens.raw.0.insert("expires_at".to_owned(), millis_z(end).into());
    }
    Renewal {
        credentials: Credentials::OAuth2(tokens),
        config_updates: JsonMap::new(),
    }
}

/// Members of `raw` that hold extra tokens: an answer about the main token does not repeat them.
fn carried_members(definition: &Definition, old: &OAuth2) -> JsonMap {
    let client = definition.token_client.as_deref();
    let extras = client.into_iter().flat_map(|client| &client.extra_tokens);
    extras
        .filter_map(|extra| match &extra.into {
            ExtraTokenPlace::Raw(key) => Some((key.clone(), old.raw.0.get(key)?.clone())),
            ExtraTokenPlace::ConnectionConfig(_) => None,
        })
        .collect()
}

fn carry_over(object: &mut JsonMap, carried: JsonMap) {
    for (key, member) in carried {
        object.entry(key).or_insert(member);
    }
}

/// The definition's extra tokens that renewed credentials give access to, with their requests.
pub(crate) fn extras<'d>(
    input: &RenewInput<'d>,
    old: &OAuth2,
    renewal: &Renewal,
    ambient: &Ambient,
) -> Vec<(&'d ExtraToken, Call)> {
    let definition = input.definition;
    let asks = client::asks_for_extras(definition, input.secrets, &renewal.credentials);
    let Some((token_client, tokens, oauth_client)) = asks else {
        return Vec::new();
    };
    let scopes = client::scopes(definition, input.secrets, input.connection_config);
    let values = client::Values {
        tokens: Some(tokens),
        previous_refresh_token: old.refresh_token.as_ref(),
        ..values(input, old, oauth_client, &scopes, None)
    };
    client::extra_requests(token_client, &values, ambient)
}

/// Keeps what the request of an extra token brought. Without a token the old one stays, and is left alone for a
/// while: it must not make every read a refresh.
pub(crate) fn keep_extra(
    input: &RenewInput<'_>,
    extra: &ExtraToken,
    answer: Option<&Answer>,
    now: Timestamp,
    renewal: &mut Renewal,
) {
    let Credentials::OAuth2(tokens) = &mut renewal.credentials else {
        return;
    };
    let updates = &mut renewal.config_updates;
    let kept = answer.is_some_and(|answer| client::keep_extra(extra, answer, now, updates, tokens));
    if !kept {
        client::postpone_extra(extra, now, input.connection_config, updates);
    }
}

fn values<'a>(
    input: &RenewInput<'a>,
    old: &'a OAuth2,
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
        code: None,
        code_verifier: None,
        state: None,
        tokens: Some(old),
        previous_refresh_token: None,
        answer,
    }
}
