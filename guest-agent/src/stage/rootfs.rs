//! The container's root: entered first, then furnished, then closed.
//!
//! Everything but the entering happens *after* the change of root, so that no symbolic link of the container's files can
//! lead out of it. What comes from outside is opened before and attached after.

use std::os::fd::OwnedFd;
use std::path::Path;

use berth_protocol::agent::{ErrorCode, Mount, StartContainer};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};

use super::spec::StageSpec;
use super::{devices, mounts, paths, sockets, sources, sysctls};
use crate::container::identity_files;
use crate::failure::{During, Failure};

/// Makes the container's root this process's root, with the standard and the requested file systems mounted.
pub(super) fn enter(container: &StartContainer, spec: &StageSpec) -> Result<(), Failure> {
    let directory = Path::new(&spec.directory);
    keep_mounts_private()?;
    let identity_files = open_identity_files(&directory.join(identity_files::DIRECTORY), &container.mounts)?;
    let kernels_own = mounts::open_kernels_own(container)?;
    let shm = mounts::open_shm(&spec.shm)?;
    let sources = sources::open(directory, &container.mounts)?;
    let sockets = container.mounts.iter().map(|mount| sockets::open(directory, mount));
    let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
    let is_mapped = !container.users.is_empty();
    let devices = if is_mapped { Some(devices::open(&spec.devices)?) } else { None };
    change_root(&directory.join("root"), is_mapped)
        .during(ErrorCode::MountFailed, || "enter the container's root")?;
    mounts::mount_standard(container, &kernels_own, shm.as_ref())?;
    match devices {
        Some(devices) => devices::attach(&devices)?,
        None => devices::create(&spec.devices)?,
    }
    sysctls::set(container)?;
    for (requested, opened) in container.mounts.iter().zip(sources.iter().zip(&sockets)) {
        match opened {
            (Some(source), _) => source.attach(requested)?,
            (None, Some(socket)) => socket.attach(requested)?,
            (None, None) => mounts::mount_requested(requested)?,
        }
    }
    attach_identity_files(&identity_files, container.readonly_rootfs)
}

/// What has to wait until the terminal is there: the working directory, then no more changes.
pub(super) fn finish(container: &StartContainer, working_directory: &str) -> Result<(), Failure> {
    // Where it cannot be made, entering it says why, in the words that users know.
    let _made = std::fs::create_dir_all(working_directory);
    if container.readonly_rootfs {
        mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")
            .during(ErrorCode::MountFailed, || "make the root file system read-only")?;
    }
    paths::make_read_only(&container.readonly_paths)?;
    paths::mask(&container.masked_paths)
}

/// Nothing mounted from here on may show up anywhere else.
fn keep_mounts_private() -> Result<(), Failure> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .during(ErrorCode::MountFailed, || "make mounts private")
}

/// pivot_root(2) with both roots in one place: the old one ends up on top of the new one, and goes. In a user namespace
/// what was mounted outside is fixed to its place, and cannot become a root; the same mounted inside can.
fn change_root(root: &Path, is_mapped: bool) -> rustix::io::Result<()> {
    if is_mapped {
        mount_bind(root, root)?;
    }
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Those in whose places the request has nothing of its own.
fn open_identity_files(
    directory: &Path,
    requested: &[Mount],
) -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let open = |name: &'static str| match open_tree(CWD, directory.join(name), flags) {
        Err(Errno::NOENT) => None,
        tree => {
            let tree = tree.during(ErrorCode::MountFailed, || format!("open {name}"));
            Some(tree.map(|tree| (name, tree)))
        }
    };
    let is_free = |name: &&'static str| {
        let place = Path::new("/etc").join(name);
        requested.iter().all(|mount| Path::new(&mount.target) != place)
    };
    identity_files::NAMES.into_iter().filter(is_free).filter_map(open).collect()
}

fn attach_identity_files(files: &[(&'static str, OwnedFd)], read_only: bool) -> Result<(), Failure> {
    for (name, tree) in files {
        let target = Path::new("/etc").join(name);
        let step = || format!("mount {}", target.display());
        mounts::make_file(&target).during(ErrorCode::MountFailed, step)?;
        move_mount(
            tree,
            "",
            CWD,
            &target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
        )
        .during(ErrorCode::MountFailed, step)?;
        if read_only {
            paths::remount_read_only(&target).during(ErrorCode::MountFailed, step)?;
        }
    }
    Ok(())
}
