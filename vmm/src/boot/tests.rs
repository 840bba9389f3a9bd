//! Wrong kernels, wrong initramfs: each is refused with the file's name and what is wrong with it.

use std::path::{Path, PathBuf};

use vm_memory::{Bytes, GuestAddress};

use super::{BootError, Payload, load};
use crate::layout::{BOOT_PARAMS_START, HIGH_RAM_START};
use crate::memory::GuestMemoryMmap;

const ENTRY: u64 = HIGH_RAM_START;
const MEMORY_BYTES: u64 = 32 << 20;

/// One program header's fields.
#[derive(Clone, Copy)]
struct Load {
    kind: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

const CODE: Load = Load { kind: 1, offset: 0x1000, address: ENTRY, file_bytes: 16, memory_bytes: 32 };

/// A kernel with these segments, 4 KiB of headers and 4 KiB of ones.
fn kernel(segments: &[Load]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(2u16.to_le_bytes());
    file.extend(62u16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for field in [ENTRY, 64, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for field in [64, 56, u16::try_from(segments.len()).unwrap(), 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    for load in segments {
        file.extend(load.kind.to_le_bytes());
        file.extend(7u32.to_le_bytes());
        for field in [load.offset, load.address, load.address, load.file_bytes, load.memory_bytes, 0x1000] {
            file.extend(field.to_le_bytes());
        }
    }
    file.resize(0x1000, 0);
    file.resize(0x2000, 1);
    file
}

/// As it is shown to people.
fn with_sources(error: BootError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

struct Files {
    directory: tempfile::TempDir,
    memory: GuestMemoryMmap,
}

impl Files {
    fn new() -> Self {
        let memory = crate::memory::allocate(MEMORY_BYTES).unwrap();
        Self { directory: tempfile::tempdir().unwrap(), memory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self, kernel: &[u8], initramfs: Option<&Path>) -> Result<GuestAddress, String> {
        std::fs::write(self.path("kernel"), kernel).unwrap();
        let payload = Payload { kernel: &self.path("kernel"), initramfs, command_line: "quiet", vcpus: 1 };
        load(&self.memory, &payload).map_err(with_sources)
    }
}

fn refusal(kernel: &[u8]) -> String {
    let files = Files::new();
    let message = files.load(kernel, None).unwrap_err();
    assert!(message.starts_with(files.path("kernel").to_str().unwrap()), "{message}");
    message
}

#[track_caller]
fn refuses(kernel: &[u8], why: &str) {
    let message = refusal(kernel);
    assert!(message.contains(why), "{message:?} does not say {why:?}");
}

#[test]
fn a_kernel_is_loaded_where_it_says_and_its_rest_is_zero() {
    let files = Files::new();
    assert_eq!(files.load(&kernel(&[CODE]), None), Ok(GuestAddress(ENTRY)));
    let mut loaded = [0xff; 32];
    files.memory.read_slice(&mut loaded, GuestAddress(ENTRY)).unwrap();
    assert_eq!(loaded, *[[1; 16], [0; 16]].as_flattened());
}

#[test]
fn files_that_are_no_kernel_are_refused() {
    refuses(b"", "does not begin like an ELF file");
    refuses(b"#!/bin/sh\nexit 0\n", "does not begin like an ELF file");
    refuses(&kernel(&[CODE])[..63], "does not begin like an ELF file");
    // A 32-bit file, a big-endian one, an object file, one for another processor.
    for (at, value) in [(4, 1), (5, 2), (16, 1), (18, 183)] {
        let mut kernel = kernel(&[CODE]);
        kernel[at] = value;
        refuses(&kernel, "another processor");
    }
}

#[test]
fn program_headers_are_where_they_are_looked_for() {
    let with = |at: usize, bytes: &[u8]| {
        let mut kernel = kernel(&[CODE]);
        kernel[at..at + bytes.len()].copy_from_slice(bytes);
        kernel
    };
    refuses(&with(32, &u64::MAX.to_le_bytes()), "program headers");
    refuses(&with(32, &4090u64.to_le_bytes()), "program headers");
    refuses(&with(54, &55u16.to_le_bytes()), "program headers");
    refuses(&with(56, &u16::MAX.to_le_bytes()), "program headers");
    refuses(&kernel(&[CODE])[..100], "program headers");
}

#[test]
fn entries_outside_of_segments_are_refused() {
    refuses(&kernel(&[]), "its entry 0x100000 lies in none");
    refuses(&kernel(&[Load { kind: 4, ..CODE }]), "its entry");
    refuses(&kernel(&[Load { address: ENTRY + 1, ..CODE }]), "its entry");
    refuses(&kernel(&[Load { address: ENTRY - 32 + HIGH_RAM_START, ..CODE }]), "its entry");
}

#[test]
fn segments_lie_in_the_file_and_in_memory_alone() {
    let cut_off = kernel(&[Load { file_bytes: 0x1001, memory_bytes: 0x2000, ..CODE }]);
    refuses(&cut_off, "the file is cut off");
    refuses(&kernel(&[Load { offset: u64::MAX - 3, ..CODE }]), "the file is cut off");
    refuses(&kernel(&[Load { file_bytes: 33, ..CODE }]), "more bytes in the file than in memory");
    refuses(&kernel(&[CODE, Load { address: BOOT_PARAMS_START, ..CODE }]), "below 1 MiB");
    refuses(&kernel(&[CODE, Load { address: u64::MAX - 15, ..CODE }]), "behind the last address");
    refuses(&kernel(&[CODE, Load { address: ENTRY + 31, ..CODE }]), "overlaps another segment");
    refuses(&kernel(&[Load { memory_bytes: MEMORY_BYTES, ..CODE }]), "outside the machine's memory");
    refuses(&kernel(&[Load { memory_bytes: u64::MAX - ENTRY, ..CODE }]), "outside the machine's memory");
    refuses(&kernel(&[CODE, Load { address: 0xd000_0000, ..CODE }]), "at 0xd0000000 lie outside");
}

#[test]
fn kernels_that_cannot_be_read_are_named() {
    let files = Files::new();
    let refused = |path: &Path| {
        let payload = Payload { kernel: path, initramfs: None, command_line: "", vcpus: 1 };
        with_sources(load(&files.memory, &payload).unwrap_err())
    };
    let missing = files.path("missing");
    assert_eq!(refused(&missing), format!("{}: No such file or directory (os error 2)", missing.display()));
    assert_eq!(
        refused(files.directory.path()),
        format!("{}: not a regular file", files.directory.path().display())
    );
    assert_eq!(refused(Path::new("/dev/zero")), "/dev/zero: not a regular file");
}

#[test]
fn an_initramfs_that_cannot_be_read_or_does_not_fit_is_named() {
    let files = Files::new();
    let kernel = kernel(&[CODE]);
    let missing = files.path("missing");
    let error = files.load(&kernel, Some(&missing)).unwrap_err();
    assert!(error.contains("missing: No such file"), "{error}");
    let error = files.load(&kernel, Some(files.directory.path())).unwrap_err();
    assert!(error.contains("not a regular file"), "{error}");

    let huge = files.path("initramfs");
    // One page less than what is behind the kernel's page fits, one byte more does not.
    let room = MEMORY_BYTES - (ENTRY + 0x1000);
    for (bytes, fits) in [(room, true), (room + 1, false), (1 << 50, false)] {
        std::fs::File::create(&huge).unwrap().set_len(bytes.min(1 << 40)).unwrap();
        match files.load(&kernel, Some(&huge)) {
            Ok(_) => assert!(fits, "{bytes}"),
            Err(error) => {
                assert!(
                    !fits && error.contains("initramfs: ") && error.contains("do not fit in memory"),
                    "{error}"
                );
            }
        }
    }
}
