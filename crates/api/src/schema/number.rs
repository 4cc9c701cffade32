use serde_json::{Map, Value};

use super::issue::{Issues, Path};
use super::wrong;

/// Largest integer an ECMAScript client can tell from its neighbours.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// Rules of a number.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Number {
    coerced: bool,
    int: bool,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Min(f64),
    Max(f64),
    Positive,
}

/// A JSON number.
pub fn number() -> Number {
    Number::default()
}

/// A number, or text that ECMAScript's `Number()` understands, as query parameters are.
pub fn coerced_number() -> Number {
    Number {
        coerced: true,
        ..Number::default()
    }
}

impl Number {
    /// Whole, and safe for ECMAScript.
    pub fn int(mut self) -> Self {
        self.int = true;
        self
    }

    /// At least `least`.
    pub fn min(mut self, least: f64) -> Self {
        self.rules.push(Rule::Min(least));
        self
    }

    /// At most `most`.
    pub fn max(mut self, most: f64) -> Self {
        self.rules.push(Rule::Max(most));
        self
    }

    /// Greater than zero.
    pub fn positive(mut self) -> Self {
        self.rules.push(Rule::Positive);
        self
    }

    pub(super) fn check(&self, input: Option<&Value>, at: Path<'_>, issues: &mut Issues) -> Option<Value> {
        let number = match input {
            Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
            other if self.coerced => coerce(other),
            other => return wrong("number", other, at, issues),
        };
        if number.is_nan() || number.is_infinite() {
            let kind = if number.is_nan() { "NaN" } else { "number" };
            issues.wrong_type(at, "number", kind);
            return None;
        }
        if self.int && number.fract() != 0.0 {
            issues.wrong_type(at, "int", "number");
            return None;
        }
        if self.int && number.abs() > MAX_SAFE {
            let (code, message) = if number > 0.0 {
                ("too_big", "Too big: expected int to be <=9007199254740991")
            } else {
                ("too_small", "Too small: expected int to be >=-9007199254740991")
            };
            issues.note(at, code, message);
        }
        for rule in &self.rules {
            let (code, message) = match *rule {
                Rule::Min(least) if number < least => {
                    ("too_small", format!("Too small: expected number to be >={least}"))
                }
                Rule::Max(most) if number > most => {
                    ("too_big", format!("Too big: expected number to be <={most}"))
                }
                Rule::Positive if number <= 0.0 => {
                    ("too_small", "Too small: expected number to be >0".to_owned())
                }
                _ => continue,
            };
            issues.note(at, code, message);
        }
        Some(normalised(number))
    }

    pub(super) fn emit(&self, schema: &mut Map<String, Value>) {
        let kind = if self.int { "integer" } else { "number" };
        schema.insert("type".into(), kind.into());
        for rule in &self.rules {
            match *rule {
                Rule::Min(least) => schema.insert("minimum".into(), normalised(least)),
                Rule::Max(most) => schema.insert("maximum".into(), normalised(most)),
                Rule::Positive => schema.insert("exclusiveMinimum".into(), 0.into()),
            };
        }
    }
}

/// Whole numbers as integers, so that they deserialize into integer types however they were written.
#[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
fn normalised(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= MAX_SAFE {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

/// ECMAScript's `Number(input)` (ECMA-262 §7.1.4).
fn coerce(input: Option<&Value>) -> f64 {
    match input {
        None | Some(Value::Object(_)) => f64::NAN,
        Some(Value::Null | Value::Bool(false)) => 0.0,
        Some(Value::Bool(true)) => 1.0,
        Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
        Some(Value::String(text)) => coerce_text(text),
        // An array becomes its items joined by commas; only none or one can be a number.
        Some(Value::Array(items)) => match items.as_slice() {
            [] => 0.0,
            [Value::Bool(_)] => f64::NAN,
            [item] => coerce(Some(item)),
            _ => f64::NAN,
        },
    }
}

fn coerce_text(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    let radix = match text.get(..2) {
        Some("0x" | "0X") => 16,
        Some("0o" | "0O") => 8,
        Some("0b" | "0B") => 2,
        _ => 10,
    };
    if radix != 10 {
        let digits = &text[2..];
        let parsed = digits.chars().try_fold(0.0, |sum: f64, digit| {
            digit
                .to_digit(radix)
                .map(|digit| sum * f64::from(radix) + f64::from(digit))
        });
        return parsed.filter(|_| !digits.is_empty()).unwrap_or(f64::NAN);
    }
    match text {
        "Infinity" | "+Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        // Rust's parser also knows names such as "inf"; ECMAScript's does not.
        _ if text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) =>
        {
            text.parse().unwrap_or(f64::NAN)
        }
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_becomes_a_number_as_in_ecmascript() {
        for (text, number) in [
            ("", 0.0),
            (" 12 ", 12.0),
            ("1e3", 1000.0),
            ("0x10", 16.0),
            ("-.5", -0.5),
            ("5.", 5.0),
        ] {
            assert!((coerce_text(text) - number).abs() < f64::EPSILON, "{text}");
        }
        for text in ["abc", "1 2", "inf", "nan", "0x", "1_000", "--1", "."] {
            assert!(coerce_text(text).is_nan(), "{text}");
        }
        assert!(coerce(Some(&json!(["2"]))).eq(&2.0));
        assert!(coerce(Some(&json!(["2", "3"]))).is_nan());
    }
}
