use std::fmt;

use patchbay_types::{
    AccountId, ApiKeyId, AuthAttemptId, ConnectSessionId, ConnectionId, ConnectionRowId, DeliveryId,
    EndUserId, EnvironmentId, EnvironmentName, IntegrationId, IntegrationKey, OperationId, ProviderName,
    Timestamp,
};

use super::DbError;

/// A parameter or a column, in the types both databases share.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// An integer; booleans are 0 and 1, times are microseconds since 1970.
    Int(i64),
    /// A double.
    Real(f64),
    /// Text, also JSON.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl fmt::Debug for Value {
    /// Text and bytes only by their length: any of them may be a secret, and drivers log parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Int(int) => write!(f, "Int({int})"),
            Self::Real(real) => write!(f, "Real({real})"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Blob(bytes) => write!(f, "Blob({} bytes)", bytes.len()),
        }
    }
}

impl Value {
    /// The kind, for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Int(_) => "an integer",
            Self::Real(_) => "a float",
            Self::Text(_) => "a text",
            Self::Blob(_) => "bytes",
        }
    }
}

/// A row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(Vec<Value>);

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// Column `index`, from 0, in the order of the `SELECT` or `RETURNING` list. A column that is not there or is
    /// of another type is an [`DbError::Internal`].
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T, DbError> {
        let value = self.0.get(index).ok_or_else(|| {
            DbError::internal(format!("column {index} was asked of a row of {}", self.0.len()))
        })?;
        T::from_value(value).map_err(|why| DbError::internal(format!("column {index} {why}")))
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no columns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Rust types a column can be read as.
pub trait FromValue: Sized {
    /// Converts. The error completes the sentence "column 3 …" and never quotes the value.
    fn from_value(value: &Value) -> Result<Self, String>;
}

impl FromValue for Value {
    fn from_value(value: &Value) -> Result<Self, String> {
        Ok(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Int(0) => Ok(false),
            Value::Int(1) => Ok(true),
            other => Err(format!("is {} where 0 or 1 was expected", other.kind())),
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Real(real) => Ok(*real),
            other => Err(expected("a float", other)),
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            other => Err(expected("a text", other)),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Blob(bytes) => Ok(bytes.clone()),
            other => Err(expected("bytes", other)),
        }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Blob(bytes) => (&bytes[..])
                .try_into()
                .map_err(|_| format!("is {} bytes where {N} were expected", bytes.len())),
            other => Err(expected("bytes", other)),
        }
    }
}

impl FromValue for Timestamp {
    fn from_value(value: &Value) -> Result<Self, String> {
        Timestamp::from_microsecond(i64::from_value(value)?)
            .map_err(|_| "is out of the range of time".to_owned())
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl FromValue for $int {
            fn from_value(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Int(int) => {
                        (*int).try_into().map_err(|_| concat!("does not fit ", stringify!($int)).to_owned())
                    }
                    other => Err(expected("an integer", other)),
                }
            }
        }
    )*};
}
integers!(i64, i32, i16, u64, u32, u16, u8, usize);

fn expected(what: &str, got: &Value) -> String {
    format!("is {} where {what} was expected", got.kind())
}

macro_rules! into_value {
    ($($ty:ty => |$name:ident| $value:expr;)*) => {$(
        impl From<$ty> for Value {
            fn from($name: $ty) -> Self {
                $value
            }
        }
    )*};
}
into_value! {
    i64 => |int| Value::Int(int);
    i32 => |int| Value::Int(int.into());
    i16 => |int| Value::Int(int.into());
    u32 => |int| Value::Int(int.into());
    u16 => |int| Value::Int(int.into());
    u8 => |int| Value::Int(int.into());
    f64 => |real| Value::Real(real);
    bool => |truth| Value::Int(truth.into());
    &str => |text| Value::Text(text.to_owned());
    String => |text| Value::Text(text);
    &String => |text| Value::Text(text.clone());
    &[u8] => |bytes| Value::Blob(bytes.to_vec());
    Vec<u8> => |bytes| Value::Blob(bytes);
    &Vec<u8> => |bytes| Value::Blob(bytes.clone());
    Timestamp => |at| Value::Int(at.as_microsecond());
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(bytes: [u8; N]) -> Self {
        Value::Blob(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Value::Blob(bytes.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

macro_rules! row_ids {
    ($($id:ident),*) => {$(
        impl From<$id> for Value {
            fn from(id: $id) -> Self {
                Value::Int(id.0)
            }
        }
        impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                Value::Int(id.0)
            }
        }
        impl FromValue for $id {
            fn from_value(value: &Value) -> Result<Self, String> {
                i64::from_value(value).map($id)
            }
        }
    )*};
}
row_ids!(
    AccountId,
    EnvironmentId,
    ApiKeyId,
    IntegrationId,
    ConnectionRowId,
    EndUserId,
    ConnectSessionId
);

macro_rules! text_ids {
    ($($id:ident),*) => {$(
        impl From<$id> for Value {
            fn from(id: $id) -> Self {
                Value::Text(id.0)
            }
        }
        impl From<&$id> for Value {
            fn from(id: &$id) -> Self {
                Value::Text(id.0.clone())
            }
        }
        impl FromValue for $id {
            fn from_value(value: &Value) -> Result<Self, String> {
                String::from_value(value).map($id)
            }
        }
    )*};
}
text_ids!(AuthAttemptId, OperationId, DeliveryId);

macro_rules! names {
    ($($name:ident),*) => {$(
        impl From<$name> for Value {
            fn from(name: $name) -> Self {
                Value::Text(name.into())
            }
        }
        impl From<&$name> for Value {
            fn from(name: &$name) -> Self {
                Value::Text(name.as_str().to_owned())
            }
        }
        impl FromValue for $name {
            fn from_value(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Text(text) => $name::parse(text).map_err(|why| why.to_string()),
                    other => Err(expected("a text", other)),
                }
            }
        }
    )*};
}
names!(ProviderName, IntegrationKey, ConnectionId, EnvironmentName);
