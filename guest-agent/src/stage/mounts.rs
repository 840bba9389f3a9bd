//! What is mounted in every container, and what its request adds.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_protocol::agent::{ErrorCode, Mount, Namespace, StartContainer};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsmount, fsopen, mount, move_mount, open_tree,
};

use super::paths;
use crate::container::shm::size_bytes;
use crate::failure::{During, Failure};

/// As many links as the kernel follows in one path.
const MAX_LINKS: u32 = 40;

const SHM: &str = "/dev/shm";

const CGROUPS: &str = "/sys/fs/cgroup";

struct StandardMount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static str,
}

const RESTRICTED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const RESTRICTED_READ_ONLY: MountFlags = RESTRICTED.union(MountFlags::RDONLY);
const NO_SETUID_NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
const NO_SETUID: MountFlags = MountFlags::NOSUID.union(MountFlags::STRICTATIME);

/// The OCI runtime specification's default file systems for Linux, in Docker's order and with its options. A later one
/// may lie on an earlier. /dev/shm, whose size is asked for, follows them.
const STANDARD_MOUNTS: [StandardMount; 6] = [
    StandardMount { kind: "proc", target: "/proc", flags: RESTRICTED, data: "" },
    StandardMount { kind: "tmpfs", target: "/dev", flags: NO_SETUID, data: "mode=755,size=65536k" },
    StandardMount {
        kind: "devpts",
        target: "/dev/pts",
        flags: NO_SETUID_NO_PROGRAMS,
        data: "newinstance,ptmxmode=0666,mode=0620,gid=5",
    },
    StandardMount { kind: "sysfs", target: "/sys", flags: RESTRICTED_READ_ONLY, data: "" },
    StandardMount { kind: "cgroup2", target: CGROUPS, flags: RESTRICTED_READ_ONLY, data: "" },
    StandardMount { kind: "mqueue", target: "/dev/mqueue", flags: RESTRICTED, data: "" },
];

/// Where they are, and /dev/shm.
pub(crate) fn standard_targets() -> impl Iterator<Item = &'static str> {
    STANDARD_MOUNTS.iter().map(|standard| standard.target).chain([SHM])
}

/// Those that the kernel lets a user namespace have only while another one of their kind is in sight, opened before the
/// change of root hides it: where each belongs, and the mount.
///
/// # Errors
/// MOUNT_FAILED
pub(super) fn open_kernels_own(container: &StartContainer) -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
    if container.users.is_empty() {
        return Ok(Vec::new());
    }
    let mut opened = Vec::new();
    for standard in STANDARD_MOUNTS.iter().filter(|standard| matches!(standard.kind, "proc" | "sysfs")) {
        let mount =
            open_mount(standard).during(ErrorCode::MountFailed, || format!("open {}", standard.kind))?;
        opened.push((standard.target, mount));
    }
    if container.outer_namespaces().any(|outer| outer == Namespace::CgroupNamespace) {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, CGROUPS, flags);
        opened.push((CGROUPS, tree.during(ErrorCode::MountFailed, || "open the control groups")?));
    }
    Ok(opened)
}

