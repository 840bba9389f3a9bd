//! The file of a socket, and who listens there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use berth_protocol::agent::BoundSocket;
use tokio::net::UnixListener;

/// Within a container's directory of state.
const DIRECTORY: &str = "sockets";
/// Of a file's mode.
const PERMISSION_BITS: u32 = 0o7777;

/// Where the file of that number is.
pub(crate) fn file(container_directory: &Path, number: u32) -> PathBuf {
    container_directory.join(DIRECTORY).join(number.to_string())
}

/// # Errors
/// What the kernel answered: also if there is one of that number.
pub(super) fn listen(container_directory: &Path, socket: &BoundSocket) -> io::Result<UnixListener> {
    fs::create_dir_all(container_directory.join(DIRECTORY))?;
    let path = file(container_directory, socket.number);
    let listener = UnixListener::bind(&path)?;
    chown(&path, Some(socket.user_id), Some(socket.group_id))?;
    fs::set_permissions(&path, Permissions::from_mode(socket.mode & PERMISSION_BITS))?;
    Ok(listener)
}
