//! A container's root as its processes have it, whether any lives or not.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use berth_protocol::agent::ErrorCode;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Container;
use crate::agent::Agent;
use crate::failure::{During, Failure, errno_text};
use crate::files::View;

/// The longest path of Linux, its NUL not counted.
const MAX_PATH_BYTES: usize = 4095;

/// With all that is mounted in it while the container runs. Otherwise with what the host mounts in it, if that was asked for:
/// what was mounted by the container itself, or kept in memory, is gone with its processes.
///
/// # Errors
/// INTERNAL.
pub(super) fn view(agent: &Agent, container: &Container) -> Result<View, Failure> {
    let root = open_root(agent, container).and_then(View::new);
    let view = root.during(ErrorCode::Internal, || format!("open the root of container {}", container.id))?;
    Ok(view.owned_as(container.disks.ids()))
}

fn open_root(agent: &Agent, container: &Container) -> io::Result<OwnedFd> {
    // Nothing is reaped while this runs: the number belongs to that process, alive or not.
    if let Some(process) = container.running(agent) {
        let path = format!("/proc/{}/root", process.pid);
        match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            // It has ended, and the agent has not heard of it yet.
            Err(Errno::NOENT | Errno::SRCH) => {}
            root => return Ok(root?),
        }
    }
    match File::open(container.disks.furnished_root()) {
        Ok(furnished) => Ok(furnished.into()),
        Err(_unfurnished) => Ok(File::open(container.disks.root())?.into()),
    }
}

/// # Errors
/// INVALID_REQUEST for what is no absolute path of Linux.
pub(super) fn check_path(path: &[u8]) -> Result<(), Failure> {
    if path.starts_with(b"/") && path.len() <= MAX_PATH_BYTES && !path.contains(&0) {
        return Ok(());
    }
    Err(Failure::invalid(format!("{:?} is no absolute path", String::from_utf8_lossy(path))))
}

/// What could not be found, in the form in which the host tells its client.
pub(super) fn not_found(verb: &str, path: &[u8], errno: Errno) -> Failure {
    let code = match errno {
        Errno::NOENT => ErrorCode::NoSuchFile,
        Errno::NOTDIR => ErrorCode::NotADirectory,
        Errno::LOOP | Errno::NAMETOOLONG => ErrorCode::InvalidRequest,
        _ => ErrorCode::Internal,
    };
    Failure::new(code, format!("{verb} {}: {}", String::from_utf8_lossy(path), errno_text(errno)))
}
