//! Paths that a container may not see, and paths that it may not write.
//!
//! The lists come with the request; a path that does not exist needs no protection.

use std::path::Path;

use berth_protocol::agent::ErrorCode;
use rustix::fs::statvfs;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use crate::failure::{During, Failure};

/// Covers each path: a directory with an empty one, a file with /dev/null.
pub(super) fn mask(paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        absent_is_fine(cover(path)).during(ErrorCode::MountFailed, || format!("mask {path}"))?;
    }
    Ok(())
}

/// Binds each path over itself, read-only.
pub(super) fn make_read_only(paths: &[String]) -> Result<(), Failure> {
    for path in paths {
        let bound = mount_bind_recursive(path, path).and_then(|()| remount_read_only(path));
        absent_is_fine(bound).during(ErrorCode::MountFailed, || format!("make {path} read-only"))?;
    }
    Ok(())
}

/// Makes what is mounted at a path read-only, its other flags as they are: a remount sets all of them.
pub(super) fn remount_read_only(path: impl AsRef<Path>) -> rustix::io::Result<()> {
    let path = path.as_ref();
    let kept = kept_flags(statvfs(path)?.f_flag);
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | kept, "")
}

fn cover(path: &str) -> rustix::io::Result<()> {
    match mount_bind("/dev/null", path) {
        Err(Errno::NOTDIR) => mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, None),
        covered => covered,
    }
}

fn absent_is_fine(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// statvfs(3) and mount(2) have their own names for the same properties.
fn kept_flags(of_mount: rustix::fs::StatVfsMountFlags) -> MountFlags {
    use rustix::fs::StatVfsMountFlags as Stat;
    let pairs = [
        (Stat::NOSUID, MountFlags::NOSUID),
        (Stat::NODEV, MountFlags::NODEV),
        (Stat::NOEXEC, MountFlags::NOEXEC),
        (Stat::NOATIME, MountFlags::NOATIME),
        (Stat::NODIRATIME, MountFlags::NODIRATIME),
        (Stat::RELATIME, MountFlags::RELATIME),
    ];
    pairs.into_iter().filter(|(stat, _)| of_mount.contains(*stat)).map(|(_, flag)| flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a mount namespace that only one thread of the tests is in.
    fn in_own_mounts(test: impl FnOnce(&Path) + Send + 'static) {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: paths: a mount namespace takes root");
            return;
        }
        let thread = std::thread::spawn(|| {
            use rustix::mount::{MountPropagationFlags, mount_change};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let directory = tempfile::tempdir().unwrap();
            mount("tmpfs", directory.path(), "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None).unwrap();
            test(directory.path());
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_masked_file_is_empty_and_a_masked_directory_too() {
        in_own_mounts(|root| {
            let (file, directory) = (root.join("file"), root.join("directory"));
            std::fs::write(&file, "secret").unwrap();
            std::fs::create_dir_all(directory.join("inside")).unwrap();
            let paths = [&file, &directory, &root.join("absent")].map(|path| path.display().to_string());
            mask(&paths).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), b"");
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        });
    }

    #[test]
    fn a_read_only_path_keeps_its_other_flags() {
        in_own_mounts(|root| {
            let directory = root.join("directory");
            std::fs::create_dir(&directory).unwrap();
            make_read_only(&[directory.display().to_string()]).unwrap();
            let denied = std::fs::write(directory.join("new"), "").unwrap_err();
            assert_eq!(denied.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            let kept = kept_flags(statvfs(&directory).unwrap().f_flag);
            assert!(kept.contains(MountFlags::NOSUID | MountFlags::NOEXEC), "{kept:?}");
        });
    }
}
