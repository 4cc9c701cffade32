//! What the provider has seen.

use jiff::Timestamp;
use serde::Serialize;

use crate::behaviour::Grant;

/// How often each kind of request has arrived, successful or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Authorization pages asked for.
    pub authorize: u64,
    /// `grant_type=authorization_code`.
    pub token_code: u64,
    /// `grant_type=refresh_token`.
    pub token_refresh: u64,
    /// `grant_type=client_credentials`.
    pub token_client_credentials: u64,
    /// Logins of clients that do not speak OAuth.
    pub token_login: u64,
    /// Token requests of no known grant.
    pub token_other: u64,
    /// Revocations.
    pub revoke: u64,
    /// `/whoami`.
    pub whoami: u64,
    /// Data requests.
    pub api: u64,
    /// `/echo`, `/slow`, `/stream`, `/download`, `/upload`, `/status` and `/redirect`.
    pub probe: u64,
    /// Deliveries to `/hooks`.
    pub hooks: u64,
}

impl Counts {
    /// All token requests.
    pub fn token(&self) -> u64 {
        self.token_code
            + self.token_refresh
            + self.token_client_credentials
            + self.token_login
            + self.token_other
    }
}

/// One request to the token endpoint and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenRequest {
    /// When it arrived.
    pub at: Timestamp,
    /// The client, if it said who it is.
    pub client: Option<String>,
    /// Which grant, if a known one.
    pub grant: Option<Grant>,
    /// All parameters, in the order sent.
    pub parameters: Vec<(String, String)>,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// The `content-type` header.
    pub content_type: Option<String>,
    /// `ok`, the OAuth error code, or what went wrong by order; `pending` while it waits at a gate.
    pub outcome: String,
}

impl TokenRequest {
    /// The first parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}
