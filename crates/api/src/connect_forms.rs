//! `GET /connect/form/:integration`: the derived form, for our own Connect UI and for every other page that draws one
//! (connect-ui §11, §19).

use std::sync::Arc;

use http::StatusCode;
use patchbay_auth::modes::{self, Entry};
use patchbay_catalog::forms::{FieldError, Form, FormField};
use patchbay_connections::Context;
use patchbay_connections::admission::Refusal;
use patchbay_connections::connect_forms::{self, ConnectForm, ConnectFormError};
use patchbay_types::AuthMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::authenticate::Auth;
use crate::authorize_forms::refusal_error;
use crate::codes;
use crate::connections::integration_key;
use crate::error::ApiError;
use crate::providers::logo_url;
use crate::reply::Reply;
use crate::route::{Call, Endpoint, Route};
use crate::schema::object;

/// The route.
pub fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    vec![
        Route::get("/connect/form/{integration}")
            .tag("connect")
            .summary("Read the form an end user fills in to connect an integration")
            .auth(Auth::Session)
            .params::<ByIntegration>(object().field("integration", integration_key()))
            .empty_body()
            .responds::<FormData>(200)
            .errors(&[
                &codes::INTEGRATION_NOT_ALLOWED,
                &codes::UNKNOWN_PROVIDER_CONFIG,
                &codes::UNKNOWN_PROVIDER_TEMPLATE,
            ])
            .handler(context, read),
    ]
}

#[derive(Debug, Deserialize)]
struct ByIntegration {
    integration: String,
}

#[derive(Serialize, JsonSchema)]
struct FormData {
    data: Shown,
}

/// A form: what to ask the end user, and where the answers go.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConnectForm")]
struct Shown {
    unique_key: String,
    provider: String,
    display_name: String,
    logo: String,
    auth_mode: String,
    /// `popup`: open `path` in a window. `form`: post the credentials to `path`.
    via: &'static str,
    /// With the integration's key, below the API's URL.
    path: String,
    /// The end user installs the app at the provider, whose webhook completes the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    installation: Option<&'static str>,
    /// Whether the connection exists and is authorized again.
    is_reconnecting: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    docs_url: Option<String>,
    /// AWS: the external id to show and to send as `params[external_id]`; absent: make one up.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// Visible fields in their order. What the session presets and what the definition hides is filled in by the
    /// server.
    #[schemars(with = "Vec<serde_json::Value>")]
    fields: Vec<FormField>,
    /// Labels of fields that the session presets with a value the provider's rules refuse.
    invalid_presets: Vec<String>,
}

async fn read(context: Arc<Context>, call: Call<ByIntegration>) -> Result<Reply, ApiError> {
    let session = call.principal()?.session();
    let session = session.ok_or_else(|| ApiError::unexpected("the route takes session tokens only"))?;
    let found = connect_forms::read(&context, session, &call.params.integration).await;
    let found = found.map_err(refused)?;
    let is_reconnecting = session.connection.is_some();
    Reply::json(&FormData {
        data: shown(&context, found, is_reconnecting),
    })
}

fn shown(context: &Context, found: ConnectForm, is_reconnecting: bool) -> Shown {
    let definition = &found.provider.definition;
    let mode = modes::mode(definition.auth_mode);
    let outbound = definition.auth_mode == AuthMode::OAuth2 && definition.is_outbound_installation;
    let (via, route) = match mode.entry {
        _ if outbound => ("form", "/auth/oauth-outbound"),
        Entry::Popup => ("popup", "/oauth/connect"),
        Entry::Form(path) => ("form", path),
    };
    let own_name = found.integration.display_name.as_deref();
    Shown {
        unique_key: found.integration.unique_key.to_string(),
        provider: found.integration.provider.to_string(),
        display_name: own_name.unwrap_or(&definition.display_name).to_owned(),
        logo: logo_url(context, found.integration.provider.as_str()),
        auth_mode: definition.auth_mode.as_str().to_owned(),
        via,
        path: format!("{route}/{}", found.integration.unique_key),
        installation: outbound.then_some("outbound"),
        is_reconnecting,
        docs_url: found.docs_url,
        external_id: found.external_id,
        fields: fields(&found.form),
        invalid_presets: found.invalid_presets.iter().map(label).collect(),
    }
}

/// The visible fields, `required` only if they may not be left empty.
fn fields(form: &Form) -> Vec<FormField> {
    let visible = form.fields.iter().filter(|field| !field.hidden);
    let asked = visible.map(|field| {
        let mut field = field.clone();
        field.required = !field.may_be_empty();
        field
    });
    asked.collect()
}

fn label(error: &FieldError) -> String {
    error.label.clone()
}

fn refused(error: ConnectFormError) -> ApiError {
    let refusal = match error {
        ConnectFormError::UnknownIntegration => Refusal::UnknownIntegration,
        ConnectFormError::UnknownProvider => Refusal::UnknownProvider,
        ConnectFormError::NotAllowed => Refusal::NotAllowed,
        ConnectFormError::Store(error) => Refusal::Store(error),
    };
    refusal_error(refusal, StatusCode::NOT_FOUND)
}
