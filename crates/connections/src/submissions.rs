//! The form flow: credentials typed by the end user, checked with the provider or made of what was typed, stored
//! (auth-flows §15 to §20).

use std::sync::Arc;

use patchbay_auth::driver::{self, Applicant, ObtainError, Occasion};
use patchbay_auth::forms::{self, ClientForm, FormError};
use patchbay_auth::verification::{self, Candidate};
use patchbay_auth::{aws_sigv4, bill, signed_tokens, tba, two_step, wsse};
use patchbay_store::db::DbError;
use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::{AuthMode, Credentials, JsonMap};

use crate::admission::{Admission, Refusal, Wish, admit};
use crate::connections::{ConnectionError, NewConnection, store};
use crate::context::Context;
use crate::failed_attempts::{self, FailedAttempt};

/// Why a form was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The body breaks the endpoint's rules.
    #[error(transparent)]
    Form(#[from] FormError),
    /// See [`Refusal`].
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The provider did not accept the credentials.
    #[error("{0}")]
    TestFailed(String),
    /// OAUTH2_CC: no token could be obtained.
    #[error("{0}")]
    NoToken(String),
    /// Nothing could be made of what was typed.
    #[error(transparent)]
    NotObtained(Box<ObtainError>),
    /// The connection could not be stored.
    #[error(transparent)]
    NotStored(#[from] ConnectionError),
}

impl SubmitError {
    /// The code under which the product is told, if nothing came of credentials that the form took. A form that
    /// breaks the rules is between the end user and the form.
    fn code_of_refusal(&self) -> Option<&'static str> {
        match self {
            Self::TestFailed(_) => Some("connection_test_failed"),
            Self::NoToken(_) => Some("client_credentials_fetch_error"),
            Self::NotObtained(error) => Some(error.code()),
            Self::Form(_) | Self::Refused(_) | Self::NotStored(_) => None,
        }
    }
}

/// Where a form was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /api-auth/api-key`.
    ApiKey,
    /// `POST /api-auth/basic`.
    Basic,
    /// `POST /auth/unauthenticated`.
    Unauthenticated,
    /// `POST /oauth2/auth`.
    ClientCredentials,
    /// `POST /auth/jwt`.
    Jwt,
    /// `POST /auth/signature`.
    Signature,
    /// `POST /auth/bill`.
    Bill,
    /// `POST /auth/tba`.
    Tba,
    /// `POST /auth/two-step`.
    TwoStep,
    /// `POST /auth/aws-sigv4`.
    AwsSigV4,
}

/// What was typed.
enum Typed {
    Credentials(Credentials),
    Client(ClientForm),
    /// Fields of which credentials are made.
    Fields(JsonMap),
}

impl Endpoint {
    fn mode(self) -> AuthMode {
        match self {
            Self::ApiKey => AuthMode::ApiKey,
            Self::Basic => AuthMode::Basic,
            Self::Unauthenticated => AuthMode::None,
            Self::ClientCredentials => AuthMode::OAuth2Cc,
            Self::Jwt => AuthMode::Jwt,
            Self::Signature => AuthMode::Signature,
            Self::Bill => AuthMode::Bill,
            Self::Tba => AuthMode::Tba,
            Self::TwoStep => AuthMode::TwoStep,
            Self::AwsSigV4 => AuthMode::AwsSigV4,
        }
    }

    fn read(self, body: Option<&JsonMap>) -> Result<Typed, FormError> {
        let empty = JsonMap::new();
        let object = body.unwrap_or(&empty);
        Ok(match self {
            Self::ApiKey => Typed::Credentials(forms::api_key(object)?),
            Self::Basic => Typed::Credentials(forms::basic(object)?),
            Self::Unauthenticated => Typed::Credentials(forms::none(body)?),
            Self::ClientCredentials => Typed::Client(forms::client_credentials(object)?),
            Self::Tba => Typed::Credentials(tba::form(object)?),
            Self::Jwt => Typed::Fields(signed_tokens::form(object)),
            Self::Signature => Typed::Fields(wsse::form(object)?),
            Self::Bill => Typed::Fields(bill::form(object)?),
            Self::TwoStep => Typed::Fields(two_step::form(object)),
            Self::AwsSigV4 => Typed::Fields(aws_sigv4::form(object)?.0),
        })
    }
}

/// Whether credentials of this mode are made of what was typed, in an exchange or by a signature.
pub(crate) fn is_made_of_fields(mode: AuthMode) -> bool {
    matches!(
        mode,
        AuthMode::TwoStep | AuthMode::Jwt | AuthMode::Signature | AuthMode::Bill | AuthMode::AwsSigV4
    )
}

