//! The form flow: credentials typed by the end user, checked with the provider, stored (auth-flows §15, §16).

use std::sync::Arc;

use patchbay_auth::driver;
use patchbay_auth::forms::{self, ClientForm, FormError};
use patchbay_auth::verification::{self, Candidate};
use patchbay_store::db::DbError;
use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::connections::{Change, ConnectionUpsert};
use patchbay_types::operations::OperationState;
use patchbay_types::{AuthMode, Credentials, EnvironmentId, IntegrationId, JsonMap, OperationId};

use crate::admission::{Admission, Refusal, Wish, admit};
use crate::connections::{ConnectionError, NewConnection, expiry_to_check, store};
use crate::context::Context;
use crate::logbook::{Conclusion, conclude};

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
    /// The connection could not be stored.
    #[error(transparent)]
    NotStored(#[from] ConnectionError),
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
}

/// What was typed.
enum Typed {
    Credentials(Credentials),
    Client(ClientForm),
}

impl Endpoint {
    fn mode(self) -> AuthMode {
        match self {
            Self::ApiKey => AuthMode::ApiKey,
            Self::Basic => AuthMode::Basic,
            Self::Unauthenticated => AuthMode::None,
            Self::ClientCredentials => AuthMode::OAuth2Cc,
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
        })
    }
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
    endpoint.read(body)?;
    wish.credentials = body.cloned().unwrap_or_default();
    let admission = admit(context, session, wish, |wanted| wanted == endpoint.mode()).await?;
    let working = context.clone();
    let task = context.ambient.tasks.spawn(async move {
        let (begun, environment, integration) = (
            admission.session.operation_id.clone(),
            admission.environment.id,
            admission.integration.id,
        );
        let accepted = accept(&working, admission, endpoint).await;
        if let Err(SubmitError::TestFailed(words) | SubmitError::NoToken(words)) = &accepted {
            note_failure(&working, begun, environment, integration, words.clone()).await;
        }
        accepted
    });
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a submission ended unexpectedly");
        Err(ConnectionError::Store(DbError::internal("a submission ended unexpectedly")).into())
    })
}

/// A form that was not accepted is no news to the product, as its end user sees it and tries again; people who look
/// into the logs find it.
async fn note_failure(
    context: &Context,
    begun: Option<OperationId>,
    environment: EnvironmentId,
    integration: IntegrationId,
    words: String,
) {
    let fresh = OperationId(context.ambient.time_ordered_uuid().to_string());
    let noted: Result<_, DbError> = context
        .store
        .write(move |tx| {
            Box::pin(async move {
                let conclusion = Conclusion {
                    environment,
                    integration,
                    connection: None,
                    state: OperationState::Failed,
                    text: &words,
                };
                conclude(tx, begun, fresh, &conclusion).await
            })
        })
        .await;
    if let Err(error) = noted {
        tracing::warn!(%error, "a refused form could not be noted");
    }
}

async fn accept(
    context: &Arc<Context>,
    admission: Admission,
    endpoint: Endpoint,
) -> Result<Submitted, SubmitError> {
    let definition = &admission.provider.definition;
    let mut connection_config = admission.connection_config.clone();
    // The provider's field rules may have cleaned what was typed: read it again.
    let credentials = match endpoint.read(Some(&admission.credentials))? {
        Typed::Credentials(credentials) => credentials,
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
    // Obtaining the token was the test of client credentials (auth-flows §15).
    if !matches!(credentials, Credentials::OAuth2Cc(_)) {
        verification::verify(&context.proxy_client, &candidate, &context.ambient)
            .await
            .map_err(|failure| SubmitError::TestFailed(failure.to_string()))?;
    }
    let session = &admission.session;
    let stored = store(
        context,
        &admission.environment,
        NewConnection {
            auth_mode: admission.mode(),
            upsert: ConnectionUpsert {
                integration_id: admission.integration.id,
                connection_id: admission.connection_id.clone(),
                credentials_expires_at: expiry_to_check(&credentials, context.ambient.now()),
                credentials,
                connection_config,
                metadata: Change::Keep,
                tags: Admission::tags(session),
                webhook_url_override: Admission::webhook_url_override(session),
                end_user: Change::Keep,
            },
            end_user: session
                .spec
                .end_user
                .clone()
                .map(|user| (user, session.spec.organization.clone())),
            operation: session.operation_id.clone(),
        },
    )
    .await?;
    Ok(Submitted {
        provider_config_key: stored.integration_key.to_string(),
        connection_id: stored.connection_id.to_string(),
    })
}
