//! Connections: list, import, patch, metadata, delete; and the one way a connection is stored (api-core §9,
//! auth-flows §22).

use std::sync::Arc;

use patchbay_auth::app::{self, AppKeys};
use patchbay_auth::driver::{self, Applicant, ObtainError, Occasion};
use patchbay_auth::verification;
use patchbay_catalog::Provider;
use patchbay_catalog::forms::{FieldError, Submission};
use patchbay_store::connections::{MetadataChange, MetadataSaved};
use patchbay_store::db::{DbError, Tx};
use patchbay_store::{connections, end_users, integrations};
use patchbay_types::connections::{
    AuthOperation, Change, Connection, ConnectionFilter, ConnectionPatch, ConnectionSummary, ConnectionUpsert,
};
use patchbay_types::end_users::{EndUserInput, OrganizationInput};
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::operations::OperationState;
use patchbay_types::tags::TagIssue;
use patchbay_types::{
    AuthMode, ConnectionId, ConnectionRowId, Credentials, DeliveryId, EndUserId, EnvironmentId, JsonMap,
    OperationId, Tags, Timestamp,
};

use crate::admission::Admission;
use crate::auth_outcomes::Awaited;
use crate::caches::{Changed, ConnectionName};
use crate::context::Context;
use crate::logbook::{Conclusion, conclude};
use crate::outbox::{AuthEvent, enqueue_auth};
use crate::results::AuthResult;
use crate::{connect_forms, steps};

/// Why a connection could not be imported, patched or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No such integration.
    #[error("no such integration")]
    UnknownIntegration,
    /// The integration's provider is not in the catalogue.
    #[error("the integration's provider is not in the catalogue")]
    UnknownProvider,
    /// No such connection.
    #[error("no such connection")]
    UnknownConnection(String),
    /// The credentials' type is not the provider's auth mode, or the mode cannot be imported.
    #[error("{0}")]
    WrongCredentials(String),
    /// `tags` and the deprecated fields together break a rule.
    #[error("the tags do not fit")]
    Tags(TagIssue),
    /// The provider does not accept the credentials.
    #[error("{0}")]
    TestFailed(String),
    /// Fields break the provider's rules.
    #[error("some fields are not valid")]
    Fields(Vec<FieldError>),
    /// Nothing could be made of the fields.
    #[error(transparent)]
    NotObtained(Box<ObtainError>),
    /// No token could be minted for the installation.
    #[error("{0}")]
    NotMinted(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

/// The connections that match, newest first.
pub async fn list(
    context: &Context,
    environment: EnvironmentId,
    filter: ConnectionFilter,
) -> Result<Vec<ConnectionSummary>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { connections::list(tx, environment, &filter).await }))
        .await
}

/// A live connection by its row.
pub async fn by_row(context: &Context, row: ConnectionRowId) -> Result<Option<Connection>, DbError> {
    context
        .store
        .read(move |tx| Box::pin(async move { connections::find_by_row(tx, row).await }))
        .await
}

/// As [`list`], each with its `connection_config`: for the legacy read of an integration.
pub async fn list_with_config(
    context: &Context,
    environment: EnvironmentId,
    filter: ConnectionFilter,
) -> Result<Vec<(ConnectionSummary, JsonMap)>, DbError> {
    context
        .store
        .read(move |tx| {
            Box::pin(async move {
                let mut found = Vec::new();
                for summary in connections::list(tx, environment, &filter).await? {
                    if let Some(connection) = connections::find_by_row(tx, summary.id).await? {
                        found.push((summary, connection.connection_config));
                    }
                }
                Ok(found)
            })
        })
        .await
}

/// The integration an import goes to.
#[derive(Clone, Debug)]
pub struct ImportTarget {
    integration: Arc<Integration>,
    provider: Arc<Provider>,
}

impl ImportTarget {
    /// How its connections authenticate: what decides which credentials fit.
    pub fn auth_mode(&self) -> AuthMode {
        self.provider.definition.auth_mode
    }
}

