//! What the product is told: `auth` webhooks, written into the outbox in the transaction of their cause
//! (webhooks §B2). The `webhooks` room signs and delivers them.

use patchbay_store::db::{DbError, Notice, Topic, Tx};
use patchbay_store::deliveries;
use patchbay_types::connections::{AuthOperation, Connection};
use patchbay_types::deliveries::{Delivery, DeliveryStatus};
use patchbay_types::end_users::EndUser;
use patchbay_types::environments::{Environment, WebhookSettings};
use patchbay_types::json::canonical;
use patchbay_types::{AuthMode, ConnectionRowId, DeliveryId, JsonMap, OperationId, Tags, Timestamp};
use serde_json::{Value, json};

/// One `auth` event.
#[derive(Clone, Debug)]
pub(crate) struct AuthEvent<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) operation: AuthOperation,
    pub(crate) connection_id: &'a str,
    pub(crate) row: Option<ConnectionRowId>,
    pub(crate) provider_config_key: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) auth_mode: AuthMode,
    pub(crate) tags: Option<&'a Tags>,
    pub(crate) end_user: Option<&'a EndUser>,
    pub(crate) webhook_url_override: Option<&'a str>,
    /// `None` on success, else the error's type and description.
    pub(crate) error: Option<(&'a str, &'a str)>,
    pub(crate) log: Option<&'a OperationId>,
    /// Not to be sent before.
    pub(crate) not_before: Option<Timestamp>,
}

impl<'a> AuthEvent<'a> {
    /// An event about a stored connection; a success unless `error` is set afterwards.
    pub(crate) fn of(
        environment: &'a Environment,
        connection: &'a Connection,
        auth_mode: AuthMode,
        operation: AuthOperation,
    ) -> Self {
        Self {
            environment,
            operation,
            connection_id: connection.connection_id.as_str(),
            row: Some(connection.id),
            provider_config_key: connection.integration_key.as_str(),
            provider: connection.provider.as_str(),
            auth_mode,
            tags: Some(&connection.tags),
            end_user: connection.end_user.as_ref(),
            webhook_url_override: connection.webhook_url_override.as_deref(),
            error: None,
            log: None,
            not_before: None,
        }
    }

    fn is_wanted(&self, settings: &WebhookSettings) -> bool {
        match self.operation {
            AuthOperation::Creation => settings.on_auth_creation,
            AuthOperation::Override => true,
            // A refresh is announced when a connection begins to fail, and when it recovers from an announced failure.
            AuthOperation::Refresh => settings.on_auth_refresh_error,
            AuthOperation::Deletion => settings.on_connection_deletion,
        }
    }

    fn body(&self) -> String {
        let mut body = json!({
            "from": "nango",
            "type": "auth",
            "operation": self.operation,
            "connectionId": self.connection_id,
            "providerConfigKey": self.provider_config_key,
            "provider": self.provider,
            "authMode": self.auth_mode,
            "environment": self.environment.name,
            "success": self.error.is_none(),
        });
        if let Some(tags) = self.tags.filter(|tags| !tags.is_empty()) {
            body["tags"] = json!(tags);
        }
        if let Some(end_user) = self.end_user {
            body["endUser"] = Value::Object(end_user_body(end_user));
        }
        if let Some((kind, description)) = self.error {
            body["error"] = json!({"type": kind, "description": description});
        }
        canonical(&body)
    }
}

fn end_user_body(end_user: &EndUser) -> JsonMap {
    let mut body = JsonMap::new();
    body.insert("endUserId".to_owned(), json!(end_user.user.id));
    if let Some(email) = &end_user.user.email {
        body.insert("endUserEmail".to_owned(), json!(email));
    }
    if let Some(organization) = &end_user.organization {
        body.insert("organizationId".to_owned(), json!(organization.id));
    }
    body.insert(
        "tags".to_owned(),
        json!(end_user.user.tags.clone().unwrap_or_default()),
    );
    body
}

/// Where webhooks of this environment go; a connection's own URL replaces both (webhooks §B1).
pub(crate) fn targets<'a>(settings: &'a WebhookSettings, url_override: Option<&'a str>) -> Vec<&'a str> {
    let given = |url: &&str| !url.trim().is_empty();
    if let Some(url) = url_override.filter(given) {
        return vec![url];
    }
    [settings.primary_url.as_deref(), settings.secondary_url.as_deref()]
        .into_iter()
        .flatten()
        .filter(given)
        .collect()
}

/// Puts the event into the outbox, once per target, if the environment wants it. `ids` supplies delivery ids.
pub(crate) async fn enqueue_auth(
    tx: &mut Tx,
    event: &AuthEvent<'_>,
    mut ids: impl FnMut() -> DeliveryId + Send,
) -> Result<(), DbError> {
    let settings = &event.environment.settings.webhooks;
    let targets = targets(settings, event.webhook_url_override);
    if targets.is_empty() || !event.is_wanted(settings) {
        return Ok(());
    }
    let body = event.body();
    let now = tx.now();
    let rows: Vec<Delivery> = targets
        .into_iter()
        .map(|url| Delivery {
            id: ids(),
            environment_id: event.environment.id,
            connection: event.row,
            kind: "auth".to_owned(),
            url: url.to_owned(),
            body: body.clone(),
            operation_id: event.log.cloned(),
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt_at: event.not_before.unwrap_or(now),
            last_status: None,
            last_error: None,
            created_at: now,
            finished_at: None,
        })
        .collect();
    deliveries::enqueue(tx, &rows).await?;
    tx.notify(Notice::new(Topic::Deliveries, ""));
    Ok(())
}
