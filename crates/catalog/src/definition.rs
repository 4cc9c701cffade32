//! A provider's definition, typed (catalog-format §2).
//!
//! Field names are those of the format. Absent lists and maps are empty, absent switches off; defaults that the
//! format states are filled in where a field's type is not optional.

mod condition;
mod expect;
mod fields;
mod proxy;
mod reader;
mod steps;
mod token_client;
mod tokens;

use patchbay_types::{AuthMode, JsonMap};

use crate::finding::Severity;
use crate::template::{NamedTemplate, Template, TemplateMap};

pub(crate) use condition::path_of as condition_path;
pub use condition::{Condition, Test};
pub use expect::{Expect, JsonKind};
pub use fields::{Field, Fields, Format, Pattern, VisibleWhen};
pub use proxy::{
    ErrorCode, HttpVersion, LinkSource, OffsetCalculation, Pagination, PaginationKind, Proxy, Retry,
    RetryInBody, RetryStrategy, TlsVersions, Verification,
};
pub(crate) use reader::{Note, Reader, Step, Target, dotted};
pub use steps::{Choice, Otherwise, ProviderStep, StepRequest};
pub(crate) use steps::{filled as filled_by_steps, path_of as step_path};
pub use token_client::{
    ClientAssertion, ExtraToken, ExtraTokenPlace, FollowUp, Introspection, KeepRefreshToken, RefreshWith,
    Success, TokenAnswer, TokenCall, TokenClient,
};
pub use tokens::{
    Assertion, AssertionKind, ExpirationStrategy, HmacEncoding, Signature, SignatureProtocol, TokenResponse,
    TokenStep, TokenTemplate, TokenUrl,
};

/// One entry of the catalogue, aliases resolved.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the format has as many independent switches"
)]
pub struct Definition {
    // --- descriptive ---
    /// Default name of an integration.
    pub display_name: String,
    /// Tags of the picker.
    pub categories: Vec<String>,
    /// Developer documentation.
    pub docs: Option<String>,
    /// End-user guide; a field's `doc_section` is appended.
    pub docs_connect: Option<String>,
    /// How to register an app at the provider.
    pub setup_guide_url: Option<String>,
    /// How it authenticates.
    pub auth_mode: AuthMode,
    /// Stored credential type of INSTALL_PLUGIN.
    pub auth_type: Option<AuthMode>,
    /// `installation: outbound`: an OAuth 2 app installed from the provider's side.
    pub is_outbound_installation: bool,

    // --- authorization request ---
    /// Authorization endpoint.
    pub authorization_url: Option<Template>,
    /// Additional query parameters.
    pub authorization_params: TemplateMap,
    /// `scopes` and `base_url`: parts entered without percent-encoding.
    pub authorization_url_skip_encode: Vec<String>,
    /// Drop empty query parameters.
    pub authorization_url_skip_empty: bool,
    /// The query goes behind this fragment.
    pub authorization_url_fragment: Option<String>,
    /// First textual occurrence of each is replaced in the final URL.
    pub authorization_url_replacements: Vec<(String, String)>,
    /// Query parameter of the callback that carries the code; default `code`.
    pub authorization_code_param_in_callback: String,
    /// Dotted path of the code in an installation webhook; default `code`.
    pub authorization_code_param_in_webhook: String,
    /// Query parameters of the callback that are copied to `connection_config`.
    pub redirect_uri_metadata: Vec<String>,
    /// PKCE (RFC 7636) is sent unless this is set.
    pub disable_pkce: bool,
    /// Between scopes in the request; default one space.
    pub scope_separator: String,
    /// Scopes of an integration that names none.
    pub default_scopes: Vec<String>,
    /// Suggestions for the operator, never enforced.
    pub available_scopes: Vec<String>,

    // --- OAuth 1 ---
    /// Temporary credentials endpoint.
    pub request_url: Option<Template>,
    /// Parameters of that request.
    pub request_params: TemplateMap,
    /// Its method; default POST.
    pub request_http_method: String,
    /// Method of the token request; default POST.
    pub token_http_method: String,
    /// `HMAC-SHA1` (default), `RSA-SHA1` or `PLAINTEXT`.
    pub signature_method: SignatureMethod,
    /// Legacy NetSuite token endpoint.
    pub access_token_url: Option<Template>,

