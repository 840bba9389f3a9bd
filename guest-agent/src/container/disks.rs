//! A container's two disks joined to one root: the image disk below, the scratch disk's upper layer on it.
//!
//! Mounts in the agent's own mount namespace, so that they end when the agent says so and not when the container's last
//! process happens to. Everything here blocks on devices and runs on a blocking thread.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_protocol::agent::{ErrorCode, StartContainer};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount,
};

use super::ids::IdMaps;
use super::parts::Source;
use crate::failure::{During, Failure};
use crate::sys;

/// The state of running containers, on a tmpfs: nothing here outlives the machine.
pub(crate) const CONTAINERS: &str = "/run/containers";

/// What the container frees comes back to the host. The block bitmaps are read when they are needed, not all at once
/// while the container starts: most of a scratch disk is never used.
const SCRATCH_OPTIONS: &CStr = c"discard,no_prefetch_block_bitmaps";

/// The kernel lets go of a file system a moment after the last process that could see it.
const RELEASE_ATTEMPTS: u32 = 200;
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// Where a container's file systems lie, whether mounted or not.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    lower_source: Source,
    scratch_source: Source,
    directory: PathBuf,
    ids: IdMaps,
}

impl Disks {
    /// The names are as the guest's kernel gives them, `vda`; they are checked where requests are.
    pub(crate) fn new(container_id: &str, image_disk: &str, scratch_disk: &str) -> Self {
        Self {
            lower_source: Source::new(image_disk, None),
            scratch_source: Source::new(scratch_disk, None),
            directory: Path::new(CONTAINERS).join(container_id),
            ids: IdMaps::default(),
        }
    }

    /// The same for those that are disks' parts.
    pub(super) fn in_parts(self, request: &StartContainer) -> Self {
        let lower = Source::new(&request.image_disk, request.lower_part.as_ref());
        let scratch = Source::new(&request.scratch_disk, request.scratch_part.as_ref());
        Self { lower_source: lower, scratch_source: scratch, ..self }
    }

    /// The same for a container in a user namespace of its own.
    pub(super) fn owned_as(self, ids: IdMaps) -> Self {
        Self { ids, ..self }
    }

    /// The container's own directory of state.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The container's root file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// What lies below it, and is never written.
    pub(crate) fn lower(&self) -> PathBuf {
        self.directory.join("lower")
    }

    fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// What was written in it.
    pub(crate) fn upper(&self) -> PathBuf {
        self.scratch().join("upper")
    }

    /// The same as [`Disks::lower`], owned by those whom the container's users are in the machine.
    fn mapped_lower(&self) -> PathBuf {
        self.directory.join("mapped-lower")
    }

    fn mapped_scratch(&self) -> PathBuf {
        self.directory.join("mapped-scratch")
    }

    /// Who the owners of its files are in the machine.
    pub(crate) fn ids(&self) -> &IdMaps {
        &self.ids
    }

    /// Mounts both disks and the overlay.
    ///
    /// # Errors
    /// MOUNT_FAILED, naming the device; what was mounted before is left for [`Disks::unmount`].
    pub(crate) fn mount(&self) -> Result<(), Failure> {
        for directory in [self.lower(), self.scratch(), self.root()] {
            fs::create_dir_all(&directory)
                .during(ErrorCode::MountFailed, || format!("create {}", directory.display()))?;
        }
        for source in [&self.lower_source, &self.scratch_source] {
            source
                .appear()
                .during(ErrorCode::MountFailed, || format!("find {}", source.device().display()))?;
        }
        mount_device(
            &self.lower_source.device(),
            &self.lower(),
            "erofs",
            MountFlags::RDONLY | MountFlags::NODEV,
        )?;
        let scratch_options = MountFlags::NODEV | MountFlags::NOSUID;
        mount_device(&self.scratch_source.device(), &self.scratch(), "ext4", scratch_options)?;
        for directory in [self.upper(), self.scratch().join("work")] {
            fs::create_dir_all(&directory)
                .during(ErrorCode::MountFailed, || format!("create {}", directory.display()))?;
        }
        if !self.ids.is_mapped() {
            return self.mount_overlay(&self.lower(), &self.scratch());
        }
        self.map_owners().during(ErrorCode::MountFailed, || "map the owners of files")?;
        self.mount_overlay(&self.mapped_lower(), &self.mapped_scratch())
    }

