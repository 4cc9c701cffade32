//! How connections look on the wire (api-core §9.1, §9.2).

use patchbay_types::connections::{Connection, ConnectionSummary};
use patchbay_types::credentials::Credentials;
use patchbay_types::end_users::EndUserInput;
use patchbay_types::{JsonMap, Tags, Timestamp, time};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// `{"success": true}`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Success {
    success: bool,
}

impl Success {
    pub(crate) const YES: Self = Self { success: true };
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct List {
    pub(super) connections: Vec<Listed>,
}

/// A connection in a list: no credentials.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Listed {
    id: i64,
    connection_id: String,
    provider_config_key: String,
    provider: String,
    errors: Vec<ActiveError>,
    end_user: Option<EndUser>,
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    tags: Tags,
    metadata: Option<JsonMap>,
    created: String,
}

/// A connection with its credentials.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Shown {
    id: i64,
    connection_id: String,
    provider_config_key: String,
    provider: String,
    errors: Vec<ActiveError>,
    end_user: Option<EndUser>,
    tags: std::collections::BTreeMap<String, String>,
    metadata: Option<JsonMap>,
    connection_config: JsonMap,
    webhook_url_override: Option<String>,
    created_at: String,
    updated_at: String,
    last_fetched_at: Option<String>,
    credentials: JsonMap,
}

/// An active failure.
#[derive(Debug, Serialize, JsonSchema)]
struct ActiveError {
    /// `auth` or `sync`.
    #[serde(rename = "type")]
    kind: String,
    /// The operation that failed.
    log_id: String,
}

/// The deprecated end user.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EndUser {
    id: String,
    display_name: Option<String>,
    email: Option<String>,
    tags: Option<std::collections::BTreeMap<String, String>>,
    organization: Option<Organization>,
}

/// The end user's organization.
#[derive(Debug, Serialize, JsonSchema)]
struct Organization {
    id: String,
    display_name: Option<String>,
}

impl From<&patchbay_types::end_users::EndUser> for EndUser {
    fn from(stored: &patchbay_types::end_users::EndUser) -> Self {
        Self::of(&stored.user, stored.organization.as_ref())
    }
}

impl EndUser {
    pub(crate) fn of(
        user: &EndUserInput,
        organization: Option<&patchbay_types::end_users::OrganizationInput>,
    ) -> Self {
        Self {
            id: user.id.clone(),
            display_name: user.display_name.clone(),
            email: user.email.clone(),
            tags: user.tags.clone(),
            organization: organization.map(|organization| Organization {
                id: organization.id.clone(),
                display_name: organization.display_name.clone(),
            }),
        }
    }
}

fn errors(errors: &[patchbay_types::connections::ConnectionError]) -> Vec<ActiveError> {
    errors
        .iter()
        .map(|error| ActiveError {
            kind: error.kind.clone(),
            log_id: error.log_id.0.clone(),
        })
        .collect()
}

fn tag_map(tags: &Tags) -> std::collections::BTreeMap<String, String> {
    tags.iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

impl From<ConnectionSummary> for Listed {
    fn from(row: ConnectionSummary) -> Self {
        Self {
            id: row.id.0,
            errors: errors(&row.errors),
            end_user: row.end_user.as_ref().map(EndUser::from),
            tags: row.tags,
            metadata: row.metadata,
            created: time::micros_offset(row.created_at),
            connection_id: row.connection_id.into(),
            provider_config_key: row.integration_key.into(),
            provider: row.provider.into(),
        }
    }
}

/// What of the credentials is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reveal {
    /// `{}`: the key may not read credentials.
    Nothing,
    /// All but refresh tokens.
    WithoutRefreshTokens,
    /// Everything.
    All,
}

/// How timestamps are written: reading says `+00:00`, importing says `Z`.
pub(super) type Clock = fn(Timestamp) -> String;

pub(super) fn shown(
    connection: &Connection,
    reveal: Reveal,
    last_fetched_at: Option<Timestamp>,
    at: Clock,
) -> Shown {
    let mut credentials = match reveal {
        Reveal::Nothing => JsonMap::new(),
        Reveal::WithoutRefreshTokens | Reveal::All => connection.credentials.to_json(),
    };
    let mut connection_config = connection.connection_config.clone();
    if reveal != Reveal::All {
        if let Credentials::TwoStep(_) = &connection.credentials
            && let Some(token) = connection.credentials.refresh_token()
            && let Some(raw) = credentials.get_mut("raw")
        {
            // The provider may call it anything there.
            strip_text(raw, token.expose());
        }
        strip_refresh_tokens(&mut credentials);
        strip_refresh_tokens(&mut connection_config);
    }
    Shown {
        id: connection.id.0,
        connection_id: connection.connection_id.to_string(),
        provider_config_key: connection.integration_key.to_string(),
        provider: connection.provider.to_string(),
        errors: errors(&connection.errors),
        end_user: connection.end_user.as_ref().map(EndUser::from),
        tags: tag_map(&connection.tags),
        metadata: connection.metadata.clone(),
        connection_config,
        webhook_url_override: connection.webhook_url_override.clone(),
        created_at: at(connection.created_at),
        updated_at: at(connection.updated_at),
        last_fetched_at: last_fetched_at.map(at),
        credentials,
    }
}

/// Removes, at any depth, every member whose name reduces to `refreshtoken` (letters only, any case).
fn strip_refresh_tokens(object: &mut JsonMap) {
    object.retain(|name, _| !names_a_refresh_token(name));
    object.values_mut().for_each(strip_value);
}

/// Removes, at any depth, every member that is this text.
fn strip_text(value: &mut Value, text: &str) {
    match value {
        Value::Object(object) => {
            object.retain(|_, member| member != text);
            object.values_mut().for_each(|member| strip_text(member, text));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip_text(item, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn strip_value(value: &mut Value) {
    match value {
        Value::Object(object) => strip_refresh_tokens(object),
        Value::Array(items) => items.iter_mut().for_each(strip_value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn names_a_refresh_token(name: &str) -> bool {
    let letters = name
        .bytes()
        .filter(u8::is_ascii_alphabetic)
        .map(|byte| byte.to_ascii_lowercase());
    letters.eq(b"refreshtoken".iter().copied())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refresh_tokens_are_stripped_at_any_depth_and_spelling() {
        let mut object = json!({
            "access_token": "a", "refresh_token": "r", "raw": {"Refresh-Token": "r", "list": [{"refreshToken": 1, "k": 2}]},
            "refresh_token_expires_in": 5
        });
        strip_value(&mut object);
        assert_eq!(
            object,
            json!({"access_token": "a", "raw": {"list": [{"k": 2}]}, "refresh_token_expires_in": 5})
        );
    }
}
