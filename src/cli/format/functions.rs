//! The functions of templates: docker's own, and Go's.

use std::cmp::Ordering;

use serde_json::Value;

use super::print::{is_true, kind, text};

const DOCKERS: [&str; 8] = [
    "json", "split", "join", "title", "lower", "upper", "pad", "truncate",
];
const GOS: [&str; 18] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "eq", "ne", "lt",
    "le", "gt", "ge", "html", "js", "urlquery",
];

/// Whether there is a function of this name.
pub fn exists(name: &str) -> bool {
    is_dockers(name) || GOS.contains(&name)
}

/// Whether it is one of docker's.
pub fn is_dockers(name: &str) -> bool {
    DOCKERS.contains(&name)
}

/// Calls a function.
pub fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let string = |at: usize| match arguments.get(at) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(format!(
            "wrong type for value; expected string; got {}",
            kind(other)
        )),
        None => Err(count(name, at + 1, arguments.len())),
    };
    let number = |at: usize| match arguments.get(at) {
        Some(value) => index_of(value),
        None => Err(count(name, at + 1, arguments.len())),
    };
    let one = || arguments.first().ok_or_else(|| count(name, 1, 0));
    Ok(match name {
        "json" => Value::from(one()?.to_string()),
        "upper" => Value::from(string(0)?.to_uppercase()),
        "lower" => Value::from(string(0)?.to_lowercase()),
        "title" => Value::from(title(string(0)?)),
        "join" => {
            let separator = string(1)?;
            let items = match one()? {
                Value::Array(items) => items.iter().map(text).collect::<Vec<_>>(),
                Value::Null => Vec::new(),
                other => {
                    return Err(format!(
                        "wrong type for value; expected []string; got {}",
                        kind(other)
                    ));
                }
            };
            Value::from(items.join(separator))
        }
        "split" => {
            let separator = string(1)?;
            let whole = string(0)?;
            let parts: Vec<&str> = match separator {
                "" => whole.split("").filter(|part| !part.is_empty()).collect(),
                separator => whole.split(separator).collect(),
            };
            Value::from(parts)
        }
        "truncate" => Value::from(string(0)?.chars().take(number(1)?).collect::<String>()),
        "pad" => {
            let (whole, before, after) = (string(0)?, number(1)?, number(2)?);
            if before.max(after) > 10_000 {
                return Err("more than 10000 characters to pad with".to_owned());
            }
            match whole {
                "" => Value::from(""),
                whole => Value::from(format!(
                    "{}{whole}{}",
                    " ".repeat(before),
                    " ".repeat(after)
                )),
            }
        }
        "and" => pick(arguments, false).ok_or_else(|| count(name, 1, 0))?,
        "or" => pick(arguments, true).ok_or_else(|| count(name, 1, 0))?,
        "not" => Value::from(!is_true(one()?)),
        "len" => Value::from(length(one()?)?),
        "index" => index(one()?, arguments.get(1..).unwrap_or_default())?,
        "slice" => slice(one()?, arguments.get(1..).unwrap_or_default())?,
        "print" => Value::from(print_all(arguments)),
        "println" => Value::from(arguments.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Value::from(printf(string(0)?, arguments.get(1..).unwrap_or_default())),
        "eq" => {
            let first = one()?;
            let rest = arguments.get(1..).filter(|rest| !rest.is_empty());
            let rest = rest.ok_or("missing argument for comparison")?;
            Value::from(rest.iter().any(|other| equal(first, other)))
        }
        "ne" | "lt" | "le" | "gt" | "ge" => {
            let [left, right] = arguments else {
                return Err(count(name, 2, arguments.len()));
            };
            Value::from(match name {
                "ne" => !equal(left, right),
                "lt" => compare(left, right)?.is_lt(),
                "le" => compare(left, right)?.is_le(),
                "gt" => compare(left, right)?.is_gt(),
                _ => compare(left, right)?.is_ge(),
            })
        }
        "html" => Value::from(escape_html(&print_all(arguments))),
        "js" => Value::from(print_all(arguments).escape_default().to_string()),
        "urlquery" => Value::from(escape_url(&print_all(arguments))),
        other => return Err(format!("function {other:?} not defined")),
    })
}

fn count(name: &str, wanted: usize, got: usize) -> String {
    format!("wrong number of args for {name}: want {wanted} got {got}")
}

fn index_of(value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| format!("{} is not a usable index", text(value)))
}

/// The first argument that is true, or false; the last when there is none.
fn pick(arguments: &[Value], wanted: bool) -> Option<Value> {
    let found = arguments.iter().find(|value| is_true(value) == wanted);
    found.or(arguments.last()).cloned()
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(map) => Ok(map.len()),
        Value::Null => Ok(0),
        other => Err(format!("len of {}", kind(other))),
    }
}

