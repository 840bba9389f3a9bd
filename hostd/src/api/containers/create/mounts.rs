//! Mounts: Docker's validation first, with its texts; then tmpfs works, and shares are refused until they exist.

use std::collections::BTreeMap;
use std::path::Path;

use super::body::{HostConfig, Mount, TmpfsOptions};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::TmpfsMount;

/// `:ro`, `:z` and their like after a bind's target.
const MODES: [&str; 19] = [
    "rw",
    "ro",
    "z",
    "Z",
    "nocopy",
    "consistent",
    "cached",
    "delegated",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "U",
    "bind-nonrecursive",
    "bind-recursive",
    "noexec",
    "exec",
];
/// Mount options that a tmpfs takes, as they stand before a `=`.
const TMPFS_OPTIONS: [&str; 28] = [
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "remount",
    "dirsync",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "size",
];

/// The tmpfs mounts asked for in either of Docker's two ways.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Target to options.
    pub(super) tmpfs: BTreeMap<String, String>,
    pub(super) tmpfs_mounts: Vec<TmpfsMount>,
}

/// # Errors
/// Docker's texts for what is not valid; 501 for a share.
pub(super) fn mounts(host: &HostConfig) -> ApiResult<Mounts> {
    for (target, options) in &host.tmpfs {
        check_target("tmpfs", target)?;
        check_options(options)?;
    }
    for bind in &host.binds {
        check_bind(bind)?;
    }
    let mut mounts = Mounts { tmpfs: host.tmpfs.clone(), tmpfs_mounts: Vec::new() };
    for mount in &host.mounts {
        check_mount(mount)?;
        let taken = mounts.tmpfs_mounts.iter().any(|other| other.target == mount.target);
        if taken || host.tmpfs.contains_key(&mount.target) {
            return Err(ApiError::invalid(format!("Duplicate mount point: {}", mount.target)));
        }
        mounts.tmpfs_mounts.push(tmpfs_mount(mount)?);
    }
    match host.binds.first() {
        Some(bind) => Err(no_shares(&format!("HostConfig.Binds \"{bind}\""))),
        None => Ok(mounts),
    }
}

fn no_shares(what: &str) -> ApiError {
    ApiError::not_supported(format!(
        "berth cannot honour {what} yet: it needs shares of host directories and volumes; tmpfs is possible"
    ))
}

/// "source:target[:mode]" or "target".
fn check_bind(spec: &str) -> ApiResult<()> {
    let invalid = || ApiError::invalid(format!("invalid volume specification: '{spec}'"));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        // "/target:ro" names no source.
        [source, target] if !is_mode(target) => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid()),
    };
    if parts[0].is_empty() {
        return Err(invalid());
    }
    if !mode.is_empty() && !is_mode(mode) {
        return Err(ApiError::invalid(format!("invalid mode: {mode}")));
    }
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    check_target(kind, target)
        .map_err(|error| ApiError::invalid(format!("{}: {}", invalid().message, error.message)))?;
    if kind == "volume" { check_volume_name(source) } else { Ok(()) }
}

fn is_mode(text: &str) -> bool {
    text.split(',').all(|word| MODES.contains(&word))
}

/// Docker's names: a letter or digit, then letters, digits, `_.-`; none means "one of its own".
fn check_volume_name(name: &str) -> ApiResult<()> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let long_enough = name.len() != 1;
    if name.is_empty() || (long_enough && name.chars().all(inner) && !name.starts_with(['_', '.', '-'])) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

