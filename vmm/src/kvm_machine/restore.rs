//! A machine that goes on from a snapshot, in the order in which its parts must come back.
//!
//! Memory first, then KVM's side of processors and chips, then the devices, and the guest's next instruction last. What
//! is the new machine's own (files of disks, context id, sockets) comes from its configuration; the guest learns of it
//! from its devices and from whoever manages it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use kvm_bindings::CpuId;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::{Attached, Console, KvmMachine, Parts, StartError, number_of, traits_of};
use crate::boot::cpuid::{self, Virtualization};
use crate::config::MachineConfig;
use crate::control::MachineExit;
use crate::kvm::{self, SavedVcpu, Vcpu, VcpuRestoreError};
use crate::layout::PAGE_BYTES;
use crate::memory::GuestMemoryMmap;
use crate::snapshot::{
    self, CHUNK_BYTES, Directory, DirectoryError, FileId, LoadedSnapshot, MapError, OpenError,
    OpenedSnapshot, PageMap, Snapshot, WorkingSet, names,
};
use crate::vcpu::FirstState;
use crate::virtio::VirtioDevice;
use crate::virtio::mmio::DeviceRestoreError;

/// A chunk is worth loading as a whole if the guest touched this many of its pages. Where the host has huge pages at
/// hand, reading 2 MiB takes as long as ten faults that are slow (guest programs on software KVM), or a hundred fast
/// ones. Where it must clear memory for each, ten times that: memory touched here and there was restored twenty times
/// slower than page by page when all its chunks were loaded.
const WORTHWHILE_PAGES: u32 = 128;

