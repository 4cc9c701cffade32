use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql, ffi};

use super::super::{DbError, Row, Value};
use super::Role;

/// Texts remembered before the memory is emptied: lists in a statement make texts without end.
const TEXTS: usize = 2048;

/// A connection and its thread's memory of rewritten texts.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    role: Role,
    texts: HashMap<Box<str>, Arc<str>>,
}

impl Session {
    pub(crate) fn new(connection: Connection, role: Role) -> Box<Self> {
        Box::new(Self {
            connection,
            role,
            texts: HashMap::new(),
        })
    }

    pub(crate) fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, DbError> {
        let text = self.text(sql);
        query(&self.connection, &text, params).map_err(|error| self.failure(error))
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, DbError> {
        let text = self.text(sql);
        let touched = prepare(&self.connection, &text).and_then(|mut statement| run(&mut statement, params));
        touched.map_err(|error| self.failure(error))
    }

    pub(crate) fn execute_many(&mut self, sql: &str, rows: &[Vec<Value>]) -> Result<u64, DbError> {
        let text = self.text(sql);
        let touched = prepare(&self.connection, &text).and_then(|mut statement| {
            rows.iter()
                .try_fold(0, |touched, params| Ok(touched + run(&mut statement, params)?))
        });
        touched.map_err(|error| self.failure(error))
    }

    pub(crate) fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.connection
            .execute_batch(sql)
            .map_err(|error| failure(&error, Some(&self.connection)))
    }

    /// A statement of the engine itself: `BEGIN`, `COMMIT`, …
    pub(super) fn command(&self, sql: &str) -> Result<(), DbError> {
        let done = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.raw_execute());
        done.map(drop)
            .map_err(|error| failure(&error, Some(&self.connection)))
    }

    /// A pragma that answers with one number.
    pub(super) fn number(&self, sql: &str) -> Result<i64, DbError> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|error| failure(&error, Some(&self.connection)))?;
        statement
            .query_row([], |row| row.get(0))
            .map_err(|error| failure(&error, Some(&self.connection)))
    }

    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn text(&mut self, sql: &str) -> Arc<str> {
        if let Some(text) = self.texts.get(sql) {
            return Arc::clone(text);
        }
        if self.texts.len() >= TEXTS {
            self.texts.clear();
        }
        let text: Arc<str> = numbered(sql).into();
        self.texts.insert(sql.into(), Arc::clone(&text));
        text
    }

    fn failure(&self, error: Fault) -> DbError {
        match error {
            Fault::Ours(error) => error,
            Fault::Sqlite(error)
                if self.role == Role::Reader && error.sqlite_error_code() == Some(ErrorCode::ReadOnly) =>
            {
                DbError::internal("a statement of a read transaction tried to write")
            }
            Fault::Sqlite(error) => failure(&error, Some(&self.connection)),
        }
    }
}

