//! Who a request is from (api-core §2.1, §2.2; auth-flows §3): credentials are found and their form is checked
//! here; whom they belong to is asked of an [`Authenticator`].

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, header};
use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::environments::Environment;
use patchbay_types::{AccountId, ApiKeyId, ScopeSet};

use crate::codes::{self, Code};
use crate::error::ApiError;
use crate::query;
use crate::rate_limit::{Bucket, Kind};
use crate::schema::patterns::is_uuid_v4;

/// What connect session tokens begin with; 64 lower-case hexadecimal digits follow.
pub const SESSION_PREFIX: &str = "nango_connect_session_";
/// What tokens of remote runs begin with.
pub const SANDBOX_PREFIX: &str = "nango_sbx_v1_";

/// Which credentials a route accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// None are looked for.
    None,
    /// An API key that opens an environment.
    ApiKey,
    /// An API key with account scopes; no environment needed.
    AccountKey,
    /// An API key, or a connect session's token.
    KeyOrSession,
    /// A connect session's token.
    Session,
    /// `connect_session_token` or, deprecated, `public_key` in the query: the authorization routes.
    Query,
}

/// Whose credentials they are.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The account.
    pub account_id: AccountId,
    /// The environment; none for an account key, or if it was deleted.
    pub environment: Option<Arc<Environment>>,
    /// Which credential.
    pub caller: Caller,
    /// Whether its requests count against the rate limit. Calls made by functions do not.
    pub counted: bool,
}

/// The credential of a [`Principal`].
#[derive(Clone, Debug)]
pub enum Caller {
    /// An API key.
    ApiKey {
        /// Its row; none for keys provisioned by configuration and for tokens of remote runs.
        id: Option<ApiKeyId>,
        /// What it may do.
        scopes: Arc<ScopeSet>,
    },
    /// A connect session.
    Session(Arc<ConnectSession>),
    /// The environment's public key.
    PublicKey,
}

/// Why credentials were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuthFailure {
    /// Unknown, deleted or expired.
    #[error("the credential is unknown")]
    Unknown,
    /// Public keys are switched off for the account.
    #[error("public keys are switched off")]
    Deprecated,
    /// We could not find out; the caller is not to blame.
    #[error("the credential could not be looked up")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database is away; the caller may try again.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Knows keys and sessions. What it is given is well-formed.
pub trait Authenticator: Send + Sync + fmt::Debug {
    /// The owner of an API key: a UUID v4, or a token that begins with [`SANDBOX_PREFIX`].
    fn api_key<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>>;
    /// The owner of a connect session token.
    fn session<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>>;
    /// The owner of a public key: a UUID v4.
    fn public_key<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>>;
}

impl Principal {
    /// The bucket its requests are counted in; none if they are not.
    pub fn bucket(&self, headers: &HeaderMap) -> Option<Bucket> {
        let script = headers
            .get("nango-is-script")
            .is_some_and(|value| value == "true");
        self.counted.then_some(Bucket::Account {
            id: self.account_id,
            kind: match self.caller {
                Caller::ApiKey { .. } => Kind::Secret,
                Caller::Session(_) | Caller::PublicKey => Kind::Global,
            },
            script,
        })
    }

    /// Whether a key may do any of `alternatives`. A session or public key may do what its routes offer.
    pub fn may(&self, alternatives: &[&str]) -> bool {
        match &self.caller {
            Caller::ApiKey { scopes, .. } => alternatives.is_empty() || scopes.grants_any(alternatives),
            Caller::Session(_) | Caller::PublicKey => true,
        }
    }

    /// The connect session, if that is what authenticated.
    pub fn session(&self) -> Option<&Arc<ConnectSession>> {
        match &self.caller {
            Caller::Session(session) => Some(session),
            _ => None,
        }
    }
}

