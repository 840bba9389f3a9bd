//! The instruction HEALTHCHECK: a command and when it is run, in the form that configurations have.

use jiff::SignedDuration;
use serde_json::{Map, Value, json};

/// Docker's.
const MIN_DURATION: SignedDuration = SignedDuration::from_millis(1);
/// Options and the fields that they set.
const DURATIONS: [(&str, &str); 4] = [
    ("--interval=", "Interval"),
    ("--timeout=", "Timeout"),
    ("--start-period=", "StartPeriod"),
    ("--start-interval=", "StartInterval"),
];
const RETRIES: &str = "--retries=";

/// `[OPTION…] CMD command`, or `NONE`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn healthcheck(arguments: &str) -> Result<Value, String> {
    let mut check = Map::new();
    let mut rest = arguments.trim();
    while rest.starts_with("--") {
        let (option, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (field, number) = option_value(option)?;
        check.insert(field.to_owned(), json!(number));
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() && check.is_empty() => json!(["NONE"]),
        "NONE" => return Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" => test(command)?,
        "" => return Err("HEALTHCHECK requires at least one argument".to_owned()),
        kind => return Err(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)")),
    };
    check.insert("Test".to_owned(), test);
    Ok(check.into())
}

fn test(command: &str) -> Result<Value, String> {
    let words = super::json_list(command);
    if command.is_empty() || words.as_ref().is_some_and(Vec::is_empty) {
        return Err("Missing command after HEALTHCHECK CMD".to_owned());
    }
    Ok(match words {
        Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        None => json!(["CMD-SHELL", command]),
    })
}

/// The field, and nanoseconds or a count.
fn option_value(option: &str) -> Result<(&'static str, i64), String> {
    if let Some(text) = option.strip_prefix(RETRIES) {
        let retries: i32 = text.parse().map_err(|_no_number| format!("--retries {text:?} is no number"))?;
        if retries < 0 {
            return Err(format!("--retries cannot be negative ({retries})"));
        }
        return Ok(("Retries", retries.into()));
    }
    let found = DURATIONS.iter().find_map(|(name, field)| Some((*field, option.strip_prefix(name)?)));
    let (field, text) = found.ok_or_else(|| format!("Unknown flag: {option}"))?;
    let invalid = || format!("{field} {text:?} is no duration");
    if !text.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Err(invalid());
    }
    if text == "0" {
        return Ok((field, 0));
    }
    let duration: SignedDuration = text.parse().map_err(|_error| invalid())?;
    if !duration.is_zero() && duration < MIN_DURATION {
        return Err(format!("{field} {text:?} cannot be less than 1ms"));
    }
    i64::try_from(duration.as_nanos()).map(|nanoseconds| (field, nanoseconds)).map_err(|_range| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_field() {
        let arguments = "--interval=1m30s --timeout=500ms --start-period=0 --start-interval=1.5s --retries=4 CMD curl -f x";
        let expected = json!({
            "Interval": 90_000_000_000_i64, "Timeout": 500_000_000, "StartPeriod": 0,
            "StartInterval": 1_500_000_000, "Retries": 4, "Test": ["CMD-SHELL", "curl -f x"],
        });
        assert_eq!(healthcheck(arguments).unwrap(), expected);
        assert_eq!(healthcheck("cmd [\"a\", \"b\"]").unwrap(), json!({ "Test": ["CMD", "a", "b"] }));
        assert_eq!(healthcheck("NONE").unwrap(), json!({ "Test": ["NONE"] }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, message) in [
            ("", "HEALTHCHECK requires at least one argument"),
            ("NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("CMD", "Missing command after HEALTHCHECK CMD"),
            ("CMD []", "Missing command after HEALTHCHECK CMD"),
            ("SHELL x", "Unknown type \"SHELL\" in HEALTHCHECK (try CMD)"),
            ("--retries=-1 CMD x", "--retries cannot be negative (-1)"),
            ("--retries=x CMD x", "--retries \"x\" is no number"),
            ("--interval=soon CMD x", "Interval \"soon\" is no duration"),
            ("--interval=-1s CMD x", "Interval \"-1s\" is no duration"),
            ("--timeout=10us CMD x", "Timeout \"10us\" cannot be less than 1ms"),
            ("--other=1 CMD x", "Unknown flag: --other=1"),
        ] {
            assert_eq!(healthcheck(arguments).unwrap_err(), message);
        }
    }
}