/// Looks up what an import needs to know of its integration.
pub async fn import_target(
    context: &Context,
    environment: EnvironmentId,
    integration: &str,
) -> Result<ImportTarget, ConnectionError> {
    let integration = crate::integrations::get(context, environment, integration)
        .await?
        .ok_or(ConnectionError::UnknownIntegration)?;
    let provider = context
        .catalogue
        .get(integration.provider.as_str())
        .ok_or(ConnectionError::UnknownProvider)?;
    Ok(ImportTarget {
        integration,
        provider,
    })
}

/// An app's installation, as an import names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The integration's app.
    pub app_id: String,
    /// Where it is installed.
    pub installation_id: String,
}

/// The credentials of an installation that was made elsewhere: its first token is minted now. `config` gains what
/// later ones need.
pub async fn installed(
    context: &Context,
    target: &ImportTarget,
    installation: &Installation,
    config: &mut JsonMap,
) -> Result<Credentials, ConnectionError> {
    let Installation {
        app_id,
        installation_id,
    } = installation;
    let mode = target.auth_mode();
    let keys = AppKeys::of(mode, &target.integration.secrets)
        .map_err(|error| ConnectionError::NotMinted(error.to_string()))?;
    if keys.id != app_id {
        return Err(ConnectionError::WrongCredentials(
            "this integration is of another app: `app_id` differs".to_owned(),
        ));
    }
    if !app::is_installation_id(installation_id) {
        return Err(ConnectionError::WrongCredentials(
            "`installation_id` is not one".to_owned(),
        ));
    }
    config.insert(app::INSTALLATION_ID.to_owned(), installation_id.as_str().into());
    crate::installations::mint(context, &target.provider.definition, &target.integration, config)
        .await
        .map_err(|error| ConnectionError::NotMinted(error.to_string()))
}

/// What an import carries (api-core §9.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// Public id; none generates a UUID.
    pub connection_id: Option<ConnectionId>,
    /// The credentials as given. Where they are made of typed fields, the token may be missing: it is made then.
    pub credentials: Credentials,
    /// Values that such a making uses once.
    pub assertion_option: JsonMap,
    /// Replaces; absent empties.
    pub connection_config: JsonMap,
    /// Metadata.
    pub metadata: Change<Option<JsonMap>>,
    /// Labels; those that stand for the end user come under them.
    pub tags: Change<Tags>,
    /// Deprecated end user.
    pub end_user: Option<EndUserInput>,
    /// Webhook override; empty text is none.
    pub webhook_url_override: Change<Option<String>>,
    /// Whether the provider is asked about the credentials first.
    pub verification: Verification,
}

/// Whether an import asks the provider first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// `POST /connections`.
    Required,
    /// The legacy import never did.
    Skipped,
}

