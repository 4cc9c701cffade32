//! Credentials every provider of a mode asks for, and what is known about credentials by their name.

use patchbay_types::AuthMode;

use crate::definition::{Definition, Field, TokenAuthMethod};

/// A credential known by name.
pub(super) struct Known {
    name: &'static str,
    pub(super) title: &'static str,
    pub(super) secret: bool,
}

const KNOWN: &[Known] = &[
    Known {
        name: "apiKey",
        title: "API key",
        secret: true,
    },
    Known {
        name: "username",
        title: "User name",
        secret: false,
    },
    Known {
        name: "password",
        title: "Password",
        secret: true,
    },
    Known {
        name: "pat_name",
        title: "Token name",
        secret: false,
    },
    Known {
        name: "pat_secret",
        title: "Token secret",
        secret: true,
    },
    Known {
        name: "content_url",
        title: "Content URL",
        secret: true,
    },
    Known {
        name: "client_id",
        title: "Client ID",
        secret: false,
    },
    Known {
        name: "client_secret",
        title: "Client secret",
        secret: true,
    },
    Known {
        name: "client_certificate",
        title: "Client certificate",
        secret: true,
    },
    Known {
        name: "client_private_key",
        title: "Client private key",
        secret: true,
    },
    Known {
        name: "oauth_client_id_override",
        title: "OAuth client ID",
        secret: false,
    },
    Known {
        name: "oauth_client_secret_override",
        title: "OAuth client secret",
        secret: true,
    },
    Known {
        name: "oauth_refresh_token_override",
        title: "OAuth refresh token",
        secret: true,
    },
    Known {
        name: "token_id",
        title: "Token ID",
        secret: true,
    },
    Known {
        name: "token_secret",
        title: "Token secret",
        secret: true,
    },
    Known {
        name: "organization_id",
        title: "Organization ID",
        secret: false,
    },
    Known {
        name: "dev_key",
        title: "Developer key",
        secret: true,
    },
    Known {
        name: "role_arn",
        title: "Role ARN",
        secret: false,
    },
    Known {
        name: "issuerId",
        title: "Issuer ID",
        secret: false,
    },
    Known {
        name: "privateKeyId",
        title: "Private key ID",
        secret: false,
    },
    Known {
        name: "privateKey",
        title: "Private key",
        secret: true,
    },
];

pub(super) fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// PEM texts, whose line breaks matter.
pub(super) fn is_multiline(name: &str) -> bool {
    matches!(name, "client_certificate" | "client_private_key" | "privateKey")
}

/// The names of [`fields`].
pub(crate) fn names(mode: AuthMode) -> &'static [&'static str] {
    match mode {
        AuthMode::ApiKey => &["apiKey"],
        AuthMode::Basic | AuthMode::Signature => &["username", "password"],
        AuthMode::OAuth2Cc => &["client_id", "client_secret"],
        AuthMode::Tba => &[
            "oauth_client_id_override",
            "oauth_client_secret_override",
            "token_id",
            "token_secret",
        ],
        AuthMode::Bill => &["username", "password", "organization_id", "dev_key"],
        AuthMode::AwsSigV4 => &["role_arn"],
        _ => &[],
    }
}

/// What the mode itself asks for.
pub(super) fn fields(definition: &Definition) -> Vec<Field> {
    let mut names = names(definition.auth_mode).to_vec();
    if definition.auth_mode == AuthMode::OAuth2Cc {
        if definition.token_request_auth_method == Some(TokenAuthMethod::PrivateKeyJwt) {
            names.retain(|name| *name != "client_secret");
        }
        if definition.require_client_certificate {
            names.extend(["client_certificate", "client_private_key"]);
        }
    }
    let optional = |name: &str| name.starts_with("oauth_client_");
    // Where a key is sent as user name or as password, the other half is empty (auth-flows §16).
    let blank = definition.auth_mode == AuthMode::Basic;
    names
        .into_iter()
        .map(|name| Field {
            optional: optional(name),
            default_value: blank.then(String::new),
            ..Field::named(name)
        })
        .collect()
}
