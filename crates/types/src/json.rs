//! JSON objects as they are stored and passed on, key order kept, and the one deterministic text form.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::Value;

/// A JSON object.
pub type JsonMap = serde_json::Map<String, Value>;

/// The text that `JSON.stringify(JSON.parse(text))` of an ECMAScript engine leaves unchanged, keys sorted
/// (webhooks §B4): integer-like keys first in numeric order, as engines enumerate them, then the rest by UTF-16
/// code unit; numbers as ECMAScript prints them; no white space. Receivers verify signatures against it.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, item);
            }
            text.push(']');
        }
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by(|(a, _), (b, _)| compare_keys(a, b));
            text.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_string(text, key);
                text.push(':');
                write_value(text, item);
            }
            text.push('}');
        }
    }
}

fn write_string(text: &mut String, string: &str) {
    // serde_json escapes exactly what JSON.stringify does for well-formed strings.
    text.push_str(&serde_json::to_string(string).unwrap_or_default());
}

fn write_number(text: &mut String, number: &serde_json::Number) {
    const SAFE: u64 = 1 << 53;
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(integer), _, _) if integer.unsigned_abs() <= SAFE => {
            let _ = write!(text, "{integer}");
        }
        (_, Some(integer), _) if integer <= SAFE => {
            let _ = write!(text, "{integer}");
        }
        (_, _, Some(float)) => write_f64(text, float),
        _ => text.push_str("null"),
    }
}

/// ECMAScript `Number::toString` (ECMA-262 §6.1.6.1.20): decimal notation for exponents -7 to 20.
fn write_f64(text: &mut String, float: f64) {
    if !float.is_finite() {
        return text.push_str("null");
    }
    if float == 0.0 {
        return text.push('0');
    }
    // Rust's `{:e}` gives the same shortest digits that round-trip: `d.ddde±x`.
    let scientific = format!("{:e}", float.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    if float < 0.0 {
        text.push('-');
    }
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent + 1;
    if count <= point && point <= 21 {
        text.push_str(&digits);
        text.extend(std::iter::repeat_n(
            '0',
            usize::try_from(point - count).unwrap_or(0),
        ));
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        let _ = write!(text, "{whole}.{fraction}");
    } else if -6 < point && point <= 0 {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', usize::try_from(-point).unwrap_or(0)));
        text.push_str(&digits);
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(text, "{first}{dot}{rest}e{sign}{}", exponent.abs());
    }
}

fn compare_keys(a: &str, b: &str) -> Ordering {
    match (array_index(a), array_index(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.encode_utf16().cmp(b.encode_utf16()),
    }
}

/// An ECMAScript array index: canonical decimal text of 0 to 2³² − 2.
fn array_index(key: &str) -> Option<u32> {
    let canonical = key == "0" || (!key.starts_with('0') && !key.is_empty());
    let digits = key.bytes().all(|byte| byte.is_ascii_digit());
    key.parse()
        .ok()
        .filter(|index| canonical && digits && *index != u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_ordered_as_engines_enumerate_them() {
        let value = json!({"b": 1, "10": 1, "9": 1, "a": {"é": null, "z": [true]}, "01": 1, "4294967295": 1});
        assert_eq!(
            canonical(&value),
            r#"{"9":1,"10":1,"01":1,"4294967295":1,"a":{"z":[true],"é":null},"b":1}"#
        );
    }

    #[test]
    fn numbers_print_as_ecmascript_prints_them() {
        for (number, text) in [
            (json!(1.0), "1"),
            (json!(-0.0), "0"),
            (json!(100_000.0), "100000"),
            (json!(1e21), "1e+21"),
            (json!(123_456_789_012_345_680_000.0), "123456789012345680000"),
            (json!(1.5e-7), "1.5e-7"),
            (json!(0.000_001), "0.000001"),
            (json!(-12.75), "-12.75"),
            (json!(9_007_199_254_740_993_i64), "9007199254740992"),
            (json!(42), "42"),
        ] {
            assert_eq!(canonical(&number), text);
        }
    }

    #[test]
    fn strings_escape_only_what_json_stringify_escapes() {
        assert_eq!(
            canonical(&json!("\"\\/\u{8}\u{1f}\u{7f}é🦀")),
            "\"\\\"\\\\/\\b\\u001f\u{7f}é🦀\""
        );
    }
}
