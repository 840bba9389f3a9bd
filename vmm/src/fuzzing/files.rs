//! What is read from files and from the host's kernel: a kernel to boot, `machine.json`, KVM's statistics.

use std::fs::File;
use std::os::unix::fs::FileExt;

use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::input::Input;
use super::simple_devices;
use crate::boot::cpuid::Virtualization;
use crate::boot::{self, Payload, command_line};
use crate::config::MachineConfig;
use crate::kvm_statistics::VcpuStatistics;
use crate::layout::{self, COMMAND_LINE_BYTES, COMMAND_LINE_START, HIGH_RAM_START, MP_TABLE_START};
use crate::memory::GuestMemoryMmap;

const MEMORY_BYTES: usize = 4 << 20;

struct BootFiles {
    directory: TempDir,
    memory: GuestMemoryMmap,
}

impl BootFiles {
    fn new() -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]);
        Self { directory: simple_devices::directory(), memory: memory.expect("one region") }
    }
}

/// A kernel, and an initramfs of some size: refused, or loaded beside the machine's own tables and not over them.
pub(super) fn kernel(input: &[u8]) {
    thread_local! {
        static FILES: BootFiles = BootFiles::new();
    }
    let mut input = Input::new(input);
    let initramfs_kib = u64::from(input.u8()) * 16;
    FILES.with(|files| {
        let path = |name| files.directory.path().join(name);
        std::fs::write(path("kernel"), input.bytes(usize::MAX)).expect("a small file");
        let hole = File::create(path("initramfs")).expect("a small file");
        hole.set_len(initramfs_kib << 10).expect("a file with a hole");
        let (kernel, initramfs) = (path("kernel"), path("initramfs"));
        let payload = Payload {
            kernel: &kernel,
            initramfs: (initramfs_kib > 0).then_some(initramfs.as_path()),
            command_line: "quiet",
            vcpus: 2,
        };
        let Ok(entry) = boot::load(&files.memory, &payload) else { return };
        assert!(entry.0 >= HIGH_RAM_START && files.memory.address_in_range(entry), "entered in RAM");
        let reads = |address, expected: &[u8]| {
            let mut found = vec![0; expected.len()];
            files.memory.read_slice(&mut found, GuestAddress(address)).expect("low memory");
            assert_eq!(found, expected, "at {address:#x}");
        };
        reads(COMMAND_LINE_START, b"quiet\0");
        reads(MP_TABLE_START, b"_MP_");
    });
}

/// A configuration: refused, or within the bounds that everything behind it trusts.
pub(super) fn machine_json(input: &[u8]) {
    let Ok(config) = serde_json::from_slice::<MachineConfig>(input) else { return };
    let text = serde_json::to_vec(&config).expect("plain data");
    assert_eq!(serde_json::from_slice::<MachineConfig>(&text).expect("it was written by us"), config);
    if config.validate().is_err() {
        return;
    }
    let most = layout::MAX_VIRTIO_DEVICES;
    let line = command_line::compose(most, Virtualization::Software, &config.command_line);
    assert!((line.len() as u64) < COMMAND_LINE_BYTES, "room for the command line");
    for disk in &config.disks {
        let length = disk.extents.iter().try_fold(0u64, |sum, extent| sum.checked_add(extent.length_bytes));
        assert!(length.is_some_and(|length| length <= disk.capacity_bytes), "extents fit their disk");
    }
}

/// What the host's kernel says about its statistics: understood or refused, in bounded memory.
pub(super) fn kvm_statistics(input: &[u8]) {
    thread_local! {
        static ANSWER: File = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).expect("a file");
    }
    let answer = ANSWER.with(|file| {
        file.set_len(0).expect("a small file");
        file.write_all_at(input, 0).expect("a small file");
        file.try_clone().expect("the host has descriptors")
    });
    // Either is right; what counts is that it ends.
    drop(VcpuStatistics::new(answer.into()).read());
}
