//! File systems of volumes' own: in a file that bounds what goes in, or in memory.
//!
//! Each is mounted in a mount namespace where nobody ever is, which lives as long as the value; the host's own table of
//! mounts has no entry of it. Machines get clones of the mount ([`FileSystem::root`]), which live as long as their
//! share servers. So whoever is killed when, the mounts, the loop device and the memory go with the last that has them.
//! mount(8) finds the loop device that a file has already: two machines, or two daemons one after the other, never see
//! two file systems of one file.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::super::scratch::make_file_system;
use super::volume::MemoryOptions;
use crate::machine::on_own_thread;

/// Below the root of a file system in a file: what containers see. Beside it is what ext4 has for itself.
const CONTENT: &str = "content";
/// The host runs nothing there, and opens no device.
const CAREFUL: MountFlags = MountFlags::NODEV.union(MountFlags::NOSUID).union(MountFlags::NOEXEC);

#[derive(Debug)]
pub(super) struct FileSystem {
    /// Nothing of one that only machines of an earlier daemon's have.
    namespace: Option<File>,
    /// What containers see, from its root on.
    content: &'static str,
}

impl FileSystem {
    /// Makes the file for one, if it is not there. Blocks for as long as `mkfs.ext4` does.
    ///
    /// # Errors
    /// The host has no room, or no `mkfs.ext4`.
    pub(super) fn make(file: &Path, size_bytes: u64) -> io::Result<()> {
        if file.exists() {
            return Ok(());
        }
        let unfinished = file.with_extension("unfinished");
        make_file_system(&unfinished, size_bytes, "volume")?;
        File::open(&unfinished)?.sync_all()?;
        std::fs::rename(unfinished, file)
    }

    /// The one in that file. `place` is an empty directory.
    ///
    /// # Errors
    /// The host has no loop devices, or refuses the mount.
    pub(super) async fn of_file(file: PathBuf, place: PathBuf) -> io::Result<Self> {
        Self::open(place, CONTENT, move |place| {
            mount_file(&file, place)?;
            match DirBuilder::new().mode(0o755).create(place.join(CONTENT)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            }
        })
        .await
    }

    /// A new one in memory.
    ///
    /// # Errors
    /// The host refuses the mount.
    pub(super) async fn of_memory(options: &MemoryOptions, place: PathBuf) -> io::Result<Self> {
        let words: Vec<String> =
            options.words.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let words = std::ffi::CString::new(words.join(",")).map_err(|_| io::ErrorKind::InvalidInput)?;
        Self::open(place, "", move |place| {
            Ok(mount("tmpfs", place, "tmpfs", CAREFUL, Some(words.as_c_str()))?)
        })
        .await
    }

    /// One that machines of an earlier daemon's have, and nobody can be given any more.
    pub(super) fn of_earlier_daemon() -> Self {
        Self { namespace: None, content: "" }
    }

    async fn open(
        place: PathBuf,
        content: &'static str,
        mount: impl FnOnce(&Path) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let opening = on_own_thread(move || {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            mount(&place)?;
            let namespace = File::open("/proc/thread-self/ns/mnt")?;
            leave_host(&place)?;
            Ok(namespace)
        });
        Ok(Self { namespace: Some(opening.await?), content })
    }

    /// A mount of what containers see, which is nowhere yet; nothing of a file system that nobody can be given.
    ///
    /// # Errors
    /// The host refuses.
    pub(super) async fn root(&self) -> io::Result<Option<OwnedFd>> {
        let Some(namespace) = &self.namespace else { return Ok(None) };
        let (namespace, path) = (namespace.try_clone()?, Path::new("/").join(self.content));
        let cloning = on_own_thread(move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&namespace, CloneFlags::CLONE_NEWNS)?;
            Ok(open_tree(CWD, &path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
        });
        cloning.await.map(Some)
    }
}

/// mount(8) sets up the loop device and leaves it to the mount: with the last one, it goes.
fn mount_file(file: &Path, place: &Path) -> io::Result<()> {
    let output = Command::new("mount")
        // What is deleted inside is free on the host; inode tables are written when they are needed.
        .args(["-n", "-t", "ext4", "-o", "loop,discard,noinit_itable,nodev,nosuid,noexec"])
        .args([file, place])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("mount: {error}; install the package mount"))
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("mount: {}", said.trim().replace('\n', "; "))))
}

/// The namespace keeps the one file system and nothing of the host's, which could not be unmounted there otherwise.
fn leave_host(place: &Path) -> io::Result<()> {
    chdir(place)?;
    pivot_root(".", ".")?;
    // The host's root lies on top of ours now.
    Ok(unmount(".", UnmountFlags::DETACH)?)
}
