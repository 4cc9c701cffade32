//! Keeping credentials good: whether a renewal is due, what it asks, and who is to blame when it fails
//! (auth-flows §24.3, §24.4; DESIGN invariant 8).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_catalog::definition::ExtraToken;
use patchbay_types::connections::RefreshCause;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};

use crate::app::{AppError, INSTALLATION_ID};
use crate::client_credentials::{self, MintError};
use crate::endpoint::EndpointError;
use crate::message::{Answer, Call};
use crate::oauth2::token::{Second, Unreadable};
use crate::oauth2::{self, MissingClient};
use crate::obtain::{Applicant, ObtainError};
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
    /// Where the provider sends browsers back: some want it named in every request.
    pub callback_url: &'a str,
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
    /// The provider refused a client that is the end user's own.
    #[error(transparent)]
    RejectedClient(Rejection),
    /// The provider answered success without a token in it.
    #[error("no access token found: {0}")]
    NoToken(Rejection),
    /// No answer.
    #[error("the provider's token endpoint could not be asked: {0}")]
    NoAnswer(#[from] patchbay_outbound::Error),
    /// Signing in again with what was typed, signing again, or assuming the role again failed.
    #[error("{0}")]
    SignIn(Box<ObtainError>),
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
            // Not the operator's to mend: whoever entered it must enter another.
            Self::RejectedClient(rejection) => match blame(rejection) {
                RefreshCause::Ours => RefreshCause::ProviderRefused,
                cause => cause,
            },
            Self::NoToken(_) => RefreshCause::ProviderDown,
            Self::NoAnswer(error) => blame_silence(error),
            Self::SignIn(error) => match &**error {
                ObtainError::NoAnswer { error, .. } | ObtainError::RefreshLost(error) => blame_silence(error),
                ObtainError::Refused { rejection, .. } => blame_sign_in(rejection),
                ObtainError::Unreadable { .. } => RefreshCause::ProviderDown,
                ObtainError::Unusable { .. } => RefreshCause::Ours,
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
            Self::Rejected(rejection) | Self::RejectedClient(rejection) => {
                matches!(rejection.status, 502 | 504)
            }
            // Signing in uses nothing up.
            Self::SignIn(_) | Self::Ours(_) => false,
        }
    }

    /// `error.type` of the `auth` webhook and of logs (§24.5).
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken(_) => "refresh_token_parsing_error",
            Self::SignIn(error) if matches!(**error, ObtainError::Unreadable { .. }) => {
                "refresh_token_parsing_error"
            }
            _ => "refresh_token_external_error",
        }
    }

    /// The provider's refusal, if it made one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) | Self::RejectedClient(rejection) | Self::NoToken(rejection) => {
                Some(rejection)
            }
            Self::SignIn(error) => match &**error {
                ObtainError::Refused { rejection, .. } | ObtainError::Unreadable { rejection, .. } => {
                    Some(rejection)
                }
                _ => None,
            },
            Self::NoAnswer(_) | Self::Ours(_) => None,
        }
    }

    /// When the provider wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.rejection()?.retry_after
    }
}

impl From<ObtainError> for RenewError {
    fn from(error: ObtainError) -> Self {
        match error {
            ObtainError::RefreshLost(error) => Self::NoAnswer(error),
            ObtainError::Unusable { message, .. } => Self::Ours(message),
            error => Self::SignIn(Box::new(error)),
        }
    }
}

impl From<Unreadable> for RenewError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Rejected(rejection) => Self::Rejected(rejection),
            Unreadable::NoToken(rejection) => Self::NoToken(rejection),
            Unreadable::NoAnswer(error) => Self::NoAnswer(error),
        }
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

impl From<AppError> for RenewError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Rejected(rejection) => Self::Rejected(rejection),
            AppError::NoToken(rejection) => Self::NoToken(rejection),
            AppError::NoAnswer(error) => Self::NoAnswer(error),
            error => Self::Ours(error.to_string()),
        }
    }
}

impl From<MintError> for RenewError {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Rejected(rejection) => Self::RejectedClient(rejection),
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
    connection_config: &JsonMap,
    forced: bool,
    now: Timestamp,
) -> bool {
    let renewable = match credentials {
        Credentials::OAuth2(c) => oauth2::refresh::is_possible(definition, c),
        Credentials::OAuth2Cc(_)
        | Credentials::Jwt(_)
        | Credentials::Signature(_)
        | Credentials::Bill(_)
        | Credentials::TwoStep(_)
        | Credentials::AwsSigV4(_) => true,
        Credentials::App(_) => connection_config.contains_key(INSTALLATION_ID),
        // Static, or of modes that are not built yet and therefore never stored.
        _ => false,
    };
    renewable && (forced || ends_soon(definition, credentials, connection_config, now))
}

