//! A caller's request, and what can be wrong with it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::upgrade::OnUpgrade;
use patchbay_auth::request::BuildError;
use patchbay_connections::refresh::ReadError;
use patchbay_outbound::Body;
use patchbay_types::OperationId;
use patchbay_types::environments::Environment;
use url::Url;

/// Most attempts after the first.
pub const MAX_RETRIES: u8 = 10;

/// A caller's request.
#[derive(Debug)]
pub struct ProxyRequest {
    /// Environment of the caller's key.
    pub environment: Arc<Environment>,
    /// Method, passed on.
    pub method: Method,
    /// Path and query after `/proxy`, as they came, beginning with `/`.
    pub target: String,
    /// The caller's own headers.
    pub headers: HeaderMap,
    /// The caller's body.
    pub body: Body,
    /// What the control headers say.
    pub controls: Controls,
    /// The caller's connection, if it offers to speak another protocol on it (`Upgrade`).
    pub upgrade: Option<OnUpgrade>,
}

/// The control headers (proxy §2), validated.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// Integration.
    pub provider_config_key: String,
    /// Connection.
    pub connection_id: String,
    /// Attempts after the first, at most [`MAX_RETRIES`].
    pub retries: u8,
    /// Further statuses to retry on.
    pub retry_on: Vec<u16>,
    /// Instead of the provider's base URL.
    pub base_url_override: Option<Url>,
    /// Whether credentials follow a redirect to another origin; none asks the definition.
    pub forward_headers_on_redirect: RedirectHeaders,
    /// The operation that is to hold the log messages, instead of one of the call's own.
    pub operation: Option<OperationId>,
    /// Whether the call leaves a log entry.
    pub logging: Logging,
    /// `Nango-Proxy-*` headers, prefix removed, each name once.
    pub forwarded: Vec<(HeaderName, HeaderValue)>,
}

/// Whether a call leaves a log entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logging {
    /// It does.
    #[default]
    On,
    /// It does not (`Nango-Is-Dry-Run`).
    Off,
}

/// Whether credentials follow a redirect to another origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectHeaders {
    /// As the provider's definition says.
    #[default]
    AsDefined,
    /// They do.
    Forward,
    /// They do not.
    Withhold,
}

/// Why there is no upstream response.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No such integration.
    #[error("no such integration")]
    UnknownIntegration,
    /// The integration's provider is not in the catalogue.
    #[error("the integration's provider is not in the catalogue")]
    UnknownProvider,
    /// No such connection.
    #[error("no such connection")]
    UnknownConnection,
    /// The credentials are not fit for use.
    #[error(transparent)]
    Credentials(ReadError),
    /// The request cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The body must be converted and is not what its type says.
    #[error("the body is not valid JSON: {0}")]
    InvalidJson(String),
    /// The body must be converted and is too large for it.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The body broke off before it was complete.
    #[error("the request body broke off")]
    BodyBroken,
    /// Base URLs other than the provider's are switched off.
    #[error("base URLs other than the provider's are switched off")]
    OverrideDisabled,
    /// The target may not be reached.
    #[error("{0}")]
    Blocked(patchbay_outbound::Error),
    /// The upstream did not answer.
    #[error("{0}")]
    Upstream(patchbay_outbound::Error),
}

impl ProxyError {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownIntegration => "unknown_provider_config",
            Self::UnknownProvider => "unknown_provider",
            Self::UnknownConnection => "unknown_connection",
            Self::Credentials(_) => "credentials",
            Self::Build(error) => error.code(),
            Self::InvalidJson(_) => "invalid_json",
            Self::BodyTooLarge(_) => "request_too_large",
            Self::BodyBroken => "invalid_body",
            Self::OverrideDisabled => "base_url_override_disabled",
            Self::Blocked(_) => "base_url_override_not_allowed",
            Self::Upstream(error) => error.code(),
        }
    }
}

impl From<ReadError> for ProxyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::UnknownIntegration => Self::UnknownIntegration,
            ReadError::UnknownConnection => Self::UnknownConnection,
            other => Self::Credentials(other),
        }
    }
}

impl From<patchbay_outbound::Error> for ProxyError {
    fn from(error: patchbay_outbound::Error) -> Self {
        if error.is_blocked() {
            Self::Blocked(error)
        } else {
            Self::Upstream(error)
        }
    }
}