impl Auth {
    /// The codes its failures are answered with, all 401.
    pub fn errors(self) -> &'static [&'static Code] {
        static KEY: [&Code; 4] = [
            &codes::MISSING_AUTH_HEADER,
            &codes::MALFORMED_AUTH_HEADER,
            &codes::INVALID_SECRET_KEY_FORMAT,
            &codes::UNKNOWN_ACCOUNT,
        ];
        static SESSION: [&Code; 4] = [
            &codes::MISSING_AUTH_HEADER,
            &codes::MALFORMED_AUTH_HEADER,
            &codes::INVALID_CONNECT_SESSION_TOKEN_FORMAT,
            &codes::UNKNOWN_CONNECT_SESSION_TOKEN,
        ];
        static EITHER: [&Code; 6] = [
            &codes::MISSING_AUTH_HEADER,
            &codes::MALFORMED_AUTH_HEADER,
            &codes::INVALID_SECRET_KEY_FORMAT,
            &codes::UNKNOWN_ACCOUNT,
            &codes::INVALID_CONNECT_SESSION_TOKEN_FORMAT,
            &codes::UNKNOWN_CONNECT_SESSION_TOKEN,
        ];
        static QUERY: [&Code; 6] = [
            &codes::MISSING_PUBLIC_KEY,
            &codes::INVALID_PUBLIC_KEY,
            &codes::UNKNOWN_ACCOUNT,
            &codes::DEPRECATED_AUTHENTICATION,
            &codes::INVALID_CONNECT_SESSION_TOKEN_FORMAT,
            &codes::UNKNOWN_CONNECT_SESSION_TOKEN,
        ];
        match self {
            Self::None => &[],
            Self::ApiKey | Self::AccountKey => &KEY,
            Self::Session => &SESSION,
            Self::KeyOrSession => &EITHER,
            Self::Query => &QUERY,
        }
    }

    /// Finds out who sent a request.
    pub async fn authenticate(
        self,
        known: &dyn Authenticator,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Option<Principal>, ApiError> {
        let principal = match self {
            Self::None => return Ok(None),
            Self::ApiKey | Self::AccountKey => by_key(known, bearer(headers)?).await,
            Self::Session => by_session(known, bearer(headers)?).await,
            Self::KeyOrSession => {
                let bearer = bearer(headers)?;
                if bearer.starts_with(SESSION_PREFIX) {
                    by_session(known, bearer).await
                } else {
                    by_key(known, bearer).await
                }
            }
            Self::Query => by_query(known, query.unwrap_or_default()).await,
        };
        principal.map(Some)
    }
}

/// What follows the last `Bearer ` of the `Authorization` header; all of it if there is none.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(refused(
            &codes::MISSING_AUTH_HEADER,
            "The Authorization header is missing",
        ));
    };
    // Bytes that are no text are no key either; the format check says so.
    let text = str::from_utf8(value.as_bytes()).unwrap_or("?");
    let bearer = text.rsplit("Bearer ").next().unwrap_or_default();
    if bearer.is_empty() {
        return Err(refused(
            &codes::MALFORMED_AUTH_HEADER,
            "The Authorization header holds no key",
        ));
    }
    Ok(bearer)
}

async fn by_key(known: &dyn Authenticator, key: &str) -> Result<Principal, ApiError> {
    if !is_uuid_v4(key) && !key.starts_with(SANDBOX_PREFIX) {
        let message = "The API key has the wrong format: it must be a UUID, version 4";
        return Err(refused(&codes::INVALID_SECRET_KEY_FORMAT, message));
    }
    let found = known.api_key(key).await;
    found.map_err(|failure| failed(failure, &codes::UNKNOWN_ACCOUNT, "No account has this API key"))
}

async fn by_session(known: &dyn Authenticator, token: &str) -> Result<Principal, ApiError> {
    if !is_session_token(token) {
        let message = "The connect session token has the wrong format";
        return Err(refused(&codes::INVALID_CONNECT_SESSION_TOKEN_FORMAT, message));
    }
    let found = known.session(token).await;
    found.map_err(|failure| {
        let message = "The connect session is unknown or has expired";
        failed(failure, &codes::UNKNOWN_CONNECT_SESSION_TOKEN, message)
    })
}

