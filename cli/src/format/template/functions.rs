//! What templates can call: Go's own functions that make sense on JSON, and those of Docker's clients.

use std::cmp::Ordering;

use serde_json::Value;

use super::TemplateError;

pub(crate) const FUNCTIONS: [&str; 22] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "print",
    "printf", "println", "slice", "split", "title", "truncate", "upper",
];

/// Of a formatted value; wider than any terminal.
const MAX_WIDTH: usize = 10_000;

pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

pub(super) fn call(function: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let wrong = || TemplateError::wrong(function, arguments.first().unwrap_or(&Value::Null));
    Ok(match (function, arguments) {
        ("json", [value]) => value.to_string().into(),
        ("print", values) => printed(values).into(),
        ("printf", [Value::String(format), values @ ..]) => {
            formatted(format, values).ok_or_else(wrong)?.into()
        }
        ("println", values) => format!("{}\n", values.iter().map(print).collect::<Vec<_>>().join(" ")).into(),
        ("upper", [Value::String(text)]) => text.to_uppercase().into(),
        ("lower", [Value::String(text)]) => text.to_lowercase().into(),
        ("title", [Value::String(text)]) => title(text).into(),
        ("len", [value]) => length(value).ok_or_else(wrong)?.into(),
        ("join", [Value::Array(items), Value::String(separator)]) => {
            items.iter().map(print).collect::<Vec<_>>().join(separator).into()
        }
        ("join", [Value::Null, _]) => "".into(),
        ("split", [Value::String(text), Value::String(separator)]) => {
            text.split(separator.as_str()).map(Value::from).collect::<Vec<_>>().into()
        }
        ("truncate", [Value::String(text), Value::Number(length)]) => {
            let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
            text.chars().take(length).collect::<String>().into()
        }
        ("index", [value, keys @ ..]) => index(value, keys)?,
        ("slice", [value, bounds @ ..]) => slice(value, bounds).ok_or_else(wrong)?,
        ("not", [value]) => (!is_true(value)).into(),
        // Through a pipe; otherwise what decides is seen before this.
        ("and", [rest @ .., last]) => rest.iter().find(|value| !is_true(value)).unwrap_or(last).clone(),
        ("or", [rest @ .., last]) => rest.iter().find(|value| is_true(value)).unwrap_or(last).clone(),
        ("eq", [value, others @ ..]) if !others.is_empty() => {
            others.iter().any(|other| are_equal(value, other)).into()
        }
        ("ne", [one, other]) => (!are_equal(one, other)).into(),
        ("lt", [one, other]) => order(one, other).ok_or_else(wrong)?.is_lt().into(),
        ("le", [one, other]) => order(one, other).ok_or_else(wrong)?.is_le().into(),
        ("gt", [one, other]) => order(one, other).ok_or_else(wrong)?.is_gt().into(),
        ("ge", [one, other]) => order(one, other).ok_or_else(wrong)?.is_ge().into(),
        _ => return Err(wrong()),
    })
}

/// As Go's `fmt.Sprint`: a space between two values of which none is text.
fn printed(values: &[Value]) -> String {
    let mut out = String::new();
    for (number, value) in values.iter().enumerate() {
        if number > 0 && !value.is_string() && !values[number - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&print(value));
    }
    out
}

/// The verbs %s, %v, %d, %t, %q and %%, with a width and a precision. `None` if one is another, or values are too few or many.
fn formatted(format: &str, values: &[Value]) -> Option<String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let end = behind.find(|c: char| c.is_ascii_alphabetic() || c == '%')?;
        let (flags, verb) = (&behind[..end], &behind[end..=end]);
        rest = &behind[end + 1..];
        if verb == "%" {
            out.push('%');
            continue;
        }
        let text = match (verb, values.next()?) {
            ("s" | "v", value) => print(value),
            ("d", value) if value.is_number() => print(value),
            ("t", value) if value.is_boolean() => print(value),
            ("q", Value::String(text)) => format!("{text:?}"),
            _ => return None,
        };
        out.push_str(&padded(&text, flags)?);
    }
    out.push_str(rest);
    values.next().is_none().then_some(out)
}

/// `-10.3`: at least so wide, at most so long, and perhaps to the left.
fn padded(text: &str, flags: &str) -> Option<String> {
    let (to_left, flags) = flags.strip_prefix('-').map_or((false, flags), |rest| (true, rest));
    let (width, precision) = flags.split_once('.').unwrap_or((flags, ""));
    let number = |text: &str, otherwise: usize| match text {
        "" => Some(otherwise),
        text => text.parse().ok().filter(|number| *number <= MAX_WIDTH),
    };
    let (width, length) = (number(width, 0)?, number(precision, usize::MAX)?);
    let text: String = text.chars().take(length).collect();
    Some(if to_left { format!("{text:<width$}") } else { format!("{text:>width$}") })
}

fn title(text: &str) -> String {
    let mut starts = true;
    let upper = |character: char| {
        let first = std::mem::replace(&mut starts, character.is_whitespace());
        if first { character.to_uppercase().collect::<String>() } else { character.to_string() }
    };
    text.chars().map(upper).collect()
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Null => Some(0),
        Value::String(text) => Some(text.len()),
        Value::Array(items) => Some(items.len()),
        Value::Object(fields) => Some(fields.len()),
        Value::Bool(_) | Value::Number(_) => None,
    }
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, TemplateError> {
    let Some((key, rest)) = keys.split_first() else { return Ok(value.clone()) };
    let inside = match (value, key) {
        // Go gives the zero value for a key that a map does not have.
        (Value::Object(fields), Value::String(key)) => fields.get(key).cloned().unwrap_or("".into()),
        (Value::Null, _) => "".into(),
        (Value::Array(items), Value::Number(number)) => {
            let number = number.as_u64().and_then(|number| usize::try_from(number).ok());
            let item = number.and_then(|number| items.get(number));
            item.cloned().ok_or_else(|| TemplateError::wrong("index", value))?
        }
        _ => return Err(TemplateError::wrong("index", value)),
    };
    index(&inside, rest)
}

/// Bytes of text, or items: from the first bound up to the second, or to the end.
fn slice(value: &Value, bounds: &[Value]) -> Option<Value> {
    let bound = |at: usize, otherwise: usize| match bounds.get(at) {
        Some(bound) => bound.as_u64().and_then(|bound| usize::try_from(bound).ok()),
        None => Some(otherwise),
    };
    let range = bound(0, 0)?..bound(1, length(value)?)?;
    match value {
        _ if bounds.len() > 2 => None,
        Value::String(text) => text.get(range).map(Value::from),
        Value::Array(items) => items.get(range).map(|items| items.to_vec().into()),
        _ => None,
    }
}

fn are_equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    }
}

fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

/// A value as Go's templates print it.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", print(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
    }
}
