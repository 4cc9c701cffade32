use std::fmt;

/// Why the database did not do what it was asked.
///
/// After any of these the transaction is lost: later statements in it are refused and it cannot commit. Both
/// databases behave alike in this, so do not catch one and go on; use `ON CONFLICT` where a conflict is expected.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database cannot be reached or cannot take writes: gone, restarting, disk full, read-only, locked by
    /// another process. Nothing was acknowledged; the same request may succeed later (503).
    ///
    /// If the connection broke during the commit itself, Postgres may have committed: callers that repeat must be
    /// idempotent.
    #[error("the database is unavailable: {0}")]
    Unavailable(Cause),

    /// A unique constraint forbids it.
    #[error("the row conflicts with another one ({constraint})")]
    Conflict {
        /// Name of the unique index or constraint. SQLite's own names are replaced by the ones Postgres gives:
        /// `table_column_key`, `table_pkey`.
        constraint: String,
    },

    /// A foreign key forbids it: the row referred to is gone, or is still referred to.
    #[error("the row refers to another one that does not exist, or is referred to")]
    Reference,

    /// The database chose this transaction as the victim of a deadlock or could not serialize it. Repeating the
    /// whole transaction is safe and usually succeeds; [`crate::Store::write_retry`] does it.
    #[error("the transaction must be repeated: {0}")]
    Retry(Cause),

    /// A fault of ours or corrupt data.
    #[error("the database refused: {0}")]
    Internal(Cause),
}

/// What the driver said, for logs only. It never holds values of rows.
#[derive(Debug, Clone)]
pub struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DbError {
    /// An [`DbError::Unavailable`] with its cause in words.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        Self::Unavailable(Cause(cause.into()))
    }

    /// An [`DbError::Internal`] with its cause in words: corrupt data, a broken invariant.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::Internal(Cause(cause.into()))
    }

    /// A [`DbError::Retry`] with its cause in words.
    pub(crate) fn retry(cause: impl Into<String>) -> Self {
        Self::Retry(Cause(cause.into()))
    }

    /// The constraint, if this is a [`DbError::Conflict`].
    pub fn conflict(&self) -> Option<&str> {
        match self {
            Self::Conflict { constraint } => Some(constraint),
            _ => None,
        }
    }

    /// Whether the same request may succeed later without a change.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Retry(_))
    }
}