    // --- token request ---
    /// Token endpoint.
    pub token_url: Option<TokenUrl>,
    /// `base_url`: its values are entered without percent-encoding.
    pub token_url_skip_encode: Vec<String>,
    /// Body parameters.
    pub token_params: TemplateMap,
    /// Headers, TWO_STEP only.
    pub token_headers: Vec<NamedTemplate>,
    /// Method, TWO_STEP only; default POST.
    pub token_request_method: String,
    /// How the client authenticates beside body parameters.
    pub token_request_auth_method: Option<TokenAuthMethod>,
    /// Strict Basic authentication, nothing in the body (OAUTH2).
    pub authorization_method: AuthorizationMethod,
    /// Encoding of the body; see [`Definition::body_format`] for defaults by mode.
    pub body_format: Option<BodyFormat>,
    /// Offer fields for a client certificate and use it on every call.
    pub require_client_certificate: bool,
    /// Dotted path of the token in an answer that does not have it at the top.
    pub alternate_access_token_response_path: Option<String>,
    /// Dotted paths of the answer that are copied to `connection_config`.
    pub token_response_metadata: Vec<String>,
    /// The same of an installation webhook.
    pub webhook_response_metadata: Vec<String>,
    /// `expires_in` counts milliseconds.
    pub expires_in_milliseconds: bool,
    /// Refresh this many seconds before the end; the format's default is 900.
    pub token_expiration_buffer: Option<u64>,
    /// Refresh at least this often, in hours, whether anybody needs it or not: for providers whose refresh tokens die
    /// of disuse. Patchbay's own.
    pub refresh_every_hours: Option<u64>,
    /// Credentials that the provider takes only in the URL, where they end up in logs: said once, on purpose.
    /// Patchbay's own.
    pub secrets_in_url: Vec<String>,
    /// Refresh endpoint, if not the token endpoint.
    pub refresh_url: Option<Template>,
    /// Body of a refresh.
    pub refresh_params: TemplateMap,
    /// What the token endpoint does in its own way (Patchbay's extension).
    pub token_client: Option<Box<TokenClient>>,

    // --- TWO_STEP, JWT, SIGNATURE ---
    /// Where the token is in the answer.
    pub token_response: Option<TokenResponse>,
    /// Headers of the answer that are kept in the credentials.
    pub token_response_headers: Vec<String>,
    /// Life of a token whose answer names none; 0 never ends.
    pub token_expires_in_ms: Option<u64>,
    /// Body of a refresh.
    pub refresh_token_params: TemplateMap,
    /// Headers of a refresh.
    pub refresh_token_headers: Vec<NamedTemplate>,
    /// Calls after the first.
    pub additional_steps: Vec<TokenStep>,
    /// A token we make ourselves.
    pub token: Option<TokenTemplate>,
    /// How it is signed.
    pub signature: Option<Signature>,
    /// A signed statement sent to the token endpoint.
    pub assertion: Option<Assertion>,

    // --- MCP ---
    /// How the client is registered.
    pub client_registration: Option<ClientRegistration>,
    /// Dynamic registration endpoint (RFC 7591).
    pub registration_url: Option<String>,
    /// Its parameters.
    pub registration_params: JsonMap,
    /// Fixed endpoint of MCP_OAUTH2_GENERIC.
    pub mcp_server_url: Option<String>,

    // --- forms ---
    /// Settings of a connection.
    pub connection_config: Fields,
    /// Secrets of a connection.
    pub credentials: Fields,
    /// Settings of an integration, filled by the operator.
    pub integration_config: Fields,
    /// Values used once, never stored.
    pub assertion_option: Fields,
    /// Names that post-connection steps fill: a hint.
    pub connection_configuration: Vec<String>,

    // --- webhooks and scripts ---
    /// Named router of incoming webhooks.
    pub webhook_routing_script: Option<String>,
    /// The operator may set a webhook secret.
    pub webhook_user_defined_secret: bool,
    /// Query parameters of the incoming URL that the router sees.
    pub webhook_allowed_query_params: Vec<String>,
    /// Named step after a connection was made.
    pub post_connection_script: Option<String>,
    /// Named check of credentials.
    pub credentials_verification_script: Option<String>,
    /// Named step before a connection is deleted.
    pub pre_connection_deletion_script: Option<String>,

    /// What is asked of the provider after connecting (Patchbay's extension).
    pub post_connection: Vec<ProviderStep>,
    /// What it is told before a connection is deleted (Patchbay's extension).
    pub revoke: Vec<ProviderStep>,

    // --- calls ---
    /// How calls are made.
    pub proxy: Proxy,

    /// Patchbay's `webhook` as written.
    pub extensions: JsonMap,
}

/// `signature_method` of OAUTH1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureMethod {
    /// RFC 5849 §3.4.2.
    #[default]
    HmacSha1,
    /// RFC 5849 §3.4.3; the client secret is the private key in PEM.
    RsaSha1,
    /// RFC 5849 §3.4.4.
    Plaintext,
}

