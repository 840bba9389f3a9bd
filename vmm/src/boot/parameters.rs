//! `struct boot_params`, the "zero page": what the kernel is told of memory, command line and initramfs.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::BootError;
use super::kernel::LoadedInitramfs;
use crate::layout::{
    BOOT_PARAMS_BYTES, BOOT_PARAMS_START, COMMAND_LINE_START, HIGH_RAM_START, LOW_RAM_END, MP_TABLE_END,
    MP_TABLE_START,
};
use crate::memory::GuestMemoryMmap;

/// Fields of the setup header (boot.rst, "Details of Header Fields").
const BOOT_SECTOR_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448; // "HdrS"
const LOADER_WITHOUT_ID: u8 = 0xff;
/// The command line's and initramfs' addresses have 32 bits here.
const _: () = assert!(COMMAND_LINE_START <= u32::MAX as u64);
const _: () = assert!(size_of::<boot_params>() as u64 == BOOT_PARAMS_BYTES);

/// Kinds of memory in the map (ACPI 6.4, section 15).
const RAM: u32 = 1;
const RESERVED: u32 = 2;

pub(super) fn write(
    memory: &GuestMemoryMmap,
    command_line: &str,
    initramfs: Option<LoadedInitramfs>,
) -> Result<(), BootError> {
    let mut parameters = boot_params::default();
    parameters.hdr.boot_flag = BOOT_SECTOR_FLAG;
    parameters.hdr.header = HEADER_MAGIC;
    parameters.hdr.type_of_loader = LOADER_WITHOUT_ID;
    parameters.hdr.cmd_line_ptr = low(COMMAND_LINE_START);
    parameters.hdr.cmdline_size = low(command_line.len() as u64);
    if let Some(initramfs) = initramfs {
        parameters.hdr.ramdisk_image = low(initramfs.start);
        parameters.hdr.ramdisk_size = low(initramfs.bytes);
    }
    let map = memory_map(memory);
    for (slot, (start, end, kind)) in parameters.e820_table.iter_mut().zip(&map) {
        *slot = boot_e820_entry { addr: *start, size: end - start, r#type: *kind };
    }
    parameters.e820_entries = u8::try_from(map.len()).expect("a handful of ranges");
    memory
        .write_obj(parameters, GuestAddress(BOOT_PARAMS_START))
        .map_err(|source| BootError::Write { what: "the boot parameters", source })
}

fn low(value: u64) -> u32 {
    u32::try_from(value).expect("loaded below the devices' gap, which is below 4 GiB")
}

/// (start, end, kind), ascending. What is in none of them is not there.
fn memory_map(memory: &GuestMemoryMmap) -> Vec<(u64, u64, u32)> {
    let mut map = vec![(0, LOW_RAM_END, RAM), (MP_TABLE_START, MP_TABLE_END, RESERVED)];
    for region in memory.iter() {
        let start = region.start_addr().0.max(HIGH_RAM_START);
        map.push((start, region.last_addr().0 + 1, RAM));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_map_names_ram_on_both_sides_of_the_gap() {
        let memory = crate::memory::allocate(5 << 30).unwrap();
        assert_eq!(
            memory_map(&memory),
            [
                (0, 0x9fc00, RAM),
                (0x9fc00, 0xa0000, RESERVED),
                (0x10_0000, 3 << 30, RAM),
                (4 << 30, 6 << 30, RAM),
            ]
        );
    }

    #[test]
    fn the_kernel_finds_command_line_and_initramfs() {
        let memory = crate::memory::allocate(64 << 20).unwrap();
        let initramfs = LoadedInitramfs { start: 0x300_0000, bytes: 0x1234 };
        write(&memory, "quiet", Some(initramfs)).unwrap();
        let read = |offset: u64| memory.read_obj::<u32>(GuestAddress(BOOT_PARAMS_START + offset)).unwrap();
        // Offsets from boot.rst, "The Real-Mode Kernel Header".
        assert_eq!(read(0x202), HEADER_MAGIC);
        assert_eq!(read(0x218), 0x300_0000);
        assert_eq!(read(0x21c), 0x1234);
        assert_eq!(read(0x228), 0x2_0000);
        assert_eq!(read(0x238), 5);
    }
}
