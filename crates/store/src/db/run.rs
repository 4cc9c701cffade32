//! From what a transaction's closure did to what its caller gets; shared by both engines.

use std::any::Any;

use super::{Closing, DbError};

/// How the closure of a transaction ended.
pub(crate) enum Ended<T, E> {
    Returned(Result<T, E>),
    /// It waited for something that is not the transaction.
    Stuck,
    Panicked(Box<dyn Any + Send>),
}

/// The caller's result, before the commit. `Err` means: roll back.
pub(crate) fn judge<T, E: From<DbError>>(ended: Ended<T, E>, closing: &Closing<()>) -> Result<T, E> {
    match ended {
        // Postgres would answer COMMIT with a silent rollback.
        Ended::Returned(Ok(_)) if closing.failed => {
            Err(DbError::internal("the transaction went on after a failed statement").into())
        }
        Ended::Returned(result) => result,
        Ended::Stuck => Err(DbError::internal(
            "the transaction awaited something other than its own statements, which would hold up every writer",
        )
        .into()),
        Ended::Panicked(payload) => {
            let message = payload
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(message, "a transaction panicked and was rolled back");
            Err(DbError::internal("the transaction panicked").into())
        }
    }
}