fn ends_soon(
    definition: &Definition,
    credentials: &Credentials,
    connection_config: &JsonMap,
    now: Timestamp,
) -> bool {
    let buffer = match credentials {
        Credentials::OAuth2(c) => oauth2::refresh::buffer_s(definition, c),
        _ => definition.expiration_buffer_s(),
    };
    let buffer = SignedDuration::from_secs(i64::try_from(buffer).unwrap_or(i64::MAX));
    let ends = [
        credentials.expires_at(),
        oauth2::client::extra_ends(definition, connection_config, now),
    ];
    ends.into_iter()
        .flatten()
        .any(|end| end.duration_since(now) < buffer)
}

/// The applicant that makes these credentials anew; none for types that are renewed by one call.
pub(crate) fn applicant<'a>(input: &RenewInput<'a>) -> Option<Applicant<'a>> {
    match input.credentials {
        Credentials::Jwt(stored)
        | Credentials::Signature(stored)
        | Credentials::Bill(stored)
        | Credentials::TwoStep(stored)
        | Credentials::AwsSigV4(stored) => Some(Applicant::again(input, stored)),
        _ => None,
    }
}

/// The same credentials with another refresh token: to try the one before the last rotation.
#[must_use]
pub fn with_refresh_token(credentials: &Credentials, token: &Secret) -> Credentials {
    let mut credentials = credentials.clone();
    match &mut credentials {
        Credentials::OAuth2(c) => c.refresh_token = Some(token.clone()),
        Credentials::TwoStep(c) => {
            c.fields.insert("refresh_token".to_owned(), token.expose().into());
        }
        _ => {}
    }
    credentials
}

/// The call that renews.
pub fn request(input: &RenewInput<'_>, ambient: &Ambient) -> Result<Call, RenewError> {
    match input.credentials {
        Credentials::OAuth2(old) if input.definition.auth_mode == AuthMode::McpOAuth2Generic => {
            oauth2::refresh::discovered_request(input, old)
        }
        Credentials::OAuth2(old) => oauth2::refresh::request(input, old, ambient),
        Credentials::OAuth2Cc(old) => {
            let mint = client_credentials::MintInput::again(input, old);
            Ok(client_credentials::request(&mint, ambient)?)
        }
        other => Err(not_renewable(other)),
    }
}

/// The second call, where the definition makes one with the answer to the first.
pub fn follow_up(
    input: &RenewInput<'_>,
    first: &Answer,
    ambient: &Ambient,
) -> Result<Option<Call>, RenewError> {
    match input.credentials {
        Credentials::OAuth2(old) => oauth2::refresh::follow_up(input, old, first, ambient),
        _ => Ok(None),
    }
}

/// The definition's extra tokens that the renewed credentials give access to, with the calls that obtain them.
pub fn extras<'d>(
    input: &RenewInput<'d>,
    renewal: &Renewal,
    ambient: &Ambient,
) -> Vec<(&'d ExtraToken, Call)> {
    match input.credentials {
        Credentials::OAuth2(old) => oauth2::refresh::extras(input, old, renewal, ambient),
        _ => Vec::new(),
    }
}

/// Keeps what the call of an extra token brought. Without an answer, or without a token in it, the old one stays and
/// is left alone for five minutes.
pub fn keep_extra(
    input: &RenewInput<'_>,
    extra: &ExtraToken,
    answer: Option<&Answer>,
    now: Timestamp,
    renewal: &mut Renewal,
) {
    oauth2::refresh::keep_extra(input, extra, answer, now, renewal);
}

/// What the answers to [`request`] and [`follow_up`] mean. `now` dates relative expiries.
pub fn read(
    input: &RenewInput<'_>,
    answer: &Answer,
    second: Second<'_>,
    now: Timestamp,
) -> Result<Renewal, RenewError> {
    match input.credentials {
        Credentials::OAuth2(old) => oauth2::refresh::read(input, old, answer, second, now),
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
    // Ours for an app that was uninstalled.
    "installation_gone",
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

fn blame_silence(error: &patchbay_outbound::Error) -> RefreshCause {
    match error {
        patchbay_outbound::Error::InvalidUrl(_)
        | patchbay_outbound::Error::Blocked { .. }
        | patchbay_outbound::Error::Identity(_)
        | patchbay_outbound::Error::Aborted { .. } => RefreshCause::Ours,
        _ => RefreshCause::ProviderDown,
    }
}

/// A login that is answered 401 was refused, and so was one that the API itself answers with another 4xx; an error
/// page of something in between says nothing about the login.
fn blame_sign_in(rejection: &Rejection) -> RefreshCause {
    match rejection.status {
        401 => RefreshCause::ProviderRefused,
        408 | 425 | 429 => RefreshCause::ProviderDown,
        400..500 if rejection.is_structured => RefreshCause::ProviderRefused,
        _ => RefreshCause::ProviderDown,
    }
}

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
