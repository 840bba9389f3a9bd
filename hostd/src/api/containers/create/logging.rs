//! How a request wants the container's output kept, with Docker's rules and texts.

use std::collections::BTreeMap;

use super::body;
use crate::api::error::{ApiError, ApiResult};
use crate::engine::{LogDriver, LogSettings, Rotation};
use crate::size;

/// Docker's bounds of the `local` driver.
const LOCAL_ROTATION: Rotation = Rotation { max_bytes: 20_000_000, max_files: 5 };

/// What may stand in a tag.
const TAG_PLACEHOLDERS: [&str; 7] = [
    "{{.ID}}",
    "{{.FullID}}",
    "{{.Name}}",
    "{{.ImageID}}",
    "{{.ImageFullID}}",
    "{{.ImageName}}",
    "{{.DaemonName}}",
];

/// # Errors
/// A driver or option that there is not, or not yet; a value that is none.
pub(super) fn settings(asked: body::LogConfig) -> ApiResult<LogSettings> {
    let options = asked.config;
    match asked.kind.as_str() {
        "" | "json-file" => json_file(options),
        "local" => local(options),
        // Options of what is not kept have nothing to act on.
        "none" => Ok(LogSettings { driver: LogDriver::None, options, ..LogSettings::default() }),
        other => Err(ApiError::not_supported(format!(
            "berth cannot honour HostConfig.LogConfig yet: it needs the log driver {other}; \
             there are json-file, local and none"
        ))),
    }
}

fn json_file(options: BTreeMap<String, String>) -> ApiResult<LogSettings> {
    let known = ["max-size", "max-file", "labels", "env", "tag"];
    check_names(&options, &known, |name| format!("unknown log opt '{name}' for json-file log driver"))?;
    let max_files = max_files(&options)?;
    let max_bytes = max_bytes(&options)?;
    let list = |name: &str| options.get(name).map(|list| words(list)).unwrap_or_default();
    Ok(LogSettings {
        driver: LogDriver::JsonFile,
        rotation: max_bytes.map(|max_bytes| Rotation { max_bytes, max_files: max_files.unwrap_or(1) }),
        labels: list("labels"),
        variables: list("env"),
        tag: options.get("tag").filter(|tag| !tag.is_empty()).map(|tag| check_tag(tag)).transpose()?,
        options,
    })
}

fn local(options: BTreeMap<String, String>) -> ApiResult<LogSettings> {
    let known = ["max-size", "max-file"];
    check_names(&options, &known, |name| format!("unknown log opt '{name}' for log driver local"))?;
    let rotation = Rotation {
        max_bytes: max_bytes(&options)?.unwrap_or(LOCAL_ROTATION.max_bytes),
        max_files: max_files(&options)?.unwrap_or(LOCAL_ROTATION.max_files),
    };
    Ok(LogSettings { driver: LogDriver::Local, rotation: Some(rotation), options, ..LogSettings::default() })
}

/// Beside those of the driver, `mode` and `compress` may ask for what there is anyway.
fn check_names(
    options: &BTreeMap<String, String>,
    known: &[&str],
    unknown: impl Fn(&str) -> String,
) -> ApiResult<()> {
    for (name, value) in options {
        match (name.as_str(), value.as_str()) {
            (name, _) if known.contains(&name) => {}
            ("mode", "" | "blocking") | ("compress", "false" | "0" | "") => {}
            ("mode" | "compress" | "max-buffer-size" | "labels-regex" | "env-regex", _) => {
                let message = format!("berth cannot honour the log option {name}={value} yet");
                return Err(ApiError::not_supported(message));
            }
            (name, _) => return Err(ApiError::invalid(unknown(name))),
        }
    }
    Ok(())
}

fn max_files(options: &BTreeMap<String, String>) -> ApiResult<Option<u32>> {
    let Some(text) = options.get("max-file") else { return Ok(None) };
    match text.parse::<u32>() {
        Ok(0) => Err(ApiError::invalid("max-file cannot be less than 1")),
        Ok(count @ 1..=1000) => Ok(Some(count)),
        _ => {
            Err(ApiError::invalid(format!("invalid value for max-file: \"{text}\": a number from 1 to 1000")))
        }
    }
}

