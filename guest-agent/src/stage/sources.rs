//! What the host shares with the machine, and what is on further disks, opened before the change of root hides it and
//! attached where the container wants it. The agent does the same for a container of which nothing runs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use berth_protocol::agent::{ErrorCode, Mount};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount_remount, move_mount, open_tree};

use super::mounts;
use crate::container::further_disk;
use crate::container::shares::DIRECTORY;
use crate::failure::{During, Failure};

/// A mount of the request that is no file system of its own.
pub(crate) struct Opened {
    tree: OwnedFd,
    is_directory: bool,
    what: String,
}

/// For each of the mounts of the container of that directory, what it mounts unless it is a new file system.
///
/// # Errors
/// MOUNT_FAILED naming the share, or the part of the disk.
pub(crate) fn open(directory: &Path, requested: &[Mount]) -> Result<Vec<Option<Opened>>, Failure> {
    requested.iter().map(|mount| open_one(directory, mount)).collect()
}

fn open_one(directory: &Path, requested: &Mount) -> Result<Option<Opened>, Failure> {
    let (whole, what) = match (requested.kind.as_str(), &requested.disk_part) {
        ("share", _) => {
            let share = &requested.share;
            (Path::new(DIRECTORY).join(share), format!("the share {share}"))
        }
        ("disk", Some(part)) => (further_disk(directory, part), format!("the disk for {}", requested.target)),
        _ => return Ok(None),
    };
    let path = &requested.path_inside;
    let opened = open_inside(&whole, path).and_then(|place| {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        Ok((open_tree(&place, "", flags)?, kind == FileType::Directory))
    });
    let (tree, is_directory) = opened.during(ErrorCode::MountFailed, || match path.as_str() {
        "" => format!("open {what}"),
        path => format!("open {path} of {what}"),
    })?;
    Ok(Some(Opened { tree, is_directory, what }))
}

/// A directory is asked for first: only that makes the kernel mount what the share is on the host's side.
fn open_inside(whole: &Path, path: &str) -> rustix::io::Result<OwnedFd> {
    let as_path = OFlags::PATH | OFlags::CLOEXEC;
    let open = |more| rustix::fs::open(whole, as_path | OFlags::NOFOLLOW | more, Mode::empty());
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

impl Opened {
    /// Mounts it in the container's root, which is this process's.
    ///
    /// # Errors
    /// MOUNT_FAILED naming the place; INVALID_REQUEST for options that are a file system's.
    pub(super) fn attach(&self, requested: &Mount) -> Result<(), Failure> {
        let flags = self.flags(requested)?;
        let target = Path::new(&requested.target);
        let step = || format!("mount {} at {}", self.what, requested.target);
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

    /// Mounts it below the root of a container of which nothing runs: nobody changes its links meanwhile.
    ///
    /// # Errors
    /// As [`Opened::attach`].
    pub(crate) fn attach_below(&self, root: &impl AsFd, requested: &Mount) -> Result<(), Failure> {
        let flags = self.flags(requested)?;
        let step = || format!("mount {} at {}", self.what, requested.target);
        let attach = || -> io::Result<()> {
            let place = make_place(root.as_fd(), &requested.target, self.is_directory)?;
            // Where it lies for us, without links; what is mounted there by then is what that path leads to.
            let path = std::fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
            let how = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(&self.tree, "", &place, "", how)?;
            if !flags.is_empty() {
                mount_remount(&path, MountFlags::BIND | flags, "")?;
            }
            Ok(())
        };
        attach().during(ErrorCode::MountFailed, step)
    }

    fn flags(&self, requested: &Mount) -> Result<MountFlags, Failure> {
        match mounts::parse_options(&requested.options) {
            (flags, data) if data.is_empty() => Ok(flags),
            (_, data) => Err(Failure::invalid(format!("{} cannot be mounted with {data}", self.what))),
        }
    }
}

/// What has that path below the root, made if it is not there.
fn make_place(root: BorrowedFd<'_>, path: &str, is_directory: bool) -> io::Result<OwnedFd> {
    let open = |path: &str| {
        let path = if path.is_empty() { "." } else { path };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside)
    };
    let path = path.trim_matches('/');
    let mut parent = open("")?;
    for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
        let here = &path[..end];
        let name = here.rsplit('/').next().unwrap_or_default();
        parent = match open(here) {
            Err(Errno::NOENT) if is_directory || end < path.len() => {
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                open(here)?
            }
            Err(Errno::NOENT) => {
                let create = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
                openat(&parent, name, create, Mode::from_raw_mode(0o644))?;
                open(here)?
            }
            found => found?,
        };
    }
    Ok(parent)
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
            assert_eq!(open_inside(&share, path).unwrap_err(), Errno::NOENT, "{path}");
        }
        for path in ["", "/", "deep/inside", "/deep/inside", "good", ".."] {
            assert!(open_inside(&share, path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_place_is_made_below_its_root_wherever_links_lead() {
        let (directory, share) = share();
        std::fs::write(share.join("file"), "").unwrap();
        let root = std::fs::File::open(&share).unwrap();
        let place = |path: &str, is_directory| make_place(root.as_fd(), path, is_directory);
        for (path, is_directory, made) in [
            ("/new/one/", true, "new/one"),
            ("/new/file", false, "new/file"),
            ("good/further", true, "deep/inside/further"),
            ("/file", false, "file"),
            ("/../made", true, "made"),
        ] {
            place(path, is_directory).unwrap();
            assert_eq!(share.join(made).is_dir(), is_directory, "{path}");
            place(path, is_directory).expect("what is there is left alone");
        }
        // A link out of it leads to a place in it, where there is nothing; what is no directory is none.
        assert!(place("/up/x", true).is_err() && place("/file/x", true).is_err());
        assert!(!directory.path().join("secret/x").exists());
    }

    #[test]
    fn a_share_is_a_directory_or_a_file_and_no_link() {
        let (_directory, share) = share();
        std::fs::write(share.join("file"), "").unwrap();
        assert!(open_inside(&share.join("file"), "").is_ok());
        assert_eq!(open_inside(&share.join("absolute"), "").unwrap_err(), Errno::LOOP);
    }
}
