//! Finds room for the kernel and the initramfs, and reads them in.
//!
//! Both are files of the host's, not the guest's: a bad one is an error for whoever configured it.

use std::fs::File;
use std::path::Path;

use linux_loader::loader::{Elf, Error, KernelLoader, elf};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::BootError;
use crate::layout::{DEVICE_GAP_START, HIGH_RAM_START, PAGE_BYTES};

/// A kernel in memory.
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

pub(super) fn load(memory: &GuestMemoryMmap, path: &Path) -> Result<LoadedKernel, BootError> {
    let mut file = open(path)?;
    let refused = |source| BootError::Kernel { path: path.to_owned(), source };
    let loaded = Elf::load(memory, None, &mut file, Some(GuestAddress(HIGH_RAM_START))).map_err(refused)?;
    // Behind the last segment's file contents is its zeroed part: RAM as well, or the kernel dies silently.
    let is_ram = |address: u64| memory.address_in_range(GuestAddress(address));
    if loaded.kernel_end == 0 || !is_ram(loaded.kernel_load.0) || !is_ram(loaded.kernel_end - 1) {
        return Err(refused(Error::Elf(elf::Error::InvalidProgramHeaderAddress)));
    }
    Ok(LoadedKernel { entry: loaded.kernel_load, end: loaded.kernel_end })
}

/// Reads the initramfs to the highest pages it fits in below the devices' gap, where no kernel grows into it.
pub(super) fn load_initramfs(
    memory: &GuestMemoryMmap,
    path: &Path,
    kernel_end: u64,
) -> Result<LoadedInitramfs, BootError> {
    let mut file = open(path)?;
    let read_error = |source| BootError::Read { path: path.to_owned(), source };
    let bytes = file.metadata().map_err(read_error)?.len();
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

fn open(path: &Path) -> Result<File, BootError> {
    File::open(path).map_err(|source| BootError::Read { path: path.to_owned(), source })
}
