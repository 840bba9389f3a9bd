//! Sockets at which the agent listens for the host, opened before the change of root hides them and bound to where the
//! container wants them.

use std::os::fd::OwnedFd;
use std::path::Path;

use berth_protocol::agent::{ErrorCode, Mount};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{mounts, paths};
use crate::failure::{During, Failure};
use crate::sockets;

/// A mount of the request that is a socket.
pub(super) struct OpenedSocket {
    tree: OwnedFd,
}

/// What a mount mounts if it is a socket of the container with that directory of state.
///
/// # Errors
/// MOUNT_FAILED naming the place.
pub(super) fn open(directory: &Path, requested: &Mount) -> Result<Option<OpenedSocket>, Failure> {
    let Some(socket) = &requested.socket else { return Ok(None) };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, sockets::file(directory, socket.number), flags);
    let step = || format!("open the socket for {}", requested.target);
    Ok(Some(OpenedSocket { tree: tree.during(ErrorCode::MountFailed, step)? }))
}

impl OpenedSocket {
    /// Mounts it in the container's root, which is this process's. To connect is not to write: a mount that is read-only
    /// keeps nobody from it, as on any Linux.
    ///
    /// # Errors
    /// MOUNT_FAILED naming the place; INVALID_REQUEST for options that a socket cannot have.
    pub(super) fn attach(&self, requested: &Mount) -> Result<(), Failure> {
        let target = Path::new(&requested.target);
        let is_read_only = match requested.options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => false,
            ["ro"] => true,
            _ => {
                let options = requested.options.join(",");
                return Err(Failure::invalid(format!("a socket cannot be mounted with {options}")));
            }
        };
        let step = || format!("mount a socket at {}", requested.target);
        mounts::make_file(target).during(ErrorCode::MountFailed, step)?;
        let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&self.tree, "", CWD, target, how).during(ErrorCode::MountFailed, step)?;
        if is_read_only {
            paths::remount_read_only(target).during(ErrorCode::MountFailed, step)?;
        }
        Ok(())
    }
}