/// Creates or wholly replaces a connection from existing credentials.
pub async fn import(
    context: &Context,
    environment: &Arc<Environment>,
    target: &ImportTarget,
    mut import: Import,
) -> Result<Connection, ConnectionError> {
    let ImportTarget {
        integration,
        provider,
    } = target;
    let auth_mode = target.auth_mode();
    let of_app = auth_mode == AuthMode::Custom && matches!(import.credentials, Credentials::App(_));
    if mode_of(&import.credentials) != auth_mode && !of_app {
        return Err(ConnectionError::WrongCredentials(format!(
            "this integration takes credentials of type {auth_mode}"
        )));
    }
    if let Some(fields) = unmade(&import.credentials) {
        make(context, target, fields, &mut import).await?;
    }
    let tags = match import.tags {
        Change::Keep => Change::Keep,
        Change::Set(tags) => {
            let derived = Tags::from_end_user(import.end_user.as_ref(), None);
            Change::Set(derived.overlaid(&tags).map_err(ConnectionError::Tags)?)
        }
    };
    if import.verification == Verification::Required {
        verification::verify(
            &context.proxy_client,
            &verification::Candidate {
                definition: &provider.definition,
                secrets: &integration.secrets,
                credentials: &import.credentials,
                connection_config: &import.connection_config,
            },
            &context.ambient,
        )
        .await
        .map_err(|failure| ConnectionError::TestFailed(failure.to_string()))?;
    }
    let webhook_url_override = match import.webhook_url_override {
        Change::Keep => Change::Keep,
        Change::Set(url) => Change::Set(url.filter(|url| !url.is_empty())),
    };
    let connection_id = match import.connection_id {
        Some(id) => id,
        None => fresh_id(context),
    };
    store(
        context,
        environment,
        NewConnection {
            auth_mode,
            upsert: ConnectionUpsert {
                integration_id: integration.id,
                connection_id,
                credentials_expires_at: expiry_to_check(&import.credentials, context.ambient.now()),
                credentials: import.credentials,
                connection_config: import.connection_config,
                metadata: import.metadata,
                tags,
                webhook_url_override,
                end_user: Change::Keep,
            },
            end_user: import.end_user.map(|user| (user, None)),
            operation: None,
            ends: None,
        },
    )
    .await
}

/// The typed fields of credentials whose token is still to be made.
fn unmade(credentials: &Credentials) -> Option<JsonMap> {
    let (derived, made) = match credentials {
        Credentials::Jwt(c) | Credentials::TwoStep(c) | Credentials::Signature(c) => (c, "token"),
        Credentials::Bill(c) => (c, "session_id"),
        Credentials::AwsSigV4(c) => (c, "access_key_id"),
        _ => return None,
    };
    (!derived.fields.contains_key(made)).then(|| derived.fields.clone())
}

/// Makes the credentials of an import as a form's are made.
async fn make(
    context: &Context,
    target: &ImportTarget,
    fields: JsonMap,
    import: &mut Import,
) -> Result<(), ConnectionError> {
    let definition = &target.provider.definition;
    let secrets = &target.integration.secrets;
    let form = connect_forms::derive(&target.integration, definition, None, None);
    let given = Submission {
        credentials: fields,
        connection_config: std::mem::take(&mut import.connection_config),
        assertion_option: std::mem::take(&mut import.assertion_option),
    };
    let accepted = form.accept(&given).map_err(ConnectionError::Fields)?;
    let applicant = Applicant {
        definition,
        secrets,
        connection_config: &accepted.connection_config,
        fields: &accepted.credentials,
        assertion_option: &accepted.assertion_option,
        occasion: Occasion::First,
    };
    let obtained = driver::obtain(&context.token_client, &applicant, &context.ambient).await;
    let obtained = obtained.map_err(|error| ConnectionError::NotObtained(Box::new(error)))?;
    import.credentials = obtained.credentials;
    import.connection_config = accepted.connection_config;
    import.connection_config.extend(obtained.config_updates);
    Ok(())
}

/// A connection about to be stored.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) auth_mode: AuthMode,
    pub(crate) upsert: ConnectionUpsert,
    /// Deprecated end user to upsert and link.
    pub(crate) end_user: Option<(EndUserInput, Option<OrganizationInput>)>,
    /// Log operation it belongs to.
    pub(crate) operation: Option<OperationId>,
    /// The attempt it ends.
    pub(crate) ends: Option<Ended>,
}

impl NewConnection {
    /// The connection that a session may make, as its product wished, of what the end user brought.
    pub(crate) fn admitted(
        admission: &Admission,
        credentials: Credentials,
        connection_config: JsonMap,
        now: Timestamp,
    ) -> Self {
        let session = &admission.session;
        let end_user = session.spec.end_user.clone();
        Self {
            auth_mode: admission.mode(),
            upsert: ConnectionUpsert {
                integration_id: admission.integration.id,
                connection_id: admission.connection_id.clone(),
                credentials_expires_at: expiry_to_check(&credentials, now),
                credentials,
                connection_config,
                metadata: Change::Keep,
                tags: Admission::tags(session),
                webhook_url_override: Admission::webhook_url_override(session),
                end_user: Change::Keep,
            },
            end_user: end_user.map(|user| (user, session.spec.organization.clone())),
            operation: session.operation_id.clone(),
            ends: None,
        }
    }
}

