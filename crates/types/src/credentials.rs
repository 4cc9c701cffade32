//! What is stored to act for an end user, in the shapes the wire answers (api-core §9.2, auth-flows §22.1).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::time::millis_z;
use crate::{JsonMap, Secret, Timestamp};

/// An OAuth client of the connection's own, instead of the integration's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigOverride {
    /// Client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
}

/// Credentials of one connection. Serializes to the wire's tagged object (`{}` for [`Credentials::None`]); fields
/// the variants do not name are kept in `extra` and answered again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Credentials {
    /// OAUTH2, MCP_OAUTH2, MCP_OAUTH2_GENERIC.
    #[serde(rename = "OAUTH2")]
    OAuth2(OAuth2),
    /// OAUTH2_CC.
    #[serde(rename = "OAUTH2_CC")]
    OAuth2Cc(OAuth2Cc),
    /// OAUTH1.
    #[serde(rename = "OAUTH1")]
    OAuth1(OAuth1),
    /// BASIC, INSTALL_PLUGIN.
    #[serde(rename = "BASIC")]
    Basic(Basic),
    /// API_KEY.
    #[serde(rename = "API_KEY")]
    ApiKey(ApiKey),
    /// APP, CUSTOM.
    #[serde(rename = "APP")]
    App(App),
    /// TBA.
    #[serde(rename = "TBA")]
    Tba(Tba),
    /// JWT: the submitted fields, `token`, `expires_at`.
    #[serde(rename = "JWT")]
    Jwt(Derived),
    /// TWO_STEP: the submitted fields, `token`, `refresh_token`, `expires_at`, `raw`.
    #[serde(rename = "TWO_STEP")]
    TwoStep(Derived),
    /// SIGNATURE: `username`, `password`, `token`, `expires_at`.
    #[serde(rename = "SIGNATURE")]
    Signature(Derived),
    /// BILL: the login fields and the session.
    #[serde(rename = "BILL")]
    Bill(Derived),
    /// AWS_SIGV4: the role and its temporary keys.
    #[serde(rename = "AWS_SIGV4")]
    AwsSigV4(Derived),
    /// CUSTOM.
    #[serde(rename = "CUSTOM")]
    Custom(Derived),
    /// NONE.
    #[serde(rename = "NONE")]
    None {},
}

/// See [`Credentials::OAuth2`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OAuth2 {
    /// The bearer token; none while the connection waits for an installation.
    #[serde(default, skip_serializing_if = "Secret::is_empty")]
    pub access_token: Secret,
    /// Buys the next access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// When the access token ends; absent means it never needs a refresh unless forced.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire_time")]
    pub expires_at: Option<Timestamp>,
    /// The provider's answer.
    #[serde(default)]
    pub raw: Raw,
    /// The connection's own OAuth client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_override: Option<ConfigOverride>,
}

/// See [`Credentials::OAuth2Cc`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OAuth2Cc {
    /// The bearer token.
    pub token: Secret,
    /// When the token ends.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire_time")]
    pub expires_at: Option<Timestamp>,
    /// The end user's client id.
    pub client_id: String,
    /// The end user's client secret; empty with a private key.
    #[serde(default)]
    pub client_secret: Secret,
    /// PEM for mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Secret>,
    /// PEM for mutual TLS, or a JWK for `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_private_key: Option<Secret>,
    /// The provider's answer.
    #[serde(default)]
    pub raw: Raw,
}

/// See [`Credentials::OAuth1`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OAuth1 {
    /// Token.
    pub oauth_token: Secret,
    /// Token secret.
    pub oauth_token_secret: Secret,
    /// The provider's answer.
    #[serde(default)]
    pub raw: Raw,
}

/// See [`Credentials::Basic`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Basic {
    /// User name, may be empty.
    #[serde(default)]
    pub username: String,
    /// Password, may be empty.
    #[serde(default)]
    pub password: Secret,
}

/// See [`Credentials::ApiKey`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The key.
    #[serde(rename = "apiKey")]
    pub api_key: Secret,
}

/// See [`Credentials::App`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Installation token.
    pub access_token: Secret,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire_time")]
    pub expires_at: Option<Timestamp>,
    /// The provider's answer.
    #[serde(default)]
    pub raw: Raw,
    /// The app's own JWT.
    #[serde(default, rename = "jwtToken", skip_serializing_if = "Option::is_none")]
    pub jwt_token: Option<Secret>,
}

