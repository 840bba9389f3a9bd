//! The options of the driver `local`: what kind of volume they ask for.
//!
//! Without options a volume is a directory. `type`, `o` and `device` are those of mount(8), of which a machine can be
//! given some; others are refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::error::{EngineError, ErrorKind};
use super::volume::{Access, Backing};

const KNOWN: [&str; 4] = ["type", "o", "device", "size"];

/// What `options` mean.
///
/// # Errors
/// Docker's texts for what are no options, and Berth's for those that it cannot honour.
pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Backing, EngineError> {
    if let Some(unknown) = options.keys().find(|option| !KNOWN.contains(&option.as_str())) {
        return Err(EngineError::invalid(format!("invalid option: {unknown:?}")));
    }
    let option = |name| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let words: Vec<&str> =
        option("o").into_iter().flat_map(|words| words.split(',')).map(str::trim).collect();
    if option("size").is_some() || words.iter().any(|word| word.starts_with("size=")) {
        return Err(unsupported("a volume's size"));
    }
    let missing = |name: &str| EngineError::invalid(format!("missing required option: {name:?}"));
    match (option("type"), option("device")) {
        (None, None) if words.is_empty() => Ok(Backing::Directory),
        (_, None) => Err(missing("device")),
        (None, Some(_)) => Err(missing("type")),
        (Some(kind), Some(device)) => mount(kind, device, &words),
    }
}

fn mount(kind: &str, device: &str, words: &[&str]) -> Result<Backing, EngineError> {
    let is_bind = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
    if is_bind || kind == "bind" {
        return bind(device, words);
    }
    Err(unsupported(&format!("a volume of the type {kind:?}")))
}

fn bind(device: &str, words: &[&str]) -> Result<Backing, EngineError> {
    if !Path::new(device).is_absolute() {
        let message = format!("the device of a bind must be an absolute path: {device:?}");
        return Err(EngineError::invalid(message));
    }
    let mut access = Access::ReadWrite;
    for word in words {
        match *word {
            // All mounts below come with it, and nothing propagates into a machine.
            "bind" | "rbind" | "private" | "rprivate" | "defaults" | "" => {}
            "ro" => access = Access::ReadOnly,
            "rw" => access = Access::ReadWrite,
            other => return Err(unsupported(&format!("the mount option {other:?} of a volume"))),
        }
    }
    Ok(Backing::Bind { device: PathBuf::from(device), access })
}

fn unsupported(what: &str) -> EngineError {
    EngineError::new(ErrorKind::NotSupported, format!("{what} is not supported by berth yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Backing, String> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        super::read(&options).map_err(|error| error.message)
    }

    #[test]
    fn a_bind_is_a_directory_of_the_hosts() {
        let bind = |access| Ok(Backing::Bind { device: "/srv".into(), access });
        let read = |words| read(&[("type", "none"), ("o", words), ("device", "/srv")]);
        assert_eq!(read("bind"), bind(Access::ReadWrite));
        assert_eq!(read("rbind,ro"), bind(Access::ReadOnly));
        assert!(read("bind,shared").unwrap_err().contains("\"shared\""));
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for (options, message) in [
            (vec![("x", "y")], "invalid option: \"x\""),
            (vec![("type", "none")], "missing required option: \"device\""),
            (vec![("device", "/srv")], "missing required option: \"type\""),
            (vec![("o", "bind")], "missing required option: \"device\""),
            (
                vec![("type", "none"), ("o", "bind"), ("device", "srv")],
                "the device of a bind must be an absolute path: \"srv\"",
            ),
            (
                vec![("type", "nfs"), ("o", "addr=1.2.3.4"), ("device", ":/x")],
                "a volume of the type \"nfs\" is not supported by berth yet",
            ),
        ] {
            assert_eq!(read(&options), Err(message.to_owned()));
        }
        assert_eq!(read(&[]), Ok(Backing::Directory));
    }
}