async fn by_query(known: &dyn Authenticator, query: &str) -> Result<Principal, ApiError> {
    let find = |wanted: &str| {
        query::pairs(query)
            .find(|(key, _)| key == wanted)
            .map(|(_, value)| value)
    };
    if let Some(token) = find("connect_session_token") {
        return by_session(known, &token).await;
    }
    let Some(key) = find("public_key") else {
        let message = "Neither connect_session_token nor public_key was given";
        return Err(refused(&codes::MISSING_PUBLIC_KEY, message));
    };
    if !is_uuid_v4(&key) {
        return Err(refused(
            &codes::INVALID_PUBLIC_KEY,
            "The public key must be a UUID, version 4",
        ));
    }
    let found = known.public_key(&key).await;
    found.map_err(|failure| {
        failed(
            failure,
            &codes::UNKNOWN_ACCOUNT,
            "No environment has this public key",
        )
    })
}

/// The prefix and 64 lower-case hexadecimal digits.
pub fn is_session_token(text: &str) -> bool {
    text.strip_prefix(SESSION_PREFIX)
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn refused(code: &'static Code, message: &'static str) -> ApiError {
    ApiError::new(code).message(message).legacy()
}

/// Our own failures are never the caller's: they are 5xx, not 401.
fn failed(failure: AuthFailure, unknown: &'static Code, message: &'static str) -> ApiError {
    match failure {
        AuthFailure::Unknown => refused(unknown, message),
        AuthFailure::Deprecated => ApiError::new(&codes::DEPRECATED_AUTHENTICATION)
            .message("Public keys are switched off: use a connect session"),
        AuthFailure::Failed(cause) => ApiError::unexpected(cause),
        AuthFailure::Unavailable(cause) => ApiError::unavailable(std::time::Duration::from_secs(1), cause),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use http::HeaderValue;

    use super::*;

    pub(crate) const KEY: &str = "9d3c1b70-5a3e-4c5d-9e7f-1a2b3c4d5e6f";
    pub(crate) const OTHER_KEY: &str = "9d3c1b70-5a3e-4c5d-9e7f-000000000000";
    pub(crate) const BROKEN_KEY: &str = "9d3c1b70-5a3e-4c5d-9e7f-ffffffffffff";

    /// Knows one of each.
    #[derive(Debug)]
    pub(crate) struct FakeAuthenticator {
        pub(crate) principal: Principal,
        pub(crate) session: Principal,
    }

    impl Authenticator for FakeAuthenticator {
        fn api_key<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>> {
            Box::pin(async move {
                match key {
                    KEY => Ok(self.principal.clone()),
                    BROKEN_KEY => Err(AuthFailure::Failed("disk on fire".into())),
                    _ => Err(AuthFailure::Unknown),
                }
            })
        }

        fn session<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>> {
            Box::pin(async move {
                if token.ends_with('0') {
                    Ok(self.session.clone())
                } else {
                    Err(AuthFailure::Unknown)
                }
            })
        }

        fn public_key<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Principal, AuthFailure>> {
            Box::pin(async move {
                match key {
                    KEY => Err(AuthFailure::Deprecated),
                    BROKEN_KEY => Err(AuthFailure::Unavailable("gone".into())),
                    _ => Err(AuthFailure::Unknown),
                }
            })
        }
    }

    pub(crate) fn fake(scopes: &[&str]) -> FakeAuthenticator {
        let environment = Environment {
            id: patchbay_types::EnvironmentId(1),
            uuid: uuid::Uuid::nil(),
            account_id: AccountId(1),
            name: patchbay_types::EnvironmentName::parse("dev").unwrap(),
            is_production: false,
            settings: patchbay_types::environments::EnvironmentSettings::default(),
            signing_key: patchbay_types::Secret::new("s"),
            previous_signing_key: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            deleted_at: None,
        };
        let principal = Principal {
            account_id: AccountId(1),
            environment: Some(Arc::new(environment)),
            caller: Caller::ApiKey {
                id: Some(ApiKeyId(1)),
                scopes: Arc::new(ScopeSet::parse(scopes.iter().copied()).unwrap()),
            },
            counted: true,
        };
        let session = ConnectSession {
            id: patchbay_types::ConnectSessionId(1),
            account_id: AccountId(1),
            environment_id: patchbay_types::EnvironmentId(1),
            spec: patchbay_types::connect_sessions::ConnectSessionSpec::default(),
            connection: None,
            operation_id: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            expires_at: jiff::Timestamp::UNIX_EPOCH,
        };
        FakeAuthenticator {
            session: Principal {
                caller: Caller::Session(Arc::new(session)),
                ..principal.clone()
            },
            principal,
        }
    }

    async fn outcome(auth: Auth, header: Option<&str>, query: Option<&str>) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.extend(header.map(|value| (header::AUTHORIZATION, HeaderValue::try_from(value).unwrap())));
        match auth.authenticate(&fake(&[]), &headers, query).await {
            Ok(Some(principal)) if principal.session().is_some() => "session",
            Ok(Some(_)) => "key",
            Ok(None) => "nobody",
            Err(error) => {
                let declared = auth.errors().contains(&error.code());
                assert!(declared || error.status_code().is_server_error(), "{error:?}");
                error.code().name
            }
        }
    }

    #[tokio::test]
    async fn credentials_in_the_header() {
        let token = format!("{SESSION_PREFIX}{}", "0".repeat(64));
        let expired = format!("{SESSION_PREFIX}{}", "1".repeat(64));
        let bearer = |key: &str| Some(format!("Bearer {key}"));
        for (auth, header, expected) in [
            (Auth::None, None, "nobody"),
            (Auth::ApiKey, None, "missing_auth_header"),
            (Auth::ApiKey, bearer(KEY), "key"),
            (Auth::ApiKey, Some(KEY.to_owned()), "key"),
            (Auth::ApiKey, Some(format!("Bearer x Bearer {KEY}")), "key"),
            (
                Auth::ApiKey,
                Some(format!("bearer {KEY}")),
                "invalid_secret_key_format",
            ),
            (
                Auth::ApiKey,
                Some(format!("Bearer  {KEY}")),
                "invalid_secret_key_format",
            ),
            (Auth::ApiKey, Some("Bearer ".to_owned()), "malformed_auth_header"),
            (
                Auth::ApiKey,
                Some("Bearer".to_owned()),
                "invalid_secret_key_format",
            ),
            (Auth::ApiKey, bearer("x"), "invalid_secret_key_format"),
            (Auth::ApiKey, bearer(&token), "invalid_secret_key_format"),
            (Auth::ApiKey, bearer(OTHER_KEY), "unknown_account"),
            (Auth::ApiKey, bearer("nango_sbx_v1_x.y.z"), "unknown_account"),
            (Auth::AccountKey, bearer(KEY), "key"),
            (Auth::Session, bearer(&token), "session"),
            (Auth::Session, bearer(&expired), "unknown_connect_session_token"),
            (Auth::Session, bearer(KEY), "invalid_connect_session_token_format"),
            (
                Auth::Session,
                bearer(&token.to_uppercase()),
                "invalid_connect_session_token_format",
            ),
            (Auth::KeyOrSession, bearer(KEY), "key"),
            (Auth::KeyOrSession, bearer(&token), "session"),
            (
                Auth::KeyOrSession,
                bearer(SESSION_PREFIX),
                "invalid_connect_session_token_format",
            ),
            (Auth::KeyOrSession, bearer("x"), "invalid_secret_key_format"),
        ] {
            assert_eq!(
                outcome(auth, header.as_deref(), None).await,
                expected,
                "{auth:?} {header:?}"
            );
        }
    }

    #[tokio::test]
    async fn our_own_failures_are_not_the_callers() {
        let broken = Some(format!("Bearer {BROKEN_KEY}"));
        assert_eq!(
            outcome(Auth::ApiKey, broken.as_deref(), None).await,
            "generic_error_support"
        );
        let query = format!("public_key={BROKEN_KEY}");
        assert_eq!(
            outcome(Auth::Query, None, Some(&query)).await,
            "service_unavailable"
        );
    }

    #[tokio::test]
    async fn credentials_in_the_query() {
        let token = format!("{SESSION_PREFIX}{}", "0".repeat(64));
        for (query, expected) in [
            (String::new(), "missing_public_key"),
            (format!("connect_session_token={token}&public_key=x"), "session"),
            (
                "connect_session_token=x".to_owned(),
                "invalid_connect_session_token_format",
            ),
            ("public_key=x".to_owned(), "invalid_public_key"),
            (format!("public_key={OTHER_KEY}"), "unknown_account"),
            (format!("public_key={KEY}"), "deprecated_authentication"),
        ] {
            assert_eq!(
                outcome(Auth::Query, None, Some(&query)).await,
                expected,
                "{query}"
            );
        }
    }
}