fn max_bytes(options: &BTreeMap<String, String>) -> ApiResult<Option<u64>> {
    let Some(text) = options.get("max-size") else { return Ok(None) };
    // Docker's word for "without a limit".
    if text == "-1" {
        return Ok(None);
    }
    match size::bytes(text, size::DECIMAL) {
        Some(0) => Err(ApiError::invalid("max-size must be a positive number")),
        Some(bytes) => Ok(Some(bytes)),
        None => Err(ApiError::invalid(format!("invalid size: '{text}'"))),
    }
}

fn words(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn check_tag(tag: &str) -> ApiResult<String> {
    let plain = TAG_PLACEHOLDERS.iter().fold(tag.to_owned(), |tag, placeholder| tag.replace(placeholder, ""));
    if plain.contains("{{") {
        let known = TAG_PLACEHOLDERS.join(", ");
        let message = format!("berth cannot honour the log tag \"{tag}\" yet: it may hold text and {known}");
        return Err(ApiError::not_supported(message));
    }
    Ok(tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, options: &[(&str, &str)]) -> ApiResult<LogSettings> {
        let config = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings(body::LogConfig { kind: kind.to_owned(), config })
    }

    #[test]
    fn a_json_file_rotates_only_if_asked_to() {
        assert_eq!(parse("", &[]), Ok(LogSettings::default()));
        assert_eq!(parse("json-file", &[("max-file", "3")]).unwrap().rotation, None);
        let rotation = |options| parse("json-file", options).unwrap().rotation;
        assert_eq!(rotation(&[("max-size", "10m")]), Some(Rotation { max_bytes: 10_000_000, max_files: 1 }));
        let expected = Some(Rotation { max_bytes: 1500, max_files: 3 });
        assert_eq!(rotation(&[("max-size", "1.5kB"), ("max-file", "3"), ("mode", "blocking")]), expected);
        assert_eq!(parse("local", &[]).unwrap().rotation, Some(LOCAL_ROTATION));
        assert_eq!(parse("none", &[]).unwrap().driver, LogDriver::None);
    }

    #[test]
    fn what_stands_beside_records_is_a_list_and_a_tag() {
        let options = [("labels", "a, b"), ("env", "C"), ("tag", "{{.Name}}-x")];
        let settings = parse("json-file", &options).unwrap();
        assert_eq!(
            (settings.labels.len(), settings.variables, settings.tag.as_deref()),
            (2, vec!["C".to_owned()], Some("{{.Name}}-x"))
        );
    }

    #[test]
    fn what_there_is_not_is_refused_by_name() {
        for (kind, options, status, words) in [
            ("syslog", vec![], 501, "needs the log driver syslog"),
            ("json-file", vec![("max", "1")], 400, "unknown log opt 'max' for json-file log driver"),
            ("local", vec![("labels", "a")], 400, "unknown log opt 'labels' for log driver local"),
            ("json-file", vec![("max-size", "x")], 400, "invalid size: 'x'"),
            ("json-file", vec![("max-size", "0")], 400, "max-size must be a positive number"),
            ("json-file", vec![("max-size", "1m"), ("max-file", "0")], 400, "max-file cannot be less than 1"),
            ("json-file", vec![("max-file", "-1")], 400, "invalid value for max-file"),
            ("json-file", vec![("mode", "non-blocking")], 501, "mode=non-blocking"),
            ("json-file", vec![("compress", "true")], 501, "compress=true"),
            ("json-file", vec![("tag", "{{.Hostname}}")], 501, "the log tag"),
        ] {
            let error = parse(kind, &options).unwrap_err();
            assert_eq!(error.status, status, "{}", error.message);
            assert!(error.message.contains(words), "{}", error.message);
        }
    }
}