/// An attempt that ends with a connection.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) awaited: Awaited,
    /// An owner has yet to approve the installation.
    pub(crate) is_pending: bool,
}

/// What the product is told of a connection that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announce {
    /// That it was made, or authorized again.
    Usual,
    /// Nothing: it does not work yet.
    Nothing,
    /// This, whatever was there before.
    As(AuthOperation),
}

/// As [`store_and`], told as usual.
pub(crate) async fn store(
    context: &Context,
    environment: &Arc<Environment>,
    new: NewConnection,
) -> Result<Connection, ConnectionError> {
    store_and(context, environment, new, Announce::Usual).await
}

/// The one way a connection is stored: row, tags, end user, `auth` webhook, and what the page that waits for it reads,
/// in one transaction.
pub(crate) async fn store_and(
    context: &Context,
    environment: &Arc<Environment>,
    new: NewConnection,
    announce: Announce,
) -> Result<Connection, ConnectionError> {
    let (owner, ambient) = (environment.clone(), context.ambient.clone());
    let steps_of = steps::NoteContext::of(context);
    let (stored, pending) = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let NewConnection {
                    auth_mode,
                    mut upsert,
                    end_user,
                    operation,
                    ends,
                } = new;
                // The integration may have been deleted while the provider was asked.
                integrations::find_by_id(tx, upsert.integration_id)
                    .await?
                    .filter(|integration| integration.deleted_at.is_none())
                    .ok_or(ConnectionError::UnknownIntegration)?;
                if let Some((user, organization)) = end_user {
                    let linked = link_end_user(tx, owner.id, user, organization).await?;
                    upsert.end_user = Change::Set(Some(linked));
                }
                let (connection, done) = connections::upsert(tx, owner.id, &upsert).await?;
                let text = match done {
                    AuthOperation::Override => "The connection was authorized again",
                    _ => "The connection was made",
                };
                let conclusion = Conclusion {
                    environment: owner.id,
                    integration: upsert.integration_id,
                    connection: Some(connection.id),
                    state: OperationState::Success,
                    text,
                };
                let fresh = OperationId(ambient.time_ordered_uuid().to_string());
                let log = conclude(tx, operation, fresh, &conclusion).await?;
                let pending = steps::note(tx, &steps_of, &connection).await?;
                let told = match announce {
                    Announce::Usual => Some(done),
                    Announce::Nothing => None,
                    Announce::As(operation) => Some(operation),
                };
                if let Some(told) = told {
                    let mut event = AuthEvent::of(&owner, &connection, auth_mode, told);
                    event.log = Some(&log);
                    if pending.is_some() {
                        // The product should find the connection complete; steps that are done sooner bring it
                        // forward.
                        event.not_before = tx.now().checked_add(steps::PATIENCE).ok();
                    }
                    enqueue_auth(tx, &event, || DeliveryId(ambient.time_ordered_uuid().to_string())).await?;
                }
                if let Some(Ended { awaited, is_pending }) = ends {
                    let result = AuthResult::success(&connection, is_pending);
                    awaited.put(tx, &result).await?;
                }
                tx.notify(Changed::Connection(name_of(&connection)).notice());
                Ok::<_, ConnectionError>((connection, pending))
            })
        })
        .await?;
    context.caches.forget(&Changed::Connection(name_of(&stored)));
    Ok(steps::after_connecting(context, stored, pending).await)
}