/// See [`Credentials::Tba`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tba {
    /// Token id.
    pub token_id: Secret,
    /// Token secret.
    pub token_secret: Secret,
    /// Consumer of this connection.
    #[serde(default)]
    pub config_override: ConfigOverride,
}

/// Modes whose fields the provider's definition names: kept as an object.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Derived {
    /// Every field but `type`.
    pub fields: JsonMap,
}

/// A provider's answer, verbatim. Masked in `Debug`: it repeats the tokens.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Raw(pub JsonMap);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw(***)")
    }
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived")
            .field("fields", &self.fields.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Derived {
    /// A string field.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// `expires_at`.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.text("expires_at")?.parse().ok()
    }
}

impl Credentials {
    /// `type` on the wire; none for NONE.
    pub fn kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::OAuth2(_) => "OAUTH2",
            Self::OAuth2Cc(_) => "OAUTH2_CC",
            Self::OAuth1(_) => "OAUTH1",
            Self::Basic(_) => "BASIC",
            Self::ApiKey(_) => "API_KEY",
            Self::App(_) => "APP",
            Self::Tba(_) => "TBA",
            Self::Jwt(_) => "JWT",
            Self::TwoStep(_) => "TWO_STEP",
            Self::Signature(_) => "SIGNATURE",
            Self::Bill(_) => "BILL",
            Self::AwsSigV4(_) => "AWS_SIGV4",
            Self::Custom(_) => "CUSTOM",
            Self::None {} => return None,
        })
    }

    /// When they end by the provider's word.
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::OAuth2(c) => c.expires_at,
            Self::OAuth2Cc(c) => c.expires_at,
            Self::App(c) => c.expires_at,
            Self::Jwt(c)
            | Self::TwoStep(c)
            | Self::Signature(c)
            | Self::Bill(c)
            | Self::AwsSigV4(c)
            | Self::Custom(c) => c.expires_at(),
            Self::OAuth1(_) | Self::Basic(_) | Self::ApiKey(_) | Self::Tba(_) | Self::None {} => None,
        }
    }

    /// What buys the next access token, where the credentials carry it themselves.
    pub fn refresh_token(&self) -> Option<Secret> {
        match self {
            Self::OAuth2(c) => c.refresh_token.clone(),
            Self::TwoStep(c) | Self::Custom(c) => c.text("refresh_token").map(Secret::from),
            _ => None,
        }
    }

    /// The object the wire answers and the store encrypts, refresh tokens included.
    pub fn to_json(&self) -> JsonMap {
        if matches!(self, Self::None {}) {
            return JsonMap::new();
        }
        match serde_json::to_value(self) {
            Ok(Value::Object(object)) => object,
            _ => unreachable!("every variant serializes to an object with string keys"),
        }
    }

    /// Reads [`Credentials::to_json`] back.
    pub fn from_json(object: JsonMap) -> Result<Self, serde_json::Error> {
        if object.is_empty() {
            return Ok(Self::None {});
        }
        serde_json::from_value(Value::Object(object))
    }
}

/// `expires_at` as the wire writes it; accepts what the wire accepts when stored.
mod wire_time {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Timestamp, millis_z};

    #[expect(clippy::ref_option, reason = "the signature serde's `with` calls")]
    pub(super) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serializer.serialize_str(&millis_z(*at)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shapes_round_trip() {
        for value in [
            json!({"type":"OAUTH2","access_token":"a","refresh_token":"r","expires_at":"2026-08-21T11:00:00.000Z","raw":{"n":1}}),
            json!({"type":"OAUTH2_CC","token":"t","client_id":"i","client_secret":"s","raw":{}}),
            json!({"type":"BASIC","username":"u","password":""}),
            json!({"type":"API_KEY","apiKey":"k"}),
            json!({"type":"TWO_STEP","user":"u","token":"t","raw":{"a":[1]}}),
            json!({}),
        ] {
            let object = value.as_object().unwrap().clone();
            let credentials = Credentials::from_json(object.clone()).unwrap();
            assert_eq!(credentials.to_json(), object);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let object = json!({"type":"OAUTH2","access_token":"planted","raw":{"access_token":"planted"}});
        let credentials = Credentials::from_json(object.as_object().unwrap().clone()).unwrap();
        assert!(!format!("{credentials:?}").contains("planted"));
    }
}