/// The connection that was made or re-authorized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Integration.
    pub provider_config_key: String,
    /// Connection.
    pub connection_id: String,
}

/// Checks, tests and stores a form. Runs to its end even if the browser goes away.
pub async fn submit(
    context: &Arc<Context>,
    session: ConnectSession,
    mut wish: Wish,
    endpoint: Endpoint,
    body: Option<&JsonMap>,
) -> Result<Submitted, SubmitError> {
    wish.credentials = match endpoint.read(body)? {
        Typed::Fields(fields) => fields,
        Typed::Credentials(_) | Typed::Client(_) => body.cloned().unwrap_or_default(),
    };
    match (endpoint, body) {
        (Endpoint::TwoStep, Some(body)) => wish.assertion_option = two_step::assertion_option(body),
        (Endpoint::AwsSigV4, Some(body)) => {
            // Signed requests go where operator and definition say, not where a browser says.
            wish.params.remove("base_url");
            if let (_, Some(region)) = aws_sigv4::form(body)? {
                wish.params.insert("region".to_owned(), region);
            }
        }
        _ => {}
    }
    let admission = admit(context, session, wish, |wanted| wanted == endpoint.mode()).await?;
    let working = context.clone();
    let task = context.ambient.tasks.spawn(async move {
        let attempt = FailedAttempt {
            environment: admission.environment.clone(),
            integration: admission.integration.id,
            integration_key: admission.integration.unique_key.clone(),
            provider: admission.integration.provider.clone(),
            auth_mode: admission.mode(),
            connection_id: admission.connection_id.clone(),
            session: Some(admission.session.id),
            operation: admission.session.operation_id.clone(),
            ends: None,
        };
        let accepted = accept(&working, admission, endpoint).await;
        if let Err(error) = &accepted
            && let Some(code) = error.code_of_refusal()
        {
            failed_attempts::announce(&working, attempt, code, &error.to_string()).await;
        }
        accepted
    });
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a submission ended unexpectedly");
        Err(ConnectionError::Store(DbError::internal("a submission ended unexpectedly")).into())
    })
}

async fn accept(
    context: &Arc<Context>,
    admission: Admission,
    endpoint: Endpoint,
) -> Result<Submitted, SubmitError> {
    let definition = &admission.provider.definition;
    let mut connection_config = admission.connection_config.clone();
    // The provider's field rules may have cleaned what was typed.
    let typed = match endpoint {
        _ if is_made_of_fields(admission.mode()) => Typed::Fields(admission.credentials.clone()),
        _ => endpoint.read(Some(&admission.credentials))?,
    };
    let credentials = match typed {
        Typed::Credentials(credentials) => credentials,
        Typed::Fields(fields) => {
            let applicant = Applicant {
                definition,
                secrets: &admission.integration.secrets,
                connection_config: &connection_config,
                fields: &fields,
                assertion_option: &admission.assertion_option,
                occasion: match &admission.bound {
                    Some(bound) => Occasion::Again(&bound.connection_config),
                    None => Occasion::First,
                },
            };
            let obtained = driver::obtain(&context.token_client, &applicant, &context.ambient).await;
            let obtained = obtained.map_err(|error| SubmitError::NotObtained(Box::new(error)))?;
            connection_config.extend(obtained.config_updates);
            obtained.credentials
        }
        Typed::Client(form) => {
            let secret = Some(&form.client_secret).filter(|secret| !secret.is_empty());
            let minted = driver::mint_client_credentials(
                &context.token_client,
                &driver::MintInput {
                    definition,
                    secrets: &admission.integration.secrets,
                    connection_config: &connection_config,
                    authorization_params: &admission.authorization_params,
                    client_id: &form.client_id,
                    client_secret: secret,
                    client_certificate: form.client_certificate.as_ref(),
                    client_private_key: form.client_private_key.as_ref(),
                },
                &context.ambient,
            )
            .await
            .map_err(|error| SubmitError::NoToken(error.to_string()))?;
            connection_config.extend(minted.config_updates);
            minted.credentials
        }
    };
    let candidate = Candidate {
        definition,
        secrets: &admission.integration.secrets,
        credentials: &credentials,
        connection_config: &connection_config,
    };
    verification::verify(&context.proxy_client, &candidate, &context.ambient)
        .await
        .map_err(|failure| SubmitError::TestFailed(failure.to_string()))?;
    let stored = store(
        context,
        &admission.environment,
        NewConnection::admitted(&admission, credentials, connection_config, context.ambient.now()),
    )
    .await?;
    Ok(Submitted {
        provider_config_key: stored.integration_key.to_string(),
        connection_id: stored.connection_id.to_string(),
    })
}
