//! How an authorization ended, for people: the operation begun with the connect session, or one of its own.

use patchbay_store::db::{DbError, Tx};
use patchbay_store::operations;
use patchbay_types::operations::{Message, Operation, OperationState};
use patchbay_types::{ConnectionRowId, EnvironmentId, IntegrationId, OperationId};

/// What came of it.
pub(crate) struct Conclusion<'a> {
    pub(crate) environment: EnvironmentId,
    pub(crate) integration: IntegrationId,
    pub(crate) connection: Option<ConnectionRowId>,
    pub(crate) state: OperationState,
    /// One line, without secrets.
    pub(crate) text: &'a str,
}

/// Ends `begun`. Where nothing was begun (an import), or it has ended already (a session used twice), an operation
/// `fresh` is written that begins and ends now. Answers which of the two it was.
pub(crate) async fn conclude(
    tx: &mut Tx,
    begun: Option<OperationId>,
    fresh: OperationId,
    conclusion: &Conclusion<'_>,
) -> Result<OperationId, DbError> {
    let now = tx.now();
    let ended = match begun {
        Some(id) if operations::finish(tx, &id, conclusion.state).await? => {
            operations::set_subject(tx, &id, Some(conclusion.integration), conclusion.connection).await?;
            id
        }
        _ => {
            let operation = Operation {
                id: fresh,
                environment_id: conclusion.environment,
                kind: "auth".to_owned(),
                action: "create_connection".to_owned(),
                state: conclusion.state,
                integration: Some(conclusion.integration),
                connection: conclusion.connection,
                title: conclusion.text.to_owned(),
                started_at: now,
                ended_at: Some(now),
            };
            operations::insert(tx, &operation).await?;
            operation.id
        }
    };
    let level = if conclusion.state == OperationState::Failed {
        "error"
    } else {
        "info"
    };
    let message = Message {
        operation_id: ended.clone(),
        level: level.to_owned(),
        text: conclusion.text.to_owned(),
        meta: None,
        at: now,
    };
    operations::append_messages(tx, &[message]).await?;
    Ok(ended)
}
