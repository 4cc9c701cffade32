//! The formats of the wire (api-core §1.7): the regular expression issues and the OpenAPI document print, beside
//! the plain function that decides. A property test holds the two together.

/// A text format.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// ECMAScript regular expression, without slashes.
    pub source: &'static str,
    /// Whether a text matches it.
    pub matches: fn(&str) -> bool,
}

/// Names of catalogue entries.
pub const PROVIDER_NAME: Pattern = Pattern {
    source: patchbay_types::ProviderName::PATTERN,
    matches: |text| each(text, |c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-')),
};

/// `unique_key`, `provider_config_key`, `integration_id`.
pub const INTEGRATION_KEY: Pattern = Pattern {
    source: patchbay_types::IntegrationKey::PATTERN,
    matches: |text| {
        each(text, |c| {
            c.is_ascii_alphanumeric() || matches!(c, b'~' | b':' | b'.' | b'@' | b' ' | b'_' | b'-')
        })
    },
};

/// Names that pages give their attempts: random, so that nobody guesses another page's.
pub const ATTEMPT: Pattern = Pattern {
    source: "^[A-Za-z0-9_-]{16,64}$",
    matches: |text| {
        (16..=64).contains(&text.len())
            && each(text, |c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
    },
};

/// Public ids of connections.
pub const CONNECTION_ID: Pattern = Pattern {
    source: patchbay_types::ConnectionId::PATTERN,
    matches: |text| {
        each(text, |c| {
            c.is_ascii_alphanumeric() || br#",.;:=+~[]|@${}"'\/_ -"#.contains(&c)
        })
    },
};

/// Names of environments.
pub const ENVIRONMENT_NAME: Pattern = Pattern {
    source: patchbay_types::EnvironmentName::PATTERN,
    matches: |text| {
        each(text, |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-')
        })
    },
};

/// Keys of tags; their length is limited apart.
pub const TAG_KEY: Pattern = Pattern {
    source: r"^[a-zA-Z][a-zA-Z0-9_\-./]*$",
    matches: |text| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && each(text, |c| {
                c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b'/')
            })
    },
};

/// A comma-separated list of OAuth scopes.
pub const SCOPE_LIST: Pattern = Pattern {
    source: "^[0-9a-zA-Z:/_.*-]+(,[0-9a-zA-Z:/_.*-]+)*$",
    matches: |text| {
        text.split(',').all(|scope| {
            each(scope, |c| {
                c.is_ascii_alphanumeric() || matches!(c, b':' | b'/' | b'_' | b'.' | b'*' | b'-')
            })
        })
    },
};

/// A comma-separated list of numbers, such as HTTP statuses.
pub const NUMBER_LIST: Pattern = Pattern {
    source: r"^\d+(,\d+)*$",
    matches: |text| text.split(',').all(|number| each(number, |c| c.is_ascii_digit())),
};

/// UUID v4, as API keys, public keys and signing keys are.
pub fn is_uuid_v4(text: &str) -> bool {
    is_uuid(text) && text.as_bytes()[14] == b'4'
}

/// Any UUID of RFC 9562: versions 1 to 8, nil and max.
pub(super) fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = bytes.len() == 36
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let digits = || bytes.iter().filter(|byte| **byte != b'-');
    shape
        && ((matches!(bytes[14], b'1'..=b'8')
            && matches!(bytes[19], b'8' | b'9' | b'a' | b'b' | b'A' | b'B'))
            || digits().all(|byte| *byte == b'0')
            || digits().all(|byte| byte.eq_ignore_ascii_case(&b'f')))
}

/// One or more bytes, each of which `allowed` accepts.
fn each(text: &str, allowed: fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}
