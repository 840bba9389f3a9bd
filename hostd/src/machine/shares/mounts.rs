//! The mounts of shares: clones of the host's, with less allowed. Each of these runs on a thread of its own, in a mount
//! namespace where nobody else sees what it does.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use super::{ShareAccess, SharedBelow};

/// The server reads and writes files; it opens no device, and neither it nor anybody else runs a program through it. What
/// the guest may do is the guest's own mount's business.
const ALWAYS: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

/// A clone of what is at `source` and of what of the mounts below comes along, which is mounted nowhere. It was restricted at `place` in a
/// namespace of this thread's own: nobody ever sees it with more rights.
///
/// # Errors
/// The host refuses a step.
pub(super) fn restricted_clone(
    source: BorrowedFd<'_>,
    place: &Path,
    access: ShareAccess,
    below: SharedBelow,
) -> io::Result<OwnedFd> {
    let recursive =
        if below == SharedBelow::Nothing { OpenTreeFlags::empty() } else { OpenTreeFlags::AT_RECURSIVE };
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | recursive;
    let cloned = match open_tree(source, "", clone) {
        // It is a mount that is nowhere, made for this share alone; before Linux 6.15 there are no clones of such.
        Err(Errno::INVAL) => None,
        tree => Some(tree?),
    };
    let tree = cloned.as_ref().map_or(source, AsFd::as_fd);
    unshare(CloneFlags::CLONE_NEWNS)?;
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", alone)?;
    attach(tree, place)?;
    // It came as a member of its source's group, and would follow what is mounted there later.
    mount_change(place, alone)?;
    for (point, flags) in mounts_at(place)? {
        let is_meant = point == place || below == SharedBelow::Alike;
        let read_only = access == ShareAccess::ReadOnly && is_meant;
        let read_only = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        match mount_remount(&point, MountFlags::BIND | ALWAYS | read_only | flags, "") {
            // It lies under another one, out of everybody's reach.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL) if point != place => {}
            result => result?,
        }
    }
    Ok(open_tree(CWD, place, clone)?)
}

/// # Errors
/// The host refuses.
pub(super) fn attach(tree: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
    Ok(move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// # Errors
/// Nothing is mounted there.
pub(super) fn detach(place: &Path) -> io::Result<()> {
    Ok(unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Nothing can be made, changed or removed in the directory that is mounted there, except in what is mounted below.
///
/// # Errors
/// The host refuses.
pub(super) fn seal(place: &Path) -> io::Result<()> {
    Ok(mount_remount(place, MountFlags::BIND | MountFlags::RDONLY | ALWAYS, "")?)
}

/// The mounts at `place` and below, each with what it allows no more of already.
fn mounts_at(place: &Path) -> io::Result<Vec<(PathBuf, MountFlags)>> {
    let table = fs::read("/proc/thread-self/mountinfo")?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(parse).filter(|(at, _)| at.starts_with(place)).collect())
}

/// Mount point and options, fields 5 and 6 of a line of `mountinfo` (proc(5)).
fn parse(line: &[u8]) -> Option<(PathBuf, MountFlags)> {
    let mut fields = line.split(|byte| *byte == b' ').skip(4);
    let point = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.next()?)));
    let options = std::str::from_utf8(fields.next()?).ok()?;
    let is_read_only = options.split(',').any(|option| option == "ro");
    Some((point, if is_read_only { MountFlags::RDONLY } else { MountFlags::empty() }))
}

/// Blanks, line ends and backslashes are three octal digits behind a backslash there.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits =
            behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_may_hold_any_character() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134\011c ro,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(parse(line), Some((PathBuf::from("/a b\\\tc"), MountFlags::RDONLY)));
        assert_eq!(parse(br"1 0 8:1 / /\0 rw - x y z"), Some(("/\\0".into(), MountFlags::empty())));
        assert_eq!(parse(b"36 35"), None);
    }
}