enum Fault {
    Sqlite(rusqlite::Error),
    Ours(DbError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(int) => ValueRef::Integer(*int),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, Fault> {
    Ok(connection.prepare_cached(sql)?)
}

fn bind(statement: &mut CachedStatement<'_>, params: &[Value]) -> Result<(), Fault> {
    let wanted = statement.parameter_count();
    if wanted != params.len() {
        // Unbound parameters would be NULL, silently.
        return Err(Fault::Ours(DbError::internal(format!(
            "the statement has {wanted} parameters and got {}",
            params.len()
        ))));
    }
    for (index, value) in params.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

fn query(connection: &Connection, sql: &str, params: &[Value]) -> Result<Vec<Row>, Fault> {
    let mut statement = prepare(connection, sql)?;
    bind(&mut statement, params)?;
    let width = statement.column_count();
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(width);
        for column in 0..width {
            values.push(owned(row.get_ref(column)?)?);
        }
        found.push(Row::new(values));
    }
    Ok(found)
}

fn run(statement: &mut CachedStatement<'_>, params: &[Value]) -> Result<u64, Fault> {
    bind(statement, params)?;
    if statement.column_count() == 0 {
        return Ok(statement.raw_execute()? as u64);
    }
    let mut rows = statement.raw_query();
    let mut touched = 0;
    while rows.next()?.is_some() {
        touched += 1;
    }
    Ok(touched)
}

fn owned(column: ValueRef<'_>) -> Result<Value, Fault> {
    Ok(match column {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => Value::Int(int),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(bytes) => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| Fault::Ours(DbError::internal("a text column is not UTF-8")))?;
            Value::Text(text.to_owned())
        }
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

/// What an error of SQLite means to a repository.
pub(crate) fn failure(error: &rusqlite::Error, connection: Option<&Connection>) -> DbError {
    let rusqlite::Error::SqliteFailure(code, message) = error else {
        return DbError::internal(error.to_string());
    };
    let message = message.as_deref().unwrap_or_default();
    match code.code {
        ErrorCode::ConstraintViolation => match code.extended_code {
            ffi::SQLITE_CONSTRAINT_UNIQUE
            | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | ffi::SQLITE_CONSTRAINT_ROWID => DbError::Conflict {
                constraint: constraint(message, connection),
            },
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => DbError::Reference,
            _ => DbError::internal(message),
        },
        ErrorCode::DiskFull
        | ErrorCode::ReadOnly
        | ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::PermissionDenied
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted => DbError::unavailable(error.to_string()),
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => DbError::internal(format!(
            "{error}; it is damaged or no database at all: restore a backup"
        )),
        _ => DbError::internal(error.to_string()),
    }
}

/// The name Postgres has for the constraint. SQLite names only columns: "UNIQUE constraint failed: t.a, t.b".
fn constraint(message: &str, connection: Option<&Connection>) -> String {
    let columns = message.split_once(": ").map_or(message, |(_, columns)| columns);
    if let Some(index) = columns.strip_prefix("index '") {
        return index.trim_end_matches('\'').to_owned();
    }
    let mut names = Vec::new();
    let mut table = "";
    for column in columns.split(", ") {
        let Some((of, name)) = column.split_once('.') else {
            return columns.to_owned();
        };
        table = of;
        names.push(name.to_owned());
    }
    let index = connection.and_then(|connection| index_of(connection, table, &names).ok().flatten());
    index.unwrap_or_else(|| format!("{table}_pkey"))
}

/// The unique index over exactly these columns. `None`: they are the table's own key.
fn index_of(connection: &Connection, table: &str, columns: &[String]) -> rusqlite::Result<Option<String>> {
    let mut list =
        connection.prepare("SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" = 1")?;
    let mut info = connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
    let indexes = list.query_map([table], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    for index in indexes {
        let (name, origin) = index?;
        let of: Vec<Option<String>> = info
            .query_map([&name], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if !of.iter().map(Option::as_ref).eq(columns.iter().map(Some)) {
            continue;
        }
        return Ok(match origin.as_str() {
            "c" => Some(name),
            "u" => Some(format!("{table}_{}_key", columns.join("_"))),
            _ => None,
        });
    }
    Ok(None)
}

/// `$1` is a *named* parameter to SQLite, numbered by first appearance; `?1` is what we mean.
fn numbered(sql: &str) -> String {
    let bytes = sql.as_bytes();
    let mut out = String::with_capacity(sql.len());
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &sql[at..];
        let skip = match bytes[at] {
            quote @ (b'\'' | b'"') => rest[1..].find(char::from(quote)).map(|end| end + 2),
            b'-' if rest.starts_with("--") => rest.find('\n'),
            b'/' if rest.starts_with("/*") => rest.find("*/").map(|end| end + 2),
            b'$' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                out.push_str(&sql[copied..at]);
                out.push('?');
                copied = at + 1;
                Some(1)
            }
            _ => {
                at += 1;
                while at < bytes.len() && !sql.is_char_boundary(at) {
                    at += 1;
                }
                continue;
            }
        };
        at = skip.map_or(bytes.len(), |length| at + length);
    }
    out.push_str(&sql[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_are_renumbered() {
        for (text, expected) in [
            ("SELECT $2, $1", "SELECT ?2, ?1"),
            ("$1$12", "?1?12"),
            (
                "SELECT '$1', \"$2\", 'it''s $3' || $4",
                "SELECT '$1', \"$2\", 'it''s $3' || ?4",
            ),
            ("SELECT 1 -- $1\n, $2", "SELECT 1 -- $1\n, ?2"),
            ("SELECT 1 -- $1", "SELECT 1 -- $1"),
            ("/* $1 */ $2 $x é$3", "/* $1 */ ?2 $x é?3"),
            ("'open $1", "'open $1"),
        ] {
            assert_eq!(numbered(text), expected);
        }
    }

    #[test]
    fn constraints_have_the_names_postgres_gives() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b TEXT, c TEXT, d TEXT);
                 CREATE UNIQUE INDEX t_live ON t (b, c) WHERE a IS NOT NULL;
                 CREATE UNIQUE INDEX t_lower ON t (lower(d));
                 CREATE TABLE k (x TEXT, y TEXT, PRIMARY KEY (x, y)) WITHOUT ROWID;
                 INSERT INTO t VALUES (1, 'a', 'b', 'c', 'd'); INSERT INTO k VALUES ('x', 'y');",
            )
            .unwrap();
        for (statement, expected) in [
            ("INSERT INTO t VALUES (1, 'z', 'z', 'z', 'z')", "t_pkey"),
            ("INSERT INTO t VALUES (2, 'a', 'z', 'z', 'z')", "t_a_key"),
            ("INSERT INTO t VALUES (2, 'z', 'b', 'c', 'z')", "t_live"),
            ("INSERT INTO t VALUES (2, 'z', 'z', 'z', 'D')", "t_lower"),
            ("INSERT INTO k VALUES ('x', 'y')", "k_pkey"),
        ] {
            let error = connection.execute(statement, []).unwrap_err();
            assert_eq!(
                failure(&error, Some(&connection)).conflict(),
                Some(expected),
                "{statement}"
            );
        }
    }
}
