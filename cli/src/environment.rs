//! `-e` and `--env-file`, `--label` and `--label-file`: lists of `KEY=VALUE` from the command line and from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// More than any list of variables needs; a mistaken path to a device or a disk image ends here.
const MAX_FILE_BYTES: u64 = 16 << 20;

#[derive(Debug, Error)]
pub(crate) enum EnvironmentError {
    #[error("invalid environment variable: {0}")]
    NoName(String),
    #[error("open {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: line {line}: {reason}", path.display())]
    Line { path: PathBuf, line: usize, reason: String },
}

/// The files' variables, then those of the command line, which win by coming later.
pub(crate) fn variables(files: &[PathBuf], flags: &[String]) -> Result<Vec<String>, EnvironmentError> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read_file(file, |name| std::env::var(name).ok())?);
    }
    for flag in flags {
        all.push(from_flag(flag, |name| std::env::var(name).ok())?);
    }
    Ok(all)
}

/// Labels of files and command line; one without `=` has an empty value.
pub(crate) fn labels(
    files: &[PathBuf],
    flags: &[String],
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read_file(file, |_| Some(String::new()))?);
    }
    all.extend_from_slice(flags);
    Ok(pairs(&all))
}

/// `KEY=VALUE` entries as a map; an entry without `=` has an empty value, the last of a key wins.
pub(crate) fn pairs(entries: &[String]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// `KEY=VALUE` as it is; `KEY` with our own value. Without one it stays `KEY`, which takes an image's variable away.
fn from_flag(flag: &str, ours: impl Fn(&str) -> Option<String>) -> Result<String, EnvironmentError> {
    match flag.split_once('=') {
        Some(("", _)) => Err(EnvironmentError::NoName(flag.to_owned())),
        None if flag.is_empty() => Err(EnvironmentError::NoName(flag.to_owned())),
        Some(_) => Ok(flag.to_owned()),
        None => Ok(ours(flag).map_or_else(|| flag.to_owned(), |value| format!("{flag}={value}"))),
    }
}

fn read_file(path: &Path, ours: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, EnvironmentError> {
    let text =
        read_bounded(path).map_err(|source| EnvironmentError::File { path: path.to_owned(), source })?;
    parse_lines(&text, ours).map_err(|(line, reason)| EnvironmentError::Line {
        path: path.to_owned(),
        line,
        reason,
    })
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;

    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Blank lines and lines that begin with `#` are skipped; a name without `=` is taken from `ours`, if there.
fn parse_lines(text: &str, ours: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, (usize, String)> {
    let mut entries = Vec::new();
    // Editors on Windows begin a UTF-8 file with a byte order mark.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            return Err((index + 1, format!("no variable name on line '{line}'")));
        }
        if name.contains(char::is_whitespace) {
            return Err((index + 1, format!("variable '{name}' contains whitespaces")));
        }
        match value {
            Some(_) => entries.push(line.to_owned()),
            None => entries.extend(ours(name).map(|value| format!("{name}={value}"))),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn a_flag_without_value_takes_ours_or_unsets() {
        assert_eq!(from_flag("A=b=c", ours).unwrap(), "A=b=c");
        assert_eq!(from_flag("A=", ours).unwrap(), "A=");
        assert_eq!(from_flag("HOME", ours).unwrap(), "HOME=/root");
        assert_eq!(from_flag("NOPE", ours).unwrap(), "NOPE");
        assert_eq!(from_flag("=x", ours).unwrap_err().to_string(), "invalid environment variable: =x");
    }

    #[test]
    fn files_have_comments_own_values_and_a_byte_order_mark() {
        let text = "\u{feff}# comment\n\n  A=1 2\nHOME\nNOPE\nB=#no comment\r\n";
        assert_eq!(parse_lines(text, ours).unwrap(), ["A=1 2", "HOME=/root", "B=#no comment"]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(
            parse_lines("A=1\n=x", ours).unwrap_err(),
            (2, "no variable name on line '=x'".to_owned())
        );
        assert_eq!(
            parse_lines("A B=1", ours).unwrap_err(),
            (1, "variable 'A B' contains whitespaces".to_owned())
        );
    }

    #[test]
    fn the_last_label_of_a_key_wins() {
        let labels = pairs(&["a=1".to_owned(), "b".to_owned(), "a=2".to_owned()]);
        assert_eq!(
            labels,
            BTreeMap::from([("a".to_owned(), "2".to_owned()), ("b".to_owned(), String::new())])
        );
    }
}
