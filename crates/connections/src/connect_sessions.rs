//! Connect sessions: made by the product's backend, used by its end user's browser (api-core §10).

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use patchbay_catalog::Provider;
use patchbay_store::db::{DbError, Tx};
use patchbay_store::{connect_sessions, connections, integrations, operations};
use patchbay_types::connect_sessions::{ConnectSession, ConnectSessionSpec, IntegrationDefaults};
use patchbay_types::connections::Connection;
use patchbay_types::operations::{Message, Operation, OperationState};
use patchbay_types::tags::TagIssue;
use patchbay_types::{AccountId, ConnectSessionId, EnvironmentId, OperationId, Secret, Tags, Timestamp};
use serde_json::Value;

use crate::context::Context;

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "nango_connect_session_";
/// How long a token works.
pub const LIFETIME: Duration = Duration::from_mins(30);

/// Why a session could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectSessionError {
    /// References to integrations that do not exist.
    #[error("unknown integrations")]
    UnknownIntegrations(Vec<UnknownReference>),
    /// `tags` and the deprecated fields together break a rule.
    #[error("the tags do not fit")]
    Tags(TagIssue),
    /// Reconnect: no such connection under that integration.
    #[error("no such connection")]
    UnknownConnection,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

/// A reference to an integration that does not exist, by its place in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownReference {
    /// Path in the request body.
    pub path: Vec<String>,
    /// What was named.
    pub integration: String,
}

/// A new session as it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedSession {
    /// `nango_connect_session_…`, shown only here.
    pub token: Secret,
    /// The Connect UI with the token, ready to be mailed.
    pub connect_link: String,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Makes a session for a new connection.
pub async fn create(
    context: &Context,
    account: AccountId,
    environment: EnvironmentId,
    spec: ConnectSessionSpec,
) -> Result<CreatedSession, ConnectSessionError> {
    insert(context, account, environment, spec, None).await
}

/// Makes a session that re-authorizes the connection `connection_id` of `integration_id`.
pub async fn reconnect(
    context: &Context,
    account: AccountId,
    environment: EnvironmentId,
    spec: ConnectSessionSpec,
    target: ReconnectTarget,
) -> Result<CreatedSession, ConnectSessionError> {
    insert(context, account, environment, spec, Some(target)).await
}

/// The connection a reconnect session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconnectTarget {
    /// Integration.
    pub integration: String,
    /// Connection.
    pub connection: String,
}

/// The live session of `token`; `None` if unknown, expired or deleted.
pub async fn authenticate(context: &Context, token: &str) -> Result<Option<ConnectSession>, DbError> {
    let hash = token_hash(token);
    context
        .store
        .read(move |tx| Box::pin(async move { connect_sessions::find_by_token_hash(tx, &hash).await }))
        .await
}

