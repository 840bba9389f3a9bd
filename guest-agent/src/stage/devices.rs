//! The nodes and links of a container's /dev.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;

use berth_protocol::agent::{DeviceKind, ErrorCode};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, stat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::process::umask;

use super::mounts;
use super::spec::DeviceNode;
use crate::failure::{During, Failure};

/// Character devices that every container has: path, major, minor (the kernel's `admin-guide/devices.txt`).
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Symbolic links: what each says, and where it lies.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// The machine's own nodes, where a user namespace keeps the container from making any: opened before the change of
/// root, with where each belongs.
pub(super) fn open(requested: &[DeviceNode]) -> Result<Vec<(String, OwnedFd)>, Failure> {
    let standard = NODES.iter().map(|(path, ..)| (*path, *path));
    let requested = requested.iter().map(|node| (node.source.as_str(), node.path.as_str()));
    let open = |(source, target): (&str, &str)| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, source, flags);
        let tree = tree.during(ErrorCode::MountFailed, || format!("open the device {source}"))?;
        Ok((target.to_owned(), tree))
    };
    standard.chain(requested).map(open).collect()
}

/// Fills the freshly mounted /dev with them.
pub(super) fn attach(devices: &[(String, OwnedFd)]) -> Result<(), Failure> {
    for (target, tree) in devices {
        mounts::make_file(target.as_ref())
            .and_then(|()| {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
                Ok(move_mount(tree, "", CWD, target, flags)?)
            })
            .during(ErrorCode::MountFailed, || format!("create the device {target}"))?;
    }
    link()
}

/// Fills the freshly mounted /dev, and makes the nodes that were asked for.
pub(super) fn create(requested: &[DeviceNode]) -> Result<(), Failure> {
    let mode = Mode::from_raw_mode(0o666);
    let previous = umask(Mode::empty());
    for (path, major, minor) in NODES {
        mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(major, minor))
            .during(ErrorCode::MountFailed, || format!("create {path}"))?;
    }
    umask(previous);
    link()?;
    for node in requested {
        make(node).during(ErrorCode::MountFailed, || format!("create the device {}", node.path))?;
    }
    Ok(())
}

fn link() -> Result<(), Failure> {
    for (target, path) in LINKS {
        symlink(target, path).during(ErrorCode::MountFailed, || format!("link {path}"))?;
    }
    Ok(())
}

/// As the machine has it, whatever the umask. A node of the same device that is there already is left alone.
fn make(node: &DeviceNode) -> std::io::Result<()> {
    if let Some(parent) = std::path::Path::new(&node.path).parent() {
        std::fs::create_dir_all(parent)?;
    }
    let kind = match node.kind() {
        DeviceKind::BlockDevice => FileType::BlockDevice,
        DeviceKind::CharacterDevice | DeviceKind::AnyDevice => FileType::CharacterDevice,
    };
    let (mode, device) = (Mode::from_raw_mode(node.mode), makedev(node.major, node.minor));
    match mknodat(CWD, &node.path, kind, mode, device) {
        Err(Errno::EXIST) if stat(&node.path).is_ok_and(|existing| existing.st_rdev == device) => {
            return Ok(());
        }
        made => made?,
    }
    let (owner, group) = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
    chownat(CWD, &node.path, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(chmodat(CWD, &node.path, mode, AtFlags::empty())?)
}