    /// Both disks once more, with other owners: what lies on them stays as the container sees it.
    fn map_owners(&self) -> io::Result<()> {
        let ids = &self.ids;
        let namespace = sys::user_namespace(&ids.users.lines_for_disks(), &ids.groups.lines_for_disks())?;
        for (disk, mapped) in [(self.lower(), self.mapped_lower()), (self.scratch(), self.mapped_scratch())] {
            fs::create_dir_all(&mapped)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, disk, flags)?;
            sys::map_owners_of_mount(&tree, &namespace)?;
            move_mount(&tree, "", CWD, &mapped, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
        Ok(())
    }

    fn mount_overlay(&self, lower: &Path, scratch: &Path) -> Result<(), Failure> {
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        // The features that write private marks into the upper layer are off whatever the kernel's defaults are: the
        // host reads that layer when it compares or commits a container.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},index=off,redirect_dir=off,metacopy=off",
            lower.display(),
            upper.display(),
            work.display(),
        );
        let options = std::ffi::CString::new(options).during(ErrorCode::MountFailed, || "overlay options")?;
        mount("overlay", self.root(), "overlay", MountFlags::empty(), options.as_c_str())
            .during(ErrorCode::MountFailed, || "mount the overlay of image disk and scratch disk")
    }

    /// Writes everything back, unmounts what is mounted, and returns when what is the container's alone is no longer in use: its
    /// scratch disk and its parts of disks. A whole image disk may be below other containers too.
    ///
    /// # Errors
    /// If something still uses one of the file systems, or the scratch disk could not be written.
    pub(crate) fn unmount(&self) -> io::Result<()> {
        let synced = sync_file_system(&self.scratch());
        let mapped = [self.mapped_scratch(), self.mapped_lower()];
        for target in [self.root()].into_iter().chain(mapped).chain([self.scratch(), self.lower()]) {
            unmount_if_mounted(&target)?;
            // Not with what is in it: were something still mounted there, that would be the container's files.
            absent_is_fine(fs::remove_dir(&target))?;
        }
        absent_is_fine(fs::remove_dir_all(&self.directory))?;
        wait_until_unused(&self.scratch_source.device())?;
        if self.lower_source.is_part() {
            wait_until_unused(&self.lower_source.device())?;
        }
        self.scratch_source.disappear()?;
        self.lower_source.disappear()?;
        synced
    }
}

/// Mounts a disk that may have been bound to its files only now: until then it read as zeros, which the kernel may
/// remember.
fn mount_device(device: &Path, target: &Path, kind: &str, flags: MountFlags) -> Result<(), Failure> {
    let step = || format!("mount {} as {kind}", device.display());
    let options = (kind == "ext4").then_some(SCRATCH_OPTIONS);
    File::open(device).and_then(sys::drop_block_cache).during(ErrorCode::MountFailed, step)?;
    mount(device, target, kind, flags, options).during(ErrorCode::MountFailed, step)
}

fn sync_file_system(mount_point: &Path) -> io::Result<()> {
    absent_is_fine(File::open(mount_point).and_then(|directory| Ok(rustix::fs::syncfs(directory)?)))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn unmount_if_mounted(target: &Path) -> io::Result<()> {
    match unmount(target, UnmountFlags::NOFOLLOW) {
        // EINVAL: nothing is mounted there. ENOENT: a start that failed before it made the directory.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(io::Error::other(format!("unmount {}: {error}", target.display()))),
    }
}

/// An exclusive open of a block device fails for as long as a file system on it lives, in whatever mount namespace.
fn wait_until_unused(device: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    for _ in 0..RELEASE_ATTEMPTS {
        match rustix::fs::open(device, flags, Mode::empty()) {
            Err(Errno::BUSY) => std::thread::sleep(RELEASE_PAUSE),
            Err(error) if error != Errno::NOENT => return Err(error.into()),
            _ => return Ok(()),
        }
    }
    Err(io::Error::other(format!("{} is still in use", device.display())))
}
