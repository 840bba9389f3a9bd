//! File systems in memory.

use super::super::body::{Mount, TmpfsOptions};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::TmpfsMount;

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

/// # Errors
/// Docker's texts; 501 for a consistency that a file system in memory has not.
pub(super) fn mount(mount: &Mount) -> ApiResult<TmpfsMount> {
    // A tmpfs is the container's own, and so consistent.
    if !matches!(mount.consistency.as_str(), "" | "default" | "consistent") {
        return Err(ApiError::not_supported(format!(
            "berth cannot honour the consistency \"{}\" of a tmpfs",
            mount.consistency
        )));
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

pub(super) fn check_options(options: &str) -> ApiResult<()> {
    let known = |option: &str| TMPFS_OPTIONS.contains(&option.split('=').next().unwrap_or_default());
    match options.split(',').find(|option| !option.is_empty() && !known(option)) {
        Some(option) => Err(ApiError::invalid(format!("invalid tmpfs option [\"{option}\"]"))),
        None => Ok(()),
    }
}
