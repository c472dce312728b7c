//! Values as Go prints them.

use serde_json::Value;

use super::parser::{Base, Operand};

/// A value where a template prints it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        other => text(other),
    }
}

/// A value as Go's `%v` prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => float_text(float),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().collect();
            items.sort_by_key(|(key, _)| *key);
            let items: Vec<String> = items
                .into_iter()
                .map(|(key, item)| format!("{key}:{}", text(item)))
                .collect();
            format!("map[{}]", items.join(" "))
        }
    }
}

/// A number as Go's `%v` prints it: plain up to 21 digits, with an exponent beyond.
fn float_text(float: f64) -> String {
    let size = float.abs();
    if float == 0.0 || (1e-4..1e21).contains(&size) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// Whether a value counts as true: anything but zero, the empty and nothing.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// What kind of value it is, in Go's words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "type bool",
        Value::Number(_) => "type int",
        Value::String(_) => "type string",
        Value::Array(_) => "type []interface {}",
        Value::Object(_) => "type map[string]interface {}",
    }
}

/// An operand as it stands in the template, near enough to find it.
pub fn source(operand: &Operand) -> String {
    match operand {
        Operand::Constant(value) => value.to_string(),
        Operand::Function(name) => name.clone(),
        Operand::Path(Base::Dot, fields) => format!(".{}", fields.join(".")),
        Operand::Path(Base::Variable(name), fields) => fields
            .iter()
            .fold(format!("${name}"), |text, field| format!("{text}.{field}")),
        Operand::Path(Base::Pipeline(_), fields) => fields
            .iter()
            .fold("(…)".to_owned(), |text, field| format!("{text}.{field}")),
    }
}
