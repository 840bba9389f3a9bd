//! What the host shares with the machine, opened before the change of root hides it and attached where the container wants
//! it.

use std::os::fd::OwnedFd;
use std::path::Path;

use berth_protocol::agent::{ErrorCode, Mount};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount_remount, move_mount, open_tree};

use super::mounts;
use crate::container::shares::DIRECTORY;
use crate::failure::{During, Failure};

/// Of the kind of mounts that shares are.
const KIND: &str = "share";

/// A mount of the request that is a share, and what is mounted.
pub(super) struct OpenedShare {
    tree: OwnedFd,
    is_directory: bool,
}

pub(super) fn is_share(requested: &Mount) -> bool {
    requested.kind == KIND
}

/// For each of the mounts, what it mounts if it is a share.
///
/// # Errors
/// MOUNT_FAILED naming the share.
pub(super) fn open(requested: &[Mount]) -> Result<Vec<Option<OpenedShare>>, Failure> {
    requested.iter().map(|mount| is_share(mount).then(|| open_one(mount)).transpose()).collect()
}

fn open_one(requested: &Mount) -> Result<OpenedShare, Failure> {
    let name = &requested.share;
    let opened =
        open_in_share(&Path::new(DIRECTORY).join(name), &requested.path_in_share).and_then(|place| {
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::AT_EMPTY_PATH;
            Ok(OpenedShare { tree: open_tree(&place, "", flags)?, is_directory: kind == FileType::Directory })
        });
    opened.during(ErrorCode::MountFailed, || match requested.path_in_share.as_str() {
        "" => format!("open the share {name}"),
        path => format!("open {path} of the share {name}"),
    })
}

/// A directory is asked for first: only that makes the kernel mount what the share is on the host's side.
fn open_in_share(share: &Path, path: &str) -> rustix::io::Result<OwnedFd> {
    let as_path = OFlags::PATH | OFlags::CLOEXEC;
    let open = |more| rustix::fs::open(share, as_path | OFlags::NOFOLLOW | more, Mode::empty());
    let whole = match open(OFlags::DIRECTORY) {
        Err(Errno::NOTDIR) => open(OFlags::empty())?,
        result => result?,
    };
    // Opened as a path, a link is opened itself.
    if FileType::from_raw_mode(rustix::fs::fstat(&whole)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    let path = path.trim_start_matches('/');
    if path.is_empty() {
        return Ok(whole);
    }
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(&whole, path, as_path, Mode::empty(), inside)
}

impl OpenedShare {
    /// Mounts it in the container's root, which is this process's.
    ///
    /// # Errors
    /// MOUNT_FAILED naming the place; INVALID_REQUEST for options that are a file system's.
    pub(super) fn attach(&self, requested: &Mount) -> Result<(), Failure> {
        let (flags, data) = mounts::parse_options(&requested.options);
        if !data.is_empty() {
            return Err(Failure::invalid(format!("a share cannot be mounted with {data}")));
        }
        let target = Path::new(&requested.target);
        let step = || format!("mount the share {} at {}", requested.share, requested.target);
        let made =
            if self.is_directory { std::fs::create_dir_all(target) } else { mounts::make_file(target) };
        made.during(ErrorCode::MountFailed, step)?;
        let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&self.tree, "", CWD, target, how).during(ErrorCode::MountFailed, step)?;
        if flags.is_empty() {
            return Ok(());
        }
        mount_remount(target, MountFlags::BIND | flags, "").during(ErrorCode::MountFailed, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let share = directory.path().join("share");
        std::fs::create_dir_all(share.join("deep/inside")).unwrap();
        std::fs::create_dir(directory.path().join("secret")).unwrap();
        for (link, to) in [("up", "../secret"), ("absolute", "/etc"), ("good", "/deep/inside")] {
            std::os::unix::fs::symlink(to, share.join(link)).unwrap();
        }
        (directory, share)
    }

    #[test]
    fn no_path_leads_out_of_a_share() {
        let (_directory, share) = share();
        for path in ["up", "../secret", "absolute", "deep/../../secret", "nothing"] {
            assert_eq!(open_in_share(&share, path).unwrap_err(), Errno::NOENT, "{path}");
        }
        for path in ["", "/", "deep/inside", "/deep/inside", "good", ".."] {
            assert!(open_in_share(&share, path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_share_is_a_directory_or_a_file_and_no_link() {
        let (_directory, share) = share();
        std::fs::write(share.join("file"), "").unwrap();
        assert!(open_in_share(&share.join("file"), "").is_ok());
        assert_eq!(open_in_share(&share.join("absolute"), "").unwrap_err(), Errno::LOOP);
    }
}
