//! Names and row ids (api-core §1.7).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is no id of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Shorter than one character.
    #[error("is empty")]
    Empty,
    /// Longer than 255 characters.
    #[error("is longer than 255 characters")]
    TooLong,
    /// Contains a character outside the pattern.
    #[error("has a character outside {0}")]
    Pattern(&'static str),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The pattern as validation issues print it (ECMAScript).
            pub const PATTERN: &'static str = $pattern;
            /// Longest length, in characters.
            pub const MAX: usize = 255;

            /// Checks `text` and wraps it.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let allowed: fn(char) -> bool = $allowed;
                if text.is_empty() {
                    return Err(InvalidId::Empty);
                }
                if text.chars().count() > Self::MAX {
                    return Err(InvalidId::TooLong);
                }
                if !text.chars().all(allowed) {
                    return Err(InvalidId::Pattern(Self::PATTERN));
                }
                Ok(Self(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a catalogue entry, such as `github`.
    ProviderName,
    "^[a-zA-Z0-9_-]+$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
);
name!(
    /// The operator's name for a configured provider: `unique_key`, `provider_config_key`, `integration_id`.
    IntegrationKey,
    "^[a-zA-Z0-9~:.@ _-]+$",
    |c| c.is_ascii_alphanumeric() || matches!(c, '~' | ':' | '.' | '@' | ' ' | '_' | '-')
);
name!(
    /// The public id of a connection, unique within its integration.
    ConnectionId,
    r#"^[a-zA-Z0-9,.;:=+~[\]|@${}"'\\/_ -]+$"#,
    |c| c.is_ascii_alphanumeric()
        || matches!(
            c,
            ',' | '.' | ';' | ':' | '=' | '+' | '~' | '[' | ']' | '|' | '@' | '$' | '{' | '}' | '"' | '\'' | '\\'
                | '/' | '_' | ' ' | '-'
        )
);
name!(
    /// Name of an environment, such as `dev`.
    EnvironmentName,
    "^[a-z0-9_-]+$",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')
);

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

row_id!(
    /// An account: the tenant that owns environments. A self-hosted Patchbay has one.
    AccountId
);
row_id!(
    /// An environment's number on the wire.
    EnvironmentId
);
row_id!(
    /// An API key's number on the wire.
    ApiKeyId
);
row_id!(
    /// An integration's row.
    IntegrationId
);
row_id!(
    /// A connection's number on the wire (`id`; [`ConnectionId`] is its public name).
    ConnectionRowId
);
row_id!(
    /// An end user's row (deprecated on the wire in favour of tags).
    EndUserId
);
row_id!(
    /// A connect session's row.
    ConnectSessionId
);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// The OAuth `state`: 256 random bits, base64url without padding. Stored only as its SHA-256.
    AuthAttemptId
);
text_id!(
    /// A logged operation (`log_id` on the wire): UUID v7, so ids sort by time.
    OperationId
);
text_id!(
    /// An outbound webhook delivery (`webhook-id` header): UUID v7.
    DeliveryId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_from_both_sides() {
        assert_eq!(EnvironmentName::parse(""), Err(InvalidId::Empty));
        assert!(EnvironmentName::parse(&"a".repeat(255)).is_ok());
        assert_eq!(EnvironmentName::parse(&"a".repeat(256)), Err(InvalidId::TooLong));
        assert!(EnvironmentName::parse("Dev").is_err());
        assert!(IntegrationKey::parse("a~:.@ _-Z9").is_ok());
        assert!(IntegrationKey::parse("a/b").is_err());
        assert!(ConnectionId::parse(r#"a b{"x":[1]}|@=+~,;:$'\_/"#).is_ok());
        assert!(ConnectionId::parse("a?b").is_err());
        assert!(ProviderName::parse("a.b").is_err());
    }
}
