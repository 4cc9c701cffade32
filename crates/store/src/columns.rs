//! What the repositories share: sealed and JSON columns, texts that both databases hold alike, statement lists.

use std::borrow::Cow;
use std::fmt::Write as _;

use patchbay_types::{Secret, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::db::{DbError, Dialect, FromValue, Row, Tx, Value};
use crate::vault::KeyScope;

/// Parameters of a statement, each by `Value::from`.
macro_rules! params {
    ($($value:expr),* $(,)?) => { [$($crate::db::Value::from($value)),*] };
}
pub(crate) use params;

/// Reads a row's columns from left to right, so that a column list and its reader are told apart only by order.
#[derive(Debug)]
pub(crate) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    pub(crate) fn at(row: &'r Row, next: usize) -> Self {
        Self { row, next }
    }

    pub(crate) fn next<T: FromValue>(&mut self) -> Result<T, DbError> {
        let index = self.next;
        self.next += 1;
        self.row.get(index)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DbError> {
        let text: String = self.next()?;
        text.parse().map_err(|_| corrupt("a UUID is none"))
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, DbError> {
        self.next()
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, DbError> {
        let text: String = self.next()?;
        from_json(text.as_bytes())
    }

    pub(crate) fn json_opt<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DbError> {
        let text: Option<String> = self.next()?;
        text.map(|text| from_json(text.as_bytes())).transpose()
    }
}

/// A stored value that is not what this program writes.
pub(crate) fn corrupt(what: impl std::fmt::Display) -> DbError {
    DbError::internal(format!("stored value: {what}"))
}

/// JSON text of one of our own types.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(|error| DbError::internal(format!("value to store: {error}")))
}

fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, DbError> {
    // The error names a position, never the text: sealed documents pass here.
    serde_json::from_slice(text)
        .map_err(|error| corrupt(format_args!("line {} column {}", error.line(), error.column())))
}

/// Seals JSON of `value` for the column and row that `aad` names.
pub(crate) async fn seal_json(
    tx: &mut Tx,
    scope: impl Into<KeyScope>,
    aad: &str,
    value: &impl Serialize,
) -> Result<Vec<u8>, DbError> {
    let json = Zeroizing::new(to_json(value)?);
    tx.vault().seal(scope, aad, json.as_bytes()).await
}

/// Opens what [`seal_json`] sealed.
pub(crate) async fn open_json<T: DeserializeOwned>(
    tx: &mut Tx,
    scope: impl Into<KeyScope>,
    aad: &str,
    sealed: &[u8],
) -> Result<T, DbError> {
    let plain = tx.vault().open(scope, aad, sealed).await?;
    from_json(&plain)
}

/// Seals a secret text.
pub(crate) async fn seal_secret(
    tx: &mut Tx,
    scope: impl Into<KeyScope>,
    aad: &str,
    secret: &Secret,
) -> Result<Vec<u8>, DbError> {
    tx.vault().seal(scope, aad, secret.expose().as_bytes()).await
}

/// Opens what [`seal_secret`] sealed.
pub(crate) async fn open_secret(
    tx: &mut Tx,
    scope: impl Into<KeyScope>,
    aad: &str,
    sealed: &[u8],
) -> Result<Secret, DbError> {
    let plain = tx.vault().open(scope, aad, sealed).await?;
    let text = std::str::from_utf8(&plain).map_err(|_| corrupt("a sealed text is not UTF-8"))?;
    Ok(Secret::new(text))
}

/// Free text as both databases can hold it: Postgres refuses U+0000, which becomes U+FFFD.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A parameter of free text, see [`clean`].
pub(crate) fn text(text: &str) -> Value {
    Value::from(clean(text).as_ref())
}

/// An optional parameter of free text.
pub(crate) fn text_opt(value: Option<&str>) -> Value {
    value.map_or(Value::Null, text)
}

/// Between the fields of a search column; [`fold`] keeps it out of fields and needles.
const FIELD_SEPARATOR: char = '\u{1f}';

/// Text as searches compare it: lower case by Unicode, the same on both databases.
fn fold(text: &str) -> String {
    text.to_lowercase().replace(['\0', FIELD_SEPARATOR], "\u{fffd}")
}

/// A search column over `fields`; a search never matches across two of them.
pub(crate) fn search_column<'a>(fields: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let mut column = String::new();
    for field in fields.into_iter().flatten().filter(|field| !field.is_empty()) {
        if !column.is_empty() {
            column.push(FIELD_SEPARATOR);
        }
        column.push_str(&fold(field));
    }
    column
}

/// A pattern for `LIKE … ESCAPE '!'` that finds `needle` anywhere in a search column.
pub(crate) fn search_pattern(needle: &str) -> String {
    let mut pattern = String::from("%");
    for character in fold(needle).chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// Locks the rows a `SELECT` finds until the transaction ends. SQLite has one writer and needs no lock.
pub(crate) fn for_update(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR UPDATE",
    }
}

/// Locks the rows a `SELECT` finds, passing over those that somebody else has locked.
pub(crate) fn skip_locked(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
    }
}

/// `items` with the last one repeated up to the next power of two, so that lists of any length are few different
/// statements to prepare. For lists in which repetition says nothing (`IN`).
pub(crate) fn padded<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let length = if items.is_empty() {
        0
    } else {
        items.len().next_power_of_two()
    };
    items
        .iter()
        .chain(std::iter::repeat_with(|| items.last()).flatten())
        .take(length)
}

/// Collects a statement's parameters while its text is written.
#[derive(Debug, Default)]
pub(crate) struct Binds {
    values: Vec<Value>,
}

impl Binds {
    /// Adds a value and answers its placeholder.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Adds values and answers their placeholders, `$1, $2`.
    pub(crate) fn list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> String {
        let mut list = String::new();
        for value in values {
            let separator = if list.is_empty() { "" } else { ", " };
            self.values.push(value.into());
            let _ = write!(list, "{separator}${}", self.values.len());
        }
        list
    }

    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }
}

/// `at` plus `duration`, at most the end of time.
pub(crate) fn later(at: Timestamp, duration: std::time::Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `at` minus `duration`, at least the beginning of time.
pub(crate) fn earlier(at: Timestamp, duration: std::time::Duration) -> Timestamp {
    at.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_pattern_matches_its_own_wildcards_literally() {
        assert_eq!(search_pattern("50%_!A"), "%50!%!_!!a%");
        assert_eq!(
            search_column([Some("ÉCOLE"), None, Some(""), Some("b")]),
            "école\u{1f}b"
        );
        assert!(!search_column([Some("ab"), Some("cd")]).contains("bc"));
    }

    #[test]
    fn texts_are_made_fit_for_both_databases() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert!(matches!(clean("plain"), Cow::Borrowed(_)));
    }
}
