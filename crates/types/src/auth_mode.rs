//! The ways a provider authenticates (auth-flows §1).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! auth_modes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// How a provider authenticates its callers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AuthMode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl AuthMode {
            /// Every mode, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire and in the catalogue.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The mode of that name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

auth_modes! {
    /// OAuth 1.0a, three-legged (RFC 5849).
    OAuth1 = "OAUTH1",
    /// OAuth 2 authorization code grant (RFC 6749 §4.1), PKCE by default.
    OAuth2 = "OAUTH2",
    /// OAuth 2 client credentials grant (RFC 6749 §4.4) with the end user's own client.
    OAuth2Cc = "OAUTH2_CC",
    /// User name and password (RFC 7617).
    Basic = "BASIC",
    /// A static key.
    ApiKey = "API_KEY",
    /// GitHub App installation plus its user's OAuth grant.
    Custom = "CUSTOM",
    /// GitHub App installation.
    App = "APP",
    /// No credentials at all.
    None = "NONE",
    /// NetSuite token-based authentication.
    Tba = "TBA",
    /// A JWT signed by us.
    Jwt = "JWT",
    /// Bill.com session login.
    Bill = "BILL",
    /// One or more calls that turn form fields into a token.
    TwoStep = "TWO_STEP",
    /// WSSE signature.
    Signature = "SIGNATURE",
    /// OAuth 2 of a catalogued MCP server.
    McpOAuth2 = "MCP_OAUTH2",
    /// OAuth 2 of any MCP server, discovered.
    McpOAuth2Generic = "MCP_OAUTH2_GENERIC",
    /// A plug-in installed at the provider, operator's credentials.
    InstallPlugin = "INSTALL_PLUGIN",
    /// AWS Signature Version 4 through an assumed role.
    AwsSigV4 = "AWS_SIGV4",
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
