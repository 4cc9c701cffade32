//! What a provider looks like on the wire (api-core §7): the types behind the document. The texts themselves are
//! rendered from the catalogue, which keeps what a definition says beyond them.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;

/// A provider: its definition, name and logo. Keys its definition does not have are absent.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub(super) struct Provider {
    /// Its name, the key of the catalogue.
    name: String,
    /// Where its logo is.
    logo_url: String,
    /// Name for people.
    display_name: String,
    /// Tags of the picker.
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<String>>,
    /// How it authenticates.
    auth_mode: AuthModeName,
    /// Developer documentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<String>,
    /// Guide for whoever connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    docs_connect: Option<String>,
    /// How to register an app at the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_guide_url: Option<String>,
    /// Type of the stored credentials of INSTALL_PLUGIN.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_type: Option<String>,
    /// `outbound` if the app is installed from the provider's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    installation: Option<String>,
    /// How calls are made: base URL, headers, retries, pagination, verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<BTreeMap<String, Value>>,
    /// Authorization endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url: Option<String>,
    /// Its further parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_params: Option<BTreeMap<String, Value>>,
    /// Texts replaced in the final URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_replacements: Option<BTreeMap<String, Value>>,
    /// Fragment behind which the query goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_fragment: Option<String>,
    /// Parts entered without encoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_skip_encode: Option<Vec<String>>,
    /// Whether empty parameters are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_skip_empty: Option<bool>,
    /// Parameter of the callback that carries the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_code_param_in_callback: Option<String>,
    /// Where an installation webhook carries the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_code_param_in_webhook: Option<String>,
    /// Between scopes of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope_separator: Option<String>,
    /// Scopes of an integration that names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_scopes: Option<Vec<String>>,
    /// Scopes one may want.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_scopes: Option<Vec<String>>,
    /// Whether PKCE is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_pkce: Option<bool>,
    /// Where the client authenticates: `body` or `header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_method: Option<String>,
    /// Token endpoint of older NetSuite accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_url: Option<String>,
    /// Token endpoint, or one for each mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_url: Option<OneOrByMode>,
    /// Parts entered without encoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_url_skip_encode: Option<Vec<String>>,
    /// Parameters of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_params: Option<BTreeMap<String, Value>>,
    /// Refresh endpoint, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_url: Option<String>,
    /// Parameters of a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_params: Option<BTreeMap<String, Value>>,
    /// Encoding of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_format: Option<String>,
    /// How the client authenticates.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_request_auth_method: Option<String>,
    /// Seconds before the end at which a token is refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_expiration_buffer: Option<f64>,
    /// Unit of `expires_in`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_unit: Option<String>,
    /// Where the token is in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    alternate_access_token_response_path: Option<String>,
    /// Whether connections bring a client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    require_client_certificate: Option<bool>,
    /// Parts of the token answer that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_response_metadata: Option<Vec<String>>,
    /// Parameters of the callback that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_uri_metadata: Option<Vec<String>>,
    /// Parts of the installation webhook that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_response_metadata: Option<Vec<String>>,
    /// Temporary credentials endpoint of OAuth 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_url: Option<String>,
    /// Its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_params: Option<BTreeMap<String, Value>>,
    /// Its method.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_http_method: Option<String>,
    /// Method of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_http_method: Option<String>,
    /// OAuth 1 signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_method: Option<String>,
    /// A token Patchbay makes itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<BTreeMap<String, Value>>,
    /// Headers of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_headers: Option<BTreeMap<String, Value>>,
    /// Method of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_request_method: Option<String>,
    /// Where the token is in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_response: Option<BTreeMap<String, Value>>,
    /// Headers of the answer that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_response_headers: Option<Vec<String>>,
    /// Parameters of a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_params: Option<BTreeMap<String, Value>>,
    /// Headers of a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_headers: Option<BTreeMap<String, Value>>,
    /// Calls after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_steps: Option<Vec<BTreeMap<String, Value>>>,
    /// Life of a token whose answer names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_expires_in_ms: Option<f64>,
    /// Authorization header of calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_header_authorization: Option<String>,
    /// A signed statement for the token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    assertion: Option<BTreeMap<String, Value>>,
    /// Values used once and not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    assertion_option: Option<BTreeMap<String, FormField>>,
    /// How the token is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<BTreeMap<String, Value>>,
    /// How the client is registered: `dynamic`, `static` or `cimd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_registration: Option<String>,
    /// Dynamic registration endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_url: Option<String>,
    /// Its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_params: Option<BTreeMap<String, Value>>,
    /// The MCP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_server_url: Option<String>,
    /// Named router of incoming webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_routing_script: Option<String>,
    /// Whether the operator may set a webhook secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_user_defined_secret: Option<bool>,
    /// Parameters of the webhook URL the router sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_allowed_query_params: Option<Vec<String>>,
    /// Named step after a connection was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    post_connection_script: Option<String>,
    /// Named step before a connection is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_connection_deletion_script: Option<String>,
    /// Named check of credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_verification_script: Option<String>,
    /// Settings of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_config: Option<BTreeMap<String, FormField>>,
    /// Secrets of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<BTreeMap<String, FormField>>,
    /// Settings of an integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    integration_config: Option<BTreeMap<String, FormField>>,
    /// Names that post-connection steps fill.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_configuration: Option<Vec<String>>,
}

