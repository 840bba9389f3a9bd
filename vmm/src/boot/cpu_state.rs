//! The processors' state at the kernel's 64-bit entry: long mode, flat segments, the first 4 GiB mapped.
//!
//! Section numbers are of the Intel SDM, volume 3A.

use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::kvm::EntryState;
use crate::layout::{
    BOOT_PARAMS_START, BOOT_STACK_TOP, GDT_BYTES, GDT_START, PAGE_BYTES, PAGE_TABLES_BYTES, PAGE_TABLES_START,
};
use crate::memory::GuestMemoryMmap;

/// Control register bits (section 2.5).
const CR0_PROTECTED: u64 = 1 << 0;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
/// Section 2.2.1.
const EFER_LONG_MODE_ENABLED: u64 = 1 << 8;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;
/// The bit of RFLAGS that is always one; interrupts are off.
const RFLAGS_ALWAYS: u64 = 1 << 1;

/// Selectors as the boot protocol fixes them (`__BOOT_CS`, `__BOOT_DS`), and one for the task register.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
/// Segment types (section 3.4.5.1): execute/read and read/write, accessed; and a busy 64-bit TSS (section 3.5).
const CODE_TYPE: u8 = 0xb;
const DATA_TYPE: u8 = 0x3;
const BUSY_TSS_TYPE: u8 = 0xb;

/// Page table entries (section 4.5).
const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const ENTRIES: usize = 512;
const LARGE_PAGE_BYTES: u64 = 2 << 20;
const DIRECTORIES: usize = 4;
const _: () = assert!(ENTRIES as u64 * 8 == PAGE_BYTES);
const _: () = assert!(PAGE_TABLES_BYTES == (2 + DIRECTORIES) as u64 * PAGE_BYTES);
/// The descriptor table's entries: two unused ones, code, data.
const DESCRIPTORS: usize = 4;
const _: () = assert!(GDT_BYTES == DESCRIPTORS as u64 * 8);

/// Model-specific registers that a PC's firmware would have set.
const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRINGS: u64 = 1;
const MSR_MTRR_DEFAULT_TYPE: u32 = 0x2ff;
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

/// Writes the segment descriptors and the page tables that [`entry`] points the processor at.
pub(super) fn write_tables(memory: &GuestMemoryMmap) -> Result<(), BootError> {
    memory
        .write_slice(&descriptor_table(), GuestAddress(GDT_START))
        .map_err(|source| BootError::Write { what: "segment descriptors", source })?;
    memory
        .write_slice(&page_tables(), GuestAddress(PAGE_TABLES_START))
        .map_err(|source| BootError::Write { what: "page tables", source })
}

/// The boot processor at the kernel's entry; `reset` is what KVM gave it.
pub(crate) fn entry(kernel: GuestAddress, mut reset: kvm_sregs) -> EntryState {
    reset.cs = kvm_segment { selector: CODE_SELECTOR, type_: CODE_TYPE, l: 1, ..flat_segment() };
    let data = kvm_segment { selector: DATA_SELECTOR, type_: DATA_TYPE, db: 1, ..flat_segment() };
    (reset.ds, reset.es, reset.fs, reset.gs, reset.ss) = (data, data, data, data, data);
    reset.tr = kvm_segment { type_: BUSY_TSS_TYPE, s: 0, g: 0, limit: 0x67, ..flat_segment() };
    reset.gdt.base = GDT_START;
    reset.gdt.limit = u16::try_from(GDT_BYTES - 1).expect("four descriptors");
    reset.idt.base = 0;
    reset.idt.limit = 0;
    reset.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE | CR0_PAGING;
    reset.cr3 = PAGE_TABLES_START;
    reset.cr4 = CR4_PHYSICAL_ADDRESS_EXTENSION;
    reset.efer = EFER_LONG_MODE_ENABLED | EFER_LONG_MODE_ACTIVE;
    let registers = kvm_regs {
        rip: kernel.0,
        rflags: RFLAGS_ALWAYS,
        rsi: BOOT_PARAMS_START,
        rsp: BOOT_STACK_TOP,
        rbp: BOOT_STACK_TOP,
        ..Default::default()
    };
    EntryState { registers, system_registers: reset }
}

