//! The options of the driver `local`: what kind of volume they ask for.
//!
//! Without options a volume is a directory, and with a size alone a file system of that size. `type`, `o` and `device` are
//! those of mount(8), of which a machine can be given some; others are refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::error::{EngineError, ErrorKind};
use super::volume::{Access, Backing, MemoryOptions};
use crate::size;

const KNOWN: [&str; 4] = ["type", "o", "device", "size"];
/// A file system with a journal has no use for less.
const MIN_SIZE_BYTES: u64 = 8 << 20;
/// ext4's largest, with blocks of 4 KiB.
const MAX_SIZE_BYTES: u64 = 16 << 40;

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
    let missing = |name: &str| EngineError::invalid(format!("missing required option: {name:?}"));
    match (option("type"), option("device"), option("size"), &words[..]) {
        (None, None, None, []) => Ok(Backing::Directory),
        (None, None, Some(size), []) => limited(size),
        (None, None, None, [word]) if word.starts_with("size=") => limited(&word["size=".len()..]),
        (_, None, ..) => Err(missing("device")),
        (None, Some(_), ..) => Err(missing("type")),
        (Some(_), Some(_), Some(_), _) => {
            Err(unsupported("the size of a volume that is a mount of the host's"))
        }
        (Some(kind), Some(device), None, words) => mount(kind, device, words),
    }
}

fn limited(size: &str) -> Result<Backing, EngineError> {
    let invalid = || EngineError::invalid(format!("invalid size: '{size}'"));
    let size_bytes = size::bytes(size, size::BINARY).ok_or_else(invalid)?;
    if (MIN_SIZE_BYTES..=MAX_SIZE_BYTES).contains(&size_bytes) {
        // Of whole blocks.
        return Ok(Backing::Limited { size_bytes: size_bytes & !0xfff });
    }
    Err(EngineError::invalid(format!("invalid size: '{size}': a volume's is between 8 MiB and 16 TiB")))
}

fn mount(kind: &str, device: &str, words: &[&str]) -> Result<Backing, EngineError> {
    let is_bind = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
    match kind {
        "tmpfs" => memory(words),
        "none" | "bind" if is_bind || kind == "bind" => bind(device, words),
        _ => Err(unsupported(&format!("a volume of the type {kind:?}"))),
    }
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
            other => return Err(unsupported_word(other)),
        }
    }
    Ok(Backing::Bind { device: PathBuf::from(device), access })
}

fn memory(words: &[&str]) -> Result<Backing, EngineError> {
    let mut options = MemoryOptions::default();
    for word in words {
        match (*word, word.split_once('=')) {
            // No device file of a guest's is on a share.
            ("defaults" | "nodev" | "", _) => {}
            ("ro", _) => options.access = Access::ReadOnly,
            ("rw", _) => options.access = Access::ReadWrite,
            (_, Some((name, value))) if is_memory_option(name, value) => {
                options.words.insert(name.to_owned(), value.to_owned());
            }
            (other, _) => return Err(unsupported_word(other)),
        }
    }
    Ok(Backing::Memory(options))
}

/// Whether tmpfs(5) has it; nothing else must get to the kernel's parser.
fn is_memory_option(name: &str, value: &str) -> bool {
    let units: &[char] = match name {
        "size" => &['k', 'm', 'g', 'K', 'M', 'G', '%'],
        "nr_blocks" | "nr_inodes" => &['k', 'm', 'g', 'K', 'M', 'G'],
        "uid" | "gid" => &[],
        "mode" => {
            return (1..=4).contains(&value.len()) && value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        }
        _ => return false,
    };
    let digits = value.strip_suffix(units).unwrap_or(value);
    (1..=19).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn unsupported_word(word: &str) -> EngineError {
    unsupported(&format!("the mount option {word:?} of a volume"))
}

fn unsupported(what: &str) -> EngineError {
    EngineError::new(ErrorKind::NotSupported, format!("{what} is not supported by berth yet"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn a_size_alone_is_a_file_system() {
        let limited = |size_bytes| Ok(Backing::Limited { size_bytes });
        assert_eq!(read(&[("size", "10G")]), limited(10 << 30));
        assert_eq!(read(&[("o", "size=64mb")]), limited(64 << 20));
        assert_eq!(read(&[("size", "1.5G")]), limited(3 << 29));
        assert_eq!(read(&[("size", "8388609")]), limited(8 << 20));
        for size in ["x", "-1", "1.x", "+9G", "", "9999999999999999999g", "1k", "17t"] {
            let refused = read(&[("size", "10G"), ("o", "size=1g")]).unwrap_err();
            assert!(refused.contains("missing required option"), "{refused}");
            assert!(
                size.is_empty() || read(&[("size", size)]).unwrap_err().starts_with("invalid size: "),
                "{size}"
            );
        }
    }

    #[test]
    fn memory_has_the_options_of_tmpfs() {
        let read = |words| read(&[("type", "tmpfs"), ("o", words), ("device", "tmpfs")]);
        let Ok(Backing::Memory(options)) = read("size=100m,uid=1000,mode=1777,ro") else {
            panic!("no memory")
        };
        let words: Vec<_> = options.words.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            (words.join(","), options.access),
            ("mode=1777,size=100m,uid=1000".into(), Access::ReadOnly)
        );
        for word in ["huge=always", "size=1x", "mode=9", "noexec", "size=", "uid=-1", "mpol=bind:0"] {
            assert!(read(word).unwrap_err().contains(&format!("{word:?}")), "{word}");
        }
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
            (
                vec![("type", "tmpfs"), ("device", "tmpfs"), ("size", "1g")],
                "the size of a volume that is a mount of the host's is not supported by berth yet",
            ),
        ] {
            assert_eq!(read(&options), Err(message.to_owned()));
        }
        assert_eq!(read(&[]), Ok(Backing::Directory));
    }

    proptest! {
        /// The words are joined with commas for the kernel.
        #[test]
        fn nothing_gets_behind_an_option_of_memory(words in "[a-z0-9=,%_ ]{0,40}") {
            let words: Vec<&str> = words.split(',').collect();
            if let Ok(Backing::Memory(options)) = memory(&words) {
                for (name, value) in &options.words {
                    let both = [name.as_str(), value.as_str()].concat();
                    prop_assert!(!both.contains([',', '=', ' ']), "{}", both);
                }
            }
        }
    }
}