/// `token_request_auth_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAuthMethod {
    /// `Authorization: Basic`.
    Basic,
    /// `username` and `password` as parameters.
    Custom,
    /// A signed assertion (RFC 7523).
    PrivateKeyJwt,
}

/// `authorization_method` of OAUTH2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthorizationMethod {
    /// Client id and secret are parameters.
    #[default]
    Body,
    /// They are in `Authorization` only.
    Header,
}

/// `body_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
    /// Parameters in the URL, OAUTH2_CC only.
    Query,
    /// An element tree, TWO_STEP only.
    Xml,
}

/// `client_registration` of MCP_OAUTH2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRegistration {
    /// RFC 7591 at connect time.
    Dynamic,
    /// The operator registered it.
    Static,
    /// A client id metadata document.
    Cimd,
}

/// Seconds before the end of a token at which it is refreshed, unless the definition says otherwise.
pub const DEFAULT_EXPIRATION_BUFFER_S: u64 = 900;

impl Definition {
    /// The token endpoint of `mode`; entries with one endpoint have it for every mode.
    pub fn token_url(&self, mode: AuthMode) -> Option<&Template> {
        match self.token_url.as_ref()? {
            TokenUrl::One(template) => Some(template),
            TokenUrl::ByMode(templates) => templates
                .iter()
                .find(|(name, _)| *name == mode)
                .map(|(_, template)| template),
        }
    }

    /// Encoding of token requests: as stated, else JSON for TWO_STEP and a form for all others.
    pub fn body_format(&self) -> BodyFormat {
        let default = if self.auth_mode == AuthMode::TwoStep {
            BodyFormat::Json
        } else {
            BodyFormat::Form
        };
        self.body_format.unwrap_or(default)
    }

    /// Seconds before the end at which a token is refreshed.
    pub fn expiration_buffer_s(&self) -> u64 {
        self.token_expiration_buffer
            .unwrap_or(DEFAULT_EXPIRATION_BUFFER_S)
    }

    /// The authorization URL takes its values without percent-encoding.
    pub fn authorization_url_takes_raw_values(&self) -> bool {
        self.authorization_url_skip_encode
            .iter()
            .any(|part| part == "base_url")
    }

    /// The authorization URL takes scopes without percent-encoding.
    pub fn authorization_url_takes_raw_scopes(&self) -> bool {
        self.authorization_url_skip_encode
            .iter()
            .any(|part| part == "scopes")
    }

    /// The token URL takes its values without percent-encoding.
    pub fn token_url_takes_raw_values(&self) -> bool {
        self.token_url_skip_encode.iter().any(|part| part == "base_url")
    }

    /// Whether the operator enters a key's placement (`integration_config` of a generic API, proxy §4.1).
    pub fn has_integration_config(&self) -> bool {
        !self.integration_config.is_empty()
    }

    /// Reads an entry whose alias has been resolved. Notes say what does not fit; none is returned if what is
    /// missing makes the entry meaningless.
    pub(crate) fn read(object: &JsonMap, notes: &mut Vec<Note>) -> Option<Self> {
        let reader = &mut Reader::new(object, notes);
        let definition = read(reader);
        reader.finish();
        definition
    }
}

