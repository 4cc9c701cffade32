//! Forms of the authorization flow: credentials typed by an end user, posted by their browser (auth-flows §2 to §4,
//! §15, §16, §25.2). The popup's half is pages and belongs to the `web` room; what both halves read from the
//! query is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use patchbay_auth::driver::ObtainError;
use patchbay_auth::forms::{self, FormError};
use patchbay_catalog::forms::{FieldError, Group};
use patchbay_connections::Context;
use patchbay_connections::admission::{Refusal, Wish};
use patchbay_connections::connections::ConnectionError;
use patchbay_connections::outbound_installations;
use patchbay_connections::submissions::{self, SubmitError};
use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::{JsonMap, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::authenticate::{Auth, Principal};
use crate::body::{BodyMode, Payload};
use crate::codes::{self, Code};
use crate::error::{ApiError, Layer};
use crate::reply::Reply;
use crate::route::{Call, Empty, Endpoint, Route};
use crate::schema::{Issue, Object, Schema, SchemaExt, anything, object, patterns, string};

/// The routes: forms this build serves, and those it refuses with words.
pub fn routes(context: &Arc<Context>) -> Vec<Endpoint> {
    use submissions::Endpoint as Form;
    let fields = |names: &[&'static str]| -> Option<Schema> {
        let all = names
            .iter()
            .fold(object().loose(), |all, name| all.field(name, string().optional()));
        Some(all.into())
    };
    vec![
        served(
            context,
            "/oauth2/auth/{providerConfigKey}",
            "Connect with an OAuth client of the end user's own",
            Form::ClientCredentials,
            fields(&[
                "client_id",
                "client_secret",
                "client_certificate",
                "client_private_key",
            ]),
        ),
        served(
            context,
            "/api-auth/api-key/{providerConfigKey}",
            "Connect with an API key",
            Form::ApiKey,
            fields(&["apiKey"]),
        ),
        served(
            context,
            "/api-auth/basic/{providerConfigKey}",
            "Connect with a user name and a password",
            Form::Basic,
            fields(&["username", "password"]),
        ),
        served(
            context,
            "/auth/unauthenticated/{providerConfigKey}",
            "Connect to a provider that asks for nothing",
            Form::Unauthenticated,
            None,
        ),
        served(
            context,
            "/auth/jwt/{providerConfigKey}",
            "Connect with a key that signs tokens",
            Form::Jwt,
            fields(&["type"]),
        ),
        served(
            context,
            "/auth/signature/{providerConfigKey}",
            "Connect with a user name and a secret that sign each request",
            Form::Signature,
            fields(&["type", "username", "password"]),
        ),
        served(
            context,
            "/auth/bill/{providerConfigKey}",
            "Connect with a login to BILL",
            Form::Bill,
            fields(&["username", "password", "organization_id", "dev_key"]),
        ),
        served(
            context,
            "/auth/tba/{providerConfigKey}",
            "Connect with a token of NetSuite's token-based authentication",
            Form::Tba,
            fields(&[
                "token_id",
                "token_secret",
                "oauth_client_id_override",
                "oauth_client_secret_override",
            ]),
        ),
        served(
            context,
            "/auth/two-step/{providerConfigKey}",
            "Connect with fields that are exchanged for a token",
            Form::TwoStep,
            Some(
                object()
                    .loose()
                    .field("type", string().optional())
                    .field("assertionOption", object().loose().optional())
                    .into(),
            ),
        ),
        served(
            context,
            "/auth/aws-sigv4/{providerConfigKey}",
            "Connect with an AWS role that is assumed",
            Form::AwsSigV4,
            fields(&["role_arn", "region"]),
        ),
        Route::post("/auth/oauth-outbound/{providerConfigKey}")
            .tag("authorization")
            .summary("Prepare a connection for an app that is installed from the provider's side")
            .auth(Auth::Query)
            .params::<ByKey>(by_key())
            .query::<JsonMap>(browser_query())
            .payload(BodyMode::Bytes, None)
            .responds::<Connected>(200)
            .errors(&REFUSALS)
            .handler(context, outbound),
    ]
}

/// The integration, by its key.
#[derive(Debug, Deserialize)]
pub struct ByKey {
    /// `providerConfigKey`.
    #[serde(rename = "providerConfigKey")]
    pub key: String,
}

/// Query parameters of every authorization route. Nothing in it is refused by its type: unknown ones and odd ones
/// are ignored, as old clients expect.
pub fn browser_query() -> Object {
    object()
        .field(
            "connect_session_token",
            anything().describe("Token of the connect session"),
        )
        .field(
            "params",
            anything().describe("Connection parameters, texts: `params[subdomain]=acme`"),
        )
        .field(
            "authorization_params",
            anything().describe("Further parameters of the authorization page, texts"),
        )
        .field(
            "connection_id",
            anything().describe("Refused together with a session token"),
        )
        .loose()
}

/// What the query of an authorization route wishes for the integration `key`.
pub fn wish(key: &str, query: &JsonMap) -> Wish {
    let mut client_override: BTreeMap<String, Secret> = BTreeMap::new();
    for (name, value) in texts(query, "credentials") {
        if OVERRIDES.contains(&name.as_str()) && !value.is_empty() {
            client_override.insert(name, Secret::new(value));
        }
    }
    Wish {
        provider_config_key: key.to_owned(),
        params: texts(query, "params"),
        authorization_params: texts(query, "authorization_params"),
        client_override,
        credentials: JsonMap::new(),
        assertion_option: JsonMap::new(),
    }
}

const OVERRIDES: [&str; 3] = [
    "oauth_client_id_override",
    "oauth_client_secret_override",
    "oauth_refresh_token_override",
];

/// The session of an authorization route's caller, once the rules are kept that need no look-up: the form of the
/// integration's key, and no `connection_id` of the browser's own choice.
pub fn session_for(principal: &Principal, key: &str, query: &JsonMap) -> Result<ConnectSession, ApiError> {
    let given = serde_json::json!({ "providerConfigKey": key });
    let checked = by_key().parse::<ByKey>(Some(given));
    checked.map_err(|error| ApiError::from_parse(Layer::Params, error))?;
    let Some(session) = principal.session() else {
        return Err(ApiError::new(&codes::DEPRECATED_AUTHENTICATION)
            .message("Public keys are switched off: use a connect session"));
    };
    if query.contains_key("connection_id") {
        let message = "A connect session decides the connection itself: leave connection_id out";
        let issue = Issue::custom(&["connection_id"], message);
        return Err(ApiError::invalid(Layer::Query, vec![issue]));
    }
    Ok(ConnectSession::clone(session))
}

fn by_key() -> Schema {
    let key = string().min(1).max(255).pattern(patterns::INTEGRATION_KEY);
    object().field("providerConfigKey", key).into()
}

/// The texts of `query[name]`; everything else below it is dropped.
fn texts(query: &JsonMap, name: &str) -> BTreeMap<String, String> {
    let Some(Value::Object(object)) = query.get(name) else {
        return BTreeMap::new();
    };
    object
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The connection that was made.
#[derive(Debug, Serialize, JsonSchema)]
struct Connected {
    #[serde(rename = "providerConfigKey")]
    provider_config_key: String,
    #[serde(rename = "connectionId")]
    connection_id: String,
}

fn served(
    context: &Arc<Context>,
    path: &'static str,
    summary: &'static str,
    form: submissions::Endpoint,
    body: Option<Schema>,
) -> Endpoint {
    let own: &[&'static Code] = match form {
        submissions::Endpoint::ClientCredentials => &[
            &codes::MISSING_CLIENT_ID,
            &codes::MISSING_CLIENT_SECRET,
            &codes::CLIENT_CREDENTIALS_FETCH_ERROR,
        ],
        submissions::Endpoint::Jwt => &JWT,
        submissions::Endpoint::Signature => &SIGNATURE,
        submissions::Endpoint::Bill => &BILL,
        submissions::Endpoint::TwoStep => &TWO_STEP,
        submissions::Endpoint::AwsSigV4 => &AWS,
        _ => &[&codes::CONNECTION_TEST_FAILED],
    };
    Route::post(path)
        .tag("authorization")
        .summary(summary)
        .auth(Auth::Query)
        .params::<ByKey>(by_key())
        .query::<JsonMap>(browser_query())
        .payload(BodyMode::Json, body)
        .responds::<Connected>(200)
        .errors(own)
        .errors(&REFUSALS)
        .handler(&(Arc::clone(context), form), submit)
}

static JWT: [&Code; 5] = [
    &codes::CONNECTION_TEST_FAILED,
    &codes::MISSING_TOKEN_BODY,
    &codes::MISSING_SIGNATURE_TYPE,
    &codes::FAILED_TO_GENERATE,
    &codes::FAILED_TO_SIGN,
];
static SIGNATURE: [&Code; 2] = [
    &codes::CONNECTION_TEST_FAILED,
    &codes::SIGNATURE_TOKEN_GENERATION_ERROR,
];
static BILL: [&Code; 2] = [&codes::CONNECTION_TEST_FAILED, &codes::MISSING_TOKEN_URL];
static TWO_STEP: [&Code; 7] = [
    &codes::TWO_STEP_CREDENTIALS_FETCH_ERROR,
    &codes::INVALID_TWO_STEP_CREDENTIALS,
    &codes::MISSING_TOKEN_URL,
    &codes::MISSING_TOKEN_BODY,
    &codes::MISSING_SIGNATURE_TYPE,
    &codes::FAILED_TO_GENERATE,
    &codes::FAILED_TO_SIGN,
];
static AWS: [&Code; 9] = [
    &codes::CONNECTION_TEST_FAILED,
    &codes::MISSING_AWS_SIGV4_SERVICE,
    &codes::MISSING_AWS_SIGV4_STS_ENDPOINT,
    &codes::MISSING_AWS_SIGV4_BUILTIN_CREDENTIALS,
    &codes::MISSING_AWS_SIGV4_REGION,
    &codes::MISSING_AWS_SIGV4_ROLE_ARN,
    &codes::MISSING_AWS_SIGV4_EXTERNAL_ID,
    &codes::INVALID_AWS_SIGV4_CONFIG,
    &codes::AWS_SIGV4_STS_REQUEST_FAILED,
];

/// Why an import could not make the credentials of its mode.
pub(crate) fn not_obtained_codes() -> Vec<&'static Code> {
    let all = JWT
        .iter()
        .chain(&SIGNATURE)
        .chain(&BILL)
        .chain(&TWO_STEP)
        .chain(&AWS);
    let mut codes: Vec<&'static Code> = Vec::new();
    for code in all {
        if !codes.contains(code) && **code != codes::CONNECTION_TEST_FAILED {
            codes.push(code);
        }
    }
    codes
}

static REFUSALS: [&Code; 5] = [
    &codes::UNKNOWN_PROVIDER_CONFIG,
    &codes::UNKNOWN_PROVIDER_TEMPLATE,
    &codes::INVALID_AUTH_MODE,
    &codes::INTEGRATION_NOT_ALLOWED,
    &codes::INVALID_CONNECTION,
];

async fn submit(
    (context, form): (Arc<Context>, submissions::Endpoint),
    call: Call<ByKey, JsonMap>,
) -> Result<Reply, ApiError> {
    let key = &call.params.key;
    let session = session_for(call.principal()?, key, &call.query)?;
    let body = match call.payload {
        Payload::Json(Value::Object(body)) => Some(body),
        Payload::Json(_) => return Err(not_an_object("array")),
        _ if form == submissions::Endpoint::Unauthenticated => None,
        _ => return Err(not_an_object("undefined")),
    };
    let submitted = submissions::submit(&context, session, wish(key, &call.query), form, body.as_ref()).await;
    let submitted = submitted.map_err(|error| failure(error, form))?;
    Reply::json(&Connected {
        provider_config_key: submitted.provider_config_key,
        connection_id: submitted.connection_id,
    })
}

fn not_an_object(received: &str) -> ApiError {
    let message = format!("Invalid input: expected object, received {received}");
    ApiError::invalid(Layer::Body, vec![Issue::new("invalid_type", &[], message)])
}

fn failure(error: SubmitError, form: submissions::Endpoint) -> ApiError {
    match error {
        SubmitError::Form(FormError::Invalid(issues)) => {
            let issue = |issue: forms::Issue| {
                let path: Vec<&str> = issue.path.iter().map(String::as_str).collect();
                Issue::new(issue.code, &path, issue.message)
            };
            ApiError::invalid(Layer::Body, issues.into_iter().map(issue).collect())
        }
        SubmitError::Form(FormError::MissingClientId) => {
            ApiError::new(&codes::MISSING_CLIENT_ID).message("client_id is missing")
        }
        SubmitError::Form(FormError::MissingClientSecret) => ApiError::new(&codes::MISSING_CLIENT_SECRET)
            .message("client_secret is missing, and so is client_private_key"),
        SubmitError::Refused(refusal) => refusal_error(refusal, unknown_status(form)),
        SubmitError::TestFailed(message) => ApiError::new(&codes::CONNECTION_TEST_FAILED).message(message),
        SubmitError::NoToken(message) => {
            ApiError::new(&codes::CLIENT_CREDENTIALS_FETCH_ERROR).message(message)
        }
        SubmitError::NotObtained(error) => not_obtained(&error),
        SubmitError::NotStored(ConnectionError::Store(error)) => error.into(),
        SubmitError::NotStored(ConnectionError::UnknownIntegration) => {
            refusal_error(Refusal::UnknownIntegration, unknown_status(form))
        }
        SubmitError::NotStored(ConnectionError::UnknownProvider) => {
            refusal_error(Refusal::UnknownProvider, unknown_status(form))
        }
        SubmitError::NotStored(other) => ApiError::unexpected(other),
    }
}

/// Why nothing could be made of what was typed, in the codes of its mode.
pub(crate) fn not_obtained(error: &ObtainError) -> ApiError {
    match codes::find(error.code()) {
        Some(code) => ApiError::new(code).message(error.to_string()),
        None => ApiError::unexpected(error.to_string()),
    }
}

/// `/oauth2/auth` answers 400 where its sisters answer 404 (auth-flows §4).
fn unknown_status(form: submissions::Endpoint) -> StatusCode {
    match form {
        submissions::Endpoint::ClientCredentials => StatusCode::BAD_REQUEST,
        _ => StatusCode::NOT_FOUND,
    }
}

/// A refusal as the wire says it; an unknown integration is answered with `unknown`.
pub fn refusal_error(refusal: Refusal, unknown: StatusCode) -> ApiError {
    let message = refusal.to_string();
    let code = match refusal {
        Refusal::UnknownEnvironment => {
            return ApiError::new(&codes::UNKNOWN_CONNECT_SESSION_TOKEN)
                .message(message)
                .legacy();
        }
        Refusal::UnknownIntegration => {
            return ApiError::new(&codes::UNKNOWN_PROVIDER_CONFIG)
                .status(unknown)
                .message(message);
        }
        Refusal::UnknownProvider => {
            let error = ApiError::new(&codes::UNKNOWN_PROVIDER_TEMPLATE);
            return error.status(StatusCode::NOT_FOUND).message(message);
        }
        Refusal::Fields(errors) => {
            return ApiError::invalid(Layer::Body, errors.iter().map(field_issue).collect());
        }
        Refusal::Store(error) => return error.into(),
        Refusal::WrongMode(_) => &codes::INVALID_AUTH_MODE,
        Refusal::NotAllowed => &codes::INTEGRATION_NOT_ALLOWED,
        Refusal::ConnectionGone => &codes::INVALID_CONNECTION,
    };
    ApiError::new(code).message(message)
}

/// Where the browser put the value: `params` in the query, the rest in the body.
fn field_issue(error: &FieldError) -> Issue {
    let group = match error.group {
        Group::Credentials => "credentials",
        Group::ConnectionConfig => "params",
        Group::AssertionOption => "assertionOption",
    };
    let message = error.to_string();
    Issue::custom(&[group, &error.name], message)
}

async fn outbound(context: Arc<Context>, call: Call<ByKey, JsonMap, Empty>) -> Result<Reply, ApiError> {
    let session = session_for(call.principal()?, &call.params.key, &call.query)?;
    let wish = wish(&call.params.key, &call.query);
    let made = outbound_installations::begin(&context, session, wish).await;
    let made = made.map_err(|error| failure(error, submissions::Endpoint::Unauthenticated))?;
    Reply::json(&Connected {
        provider_config_key: made.provider_config_key,
        connection_id: made.connection_id,
    })
}
