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
    /// Whether this build can connect with it.
    pub built: bool,
}

/// A mode this build cannot connect with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this version of Patchbay cannot connect with auth mode {0} yet")]
pub struct ModeNotBuilt(pub AuthMode);

impl ModeNotBuilt {
    /// The documented code on the wire: HTTP 400, and `auth_mode_err` in the popup.
    pub fn code(self) -> &'static str {
        "auth_mode_not_supported"
    }
}

/// The row of `mode`.
pub const fn mode(mode: AuthMode) -> Mode {
    use AuthMode as M;
    use Entry::{Form, Popup};
    use Renewal::{Never, Refresh, Test};

    let (entry, renewal, stored_type, built) = match mode {
        M::OAuth2 => (Popup, Refresh, Some("OAUTH2"), true),
        M::OAuth2Cc => (Form("/oauth2/auth"), Refresh, Some("OAUTH2_CC"), true),
        M::ApiKey => (Form("/api-auth/api-key"), Test, Some("API_KEY"), true),
        M::Basic => (Form("/api-auth/basic"), Test, Some("BASIC"), true),
        M::None => (Form("/auth/unauthenticated"), Never, None, true),
        M::OAuth1 => (Popup, Never, Some("OAUTH1"), true),
        M::TwoStep => (Form("/auth/two-step"), Refresh, Some("TWO_STEP"), true),
        M::Jwt => (Form("/auth/jwt"), Refresh, Some("JWT"), true),
        M::Tba => (Form("/auth/tba"), Test, Some("TBA"), true),
        M::Bill => (Form("/auth/bill"), Refresh, Some("BILL"), true),
        M::Signature => (Form("/auth/signature"), Refresh, Some("SIGNATURE"), true),
        M::AwsSigV4 => (Form("/auth/aws-sigv4"), Refresh, Some("AWS_SIGV4"), true),
        M::App | M::Custom => (Popup, Refresh, Some("APP"), true),
        M::McpOAuth2 | M::McpOAuth2Generic => (Popup, Refresh, Some("OAUTH2"), true),
        M::InstallPlugin => (Popup, Test, Some("BASIC"), true),
    };
    Mode {
        mode,
        entry,
        renewal,
        stored_type,
        built,
    }
}

/// Refuses what [`Mode::built`] denies. Called before anything else of a flow, so that no mode works by half.
pub fn require_built(wanted: AuthMode) -> Result<Mode, ModeNotBuilt> {
    let row = mode(wanted);
    if row.built {
        Ok(row)
    } else {
        Err(ModeNotBuilt(wanted))
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
            assert_eq!(require_built(*wanted).is_ok(), row.built);
        }
        assert_eq!(ModeNotBuilt(AuthMode::Bill).code(), "auth_mode_not_supported");
    }
}