fn read(reader: &mut Reader<'_>) -> Option<Definition> {
    let plain = Template::parse;
    let fallback = Template::parse_with_fallback;
    let display_name = reader.text("display_name").unwrap_or_default();
    if display_name.trim().is_empty() {
        reader.note(
            Severity::Error,
            "missing-key",
            Vec::new(),
            Target::Key,
            "`display_name` is missing: the name people see".to_owned(),
            None,
        );
    }
    let auth_mode = auth_mode(reader);
    // A token's parameters of these modes carry secrets that may contain `||` (catalog-format §6.3).
    let token_syntax = if auth_mode == Some(AuthMode::TwoStep) {
        plain
    } else {
        fallback
    };
    let definition = Definition {
        display_name,
        categories: reader.texts("categories"),
        docs: reader.text("docs"),
        docs_connect: reader.text("docs_connect"),
        setup_guide_url: reader.text("setup_guide_url"),
        auth_mode: auth_mode.unwrap_or(AuthMode::None),
        auth_type: reader.choice(
            "auth_type",
            &[("BASIC", AuthMode::Basic), ("API_KEY", AuthMode::ApiKey)],
        ),
        is_outbound_installation: reader
            .choice("installation", &[("outbound", true)])
            .unwrap_or(false),

        authorization_url: reader.template("authorization_url", fallback),
        authorization_params: reader.tree("authorization_params", fallback),
        authorization_url_skip_encode: skip_encode(reader, "authorization_url_skip_encode"),
        authorization_url_skip_empty: reader.flag("authorization_url_skip_empty"),
        authorization_url_fragment: reader.text("authorization_url_fragment"),
        authorization_url_replacements: reader.pairs("authorization_url_replacements"),
        authorization_code_param_in_callback: word(reader, "authorization_code_param_in_callback", "code"),
        authorization_code_param_in_webhook: word(reader, "authorization_code_param_in_webhook", "code"),
        redirect_uri_metadata: reader.texts("redirect_uri_metadata"),
        disable_pkce: reader.flag("disable_pkce"),
        scope_separator: word(reader, "scope_separator", " "),
        default_scopes: reader.texts("default_scopes"),
        available_scopes: reader.texts("available_scopes"),

        request_url: reader.template("request_url", fallback),
        request_params: reader.tree("request_params", fallback),
        request_http_method: method(reader, "request_http_method", "POST"),
        token_http_method: method(reader, "token_http_method", "POST"),
        signature_method: reader
            .choice(
                "signature_method",
                &[
                    ("HMAC-SHA1", SignatureMethod::HmacSha1),
                    ("RSA-SHA1", SignatureMethod::RsaSha1),
                    ("PLAINTEXT", SignatureMethod::Plaintext),
                ],
            )
            .unwrap_or_default(),
        access_token_url: reader.template("access_token_url", fallback),

        token_url: tokens::token_url(reader),
        token_url_skip_encode: skip_encode(reader, "token_url_skip_encode"),
        token_params: reader.tree("token_params", token_syntax),
        token_headers: reader.headers("token_headers", plain),
        token_request_method: method(reader, "token_request_method", "POST"),
        token_request_auth_method: reader.choice(
            "token_request_auth_method",
            &[
                ("basic", TokenAuthMethod::Basic),
                ("custom", TokenAuthMethod::Custom),
                ("private_key_jwt", TokenAuthMethod::PrivateKeyJwt),
            ],
        ),
        authorization_method: reader
            .choice(
                "authorization_method",
                &[
                    ("body", AuthorizationMethod::Body),
                    ("header", AuthorizationMethod::Header),
                ],
            )
            .unwrap_or_default(),
        body_format: body_format(reader),
        require_client_certificate: reader.flag("require_client_certificate"),
        alternate_access_token_response_path: reader.text("alternate_access_token_response_path"),
        token_response_metadata: reader.texts("token_response_metadata"),
        webhook_response_metadata: reader.texts("webhook_response_metadata"),
        expires_in_milliseconds: reader
            .choice("expires_in_unit", &[("milliseconds", true), ("seconds", false)])
            .unwrap_or(false),
        token_expiration_buffer: reader.count("token_expiration_buffer"),
        refresh_every_hours: reader.count("refresh_every_hours"),
        secrets_in_url: reader.texts("secrets_in_url"),
        refresh_url: reader.template("refresh_url", fallback),
        refresh_params: reader.tree("refresh_params", fallback),
        token_client: reader.section("token_client", token_client::read).map(Box::new),

        token_response: tokens::token_response(reader),
        token_response_headers: reader.texts("token_response_headers"),
        token_expires_in_ms: reader.count("token_expires_in_ms"),
        refresh_token_params: reader.tree("refresh_token_params", plain),
        refresh_token_headers: reader.headers("refresh_token_headers", plain),
        additional_steps: reader.sections("additional_steps", tokens::step),
        token: reader.section("token", tokens::token),
        signature: reader.section("signature", tokens::signature),
        assertion: reader.section("assertion", tokens::assertion),

        client_registration: reader.choice(
            "client_registration",
            &[
                ("dynamic", ClientRegistration::Dynamic),
                ("static", ClientRegistration::Static),
                ("cimd", ClientRegistration::Cimd),
            ],
        ),
        registration_url: reader.text("registration_url"),
        registration_params: reader.mapping("registration_params").cloned().unwrap_or_default(),
        mcp_server_url: reader.text("mcp_server_url"),

        connection_config: fields::read(reader, "connection_config"),
        credentials: fields::read(reader, "credentials"),
        integration_config: fields::read(reader, "integration_config"),
        assertion_option: fields::read(reader, "assertion_option"),
        connection_configuration: reader.texts("connection_configuration"),

        webhook_routing_script: script(reader, "webhook_routing_script"),
        webhook_user_defined_secret: reader.flag("webhook_user_defined_secret"),
        webhook_allowed_query_params: reader.texts("webhook_allowed_query_params"),
        post_connection_script: script(reader, "post_connection_script"),
        // `verification: null` says that there is no check, whatever script is named beside it.
        credentials_verification_script: script(reader, "credentials_verification_script")
            .filter(|_| !proxy::is_unverified(reader)),
        pre_connection_deletion_script: script(reader, "pre_connection_deletion_script"),

        post_connection: steps::read(reader, "post_connection"),
        revoke: steps::read(reader, "revoke"),

        proxy: reader.section("proxy", proxy::read).unwrap_or_default(),
        extensions: extensions(reader),
    };
    reader.ignore(&[
        "alias",
        "auth",
        "decode_url",
        "refresh_token_response_metadata",
        "proxy_header_authorization",
        "pre_connection_creation_script",
        "authorization_url_encoded",
        "token_url_encoded",
    ]);
    (auth_mode.is_some() && !definition.display_name.trim().is_empty()).then_some(definition)
}

