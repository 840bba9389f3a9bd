//! Docker's form of a user, looked up in the container's own files.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;

use super::View;
use super::write::Owner;
use crate::failure::Failure;
use crate::stage;

/// More of a passwd or group file is not read: the container's owner writes it.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// # Errors
/// NO_SUCH_USER.
pub(super) fn find(view: &View, user: &str) -> Result<Owner, Failure> {
    let (user_id, group_id) = stage::ids(&read(view, b"/etc/passwd"), &read(view, b"/etc/group"), user)?;
    Ok(Owner { user_id, group_id })
}

/// A file that is absent or unreadable has no entries. What is no file is not read.
fn read(view: &View, path: &[u8]) -> String {
    let mut bytes = Vec::new();
    let file = view.open(path, OFlags::PATH).and_then(|file| open_regular(&file));
    let file = file.map_err(std::io::Error::from);
    if file.and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// To open a device would do something already.
fn open_regular(file: &OwnedFd) -> rustix::io::Result<File> {
    if FileType::from_raw_mode(fstat(file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}
