//! Credentials that are not typed but made of what was typed: signed tokens, sessions, assumed roles.
//!
//! One [`Applicant`] serves three occasions: an end user's form, an import, and the renewal of what is stored, which
//! for these modes is the same thing done again. A mode that has to ask somebody is a [`Conversation`]: it says what
//! to ask next until it has what it wants, and [`crate::driver`] does the asking.

use jiff::Timestamp;
use patchbay_ambient::Ambient;
use patchbay_catalog::Definition;
use patchbay_types::credentials::Derived;
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::time::millis_z;
use patchbay_types::{Credentials, JsonMap};
use serde_json::Value;

use crate::message::{Answer, Call};
use crate::rejection::Rejection;
use crate::renewal::{RenewInput, Renewal};

/// Members of stored credentials that we made; what is left was typed.
pub(crate) const MADE: [&str; 5] = ["type", "token", "expires_at", "raw", "refresh_token"];

/// Who wants credentials, and what there is to make them of.
#[derive(Clone, Copy)]
pub struct Applicant<'a> {
    /// Provider.
    pub definition: &'a Definition,
    /// The operator's values: presets of TWO_STEP, keys of AWS_SIGV4.
    pub secrets: &'a IntegrationSecrets,
    /// The connection's parameters.
    pub connection_config: &'a JsonMap,
    /// What was typed, by field; on a renewal all that is stored.
    pub fields: &'a JsonMap,
    /// Values used once and never stored.
    pub assertion_option: &'a JsonMap,
    /// Why now.
    pub occasion: Occasion<'a>,
}

/// Why credentials are made.
#[derive(Clone, Copy, PartialEq)]
pub enum Occasion<'a> {
    /// A form or an import.
    First,
    /// A form for a connection that exists, with its parameters.
    Again(&'a JsonMap),
    /// What is stored nears its end.
    Renewal,
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Obtained {
    /// To be stored.
    pub credentials: Credentials,
    /// To be merged over `connection_config`.
    pub config_updates: JsonMap,
}

/// Why nothing was made. `code` is the wire's, HTTP 400 unless its own entry says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ObtainError {
    /// The values, the definition or the integration do not suffice; nobody was asked.
    #[error("{message}")]
    Unusable {
        /// On the wire.
        code: &'static str,
        /// In words; never repeats a value.
        message: String,
    },
    /// No answer.
    #[error("the provider could not be asked: {error}")]
    NoAnswer {
        /// On the wire.
        code: &'static str,
        /// Why.
        error: patchbay_outbound::Error,
    },
    /// The provider refused.
    #[error("{rejection}")]
    Refused {
        /// On the wire.
        code: &'static str,
        /// What it said.
        rejection: Rejection,
    },
    /// The provider agreed, but what was asked for is not in its answer.
    #[error("the provider's answer has no usable {what}: {rejection}")]
    Unreadable {
        /// On the wire.
        code: &'static str,
        /// What is missing.
        what: &'static str,
        /// What it said.
        rejection: Rejection,
    },
    /// As `NoAnswer`, to a call that may have used up a refresh token.
    #[error("the provider's token endpoint could not be asked: {0}")]
    RefreshLost(patchbay_outbound::Error),
}

impl ObtainError {
    /// Code on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unusable { code, .. }
            | Self::NoAnswer { code, .. }
            | Self::Refused { code, .. }
            | Self::Unreadable { code, .. } => code,
            Self::RefreshLost(_) => "two_step_credentials_fetch_error",
        }
    }

    pub(crate) fn unusable(code: &'static str, message: impl Into<String>) -> Self {
        Self::Unusable {
            code,
            message: message.into(),
        }
    }
}

/// What a conversation wants next.
#[derive(Debug)]
pub enum Turn {
    /// An answer to this.
    Ask(Box<Call>),
    /// Nothing more.
    Done(Box<Obtained>),
}

/// A mode that asks somebody, as a machine without I/O.
pub trait Conversation: Send {
    /// The next turn, given the answer to the call before; none at the beginning.
    fn next(&mut self, answer: Option<&Answer>, ambient: &Ambient) -> Result<Turn, ObtainError>;

    /// The call before was not answered. A machine may still know a way on: then [`Conversation::next`] is asked
    /// without an answer.
    fn unanswered(&mut self, error: patchbay_outbound::Error) -> Result<(), ObtainError>;
}

impl std::fmt::Debug for Applicant<'_> {
    /// The provider's name and the names of what was typed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applicant")
            .field("provider", &self.definition.display_name)
            .field("fields", &self.fields.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Occasion<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::First => "First",
            Self::Again(_) => "Again",
            Self::Renewal => "Renewal",
        })
    }
}

impl<'a> Applicant<'a> {
    /// To make stored credentials anew.
    pub(crate) fn again(input: &RenewInput<'a>, stored: &'a Derived) -> Self {
        static NOTHING: std::sync::LazyLock<JsonMap> = std::sync::LazyLock::new(JsonMap::new);
        Self {
            definition: input.definition,
            secrets: input.secrets,
            connection_config: input.connection_config,
            fields: &stored.fields,
            assertion_option: &NOTHING,
            occasion: Occasion::Renewal,
        }
    }

    /// A typed text, empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// An operator's value, none if it is empty.
    pub(crate) fn custom(&self, name: &str) -> Option<&'a str> {
        let value = self.secrets.custom.get(name)?.expose();
        (!value.is_empty()).then_some(value)
    }

    /// What was typed, without what we made of it earlier.
    pub(crate) fn typed(&self) -> JsonMap {
        let typed = self
            .fields
            .iter()
            .filter(|(name, _)| !MADE.contains(&name.as_str()));
        typed.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl Obtained {
    /// Nothing to be merged.
    pub(crate) fn of(credentials: Credentials) -> Self {
        Self {
            credentials,
            config_updates: JsonMap::new(),
        }
    }
}

impl From<Obtained> for Renewal {
    fn from(obtained: Obtained) -> Self {
        Self {
            credentials: obtained.credentials,
            config_updates: obtained.config_updates,
        }
    }
}

/// Fields of derived credentials: what was typed, the token, its end.
pub(crate) fn with_token(mut typed: JsonMap, token: &str, expires_at: Timestamp) -> Derived {
    typed.insert("token".to_owned(), token.into());
    typed.insert("expires_at".to_owned(), millis_z(expires_at).into());
    Derived { fields: typed }
}
