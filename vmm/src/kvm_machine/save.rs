//! Taking a snapshot: everything stands still while state and memory are copied, and goes on while they reach the disk.
//!
//! ```text
//!   processors paused ─> devices held ─> state read ─> memory copied ─> all goes on ─> synced ─> named
//! ```
//!
//! A machine whose changes are tracked writes only those into its next snapshot, and shares the older memory file with
//! the one before by a link: each directory is whole by itself.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use rustix::rand::{GetRandomFlags, getrandom};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::KvmMachine;
use crate::boot::cpuid::Virtualization;
use crate::control::SnapshotReport;
use crate::kvm::{DirtyLog, KvmError, SavedVcpu, align_time_stamps};
use crate::layout::PAGE_BYTES;
use crate::snapshot::{
    self, Changes, Directory, DirectoryError, FileId, MAX_CHANGED_RUNS, MemoryFileError, MemoryFiles,
    PageRun, PageSet, Snapshot, names,
};
use crate::virtio::StateError;
use crate::virtio::mmio::{HeldDevice, SavedDevice};

/// Whether a later snapshot shall write changes only. Until then, the guest's first write to each page is slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    On,
    Off,
}

/// Why there is no snapshot. The machine goes on as if it had not been asked for one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("{} holds a snapshot already: name another directory", path.display())]
    Exists { path: std::path::PathBuf },
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("virtio device {index}: {source}")]
    Device { index: usize, source: StateError },
    #[error("vCPU {id} has stopped")]
    Stopped { id: usize },
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error("cannot name a memory file: {0}")]
    Random(io::Error),
}

/// The memory file that later snapshots build on.
#[derive(Debug)]
pub(super) struct Tracked {
    directory: Directory,
    base: FileId,
    /// All that was written since.
    changed: PageSet,
}

/// A memory file under way.
struct Written {
    name: &'static str,
    file: File,
    bytes: u64,
    files: MemoryFiles,
}

impl KvmMachine {
    /// Saves the machine into `path`, a directory without a snapshot. It stands still meanwhile, and goes on afterwards
    /// unless it `was_paused` before.
    ///
    /// # Errors
    /// A device cannot be saved, or the directory not be written.
    pub(crate) fn save(
        &self,
        path: &Path,
        tracking: Tracking,
        was_paused: bool,
    ) -> Result<SnapshotReport, SaveError> {
        if snapshot::open_file(path, names::STATE).is_ok_and(|file| file.is_some_and(|file| !is_empty(&file)))
        {
            return Err(SaveError::Exists { path: path.to_owned() });
        }
        let directory = Directory::create(path)?;
        let result = self.save_into(&directory, tracking, was_paused);
        if result.is_err() {
            [names::STATE, names::MEMORY, names::CHANGES].iter().for_each(|name| directory.abandon(name));
        }
        result
    }

    fn save_into(
        &self,
        directory: &Directory,
        tracking: Tracking,
        was_paused: bool,
    ) -> Result<SnapshotReport, SaveError> {
        let mut tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        let still = StandingStill::new(self, was_paused);
        let (snapshot, written) = self.copy(directory, &mut tracked, tracking, &still)?;
        drop(still);
        let paused_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        written.file.sync_data().map_err(directory.failed_at(written.name))?;
        directory.publish(written.name)?;
        publish_state(directory, &snapshot)?;
        if tracking == Tracking::On && tracked.is_none() {
            let directory = Directory::create(directory.path())?;
            let changed = PageSet::empty(self.memory_bytes());
            *tracked = Some(Tracked { directory, base: snapshot.memory_files.base, changed });
        }
        let is_incremental = written.name == names::CHANGES;
        Ok(SnapshotReport { memory_bytes_written: written.bytes, paused_us, is_incremental })
    }

    /// Everything of the machine, while it stands still.
    fn copy(
        &self,
        directory: &Directory,
        tracked: &mut Option<Tracked>,
        tracking: Tracking,
        still: &StandingStill<'_>,
    ) -> Result<(Snapshot, Written), SaveError> {
        let devices = still.save_devices()?;
        let vcpus = self.save_vcpus()?;
        let chips = self.machine.save()?;
        let written = self.copy_memory(directory, tracked, tracking)?;
        let snapshot = Snapshot {
            virtualization: Virtualization::of_this_host(),
            memory_bytes: self.memory_bytes(),
            memory_files: written.files.clone(),
            vcpus,
            chips,
            serial: self.serial.save(),
            devices,
        };
        Ok((snapshot, written))
    }

    fn save_vcpus(&self) -> Result<Vec<SavedVcpu>, SaveError> {
        let msrs = self.host.saved_msrs()?;
        let save = |(id, vcpu): (usize, &crate::vcpu::RunningVcpu)| {
            let msrs = msrs.clone();
            let saved = vcpu.while_paused(move |vcpu| vcpu.save(&msrs));
            Ok::<_, SaveError>(saved.ok_or(SaveError::Stopped { id })??)
        };
        let mut vcpus = self.vcpus.iter().enumerate().map(save).collect::<Result<Vec<_>, _>>()?;
        align_time_stamps(&mut vcpus);
        Ok(vcpus)
    }

