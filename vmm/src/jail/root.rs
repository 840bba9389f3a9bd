//! A root directory in which there is nothing but the sockets that the daemon put there for the guest's connections.

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::mount::{mount_bind, mount_change, mount_remount, unmount};
use rustix::process::{chdir, pivot_root};

use super::{JailError, step};
use crate::config::files;

/// Makes the directory [`files::ROOT`] of the working directory the root, read-only, and forgets every other mount.
/// Relative paths, such as the guest's ways out, start there from now on.
pub(super) fn empty() -> Result<(), JailError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(step("keep its mounts to itself"))?;
    mount_bind(files::ROOT, files::ROOT).map_err(step("mount its root directory"))?;
    let flags =
        MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_remount(files::ROOT, flags, "").map_err(step("make its root directory read-only"))?;
    chdir(files::ROOT).map_err(step("enter its root directory"))?;
    // The old root comes to lie on the new one, and is taken off it.
    pivot_root(".", ".").map_err(step("change its root directory"))?;
    unmount(".", UnmountFlags::DETACH).map_err(step("leave the host's mounts"))?;
    chdir("/").map_err(step("enter its root directory"))
}