/// Whether `token` has the form of a session token.
pub fn is_token(token: &str) -> bool {
    token.strip_prefix(TOKEN_PREFIX).is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

/// The connection a reconnect session is bound to; `None` if it is gone.
pub async fn bound_connection(
    context: &Context,
    session: &ConnectSession,
) -> Result<Option<Connection>, DbError> {
    let Some(row) = session.connection else {
        return Ok(None);
    };
    context
        .store
        .read(move |tx| Box::pin(async move { connections::find_by_row(tx, row).await }))
        .await
}

/// The session's presets as its browser may know them: of secrets it learns that they are set, not what they are.
pub async fn shown_presets(
    context: &Context,
    session: &ConnectSession,
) -> Result<Option<BTreeMap<String, IntegrationDefaults>>, DbError> {
    let Some(mut presets) = session.spec.integrations_config_defaults.clone() else {
        return Ok(None);
    };
    for (key, preset) in &mut presets {
        let Some(config) = &mut preset.connection_config else {
            continue;
        };
        let integration = crate::integrations::get(context, session.environment_id, key).await?;
        let provider =
            integration.and_then(|integration| context.catalogue.get(integration.provider.as_str()));
        for (name, value) in config {
            if value.as_str() != Some("") && is_secret(provider.as_deref(), name) {
                *value = Value::from("***");
            }
        }
    }
    Ok(Some(presets))
}

fn is_secret(provider: Option<&Provider>, name: &str) -> bool {
    let overrides = name.ends_with("_override") && name != "oauth_scopes_override";
    let marked = provider.is_some_and(|provider| {
        let definition = &provider.definition;
        let groups = [&definition.connection_config, &definition.credentials];
        groups
            .iter()
            .any(|fields| fields.get(name).is_some_and(|field| field.secret))
    });
    overrides || marked
}

/// Notes a step of the Connect UI in the session's operation, at the browser's time. Two error views and two popup
/// events count as errors (api-core §10.5).
pub async fn record_step(
    context: &Context,
    session: &ConnectSession,
    event: &str,
    integration: Option<&str>,
    at: Timestamp,
) -> Result<(), DbError> {
    let Some(operation_id) = session.operation_id.clone() else {
        return Ok(());
    };
    let failed = event.ends_with("_error") || event.starts_with("popup:");
    let message = Message {
        operation_id,
        level: if failed { "error" } else { "info" }.to_owned(),
        text: match integration {
            Some(integration) => format!("Connect UI: {event} ({integration})"),
            None => format!("Connect UI: {event}"),
        },
        meta: None,
        at,
    };
    context
        .store
        .write(move |tx| Box::pin(async move { operations::append_messages(tx, &[message]).await }))
        .await
}

/// Ends a session: its token is unknown from now on.
pub async fn delete(context: &Context, id: ConnectSessionId) -> Result<(), DbError> {
    context
        .store
        .write(move |tx| Box::pin(async move { connect_sessions::delete(tx, id).await }))
        .await
}

async fn insert(
    context: &Context,
    account: AccountId,
    environment: EnvironmentId,
    mut spec: ConnectSessionSpec,
    target: Option<ReconnectTarget>,
) -> Result<CreatedSession, ConnectSessionError> {
    hoist_webhook_url(&mut spec);
    let carries_tags =
        spec.tags.is_some() || spec.end_user.is_some() || (target.is_some() && spec.organization.is_some());
    if carries_tags {
        // Without an end user an organization says nothing, except when reconnecting (api-core §10.1, §10.2).
        let organization = spec
            .organization
            .as_ref()
            .filter(|_| spec.end_user.is_some() || target.is_some());
        let derived = Tags::from_end_user(spec.end_user.as_ref(), organization);
        let explicit = spec.tags.take().unwrap_or_default();
        spec.tags = Some(derived.overlaid(&explicit).map_err(ConnectSessionError::Tags)?);
    }
    let mut random = [0; 32];
    context.ambient.entropy.fill(&mut random);
    let token = format!("{TOKEN_PREFIX}{}", HEXLOWER.encode(&random));
    let expires_at = context
        .ambient
        .now()
        .checked_add(LIFETIME)
        .unwrap_or(Timestamp::MAX);
    let token_hash = token_hash(&token);
    let operation_id = OperationId(context.ambient.time_ordered_uuid().to_string());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut connection = None;
                if let Some(target) = target {
                    let found =
                        connections::find(tx, environment, &target.integration, &target.connection).await?;
                    let found = found.ok_or(ConnectSessionError::UnknownConnection)?;
                    spec.allowed_integrations = Some(vec![found.integration_key.clone()]);
                    connection = Some(found.id);
                }
                check_references(tx, environment, &spec).await?;
                let operation = Operation {
                    id: operation_id.clone(),
                    environment_id: environment,
                    kind: "auth".to_owned(),
                    action: "create_connection".to_owned(),
                    state: OperationState::Running,
                    integration: None,
                    connection,
                    title: "Connect session".to_owned(),
                    started_at: tx.now(),
                    ended_at: None,
                };
                operations::insert(tx, &operation).await?;
                connect_sessions::create(
                    tx,
                    &connect_sessions::NewConnectSession {
                        account_id: account,
                        environment_id: environment,
                        token_hash,
                        spec,
                        connection,
                        operation_id: Some(operation_id),
                        expires_at,
                    },
                )
                .await?;
                Ok::<_, ConnectSessionError>(())
            })
        })
        .await?;
    let mut link = context.settings.connect_url.clone();
    link.query_pairs_mut().append_pair("session_token", &token);
    Ok(CreatedSession {
        token: Secret::new(token),
        connect_link: link.into(),
        expires_at,
    })
}

async fn check_references(
    tx: &mut Tx,
    environment: EnvironmentId,
    spec: &ConnectSessionSpec,
) -> Result<(), ConnectSessionError> {
    let known: std::collections::HashSet<String> = integrations::list(tx, environment)
        .await?
        .into_iter()
        .map(|integration| integration.unique_key.into())
        .collect();
    let mut unknown = Vec::new();
    let mut check = |integration: &str, path: [&str; 2]| {
        if !known.contains(integration) {
            let path = path.map(str::to_owned).to_vec();
            unknown.push(UnknownReference {
                path,
                integration: integration.to_owned(),
            });
        }
    };
    for (index, key) in spec.allowed_integrations.iter().flatten().enumerate() {
        check(key.as_str(), ["allowed_integrations", &index.to_string()]);
    }
    for key in spec
        .integrations_config_defaults
        .iter()
        .flat_map(|defaults| defaults.keys())
    {
        check(key, ["integrations_config_defaults", key]);
    }
    for key in spec.overrides.iter().flat_map(|overrides| overrides.keys()) {
        check(key, ["overrides", key]);
    }
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(ConnectSessionError::UnknownIntegrations(unknown))
    }
}

/// The older place of `webhook_url_override`: removed from the presets, used unless the field itself is given.
fn hoist_webhook_url(spec: &mut ConnectSessionSpec) {
    let mut hoisted = None;
    for defaults in spec
        .integrations_config_defaults
        .iter_mut()
        .flat_map(|defaults| defaults.values_mut())
    {
        let Some(config) = &mut defaults.connection_config else {
            continue;
        };
        let Some(url) = config.shift_remove("webhook_url") else {
            continue;
        };
        if let Some(url) = url.as_str().filter(|url| !url.trim().is_empty()) {
            hoisted.get_or_insert_with(|| url.to_owned());
        }
    }
    if spec.webhook_url_override.is_none() {
        spec.webhook_url_override = hoisted;
    }
}

fn token_hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}
