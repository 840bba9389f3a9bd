//! What PID 1 does before it can serve: the file systems the agent itself needs, and the limits its children inherit.
//!
//! Knows no container; everything here happens once per boot.

use std::io;

use rustix::fs::{CWD, Mode, mkdir};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::container::cgroup;

/// A file system that the agent mounts at boot.
struct EarlyMount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: Option<&'static std::ffi::CStr>,
}

const NOTHING_SPECIAL: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// In this order: a later one may lie on an earlier.
const EARLY_MOUNTS: [EarlyMount; 5] = [
    EarlyMount { kind: "proc", target: "/proc", flags: NOTHING_SPECIAL, data: None },
    EarlyMount { kind: "sysfs", target: "/sys", flags: NOTHING_SPECIAL, data: None },
    EarlyMount { kind: "cgroup2", target: "/sys/fs/cgroup", flags: NOTHING_SPECIAL, data: None },
    EarlyMount { kind: "devtmpfs", target: "/dev", flags: MountFlags::NOSUID, data: None },
    // A container whose root is not the machine's passes through on its way to its own root.
    EarlyMount { kind: "tmpfs", target: "/run", flags: NOTHING_SPECIAL, data: Some(c"mode=0711") },
];

/// What containers' processes start with, as Docker's packages set it.
const LIMITS: [(Resource, Rlimit); 3] = [
    (Resource::Nofile, Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) }),
    (Resource::Nproc, Rlimit { current: None, maximum: None }),
    (Resource::Core, Rlimit { current: None, maximum: None }),
];

/// Prepares the machine for [`crate::server`].
///
/// # Errors
/// The step that failed; the machine is of no use then.
pub(crate) fn prepare() -> io::Result<()> {
    leave_the_initial_root().map_err(named("giving the agent a root of its own"))?;
    for early in &EARLY_MOUNTS {
        mount_early(early).map_err(named(&format!("mounting {}", early.target)))?;
    }
    cgroup::prepare().map_err(|error| io::Error::other(format!("enabling cgroup controllers: {error}")))?;
    seal_root().map_err(named("making / read-only"))?;
    for (resource, limit) in LIMITS {
        setrlimit(resource, limit).map_err(named("setting limits"))?;
    }
    Ok(())
}

/// The kernel's own root cannot be the subject of a pivot_root(2), so the agent works on a copy of it mounted over it:
/// that is what containers pivot away from.
fn leave_the_initial_root() -> rustix::io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, "/", flags)?;
    rustix::process::fchdir(&copy)?;
    move_mount(&copy, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::chroot(".")
}

fn mount_early(early: &EarlyMount) -> rustix::io::Result<()> {
    match mkdir(early.target, Mode::from_raw_mode(0o755)) {
        Err(error) if error != Errno::EXIST => Err(error),
        _ => mount(early.kind, early.target, early.kind, early.flags, early.data),
    }
}

/// From here on nothing can be written through `/`, in particular not the agent's own program by way of the
/// `/proc/PID/exe` of a container's processes.
fn seal_root() -> rustix::io::Result<()> {
    rustix::mount::mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")
}

fn named(step: &str) -> impl FnOnce(Errno) -> io::Error {
    move |error| io::Error::new(io::Error::from(error).kind(), format!("{step}: {error}"))
}