fn check_target(kind: &str, target: &str) -> ApiResult<()> {
    let wrong =
        |problem: &str| ApiError::invalid(format!("invalid mount config for type \"{kind}\": {problem}"));
    if target.is_empty() {
        return Err(wrong("field Target must not be empty"));
    }
    if !target.starts_with('/') {
        return Err(wrong(&format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    let names_something = |part: &str| !matches!(part, "" | ".");
    if !target.split('/').any(names_something) {
        return Err(wrong("invalid specification: destination can't be '/'"));
    }
    Ok(())
}

fn check_mount(mount: &Mount) -> ApiResult<()> {
    let kind = mount.kind.as_str();
    let wrong =
        |problem: &str| ApiError::invalid(format!("invalid mount config for type \"{kind}\": {problem}"));
    if !matches!(kind, "bind" | "volume" | "tmpfs" | "image" | "cluster" | "npipe") {
        return Err(wrong("mount type unknown"));
    }
    check_target(kind, &mount.target)?;
    let foreign = [
        ("BindOptions", mount.bind_options.is_some(), "bind"),
        ("VolumeOptions", mount.volume_options.is_some(), "volume"),
        ("ImageOptions", mount.image_options.is_some(), "image"),
        ("TmpfsOptions", mount.tmpfs_options.is_some(), "tmpfs"),
    ];
    if let Some((field, ..)) = foreign.iter().find(|(_, is_set, owner)| *is_set && *owner != kind) {
        return Err(wrong(&format!("field {field} must not be specified")));
    }
    match kind {
        "tmpfs" if mount.source.is_empty() => Ok(()),
        "tmpfs" => Err(wrong("field Source must not be specified")),
        "bind" => check_bind_source(&mount.source).map_err(|problem| wrong(&problem)),
        "volume" => check_volume_name(&mount.source),
        _ => Ok(()),
    }
    .and_then(|()| if kind == "tmpfs" { Ok(()) } else { Err(no_shares(&format!("a mount of type {kind}"))) })
}

fn check_bind_source(source: &str) -> Result<(), String> {
    if source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    if !source.starts_with('/') {
        return Err(format!("invalid mount path: '{source}' mount path must be absolute"));
    }
    if !Path::new(source).exists() {
        return Err(format!("bind source path does not exist: {source}"));
    }
    Ok(())
}

fn tmpfs_mount(mount: &Mount) -> ApiResult<TmpfsMount> {
    // A tmpfs is the container's own, and so consistent.
    if !matches!(mount.consistency.as_str(), "" | "default" | "consistent") {
        return Err(no_shares(&format!("the consistency \"{}\" of a mount", mount.consistency)));
    }
    let default = TmpfsOptions::default();
    let options = mount.tmpfs_options.as_ref().unwrap_or(&default);
    let size_bytes = match options.size_bytes {
        0 => None,
        size => Some(
            u64::try_from(size)
                .map_err(|_negative| ApiError::invalid(format!("invalid tmpfs size: {size}")))?,
        ),
    };
    let tmpfs = TmpfsMount {
        target: mount.target.clone(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone(),
        size_bytes,
        mode: (options.mode != 0).then_some(options.mode),
        options: options.options.clone(),
    };
    check_options(&tmpfs.mount_options()).map(|()| tmpfs)
}

fn check_options(options: &str) -> ApiResult<()> {
    let known = |option: &str| TMPFS_OPTIONS.contains(&option.split('=').next().unwrap_or_default());
    match options.split(',').find(|option| !option.is_empty() && !known(option)) {
        Some(option) => Err(ApiError::invalid(format!("invalid tmpfs option [\"{option}\"]"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(host: &HostConfig) -> (u16, String) {
        let error = mounts(host).unwrap_err();
        (error.status.as_u16(), error.message)
    }

    fn bind(spec: &str) -> (u16, String) {
        refusal(&HostConfig { binds: vec![spec.to_owned()], ..HostConfig::default() })
    }

    fn mount(kind: &str, source: &str, target: &str) -> Mount {
        Mount { kind: kind.into(), source: source.into(), target: target.into(), ..Mount::default() }
    }

    fn with_mount(mount: Mount) -> HostConfig {
        HostConfig { mounts: vec![mount], ..HostConfig::default() }
    }

    #[test]
    fn a_bind_that_is_none_is_invalid_before_it_is_not_supported() {
        for (spec, text) in [
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
            ("/a:ro", "invalid volume specification: '/a:ro'"),
            ("/a:/b:fast", "invalid mode: fast"),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": \
              invalid specification: destination can't be '/'",
            ),
            (
                "/a:b",
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": \
              invalid mount path: 'b' mount path must be absolute",
            ),
        ] {
            assert_eq!(bind(spec), (400, text.to_owned()));
        }
        assert!(bind("a b:/c").1.contains("includes invalid characters"));
        for spec in ["/a:/b", "/a:/b:ro,z", "name:/b", "/anonymous"] {
            assert_eq!(bind(spec).0, 501, "{spec}");
        }
    }

    #[test]
    fn a_mount_that_is_none_is_invalid_before_it_is_not_supported() {
        for (kind, source, target, text) in [
            ("bind", "/nowhere/at/all", "/b", "bind source path does not exist: /nowhere/at/all"),
            ("bind", "", "/b", "field Source must not be empty"),
            ("bind", "/", "b", "invalid mount path: 'b' mount path must be absolute"),
            ("bind", "/", "", "field Target must not be empty"),
            ("tmpfs", "/", "/b", "field Source must not be specified"),
            ("nope", "", "/b", "mount type unknown"),
        ] {
            let expected = format!("invalid mount config for type \"{kind}\": {text}");
            assert_eq!(refusal(&with_mount(mount(kind, source, target))), (400, expected));
        }
        for (kind, source) in [("bind", "/"), ("volume", "data"), ("volume", ""), ("image", "busybox")] {
            assert_eq!(refusal(&with_mount(mount(kind, source, "/b"))).0, 501, "{kind}");
        }
    }

    #[test]
    fn each_of_two_ways_to_ask_for_a_tmpfs_is_remembered() {
        let options = TmpfsOptions { size_bytes: 4096, mode: 0o1777, ..TmpfsOptions::default() };
        let structured = Mount { tmpfs_options: Some(options), read_only: true, ..mount("tmpfs", "", "/b") };
        let host = HostConfig {
            tmpfs: BTreeMap::from([("/a".into(), "size=64m,noexec".into())]),
            mounts: vec![structured],
            ..HostConfig::default()
        };
        let found = mounts(&host).unwrap();
        assert_eq!(found.tmpfs, host.tmpfs);
        let [mount] = &found.tmpfs_mounts[..] else { panic!("{found:?}") };
        assert_eq!((mount.target.as_str(), mount.mount_options().as_str()), ("/b", "ro,mode=1777,size=4096"));
    }

    #[test]
    fn a_tmpfs_takes_only_its_own_options_and_one_place() {
        let twice = HostConfig {
            tmpfs: BTreeMap::from([("/a".into(), String::new())]),
            ..with_mount(mount("tmpfs", "", "/a"))
        };
        assert_eq!(refusal(&twice).1, "Duplicate mount point: /a");
        let tmpfs = BTreeMap::from([("/a".into(), "bind".into())]);
        assert_eq!(
            refusal(&HostConfig { tmpfs, ..HostConfig::default() }).1,
            "invalid tmpfs option [\"bind\"]"
        );
    }
}