async fn link_end_user(
    tx: &mut Tx,
    environment: EnvironmentId,
    user: EndUserInput,
    organization: Option<OrganizationInput>,
) -> Result<EndUserId, DbError> {
    Ok(end_users::upsert(tx, environment, &user, organization.as_ref())
        .await?
        .id)
}

/// Changes to a connection; absent fields stay (api-core §9.5, contract decision 5).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    /// Deprecated end user: updated in place, or created and linked.
    pub end_user: Option<EndUserInput>,
    /// Replaces all tags.
    pub tags: Option<Tags>,
    /// Merged over the stored metadata.
    pub metadata: Option<JsonMap>,
    /// Sets, or clears with empty text.
    pub webhook_url_override: Option<String>,
}

/// Applies a patch in one transaction.
pub async fn patch(context: &Context, name: &ConnectionName, patch: Patch) -> Result<(), ConnectionError> {
    let wanted = name.clone();
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                if integrations::find_by_key(tx, wanted.environment, &wanted.integration)
                    .await?
                    .is_none()
                {
                    return Err(ConnectionError::UnknownIntegration);
                }
                let found =
                    connections::find(tx, wanted.environment, &wanted.integration, &wanted.connection)
                        .await?
                        .ok_or_else(|| ConnectionError::UnknownConnection(wanted.connection.clone()))?;
                let tags = match (&patch.end_user, &patch.tags) {
                    (None, None) => Change::Keep,
                    (user, explicit) => {
                        let derived = Tags::from_end_user(user.as_ref(), None);
                        let merged = derived.overlaid(&explicit.clone().unwrap_or_default());
                        Change::Set(merged.map_err(ConnectionError::Tags)?)
                    }
                };
                let end_user = match patch.end_user {
                    Some(user) => {
                        let linked = found.end_user.as_ref().map(|stored| stored.id);
                        Change::Set(Some(
                            end_users::patch(tx, wanted.environment, linked, &user).await?.id,
                        ))
                    }
                    None => Change::Keep,
                };
                let url = match patch.webhook_url_override {
                    Some(url) if url.is_empty() => Change::Set(None),
                    Some(url) => Change::Set(Some(url)),
                    None => Change::Keep,
                };
                let changes = ConnectionPatch {
                    tags,
                    end_user,
                    webhook_url_override: url,
                };
                connections::patch(tx, found.id, &changes).await?;
                if let Some(metadata) = patch.metadata {
                    let id = std::slice::from_ref(&found.connection_id);
                    connections::set_metadata(tx, found.integration_id, id, MetadataChange::Merge(&metadata))
                        .await?;
                }
                tx.notify(Changed::Connection(wanted).notice());
                Ok(())
            })
        })
        .await?;
    context.caches.forget(&Changed::Connection(name.clone()));
    Ok(())
}

/// How new metadata meets the stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataWrite {
    /// `POST`: replaces.
    Replace,
    /// `PATCH`: shallow merge.
    Merge,
}

/// Writes metadata of several connections of one integration; all or none.
pub async fn write_metadata(
    context: &Context,
    environment: EnvironmentId,
    integration: &str,
    ids: Vec<ConnectionId>,
    metadata: JsonMap,
    write: MetadataWrite,
) -> Result<(), ConnectionError> {
    let names: Vec<ConnectionName> = ids
        .iter()
        .map(|id| ConnectionName {
            environment,
            integration: integration.to_owned(),
            connection: id.to_string(),
        })
        .collect();
    let (key, changed) = (integration.to_owned(), names.clone());
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(first) = ids.first() else { return Ok(()) };
                let missing = |id: &ConnectionId| ConnectionError::UnknownConnection(id.to_string());
                let integration = integrations::find_by_key(tx, environment, &key)
                    .await?
                    .ok_or_else(|| missing(first))?;
                let change = match write {
                    MetadataWrite::Replace => MetadataChange::Replace(&metadata),
                    MetadataWrite::Merge => MetadataChange::Merge(&metadata),
                };
                match connections::set_metadata(tx, integration.id, &ids, change).await? {
                    MetadataSaved::Missing(id) => return Err(missing(&id)),
                    MetadataSaved::Saved => {}
                }
                for name in changed {
                    tx.notify(Changed::Connection(name).notice());
                }
                Ok(())
            })
        })
        .await?;
    for name in names {
        context.caches.forget(&Changed::Connection(name));
    }
    Ok(())
}