    /// Copies the pages that changed if there is a memory file to build on, and all of them otherwise.
    fn copy_memory(
        &self,
        directory: &Directory,
        tracked: &mut Option<Tracked>,
        tracking: Tracking,
    ) -> Result<Written, SaveError> {
        if let Some(tracked) = tracked.as_mut() {
            self.collect_changes(&mut tracked.changed)?;
        }
        let written = match tracked.as_ref().and_then(|tracked| self.to_build_on(tracked, directory)) {
            Some((base, runs)) => self.copy_changes(directory, base, runs)?,
            None => {
                // What is written from here on is a change of the new file.
                *tracked = None;
                self.copy_all(directory)?
            }
        };
        match tracking {
            Tracking::On if tracked.is_none() => self.start_tracking()?,
            Tracking::On => {}
            Tracking::Off => {
                *tracked = None;
                self.machine.set_dirty_log(DirtyLog::Off)?;
            }
        }
        Ok(written)
    }

    /// The memory file that is shared with an older snapshot, and the pages that are newer, if that is worth it.
    fn to_build_on(&self, tracked: &Tracked, directory: &Directory) -> Option<(FileId, Vec<PageRun>)> {
        let runs = tracked.changed.joined_runs();
        let pages: u64 = runs.iter().map(|run| run.count).sum();
        let is_worth_it = runs.len() <= MAX_CHANGED_RUNS && pages * 2 <= self.memory_bytes() / PAGE_BYTES;
        let is_shared = is_worth_it && shares_base(tracked, directory, self.memory_bytes()).is_ok();
        is_shared.then_some((tracked.base, runs))
    }

    fn copy_all(&self, directory: &Directory) -> Result<Written, SaveError> {
        let base = random_id()?;
        let all = [PageRun { first: 0, count: self.memory_bytes() / PAGE_BYTES }];
        let (file, bytes) = self.copy_pages(directory, names::MEMORY, &all, base)?;
        Ok(Written { name: names::MEMORY, file, bytes, files: MemoryFiles { base, changes: None } })
    }

    fn copy_changes(
        &self,
        directory: &Directory,
        base: FileId,
        runs: Vec<PageRun>,
    ) -> Result<Written, SaveError> {
        let id = random_id()?;
        let (file, bytes) = self.copy_pages(directory, names::CHANGES, &runs, id)?;
        let files = MemoryFiles { base, changes: Some(Changes { file: id, runs }) };
        Ok(Written { name: names::CHANGES, file, bytes, files })
    }

    fn copy_pages(
        &self,
        directory: &Directory,
        name: &'static str,
        runs: &[PageRun],
        id: FileId,
    ) -> Result<(File, u64), SaveError> {
        let file = directory.begin_file(name)?;
        let written = snapshot::write_pages(&self.memory, self.memory_bytes(), runs, &file, id);
        let bytes = written.map_err(directory.failed_at(name))?;
        Ok((file, bytes))
    }

    fn memory_bytes(&self) -> u64 {
        self.memory.iter().map(GuestMemoryRegion::len).sum()
    }

    /// Has everything recorded that is written from here on, and forgets what was before.
    fn start_tracking(&self) -> Result<(), KvmError> {
        self.machine.set_dirty_log(DirtyLog::On)?;
        self.memory.iter().for_each(|region| (**region).bitmap().start());
        self.collect_changes(&mut PageSet::empty(0))
    }

    /// Adds what the guest and this process have written since the last time.
    fn collect_changes(&self, changed: &mut PageSet) -> Result<(), KvmError> {
        let of_guest = self.machine.take_dirty_log()?;
        let mut first_page = 0;
        for (region, of_guest) in self.memory.iter().zip(of_guest) {
            changed.insert_bits(first_page, &of_guest);
            changed.insert_bits(first_page, &(**region).bitmap().take().unwrap_or_default());
            first_page += region.len() / PAGE_BYTES;
        }
        Ok(())
    }
}

/// Makes the older memory file part of the new snapshot too.
fn shares_base(tracked: &Tracked, directory: &Directory, memory_bytes: u64) -> Result<(), MemoryFileError> {
    let failed = |error: DirectoryError| MemoryFileError::Read(io::Error::other(error));
    directory.link(&tracked.directory, names::MEMORY).map_err(failed)?;
    let file = snapshot::open_file(directory.path(), names::MEMORY).map_err(failed)?;
    let file = file.ok_or(MemoryFileError::Other)?;
    snapshot::check(&file, tracked.base, memory_bytes)
}

/// In the jail the file exists, empty, before it is written.
fn is_empty(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() == 0)
}

fn publish_state(directory: &Directory, snapshot: &Snapshot) -> Result<(), DirectoryError> {
    let mut file = directory.begin_file(names::STATE)?;
    let written = file.write_all(&snapshot.encode()).and_then(|()| file.sync_data());
    written.map_err(directory.failed_at(names::STATE))?;
    directory.publish(names::STATE)
}

fn random_id() -> Result<FileId, SaveError> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(|error| SaveError::Random(error.into()))?;
    Ok(FileId::from_ne_bytes(bytes))
}

/// A machine none of whose processors and devices does anything, until this is dropped.
struct StandingStill<'m> {
    machine: &'m KvmMachine,
    was_paused: bool,
    devices: Vec<HeldDevice<'m>>,
}

impl<'m> StandingStill<'m> {
    fn new(machine: &'m KvmMachine, was_paused: bool) -> Self {
        machine.pause();
        let devices = machine.virtio.iter().map(|device| device.hold()).collect();
        Self { machine, was_paused, devices }
    }

    fn save_devices(&self) -> Result<Vec<SavedDevice>, SaveError> {
        let save = |(index, device): (usize, &HeldDevice<'_>)| {
            device.save().map_err(|source| SaveError::Device { index, source })
        };
        self.devices.iter().enumerate().map(save).collect()
    }
}

impl Drop for StandingStill<'_> {
    fn drop(&mut self) {
        self.devices.clear();
        if !self.was_paused {
            self.machine.resume();
        }
    }
}
