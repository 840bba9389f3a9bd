//! A /dev/shm that several containers of the machine can have: it belongs to an IPC namespace, and is where that is known to
//! the agent. What a container has for itself alone its stage mounts.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_protocol::agent::{ErrorCode, Namespace, StartContainer};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::disks::CONTAINERS;
use crate::agent::Agent;
use crate::failure::{During, Failure};

/// Of the machine's own IPC namespace.
const MACHINES: &str = "/run/shm";
/// Within a container's directory of state.
const OWN: &str = "shm";
const FLAGS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// Docker's size where nobody asked for another.
const DEFAULT_BYTES: u64 = 64 << 20;

/// Where the container's is, if others have it or can have it.
pub(super) fn place(agent: &Agent, request: &StartContainer) -> Option<PathBuf> {
    let mut joined = request.joined_namespaces.iter();
    if let Some(joined) = joined.find(|joined| joined.namespace() == Namespace::IpcNamespace) {
        return agent.containers.get(&joined.container_id)?.shm.clone();
    }
    if request.outer_namespaces().any(|outer| outer == Namespace::IpcNamespace) {
        return Some(MACHINES.into());
    }
    request.shareable_shm.then(|| own(&request.container_id))
}

fn own(container_id: &str) -> PathBuf {
    Path::new(CONTAINERS).join(container_id).join(OWN)
}

/// Mounts what is there for the first time with this container.
///
/// # Errors
/// MOUNT_FAILED
pub(super) fn mount_for(request: &StartContainer, place: Option<&Path>) -> Result<(), Failure> {
    let Some(place) = place else { return Ok(()) };
    let data = if place == own(&request.container_id) {
        format!("mode=1777,size={}", size_bytes(request))
    } else if place == Path::new(MACHINES) && !place.exists() {
        // As large as the kernel lets it be: half of the memory.
        "mode=1777".to_owned()
    } else {
        return Ok(());
    };
    let data = CString::new(data).expect("there is no NUL in numbers");
    let mounted =
        fs::create_dir_all(place).and_then(|()| Ok(mount("tmpfs", place, "tmpfs", FLAGS, data.as_c_str())?));
    mounted.during(ErrorCode::MountFailed, || "mount a /dev/shm for several containers")
}

/// As it was asked for.
pub(crate) fn size_bytes(request: &StartContainer) -> u64 {
    if request.shm_size_bytes == 0 { DEFAULT_BYTES } else { request.shm_size_bytes }
}

/// A container that goes leaves its own to those who still have it.
///
/// # Errors
/// What the kernel answered.
pub(super) fn unmount_own(container_id: &str) -> io::Result<()> {
    match unmount(own(container_id), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Nothing is mounted there, or there is nothing.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