/// Goes into lists by position and into maps by key; a key that is not there gives the map's
/// empty value.
fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Array(items), key) => {
                let at = index_of(key)?;
                items
                    .get(at)
                    .cloned()
                    .ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(found) => found.clone(),
                None if map.values().all(Value::is_string) => Value::from(""),
                None => Value::Null,
            },
            (Value::Null, Value::String(_)) => Value::from(""),
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (other, key) => return Err(format!("can't index {} with {}", kind(other), kind(key))),
        };
    }
    Ok(value)
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bounds = bounds.iter().map(index_of).collect::<Result<Vec<_>, _>>()?;
    let range = |length: usize| {
        let start = bounds.first().copied().unwrap_or(0);
        let end = bounds.get(1).copied().unwrap_or(length);
        if start > end || end > length {
            return Err(format!("index out of range: {end}"));
        }
        Ok(start..end)
    };
    match value {
        Value::String(text) => {
            let range = range(text.len())?;
            let part = text.get(range).ok_or("slice cuts a character in two")?;
            Ok(Value::from(part))
        }
        Value::Array(items) => {
            let part = items.get(range(items.len())?).unwrap_or_default();
            Ok(Value::Array(part.to_vec()))
        }
        other => Err(format!("can't slice item of {}", kind(other))),
    }
}

/// All values, with spaces only between two that are no strings.
fn print_all(arguments: &[Value]) -> String {
    let mut output = String::new();
    let mut before: Option<&Value> = None;
    for value in arguments {
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            output.push(' ');
        }
        output.push_str(&text(value));
        before = Some(value);
    }
    output
}

fn printf(format: &str, arguments: &[Value]) -> String {
    let mut output = String::new();
    let mut arguments = arguments.iter();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            output.push(character);
            continue;
        }
        let mut options = String::new();
        while let Some(option) =
            characters.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | '0' | '#'))
        {
            options.push(option);
        }
        let Some(verb) = characters.next() else {
            output.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            output.push('%');
            continue;
        }
        match arguments.next() {
            None => output.push_str(&format!("%!{verb}(MISSING)")),
            Some(value) => output.push_str(&verb_text(verb, &options, value)),
        }
    }
    output
}

fn verb_text(verb: char, options: &str, value: &Value) -> String {
    let left = options.contains('-');
    let digits = options.trim_start_matches(['-', '+', '#']);
    let (width, precision) = digits.split_once('.').unwrap_or((digits, ""));
    let fill = if width.starts_with('0') && !left {
        '0'
    } else {
        ' '
    };
    let width = width.parse::<usize>().unwrap_or(0).min(10_000);
    let precision = precision
        .parse::<usize>()
        .ok()
        .map(|digits| digits.min(1000));
    let body = match (verb, value) {
        ('q', Value::String(text)) => format!("{text:?}"),
        ('x', Value::Number(number)) => number
            .as_u64()
            .map_or_else(|| number.to_string(), |number| format!("{number:x}")),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('f' | 'e' | 'g', Value::Number(number)) => {
            let float = number.as_f64().unwrap_or_default();
            match (verb, precision) {
                ('f', precision) => format!("{float:.*}", precision.unwrap_or(6)),
                _ => text(value),
            }
        }
        ('s' | 'v', value) => match precision {
            Some(most) => text(value).chars().take(most).collect(),
            None => text(value),
        },
        ('d', Value::Number(_)) | ('t', Value::Bool(_)) => text(value),
        (verb, value) => format!("%!{verb}({})", text(value)),
    };
    let missing = width.saturating_sub(body.chars().count());
    let padding: String = std::iter::repeat_n(fill, missing).collect();
    if left {
        body + &padding
    } else {
        padding + &body
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}

fn compare(left: &Value, right: &Value) -> Result<Ordering, String> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64(), right.as_f64());
            left.partial_cmp(&right)
                .ok_or_else(|| "incompatible types for comparison".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn title(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        match inside {
            false => output.extend(character.to_uppercase()),
            true => output.push(character),
        }
        inside = character.is_alphanumeric() || character == '_' || character == '\'';
    }
    output
}

fn escape_html(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            '&' => output.push_str("&amp;"),
            '"' => output.push_str("&#34;"),
            '\'' => output.push_str("&#39;"),
            other => output.push(other),
        }
    }
    output
}

fn escape_url(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                output.push(char::from(byte));
            }
            b' ' => output.push('+'),
            other => output.push_str(&format!("%{other:02X}")),
        }
    }
    output
}
