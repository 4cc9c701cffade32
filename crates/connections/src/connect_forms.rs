//! The form of an integration as its end user sees it (catalog-format §4.1, connect-ui §11, §19): what the session and
//! the operator have set is neither asked for nor told.

use std::sync::Arc;

use patchbay_catalog::forms::{FieldError, Form, FormContext};
use patchbay_catalog::{Definition, Provider};
use patchbay_store::db::DbError;
use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::integrations::{Integration, IntegrationSecrets};
use patchbay_types::{AuthMode, JsonMap};
use serde_json::Value;

use crate::context::Context;
use crate::integrations;

/// Why there is no form.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFormError {
    /// No such integration.
    #[error("no such integration")]
    UnknownIntegration,
    /// The integration's provider is not in the catalogue.
    #[error("the integration's provider is not in the catalogue")]
    UnknownProvider,
    /// The session does not allow the integration.
    #[error("this session does not allow the integration")]
    NotAllowed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

/// A form and what it is for.
#[derive(Clone, Debug)]
pub struct ConnectForm {
    /// What is connected.
    pub integration: Arc<Integration>,
    /// Its provider.
    pub provider: Arc<Provider>,
    /// The fields, presets and hidden ones included: the caller shows those that are visible.
    pub form: Form,
    /// Presets that break the fields' rules: the product's mistake, which the end user cannot mend.
    pub invalid_presets: Vec<FieldError>,
    /// The end user's guide: the session's, or the provider's.
    pub docs_url: Option<String>,
    /// AWS: the external id that the session presets.
    pub external_id: Option<String>,
}

/// The form of the integration `key` for the end user of `session`.
pub async fn read(
    context: &Context,
    session: &ConnectSession,
    key: &str,
) -> Result<ConnectForm, ConnectFormError> {
    let integration = integrations::get(context, session.environment_id, key)
        .await?
        .ok_or(ConnectFormError::UnknownIntegration)?;
    let allowed = session.spec.allowed_integrations.as_deref().unwrap_or_default();
    if !allowed.is_empty() && !allowed.contains(&integration.unique_key) {
        return Err(ConnectFormError::NotAllowed);
    }
    let provider = context
        .catalogue
        .get(integration.provider.as_str())
        .ok_or(ConnectFormError::UnknownProvider)?;
    let definition = &provider.definition;
    let defaults = session.spec.integrations_config_defaults.as_ref();
    let presets = defaults
        .and_then(|defaults| defaults.get(key))
        .and_then(|defaults| defaults.connection_config.as_ref());
    let docs_connect = session
        .spec
        .overrides
        .as_ref()
        .and_then(|overrides| overrides.get(key)?.docs_connect.as_deref());
    let form = derive(&integration, definition, presets, docs_connect);
    Ok(ConnectForm {
        invalid_presets: form.invalid_presets(),
        docs_url: docs_connect
            .or(definition.docs_connect.as_deref())
            .map(str::to_owned),
        external_id: presets
            .and_then(|presets| presets.get("external_id")?.as_str())
            .map(str::to_owned),
        form,
        integration,
        provider,
    })
}

/// The one form of an integration: what is drawn is also what a submission is checked against, so that what the server
/// says of a field names it as the end user saw it.
pub(crate) fn derive(
    integration: &Integration,
    definition: &Definition,
    presets: Option<&JsonMap>,
    docs_connect: Option<&str>,
) -> Form {
    let secrets = &integration.secrets;
    let (labels, preconfigured) = (labels(definition, secrets), preconfigured(definition, secrets));
    let context = FormContext {
        labels: labels.as_ref(),
        preconfigured: &preconfigured,
        presets,
        docs_connect,
    };
    Form::derive(definition, &context)
}

/// What the operator calls the API key (catalog-format §4.2).
fn labels(definition: &Definition, secrets: &IntegrationSecrets) -> Option<JsonMap> {
    let label = secrets.custom.get("keyLabel")?;
    let named = !definition.integration_config.is_empty() && !label.is_empty();
    named.then(|| JsonMap::from_iter([("apiKey".to_owned(), Value::from(label.expose()))]))
}

/// Names of the credentials that the operator entered once for everybody (TWO_STEP).
fn preconfigured(definition: &Definition, secrets: &IntegrationSecrets) -> Vec<String> {
    if definition.auth_mode != AuthMode::TwoStep {
        return Vec::new();
    }
    let is_set = |name: &str| secrets.custom.get(name).is_some_and(|value| !value.is_empty());
    let names = definition
        .integration_config
        .iter()
        .map(|field| field.name.clone());
    names.filter(|name| is_set(name)).collect()
}
