//! What each auth mode is made of (auth-flows §1), in one table.

use patchbay_types::AuthMode;

/// Where an end user's connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `GET /oauth/connect/:key` in a popup.
    Popup,
    /// `POST <path>/:key` with a form; the path.
    Form(&'static str),
}

/// How its credentials stay good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// By a refresh: a token call, a new signature, another login.
    Refresh,
    /// Only checked against the provider, by the background job.
    Test,
    /// Neither.
    Never,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The mode.
    pub mode: AuthMode,
    /// Where it begins.
    pub entry: Entry,
    /// How it stays good.
    pub renewal: Renewal,
    /// `credentials.type` stored; none for NONE.
    pub stored_type: Option<&'static str>,
}

/// The row of `mode`.
pub const fn mode(mode: AuthMode) -> Mode {
    use AuthMode as M;
    use Entry::{Form, Popup};
    use Renewal::{Never, Refresh, Test};

    let (entry, renewal, stored_type) = match mode {
        M::OAuth2 | M::McpOAuth2 | M::McpOAuth2Generic => (Popup, Refresh, Some("OAUTH2")),
        M::OAuth2Cc => (Form("/oauth2/auth"), Refresh, Some("OAUTH2_CC")),
        M::ApiKey => (Form("/api-auth/api-key"), Test, Some("API_KEY")),
        M::Basic => (Form("/api-auth/basic"), Test, Some("BASIC")),
        M::None => (Form("/auth/unauthenticated"), Never, None),
        M::OAuth1 => (Popup, Never, Some("OAUTH1")),
        M::TwoStep => (Form("/auth/two-step"), Refresh, Some("TWO_STEP")),
        M::Jwt => (Form("/auth/jwt"), Refresh, Some("JWT")),
        M::Tba => (Form("/auth/tba"), Test, Some("TBA")),
        M::Bill => (Form("/auth/bill"), Refresh, Some("BILL")),
        M::Signature => (Form("/auth/signature"), Refresh, Some("SIGNATURE")),
        M::AwsSigV4 => (Form("/auth/aws-sigv4"), Refresh, Some("AWS_SIGV4")),
        M::App | M::Custom => (Popup, Refresh, Some("APP")),
        M::InstallPlugin => (Popup, Test, Some("BASIC")),
    };
    Mode {
        mode,
        entry,
        renewal,
        stored_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_its_row() {
        for wanted in AuthMode::ALL {
            let row = mode(*wanted);
            assert_eq!(row.mode, *wanted);
            assert_eq!(row.stored_type.is_none(), *wanted == AuthMode::None);
        }
    }
}