/// A definition as the catalogue has it, aliases resolved.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub(super) struct Definition {
    /// Name for people.
    display_name: String,
    /// Tags of the picker.
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<String>>,
    /// How it authenticates.
    auth_mode: AuthModeName,
    /// Developer documentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    docs: Option<String>,
    /// Guide for whoever connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    docs_connect: Option<String>,
    /// How to register an app at the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    setup_guide_url: Option<String>,
    /// Type of the stored credentials of INSTALL_PLUGIN.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_type: Option<String>,
    /// `outbound` if the app is installed from the provider's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    installation: Option<String>,
    /// How calls are made: base URL, headers, retries, pagination, verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<BTreeMap<String, Value>>,
    /// Authorization endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url: Option<String>,
    /// Its further parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_params: Option<BTreeMap<String, Value>>,
    /// Texts replaced in the final URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_replacements: Option<BTreeMap<String, Value>>,
    /// Fragment behind which the query goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_fragment: Option<String>,
    /// Parts entered without encoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_skip_encode: Option<Vec<String>>,
    /// Whether empty parameters are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_url_skip_empty: Option<bool>,
    /// Parameter of the callback that carries the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_code_param_in_callback: Option<String>,
    /// Where an installation webhook carries the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_code_param_in_webhook: Option<String>,
    /// Between scopes of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope_separator: Option<String>,
    /// Scopes of an integration that names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_scopes: Option<Vec<String>>,
    /// Scopes one may want.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_scopes: Option<Vec<String>>,
    /// Whether PKCE is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_pkce: Option<bool>,
    /// Where the client authenticates: `body` or `header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_method: Option<String>,
    /// Token endpoint of older NetSuite accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_url: Option<String>,
    /// Token endpoint, or one for each mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_url: Option<OneOrByMode>,
    /// Parts entered without encoding.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_url_skip_encode: Option<Vec<String>>,
    /// Parameters of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_params: Option<BTreeMap<String, Value>>,
    /// Refresh endpoint, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_url: Option<String>,
    /// Parameters of a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_params: Option<BTreeMap<String, Value>>,
    /// Encoding of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_format: Option<String>,
    /// How the client authenticates.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_request_auth_method: Option<String>,
    /// Seconds before the end at which a token is refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_expiration_buffer: Option<f64>,
    /// Unit of `expires_in`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_unit: Option<String>,
    /// Where the token is in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    alternate_access_token_response_path: Option<String>,
    /// Whether connections bring a client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    require_client_certificate: Option<bool>,
    /// Parts of the token answer that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_response_metadata: Option<Vec<String>>,
    /// Parameters of the callback that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_uri_metadata: Option<Vec<String>>,
    /// Parts of the installation webhook that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_response_metadata: Option<Vec<String>>,
    /// Temporary credentials endpoint of OAuth 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_url: Option<String>,
    /// Its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_params: Option<BTreeMap<String, Value>>,
    /// Its method.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_http_method: Option<String>,
    /// Method of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_http_method: Option<String>,
    /// OAuth 1 signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_method: Option<String>,
    /// A token Patchbay makes itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<BTreeMap<String, Value>>,
    /// Headers of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_headers: Option<BTreeMap<String, Value>>,
    /// Method of the token request.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_request_method: Option<String>,
    /// Where the token is in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_response: Option<BTreeMap<String, Value>>,
    /// Headers of the answer that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_response_headers: Option<Vec<String>>,
    /// Parameters of a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_params: Option<BTreeMap<String, Value>>,
    /// Headers of a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_headers: Option<BTreeMap<String, Value>>,
    /// Calls after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_steps: Option<Vec<BTreeMap<String, Value>>>,
    /// Life of a token whose answer names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_expires_in_ms: Option<f64>,
    /// Authorization header of calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_header_authorization: Option<String>,
    /// A signed statement for the token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    assertion: Option<BTreeMap<String, Value>>,
    /// Values used once and not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    assertion_option: Option<BTreeMap<String, FormField>>,
    /// How the token is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<BTreeMap<String, Value>>,
    /// How the client is registered: `dynamic`, `static` or `cimd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_registration: Option<String>,
    /// Dynamic registration endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_url: Option<String>,
    /// Its parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration_params: Option<BTreeMap<String, Value>>,
    /// The MCP server.
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_server_url: Option<String>,
    /// Named router of incoming webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_routing_script: Option<String>,
    /// Whether the operator may set a webhook secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_user_defined_secret: Option<bool>,
    /// Parameters of the webhook URL the router sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook_allowed_query_params: Option<Vec<String>>,
    /// Named step after a connection was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    post_connection_script: Option<String>,
    /// Named step before a connection is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pre_connection_deletion_script: Option<String>,
    /// Named check of credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials_verification_script: Option<String>,
    /// Settings of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_config: Option<BTreeMap<String, FormField>>,
    /// Secrets of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<BTreeMap<String, FormField>>,
    /// Settings of an integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    integration_config: Option<BTreeMap<String, FormField>>,
    /// Names that post-connection steps fill.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_configuration: Option<Vec<String>>,
}

