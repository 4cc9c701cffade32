//! Keeping credentials good: whether a renewal is due, what it asks, and who is to blame when it fails
//! (auth-flows §24.3, §24.4; DESIGN invariant 8).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_types::connections::RefreshCause;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{Credentials, JsonMap, Secret};

use crate::client_credentials::{self, MintError};
use crate::endpoint::EndpointError;
use crate::message::{Answer, Call};
use crate::oauth2::{self, MissingClient};
use crate::rejection::Rejection;

/// What a renewal depends on.
#[derive(Clone, Copy, Debug)]
pub struct RenewInput<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The integration's OAuth client.
    pub secrets: &'a IntegrationSecrets,
    /// What is stored.
    pub credentials: &'a Credentials,
    /// The connection's parameters.
    pub connection_config: &'a JsonMap,
}

/// What a renewal brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Renewal {
    /// To be stored instead of the old ones.
    pub credentials: Credentials,
    /// To be merged over `connection_config`.
    pub config_updates: JsonMap,
}

/// Why a renewal failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RenewError {
    /// The provider refused.
    #[error(transparent)]
    Rejected(Rejection),
    /// The provider answered success without a token in it.
    #[error("no access token found: {0}")]
    NoToken(Rejection),
    /// No answer.
    #[error("the provider's token endpoint could not be asked: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// Configuration or ourselves.
    #[error("{0}")]
    Ours(String),
}

impl RenewError {
    /// A failure that says nothing about provider or credentials.
    pub fn ours(detail: impl Into<String>) -> Self {
        Self::Ours(detail.into())
    }

    /// Who is to blame. Only a refusal in RFC 6749 §5.2's own words counts as final: a proxy's error page or an
    /// unknown code must not cost an end user the connection.
    pub fn cause(&self) -> RefreshCause {
        match self {
            Self::Rejected(rejection) => blame(rejection),
            Self::NoToken(_) => RefreshCause::ProviderDown,
            Self::NoAnswer(error) => match error {
                patchbay_outbound::Error::InvalidUrl(_)
                | patchbay_outbound::Error::Blocked { .. }
                | patchbay_outbound::Error::Identity(_)
                | patchbay_outbound::Error::Aborted { .. } => RefreshCause::Ours,
                _ => RefreshCause::ProviderDown,
            },
            Self::Ours(_) => RefreshCause::Ours,
        }
    }

    /// Whether the provider may have honoured the request although we do not know the answer: the refresh token may
    /// have been rotated away under us.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::NoAnswer(error) => error.may_have_been_sent(),
            Self::NoToken(_) => true,
            // Written by a gateway that lost the answer.
            Self::Rejected(rejection) => matches!(rejection.status, 502 | 504),
            Self::Ours(_) => false,
        }
    }

    /// `error.type` of the `auth` webhook and of logs (§24.5).
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken(_) => "refresh_token_parsing_error",
            _ => "refresh_token_external_error",
        }
    }

    /// The provider's refusal, if it made one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) | Self::NoToken(rejection) => Some(rejection),
            Self::NoAnswer(_) | Self::Ours(_) => None,
        }
    }

    /// When the provider wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.rejection()?.retry_after
    }
}

impl From<MissingClient> for RenewError {
    fn from(error: MissingClient) -> Self {
        Self::Ours(error.to_string())
    }
}

impl From<EndpointError> for RenewError {
    fn from(error: EndpointError) -> Self {
        Self::Ours(error.to_string())
    }
}

impl From<MintError> for RenewError {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Rejected(rejection) => Self::Rejected(rejection),
            MintError::NoToken(rejection) => Self::NoToken(rejection),
            MintError::NoAnswer(error) => Self::NoAnswer(error),
            MintError::Endpoint(_) | MintError::Key(_) => Self::Ours(error.to_string()),
        }
    }
}

