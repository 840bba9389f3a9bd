//! A container's two disks joined to one root: the image disk below, the scratch disk's upper layer on it. And what is on
//! further parts of its image disk, to be mounted in it somewhere else.
//!
//! Mounts in the agent's own mount namespace, so that they end when the agent says so and not when the container's last
//! process happens to. Everything here blocks on devices and runs on a blocking thread.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_protocol::agent::{DiskPart, ErrorCode, Mount, StartContainer};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, move_mount, open_tree,
    unmount,
};

use super::ids::IdMaps;
use super::parts::Source;
use crate::failure::{During, Failure};
use crate::stage::sources;
use crate::sys;

/// The state of running containers, on a tmpfs: nothing here outlives the machine.
pub(crate) const CONTAINERS: &str = "/run/containers";
/// Below a container's directory.
const FURTHER: &str = "disks";

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
    /// What is mounted in the container beside its root, each at its place below its directory.
    further: Vec<(Source, PathBuf)>,
    directory: PathBuf,
    ids: IdMaps,
}

/// Where the further disk of that part is mounted, below the container's directory of state.
pub(crate) fn further_disk(directory: &Path, part: &DiskPart) -> PathBuf {
    directory.join(FURTHER).join(part.number.to_string())
}

impl Disks {
    /// The names are as the guest's kernel gives them, `vda`; they are checked where requests are.
    pub(crate) fn new(container_id: &str, image_disk: &str, scratch_disk: &str) -> Self {
        Self {
            lower_source: Source::new(image_disk, None),
            scratch_source: Source::new(scratch_disk, None),
            further: Vec::new(),
            directory: Path::new(CONTAINERS).join(container_id),
            ids: IdMaps::default(),
        }
    }

    /// The same for those that are disks' parts, with the further ones of its mounts.
    pub(super) fn in_parts(self, request: &StartContainer) -> Self {
        let scratch_source = Source::new(&request.scratch_disk, request.scratch_part.as_ref());
        Self { scratch_source, ..self.of_parts(request.lower_part.as_ref(), &request.mounts) }
    }

    /// The same for those of which the image disk alone has parts.
    pub(super) fn of_parts(self, lower_part: Option<&DiskPart>, mounts: &[Mount]) -> Self {
        let lower_source = self.lower_source.part(lower_part);
        let mut further: Vec<(Source, PathBuf)> = Vec::new();
        for part in mounts.iter().filter_map(|mount| mount.disk_part.as_ref()) {
            let place = further_disk(&self.directory, part);
            if further.iter().all(|(_, other)| *other != place) {
                further.push((lower_source.part(Some(part)), place));
            }
        }
        Self { lower_source, further, ..self }
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

    /// The root once more, with what is mounted in it for those who copy; there only for a container of which nothing runs.
    pub(crate) fn furnished_root(&self) -> PathBuf {
        self.directory.join("furnished")
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
        self.mount_further()?;
        if !self.ids.is_mapped() {
            return self.mount_overlay(&self.lower(), &self.scratch());
        }
        self.map_owners().during(ErrorCode::MountFailed, || "map the owners of files")?;
        self.mount_overlay(&self.mapped_lower(), &self.mapped_scratch())
    }

    /// Mounts what the container's processes would have mounted, in a root of its own: that of the disks stays as it is.
    ///
    /// # Errors
    /// MOUNT_FAILED, naming the mount.
    pub(super) fn furnish(&self, mounts: &[Mount]) -> Result<(), Failure> {
        let opened = sources::open(&self.directory, mounts)?;
        let root = self.furnished_root();
        let step = || format!("mount the root at {}", root.display());
        fs::create_dir_all(&root).during(ErrorCode::MountFailed, step)?;
        mount_bind(self.root(), &root).during(ErrorCode::MountFailed, step)?;
        let root = File::open(&root).during(ErrorCode::MountFailed, step)?;
        for (requested, opened) in mounts.iter().zip(&opened) {
            if let Some(opened) = opened {
                opened.attach_below(&root, requested)?;
            }
        }
        Ok(())
    }

    fn mount_further(&self) -> Result<(), Failure> {
        for (source, place) in &self.further {
            let device = source.device();
            source.appear().during(ErrorCode::MountFailed, || format!("find {}", device.display()))?;
            fs::create_dir_all(place)
                .during(ErrorCode::MountFailed, || format!("create {}", place.display()))?;
            mount_device(&device, place, "erofs", MountFlags::RDONLY | MountFlags::NODEV)?;
        }
        Ok(())
    }

    /// Both disks once more, with other owners: what lies on them stays as the container sees it. Further ones have them
    /// in place of their own.
    fn map_owners(&self) -> io::Result<()> {
        let ids = &self.ids;
        let namespace = sys::user_namespace(&ids.users.lines_for_disks(), &ids.groups.lines_for_disks())?;
        let mapped_clone = |disk: &Path| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, disk, flags)?;
            sys::map_owners_of_mount(&tree, &namespace)?;
            io::Result::Ok(tree)
        };
        let attach = |tree: &OwnedFd, place: &Path| {
            move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        for (disk, mapped) in [(self.lower(), self.mapped_lower()), (self.scratch(), self.mapped_scratch())] {
            fs::create_dir_all(&mapped)?;
            attach(&mapped_clone(&disk)?, &mapped)?;
        }
        for (_, place) in &self.further {
            let tree = mapped_clone(place)?;
            unmount(place, UnmountFlags::NOFOLLOW)?;
            attach(&tree, place)?;
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
        detach_if_mounted(&self.furnished_root())?;
        let mapped = [self.mapped_scratch(), self.mapped_lower()];
        let further = self.further.iter().map(|(_, place)| place.clone());
        let lowest = [self.scratch(), self.lower()].into_iter().chain(further);
        for target in [self.root()].into_iter().chain(mapped).chain(lowest) {
            unmount_if_mounted(&target)?;
            // Not with what is in it: were something still mounted there, that would be the container's files.
            absent_is_fine(fs::remove_dir(&target))?;
        }
        absent_is_fine(fs::remove_dir_all(&self.directory))?;
        wait_until_unused(&self.scratch_source.device())?;
        let read_only = [&self.lower_source].into_iter().chain(self.further.iter().map(|(source, _)| source));
        for source in read_only.clone().filter(|source| source.is_part()) {
            wait_until_unused(&source.device())?;
        }
        for source in [&self.scratch_source].into_iter().chain(read_only) {
            source.disappear()?;
        }
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

/// With all that is mounted below.
fn detach_if_mounted(target: &Path) -> io::Result<()> {
    match unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH) {
        Ok(()) => Ok(fs::remove_dir(target)?),
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
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