fn open_mount(standard: &StandardMount) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(standard.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let pairs = [
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
    ];
    let set = pairs.into_iter().filter(|(flag, _)| standard.flags.contains(*flag));
    let attributes = set.fold(MountAttrFlags::empty(), |all, (_, attribute)| all | attribute);
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn attach(mount: &OwnedFd, target: &str) -> Result<(), Failure> {
    let step = || format!("mount {target}");
    std::fs::create_dir_all(target).during(ErrorCode::MountFailed, step)?;
    move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .and_then(|()| if target == CGROUPS { paths::remount_read_only(target) } else { Ok(()) })
        .during(ErrorCode::MountFailed, step)
}

/// What the container has as /dev/shm together with others; nothing for one of its own.
///
/// # Errors
/// MOUNT_FAILED
pub(super) fn open_shm(place: &str) -> Result<Option<OwnedFd>, Failure> {
    if place.is_empty() {
        return Ok(None);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, place, flags);
    tree.map(Some).during(ErrorCode::MountFailed, || format!("open the {SHM} of several containers"))
}

/// Mounts them all; of which there is one in `opened`, that one, and as /dev/shm what others have too, if there is that.
pub(super) fn mount_standard(
    container: &StartContainer,
    opened: &[(&'static str, OwnedFd)],
    shm: Option<&OwnedFd>,
) -> Result<(), Failure> {
    // The privileged may write what others only read: /sys, and the control groups in it.
    let kept = if container.privileged { MountFlags::RDONLY.complement() } else { MountFlags::all() };
    for standard in &STANDARD_MOUNTS {
        match opened.iter().find(|(target, _)| *target == standard.target) {
            Some((target, mount)) => attach(mount, target)?,
            None => mount_at(standard.kind, standard.target, standard.flags & kept, standard.data)?,
        }
    }
    if container.no_shm {
        return Ok(());
    }
    match shm {
        Some(shm) => attach(shm, SHM),
        None => mount_at("tmpfs", SHM, RESTRICTED, &format!("mode=1777,size={}", size_bytes(container))),
    }
}

/// Mounts one that the request names.
pub(super) fn mount_requested(requested: &Mount) -> Result<(), Failure> {
    if requested.kind != "tmpfs" {
        return Err(Failure::invalid(format!("mounts of the kind {:?} are not possible", requested.kind)));
    }
    let (flags, mut data) = parse_options(&requested.options);
    // A directory that exists keeps its mode, unless the options name another (the kernel takes the last it reads).
    if let Ok(existing) = std::fs::metadata(&requested.target) {
        let mode = format!("mode={:o}", existing.permissions().mode() & 0o7777);
        data = if data.is_empty() { mode } else { format!("{mode},{data}") };
    }
    mount_at("tmpfs", &requested.target, flags, &data)
}

/// Makes an empty file to mount on, and the directories on the way to it, unless something is there. Where a link leads
/// to nothing (a resolv.conf that some service of a full system would make), the file is made where it leads.
pub(super) fn make_file(path: &Path) -> io::Result<()> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return create_if_absent(&path),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

fn create_if_absent(path: &Path) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

fn mount_at(kind: &str, target: &str, flags: MountFlags, data: &str) -> Result<(), Failure> {
    let step = || format!("mount {kind} at {target}");
    std::fs::create_dir_all(target).during(ErrorCode::MountFailed, step)?;
    let data = CString::new(data).during(ErrorCode::InvalidRequest, step)?;
    mount(kind, target, kind, flags, data.as_c_str()).during(ErrorCode::MountFailed, step)
}

/// Splits mount(8) options into flags and what the file system itself reads.
pub(super) fn parse_options(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options.iter().flat_map(|options| options.split(',')).filter(|option| !option.is_empty()) {
        match flag(option) {
            Some((flag, true)) => flags |= flag,
            Some((flag, false)) => flags -= flag,
            None => data.push(option),
        }
    }
    (flags, data.join(","))
}

/// The flag of an option, and whether the option sets or clears it. Unknown ones are the file system's to judge.
fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "defaults" => (MountFlags::empty(), true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> (MountFlags, String) {
        parse_options(&options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_flags_or_data() {
        let (flags, data) = parse(&["noexec,nosuid", "size=64m", "mode=1777", "ro"]);
        assert_eq!(flags, MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::RDONLY);
        assert_eq!(data, "size=64m,mode=1777");
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        assert_eq!(parse(&["ro", "rw"]).0, MountFlags::empty());
        assert_eq!(parse(&["exec", "noexec"]).0, MountFlags::NOEXEC);
    }

    #[test]
    fn an_unknown_option_reaches_the_kernel() {
        assert_eq!(parse(&["bogus"]).1, "bogus");
    }

    #[test]
    fn a_file_is_made_where_its_link_leads() {
        let directory = tempfile::tempdir().unwrap();
        let (link, loops) = (directory.path().join("etc/resolv.conf"), directory.path().join("loops"));
        std::fs::create_dir(directory.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("../run/resolver/resolv.conf", &link).unwrap();
        make_file(&link).unwrap();
        assert!(directory.path().join("run/resolver/resolv.conf").is_file());
        make_file(&link).expect("what is there is left alone");
        std::os::unix::fs::symlink("loops", &loops).unwrap();
        assert!(make_file(&loops).is_err());
    }

    #[test]
    fn only_tmpfs_is_mounted() {
        let bind =
            Mount { kind: "bind".into(), target: "/x".into(), options: Vec::new(), ..Default::default() };
        assert!(mount_requested(&bind).unwrap_err().message.contains("\"bind\""));
    }
}
