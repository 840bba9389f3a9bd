//! What has to be in memory and in the boot processor's registers before a kernel can start.
//!
//! The 64-bit entry of the Linux boot protocol (Documentation/arch/x86/boot.rst): an uncompressed ELF kernel is
//! loaded where its headers say, entered in long mode with paging on, and finds `struct boot_params` by RSI.
//! No firmware, no ACPI: processors and interrupt lines are described by an MP table.

pub(crate) mod command_line;
pub(crate) mod cpu_state;
pub(crate) mod cpuid;
mod elf;
mod kernel;
mod mp_table;
mod parameters;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use vm_memory::{GuestAddress, GuestMemoryError};

use crate::memory::GuestMemoryMmap;

use self::elf::ElfError;

/// What to boot.
#[derive(Debug)]
pub(crate) struct Payload<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: Option<&'a Path>,
    pub(crate) command_line: &'a str,
    pub(crate) vcpus: u8,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error("{path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no uncompressed x86-64 ELF kernel")]
    Kernel { path: PathBuf, source: ElfError },
    #[error("{path}: the kernel's {bytes} bytes at {address:#x} lie outside the machine's memory")]
    KernelOutsideMemory { path: PathBuf, address: u64, bytes: u64 },
    #[error("{path}: {bytes} bytes do not fit in memory behind the kernel")]
    NoRoom { path: PathBuf, bytes: u64 },
    #[error("cannot write {what} to guest memory")]
    Write { what: &'static str, source: GuestMemoryError },
}

/// Puts kernel, initramfs, command line, boot parameters and tables into `memory`; gives the kernel's entry.
///
/// # Errors
/// A file cannot be read, is not what it should be, or does not fit.
pub(crate) fn load(memory: &GuestMemoryMmap, payload: &Payload<'_>) -> Result<GuestAddress, BootError> {
    let kernel = kernel::load(memory, payload.kernel)?;
    let initramfs =
        payload.initramfs.map(|path| kernel::load_initramfs(memory, path, kernel.end)).transpose()?;
    command_line::write(memory, payload.command_line)?;
    mp_table::write(memory, payload.vcpus)?;
    cpu_state::write_tables(memory)?;
    parameters::write(memory, payload.command_line, initramfs)?;
    Ok(kernel.entry)
}
