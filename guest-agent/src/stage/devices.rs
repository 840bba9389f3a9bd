//! The nodes and links of a container's /dev.

use std::os::unix::fs::symlink;

use berth_protocol::agent::ErrorCode;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::umask;

use crate::failure::{During, Failure};

/// Character devices that every container has: path, major, minor (the kernel's `admin-guide/devices.txt`).
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Symbolic links: what each says, and where it lies.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Fills the freshly mounted /dev.
pub(super) fn create() -> Result<(), Failure> {
    let mode = Mode::from_raw_mode(0o666);
    let previous = umask(Mode::empty());
    for (path, major, minor) in NODES {
        mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor))
            .during(ErrorCode::MountFailed, || format!("create {path}"))?;
    }
    umask(previous);
    for (target, path) in LINKS {
        symlink(target, path).during(ErrorCode::MountFailed, || format!("link {path}"))?;
    }
    Ok(())
}