/// Whether credentials should be renewed now: they end within the definition's buffer (`forced` waives that) and
/// there is a way to renew them. OAuth 2 credentials without refresh token are never due: the stale token is all
/// there is.
pub fn is_due(
    definition: &Definition,
    credentials: &Credentials,
    _connection_config: &JsonMap,
    forced: bool,
    now: Timestamp,
) -> bool {
    let renewable = match credentials {
        Credentials::OAuth2(c) => c.refresh_token.as_ref().is_some_and(|token| !token.is_empty()),
        Credentials::OAuth2Cc(_) => true,
        // Static, or of modes that are not built yet and therefore never stored.
        _ => false,
    };
    renewable && (forced || ends_soon(definition, credentials, now))
}

fn ends_soon(definition: &Definition, credentials: &Credentials, now: Timestamp) -> bool {
    let Some(end) = credentials.expires_at() else {
        return false;
    };
    let buffer = i64::try_from(definition.expiration_buffer_s()).unwrap_or(i64::MAX);
    end.duration_since(now) < SignedDuration::from_secs(buffer)
}

/// The same credentials with another refresh token: to try the one before the last rotation.
#[must_use]
pub fn with_refresh_token(credentials: &Credentials, token: &Secret) -> Credentials {
    let mut credentials = credentials.clone();
    if let Credentials::OAuth2(c) = &mut credentials {
        c.refresh_token = Some(token.clone());
    }
    credentials
}

/// The call that renews.
pub fn request(input: &RenewInput<'_>, ambient: &Ambient) -> Result<Call, RenewError> {
    match input.credentials {
        Credentials::OAuth2(old) => oauth2::refresh::request(input, old, ambient),
        Credentials::OAuth2Cc(old) => {
            let mint = client_credentials::MintInput::again(input, old);
            Ok(client_credentials::request(&mint, ambient)?)
        }
        other => Err(not_renewable(other)),
    }
}

/// What the answer to [`request`] means. `now` dates relative expiries.
pub fn read(input: &RenewInput<'_>, answer: &Answer, now: Timestamp) -> Result<Renewal, RenewError> {
    match input.credentials {
        Credentials::OAuth2(old) => oauth2::refresh::read(input, old, answer, now),
        Credentials::OAuth2Cc(old) => {
            let mint = client_credentials::MintInput::again(input, old);
            let minted = client_credentials::read(&mint, answer, now)?;
            Ok(Renewal {
                credentials: minted.credentials,
                config_updates: minted.config_updates,
            })
        }
        other => Err(not_renewable(other)),
    }
}

fn not_renewable(credentials: &Credentials) -> RenewError {
    RenewError::ours(format!(
        "credentials of type {} are not renewed",
        credentials.kind().unwrap_or("NONE")
    ))
}

/// Errors that mean: this grant is gone, ask the end user. RFC 6749 §5.2, OpenID Connect Core §3.1.2.6, and the
/// spellings of providers that have their own.
const GRANT_IS_GONE: &[&str] = &[
    "invalid_grant",
    "unauthorized_client",
    "access_denied",
    "invalid_token",
    "expired_token",
    "token_expired",
    "token_revoked",
    "token_inactive",
    "invalid_refresh_token",
    "bad_refresh_token",
    "refresh_token_expired",
    "interaction_required",
    "consent_required",
    "login_required",
];

/// Errors that mean: the operator's client or the definition is wrong. The grant may well be alive.
const CLIENT_IS_WRONG: &[&str] = &[
    "invalid_client",
    "invalid_client_id",
    "invalid_client_secret",
    "incorrect_client_credentials",
    "bad_client_secret",
    "unsupported_grant_type",
    "invalid_scope",
];

fn blame(rejection: &Rejection) -> RefreshCause {
    if rejection.status >= 500 || matches!(rejection.status, 408 | 425 | 429) {
        return RefreshCause::ProviderDown;
    }
    let Some(error) = &rejection.oauth_error else {
        return RefreshCause::ProviderDown;
    };
    let listed = |list: &[&str]| list.iter().any(|code| code.eq_ignore_ascii_case(error));
    if listed(GRANT_IS_GONE) {
        RefreshCause::ProviderRefused
    } else if listed(CLIENT_IS_WRONG) {
        RefreshCause::Ours
    } else {
        RefreshCause::ProviderDown
    }
}