fn auth_mode(reader: &mut Reader<'_>) -> Option<AuthMode> {
    let Some(name) = reader.text("auth_mode") else {
        if !reader.has("auth_mode") {
            let message = "`auth_mode` is missing: how the provider authenticates".to_owned();
            reader.note(
                Severity::Error,
                "missing-key",
                Vec::new(),
                Target::Key,
                message,
                None,
            );
        }
        return None;
    };
    if let Some(mode) = AuthMode::parse(&name) {
        return Some(mode);
    }
    let path = reader.key("auth_mode");
    if matches!(name.as_str(), "APP_STORE" | "TABLEAU") {
        let message = format!("`{name}` is a retired mode that nothing implements");
        reader.note(
            Severity::Error,
            "retired",
            path,
            Target::Value(0),
            message,
            Some("JWT".to_owned()),
        );
        return None;
    }
    let names = AuthMode::ALL.iter().map(|mode| mode.as_str());
    let nearest = crate::suggest::nearest(&name, names.clone()).map(str::to_owned);
    let message = format!(
        "`{name}` is no auth mode; there are {}",
        names.collect::<Vec<_>>().join(", ")
    );
    reader.note(
        Severity::Error,
        "auth-mode",
        path,
        Target::Value(0),
        message,
        nearest,
    );
    None
}

fn body_format(reader: &mut Reader<'_>) -> Option<BodyFormat> {
    reader.choice(
        "body_format",
        &[
            ("form", BodyFormat::Form),
            ("json", BodyFormat::Json),
            ("query", BodyFormat::Query),
            ("xml", BodyFormat::Xml),
        ],
    )
}

fn word(reader: &mut Reader<'_>, key: &'static str, default: &str) -> String {
    reader
        .text(key)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| default.to_owned())
}

/// An HTTP method, upper case.
fn method(reader: &mut Reader<'_>, key: &'static str, default: &str) -> String {
    const METHODS: [&str; 8] = [
        "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "PROPFIND", "REPORT",
    ];
    let Some(text) = reader.text(key) else {
        return default.to_owned();
    };
    let upper = text.to_ascii_uppercase();
    if !METHODS.contains(&upper.as_str()) {
        let nearest = crate::suggest::nearest(&upper, METHODS).map(str::to_owned);
        let path = reader.key(key);
        let message = format!("`{text}` is no HTTP method");
        reader.note(
            Severity::Error,
            "invalid-value",
            path,
            Target::Value(0),
            message,
            nearest,
        );
    }
    upper
}

/// A script's name; an empty one means none, so that an alias can drop its target's.
fn script(reader: &mut Reader<'_>, key: &'static str) -> Option<String> {
    reader.text(key).filter(|name| !name.is_empty())
}

fn skip_encode(reader: &mut Reader<'_>, key: &'static str) -> Vec<String> {
    let parts = reader.texts(key);
    for part in &parts {
        if !matches!(part.as_str(), "scopes" | "base_url") {
            let path = reader.key(key);
            let message = format!("`{part}` is not one of scopes, base_url");
            let nearest = crate::suggest::nearest(part, ["scopes", "base_url"]).map(str::to_owned);
            reader.note(
                Severity::Error,
                "invalid-value",
                path,
                Target::Value(0),
                message,
                nearest,
            );
        }
    }
    parts
}

fn extensions(reader: &mut Reader<'_>) -> JsonMap {
    let webhook = reader.raw("webhook").cloned();
    webhook
        .map(|webhook| ("webhook".to_owned(), webhook))
        .into_iter()
        .collect()
}