/// A form field.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = true))]
pub(super) struct FormField {
    /// `string`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Label.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// Help.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Shown in an empty input.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<String>,
    /// What the value must match (ECMAScript).
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    /// Whether it may stay empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    optional: Option<bool>,
    /// `hostname`, `uri`, `uuid` or `email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    /// Position.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<f64>,
    /// Whether it is submitted but not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<bool>,
    /// Whether it is masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
    /// Whether Patchbay fills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    automated: Option<bool>,
    /// Values to choose from.
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    choices: Option<Vec<String>>,
}

/// A function template.
#[derive(Serialize, JsonSchema)]
pub(super) struct TemplateFunction {
    name: String,
    /// `sync` or `action`.
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    returns: Vec<String>,
    json_schema: Option<BTreeMap<String, Value>>,
    /// Syncs: how often it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_start: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    track_deletes: Option<bool>,
}

/// A URL, or a URL for each auth mode.
#[derive(Serialize)]
pub(super) struct OneOrByMode(Value);

impl JsonSchema for OneOrByMode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "UrlOrUrlByAuthMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ]})
    }
}

/// The name of an auth mode.
#[derive(Serialize)]
pub(super) struct AuthModeName(String);

impl JsonSchema for AuthModeName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AuthMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = patchbay_types::AuthMode::ALL
            .iter()
            .map(|mode| mode.as_str())
            .collect();
        schemars::json_schema!({"type": "string", "enum": names})
    }
}
