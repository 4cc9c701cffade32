//! [`Value`]s on the Postgres wire.
//!
//! Parameters are typed by the server (a named statement says which type each has) or, in unnamed statements, left
//! to it: then they travel as text, which any type reads. So a statement means the same in both modes.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type};

use super::super::Value;

type Failure = Box<dyn Error + Sync + Send>;

/// A parameter. Its `Debug` is [`Value`]'s, which hides texts: the driver logs parameters.
#[derive(Debug)]
pub(super) struct Param<'v>(pub(super) &'v Value);

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        if *self.0 == Value::Null {
            return Ok(IsNull::Yes);
        }
        match (self.0, ty) {
            (Value::Int(int), &Type::INT8) => out.extend_from_slice(&int.to_be_bytes()),
            (Value::Int(int), &Type::INT4) => out.extend_from_slice(&i32::try_from(*int)?.to_be_bytes()),
            (Value::Int(int), &Type::INT2) => out.extend_from_slice(&i16::try_from(*int)?.to_be_bytes()),
            (Value::Real(real), &Type::FLOAT8) => out.extend_from_slice(&real.to_be_bytes()),
            (Value::Blob(bytes), &Type::BYTEA) => out.extend_from_slice(bytes),
            // Everything below is in text format.
            (Value::Int(int), _) => out.extend_from_slice(int.to_string().as_bytes()),
            (Value::Real(real), _) => out.extend_from_slice(real.to_string().as_bytes()),
            (Value::Text(text), _) => out.extend_from_slice(text.as_bytes()),
            (Value::Blob(bytes), _) => {
                out.extend_from_slice(b"\\x");
                out.extend_from_slice(data_encoding::HEXLOWER.encode(bytes).as_bytes());
            }
            (Value::Null, _) => return Ok(IsNull::Yes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, ty: &Type) -> Format {
        match (self.0, ty) {
            (Value::Int(_), &(Type::INT8 | Type::INT4 | Type::INT2))
            | (Value::Real(_), &Type::FLOAT8)
            | (Value::Blob(_), &Type::BYTEA) => Format::Binary,
            _ => Format::Text,
        }
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        self.to_sql(ty, out)
    }
}

/// A column.
pub(super) struct Column(pub(super) Value);

impl<'r> FromSql<'r> for Column {
    fn from_sql(ty: &Type, raw: &'r [u8]) -> Result<Self, Failure> {
        Ok(Self(match *ty {
            Type::INT8 => Value::Int(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => Value::Int(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT2 => Value::Int(i16::from_be_bytes(raw.try_into()?).into()),
            Type::OID => Value::Int(u32::from_be_bytes(raw.try_into()?).into()),
            Type::BOOL => Value::Int((raw != [0]).into()),
            Type::FLOAT8 => Value::Real(f64::from_be_bytes(raw.try_into()?)),
            Type::FLOAT4 => Value::Real(f32::from_be_bytes(raw.try_into()?).into()),
            Type::BYTEA => Value::Blob(raw.to_vec()),
            Type::NUMERIC => numeric(raw)?,
            // The first byte is the version of the format.
            Type::JSONB => Value::Text(std::str::from_utf8(raw.get(1..).unwrap_or_default())?.to_owned()),
            Type::VOID => Value::Null,
            _ => Value::Text(std::str::from_utf8(raw)?.to_owned()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self(Value::Null))
    }

    fn accepts(ty: &Type) -> bool {
        matches!(
            *ty,
            Type::INT8
                | Type::INT4
                | Type::INT2
                | Type::OID
                | Type::BOOL
                | Type::FLOAT8
                | Type::FLOAT4
                | Type::BYTEA
                | Type::NUMERIC
                | Type::JSON
                | Type::JSONB
                | Type::VOID
                | Type::TEXT
                | Type::VARCHAR
                | Type::BPCHAR
                | Type::NAME
                | Type::UNKNOWN
        )
    }
}

/// `sum(bigint)` is a NUMERIC: an integer if it is whole and fits, else a float. The wire form is a count of
/// base-10000 digits, the weight of the first, a sign, a display scale and the digits.
fn numeric(raw: &[u8]) -> Result<Value, Failure> {
    let mut words = raw
        .chunks_exact(2)
        .map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
    let mut word = || words.next().ok_or("a NUMERIC ends too early");
    let count = word()?;
    let weight = i32::from(word()?);
    let sign = word()?;
    let _scale = word()?;
    // One more than an integer can be: the magnitude of the least one.
    let mut whole: Option<i128> = Some(0);
    let mut real = 0.0_f64;
    let digits: Vec<i16> = (0..count).map(|_| word()).collect::<Result<_, _>>()?;
    let places = usize::try_from(weight + 1).unwrap_or(0);
    for at in 0..places.max(digits.len()) {
        let digit = digits.get(at).copied().unwrap_or(0);
        if at < places {
            whole = whole.and_then(|sum| sum.checked_mul(10_000)?.checked_add(digit.into()));
        } else if digit != 0 {
            whole = None;
        }
        real += f64::from(digit) * 10_000_f64.powi(weight - i32::try_from(at)?);
    }
    // 0xC000 and above: NaN and the infinities.
    let factor: i8 = match sign {
        0 => 1,
        0x4000 => -1,
        _ => return Err("a NUMERIC is no number".into()),
    };
    let whole = whole.and_then(|int| i64::try_from(int * i128::from(factor)).ok());
    Ok(whole.map_or(Value::Real(real * f64::from(factor)), Value::Int))
}
