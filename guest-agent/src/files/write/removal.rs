//! What is in the way is removed, with all that is in it, without following a link or leaving the file system by a name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, OFlags, unlinkat};
use rustix::io::Errno;

use crate::files::view::open_below;

/// Directories that are listed at most, each once for every directory in it: somebody may fill them meanwhile.
const MAX_LISTINGS: u32 = 1 << 20;

/// # Errors
/// BUSY for what is mounted on, NOTEMPTY for what fills faster than it is emptied.
pub(super) fn remove(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => remove_directory(parent.as_fd(), name),
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// Goes down into the first directory that is found, and up again when it is gone: paths and not recursion, because
/// somebody hostile decides how deep it is.
fn remove_directory(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    let mut path = vec![name.to_vec()];
    for _ in 0..MAX_LISTINGS {
        let here = path.join(&b'/');
        let directory = match open_below(parent, &here, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
        {
            // Another thing has its name: it is no directory, or a link, and goes as one.
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(Errno::NOTEMPTY),
            directory => directory?,
        };
        if let Some(inner) = empty(&directory)? {
            path.push(inner);
            continue;
        }
        path.pop();
        let above = match path.as_slice() {
            [] => None,
            above => Some(open_below(parent, &above.join(&b'/'), OFlags::PATH | OFlags::DIRECTORY)?),
        };
        let above = above.as_ref().map_or(parent, |above| above.as_fd());
        let last = here.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match unlinkat(above, last, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Filled again: the next round empties it again.
            Err(Errno::NOTEMPTY) => path.push(last.to_vec()),
            Err(errno) => return Err(errno),
        }
        if path.is_empty() {
            return Ok(());
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Removes all that is no directory; the first directory is what is left to do.
fn empty(directory: &OwnedFd) -> rustix::io::Result<Option<Vec<u8>>> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Ok(Some(name.to_vec())),
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}
