//! The switches: how the provider behaves, and when it waits.

use serde::{Deserialize, Serialize};

/// Which request to the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// A code for tokens.
    AuthorizationCode,
    /// A refresh token for tokens.
    RefreshToken,
    /// The client's own token.
    ClientCredentials,
    /// Anything a client that does not speak OAuth sends to be let in.
    Login,
}

impl Grant {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::ClientCredentials,
        Self::Login,
    ];

    /// The `grant_type` parameter, and the name in gates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
            Self::Login => "login",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|grant| grant.as_str() == text)
    }
}

/// How the whole provider behaves, or how it behaves to one client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviours {
    /// What the authorization page does.
    pub consent: Consent,
    /// Answers to `grant_type=authorization_code`.
    pub authorization_code: TokenBehaviour,
    /// Answers to `grant_type=refresh_token`.
    pub refresh_token: TokenBehaviour,
    /// Answers to `grant_type=client_credentials`.
    pub client_credentials: TokenBehaviour,
    /// Answers to logins.
    pub login: TokenBehaviour,
    /// What to do wrong on the next API requests, one each. `Slow` and `Hang` are the token endpoint's; the API has
    /// `/slow` for that.
    pub api_failures: Vec<Failure>,
    /// How many seconds the token endpoint's clock is ahead of ours, which shows where it names an end and not a life.
    /// Negative: behind.
    pub token_clock_skew_seconds: i64,
    /// How many seconds the API's clock is ahead of the token endpoint's: tokens are refused that much before their
    /// announced end. Negative: after it.
    pub clock_skew_seconds: i64,
}

impl Behaviours {
    /// The switches of one grant.
    pub fn of(&mut self, grant: Grant) -> &mut TokenBehaviour {
        match grant {
            Grant::AuthorizationCode => &mut self.authorization_code,
            Grant::RefreshToken => &mut self.refresh_token,
            Grant::ClientCredentials => &mut self.client_credentials,
            Grant::Login => &mut self.login,
        }
    }
}

/// What the authorization page does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Shows the page with Approve and Deny.
    #[default]
    Ask,
    /// Approves at once, for tests without a browser.
    Approve,
    /// Denies at once.
    Deny,
}

/// How the token endpoint answers one grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenBehaviour {
    /// Whether a refresh replaces the refresh token.
    pub rotation: Rotation,
    /// What a replaced refresh token gets.
    pub old_token: OldToken,
    /// For how many seconds a replaced refresh token still works, whatever `old_token` says.
    pub honour_old_for_seconds: u32,
    /// What a refresh gets while the access token is still valid.
    pub early: EarlyRefresh,
    /// How the token's life is announced.
    pub expiry: Expiry,
    /// Whether answers carry a refresh token.
    pub refresh_field: RefreshField,
    /// How answers are written.
    pub shape: Shape,
    /// What to do wrong on the next requests, one each.
    pub next_failures: Vec<Failure>,
    /// What to do wrong on every request after those.
    pub failure: Option<Failure>,
}

/// Whether a refresh replaces the refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// Every refresh brings a new one.
    #[default]
    Rotate,
    /// The same one for ever.
    Keep,
}

/// What a replaced refresh token gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldToken {
    /// `invalid_grant`, and the whole family of tokens is revoked: reuse detection.
    #[default]
    RevokeFamily,
    /// `invalid_grant`.
    Refuse,
    /// New tokens.
    Honour,
}

/// What a refresh gets while the access token is still valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyRefresh {
    /// New tokens.
    #[default]
    NewTokens,
    /// The same tokens with the life that is left.
    SameTokens,
}

/// How the token's life is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// `"expires_in": 60`.
    #[default]
    Seconds,
    /// `"expires_in": "60"`.
    Text,
    /// `"expires_in": 60000`.
    Milliseconds,
    /// `"expires_at": 1767323105`.
    Absolute,
    /// `"expires_at": 1767323105000`.
    AbsoluteMilliseconds,
    /// `"expires_at": "2026-01-02T03:05:05Z"`.
    Iso,
    /// `"expires_at": "0:01:00"`, days, hours and minutes from now.
    Relative,
    /// `"expires_on": 1767323105`, which no standard knows.
    OtherName,
    /// Not at all.
    Absent,
}

/// Whether answers carry a refresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshField {
    /// They do.
    #[default]
    Present,
    /// They do not; on a refresh the old one stays valid.
    Omitted,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A flat JSON object.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `{"ok": true, "data": {…}}`.
    Nested,
    /// JSON that ends too early, after the tokens were issued.
    MalformedJson,
}

/// One thing gone wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Failure {
    /// An error status; nothing is issued.
    Status {
        /// 500, 502, 429 …
        status: u16,
        /// `retry-after`, in seconds.
        #[serde(default)]
        retry_after: Option<u32>,
    },
    /// `400 {"error":"invalid_grant"}`; nothing is issued or revoked.
    InvalidGrant,
    /// A page in HTML, as gateways send; nothing is issued.
    Html {
        /// 200, 403, 503 …
        status: u16,
    },
    /// A success whose body is no JSON; nothing is issued.
    Garbage,
    /// The tokens are issued and answered, but only after so long.
    Slow {
        /// By the provider's clock.
        seconds: u32,
    },
    /// No answer, however long the client waits; nothing is issued.
    Hang,
    /// The connection ends without an answer; nothing is issued.
    Cut,
    /// The tokens are issued, then the connection ends without an answer.
    LostAnswer,
    /// The tokens are issued, then the connection ends in the middle of the answer.
    HalfAnswer,
    /// Nothing goes wrong this time (a placeholder in a sequence).
    None,
}

/// A place where requests can be made to wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Token requests wait before anything is issued.
    TokenRequest(Grant),
    /// Token requests wait after the tokens were issued, before the answer.
    TokenAnswer(Grant),
    /// `/slow` waits here before it answers. The only gate that is closed from the start.
    Slow,
    /// `/stream` waits here after its first piece.
    Stream,
    /// Deliveries to one `/hooks/<name>` wait here after they were recorded.
    Hook(String),
}
