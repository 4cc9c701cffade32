//! What is wrong with a definition, where, and what was probably meant.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One thing wrong with the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the entry can be used all the same.
    pub severity: Severity,
    /// The rule's name, stable: for filters and documentation.
    pub rule: &'static str,
    /// Where the text came from.
    pub origin: Origin,
    /// 1-based line; none for definitions that ship inside the binary.
    pub line: Option<u32>,
    /// 1-based column, in characters.
    pub column: Option<u32>,
    /// The entry.
    pub provider: Option<String>,
    /// Dotted path inside the entry, empty for the entry itself.
    pub path: String,
    /// A sentence without a full stop.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

/// Whether an entry can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The entry works, something in it has no effect or looks wrong.
    Warning,
    /// The entry is not loaded.
    Error,
}

/// Where a definition came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Shipped inside the binary.
    BuiltIn,
    /// A file of the operator.
    File(Arc<Path>),
    /// Set while the server runs, kept in its database.
    Stored,
}

impl Origin {
    /// The file of that path.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::File(Arc::from(path.as_ref()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in catalogue"),
            Self::File(path) => path.display().fmt(f),
            Self::Stored => f.write_str("definition set through the API"),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Finding {
    /// One line: `file:line:column: error: provider.path: message [rule]; did you mean …?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.origin)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}: ", self.severity)?;
        if let Some(subject) = self.subject() {
            write!(f, "{subject}: ")?;
        }
        write!(f, "{} [{}]", self.message, self.rule)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

impl Finding {
    /// `provider.path`, as far as known.
    pub fn subject(&self) -> Option<String> {
        let provider = self.provider.as_deref()?;
        if self.path.is_empty() {
            Some(provider.to_owned())
        } else {
            Some(format!("{provider}.{}", self.path))
        }
    }
}