/// Deletes a connection; purged 31 days later. The provider is told first, if its definition says how; that it may not
/// listen changes nothing. The `auth` webhook with operation `deletion` is written with the deletion.
pub async fn delete(
    context: &Arc<Context>,
    environment: &Arc<Environment>,
    name: &ConnectionName,
) -> Result<(), ConnectionError> {
    let (wanted, owner, ambient, catalogue) = (
        name.clone(),
        environment.clone(),
        context.ambient.clone(),
        context.catalogue.clone(),
    );
    if let Some(connection) = crate::refresh::find(context, name).await? {
        steps::before_deleting(context, connection).await;
    }
    context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let connection =
                    connections::find(tx, wanted.environment, &wanted.integration, &wanted.connection)
                        .await?
                        .ok_or_else(|| ConnectionError::UnknownConnection(wanted.connection.clone()))?;
                connections::soft_delete(tx, connection.id).await?;
                let auth_mode = catalogue
                    .get(connection.provider.as_str())
                    .map_or(AuthMode::None, |provider| provider.definition.auth_mode);
                let event = AuthEvent::of(&owner, &connection, auth_mode, AuthOperation::Deletion);
                enqueue_auth(tx, &event, || DeliveryId(ambient.time_ordered_uuid().to_string())).await?;
                tx.notify(Changed::Connection(wanted).notice());
                Ok::<_, ConnectionError>(())
            })
        })
        .await?;
    context.caches.forget(&Changed::Connection(name.clone()));
    Ok(())
}

/// The name of a stored connection.
pub fn name_of(connection: &Connection) -> ConnectionName {
    ConnectionName {
        environment: connection.environment_id,
        integration: connection.integration_key.to_string(),
        connection: connection.connection_id.to_string(),
    }
}

/// A generated public id: UUID v4.
pub(crate) fn fresh_id(context: &Context) -> ConnectionId {
    ConnectionId::parse(&context.ambient.entropy.uuid().to_string())
        .expect("a UUID's characters are all allowed in a connection id")
}

/// When the background check looks at stored credentials again (auth-flows §22).
pub(crate) fn expiry_to_check(credentials: &Credentials, now: Timestamp) -> Option<Timestamp> {
    let days = |days: i64| now.checked_add(jiff::SignedDuration::from_hours(24 * days)).ok();
    credentials.expires_at().or_else(|| match credentials {
        Credentials::OAuth1(_) | Credentials::None {} => days(99 * 365),
        _ => days(1),
    })
}

/// The auth mode whose imports carry these credentials.
fn mode_of(credentials: &Credentials) -> AuthMode {
    match credentials {
        Credentials::OAuth2(_) => AuthMode::OAuth2,
        Credentials::OAuth2Cc(_) => AuthMode::OAuth2Cc,
        Credentials::OAuth1(_) => AuthMode::OAuth1,
        Credentials::ApiKey(_) => AuthMode::ApiKey,
        Credentials::Basic(_) => AuthMode::Basic,
        Credentials::None {} => AuthMode::None,
        Credentials::Tba(_) => AuthMode::Tba,
        Credentials::App(_) => AuthMode::App,
        Credentials::Custom(_) => AuthMode::Custom,
        Credentials::Jwt(_) => AuthMode::Jwt,
        Credentials::TwoStep(_) => AuthMode::TwoStep,
        Credentials::Signature(_) => AuthMode::Signature,
        Credentials::Bill(_) => AuthMode::Bill,
        Credentials::AwsSigV4(_) => AuthMode::AwsSigV4,
    }
}