/// Why a machine cannot go on from a snapshot. Nothing of it has run then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{field} is {configured}, and was {saved} in the snapshot")]
    Configuration { field: &'static str, configured: u64, saved: u64 },
    #[error("the snapshot is from a host with {saved:?} virtualization, this one has {own:?}")]
    Virtualization { saved: Virtualization, own: Virtualization },
    #[error(transparent)]
    Memory(#[from] MapError),
    #[error("vCPU {id}: {source}")]
    Vcpu { id: u8, source: VcpuRestoreError },
    #[error("virtio device {index}: {source}")]
    Device { index: usize, source: DeviceRestoreError },
    #[error("the serial port: {0}")]
    Serial(io::Error),
}

/// What a restored machine remembers of its snapshot.
#[derive(Debug)]
pub(super) struct Origin {
    directory: PathBuf,
    base: FileId,
    page_map: Option<PageMap>,
}

/// Why the working set could not be recorded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the machine was not restored from a snapshot")]
    NotRestored,
    #[error("/proc/self/pagemap could not be opened when the machine started")]
    NoPageMap,
    #[error("cannot find out which pages were touched: {0}")]
    PageMap(io::Error),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl KvmMachine {
    /// Starts a machine that goes on from `opened`, with these devices, in guest order.
    ///
    /// # Errors
    /// The snapshot is damaged, or of another kind of host or machine: the message says which.
    pub(crate) fn restore(
        config: &MachineConfig,
        opened: OpenedSnapshot,
        devices: Vec<Box<dyn VirtioDevice>>,
        console: &Console,
        exits: &Sender<MachineExit>,
    ) -> Result<Self, StartError> {
        let LoadedSnapshot { directory, snapshot, sources, working_set, page_map, faults } =
            opened.load().map_err(RestoreError::from)?;
        check(config, number_of(&devices)?, &snapshot)?;
        let host = kvm::Host::open()?;
        let mapped = snapshot::map(snapshot.memory_bytes, sources, working_set.as_ref(), faults)
            .map_err(RestoreError::from)?;
        let memory = mapped.memory;
        let filling = mapped.lazy.map(|lazy| lazy.start(exits.clone())).transpose()?;
        let machine = host.create_machine(&memory)?;
        let attached = Attached::new(&machine, &memory, devices, console, exits)?;
        let supported = cpuid::supported(&host, &config.host_cpuid)?;
        let vcpus = restore_vcpus(&host, &machine, &snapshot.vcpus, &supported)?;
        machine.restore(&snapshot.chips)?;
        restore_devices(&attached, &snapshot)?;
        let origin = Some(Origin { directory, base: snapshot.memory_files.base, page_map });
        let first = match &config.restore {
            Some(restore) if restore.paused => FirstState::Paused,
            _ => FirstState::Running,
        };
        Parts { host, memory, machine, attached, vcpus, filling, origin }.start(first, exits)
    }

    /// Writes down which parts of memory were touched so far, for later machines from the same snapshot. Gives how
    /// many MiB they are.
    ///
    /// # Errors
    /// The machine has no snapshot, or its directory cannot be written.
    pub(crate) fn record_working_set(&self) -> Result<u64, RecordError> {
        let origin = self.origin.as_ref().ok_or(RecordError::NotRestored)?;
        let page_map = origin.page_map.as_ref().ok_or(RecordError::NoPageMap)?;
        let chunks = touched_chunks(&self.memory, page_map).map_err(RecordError::PageMap)?;
        let mib = (chunks.len() as u64 * CHUNK_BYTES) >> 20;
        let set = WorkingSet { base: origin.base, chunks };
        let directory = Directory::create(&origin.directory)?;
        let file = directory.begin_file(names::WORKING_SET)?;
        let written = io::Write::write_all(&mut &file, &set.encode()).and_then(|()| file.sync_data());
        written.map_err(directory.failed_at(names::WORKING_SET))?;
        directory.publish(names::WORKING_SET)?;
        Ok(mib)
    }
}

/// Whether the machine that is wanted is the one that was saved.
fn check(config: &MachineConfig, devices: u32, snapshot: &Snapshot) -> Result<(), RestoreError> {
    let fields = [
        ("vcpus", u64::from(config.vcpus), snapshot.vcpus.len() as u64),
        ("memory_mib", u64::from(config.memory_mib), snapshot.memory_bytes >> 20),
        ("the number of virtio devices", u64::from(devices), snapshot.devices.len() as u64),
    ];
    if let Some((field, configured, saved)) = fields.into_iter().find(|(_, own, saved)| own != saved) {
        return Err(RestoreError::Configuration { field, configured, saved });
    }
    let (saved, own) = (snapshot.virtualization, Virtualization::of_this_host());
    if saved == own { Ok(()) } else { Err(RestoreError::Virtualization { saved, own }) }
}

fn restore_vcpus(
    host: &kvm::Host,
    machine: &kvm::Machine,
    saved: &[SavedVcpu],
    supported: &CpuId,
) -> Result<Vec<Vcpu>, StartError> {
    let traits = traits_of(host);
    let count = u8::try_from(saved.len()).expect("as many as the configuration has");
    let create = |(id, saved)| {
        let mut vcpu = machine.create_vcpu(id)?;
        let expected = cpuid::for_vcpu(supported, id, count, traits);
        vcpu.restore(host, saved, &expected).map_err(|source| RestoreError::Vcpu { id, source })?;
        Ok(vcpu)
    };
    (0..).zip(saved).map(create).collect()
}

/// After the chips: a device that has something to say raises its line.
fn restore_devices(attached: &Attached, snapshot: &Snapshot) -> Result<(), RestoreError> {
    attached.serial.restore(&snapshot.serial).map_err(RestoreError::Serial)?;
    for (index, (device, saved)) in attached.virtio.iter().zip(&snapshot.devices).enumerate() {
        device.restore(saved).map_err(|source| RestoreError::Device { index, source })?;
    }
    attached.virtio.iter().for_each(|device| device.resume());
    Ok(())
}

/// The chunks of RAM of which enough was touched to be loaded as a whole, in ascending order.
fn touched_chunks(memory: &GuestMemoryMmap, page_map: &PageMap) -> io::Result<Vec<u32>> {
    let mut touched: BTreeMap<u64, u32> = BTreeMap::new();
    let mut first_page = 0;
    for region in memory.iter() {
        let pages = region.len() / PAGE_BYTES;
        page_map.each_touched(region.as_ptr().addr(), pages, |page| {
            *touched.entry((first_page + page) * PAGE_BYTES / CHUNK_BYTES).or_default() += 1;
        })?;
        first_page += pages;
    }
    let worthwhile = touched.into_iter().filter(|(_, pages)| *pages >= WORTHWHILE_PAGES);
    Ok(worthwhile.filter_map(|(chunk, _)| u32::try_from(chunk).ok()).collect())
}
