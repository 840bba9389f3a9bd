//! Finds room for the kernel and the initramfs, and reads them in.
//!
//! Both are files of the host's, not the guest's: a bad one is an error for whoever configured it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::BootError;
use super::elf::{Elf, HEAD_BYTES, Segment};
use crate::host_files::{Access, HOST_FILES};
use crate::layout::{DEVICE_GAP_START, PAGE_BYTES};
use crate::memory::GuestMemoryMmap;

/// A kernel in memory.
#[derive(Debug)]
pub(super) struct LoadedKernel {
    pub(super) entry: GuestAddress,
    /// The first address behind its last segment.
    pub(super) end: u64,
}

/// An initramfs in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoadedInitramfs {
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// # Errors
/// The file cannot be read, is no kernel, or is one that does not fit in `memory`.
pub(super) fn load(memory: &GuestMemoryMmap, path: &Path) -> Result<LoadedKernel, BootError> {
    let read_error = |source| BootError::Read { path: path.to_owned(), source };
    let (mut file, file_bytes) = open(path)?;
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(read_error)?;
    let kernel = Elf::parse(&head, file_bytes)
        .map_err(|source| BootError::Kernel { path: path.to_owned(), source })?;
    for segment in &kernel.segments {
        check_room(memory, path, segment)?;
        file.seek(SeekFrom::Start(segment.file_offset)).map_err(read_error)?;
        let length = usize::try_from(segment.file_bytes).expect("a segment in memory has a length in memory");
        memory
            .read_exact_volatile_from(GuestAddress(segment.address), &mut file, length)
            .map_err(|source| BootError::Write { what: "the kernel", source })?;
    }
    Ok(LoadedKernel { entry: GuestAddress(kernel.entry), end: kernel.end() })
}

/// With the zeroed part behind the file's bytes: without RAM there, the kernel dies silently.
fn check_room(memory: &GuestMemoryMmap, path: &Path, segment: &Segment) -> Result<(), BootError> {
    let bytes = usize::try_from(segment.memory_bytes).unwrap_or(usize::MAX);
    if memory.check_range(GuestAddress(segment.address), bytes) {
        return Ok(());
    }
    let (address, bytes) = (segment.address, segment.memory_bytes);
    Err(BootError::KernelOutsideMemory { path: path.to_owned(), address, bytes })
}

/// Reads the initramfs to the highest pages it fits in below the devices' gap, where no kernel grows into it.
///
/// # Errors
/// The file cannot be read, or does not fit behind `kernel_end`.
pub(super) fn load_initramfs(
    memory: &GuestMemoryMmap,
    path: &Path,
    kernel_end: u64,
) -> Result<LoadedInitramfs, BootError> {
    let (mut file, bytes) = open(path)?;
    let no_room = || BootError::NoRoom { path: path.to_owned(), bytes };
    let low_ram_end = (memory.last_addr().0 + 1).min(DEVICE_GAP_START);
    let start = low_ram_end.checked_sub(bytes).ok_or_else(no_room)? & !(PAGE_BYTES - 1);
    if start < kernel_end {
        return Err(no_room());
    }
    let length = usize::try_from(bytes).map_err(|_| no_room())?;
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut file, length)
        .map_err(|source| BootError::Write { what: "the initramfs", source })?;
    Ok(LoadedInitramfs { start, bytes })
}

/// A regular file, and its length: that of anything else is not known before it is read.
fn open(path: &Path) -> Result<(File, u64), BootError> {
    let failed = |source| BootError::Read { path: path.to_owned(), source };
    let file = HOST_FILES.open(path, Access::Read).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("not a regular file")));
    }
    Ok((file, metadata.len()))
}
