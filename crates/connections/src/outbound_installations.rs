//! `POST /auth/oauth-outbound`: a connection that waits for an app to be installed from the provider's side
//! (auth-flows §14). [`crate::inbound_events`] completes it.

use std::sync::Arc;

use patchbay_types::connect_sessions::ConnectSession;
use patchbay_types::credentials::OAuth2;
use patchbay_types::{AuthMode, Credentials};

use crate::admission::{Refusal, Wish, admit};
use crate::connections::{Announce, NewConnection, store_and};
use crate::context::Context;
use crate::inbound_events::is_outbound;
use crate::submissions::{SubmitError, Submitted};

/// Makes the connection. Nothing is announced before it works.
pub async fn begin(
    context: &Arc<Context>,
    session: ConnectSession,
    wish: Wish,
) -> Result<Submitted, SubmitError> {
    let admission = admit(context, session, wish, |mode| mode == AuthMode::OAuth2).await?;
    let definition = &admission.provider.definition;
    if !is_outbound(definition) {
        return Err(Refusal::WrongMode(admission.mode()).into());
    }
    let credentials = Credentials::OAuth2(OAuth2::default());
    let mut connection_config = admission.connection_config.clone();
    connection_config.insert("pending".to_owned(), true.into());
    let session = &admission.session;
    if let Some(operation) = &session.operation_id {
        connection_config.insert("pendingLog".to_owned(), operation.0.clone().into());
    }
    let stored = store_and(
        context,
        &admission.environment,
        NewConnection {
            operation: None,
            ..NewConnection::admitted(&admission, credentials, connection_config, context.ambient.now())
        },
        Announce::Nothing,
    )
    .await?;
    Ok(Submitted {
        provider_config_key: stored.integration_key.to_string(),
        connection_id: stored.connection_id.to_string(),
    })
}