/// What every processor's model-specific registers start with.
pub(crate) fn initial_msrs() -> Msrs {
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let entries = [
        entry(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS),
        entry(MSR_MTRR_DEFAULT_TYPE, MTRR_ENABLED_WRITE_BACK),
    ];
    Msrs::from_entries(&entries).expect("two are fewer than a list may hold")
}

/// As after FNINIT, with SSE exceptions masked.
pub(crate) fn initial_fpu() -> kvm_fpu {
    kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() }
}

/// Base 0, limit 4 GiB, ring 0.
fn flat_segment() -> kvm_segment {
    kvm_segment { base: 0, limit: u32::MAX, present: 1, dpl: 0, s: 1, g: 1, ..Default::default() }
}

/// Two unused entries, then the code and data segments of [`entry`], for a guest that reloads its registers.
fn descriptor_table() -> [u8; DESCRIPTORS * 8] {
    const CODE: u64 = 0x00af_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    let mut table = [0; DESCRIPTORS * 8];
    table[usize::from(CODE_SELECTOR)..][..8].copy_from_slice(&CODE.to_le_bytes());
    table[usize::from(DATA_SELECTOR)..][..8].copy_from_slice(&DATA.to_le_bytes());
    table
}

/// PML4, PDPT and page directories that map the first 4 GiB to themselves.
fn page_tables() -> Vec<u8> {
    let table = PRESENT | WRITABLE;
    let pdpt = PAGE_TABLES_START + PAGE_BYTES;
    let first_directory = pdpt + PAGE_BYTES;
    let mut entries = vec![0u64; (2 + DIRECTORIES) * ENTRIES];
    let (top, rest) = entries.split_at_mut(ENTRIES);
    let (pointers, directories) = rest.split_at_mut(ENTRIES);
    top[0] = pdpt | table;
    for (pointer, directory) in pointers.iter_mut().take(DIRECTORIES).zip(0..) {
        *pointer = (first_directory + directory * PAGE_BYTES) | table;
    }
    for (entry, page) in directories.iter_mut().zip(0..) {
        *entry = (page * LARGE_PAGE_BYTES) | table | LARGE;
    }
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tables as a processor would (section 4.5.4).
    fn translate(memory: &GuestMemoryMmap, address: u64) -> Option<u64> {
        let mut table = PAGE_TABLES_START;
        for level in [3, 2, 1] {
            let index = address >> (12 + 9 * level) & (ENTRIES as u64 - 1);
            let entry: u64 = memory.read_obj(GuestAddress(table + index * 8)).unwrap();
            if entry & PRESENT == 0 {
                return None;
            }
            table = entry & !(PAGE_BYTES - 1);
            if entry & LARGE != 0 {
                return Some(table + address % LARGE_PAGE_BYTES);
            }
        }
        None
    }

    #[test]
    fn the_first_4_gib_are_mapped_to_themselves() {
        let memory = crate::memory::allocate(32 << 20).unwrap();
        write_tables(&memory).unwrap();
        for address in [0, 0x1234_5678, 0xd000_0050, 0xffff_ffff] {
            assert_eq!(translate(&memory, address), Some(address), "{address:#x}");
        }
        assert_eq!(translate(&memory, 1 << 32), None);
    }

    #[test]
    fn the_boot_processor_enters_in_long_mode_with_interrupts_off() {
        let state = entry(GuestAddress(0x100_0000), kvm_sregs::default());
        assert_eq!(state.registers.rip, 0x100_0000);
        assert_eq!(state.registers.rflags & (1 << 9), 0);
        assert_eq!((state.system_registers.cs.l, state.system_registers.cs.db), (1, 0));
    }
}
